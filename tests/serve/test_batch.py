"""Everybody is scored once, whole and as a service would answer, whatever interrupts it."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import duckdb
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from ml_workbench.data.sources import open_source
from ml_workbench.database.connections import address, connected
from ml_workbench.database.tables import RECORDED, TABLES, key_of
from ml_workbench.experiment.listings import said
from ml_workbench.plan.errors import (
    ContractError,
    FeatureError,
    LedgerError,
    RecordError,
    ReleaseError,
    SourceError,
    WorkbenchError,
)  # fmt: skip
from ml_workbench.plan.experiment import Arm, Split
from ml_workbench.release.bundle import bundle_of
from ml_workbench.release.declaration import DECLARATION, declaration_bytes, declaration_hash, declared_from
from ml_workbench.release.deployment import Deployment
from ml_workbench.release.policy import POLICY, terms_from
from ml_workbench.release.store import Store
from ml_workbench.serve import batch as batches
from ml_workbench.serve.batch import Order, Run, score
from ml_workbench.serve.deciding import Decider, Way
from ml_workbench.serve.everybody import Everybody, decide_all, handed_over
from ml_workbench.serve.live import live
from ml_workbench.serve.online import read_online
from ml_workbench.serve.records import Records
from ml_workbench.serve.refreshing import refresh
from ml_workbench.serve.requests import Question
from ml_workbench.serve.resting import resting_units
from ml_workbench.serve.spool import Spool
from ml_workbench.serve.targets import SCORES
from tests.serve.shop import (
    MONDAY,
    SHOP,
    WEEK,
    deploy,
    deployment_of,
    project,
    settings_of,
    small,
    write_tables,
)


@pytest.fixture(autouse=True)
def _loading_without_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    "The child process in which releases are tried has tests of its own, and takes its time."
    monkeypatch.setattr("ml_workbench.release.loading.try_in_child", lambda *_: 0.0)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest, tmp_path: Path):
    "A project whose records are in a database of either kind."
    database = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return project(tmp_path, database)


@pytest.fixture
def shop(tmp_path: Path):
    "A project with its records in SQLite."
    return project(tmp_path)


def run(settings, as_of: datetime = MONDAY, target: str = "results", source: str = "tables", **more) -> Run:
    "Score the shop's members."
    watching = {name: more.pop(name) for name in ("step", "progress") if name in more}
    return score(Order(as_of, source, target, **more), settings, tables=SHOP, **watching)


def decisions(settings, target: str = "results") -> pd.DataFrame:
    "What stands in a target, in the order of time and members."
    with open_source(target, root=settings.root) as source, duckdb.connect() as connection:
        relation = source.relation(connection, "scores", ["unit"], settings.root / "spool")
        rows = connection.sql(f"SELECT * FROM {relation}").df()
    return (
        rows.assign(number=rows["unit"].astype(int)).sort_values(["as_of", "number"]).reset_index(drop=True)
    )


def records(settings) -> dict[str, list[dict]]:
    "All records, without the times of the clock, and without how each run fared."
    clock = {"served": {"at"}, "batches": {"started_at", "finished_at", "details"}, "ledger": {"at"}}
    clock["feeds"] = {"arrived", "seen_at"}
    found = {}
    with Records(settings.database_url, root=settings.root) as opened:
        for name in [each for each in TABLES.tables if each != "operations"]:
            rows = opened.read(name).to_pylist()
            found[name] = [{key: row[key] for key in row if key not in clock.get(name, ())} for row in rows]
    return found


def with_pauses_ramp_and_shadow(settings) -> Deployment:
    "All that a ledger can say."
    made = deployment_of(settings.root)
    shadow = Store("store", settings.root).add(small.small_bundle("xgboost", note="a shadow"))
    split = made.split.model_copy(update={"ramp": 0.7})
    return replace(made, split=split, shadows=(shadow,), paused=("challenger",))


def by_town(settings) -> Deployment:
    "Whole towns are randomised."
    made = deployment_of(settings.root)
    return replace(made, split=made.split.model_copy(update={"cluster": "town", "name": "towns"}))


def without_a_model(settings) -> Deployment:
    "The rule against nothing; the champion's release brings only charter and plan."
    made = deployment_of(settings.root)
    arms = [Arm(name="control", policy="none", weight=0.5), Arm(name="champion", policy="rule", weight=0.5)]
    split = Split(name="rules", namespace="letters", holdout=0.0, arms=arms)
    return Deployment(split, "control", {}, made.terms, "champion")


@pytest.mark.parametrize("deployed", [with_pauses_ramp_and_shadow, by_town, without_a_model])
def test_every_active_member_is_decided_about_as_a_service_would_answer(settings, deployed):
    deployment = deployed(settings)
    deploy(settings, deployment)
    for weeks in (0, 1):
        run(settings, MONDAY + weeks * WEEK)
    refresh(MONDAY + WEEK, "tables", settings, tables=SHOP)
    found, engine = live(settings), connected(address(settings.database_url, root=settings.root))
    online = read_online(engine, found.terms)
    resting = resting_units(engine, deployment.split.name, online.as_of, found.terms)
    engine.dispose()
    assert min(map(len, resting.values())) == 20, "who was listed a week ago rests"
    decider = Decider(found.line, found.deployment, found.loaded, online=online, resting=resting)
    answers = [decider.decide(Question(unit), f"decision-{unit}") for unit in online.units]

    rows = decisions(settings).set_index("unit").query("as_of == @online.as_of")
    kept = {row["unit"]: row for row in records(settings)["served"] if row["as_of"] == online.as_of}
    assert set(rows.index) == set(online.units) == set(kept) and len(rows) > 150
    for each in answers:
        answer, served = each.answer, each.rows["served"][0]
        row, mine = rows.loc[answer["unit"]], kept[answer["unit"]]
        assert (row["arm"] if isinstance(row["arm"], str) else None) == answer["arm"]
        assert [row[name] for name in SAME] == [answer[name] for name in SAME]
        for name in ("score", "value"):
            np.testing.assert_allclose(row[name], np.nan if answer[name] is None else answer[name], atol=1e-5)
        assert (None if pd.isna(row["rank"]) else int(row["rank"])) == answer["rank"]
        assert [mine[name] for name in ("release", *SAME)] == [served[name] for name in ("release", *SAME)]
        assert mine["line"] == served["line"] and mine["channel"] == "batch"
        if deployed is with_pauses_ramp_and_shadow:
            assert (mine["features"], mine["features_hash"]) == (served["features"], served["features_hash"])
            assert mine["shadows"].startswith(f'{{"{deployment.shadows[0]}":{{"score":0.')
    if deployed is with_pauses_ramp_and_shadow:
        assert set(rows["reason"]) == {"assigned", "paused", "not ramped", "holdout"}


SAME = ("propensity", "reason", "policy", "action")


def test_holdout_and_capacity_are_kept_and_only_members_of_arms_are_exposed(shop):
    ran = run(shop)
    rows, kept = decisions(shop), records(shop)
    assert ran.actions == (rows["action"] == "offer").sum() == len(kept["exposures"]) <= 20
    assert not (rows["action"] == "offer")[rows["reason"] == "holdout"].any()
    assert (rows["cost"] == np.where(rows["action"] == "offer", 1.0, 0.0)).all()
    assert ran.by_arm["holdout"] == (rows["arm"] == "holdout").sum() > 0
    assert len(kept["assignments"]) == len(rows), "everybody takes part or is held out"
    assert {row["policy"] for row in kept["predictions"]} == {"rule", "proposed", "challenger"}
    assert len(kept["predictions"]) == 3 * len(rows)
    assert {row["name"] for row in kept["covariates"]} == {"usual_weekly_spend"}
    assert ran.expected == pytest.approx(rows.loc[rows["action"] == "offer", "value"].sum(), abs=0.01)


def test_who_was_listed_rests_and_is_assigned_and_remembered_only_once(shop):
    first, second = run(shop), run(shop, MONDAY + WEEK)
    rows = decisions(shop)
    listed = {name: set() for name in ("rule", "proposed", "challenger")}
    for row in records(shop)["predictions"]:
        if row["as_of"] == MONDAY and row["listed"]:
            listed[row["policy"]].add(row["unit"])
    later = [row for row in records(shop)["predictions"] if row["as_of"] > MONDAY]
    assert all(len(each) == 20 for each in listed.values())
    for row in later:
        assert (row["rank"] is None) == (row["unit"] in listed[row["policy"]]), (
            "a rank is empty exactly while a unit rests"
        )
    assert second.records["assignments"]["given"] < 20 < first.records["assignments"]["given"]
    units = [(row["experiment"], row["unit"]) for row in records(shop)["assignments"]]
    assert len(units) == len(set(units)) == rows["unit"].nunique()


def test_a_completed_batch_is_left_alone_and_done_again_only_when_asked(settings):
    first = run(settings)
    rows, kept = decisions(settings), records(settings)
    (settings.root / "tables" / "receipts.parquet").rename(settings.root / "away")
    second = run(settings)
    assert not second.done and replace(second, done=True) == first, "it does not even look at the source"
    (settings.root / "away").rename(settings.root / "tables" / "receipts.parquet")
    third = run(settings, again=True)
    assert third.done and third.again and third.conflicting == 0
    pd.testing.assert_frame_equal(decisions(settings), rows)
    assert records(settings) == kept
    other = run(settings, target="duckdb:///other.duckdb")
    assert other.done, "another target is another batch"
    pd.testing.assert_frame_equal(
        decisions(settings, "duckdb:///other.duckdb")[["unit", "action"]], rows[["unit", "action"]]
    )


def test_again_after_a_correction_replaces_the_target_and_leaves_what_was_decided_on_record(shop):
    run(shop)
    before = records(shop)
    tables = {name: table.copy() for name, table in small.tables().items()}
    gone = tables["receipts"]["bought_at"] > MONDAY - timedelta(days=30)
    tables["receipts"] = tables["receipts"][~gone | (tables["receipts"]["member"] % 2 == 0)]
    write_tables(shop.root / "tables", tables)
    ran = run(shop, again=True)
    assert ran.conflicting > 10 and ran.units == decisions(shop)["unit"].nunique() == len(decisions(shop))
    after = records(shop)
    known = {row["decision_id"]: row for row in before["served"]}
    assert all(known.get(row["decision_id"], row) == row for row in after["served"])


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from tests.serve.shop import MONDAY, SHOP, settings_of
from ml_workbench.release import loading
from ml_workbench.serve import batch
from ml_workbench.serve.targets import Pending

loading.try_in_child = lambda *_: 0.0  # it has tests of its own

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(action):
    def acted(*arguments, **options):
        action(*arguments, **options)
        die()
    return acted

when, options = {when!r}, {{}}
if when == "read":
    options["step"] = die
elif when == "recorded":
    batch.keep = after(batch.keep)
elif when == "noted":
    batch.note_batch = after(batch.note_batch)
elif when == "committed":
    made = Pending.__init__
    def init(self, write, commit):
        made(self, write, after(commit))
    Pending.__init__ = init
batch.score(batch.Order(MONDAY, "tables", {target!r}), settings_of(Path({root!r}), {database!r}), tables=SHOP, **options)
"""


