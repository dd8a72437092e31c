"""Policies judged on the same weeks and the same resamples, told against the rule."""

import numpy as np
import pandas as pd
import pytest

from ml_workbench.model.evaluation import (
    NOTHING,
    calibration_table,
    candidate_policy,
    curve_table,
    judge,
    metrics_json,
    policies_of,
    rule_policy,
    with_predictions,
    write_csv,
)
from ml_workbench.model.metrics import (
    Interval,
)
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.model.value import panel_of
from ml_workbench.plan.charter import Charter, Rule
from ml_workbench.plan.errors import TrainingError

SCHEMA = Schema(
    "member",
    "as_of",
    "slice",
    "left",
    "spend",
    28,
    "weekly",
    (Feature("weekly", "number", "money"), Feature("days", "number", "recency")),
)


def charter(**changes) -> Charter:
    economics = {
        "gross_margin": 0.3,
        "offer_cost": 1.0,
        "value_weeks": 12,
        "cooldown_days": 14,
        "running_cost_per_week": 2.0,
        "save_rate": {"value": 0.2, "low": 0.1, "high": 0.3, "status": "assumption", "source": "a guess"},
    }
    words = dict.fromkeys(("title", "decision", "action", "kpi", "decision_rule", "owner"), "…")
    return Charter.model_validate(
        {
            **words,
            "unit": "member",
            "unit_plural": "members",
            "currency": "EUR",
            "capacity_per_week": 10,
            "economics": economics,
            "baseline": {"feature": "days", "order": "descending", "meaning": "the members longest away"},
            "minimum_lift_per_week": 5.0,
            "guardrails": [],
            "review_date": "2024-07-01",
            **changes,
        }
    )


