"""One query over the units: the same bits every time, and nothing silently wrong."""

import math
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew

from ml_workbench.estimators.lifts import lift
from ml_workbench.estimators.moments import Moments, merged, moments_of
from ml_workbench.experiment.columns import asking, held_by, kinds_of, problems_of
from ml_workbench.experiment.exact import double, exact_sum
from ml_workbench.experiment.summaries import Summary, summarise
from ml_workbench.plan.errors import ExperimentError

WANTED = {"arm": "arm", "columns": ["spend", "orders"], "covariates": ["before"]}


def units(count: int = 5000, seed: int = 1) -> pa.Table:
    "Skewed spend, counts, a covariate, a segment and clusters of one arm each."
    rng = np.random.default_rng(seed)
    before = rng.lognormal(2.0, 1.0, count)
    arm = np.where(rng.random(count) < 0.5, "control", "offer")
    return pa.table(
        {
            "person": np.arange(count),
            "arm": arm,
            "spend": before + rng.lognormal(2.0, 1.2, count),
            "orders": rng.poisson(2.0, count).astype(np.int32),
            "before": before,
            "town": rng.choice(["north", "south", "west"], count),
            "shop": [f"{one}-{place % 30}" for place, one in enumerate(arm)],
        }
    )


def by_numpy(table: pa.Table, names: list[str], arm: str) -> Moments:
    some = table.filter(pa.array(table["arm"].to_numpy(zero_copy_only=False) == arm))
    return moments_of(names, np.column_stack([some[name].to_numpy() for name in names]))


def same_bits(one: Summary, other: Summary) -> bool:
    return one.arms.keys() == other.arms.keys() and all(
        one.arms[arm].count == other.arms[arm].count
        and (one.arms[arm].mean == other.arms[arm].mean).all()
        and (one.arms[arm].scatter == other.arms[arm].scatter).all()
        for arm in one.arms
    )


def test_moments_are_those_of_numpy():
    table = units()
    found = summarise(table, unit="person", **WANTED)
    for arm in ("control", "offer"):
        expected = by_numpy(table, ["spend", "orders", "before"], arm)
        assert found.arms[arm].names == expected.names and found.arms[arm].count == expected.count
        assert found.arms[arm].mean == pytest.approx(expected.mean, rel=1e-10)
        assert found.arms[arm].scatter == pytest.approx(expected.scatter, rel=1e-7, abs=1e-3)
    assert found.units == 5000 and found.problems == () and found.nulls == {}


def test_skewness_is_that_of_all_arms_together():
    table = units()
    found = summarise(table, **WANTED).skewness
    assert found.keys() == {"spend", "orders"}
    assert found["spend"] == pytest.approx(skew(table["spend"].to_numpy()), rel=1e-6)
    assert summarise(table, **WANTED, skewness=False).skewness == {}


def test_the_same_bits_whatever_the_order_the_threads_and_the_files(tmp_path: Path):
    table = units(300_000)
    first = summarise(table, threads=1, **WANTED)
    shuffled = table.take(np.random.default_rng(3).permutation(len(table)))
    assert same_bits(first, summarise(shuffled, threads=4, **WANTED))
    for place, cut in enumerate(range(0, 300_000, 70_000)):
        pq.write_table(shuffled.slice(cut, 70_000), tmp_path / f"part-{place}.parquet", row_group_size=9_000)
    for threads in (1, 2, 4):
        assert same_bits(first, summarise(tmp_path, threads=threads, **WANTED))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=2, max_size=60),
    st.randoms(use_true_random=False),
)
def test_an_exact_sum_does_not_depend_on_order_and_is_nearly_the_true_one(values, random):
    bound = max(map(abs, values))
    if bound and not bound > 1e-100:
        return
    moved = random.sample(values, len(values))
    found = {
        duckdb.execute(
            f"SELECT {exact_sum('x', bound, len(values))} FROM (SELECT unnest([{', '.join(map(double, some))}]) AS x)"
        ).fetchall()[0][0]
        for some in (values, moved)
    }
    assert len(found) == 1
    assert found.pop() == pytest.approx(math.fsum(values), abs=1e-9 * bound)


