"""A declaration comes back from its file as it was, and nothing else does."""

import json

import pytest

from ml_workbench.data import definitions
from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release.declaration import columns_in, declaration_bytes, declaration_hash, declared_from

DECLARED = definitions.declare(28)
DATA = declaration_bytes(DECLARED)


def test_the_default_declaration_comes_back_as_it_was():
    assert declared_from(DATA) == DECLARED and declared_from(DATA).order == DECLARED.order


def test_the_same_declaration_has_the_same_fingerprint_and_another_horizon_another():
    assert declaration_hash(declaration_bytes(definitions.declare(28))) == declaration_hash(DATA)
    assert declaration_hash(declaration_bytes(definitions.declare(14))) != declaration_hash(DATA)


def test_names_and_kinds_are_those_of_the_snapshots_in_their_order():
    assert columns_in(DATA) == tuple((each.name, each.kind) for each in DECLARED.columns)


def test_names_are_read_without_the_parser_of_sql(run_python):
    code = f"""if 1:
        import sys
        from ml_workbench.release.declaration import columns_in, declaration_hash
        data = {DATA!r}
        assert len(columns_in(data)) == {len(DECLARED.columns)} and declaration_hash(data)
        print([name for name in ("sqlglot", "pandas", "duckdb", "numpy") if name in sys.modules])"""
    assert run_python("-c", code).stdout == "[]\n"


def changed(**parts: object) -> bytes:
    return json.dumps(json.loads(DATA) | parts).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"[]", "has format 'list'"),
        (changed(format=2), "has format 2"),
        (changed(features=None), "does not declare features"),
        (changed(features=[{"name": "a"}]), "does not declare features"),
        (changed(features=["a"]), "does not declare features"),
        (changed(notes="hello"), "unknown key 'notes'"),
        (changed(entity=[]), "does not declare features"),
        (DATA.replace(b'"baskets"', b'"casks"', 1), "features.json: "),
        (DATA.replace(b'"expression": "', b'"expression": "1, ', 1), "is not one SQL expression"),
        (DATA.replace(b'"expression": "', b'"expression": "(SELECT 1) + ', 1), "is a query"),
    ],
)
def test_a_file_that_was_meddled_with_is_held_to_the_rules_of_a_declaration(data: bytes, said: str):
    with pytest.raises(ReleaseError, match=r"features\.json") as told:
        declared_from(data)
    assert said in str(told.value)
