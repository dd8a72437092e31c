"""What a column says by itself: direction, holes, age."""

import numpy as np
import pandas as pd
import pytest

from ml_workbench.examine.readings import WHOLE_MODEL, aged_pairs, feature_skills, model_skill, reading
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.errors import TrainingError

SCHEMA = Schema(
    "member", "as_of", "slice", "left", "spend", 28, "visits", (Feature("visits", "number", "x"), Feature("noise", "number", "x"))
)  # fmt: skip


def weekly(members: int = 400, weeks: int = 12) -> pd.DataFrame:
    "Members who stay as they are; the last three weeks are for validation."
    random = np.random.default_rng(4)
    habit = random.gamma(1.0, 2.0, members)
    rows = pd.DataFrame(
        {"member": np.tile(np.arange(members), weeks), "week": np.repeat(np.arange(weeks), members)}
    )
    rows["visits"] = random.poisson(habit[rows["member"]]).astype(np.float32)
    rows["noise"] = random.normal(size=len(rows)).astype(np.float32)
    rows["left"] = (random.random(len(rows)) < np.exp(-habit[rows["member"]])).astype(np.int8)
    rows["as_of"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(7 * rows["week"], unit="D")
    return rows.assign(slice=np.where(rows["week"] < 9, "train", "validation"))


def test_pairs_are_of_one_unit_and_at_least_a_horizon_but_not_three_apart():
    rows = weekly(members=5, weeks=20)
    now, then = aged_pairs(rows, SCHEMA)
    apart = (rows["week"].to_numpy()[now] - rows["week"].to_numpy()[then]).tolist()
    assert (rows["member"].to_numpy()[now] == rows["member"].to_numpy()[then]).all() and set(apart) == {4}
    gappy = rows[rows["week"].isin([0, 12, 13, 25])]
    now, then = aged_pairs(gappy.reset_index(drop=True), SCHEMA)
    assert set(gappy["week"].to_numpy()[now] - gappy["week"].to_numpy()[then]) == {12}


def test_pairs_do_not_depend_on_the_order_of_rows():
    rows = weekly(members=5).sample(frac=1, random_state=2).reset_index(drop=True)
    now, then = aged_pairs(rows, SCHEMA)
    assert (rows["member"].to_numpy()[now] == rows["member"].to_numpy()[then]).all()
    assert (rows["week"].to_numpy()[now] - rows["week"].to_numpy()[then] == 4).all() and len(now) == 5 * 8


def test_a_reading_is_the_share_of_positives_among_similar_rows():
    column, learn = pd.Series(["a"] * 500 + ["b"] * 500), np.ones(1000, dtype=bool)
    label = np.r_[np.ones(400), np.zeros(600)].astype(int)
    said = reading(column, label, learn)
    assert said[0] == pytest.approx(404 / 510) and said[-1] == pytest.approx(4 / 510)  # ten rows' worth of .4


def test_a_level_that_training_never_saw_reads_as_the_overall_share():
    said = reading(
        pd.Series(["a", "b", None, "new"]), np.array([1, 0, 1, 0]), np.array([True, True, True, False])
    )
    assert said[3] == pytest.approx(2 / 3) and said[0] > 2 / 3 > said[1]


def test_missing_values_are_a_group_of_their_own():
    column = pd.Series([np.nan] * 300 + [1.0] * 300 + [2.0] * 300)
    label = np.r_[np.ones(300), np.zeros(600)].astype(int)
    said = reading(column, label, np.ones(900, dtype=bool))
    assert said[0] > 0.9 and said[300] < 0.1 and said[-1] < 0.1


def test_labels_outside_the_rows_to_learn_from_change_nothing():
    rows = weekly()
    learn = (rows["slice"] == "train").to_numpy()
    flipped = np.where(learn, rows["left"], 1 - rows["left"])
    assert (
        reading(rows["visits"], rows["left"].to_numpy(), learn) == reading(rows["visits"], flipped, learn)
    ).all()


def test_a_habit_keeps_its_skill_and_noise_has_none():
    visits, noise = feature_skills(weekly(), SCHEMA)
    assert visits.auc > 0.7 and abs(visits.lost) < 0.03
    assert abs(noise.auc - 0.5) < 0.05 and abs(noise.lost) < 0.05


def test_the_skill_of_a_model_is_asked_on_later_rows_with_an_older_score_only():
    rows = weekly()
    score = -rows["visits"].to_numpy(dtype=float)
    whole = model_skill(score, rows, SCHEMA)
    assert (
        whole.feature == WHOLE_MODEL
        and whole.today == pytest.approx(whole.auc)
        and whole.aged < whole.today + 0.03
    )
    unaged = model_skill(np.where(rows["slice"] == "validation", score, np.nan), rows, SCHEMA)
    assert unaged.auc == whole.auc and unaged.today is None and unaged.lost == unaged.share_lost == 0.0


def test_scores_that_do_not_fit_are_refused():
    rows = weekly(members=50)
    with pytest.raises(TrainingError, match="3 scores for 600 snapshots"):
        model_skill(np.zeros(3), rows, SCHEMA)
    with pytest.raises(TrainingError, match="missing on the whole slice"):
        model_skill(np.full(len(rows), np.nan), rows, SCHEMA)
