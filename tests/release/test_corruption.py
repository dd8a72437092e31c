"""Whatever is turned, cut off, exchanged or forged in a store: no crash, and never another score under a release's name."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from ml_workbench.model.artifact import MANIFEST as MODEL_MANIFEST
from ml_workbench.model.artifact import Entry, manifest_of
from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.release import loading
from ml_workbench.release.bundle import FOLDER, MANIFEST, SIGNATURES, Bundle
from ml_workbench.release.declaration import DECLARATION, declaration_hash
from ml_workbench.release.loading import load, loaded
from ml_workbench.release.signing import new_keys, signed
from ml_workbench.release.store import Store
from ml_workbench.release.verification import verified

CASES, FORGED = 400, 8
KEYS = new_keys()


@pytest.fixture(scope="module")
def bundles(small) -> tuple[Bundle, Bundle]:
    "Two releases that fit each other's files in name, and both are signed."
    made = (small.small_bundle("xgboost"), small.small_bundle("xgboost", seed=2))
    return tuple(replace(each, signature=signed(each.release.as_bytes(), KEYS.private)) for each in made)


def content(bundle: Bundle) -> dict[str, bytes]:
    "Every file of a release, as it lies in a store."
    return {**bundle.files, MANIFEST: bundle.release.as_bytes(), SIGNATURES: bundle.signature}


def damaged(
    files: Mapping[str, bytes], other: Mapping[str, bytes], random: np.random.Generator
) -> dict[str, bytes]:
    "The files with one thing done to them."
    name, result = str(random.choice(sorted(files))), dict(files)
    data = bytearray(files[name])
    place = int(random.integers(len(data)))
    match random.integers(7):
        case 0 | 1:
            data[place] ^= 1 << int(random.integers(8))
        case 2:
            del data[place:]
        case 3:
            data[place : place + 64] = random.bytes(min(64, len(data) - place))
        case 4:
            data = bytearray(other[name])
        case 5:
            another = str(random.choice(sorted(files)))
            result[another], data = bytes(data), bytearray(files[another])
        case _:
            data += random.bytes(16)
    return result | {name: bytes(data)}


def put(store: Store, id: str, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        store.place.write(f"{id}/{name}", data)


def test_nothing_that_was_damaged_comes_as_far_as_being_loaded(bundles, monkeypatch):
    "Hashes and signature find all of it, so that no model is ever tried."
    one, other = map(content, bundles)
    id = bundles[0].release.id
    store, random = Store("memory://corruption"), np.random.default_rng(11)
    monkeypatch.setattr(loading, "try_in_child", lambda *_: pytest.fail("a damaged model was tried"))
    refused = 0
    for _ in range(CASES):
        files = damaged(one, other, random)
        if files == one:
            continue
        put(store, id, files)
        with pytest.raises(WorkbenchError) as told:
            load(store, id)
        assert id[:12] in str(told.value) and "\n" not in str(told.value)
        refused += 1
    assert refused > 0.9 * CASES


def forged(bundle: Bundle, changed: Mapping[str, bytes]) -> Bundle:
    "A release with other files and every hash set right: what somebody with access could make. It bears another name."
    files = bundle.files | changed
    model = {name.removeprefix(FOLDER): data for name, data in files.items() if name.startswith(FOLDER)}
    del model[MODEL_MANIFEST]
    files[FOLDER + MODEL_MANIFEST] = manifest_of(bundle.release.model, model).as_bytes()
    entries = tuple(
        Entry(name, hashlib.sha256(files[name]).hexdigest(), len(files[name])) for name in sorted(files)
    )
    artifact = hashlib.sha256(files[FOLDER + MODEL_MANIFEST]).hexdigest()
    features = declaration_hash(files[DECLARATION])
    return Bundle(
        replace(bundle.release, files=entries, artifact=artifact, feature_set=features),
        files,
        bundle.signature,
    )


def forgeries(bundles) -> list[Bundle]:
    "Releases with a file that was damaged, or is another release's, and hashes that were set right."
    random, made = np.random.default_rng(12), []
    names = [name for name in bundles[0].files if name != FOLDER + MODEL_MANIFEST]
    for number in range(10 * len(names)):
        name = names[number % len(names)]
        data = damaged({name: bundles[0].files[name]}, bundles[1].files, random)[name]
        if data != bundles[0].files[name]:
            made.append(forged(bundles[0], {name: data}))
    return made


def test_a_forgery_has_another_name_and_is_not_signed(bundles, monkeypatch):
    monkeypatch.setattr(loading, "try_in_child", lambda *_: pytest.fail("a forged model was tried"))
    for bundle in forgeries(bundles):
        assert bundle.release.id != bundles[0].release.id
        for trusted in (KEYS.public, ""):  # the signature that was copied along does not fit
            with pytest.raises(WorkbenchError, match="does not fit"):
                loaded(bundle, trusted_keys=trusted)
        with pytest.raises(WorkbenchError, match="it is not signed"):
            loaded(replace(bundle, signature=None), trusted_keys=KEYS.public)


def test_under_the_name_of_a_release_a_forgery_is_not_found(bundles):
    store, id = Store("memory://forgery"), bundles[0].release.id
    for bundle in forgeries(bundles):
        put(store, id, content(bundle))
        with pytest.raises(WorkbenchError, match=r"release\.json is not the one of that name"):
            load(store, id)


def test_a_forgery_of_the_model_that_nobody_asks_to_be_signed_crashes_nothing(bundles, small):
    "Only the child may die. What loads nevertheless answers the golden rows as written."
    model = [each for each in forgeries(bundles) if each.files[DECLARATION] == bundles[0].files[DECLARATION]]
    model = [
        each
        for each in model
        if any(
            each.files[FOLDER + name] != bundles[0].files[FOLDER + name]
            for name in ("model.onnx", "xgboost.json", "golden.json")
        )
    ]
    rows, refused = small.members(), 0
    for bundle in model[:: max(1, len(model) // FORGED)]:
        try:
            found = loaded(replace(bundle, signature=None))
        except WorkbenchError as error:
            assert bundle.release.id[:12] in str(error)
            refused += 1
            continue
        golden = found.scorer.golden
        assert np.abs(found.scorer.scores_matrix(golden.matrix) - golden.expected).max() <= golden.tolerance
        assert np.isfinite(found.scorer.scores(rows)).all()
    assert refused >= FORGED // 2


def test_a_model_of_another_release_with_its_hashes_set_right_is_refused(bundles):
    for name in ("model.onnx", "xgboost.json", "golden.json"):
        bundle = forged(bundles[0], {FOLDER + name: bundles[1].files[FOLDER + name]})
        with pytest.raises(WorkbenchError, match=r"golden rows|describes another model|takes"):
            loaded(replace(bundle, signature=None))


@pytest.mark.parametrize("name", ["signature.json", "golden.json", MODEL_MANIFEST])
@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe\x00"],
    ids=["empty", "list", "null", "deep list", "deep object", "binary"],
)
def test_what_is_no_json_in_a_forged_model_is_one_line(bundles, name: str, data: bytes, monkeypatch):
    monkeypatch.setattr(loading, "try_in_child", lambda *_: 0.0)  # as if the child had survived it
    bundle = forged(bundles[0], {FOLDER + name: data})
    if name == MODEL_MANIFEST:
        files = bundle.files | {FOLDER + name: data}
        entries = tuple(
            Entry(each, hashlib.sha256(files[each]).hexdigest(), len(files[each])) for each in sorted(files)
        )
        bundle = replace(bundle, files=files, release=replace(bundle.release, files=entries))
    with pytest.raises(WorkbenchError) as told:
        loaded(replace(bundle, signature=None))
    assert "\n" not in str(told.value)


def test_verifying_says_what_is_wrong_and_never_raises(bundles):
    one, other = map(content, bundles)
    id, store, random = bundles[0].release.id, Store("memory://verifying"), np.random.default_rng(13)
    for _ in range(100):
        files = damaged(one, other, random)
        if files == one:
            continue
        put(store, id, files)
        found = verified(store, id, trusted_keys=KEYS.public)
        assert not all(each.passed for each in found) and all("\n" not in each.line for each in found)
