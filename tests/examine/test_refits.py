"""Refits: the same model again, and what it would be with fewer units, with age, without some features."""

import signal
import time

import numpy as np
import pandas as pd
import pytest

from ml_workbench.examine.refits import TREES, basis_of, figure, lighter, recipe_of, refit, standing_of_all
from ml_workbench.examine.what_if import (
    FamilyWorth,
    LearningPoint,
    StalenessPoint,
    ablation,
    ablation_sentence,
    learning_curve,
    learning_sentence,
    staleness_curve,
    staleness_sentence,
    window,
)
from ml_workbench.model.candidates import RULE, candidate_named, fit_candidate, fit_ladder, training_report
from ml_workbench.model.metrics import Interval
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.charter import Charter
from ml_workbench.plan.errors import TrainingError
from ml_workbench.plan.params import TrainParams

FEATURES = {"days": "recency", "weekly": "money", "noise": "weather", "noise_too": "weather"}
SCHEMA = Schema(
    "member", "as_of", "slice", "left", "spend", 28, "weekly",
    tuple(Feature(name, "number", family) for name, family in FEATURES.items()),
)  # fmt: skip
SETTINGS = {
    "logistic_regression": {},
    "xgboost": {"rounds": 120, "patience": 8, "learning_rate": 0.2, "max_depth": 2},
    "random_forest": {"n_estimators": 60, "max_features": 0.5},
    "mlp": {"epochs": 12, "patience": 2},
}


def training(*candidates: str, threads: int = 1) -> TrainParams:
    return TrainParams(
        seed=3, candidates=list(candidates), withheld_families=[], use_tuned=False, settings={}, calibration="sigmoid",
        spend=["naive"], threads=threads,
    )  # fmt: skip


def charter(**changes) -> Charter:
    rate = {"value": 0.2, "low": 0.1, "high": 0.3, "status": "assumption", "source": "a guess"}
    economics = {
        "gross_margin": 0.3, "offer_cost": 1.0, "value_weeks": 12, "cooldown_days": 14, "running_cost_per_week": 2.0,
        "save_rate": rate,
    }  # fmt: skip
    return Charter.model_validate(
        {
            **dict.fromkeys(("title", "decision", "action", "kpi", "decision_rule", "owner"), "…"),
            **{"unit": "member", "unit_plural": "members", "currency": "USD", "capacity_per_week": 20},
            **{"economics": economics, "minimum_lift_per_week": 25.0, "guardrails": []},
            "baseline": {"feature": "days", "order": "descending", "meaning": "the longest away"},
            "edge": {"maximum_size_kb": 64.0, "maximum_latency_ms": 0.1, "maximum_loss_per_week": 15.0},
            **{"review_date": "2024-07-01", **changes},
        }
    )


