"""A question about a unit, its answer, and what is remembered of it."""

import math
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from ml_workbench.plan.errors import ServiceError
from ml_workbench.release.loading import load
from ml_workbench.release.policy import POLICY, terms_from
from ml_workbench.serve.deciding import Decider
from ml_workbench.serve.listing import list_units, ranking_of, tie_order
from ml_workbench.serve.online import read_online
from ml_workbench.serve.problems import Problem
from ml_workbench.serve.requests import Question
from tests.release.small import members, small_bundle
from tests.serve.live import Place, features_of, split

MONDAY = datetime(2024, 7, 15, 5)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    found = Place(tmp_path_factory.mktemp("deciding"))
    found.fill_online()
    return found


@pytest.fixture(scope="module")
def releases(place):
    return {name: load(place.store, name) for name in place.deployment().needed}


@pytest.fixture(scope="module")
def online(place):
    return read_online(place.ledger.engine, terms_from(small_bundle().files[POLICY]))


@pytest.fixture
def decider(place, releases, online) -> Decider:
    return Decider(7, place.deployment(), releases, online=online)


@pytest.fixture(scope="module")
def rows():
    return {str(row["member"]): row for row in members("next").to_dict("records")}


def asked(rows, unit: str, **changes) -> Question:
    return Question(unit, features_of(rows[unit]) | changes, MONDAY)


def unit_in(decider: Decider, arm: str | None, known=()) -> str:
    "Some unit that the lot puts there."
    return next(unit for unit in (known or map(str, range(10_000))) if decider.router.assign(unit).arm == arm)


def test_a_unit_is_scored_by_the_release_of_its_arm(decider, releases, rows):
    for arm in ("champion", "challenger"):
        unit = unit_in(decider, arm, rows)
        release = decider.deployment.releases[arm]
        answer = decider.decide(asked(rows, unit), "decision-1").answer
        scorer = releases[release].scorer
        fed = {name: features_of(rows[unit])[name] for name in scorer.signature.names}
        assert answer["score"] == scorer.one(fed)
        assert (answer["arm"], answer["release"], answer["reason"]) == (arm, release[:12], "assigned")
        terms = releases[decider.deployment.terms].terms.charter.economics
        stake = terms.gross_margin * float(np.float32(rows[unit]["usual_weekly_spend"])) * terms.value_weeks
        assert answer["value"] == pytest.approx(
            terms.save_rate.value * answer["score"] * stake - terms.offer_cost
        )


def test_the_control_follows_the_rule_and_the_holdout_is_left_alone(decider, rows):
    control = decider.decide(asked(rows, unit_in(decider, "control", rows)), "decision-1").answer
    assert control["policy"] == "rule" and control["value"] is None
    assert control["score"] == rows[control["unit"]]["days_since_visit"]
    holdout = decider.decide(asked(rows, unit_in(decider, "holdout", rows)), "decision-2")
    assert (holdout.answer["action"], holdout.answer["policy"], holdout.answer["score"]) == (
        "none",
        "none",
        None,
    )
    assert holdout.rows["assignments"][0]["arm"] == "holdout" and "exposures" not in holdout.rows


def test_known_units_get_what_the_lists_of_everybody_say(decider, online, releases, rows):
    terms, ties = decider.terms, tie_order(online.units)
    usual, rule = online.column("usual_weekly_spend"), online.column("days_since_visit")
    due, acted = 0, 0
    for arm, way in decider.ways.items():
        score = None if way.scorer is None else way.scorer.scores_matrix(online.matrix(way.scorer.signature))
        ranking = ranking_of(way.policy, terms, count=len(ties), score=score, usual=usual, feature=rule)
        listed = list_units(ranking, ties, size=terms.charter.capacity_per_week)
        for number, unit in enumerate(online.units):
            if decider.router.assign(unit).arm != arm:
                continue
            answer = decider.decide(Question(unit), "decision-1").answer
            assert (answer["rank"] or 0) == listed.place[number]
            assert answer["action"] == "none" or listed.listed[number]
            due, acted = due + listed.listed[number], acted + (answer["action"] == "offer")
    assert acted == min(due, terms.charter.capacity_per_week) > 0


def test_looking_up_and_sending_along_give_the_same_scores(decider, rows):
    for unit in list(rows)[:40]:
        known = decider.decide(Question(unit), "decision-1").answer
        sent = decider.decide(asked(rows, unit), "decision-1").answer
        assert known["arm"] == sent["arm"] and known["policy"] == sent["policy"]
        for name in ("score", "value"):
            assert known[name] == (sent[name] if sent[name] is None else pytest.approx(sent[name], rel=1e-5))


def test_not_more_are_acted_on_than_can_be(decider, online, releases, place):
    economics = decider.terms.charter.model_copy(update={"capacity_per_week": 3})
    loaded = {
        name: replace(each, terms=replace(each.terms, charter=economics)) for name, each in releases.items()
    }
    small = Decider(7, place.deployment(), loaded, online=online)
    assert (
        sum(small.decide(Question(unit), "decision-1").answer["action"] == "offer" for unit in online.units)
        <= 3
    )


def test_who_was_listed_lately_rests(place, releases, online, decider):
    listed = [
        unit for unit in online.units if decider.decide(Question(unit), "x" * 8).answer["action"] == "offer"
    ]
    resting = {way.policy: listed for way in decider.ways.values()}
    later = Decider(8, place.deployment(), releases, online=online, resting=resting)
    again = [later.decide(Question(unit), "x" * 8).answer for unit in listed]
    assert {(each["action"], each["rank"]) for each in again} == {("none", None)}


