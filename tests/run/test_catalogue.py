"""The feature catalogue, from what the stages left."""

from pathlib import Path

import pytest

from ml_workbench.page.catalogue import Catalogue, read_catalogue
from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.plan.files import write_json
from ml_workbench.run.catalogue import as_table, write_page

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
    catalogue = read_catalogue(project)
    first = catalogue.features[0]
    assert (first.name, first.cost_ms, first.importance) == ("days_since", None, None)
    assert "–" in as_table(Catalogue((first,), None))


def test_the_most_valuable_feature_stands_first(project: Path) -> None:
    candidates = [{"name": "b", "label": "Better"}]
    importance = {"b": [{"feature": "spend", "importance": 0.1, "sd": 0.01}]}
    write_json(project / "reports" / "train.json", {"candidates": candidates, "importance": importance})
    write_json(project / "state" / "feature_costs.json", {"spend": 12.34})
    heading, first, second = as_table(read_catalogue(project)).splitlines()
    assert heading.startswith("feature") and first.startswith("spend") and second.startswith("days_since")
    assert "28 d" in first and "12.3 ms" in first and "25.0%" in first and "+0.1000" in first


def test_the_page_escapes_what_was_declared(project: Path, tmp_path: Path) -> None:
    write_page(read_catalogue(project), tmp_path / "features.html")
    assert "Days &lt;since&gt;" in (tmp_path / "features.html").read_text()


def test_before_the_first_run_the_way_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="run `dvc repro`"):
        read_catalogue(tmp_path)
