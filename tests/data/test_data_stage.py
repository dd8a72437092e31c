"The data stage as a whole: tables and report together, or nothing."

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from ml_workbench.data.sources import open_source
from ml_workbench.data.tables import TABLES
from ml_workbench.plan.errors import ContractError, SourceError, WorkbenchError

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "The default tables with only the first rows of the two long ones."
    folder = tmp_path_factory.mktemp("sample")
    with open_source("completejourney:") as source, duckdb.connect() as engine:
        for table in TABLES:
            rows = f"FROM {source.relation(engine, table.name, None, Path())}"
            if table.name == "promotions":
                rows += " WHERE product_id % 1000 = 0"
            if table.name == "transactions":
                rows += " WHERE household_id % 100 = 0 OR transaction_timestamp >= '2017-12-31'"
            engine.execute(f"COPY ({rows}) TO '{folder / table.name}.parquet' (FORMAT parquet)")
    return folder


@pytest.fixture
def project(tmp_path: Path, sample: Path, root: Path) -> Path:
    "A project of its own, whose source is a copy of the sample that a test may spoil."
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(root / "params.yaml", folder)
    shutil.copytree(sample, folder / "source")
    return folder


@pytest.fixture
def run(project: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    "Run the stage's cells in the project: run(name=value for its parameters)."
    monkeypatch.chdir(project)
    monkeypatch.setenv("PLOTLY_RENDERERS", "plotly_mimetype")
    cells = json.loads((root / "nbs/stages/data.ipynb").read_text(encoding="utf-8"))["cells"]

    def run(**parameters: Any) -> dict[str, Any]:
        namespace: dict[str, Any] = {}
        for cell in cells:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), namespace)
                if "parameters" in cell["metadata"].get("tags", []):
                    namespace.update({"source": "source"} | parameters)
        return json.loads((project / "reports/data.json").read_text(encoding="utf-8"))

    return run


def spoil(project: Path, table: str, rows: str) -> None:
    "Replace a table of the source by a query on it (named `old`)."
    path = project / "source" / f"{table}.parquet"
    with duckdb.connect() as engine:
        engine.execute(f"CREATE TABLE old AS FROM '{path}'")
        engine.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")


