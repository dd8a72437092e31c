"The decision to make a new model."

import json
import math
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.monitor.losses import Loss, unknown_loss
from ml_workbench.monitor.retraining import (
    START,
    STOP,
    Situation,
    advice,
    earlier,
    note,
    note_outcome,
    retrainings,
    statuses_in,
    sum_of,
)
from ml_workbench.plan.errors import MonitorError
from ml_workbench.plan.params import RetrainingParams
from ml_workbench.serve.records import Records

TERMS = RetrainingParams(cost=400.0, trial_cost=300.0, trial_share=0.2, cooldown_days=28, outlook_weeks=12)
DAY = datetime(2018, 3, 1)
WELL = Situation(DAY, "logistic_regression 4318e50c5e4f", 8.0, {"invariants.nulls": "fine"})


def loss(value, half=10.0):
    return Loss(value, value - half, value + half, "USD", "outcomes", "A fresh fit would have earned more.")


@pytest.fixture
def records():
    with Records("sqlite://") as made:
        made.migrate()
        yield made


def test_the_gain_is_what_is_lost_less_what_it_costs_and_a_trial_serves_a_share():
    total = sum_of(loss(100.0), TERMS, trial_weeks=7)
    assert math.isclose(total.weeks, 7 * 0.2 + 5) and total.cost == 700.0
    assert math.isclose(total.gain, 100.0 * 6.4 - 700) and math.isclose(total.break_even, 700 / 6.4)
    assert math.isclose(total.high - total.gain, 64.0)


def test_a_trial_longer_than_the_outlook_leaves_the_share_only():
    assert math.isclose(sum_of(loss(1.0), TERMS, trial_weeks=99).weeks, 12 * 0.2)


def test_a_loss_beyond_the_costs_is_a_reason_to_retrain_and_one_below_is_not():
    assert advice(loss(100.0), TERMS, WELL).decision == "retrain"
    low = advice(loss(20.0), TERMS, WELL)
    assert low.decision == "wait" and "expected to bring −$460" in low.sentence


def test_every_answer_comes_with_its_figures_in_words():
    said = advice(loss(100.0), TERMS, WELL)
    assert any("cost $700" in each and "$58 a week" in each for each in said.reasons)
    assert said.sentence.startswith("Retrain: ")


def test_what_the_sum_goes_by_is_in_the_sentence_and_in_the_record():
    at_stake = replace(loss(200.0), basis="served", sentence="Lists earn less.")
    little = advice(at_stake, TERMS, WELL, fresh=loss(20.0))
    assert little.decision == "wait" and "by weeks that a fresh fit was played through" in little.sentence
    assert little.as_json()["counted"] == "outcomes" and little.as_json()["loss"]["value"] == 200.0
    assert any("no more than that would come back" in each for each in little.reasons)
    much = advice(at_stake, TERMS, WELL, fresh=loss(300.0))
    assert much.decision == "retrain" and "by outcomes of what was served" in much.sentence
    assert much.sum.gain == advice(at_stake, TERMS, WELL).sum.gain
    assert any("more than is lost is not counted" in each for each in much.reasons)
    assert much.reasons[0] == "At stake: Lists earn less."


def test_an_estimate_is_called_one_and_gives_way_to_what_was_played():
    aged = replace(loss(200.0), basis="staleness", why="Labels have not come yet.", sentence="Older.")
    alone = advice(aged, TERMS, WELL)
    assert "for outcomes of what was served do not tell" in alone.sentence
    assert alone.as_json()["loss"]["why"] == "Labels have not come yet." and alone.as_json()["fresh"] is None
    both = advice(aged, TERMS, WELL, fresh=loss(500.0))
    assert both.sum.gain > alone.sum.gain and any("the other is an estimate" in each for each in both.reasons)


def test_where_the_loss_is_not_known_nobody_pretends():
    said = advice(unknown_loss("USD", "Nothing has matured."), TERMS, WELL)
    assert said.decision == "unknown" and said.sum.gain is None
    assert any("would have to gain $58 a week" in each for each in said.reasons)


@pytest.mark.parametrize(
    "check",
    ["invariants.nulls/baskets_4w", "dependencies.schema/transactions", "skew.features", "numbers.nan"],
)
def test_broken_inputs_are_a_reason_to_mend_and_not_to_learn_from_them(check):
    said = advice(loss(1000.0), TERMS, replace(WELL, statuses={check: "alarm"}))
    assert said.decision == "wait" and check in said.sentence and "mend it first" in said.sentence


def test_a_drift_alarm_is_told_and_does_not_decide():
    said = advice(loss(20.0), TERMS, replace(WELL, statuses={"drift.features": "alarm"}))
    assert said.decision == "wait" and "drift.features is an alarm" in said.considered[0]
    assert (
        advice(loss(100.0), TERMS, replace(WELL, statuses={"drift.features": "alarm"})).decision == "retrain"
    )


def test_a_watch_on_the_inputs_does_not_stop_anything_and_silence_of_the_monitors_is_told():
    assert (
        advice(loss(100.0), TERMS, replace(WELL, statuses={"invariants.nulls": "watch"})).decision
        == "retrain"
    )
    assert "monitors have not run" in advice(loss(100.0), TERMS, replace(WELL, statuses={})).considered[0]


def test_without_newer_weeks_the_new_model_would_be_the_old_one():
    assert "nothing newer to learn from" in advice(loss(1000.0), TERMS, replace(WELL, newer_weeks=0)).sentence