def test_values_that_cannot_be_squared_are_refused():
    with pytest.raises(ExperimentError, match=r"column .x. reaches 1e\+200: its powers cannot be summed"):
        summarise(pa.table({"arm": ["a", "b"], "x": [1e200, 1.0]}), arm="arm", columns=["x"])


def test_large_values_that_hardly_differ_keep_their_variance():
    rng = np.random.default_rng(4)
    seconds = 1.7e9 + rng.normal(0, 3.0, 4000)
    table = pa.table({"arm": np.where(np.arange(4000) % 2, "a", "b"), "seconds": seconds})
    found = summarise(table, arm="arm", columns=["seconds"])
    assert found.arms["a"].variance("seconds") == pytest.approx(seconds[1::2].var(ddof=1), rel=1e-6)
    assert found.skewness["seconds"] == pytest.approx(skew(seconds), abs=1e-6)


def test_segments_and_days_add_up_to_the_arms():
    table = units().append_column("day", pa.array(np.arange(5000) % 3))
    found = summarise(table, segment="town", day="day", **WANTED)
    assert list(found.segments) == ["north", "south", "west"] and list(found.days) == ["0", "1", "2"]
    for parts in (found.segments, found.days):
        whole = merged([arms["offer"] for arms in parts.values()])
        assert whole.count == found.arms["offer"].count
        assert whole.scatter == pytest.approx(found.arms["offer"].scatter, rel=1e-9)


def test_a_missing_level_of_a_segment_is_a_level():
    table = pa.table({"arm": ["a", "a", "b", "b"], "x": [1.0, 2.0, 3.0, 4.0], "town": ["n", None, "n", None]})
    assert list(summarise(table, arm="arm", columns=["x"], segment="town").segments) == ["(missing)", "n"]


def test_products_nobody_needs_are_left_out_and_ratios_keep_theirs():
    some = summarise(units(), arm="arm", columns=["spend", "orders"], covariates=["before"], products=[])
    assert np.isnan(some.arms["offer"].covariance("spend", "orders"))
    assert np.isfinite(some.arms["offer"].covariance("spend", "before"))
    ratio = summarise(units(), arm="arm", columns=["spend", "orders"], products=[("orders", "spend")])
    assert np.isfinite(ratio.arms["offer"].covariance("spend", "orders"))


def test_a_missing_outcome_is_refused_until_it_is_declared():
    table = pa.table({"arm": ["a", "a", "b", "b", "b"], "x": [4.0, None, 3.0, 5.0, None]})
    with pytest.raises(ExperimentError, match="'x' is NULL in 2 of 5 rows; say with --nulls"):
        summarise(table, arm="arm", columns=["x"])
    zero = summarise(table, arm="arm", columns=["x"], nulls="zero")
    assert (zero.arms["a"].count, zero.arms["a"].of("x"), zero.nulls) == (2, 2.0, {"x": 2})
    drop = summarise(table, arm="arm", columns=["x"], nulls="drop")
    assert (drop.arms["a"].count, drop.arms["a"].of("x"), drop.left_out) == (1, 4.0, {"a": 1, "b": 1})


def test_a_null_outcome_never_widens_the_count_behind_a_mean():
    "A left join of orders, counted but not summed, makes intervals up to three times too narrow."
    table = units()
    holes = pa.array([None if place % 3 else value for place, value in enumerate(table["spend"].to_pylist())])
    holed = table.set_column(table.schema.get_field_index("spend"), "spend", holes)
    filled = table.set_column(table.schema.get_field_index("spend"), "spend", holes.fill_null(0.0))
    assert same_bits(summarise(holed, nulls="zero", **WANTED), summarise(filled, **WANTED))


def test_a_missing_covariate_becomes_the_mean_of_all():
    table = pa.table({"arm": ["a", "a", "b", "b"], "x": [1.0, 2.0, 3.0, 4.0], "z": [1.0, None, 2.0, 6.0]})
    found = summarise(table, arm="arm", columns=["x"], covariates=["z"])
    assert found.arms["a"].of("z") == pytest.approx(2.0) and found.nulls == {"z": 1}


