"""Unit economics by hand, rest after an offer, credit once."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.model.value import curve_sizes, expected_profit, first_by_score, panel_of, simulate
from ml_workbench.plan.charter import Economics
from ml_workbench.plan.errors import TrainingError

SCHEMA = Schema(
    "member", "as_of", "slice", "left", "spend", 28, "weekly", (Feature("weekly", "number", "money"),)
)


def terms(**changes) -> Economics:
    rate = {"value": 0.2, "low": 0.1, "high": 0.3, "status": "assumption", "source": "a guess"}
    given = {
        "gross_margin": 0.25,
        "offer_cost": 1.0,
        "value_weeks": 10,
        "cooldown_days": 14,
        "save_rate": rate,
    }
    return Economics.model_validate({**given, "running_cost_per_week": 0.0, **changes})


def weeks_of(*labels: tuple[int, ...], weekly: float = 40.0) -> pd.DataFrame:
    "One tuple of labels per week, one label per member."
    return pd.DataFrame(
        [
            {
                "member": member,
                "as_of": pd.Timestamp("2024-01-01") + pd.Timedelta(weeks=week),
                "left": left,
                "weekly": weekly,
            }
            for week, row in enumerate(labels)
            for member, left in enumerate(row)
        ]
    )


def test_the_profit_of_one_offer_by_hand():
    # .2 saved · .25 margin · 40 a week · 10 weeks = 20 for a sure lapser, less 1 for the offer
    assert expected_profit([1.0, 0.5, 0.0], [40.0, 40.0, 40.0], terms()).tolist() == [19.0, 9.0, -1.0]


def test_a_unit_that_never_spent_is_worth_nothing():
    assert expected_profit([1.0, 1.0], [0.0, np.nan], terms()).tolist() == [-1.0, -1.0]


def test_weekly_profit_of_a_list_by_hand():
    panel = panel_of(weeks_of((1, 0, 0)), SCHEMA, terms())
    outcome = simulate(panel, [3, 2, 1], sizes=[0, 1, 2, 9], economics=terms())
    assert outcome.per_week(0.2).sum(axis=0).tolist() == [0.0, 19.0, 18.0, 17.0]
    assert outcome.hits.sum(axis=0).tolist() == [0, 1, 1, 1]


def test_a_unit_rests_after_an_offer_and_comes_back_on_the_day_its_rest_ends():
    panel = panel_of(weeks_of((0,), (0,), (0,), (0,)), SCHEMA, terms())
    for rest, offers in {0: 4, 7: 4, 8: 2, 14: 2, 15: 2, 21: 2, 22: 1}.items():
        outcome = simulate(panel, np.ones(4), sizes=[1], economics=terms(cooldown_days=rest))
        assert outcome.offers.sum() == offers, rest


def test_the_next_in_order_takes_the_place_of_one_who_rests():
    panel = panel_of(weeks_of((0, 0, 0), (0, 0, 0)), SCHEMA, terms())
    outcome = simulate(panel, [3, 2, 1] * 2, sizes=[1], economics=terms())
    assert outcome.offers[:, 0].tolist() == [1, 1, 0]


def test_a_saved_unit_is_credited_once_in_the_weeks_it_is_worth():
    panel = panel_of(weeks_of((1,), (1,), (1,)), SCHEMA, terms())
    once = simulate(panel, np.ones(3), sizes=[1], economics=terms(cooldown_days=0))
    assert once.offers.sum() == 3 and once.hits.sum() == 3 and once.value.sum() == pytest.approx(100.0)
    short = simulate(panel, np.ones(3), sizes=[1], economics=terms(cooldown_days=0, value_weeks=2))
    assert short.value.sum() == pytest.approx(200.0)  # weeks one and three; the panel keeps its own value


def test_a_missed_lapser_can_still_be_credited_later():
    panel = panel_of(weeks_of((0,), (1,)), SCHEMA, terms())
    outcome = simulate(panel, np.ones(2), sizes=[1], economics=terms(cooldown_days=0))
    assert outcome.value.sum() == pytest.approx(100.0)


def test_a_floor_makes_the_size_a_limit_and_not_a_target():
    panel = panel_of(weeks_of((0, 0, 0)), SCHEMA, terms())
    outcome = simulate(panel, [2.0, 0.0, -1.0], sizes=[1, 3], economics=terms(), floor=0.0)
    assert outcome.offers.sum(axis=0).tolist() == [1, 1]


def test_every_size_is_the_same_as_simulating_it_alone():
    random = np.random.default_rng(2)
    panel = panel_of(weeks_of(*random.integers(0, 2, (5, 30))), SCHEMA, terms())
    score = random.normal(size=150)
    together = simulate(panel, score, sizes=[0, 3, 7, 30], economics=terms())
    for place, size in enumerate([0, 3, 7, 30]):
        alone = simulate(panel, score, sizes=[size], economics=terms())
        assert (alone.value[:, 0] == together.value[:, place]).all()
        assert (alone.offers[:, 0] == together.offers[:, place]).all()


def test_the_order_of_rows_decides_nothing():
    rows = weeks_of((1, 0, 1, 0), (0, 1, 0, 1))
    shuffled = rows.sample(frac=1, random_state=3).reset_index(drop=True)
    outcomes = [
        simulate(panel_of(each, SCHEMA, terms()), np.zeros(8), sizes=[2], economics=terms())
        for each in (rows, shuffled)
    ]
    assert (outcomes[0].offers == outcomes[1].offers).all() and (outcomes[0].value == outcomes[1].value).all()


def test_a_missing_score_ranks_last():
    panel = panel_of(weeks_of((0, 0)), SCHEMA, terms())
    assert simulate(panel, [np.nan, -5.0], sizes=[1], economics=terms()).offers[:, 0].tolist() == [0, 1]
    assert first_by_score(np.array([np.nan, -5.0]), np.array([1, 2]), size=2).tolist() == [1]


def test_a_unit_twice_at_one_date_is_refused():
    rows = pd.concat([weeks_of((1, 0)), weeks_of((0, 1))], ignore_index=True)
    with pytest.raises(TrainingError, match="'member' appears twice at one 'as_of'"):
        panel_of(rows, SCHEMA, terms())


def test_the_grid_always_holds_the_capacity():
    assert curve_sizes(25, 100, 60).tolist() == [0, 25, 50, 60, 75, 100]
    assert curve_sizes(25, 50, 400).tolist() == [0, 25, 50, 400]


def test_a_run_in_is_played_and_not_counted(root):
    from ml_workbench.plan.params import load_params

    economics = load_params(root).charter.economics.model_copy(update={"run_in_weeks": 0})
    schema = Schema(
        "member", "as_of", "slice", "left", "spend", 28, "weekly", (Feature("weekly", "number", "money"),)
    )
    random = np.random.default_rng(8)
    rows = pd.DataFrame({"member": np.tile(np.arange(50), 6), "weekly": np.tile(random.gamma(2, 20, 50), 6)})
    rows["as_of"] = np.repeat(pd.date_range("2024-01-01", periods=6, freq="7D"), 50)
    rows["left"] = (random.random(300) < 0.3).astype(int)
    score = random.random(300)
    whole = panel_of(rows, schema, economics)
    settled = panel_of(rows, schema, economics.model_copy(update={"run_in_weeks": 2}))
    both = [simulate(panel, score, sizes=[10], economics=economics) for panel in (whole, settled)]
    start = panel_of(rows[rows["as_of"] < "2024-01-15"], schema, economics)
    first = simulate(start, score[:100], sizes=[10], economics=economics)
    assert settled.weeks == both[1].weeks == 4 and settled.counted.sum() == 200
    for part in ("value", "offers", "hits"):
        assert getattr(both[1], part).sum() + getattr(first, part).sum() == pytest.approx(
            getattr(both[0], part).sum()
        )


def test_a_run_in_that_leaves_nothing_to_count_is_refused(root):
    from ml_workbench.plan.params import load_params

    economics = load_params(root).charter.economics.model_copy(update={"run_in_weeks": 2})
    schema = Schema(
        "member", "as_of", "slice", "left", "spend", 28, "weekly", (Feature("weekly", "number", "money"),)
    )
    rows = pd.DataFrame({"member": [1, 1], "weekly": [9.0, 9.0], "left": [0, 1]})
    rows["as_of"] = pd.date_range("2024-01-01", periods=2, freq="7D")
    with pytest.raises(TrainingError, match="run_in_weeks: 2 leaves none of 2 weeks to count"):
        panel_of(rows, schema, economics)


def test_a_label_that_counts_twice_is_worth_two_and_an_offer_costs_the_same():
    schema = replace(SCHEMA, weight="weight")
    rows = weeks_of((1, 1, 0)).assign(weight=[2.0, 0.0, 1.0])
    played = simulate(
        panel_of(rows, schema, terms()), np.array([3.0, 2.0, 1.0]), sizes=[3], economics=terms()
    )
    assert played.value[:, 0].tolist() == [200.0, 0.0, 0.0] and played.offers[:, 0].tolist() == [
        1.0,
        1.0,
        1.0,
    ]
    assert played.hits[:, 0].tolist() == [2.0, 0.0, 0.0]
