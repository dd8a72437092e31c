"""Four weeks of the shop in miniature, to be driven by a real service and to be replayed beside it."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from ml_workbench.data.features import compute_features, select_snapshots
from ml_workbench.database.rows import as_rows
from ml_workbench.experiment.driven import Sheet
from ml_workbench.experiment.driving import Driven, Driving, Script, closing, drive, in_force, labels_of
from ml_workbench.experiment.play import make_world
from ml_workbench.experiment.replay import Played, replay
from ml_workbench.experiment.traces import tables
from ml_workbench.model.evaluation import policies_of
from ml_workbench.plan.experiment import Effect, Experiment
from ml_workbench.release.loading import load
from ml_workbench.release.traffic import experiment_of
from ml_workbench.serve.records import Records
from tests.release import small
from tests.release.live import judged
from tests.serve.live import TOKEN, Place, Running, running

MONDAYS = tuple(datetime(2024, 7, 15, 5) + timedelta(days=7 * week) for week in range(4))
UNTIL = datetime(2024, 9, 2, 5)
EFFECT, SEED = Effect(kind="heterogeneous", size=0.5), 3
_ARMS = [
    {"name": "control", "policy": "rule", "weight": 0.4},
    {"name": "champion", "policy": "proposed", "weight": 0.4},
    {"name": "challenger", "policy": "xgboost", "weight": 0.2},
]
PLAN = Experiment.model_validate(small.EXPERIMENT.model_dump() | {"arms": _ARMS, "segments": ["town"]})
MODELS = ("logistic_regression", "xgboost")


@cache
def sheets() -> list[Sheet]:
    "What is known of all active members on each Monday."
    found = []
    with duckdb.connect() as connection:
        for name, table in small.tables().items():
            connection.register(name, table)
        for monday in MONDAYS:
            select_snapshots(connection, small.DECLARED, [monday], source="visits", active_days=84)
            compute_features(connection, small.DECLARED)
            names = [each.name for each in small.DECLARED.columns]
            rows = connection.sql(
                f"SELECT member, {', '.join(names)} FROM features ORDER BY member"
            ).fetchall()
            found.append(Sheet(monday, [str(unit) for unit, *_ in rows], names, [row for _, *row in rows]))
    return found


@cache
def visits() -> pa.Table:
    "What members did from the first Monday on."
    rows = small.tables()["receipts"]
    rows = rows[(rows["bought_at"] > MONDAYS[0]) & (rows["bought_at"] <= UNTIL)]
    units = pa.array(rows["member"].astype(str), pa.string())
    times = pa.array(rows["bought_at"], pa.timestamp("us"))
    ids = pa.array([f"r{number}" for number in range(len(rows))])
    return pa.table({"event_id": ids, "unit": units, "occurred_at": times, "value": rows["spent"].to_numpy()})


def snapshots() -> pd.DataFrame:
    "The same sheets as the features stage would write them."
    parts = [
        pd.DataFrame(each.rows, columns=each.names).assign(member=each.units, as_of=each.as_of)
        for each in sheets()
    ]
    rows = pd.concat(parts, ignore_index=True)
    numbers = [each.name for each in small.SCHEMA.features if each.kind == "number"]
    return rows.astype(dict.fromkeys(numbers, "float32") | {"member": int, "as_of": "datetime64[us]"})


def replayed(place: Place, effect: Effect = EFFECT, seed: int = SEED) -> tuple[Played, dict[str, pa.Table]]:
    "The replay of the same weeks with the same releases, and what it would leave behind."
    rows, ladder = snapshots(), []
    for name, release in zip(("proposed", "xgboost"), place.drive_releases):
        scorer = load(place.store, release).scorer
        rows[name] = 0.0
        for _, part in rows.groupby("as_of"):
            rows.loc[part.index, name] = scorer.scores(part).astype(float)
        ladder.append({"name": name, "label": name, "complexity": 2})
    policies = {each.name: each for each in policies_of(rows, ladder, small.SCHEMA, small.CHARTER)}
    mine = {arm.policy: policies[arm.policy] for arm in PLAN.arms}
    options = {"charter": small.CHARTER, "schema": small.SCHEMA, "until": pd.Timestamp(UNTIL)}
    world = make_world(rows, {"visit": visits()}, mine, PLAN, **options)
    played = replay(world, PLAN, effect, capacity=small.CHARTER.capacity_per_week, seed=seed)
    written = tables(played, cost=small.CHARTER.economics.offer_cost)
    return played, {name: as_rows(name, each.table) for name, each in written.items()}


def shop_place(root: Path, url: str = "sqlite:///state/workbench.db") -> Place:
    "A store, a database, and both releases in force, deployed to be played with."
    from ml_workbench.plan.experiment import Split
    from ml_workbench.release.deployment import Deployment
    from ml_workbench.serve.designs import REPLAY

    place = Place(root, url)
    champion, challenger = (
        place.store.add(judged(small.small_bundle(name), experiment=PLAN)) for name in MODELS
    )
    place.drive_releases = (champion, challenger)
    split = Split.model_validate(PLAN.model_dump(include=set(Split.model_fields)))
    releases = {"champion": champion, "challenger": challenger}
    state = Deployment(split, "control", releases, champion, "champion")
    place.ledger.write("deploy", state, REPLAY, "a drive", None)
    return place


@dataclass
class Site:
    "A place whose service may be killed and started again on the same port."

    place: Place
    options: dict[str, Any] = field(default_factory=dict)  # of the service
    service: Running | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.records = Records(self.place.url, root=self.place.root)
        self.stack.enter_context(self.records)

    def start(self, *, ready: bool = True) -> None:
        "Start the service, the first time or again."
        port = self.service.port if self.service else None
        self.service = self.stack.enter_context(running(self.place, ready=ready, port=port, **self.options))

    def script(self, **changes: Any) -> Script:
        "The whole drive."
        ledger, store = self.place.ledger, self.place.store
        deployment = in_force(ledger)
        terms = load(store, deployment.terms).terms
        labels = labels_of(deployment, lambda name: store.read(name).release.label)
        made = {
            "experiment": experiment_of(deployment, terms.experiment),
            "terms": terms,
            "labels": labels,
            "sheets": sheets(),
        }
        made |= {"outcomes": {"visit": visits()}, "until": UNTIL, "effect": EFFECT, "seed": SEED}
        return Script(**made | changes)

    def drive(self, script: Script | None = None, **options: Any) -> Driven:
        "Drive it, to the end or to an error."
        made = Driving(
            script or self.script(),
            self.records,
            self.service.url,
            **{"token": TOKEN, "patience": 60.0} | options,
        )
        with closing(made):
            return drive(made, self.place.ledger)

    def tables(self) -> dict[str, pa.Table]:
        "What is on record of the experiment."
        names = ("assignments", "covariates", "predictions", "exposures", "outcomes")
        return {name: self.records.read(name, experiment=PLAN.name) for name in names}

    def __enter__(self) -> "Site":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()


def differences(found: dict[str, pa.Table], expected: dict[str, pa.Table]) -> dict[str, list]:
    "Rows that stand in only one of two sets of records; which model a policy was is called differently."
    wrong: dict[str, list] = {}
    members = partial(pa.Table.to_pylist)
    known = {row["unit"] for row in members(expected["assignments"])}
    for name, there in found.items():
        one, other = ([{**row, "model": None} for row in members(table)] for table in (there, expected[name]))
        other = [row for row in other if name != "outcomes" or row["unit"] in known]
        left, right = ({tuple(row.items()) for row in rows} for rows in (one, other))
        if left != right or len(one) != len(left):
            wrong[name] = [*sorted(left - right, key=repr)[:3], "≠", *sorted(right - left, key=repr)[:3]]
    return wrong