@pytest.mark.parametrize("name", ["person", "arm"])
def test_a_row_of_nobody_or_without_an_arm_is_refused(name: str):
    table = pa.table({"person": ["p", "q"], "arm": ["a", "b"], "x": [1.0, 2.0]})
    holed = table.set_column(table.schema.get_field_index(name), name, pa.array([None, "b"]))
    with pytest.raises(ExperimentError, match=f"'{name}' is NULL in 1 of 2 rows"):
        summarise(holed, unit="person", arm="arm", columns=["x"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["12", "n/a", "-"], "'x' is VARCHAR, not a number: 2 of its values are no number, for example '-'"),
        (["12", "13", "14"], "'x' is VARCHAR, not a number; correct or cast"),
        ([1.0, math.inf, 2.0], "'x' is infinite or not a number .* in 1 row;"),
        ([math.nan, -math.inf, 2.0], "'x' is infinite or not a number .* in 2 rows;"),
    ],
)
def test_text_and_infinity_are_refused_with_their_number(values: list, said: str):
    table = pa.table({"arm": ["a", "b", "b"], "x": values})
    with pytest.raises(ExperimentError, match=said):
        summarise(table, arm="arm", columns=["x"])


def test_infinity_is_found_in_the_statistics_of_a_file_too(tmp_path: Path):
    for values in ([1.0, 2.0, math.nan], [math.nan, 1.0, 2.0], [1.0, math.inf, 2.0]):
        pq.write_table(pa.table({"arm": ["a", "b", "a"], "x": values}), tmp_path / "units.parquet")
        for cap in ({}, {"x": 0.9}):
            with pytest.raises(ExperimentError, match=r"'x' is infinite or not a number .* in 1 row"):
                summarise(tmp_path / "units.parquet", arm="arm", columns=["x"], cap=cap)


def test_an_empty_table_says_so_whatever_its_types():
    for empty in (
        pa.table({"arm": pa.array([], "string"), "x": pa.array([], kind)}) for kind in ("float64", "string")
    ):
        with pytest.raises(ExperimentError, match="the table is empty"):
            summarise(empty, arm="arm", columns=["x"])


def test_an_unknown_column_is_answered_with_the_nearest():
    with pytest.raises(ExperimentError, match="no column 'spent', did you mean 'spend'"):
        summarise(units(10), arm="arm", columns=["spent"])


@pytest.mark.parametrize("kind", ["int64", "int32", "uint16", "string", "dense strings far apart"])
def test_units_seen_twice_are_found_whatever_their_type(kind: str):
    names = [3, 4, 5, 5, 9, 9, 9]
    column = pa.array([str(10**12 * name) for name in names] if "string" in kind else names)
    table = pa.table(
        {"person": column if "string" in kind else column.cast(kind), "arm": list("abaabab"), "x": [1.0] * 7}
    )
    found = summarise(table, unit="person", arm="arm", columns=["x"]).problems
    assert [(each.kind, len(each.examples)) for each in found] == [("two arms", 1), ("repeated", 1)]
    assert (
        "1 unit is in more than one arm" in found[0].sentence
        and "1 unit has several rows" in found[1].sentence
    )


def test_the_promise_of_one_row_per_unit_is_not_checked_without_a_unit():
    table = pa.table({"person": [1, 1], "arm": ["a", "b"], "x": [1.0, 2.0]})
    assert summarise(table, arm="arm", columns=["x"]).problems == ()
    _, held = held_by(asking(table), kinds_of(asking(table), ["person"]), [])
    assert problems_of(asking(table), held["person"], "arm")[0].examples == ("1",)


def test_clusters_are_counted_instead_of_units():
    table = units()
    found = summarise(table, unit="person", cluster="shop", segment="town", **WANTED)
    arm = found.arms["offer"]
    assert arm.count == 30 and arm.names == ("spend", "orders", "units", "before")
    assert arm.of("units") * 30 == by_numpy(table, ["spend"], "offer").count
    assert arm.of("spend") / arm.of("units") == pytest.approx(by_numpy(table, ["spend"], "offer").of("spend"))
    assert {level: arms["offer"].count for level, arms in found.segments.items()} == {
        "north": 30,
        "south": 30,
        "west": 30,
    }
    assert found.units == 5000 and found.problems == ()