def test_a_challenger_that_is_being_tried_comes_first():
    said = advice(loss(1000.0), TERMS, replace(WELL, trial="77c1d2aa0000"))
    assert said.decision == "wait" and "77c1d2aa0000 is being tried" in said.sentence


def test_the_cool_down_ends_on_its_day():
    last = datetime(2018, 2, 1)
    assert (
        "ends on 2018-03-01"
        in advice(loss(1000.0), TERMS, replace(WELL, last=last, at=datetime(2018, 2, 28))).sentence
    )
    assert (
        advice(loss(1000.0), TERMS, replace(WELL, last=last, at=datetime(2018, 3, 1))).decision == "retrain"
    )


def test_all_that_speaks_against_it_is_told_the_gravest_first():
    worst = replace(WELL, statuses={"invariants.nulls": "alarm"}, newer_weeks=0, trial="77", last=DAY)
    assert [each.split()[0] for each in advice(loss(1.0), TERMS, worst).reasons[:4]] == [
        "inputs",
        "there",
        "challenger",
        "the",
    ]


@given(st.floats(-500, 500), st.floats(0.1, 500), st.sampled_from([None, "wait", "retrain", "unknown"]))
def test_the_decision_follows_the_chance_and_does_not_flap(value, half, before):
    said = advice(loss(value, half), TERMS, replace(WELL, before=before))
    limit = STOP if before == "retrain" else START
    assert (said.decision == "retrain") == (said.sum.chance >= limit)


def test_a_wavering_estimate_sends_nobody_back_and_forth():
    "Around the break-even, from wait: it never begins; once begun: it never stops."
    even = 700 / 12
    for start in ("wait", "retrain"):
        before = start
        for step in range(10):
            before = advice(
                loss(even + (1 if step % 2 else -1), 50.0), TERMS, replace(WELL, before=before)
            ).decision
            assert before == start


def test_the_gist_is_not_told_twice():
    said = advice(loss(1.0), TERMS, replace(WELL, newer_weeks=0))
    assert said.sentence.endswith(said.reasons[0]) and said.rest == said.reasons[1:]


def test_the_answer_is_plain_values_that_json_takes():
    raw = json.loads(
        json.dumps(advice(loss(100.0), TERMS, replace(WELL, last=DAY)).as_json(), allow_nan=False)
    )
    assert (
        raw["decision"] == "wait"
        and raw["situation"]["last"] == "2018-03-01"
        and raw["loss"]["estimate"] is False
    )
    json.dumps(advice(unknown_loss("USD", ""), TERMS, WELL).as_json(), allow_nan=False)


def test_the_last_period_of_the_monitors_report_counts():
    reading = {"check": "invariants.nulls", "subject": "", "status": "alarm"}
    report = {
        "periods": [
            {"readings": [reading]},
            {"readings": [reading | {"status": "fine"}, reading | {"subject": "x"}]},
        ]
    }
    assert statuses_in(report) == {"invariants.nulls": "fine", "invariants.nulls/x": "alarm"}
    assert statuses_in({}) == statuses_in({"periods": []}) == {}


def test_a_day_and_a_release_have_one_line_and_the_last_answer_stands(records):
    for value in (20.0, 100.0):
        note(records.engine, advice(loss(value), TERMS, WELL))
    (line,) = retrainings(records.engine)
    assert line["decision"] == "retrain" and line["outcome"] is None and line["at"] == DAY
    assert line["estimate"]["loss"]["value"] == 100.0
    assert "cost $700" in line["reason"] and "A fresh fit would have earned more." in line["reason"]


def test_what_came_of_it_is_written_once_and_is_not_asked_away(records):
    note(records.engine, advice(loss(100.0), TERMS, WELL))
    note_outcome(records.engine, WELL, {"result": "proposed", "release": "77c1"})
    note(records.engine, advice(loss(1.0), TERMS, WELL))
    (line,) = retrainings(records.engine)
    assert line["decision"] == "retrain" and line["outcome"]["release"] == "77c1"


def test_an_outcome_without_a_decision_is_refused(records):
    with pytest.raises(MonitorError, match="no decision about"):
        note_outcome(records.engine, WELL, {"result": "proposed"})


def test_the_past_counts_and_the_future_does_not(records):
    for day in (1, 8, 15):
        at = datetime(2018, 3, day, 17)
        note(records.engine, advice(loss(100.0 if day < 8 else 1.0), TERMS, replace(WELL, at=at)))
    note_outcome(records.engine, replace(WELL, at=datetime(2018, 3, 1)), {"result": "vetoed"})
    note_outcome(records.engine, replace(WELL, at=datetime(2018, 3, 8)), {"result": "failed"})
    lines = retrainings(records.engine)
    assert earlier(lines, datetime(2018, 3, 15), WELL.release) == (datetime(2018, 3, 1), "wait")
    assert earlier(lines, datetime(2018, 3, 2), WELL.release) == (datetime(2018, 3, 1), "retrain")
    assert earlier(lines, datetime(2018, 3, 2), "another") == (datetime(2018, 3, 1), None)
    assert earlier(lines, datetime(2018, 2, 1), WELL.release) == (None, None)


def test_a_run_that_failed_can_be_asked_about_again_on_the_same_day(records):
    note(records.engine, advice(loss(100.0), TERMS, WELL))
    note_outcome(records.engine, WELL, {"result": "failed"})
    note(records.engine, advice(loss(1.0), TERMS, WELL))
    assert retrainings(records.engine)[0]["decision"] == "wait"
