"""The mistakes a user can make."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.plan import errors
from ml_workbench.plan.errors import WorkbenchError, did_you_mean

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_mistake_can_be_caught_as_one_kind_that_no_library_raises(kind):
    assert issubclass(kind, WorkbenchError)
    assert kind.__mro__[-4:] == (WorkbenchError, Exception, BaseException, object)
    assert kind.__doc__


@pytest.mark.parametrize(
    ("written", "suggested"),
    [
        ("hourizon_days", "horizon_days"),
        ("seeds", "seed"),
        ("horizon-days", "horizon_days"),
        ("Seed", "seed"),
    ],
)
def test_a_misspelling_gets_the_closest_name(written, suggested):
    assert did_you_mean(written, ["seed", "horizon_days", "threads"]) == f"did you mean '{suggested}'?"


def test_a_name_like_none_gets_them_all_in_order():
    assert did_you_mean("zzz", {"seed", "horizon_days"}) == "known: horizon_days, seed"


def test_with_nothing_to_choose_from_that_is_said():
    assert did_you_mean("seed", []) == "nothing is known by that kind of name"


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=10), max_size=5))
def test_the_suggestion_does_not_depend_on_the_order_of_the_options(name, options):
    assert did_you_mean(name, options) == did_you_mean(name, reversed(options))


@given(st.lists(st.text(min_size=1, max_size=10), min_size=1, max_size=5))
def test_a_name_that_exists_is_its_own_suggestion(options):
    assert did_you_mean(options[0], options) == f"did you mean '{options[0]}'?"
