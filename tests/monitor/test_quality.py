"""Predictions that became worse are found by labels, and before them by an estimate that says so; chance is no alarm."""

import re
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from ml_workbench.monitor.asking import Asked
from ml_workbench.monitor.quality import (
    CHECKS,
    EITHER,
    Rows,
    _where,
    auc_draws,
    cuts_in,
    group_reading,
    groups_of,
    honest,
    list_money,
    readings,
    rising,
)
from tests.monitor.shop import MONDAY, WEEK, as_folder, by_check, released, shop
from tests.monitor.test_reading import looked
from tests.release.small import CHARTER, members

CHECKED = {each.name: each for each in CHECKS}
ASKED = Asked(CHECKED, CHARTER, minimum=50, resamples=200)


def answers(
    score, label=None, *, treated=None, listed=None, weight=1.0, value=None, units=None, weeks=1
) -> pa.Table:
    count = len(score)
    return pa.table({
        "unit": [str(each) for each in (range(count) if units is None else units)], "as_of": pa.array([MONDAY + WEEK * (place * weeks // count) for place in range(count)], pa.timestamp("us")),
        "score": score, "value": np.zeros(count) if value is None else value, "listed": np.zeros(count, bool) if listed is None else listed,
        "acted": np.zeros(count, bool), "treated": np.zeros(count, bool) if treated is None else treated, "weight": np.full(count, weight) if np.isscalar(weight) else weight,
        "label": pa.nulls(count, pa.float64()) if label is None else np.asarray(label, dtype=np.float64),
    })  # fmt: skip


# Estimates -------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=60))
def test_with_real_labels_it_is_the_auc_that_everybody_knows(rows):
    label, score, weight = (np.array(each, dtype=np.float64) for each in zip(*rows))
    found = auc_draws(label, score, weight[:, None])[0]
    kept = weight > 0
    if len(np.unique(label[kept])) < 2:
        assert not np.isfinite(found)
    else:
        assert found == pytest.approx(roc_auc_score(label[kept], score[kept], sample_weight=weight[kept]))


@pytest.mark.parametrize("shape", [(1, 6), (2, 2), (0.5, 3)])
def test_before_labels_come_the_estimate_is_what_honest_probabilities_will_earn(shape):
    random = np.random.default_rng(5)
    chance = random.beta(*shape, 3000)
    real = [roc_auc_score(random.random(3000) < chance, chance) for _ in range(20)]
    assert auc_draws(chance, chance, np.ones((3000, 1)))[0] == pytest.approx(np.mean(real), abs=0.005)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30).filter(
        lambda rows: any(count for _, count in rows)
    )
)
def test_shares_never_fall_and_are_those_of_isotonic_regression(rows):
    hits, counts = (
        np.array([min(hit, count) for hit, count in rows], dtype=float),
        np.array([count for _, count in rows], dtype=float),
    )
    found, there = rising(hits, counts), counts > 0
    assert (np.diff(found[np.isfinite(found)]) >= -1e-12).all()
    fitted = IsotonicRegression().fit(
        np.flatnonzero(there), (hits / np.maximum(counts, 1))[there], sample_weight=counts[there]
    )
    assert np.allclose(found[there], fitted.predict(np.flatnonzero(there)))


def test_the_chance_behind_a_score_is_that_of_the_weeks_it_was_judged_on():
    reference = released().reference
    chance = honest(np.linspace(0, 1, 101), reference)
    assert (np.diff(chance) >= 0).all() and 0 <= chance[0] < chance[-1] <= 1
    hits = reference["score"]["positive"]["test"]
    assert (
        honest(
            np.array([0.5]),
            reference | {"score": reference["score"] | {"positive": {"test": (0,) * len(hits)}}},
        )
        is None
    )


# Weights ---------------------------------------------------------------------------------------------------


def test_treated_rows_are_left_out_and_weights_bring_the_others_back():
    random = np.random.default_rng(2)
    chance = random.beta(1, 4, 20_000)
    label = random.random(20_000) < chance
    risk = np.where(chance > 0.3, 0.7, 0.0)  # the worst risks are mostly treated
    treated = random.random(20_000) < risk
    saved = label & ~treated  # and then do not lapse
    rows = Rows(answers(chance, saved, treated=treated, weight=1 / (1 - risk)), ASKED, labelled=True)
    truth = roc_auc_score(label, chance)
    found = rows.ends(auc_draws(rows.label, rows.score, rows.weights()))
    naive = roc_auc_score(saved, chance)
    assert abs(found["value"] - truth) < 0.01 < abs(naive - truth)
    assert rows.share_treated == pytest.approx(treated.mean()) and rows.ends(rows.mean(rows.label))[
        "value"
    ] == pytest.approx(label.mean(), abs=0.01)


def test_resamples_are_of_units_and_not_of_rows():
    random = np.random.default_rng(3)
    score = np.repeat(random.random(60), 50)
    label = np.repeat(random.random(60) < 0.4, 50)
    alone, together = (
        Rows(answers(score, label, units=units), ASKED, labelled=True)
        for units in (None, np.repeat(np.arange(60), 50))
    )
    width = lambda rows: np.ptp([*rows.ends(rows.mean(rows.label)).values()])  # noqa: E731
    assert width(together) > 4 * width(alone)


# Money -----------------------------------------------------------------------------------------------------


def test_a_list_is_worth_what_is_kept_less_its_cost():
    score = np.full(100, 0.5)
    rows = Rows(
        answers(score, [1.0] * 30 + [0.0] * 70, listed=np.arange(100) < 40, value=0.5 * 20 - 1.0 + 0 * score),
        ASKED,
        labelled=True,
    )
    expected = 30 * 20 - 40 * CHARTER.economics.offer_cost - CHARTER.economics.running_cost_per_week
    assert list_money(rows, rows.label, CHARTER)["value"] == pytest.approx(expected)


def test_two_weeks_of_the_same_lists_are_worth_the_same_a_week():
    score, label = np.full(200, 0.5), np.tile([1.0] * 10 + [0.0] * 90, 2)
    rows = Rows(
        answers(score, label, listed=np.tile(np.arange(100) < 20, 2), value=9.0 + 0 * score, weeks=2),
        ASKED,
        labelled=True,
    )
    assert rows.weeks == 2 and list_money(rows, rows.label, CHARTER)["value"] == pytest.approx(
        10 * 20 - 20 - 1
    )


# A period --------------------------------------------------------------------------------------------------


def period(tmp_path, *, until=MONDAY + 10 * WEEK, end=MONDAY + WEEK, **options):
    return by_check(
        readings(looked(as_folder(tmp_path / "replay", shop(**options)), end, until=until), ASKED)
    )


def test_a_healthy_shop_is_as_good_as_when_it_was_judged(tmp_path):
    found = period(tmp_path)
    assert not {cause for cause, each in found.items() if each.status == "alarm"}
    assert found["quality.auc"].status == found["quality.expected_auc"].status == "fine"
    assert [name for name, each in found.items() if each.estimate] == [
        name for name in found if ".expected_" in name
    ]


def test_before_labels_come_only_estimates_speak(tmp_path):
    found = period(tmp_path, until=MONDAY + timedelta(days=8))
    assert found["quality.auc"].status == found["quality.money"].status == "unknown"
    assert found["quality.outcomes"].status == "fine" and found["quality.expected_auc"].status == "fine"


def test_labels_that_never_come_are_an_alarm_once_they_are_overdue(tmp_path):
    tables = shop(outcomes=False)
    folder = as_folder(tmp_path / "replay", tables)
    due = MONDAY + timedelta(days=28)
    for days, status in ((0, "fine"), (7, "fine"), (9, "alarm")):
        found = by_check(readings(looked(folder, until=due + timedelta(days=days)), ASKED))
        assert found["quality.outcomes"].status == status, days


def test_a_label_shift_is_an_alarm_when_labels_have_come(tmp_path):
    found = period(tmp_path, leaving=0.5)
    assert found["quality.base_rate"].status == found["quality.calibration"].status == "alarm"
    assert found["quality.expected_rate"].status == "fine"  # the scores know nothing of it


def test_scores_that_say_nothing_any_more_are_an_alarm(tmp_path):
    tables = shop()
    shuffled = np.random.default_rng(0).permutation(tables["predictions"]["score"].to_numpy())
    tables["predictions"] = tables["predictions"].set_column(
        tables["predictions"].schema.get_field_index("score"), "score", pa.array(shuffled)
    )
    found = by_check(readings(looked(as_folder(tmp_path, tables)), ASKED))
    assert found["quality.auc"].status == "alarm" and found["quality.auc"].value > 0.03


def test_without_a_reference_nothing_is_judged(tmp_path):
    from ml_workbench.monitor.releases import Released

    material = looked(as_folder(tmp_path, shop(weeks=1)), known=Released("gone", problem="it is gone"))
    assert {each.status for each in readings(material, ASKED)} == {"unknown"}


def test_groups_are_told_by_what_was_known_of_units():
    traits = pa.table(
        {
            "unit": ["1", "2", "3", "1", "2"],
            "name": ["spend"] * 3 + ["town"] * 2,
            "number": [1.0, 2.0, 9.0, None, None],
            "level": [None] * 3 + ["Bath", "Rome"],
        }
    )
    cuts = cuts_in(traits, released().reference)
    found = groups_of(traits, np.array(["1", "2", "3", "4"]), cuts)
    assert found["town: Bath"].tolist() == [True, False, False, False]
    assert found["town: Rome"].tolist() == [False, True, False, False]
    words = ("low", "middle", "high")
    assert [np.flatnonzero(found[f"spend: {word}"]).tolist() for word in words] == [[0], [1], [2]]


def numbers_of(name: str, values) -> pa.Table:
    return pa.table(
        {
            "unit": [str(place) for place in range(len(values))],
            "name": [name] * len(values),
            "number": np.asarray(values, dtype=np.float64),
            "level": pa.nulls(len(values), pa.string()),
        }
    )


def test_a_number_is_cut_where_the_weeks_were_that_the_release_was_judged_on():
    reference, units = released().reference, np.array([str(place) for place in range(200)])
    random = np.random.default_rng(3)
    known = [
        cuts_in(numbers_of("usual_weekly_spend", random.gamma(2, scale, 300)), reference) for scale in (5, 50)
    ]
    assert known[0] == known[1], "whoever is looked at"
    judged = members("test")["usual_weekly_spend"].dropna()
    shares = [float((judged < cut).mean()) for cut in known[0]["usual_weekly_spend"]]
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.06)
    found = groups_of(numbers_of("usual_weekly_spend", judged[:200]), units, known[0])
    assert [*found] == [f"usual_weekly_spend: {word}" for word in ("low", "middle", "high")]
    assert sum(each.astype(int) for each in found.values()).tolist() == [1] * 200


