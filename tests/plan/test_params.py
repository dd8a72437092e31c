"""What is modelled."""

import copy
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ml_workbench.plan.errors import ParamsError
from ml_workbench.plan.params import SHARED, Params, load_params, validated

COMMITTED = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())


def paths(value: Any, path: tuple = ()) -> list[tuple]:
    "Every key of nested sections, as a path."
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in ((*path, key), *paths(item, (*path, key)))]


def changed(path: tuple, value: Any) -> dict:
    "The committed parameters with one value changed, or one added."
    raw = copy.deepcopy(COMMITTED)
    place = raw
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return raw


FREE = {("tune", "spaces"), ("train", "settings")}  # below these the names are the candidates' own
KEYS = [
    path for path in paths(COMMITTED) if (isinstance(path[-1], str) and path[:2] not in FREE) or path in FREE
]
NAMED = st.sampled_from(KEYS)
OPTIONAL = {
    ("charter", "edge"),
    ("features", "records"),
    *(("charter", "economics", key) for key in ("run_in_weeks", "development_cost", "development_weeks")),
    *(
        ("experiment", name)
        for name in ("slots", "ramp", "covariates", "segments", "late_days", "looks", "power", "confidence")
    ),
    *(("replay", "effect", key) for key in ("size", "half_life_weeks")),
}
NEEDED = st.sampled_from(
    [path for path in KEYS if path not in OPTIONAL and path[:2] != ("experiment", "metrics")]
)


def test_the_committed_parameters_are_valid_and_read_as_written(root):
    params = load_params(root)
    assert params == load_params(root / "params.yaml") == validated(COMMITTED)
    assert params.model_dump(exclude_unset=True) == COMMITTED


def test_parameters_do_not_change_once_read(root):
    with pytest.raises(ValidationError, match="frozen"):
        load_params(root).train.seed = 1


@given(NEEDED)
def test_a_missing_key_is_named_by_its_path(path):
    raw = copy.deepcopy(COMMITTED)
    place = raw
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    with pytest.raises(ParamsError) as caught:
        validated(raw)
    assert f"{'.'.join(map(str, path))}: missing, add it" in str(caught.value)


@given(NAMED, st.data())
def test_a_misspelt_key_is_named_by_its_path_with_the_right_one(path, data):
    name = path[-1]
    at = data.draw(st.integers(0, len(name) - 1))
    misspelt = name[:at] + "q" + name[at:]
    with pytest.raises(ParamsError) as caught:
        validated(changed((*path[:-1], misspelt), 1))
    assert f"{'.'.join(map(str, (*path[:-1], misspelt)))}: unknown key, did you mean '" in str(caught.value)


@given(NAMED)
def test_no_key_takes_a_value_of_another_type(path):
    value = COMMITTED
    for step in path:
        value = value[step]
    wrong = "text" if not isinstance(value, str) else ["a list"]
    with pytest.raises(ParamsError) as caught:
        validated(changed(path, wrong))
    assert str(caught.value).startswith(f"params.yaml: {'.'.join(map(str, path))}")
    assert str(wrong) in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("train.seed", True, "train.seed: input should be a valid integer, got True"),
        ("train.seed", "1", "train.seed: input should be a valid integer, got '1'"),
        ("train.seed", -1, "train.seed: input should be greater than or equal to 0, got -1"),
        ("train.candidates", [], "train.candidates: list should have at least 1 item"),
        ("train.calibration", "platt", "train.calibration: input should be 'sigmoid', 'isotonic' or 'none'"),
        ("train.settings", {"xgboost": {"max_depth": [2.5]}}, "train.settings.xgboost.max_depth"),
        ("tune.sampler", "annealing", "tune.sampler: input should be 'grid', 'random' or 'tpe'"),
        ("tune.objective", "gini", "tune.objective: input should be 'log_loss', 'average_precision', 'auc' or 'profit'"),
        ("tune.minutes", 0.0, "tune.minutes: input should be greater than 0"),
        ("tune.spaces.mlp.alpha", {"low": 2, "high": 1}, "tune.spaces.mlp.alpha: low must be a number below high, got 2 and 1"),
        ("tune.spaces.mlp.alpha", {"low": 0, "high": 1, "log": True}, "logarithmic range must lie above 0"),
        ("tune.spaces.mlp.alpha", {"low": 0, "top": 1}, "write {low, high}"),
        ("tune.spaces.mlp.alpha", {"choices": []}, "choices must be a list with something in it"),
        ("tune.spaces.mlp.alpha", {"low": 1, "high": 9, "step": 0}, "step must be a positive number"),
        ("gate.minimum_auc", 1.5, "gate.minimum_auc: input should be less than or equal to 1"),
        ("compact.shares", [1.0], "compact.shares.0: input should be less than 1"),
        ("evaluate.rank_by", "hope", "evaluate.rank_by: input should be 'usual_spend', 'expected_spend' or 'probability'"),
        ("evaluate.confidence", 0.5, "evaluate.confidence: input should be greater than 0.5"),
        ("evaluate.confidence", 1.0, "evaluate.confidence: input should be less than 1"),
        ("evaluate.calibration_bins", 1, "evaluate.calibration_bins: input should be greater than or equal to 2"),
        ("features.horizon_days", 0, "features.horizon_days: input should be greater than or equal to 1"),
        ("features.train", ["2017-03-20"], "features.train: list should have at least 2 items"),
        ("features.train", ["2017-03-20", "summer"], "features.train.1: 'summer' is not an ISO time"),
        ("features.first_as_of", date(2017, 3, 20), "features.first_as_of: write the time as quoted text"),
        ("features.first_as_of", "2017-02-30", "features.first_as_of: '2017-02-30' is not an ISO time"),
        ("data.max_row_change", 1.01, "data.max_row_change: input should be less than or equal to 1"),
        ("data.source", "", "data.source: string should have at least 1 character"),
        ("charter.title", None, "charter.title: input should be a valid string, got None"),
        ("charter", None, "charter: input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_named_with_its_path_and_bound(path, value, message):
    with pytest.raises(ParamsError) as caught:
        validated(changed(tuple(path.split(".")), value))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.seed", 0),
        ("features.replay", None),
        ("train.settings", {"xgboost": {"max_depth": 3}}),
        ("tune.minutes", 5),  # a whole number is a number
        ("tune.spaces.mlp.width", {"choices": [8]}),
        ("charter.edge", None),
        ("data.max_row_change", 0.0),
        ("evaluate.calibration_bins", 2),
        ("features.first_as_of", "2017-03-20"),
    ],
)
def test_a_value_on_the_bound_is_accepted(path, value):
    assert isinstance(validated(changed(tuple(path.split(".")), value)), BaseModel)