def state(project: Path) -> dict[str, str]:
    "Everything in the project but the source, as hashes by path."
    files = (path for path in sorted(project.rglob("*")) if path.is_file() and "source" not in path.parts)
    return {str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_stage_writes_every_table_and_says_what_it_found(run, project):
    report = run()
    assert [table["name"] for table in report["tables"]] == [table.name for table in TABLES]
    assert {path.name for path in (project / "data/tables").iterdir()} == {
        f"{table.name}.parquet" for table in TABLES
    }
    assert report["source"] == "source"
    assert re.fullmatch("[0-9a-f]{12}", report["version"])
    assert {(one["table"], one["column"]) for one in report["tolerated"]} >= {
        ("coupons", "product_id"),
        ("coupons", None),
    }


def test_a_second_run_changes_no_byte(run, project):
    run()
    first = state(project)
    run()
    assert state(project) == first


def test_the_version_is_that_of_the_content_not_of_the_files(run, project):
    version = run()["version"]
    spoil(project, "products", "FROM old ORDER BY product_id DESC")
    assert run()["version"] == version
    spoil(project, "products", "SELECT * REPLACE ('?' AS package_size) FROM old")
    assert run()["version"] != version


@pytest.mark.parametrize(
    ("table", "rows", "message"),
    [
        (
            "transactions",
            "SELECT * REPLACE (NULL::BIGINT AS household_id) FROM old",
            r"transactions\.household_id is NULL",
        ),
        (
            "transactions",
            "FROM old UNION ALL FROM old",
            r"transactions\.basket_id, product_id should be unique",
        ),
        ("transactions", "FROM old LIMIT 0", "transactions is empty"),
        (
            "transactions",
            "SELECT * REPLACE (-quantity AS quantity) FROM old",
            r"transactions\.quantity is below 0",
        ),
        (
            "transactions",
            "SELECT * REPLACE ('much' AS sales_value) FROM old",
            r"transactions\.sales_value is no DECIMAL",
        ),
        (
            "transactions",
            "SELECT * REPLACE (transaction_timestamp + INTERVAL 1 DAY AS transaction_timestamp) FROM old",
            r"transaction_timestamp is after 2018-01-01 05:00",
        ),
        (
            "transactions",
            "SELECT * REPLACE (transaction_timestamp - INTERVAL 1 YEAR AS transaction_timestamp) FROM old",
            r"transaction_timestamp is before 2017-01-01",
        ),
        (
            "transactions",
            "SELECT * REPLACE (TIMESTAMP '2999-01-01' AS transaction_timestamp) FROM old",
            r"transaction_timestamp is in the future",
        ),
        (
            "transactions",
            "FROM old WHERE week < 50",
            r"transactions ends 2017-12-04 02:18:46, 28\.1 days before 2018-01-01 05:00",
        ),
        ("demographics", "SELECT * REPLACE ('old' AS age) FROM old", r"demographics\.age is none of 19-24"),
        (
            "products",
            "FROM old LIMIT 10000",
            r"transactions\.product_id is missing from products\.product_id",
        ),
        ("promotions", "FROM old LIMIT 5000", r"promotions has 5,000 rows, the previous run had"),
    ],
)
def test_a_broken_promise_is_named_and_leaves_everything_as_it_was(run, project, table, rows, message):
    run()
    before = state(project)
    spoil(project, table, rows)
    with pytest.raises(ContractError, match=message):
        run()
    assert state(project) == before


def test_values_that_cannot_be_converted_are_reported_with_all_other_breaches(run, project):
    spoil(project, "transactions", "SELECT * REPLACE ('much' AS sales_value, -1 AS quantity) FROM old")
    spoil(project, "products", "SELECT * REPLACE ('none' AS brand) FROM old")
    with pytest.raises(ContractError) as caught:
        run()
    message = str(caught.value)
    assert message.startswith("3 rules are broken")
    for place in ("transactions.sales_value", "transactions.quantity", "products.brand"):
        assert place in message
    assert not (project / "data").exists() or list((project / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda source: (source / "coupons.parquet").unlink(), "lacks 1 declared table.*'coupons'"),
        (
            lambda source: (source / "coupons.parquet").write_bytes(b"PAR1" * 9),
            "table 'coupons' cannot be read",
        ),
        (lambda source: shutil.rmtree(source), "does not exist"),
    ],
)
def test_a_source_that_cannot_be_read_leaves_everything_as_it_was(run, project, change, message):
    run()
    before = state(project)
    change(project / "source")
    with pytest.raises(SourceError, match=message):
        run()
    assert state(project) == before


def test_row_counts_of_another_source_are_not_compared(run, project):
    run()
    spoil(project, "promotions", "FROM old LIMIT 5000")
    with pytest.raises(ContractError, match="the previous run had"):
        run()
    assert run(source="source/*.parquet")["tables"][2]["rows"] == 5000
    assert run(max_row_change=1.0)["tables"][2]["rows"] == 5000


def test_a_record_of_the_previous_run_that_cannot_be_read_stops_the_stage_before_it_reads_anything(
    run, project
):
    (project / "reports").mkdir()
    (project / "reports/data.json").write_text("{")
    with pytest.raises(WorkbenchError, match="delete it to start afresh"):
        run()
    assert not (project / "data").exists()


@pytest.mark.slow
def test_the_default_source_gives_the_measured_tables(run, root, project):
    section = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))["data"]
    report = run(**section)
    assert {table["name"]: table["rows"] for table in report["tables"]} == {
        "transactions": 1_469_307, "products": 92_331, "promotions": 20_940_529, "campaign_descriptions": 27,
        "campaigns": 6_589, "coupons": 111_332, "coupon_redemptions": 2_102, "demographics": 801,
    }  # fmt: skip
    assert [(one["table"], one["count"]) for one in report["tolerated"]] == [
        ("coupons", 4_872), ("transactions", 4_836), ("coupons", 16),
    ]  # fmt: skip