def test_a_number_that_is_hardly_ever_another_one_has_fewer_parts_and_no_number_has_none():
    reference, units = released().reference, np.array(["0", "1", "2", "3"])
    for values, parts in (([0, 0, 0, 9], 2), ([0, 1, 2, 3], 3)):
        rows = numbers_of("coupons", values)
        assert len(groups_of(rows, units, cuts_in(rows, reference))) == parts
    empty = numbers_of("coupons", [np.nan] * 4)
    assert cuts_in(empty, reference) == {} and groups_of(empty, units, {}) == {}


def test_a_group_that_is_ranked_badly_is_the_same_cause_in_every_week():
    reference, causes, told = released().reference, set(), set()
    judged = members("test")["usual_weekly_spend"].dropna().to_numpy()
    for week in range(3):  # other units, other cuts of their own
        random = np.random.default_rng(week)
        spend = random.choice(np.sort(judged)[week * 30 :], 900)
        traits = numbers_of("usual_weekly_spend", spend)
        score = random.random(900)
        high = spend >= cuts_in(traits, reference)["usual_weekly_spend"][1]
        label = np.where(high, random.random(900) < 0.5, random.random(900) < score)
        rows = Rows(answers(score, label), ASKED, labelled=True)
        cuts = cuts_in(traits, reference)
        reading = group_reading(ASKED, rows, score, groups_of(traits, rows.units, cuts), cuts)
        causes.add(reading.cause)
        told.add(reading.sentence.partition(" groups, ")[2].partition(" is ranked worst")[0])
    assert causes == {"quality.slices/usual_weekly_spend: high"}
    assert len(told) == 1 and re.fullmatch(r"usual_weekly_spend: high \(from [\d.]+ on\)", told.pop())


@pytest.mark.parametrize(("bearers", "status"), [(EITHER - 1, "unknown"), (EITHER, "alarm")])
def test_a_group_is_judged_when_enough_of_it_bore_the_label(bearers, status):
    score, label = np.linspace(0.01, 0.99, 400), np.zeros(400)
    label[:bearers] = 1.0  # those least likely to, so that the ranking is upside down
    rows = Rows(answers(score, label), ASKED, labelled=True)
    reading = group_reading(ASKED, rows, score, {"town: Bath": np.ones(400, bool)}, {})
    assert reading.status == status


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("spend: low", " (below 1)"),
        ("spend: middle", " (1 to 2)"),
        ("spend: high", " (from 2 on)"),
        ("coupons: high", " (from 3 on)"),
        ("town: Bath", ""),
    ],
)
def test_a_part_is_told_with_its_cuts(group, said):
    assert _where(group, {"spend": (1.0, 2.0), "coupons": (3.0,)}) == said