def killed(settings, when: str, target: str) -> int:
    "Run a batch in a process that kills itself at some point; how it ended."
    words = {"tests": str(Path(__file__).parents[2]), "when": when, "target": target}
    code = SCRIPT.format(**words, root=str(settings.root), database=settings.database_url)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120).returncode


@pytest.mark.parametrize(
    ("target", "moments"),
    [("results", ["read", "noted", "committed"]), ("duckdb:///scores.duckdb", ["recorded", "committed"])],
)
def test_a_killed_batch_started_again_ends_as_one_that_never_was(tmp_path, target, moments):
    undisturbed = project(tmp_path / "undisturbed")
    run(undisturbed, target=target)
    rows, kept = decisions(undisturbed, target), records(undisturbed)
    settings = project(tmp_path / "killed")
    for when in moments:
        assert killed(settings, when, target) == -signal.SIGKILL, when
        assert not records(settings)["served"] and not records(settings)["batches"], when
    for done in (True, False):
        assert run(settings, target=target).done is done
    pd.testing.assert_frame_equal(decisions(settings, target), rows)
    found = records(settings)
    for name in kept:
        ours, theirs = (
            [{k: v for k, v in row.items() if k != "target"} for row in each[name]] for each in (found, kept)
        )
        assert ours == theirs, name


