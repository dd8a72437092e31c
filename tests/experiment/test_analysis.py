"""Any experiment, from a table to lifts, money and verdicts, or to the reason why none is shown."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ttest_ind

from ml_workbench.experiment.analysis import analyze, by_level
from ml_workbench.experiment.columns import asking
from ml_workbench.experiment.questions import Asked, Question, asked, split_of
from ml_workbench.experiment.results import Analysis, as_json, as_record
from ml_workbench.experiment.telling import amount, body, lines, picture, sentence
from ml_workbench.plan.errors import ExperimentError

QUESTION = Question("person", "arm", "A", (asked("spend:mean:USD"),))


def people(count: int = 2000, lift: float = 4.0, arms: str = "AB", seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    arm, before = rng.choice(list(arms), count), rng.gamma(2.0, 20.0, count)
    spend = before + rng.gamma(1.0, 20.0, count) + lift * (arm != "A")
    orders = rng.poisson(2.0, count)
    return pa.table(
        {
            "person": np.arange(count),
            "arm": arm,
            "spend": spend,
            "before": before,
            "orders": orders,
            "revenue": orders * rng.gamma(3.0, 10.0, count),
            "visit": rng.integers(0, 2, count),
            "town": rng.choice(["north", "south"], count),
            "shop": [f"{one}{place % 25}" for place, one in enumerate(arm)],
        }
    )


def with_column(table: pa.Table, name: str, values: object) -> pa.Table:
    array = pa.array(values)
    at = table.schema.get_field_index(name)
    return table.append_column(name, array) if at < 0 else table.set_column(at, name, array)


def only(found: Analysis) -> dict:
    [record] = as_json(found)["results"]
    return record


def test_a_difference_of_means_is_welchs():
    table = people()
    record = only(analyze(table, QUESTION))
    spend, is_b = table["spend"].to_numpy(), table["arm"].to_numpy(zero_copy_only=False) == "B"
    expected = ttest_ind(spend[is_b], spend[~is_b], equal_var=False)
    assert record["lift_abs"] == pytest.approx(spend[is_b].mean() - spend[~is_b].mean())
    assert record["p_value"] == pytest.approx(expected.pvalue, rel=1e-6)
    assert record["lift_abs_ci"] == pytest.approx(list(expected.confidence_interval(0.95)), rel=1e-6)
    assert record["lift_rel"] == pytest.approx(record["lift_abs"] / record["mean_control"])
    assert (record["n"], record["n_control"]) == (is_b.sum(), (~is_b).sum())


def test_money_is_the_lift_times_the_units_less_the_cost():
    record = only(analyze(people(), replace(QUESTION, cost_per_unit=1.5)))
    assert record["incremental_total"] == pytest.approx(record["lift_abs"] * record["n"])
    assert record["incremental_total_ci"] == pytest.approx(
        [end * record["n"] for end in record["lift_abs_ci"]]
    )
    assert record["cost_total"] == 1.5 * record["n"]
    assert record["net_total"] == pytest.approx(record["incremental_total"] - record["cost_total"])
    assert record["net_total_ci"] == pytest.approx(
        [end - record["cost_total"] for end in record["incremental_total_ci"]]
    )


@pytest.mark.parametrize("lift", [-6.0, 0.0, 3.0])
@pytest.mark.parametrize("alpha", [0.01, 0.2])
def test_interval_p_value_and_verdict_never_contradict(lift: float, alpha: float):
    for seed in range(3):
        record = only(analyze(people(400, lift, seed=seed), replace(QUESTION, alpha=alpha)))
        low, high = record["lift_abs_ci"]
        verdict = "higher" if low > 0 else "lower" if high < 0 else "not clear"
        assert record["verdict"] == verdict and (record["p_value"] < alpha) == (verdict != "not clear")
        assert (record["lift_rel_ci"][0] > 0) == (low > 0) and (record["lift_rel_ci"][1] < 0) == (high < 0)


def test_a_covariate_narrows_the_range_and_says_by_how_much():
    plain, adjusted = (
        only(analyze(people(), replace(QUESTION, covariates=known))) for known in ((), ("before",))
    )
    width = [record["lift_abs_ci"][1] - record["lift_abs_ci"][0] for record in (plain, adjusted)]
    assert width[1] < 0.7 * width[0] and adjusted["variance_removed"] > 0.5 and plain["variance_removed"] == 0
    assert adjusted["lift_abs_ci"][0] < 4.0 < adjusted["lift_abs_ci"][1]


def test_every_metric_of_every_arm_is_a_result_and_several_arms_are_adjusted_for():
    metrics = (asked("spend"), asked("visit:proportion"), asked("value=revenue/orders:USD"))
    found = analyze(people(3000, arms="ABC"), replace(QUESTION, metrics=metrics))
    assert [(each.metric.name, each.arm) for each in found.results] == [
        (metric, arm) for metric in ("spend", "visit", "value") for arm in "BC"
    ]
    for pair in zip(found.results[::2], found.results[1::2], strict=True):
        small, large = sorted(as_record(each)["p_value"] for each in pair)
        adjusted = sorted(as_record(each)["p_adjusted"] for each in pair)
        assert adjusted == pytest.approx([min(1, 2 * small), max(min(1, 2 * small), large)])


def test_a_ratio_adds_up_over_its_denominator():
    table = people()
    record = only(analyze(table, replace(QUESTION, metrics=(asked("value=revenue/orders"),))))
    is_b = table["arm"].to_numpy(zero_copy_only=False) == "B"
    revenue, orders = (table[name].to_numpy() for name in ("revenue", "orders"))
    assert record["mean"] == pytest.approx(revenue[is_b].sum() / orders[is_b].sum())
    assert record["incremental_total"] == pytest.approx(record["lift_abs"] * orders[is_b].sum())


def test_the_peeking_safe_range_is_wider_and_warns_where_the_two_disagree():
    found = analyze(people(2000, 5.5), replace(QUESTION, sequential=True))
    record = only(found)
    assert (
        record["sequential_ci"][0]
        < record["lift_abs_ci"][0]
        < record["lift_abs_ci"][1]
        < record["sequential_ci"][1]
    )
    assert record["verdict"] == "higher" and record["sequential_ci"][0] < 0
    assert any("only if this is the planned end" in said for said in found.warnings)
    assert only(analyze(people(), QUESTION))["sequential_ci"] is None


def test_a_cap_judges_means_and_the_total_without_it_is_kept():
    rng = np.random.default_rng(3)
    table = with_column(people(), "spend", rng.lognormal(2.0, 2.0, 2000))
    plain, capped = (
        analyze(table, replace(QUESTION, winsorize=cap, cost_per_unit=1.0)) for cap in (None, 0.95)
    )
    one, other = only(plain), only(capped)
    assert other["lift_abs_ci"][1] - other["lift_abs_ci"][0] < one["lift_abs_ci"][1] - one["lift_abs_ci"][0]
    assert other["uncapped_total"] == pytest.approx(one["incremental_total"])
    assert other["net_total"] == pytest.approx(one["net_total"])
    assert any("cut off at" in said and "0.95 quantile" in said for said in capped.warnings)
    assert any("is skewed" in said and "--winsorize" in said for said in plain.warnings)


def test_clusters_widen_the_range_and_their_number_is_what_is_checked():
    rng = np.random.default_rng(5)
    table = people()
    shops = {shop: rng.normal(0, 15) for shop in sorted(set(table["shop"].to_pylist()))}
    table = with_column(
        table, "spend", table["spend"].to_numpy() + np.array([shops[s] for s in table["shop"].to_pylist()])
    )
    alone, together = (analyze(table, replace(QUESTION, cluster=cluster)) for cluster in (None, "shop"))
    assert together.sample.observed == {"A": 25, "B": 25} and only(together)["n"] == only(alone)["n"]
    widths = [np.diff(only(each)["lift_abs_ci"])[0] for each in (alone, together)]
    assert widths[1] > 1.5 * widths[0]


def test_segments_show_an_effect_that_differs_and_numbers_are_cut_into_thirds():
    table = people(6000, 0.0)
    in_north = table["town"].to_numpy(zero_copy_only=False) == "north"
    treated = table["arm"].to_numpy(zero_copy_only=False) == "B"
    table = with_column(table, "spend", table["spend"].to_numpy() + 10.0 * (in_north & treated))
    found = analyze(table, replace(QUESTION, covariates=("before",), segments=("town", "before")))
    by_town, by_before = as_json(found)["segments"]
    assert by_town["p_value"] < 1e-6 and "best for north" in by_town["sentence"]
    assert by_town["p_adjusted"] == pytest.approx(2 * by_town["p_value"])
    assert by_before["p_value"] > 0.01 and len(by_before["levels"]) == 3
    sizes = [level["n"] + level["n_control"] for level in by_before["levels"]]
    assert sizes == [2000, 2000, 2000]


def test_thirds_of_a_number_with_many_ties_are_fewer_levels_and_lose_nobody():
    values = [0.0] * 70 + [float(place) for place in range(1, 31)]
    table = pa.table({"arm": ["a", "b"] * 50, "score": values})
    ask, column = by_level(asking(table), "score")
    found = ask(f'SELECT "{column}", count(*) FROM {{units}} GROUP BY 1 ORDER BY 2')
    assert sum(count for _, count in found) == 100 and [count for _, count in found] == [30, 70]


def test_arms_of_the_wrong_size_hide_every_figure():
    table = people()
    rng = np.random.default_rng(2)
    kept = table.filter(
        pa.array((table["arm"].to_numpy(zero_copy_only=False) == "B") | (rng.random(2000) < 0.8))
    )
    found = analyze(kept, replace(QUESTION, segments=("town",), cost_per_unit=1.0))
    assert found.exit_code == 3 and "no lift is shown" in found.error and found.sample.p_value < 0.001
    shown = {key for key, value in only(found).items() if value is not None}
    assert shown == {"metric", "arm", "control", "n", "n_control"} and as_json(found)["segments"] == []
    counted, table_, said = lines(found)
    assert table_ == [] and "No lift is shown" in said[0] and "A " in counted
    assert "No lift is shown" in body(found) and "<svg" not in body(found)
    assert analyze(kept, replace(QUESTION, split={"A": 0.444, "B": 0.556})).exit_code == 0


def test_a_planned_arm_without_units_is_a_wrong_ratio():
    found = analyze(people(), replace(QUESTION, split={"A": 0.4, "B": 0.4, "C": 0.2}))
    assert found.exit_code == 3 and "'C' should hold 400" in found.error


def test_a_unit_in_two_arms_hides_every_figure_though_another_has_two_rows():
    table = with_column(people(), "person", [0, 1, *range(1998)])
    arm = ["A", "A", "B", "A", *people()["arm"].to_pylist()[4:]]
    found = analyze(with_column(table, "arm", arm), QUESTION)
    assert (
        found.exit_code == 3
        and "1 unit is in more than one arm, for example 0: assignment did not hold" in found.error
    )
    assert only(found)["lift_abs"] is None


def test_a_cluster_in_two_arms_hides_every_figure():
    found = analyze(people(), replace(QUESTION, cluster="town"))
    assert (
        found.exit_code == 3
        and "2 clusters are in more than one arm, for example north, south" in found.error
    )


def test_units_without_outcome_count_for_the_sample_ratio():
    table = people()
    is_b = table["arm"].to_numpy(zero_copy_only=False) == "B"
    holed = [
        None if gone else value
        for gone, value in zip(is_b & (np.arange(2000) % 3 == 0), table["spend"].to_pylist())
    ]
    found = analyze(with_column(table, "spend", holed), replace(QUESTION, nulls="drop"))
    assert sum(found.sample.observed.values()) == 2000 and found.exit_code == 0
    assert only(found)["n"] < only(found)["n_control"]
    assert any("left out" in said and "of B" in said for said in found.warnings)
    zero = analyze(with_column(table, "spend", holed), replace(QUESTION, nulls="zero"))
    assert only(zero)["verdict"] == "lower" and any("counted as zero" in said for said in zero.warnings)


def test_metrics_that_never_vary_are_said_to_say_nothing():
    table = with_column(with_column(people(), "zero", [0] * 2000), "always", [True] * 2000)
    found = analyze(
        table, replace(QUESTION, metrics=(asked("zero:mean:USD"), asked("always:proportion"), asked("spend")))
    )
    records = as_json(found)["results"]
    for record in records[:2]:
        assert record["lift_abs"] == 0 and record["verdict"] == "not clear"
        assert (
            record["lift_abs_ci"] is record["p_value"] is record["prob_better"] is record["lift_rel"] is None
        )
    assert records[2]["lift_abs_ci"] is not None
    assert sum("nothing can be said" in said for said in found.warnings) == 2
    assert "nothing can be said" in sentence(found.results[0])


TABLE = people(200)
ARMS = TABLE["arm"].to_pylist()


@pytest.mark.parametrize(
    ("table", "changed", "said"),
    [
        (TABLE, {"metrics": (asked("spent"),)}, "no column 'spent', did you mean 'spend'"),
        (TABLE, {"arm": "arms"}, "no column 'arms', did you mean 'arm'"),
        (TABLE, {"covariates": ("befor",)}, "no column 'befor', did you mean 'before'"),
        (TABLE, {"control": "control"}, "control 'control' does not occur in column 'arm', known: A, B"),
        (with_column(TABLE, "arm", ["A"] * 200), {}, "only one arm, 'A'"),
        (with_column(TABLE, "arm", ["B", *["A"] * 199]), {}, "arm 'B' has one unit"),
        (with_column(TABLE, "shop", [f"{a}1" if a == "B" else f"A{i}" for i, a in enumerate(ARMS)]), {"cluster": "shop"}, "arm 'B' has one cluster"),
        (with_column(TABLE, "arm", [str(i) for i in range(200)]), {"control": "0"}, "more than 50 values"),
        (with_column(TABLE, "orders", [-1, *[2] * 199]), {"metrics": (asked("v=revenue/orders"),)}, r"'orders' is negative in 1 row \(lowest -1\)"),
        (with_column(TABLE, "orders", [0] * 200), {"metrics": (asked("v=revenue/orders"),)}, "denominator orders has mean 0"),
        (TABLE, {"metrics": (asked("spend:proportion"),)}, "200 of its values are neither 0 nor 1, for example .* write spend:mean"),
        (with_column(TABLE, "spend", [float("inf"), *[1.0] * 199]), {}, "'spend' is infinite or not a number .* in 1 row"),
        (with_column(TABLE, "spend", ["n/a", *["1.5"] * 199]), {}, "'spend' is VARCHAR.*for example 'n/a'"),
        (with_column(TABLE, "spend", [None, *[1.0] * 199]), {}, "'spend' is NULL in 1 of 200 rows"),
        (with_column(TABLE, "person", [None, *range(199)]), {}, "'person' is NULL in 1 of 200 rows"),
        (with_column(TABLE, "arm", [None, *ARMS[1:]]), {}, "'arm' is NULL in 1 of 200 rows"),
        (with_column(with_column(TABLE, "person", [1, *range(1, 200)]), "arm", ["A", "A", *ARMS[2:]]), {}, "1 unit has several rows.*--cluster"),
        (TABLE.slice(0, 0), {}, "the table is empty"),
        (TABLE, {"segments": ("shop_of_own",)}, "no column 'shop_of_own'"),
        (with_column(TABLE, "town", [f"t{i}" for i in range(200)]), {"segments": ("town",)}, "segment 'town' has 200 values"),
        (TABLE, {"split": {"A": 1.0}}, "arm 'B' has units and no share in the split"),
        (TABLE, {"metrics": (asked("visit:mean"),), "winsorize": 0.4}, "quantile between 0.5 and 1"),
        (with_column(TABLE, "spend", [9.0, *[0.0] * 199]), {"winsorize": 0.99}, "its lowest value: a cap there would leave nothing"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_with_its_reason(table: pa.Table, changed: dict, said: str):
    with pytest.raises(ExperimentError, match=said) as caught:
        analyze(table, replace(QUESTION, **changed))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("spend", Asked("spend", "mean", "spend")),
        ("spend:mean:USD", Asked("spend", "mean", "spend", unit="USD")),
        ("kept=active:proportion", Asked("kept", "proportion", "active")),
        ("order_value=revenue/orders", Asked("order_value", "ratio", "revenue", "orders")),
        ("revenue / orders:EUR", Asked("revenue_per_orders", "ratio", "revenue", "orders", "EUR")),
    ],
)
def test_a_metric_is_read_as_it_is_written(text: str, metric: Asked):
    assert asked(text) == metric


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("visit:propotion", "did you mean 'proportion'"),
        ("", "not understood"),
        ("=spend", "not understood"),
        ("a/", "not understood"),
        ("spend:mean:USD:x", "not understood"),
        ("a/b:ratio:USD", "not understood"),
    ],
)
def test_a_metric_that_is_not_understood_is_answered_with_the_forms(text: str, said: str):
    with pytest.raises(ExperimentError, match=said):
        asked(text)


@pytest.mark.parametrize("texts", [["A"], ["A=half"], ["A=0"], ["A=1.5"], ["A=0.5", "B=0.4"], ["A=0.9"]])
def test_a_split_that_is_none_is_refused(texts: list[str]):
    with pytest.raises(ExperimentError, match="split"):
        split_of(texts)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metrics": ()}, "no metric"),
        ({"metrics": (asked("spend"), asked("spend:mean:USD"))}, "named twice: spend"),
        ({"covariates": ("spend",)}, "'spend' is an outcome"),
        ({"unit": "arm"}, "both the unit and the arm"),
        ({"alpha": 5.0}, "alpha must lie"),
        ({"cost_per_unit": -1.0}, "cost per unit"),
        ({"cost_per_unit": 1.0, "metrics": (asked("spend"),)}, "name the currency"),
        ({"expected_units": 0}, "expected units"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(changed: dict, said: str):
    with pytest.raises(ExperimentError, match=said):
        replace(QUESTION, **changed)


def test_amounts_read_as_a_person_would_say_them():
    dollars, share, plain = asked("x:mean:USD"), asked("x:proportion"), asked("x")
    assert [amount(value, dollars, change=True) for value in (2.5, -1234.5, 0.0)] == [
        "+$2.50",
        "−$1,234",
        "$0.00",
    ]
    assert amount(0.0123, share, change=True) == "+1.23 points" and amount(0.0123, share) == "1.23%"
    assert amount(-0.5, plain) == "−0.5" and amount(float("nan"), plain) == "unknown"


def test_the_page_escapes_names_and_fetches_nothing():
    table = with_column(TABLE, "arm", [{"A": "A", "B": "<b>&"}[arm] for arm in ARMS])
    page = body(analyze(table, replace(QUESTION, segments=("town",), sequential=True)), "<source>")
    assert "<b>&" not in page and "&lt;b&gt;&amp;" in page and "&lt;source&gt;" in page
    assert "<script" not in page and "src=" not in page and "By kind of unit" in page
    assert picture([]) == ""