def members(units: int = 60, weeks: int = 4, *, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = pd.DataFrame({"member": np.tile(np.arange(units), weeks), "slice": "test"})
    rows["as_of"] = np.repeat(pd.date_range("2024-01-01", periods=weeks, freq="7D"), units)
    rows["p"] = np.tile(random.beta(0.6, 1.4, units), weeks)
    rows["left"] = (random.random(len(rows)) < rows["p"]).astype(int)
    rows["weekly"] = random.gamma(2, 20, len(rows))
    rows["days"] = 40 * rows["p"] + random.normal(0, 20, len(rows))
    return rows


def test_profit_intervals_cover_the_expected_profit_of_the_policy():
    terms = charter(capacity_per_week=30)
    everybody = panel_of(members(units=20_000, weeks=2, seed=99), SCHEMA, terms.economics)
    rows = members(units=20_000, weeks=2, seed=99)
    truth_rate = terms.model_copy(update={"capacity_per_week": 3000})
    big = judge([rule_policy(terms.baseline, rows["days"])], everybody, truth_rate, resamples=2, offers_max=0)
    truth, inside = big[0].at_capacity.profit_per_week.value / 100, 0
    for seed in range(120):
        rows = members(units=200, weeks=2, seed=seed)
        panel = panel_of(rows, SCHEMA, terms.economics)
        found = judge(
            [rule_policy(terms.baseline, rows["days"])],
            panel,
            terms,
            resamples=200,
            confidence=0.9,
            offers_max=0,
            seed=seed,
        )[0].at_capacity.profit_per_week
        inside += found.low <= truth <= found.high
    assert 0.83 <= inside / 120 <= 0.97


def judged(rows: pd.DataFrame, terms: Charter, **options):
    policies = [
        candidate_policy("oracle", "Oracle", 2, rows["p"].to_numpy(), rows["weekly"].to_numpy(), terms),
        rule_policy(terms.baseline, rows["days"].to_numpy()),
        NOTHING,
    ]
    panel = panel_of(rows, SCHEMA, terms.economics)
    return judge(policies, panel, terms, **{"resamples": 100, "offers_step": 5, "offers_max": 20, **options})


def test_doing_nothing_earns_nothing_and_the_rule_gains_nothing_on_itself():
    oracle, rule, nothing = judged(members(), charter())
    assert nothing.at_capacity.profit_per_week == Interval(0.0, 0.0, 0.0) == rule.against_rule
    assert nothing.metrics is None and nothing.at_capacity.precision is None
    assert (nothing.curve.profit_per_week == 0).all() and (rule.curve.against_rule == 0).all()
    assert rule.metrics.brier is None and rule.calibration == ()
    gain, lost = oracle.against_rule.value, oracle.at_capacity.profit_per_week.value
    assert gain == pytest.approx(lost - rule.at_capacity.profit_per_week.value)


def test_a_model_carries_its_running_cost_and_the_rule_does_not():
    free = judged(
        members(), charter(economics={**charter().economics.model_dump(), "running_cost_per_week": 0.0})
    )
    paid = judged(members(), charter())
    assert free[0].curve.profit_per_week - paid[0].curve.profit_per_week == pytest.approx(2.0)
    assert (free[1].curve.profit_per_week == paid[1].curve.profit_per_week).all()


def test_paired_differences_are_narrower_than_the_profits_they_compare():
    oracle, rule, _ = judged(members(units=200), charter(capacity_per_week=20), resamples=300)
    gain, alone, other = (
        oracle.against_rule,
        oracle.at_capacity.profit_per_week,
        rule.at_capacity.profit_per_week,
    )
    assert gain.low < gain.value < gain.high
    assert gain.high - gain.low < (alone.high - alone.low) + (other.high - other.low)


def test_a_label_that_is_the_same_everywhere_cannot_be_judged_by():
    with pytest.raises(TrainingError, match="the label is 0 everywhere"):
        judged(members().assign(left=0), charter())


def test_dates_that_are_not_a_week_apart_are_refused_because_profit_is_told_by_the_week():
    rows = members()
    rows["as_of"] = rows["as_of"].min() + 2 * (rows["as_of"] - rows["as_of"].min())
    with pytest.raises(TrainingError, match=r"14 days apart.*set features\.every_days to 7"):
        judged(rows, charter())


def test_judging_twice_gives_the_same_figures_and_another_seed_others():
    once, again = judged(members(), charter(), seed=1)[0], judged(members(), charter(), seed=1)[0]
    assert once.metrics == again.metrics and once.at_capacity == again.at_capacity
    assert judged(members(), charter(), seed=2)[0].metrics != once.metrics


def test_judging_without_a_rule_to_compare_with_is_refused():
    rows = members()
    with pytest.raises(TrainingError, match="exactly one policy must be the rule"):
        judge([NOTHING], panel_of(rows, SCHEMA, charter().economics), charter())


def test_the_rules_missing_values_rank_last_in_both_directions():
    for order in ("ascending", "descending"):
        rule = rule_policy(Rule(feature="days", order=order, meaning="…"), np.array([3.0, np.nan, 9.0]))
        assert rule.rank.argmin() == 1


def test_policies_need_the_columns_they_rank_by():
    rows = members().assign(oracle=0.5)
    ladder = [{"name": "rule"}, {"name": "oracle", "label": "Oracle", "complexity": 2}]
    assert [each.name for each in policies_of(rows, ladder, SCHEMA, charter())] == [
        "oracle",
        "rule",
        "nothing",
    ]
    with pytest.raises(TrainingError, match=r"no column 'oracel'.*did you mean 'oracle'"):
        policies_of(rows, [{"name": "oracel", "label": "…", "complexity": 2}], SCHEMA, charter())


def test_a_snapshot_without_prediction_is_named_not_judged():
    rows = members(units=3, weeks=1)
    predictions = rows[["member", "as_of", "slice"]].assign(oracle=[0.1, 0.2, 0.3])
    joined = with_predictions(rows[::-1].reset_index(drop=True), predictions, SCHEMA)
    assert joined["oracle"].tolist() == [0.3, 0.2, 0.1]
    with pytest.raises(TrainingError, match="1 of 3 snapshots have no prediction"):
        with_predictions(rows, predictions[:2], SCHEMA)


def test_tables_and_metrics_tell_the_same_figures(tmp_path):
    results = judged(members(), charter())
    metrics, curve = metrics_json(results), curve_table(results)
    at = curve[(curve["policy"] == "oracle") & (curve["offers"] == 10)].iloc[0]
    assert metrics["oracle"]["profit_per_week"] == pytest.approx(at["profit_per_week"])
    assert metrics["oracle"]["against_rule_per_week_low"] == pytest.approx(at["against_rule_low"])
    assert "auc" not in metrics["nothing"] and set(calibration_table(results)["policy"]) == {"oracle"}
    write_csv(tmp_path / "curve.csv", curve)
    assert (
        (tmp_path / "curve.csv").read_text().startswith("policy,offers,profit_per_week,low,high,against_rule")
    )
