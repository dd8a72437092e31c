"""The same chances, ranked by what is at stake in three ways."""

import numpy as np
import pandas as pd
import pytest

from ml_workbench.model.evaluation import policies_of
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.model.stakes import RANK_BY
from ml_workbench.model.targeting import LABELS, targetings
from ml_workbench.model.value import panel_of
from ml_workbench.plan.charter import Charter
from ml_workbench.plan.errors import TrainingError
from ml_workbench.plan.params import load_params

SCHEMA = Schema(
    "member", "as_of", "slice", "left", "spend", 28, "weekly",
    (Feature("weekly", "number", "money"), Feature("days_since_basket", "number", "recency")),
)  # fmt: skip
ABOUT = {"name": "any", "label": "Any", "complexity": 2}


@pytest.fixture(scope="module")
def charter(root) -> Charter:
    charter = load_params(root).charter
    economics = charter.economics.model_copy(update={"run_in_weeks": 0})
    return charter.model_copy(update={"capacity_per_week": 100, "economics": economics})


def members(weeks: int = 4, units: int = 3000) -> pd.DataFrame:
    random = np.random.default_rng(3)
    chance, spend = random.beta(1, 4, units), random.lognormal(3, 1.5, units)
    rows = pd.DataFrame({"member": np.tile(np.arange(units), weeks), "any": np.tile(chance, weeks)})
    rows["as_of"] = np.repeat(pd.date_range("2024-01-01", periods=weeks, freq="7D"), units)
    rows["left"] = (random.random(len(rows)) < rows["any"]).astype(int)
    rows = rows.assign(weekly=np.tile(spend, weeks), days_since_basket=random.random(len(rows)))
    return rows.assign(spend_if_kept=rows["weekly"] * 4 * random.lognormal(0, 0.4, len(rows)))


def test_money_at_stake_makes_a_better_list_than_the_chance_alone(charter):
    rows = members()
    found = targetings(
        rows, ABOUT, panel_of(rows, SCHEMA, charter.economics), SCHEMA, charter, rank_by="usual_spend"
    )
    assert [each.rank_by for each in found] == list(RANK_BY) == list(LABELS)
    by = {each.rank_by: each for each in found}
    assert by["probability"].difference.high < 0
    assert (
        by["usual_spend"].used and by["usual_spend"].difference.low == by["usual_spend"].difference.high == 0
    )


def test_differences_are_told_against_the_way_in_use(charter):
    rows = members()
    panel = panel_of(rows, SCHEMA, charter.economics)
    found = targetings(rows, ABOUT, panel, SCHEMA, charter, rank_by="probability", resamples=50)
    by = {each.rank_by: each for each in found}
    expected = by["usual_spend"].profit_per_week.value - by["probability"].profit_per_week.value
    assert by["usual_spend"].difference.value == pytest.approx(expected) and by["probability"].used


def test_all_ways_agree_where_everybody_spends_the_same(charter):
    rows = members().assign(weekly=30.0, spend_if_kept=120.0)
    ranks = [policies_of(rows, [ABOUT], SCHEMA, charter, rank_by=way)[0].rank for way in RANK_BY]
    assert ranks[0] == pytest.approx(ranks[1]) and ranks[0] == pytest.approx(ranks[2])


def test_a_way_without_its_column_or_name_is_refused(charter):
    with pytest.raises(TrainingError, match="no column 'spend_if_kept' to rank by"):
        policies_of(
            members().drop(columns="spend_if_kept"), [ABOUT], SCHEMA, charter, rank_by="expected_spend"
        )
    with pytest.raises(TrainingError, match="unknown 'hope'"):
        policies_of(members(), [ABOUT], SCHEMA, charter, rank_by="hope")