@pytest.mark.postgres
def test_the_same_in_postgresql(tmp_path, postgres_url):
    settings = project(tmp_path, postgres_url)
    target = f"{postgres_url}?table=letters"
    assert killed(settings, "committed", target) == -signal.SIGKILL
    assert not records(settings)["batches"]
    ran = run(settings, target=target)
    assert ran.done and not run(settings, target=target).done and "password" not in ran.target
    with connected(address(postgres_url)).connect() as connection:
        rows = connection.execute(sa.text("SELECT unit, action FROM letters")).all()
    assert len(rows) == len({unit for unit, _ in rows}) == ran.units
    assert sum(action == "offer" for _, action in rows) == ran.actions


def test_a_database_that_goes_away_at_the_end_leaves_nothing_half_written(shop):
    run(shop, MONDAY - WEEK)
    before = decisions(shop)

    def damage(text: str) -> None:
        if text.startswith("writing"):
            (shop.root / "records.db").rename(shop.root / "kept.db")
            (shop.root / "records.db").write_text("no database " * 1000)

    with pytest.raises(RecordError, match=r"may only be read|no SQLite database"):
        run(shop, step=damage)
    pd.testing.assert_frame_equal(decisions(shop), before)
    assert not list((shop.root / "results").rglob("*.tmp")), "nothing is left over"
    (shop.root / "kept.db").replace(shop.root / "records.db")
    assert run(shop).done and len(decisions(shop)) > len(before)


