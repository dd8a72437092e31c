"""What a replay served is what a batch would have written down, and looks like a production that is well."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace

import duckdb
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_workbench.data.features import compute_features, select_snapshots
from ml_workbench.database.rows import schema_of
from ml_workbench.experiment.play import as_released, make_world, microseconds
from ml_workbench.experiment.readers import reading
from ml_workbench.experiment.replay import Played, replay
from ml_workbench.experiment.served import (
    EVERY,
    MADE,
    SPREAD,
    Recorded,
    answers,
    feeds,
    moments,
    operations,
    recorded,
    served,
    write_served,
)
from ml_workbench.experiment.traces import WEEK
from ml_workbench.model.evaluation import policies_of
from ml_workbench.plan.experiment import Effect, Experiment
from ml_workbench.release.loading import load
from ml_workbench.release.store import Store
from ml_workbench.serve.batch import Order, score
from ml_workbench.serve.records import Records
from tests.release import small
from tests.serve.shop import MONDAY, SHOP, deployment_of, project

UNTIL = MONDAY + timedelta(days=28)
NOBODY = pa.table(
    {
        "event_id": pa.array([], pa.string()), "unit": pa.array([], pa.string()),
        "occurred_at": pa.array([], pa.timestamp("us")), "value": pa.array([], pa.float64()),
    }
)  # fmt: skip


def plan(**changes) -> Experiment:
    arms = [("control", "rule", 0.4), ("champion", "proposed", 0.4), ("challenger", "challenger", 0.2)]
    made = small.EXPERIMENT.model_dump() | {
        "arms": [{"name": name, "policy": policy, "weight": weight} for name, policy, weight in arms]
    }
    return Experiment.model_validate(made | changes)


def snapshots(*mondays: datetime) -> pd.DataFrame:
    "What is known of all active members on some Mondays."
    with duckdb.connect() as connection:
        for name, table in small.tables().items():
            connection.register(name, table)
        select_snapshots(connection, small.DECLARED, mondays, source="visits", active_days=84)
        compute_features(connection, small.DECLARED)
        rows = connection.sql("FROM features ORDER BY as_of, member").df()
    return rows.astype({"as_of": "datetime64[us]"})


def played(
    root, rows: pd.DataFrame, experiment: Experiment, **options
) -> tuple[Played, pd.DataFrame, Recorded]:
    "A toss with the shop's real releases."
    store = Store("store", root)
    scorers = {
        arm: load(store, release).scorer
        for arm, release in deployment_of(root).releases.items()
        if arm != "control"
    }
    named = {"proposed": scorers["champion"], "challenger": scorers["challenger"]}
    rows = as_released(rows, named)
    ladder = [{"name": name, "label": name, "complexity": 2} for name in named]
    policies = {each.name: each for each in policies_of(rows, ladder, small.SCHEMA, small.CHARTER)}
    mine = {arm.policy: policies[arm.policy] for arm in experiment.arms}
    settings = {"charter": small.CHARTER, "schema": small.SCHEMA, "until": pd.Timestamp(UNTIL)}
    world = make_world(rows, {"visit": NOBODY}, mine, experiment, **settings)
    toss = replay(
        world, experiment, Effect(kind="none"), capacity=small.CHARTER.capacity_per_week, seed=1, **options
    )
    return toss, rows, recorded(small.SCHEMA, named, experiment, small.CHARTER, proposed="proposed")


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> SimpleNamespace:
    "A batch of one Monday, as production wrote it down, and the replay of the same Monday."
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ml_workbench.release.loading.try_in_child", lambda *_: 0.0)
        settings = project(tmp_path_factory.mktemp("shop"))
        score(Order(MONDAY, "tables", "results"), settings, tables=SHOP)
        with Records(settings.database_url, root=settings.root) as records:
            written = records.read("served").to_pandas().sort_values("unit").reset_index(drop=True)
        toss, rows, about = played(settings.root, snapshots(MONDAY), plan())
        return SimpleNamespace(root=settings.root, batch=written, toss=toss, rows=rows, about=about)


def table_of(shop) -> pd.DataFrame:
    found = served(answers(shop.toss, shop.rows, shop.about, seed=1), shop.about)
    return found.to_pandas().sort_values("unit").reset_index(drop=True)


@pytest.mark.parametrize(
    "column",
    ["unit", "as_of", "experiment", "arm", "propensity", "reason", "policy", "score", "value", "action", "features", "features_hash", "shadows", "latency_ms", "channel"],
)  # fmt: skip
def test_what_is_served_is_what_a_batch_of_the_same_releases_writes_down(shop, column) -> None:
    pd.testing.assert_series_equal(table_of(shop)[column], shop.batch[column], check_exact=True)


def test_an_arm_that_asks_no_model_answers_under_the_release_whose_terms_hold(shop) -> None:
    names = dict(zip(shop.batch["release"], table_of(shop)["release"]))
    assert (
        len(names) == 2
        and names[shop.batch.query("policy == 'proposed'")["release"].iloc[0]] == shop.about.terms
    )
    assert all(
        label.split()[0] in ("proposed", "challenger") and len(label.split()[1]) == 12
        for label in names.values()
    )
    ours = table_of(shop).groupby("policy")["release"].unique().map(list)
    assert ours["rule"] == ours["none"] == ours["proposed"] == [shop.about.terms] != ours["challenger"]


def test_the_table_is_the_one_of_the_records_and_its_decisions_have_a_name_each(shop) -> None:
    found = served(answers(shop.toss, shop.rows, shop.about, seed=1), shop.about)
    assert found.schema == schema_of("served") and found["line"].unique().to_pylist() == [0]
    assert len(set(found["decision_id"].to_pylist())) == len(found) == len(shop.rows)
    other = served(
        answers(shop.toss, shop.rows, shop.about, seed=1), replace(shop.about, terms="another 000000000000")
    )
    assert not set(found["decision_id"].to_pylist()) & set(other["decision_id"].to_pylist())


def test_a_second_replay_is_the_same_to_the_last_byte_and_another_seed_moves_the_clock_only(shop) -> None:
    made = [
        served(answers(shop.toss, shop.rows, shop.about, seed=seed), shop.about)
        for seed in (1, 1, *range(2, 8))
    ]
    assert made[0].equals(made[1]) and len({table["at"][0].as_py() for table in made}) > 2
    assert all(table.drop_columns(["at"]).equals(made[0].drop_columns(["at"])) for table in made)


def test_who_left_no_trace_is_not_among_the_answers(shop) -> None:
    toss, rows, about = played(shop.root, snapshots(MONDAY), plan(), mode="broken")
    found = set(answers(toss, rows, about).facts["unit"].to_pylist())
    lost = set(toss.world.names[toss.lost])
    assert lost and not lost & found and len(found) == len(rows) - len(lost)


def test_who_takes_no_part_is_answered_and_gets_nothing(shop) -> None:
    toss, rows, about = played(shop.root, snapshots(MONDAY), plan(slots=[0.0, 0.5], ramp=0.5, holdout=0.0))
    facts = answers(toss, rows, about).facts.to_pandas()
    outside = facts[~facts["reason"].isin(["assigned", "holdout"])]
    assert set(outside["reason"]) == {"outside", "not ramped"} and len(facts) == len(rows)
    assert set(outside["policy"]) == {"none"} == set(outside["action"]) and outside["arm"].isna().all()
    assert outside["score"].isna().all() and (outside["propensity"] > 0).all()


def test_whole_clusters_are_answered_as_they_were_assigned(shop) -> None:
    toss, rows, about = played(shop.root, snapshots(MONDAY), plan(cluster="town"))
    facts = answers(toss, rows, about).facts.to_pandas().assign(town=rows["town"].to_numpy())
    assert (facts.groupby("town")["arm"].nunique() == 1).all() and "town" in about.held


def test_some_answers_are_those_answers_in_the_order_asked_for(shop) -> None:
    found = answers(shop.toss, shop.rows, shop.about, seed=1)
    some = found.take(np.array([5, 2, 5]))
    assert served(some, shop.about).equals(served(found, shop.about).take(pa.array([5, 2, 5])))


def test_what_no_model_reads_is_declared_and_kept_as_null(shop) -> None:
    about = replace(shop.about, held=tuple(name for name in shop.about.held if name != "town"))
    kept = [
        orjson.loads(each)
        for each in served(answers(shop.toss, shop.rows, about), about)["features"].to_pylist()
    ]
    place = [name for name, _ in about.columns].index("town")
    assert {row[place] for row in kept} == {None} and {len(row) for row in kept} == {len(about.columns)}


def test_lists_are_made_after_their_time_and_before_the_next(shop) -> None:
    weeks = microseconds(pd.date_range("2024-01-01 05:00", periods=40, freq="7D").to_numpy())
    late = moments(weeks, MADE, seed=3) - weeks
    assert (late >= MADE).all() and (late < MADE + SPREAD).all() and len(set(late)) > 3


def test_a_healthy_process_has_a_line_every_four_hours_and_keeps_its_speed_and_memory() -> None:
    weeks = microseconds(pd.date_range("2024-01-01 05:00", periods=4, freq="7D").to_numpy())
    counts = np.array([2297, 2306, 2310, 0])
    lines = operations(weeks, counts, release="logistic 4318e50c5e4f", seed=1)
    assert lines.schema == schema_of("operations") and len(lines) == 4 * WEEK // EVERY
    frame = lines.to_pandas()
    assert (frame["at"].diff().dropna() == pd.Timedelta(EVERY, "us")).all()
    assert frame["at"].iloc[-1] == pd.Timestamp("2024-01-29 05:00") and frame["failed"].sum() == 0
    assert frame["decisions"].to_numpy().reshape(4, -1).sum(axis=1).tolist() == counts.tolist()
    hours = np.arange(len(frame))
    for name in ("p50_ms", "p99_ms", "memory_mb"):
        slope = np.polyfit(hours, frame[name], 1)[0] * len(frame)
        assert abs(slope) < 0.1 * frame[name].mean()
    assert (frame["p50_ms"] < frame["p99_ms"]).all()
    assert operations(weeks, counts, release="logistic 4318e50c5e4f", seed=1).equals(lines)


def shown_tables(connection: duckdb.DuckDBPyConnection) -> tuple[list[str], list[SimpleNamespace]]:
    connection.execute(
        "CREATE TABLE visits AS SELECT TIMESTAMP '2024-01-01' + INTERVAL (i) DAY AS \"when\", i AS member FROM range(20) t(i)"
    )
    connection.execute("CREATE TABLE people AS SELECT i AS member, 'Bath' AS town FROM range(7) t(i)")
    connection.execute("CREATE TABLE later AS SELECT TIMESTAMP '2025-01-01' AS day")
    return ["later", "people", "visits"], [
        SimpleNamespace(name="visits", time="when"),
        SimpleNamespace(name="later", time="day"),
    ]


def test_what_was_known_of_the_source_is_counted_as_of_each_list() -> None:
    weeks = microseconds(pd.to_datetime(["2024-01-08 00:00", "2024-01-15 05:00"]).to_numpy())
    with duckdb.connect() as connection:
        names, promised = shown_tables(connection)
        first, second = feeds(connection, names, promised, weeks, seed=1)
    assert (first["period"], second["period"]) == ("2024-01-15 00:00:00", "2024-01-22 05:00:00")
    assert (first["tables"]["visits"]["rows"], first["tables"]["visits"]["latest"]) == (
        8,
        "2024-01-08 00:00:00",
    )
    assert (second["tables"]["visits"]["rows"], second["tables"]["visits"]["latest"]) == (
        15,
        "2024-01-15 00:00:00",
    )
    assert second["tables"]["people"] | {"arrived": None} == {
        "rows": 7,
        "columns": {"member": "BIGINT", "town": "VARCHAR"},
        "latest": None,
        "arrived": None,
    }
    assert (first["tables"]["later"]["rows"], first["tables"]["later"]["latest"]) == (0, None)
    arrived = pd.Timestamp(first["tables"]["visits"]["arrived"])
    assert (
        pd.Timestamp("2024-01-08 00:00") < arrived < pd.Timestamp(moments(weeks, MADE, seed=1)[0], unit="us")
    )


def test_it_is_written_beside_the_records_and_disturbs_nobody_who_reads_them(shop, tmp_path) -> None:
    found = served(answers(shop.toss, shop.rows, shop.about, seed=1), shop.about)
    lines = operations(shop.toss.world.weeks, np.array([len(found)]), release=shop.about.terms, seed=1)
    for name in ("assignments", "outcomes"):
        pq.write_table(schema_of(name).empty_table(), tmp_path / f"{name}.parquet")
    known = [{"period": "2024-07-08 05:00:00", "tables": {}}]
    write_served(tmp_path, found, lines, known)
    bytes_ = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_served(tmp_path, found, lines, known)
    assert bytes_ == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert (
        pq.read_table(tmp_path / "served.parquet").equals(found) and json.loads(bytes_["feeds.json"]) == known
    )
    with reading(tmp_path) as reader:
        assert reader.rows("SELECT count(*) FROM assignments") == [(0,)]