def test_everything_that_the_analysis_reads_is_remembered(decider, rows):
    unit = next(unit for unit in rows if decider.decide(Question(unit), "x" * 8).answer["action"] == "offer")
    decision = decider.decide(Question(unit), "decision-9")
    assert decision.rows.keys() == {"served", "assignments", "covariates", "predictions", "exposures"}
    served = decision.rows["served"][0]
    assert (served["decision_id"], served["line"], served["unit"]) == ("decision-9", 7, unit)
    assert {each["policy"] for each in decision.rows["predictions"]} == {"rule", "proposed", "other"}
    assert decision.rows["covariates"][0]["name"] == "usual_weekly_spend"
    assert decision.rows["covariates"][0]["number"] == pytest.approx(rows[unit]["usual_weekly_spend"])
    exposure, lot = decision.rows["exposures"][0], decider.router.assign(unit)
    assert (
        exposure["propensity"] == lot.propensity
        and exposure["cost"] == decider.terms.charter.economics.offer_cost
    )
    assert served["as_of"] == "2024-07-15 05:00:00.000000"


def test_a_paused_arm_keeps_its_units_and_serves_them_like_the_base(place, releases, online, rows):
    paused = Decider(8, place.deployment(paused=("challenger",)), releases, online=online)
    unit = unit_in(paused, "challenger", rows)
    for question in (Question(unit), asked(rows, unit)):
        answer = paused.decide(question, "decision-1").answer
        assert (answer["arm"], answer["reason"], answer["policy"]) == ("challenger", "paused", "proposed")


def test_who_takes_no_part_is_served_by_the_base_and_not_assigned(place, releases, online, rows):
    deployment = place.deployment(split=split(ramp=0.1))
    ramped = Decider(8, deployment, releases, online=online)
    unit = unit_in(ramped, None, rows)
    decision = ramped.decide(Question(unit), "decision-1")
    assert (decision.answer["arm"], decision.answer["reason"], decision.answer["policy"]) == (
        None,
        "not ramped",
        "proposed",
    )
    assert decision.rows.keys() == {"served"}


def test_shadows_are_scored_and_change_nothing(place, releases, online, rows, decider):
    shadow = place.release("random_forest")
    loaded = releases | {shadow: load(place.store, shadow)}
    shadowed = Decider(7, place.deployment(shadows=(shadow,)), loaded, online=online)
    for question in (Question("12"), asked(rows, "12")):
        plain, other = decider.decide(question, "decision-1"), shadowed.decide(question, "decision-1")
        assert plain.answer == other.answer
        assert shadow in other.rows["served"][0]["shadows"] and plain.rows["served"][0]["shadows"] is None


def test_a_release_without_an_answer_is_replaced_by_the_rule(place, releases, rows):
    name = place.deployment().releases["champion"]
    session = replace(releases[name].scorer.session, run=lambda *_: [np.array([math.nan], dtype=np.float32)])
    broken = releases | {
        name: replace(releases[name], scorer=replace(releases[name].scorer, session=session))
    }
    decider = Decider(7, place.deployment(), broken)
    answer = decider.decide(asked(rows, unit_in(decider, "champion", rows)), "decision-1").answer
    assert (answer["reason"], answer["policy"]) == ("fallback", "rule")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"days_since_visit": "3"}, "'days_since_visit' must be a number or null, got '3'"),
        ({"days_since_visit": True}, "must be a number or null, got True"),
        ({"town": 7}, "'town' must be a text or null, got 7"),
        ({"visits_4w": 1e39}, "'visits_4w' is too large for a 32-bit number"),
        ({"visits_4weeks": 1}, "'visits_4weeks' is not declared, did you mean 'visits_4w'"),
        ({"visits_4w": [1]}, "'visits_4w' must be a number or null"),
        ({"visits_4w": {"deep": {}}}, "'visits_4w' must be a number or null"),
    ],
)
def test_features_that_do_not_fit_are_named(decider, rows, changes, message):
    unit = unit_in(decider, "champion", rows)
    with pytest.raises(Problem) as error:
        decider.decide(asked(rows, unit, **changes), "decision-1")
    assert message in error.value.detail


def test_a_missing_feature_is_named_and_an_unseen_level_is_none(decider, rows):
    unit = unit_in(decider, "champion", rows)
    given = features_of(rows[unit])
    del given["usual_weekly_spend"]
    with pytest.raises(Problem, match="'usual_weekly_spend' is missing: send null"):
        decider.decide(Question(unit, given), "decision-1")
    assert decider.decide(asked(rows, unit, town="Atlantis"), "decision-1").answer["score"] is not None
    assert (
        decider.decide(asked(rows, unit, town=None, visits_4w=None), "decision-1").answer["score"] is not None
    )


def test_an_unknown_unit_and_another_date_are_refused(decider):
    for question, said in (
        (Question("nobody"), "not among those known"),
        (Question("12", None, MONDAY.replace(day=8)), "not as of"),
    ):
        with pytest.raises(Problem) as error:
            decider.decide(question, "decision-1")
        assert said in error.value.detail and error.value.status == 404


def test_without_features_at_hand_only_those_sent_along_are_decided(place, releases, rows):
    decider = Decider(7, place.deployment(), releases)
    with pytest.raises(Problem, match="no features are at hand"):
        decider.decide(Question("12"), "decision-1")
    assert decider.decide(asked(rows, "12"), "decision-1").answer["rank"] is None


def test_a_release_that_is_not_loaded_is_told(place, releases):
    missing = place.deployment(releases={"champion": place.deployment().terms, "challenger": "f" * 64})
    with pytest.raises(ServiceError, match="arm 'challenger' needs release ffffffffffff"):
        Decider(7, missing, releases)
