"""One hash vouches for every byte; parts of two releases make none; the same files are the same release."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.model.artifact import MANIFEST as MODEL_MANIFEST
from ml_workbench.model.session import SIGNATURE, TREES
from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release.bundle import ALLOWED, FOLDER, NEEDED, Bundle, bundle_of, params_in, release_from
from ml_workbench.release.declaration import DECLARATION
from ml_workbench.release.policy import POLICY, terms_from


@pytest.fixture(scope="module")
def bundle(small) -> Bundle:
    return small.small_bundle()


def test_the_name_is_the_hash_of_the_manifest(bundle: Bundle):
    assert bundle.release.id == hashlib.sha256(bundle.release.as_bytes()).hexdigest()
    assert release_from(bundle.release.as_bytes()) == bundle.release


def test_the_manifest_lists_every_file_with_its_hash(bundle: Bundle):
    found = {each.name: (each.sha256, each.size) for each in bundle.release.files}
    assert found == {
        name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in bundle.files.items()
    }
    assert bundle.release.size == sum(map(len, bundle.files.values()))


def test_the_manifest_says_what_the_model_takes_and_gives(bundle: Bundle):
    kinds = {each["name"]: each["kind"] for each in bundle.release.inputs}
    assert kinds["town"] == "category" and kinds["days_since_visit"] == "number"
    assert bundle.release.output == {
        "output": "probability",
        "predicts": "lapsed",
        "horizon_days": 28,
        "entity": "member",
    }
    assert next(each for each in bundle.release.inputs if each["name"] == "town")["levels"][:2] == (
        "(missing)",
        "Arles",
    )


def test_the_trees_of_xgboost_travel_along(small):
    names = {each.name for each in small.small_bundle("xgboost").release.files}
    assert names == ALLOWED and names - NEEDED == {FOLDER + TREES}


def test_the_same_files_are_the_same_release_in_whatever_order(small, bundle: Bundle):
    again = bundle_of(
        dict(sorted(bundle.files.items(), reverse=True)), origin=small.ORIGIN, metrics=small.METRICS
    )
    assert again.release.id == bundle.release.id


def test_a_byte_more_is_another_release(small, bundle: Bundle):
    assert small.small_bundle(note="another note").release.id != bundle.release.id
    later = bundle_of(bundle.files, origin=replace(small.ORIGIN, commit="1" * 40), metrics=small.METRICS)
    assert later.release.id != bundle.release.id


# Parts that do not belong together --------------------------------------------------------------------------


def test_the_model_of_another_release_does_not_fit_its_manifest(small, bundle: Bundle):
    other = small.small_bundle(seed=2)
    for name in (name for name in bundle.files if name.startswith(FOLDER)):
        if bundle.files[name] != other.files[name]:
            with pytest.raises(ReleaseError):
                bundle_of(bundle.files | {name: other.files[name]}, origin=small.ORIGIN)


def test_features_of_another_declaration_do_not_fit(small, bundle: Bundle):
    changed = bundle.files[DECLARATION].replace(b"in four weeks", b"in a month")
    with pytest.raises(ReleaseError, match=r"features\.json is not the declaration"):
        bundle_of(bundle.files | {DECLARATION: changed}, origin=small.ORIGIN)


def test_terms_that_do_not_declare_what_the_model_takes_do_not_fit(small, bundle: Bundle):
    terms = terms_from(bundle.files[POLICY])
    for columns in (terms.columns[:-1], (*terms.columns[:-1], (terms.columns[-1][0], "number"))):
        changed = replace(terms, columns=columns).as_bytes()
        with pytest.raises(ReleaseError, match="the model takes 'town', which policy"):
            bundle_of(bundle.files | {POLICY: changed}, origin=small.ORIGIN)


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_release_lacks_no_file(small, bundle: Bundle, name: str):
    files = {each: data for each, data in bundle.files.items() if each != name}
    with pytest.raises(ReleaseError, match=f"a release needs {name}"):
        bundle_of(files, origin=small.ORIGIN)
    release = replace(bundle.release, files=tuple(each for each in bundle.release.files if each.name != name))
    with pytest.raises(ReleaseError, match=f"lacks '{name}'"):
        release_from(release.as_bytes())


@pytest.mark.parametrize(
    "name",
    ["../notes", "/etc/passwd", "model/../card.md", "model//x", "", ".", "model", "a\x00b", "release.json", "release.sig", "MODEL/model.onnx", "card.md "],
)  # fmt: skip
def test_a_release_holds_no_file_of_another_name(small, bundle: Bundle, name: str):
    with pytest.raises(ReleaseError, match="lists what no release has"):
        bundle_of({**bundle.files, name: b"x"}, origin=small.ORIGIN)


def test_a_file_listed_twice_is_refused(bundle: Bundle):
    files = bundle.release.files
    with pytest.raises(ReleaseError, match="each once"):
        release_from(replace(bundle.release, files=(files[0], *files)).as_bytes())
    with pytest.raises(ReleaseError, match="in the order of their names"):
        release_from(replace(bundle.release, files=files[::-1]).as_bytes())


def test_a_signature_json_that_is_none_is_refused(small, bundle: Bundle):
    for data in (b"[]", b"{}", b"[" * 50_000, b'{"name": 1, "label": 2}'):
        with pytest.raises(ReleaseError, match="does not describe a model"):
            bundle_of(bundle.files | {FOLDER + SIGNATURE: data}, origin=small.ORIGIN)


# Manifests that somebody wrote ------------------------------------------------------------------------------


def changed(bundle: Bundle, **parts: object) -> bytes:
    return (
        json.dumps(json.loads(bundle.release.as_bytes()) | parts, indent=1, ensure_ascii=False) + "\n"
    ).encode()


@pytest.mark.parametrize(
    "parts",
    [
        {"format": 2}, {"format": "1"}, {"notes": "hello"}, {"model": 7}, {"label": None}, {"files": {}}, {"files": [1]},
        {"files": [{"name": "card.md", "sha256": "0", "size": "12"}]}, {"origin": None}, {"origin": {"commit": "x"}},
        {"inputs": "abc"}, {"inputs": [{"name": {}}]}, {"output": []}, {"metrics": []}, {"metrics": {"auc": float("nan")}},
    ],
    ids=repr,
)  # fmt: skip
def test_a_manifest_of_other_types_is_refused_in_one_line(bundle: Bundle, parts: dict):
    with pytest.raises(ReleaseError, match=r"release\.json") as told:
        release_from(changed(bundle, **parts))
    assert "\n" not in str(told.value)


def test_a_manifest_written_otherwise_is_refused(bundle: Bundle):
    data = bundle.release.as_bytes()
    raw = json.loads(data)
    for other in (
        json.dumps(raw).encode(),
        data + b"\n",
        b" " + data,
        data.replace(b'{\n "format": 1,', b'{\n "format": 1,\n "format": 1,', 1),
        json.dumps({"model": raw.pop("model"), **raw}, indent=1).encode(),
    ):
        with pytest.raises(ReleaseError):
            release_from(other)


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"3", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000])
def test_what_is_no_json_is_refused(data: bytes):
    with pytest.raises(ReleaseError, match="is no manifest"):
        release_from(data)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0), bit=st.integers(0, 7), cut=st.booleans())
def test_a_manifest_with_a_bit_turned_is_refused_or_means_another_release(
    small, place: int, bit: int, cut: bool
):
    release = small.small_bundle().release
    data = bytearray(release.as_bytes())
    place %= len(data)
    data[place] ^= 1 << bit
    try:
        found = release_from(bytes(data[:place] if cut else data))
    except ReleaseError:
        return
    assert found != release and found.id != release.id


def test_figures_are_given_only_where_they_are_figures(bundle: Bundle):
    assert bundle.release.figure("auc") == {"value": 0.8, "low": 0.75, "high": 0.85}
    hostile = replace(
        bundle.release, metrics={"auc": "0.9", "other": {"value": "x", "low": 1, "high": 2}, "none": None}
    )
    assert [hostile.figure(name) for name in ("auc", "other", "none", "absent")] == [None] * 4


def test_the_model_files_are_those_of_the_artefact(bundle: Bundle):
    assert MODEL_MANIFEST not in bundle.model_files
    assert {FOLDER + name for name in bundle.model_files} < NEEDED


# Parameters -------------------------------------------------------------------------------------------------


def test_parameters_may_share_parts():
    assert params_in({"params.yaml": b"a: &a {x: 1}\nb: *a"}) == {"a": {"x": 1}, "b": {"x": 1}}


@pytest.mark.parametrize("kind", ["[{0}, {0}]", "{{x: {0}, y: {0}}}"])
def test_parameters_that_grow_without_measure_are_refused_at_once(kind: str):
    lines = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} {kind.format(f'*a{n - 1}')}" for n in range(1, 60))]
    with pytest.raises(ReleaseError, match=r"params\.yaml holds more than 100,000 values"):
        params_in({"params.yaml": "\n".join(lines).encode()})
