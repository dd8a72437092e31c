"""A figure says what it rests on and is held against its limit; with too little to go by it says nothing."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ml_workbench.database.connections import transaction
from ml_workbench.experiment.watching import (
    Limits,
    answering,
    error_readings,
    failures,
    frozen_design,
    latency,
    latency_reading,
    metric_readings,
    reference_scores,
    score_counts,
    score_reading,
    since,
)
from ml_workbench.plan.experiment import Metric
from ml_workbench.release.ledger import Line
from ml_workbench.release.reference import Slice, reference_bytes, reference_of
from ml_workbench.release.traffic import Order, deployed, paused, ramped
from ml_workbench.serve.designs import canonical, design_hash, plain_design
from ml_workbench.serve.records import Records
from tests.release.live import APPLE, BANANA, CHERRY, planned
from tests.release.small import CHARTER

NOON = datetime(2026, 3, 2, 12)
PLAN = planned()
ALONE = deployed(Order(APPLE, PLAN), None)
BOTH = deployed(Order(BANANA, PLAN, role="challenger"), ALONE)


def ledger_of(*states) -> list[Line]:
    "Lines with these states, the newest first; None for one that cannot be read."
    made = [
        Line(number, NOON, "Ann", "deploy", state.as_json() if state else "{", "why", number - 1 or None, None, None)
        for number, state in enumerate(states, 1)
    ]  # fmt: skip
    return made[::-1]


def served(number: int, **other) -> dict:
    "A decision, as the service writes it down."
    row = {
        "decision_id": f"d{number}", "at": NOON - timedelta(seconds=number), "unit": f"u{number}", "as_of": NOON, "line": 1,
        "experiment": "retention-1", "arm": "champion", "propensity": 0.36, "reason": "assigned", "release": APPLE,
        "policy": "proposed", "score": 0.25, "value": None, "action": "none", "features_hash": "", "latency_ms": 0.5, "channel": "rest",
    }  # fmt: skip
    return row | other


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    "Migrated records in a database of either kind."
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/records.db"
    with Records(url) as made:
        made.migrate()
        yield made


# Since when ------------------------------------------------------------------------------------------------


def test_a_release_is_judged_from_the_line_since_which_it_answers_without_a_break() -> None:
    lines = ledger_of(ALONE, BOTH, ramped(BOTH, 0.5))
    assert since(lines) == {APPLE: 1, BANANA: 2}
    assert since(ledger_of(BOTH, ALONE, BOTH)) == {APPLE: 1, BANANA: 3}
    assert since(ledger_of(BOTH, paused(BOTH), BOTH)) == {APPLE: 1, BANANA: 3}
    assert since([]) == {} and since(ledger_of(BOTH, None)) == {}
    assert since(ledger_of(BOTH, None, BOTH)) == {APPLE: 3, BANANA: 3}, (
        "a line that cannot be read is a break"
    )


def test_what_is_paused_has_no_share_or_is_a_shadow_answers_nobody() -> None:
    assert set(answering(BOTH)) == {APPLE, BANANA}
    assert answering(paused(BOTH)) == answering(ramped(BOTH, 0.0)) == (APPLE,)
    assert answering(replace(ALONE, shadows=(CHERRY,))) == (APPLE,)
    assert answering(paused(BOTH, everything=True)) == ()


# Failures --------------------------------------------------------------------------------------------------


def test_a_failure_is_held_against_the_release_that_should_have_decided(records: Records) -> None:
    rows = [
        served(1), served(2, reason="error", score=None),
        served(3, arm="challenger", line=2, release=BANANA),
        served(4, arm="challenger", line=2, reason="fallback"),  # the champion answered in its place
        served(5, arm=None, line=2, reason="outside"), served(6, arm=None, line=2, reason="error"),
        served(7, arm="control", line=2, policy="rule", score=None), served(8, arm="control", line=2, reason="error"),
        served(9, arm="holdout", line=2, reason="holdout"), served(10, arm="holdout", line=2, reason="error"),
        served(11, arm="challenger", line=3, reason="paused"), served(12, arm="challenger", line=3, reason="error"),
        served(13, arm="challenger", line=9),  # of a line that nobody has seen yet
    ]  # fmt: skip
    records.write("served", rows)
    lines = ledger_of(ALONE, BOTH, paused(BOTH))
    with transaction(records.engine, reading=True) as connection:
        found = failures(connection, lines, {APPLE: 1, BANANA: 2}, NOON - timedelta(minutes=1))
        assert found == {APPLE: (3, 6), BANANA: (1, 2)}
        assert failures(connection, lines, {APPLE: 1, BANANA: 3}, NOON - timedelta(minutes=1))[BANANA] == (
            0,
            0,
        )
        late = failures(connection, lines, {APPLE: 1, BANANA: 2}, NOON - timedelta(seconds=2))
        assert late == {APPLE: (1, 2), BANANA: (0, 0)}
        assert failures(connection, lines, {}, NOON) == {}


@pytest.mark.parametrize(
    ("failed", "decided", "breach"),
    [
        (2, 200, False),
        (3, 200, True),
        (199, 199, None),
        (0, 0, None),
        (0, 10_000, False),
        (101, 10_000, True),
    ],
)
def test_errors_beyond_the_limit_are_a_breach_if_there_are_enough_decisions(
    failed: int, decided: int, breach: bool | None
) -> None:
    (reading,) = error_readings({APPLE: (failed, decided)}, Limits())
    assert reading.breach is breach and reading.count == decided
    assert ("too few" in reading.sentence) == (breach is None)
    if breach:
        assert (
            "more than the limit of 1%" in reading.sentence and "in the last 10 minutes" in reading.sentence
        )


# Latency ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 250])
def test_latency_is_what_99_of_100_decisions_kept(records: Records, count: int) -> None:
    values = np.random.default_rng(count).permutation(np.arange(count) + 0.5)
    records.write("served", [served(i, latency_ms=float(value), at=NOON) for i, value in enumerate(values)])
    with transaction(records.engine, reading=True) as connection:
        found = latency(connection, APPLE, 1, NOON - timedelta(minutes=1))
    assert found == (np.quantile(values, 0.99, method="inverted_cdf"), count)


def test_batches_rules_others_earlier_lines_and_what_is_long_past_do_not_count(records: Records) -> None:
    strange = (
        {"channel": "batch"},
        {"policy": "rule"},
        {"release": BANANA},
        {"line": 1},
        {"at": NOON - timedelta(hours=1)},
        {"latency_ms": None},
    )
    rows = [served(i, line=2, latency_ms=1000.0) | other for i, other in enumerate(strange)]
    records.write("served", [*rows, served(99, line=2, latency_ms=2.0)])
    with transaction(records.engine, reading=True) as connection:
        assert latency(connection, APPLE, 2, NOON - timedelta(minutes=5)) == (2.0, 1)
        assert latency(connection, CHERRY, 2, NOON - timedelta(minutes=5)) == (None, 0)


def test_slow_decisions_are_a_breach_if_there_are_enough() -> None:
    assert latency_reading((50.0, 200), APPLE, Limits()).breach is False
    slow = latency_reading((50.1, 200), APPLE, Limits())
    assert slow.breach and "50.1 ms, more than the limit of 50 ms" in slow.sentence
    assert latency_reading((5000.0, 199), APPLE, Limits()).breach is None
    assert latency_reading((None, 0), APPLE, Limits()).breach is None


# Scores ----------------------------------------------------------------------------------------------------


def test_scores_are_counted_by_bin_once_for_each_unit_and_score(records: Records) -> None:
    scores = (0.0, 0.1, 0.1999, 0.2, 0.5, 1.0)
    rows = [served(i, score=score, line=2) for i, score in enumerate(scores)]
    rows += [served(10 + i, unit="again", score=0.3, line=2) for i in range(50)]
    rows += [
        served(100, score=None, line=2),
        served(101, line=1),
        served(102, release=BANANA, line=2),
        served(103, policy="rule", line=2),
    ]
    records.write("served", rows)
    with transaction(records.engine, reading=True) as connection:
        assert score_counts(connection, APPLE, 2, [0.1, 0.2, 0.5]) == [1, 2, 2, 2]
        assert score_counts(connection, APPLE, 2, []) == [7]
        assert score_counts(connection, CHERRY, 1, [0.5]) == [0, 0]


def test_other_scores_are_a_breach_and_a_small_sample_needs_more_to_be_one() -> None:
    reference = ([0.5], [500, 500])
    assert score_reading(reference, [100, 110], APPLE, 3, Limits()).breach is False
    shifted = score_reading(reference, [20, 200], APPLE, 3, Limits())
    assert (
        shifted.breach
        and "since line 3" in shifted.sentence
        and "more than the limit of PSI 0.250" in shifted.sentence
    )
    assert score_reading(reference, [0, 199], APPLE, 3, Limits()).breach is None
    assert score_reading(reference, [0, 0], APPLE, 3, Limits()).breach is None
    few = score_reading(([0.5], [500, 500]), [1, 7], APPLE, 3, Limits(minimum=5, psi=0.01))
    assert few.limit > 1 and few.breach is False, "eight decisions prove little"


def test_the_reference_is_that_of_the_latest_weeks() -> None:
    raw = {
        "slices": {"train": {}, "test": {}},
        "score": {"edges": [0.5], "train": {"bins": [9, 1]}, "test": {"bins": [60, 40]}},
    }
    assert reference_scores(json.dumps(raw).encode()) == ([0.5], [60, 40])
    for broken in (b"", b"{}", b"[]", b'{"score": {}, "slices": {}}', b'{"score": 7, "slices": {"a": 1}}'):
        assert reference_scores(broken) is None


# The business metric ---------------------------------------------------------------------------------------

SPEND = Metric(name="spend", label="spend", kind="revenue", outcome="basket", of="sum")
VISITS = Metric(name="visits", label="visits", kind="mean", outcome="basket", of="count")
TRIAL = planned(metrics=[SPEND, VISITS], primary="spend", holdout=0.0)
LIVE = deployed(Order(BANANA, TRIAL, role="challenger"), deployed(Order(APPLE, TRIAL), None))


def shop(
    records: Records, *, effect: float, units: int = 1500, days: int = 33, seed: int = 3, drop: float = 0.0
) -> None:
    "Units in three arms of equal spend, the challenger's changed by a share; seen again after some days."
    random, start = np.random.default_rng(seed), datetime(2026, 1, 5)
    arms = random.choice(["control", "champion", "challenger"], units, p=[0.4, 0.4, 0.2])
    keep = (arms != "challenger") | (random.random(units) >= drop)
    about = {
        "experiment": "retention-1",
        "assigned_at": start,
        "design_hash": design_hash(TRIAL),
        "propensity": 0.3,
    }
    names = [f"u{i}" for i in range(units)]
    records.write(
        "assignments",
        [about | {"unit": name, "arm": str(arm)} for name, arm, kept in zip(names, arms, keep) if kept],
    )
    spent = random.gamma(4.0, 10.0, units) * np.where(arms == "challenger", 1 + effect, 1.0)
    about = {
        "outcome": "basket",
        "occurred_at": start + timedelta(days=3),
        "recorded_at": start + timedelta(days=days),
    }
    records.write(
        "outcomes",
        [
            about | {"event_id": name, "unit": name, "value": round(float(each), 2)}
            for name, each in zip(names, spent)
        ],
    )


def frozen(records: Records, experiment=TRIAL) -> None:
    row = {
        "experiment": experiment.name,
        "design": canonical(plain_design(experiment)),
        "design_hash": design_hash(experiment),
    }
    records.write("experiments", [row | {"started_at": datetime(2026, 1, 5), "actor": "Ann"}])


@pytest.fixture
def small() -> Iterator[Records]:
    with Records("sqlite://") as made:
        made.migrate()
        frozen(made)
        yield made


def test_the_design_that_was_frozen_last_is_the_experiment_that_runs(records: Records) -> None:
    frozen(records, TRIAL.model_copy(update={"ramp": 0.1}))
    with transaction(records.engine, reading=True) as connection:
        assert frozen_design(connection, ramped(LIVE, 0.5)) == TRIAL.model_copy(update={"ramp": 0.5})
        assert frozen_design(connection, ALONE) is None
        other = deployed(Order(BANANA, TRIAL, role="challenger", experiment="unknown"), ALONE)
        assert frozen_design(connection, other) is None


def test_a_loss_that_is_sure_is_a_breach_of_the_arms_own_release(records: Records) -> None:
    frozen(records)
    shop(records, effect=-0.4)
    found = {each.release: each for each in metric_readings(records, TRIAL, LIVE, Limits())}
    assert found[BANANA].breach is True and found[BANANA].figure == "spend" and found[BANANA].value < 0
    assert "all of it below 0" in found[BANANA].sentence and "any time" in found[BANANA].sentence
    assert found[APPLE].breach is False


@pytest.mark.parametrize("effect", [0.0, 0.4])
def test_no_difference_and_a_gain_are_none(small: Records, effect: float) -> None:
    shop(small, effect=effect)
    assert [each.breach for each in metric_readings(small, TRIAL, LIVE, Limits())] == [False, False]


def test_a_guardrail_may_be_lower_by_its_margin_and_no_more(small: Records) -> None:
    shop(small, effect=-0.4, units=3000)
    trial = TRIAL.model_copy(update={"primary": "visits"})
    for margin, breach in ((0.05, True), (0.6, False)):
        rail = {"metric": "spend", "margin": margin, "meaning": "no less"}
        charter = type(CHARTER).model_validate(CHARTER.model_dump() | {"guardrails": [rail]})
        found = [
            each
            for each in metric_readings(small, trial, LIVE, Limits(), charter)
            if each.figure == "spend" and each.release == BANANA
        ]
        assert [each.breach for each in found] == [breach] and found[0].limit == -margin


def test_nothing_is_said_of_few_units_of_young_ones_or_of_uneven_arms(small: Records) -> None:
    shop(small, effect=-0.9, units=300)
    few = metric_readings(small, TRIAL, LIVE, Limits())
    assert {each.breach for each in few} == {None} and "200 are asked for" in few[0].sentence
    with Records("sqlite://") as other:
        other.migrate()
        shop(other, effect=-0.9, days=10)
        assert {each.breach for each in metric_readings(other, TRIAL, LIVE, Limits())} == {None}
    with Records("sqlite://") as other:
        other.migrate()
        frozen(other)
        shop(other, effect=-0.9, units=4000, drop=0.4)
        found = {each.release: each for each in metric_readings(other, TRIAL, LIVE, Limits())}
        assert found[BANANA].breach is None and "not judged" in found[BANANA].sentence
        assert found[APPLE].breach is False


def test_records_that_contradict_each_other_are_told_and_nothing_is_judged(small: Records) -> None:
    shop(small, effect=-0.9)
    twice = {
        "experiment": "retention-1",
        "unit": "u1",
        "propensity": 0.3,
        "assigned_at": datetime(2026, 1, 5),
        "design_hash": "",
    }
    small.write("assignments", [twice | {"arm": arm} for arm in ("control", "challenger")])
    found = metric_readings(small, TRIAL, LIVE, Limits())
    assert {each.breach for each in found} == {None} and "two arms" in found[0].sentence


def test_an_arm_that_is_paused_is_not_judged_and_missing_records_are_told(small: Records) -> None:
    assert [each.release for each in metric_readings(small, TRIAL, paused(LIVE), Limits())] == [APPLE]
    (champion, challenger) = metric_readings(small, TRIAL, LIVE, Limits())
    assert champion.breach is challenger.breach is None and champion.sentence.startswith("Not judged: ")


def test_a_reading_never_breaches_on_less_than_the_minimum() -> None:
    limits = Limits(minimum=50)
    for count in (0, 1, 49):
        assert error_readings({APPLE: (count, count)}, limits)[0].breach is None
        assert latency_reading((1e9, count), APPLE, limits).breach is None
        assert score_reading(([0.5], [500, 500]), [0, count], APPLE, 1, limits).breach is None
    assert math.isclose(Limits().errors, 0.01) and (Limits().latency_ms, Limits().psi, Limits().minimum) == (
        50,
        0.25,
        200,
    )


def test_the_reference_of_a_release_is_read_as_it_was_written() -> None:
    random = np.random.default_rng(2)

    def part(scores: np.ndarray, month: int) -> Slice:
        columns = {
            "unit": np.ma.array(np.arange(len(scores))), "as_of": np.ma.array([np.datetime64(f"2026-{month:02}-02")] * len(scores)),
            "usual": np.ma.array(scores * 10), "label": np.ma.array((scores > 0.5).astype(float)),
        }  # fmt: skip
        return Slice(columns, scores, {"proposed": (3, len(scores))})

    slices = {"train": part(random.beta(2, 2, 800), 1), "test": part(random.beta(1, 6, 2000), 2)}
    data = reference_bytes(
        reference_of(slices, [("usual", "number")], entity="unit", time="as_of", label="label")
    )
    edges, counts = reference_scores(data)
    found = np.bincount(np.searchsorted(edges, slices["test"].scores, side="right"), minlength=len(counts))
    assert found.tolist() == counts and sum(counts) == 2000
