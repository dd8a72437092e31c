"""A search finds what it finds: in one process or several, straight through or killed and resumed."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from ml_workbench.model.bench import FoldScore, NoScore, bench_of, fold_score, objective_named, weekly_profit
from ml_workbench.model.candidates import LADDER, Candidate
from ml_workbench.model.searches import (
    Search,
    best_of,
    considered,
    importance_of,
    jobs_ahead,
    learn,
    next_job,
    take,
)
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.model.tuning import attempts_table, gains_table, settings_table, tune
from ml_workbench.plan.errors import TrainingError, WorkbenchError
from ml_workbench.plan.params import TuneParams, load_params

PARAMS = load_params(Path(__file__).resolve().parents[2])
KINDS = {"days": "number", "weekly": "number", "town": "category"}
SCHEMA = Schema(
    "member", "as_of", "slice", "left", "spend", 28, "weekly",
    tuple(Feature(name, kind, name) for name, kind in KINDS.items()),
)  # fmt: skip
SPACES = {
    "logistic_regression": {"C": {"low": 0.001, "high": 10.0, "log": True}},
    "xgboost": {"max_depth": {"low": 1, "high": 6}, "learning_rate": {"low": 0.03, "high": 0.3, "log": True}},
}


def members(units: int = 150, *, seed: int = 1) -> pd.DataFrame:
    random, mondays = np.random.default_rng(seed), pd.date_range("2024-01-01", periods=15, freq="7D")
    rows = pd.DataFrame(
        [(who, when) for when in mondays for who in range(units)], columns=["member", "as_of"]
    )
    days, weekly = random.exponential(20, len(rows)), random.exponential(40, len(rows))
    rows = rows.assign(days=days.astype("float32"), weekly=weekly.astype("float32"))
    rows["town"] = random.choice(["Arles", "Bath"], len(rows))
    left = random.random(len(rows)) < 1 / (1 + np.exp(3 - rows["days"] / 12))
    return rows.assign(slice="train", left=left.astype(int))


def budget(**changes) -> TuneParams:
    given = {
        "seed": 7, "candidates": list(SPACES), "sampler": "tpe", "objective": "log_loss", "trials": 5, "minutes": 5.0,
        "patience": 99, "pruning": True, "folds": 2, "fold_weeks": 2, "unit_groups": 3, "workers": 1, "spaces": SPACES,
    }  # fmt: skip
    return TuneParams.model_validate(given | changes)


def bench(**changes):
    return bench_of(members(), SCHEMA, PARAMS.charter, tune=budget(**changes), train=PARAMS.train)


def run_to_the_end(folder: str) -> None:
    "What the process does that is killed: two workers, a line after every trial."
    tune(bench(), budget(workers=2), folder=folder, say=lambda line: print(line, flush=True))


# A candidate whose loss can be written down: lowest at a rate of .1, a little different on every fold.
TREES = Candidate("trees", "Trees", 5, print, {"rate": 0.5, "depth": 2})
SPACE = {"rate": {"low": 0.01, "high": 1.0, "log": True}, "depth": {"low": 1, "high": 4}}


def loss_of(job) -> FoldScore | NoScore:
    loss = (
        0.3 + np.log10(job.settings["rate"] / 0.1) ** 2 / 10 + job.fold / 100 + 0.001 * job.settings["depth"]
    )
    return FoldScore(float(loss), float(100 - 100 * loss))


def searched(folder: Path, *, most: int = 999, answer=loss_of, **changes) -> Search:
    params = budget(
        **{"trials": 20, "folds": 3, "candidates": ["trees"], "spaces": {"trees": SPACE}} | changes
    )
    stage = replace(bench(), folds=(1, 2, 3), objective=params.objective)
    search = Search(stage, TREES, params, folder)
    while most and (job := next_job(search)):
        learn(search, answer(job))
        most -= 1
    return search


# One fold


def test_a_fold_is_judged_on_rows_that_neither_learning_nor_stopping_nor_calibration_has_seen():
    stage = bench(objective="auc")
    labels, judged = stage.rows["left"].copy(), stage.folds[0].validation
    labels.iloc[judged] = 1 - labels.iloc[judged]
    mirrored = replace(stage, rows=stage.rows.assign(left=labels))
    for name in SPACES:
        plain, other = (fold_score(each, name, {}, 0) for each in (stage, mirrored))
        assert plain.value > 0.7 and other.value == pytest.approx(1 - plain.value)


def test_the_weekly_profit_of_a_part_of_the_units_is_told_for_all():
    rows, charter = members(), PARAMS.charter.model_copy(update={"capacity_per_week": 30})
    rows["weekly"] = np.float32(40.0)
    chance = rows["days"].to_numpy() / 100
    whole = weekly_profit(rows, chance, SCHEMA, charter, share=1.0)
    third = rows["member"] % 3 == 0
    part = weekly_profit(rows[third].reset_index(drop=True), chance[third], SCHEMA, charter, share=1 / 3)
    running = charter.economics.running_cost_per_week
    assert part + running == pytest.approx(whole + running, rel=0.25) and whole + running > 20


@pytest.mark.parametrize("name", ["log_loss", "average_precision", "auc", "profit"])
def test_every_objective_can_be_searched_by(name, tmp_path):
    params = budget(objective=name, trials=2, candidates=["logistic_regression"])
    tuning = tune(bench(objective=name, candidates=["logistic_regression"]), params, folder=tmp_path, say=str)
    found = tuning.found[0]
    assert not objective_named(name).better(found.default_value, found.value)
    if name == "profit":
        assert found.value == found.profit_per_week


# One search


def test_the_first_trial_is_the_candidate_as_it_is_and_the_search_finds_better(tmp_path):
    search = searched(tmp_path)
    assert search.attempts[0].settings == {"rate": 0.5, "depth": 2}
    best = best_of(search)
    assert 0.05 < best.settings["rate"] < 0.2 and best.value < search.attempts[0].value
    assert len(search.attempts) == 20 and considered(search)[1] == "trials"
    assert all(
        type(each.settings["depth"]) is int and 1 <= each.settings["depth"] <= 4 for each in search.attempts
    )


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
@pytest.mark.parametrize("most", [1, 7, 20])
def test_a_search_taken_up_again_goes_on_as_if_never_stopped(sampler, most, tmp_path):
    whole = searched(tmp_path / "whole", sampler=sampler)
    begun = searched(tmp_path / "parts", sampler=sampler, most=most)
    assert len(begun.attempts) < len(whole.attempts)
    assert searched(tmp_path / "parts", sampler=sampler).attempts == whole.attempts


def test_folds_of_an_interrupted_trial_are_not_fitted_again(tmp_path):
    searched(tmp_path, most=2)
    asked = []
    searched(tmp_path, most=1, answer=lambda job: asked.append(job) or loss_of(job))
    assert [(job.settings, job.fold) for job in asked] == [({"rate": 0.5, "depth": 2}, 2)]


def test_a_search_that_is_over_asks_for_nothing(tmp_path):
    once = searched(tmp_path)
    again = searched(tmp_path, answer=lambda job: pytest.fail(f"asked for {job}"))
    assert again.attempts == once.attempts


def test_more_trials_go_on_and_fewer_give_what_fewer_would_have_given(tmp_path):
    few, many = searched(tmp_path / "few", trials=8), searched(tmp_path / "many")
    assert considered(searched(tmp_path / "many", trials=8, most=0))[0] == few.attempts
    assert searched(tmp_path / "few").attempts == many.attempts


@pytest.mark.parametrize("cut", [1, 40])
def test_half_a_line_left_by_a_killed_process_is_no_obstacle(cut, tmp_path):
    whole, begun = searched(tmp_path / "whole"), searched(tmp_path / "parts", most=12)
    begun.path.write_bytes(begun.path.read_bytes()[:-cut])
    assert searched(tmp_path / "parts").attempts == whole.attempts


def test_a_damaged_journal_is_named(tmp_path):
    path = searched(tmp_path, most=12).path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], b"garbage\n", *lines[5:]]))
    with pytest.raises(WorkbenchError, match=rf"{path.name} is damaged .* delete it"):
        searched(tmp_path)


def test_another_seed_space_or_objective_is_another_study(tmp_path):
    paths = {searched(tmp_path, most=0, **change).path for change in
             ({}, {"seed": 8}, {"objective": "auc"}, {"sampler": "random"}, {"spaces": {"trees": {"rate": SPACE["rate"]}}})}  # fmt: skip
    assert len(paths) == 5
    assert searched(tmp_path, most=0, trials=3, patience=2, minutes=1.0, workers=2).path in paths


def test_patience_stops_a_search_that_finds_nothing_better(tmp_path):
    search = searched(tmp_path, patience=4, pruning=False, answer=lambda job: FoldScore(0.3, 0.0))
    assert len(search.attempts) == 5 and considered(search)[1] == "patience"
    assert best_of(search) is search.attempts[0]


def test_poor_trials_are_given_up_early_whatever_the_difficulty_of_folds(tmp_path):
    pruned = searched(tmp_path / "pruned", sampler="random")
    given_up = [each for each in pruned.attempts if not each.complete]
    assert given_up and all(len(each.scores) < 3 for each in given_up)
    whole = searched(tmp_path / "whole", sampler="random", pruning=False)
    assert all(each.complete for each in whole.attempts)
    assert [each.settings for each in whole.attempts] == [each.settings for each in pruned.attempts]
    assert best_of(pruned) == best_of(whole)


def test_a_grid_is_searched_once_and_choices_may_be_lists(tmp_path):
    candidate = replace(TREES, defaults={"layers": [8], "depth": 2})
    space = {"layers": {"choices": [[8], [16, 8]]}, "depth": {"low": 1, "high": 3}}
    params = budget(sampler="grid", trials=50, candidates=["trees"], spaces={"trees": space})
    search = Search(replace(bench(), folds=(1, 2)), candidate, params, tmp_path)
    while job := next_job(search):
        learn(search, FoldScore(len(job.settings["layers"]) + job.settings["depth"], 0.0))
    tried = [each.settings for each in search.attempts]
    assert len(tried) == 6 and tried[0] == {"layers": [8], "depth": 2}
    assert best_of(search).settings == {"layers": [8], "depth": 1} and considered(search)[1] == "trials"


def test_folds_that_are_fitted_before_their_turn_change_nothing(tmp_path):
    whole, params = searched(tmp_path / "whole"), budget(trials=20, folds=3, spaces={"trees": SPACE})
    search = Search(replace(bench(), folds=(1, 2, 3)), TREES, params, tmp_path / "ahead")
    while jobs := jobs_ahead(search):
        for job in reversed(jobs):
            take(search, job, loss_of(job))
    assert search.attempts == whole.attempts
    assert any(not each.complete for each in whole.attempts)  # some folds were fitted for nothing


def test_settings_that_are_proposed_again_are_not_fitted_again(tmp_path):
    space, asked = {"depth": {"low": 1, "high": 3}}, []
    params = budget(sampler="random", trials=15, candidates=["trees"], spaces={"trees": space}, pruning=False)
    search = Search(replace(bench(), folds=(1,)), TREES, params, tmp_path)
    while job := next_job(search):
        asked.append(job.settings["depth"])
        learn(search, FoldScore(job.settings["depth"] / 10, 0.0))
    assert len(asked) == len(set(asked)) == 3 and len(search.attempts) == 15


def test_what_mattered_is_what_the_loss_depends_on(tmp_path):
    shares = importance_of(searched(tmp_path, trials=40, pruning=False))
    assert list(shares) == ["rate", "depth"] and shares["rate"] > 0.7
    assert sum(shares.values()) == pytest.approx(1)
    assert importance_of(searched(tmp_path, trials=5, pruning=False)) is None


# All candidates


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    "Tuned straight through, in this process."
    return tune(bench(), budget(), folder=tmp_path_factory.mktemp("straight"), say=str)


def test_a_search_killed_at_any_point_finds_the_same_when_resumed_and_leaves_no_process(straight, tmp_path):
    code = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('other', sys.argv[1]); m = u.module_from_spec(s);"
        "s.loader.exec_module(m); m.run_to_the_end(sys.argv[2])"
    )
    command = [sys.executable, "-c", code, __file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(4):
            assert "/5: " in process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    assert len(children) >= 2 and not psutil.wait_procs(children, timeout=20)[1]
    lines = []
    resumed = tune(bench(), budget(), folder=tmp_path, say=lines.append)
    assert resumed.as_json() == straight.as_json()
    assert [each.attempts for each in resumed.found] == [each.attempts for each in straight.found]
    assert any("of 5 trials were made before" in line for line in lines)


def test_more_workers_than_candidates_find_what_one_worker_finds(straight, tmp_path):
    alone = {"candidates": ["xgboost"]}
    tuning = tune(bench(**alone), budget(workers=2, **alone), folder=tmp_path, say=str)
    assert tuning.found[0].attempts == straight.found[1].attempts


def test_a_candidate_that_fails_is_reported_and_the_others_go_on(tmp_path):
    def fails(*_, **__):
        raise ValueError("singular matrix")

    stage = bench()
    broken = replace(stage.candidates["xgboost"], build=fails)
    stage = replace(stage, candidates=dict(stage.candidates) | {"xgboost": broken})
    lines = []
    tuning = tune(stage, budget(trials=3), folder=tmp_path, say=lines.append)
    assert [each.name for each in tuning.found] == ["logistic_regression"]
    assert tuning.untuned[0].reason == "fold 1: singular matrix"
    assert "XGBoost was not tuned: fold 1: singular matrix" in tuning.notes
    assert tuning.as_json()["failed"][0]["name"] == "xgboost"
    assert sum("failed (fold 1: singular matrix)" in line for line in lines) == 1


def test_settings_with_which_a_candidate_fails_only_lose(tmp_path):
    stage = bench(candidates=["logistic_regression"])
    build = LADDER["logistic_regression"].build

    def fails_for_some(signature, settings, **options):
        if settings["C"] > 0.5:
            raise FloatingPointError("too large")
        return build(signature, settings, **options)

    candidate = replace(LADDER["logistic_regression"], build=fails_for_some)
    params = budget(candidates=["logistic_regression"], sampler="random", trials=6, pruning=False)
    tuning = tune(
        replace(stage, candidates={"logistic_regression": candidate}), params, folder=tmp_path, say=str
    )
    assert 0 < tuning.found[0].failed < 6 and tuning.found[0].trials == 6


def test_when_nothing_can_be_tuned_the_reason_is_said(tmp_path):
    stage = bench(candidates=["logistic_regression"])
    useless = replace(stage.candidates["logistic_regression"], build=lambda *_, **__: None)
    stage = replace(stage, candidates={"logistic_regression": useless})
    with pytest.raises(
        TrainingError, match="nothing could be tuned: Logistic regression: fold 1: 'NoneType'"
    ):
        tune(stage, budget(candidates=["logistic_regression"]), folder=tmp_path, say=str)


def test_when_the_minutes_are_over_what_was_left_out_is_said_and_the_next_run_goes_on(straight, tmp_path):
    short = budget(minutes=1e-6)
    with pytest.raises(TrainingError, match="minutes were over before a trial was complete"):
        tune(bench(), short, folder=tmp_path, say=str)
    tune(bench(), budget(trials=2), folder=tmp_path, say=str)
    tuning = tune(bench(), short, folder=tmp_path, say=str)
    assert {each.stopped for each in tuning.found} == {"minutes"}
    assert any(note.startswith("XGBoost: the 1e-06 minutes were over after 2 of 5") for note in tuning.notes)
    assert tune(bench(), budget(), folder=tmp_path, say=str).as_json() == straight.as_json()


def test_progress_is_told_in_money(tmp_path):
    lines = []
    tune(bench(), budget(), folder=tmp_path, say=lines.append)
    assert len(lines) == 10 and lines[0].split(": ")[0] in ("XGBoost 1/5", "Logistic regression 1/5")
    assert all("log loss" in line or "given up" in line for line in lines)
    assert any("own settings" in line for line in lines[2:])


def test_what_is_kept_is_plain_and_what_training_reads(straight):
    kept = json.loads(json.dumps(straight.as_json()))
    assert kept["fingerprint"].count("-") == 2 and len(kept["folds"]) == 2
    for name, each in kept["candidates"].items():
        assert set(each["settings"]) == set(SPACES[name])
        assert each["value"] <= each["default_value"] and each["trials"] == 5 and each["stopped"] == "trials"
    assert type(kept["candidates"]["xgboost"]["settings"]["max_depth"]) is int


def test_the_tables_say_the_same_as_the_report(straight):
    gains, attempts = gains_table(straight), attempts_table(straight)
    assert gains["candidate"].tolist() == ["Logistic regression", "XGBoost"]
    last = attempts.groupby("candidate")["best"].last()
    assert last.to_dict() == {each.label: pytest.approx(each.value) for each in straight.found}
    settings = settings_table(straight).set_index(["candidate", "parameter"])
    assert settings.loc[("XGBoost", "max_depth"), "best"] == straight.found[1].settings["max_depth"]
    assert settings["share"].isna().all()  # five trials are too few to tell


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": ["xgbost"]}, "tune.candidates: unknown 'xgbost', did you mean 'xgboost'?"),
        ({"candidates": ["averaging"]}, "'averaging' has no space in tune.spaces .it is made of others"),
        ({"candidates": ["mlp"]}, "'mlp' has no space in tune.spaces .add one"),
        ({"spaces": SPACES | {"forest": {}}}, "tune.spaces: unknown 'forest', did you mean 'random_forest'?"),
        ({"spaces": SPACES | {"xgboost": {"max_dept": {"low": 1, "high": 2}}}}, "did you mean 'max_depth'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_tuned_is_refused_before_anything_is_fitted(changes, message):
    with pytest.raises(TrainingError, match=message):
        bench(**changes)


def test_an_unknown_objective_is_refused_with_a_suggestion():
    with pytest.raises(TrainingError, match=r"tune.objective: unknown 'logloss', did you mean 'log_loss'\?"):
        objective_named("logloss")


def test_candidates_that_cannot_reach_a_worker_are_refused(tmp_path):
    stage = bench(candidates=["logistic_regression"])
    here = replace(stage.candidates["logistic_regression"], build=lambda *_, **__: None)
    with pytest.raises(TrainingError, match=r"cannot be sent to workers .* set tune.workers to 1"):
        tune(
            replace(stage, candidates={"logistic_regression": here}),
            budget(candidates=["logistic_regression"], workers=2),
            folder=tmp_path,
        )
