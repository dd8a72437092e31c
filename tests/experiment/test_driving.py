"""A real service, driven through four weeks of a shop: what it leaves behind is what a replay says, whatever is broken on the way."""

import threading
import time
from dataclasses import replace
from datetime import datetime

import pytest

from ml_workbench.experiment import driving
from ml_workbench.experiment.cohort import cohort
from ml_workbench.experiment.driven import Sheet
from ml_workbench.experiment.driving import (
    Driving,
    check_played,
    closing,
    decision_id,
    drive,
    publish,
    requests_for,
)
from ml_workbench.experiment.filling import fill
from ml_workbench.experiment.pace import is_replayed
from ml_workbench.experiment.traces import tables
from ml_workbench.plan.errors import LedgerError, RecordError, ServiceError
from ml_workbench.plan.experiment import Effect
from ml_workbench.serve.client import Client
from ml_workbench.serve.designs import REPLAY
from ml_workbench.serve.online import write_online
from tests.experiment.shop import MONDAYS, PLAN, UNTIL, Site, differences, replayed, sheets, shop_place
from tests.serve.live import TOKEN, free_port


class Once:
    "Does something the first time that an event comes which meets a condition."

    def __init__(self, event, what, *, when=lambda facts: True) -> None:
        self.event, self.what, self.when, self.done, self.lock = event, what, when, False, threading.Lock()
        self.events = []

    def __call__(self, event: str, **facts) -> None:
        self.events.append(event)
        with self.lock:
            if self.done or event != self.event or not self.when(facts):
                return
            self.done = True
            self.what()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    "What the replay of the same weeks leaves behind."
    return replayed(shop_place(tmp_path_factory.mktemp("replayed")))


def test_a_driven_service_leaves_behind_what_the_replay_says_to_the_last_bit(tmp_path, expected):
    played, expected_tables = expected
    with Site(shop_place(tmp_path)) as site:
        done = site.drive()
        assert differences(site.tables(), expected_tables) == {}
        assert is_replayed(site.records, PLAN.name)
        assert done.played.truth == played.truth and done.played.counts == played.counts
        counted = cohort(site.records, PLAN, units="members")
        assert not counted.problems and sum(counted.by_arm.values()) > 100 and counted.as_of == UNTIL
        asked = sum(len(each.units) for each in sheets())
        assert sum(done.asked.values()) == done.decisions == asked == site.records.read("served").num_rows
        assert sum(done.offers.values()) == len(played.offered) and done.offers["holdout"] == 0
        again = site.drive()
        assert (again.decisions, again.outcomes, again.asked) == (0, 0, done.asked)
        with pytest.raises(RecordError, match="driven with another effect or seed"):
            site.drive(site.script(effect=Effect(kind="constant", size=1.0)))
        assert differences(site.tables(), expected_tables) == {}


def interrupted(event: str, when) -> Once:
    "Somebody presses Ctrl-C at a certain moment."

    def interrupt() -> None:
        raise KeyboardInterrupt

    return Once(event, interrupt, when=when)


@pytest.mark.postgres
def test_a_drive_that_is_interrupted_goes_on_where_it_was_with_several_processes_too(
    tmp_path, expected, postgres_url
):
    moments = {
        "decisions": lambda facts: facts["as_of"] == MONDAYS[1],
        "outcomes": lambda facts: facts["day"] > MONDAYS[2],
        "monday": lambda facts: facts["as_of"] == MONDAYS[3],
    }
    with Site(shop_place(tmp_path, postgres_url), {"workers": 2}) as site:
        for event, when in moments.items():
            with pytest.raises(KeyboardInterrupt):
                site.drive(say=interrupted(event, when), clients=6)
        done = site.drive()
        assert 0 == done.decisions < sum(done.asked.values())
        assert differences(site.tables(), expected[1]) == {}