@pytest.mark.postgres
def test_a_server_that_throws_us_out_at_the_end_leaves_nothing_half_written(
    tmp_path, postgres_url, postgres_server
):
    settings, target = project(tmp_path, postgres_url), "duckdb:///scores.duckdb"
    name = postgres_url.rpartition("/")[2]

    def leave(allowed: bool) -> None:
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(postgres_server, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")
            cursor.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    with pytest.raises(RecordError):
        run(settings, target=target, step=lambda text: leave(False) if text.startswith("writing") else None)
    leave(True)
    assert not records(settings)["served"]
    assert run(settings, target=target).done and len(decisions(settings, target)) > 150


def test_a_target_that_fails_in_the_middle_leaves_the_records_as_they_were(shop, monkeypatch):
    def broken(decided, release, as_of):
        reader = whole(decided, release, as_of)
        yield next(iter(reader))
        raise OSError("No space left on device")

    whole = batches.handed_over
    monkeypatch.setattr(
        batches, "handed_over", lambda *given: pa.RecordBatchReader.from_batches(SCORES, broken(*given))
    )
    for target in ("results", "duckdb:///scores.duckdb"):
        with pytest.raises(RecordError, match=r"cannot be written.*No space left"):
            run(shop, target=target)
    kept = records(shop)
    assert not kept["served"] and not kept["assignments"] and not kept["batches"]


def test_from_any_source_come_the_same_decisions(shop, request):
    run(shop)
    expected = decisions(shop).drop(columns="number")
    write_tables(shop.root / "texts", kind="csv")
    with duckdb.connect(str(shop.root / "shop.duckdb")) as connection:
        for name, table in small.tables().items():
            connection.register("given", table)
            connection.execute(f"CREATE TABLE {name} AS FROM given")
    for source in ("texts", "duckdb:///shop.duckdb"):
        run(shop, source=source, target=f"from_{source[:5]}", again=True)
        pd.testing.assert_frame_equal(decisions(shop, f"from_{source[:5]}").drop(columns="number"), expected)
    both = run(shop, source="duckdb:///shop.duckdb", target="duckdb:///shop.duckdb")
    assert both.done, "source and target may be the same file"


@pytest.mark.postgres
def test_from_and_to_postgresql(shop, postgres_url):
    run(shop)
    expected = decisions(shop)
    engine = connected(address(postgres_url))
    for name, table in small.tables().items():
        table.to_sql(name, engine, index=False, chunksize=1000, method="multi")
    ran = run(shop, source=postgres_url, target=postgres_url)
    with engine.connect() as connection:
        rows = pd.read_sql(sa.text("SELECT * FROM scores"), connection)
    engine.dispose()
    rows = rows.assign(number=rows["unit"].astype(int)).sort_values("number").reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, expected, check_dtype=False, check_column_type=False)
    assert ran.source == postgres_url.replace("postgresql", "postgresql") and "?table=scores" in ran.target


