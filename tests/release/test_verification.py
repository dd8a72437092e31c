"""Every check is a line; what is wrong is named where it is; nothing is loaded that was not hashed before."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release import verification
from ml_workbench.release.bundle import Bundle, build, bundle_of
from ml_workbench.release.loading import loaded
from ml_workbench.release.reference import REFERENCE, reference_from
from ml_workbench.release.signing import new_keys
from ml_workbench.release.store import Store
from ml_workbench.release.verification import (
    STEPS,
    Check,
    apart,
    check_counts,
    named_rows,
    same_summaries,
    verified,
)

KEYS = new_keys()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("store", tmp_path)


def passed(found: tuple[Check, ...]) -> list[str]:
    return [each.title for each in found if each.passed]


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost"])
def test_a_good_release_passes_every_check(small, store: Store, name: str):
    found = verified(store, store.add(small.small_bundle(name)))
    assert passed(found) == [*STEPS] and all(each.line.startswith(f"✓ {each.title}: ") for each in found)


def test_an_unsigned_release_fails_one_check_where_a_key_is_trusted_and_the_others_are_made(
    small, store: Store
):
    id = store.add(small.small_bundle())
    found = verified(store, id, trusted_keys=KEYS.public)
    assert [each.title for each in found if not each.passed] == ["signature"] and len(found) == len(STEPS)
    store.sign(id, small.signed_by(small.small_bundle(), KEYS.private).signature)
    assert passed(verified(store, id, trusted_keys=KEYS.public)) == [*STEPS]


@pytest.mark.parametrize(
    ("name", "data", "last"),
    [
        ("release.json", b"{}", "manifest"),
        ("notes.txt", b"hello", "files"),
        ("card.md", None, "hashes"),
    ],
)
def test_checks_end_where_the_others_would_rest_on_what_is_wrong(
    small, store: Store, name: str, data: bytes | None, last: str, monkeypatch
):
    monkeypatch.setattr(verification, "try_in_child", lambda *_: pytest.fail("was tried"))
    bundle = small.small_bundle()
    id = store.add(bundle)
    store.place.write(f"{id}/{name}", b"x" * len(bundle.files[name]) if data is None else data)
    found = verified(store, id)
    assert [each.title for each in found] == [*STEPS[: STEPS.index(last) + 1]] and not found[-1].passed
    assert found[-1].line.startswith(f"✗ {last}: ")


def test_a_child_that_dies_is_a_failed_check(small, store: Store, monkeypatch):
    from ml_workbench.model.quarantine import Limits

    found = verified(store, store.add(small.small_bundle()), limits=Limits(seconds=0.01))
    assert found[-1].title == "quarantine" and "was not loaded within 0.01 s" in found[-1].found


def test_golden_rows_by_name_are_the_rows_of_the_matrix(small):
    scorer = loaded(small.small_bundle("xgboost")).scorer
    rows = named_rows(scorer)
    assert {type(row["town"]) for row in rows} <= {str, type(None)}
    again = np.concatenate([scorer.signature.row(row) for row in rows])
    assert np.array_equal(again, scorer.golden.matrix, equal_nan=True)
    assert apart(scorer) <= scorer.golden.tolerance


def test_ways_that_lead_to_other_answers_are_found(small):
    scorer = loaded(small.small_bundle("xgboost")).scorer
    golden = replace(scorer.golden, expected=scorer.golden.expected + 1e-3)
    with pytest.raises(ReleaseError, match="golden rows score otherwise one by one, by name"):
        apart(replace(scorer, golden=golden))
    slanted = replace(scorer.session, calibration=None)
    with pytest.raises(ReleaseError, match="golden rows score otherwise as a batch"):
        apart(replace(scorer, session=slanted))


# Summaries --------------------------------------------------------------------------------------------------


def meddled(bundle: Bundle, change) -> Bundle:
    raw = json.loads(bundle.files[REFERENCE])
    change(raw)
    return bundle_of(bundle.files | {REFERENCE: json.dumps(raw).encode()}, origin=bundle.release.origin)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["features"]["visits_4w"]["test"].update(count=7),
        lambda raw: raw["features"]["visits_4w"]["train"]["bins"].append(0),
        lambda raw: raw["features"]["town"]["test"].update(null=1),
        lambda raw: raw["score"]["test"]["bins"].__setitem__(0, 10_000),
        lambda raw: raw["slices"]["test"].update(rows=1),
    ],
)
def test_counts_that_do_not_add_up_are_found(small, store: Store, change):
    bundle = meddled(small.small_bundle(), change)
    with pytest.raises(ReleaseError, match="do not add up"):
        check_counts(reference_from(bundle.files[REFERENCE]))
    found = verified(store, store.add(bundle))
    assert [each.title for each in found if not each.passed] == ["reference"]


def test_summaries_may_differ_in_a_score_of_a_thousand_and_in_no_feature(small):
    reference = reference_from(small.small_bundle().files[REFERENCE])
    other = reference_from(small.small_bundle(seed=2).files[REFERENCE])
    assert same_summaries(reference, reference) and not same_summaries(reference, other)


def test_where_the_runs_features_are_at_hand_they_are_summarised_again(
    produced: Path, store: Store, monkeypatch
):
    bundle = build(produced, allow_dirty=True)
    id = store.add(bundle)
    found = verified(store, id, root=produced)
    assert found[-1].line == "✓ reference: counts add up, and the run's features give the same again"
    raw = json.loads(bundle.files[REFERENCE])
    bins = raw["features"]["baskets_4w"]["test"]["bins"]
    bins[1], bins[2] = bins[2] + 1, bins[1] - 1
    forged = bundle_of(bundle.files | {REFERENCE: json.dumps(raw).encode()}, origin=bundle.release.origin)
    found = verified(store, store.add(forged), root=produced)
    assert not found[-1].passed and "is not what the run's features and this model give" in found[-1].found
