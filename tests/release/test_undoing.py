"""Going back is an undo stack over lines that are never altered; what was condemned does not come back by itself."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.plan.errors import LedgerError
from ml_workbench.release.ledger import Line
from ml_workbench.release.traffic import Order, deployed, paused, promoted
from ml_workbench.release.undoing import condemned, release_in, states, target

from .live import APPLE, BANANA, CHERRY, DAMSON, planned

PLAN = planned()


class Book:
    "A ledger in memory."

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def add(self, action: str, state, restores: int | None = None, out: str | None = None) -> int:
        number = len(self.lines) + 1
        text = state if isinstance(state, str) else state.as_json()
        at = datetime(2026, 3, 2) - timedelta(hours=number)  # a clock that goes backwards
        self.lines.append(Line(number, at, "Ann", action, text, "why", number - 1 or None, restores, out))
        return number

    @property
    def now(self):
        return self.lines[-1].deployment

    def deploy(self, release: str) -> int:
        return self.add("deploy", deployed(Order(release, PLAN), None))

    def challenge(self, release: str) -> int:
        return self.add("deploy", deployed(Order(release, PLAN, role="challenger"), self.now))

    def back(self, **wanted) -> int:
        line = target(self.lines, **wanted)
        return self.add("rollback", line.deployment, line.line, wanted.get("without"))

    @property
    def champion(self) -> str:
        return self.now.releases["champion"]


@pytest.fixture
def book() -> Book:
    return Book()


def test_back_is_the_state_before_and_again_the_one_before_that(book: Book) -> None:
    for release in (APPLE, BANANA, CHERRY, DAMSON):
        book.deploy(release)
    found = []
    for _ in range(3):
        book.back()
        found.append(book.champion)
    assert found == [CHERRY, BANANA, APPLE]
    with pytest.raises(LedgerError, match=r"no state to go back to before line 7.*pause --all"):
        book.back()


def test_what_was_undone_stays_undone_after_a_new_deployment(book: Book) -> None:
    book.deploy(APPLE)
    book.deploy(BANANA)
    book.back()
    book.deploy(CHERRY)
    book.back()
    assert book.champion == APPLE, "banana was left for a reason"


@given(st.lists(st.sampled_from(["deploy", "back"]), max_size=30))
def test_the_lines_behave_like_an_undo_stack(steps: list[str]) -> None:
    book, stack = Book(), []
    for number, step in enumerate(steps):
        if step == "deploy":
            release = f"{number:064x}"
            book.deploy(release)
            stack.append(release)
        elif len(stack) > 1:
            book.back()
            stack.pop()
        else:
            with pytest.raises(LedgerError):
                book.back()
        if stack:
            assert book.champion == stack[-1]
    assert [line.deployment.releases["champion"] for line in states(book.lines)] == stack[::-1]


def test_a_certain_line_can_be_named_also_one_that_was_undone(book: Book) -> None:
    book.deploy(APPLE)
    book.deploy(BANANA)
    book.back()
    book.back(to=2)
    assert book.champion == BANANA
    book.back()
    assert book.champion == APPLE
    for to in (0, 5, 6):
        with pytest.raises(LedgerError, match=f"--to {to}: name a line from 1 to 4"):
            book.back(to=to)


def test_going_back_after_a_pause_goes_to_before_what_had_to_be_paused(book: Book) -> None:
    book.deploy(APPLE)
    book.challenge(BANANA)
    book.add("pause", paused(book.now))
    book.back()
    assert book.now.releases == {"champion": APPLE} and book.lines[-1].restores == 1


def test_a_state_that_was_paused_comes_back_paused(book: Book) -> None:
    book.deploy(APPLE)
    book.challenge(BANANA)
    book.add("pause", paused(book.now))
    book.deploy(CHERRY)
    book.back()
    assert book.now.paused == ("challenger",) and book.lines[-1].restores == 3


def test_a_line_that_changed_nothing_is_no_state_to_go_back_to(book: Book) -> None:
    book.deploy(APPLE)
    book.deploy(BANANA)
    book.deploy(BANANA)
    book.back()
    assert book.champion == APPLE


def test_a_damaged_line_is_passed_over_whether_it_is_in_force_or_in_between(book: Book) -> None:
    book.deploy(APPLE)
    book.add("deploy", "{")
    book.deploy(BANANA)
    book.add("deploy", "no JSON")
    assert target(book.lines).line == 3
    book.back()
    book.back()
    assert book.champion == APPLE
    with pytest.raises(LedgerError, match="line 2 of the ledger"):
        book.back(to=2)


def test_without_a_release_every_state_with_it_is_passed_over(book: Book) -> None:
    book.deploy(APPLE)
    book.challenge(BANANA)
    book.add("promote", promoted(book.now))
    book.challenge(CHERRY)
    book.back(without=BANANA)
    assert book.now.releases == {"champion": APPLE} and condemned(book.lines) == {BANANA}
    with pytest.raises(LedgerError, match="nothing to take out"):
        book.back(without=BANANA)
    with pytest.raises(LedgerError, match=f"without {BANANA[:12]} to go back to"):
        book.back()


def test_what_was_condemned_does_not_come_back_by_itself(book: Book) -> None:
    book.deploy(APPLE)
    book.deploy(BANANA)
    book.deploy(CHERRY)
    book.deploy(BANANA)
    book.back(without=BANANA)
    assert book.champion == CHERRY
    book.back()
    assert book.champion == APPLE, "banana, in between, is condemned"


def test_whoever_names_a_condemned_release_brings_it_back_for_good(book: Book) -> None:
    book.deploy(APPLE)
    book.deploy(BANANA)
    book.back(without=BANANA)
    book.deploy(BANANA)
    assert condemned(book.lines) == frozenset()
    book.deploy(CHERRY)
    book.back()
    assert book.champion == BANANA
    book.back(without=BANANA)
    book.back(to=2)
    assert condemned(book.lines) == frozenset()


def test_a_line_with_the_release_cannot_be_named_together_with_without(book: Book) -> None:
    for release in (APPLE, BANANA, APPLE):
        book.deploy(release)
    with pytest.raises(LedgerError, match="answers there, too"):
        book.back(to=1, without=APPLE)


def test_a_shadow_that_was_condemned_is_no_reason_to_pass_a_state_over(book: Book) -> None:
    book.deploy(APPLE)
    book.add("deploy", deployed(Order(CHERRY, PLAN, shadows=(BANANA,)), None))
    book.deploy(BANANA)
    book.back(without=BANANA)
    assert book.champion == CHERRY


def test_an_empty_ledger_has_nothing_to_go_back_to(book: Book) -> None:
    with pytest.raises(LedgerError, match="nothing was ever deployed"):
        book.back()
    book.deploy(APPLE)
    with pytest.raises(LedgerError, match="no state to go back to before line 1"):
        book.back()


def test_a_release_is_found_by_its_first_digits_and_only_if_it_is_one(book: Book) -> None:
    book.deploy("abcd" + "0" * 60)
    book.deploy("abcd" + "1" * 60)
    assert release_in(book.lines, "ABCD0") == "abcd" + "0" * 60
    for prefix, told in (("abcd", "several begin with it: abcd00000000, abcd11111111"), ("abc", "at least 4"), ("ffff", "known to the ledger: abcd")):  # fmt: skip
        with pytest.raises(LedgerError) as refused:
            release_in(book.lines, prefix)
        assert told in str(refused.value)


def test_ten_thousand_lines_are_no_burden(book: Book) -> None:
    states_of = [deployed(Order(release, PLAN), None).as_json() for release in (APPLE, BANANA)]
    for number in range(10_000):
        book.add("deploy", states_of[number % 2])
    assert target(book.lines).line == 9_999
