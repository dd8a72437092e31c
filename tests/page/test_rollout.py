"""The plan in words, and what the next one starts from."""

import json
from pathlib import Path

import pytest

from ml_workbench.page.earned import report_from
from ml_workbench.page.rollout import (
    charter_in_words,
    design_in_words,
    parts,
    planned,
    read_yardstick,
    yardstick,
)
from ml_workbench.plan.params import load_params


@pytest.fixture
def raw() -> dict:
    return json.loads(Path(__file__).with_name("attribution.json").read_text())


@pytest.fixture
def replay() -> dict:
    return json.loads(Path(__file__).with_name("replay.json").read_text())


@pytest.fixture
def params(root):
    return load_params(root)


def test_the_charter_is_told_with_every_term_that_decides(params):
    told = " ".join(f"{fact.label} {fact.value} {fact.note}" for fact in charter_in_words(params.charter))
    charter = params.charter
    for expected in (
        charter.decision,
        charter.decision_rule,
        charter.owner,
        f"{charter.capacity_per_week} actions",
        "2 April 2018",
    ):
        assert expected in told, expected
    assert all(guard.meaning in told for guard in charter.guardrails)


def test_a_measured_save_rate_is_not_called_assumed(params):
    rate = params.charter.economics.save_rate.model_copy(update={"status": "measured"})
    charter = params.charter.model_copy(
        update={"economics": params.charter.economics.model_copy(update={"save_rate": rate})}
    )
    labels = [fact.label for fact in charter_in_words(charter)]
    assert "Measured" in labels and "Assumed" not in labels


def test_the_shares_of_a_part_of_the_namespace_are_told_of_all(params):
    half = params.experiment.model_copy(update={"slots": [0.0, 0.5], "ramp": 0.5})
    assert sum(part.share for part in parts(half)) == pytest.approx(0.9 * 0.25 + 0.1)
    everyone = params.experiment.model_copy(update={"holdout": 0.0})
    assert "holdout" not in [part.name for part in parts(everyone)]


def test_several_looks_bring_the_peeking_safe_range_and_one_does_not(params):
    def told(looks: int) -> str:
        experiment = params.experiment.model_copy(update={"looks": looks})
        return " ".join(fact.note for fact in design_in_words(experiment, "household"))

    assert "peeking-safe" in told(7) and "peeking-safe" not in told(1)


def test_the_spread_of_a_unit_follows_from_the_interval_of_the_lift(raw, replay):
    lift = raw["lifts"][0]
    found = yardstick(report_from(raw), replay)
    error = found.sd * ((1 / lift["n"] + 1 / lift["n_control"]) * (1 - found.r2)) ** 0.5
    assert 2 * 1.959964 * error == pytest.approx(lift["absolute"]["high"] - lift["absolute"]["low"], rel=1e-6)
    assert (found.mean, found.at_start, found.per_week) == (271.4, 2291, 37)
    assert found.monthly == pytest.approx(raw["evidence"]["mde_total_per_month"] / raw["evidence"]["mde"])


def test_without_a_replay_everybody_was_there_at_the_start(raw, tmp_path):
    found = read_yardstick(tmp_path, report_from(raw))
    assert (found.at_start, found.per_week) == (2285, 0)


def test_after_a_hard_stop_or_without_a_lift_nothing_is_known(raw):
    assert (
        yardstick(report_from(raw | {"stopped": {"kind": "empty", "sentence": "", "examples": []}})) is None
    )
    assert yardstick(report_from(raw | {"lifts": []})) is None


def test_how_long_it_takes_is_told_with_the_wait_for_the_last_ones():
    assert planned(1, 52, 49, "2% of spend", 0.8).startswith("1 week of taking units in, and 7 more")
    assert planned(None, 52, 49, "2% of spend", 0.8).startswith(
        "An effect of 2% of spend would not be found 80 times in 100 within 52 weeks"
    )
