"""Assignment: the same everywhere, as even as chance, and never twice."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from ml_workbench.plan.errors import RoutingError
from ml_workbench.plan.experiment import Arm, Experiment, Metric
from ml_workbench.serve.hashing import digits_of, hashed, mark
from ml_workbench.serve.routing import Router, assign, bucket, buckets, check_namespace, places_of

VECTORS = json.loads((Path(__file__).parent / "routing_vectors.json").read_text(encoding="utf-8"))
UNITS = [each["unit"] for each in VECTORS["assignments"]]
MILLION = np.arange(1_000_000)
CAME = Metric(name="came", label="came", kind="proportion", outcome="visit", of="any")


def experiment(**other) -> Experiment:
    plan = {
        "name": "trial", "namespace": "offers", "holdout": 0.1, "control": "control", "metrics": [CAME],
        "arms": [("control", 0.5), ("champion", 0.3), ("challenger", 0.2)], "primary": "came", "horizon_days": 28,
    } | other  # fmt: skip
    arms = [Arm(name=name, policy="none", weight=weight) for name, weight in plan["arms"]]
    return Experiment(**plan | {"arms": arms})


@st.composite
def experiments(draw) -> Experiment:
    "Two to five arms of any weights, any holdout, any slots."
    parts = draw(st.lists(st.integers(1, 50), min_size=2, max_size=5))
    arms = [(f"arm {place}", part / sum(parts)) for place, part in enumerate(parts)]
    first, last = sorted(draw(st.lists(st.integers(0, 20), min_size=2, max_size=2, unique=True)))
    return experiment(
        arms=arms, control="arm 0", holdout=draw(st.integers(0, 9)) / 10, slots=[first / 20, last / 20],
        name=draw(st.text(min_size=1).filter(lambda name: name.strip() and _is_unicode(name))),
    )  # fmt: skip


def _is_unicode(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


# The same everywhere ---------------------------------------------------------------------------------------


def test_buckets_are_those_that_were_published() -> None:
    for each in VECTORS["buckets"]:
        assert digits_of(each["salt"], each["unit"])[:13] == each["digits"]
        assert bucket(each["salt"], each["unit"]) == each["bucket"]


def test_many_buckets_at_once_are_those_that_were_published() -> None:
    for salt in sorted({each["salt"] for each in VECTORS["buckets"]}):
        rows = [each for each in VECTORS["buckets"] if each["salt"] == salt]
        found = buckets(salt, [each["unit"] for each in rows])
        assert found.tolist() == [each["bucket"] for each in rows]


def test_arms_are_those_that_were_published() -> None:
    router = Router(experiment(**{key: VECTORS["experiment"][key] for key in ("slots", "ramp", "arms")}))
    expected = [(each["arm"], each["reason"]) for each in VECTORS["assignments"]]
    assert [(each.arm, each.reason) for each in map(router.assign, UNITS)] == expected
    many = router.assign_many(UNITS)
    assert list(zip(many.arm, many.reason, strict=True)) == expected


def test_a_database_decides_the_same() -> None:
    router = Router(experiment(slots=[0.25, 1.0], ramp=0.8))
    given = pa.table({"unit": UNITS})
    found = duckdb.sql(f"SELECT {router.sql()} AS arm FROM given").fetchall()
    assert [arm for (arm,) in found] == [router.assign(unit).arm for unit in UNITS] and len(given) == len(
        found
    )


@pytest.mark.postgres
def test_postgresql_decides_the_same(postgres_url: str) -> None:
    import psycopg

    router = Router(experiment(slots=[0.25, 1.0], ramp=0.8, name="O'Neil's"))
    with psycopg.connect(postgres_url) as connection:
        query = f"SELECT unit, {router.sql()} FROM unnest(%s::text[]) WITH ORDINALITY AS given(unit, place) ORDER BY place"
        found = connection.execute(query, [UNITS]).fetchall()
        number = f"('x' || left({hashed('trial/arm', 'unit')}, 13))::bit(52)::bigint / 2.0 ^ 52"
        numbers = connection.execute(
            f"SELECT ({number})::float8 FROM unnest(%s::text[]) WITH ORDINALITY AS given(unit, place) ORDER BY place",
            [UNITS],
        ).fetchall()
    assert found == [(unit, router.assign(unit).arm) for unit in UNITS]
    assert [value for (value,) in numbers] == [bucket("trial/arm", unit) for unit in UNITS]


@pytest.mark.skipif(not shutil.which("node"), reason="no node")
def test_javascript_counts_the_same() -> None:
    "The line of JavaScript in the notebook, run."
    program = """const crypto = require("crypto");
    const bucket = (salt, unit) =>
      parseInt(crypto.createHash("md5").update(`${salt}:${unit}`, "utf8").digest("hex").slice(0, 13), 16) / 2 ** 52;
    const units = JSON.parse(require("fs").readFileSync(0, "utf8"));
    console.log(JSON.stringify(units.map(unit => bucket("trial/arm", unit))));"""
    done = subprocess.run(["node", "-e", program], input=json.dumps(UNITS), capture_output=True, text=True)
    assert json.loads(done.stdout) == [bucket("trial/arm", unit) for unit in UNITS], done.stderr


@settings(max_examples=300)
@given(st.floats(0, 1), st.integers(-2, 2), st.integers(0, 2**76 - 1))
def test_comparing_digits_is_comparing_numbers(share: float, beside: int, rest: int) -> None:
    "Also for the buckets right beside a share, whatever the digits behind the first thirteen."
    number = min(max(int(share * 2**52) + beside, 0), 2**52 - 1)
    assert (f"{number:013x}{rest:019x}" < mark(share)) == (number / 2**52 < share)


def test_another_process_decides_the_same() -> None:
    program = "from ml_workbench.serve.routing import bucket; print([bucket('trial/arm', unit) for unit in range(20)])"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        )
        assert done.stdout.strip() == str([bucket("trial/arm", unit) for unit in range(20)]), done.stderr


@pytest.mark.parametrize(
    "units",
    [
        [17, 18], ["17", "18"], range(17, 19), (17, "18"), {17: 0, 18: 0}, np.array([17, 18], np.uint8),
        np.array(["17", "18"]), np.array([17, "18"], object), pd.Series([17, 18]), pd.Series(["17", "18"]),
        pd.Series(["17", "18"], dtype="category"), pa.array([17, 18]), pa.chunked_array([["17"], ["18"]]),
        pa.array(["17", "18"]).dictionary_encode(),
    ],
    ids=lambda units: type(units).__name__,
)  # fmt: skip
def test_units_may_come_in_any_container(units: object) -> None:
    assert Router(experiment()).assign_many(units).units.to_pylist() == ["17", "18"]


def test_numbers_of_any_size_are_their_digits() -> None:
    large = [2**53 + 1, 2**63 - 1, 2**64 - 1, 2**80]
    assert buckets("s", large).tolist() == [bucket("s", str(unit)) for unit in large]
    assert buckets("s", np.array([2**64 - 1], np.uint64))[0] == bucket("s", 2**64 - 1)
    assert bucket("s", -5) == bucket("s", "-5")


def test_nothing_at_all_is_assigned_to_nothing() -> None:
    assert len(Router(experiment()).assign_many([])) == 0
    assert Router(experiment()).assign_many([]).counts["control"] == 0


@settings(max_examples=40, deadline=None)
@given(experiments(), st.lists(st.text(min_size=1).filter(_is_unicode), min_size=1, max_size=30))
def test_one_by_one_or_together_makes_no_difference(plan: Experiment, units: list[str]) -> None:
    router = Router(plan)
    many = router.assign_many(units)
    for place, unit in enumerate(units):
        one = router.assign(unit)
        assert (one.arm, one.reason, one.propensity) == (
            many.arm[place],
            many.reason[place],
            many.propensity[place],
        )


# As even as chance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trial", "retention-2017-11", "x"])
def test_a_million_units_fall_as_the_weights_say(name: str) -> None:
    router = Router(experiment(name=name, slots=[0.2, 0.9], ramp=0.7))
    counts = list(router.assign_many(MILLION).counts.values())
    assert chisquare(counts, [1e6 * place.propensity for place in router.places]).pvalue > 0.001


@pytest.mark.parametrize("pair", [("first", "second"), ("trial-1", "trial-2"), ("a", "aa")])
def test_two_experiments_know_nothing_of_each_other(pair: tuple[str, str]) -> None:
    one, other = (Router(experiment(name=name, holdout=0.0)).assign_many(MILLION).place for name in pair)
    table = np.histogram2d(one, other, bins=3)[0]
    assert chi2_contingency(table).pvalue > 0.001
    numbers = np.corrcoef(*(buckets(f"{name}/arm", MILLION) for name in pair))[0, 1]
    assert abs(numbers) < 4 / np.sqrt(len(MILLION))


def test_the_ramp_and_the_arm_know_nothing_of_each_other() -> None:
    ramp, arm = buckets("trial/ramp", MILLION), buckets("trial/arm", MILLION)
    assert abs(np.corrcoef(ramp, arm)[0, 1]) < 4 / np.sqrt(len(MILLION))


@settings(max_examples=100)
@given(experiments(), st.integers(0, 10))
def test_the_probabilities_of_all_places_sum_to_one(plan: Experiment, tenths: int) -> None:
    places = places_of(plan.model_copy(update={"ramp": tenths / 10}))
    assert sum(place.propensity for place in places) == pytest.approx(1)
    assert sum(place.conditional or 0 for place in places) == pytest.approx(1)


# Never twice -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(experiments(), st.lists(st.integers(0, 20), min_size=2, max_size=6))
def test_ramping_up_and_down_never_moves_a_unit_between_arms(plan: Experiment, steps: list[int]) -> None:
    units, seen = [str(unit) for unit in range(300)], {}
    for step in steps:
        for one in map(Router(plan.model_copy(update={"ramp": step / 20})).assign, units):
            if one.arm is not None:
                assert seen.setdefault(one.unit, one.arm) == one.arm


@settings(max_examples=40, deadline=None)
@given(experiments(), st.integers(0, 19), st.integers(1, 20))
def test_a_larger_ramp_only_lets_more_units_in(plan: Experiment, low: int, more: int) -> None:
    small, large = (Router(plan.model_copy(update={"ramp": min(1.0, r / 20)})) for r in (low, low + more))
    for unit in range(200):
        if (before := small.assign(unit)).arm is not None:
            assert large.assign(unit).arm == before.arm


def test_the_holdout_is_the_same_in_every_experiment_of_the_namespace() -> None:
    one, other = (Router(experiment(name=name)).assign_many(MILLION) for name in ("first", "second"))
    assert ((one.arm == "holdout") == (other.arm == "holdout")).all()


def test_separate_slots_share_no_unit_and_leave_none_out() -> None:
    low, high = experiment(name="low", slots=[0.0, 0.3]), experiment(name="high", slots=[0.3, 1.0])
    check_namespace([low, high])
    one, other = (Router(each).assign_many(MILLION[:100_000]) for each in (low, high))
    assert not (one.takes_part & other.takes_part).any()
    assert (one.takes_part | other.takes_part | (one.arm == "holdout")).all()


def test_units_of_a_cluster_stay_together() -> None:
    router = Router(experiment(cluster="store"))
    stores = [unit % 7 for unit in range(700)]
    many = router.assign_many(range(700), stores)
    assert all(len({many.arm[place] for place in range(store, 700, 7)}) == 1 for store in range(7))
    assert router.assign(3, cluster=3).arm == many.arm[3] and router.assign(3, cluster=3).unit == "3"


# Bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [None, "", float("nan"), np.nan, 17.0, True, b"17", ["17"], pd.NA, pd.NaT])
def test_a_unit_without_a_usable_name_is_refused(unit: object) -> None:
    with pytest.raises(RoutingError, match="a unit "):
        assign(experiment(), unit)


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (["17", None, ""], "2 of 3 units have no name, the first in row 1"),
        (pd.Series([17, None]), "units came as double, not as text or whole numbers"),
        (np.array([1.5]), "units came as double"),
        ([True], "units came as bool"),
        (pd.Series(["17", None]), "1 of 2 units have no name"),
        (np.array([17, None, "x"], object), r"without a name \(None\)"),
        (["\ud800"], "not valid Unicode"),
    ],
)
def test_many_units_with_one_bad_name_are_refused(units: object, said: str) -> None:
    with pytest.raises(RoutingError, match=said):
        Router(experiment()).assign_many(units)


def test_half_a_letter_is_refused() -> None:
    with pytest.raises(RoutingError, match="not valid Unicode"):
        bucket("trial", "\ud800")


@pytest.mark.parametrize("weights", [(0.5, 0.4), (0.7, 0.7), (1.5, -0.5)])
def test_weights_that_do_not_sum_to_one_are_refused(weights: tuple[float, float]) -> None:
    arms = [
        Arm.model_construct(name=name, policy="none", weight=weight)
        for name, weight in zip("ab", weights, strict=True)
    ]
    with pytest.raises(RoutingError, match=r"experiment 'trial': .* sum to 1, got a .*, in all"):
        Router(experiment().model_copy(update={"arms": arms}))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"name": "other"}, r"'trial' and 'other' of namespace 'offers' overlap.*share \[0.5, 0.8\]"),
        ({"name": "other", "slots": [0.0, 0.6]}, r"share \[0.5, 0.6\]"),
        ({"name": "other", "slots": [0.8, 1.0], "holdout": 0.2}, "holdouts of 0.1 and 0.2"),
        ({"name": "other", "slots": [0.8, 1.0], "cluster": "store"}, "randomised by unit and by store"),
        ({"namespace": "elsewhere"}, "two experiments are called 'trial'"),
    ],
)
def test_experiments_that_would_share_units_are_refused(other: dict, said: str) -> None:
    with pytest.raises(RoutingError, match=said):
        Router(experiment(slots=[0.5, 0.8]), beside=[experiment(**other)])


def test_experiments_that_share_nothing_run_side_by_side() -> None:
    check_namespace([])
    check_namespace(
        [
            experiment(name="a", slots=[0.0, 0.5]),
            experiment(name="b", slots=[0.5, 1.0]),
            experiment(name="c", namespace="x"),
        ]
    )


def test_clusters_are_asked_for_and_not_taken_where_they_mean_nothing() -> None:
    with pytest.raises(RoutingError, match="randomised by 'store': give each unit's"):
        Router(experiment(cluster="store")).assign(1)
    with pytest.raises(RoutingError, match="unit by unit: give no clusters"):
        Router(experiment()).assign(1, cluster=2)
    with pytest.raises(RoutingError, match="2 units came with 1 clusters"):
        Router(experiment(cluster="store")).assign_many([1, 2], [1])


def test_routing_alone_loads_no_engine() -> None:
    program = "import sys, ml_workbench.serve.routing; print({'duckdb', 'pandas', 'pyarrow', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
