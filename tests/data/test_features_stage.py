"""The features stage, run on a market of forty households."""

import json
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from ml_workbench.plan.errors import FeatureError, SourceError, SplitError

WRITTEN = ("data/features/snapshots.parquet", "data/features/schema.json", "reports/features.json")
PARAMETERS = {
    "first_as_of": "2020-03-02 05:00",
    "last_as_of": "2020-06-08 05:00",
    "next_as_of": "2020-06-22 05:00",
    "every_days": 7,
    "active_days": 28,
    "horizon_days": 14,
    "train": ["2020-03-02 05:00", "2020-03-23 05:00"],
    "validation": ["2020-04-06 05:00", "2020-04-13 05:00"],
    "test": ["2020-04-27 05:00", "2020-05-11 05:00"],
    "replay": ["2020-05-25 05:00", "2020-06-08 05:00"],
}
TABLES = {
    "products": "SELECT p AS product_id, CASE p % 3 WHEN 0 THEN 'FUEL' ELSE 'GROCERY' END AS department, 'C' || p % 4 AS product_category, CASE p % 2 WHEN 0 THEN 'Private' ELSE 'National' END AS brand FROM range(10) AS t(p)",
    "transactions": """SELECT h AS household_id, h % 2 AS store_id, 1000 * h + n AS basket_id, (h + n) % 11 AS product_id,
        CAST(1 + (h * n) % 20 AS DECIMAL(12,2)) AS sales_value, CAST(0.1 AS DECIMAL(12,2)) AS retail_disc,
        CAST(0 AS DECIMAL(12,2)) AS coupon_disc, CAST(0 AS DECIMAL(12,2)) AS coupon_match_disc, 1 AS week,
        TIMESTAMP '2020-06-22 04:00' - to_hours(CAST(h + n * (30 + 13 * h % 500) AS INTEGER)) AS transaction_timestamp
        FROM range(40) AS a(h), range(40) AS b(n) WHERE transaction_timestamp > TIMESTAMP '2020-01-01'""",
    "promotions": "SELECT 1 AS product_id, 1 AS store_id, '9' AS display_location, 'A' AS mailer_location, 1 AS week",
    "coupon_redemptions": "SELECT 1 AS household_id, 1 AS coupon_upc, 1 AS campaign_id, TIMESTAMP '2020-03-01' AS redemption_date",
    "campaigns": "SELECT 1 AS campaign_id, h AS household_id FROM range(5) AS t(h)",
    "campaign_descriptions": "SELECT 1 AS campaign_id, 'Type A' AS campaign_type, TIMESTAMP '2020-02-01' AS start_date, TIMESTAMP '2020-04-01' AS end_date",
    "demographics": "SELECT h AS household_id, '25-34' AS age, '50-74K' AS income, 'Renter' AS home_ownership, 'Married' AS marital_status, '2' AS household_size, '2 Adults' AS household_comp, '0' AS kids_count FROM range(9) AS t(h)",
}


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "A folder like the project's, with small tables."
    (tmp_path / "data/tables").mkdir(parents=True)
    for name in ("params.yaml", "settings.ini"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    for name, query in TABLES.items():
        duckdb.sql(f"COPY ({query}) TO '{tmp_path}/data/tables/{name}.parquet'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLOTLY_RENDERERS", "plotly_mimetype")
    return tmp_path


def run_stage(root: Path, **changes: object) -> dict[str, object]:
    "Run the cells of the stage notebook in the current folder; returns what they defined."
    notebook = json.loads((root / "nbs/stages/features.ipynb").read_text())
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
        if "parameters" in cell["metadata"].get("tags", []):
            names |= PARAMETERS | changes
    return names


def test_the_stage_writes_snapshots_schema_catalogue_and_costs(project: Path, root: Path) -> None:
    run_stage(root)
    schema = json.loads((project / "data/features/schema.json").read_text())
    report = json.loads((project / "reports/features.json").read_text())
    rows = duckdb.read_parquet(str(project / "data/features/snapshots.parquet")).df()
    names = [item["name"] for item in schema["features"]]
    assert rows.columns.tolist() == ["household_id", "as_of", "slice", *names, "lapsed", "next_spend"]
    assert [item["name"] for item in report["features"]] == names
    assert all(
        set(item) == {"name", "kind", "family", "meaning", "source", "window_days", "missing_share"}
        for item in report["features"]
    )
    assert set(json.loads((project / "state/feature_costs.json").read_text())) == set(names)
    assert {str(rows[item["name"]].dtype) for item in schema["features"] if item["kind"] == "number"} == {
        "float32"
    }
    assert schema["horizon_days"] == report["horizon_days"] == 14
    assert (
        not rows[[item["name"] for item in schema["features"] if item["kind"] == "category"]]
        .isna()
        .any()
        .any()
    )


def test_rows_are_sorted_and_belong_to_their_slices(project: Path, root: Path) -> None:
    run_stage(root)
    rows = duckdb.read_parquet(str(project / "data/features/snapshots.parquet")).df()
    order = rows[["as_of", "household_id"]]
    assert (
        order.equals(order.sort_values(["as_of", "household_id"], ignore_index=True))
        and not order.duplicated().any()
    )
    for name in ("train", "validation", "test", "replay"):
        first, last = (datetime.fromisoformat(text) for text in PARAMETERS[name])
        part = rows[rows["slice"] == name]
        assert (part["as_of"].min(), part["as_of"].max()) == (first, last)
        assert part["lapsed"].isin([0, 1]).all() and part["next_spend"].notna().all()
    following = rows[rows["slice"] == "next"]
    assert len(following) > 0 and following[["lapsed", "next_spend"]].isna().all().all()
    report = {
        entry["slice"]: entry
        for entry in json.loads((project / "reports/features.json").read_text())["slices"]
    }
    assert {name: entry["rows"] for name, entry in report.items()} == rows["slice"].value_counts().to_dict()
    assert report["test"]["label_share"] == pytest.approx(
        rows.loc[rows["slice"] == "test", "lapsed"].mean(), rel=1e-5
    )
    assert report["replay"]["label_share"] is None and report["next"]["label_share"] is None


def test_the_same_tables_give_the_same_bytes(
    project: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stage(root)
    first = [(project / path).read_bytes() for path in WRITTEN]
    monkeypatch.setenv("MLW_THREADS", "1")
    run_stage(root)
    assert [(project / path).read_bytes() for path in WRITTEN] == first


@pytest.mark.parametrize(
    ("spoil", "changes", "error", "message"),
    [
        (
            "DELETE FROM transactions WHERE transaction_timestamp BETWEEN TIMESTAMP '2020-04-27 05:00' AND TIMESTAMP '2020-05-30'",
            {},
            SplitError,
            "test .*'lapsed' is 1 for all",
        ),
        (
            "DELETE FROM transactions WHERE transaction_timestamp > TIMESTAMP '2020-06-01'",
            {},
            SplitError,
            "horizon beyond the data: the last event is of 2020-0[56]",
        ),
        ("DELETE FROM transactions", {}, FeatureError, "'baskets': it has no events"),
        ("ALTER TABLE transactions DROP COLUMN store_id", {}, FeatureError, "store_id"),
        ("SELECT 1", {"horizon_days": 28}, SplitError, "horizon beyond the data"),
        (
            "SELECT 1",
            {"validation": ["2020-03-30 05:00", "2020-04-13 05:00"]},
            SplitError,
            "label windows overlap",
        ),
    ],
)
def test_what_cannot_be_used_stops_the_stage_and_writes_nothing(
    project: Path, root: Path, spoil: str, changes: dict, error: type[Exception], message: str
) -> None:
    with duckdb.connect() as connection:
        file = project / "data/tables/transactions.parquet"
        connection.execute(f"CREATE TABLE transactions AS FROM '{file}'")
        connection.execute(spoil)
        connection.execute(f"COPY transactions TO '{file}'")
    with pytest.raises(error, match=message):
        run_stage(root, **changes)
    assert not any((project / path).exists() for path in WRITTEN)


def test_without_tables_the_message_says_what_to_run(project: Path, root: Path) -> None:
    for file in (project / "data/tables").iterdir():
        file.unlink()
    with pytest.raises(SourceError, match="run the data stage first"):
        run_stage(root)