def test_later_events_change_nothing(shop):
    run(shop)
    expected = decisions(shop)
    tables = {name: table.copy() for name, table in small.tables().items()}
    later = tables["receipts"].head(200).assign(bought_at=MONDAY + timedelta(seconds=1), spent=999.0)
    tables["receipts"] = pd.concat([tables["receipts"][tables["receipts"]["bought_at"] <= MONDAY], later])
    write_tables(shop.root / "grown", tables)
    run(shop, source="grown", again=True)
    pd.testing.assert_frame_equal(decisions(shop), expected)


def with_declaration(bundle, change: Callable):
    "The same model in a release with another declaration."
    declared = declaration_bytes(change(declared_from(bundle.files[DECLARATION])))
    terms = replace(terms_from(bundle.files[POLICY]), feature_set=declaration_hash(declared))
    files = bundle.files | {DECLARATION: declared, POLICY: terms.as_bytes()}
    return bundle_of(files, origin=small.ORIGIN, metrics=small.METRICS)


def test_a_challenger_may_have_features_of_its_own(shop):
    def doubled(declared):
        first, *others = declared.features
        return replace(declared, features=(replace(first, expression=f"2 * ({first.expression})"), *others))

    store = Store("store", shop.root)
    plain, other = small.small_bundle("xgboost"), with_declaration(small.small_bundle("xgboost"), doubled)
    scores = {}
    for bundle in (plain, other):
        deployment = deployment_of(shop.root)
        deploy(shop, replace(deployment, releases=deployment.releases | {"challenger": store.add(bundle)}))
        run(shop, target=f"with_{bundle.release.id[:4]}", again=True)
        scores[bundle.release.id] = decisions(shop, f"with_{bundle.release.id[:4]}").set_index("unit")
    one, two = scores.values()
    mine = one["arm"] == "challenger"
    assert (one.loc[~mine, "score"].dropna() == two.loc[~mine, "score"].dropna()).all()
    assert (one.loc[mine, "score"] != two.loc[mine, "score"]).any()
    assert set(two.loc[mine, "model"].dropna()) == {other.release.id}


def test_a_release_named_by_hand_decides_for_everybody_but_the_holdout(shop):
    release = deployment_of(shop.root).releases["challenger"]
    ran = run(shop, release=release[:8])
    rows = decisions(shop)
    assert ran.line == 0 and ran.release == release and set(rows["arm"]) == {"champion", "holdout"}
    assert set(rows["experiment"]) == {"letters-champion"} and set(rows["model"].dropna()) == {release}
    assert not [row for row in records(shop)["served"] if row["experiment"] == "letters-1"]


def test_every_run_that_did_something_writes_how_it_fared(shop):
    ran = [run(shop), run(shop), run(shop, again=True)]
    with Records(shop.database_url, root=shop.root) as opened:
        lines = opened.read("operations").to_pylist()
    assert [each.done for each in ran] == [True, False, True] and len(lines) == 2
    for line in lines:
        assert (line["kind"], line["release"], line["decisions"]) == ("batch", ran[0].release, ran[0].units)
        assert line["seconds"] > 0 and line["memory_mb"] > 10 and line["p50_ms"] is line["waiting"] is None


