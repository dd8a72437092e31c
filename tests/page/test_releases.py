"""The page of releases says what the ledger and the store say, in words, and offers what can be done now."""

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from ml_workbench.page.releases import carried_out, releases_view, steps
from ml_workbench.plan.errors import LedgerError
from ml_workbench.release.deployment import NOBODY
from ml_workbench.release.ledger import Ledger, Line
from ml_workbench.release.store import Held
from ml_workbench.release.traffic import Order, deployed, paused, promoted, ramped
from tests.release.live import APPLE, BANANA, CHERRY, planned

PLAN = planned()
ALONE = deployed(Order(APPLE, PLAN), None)
CANARY = deployed(Order(BANANA, PLAN, role="challenger", ramp=0.5, shadows=(CHERRY,)), ALONE)
START = datetime(2026, 3, 2, 9, 5)


def lines_of(*states, action: str = "deploy", hours: tuple[int, ...] = ()) -> list[Line]:
    "Lines with these states, the newest first; None for one that cannot be read."
    made = []
    for number, state in enumerate(states, 1):
        at = START + timedelta(hours=hours[number - 1] if hours else number)
        made.append(
            Line(
                number,
                at,
                "Ann",
                action,
                state.as_json() if state else "{",
                "why",
                number - 1 or None,
                None,
                None,
            )
        )
    return made[::-1]


def view(lines: list[Line], held: tuple[Held, ...] = ()):
    return releases_view(lines, held, until=START + timedelta(days=1))


def test_an_empty_ledger_has_nothing_to_say() -> None:
    found = view([])
    assert found.now is None and found.series == () and found.rows == () and steps([]) == ()


def test_shares_sum_to_one_at_every_time_and_every_arm_has_a_series() -> None:
    found = view(
        lines_of(
            ALONE, CANARY, ramped(CANARY, 1.0), promoted(CANARY), paused(promoted(CANARY), everything=True)
        )
    )
    assert [series.name for series in found.series] == ["champion", "challenger", "control", NOBODY]
    for points in zip(*(series.points for series in found.series), strict=True):
        assert sum(point.share for point in points) == pytest.approx(1)
        assert len({point.at for point in points}) == 1
    champion = found.series[0].points
    assert [point.told.split()[-1] for point in champion[:4]] == [APPLE[:12]] * 3 + [BANANA[:12]]
    assert champion[-1].at == START + timedelta(days=1)


def test_a_clock_that_goes_backwards_draws_no_line_backwards() -> None:
    found = view(lines_of(ALONE, CANARY, promoted(CANARY), hours=(5, 3, 50)))
    times = [point.at for point in found.series[0].points]
    assert times == sorted(times) and times[-1] == times[-2]
    assert [row.line for row in found.rows] == [3, 2, 1]


def test_a_line_that_cannot_be_read_changes_nothing_and_is_told() -> None:
    found = view(lines_of(ALONE, None))
    assert found.now.line == 1 and "Line 2 cannot be read" in found.now.warning
    assert found.rows[0].traffic == "cannot be read" and not found.rows[0].readable
    assert len(found.series[0].points) == 2
    assert view(lines_of(None)).now is None
    assert [step.key for step in steps(lines_of(ALONE, None))] == ["rollback"]


def test_rows_say_what_was_done_and_what_is_paused() -> None:
    (newest, *_) = lines_of(ALONE, paused(CANARY), action="pause")
    back = Line(3, START, "guard", "rollback", ALONE.as_json(), "too slow", 2, 1, BANANA)
    rows = view([back, newest]).rows
    assert rows[0].what == f"rolled back to line 1, without {BANANA[:12]}"
    assert (
        rows[1].what == "paused"
        and rows[1].traffic.endswith("; paused: challenger")
        and f"shadow {CHERRY[:12]}" in rows[1].traffic
    )
    assert rows[1].when == "2 Mar 2026, 11:05"


def test_releases_that_serve_come_first_and_one_that_was_taken_out_says_by_whom() -> None:
    held = tuple(Held(release, None, None, "damaged, it seems") for release in (CHERRY, BANANA, APPLE))
    found = view(lines_of(ALONE, CANARY), held).standings
    assert [(each.id, each.serves) for each in found] == [
        (APPLE, "champion"),
        (BANANA, "challenger"),
        (CHERRY, "shadow"),
    ]
    assert {(each.verdict, each.note) for each in found} == {("damaged", "damaged, it seems")}
    back = Line(3, START, "guard", "rollback", ALONE.as_json(), "too slow", 2, 1, BANANA)
    about = {
        "label": "MLP",
        "metrics": {"against_rule_per_month": {"value": -70.2}, "currency": "EUR"},
        "verdict": "overridden",
    }
    release = SimpleNamespace(**about, origin=SimpleNamespace(committed_at="2026-03-01T06:00:00Z"))
    (gone,) = view([back, *lines_of(ALONE, CANARY)], (Held(BANANA, release, None),)).standings
    assert gone.serves == "" and gone.note == "Taken out by guard, line 3: too slow"
    assert (gone.sign, gone.verdict, gone.earns, gone.made, gone.short) == (
        "!",
        "overridden",
        "−€70",
        "2026-03-01",
        BANANA[:12],
    )


@pytest.mark.parametrize(
    ("states", "keys"),
    [
        ((ALONE,), ["pause champion"]),
        ((ALONE, paused(ALONE, everything=True)), ["resume", "rollback"]),
        ((ALONE, CANARY), ["promote", "pause champion", "pause challenger", "pause all", "rollback"]),
        ((ALONE, paused(CANARY)), ["pause champion", "resume", "rollback"]),
    ],
)
def test_only_what_can_be_done_now_is_offered(states, keys) -> None:
    found = steps(lines_of(*states))
    assert [step.key for step in found] == keys
    assert all(step.told and step.line == len(states) for step in found)


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as made:
        made.migrate()
        made.write("deploy", ALONE, "Ann", "why", None)
        made.write("deploy", CANARY, "Ann", "why", 1)
        yield made


@pytest.mark.parametrize("key", ["promote", "pause champion", "pause challenger", "pause all", "rollback"])
def test_what_was_read_is_what_happens(ledger: Ledger, key: str) -> None:
    step = next(each for each in steps(ledger.lines()) if each.key == key)
    made = carried_out(ledger, step, actor="Head", reason="agreed")
    assert made.told == step.told and (made.line.line, made.line.actor, made.line.reason) == (
        3,
        "Head",
        "agreed",
    )


def test_whoever_was_faster_wins_and_without_a_reason_nothing_happens(ledger: Ledger) -> None:
    found = {step.key: step for step in steps(ledger.lines())}
    with pytest.raises(LedgerError, match="needs a reason"):
        carried_out(ledger, found["promote"], actor="Head", reason=" ")
    carried_out(ledger, found["pause challenger"], actor="Ben", reason="first")
    for key in ("pause all", "rollback", "pause champion"):
        with pytest.raises(LedgerError, match="Ben has written line 3 since"):
            carried_out(ledger, found[key], actor="Head", reason="agreed")
    carried_out(
        ledger,
        next(step for step in steps(ledger.lines()) if step.key == "rollback"),
        actor="Ben",
        reason="gone",
    )
    with pytest.raises(LedgerError, match="not possible any more"):
        carried_out(ledger, found["pause challenger"], actor="Head", reason="agreed")
    assert ledger.latest_line() == 4
