"""Smaller models answer nearly as the champion does, and the charter's limits decide between them."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from ml_workbench.model.artifact import files_of, read_artifact, write_artifact, write_files
from ml_workbench.model.candidates import Fitted, candidate_named, fit_candidate, fit_ladder
from ml_workbench.model.compact import Row, champion_named, chosen_of, compact_report, sentence_of
from ml_workbench.model.conversion import onnx_of
from ml_workbench.model.metrics import Interval
from ml_workbench.model.research import read_research, write_research
from ml_workbench.model.session import onnx_session
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.model.trials import Agreement
from ml_workbench.model.variants import Skipped, Variant, champion_of, quantised, telling_inputs, variants_of
from ml_workbench.plan.errors import TrainingError
from ml_workbench.plan.params import TrainParams, load_params

NAMES = ("days", "weekly", "third", "noise")
SCHEMA = Schema(
    "member",
    "as_of",
    "slice",
    "left",
    "spend",
    28,
    "weekly",
    tuple(Feature(name, "number", name) for name in NAMES),
)
PARAMS = TrainParams(
    seed=1, candidates=["xgboost"], withheld_families=[], use_tuned=False, settings={}, calibration="sigmoid",
    spend=["naive"], threads=1,
)  # fmt: skip
QUICK = {
    "xgboost": {"rounds": 60, "patience": 0, "learning_rate": 0.1, "max_depth": 3, "min_child_weight": 5.0},
    "random_forest": {"n_estimators": 40, "max_features": 0.5},
    "mlp": {"width": 64, "learning_rate_init": 0.02, "batch_size": 128, "epochs": 10},
}


def members(rows: int = 1500, *, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({name: random.exponential(20, rows) for name in NAMES}).astype(np.float32)
    frame = frame.mask(random.random(frame.shape) < 0.05)
    chance = 1 / (1 + np.exp(3 - frame["days"].fillna(5) / 12 - frame["third"].fillna(5) / 30))
    frame["left"] = (random.random(rows) < chance).astype(int)
    return frame.assign(member=np.arange(rows), as_of=pd.Timestamp("2024-01-01"), slice="train")


TRAIN, LATER = members(seed=1), members(seed=2)


@cache
def champion(name: str) -> Fitted:
    if name == "averaging":
        rungs = [candidate_named(each) for each in ("logistic_regression", "xgboost", "averaging")]
        return fit_ladder(rungs, SCHEMA, PARAMS, train=TRAIN, validation=LATER, settings=QUICK).fitted[-1]
    return fit_candidate(
        candidate_named(name), SCHEMA, PARAMS, train=TRAIN, validation=LATER, settings=QUICK.get(name)
    )


@cache
def made(name: str) -> tuple[dict[str, Variant], list[Skipped]]:
    variants, skipped = variants_of(
        champion(name), SCHEMA, PARAMS, train=TRAIN, validation=LATER, depth=4, shares=(0.25, 0.5), seed=1
    )
    return {each.name: each for each in variants}, skipped


@pytest.mark.parametrize("name", ["xgboost", "random_forest", "logistic_regression", "mlp"])
def test_every_variant_is_smaller_and_answers_much_as_the_champion_does(name):
    variants, full = made(name)[0], champion(name)
    expected = full.probability(LATER)
    for each in list(variants.values())[1:]:
        graph = each.graph or onnx_of(each.fitted)
        found = onnx_session(graph).run(None, {"features": each.fitted.signature.matrix(LATER)})[0]
        assert np.corrcoef(found, expected)[0, 1] > 0.75, each.name
        assert abs(found.mean() - LATER["left"].mean()) < 0.02, each.name  # calibrated on these rows
        assert len(graph) < len(onnx_of(full)) or name == "logistic_regression", each.name


def test_a_pruned_model_of_trees_has_fewer_trees():
    assert made("xgboost")[0]["pruned_25"].fitted.rounds == 15
    assert len(made("random_forest")[0]["pruned_50"].fitted.model["model"].estimators_) == 20
    assert len(champion("random_forest").model["model"].estimators_) == 40  # the champion keeps its own


def test_a_pruned_model_without_trees_has_fewer_inputs_and_the_telling_ones():
    variant = made("logistic_regression")[0]["pruned_2_inputs"]
    assert set(variant.fitted.signature.names) == {"days", "third"}
    matrix = champion("logistic_regression").signature.matrix(LATER)
    assert telling_inputs(champion("logistic_regression"), matrix, seed=2)[:2] == ["days", "third"]


def test_what_a_champion_does_not_allow_is_told_with_the_reason():
    assert [each.kind for each in made("xgboost")[1]] == ["quantised"]
    assert "no matrix products" in made("xgboost")[1][0].reason
    variants, skipped = made("averaging")
    assert [each.kind for each in skipped] == ["pruned"] and "members" in skipped[0].reason
    assert set(variants) == {"averaging", "student_tree", "student_line", "quantised"}


def test_a_line_is_not_taught_a_line():
    assert "student_line" not in made("logistic_regression")[0] and "student_line" in made("mlp")[0]


def test_8_bit_weights_take_a_fourth_and_a_rows_answer_does_not_depend_on_the_others(tmp_path):
    variant = made("mlp")[0]["quantised"]
    assert variant.graph == quantised(onnx_of(champion("mlp")))  # the same bytes
    write_files(tmp_path / "q", "quantised", files_of(variant.fitted, SCHEMA, LATER, graph=variant.graph))
    scorer = read_artifact(tmp_path / "q")
    together, matrix = scorer.probability(LATER), scorer.signature.matrix(LATER)
    assert np.abs([scorer.one(matrix[place : place + 1]) for place in range(50)] - together[:50]).max() < 1e-6
    assert 0 < np.abs(together - champion("mlp").probability(LATER)).max() < 0.05


def test_the_champion_is_put_together_again_from_artefact_and_research_copy(tmp_path):
    full = champion("xgboost")
    write_artifact(tmp_path / "m", full, SCHEMA, LATER)
    write_research(tmp_path / "m.skops", full.calibrated)
    again = champion_of(read_artifact(tmp_path / "m"), read_research(tmp_path / "m.skops"), QUICK["xgboost"])
    assert (again.probability(LATER) == full.probability(LATER)).all() and again.rounds == full.rounds


def evaluation(proposed: str, **profits: float) -> dict:
    policies = [
        {
            "name": name,
            "kind": "rule" if name == "rule" else "candidate",
            "at_capacity": {"profit_per_week": {"value": profit}},
        }
        for name, profit in profits.items()
    ]
    return {"proposal": {"policy": proposed}, "policies": policies}


def test_the_champion_is_the_proposal_or_else_what_earns_most():
    assert champion_named(evaluation("mlp", rule=1.0, mlp=2.0, xgboost=3.0)) == "mlp"
    assert champion_named(evaluation("rule", rule=9.0, mlp=2.0, xgboost=3.0)) == "xgboost"
    with pytest.raises(TrainingError, match="no candidate"):
        champion_named(evaluation("rule", rule=9.0))


FITS = {"size": True, "latency": True, "loss": True}
FULL = Row("xgboost", "XGBoost", "champion", 52_000, 88, Agreement("graph", "Graph", 9, 0, 0, 3.21e-7, 1e-4), 0.86, 0.47, Interval(120.0, 80.0, 160.0), Interval(0.0, 0.0, 0.0), FITS, "ab")  # fmt: skip


def variant(name: str, size: int, lost: tuple[float, float, float], **fits: bool) -> Row:
    label = name.replace("_", " ").capitalize()
    return replace(
        FULL, name=name, label=label, size_bytes=size, loss_per_week=Interval(*lost), fits=FITS | fits
    )


def test_the_smallest_variant_within_all_limits_is_chosen(root):
    charter = load_params(root).charter
    rows = [
        FULL,
        variant("line", 3_200, (7.0, -9.0, 14.0)),
        variant("tree", 1_400, (90.0, 40.0, 130.0), loss=False),
    ]
    rows += [
        variant("slow", 1_000, (0.0, 0.0, 0.0), latency=False),
        variant("half", 20_000, (0.0, -5.0, 5.0)),
    ]
    assert chosen_of(rows).name == "line"
    assert sentence_of(rows, charter) == (
        "Line is the smallest variant that keeps to the charter, with 3.2 kB instead of 52.0 kB. It loses $7 a week against "
        "XGBoost (between −$9 and +$14); a loss of $15 is allowed, and the interval lies within that."
    )


def test_a_wide_interval_and_a_gain_are_told_as_they_are(root):
    charter = load_params(root).charter
    told = sentence_of([FULL, variant("line", 3_200, (-4.0, -40.0, 31.0))], charter)
    assert "It earns $4 a week more than XGBoost (its loss lies between −$40 and +$31)" in told
    assert told.endswith("and the interval does not rule out more.")


def test_a_champion_that_is_small_enough_stays_and_one_that_is_not_leaves_nothing(root):
    charter = load_params(root).charter
    poor = variant("tree", 1_400, (90.0, 40.0, 130.0), loss=False)
    assert sentence_of([FULL, poor], charter).startswith("XGBoost itself is the smallest model")
    large = replace(FULL, size_bytes=5_200_000, fits=FITS | {"size": False})
    report = compact_report([large, poor], [Skipped("quantised", "no products")], charter)
    assert report["chosen"] is None and report["sentence"].startswith(
        "No variant of XGBoost is within 64 kB, 0.1 ms a row"
    )
    assert report["skipped"] == [{"kind": "quantised", "reason": "no products"}]
    assert report["variants"][0]["parity"] == {"rows": 9, "largest": 3e-7, "beyond": 0.0}
    assert report["variants"][1]["fits"] == {"size": True, "latency": True, "loss": False}
