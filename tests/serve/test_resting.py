"""Who was on a list lately rests, whether that list is in the database or still on its way there."""

from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from ml_workbench.plan.errors import SpoolError
from ml_workbench.release.policy import POLICY, terms_from
from ml_workbench.serve.answering import Answering
from ml_workbench.serve.following import Follower
from ml_workbench.serve.logs import Log
from ml_workbench.serve.resting import Waiting, resting_units, waiting_lists
from ml_workbench.serve.shipping import Shipper
from ml_workbench.serve.spool import Spool
from tests.release.small import WEEKS, small_bundle
from tests.serve.live import Place, until

NEXT, TERMS = WEEKS[-1], terms_from(small_bundle().files[POLICY])


def listed(unit: str, days: float, **more: object) -> bytes:
    at = (NEXT - timedelta(days=days)).isoformat(" ", "microseconds")
    row = {"experiment": "letters-1", "policy": "proposed", "unit": unit, "as_of": at, "listed": True}
    return orjson.dumps({"predictions": [row | more]})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "place")
    found.fill_online()
    found.deploy()
    return found


def spooled(place: Place, *records: bytes) -> Path:
    folder = place.root / "state/spool"
    with Spool(folder, limit_bytes=1 << 24, fsync_ms=20) as spool:
        for each in records:
            spool.append(each)
    return folder


def test_lists_that_wait_count_within_the_cooldown_and_before_the_new_list(place: Place) -> None:
    folder = spooled(
        place, listed("1", 7), listed("2", 27.9), listed("3", 28), listed("4", 0), listed("5", 7, listed=False),
        listed("6", 7, experiment="another"), listed("7", 7, policy="rule"), b'{"outcomes":[]}', b'"listed":true',
        b'{"predictions":[7,{"listed":true}],"x":"\\"listed\\":true"}',
    )  # fmt: skip
    waiting = waiting_lists(folder, "letters-1", NEXT, TERMS)
    assert waiting == Waiting({"proposed": {"1", "2"}, "rule": {"7"}}, 10)
    found = resting_units(place.ledger.engine, "letters-1", NEXT, TERMS, waiting)
    assert found == {"proposed": {"1", "2"}, "rule": {"7"}} and waiting.listed["proposed"] == {"1", "2"}
    assert resting_units(place.ledger.engine, "letters-1", NEXT, TERMS) == {}


def test_what_is_in_the_database_waits_no_longer(place: Place) -> None:
    whole = orjson.loads(listed("1", 7))
    folder = spooled(place, orjson.dumps(whole))
    ship = Shipper(folder, place.url, root=place.root, say=lambda *_, **__: None)
    assert ship.alone()
    ship.step()
    ship.release()
    assert waiting_lists(folder, "letters-1", NEXT, TERMS) == Waiting()
    assert resting_units(place.ledger.engine, "letters-1", NEXT, TERMS) == {"proposed": {"1"}}


def test_no_spool_is_no_mistake_and_one_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert waiting_lists(tmp_path / "none", "letters-1", NEXT, TERMS) == Waiting()
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "0123456789ab-00000001.log").mkdir()
    with pytest.raises(SpoolError, match="who was listed lately cannot be looked up"):
        waiting_lists(tmp_path / "spool", "letters-1", NEXT, TERMS)


def test_a_service_leaves_those_in_peace_whose_list_is_still_in_the_spool(place: Place) -> None:
    before = Follower(Answering(None, Log()), place.settings())
    before.look()
    decider = before.answering.decider
    units = [
        unit for unit, yes in zip(decider.known.online.units, decider.known.lists["champion"].listed) if yes
    ]
    assert units
    spooled(place, *(listed(unit, 7) for unit in units))
    after = Follower(Answering(None, Log()), place.settings())
    after.look()
    known = after.answering.decider.known
    assert not any(known.lists["champion"].listed[known.online.index[unit]] for unit in units)
    before.stop()
    after.stop()


def test_features_written_again_for_the_same_time_are_taken_over(place: Place) -> None:
    follower = Follower(Answering(None, Log()), place.settings())
    assert follower.look() and not follower.look()
    first = follower.answering.decider.known.online
    place.fill_online()
    assert until(follower.look, 10) and not follower.look()
    second = follower.answering.decider.known.online
    assert second.as_of == first.as_of and second.written_at > first.written_at and not follower.problems
    follower.stop()
