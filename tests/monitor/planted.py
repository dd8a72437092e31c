"""The default replay with any fault in it and under any coin: in memory, and as a folder that monitoring reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ml_workbench.data import definitions
from ml_workbench.data.engine import connect, view_tables
from ml_workbench.data.outcomes import outcome_named, read_outcome
from ml_workbench.data.tables import TABLES
from ml_workbench.database.rows import as_rows
from ml_workbench.experiment.faults import (
    FAULTS,
    Origin,
    as_it_is,
    planted,
    planted_feeds,
    planted_operations,
    planted_outcomes,
)
from ml_workbench.experiment.play import (
    World,
    as_released,
    make_world,
    microseconds,
    policies_by_name,
    released,
)
from ml_workbench.experiment.replay import Played, repetition, replay
from ml_workbench.experiment.served import Answers, answers, feeds, operations, recorded, served, write_served
from ml_workbench.experiment.traces import tables
from ml_workbench.model.evaluation import policies_of, with_predictions
from ml_workbench.model.snapshots import read_schema, read_slices, slice_of
from ml_workbench.plan.files import read_json
from ml_workbench.plan.params import load_params
from ml_workbench.serve.designs import REPLAY, canonical, design_hash, plain_design


@dataclass(frozen=True)
class Faulty:
    "The weeks of the replay with a fault in them, before any coin is tossed."

    fault: str
    rows: pd.DataFrame  # snapshots as they are served, with the scores of the released files
    world: World


@dataclass(frozen=True)
class Toss:
    "What one coin made of them."

    faulty: Faulty
    played: Played
    answers: Answers
    lines: pa.Table  # of operations
    feeds: list[dict[str, Any]]
    served: pa.Table | None = None


@dataclass
class Project:
    "The pipeline's outputs, read once."

    root: Path
    seed: int = 46
    _faulty: dict[str, Faulty] = field(default_factory=dict)

    def __post_init__(self) -> None:
        root, self.params = self.root, load_params(self.root)
        self.charter, self.experiment = self.params.charter, self.params.experiment
        self.schema = read_schema(root / "data/features/schema.json")
        snapshots = read_slices(root / "data/features/snapshots.parquet", self.schema, ["replay", "next"])
        predictions = read_slices(root / "data/predictions.parquet", self.schema, ["replay"])
        self.actual = with_predictions(slice_of(snapshots, self.schema, "replay"), predictions, self.schema)
        self.until = slice_of(snapshots, self.schema, "next")[self.schema.time].iloc[0]
        self.ladder = read_json(root / "reports/train.json")["candidates"]
        self.proposed = read_json(root / "reports/evaluation.json")["proposal"]["policy"]
        followed = [self.proposed, *(arm.policy for arm in self.experiment.arms)]
        self.scorers = released(self.ladder, followed, root / "models")
        self.about = recorded(
            self.schema, self.scorers, self.experiment, self.charter, proposed=self.proposed
        )
        self.weeks = np.unique(microseconds(self.actual[self.schema.time].to_numpy()))
        self.connection = connect(threads=2, memory_limit="1GB")
        self.names = view_tables(self.connection, root / "data/tables")
        kinds = sorted({metric.outcome for metric in self.experiment.metrics if metric.outcome})
        after = self.actual[self.schema.time].min()
        self.happened = {
            kind: read_outcome(self.connection, outcome_named(kind), after=after, until=self.until)
            for kind in kinds
        }

    @cached_property
    def known(self) -> list[dict[str, Any]]:
        "The source, as it was at each list."
        return feeds(self.connection, self.names, TABLES, self.weeks, seed=self.seed)

    def faulty(self, name: str) -> Faulty:
        "The weeks with a fault in them."
        if name not in self._faulty:
            origin = Origin(self.connection, definitions.declare(self.schema.horizon_days))
            shown = planted(FAULTS[name], self.actual, self.schema, origin, seed=self.seed)
            usual = self.actual.loc[shown.index, self.schema.usual_weekly_spend].to_numpy()
            rows = as_released(shown.reset_index(drop=True), self.scorers)
            ranked = policies_of(
                rows, self.ladder, self.schema, self.charter, rank_by=self.params.evaluate.rank_by
            )
            policies = policies_by_name(self.experiment, ranked, proposed=self.proposed)
            outcomes = planted_outcomes(FAULTS[name], self.happened, self.weeks, seed=self.seed)
            world = make_world(
                rows,
                outcomes,
                policies,
                self.experiment,
                charter=self.charter,
                schema=self.schema,
                until=self.until,
            )
            self._faulty[name] = Faulty(name, rows, as_it_is(world, usual))
        return self._faulty[name]

    def toss(self, name: str = "none", number: int | None = None) -> Toss:
        "One coin: that of the plan, or of a repetition, with noise of its own."
        faulty, seed = self.faulty(name), self.seed if number is None else number
        plan = self.experiment if number is None else repetition(self.experiment, number)
        played = replay(
            faulty.world, plan, self.params.replay.effect, capacity=self.charter.capacity_per_week, seed=seed
        )
        found = answers(played, faulty.rows, self.about, seed=seed)
        counts = np.bincount(
            faulty.world.week[np.flatnonzero(played.place[faulty.world.unit] >= 0)], minlength=len(self.weeks)
        )
        lines = operations(self.weeks, counts, release=self.about.terms, seed=seed)
        lines = planted_operations(FAULTS[name], lines, self.weeks)
        return Toss(faulty, played, found, lines, planted_feeds(FAULTS[name], self.known, self.weeks))

    def write(self, toss: Toss, folder: Path) -> Path:
        "A toss as the replay stage leaves it in data/replay, without the way through a database."
        folder.mkdir(parents=True, exist_ok=True)
        models = {name: self.about.label(name) for name in self.scorers}
        found = tables(toss.played, cost=self.charter.economics.offer_cost, models=models)
        for name, rows in found.items():
            pq.write_table(as_rows(name, rows.table), folder / f"{name}.parquet")
        pq.write_table(as_rows("experiments", [self._design(toss.played)]), folder / "experiments.parquet")
        write_served(folder, served(toss.answers, self.about), toss.lines, toss.feeds)
        return folder

    def _design(self, played: Played) -> Mapping[str, Any]:
        "The plan, as it is frozen when the experiment begins."
        plan = played.experiment
        start = pd.Timestamp(int(self.weeks[0]), unit="us").to_pydatetime()
        about = {
            "experiment": plan.name,
            "design_hash": design_hash(plan),
            "design": canonical(plain_design(plan)),
        }
        return about | {"started_at": start, "actor": REPLAY}
