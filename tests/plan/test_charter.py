"""The plan as data."""

import copy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ml_workbench.plan.charter import Assumption, Charter, money

SHARES = st.floats(0, 1)


@pytest.fixture
def charter(root) -> dict:
    return copy.deepcopy(yaml.safe_load((root / "params.yaml").read_text())["charter"])


def assumption(low: float, value: float, high: float, **others: str) -> Assumption:
    return Assumption(
        low=low, value=value, high=high, **{"status": "assumption", "source": "a guess", **others}
    )


@given(st.lists(SHARES, min_size=3, max_size=3))
def test_an_assumption_holds_exactly_when_its_value_lies_in_its_range(numbers):
    low, value, high = numbers
    if low <= value <= high:
        assert assumption(low, value, high).value == value
    else:
        with pytest.raises(ValidationError, match="low ≤ value ≤ high must hold"):
            assumption(low, value, high)


@given(SHARES)
def test_a_measured_figure_without_doubt_may_be_its_own_range(share):
    assert assumption(share, share, share, status="measured").low == share


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan"), float("inf"), "0.5", True])
def test_a_share_lies_between_none_and_all(share):
    with pytest.raises(ValidationError):
        assumption(0.0, share, 1.0)


@pytest.mark.parametrize("status", ["guess", "Assumption", ""])
def test_an_assumption_says_whether_it_was_measured_in_one_of_two_words(status):
    with pytest.raises(ValidationError, match="'assumption' or 'measured'"):
        assumption(0.1, 0.2, 0.3, status=status)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("capacity_per_week", 0),
        ("capacity_per_week", 400.0),
        ("currency", "usd"),
        ("currency", "DOLLAR"),
        ("minimum_lift_per_week", -1.0),
        ("economics.offer_cost", -0.01),
        ("economics.gross_margin", 1.2),
        ("economics.value_weeks", 0),
        ("economics.cooldown_days", -1),
        ("baseline.order", "down"),
        ("baseline.feature", ""),
        ("review_date", "2 April 2018"),
        ("owner", ""),
    ],
)
def test_terms_that_make_no_sense_are_refused(charter, path, value):
    place, *rest = charter, *path.split(".")
    for step in rest[:-1]:
        place = place[step]
    place[rest[-1]] = value
    with pytest.raises(ValidationError):
        Charter.model_validate(charter)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("capacity_per_week", 1),
        ("minimum_lift_per_week", 0.0),
        ("economics.offer_cost", 0.0),
        ("economics.cooldown_days", 0),
    ],
)
def test_terms_on_the_bound_are_accepted(charter, path, value):
    place, *rest = charter, *path.split(".")
    for step in rest[:-1]:
        place = place[step]
    place[rest[-1]] = value
    assert Charter.model_validate(charter)


def test_the_default_charter_marks_what_no_experiment_has_measured(charter):
    terms = Charter.model_validate(charter)
    assert terms.economics.save_rate.status == "assumption"
    assert terms.economics.save_rate.low < terms.economics.save_rate.value < terms.economics.save_rate.high


@pytest.mark.parametrize(
    ("amount", "options", "text"),
    [
        (0, {}, "$0"),
        (-0.4, {}, "$0"),
        (1234.5, {}, "$1,234"),
        (1234.5, {"digits": 2}, "$1,234.50"),
        (-1234.56, {"digits": 1}, "−$1,234.6"),
        (5, {"sign": True}, "+$5"),
        (-5, {"sign": True}, "−$5"),
        (0.2, {"sign": True}, "$0"),
        (1e6, {"currency": "EUR"}, "€1,000,000"),
        (7, {"currency": "CHF"}, "CHF 7"),
        (7, {"currency": "SEK"}, "SEK 7"),
    ],
)
def test_money_reads_as_a_person_writes_it(amount, options, text):
    assert money(amount, **options) == text


@given(st.floats(-1e12, 1e12), st.integers(0, 4))
def test_money_says_the_amount_to_the_digit_and_never_minus_nothing(amount, digits):
    text = money(amount, digits=digits)
    value = float(text.replace("$", "").replace(",", "").replace("−", "-"))
    assert value == pytest.approx(round(amount, digits), abs=10.0**-digits / 100)
    assert "−" not in text or value < 0


@given(st.floats(0.51, 1e12))
def test_a_loss_reads_as_the_gain_does_with_a_minus(amount):
    assert money(-amount) == "−" + money(amount)
