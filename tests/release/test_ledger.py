"""The ledger only grows, its order is that of its lines, and of two who write at once exactly one wins."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ml_workbench.database.connections import transaction
from ml_workbench.database.tables import table_of
from ml_workbench.plan.errors import LedgerError, RecordError
from ml_workbench.release import ledger as module
from ml_workbench.release.ledger import ACTIONS, Ledger, operator
from ml_workbench.release.operations import change, rollback
from ml_workbench.release.traffic import resumed

from .test_deployment import APPLE, BANANA, CHERRY, alone, deployment


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    "An empty database, of either kind."
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    "An empty ledger in a database of either kind."
    with Ledger(url) as made:
        made.migrate()
        yield made


def insert(ledger: Ledger, **row: object) -> None:
    "A line as another version, or a hand, might have written it."
    complete = {"at": datetime(2017, 11, 13), "actor": "hand", "action": "deploy", "reason": "by hand"}
    with transaction(ledger.engine) as connection:
        connection.execute(sa.insert(table_of("ledger")), complete | row)


def test_an_empty_ledger_says_so(ledger: Ledger) -> None:
    assert ledger.current() is None
    assert ledger.latest_line() == 0
    assert ledger.lines() == []


def test_what_was_written_is_in_force_and_reads_back_whole(ledger: Ledger) -> None:
    first = ledger.write("deploy", alone(), "Ann", "the first", None)
    second = ledger.write("rollback", deployment(), "guard", "too slow", 1, 1, condemned=CHERRY)
    assert ledger.latest_line() == 2
    assert ledger.current() == second and second.deployment == deployment()
    assert ledger.lines() == [second, first] and ledger.lines(1) == [second]
    assert (first.previous, first.restores, first.condemned) == (None, None, None)
    assert (second.previous, second.restores, second.condemned) == (1, 1, CHERRY)
    assert abs(second.at - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=5)


def test_whoever_looked_at_an_older_line_is_told_who_was_faster_and_what_holds_now(ledger: Ledger) -> None:
    ledger.write("deploy", alone(), "Ann", "the first", None)
    ledger.write("deploy", alone(releases={"champion": BANANA}, terms=BANANA), "Ann", "a better one", 1)
    before = ledger.lines()
    for expected in (None, 0, 1, 3):
        with pytest.raises(LedgerError) as refused:
            ledger.write("pause", alone(paused=("champion",)), "Ben", "too many offers", expected)
        said = str(refused.value)
        assert "Ann was faster and wrote line 2" in said and "a better one" in said
        assert BANANA[:12] in said and "\n" not in said
    assert ledger.lines() == before


def test_the_next_line_of_an_empty_ledger_is_the_first(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="the ledger is empty"):
        ledger.write("deploy", alone(), "Ann", "the first", 4)
    assert ledger.lines() == []


RACER = """
import sys
from ml_workbench.plan.errors import LedgerError
from ml_workbench.release.deployment import Deployment
from ml_workbench.release.ledger import Ledger
url, name, text = sys.argv[1:]
with Ledger(url) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    for expected in range(20):
        while ledger.latest_line() < expected:
            pass
        try:
            ledger.write("deploy", Deployment.from_json(text), name, f"{name} {expected + 1}", expected)
            print("won", flush=True)
        except LedgerError as error:
            print(error, flush=True)
