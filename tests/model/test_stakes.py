"""What is at stake, three ways."""

import numpy as np
import pandas as pd
import pytest

from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.model.stakes import RANK_BY, money_at_stake
from ml_workbench.model.value import panel_of, simulate
from ml_workbench.plan.charter import Economics
from ml_workbench.plan.errors import TrainingError

SCHEMA = Schema(
    "member", "as_of", "slice", "left", "spend", 28, "weekly", (Feature("weekly", "number", "money"),)
)


def terms() -> Economics:
    rate = {"value": 0.2, "low": 0.1, "high": 0.3, "status": "assumption", "source": "a guess"}
    money = {"gross_margin": 0.25, "offer_cost": 1.0, "value_weeks": 10, "running_cost_per_week": 0.0}
    return Economics.model_validate({**money, "cooldown_days": 14, "save_rate": rate})


def rows(**changes) -> pd.DataFrame:
    return pd.DataFrame({"weekly": [40.0, 4.0, np.nan], "spend_if_kept": [80.0, 48.0, 16.0], **changes})


def test_each_stake_by_hand():
    # margin .25 on ten weeks; a horizon of four weeks
    assert money_at_stake(rows(), SCHEMA, terms()).tolist() == [100.0, 10.0, 0.0]
    assert money_at_stake(rows(), SCHEMA, terms(), "expected_spend").tolist() == [50.0, 30.0, 10.0]
    assert money_at_stake(rows(), SCHEMA, terms(), "probability") == pytest.approx([110 / 3] * 3)


def test_ranking_by_probability_orders_by_probability():
    chance = np.array([0.2, 0.9, 0.5])
    order = np.argsort(-chance * money_at_stake(rows(), SCHEMA, terms(), "probability"))
    assert order.tolist() == [1, 2, 0]


def test_ranking_by_what_is_credited_earns_most_when_the_chance_is_known():
    random = np.random.default_rng(1)
    weekly, lapse = random.gamma(1.0, 20.0, 200), random.random(200) < 0.3
    frame = pd.DataFrame(
        {
            "member": range(200),
            "as_of": pd.Timestamp("2024-01-01"),
            "weekly": weekly,
            "left": lapse.astype(int),
        }
    )
    frame["spend_if_kept"] = random.permutation(weekly) * 4
    panel, earned = panel_of(frame, SCHEMA, terms()), {}
    for name in RANK_BY:
        score = lapse * money_at_stake(frame, SCHEMA, terms(), name)
        earned[name] = simulate(panel, score, sizes=[20], economics=terms()).per_week(0.2).sum()
    assert earned["usual_spend"] > max(earned["expected_spend"], earned["probability"])


def test_no_rows_are_no_money():
    assert all(money_at_stake(rows().head(0), SCHEMA, terms(), name).shape == (0,) for name in RANK_BY)


def test_wrong_requests_are_named():
    with pytest.raises(TrainingError, match="unknown 'usual_spent', did you mean 'usual_spend'"):
        money_at_stake(rows(), SCHEMA, terms(), "usual_spent")
    with pytest.raises(TrainingError, match=r"no column 'spend_if_kept'.*train\.spend"):
        money_at_stake(rows().drop(columns="spend_if_kept"), SCHEMA, terms(), "expected_spend")