def test_a_service_that_is_killed_and_comes_back_loses_and_doubles_nothing(tmp_path, expected):
    with Site(shop_place(tmp_path)) as site:

        def killed() -> None:
            site.service.kill()
            threading.Timer(0.3, site.start, kwargs={"ready": False}).start()

        asking = Once("decisions", killed, when=lambda facts: facts["as_of"] == MONDAYS[1])
        telling = Once("outcomes", killed, when=lambda facts: facts["day"] > MONDAYS[2])

        def say(event, **facts):
            asking(event, **facts)
            telling(event, **facts)

        done = site.drive(say=say)
        assert asking.done and telling.done and done.tries > 0
        assert differences(site.tables(), expected[1]) == {}
        served = site.records.read("served")
        assert served.num_rows == sum(len(each.units) for each in sheets()) == done.decisions


@pytest.mark.postgres
def test_a_database_that_is_killed_and_comes_back_is_waited_for(tmp_path, expected, postgres_server):
    from tests.serve.server import own_server

    with own_server() as server, Site(shop_place(tmp_path, server.url)) as site:

        def killed() -> None:
            server.kill()
            threading.Timer(1.0, server.start).start()

        chaos = [
            Once("features", killed, when=lambda facts: facts["as_of"] == MONDAYS[1]),
            Once("decisions", killed, when=lambda facts: facts["as_of"] == MONDAYS[2]),
            Once("outcomes", killed, when=lambda facts: facts["day"] > MONDAYS[3]),
        ]

        def say(event, **facts):
            for each in chaos:
                each(event, **facts)

        done = site.drive(say=say)
        assert all(each.done for each in chaos) and "database away" in chaos[0].events
        assert differences(site.tables(), expected[1]) == {}
        assert done.decisions == site.records.read("served").num_rows


@pytest.fixture(scope="module")
def running_site(tmp_path_factory):
    with Site(shop_place(tmp_path_factory.mktemp("running"))) as site:
        yield site


def test_without_the_right_token_nothing_happens_and_the_token_is_not_told(running_site):
    with pytest.raises(ServiceError, match="401") as caught:
        running_site.drive(token="a-wrong-token-for-the-tests")
    assert "a-wrong-token" not in str(caught.value)
    assert running_site.records.read("served").num_rows == 0


def test_with_a_speed_the_weeks_pass_at_that_pace_and_decisions_are_found_by_their_name(running_site):
    begun, first = time.monotonic(), sheets()[0]
    running_site.drive(running_site.script(sheets=[first]), speed=28.0)  # seven weeks in 1.75 seconds
    assert time.monotonic() - begun > 1.5
    client = Client(running_site.service.url, TOKEN)
    found = client.get(f"/v1/decisions/{decision_id(PLAN.name, first.as_of, first.units[0])}")
    client.close()
    assert found["unit"] == first.units[0] and found["recorded"]


def test_a_unit_that_the_service_never_knows_is_named(running_site, monkeypatch):
    monkeypatch.setattr(driving, "ROUNDS", 2)
    first = sheets()[0]
    running_site.drive(running_site.script(sheets=[first]))
    more = Sheet(first.as_of, [*first.units, "nobody"], first.names, [*first.rows, first.rows[0]])
    with pytest.raises(ServiceError, match="does not know unit 'nobody'"):
        running_site.drive(running_site.script(sheets=[more]))


def test_a_service_that_looks_at_another_database_is_told_apart(running_site, site):
    state = site.place.ledger.current().deployment
    site.place.ledger.write("pause", replace(state, paused=("challenger",)), REPLAY, "a test", 1)
    site.place.ledger.write("resume", state, REPLAY, "a test", 2)
    site.service = running_site.service
    with pytest.raises(ServiceError, match="give both the same MLW_DATABASE_URL"):
        site.drive(patience=1.0)


@pytest.fixture
def site(tmp_path):
    "A place without a service."
    made = Site(shop_place(tmp_path))
    with made.stack:
        yield made