"""


def test_of_two_processes_that_write_the_same_line_exactly_one_wins_every_time(
    ledger: Ledger, url: str
) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, url, name, alone().as_json()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )
        for name in ("Ann", "Ben")
    ]  # fmt: skip
    for each in racers:
        assert each.stdout.readline() == "ready\n"
    for each in racers:
        each.stdin.write("go\n")
        each.stdin.flush()
    said = {name: each.communicate(timeout=60)[0].splitlines() for name, each in zip(("Ann", "Ben"), racers)}
    assert [each.returncode for each in racers] == [0, 0]
    lines = ledger.lines()[::-1]
    assert [line.line for line in lines] == list(range(1, 21))
    for line, *outcomes in zip(lines, said["Ann"], said["Ben"], strict=True):
        told = dict(zip(("Ann", "Ben"), outcomes))
        assert told.pop(line.actor) == "won" and line.reason == f"{line.actor} {line.line}"
        (loser,) = told.values()
        assert "was faster and wrote line" in loser


def design(**other: object) -> dict:
    row = {"experiment": "trial", "design_hash": "0123456789ab", "design": "{}", "actor": "Ann"}
    return row | {"started_at": datetime(2017, 11, 13, 5)} | other


def designs(ledger: Ledger) -> list:
    with transaction(ledger.engine, reading=True) as connection:
        return [row._asdict() for row in connection.execute(sa.select(table_of("experiments")))]


def test_a_design_is_frozen_with_the_line_or_not_at_all(ledger: Ledger) -> None:
    ledger.write("deploy", deployment(), "Ann", "the first", None, designs=[design()])
    assert designs(ledger) == [design()]
    ledger.write("ramp", deployment(), "Ann", "again", 1, designs=[design(actor="Ben")])
    assert designs(ledger) == [design()], "the first note of a design stands"
    with pytest.raises(LedgerError):
        ledger.write("ramp", deployment(), "Ben", "late", 1, designs=[design(design_hash="ba9876543210")])
    with pytest.raises(RecordError):
        ledger.write(
            "ramp", deployment(), "Ben", "broken", 2, designs=[design(design_hash="ffff", design=None)]
        )
    assert designs(ledger) == [design()] and ledger.latest_line() == 2


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ({"action": "depoly"}, "no action 'depoly', did you mean 'deploy'"),
        ({"actor": " \t"}, "needs somebody who answers for it: add --by"),
        ({"reason": "\n"}, "deploy needs a reason: add --reason"),
    ],
)
def test_a_line_without_actor_reason_or_known_action_is_refused(
    tmp_path: Path, word: dict, told: str
) -> None:
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        ledger.migrate()
        with pytest.raises(LedgerError, match=told):
            ledger.write(
                **{
                    "action": "deploy",
                    "actor": "Ann",
                    "reason": "why",
                    "deployment": alone(),
                    "expected": None,
                }
                | word
            )
        assert ledger.latest_line() == 0


def test_words_are_kept_on_one_line_and_short(ledger: Ledger) -> None:
    line = ledger.write("deploy", alone(), "Ann\n Lee", "because\0 of\r\n" + "x" * 5000, None)
    assert line.actor == "Ann Lee" and line.reason.startswith("because of x") and len(line.reason) == 2000
    assert ledger.current() == line


def test_a_clock_that_goes_backwards_changes_no_order(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backwards(datetime):
        left = 3

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            cls.left -= 1
            return datetime(2017, 11, 13, tzinfo=tz) + timedelta(days=cls.left)

    monkeypatch.setattr(module, "datetime", Backwards)
    for expected, release in enumerate((APPLE, BANANA, CHERRY)):
        ledger.write("deploy", alone(releases={"champion": release}, terms=release), "Ann", "next", expected)
    times = [line.at for line in ledger.lines()]
    assert times == sorted(times), "the newest line has the oldest time"
    assert ledger.current().deployment.releases == {"champion": CHERRY}


@pytest.mark.parametrize(
    "state",
    ["", "{", "[]", '{"format": 9}', deployment().as_json().replace('"base":"champion"', '"base":"x"')],
)
def test_a_line_that_cannot_be_read_is_told_and_the_history_stays_readable(
    ledger: Ledger, state: str
) -> None:
    first = ledger.write("deploy", alone(), "Ann", "the first", None)
    insert(ledger, line=2, state=state, previous=1)
    assert ledger.latest_line() == 2
    with pytest.raises(LedgerError, match=r"line 2 of the ledger .* cannot be read"):
        ledger.current()
    assert [line.line for line in ledger.lines()] == [2, 1]
    with pytest.raises(LedgerError, match="hand was faster and wrote line 2"):
        ledger.write("deploy", alone(), "Ben", "meanwhile", first.line)
    assert ledger.write("rollback", alone(), "Ben", "line 2 is damaged", 2, 1).line == 3
    assert ledger.current().deployment == alone()


@pytest.mark.parametrize("change", ["UPDATE ledger SET reason = 'nothing'", "DELETE FROM ledger"])
def test_what_was_written_cannot_be_altered(ledger: Ledger, change: str) -> None:
    line = ledger.write("deploy", alone(), "Ann", "the first", None)
    with pytest.raises(RecordError, match="the ledger only grows"), transaction(ledger.engine) as connection:
        connection.execute(sa.text(change))
    assert ledger.lines() == [line]


def test_looking_for_a_ledger_makes_none(url: str, tmp_path: Path) -> None:
    with Ledger(url) as ledger:
        assert not ledger.ready()
        ledger.migrate()
        assert ledger.ready()
    with Ledger("sqlite:///deep/down.db", tmp_path) as ledger:
        assert not ledger.ready() and not (tmp_path / "deep").exists()


def test_a_database_without_tables_and_one_that_is_away_are_told_apart(tmp_path: Path) -> None:
    with Ledger("sqlite:///empty.db", tmp_path) as ledger, pytest.raises(RecordError, match="lacks tables"):
        ledger.latest_line()
    with (
        Ledger("postgresql://127.0.0.1:1/nowhere") as ledger,
        pytest.raises(RecordError, match="cannot be reached"),
    ):
        ledger.current()


def test_the_password_is_never_shown() -> None:
    with Ledger("postgresql://ann:hunter2@127.0.0.1:1/nowhere") as ledger:
        assert "hunter2" not in repr(ledger)


def test_a_state_of_another_write_is_not_touched_by_changing_ours(ledger: Ledger) -> None:
    line = ledger.write("deploy", alone(), "Ann", "the first", None)
    replace(line.deployment, paused=("champion",))
    assert ledger.current().deployment.paused == ()


def test_every_action_can_be_written(ledger: Ledger) -> None:
    for expected, action in enumerate(ACTIONS):
        ledger.write(action, alone(), "Ann", "once each", expected)
    assert [line.action for line in ledger.lines()] == [*ACTIONS[::-1]]
    assert json.loads(ledger.lines(1)[0].state)["base"] == "champion"


def test_whoever_is_at_the_keyboard_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert operator()
    monkeypatch.setattr(module.getpass, "getuser", lambda: (_ for _ in ()).throw(OSError("no such user")))
    assert operator() == "unknown"


def test_whoever_looked_at_an_older_line_changes_nothing(ledger: Ledger) -> None:
    ledger.write("deploy", deployment(), "Ann", "the first", None)
    ledger.write("pause", deployment(paused=("challenger",)), "Ann", "wait", 1)
    for step in (
        lambda: change(ledger, "resume", resumed, actor="Ben", reason="go", expected=1),
        lambda: rollback(ledger, actor="Ben", reason="back", expected=1),
    ):
        with pytest.raises(
            LedgerError, match=r"line 1 was looked at, and Ann has written line 2 since \(pause: wait\)"
        ):
            step()
    assert change(ledger, "resume", resumed, actor="Ben", reason="go", expected=2).line.line == 3
