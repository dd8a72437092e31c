"""Every finding about an experiment, on a shop whose truth is known: what is shipped has earned, and what is broken is not shown."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ml_workbench.experiment.attribution import Given, attributed, expected_shares
from ml_workbench.experiment.cohort import cohort
from ml_workbench.experiment.course import courses
from ml_workbench.experiment.listings import listings, said, targeted
from ml_workbench.experiment.pace import is_replayed, pace
from ml_workbench.experiment.report import attribution_report, labels_of, promises_of, truth_rows
from ml_workbench.model.metrics import Interval
from ml_workbench.plan.errors import ExperimentError
from ml_workbench.plan.experiment import Experiment
from ml_workbench.plan.files import rounded
from ml_workbench.plan.params import load_params

START = datetime(2024, 1, 1, 5)
ARMS = [
    {"name": "control", "policy": "rule", "weight": 0.4},
    {"name": "champion", "policy": "proposed", "weight": 0.4},
    {"name": "challenger", "policy": "mlp", "weight": 0.2},
]
SPEND = {"name": "spend", "label": "spend", "kind": "revenue", "outcome": "basket", "of": "sum", "cap": 0.99}
VISITS = {
    "name": "visits", "label": "visits", "kind": "mean", "outcome": "basket", "of": "count", "unit": "visits",
}  # fmt: skip
EVALUATION = {
    "policies": [
        {"name": "rule", "label": "Rule", "against_rule": None},
        {"name": "xgb", "label": "XGBoost", "against_rule": {"per_month": {"value": 90.0, "low": 20.0, "high": 160.0}}},
        {"name": "mlp", "label": "Neural network"},
    ],
    "proposal": {"policy": "xgb"},
}  # fmt: skip


def planned(**changes):
    design = {
        "name": "shop", "namespace": "shop", "holdout": 0.1, "arms": ARMS, "control": "control",
        "metrics": [SPEND, VISITS], "primary": "spend", "covariates": ["usual"], "segments": ["usual", "town"],
        "horizon_days": 28, "looks": 1,
    }  # fmt: skip
    return Experiment.model_validate(design | changes)


def shop(*, effect=0.0, visits=0.0, count=2000, seed=1, spread=20.0, weeks=2):
    "The records of a shop: members, two weekly lists, and two baskets of everybody."
    random = np.random.default_rng(seed)
    name, unit = [f"{number:04}" for number in range(count)], np.arange(count)
    arm = random.choice(["control", "champion", "challenger", "holdout"], count, p=[0.36, 0.36, 0.18, 0.1])
    usual, lists = random.gamma(4.0, 12.0, count), random.random((3, count)) < 0.3
    listed = {"rule": lists[0], "proposed": lists[1], "mlp": lists[2]}
    mine = np.select([arm == each["name"] for each in ARMS], [listed[each["policy"]] for each in ARMS], False)
    total = usual + random.normal(0, spread, count) + effect * (arm == "champion")
    whose = np.concatenate([unit, unit, unit[(arm == "champion") & (random.random(count) < visits)]])
    baskets = {
        "outcome": "basket", "event_id": [str(number) for number in range(len(whose))], "unit": [name[each] for each in whose],
        "occurred_at": [START + timedelta(days=3 + number % 20) for number in range(len(whose))],
        "value": np.concatenate([total / 2, total / 2, np.zeros(len(whose) - 2 * count)]).round(2),
        "recorded_at": START + timedelta(days=28),
    }  # fmt: skip
    each = {"experiment": "shop", "unit": name}
    known = [each | {"name": "usual", "number": usual, "level": None}]
    known += [each | {"name": "town", "number": None, "level": random.choice(["Hill", "Lake"], count)}]
    policies = [
        each | {"as_of": START, "policy": policy, "rank": random.permutation(count) + 1, "listed": on}
        for policy, on in listed.items()
    ]
    sent = {
        "unit": [name[row] for row in np.flatnonzero(mine)],
        "arm": arm[mine],
        "action": "offer",
        "cost": 1.0,
    }
    when = [START + timedelta(weeks=row % weeks) for row in range(mine.sum())]
    return {
        "assignments": table(each | {"arm": arm, "assigned_at": START, "design_hash": "1"}),
        "covariates": pa.concat_tables([table(part) for part in known], promote_options="permissive"),
        "predictions": pa.concat_tables([table(part) for part in policies]),
        "exposures": table({"experiment": "shop"} | sent | {"as_of": when}),
        "outcomes": table(baskets),
    }


def table(columns):
    size = max(len(each) for each in columns.values() if isinstance(each, list | np.ndarray))
    whole = {
        name: each if isinstance(each, list | np.ndarray) else [each] * size for name, each in columns.items()
    }
    return pa.table(whole)


@pytest.fixture(scope="module")
def params(root):
    params = load_params(root)
    rails = [{"metric": "visits", "margin": 0.02, "meaning": "Nor come less often"}]
    terms = params.charter.economics.model_copy(
        update={"development_cost": 0.0, "running_cost_per_week": 1.0}
    )
    charter = type(params.charter).model_validate(params.charter.model_dump() | {"guardrails": rails})
    return params.model_copy(update={"charter": charter.model_copy(update={"economics": terms})})


def given_for(tables, experiment, params, *, as_of=None):
    made = cohort(tables, experiment, as_of=as_of, units="households")
    rhythm = pace(tables, experiment, as_of=made.as_of)
    labels, promised = labels_of(experiment, EVALUATION), promises_of(experiment, EVALUATION)
    return made, Given(
        experiment, params.charter, params.attribution, labels, promised, "xgb", rhythm, made.as_of
    )


def found_in(tables, params, *, as_of=None, replayed=False, **changes):
    made, given = given_for(tables, planned(**changes), params, as_of=as_of)
    return made, attributed(made, replace(given, replayed=replayed))


def row(about, arm="champion", versus="control"):
    return next(each for each in about.earned if (each.arm.name, each.versus.name) == (arm, versus))


def test_a_clear_gain_is_found_told_in_money_and_shipped(params):
    _, about = found_in(shop(effect=6.0), params)
    gain = row(about)
    assert about.decision.action == "ship" and about.decision.arm == "champion"
    assert gain.incremental_revenue.low < 6.0 * gain.arm.units < gain.incremental_revenue.high
    assert gain.net.value == pytest.approx(0.28 * gain.incremental_revenue.value - gain.costs.total)
    assert gain.decisive.low > 0 and about.decision.headline.startswith("Ship XGBoost: +$")
    assert "Neural network: not enough evidence." in about.decision.sentence


def test_nothing_put_in_is_not_enough_evidence_and_says_what_is_missing(params):
    _, about = found_in(shop(), params)
    assert about.decision.action == "not enough evidence" and about.decision.missing
    assert row(about).net.low < 0 < row(about).net.high
    assert about.sight.power_for_promise < 0.8 and "promised +$90 a month" in about.sight.sentence


def test_a_clear_loss_is_rolled_back(params):
    _, about = found_in(shop(effect=-6.0), params)
    assert about.decision.action == "roll back" and about.decision.headline == "Roll back XGBoost"


def test_a_failed_guardrail_rolls_back_what_earns(params):
    tables, random = shop(effect=6.0), np.random.default_rng(2)
    arm = dict(zip(*(tables["assignments"][name].to_pylist() for name in ("unit", "arm")), strict=True))
    champion = np.array([arm[unit] == "champion" for unit in tables["outcomes"]["unit"].to_pylist()])
    second = np.arange(len(champion)) >= len(champion) // 2
    lost = (
        champion & second & (random.random(len(champion)) < 0.2)
    )  # every fifth second visit, and its spend moves to the first
    value = (
        tables["outcomes"]["value"].to_numpy()
        + np.roll(lost, -len(lost) // 2) * tables["outcomes"]["value"].to_numpy()
    )
    outcomes = tables["outcomes"].set_column(4, "value", pa.array(value)).filter(pa.array(~lost))
    _, about = found_in(tables | {"outcomes": outcomes}, params)
    assert row(about).decisive.low > 0
    assert (
        about.decision.action == "roll back" and "A guardrail has failed: visits." in about.decision.sentence
    )


def test_the_interval_that_decides_is_wider_with_several_arms_and_early_looks(params):
    _, once = found_in(shop(effect=6.0), params)
    _, often = found_in(shop(effect=6.0), params, looks=7)
    widths = [each.high - each.low for each in (row(once).per_month, row(once).decisive, row(often).decisive)]
    assert widths[0] < widths[1] < widths[2]
    assert row(often).per_month == row(once).per_month


def test_before_the_horizon_is_over_the_sequential_interval_decides(params):
    tables = shop(effect=6.0)
    late = pa.array([START if number % 2 else START + timedelta(days=7) for number in range(2000)])
    tables["assignments"] = tables["assignments"].set_column(3, "assigned_at", late)
    made, about = found_in(tables, params, as_of=START + timedelta(days=28))
    assert about.given.over and about.given.pace.waiting > 800 and len(made.units) == 1000
    early = replace(about.given, as_of=START + timedelta(days=20))
    assert not early.over and early.sequential and not about.given.sequential


def test_before_anything_has_matured_nothing_is_shown(params):
    made, about = found_in(shop(effect=6.0), params, as_of=START + timedelta(days=20))
    assert about.stopped.kind == "empty" and about.decision.action == "hard stop" and not about.findings
    assert attribution_report(about, cohort=made)["sample"] is None


def test_arms_of_the_wrong_size_hide_every_lift(params):
    tables = shop(effect=6.0)
    arm, spent = (np.array(tables["assignments"][name]) for name in ("arm", "unit"))
    gone = (arm == "champion") & (
        np.char.endswith(spent.astype(str), ("1")) | np.char.endswith(spent.astype(str), "2")
    )
    tables["assignments"] = tables["assignments"].filter(pa.array(~gone))
    tables["exposures"] = tables["exposures"].filter(
        pa.array(~np.isin(tables["exposures"]["unit"], spent[gone]))
    )
    made, about = found_in(tables, params)
    report = attribution_report(about, cohort=made)
    assert (
        about.stopped.kind == "sample ratio"
        and report["sample"]["stop"]
        and len(report["stopped"]["examples"]) == 4
    )
    hidden = (
        "lifts",
        "against_holdout",
        "guardrails",
        "over_time",
        "segments",
        "triggered",
        "money",
        "truth",
        "decisions",
    )
    assert (
        not any(report[name] for name in hidden) and report["evidence"] is None and report["policy"] is None
    )
    assert report["decision"]["action"] == "hard stop" and "$" not in report["decision"]["sentence"]


def test_a_unit_in_two_arms_hides_every_lift(params):
    tables = shop(effect=6.0)
    first = tables["assignments"].slice(0, 1)
    other = "control" if first["arm"][0].as_py() != "control" else "champion"
    tables["assignments"] = pa.concat_tables(
        [tables["assignments"], first.set_column(2, "arm", pa.array([other]))]
    )
    _, about = found_in(tables, params)
    assert about.stopped.kind == "two arms" and not about.findings and not about.earned
    assert any("0000" in example for example in about.stopped.examples)


def test_a_metric_that_never_varies_decides_nothing_and_breaks_nothing(params):
    tables = shop()
    flat = tables["outcomes"].set_column(4, "value", pa.array(np.zeros(len(tables["outcomes"]))))
    made, about = found_in(tables | {"outcomes": flat}, params, metrics=[SPEND, VISITS])
    assert (
        about.decision.action == "not enough evidence"
        and "same for every household" in about.decision.sentence
    )
    report = rounded(attribution_report(about, cohort=made))
    assert (
        report["money"] == []
        and report["lifts"][0]["absolute"] is None
        and report["lifts"][0]["p_value"] is None
    )
    assert "NaN" not in json.dumps(report)


def test_money_is_told_of_the_metric_that_is_money(params):
    tables = shop(effect=6.0)
    _, by_visits = found_in(tables, params, primary="visits")
    _, by_spend = found_in(tables, params)
    assert by_visits.decision.action == "ship" and row(by_visits).net == row(by_spend).net
    assert by_visits.findings[0].metric.name == "spend" and by_visits.triggered[0].lift.metric == "visits"


def test_without_money_the_rule_decides_nothing(params):
    made, about = found_in(shop(effect=6.0), params, metrics=[VISITS], primary="visits")
    assert (
        about.decision.action == "not enough evidence"
        and "No metric of this experiment is money" in about.decision.sentence
    )
    assert attribution_report(about, cohort=made)["money"] == []


def test_without_a_holdout_there_is_no_comparison_with_it(params):
    tables = shop()
    kept = pa.compute.not_equal(tables["assignments"]["arm"], "holdout")
    tables["assignments"] = tables["assignments"].filter(kept)
    _, about = found_in(tables, params, holdout=0.0)
    assert not about.against_holdout and {each.versus.name for each in about.earned} == {"control"}


def test_against_the_holdout_the_rule_is_compared_too(params):
    _, about = found_in(shop(), params)
    assert [each.lift.arm for each in about.against_holdout] == ["control", "champion", "challenger"]
    assert row(about, "control", "holdout").costs.running == 0.0
    assert row(about, "champion", "holdout").costs.offers > row(about, "champion", "control").costs.offers


def test_a_guardrail_that_nobody_measures_is_named(params):
    rails = [params.charter.guardrails[0].model_copy(update={"metric": "visit"})]
    broken = params.model_copy(update={"charter": params.charter.model_copy(update={"guardrails": rails})})
    with pytest.raises(ExperimentError, match="no metric 'visit' is measured, did you mean 'visits'"):
        found_in(shop(), broken)


def test_shares_follow_the_ramp_and_the_holdout_does_not():
    shares = expected_shares(planned(ramp=0.5))
    assert shares == pytest.approx({"control": 0.18, "champion": 0.18, "challenger": 0.09, "holdout": 0.1})


def test_a_proposed_rule_costs_no_model(params):
    made, given = given_for(shop(), planned(), params)
    about = attributed(made, replace(given, proposed="rule"))
    assert row(about).costs.running == 0.0 and row(about, "challenger").costs.running > 0


def test_the_money_is_told_from_those_who_could_differ(params):
    _, about = found_in(shop(spread=40.0), params, replayed=True)
    [among] = [each for each in about.triggered if each.arm == "champion"]
    lift = next(each.lift for each in about.findings if each.lift.arm == "champion")
    assert among.diluted.high - among.diluted.low < lift.absolute.high - lift.absolute.low
    told, plain = row(about), row(about).everybody
    assert told.per_month.high - told.per_month.low < plain.high - plain.low
    assert told.incremental_revenue.value == pytest.approx(among.diluted.value * told.arm.units)
    assert about.sight.mde < about.sight.mde_everybody


def test_later_lists_may_rest_on_what_earlier_ones_changed_so_that_real_money_is_told_from_everybody(params):
    _, about = found_in(shop(spread=40.0), params)
    assert row(about).everybody is None
    _, single = found_in(shop(spread=40.0, weeks=1), params)
    assert row(single).everybody is not None


def test_the_money_is_told_from_everybody_where_the_draw_among_them_is_not_fair(params):
    tables = shop(spread=40.0)
    arm = dict(zip(tables["assignments"]["unit"].to_pylist(), tables["assignments"]["arm"].to_pylist()))
    kept = [
        arm[unit] != "champion" or int(unit) % 4 == 0 for unit in tables["predictions"]["unit"].to_pylist()
    ]
    thinned = tables | {"predictions": tables["predictions"].filter(pa.array(kept))}
    _, about = found_in(thinned, params, replayed=True)
    assert row(about).everybody is None
    plain = next(each.lift for each in about.findings if each.lift.arm == "champion")
    assert row(about).incremental_revenue.value == pytest.approx(plain.total.value)


def test_segments_keep_their_order_and_share_the_error(params):
    made, about = found_in(shop(), params)
    by_usual = about.segments[0].interaction
    assert [level.name for level in by_usual.levels] == list(made.levels["usual"]) and len(
        about.segments
    ) == 4
    assert all(each.p_adjusted >= each.interaction.p_value for each in about.segments)


def test_the_course_ends_at_the_lift_of_the_whole_horizon(params):
    tables = shop(effect=6.0)
    made, about = found_in(tables, params)
    [course] = courses(tables, made, arms=["champion"])
    lift = next(each.lift for each in about.findings if each.lift.arm == "champion")
    assert course.points[-1].day == 28
    assert course.points[-1].absolute.value == pytest.approx(lift.absolute.value, rel=1e-6)
    assert course.points[-1].absolute.low == pytest.approx(lift.absolute.low, rel=1e-6)
    assert course.novelty.p_value > 0


def test_policies_are_valued_and_an_unlisted_unit_is_never_acted_on(params):
    tables = shop(effect=0.0)
    made, given = given_for(tables, planned(), params)
    laid = listings(made.units, said(tables, "shop"), planned(), params.charter, weeks=2)
    acted = np.array(made.units["exposed"])
    assert (laid.rows.action == acted).all() and not laid.rows.action[laid.rows.chance == 0].any()
    labels = {arm.policy: given.labels[arm.name] for arm in given.experiment.arms}
    about = targeted(
        laid,
        planned(),
        params.charter,
        labels=labels,
        models=given.models,
        sizes=[100, 200],
        resamples=50,
        seed=1,
    )
    assert {each.found.method for each in about.values} == {"ips", "snips", "dr"} and len(about.values) == 9
    assert about.against_rule.low < about.against_rule.value < about.against_rule.high
    assert "XGBoost instead of the rule" in about.sentence


def test_two_arms_with_one_policy_are_told_apart():
    arms = [ARMS[0], ARMS[1] | {"policy": "xgb"}, ARMS[2] | {"policy": "proposed"}]
    labels = labels_of(planned(arms=arms), EVALUATION)
    assert labels["champion"] == "XGBoost (champion)" and labels["challenger"] == "XGBoost (challenger)"
    assert labels_of(planned(), None)["champion"] == "The proposed model"


def test_promises_hold_against_the_rule_only():
    assert promises_of(planned(), EVALUATION) == {"champion": Interval(90.0, 20.0, 160.0)}
    assert promises_of(planned(control="challenger"), EVALUATION) == {} and promises_of(planned(), None) == {}


def test_the_truth_of_a_replay_is_held_against_the_interval(params):
    made, about = found_in(shop(effect=6.0), params)
    replay = {
        "declared": {"sentence": "Declared: six dollars."},
        "truth": {"champion": {"spend_per_unit": 6.0, "total": 4000.0}, "challenger": {"spend_per_unit": 60.0, "total": 1.0}},
    }  # fmt: skip
    rows = truth_rows(about, replay)
    assert [each["covered"] for each in rows] == [True, False] and "the interval holds it" in rows[0][
        "sentence"
    ]
    heading = attribution_report(about, cohort=made, replay=replay)["experiment"]
    assert heading["replayed"] and heading["declared"] == "Declared: six dollars."
    assert truth_rows(about, None) == []


def test_the_report_is_plain_whole_and_agrees_with_itself(params):
    tables = shop(effect=6.0)
    made, about = found_in(tables, params, looks=7)
    report = rounded(attribution_report(about, cohort=made, courses=courses(tables, made, arms=["champion"])))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    first = report["lifts"][0]
    assert first["primary"] and first["metric"] == "spend" and first["capped"]["cap"] > 0
    assert (first["verdict"] == "higher") == (first["absolute"]["low"] > 0) == (first["p_value"] < 0.05)
    assert {each["arm"] for each in report["decisions"]} == {"champion", "challenger"}
    assert report["decision"]["interval"] == "sequential" and "sequential" in report["decision"]["rule"]
    assert report["arms"][3] == {
        "name": "holdout", "label": "Nobody treated", "policy": "none", "units": made.units["arm"].to_pylist().count("holdout"),
        "exposed_units": 0, "exposures": 0, "cost": 0.0,
    }  # fmt: skip
    assert sum(each["units"] for each in report["arms"]) == len(made.units)
    assert report["weeks"] == 2.0 and all(each["text"].endswith(".") for each in report["assumptions"])


def test_records_without_a_frozen_design_are_not_called_replayed():
    assert not is_replayed(shop(), "shop")
