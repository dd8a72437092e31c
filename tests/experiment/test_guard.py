"""A guard takes out the release that does harm, once, with its reason; never the last good one, and never on a guess."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ml_workbench.database.connections import transaction
from ml_workbench.database.tables import table_of
from ml_workbench.experiment import guard as module
from ml_workbench.experiment.guard import Known, Watch, last_good, watch
from ml_workbench.experiment.watching import Limits
from ml_workbench.plan.errors import LedgerError, ReleaseError
from ml_workbench.release.bundle import Bundle
from ml_workbench.release.ledger import Ledger
from ml_workbench.release.operations import change, rollback
from ml_workbench.release.traffic import Order, deployed, paused, promoted, ramped, resumed
from ml_workbench.release.undoing import condemned
from ml_workbench.serve.records import Records
from tests.release.live import APPLE, BANANA, CHERRY, planned

from .test_watching import LIVE, NOON, TRIAL, frozen, served, shop

PLAN = planned()


@dataclass
class Site:
    "A ledger, what a service wrote down, and a guard that looks at noon."

    ledger: Ledger
    records: Records

    def deploy(self, release: str, **wanted) -> None:
        line = self.ledger.current()
        after = deployed(Order(release, PLAN, **wanted), line.deployment if line else None)
        self.ledger.write("deploy", after, "Ann", "why", line.line if line else None)

    def challenge(self, release: str, **wanted) -> None:
        self.deploy(release, role="challenger", **wanted)

    def change(self, action: str, step: Callable) -> None:
        change(self.ledger, action, step, actor="Ann", reason="why")

    def serve(
        self, arm: str, release: str, *, failed: int = 0, count: int = 250, line: int | None = None, **other
    ) -> None:
        "Decisions of the last minutes, some of which failed."
        line = line or self.ledger.latest_line()
        rows = [
            served(i, decision_id=f"{line} {arm} {i}", arm=arm, release=release, line=line, reason="fallback" if i < failed else "assigned")
            | other for i in range(count)
        ]  # fmt: skip
        self.records.write("served", rows)

    def look(self, known: Known | None = None, **options) -> Watch:
        return watch(self.ledger, known or Known(), now=NOON, **options)

    @property
    def now(self):
        return self.ledger.current()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/ledger.db"
    with Ledger(url) as ledger, Records(url) as records:
        ledger.migrate()
        yield Site(ledger, records)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Site]:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Ledger(url) as ledger, Records(url) as records:
        ledger.migrate()
        yield Site(ledger, records)


# What it does ----------------------------------------------------------------------------------------------


def test_a_challenger_that_fails_is_taken_out_once_with_figure_limit_and_window(site: Site) -> None:
    site.deploy(APPLE)
    site.challenge(BANANA, ramp=0.1)
    site.change("ramp", lambda now: ramped(now, 0.5))
    site.serve("champion", APPLE)
    site.serve("challenger", BANANA, failed=5)
    seen = site.look()
    assert seen.outcome == "rolled back" and seen.written == 4 and seen.line == 3
    line = site.now
    assert (line.actor, line.action, line.restores, line.condemned) == ("guard", "rollback", 1, BANANA)
    assert (
        line.reason
        == f"5 of 250 decisions of {BANANA[:12]} failed in the last 10 minutes: 2%, more than the limit of 1%."
    )
    again = site.look()
    assert again.outcome == "fine" and site.ledger.latest_line() == 4


def test_a_new_champion_that_is_slow_makes_way_for_the_one_before(site: Site) -> None:
    site.deploy(APPLE)
    site.deploy(BANANA)
    site.serve("champion", BANANA, latency_ms=80.0)
    assert site.look().outcome == "rolled back"
    assert (
        site.now.deployment.releases == {"champion": APPLE}
        and "80 ms, more than the limit of 50 ms" in site.now.reason
    )


def test_a_promoted_challenger_that_fails_goes_with_every_state_that_has_it(small: Site) -> None:
    small.deploy(APPLE)
    small.challenge(BANANA)
    small.change("promote", promoted)
    small.serve("champion", BANANA, failed=250)
    assert small.look().written == 4 and small.now.restores == 1


def test_the_last_good_release_stays_however_bad_it_is_and_people_are_told(small: Site) -> None:
    small.deploy(CHERRY)
    small.deploy(APPLE)
    small.challenge(BANANA)
    small.serve("champion", APPLE, failed=100)
    small.serve("challenger", BANANA)
    seen = small.look()
    assert seen.outcome == "told" and seen.level == "error" and small.ledger.latest_line() == 3
    assert "It is the last good release: nothing is rolled back." in seen.sentence


def test_where_both_do_harm_the_one_that_is_not_the_last_good_one_goes(small: Site) -> None:
    small.deploy(APPLE)
    small.challenge(BANANA)
    small.serve("champion", APPLE, failed=200)
    small.serve("challenger", BANANA, failed=10)
    seen = small.look()
    assert seen.outcome == "rolled back" and seen.culprit.release == BANANA


def test_with_nothing_to_go_back_to_people_are_told_every_time(small: Site) -> None:
    small.deploy(APPLE)
    small.serve("champion", APPLE, failed=100)
    for _ in range(2):
        seen = small.look()
        assert (
            seen.outcome == "told" and "no state without" in seen.sentence and "pause --all" in seen.sentence
        )
    assert small.ledger.latest_line() == 1


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(small: Site) -> None:
    small.deploy(APPLE)
    small.challenge(BANANA)
    small.serve("challenger", BANANA, failed=100)
    seen = small.look(act=False)
    assert seen.outcome == "would roll back" and "would bring line 1 back" in seen.sentence
    assert small.ledger.latest_line() == 2


def test_too_few_observations_change_nothing(small: Site) -> None:
    small.deploy(APPLE)
    small.challenge(BANANA)
    small.serve("challenger", BANANA, failed=199, count=199, latency_ms=9999.0)
    seen = small.look()
    assert seen.outcome == "fine" and all(each.breach is None for each in seen.readings)
    assert small.look(limits=Limits(minimum=100)).outcome == "rolled back"


def test_what_happened_before_the_window_or_before_somebody_mended_it_does_not_count(small: Site) -> None:
    small.deploy(APPLE)
    small.challenge(BANANA)
    small.serve("challenger", BANANA, failed=250, at=NOON - timedelta(minutes=11))
    assert small.look().outcome == "fine"
    small.serve("challenger", BANANA, failed=250, count=251)
    small.change("pause", paused)
    assert small.look().outcome == "fine", "it answers nobody"
    small.change("resume", resumed)
    assert small.look().outcome == "fine", "what went wrong was before the pause"
    small.serve("challenger", BANANA, failed=250)
    assert small.look().outcome == "rolled back"


def test_whoever_brings_a_condemned_release_back_gets_a_fresh_start(small: Site) -> None:
    small.deploy(APPLE)
    small.challenge(BANANA)
    small.serve("challenger", BANANA, failed=250)
    assert small.look().outcome == "rolled back"
    small.challenge(BANANA)
    assert small.look().outcome == "fine"
    small.deploy(CHERRY)
    rollback(small.ledger, actor="Ann", reason="why")
    assert BANANA in small.now.deployment.answering, "a person brought it back, so it may come back"


def test_a_condemned_release_is_passed_over_by_the_next_rollback_too(small: Site) -> None:
    small.deploy(APPLE)
    small.deploy(BANANA)
    small.deploy(CHERRY)
    small.deploy(BANANA)
    small.serve("champion", BANANA, failed=250)
    assert small.look().outcome == "rolled back" and small.now.deployment.releases == {"champion": CHERRY}
    assert condemned(small.ledger.lines()) == {BANANA}
    small.serve("champion", CHERRY, failed=250)
    assert small.look().outcome == "rolled back" and small.now.deployment.releases == {"champion": APPLE}


def test_the_last_good_release_is_that_of_base_where_a_plain_rollback_leads(small: Site) -> None:
    assert last_good([]) is None
    small.deploy(APPLE, traffic={"control": 0.5, "champion": 0.5}, ramp=0.1)
    small.deploy(APPLE)
    assert last_good(small.ledger.lines()) is None, "a rule would serve"
    small.challenge(BANANA)
    small.change("ramp", lambda now: ramped(now, 0.5))
    assert last_good(small.ledger.lines()) == APPLE


def test_where_a_person_was_faster_the_guard_leaves_it_at_that(
    small: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.deploy(APPLE)
    small.challenge(BANANA)
    small.serve("challenger", BANANA, failed=250)
    look = module.readings

    def slow(*arguments, **options):
        found = look(*arguments, **options)
        rollback(small.ledger, actor="Ann", reason="I saw it, too")
        return found

    monkeypatch.setattr(module, "readings", slow)
    seen = small.look()
    assert seen.outcome == "overtaken" and "Ann has written line 3 since" in seen.sentence
    assert small.ledger.latest_line() == 3 and small.now.actor == "Ann"


def test_a_line_that_cannot_be_read_is_told_and_an_empty_ledger_is_no_alarm(small: Site) -> None:
    seen = small.look()
    assert (seen.outcome, seen.level, seen.line) == ("nothing deployed", "info", 0)
    row = {"line": 1, "at": NOON, "actor": "hand", "action": "deploy", "state": "{", "reason": "oops"}
    with transaction(small.ledger.engine) as connection:
        connection.execute(sa.insert(table_of("ledger")), row)
    with pytest.raises(LedgerError, match="line 1 of the ledger"):
        small.look()


# What it looks at ------------------------------------------------------------------------------------------


class Shelf:
    "A store with the files of some releases."

    def __init__(self, **files: bytes) -> None:
        self.files, self.asked = files, 0

    def read(self, release: str) -> Bundle:
        self.asked += 1
        if not self.files:
            raise ReleaseError("the store is away")
        return Bundle(None, {f"{name}.json": data for name, data in self.files.items()})


REFERENCE = json.dumps(
    {"slices": {"test": {}}, "score": {"edges": [0.2, 0.5], "test": {"bins": [500, 300, 200]}}}
).encode()


def test_scores_that_are_others_than_those_that_were_judged_are_a_breach(site: Site) -> None:
    site.deploy(APPLE)
    site.challenge(BANANA)
    for arm, release, shares in (("champion", APPLE, (5, 3, 2)), ("challenger", BANANA, (1, 1, 8))):
        scores = [0.1] * 30 * shares[0] + [0.3] * 30 * shares[1] + [0.9] * 30 * shares[2]
        rows = [
            served(
                i, decision_id=f"{arm} {i}", unit=f"{arm} {i}", arm=arm, release=release, line=2, score=score
            )
            for i, score in enumerate(scores)
        ]
        site.records.write("served", rows)
    seen = site.look(Known(Shelf(), Shelf(reference=REFERENCE)))
    assert (
        seen.outcome == "rolled back"
        and seen.culprit.figure == "scores"
        and "since line 2" in site.now.reason
    )
    judged = {each.release: each.breach for each in seen.readings if each.figure == "scores"}
    assert judged == {APPLE: False, BANANA: True}


def test_without_store_the_other_figures_are_looked_at_all_the_same_and_files_are_read_once(
    small: Site,
) -> None:
    small.deploy(APPLE)
    seen = small.look(Known(Shelf()))
    assert [(each.figure, each.breach) for each in seen.readings] == [
        ("errors", None),
        ("latency", None),
        ("scores", None),
    ]
    shelf = Shelf(reference=REFERENCE)
    known = Known(Shelf(), shelf)
    for _ in range(3):
        small.look(known)
    assert shelf.asked == 1
    assert known.charter(APPLE) is None


def test_a_challenger_that_loses_money_is_taken_out(site: Site) -> None:
    site.ledger.write("deploy", deployed(Order(APPLE, TRIAL), None), "Ann", "why", None)
    site.ledger.write("deploy", LIVE, "Ann", "why", 1)
    frozen(site.records)
    shop(site.records, effect=-0.5)
    assert site.look().outcome == "fine", "nobody asked for the metric"
    seen = site.look(records=site.records)
    assert seen.outcome == "rolled back" and seen.culprit.figure == "spend"
    assert "spend of challenger against control" in site.now.reason and "below 0" in site.now.reason


def test_what_it_says_is_plain_json(small: Site) -> None:
    small.deploy(APPLE)
    small.challenge(BANANA)
    small.serve("challenger", BANANA, failed=100)
    said = json.loads(json.dumps(small.look().as_json(), allow_nan=False))
    assert said["outcome"] == "rolled back" and said["culprit"]["figure"] == "errors"
    assert {(each["figure"], each["release"]) for each in said["readings"]} == {
        (figure, release) for figure in ("errors", "latency", "scores") for release in (APPLE, BANANA)
    }
