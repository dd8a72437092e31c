"""The parts of the diagnosis put together: which model it is about, one report, tables for plots."""

from dataclasses import dataclass

import numpy as np
import pytest

from ml_workbench.examine.diagnosis import (
    PARTS,
    check_same,
    diagnosis_report,
    plain_values,
    plot_tables,
    score_table,
    slice_table,
    subject_of,
    table_of,
)
from ml_workbench.model.metrics import Interval
from ml_workbench.plan.errors import TrainingError
from ml_workbench.plan.params import load_params


def policy(name: str, profit: float, *, kind: str = "candidate", complexity: int = 2) -> dict:
    week = {"value": profit, "low": profit - 9, "high": profit + 9}
    return {
        **{"name": name, "label": name.title(), "kind": kind, "complexity": complexity},
        "at_capacity": {"profit_per_week": week},
    }


def evaluation(proposed: str) -> dict:
    policies = [
        policy("logistic", 90.0),
        policy("forest", 100.0, complexity=5),
        policy("boosted", 100.0, complexity=6),
        policy("rule", 120.0, kind="rule", complexity=1),
    ]
    return {"policies": policies, "proposal": {"policy": proposed, "label": proposed.title()}}


def test_the_proposed_model_is_diagnosed():
    subject = subject_of(evaluation("logistic"))
    assert (subject.name, subject.complexity, subject.proposed) == ("logistic", 2, True)
    assert subject.sentence == "This is about Logistic, the proposed model."


@pytest.mark.parametrize("kept", ["rule", "nothing"])
def test_without_a_proposed_model_the_best_candidate_is_diagnosed_and_the_sentence_says_so(kept):
    subject = subject_of(evaluation(kept))
    assert (subject.name, subject.proposed) == ("forest", False)
    assert (
        f"The proposal is '{kept.title()}'" in subject.sentence
        and "best candidate, Forest" in subject.sentence
    )


def test_without_candidates_there_is_nothing_to_diagnose():
    alone = evaluation("rule")
    alone["policies"] = alone["policies"][-1:]
    with pytest.raises(TrainingError, match=r"no candidate to diagnose: name one in train\.candidates"):
        subject_of(alone)


def test_another_model_than_the_trained_one_is_refused():
    trained = np.array([0.1, 0.5, 0.9])
    check_same("Forest", trained + 1e-7, trained)
    with pytest.raises(
        TrainingError, match=r"Forest, fitted again, .* up to 0\.2 .* run the train stage again"
    ):
        check_same("Forest", np.array([0.1, 0.7, 0.9]), trained)


@dataclass(frozen=True)
class Point:
    share: float
    auc: Interval
    lost: Interval | None = None


def parts(**changes) -> dict:
    point = Point(0.5, Interval(0.8, 0.7, 0.9))
    level = {"slice": "home_town", "level": "Ulm", "auc": point.auc}
    return {
        **{name: (point,) if not name.endswith("sentence") else "…" for name in PARTS},
        "slices": (level, level | {"level": "Bern"}),
        "scores": {"edges": (-1.0, 0.0, 1.0), "lapsed": (0, 4), "stayed": (3, 1)},
        **changes,
    }


def test_the_report_holds_every_part_in_its_order_as_plain_values(root):
    charter = load_params(root).charter
    report = diagnosis_report(subject_of(evaluation("forest")), charter, **parts())
    assert list(report) == ["model", "currency", "unit", "unit_plural", *PARTS]
    assert report["model"] | {"sentence": ""} == {
        "name": "forest",
        "label": "Forest",
        "proposed": True,
        "sentence": "",
    }
    assert report["learning"] == [
        {"share": 0.5, "auc": {"value": 0.8, "low": 0.7, "high": 0.9}, "lost": None}
    ]
    assert (report["currency"], report["unit_plural"]) == ("USD", "households")


def test_a_missing_part_and_an_unknown_one_are_refused_by_name(root):
    charter, subject = load_params(root).charter, subject_of(evaluation("forest"))
    lacking = parts()
    del lacking["leaks"]
    with pytest.raises(TrainingError, match="missing or unknown: leaks"):
        diagnosis_report(subject, charter, **lacking)
    with pytest.raises(TrainingError, match="missing or unknown: leeks"):
        diagnosis_report(subject, charter, **parts(leeks=()))


def test_plain_values_reach_into_mappings_and_sequences():
    nested = {"a": [Interval(1.0, 0.0, 2.0)], "b": {"c": ({"d": None},)}}
    assert plain_values(nested) == {"a": [{"value": 1.0, "low": 0.0, "high": 2.0}], "b": {"c": [{"d": None}]}}


def test_a_table_has_three_columns_for_an_interval_and_a_hole_where_there_is_none():
    table = table_of(
        plain_values([Point(0.1, Interval(1, 0, 2)), Point(1.0, Interval(2, 1, 3), Interval(5, 4, 6))])
    )
    assert list(table) == ["share", "auc", "auc_low", "auc_high", "lost", "lost_low", "lost_high"]
    assert table["lost"].isna().tolist() == [True, False] and table["auc_high"].tolist() == [2, 3]
    assert table_of([]).empty


def test_shares_of_scores_add_up_to_one_even_when_nobody_lapsed():
    table = score_table({"edges": [-1.0, 0.0, 1.0], "lapsed": [0, 0], "stayed": [3, 1]})
    sums = table.groupby("who")["share"].sum()
    assert sums["stayed"] == 1.0 and sums["lapsed"] == 0.0
    assert table["log_odds"].tolist() == [-0.5, 0.5, -0.5, 0.5]


def test_the_tables_for_plots_are_named_like_their_files(root):
    report = diagnosis_report(subject_of(evaluation("forest")), load_params(root).charter, **parts())
    tables = plot_tables(report)
    assert set(tables) == {"learning", "staleness", "weeks", "slices", "scores"}
    assert tables["slices"]["group"].tolist() == ["home town: Ulm", "home town: Bern"]


def test_without_a_group_to_judge_the_table_has_its_columns_and_no_rows():
    table = slice_table([])
    assert table.empty and {"group", "auc", "auc_low", "auc_high"} < set(table)
