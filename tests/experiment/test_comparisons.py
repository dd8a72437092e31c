"""Every metric of every arm: ranges, warnings and sentences that agree with each other."""

import numpy as np
import pyarrow as pa
import pytest

from ml_workbench.experiment.breakdowns import among_triggered, by_segment
from ml_workbench.experiment.comparisons import amount, findings, summed, told
from ml_workbench.plan.errors import ExperimentError
from ml_workbench.plan.experiment import Experiment, Metric
from ml_workbench.plan.params import load_params

SPEND = {"name": "spend", "label": "spend", "kind": "revenue", "outcome": "basket", "of": "sum", "cap": 0.99}
VISITS = {
    "name": "visits",
    "label": "visits",
    "kind": "mean",
    "outcome": "basket",
    "of": "count",
    "unit": "visits",
}
CAME = {
    "name": "came",
    "label": "customers that came",
    "kind": "proportion",
    "outcome": "basket",
    "of": "any",
}
RATIO = {
    "name": "each", "label": "spend per visit", "kind": "ratio", "numerator": "spend", "denominator": "visits",
    "unit": "USD",
}  # fmt: skip


def planned(*metrics, arms=("a", "b"), **changes):
    shares = [{"name": name, "policy": "none", "weight": 0.5 / len(arms)} for name in arms]
    design = {
        "name": "e", "namespace": "e", "holdout": 0.0, "control": "c", "primary": metrics[0]["name"], "horizon_days": 28,
        "arms": [{"name": "c", "policy": "none", "weight": 0.5}, *shares], "metrics": list(metrics),
    }  # fmt: skip
    return Experiment.model_validate(design | changes)


def customers(effect=0.0, *, count=900, seed=1):
    random = np.random.default_rng(seed)
    arm, usual = np.repeat(["c", "a", "b"], count // 3), random.gamma(4.0, 10.0, count)
    visits = random.poisson(3, count) + 1
    return pa.table({
        "unit": np.arange(count), "arm": arm, "usual": usual, "visits": visits, "came": random.random(count) < 0.7,
        "spend": usual + random.normal(0, 8, count) + effect * (arm == "a"), "town": random.choice(["x", "y"], count),
        "triggered": random.random(count) < 0.3, "cluster": [str(number // 3) for number in range(count)],
    })  # fmt: skip


def found_in(units, experiment, arms=("a", "b"), **options):
    return findings(summed(units, experiment), experiment, arms=arms, control="c", **options)


@pytest.fixture(scope="module")
def charter(root):
    return load_params(root).charter


def test_the_sentence_the_range_the_verdict_and_the_p_value_agree(charter):
    experiment = planned(SPEND, VISITS, CAME, RATIO, covariates=["usual"])
    for each in found_in(customers(effect=4.0), experiment):
        clear = not each.lift.absolute.low <= 0 <= each.lift.absolute.high
        assert (each.lift.p_value < 0.05) == clear == ("not clear" not in told(each, charter))
        assert each.sequential.low < each.lift.absolute.low < each.lift.absolute.high < each.sequential.high


def test_the_metric_that_decides_and_the_others_are_two_families():
    experiment = planned(SPEND, VISITS, CAME)
    found = found_in(customers(), experiment)
    first, others = found[:2], found[2:]
    assert max(each.p_adjusted for each in first) <= 2 * max(each.lift.p_value for each in first)
    smallest = min(first, key=lambda each: each.lift.p_value)
    assert smallest.p_adjusted == pytest.approx(min(1.0, 2 * smallest.lift.p_value))  # Holm, of two
    largest = max(others, key=lambda each: each.lift.p_value)
    assert largest.p_adjusted == pytest.approx(largest.lift.p_value)  # Benjamini and Hochberg: the last stays


def test_a_capped_figure_stands_beside_the_one_that_counts_everything():
    units = customers()
    spend = units["spend"].to_numpy().copy()
    spend[350] = 1e5  # one of arm a buys a house
    units = units.set_column(units.schema.get_field_index("spend"), "spend", pa.array(spend))
    [found] = found_in(units, planned(SPEND), arms=["a"])
    assert found.lift.absolute.value > 300 and abs(found.capped.lift.absolute.value) < 10
    assert "is skewed" in found.warnings[-1] and "judge by the capped figure" in found.warnings[-1]


def test_a_metric_that_is_too_rare_for_its_cap_says_so():
    units = customers()
    rare = np.where(np.arange(900) % 300 == 0, 50.0, 0.0)
    units = units.set_column(units.schema.get_field_index("spend"), "spend", pa.array(rare))
    [found] = found_in(units, planned(SPEND), arms=["a"])
    assert found.capped is None and "too rare to be capped at its 99% quantile" in " ".join(found.warnings)


def test_units_that_were_randomised_together_count_as_one():
    units, experiment = customers(), planned(SPEND)
    alike = np.repeat(np.random.default_rng(3).normal(50, 10, 300), 3)
    units = units.set_column(units.schema.get_field_index("spend"), "spend", pa.array(alike))
    [alone] = found_in(units, experiment, arms=["a"])
    [together] = found_in(units, experiment.model_copy(update={"cluster": "shop"}), arms=["a"])
    assert together.lift.absolute.value == pytest.approx(alone.lift.absolute.value)
    assert together.lift.standard_error == pytest.approx(alone.lift.standard_error * 3**0.5, rel=0.02)


def test_a_band_planned_for_more_units_is_wider_now():
    units, experiment = customers(), planned(SPEND)
    now, later = (found_in(units, experiment, arms=["a"], planned=planned_)[0] for planned_ in (1.0, 4.0))
    assert later.sequential.high - later.sequential.low > now.sequential.high - now.sequential.low


def test_an_arm_with_one_unit_is_refused():
    units = customers()
    few = pa.concat_tables([units.filter(pa.compute.not_equal(units["arm"], "b")), units.slice(899, 1)])
    with pytest.raises(ExperimentError, match="b has 1 unit"):
        found_in(few, planned(SPEND))


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        (SPEND, -1.5, "−$1.50"),
        (RATIO, 0.126, "+$0.13"),
        (CAME, 0.0123, "+1.2 points"),
        (VISITS, -0.046, "−0.05 visits"),
        (VISITS, float("nan"), "unknown"),
    ],
)
def test_an_amount_is_told_in_its_unit(metric, value, shown):
    assert amount(value, Metric.model_validate(metric), "USD") == shown


def test_a_segment_where_an_arm_is_missing_is_left_out():
    units = customers(effect=4.0)
    town = np.array(units["town"].to_pylist(), dtype=object)
    town[:300] = np.where(town[:300] == "y", "z", town[:300])  # nobody of the control is in y
    units = units.set_column(units.schema.get_field_index("town"), "town", pa.array(town.tolist()))
    [found] = by_segment(
        units, planned(SPEND, arms=("a",)), segments={"town": "town"}, arms=["a"], minimum=10
    )
    assert [level.name for level in found.interaction.levels] == ["x"] and found.interaction.p_value is None


def test_without_triggered_units_there_is_no_triggered_answer():
    units = customers()
    nobody = units.set_column(units.schema.get_field_index("triggered"), "triggered", pa.array([False] * 900))
    assert among_triggered(nobody, planned(SPEND), arms=["a"]) == ()
    [found] = among_triggered(units, planned(SPEND), arms=["a"])
    assert found.share == pytest.approx(0.3, abs=0.05)
