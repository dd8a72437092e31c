"""The shop in miniature of tests/release/small.py as a project in production: tables, a store, a ledger."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from ml_workbench.data.contracts import Column, Table
from ml_workbench.plan.experiment import Arm, Split
from ml_workbench.plan.settings import Settings
from ml_workbench.release.deployment import Deployment
from ml_workbench.release.ledger import Ledger
from ml_workbench.release.store import Store
from tests.release import small

SHOP = (
    Table(
        "receipts", "Visits to the till",
        (Column("member", "BIGINT"), Column("bought_at", "TIMESTAMP"), Column("spent", "DECIMAL(12,2)", minimum=0)),
        time="bought_at", fresh_days=3,
    ),
    Table("people", "Members", (Column("member", "BIGINT"), Column("town", "VARCHAR", nullable=True)), key=("member",)),
)  # fmt: skip
MONDAY = datetime(2024, 7, 1, 5)
WEEK = timedelta(weeks=1)


def settings_of(root: Path, database: str = "", **more: object) -> Settings:
    "Where the project runs."
    url = database or f"sqlite:///{root}/records.db"
    return Settings(root=root, database_url=url, store_url="store", cache_dir="cache", threads=2, **more)


def write_tables(folder: Path, tables: dict | None = None, kind: str = "parquet") -> Path:
    "The shop's tables as files."
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        for name, table in (tables or small.tables()).items():
            connection.register(name, table)
            connection.execute(f"COPY {name} TO '{folder / name}.{kind}' (FORMAT {kind})")
    return folder


def deployment_of(root: Path, **changes: object) -> Deployment:
    "Rule, champion (logistic regression) and challenger (boosted trees), both in the project's store."
    store = Store("store", root)
    ids = {arm: store.add(small.small_bundle(name)) for arm, name in CANDIDATES.items()}
    split = Split(
        name="letters-1", namespace="letters", holdout=0.1,
        arms=[
            Arm(name="control", policy="rule", weight=0.4),
            Arm(name="champion", policy="proposed", weight=0.4),
            Arm(name="challenger", policy="challenger", weight=0.2),
        ],
    )  # fmt: skip
    made = Deployment(split, "control", ids, ids["champion"], "champion")
    return replace(made, **changes) if changes else made


CANDIDATES = {"champion": "logistic_regression", "challenger": "xgboost"}


def deploy(settings: Settings, deployment: Deployment) -> int:
    "Write the next line of the ledger."
    with Ledger(settings.database_url, settings.root) as ledger:
        ledger.migrate()
        line = ledger.latest_line()
        return ledger.write("deploy", deployment, "Ann", "a test", line or None).line


def project(root: Path, database: str = "", **more: object) -> Settings:
    "Tables, store and ledger."
    settings = settings_of(root, database, **more)
    write_tables(root / "tables")
    deploy(settings, deployment_of(root))
    return settings