def test_a_lift_over_clusters_knows_that_they_are_few():
    rng = np.random.default_rng(2)
    level = np.repeat(rng.normal(0, 5.0, 60), 100)
    table = pa.table(
        {
            "arm": np.where(np.arange(6000) // 100 % 2, "b", "a"),
            "shop": np.arange(6000) // 100,
            "x": 50 + level + rng.normal(0, 5.0, 6000),
        }
    )
    alone = summarise(table, arm="arm", columns=["x"]).arms
    together = summarise(table, arm="arm", columns=["x"], cluster="shop").arms
    naive = lift(alone["b"], alone["a"], metric="x", column="x")
    honest = lift(together["b"], together["a"], metric="x", column="x", cluster=True)
    assert honest.absolute.value == pytest.approx(naive.absolute.value)
    assert honest.standard_error > 4 * naive.standard_error


def test_a_cluster_in_two_arms_is_a_problem_and_a_cluster_of_nobody_is_refused():
    table = pa.table(
        {"person": [1, 2, 3, 4], "arm": list("abab"), "shop": ["s", "s", "t", "u"], "x": [1.0] * 4}
    )
    found = summarise(table, unit="person", arm="arm", columns=["x"], cluster="shop").problems
    assert [each.sentence for each in found] == ["1 cluster is in more than one arm, for example s"]
    holed = table.set_column(2, "shop", pa.array(["s", None, "t", "u"]))
    with pytest.raises(ExperimentError, match="'shop' is NULL in 1 of 4 rows"):
        summarise(holed, unit="person", arm="arm", columns=["x"], cluster="shop")


def test_a_cap_is_the_pooled_quantile_and_touches_no_other_column():
    table = units()
    found = summarise(table, cap={"spend": 0.99}, **WANTED)
    cap = np.quantile(table["spend"].to_numpy(), 0.99)
    assert found.caps == {"spend": pytest.approx(cap)}
    cut = table.set_column(2, "spend", pa.array(np.minimum(table["spend"].to_numpy(), cap)))
    assert found.arms["offer"].mean == pytest.approx(
        by_numpy(cut, ["spend", "orders", "before"], "offer").mean
    )
    assert found.skewness["spend"] < summarise(table, **WANTED).skewness["spend"]


def test_a_cap_where_nearly_everybody_has_nothing_is_refused():
    table = pa.table({"arm": ["a", "b"] * 200, "x": [0.0] * 399 + [9.0]})
    with pytest.raises(ExperimentError, match=r"the 0.99 quantile of 'x' is 0, its lowest value"):
        summarise(table, arm="arm", columns=["x"], cap={"x": 0.99})


def test_constant_columns_have_no_variance_and_no_skewness():
    found = summarise(pa.table({"arm": ["a", "b"] * 50, "x": [3.7] * 100}), arm="arm", columns=["x"])
    assert found.arms["a"].variance("x") == pytest.approx(0.0, abs=1e-20) and found.skewness == {"x": 0.0}


def test_awkward_names_are_quoted_and_truth_values_are_numbers():
    table = pa.table({'the "arm"': ["a", "a", "b"], "{odd} o'clock": [True, False, True]})
    found = summarise(table, arm='the "arm"', columns=["{odd} o'clock"])
    assert found.arms["a"].of("{odd} o'clock") == 0.5


def test_units_may_be_asked_for_in_sql_or_as_a_relation():
    connection = duckdb.connect()
    connection.execute("CREATE TABLE t AS SELECT i % 2 AS arm, i::DECIMAL(9,2) AS x FROM range(10) AS r(i)")
    for relation in ("t", "SELECT * FROM t;", connection.table("t")):
        found = summarise(relation, arm="arm", columns=["x"], connection=connection)
        assert found.arms["1"].of("x") == 5.0 and found.arms["0"].count == 5


def test_a_cluster_column_called_units_is_refused():
    table = pa.table({"arm": ["a", "b"], "units": [1.0, 2.0], "shop": ["s", "t"]})
    with pytest.raises(ExperimentError, match="'units' would be mistaken"):
        summarise(table, arm="arm", columns=["units"], cluster="shop")
