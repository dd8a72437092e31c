"""The default replay with any fault in it and under any coin: in memory, and as a folder that monitoring reads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml_workbench.data import definitions
from ml_workbench.data.engine import connect, view_tables
from ml_workbench.data.outcomes import outcome_named, read_outcome
from ml_workbench.data.sensitivity import traces
from ml_workbench.data.tables import TABLES
from ml_workbench.database.rows import as_rows
from ml_workbench.experiment.faults import (
    FAULTS,
    IN_SOURCE,
    Fault,
    Origin,
    as_it_is,
    at_hand,
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
from ml_workbench.experiment.traces import WEEK, tables
from ml_workbench.model.evaluation import policies_of, with_predictions
from ml_workbench.model.snapshots import read_schema, read_slices, slice_of
from ml_workbench.monitor import running
from ml_workbench.monitor.alerts import Alert
from ml_workbench.monitor.asking import Asked
from ml_workbench.monitor.checks import Reading
from ml_workbench.monitor.reading import Inputs, Material, keeping, material_of
from ml_workbench.plan.files import read_json
from ml_workbench.plan.params import load_params
from ml_workbench.plan.settings import load_settings
from ml_workbench.release.reference import Numbers, numbers
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
        private = {
            each.feature
            for each in traces(definitions.declare(self.schema.horizon_days), TABLES)
            if each.column not in self.params.privacy.allowed
        }
        self.about = recorded(
            self.schema,
            self.scorers,
            self.experiment,
            self.charter,
            proposed=self.proposed,
            kept_back=private,
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

    @cached_property
    def origin(self) -> Origin:
        "The source, each relation read once for all faults."
        declared = definitions.declare(self.schema.horizon_days)
        return Origin(self.connection, at_hand(self.connection, declared))

    def faulty(self, name: str) -> Faulty:
        "The weeks with a fault in them, or with several, like 'nan+memory_leak'; what lies in the source first."
        if name not in self._faulty:
            shown, outcomes = self.actual, self.happened
            for each in _faults(name):
                shown = planted(each, shown, self.schema, self.origin, seed=self.seed)
                outcomes = planted_outcomes(each, outcomes, self.weeks, seed=self.seed)
            usual = self.actual.loc[shown.index, self.schema.usual_weekly_spend].to_numpy()
            rows = as_released(shown.reset_index(drop=True), self.scorers)
            ranked = policies_of(
                rows, self.ladder, self.schema, self.charter, rank_by=self.params.evaluate.rank_by
            )
            policies = policies_by_name(self.experiment, ranked, proposed=self.proposed)
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

    def forget(self, name: str) -> None:
        "Plant a fault anew when it is asked for again."
        self._faulty.pop(name, None)

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
        known = self.known
        for each in _faults(name):
            lines = planted_operations(each, lines, self.weeks)
            known = planted_feeds(each, known, self.weeks)
        return Toss(faulty, played, found, lines, known)

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


def _faults(name: str) -> list[Fault]:
    "Faults by name, those that lie in the source first."
    return sorted((FAULTS[each] for each in name.split("+")), key=lambda each: each.name not in IN_SOURCE)


# What monitoring says of it


@dataclass
class Watch:
    "The monitors, with what they know of the release read once."

    project: Project

    def __post_init__(self) -> None:
        self.place = running.place_of(load_settings(self.project.root))
        self.released = running.released_at(self.place, self.project.about.terms)
        self.present = running.present_in(self.place.root, self.released.versions, self.released.data)
        self.days = self.place.params.period_days
        self.made = running.made_for(self.released)
        weeks = [pd.Timestamp(int(week + WEEK), unit="us") for week in self.project.weeks]
        self.ends = [week.to_pydatetime() for week in weeks]

    def materials(self, folder: Path, periods: int = 4) -> list[Material]:
        "The first periods of a replay, as they are read from its folder."
        with keeping(folder) as kept:
            until = running.known_until(kept, self.days, None)
            return [
                material_of(kept, self.released, end, self.days, until=until) for end in self.ends[:periods]
            ]

    def looked(
        self, materials: Sequence[Material], *, resamples: int = 200, without: Sequence[Any] = ()
    ) -> list[list[Reading]]:
        "What checks say, period by period, each with what was said before; those of some modules may be left out."
        params, found = self.place.params, []
        modules = [each for each in running.ALL if each not in without]
        for material in materials:
            before = running.in_a_row(
                [[(each.cause, each.status) for each in said] for said in reversed(found)]
            )
            rest = (params.minimum, resamples, params.confidence, params.seed)
            asked = Asked(self.place.checks, self.project.charter, self.present, before, *rest)
            found.append([one for each in modules for one in each.readings(material, asked)])
        return found

    def alerts(self, found: Sequence[Sequence[Reading]]) -> tuple[Alert, ...]:
        "What alerts there are after some periods."
        looked = [
            running.Looked(end, self.released.name, "", tuple(said), made=self.made)
            for end, said in zip(self.ends, found, strict=False)
        ]
        return running.alerts_in(looked, self.place)


def alarms(readings: Iterable[Reading]) -> set[str]:
    "Names of the checks that raise an alarm."
    return {each.check for each in readings if each.status == "alarm"}


# Other units, other coins


class Resampling:
    "The replay without a fault, again and again: another coin, other noise, and units drawn with replacement."

    def __init__(self, watch: Watch, folder: Path):  # of the replay without a fault
        self.watch, self.project = watch, watch.project
        self.base = watch.materials(folder)
        rows, world = self.project.faulty("none").rows, self.project.faulty("none").world
        self.names = [*self.base[0].inputs.columns]
        self.place = np.full((len(self.project.weeks), len(world.names)), -1)
        self.place[world.week, world.unit] = np.concatenate(
            [np.arange(size) for size in np.bincount(world.week)]
        )
        weeks = [np.flatnonzero(world.week == week) for week in range(len(self.project.weeks))]
        self.values = [rows[self.names].to_numpy(np.float64)[each] for each in weeks]
        edges = [
            [each.reference["features"][name]["edges"] for name in self.names] for each in self.base
        ]  # counted once for all draws
        self.widths = [[len(each) + 1 for each in week] for week in edges]
        self.bins = [
            np.column_stack(
                [
                    np.searchsorted(edge, column, side="right")
                    for edge, column in zip(week, values.T, strict=True)
                ]
            )
            for week, values in zip(edges, self.values, strict=False)
        ]
        self.number = {name: number for number, name in enumerate(world.names)}
        self.said = [
            _by_unit(each.answers, self.number, self.place[week]) for week, each in enumerate(self.base)
        ]

    def materials(self, number: int | None, drawn: np.ndarray | None = None) -> list[Material]:
        "What the periods would have shown of a toss; of everybody once, or of the units drawn."
        toss = self.project.toss("none", number)
        names, drawn = (
            (np.arange(len(drawn)).astype(str), drawn)
            if drawn is not None
            else (toss.faulty.world.names, np.arange(self.place.shape[1]))
        )
        offered = toss.played.offered
        world = toss.faulty.world
        treated = np.isin(drawn, world.unit[offered])
        answers = [
            self._answers(week, drawn, names, treated, world.unit[offered[world.week[offered] == week]])
            for week in range(len(self.base))
        ]
        counts: list[int] = []
        found = []
        for week, base in enumerate(self.base):
            served = self._served(week, drawn, names, toss)
            sent = int((world.week[offered] == week).sum())  # within capacity, whoever is drawn
            recent = pa.concat_tables(answers[max(0, week - 3) : week + 1])
            lines = toss.lines.filter(
                pc.less_equal(toss.lines["at"], pa.scalar(base.period_end, pa.timestamp("us")))
            )
            inputs = self._inputs(week, drawn)
            found.append(
                replace(
                    base, inputs=inputs, examples=base.examples.slice(0, 0), score=_score(answers[week], base.reference), actions={"offer": sent, "none": len(served) - sent},
                    served=served, answers=answers[week], recent=recent, traits=self._traits(base.traits, drawn, names), operations=lines,
                    counts=tuple(counts), sent=sent, cost=sent * self.project.charter.economics.offer_cost,
                )
            )  # fmt: skip
            counts.append(len(served))
        return found

    def drawn(self, seed: int) -> np.ndarray:
        "As many units as there are, drawn with replacement."
        size = self.place.shape[1]
        return np.random.default_rng([seed, 3]).integers(0, size, size)

    def _inputs(self, week: int, drawn: np.ndarray) -> Inputs:
        "The features of the units drawn, counted as they are when they are read."
        place = self.place[week][drawn]
        place = place[place >= 0]
        held, bins, widths = self.values[week][place], self.bins[week][place], self.widths[week]
        ends = np.cumsum([0, *widths])
        known = ~np.isnan(held)
        counts = np.bincount((bins + ends[:-1])[known], minlength=ends[-1])
        low, high, mean = (figure(held, axis=0) for figure in (np.nanmin, np.nanmax, np.nanmean))
        middle = np.nanmedian(np.where(held > 0, held, np.nan), axis=0)
        columns = {
            name: Numbers(
                len(place),
                int((~known[:, column]).sum()),
                0,
                0,
                *(float(each[column]) for each in (low, high, mean)),
                tuple(counts[ends[column] : ends[column + 1]].tolist()),
            )
            for column, name in enumerate(self.names)
        }
        medians = {name: float(each) for name, each in zip(self.names, middle, strict=True) if each > 0}
        return replace(self.base[week].inputs, rows=len(place), columns=columns, medians=medians)

    def _answers(
        self, week: int, drawn: np.ndarray, names: np.ndarray, treated: np.ndarray, acted: np.ndarray
    ) -> pa.Table:
        "What the release said of the units drawn, and what was done about them."
        place = self.said[week][drawn]
        there = np.flatnonzero(place >= 0)
        table = self.base[week].answers.take(pa.array(place[there]))
        changed = {
            "unit": pa.array(names[there]),
            "treated": pa.array(treated[there]),
            "acted": pa.array(np.isin(drawn[there], acted)),
        }
        return _changed(table, changed)

    def _served(self, week: int, drawn: np.ndarray, names: np.ndarray, toss: Toss) -> pa.Table:
        "Decisions about the units drawn."
        place = self.place[week][drawn]
        there = np.flatnonzero(place >= 0)
        first = int(np.flatnonzero(toss.faulty.world.week == week)[0])
        facts, schema = toss.answers.facts.take(pa.array(first + place[there])), self.base[week].served.schema
        mine = pa.array(names[there])
        rest = {
            "decision_id": mine,
            "unit": mine,
            "line": pa.repeat(0, len(there)),
            "features_hash": mine,
            "channel": pa.repeat("batch", len(there)),
        }
        columns = {name: facts[name] for name in facts.column_names} | rest
        return pa.table(
            [
                columns[field.name].cast(field.type)
                if field.name in columns
                else pa.nulls(len(there), field.type)
                for field in schema
            ],
            schema=schema,
        )

    def _traits(self, traits: pa.Table, drawn: np.ndarray, names: np.ndarray) -> pa.Table:
        "What was known of the units drawn."
        parts = []
        for name in traits["name"].unique().to_pylist():
            mine = traits.filter(pc.equal(traits["name"], name))
            place = _by_unit(mine, self.number, self.place[0])[drawn]
            there = np.flatnonzero(place >= 0)
            parts.append(_changed(mine.take(pa.array(place[there])), {"unit": pa.array(names[there])}))
        return pa.concat_tables(parts)


def _by_unit(table: pa.Table, numbers: Mapping[str, int], known: np.ndarray) -> np.ndarray:
    "Of each unit, its row; -1 for who has none."
    place = np.full(len(known), -1)
    place[[numbers[unit] for unit in table["unit"].to_pylist()]] = np.arange(len(table))
    return place


def _changed(table: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    "A table with other columns in the place of some."
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), values.cast(table.schema.field(name).type))
    return table


def _score(answers: pa.Table, reference: Mapping[str, Any]) -> Any:
    "Scores, counted as they are when they are read."
    scores = answers["score"].to_numpy().astype(np.float64)
    return numbers(np.ma.masked_array(scores, mask=np.isnan(scores)), reference["score"]["edges"])
