"""A shop whose letters are decided by a real release, week after week: what it served, what came of it, and how its machines fared."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ml_workbench.database.rows import as_rows
from ml_workbench.monitor.quality import honest
from ml_workbench.monitor.releases import Released, released_in
from ml_workbench.monitor.running import PLAIN, Place
from ml_workbench.release.store import Store
from ml_workbench.serve.designs import canonical, design_hash, plain_design
from ml_workbench.serve.records import Records
from tests.release.small import DECLARED, EXPERIMENT, fitted_model, members, small_bundle

MONDAY, WEEK = datetime(2024, 7, 15, 5), timedelta(days=7)
BUNDLE = small_bundle()
RELEASE = BUNDLE.release.id
NAMES = [each.name for each in DECLARED.columns]
ARMS = np.array(["control", "champion", "challenger", None], dtype=object)
PROPENSITY = np.array([0.36, 0.36, 0.18, 0.1])
LISTED = 40  # a week

Change = Callable[[int, pd.DataFrame], pd.DataFrame]  # number of the week and its members, as they are served


@cache
def released() -> Released:
    "What is known of the release."
    return released_in(BUNDLE, RELEASE)


def place(root: Path, **params: Any) -> Place:
    "A place with a store that holds the release, and no project."
    store = Store("store", root)
    store.add(BUNDLE)
    return Place(
        root,
        PLAIN.model_copy(update={"minimum": 50, "resamples": 200, **params}),
        None,
        (store,),
        root / "kept",
    )


def features_of(rows: pd.DataFrame) -> list[str]:
    "Features as they are kept."
    plain = rows[NAMES].astype(object).where(rows[NAMES].notna(), None)
    return [orjson.dumps(row).decode() for row in plain.to_numpy().tolist()]


def shop(
    weeks: int = 6,
    *,
    seed: int = 1,
    change: Change | None = None,  # of what is served
    leaving: float = 0.0,  # share of those who would have come, and do not
    latency: Callable[[int], float] = lambda week: 0.2,  # ms, by week
    memory: Callable[[float], float] = lambda days: 200.0,  # MB, by days since the beginning
    outcomes: bool = True,
) -> dict[str, pa.Table]:  # by table
    "Everything that the records hold."
    random, known = np.random.default_rng(seed), members("test")
    unit = known["member"].astype(str).to_numpy()
    lot = random.choice(4, len(known), p=PROPENSITY)
    rows: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("served", "predictions", "exposures", "outcomes", "operations")
    }
    resting = np.full(len(known), -9)
    for week in range(weeks):
        as_of = MONDAY + week * WEEK
        seen = known if change is None else change(week, known.copy())
        kept = np.isin(known["member"], seen["member"])
        chance = np.zeros(len(known))
        chance[kept] = fitted_model().probability(seen)
        order = np.argsort(-np.where(kept & (week - resting >= 4), chance, -1), kind="stable")[:LISTED]
        listed = np.isin(np.arange(len(known)), order) & kept
        resting[listed] = week
        acted = listed & (lot == 1)
        told = pd.DataFrame(
            {"unit": unit, "as_of": as_of, "score": chance, "value": 20 * chance - 1.0, "listed": listed}
        )[kept]
        rows["predictions"].append(
            told.assign(experiment=EXPERIMENT.name, policy="proposed", model=RELEASE, rank=1)
        )
        rows["served"].append(told.drop(columns="listed").assign(
            decision_id=[f"{week}-{each}" for each in told["unit"]], at=as_of + timedelta(hours=1), line=1, experiment=EXPERIMENT.name,
            arm=ARMS[lot][kept], propensity=PROPENSITY[lot][kept], reason="assigned", release=RELEASE, policy="proposed",
            action=np.where(acted, "offer", "none")[kept], features=features_of(seen), features_hash=[f"{each}-{week}" for each in told["unit"]],
            shadows=None, latency_ms=None, channel="batch",
        ))  # fmt: skip
        rows["exposures"].append(
            told[acted[kept]][["unit", "as_of"]].assign(
                experiment=EXPERIMENT.name, arm="champion", action="offer", cost=1.0, propensity=0.36
            )
        )
        rows["operations"].append(_lines(week, as_of, latency, memory, random))
    chance = honest(
        fitted_model().probability(known), released().reference
    )  # as in the weeks it was judged on
    away = random.random(len(known)) < chance + (1 - chance) * leaving
    for week in range(weeks + 4) if outcomes else ():
        at = MONDAY + week * WEEK + timedelta(days=3)
        rows["outcomes"].append(
            pd.DataFrame(
                {
                    "unit": unit,
                    "outcome": "visit",
                    "event_id": [f"{week}-{each}" for each in unit],
                    "occurred_at": at,
                    "value": 10.0,
                    "recorded_at": at + timedelta(days=4),
                }
            )[~away]
        )
    last = pd.DataFrame(
        [
            {
                "outcome": "visit",
                "event_id": "till",
                "unit": "0",
                "occurred_at": MONDAY + (weeks + 4) * WEEK,
                "value": 1.0,
                "recorded_at": MONDAY + (weeks + 4) * WEEK,
            }
        ]
    )
    rows["outcomes"] += [last] if outcomes else []
    hashed = design_hash(EXPERIMENT)
    plan = {
        "experiment": EXPERIMENT.name,
        "design_hash": hashed,
        "design": canonical(plain_design(EXPERIMENT)),
        "started_at": MONDAY,
        "actor": "replay",
    }
    assigned = pd.DataFrame(
        {
            "experiment": EXPERIMENT.name,
            "unit": unit,
            "arm": ARMS[lot],
            "propensity": PROPENSITY[lot],
            "assigned_at": MONDAY,
            "design_hash": hashed,
        }
    )
    found = {name: pd.concat(each, ignore_index=True) for name, each in rows.items() if each}
    found |= {"experiments": pd.DataFrame([plan]), "assignments": assigned[lot < 3]}
    return {
        name: as_rows(name, pa.Table.from_pandas(each, preserve_index=False)) for name, each in found.items()
    }


def _lines(
    week: int, as_of: datetime, latency: Callable, memory: Callable, random: np.random.Generator
) -> pd.DataFrame:
    "How the service fared in a week, every six hours."
    hours = np.arange(6, 169, 6)
    days = week * 7 + hours / 24
    noise = random.normal(0, 1, len(hours))
    return pd.DataFrame({
        "at": [as_of + timedelta(hours=int(each)) for each in hours], "process": "host/1", "kind": "service", "release": RELEASE, "seconds": 21_600.0,
        "decisions": 50, "failed": 0, "p50_ms": latency(week) * (1 + 0.02 * noise), "p99_ms": 3 * latency(week) * (1 + 0.05 * noise),
        "memory_mb": [memory(each) for each in days] + noise, "waiting": 1,
    })  # fmt: skip


def as_folder(folder: Path, tables: Mapping[str, pa.Table], feeds: list[dict] | None = None) -> Path:
    "The records as Parquet."
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    if feeds is not None:
        (folder / "feeds.json").write_text(json.dumps(feeds))
    return folder


def as_records(url: str, tables: Mapping[str, pa.Table]) -> Records:
    "The records in a database."
    records = Records(url)
    records.migrate()
    for name, table in tables.items():
        records.write(name, table)
    return records


def by_check(readings: Any) -> dict[str, Any]:
    "Readings by their cause."
    return {each.cause: each for each in readings}