def test_a_batch_says_what_waits_and_lets_those_rest_who_were_listed_in_it(shop):
    told, folder = [], shop.root / shop.spool_dir
    run(shop, target="first")
    first = decisions(shop, "first")
    listed = [str(unit) for unit in first.loc[first["listed"] & (first["policy"] == "proposed"), "unit"]]
    at = (MONDAY - timedelta(days=1)).isoformat(" ", "microseconds")
    rows = [
        {"experiment": "letters-1", "policy": "proposed", "unit": unit, "as_of": at, "listed": True}
        for unit in listed
    ]
    with Spool(folder, limit_bytes=1 << 24, fsync_ms=20) as spool:
        spool.append(orjson.dumps({"predictions": rows}))
    run(shop, target="later", step=told.append)
    later = decisions(shop, "later").set_index("unit")
    assert listed and not later.loc[listed, "listed"].any()
    assert [each for each in told if each.startswith("1 records wait in this machine's spool")]


def test_only_the_hash_of_features_is_kept_where_settings_say_so(shop):
    run(shop)
    hashes = {row["unit"]: row["features_hash"] for row in records(shop)["served"]}
    other = project(shop.root / "other", log_features="hash")
    run(other)
    served = records(other)["served"]
    assert {row["unit"]: row["features_hash"] for row in served} == hashes
    assert {row["features"] for row in served} == {None}