def checked(site: Site) -> None:
    check_played(site.records, PLAN, site.place.ledger.lines())


def test_real_experiments_and_real_outcomes_are_left_alone(site):
    checked(site)
    visit = {"outcome": "visit", "event_id": "till-1", "unit": "12", "occurred_at": MONDAYS[0], "value": 3.0}
    site.records.write("outcomes", [visit | {"recorded_at": MONDAYS[1]}])
    with pytest.raises(RecordError, match="outcomes that really happened, like 'till-1'"):
        checked(site)
    site.records.freeze(PLAN.model_copy(update={"name": "spring"}), at=MONDAYS[0], actor="Ann")
    with pytest.raises(RecordError, match=r"experiment 'spring' .* is a real one, started by Ann"):
        checked(site)


def test_an_experiment_that_somebody_deployed_for_real_is_not_driven(site):
    state = site.place.ledger.current().deployment
    ramped = replace(state, split=state.split.model_copy(update={"ramp": 0.5}))
    site.place.ledger.write("ramp", ramped, "Ann", "in earnest", 1)
    with pytest.raises(
        RecordError, match="deployed by Ann, as a real one: to drive it, deploy it with --by replay"
    ):
        checked(site)


def test_records_of_the_replay_stage_are_not_driven_over(site, expected):
    fill(site.records, expected[0], tables(expected[0], cost=1.0))
    with pytest.raises(RecordError, match=r"was replayed in .* already, by the replay stage"):
        checked(site)


def test_nothing_to_compare_and_a_paused_arm_are_said_before_anything_else(site):
    ledger, state = site.place.ledger, site.place.ledger.current().deployment
    ledger.write("pause", replace(state, paused=("challenger",)), REPLAY, "a test", 1)
    with pytest.raises(LedgerError, match="challenger of experiment 'letters-1' is paused"):
        site.script()
    ledger.write("deploy", site.place.alone(site.place.drive_releases[0]), REPLAY, "a test", 2)
    with pytest.raises(LedgerError, match="the champion is alone; deploy a challenger"):
        site.script()


def test_nobody_can_ask_about_the_past(site):
    made = Driving(site.script(), site.records, "http://127.0.0.1:9")
    terms, last = made.script.terms, sheets()[-1]
    write_online(site.records.engine, terms.feature_set, last.as_of, terms.columns, last.units, last.rows)
    with pytest.raises(ServiceError, match="not all of 2024-07-15 05:00:00 were asked about"):
        publish(made, sheets()[0])


def test_an_absent_service_is_waited_for_as_long_as_asked_and_no_longer(site):
    begun, url = time.monotonic(), f"http://127.0.0.1:{free_port()}"
    made = Driving(site.script(), site.records, url, patience=1.0)
    with pytest.raises(ServiceError, match="has not answered for 1 seconds"), closing(made):
        drive(made, site.place.ledger)
    assert 0.5 < time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "name",
    ["letters-1", "a very long name of an experiment that somebody thought about for long", "Frühjahr/2"],
)
def test_a_decision_has_one_name_that_every_service_takes(name):
    ids = {
        decision_id(name, monday, unit)
        for monday in MONDAYS
        for unit in ("7", "12", "x" * 150, "Ms. Ångström", "a/b")
    }
    assert len(ids) == 20 and all(8 <= len(each) <= 64 and each.isascii() for each in ids)
    assert decision_id(name, datetime(2024, 7, 15, 5), "7") == decision_id(
        name, datetime(2024, 7, 15, 5), "7"
    )


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 250, 1000])
def test_every_unit_is_in_exactly_one_request_half_of_them_in_lists(count):
    units = [str(number) for number in range(count)]
    found = requests_for(units, size=50)
    assert sorted(unit for part in found for unit in part) == sorted(units)
    assert sum(len(part) for part in found if len(part) > 1) >= count // 2
