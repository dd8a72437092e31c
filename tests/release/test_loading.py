"""What was released is what scores; what stands against it is said in one line; a store that is away stops nobody."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml_workbench.model.quarantine import Limits
from ml_workbench.plan.errors import ReleaseError, SettingsError
from ml_workbench.release import loading
from ml_workbench.release.bundle import Bundle
from ml_workbench.release.loading import Loaded, load, loaded
from ml_workbench.release.signing import new_keys, signed
from ml_workbench.release.store import Store, StoreAwayError

ANN, BEN = new_keys(), new_keys()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("store", tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> Store:
    return Store("cache", tmp_path)


@pytest.fixture
def bundle(small) -> Bundle:
    return small.small_bundle()


class Away:
    "A place that does not answer."

    def reachable(self) -> bool:
        raise ConnectionError("no route to host")


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost"])
def test_a_release_scores_as_the_model_that_was_fitted(small, store: Store, name: str):
    bundle = small.small_bundle(name)
    found, rows = load(store, store.add(bundle)), small.members("test")
    expected = small.fitted_model(name).probability(rows)
    assert np.abs(found.scorer.scores(rows) - expected).max() < 1e-6
    assert found.scorer.one(
        rows[found.scorer.signature.names].iloc[0].replace({np.nan: None}).to_dict()
    ) == pytest.approx(expected[0], abs=1e-6)


def test_what_is_loaded_says_what_it_is_and_where_it_came_from(store: Store, bundle: Bundle):
    found = load(store, store.add(bundle))
    assert (found.id, found.release, found.files) == (bundle.release.id, bundle.release, bundle.files)
    assert (found.signed_by, found.source, found.warnings) == (None, "store", ())


def test_the_models_inputs_stand_where_it_says_among_the_declared_columns(store: Store, bundle: Bundle):
    found = load(store, store.add(bundle))
    assert [found.terms.names[place] for place in found.places] == found.scorer.signature.names


# Signatures -------------------------------------------------------------------------------------------------


def test_where_a_key_is_trusted_only_what_it_signed_is_loaded(store: Store, bundle: Bundle, monkeypatch):
    id = store.add(bundle)
    monkeypatch.setattr(loading, "try_in_child", lambda *_: pytest.fail("was tried before it was trusted"))
    with pytest.raises(ReleaseError, match=f"release {id[:12]}: it is not signed"):
        load(store, id, trusted_keys=ANN.public)
    store.sign(id, signed(bundle.release.as_bytes(), BEN.private))
    with pytest.raises(ReleaseError, match="which is not trusted"):
        load(store, id, trusted_keys=ANN.public)
    monkeypatch.undo()
    assert load(store, id, trusted_keys=f"{ANN.public},{BEN.public}").signed_by == BEN.public


def test_a_signature_that_does_not_fit_is_refused_whoever_is_trusted(store: Store, bundle: Bundle):
    id = store.add(bundle)
    store.sign(id, signed(b"other", ANN.private))
    for keys in ("", ANN.public):
        with pytest.raises(ReleaseError, match="does not fit"):
            load(store, id, trusted_keys=keys)


def test_a_trusted_key_that_is_none_is_a_mistake_of_settings(store: Store, bundle: Bundle):
    with pytest.raises(SettingsError, match="MLW_TRUSTED_KEYS: key 1 of 1"):
        load(store, store.add(bundle), trusted_keys="my key")


# The cache --------------------------------------------------------------------------------------------------


def test_what_was_loaded_once_is_loaded_when_the_store_is_away(store: Store, cache: Store, bundle: Bundle):
    id = store.add(bundle)
    load(store, id, cache=cache)
    assert cache.ids() == (id,)
    store.place = Away()
    again = load(store, id, cache=cache)
    assert again.source == "cache" and again.warnings == ("the store store cannot be read: no route to host",)
    assert again.release == bundle.release


def test_a_store_whose_folder_is_gone_is_away(store: Store, cache: Store, bundle: Bundle, tmp_path):
    id = store.add(bundle)
    load(store, id, cache=cache)
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    assert load(store, id, cache=cache).source == "cache"


def test_without_a_cache_a_store_that_is_away_is_an_error_of_its_own(
    store: Store, cache: Store, bundle: Bundle
):
    store.place = Away()
    with pytest.raises(StoreAwayError, match="no route to host"):
        load(store, bundle.release.id)
    with pytest.raises(
        StoreAwayError, match="no route to host; and from the cache: the store cache has no release"
    ):
        load(store, bundle.release.id, cache=cache)


def test_the_cache_is_not_asked_where_the_store_answers(store: Store, cache: Store, bundle: Bundle):
    store.add(bundle)
    other = cache.add(replace(bundle, release=replace(bundle.release, label="Other")))
    with pytest.raises(ReleaseError, match=f"the store store has no release {other[:12]}"):
        load(store, other, cache=cache)


def test_the_cache_is_trusted_no_more_than_the_store(store: Store, cache: Store, bundle: Bundle, tmp_path):
    id = store.add(bundle)
    load(store, id, cache=cache)
    store.place = Away()
    with pytest.raises(ReleaseError, match="it is not signed"):
        load(store, id, cache=cache, trusted_keys=ANN.public)
    (tmp_path / "cache" / id / "policy.json").write_bytes(b"x" * len(bundle.files["policy.json"]))
    with pytest.raises(ReleaseError, match=r"policy\.json is not the file that was released"):
        load(store, id, cache=cache)


def test_what_is_refused_does_not_get_into_the_cache(store: Store, cache: Store, bundle: Bundle):
    id = store.add(bundle)
    with pytest.raises(ReleaseError):
        load(store, id, cache=cache, trusted_keys=ANN.public)
    assert cache.ids() == ()


def test_a_cache_that_cannot_be_written_stops_nothing(store: Store, cache: Store, bundle: Bundle, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    found = load(store, store.add(bundle), cache=cache)
    assert isinstance(found, Loaded) and "the store cache cannot be written" in found.warnings[0]


# Limits -----------------------------------------------------------------------------------------------------


def test_a_model_that_takes_too_long_to_load_is_refused(bundle: Bundle):
    with pytest.raises(
        ReleaseError, match=f"release {bundle.release.id[:12]}: the model was not loaded within 0.01 s"
    ):
        loaded(bundle, limits=Limits(seconds=0.01))


def test_loading_leaves_nothing_that_computes_over_tables_behind(
    run_python, store: Store, bundle: Bundle, tmp_path
):
    id = store.add(bundle)
    code = f"""if 1:
        import sys
        from ml_workbench.release.loading import load
        from ml_workbench.release.store import Store
        found = load(Store("store", {str(tmp_path)!r}), {id!r}, cache=Store("cache", {str(tmp_path)!r}))
        row = {{name: None for name in found.scorer.signature.names}}
        assert 0 < found.scorer.one(row) < 1
        print([n for n in ("pandas", "pyarrow", "duckdb", "sqlglot", "sklearn", "scipy", "xgboost") if n in sys.modules])"""
    done = run_python("-c", code)
    assert (done.stdout, done.stderr) == ("[]\n", "")