def test_every_mistake_is_told_at_once():
    raw = changed(("train", "sede"), 1)
    raw["features"]["every_days"] = 0
    del raw["charter"]["guardrails"][1]["meaning"]
    with pytest.raises(ParamsError) as caught:
        validated(raw)
    for part in ("train.sede", "features.every_days", "charter.guardrails.1.meaning: missing"):
        assert part in str(caught.value)


def test_a_misspelling_inside_a_list_is_looked_up_in_the_section_it_stands_in():
    with pytest.raises(
        ParamsError, match=r"charter\.guardrails\.0\.metrik: unknown key, did you mean 'metric'"
    ):
        validated(changed(("charter", "guardrails", 0, "metrik"), "x"))


@pytest.mark.parametrize("raw", [None, [], "text", 3])
def test_something_else_than_sections_is_refused(raw):
    with pytest.raises(
        ParamsError,
        match=r"must hold sections \(charter, experiment, data, .*, gate, .*, privacy\), got",
    ):
        validated(raw)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("train:\n  seed: 1\n  threads: 2\n  seed: 2\n", 2, "seed"),
        ("train: {}\ndata: {}\ntrain: {}\n", 1, "train"),
        ("charter:\n  guardrails:\n    - {metric: a, metric: b}\n", 3, "metric"),
    ],
)
def test_a_key_written_twice_is_refused_with_its_line(tmp_path, text, line, key):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=f"params.yaml, line {line}: key written twice: {key}"):
        load_params(tmp_path)


@pytest.mark.parametrize(
    "text", ["a: [", "\ta: 1", "a: !!python/object/apply:os.getcwd []", "? [1, 2]\n: 3\n"]
)
def test_what_is_not_plain_yaml_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml is not valid YAML: ") as caught:
        load_params(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_password_in_the_address_of_the_data_is_refused_and_not_repeated():
    with pytest.raises(ParamsError, match=r"data\.source: holds a password; .*PGPASSWORD") as refusal:
        validated(changed(("data", "source"), "postgresql://reader:hunter2@db/shop"))
    assert "hunter2" not in str(refusal.value)
    validated(changed(("data", "source"), "postgresql://reader@db/shop"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ParamsError, match=r"params\.yaml does not exist"):
        load_params(tmp_path / "params.yaml")


def test_every_parameter_of_a_stage_is_a_literal_that_a_notebook_can_hold():
    for name in Params.model_fields:
        if name not in SHARED:
            for value in COMMITTED[name].values():
                assert isinstance(value, bool | int | float | str | list | dict), (name, value)


def test_the_plan_loads_no_library_of_data_or_models():
    heavy = "numpy, pandas, pyarrow, duckdb, sklearn, xgboost, papermill, dvc, streamlit, IPython"
    code = f"""if 1:
        import sys
        from ml_workbench.plan import charter, errors, files, params, settings
        params.load_params("params.yaml"); settings.load_settings(".")
        print([name for name in {heavy.split(", ")} if name in sys.modules])"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
