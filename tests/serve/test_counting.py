"""Summaries count exactly the decisions that are in the database: whoever is killed, whatever is sent again, in whatever portions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import reduce
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_workbench.database.connections import address, connected, transaction
from ml_workbench.database.schema import upgrade
from ml_workbench.database.tables import table_of
from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release.known import Known
from ml_workbench.release.policy import POLICY, terms_from
from ml_workbench.release.reference import REFERENCE, categories, numbers, reference_from
from ml_workbench.release.store import Store
from ml_workbench.serve import counting as module
from ml_workbench.serve import shipping
from ml_workbench.serve.backlog import readmit
from ml_workbench.serve.counting import Counting, Measures
from ml_workbench.serve.delivery import DatabaseAway
from ml_workbench.serve.segments import POSITIONS, segments
from ml_workbench.serve.shipping import LOCK, Shipper, read_status
from ml_workbench.serve.spool import Spool
from ml_workbench.serve.tallies import Tally, both, tally_from
from tests.release.small import members, small_bundle
from tests.serve.live import Place, running, until
from tests.serve.load import Load, all_there

MB = 1 << 20
APPLE, BANANA, CHERRY = ("a" * 64, "b" * 64, "c" * 64)
NAMES = ("away", "town", "usual")
EDGES, LEVELS, SCORES = {"away": [0.0, 5.0, 10.0], "usual": [1.5]}, {"town": ["Arles", "Bath"]}, [0.25, 0.5]
EMPTY = {"count": 0, "null": 0}


def reference(**edges: list[float]) -> bytes:
    "Summaries of training, of which only edges and levels matter here."
    features = {
        name: {"kind": "number", "edges": each, "train": vars(numbers(np.zeros(0), each))}
        for name, each in (EDGES | edges).items()
    }
    features |= {
        name: {"kind": "category", "levels": each, "train": EMPTY | {"counts": [0] * (len(each) + 1)}}
        for name, each in LEVELS.items()
    }
    score = {"edges": SCORES, "train": vars(numbers(np.zeros(0), SCORES)) | {"positive": [0] * 3}}
    return json.dumps({"format": 1, "slices": {"train": {}}, "features": features, "score": score}).encode()


def policy(*names: str) -> bytes:
    return json.dumps({"columns": [[name, "number"] for name in names]}).encode()


class Shelf:
    "A store that holds some releases, and counts how often it is asked."

    def __init__(self, **releases: dict[str, bytes]) -> None:
        self.releases, self.asked = releases, 0

    def read(self, release: str) -> SimpleNamespace:
        self.asked += 1
        if release not in self.releases:
            raise ReleaseError("there is no such release")
        return SimpleNamespace(files=self.releases[release])


SHELF = Shelf(
    **{
        APPLE: {REFERENCE: reference(), POLICY: policy(*NAMES)},
        BANANA: {REFERENCE: reference(away=[3.0]), POLICY: policy("usual", "town", "away")},
        CHERRY: {REFERENCE: b"{}", POLICY: policy(*NAMES)},
    }
)


def row(name: str, **more: object) -> dict:
    "A decision."
    made = {
        "decision_id": name, "at": "2026-11-23T05:00:00", "as_of": "2017-11-13", "unit": name, "line": 0, "experiment": "trial",
        "arm": "offer", "propensity": 0.5, "reason": "assigned", "release": APPLE, "policy": "proposed", "score": 0.4,
        "action": "offer", "features_hash": "b" * 16, "features": '[3,"Bath",null]', "latency_ms": 0.4, "channel": "rest",
    }  # fmt: skip
    return made | more


def record(*rows: dict, **beside: object) -> bytes:
    return orjson.dumps({"served": list(rows)} | beside)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    "A migrated database of either kind."
    postgres = request.param == "postgres"
    return migrated(
        request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/records.db"
    )


def migrated(url: str) -> str:
    engine = connected(address(url))
    with transaction(engine) as connection:
        upgrade(connection)
    engine.dispose()
    return url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "spool"
    made.mkdir()
    return made


def spooled(folder: Path, *records: bytes) -> None:
    with Spool(folder, limit_bytes=64 * MB, fsync_ms=20) as spool:
        for each in records:
            spool.append(each)


@contextmanager
def shipper(folder: Path, url: str, *, shelf: Shelf = SHELF, most: int = 5000) -> Iterator[Shipper]:
    "A shipper in this process, that counts, alone with its folder."
    said: list[tuple[str, dict]] = []

    def say(event: str, **facts: object) -> None:
        said.append((event, facts))

    measures = Measures(Known(shelf))
    made = Shipper(folder, url, most=most, say=say, count=lambda name: Counting(measures, name, say))
    made.said = said
    assert made.alone()
    try:
        yield made
    finally:
        made.release()


def shipped(folder: Path, url: str, **options: object) -> None:
    "Ship everything."
    with shipper(folder, url, **options) as ship:
        while ship.step():
            pass


def table(url: str, name: str) -> list[sa.RowMapping]:
    engine = connected(address(url))
    with transaction(engine, reading=True) as connection:
        found = connection.execute(sa.select(table_of(name))).mappings().all()
    engine.dispose()
    return found


def sources(url: str) -> set[str]:
    "Who has counted."
    return {each["source"].removesuffix(module.LATELY) for each in table(url, "summaries")}


Summed = dict[tuple[datetime, str, str], Tally]


def summed(url: str) -> Summed:
    "The summaries, sources together."
    parts = defaultdict(list)
    for each in table(url, "summaries"):
        tally = tally_from(each["summary"])
        assert tally.decisions == each["decisions"] and each["updated_at"] is not None
        parts[each["day"], each["release"], each["channel"]].append(tally)
    return {key: reduce(both, some) for key, some in parts.items()}


def computed(rows: list[sa.RowMapping], read: dict, names: tuple[str, ...]) -> Tally:
    "What the reference's own functions say of rows of table `served`."
    lists = [orjson.loads(each["features"]) for each in rows if each["features"]]
    features = {}
    for place, name in enumerate(names):
        values, about = [each[place] for each in lists], read["features"][name]
        mask = [each is None for each in values]
        if about["kind"] == "category":
            column = np.ma.array([each or "" for each in values], mask=mask, dtype=object)
            features[name] = categories(column, about["levels"])
        else:
            plain = [0.0 if each is None else each for each in values]
            features[name] = numbers(np.ma.array(plain, mask=mask, dtype=float), about["edges"])
    scores = [each["score"] for each in rows if each["policy"] not in ("rule", "none")]
    mask = [each is None for each in scores]
    score = numbers(
        np.ma.array([each or 0.0 for each in scores], mask=mask, dtype=float), read["score"]["edges"]
    )
    return Tally(features, score, *({each[name]: 0 for each in rows} for name in ("action", "reason")))


def accounted(url: str, read: dict[str, tuple[dict, tuple[str, ...]]]) -> int:
    "Every decision is counted once, and every bin holds what is in the table; how many decisions there are."
    served, found = defaultdict(list), summed(url)
    for each in table(url, "served"):
        day = each["at"].replace(hour=0, minute=0, second=0, microsecond=0)
        served[day, each["release"], each["channel"]].append(each)
    assert {key: tally.decisions for key, tally in found.items()} == {
        key: len(some) for key, some in served.items()
    }
    for (day, release, channel), rows in served.items():
        tally = found[day, release, channel]
        for name in ("action", "reason"):
            counts = getattr(tally, f"{name}s")
            assert counts == {each: sum(row[name] == each for row in rows) for each in counts}
        if release in read:
            expected = computed(rows, *read[release])
            same(tally.score, expected.score)
            assert tally.features.keys() <= expected.features.keys()
            for name, each in expected.features.items():
                if each.count:
                    same(tally.features[name], each)
    return sum(map(len, served.values()))


def same(one: object, other: object) -> None:
    for name, value in vars(other).items():
        wanted = pytest.approx(value, rel=1e-9) if name == "mean" and value is not None else value
        assert getattr(one, name) == wanted, name


READ = {
    APPLE: (reference_from(SHELF.releases[APPLE][REFERENCE]), NAMES),
    BANANA: (reference_from(SHELF.releases[BANANA][REFERENCE]), ("usual", "town", "away")),
}


# What is counted.


def test_days_releases_and_channels_are_counted_apart(folder: Path, url: str) -> None:
    rows = [
        row("d1"),
        row("d2", at="2026-11-23T23:59:59.999999", features='[7,"Ulm",2.5]', score=0.9),
        row("d3", at="2026-11-24T00:00:00", action="none", reason="holdout", policy="none", score=None),
        row("d4", release=BANANA, features='[7,"Bath",1]'),
        row("d5", channel="function"),
        row("d6", policy="rule", score=17.0, reason="fallback"),
    ]
    spooled(folder, record(*rows[:4]), *map(record, rows[4:]))
    shipped(folder, url)
    assert accounted(url, READ) == 6
    found = summed(url)
    monday = found[datetime(2026, 11, 23), APPLE, "rest"]
    assert monday.reasons == {"assigned": 2, "fallback": 1} and monday.score.count == 2
    assert found[datetime(2026, 11, 24), APPLE, "rest"].score.count == 0
    assert found[datetime(2026, 11, 23), BANANA, "rest"].features["away"].bins == (1, 0)


def test_a_few_decisions_are_collected_in_a_small_row(folder: Path, url: str) -> None:
    sizes = []
    for first in range(0, 40, 5):
        spooled(folder, *(record(row(f"d{first + n}")) for n in range(5)))
        shipped(folder, url)
        sizes.append(
            sorted(
                (each["source"].endswith(module.LATELY), each["decisions"])
                for each in table(url, "summaries")
            )
        )
        assert accounted(url, READ) == first + 5
    assert sizes[:4] == [[(True, 5)], [(True, 10)], [(True, 15)], [(False, 20)]]
    assert sizes[4:] == [
        [(False, 20), (True, 5)],
        [(False, 20), (True, 10)],
        [(False, 20), (True, 15)],
        [(False, 40)],
    ]


def test_the_order_of_features_is_that_of_the_plan_in_force(folder: Path, url: str) -> None:
    "A challenger with a declaration of its own is fed by the champion's."
    engine = connected(address(url))
    with transaction(engine) as connection:
        line = {"line": 3, "at": datetime(2026, 1, 1), "actor": "Ann", "action": "deploy", "reason": "a test"}
        connection.execute(table_of("ledger").insert(), line | {"state": json.dumps({"terms": APPLE})})
    engine.dispose()
    spooled(folder, record(row("d1", line=3, release=BANANA, features='[7,"Bath",1]')))
    shipped(folder, url)
    features = summed(url)[datetime(2026, 11, 23), BANANA, "rest"].features
    assert (features["away"].max, features["usual"].max) == (7.0, 1.0)


@pytest.mark.parametrize("release", [CHERRY, "d" * 64, "4f2a", "../x"])
def test_without_a_reference_decisions_are_counted_and_nothing_stops(
    folder: Path, url: str, release: str
) -> None:
    spooled(folder, *(record(row(f"d{n}", release=release)) for n in range(20)))
    shipped(folder, url)
    (found,) = summed(url).values()
    assert found == Tally(actions={"offer": 20}, reasons={"assigned": 20})


@pytest.mark.parametrize(
    "odd", [None, "", "nonsense", "[]", "[1,2,3,4]", '["far","Bath",1]', "[[1],2,3]", "{}"]
)
def test_odd_features_are_decisions_all_the_same(folder: Path, url: str, odd: str | None) -> None:
    spooled(folder, record(row("d1")), record(row("d2", features=odd)), record(row("d3")))
    shipped(folder, url)
    (found,) = summed(url).values()
    assert found.decisions == 3 and {each.count for each in found.features.values()} == {2}


def test_a_release_that_is_not_at_hand_is_asked_for_again(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf()
    with shipper(folder, url, shelf=shelf) as ship:
        for n in range(4):
            spooled(folder, record(row(f"d{n}")))
            if n == 2:
                monkeypatch.setattr(module, "AGAIN", 0.0)
                shelf.releases = SHELF.releases
                ship.delivery.counting.measures._found.clear()
            ship.step()
            assert shelf.asked == (1 if n < 2 else 2), "once, and once more when its time has come"
    (found,) = summed(url).values()
    assert found.decisions == 4 and found.features["away"].count == 2


def test_what_was_counted_stays_when_nobody_has_the_release_any_more(folder: Path, url: str) -> None:
    for shelf, name in ((SHELF, "d1"), (Shelf(), "d2"), (SHELF, "d3")):
        spooled(folder, record(row(name)))
        shipped(folder, url, shelf=shelf)
    (found,) = summed(url).values()
    assert found.decisions == 3 and found.features["away"].count == found.score.count == 2


# Which are new.


def test_decisions_that_are_there_already_are_not_counted_again(folder: Path, url: str) -> None:
    spooled(folder, *(record(row(f"d{n}", features=f'[{n},"Bath",1]')) for n in range(30)))
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    shipped(folder, url)
    spooled(copy, *(record(row(f"e{n}", features=f'[{n},"Bath",1]')) for n in range(30)))
    shipped(copy, url, most=7)
    assert accounted(url, READ) == 60
    assert len(sources(url)) == 2


@pytest.mark.parametrize("count", [3, 80])  # by rows and by COPY
def test_of_one_name_given_to_several_decisions_the_one_that_stands_is_counted(
    folder: Path, url: str, count: int
) -> None:
    rows = [
        row(f"d{n // 2}", features=f'[{n},"Bath",1]', action="offer" if n % 2 else "none")
        for n in range(2 * count)
    ]
    spooled(folder, record(row("d1", features='[1,"Arles",9]')), *map(record, rows))
    with shipper(folder, url, most=1) as ship:
        ship.step()
    shipped(folder, url)
    assert accounted(url, READ) == count


def test_two_shippers_that_think_they_are_the_same_are_counted_together(folder: Path, url: str) -> None:
    "As when a machine is copied with its spool."
    twin = folder.parent / "twin"
    with shipper(folder, url) as one:
        shutil.copytree(folder, twin)
        with shipper(twin, url) as other:
            assert one.name == other.name
            for n in range(30):
                spooled(folder, record(row(f"one-{n}")))
                one.step()
                if n % 3 == 0:
                    spooled(twin, *(record(row(f"two-{n}-{m}")) for m in range(3)))
                    with suppress(DatabaseAway):
                        other.step()
            while other.step():
                pass
    assert accounted(url, READ) == 60


def test_a_summary_that_cannot_be_read_is_left_and_counting_goes_on_beside_it(folder: Path, url: str) -> None:
    spooled(folder, *(record(row(f"d{n}")) for n in range(20)))
    shipped(folder, url)
    engine = connected(address(url))
    with transaction(engine) as connection:
        connection.execute(table_of("summaries").update().values(summary="{}"))
    engine.dispose()
    spooled(folder, *(record(row(f"e{n}")) for n in range(20)))
    with shipper(folder, url) as ship:
        ship.step()
        assert "a summary cannot be read" in [event for event, _ in ship.said]
    assert sorted((each["decisions"], each["summary"] == "{}") for each in table(url, "summaries")) == [
        (20, False),
        (20, True),
    ]


def test_a_row_that_somebody_removed_is_begun_again(folder: Path, url: str) -> None:
    with shipper(folder, url) as ship:
        for name in "de":
            spooled(folder, *(record(row(f"{name}{n}")) for n in range(20)))
            ship.step()
            engine = connected(address(url))
            with transaction(engine) as connection:
                left = connection.execute(sa.select(table_of("summaries").c.decisions)).scalars().all()
                connection.execute(table_of("summaries").delete())
            engine.dispose()
            assert left == [20]


def test_a_spool_keeps_its_name(folder: Path, url: str) -> None:
    with shipper(folder, url) as ship:
        name = ship.name
    with shipper(folder, url) as ship:
        assert ship.name == name
    (folder / LOCK).write_text("something else that stood there, and is longer than a name")
    with shipper(folder, url) as ship:
        assert ship.name != name and ship.name == (folder / LOCK).read_text()


# Features of which only the hash is kept.


def test_features_that_are_not_kept_are_counted_and_do_not_reach_the_database(folder: Path, url: str) -> None:
    spooled(
        folder,
        record(row("d1")),
        record(row("d2", features=None), row("d3", features=None), unkept=['[7,"Ulm",2]', '[8,"Ulm",2]']),
        record(row("d4")),
        record(row("d5", features=None)),
    )
    shipped(folder, url)
    kept = {each["decision_id"]: each["features"] for each in table(url, "served")}
    assert [name for name, features in kept.items() if features] == ["d1", "d4"]
    (found,) = summed(url).values()
    assert found.decisions == 5 and found.features["away"].count == 4 and found.features["away"].max == 8


@pytest.mark.parametrize("unkept", [[], [None], [7], ["[1,2,3]"] * 5, [{"a": 1}]])
def test_what_stands_beside_decisions_and_fits_none_of_them_stops_nothing(
    folder: Path, url: str, unkept: list
) -> None:
    spooled(
        folder,
        record(row("d1", features=None), unkept=unkept),
        record(row("d2")),
        orjson.dumps({"unkept": unkept}),
    )
    with shipper(folder, url) as ship:
        ship.step()
        assert ship.status.rejected == 0
    (found,) = summed(url).values()
    assert found.decisions == 2 and found.features["away"].count in (1, 2)


def test_a_service_that_keeps_hashes_only_is_counted_with_its_features(tmp_path: Path) -> None:
    place = Place(tmp_path / "service")
    units = place.fill_online()[:20]
    place.deploy()
    with running(place, log_features="hash") as service, Load(service.url, units) as load:
        load.wait_for(60)
        all_there(place, load)
    url = f"sqlite:///{place.root}/state/workbench.db"
    assert {each["features"] for each in table(url, "served")} == {None}
    for (_, release, _), tally in summed(url).items():
        names = terms_from(small_bundle().files[POLICY]).names
        assert release in place.names.values() and [*tally.features] and {*tally.features} == {*names}
        assert {each.count for each in tally.features.values()} == {tally.decisions}


# Who is killed.


class Killed(BaseException):
    "A process dies here."


def dies(*_: object, **__: object) -> None:
    raise Killed


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 20)),
        st.tuples(st.sampled_from(["ship", "die before the commit", "die after the commit", "lose positions"]), st.just(0)),
        st.tuples(st.sampled_from(["again", "poison", "given back", "away"]), st.just(0)),
    ),
    min_size=3, max_size=14,
)  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> str:
    return migrated(f"sqlite:///{tmp_path_factory.mktemp('shared')}/records.db")


@settings(deadline=None, max_examples=40, suppress_health_check=[*HealthCheck])
@given(steps=STEPS, most=st.integers(1, 30))
def test_whatever_happens_in_whatever_portions_the_sums_are_those_of_the_table(
    steps: list[tuple[str, int]], most: int, shared: str, tmp_path: Path
) -> None:
    folder, run, sent = tmp_path / uuid.uuid4().hex, uuid.uuid4().hex[:8], 0
    folder.mkdir()
    for what, count in steps:
        if what == "append":
            for n in range(sent, sent + count):
                release = (APPLE, BANANA)[n % 2]
                spooled(
                    folder,
                    record(row(f"{run}-{n}", features=f'[{n},"Bath",{n}]', score=n % 7 / 7, release=release)),
                )
            sent += count
        elif what == "again":  # a client that uses a name twice
            spooled(folder, record(row(f"{run}-{max(0, sent - 3)}", features='[1,"Ulm",1]')))
            sent = max(sent, 1)
        elif what == "poison":
            spooled(folder, b'{"served":[{"decision_id":null}]}')
        elif what == "given back":
            readmit(folder)
        elif what == "lose positions":
            (folder / POSITIONS).unlink(missing_ok=True)
        else:
            stepped(folder, shared, what, most)
    shipped(folder, shared)
    assert sum(each["decision_id"].startswith(run) for each in table(shared, "served")) == sent
    accounted(shared, READ)


def stepped(folder: Path, url: str, what: str, most: int) -> None:
    "A shipper that does some steps, and perhaps dies at a bad moment."
    with pytest.MonkeyPatch.context() as patch, shipper(folder, url, most=most) as ship:
        ship.step()
        if what == "die after the commit":
            patch.setattr(shipping, "write_positions", dies)
        elif what == "die before the commit":
            put = module._put
            patch.setattr(module, "_put", lambda *given: (put(*given), dies()))
        elif what == "away":
            patch.setattr(
                module,
                "_put",
                lambda *_: (_ for _ in ()).throw(sa.exc.OperationalError("", {}, Exception("away"))),
            )
        with suppress(Killed, DatabaseAway):
            ship.step()
        patch.undo()
        if what == "away":  # the same process goes on, and must not believe what it remembers
            ship.step()


def real(place: Place) -> dict:
    "How the releases of a place count."
    bundles = {name: Store("state/store", place.root).read(name) for name in place.names.values()}
    return {
        name: (reference_from(each.files[REFERENCE]), tuple(terms_from(each.files[POLICY]).names))
        for name, each in bundles.items()
    }


def killed_under_load(place: Place, url: str, kills: int = 4) -> int:
    "A service whose shipper is killed again and again while it decides; how many decisions were counted."
    units = [str(member) for member in members("next")["member"]][:60]
    place.fill_online()
    place.deploy()
    spool, seen = place.root / "state/spool", set()
    with (
        running(place, workers=2, log_level="warning") as service,
        Load(service.url, units, clients=4) as load,
    ):
        for _ in range(kills):
            until(lambda: (said := read_status(spool)) and said.pid not in seen and said.shipped, 60)
            load.wait_for(100)
            pid = read_status(spool).pid
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        until(lambda: (said := read_status(spool)) and said.pid not in seen, 60)
        all_there(place, load, 60)
        service.stop()
    assert len(seen) == kills and not segments(spool)
    return accounted(url, real(place))


def test_a_shipper_killed_again_and_again_under_load_counts_every_decision_once(tmp_path: Path) -> None:
    place = Place(tmp_path / "killed")
    url = f"sqlite:///{place.root}/state/workbench.db"
    assert killed_under_load(place, url) > 400


@pytest.mark.postgres
def test_and_so_it_does_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    assert killed_under_load(Place(tmp_path / "killed", postgres_url), postgres_url) > 400


BETWEEN = """
import os, signal, sys
from ml_workbench.serve import counting, shipping

