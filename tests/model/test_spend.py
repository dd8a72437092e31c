"""Two parts multiply to an amount; rungs, figures and refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

from ml_workbench.model.candidates import candidate_named, fit_candidate, rule_candidate
from ml_workbench.model.metrics import unit_counts
from ml_workbench.model.signature import signature_of
from ml_workbench.model.snapshots import Feature, Schema, read_schema, read_slices, slice_of, without_families
from ml_workbench.model.spend import (
    NAIVE,
    SPEND,
    Agreement,
    agreement,
    best_spend,
    fit_spend,
    fit_spend_ladder,
    spend_candidate,
    spend_draws,
    spend_metrics,
    spend_report,
    with_spend,
)
from ml_workbench.plan.charter import Rule
from ml_workbench.plan.errors import ScoringError, TrainingError
from ml_workbench.plan.params import TrainParams, load_params

FEATURES = (("weekly", "number"), ("visits", "number"), ("days", "number"), ("town", "category"))
SCHEMA = Schema(
    "member",
    "as_of",
    "slice",
    "left",
    "spend",
    28,
    "weekly",
    tuple(Feature(name, kind, "x") for name, kind in FEATURES),
)
PARAMS = TrainParams(
    seed=1,
    candidates=["logistic_regression"],
    withheld_families=[],
    use_tuned=False,
    settings={},
    calibration="sigmoid",
    spend=["two_part_linear", "two_part_xgboost"],
    threads=1,
)
BOTH = ["two_part_linear", "two_part_xgboost"]


def shop(rows: int = 3000, units: int = 600, seed: int = 1) -> pd.DataFrame:
    "Members with a usual spend; those who come rarely may stay away; those in town spend more."
    random = np.random.default_rng(seed)
    weekly, visits, town = random.gamma(1.5, 20.0, rows), random.poisson(2.0, rows), random.random(rows) < 0.5
    buys = random.random(rows) < 1 / (1 + np.exp(0.5 - visits))
    amount = 9.0 * weekly**0.8 * np.where(town, 1.5, 0.7) * random.gamma(2.0, 0.5, rows)
    days = np.where(random.random(rows) < 0.2, np.nan, random.integers(0, 60, rows))
    return pd.DataFrame(
        {
            "member": np.arange(rows) % units,
            "as_of": pd.Timestamp("2024-01-01") + pd.to_timedelta(7 * (np.arange(rows) // units), unit="D"),
            "slice": np.where(np.arange(rows) < rows * 2 // 3, "train", "validation"),
            "weekly": weekly.astype(np.float32),
            "visits": visits.astype(np.float32),
            "days": days.astype(np.float32),
            "town": np.where(town, "in", "out"),
            "left": (~buys).astype(np.int8),
            "spend": np.where(buys, amount, 0.0),
        }
    )


def halves(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {name: frame[frame["slice"] == name].reset_index(drop=True) for name in ("train", "validation")}


@pytest.fixture(scope="module")
def data() -> dict[str, pd.DataFrame]:
    return halves(shop())


@pytest.fixture(scope="module")
def chance(data):
    return fit_candidate(candidate_named("logistic_regression"), SCHEMA, PARAMS, **data)


@pytest.fixture(scope="module")
def ladder(data, chance):
    return fit_spend_ladder(BOTH, SCHEMA, PARAMS, **data, fitted=[chance])


@pytest.fixture(scope="module")
def fresh() -> pd.DataFrame:
    return shop(rows=6000, units=1500, seed=2)


def test_the_naive_rung_goes_on_as_usual(ladder, fresh):
    naive = ladder.fitted[0]
    assert naive.candidate.name == NAIVE and naive.expected(fresh) == pytest.approx(
        4 * fresh["weekly"].to_numpy()
    )
    assert (naive.if_kept(fresh) == naive.expected(fresh)).all()


def test_expected_is_the_chance_of_buying_times_the_spend_if_kept(ladder, chance, fresh):
    for each in ladder.fitted[1:]:
        assert each.expected(fresh) == pytest.approx((1 - chance.probability(fresh)) * each.if_kept(fresh))
        assert (each.if_kept(fresh) >= 0).all() and (each.expected(fresh) <= each.if_kept(fresh)).all()


def test_two_parts_foretell_better_than_usual_spend_and_are_right_on_average(ladder, fresh):
    naive, *models = spend_metrics(ladder.fitted, fresh, SCHEMA, resamples=300)
    for each in models:
        assert each.against_naive.low > 0.05
        assert abs(each.bias.value) < 0.1 * fresh["spend"].mean() and each.mae.value < naive.mae.value


def test_the_second_part_is_right_on_average_among_those_who_buy(ladder, fresh):
    buyers = fresh[fresh["left"] == 0]
    for each in ladder.fitted[1:]:
        for _, part in buyers.groupby("town"):
            assert each.if_kept(part).mean() == pytest.approx(part["spend"].mean(), rel=0.1)


def test_rungs_come_simplest_first_whatever_the_order_in_which_they_are_named(data, chance):
    found = fit_spend_ladder([*BOTH[::-1], NAIVE], SCHEMA, PARAMS, **data, fitted=[chance])
    assert [each.candidate.name for each in found.fitted] == [NAIVE, *BOTH] and not found.failures


def test_each_rung_takes_the_chance_that_it_names_or_else_the_simplest(data, chance):
    trees = replace(chance, candidate=candidate_named("xgboost"))
    rule = fit_candidate(
        rule_candidate(Rule(feature="days", order="descending", meaning="x"), SCHEMA), SCHEMA, PARAMS, **data
    )
    named = fit_spend_ladder(BOTH, SCHEMA, PARAMS, **data, fitted=[rule, trees, chance]).fitted
    assert [each.chance.candidate.name for each in named[1:]] == ["logistic_regression", "xgboost"]
    only = fit_spend_ladder(BOTH, SCHEMA, PARAMS, **data, fitted=[rule, trees]).fitted
    assert [each.chance.candidate.name for each in only[1:]] == ["xgboost", "xgboost"]


def test_trees_stop_when_later_rows_no_longer_gain(ladder):
    assert 1 <= ladder.fitted[2].rounds < 1000 and ladder.fitted[1].rounds is None


def test_two_fits_are_the_same_to_the_last_digit(data, chance, ladder, fresh):
    again = fit_spend_ladder(BOTH, SCHEMA, PARAMS, **data, fitted=[chance])
    for one, other in zip(ladder.fitted, again.fitted, strict=True):
        assert (one.expected(fresh) == other.expected(fresh)).all()


def test_a_penalty_means_the_same_in_any_currency(data, chance, fresh, ladder):
    yen = {name: rows.assign(spend=150 * rows["spend"]) for name, rows in data.items()}
    for name, each in zip(BOTH, ladder.fitted[1:], strict=True):
        dear = fit_spend(name, SCHEMA, each.signature, PARAMS, **yen, chance=chance)
        assert dear.if_kept(fresh) == pytest.approx(150 * each.if_kept(fresh), rel=1e-3)


def test_labels_of_later_rows_do_not_teach_the_linear_part(data, chance, fresh, ladder):
    other = data["validation"].assign(spend=data["validation"]["spend"] * 3)
    again = fit_spend(
        "two_part_linear",
        SCHEMA,
        ladder.fitted[1].signature,
        PARAMS,
        train=data["train"],
        validation=other,
        chance=chance,
    )
    assert (again.if_kept(fresh) == ladder.fitted[1].if_kept(fresh)).all()


def test_figures_are_those_of_scikit_learn_and_follow_resamples(fresh):
    unit, spent = fresh["member"].to_numpy(), fresh["spend"].to_numpy()
    told = 4.0 * fresh["weekly"].to_numpy(dtype=float)
    counts = unit_counts(1500, 3, seed=1)
    r2, mae, bias = spend_draws(spent, told, unit, counts)
    for draw, count in enumerate(counts):
        weights = count[unit]
        assert r2[draw] == pytest.approx(r2_score(spent, told, sample_weight=weights))
        assert mae[draw] == pytest.approx(mean_absolute_error(spent, told, sample_weight=weights))
        assert bias[draw] == pytest.approx(np.average(told - spent, weights=weights))


def test_the_simplest_that_is_not_worse_is_chosen(ladder, fresh):
    scores = spend_metrics(ladder.fitted, fresh, SCHEMA, resamples=300)
    assert best_spend(scores).name == "two_part_linear"
    assert best_spend(scores, margin=2.0).name == NAIVE
    spoilt = [replace(scores[0], complexity=3), replace(scores[2], complexity=1)]
    assert best_spend(spoilt).name == "two_part_xgboost"


def test_the_report_is_plain_and_names_one_choice(ladder, fresh):
    charter = load_params(Path(__file__).parents[2]).charter
    report = spend_report(ladder, spend_metrics(ladder.fitted, fresh, SCHEMA, resamples=100), charter)
    assert [each["name"] for each in report if each["chosen"]] == ["two_part_linear"]
    assert all(isinstance(each[name], float) for each in report for name in ("r2", "mae", "bias", "r2_low"))
    assert "% of the variance of what a household spends in 28 days" in report[1]["sentence"]


def test_predictions_get_both_columns_whatever_the_order_of_rows(ladder, fresh):
    keys = fresh[["member", "as_of", "slice"]].sample(frac=1, random_state=3)
    told = with_spend(keys, ladder.fitted[1], fresh, SCHEMA)
    assert told[["member", "as_of"]].to_numpy().tolist() == keys[["member", "as_of"]].to_numpy().tolist()
    one = fresh[(fresh["member"] == 7) & (fresh["as_of"] == told["as_of"].min())]
    line = told[(told["member"] == 7) & (told["as_of"] == told["as_of"].min())]
    assert line["spend_if_kept"].item() == pytest.approx(ladder.fitted[1].if_kept(one).item())
    with pytest.raises(TrainingError, match="1 of 6001 predictions have no snapshot"):
        with_spend(pd.concat([keys, keys.head(1).assign(member=-1)]), ladder.fitted[1], fresh, SCHEMA)


def test_label_and_amount_are_compared():
    rows = pd.DataFrame({"left": [1, 1, 0, 0, 0], "spend": [0.0, 5.0, 0.0, 7.0, -3.0]})
    assert agreement(rows, SCHEMA) == Agreement(5, lapsed_and_spent=1, stayed_and_spent_nothing=1, negative=1)


def test_a_free_basket_is_a_visit_and_more_returned_than_bought_counts_as_nothing(data, chance):
    rows = data["train"].copy()
    stayed = rows.index[rows["left"] == 0]
    rows.loc[stayed[:9], "spend"], rows.loc[stayed[9:18], "spend"] = 0.0, -20.0
    found = fit_spend(
        "two_part_linear",
        SCHEMA,
        signature_of(rows, SCHEMA),
        PARAMS,
        train=rows,
        validation=data["validation"],
        chance=chance,
    )
    assert np.isfinite(found.if_kept(rows)).all() and found.if_kept(rows).mean() > 0


def test_a_label_that_does_not_mean_buys_nothing_is_refused(data, chance):
    rows = data["train"].assign(spend=data["train"]["spend"] + 1.0)
    failures = fit_spend_ladder(
        BOTH, SCHEMA, PARAMS, train=rows, validation=data["validation"], fitted=[chance]
    ).failures
    assert [each.name for each in failures] == BOTH
    assert "does not mean 'buys nothing'" in failures[0].reason


def test_wrong_requests_are_named(data, chance, ladder, fresh):
    with pytest.raises(TrainingError, match="unknown 'two_part_liner', did you mean 'two_part_linear'"):
        spend_candidate("two_part_liner")
    with pytest.raises(TrainingError, match="needs a fitted candidate with a probability"):
        fit_spend("two_part_linear", SCHEMA, chance.signature, PARAMS, **data)
    with pytest.raises(TrainingError, match="1 of 3000 snapshots have no amount 'spend'"):
        agreement(shop().assign(spend=lambda rows: rows["spend"].where(rows.index != 5)), SCHEMA)
    with pytest.raises(ScoringError, match="column 'visits' is missing"):
        ladder.fitted[1].expected(fresh.drop(columns="visits"))


def test_a_rung_that_cannot_be_fitted_does_not_stop_the_others(data, chance, monkeypatch):
    broken = replace(SPEND["two_part_linear"], settings={"alpha": -1.0})
    monkeypatch.setitem(SPEND, "two_part_linear", broken)
    found = fit_spend_ladder(BOTH, SCHEMA, PARAMS, **data, fitted=[chance])
    assert [each.candidate.name for each in found.fitted] == [NAIVE, "two_part_xgboost"]
    assert [each.name for each in found.failures] == ["two_part_linear"] and "alpha" in found.failures[
        0
    ].reason


REAL = Path(__file__).parents[2] / "data" / "features"


def test_on_the_real_snapshots_label_and_amount_agree_and_two_parts_are_not_worse_than_usual_spend():
    if not (REAL / "snapshots.parquet").is_file():
        pytest.skip("data/features/ is not produced yet: run `dvc repro features`")
    schema = without_families(read_schema(REAL / "schema.json"), ["demographics"])
    rows = read_slices(REAL / "snapshots.parquet", schema, ["train", "validation"])
    known = {name: slice_of(rows, schema, name) for name in ("train", "validation")}
    found = agreement(rows, schema)
    assert found.lapsed_and_spent == found.negative == 0 and found.stayed_and_spent_nothing < 20
    chance = fit_candidate(candidate_named("logistic_regression"), schema, PARAMS, **known)
    ladder = fit_spend_ladder(["two_part_linear"], schema, PARAMS, **known, fitted=[chance])
    naive, linear = spend_metrics(ladder.fitted, known["validation"], schema, resamples=200)
    assert 0.64 < naive.r2.value < 0.73 and naive.r2.low < naive.r2.value < naive.r2.high
    assert linear.r2.value > naive.r2.value - 0.005 and abs(linear.bias.value) < 6.0
