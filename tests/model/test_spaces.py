"""Settings keep to their spaces, whoever sets them, and tuned ones say when they have gone stale."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.model.candidates import LADDER, Candidate
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.model.spaces import (
    Choices,
    Range,
    checked_settings,
    fingerprint_of,
    grid_of,
    spaces_of,
    tuned_settings,
)
from ml_workbench.plan.errors import TrainingError
from ml_workbench.plan.files import write_json
from ml_workbench.plan.params import load_params

TREES = Candidate("trees", "Trees", 5, print, {"depth": 4, "rate": 0.05, "shrinkage": 5.0})
RAW = {
    "depth": {"low": 2, "high": 6},
    "rate": {"low": 0.02, "high": 0.2, "log": True},
    "shrinkage": {"low": 1, "high": 10},
}
SCHEMA = Schema(
    "member", "as_of", "slice", "left", "spend", 28, "weekly", (Feature("weekly", "number", "money"),)
)


def rows(count: int = 50) -> pd.DataFrame:
    weekly = np.random.default_rng(1).exponential(40, count).astype("float32")
    frame = pd.DataFrame({"member": range(count), "weekly": weekly, "left": np.arange(count) % 2})
    return frame.assign(as_of=pd.Timestamp("2024-01-01"))


@pytest.fixture(scope="module")
def params(root):
    return load_params(root).tune


def test_every_default_space_holds_the_candidates_own_settings(params):
    for name, raw in params.spaces.items():
        assert set(spaces_of(LADDER[name], raw)) == set(raw)


def test_integers_stay_integers_and_the_candidate_says_what_is_one():
    spaces = spaces_of(TREES, RAW)
    assert spaces["depth"].points() == [2, 3, 4, 5, 6]
    assert all(type(point) is int for point in spaces["depth"].points())
    assert all(type(point) is float for point in spaces["shrinkage"].points())


@given(
    st.floats(1e-6, 1e3), st.floats(1.1, 1e4), st.floats(0, 1), st.sampled_from([True, False]), st.booleans()
)
def test_a_value_as_it_is_written_still_lies_in_its_space(low, factor, where, log, whole):
    low, high = float(f"{low:.6g}"), float(f"{low * factor:.6g}")
    if whole:
        low, high = int(low) + 1, int(high) + 3
    space = Range(low, high, log=log, whole=whole)
    value = low * (high / low) ** where if log else low + (high - low) * where
    assert space.holds(space.plain(min(max(value, low), high)))
    assert all(space.holds(point) for point in space.points())


def test_a_step_makes_a_lattice():
    space = Range(0.5, 1.0, step=0.25)
    assert space.points() == [0.5, 0.75, 1.0]
    assert space.holds(0.75) and not space.holds(0.8) and not space.holds(1.25)
    assert Range(10, 50, step=20, whole=True).points() == [10, 30, 50]


def test_choices_hold_only_what_was_listed():
    space = Choices((8, 16, True))
    assert space.holds(16) and space.holds(16.0) and not space.holds(32) and not space.holds("8")
    assert not Choices((1, 2)).holds(True)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "4", None, True, [4]])
def test_what_is_no_number_lies_in_no_range(wrong):
    assert not Range(2, 6, whole=True).holds(wrong)
    assert not Range(2.0, 6.0).holds(wrong)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"depht": {"low": 2, "high": 6}}, "trees: unknown parameter 'depht', did you mean 'depth'?"),
        ({"depth": {"low": 5, "high": 9}}, r"trees.depth: the candidate's own value, 4, lies outside \(5 to 9\)"),
        ({"depth": {"low": 2.0, "high": 6.5}}, "trees.depth: this is a whole number .4 by itself."),
        ({"depth": {"choices": [2, 3]}}, r"own value, 4, lies outside \(one of 2, 3\)"),
    ],
)  # fmt: skip
def test_a_space_that_does_not_fit_the_candidate_is_refused(raw, message):
    with pytest.raises(TrainingError, match=message):
        spaces_of(TREES, raw)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 60}, r"train.settings.trees.depth: 60 lies outside its space \(2 to 6\); choose .* or widen"),
        ({"rate": 0.5}, "trees.rate: 0.5 lies outside its space .0.02 to 0.2, by orders of magnitude."),
        ({"dept": 3}, "trees: unknown setting 'dept', did you mean 'depth'?"),
        ({"depth": "deep"}, "trees.depth must be a whole number, got 'deep'"),
    ],
)  # fmt: skip
def test_a_setting_outside_its_space_names_candidate_parameter_value_space_and_remedy(settings, message):
    with pytest.raises(TrainingError, match=message):
        checked_settings(TREES, RAW, settings)


def test_a_setting_on_the_edge_of_its_space_is_fine_and_one_without_a_space_too():
    assert checked_settings(TREES, RAW, {"depth": 6, "rate": 0.02}) == {"depth": 6, "rate": 0.02}
    assert checked_settings(TREES, {}, {"depth": 60}) == {"depth": 60}


def test_a_grid_holds_every_combination_once_in_an_order_of_its_seed():
    spaces = {"depth": Range(2, 4, whole=True), "kind": Choices((1, 2))}
    grid = grid_of(spaces, seed=1)
    assert len({tuple(each.items()) for each in grid}) == len(grid) == 6
    assert grid == grid_of(spaces, seed=1) != grid_of(spaces, seed=2)


def test_a_fingerprint_tells_which_part_changed(params):
    before = fingerprint_of(rows(), SCHEMA, params).split("-")
    cases = [
        (rows(49), params, [True, False, False]),
        (rows().assign(weekly=lambda each: each["weekly"] * 1.1), params, [True, False, False]),
        (rows(), params.model_copy(update={"folds": 2}), [False, True, False]),
        (rows(), params.model_copy(update={"objective": "auc"}), [False, False, True]),
        (rows(), params.model_copy(update={"trials": 99, "minutes": 1.0, "workers": 1}), [False] * 3),
    ]
    for frame, changed, expected in cases:
        after = fingerprint_of(frame, SCHEMA, changed).split("-")
        assert [a != b for a, b in zip(before, after, strict=True)] == expected


def test_the_last_digits_in_which_machines_differ_do_not_change_the_fingerprint(params):
    nearly = rows().assign(weekly=lambda each: each["weekly"] * np.float32(1 + 1e-6))
    assert fingerprint_of(nearly, SCHEMA, params) == fingerprint_of(rows(), SCHEMA, params)


def test_tuned_settings_are_read_for_the_candidates_that_train(tmp_path):
    path = tmp_path / "tuned.json"
    kept = {"trees": {"settings": {"depth": 3}}, "retired": {"settings": {"size": 1}}}
    write_json(path, {"fingerprint": "a-b-c", "candidates": kept})
    tuned = tuned_settings(path, [TREES, LADDER["mlp"]], {"trees": RAW}, fingerprint="a-b-c")
    assert tuned.settings == {"trees": {"depth": 3}} and tuned.notes == ()


def test_stale_or_missing_tuned_settings_are_said_in_a_sentence(tmp_path):
    path = tmp_path / "tuned.json"
    missing = tuned_settings(path, [TREES], {"trees": RAW})
    assert missing.settings == {} and "tuned.json is missing" in missing.notes[0]
    write_json(path, {"fingerprint": "a-b-c", "candidates": {}})
    [changed, untuned] = tuned_settings(path, [TREES], {"trees": RAW}, fingerprint="a-x-y").notes
    assert changed.startswith("the tuned settings were found with other folds and other searches;")
    assert untuned.startswith("trees was not tuned") and "`ml-workbench tune`" in untuned


def test_tuned_settings_outside_a_space_that_was_narrowed_are_refused(tmp_path):
    path = tmp_path / "tuned.json"
    write_json(path, {"fingerprint": "a-b-c", "candidates": {"trees": {"settings": {"depth": 9}}}})
    with pytest.raises(TrainingError, match=r"tuned.json.trees.depth: 9 lies outside its space \(2 to 6\)"):
        tuned_settings(path, [TREES], {"trees": RAW})


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"candidates": {}}', '{"fingerprint": "a", "candidates": 3}']
)
def test_a_damaged_file_of_tuned_settings_says_what_to_run(tmp_path, content):
    path = tmp_path / "tuned.json"
    path.write_text(content)
    with pytest.raises(TrainingError, match=r"tuned.json does not hold tuned settings .*ml-workbench tune"):
        tuned_settings(path, [TREES], {"trees": RAW})