moment, count = sys.argv[1], int(sys.argv[2])
place = shipping if moment == "after" else counting
name = "write_positions" if moment == "after" else "_put"
real, left = getattr(place, name), [count]


def dies(*given):
    left[0] -= 1
    if left[0] == 0:
        if moment == "within":
            real(*given)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)


setattr(place, name, dies)
sys.exit(shipping.main([]))
"""


@pytest.mark.parametrize("moment", ["after", "before", "within"])
def test_a_process_killed_at_the_worst_moment_counts_nothing_twice_and_leaves_nothing_out(
    tmp_path: Path, url: str, moment: str
) -> None:
    place = Place(tmp_path / "place", url)
    name = place.release()
    spool = place.root / "state/spool"
    rows = members("next").to_dict("records")
    names = terms_from(small_bundle().files[POLICY]).names
    texts = [
        orjson.dumps([None if each[key] != each[key] else each[key] for key in names]).decode()
        for each in rows
    ]
    spooled(spool, *(record(row(f"d{n}", release=name, features=texts[n % len(texts)])) for n in range(7000)))
    for which in ("2", "1"):  # the second portion of the first process, and what the next one finds
        command = [sys.executable, "-c", BETWEEN, moment, which]
        done = subprocess.run(
            command, env=place.environment(), cwd=place.root, capture_output=True, timeout=60
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        accounted(url, real(place))
    measures = Measures(Known(Store("state/store", place.root)))
    ship = Shipper(spool, url, count=lambda name: Counting(measures, name), say=lambda *_, **__: None)
    assert ship.alone()
    while ship.step():
        pass
    ship.release()
    assert accounted(url, real(place)) == 7000 and len(sources(url)) == 1
