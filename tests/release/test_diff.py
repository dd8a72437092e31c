"""Two releases against each other: in words first, and no difference where there is none to tell."""

import json
from dataclasses import replace

import pytest

from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release.bundle import Bundle, bundle_of
from ml_workbench.release.diff import as_lines, diff, flat


@pytest.fixture
def one(small) -> Bundle:
    return small.small_bundle()


@pytest.fixture
def two(small) -> Bundle:
    "Another model, of the same shop on the same weeks."
    other = small.small_bundle("xgboost")
    metrics = small.METRICS | {
        "auc": {"value": 0.798, "low": 0.75, "high": 0.85},
        "profit_per_month": {"value": 112.6, "low": 50.0, "high": 170.0},
    }
    return bundle_of(
        other.files | {"params.yaml": b"seed: 1\ncharter: {capacity: 9}\n"},
        origin=replace(small.ORIGIN, versions={"numpy": "3"}),
        metrics=metrics,
    )


def test_a_release_is_the_same_as_itself(one: Bundle):
    found = diff(one, one)
    assert found.sentences == ("This is the same release.",)
    assert not any(
        (
            found.about,
            found.params,
            found.added,
            found.removed,
            found.changed,
            found.redefined,
            found.files,
            found.versions,
        )
    )


def test_gains_and_losses_are_told_in_words_first(one: Bundle, two: Bundle):
    found = diff(one, two)
    assert found.sentences[:2] == (
        "Loses 0.002 AUC and earns €13 a month more.",
        "XGBoost instead of Logistic regression.",
    )
    assert diff(two, one).sentences[0] == "Gains 0.002 AUC and earns €13 a month less."
    assert as_lines(found)[1] == found.sentences[0]


def test_figures_stand_side_by_side_with_their_difference(one: Bundle, two: Bundle):
    auc = next(each for each in diff(one, two).figures if each.name == "auc")
    assert (auc.before, auc.after, auc.shown(auc.difference, sign=True)) == (0.8, 0.798, "−0.002")
    assert any(line.split()[:4] == ["AUC", "0.800", "0.798", "−0.002"] for line in as_lines(diff(one, two)))


def test_figures_of_other_weeks_or_currencies_are_not_subtracted(small, one: Bundle):
    for changed in ({"currency": "USD"}, {"test": {"first": "2023-01-02", "last": "2023-01-02"}}):
        other = bundle_of(
            small.small_bundle("xgboost").files, origin=small.ORIGIN, metrics=small.METRICS | changed
        )
        found = diff(one, other)
        assert found.sentences[0].startswith("They were judged on other weeks or in another currency")
        assert all(
            each["difference"] is None for each in found.as_json()["figures"]
        ) and "difference" not in "\n".join(as_lines(found))


def test_a_release_without_figures_is_told_so(small, one: Bundle):
    bare = [
        bundle_of(small.small_bundle(name).files, origin=small.ORIGIN)
        for name in ("logistic_regression", "xgboost")
    ]
    assert diff(*bare).sentences[0] == "Nothing is known of what either earns." and diff(*bare).figures == ()
    assert diff(one, bare[0]).figures[0].after is None


def test_the_same_model_under_another_note_is_told_so(small, one: Bundle):
    found = diff(one, small.small_bundle(note="another"))
    assert found.sentences == ("The model is the same, file for file.",)
    assert [each.name for each in found.files] == ["card.md"]


def test_parameters_files_and_versions_that_differ_are_named(one: Bundle, two: Bundle):
    found = diff(one, two)
    assert [(each.name, each.before, each.after) for each in found.params] == [("charter.capacity", None, 9)]
    assert "It decides on other terms: charter.capacity." in found.sentences
    assert {"model/model.onnx", "model/xgboost.json", "params.yaml"} <= {each.name for each in found.files}
    assert [(each.name, each.before, each.after) for each in found.versions] == [("numpy", None, "3")]


def inputs(bundle: Bundle, *changed: dict) -> Bundle:
    return replace(bundle, release=replace(bundle.release, inputs=tuple(changed)))


A, B = {"name": "a", "kind": "number", "levels": ()}, {"name": "b", "kind": "category", "levels": ("x",)}


def test_features_that_came_went_or_changed_are_named(one: Bundle):
    found = diff(inputs(one, A, B), inputs(one, B | {"levels": ("x", "y")}, A | {"name": "c"}))
    assert (found.added, found.removed, found.changed) == (("c",), ("a",), ("b",))
    assert (
        "Looks at 1 feature that the first does not, and no longer looks at 1 feature of the first."
        in found.sentences
    )
    assert "No longer looks at 1 feature of the first." in diff(inputs(one, A, B), inputs(one, A)).sentences
    assert "Looks at 1 feature more." in diff(inputs(one, A), inputs(one, A, B)).sentences


def test_a_feature_that_keeps_its_name_and_changes_its_meaning_is_named(one: Bundle):
    changed = one.files["features.json"].replace(b"/ 12", b"/ 10")
    other = replace(
        one, files=one.files | {"features.json": changed}, release=replace(one.release, label="Other")
    )
    found = diff(one, other)
    assert [each.name for each in found.redefined] == ["usual_weekly_spend"]
    assert any(
        each == "1 feature of the same name means something else: usual_weekly_spend."
        for each in found.sentences
    )
    assert any("/ 12" in line and "/ 10" in line for line in as_lines(found))


def test_a_veto_that_was_passed_over_is_said(small, one: Bundle):
    other = bundle_of(small.small_bundle("xgboost").files, origin=small.ORIGIN, verdict="overridden")
    assert "The gate vetoed it, and somebody passed over the veto." in diff(one, other).sentences


def test_all_of_it_is_given_to_programs(one: Bundle, two: Bundle):
    raw = json.loads(json.dumps(diff(one, two).as_json()))
    assert raw["before"] == one.release.id and raw["figures"][0]["difference"] == pytest.approx(-0.002)


@pytest.mark.parametrize("name", ["params.yaml", "features.json"])
@pytest.mark.parametrize("data", [b"", b"[", b"- 1", b"\xff\x00", b"[" * 5000, b"a: &a [*a]"], ids=range(6))
def test_a_file_that_cannot_be_read_is_one_line(one: Bundle, name: str, data: bytes):
    with pytest.raises(ReleaseError, match=name) as told:
        diff(one, replace(one, files=one.files | {name: data}))
    assert "\n" not in str(told.value)


def test_nested_parameters_get_one_name_each():
    assert flat({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [1, 2], "e": {}}
