"""The champion's smaller stand-ins, as the page shows them."""

import json

import pytest

from ml_workbench.page.editions import pace, read_editions, size
from ml_workbench.plan.errors import WorkbenchError


@pytest.mark.parametrize(
    ("count", "said"),
    [(None, "—"), (840, "0.8 kB"), (4_100, "4.1 kB"), (41_200, "41 kB"), (3_400_000, "3.4 MB")],
)
def test_sizes_are_written_for_people(count, said):
    assert size(count) == said


@pytest.mark.parametrize(("time", "said"), [(None, "—"), (0.0094, "9 µs"), (2.71, "2.7 ms")])
def test_short_times_are_written_for_people(time, said):
    assert pace(time) == said


def test_editions_begin_with_the_champion_and_have_speeds_only_where_measured(tmp_path):
    for folder in ("reports", "state"):
        (tmp_path / folder).mkdir()
    row = {"size_bytes": 4100, "auc": 0.84, "loss_per_week": {"value": 9.0, "low": -3.0, "high": 21.0}}
    variants = [
        {"name": "tree", "label": "Tree", "kind": "student"} | row,
        {"name": "champion", "label": "XGBoost", "kind": "champion"} | row,
    ]
    raw = {"champion": "xgboost", "variants": variants, "chosen": "tree", "sentence": "Take the tree."}
    (tmp_path / "reports/compact.json").write_text(json.dumps(raw))
    variants = read_editions(tmp_path)
    found = variants.rows
    assert variants.sentence == "Take the tree."
    assert [(one.label, one.chosen, one.one_row_ms) for one in found] == [
        ("XGBoost", False, None),
        ("Tree", True, None),
    ]
    assert found[0].loss is None and found[1].loss.value == 9
    (tmp_path / "state/compact_speed.json").write_text(json.dumps({"tree": {"one_row_ms": 0.006}}))
    assert read_editions(tmp_path).rows[1].one_row_ms == 0.006


def test_an_edition_that_could_not_be_made_is_named_with_its_reason(tmp_path):
    (tmp_path / "reports").mkdir()
    raw = {
        "variants": [],
        "chosen": None,
        "sentence": "",
        "skipped": [{"kind": "quantised", "reason": "It has no weights."}],
    }
    (tmp_path / "reports/compact.json").write_text(json.dumps(raw))
    assert read_editions(tmp_path).skipped == ("It has no weights.",)


def test_before_the_compact_stage_the_command_is_said(tmp_path):
    with pytest.raises(WorkbenchError, match=r"compact\.json is missing"):
        read_editions(tmp_path)