def members(units: int = 150, weeks: int = 16, *, turn: int = 0, seed: int = 1) -> dict[str, pd.DataFrame]:
    "Weekly snapshots in slices of 8, 2 and 3; before week `turn` the days mean the opposite."
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {"member": np.tile(np.arange(units), weeks), "week": np.repeat(np.arange(weeks), units)}
    )
    rows["as_of"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(7 * rows["week"], unit="D")
    rows["days"] = random.gamma(2, 10, len(rows)).astype(np.float32)
    rows["weekly"] = random.gamma(4, 20, len(rows)).astype(np.float32)
    rows["noise"], rows["noise_too"] = random.normal(size=(2, len(rows))).astype(np.float32)
    sign = np.where(rows["week"] < turn, -1, 1)
    rows["left"] = (random.random(len(rows)) < 1 / (1 + np.exp(1.5 - sign * (rows["days"] - 20) / 5))).astype(
        int
    )
    places = {"train": (0, 8), "validation": (9, 11), "test": (13, 16)}
    return {
        name: rows[rows["week"].between(*edges, inclusive="left")].assign(slice=name).reset_index(drop=True)
        for name, edges in places.items()
    }


def trained(slices: dict[str, pd.DataFrame], *names: str, threads: int = 1):
    "What the train stage would report, its predictions of the test slice, and its parameters."
    params = training(*names, threads=threads)
    known = {"train": slices["train"], "validation": slices["validation"]}
    ladder = fit_ladder(
        [candidate_named(name) for name in names], SCHEMA, params, **known,
        settings={name: SETTINGS.get(name, {}) for name in names},
    )  # fmt: skip
    predicted = {each.candidate.name: each.probability(slices["test"]) for each in ladder.fitted}
    return training_report(ladder, SCHEMA, slices["validation"]), predicted, params


def basis(
    slices: dict[str, pd.DataFrame],
    name: str = "logistic_regression",
    *others: str,
    threads: int = 1,
    **changes,
):
    report, _, params = trained(slices, *others, name, threads=threads)
    recipe = lighter(recipe_of(report, name, params))
    return basis_of(recipe, SCHEMA, charter(**changes), slices["test"], resamples=200, seed=5)


def known(slices: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    return slices["train"], slices["validation"]


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost", "random_forest", "mlp"])
def test_a_refit_by_the_training_report_is_the_model_that_was_trained(name):
    slices = members()
    report, predicted, params = trained(slices, name)
    recipe = recipe_of(report, name, params)
    again = refit(recipe, SCHEMA, train=slices["train"], validation=slices["validation"])
    assert np.allclose(again.probability(slices["test"]), predicted[name], atol=1e-7)


def test_a_refit_never_stops_early_whatever_the_later_rows_say():
    slices = members()
    report, _, params = trained(slices, "xgboost")
    recipe, stopped = recipe_of(report, "xgboost", params), report["candidates"][0]["rounds"]
    assert 1 < stopped < 120 and recipe.settings["xgboost"]["rounds"] == stopped
    upside_down = slices["validation"].assign(left=1 - slices["validation"]["left"])
    again = refit(recipe, SCHEMA, train=slices["train"], validation=upside_down)
    assert again.rounds == stopped


def test_an_ensemble_is_refitted_with_its_members_and_a_lighter_one_with_small_forests():
    slices, names = members(), ("logistic_regression", "random_forest", "averaging")
    report, predicted, params = trained(slices, *names)
    recipe = recipe_of(report, "averaging", params)
    assert list(recipe.settings) == list(names)
    again = refit(recipe, SCHEMA, train=slices["train"], validation=slices["validation"])
    assert np.allclose(again.probability(slices["test"]), predicted["averaging"], atol=1e-7)
    assert lighter(recipe).settings["random_forest"]["n_estimators"] == TREES
    alone = recipe_of(report, "random_forest", params)
    assert lighter(alone) == alone


def test_what_was_not_trained_cannot_be_refitted():
    report, _, params = trained(members(), "xgboost")
    with pytest.raises(TrainingError, match="no candidate 'xgbost', did you mean 'xgboost'"):
        recipe_of(report, "xgbost", params)
    with pytest.raises(TrainingError, match=f"no candidate '{RULE}'"):
        recipe_of(report, RULE, params)


def test_seeds_are_tried_only_where_they_matter():
    slices = members()
    assert len(standing_of_all(basis(slices), *known(slices)).lucks) == 1
    boosted = standing_of_all(basis(slices, "xgboost"), *known(slices))
    assert len(boosted.lucks) == 3 and len(set(boosted.profit[:, 0])) > 1
    averaged = standing_of_all(basis(slices, "averaging", "logistic_regression", "xgboost"), *known(slices))
    assert len(averaged.lucks) == 1


def test_the_figure_is_the_mean_of_the_seeds_and_its_interval_holds_their_luck():
    random = np.random.default_rng(0)
    units = random.normal(0, 1, 401)
    lucky = np.stack([units + shift for shift in (-30.0, 0.0, 30.0)])
    found = figure(lucky)
    assert found.value == pytest.approx(units[0]) and found.low < -25 and found.high > 25
    assert figure(lucky, minus=lucky) == Interval(0.0, 0.0, 0.0)
    one = figure(units[None])
    assert -3 < one.low < one.high < 3


def test_side_by_side_and_one_after_another_find_the_same():
    slices = members(units=80)
    alone = standing_of_all(basis(slices, "xgboost"), *known(slices))
    together = standing_of_all(basis(slices, "xgboost", threads=2), *known(slices))
    for one, other in zip(vars(alone).values(), vars(together).values()):
        assert np.array_equal(one, other)


def test_the_learning_curve_ends_with_all_units_and_contains_what_came_before():
    slices = members()
    case = basis(slices)
    whole = standing_of_all(case, *known(slices))
    points = learning_curve(case, *known(slices), [1.0, 0.2, 0.6], whole=whole, seed=4)
    assert [point.share for point in points] == [0.2, 0.6, 1.0]
    units = [point.units for point in points]
    assert 15 < units[0] < 50 < units[1] < 120 < units[2] == 150
    assert [point.rows for point in points] == [8 * each for each in units]
    assert points[0].gain_per_week is None
    steps = sum(point.gain_per_week.value for point in points[1:])
    first, last = points[0].profit_per_week, points[-1].profit_per_week
    assert last.value == whole.profit[0, 0] and steps == pytest.approx(last.value - first.value)
    other = learning_curve(case, *known(slices), [0.2, 1.0], whole=whole, seed=4)[0]
    assert other == points[0]


def test_too_small_a_share_is_refused_by_its_name():
    slices = members(units=40)
    case = basis(slices)
    whole = standing_of_all(case, *known(slices))
    with pytest.raises(
        TrainingError, match=r"learning_shares: 0.001 of the units have .* use a larger share"
    ):
        learning_curve(case, *known(slices), [0.001, 1.0], whole=whole)


def test_windows_have_one_length_and_end_earlier_and_earlier():
    train = members(units=5)["train"]
    weeks = [sorted(window(train, SCHEMA, age, 3)["week"].unique()) for age in (0, 2, 5)]
    assert weeks == [[5, 6, 7], [3, 4, 5], [0, 1, 2]]
    with pytest.raises(
        TrainingError, match=r"6 weeks before the end .* are 2 as-of dates and staleness_window asks for 3"
    ):
        window(train, SCHEMA, 6, 3)


def test_a_model_of_then_knows_nothing_that_came_later():
    slices = members()
    case = basis(slices)
    old = staleness_curve(case, slices["train"], [0, 3], 4)[1]
    later = slices["train"].copy()
    later.loc[later["week"] > 4, "left"] = 1 - later["left"]
    changed = staleness_curve(case, later, [0, 3], 4)[1]
    assert (old.profit_per_week, old.auc) == (changed.profit_per_week, changed.auc)
    assert (old.first, old.last) == ("2024-01-08 00:00:00", "2024-01-29 00:00:00")


def test_where_the_world_has_turned_an_older_model_loses_money_beyond_doubt():
    slices = members(turn=4)
    fresh, old = staleness_curve(basis(slices), slices["train"], [4, 0], 4)
    assert fresh.weeks == 0 and fresh.loss_per_week == Interval(0.0, 0.0, 0.0)
    assert old.loss_per_week.low > 0 and old.auc.value < 0.5 < fresh.auc.value
    assert staleness_sentence((fresh, old), charter()).endswith("retrain before it is that old.")


def test_the_family_that_matters_earns_its_keep_and_noise_does_not():
    slices = members()
    case = basis(slices, minimum_lift_per_week=150.0)
    found = ablation(case, *known(slices), whole=standing_of_all(case, *known(slices)))
    verdicts = {each.family: each.earns_its_keep for each in found}
    assert verdicts == {"recency": True, "money": False, "weather": False}
    assert found[0].family == "recency" and {each.family: each.features for each in found}["weather"] == 2
    assert found[0].average_precision_lost.low > 0


def test_with_one_family_there_is_nothing_to_leave_out():
    slices = members(units=40)
    case = basis(slices)
    one = basis_of(
        case.recipe, Schema(**{**vars(SCHEMA), "features": SCHEMA.features[:1]}), charter(), slices["test"]
    )
    assert ablation(one, *known(slices), whole=None) == ()
    assert "nothing to leave out" in ablation_sentence((), charter())


def learnt(step: Interval) -> str:
    none = Interval(0.0, 0.0, 0.0)
    points = (
        LearningPoint(0.5, 50, 400, none, none, none, None),
        LearningPoint(1.0, 100, 800, none, none, none, step),
    )
    return learning_sentence(points, charter())


def test_whether_more_data_is_worth_it_follows_from_the_last_step():
    worth = learnt(Interval(9.0, 2.0, 15.0))
    assert worth == (
        "Learning from 100 members instead of 50 earned $9 a week more, between +$2 and +$15: more data is worth having."
    )
    assert "hardly add the $25 a week" in learnt(Interval(-3.0, -9.0, 15.0))
    assert learnt(Interval(3.0, -9.0, 40.0)).endswith("cannot tell yet.")
    assert "earned $3 a week less, between −$9 and +$15" in learnt(Interval(-3.0, -9.0, 15.0))


def aged(loss: Interval, *weeks: int) -> str:
    none = Interval(0.0, 0.0, 0.0)
    points = [StalenessPoint(each, "", "", 1, none, none, loss) for each in weeks or (0, 4, 8)]
    return staleness_sentence(points, charter())


def test_a_week_is_a_week_and_a_single_point_is_no_comparison():
    change = Interval(12.0, 3.0, 30.0)
    assert aged(change, 2, 3).startswith("A model that is 1 week older earns")
    assert "nothing to compare it with" in aged(change, 2)
    none = Interval(0.0, 0.0, 0.0)
    alone = learning_sentence([LearningPoint(1.0, 9, 9, none, none, none, None)], charter())
    assert "nothing to compare it with" in alone


def test_what_age_costs_is_said_with_its_interval_or_left_open():
    assert aged(Interval(12.0, 3.0, 30.0)).startswith(
        "A model that is 8 weeks older earns $12 a week less, between −$30 and −$3: retrain"
    )
    assert "age does not cost the $25 a week" in aged(Interval(2.0, -5.0, 20.0))
    assert aged(Interval(2.0, -5.0, 30.0)).endswith("cannot tell yet.")


def test_the_families_are_told_apart_by_their_verdicts():
    none = Interval(0.0, 0.0, 0.0)
    found = [
        FamilyWorth(name, 1, none, none, verdict)
        for name, verdict in (("recency", True), ("slow_habits", False), ("money", False), ("brands", None))
    ]
    told = ablation_sentence(found, charter())
    assert (
        "beyond doubt: recency." in told and "one of slow habits and money would cost less than $25" in told
    )
    assert "About brands these weeks cannot tell yet." in told
    assert "no family alone" in ablation_sentence(found[1:], charter())


def test_a_refit_reports_a_slice_with_one_outcome():
    slices = members(units=30)
    report, _, params = trained(slices, "logistic_regression")
    alike = slices["train"].assign(left=0)
    with pytest.raises(TrainingError, match="is 0 in every row"):
        refit(
            recipe_of(report, "logistic_regression", params),
            SCHEMA,
            train=alike,
            validation=slices["validation"],
        )


def test_fixed_settings_fit_what_the_candidate_allows():
    slices = members(units=40)
    report, _, params = trained(slices, "mlp")
    settings = recipe_of(report, "mlp", params).settings["mlp"]
    assert settings["epochs"] == report["candidates"][0]["rounds"] and settings["patience"] == 0
    fitted = fit_candidate(
        candidate_named("mlp"),
        SCHEMA,
        params,
        train=slices["train"],
        validation=slices["validation"],
        settings=settings,
    )
    assert fitted.probability(slices["test"]).shape == (len(slices["test"]),)


def test_workers_end_with_the_process_that_asked_for_them(run_python):
    code = (
        "import os, signal, threading, time\n"
        "from sklearn.utils.parallel import Parallel, delayed\n"
        "from ml_workbench.examine.refits import _leave_with\n"
        "workers = Parallel(2, initializer=_leave_with, initargs=(os.getpid(),))\n"
        "print(*set(workers(delayed(os.getpid)() for _ in range(4))), flush=True)\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        "workers(delayed(time.sleep)(30) for _ in range(2))\n"
    )
    started = time.monotonic()
    done = run_python("-c", code)  # returns when nobody holds its output any more
    assert done.returncode == -signal.SIGKILL and done.stdout.strip()
    assert time.monotonic() - started < 25
