"""The feature catalogue, from what the stages left."""

from pathlib import Path

import pytest

from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.plan.files import write_json
from ml_workbench.run.catalogue import as_table, entries, write_page

FEATURE = {
    "kind": "number",
    "family": "recency",
    "meaning": "Days <since>",
    "source": "baskets",
    "window_days": None,
    "missing_share": 0.25,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    declared = [
        FEATURE | {"name": "days_since"},
        FEATURE | {"name": "spend", "window_days": 28, "family": "monetary"},
    ]
    write_json(tmp_path / "reports" / "features.json", {"features": declared})
    return tmp_path


def test_before_training_worth_and_cost_are_unknown(project: Path) -> None:
    first, _ = entries(project)
    assert (first.name, first.cost, first.importance) == ("days_since", None, None)
    assert "–" in as_table([first])


def test_the_best_candidate_says_what_a_feature_is_worth(project: Path) -> None:
    candidates = [
        {"name": name, "validation": {"average_precision": ap}} for name, ap in (("a", 0.4), ("b", 0.5))
    ]
    importance = {
        "a": [{"feature": "days_since", "importance": 0.9}],
        "b": [{"feature": "spend", "importance": 0.1}],
    }
    write_json(project / "reports" / "train.json", {"candidates": candidates, "importance": importance})
    write_json(project / "state" / "feature_costs.json", {"spend": 12.34})
    first, second = entries(project)
    assert (first.name, first.importance, first.cost) == ("spend", 0.1, 12.34)
    assert second.importance is None
    assert "28 d" in as_table([first]) and "12.3 ms" in as_table([first]) and "25.0%" in as_table([first])


def test_the_page_escapes_what_was_declared(project: Path, tmp_path: Path) -> None:
    write_page(entries(project), tmp_path / "features.html")
    assert "Days &lt;since&gt;" in (tmp_path / "features.html").read_text()


def test_before_the_first_run_the_way_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="run `dvc repro`"):
        entries(tmp_path)