BAD = {
    "in the future of the data": ({"as_of": MONDAY + 52 * WEEK}, SourceError, "lies in their future"),
    "before all data": ({"as_of": MONDAY - 52 * WEEK}, SourceError, "nothing happened at or before"),
    "a source that is not there": ({"source": "nowhere"}, SourceError, "does not exist"),
    "a source that lacks a table": ({"source": "lacking"}, SourceError, "lacks 1 declared table"),
    "a source that lacks a column": ({"source": "narrow"}, SourceError, "lacks column 'spent'"),
    "a table that breaks its promises": ({"source": "broken"}, ContractError, "is below 0"),
    "a target of an unknown kind": ({"target": "sqlite:///x.db"}, RecordError, "unknown kind 'sqlite'"),
    "a target that cannot be written": ({"target": "tables/receipts.parquet"}, RecordError, "cannot be written"),
    "a target whose table is another": ({"target": "duckdb:///other.duckdb"}, RecordError, "lacks the column"),
    "a target that is away": ({"target": "postgresql://ann:secret@127.0.0.1:1/x"}, RecordError, "cannot be written"),
    "a release that is missing": ({"release": "beef"}, ReleaseError, "beef"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_scored_is_told_in_a_line_and_nothing_is_written(shop, case):
    given, kind, message = BAD[case]
    tables = small.tables()
    write_tables(shop.root / "lacking", {"receipts": tables["receipts"]})
    write_tables(shop.root / "narrow", tables | {"receipts": tables["receipts"].drop(columns="spent")})
    wrong = tables["receipts"].assign(
        spent=tables["receipts"]["spent"].where(tables["receipts"].index != 5, -1.0)
    )
    write_tables(shop.root / "broken", tables | {"receipts": wrong})
    with duckdb.connect(str(shop.root / "other.duckdb")) as connection:
        connection.execute("CREATE TABLE scores (who TEXT)")
    before = records(shop)
    with pytest.raises(kind, match=message) as caught:
        run(shop, **given)
    after = records(shop)
    assert "secret" not in str(caught.value) and after | {"feeds": []} == before
    assert not list((shop.root / "results").rglob("*.parquet"))


def test_nobody_is_active_where_nobody_came_for_so_long(shop):
    tables = {name: table.copy() for name, table in small.tables().items()}
    receipts = tables["receipts"]
    nameless = receipts[receipts["bought_at"] <= MONDAY].assign(member=pd.array([None], dtype="Int64")[0])
    write_tables(shop.root / "nameless", tables | {"receipts": nameless})
    with pytest.raises(WorkbenchError, match=r"no unit was active|is NULL"):
        run(shop, source="nameless")
    assert Store("store", shop.root).ids()


def test_nothing_deployed_is_told_with_what_to_do(tmp_path):
    settings = settings_of(tmp_path)
    write_tables(tmp_path / "tables")
    with pytest.raises(LedgerError, match=r"nothing is deployed.*--release"):
        run(settings)
    with pytest.raises(LedgerError, match="nothing is deployed"):
        refresh(MONDAY, "tables", settings, tables=SHOP)


def test_a_feature_that_the_tables_do_not_bear_is_named(shop):
    def strange(declared):
        first, *others = declared.relations
        return replace(
            declared,
            relations=(replace(first, sql=first.sql.replace("FROM receipts", "FROM tickets")), *others),
        )

    release = Store("store", shop.root).add(with_declaration(small.small_bundle(), strange))
    with pytest.raises(FeatureError, match="relation 'visits' reads the table 'tickets'"):
        run(shop, release=release)


def test_the_online_table_holds_all_declared_features_of_active_members(settings):
    stored, release = refresh(MONDAY, "tables", settings, tables=SHOP)
    found = live(settings)
    engine = connected(address(settings.database_url, root=settings.root))
    online = read_online(engine, found.terms)
    engine.dispose()
    assert release == found.chief.id and stored.units == len(online.units) and online.as_of == MONDAY
    run(settings)
    assert set(online.units) == set(decisions(settings)["unit"])
    assert set(online.column("town")) == {"Arles", "Bath", "(missing)"}
    assert refresh(MONDAY, "tables", settings, tables=SHOP)[0].replaced == stored.units


def test_an_analysis_reads_what_a_batch_wrote(shop):
    run(shop)
    with Records(shop.database_url, root=shop.root) as opened:
        table = said(opened, "letters-1")
    lists = table.to_pandas().groupby("policy")["listed"].sum()
    assert dict(lists) == {"challenger": 20, "proposed": 20, "rule": 20}
    assert {name for name, rows in records(shop).items() if rows} >= {
        "assignments",
        "covariates",
        "predictions",
        "exposures",
    }
    assert set(RECORDED) >= {"assignments"} and key_of("batches") == ("release", "as_of", "target")


@trying(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.floats(0, 0.5), st.floats(0.1, 1))
def test_however_units_are_dealt_nobody_is_acted_on_who_must_not_be(seed, holdout, ramp):
    random = np.random.default_rng(seed)
    deployment = DEALT
    split = deployment.split.model_copy(
        update={"holdout": round(holdout, 3), "ramp": round(ramp, 3), "name": f"n{seed}"}
    )
    deployment = replace(deployment, split=split, paused=("champion",) if seed % 2 else ())
    count = 60
    units = pa.array([str(n) for n in range(count)])
    feature = pa.array(
        np.where(random.random(count) < 0.1, np.nan, random.integers(0, 9, count)),
        pa.float32(),
        from_pandas=True,
    )
    ways = {arm.name: Way(arm.name, arm.policy, DEALT.terms, None) for arm in split.arms}
    resting = {"rule": [str(n) for n in random.choice(count, 10)]}
    everybody = Everybody(units, np.arange(count), {"days_since_visit": feature}, {})
    terms = small_terms()
    decided = decide_all(everybody, deployment, ways, terms, resting=resting)
    rows = handed_over(decided, DEALT.terms, MONDAY).read_all().to_pandas()
    acted = rows["action"] == "offer"
    assert acted.sum() <= terms.charter.capacity_per_week
    assert not acted[rows["reason"] == "holdout"].any() and not acted[rows["policy"] == "none"].any()
    assert not acted[rows["unit"].isin(resting["rule"])].any() and rows.loc[acted, "listed"].all()
    assert rows["propensity"].between(0, 1).all()


def small_terms():
    return terms_from(small.small_bundle().files[POLICY])


def _dealt():
    arms = [Arm(name="control", policy="none", weight=0.3), Arm(name="champion", policy="rule", weight=0.7)]
    split = Split(name="n", namespace="letters", holdout=0.1, arms=arms)
    return Deployment(split, "control", {}, sha256(b"x").hexdigest(), "champion")


DEALT = _dealt()


def test_two_batches_at_the_same_time_end_as_one(shop):
    script = SCRIPT.format(
        tests=str(Path(__file__).parents[2]),
        when="",
        target="results",
        root=str(shop.root),
        database=shop.database_url,
    )
    started = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) for _ in range(2)]
    ended = [process.communicate(timeout=120)[1].decode()[-300:] for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    rows = decisions(shop)
    assert (
        rows["unit"].is_unique
        and len(records(shop)["served"]) == len(rows)
        and len(records(shop)["batches"]) == 1
    )
