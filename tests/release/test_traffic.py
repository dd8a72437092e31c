"""A change of traffic does what it says, moves nobody between arms, and is refused where it would do harm."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.plan.errors import LedgerError
from ml_workbench.plan.experiment import Arm
from ml_workbench.release.deployment import Deployment, served_by
from ml_workbench.release.traffic import (
    Order,
    check_same_deal,
    deployed,
    experiment_of,
    paused,
    promoted,
    ramped,
    remarks,
    resumed,
    share_from,
    traffic_from,
)
from ml_workbench.serve.routing import Router

from .live import APPLE, BANANA, CHERRY, DAMSON, planned

PLAN = planned()
UNITS = [f"unit {i}" for i in range(400)]


def champion(release: str = APPLE, **wanted) -> Deployment:
    return deployed(Order(release, PLAN, **wanted), None)


def challenged(**wanted) -> Deployment:
    return deployed(Order(BANANA, PLAN, role="challenger", **wanted), champion())


# Shares ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any))
def test_shares_that_sum_to_one_are_read_and_a_share_of_zero_leaves_an_arm_out(parts: list[int]) -> None:
    text = ",".join(f"arm{i} = {part / sum(parts)!r}" for i, part in enumerate(parts))
    assert traffic_from(text) == {f"arm{i}": part / sum(parts) for i, part in enumerate(parts) if part}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("control=.4,champion=.5", "must sum to 1: control 0.4, champion 0.5 sum to 0.9"),
        ("control=.6,champion=.6", "sum to 1.2"),
        ("control=.5,control=.5", "'control' stands twice"),
        ("control,champion=1", "'control' is no arm=share"),
        ("=1", "'=1' is no arm=share"),
        ("control=,champion=1", "control: '' is no number"),
        ("control=nan,champion=1", "control: nan is not between 0 and 1"),
        ("control=-.5,champion=1.5", "control: -.5 is not between 0 and 1"),
        ("control=1e999,champion=1", "is not between 0 and 1"),
        ("", "'' is no arm=share"),
    ],
)
def test_shares_that_cannot_be_are_refused_with_their_value(text: str, told: str) -> None:
    with pytest.raises(LedgerError) as refused:
        traffic_from(text)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("text", "share"), [(".05", 0.05), ("5%", 0.05), ("1", 1.0), ("0", 0.0), ("100%", 1.0)]
)
def test_a_share_can_be_typed_in_two_ways(text: str, share: float) -> None:
    assert share_from(text, "SHARE") == pytest.approx(share)


# Deploying -------------------------------------------------------------------------------------------------


def test_a_champion_alone_decides_for_everybody_but_the_planned_holdout() -> None:
    made = champion()
    assert served_by(made) == {"champion": 0.9, None: 0.1}
    assert made.releases == {"champion": APPLE} and made.terms == APPLE and made.base == "champion"
    assert not made.compares and made.control is None
    assert champion(holdout=0.25).split.holdout == 0.25
    assert deployed(Order(APPLE, PLAN, traffic={"champion": 1.0}), None) == made


def test_a_champion_alone_is_not_named_like_the_experiment_for_units_would_be_in_two_arms_of_it() -> None:
    assert champion().split.name != PLAN.name
    assert promoted(challenged()).split.name == champion().split.name


def test_a_challenger_comes_with_the_planned_arms_and_the_champion_that_is_live() -> None:
    made = challenged()
    assert [(arm.name, arm.policy, arm.weight) for arm in made.split.arms] == [
        ("control", "rule", 0.4), ("champion", "proposed", 0.4), ("challenger", "mlp", 0.2)
    ]  # fmt: skip
    assert made.releases == {"champion": APPLE, "challenger": BANANA}
    assert (made.control, made.base, made.terms, made.split.name) == (
        "control",
        "champion",
        BANANA,
        "retention-1",
    )
    assert deployed(Order(BANANA, PLAN, role="challenger", terms=APPLE), champion()).terms == APPLE


def test_shares_of_ones_own_leave_arms_out_and_keep_the_order_of_the_plan() -> None:
    made = challenged(traffic={"challenger": 0.25, "champion": 0.75}, ramp=0.5, experiment="another")
    assert [(arm.name, arm.weight) for arm in made.split.arms] == [("champion", 0.75), ("challenger", 0.25)]
    assert made.control == "champion", (
        "without the planned control the champion is what others are compared with"
    )
    assert (made.split.ramp, made.split.name) == (0.5, "another")


def test_a_first_champion_can_be_let_in_beside_the_control_which_serves_the_others() -> None:
    made = champion(traffic={"control": 0.5, "champion": 0.5}, ramp=0.1)
    assert made.base == "control"
    assert served_by(made) == pytest.approx({"control": 0.855, "champion": 0.045, None: 0.1})
    assert champion(traffic={"control": 0.5, "champion": 0.5}).base == "champion"


def test_arms_that_nobody_planned_are_what_their_names_say() -> None:
    plan = planned([("baseline", "none", 0.5), ("offer", "proposed", 0.5)], control="baseline")
    with pytest.raises(LedgerError, match="challenger has no share"):
        deployed(Order(BANANA, plan, role="challenger"), champion())
    made = deployed(
        Order(BANANA, plan, role="challenger", traffic={"champion": 0.5, "challenger": 0.5}), champion()
    )
    assert [arm.policy for arm in made.split.arms] == ["proposed", "challenger"]


def test_an_order_of_two_releases_replaces_only_its_own() -> None:
    newer = deployed(
        Order(CHERRY, PLAN, traffic={"control": 0.4, "champion": 0.4, "challenger": 0.2}), challenged()
    )
    assert newer.releases == {"champion": CHERRY, "challenger": BANANA}


def test_shadows_are_those_that_were_named() -> None:
    assert challenged(shadows=(CHERRY, DAMSON)).shadows == (CHERRY, DAMSON)
    assert deployed(Order(BANANA, PLAN, role="challenger"), champion(shadows=(CHERRY,))).shadows == ()


REFUSED = {
    "a ramp for a champion alone": (Order(APPLE, PLAN, ramp=0.1), None, "--ramp does not fit a champion alone"),
    "an experiment of a champion alone": (Order(APPLE, PLAN, experiment="x"), None, "--experiment does not fit"),
    "a challenger without a champion": (Order(BANANA, PLAN, role="challenger"), None, "deploy one with --as champion first"),
    "a challenger without a share": (
        Order(BANANA, PLAN, role="challenger", traffic={"control": 0.5, "champion": 0.5}), champion(), "challenger has no share"
    ),
    "no champion to go on with": (
        Order(BANANA, PLAN, role="challenger", traffic={"control": 0.5, "challenger": 0.5}), champion(), "give champion a share"
    ),
    "another champion for a part": (
        Order(BANANA, PLAN, traffic={"control": 0.5, "champion": 0.5}, ramp=0.1), champion(), "--as challenger"
    ),
    "an arm that is not planned": (Order(APPLE, PLAN, traffic={"champoin": 1.0}), None, "did you mean 'champion'?"),
    "an old challenger that is not live": (
        Order(APPLE, PLAN, traffic={"champion": 0.5, "challenger": 0.5}), champion(), "deploy one with --as challenger first"
    ),
    "a shadow that serves": (Order(BANANA, PLAN, role="challenger", shadows=(APPLE,)), champion(), "cannot be a shadow"),
    "a holdout of everybody": (Order(APPLE, PLAN, holdout=1.0), None, "split.holdout"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_an_order_that_cannot_be_carried_out_is_refused_with_the_remedy(what: str) -> None:
    order, now, told = REFUSED[what]
    with pytest.raises(LedgerError) as refused:
        deployed(order, now)
    assert told in str(refused.value)


def test_a_pause_outlasts_a_deployment_unless_the_arm_got_another_release() -> None:
    stopped = paused(paused(challenged(), "champion"), "challenger")
    assert deployed(Order(BANANA, PLAN, role="challenger", ramp=0.5), stopped).paused == (
        "champion",
        "challenger",
    )
    assert deployed(Order(CHERRY, PLAN, role="challenger"), stopped).paused == ("champion",)
    assert deployed(Order(CHERRY, PLAN), stopped).paused == ()
    assert deployed(Order(APPLE, PLAN), stopped).paused == ("champion",)


# Nobody is dealt anew --------------------------------------------------------------------------------------


@given(low=st.integers(0, 100), high=st.integers(0, 100), slots=st.sampled_from([[0.0, 1.0], [0.2, 0.7]]))
def test_a_ramp_lets_units_in_or_out_and_nobody_changes_arms(low: int, high: int, slots: list[float]) -> None:
    low, high = sorted((low / 100, high / 100))
    start = challenged()
    start = replace(start, split=start.split.model_copy(update={"slots": slots}))
    narrow, wide = (Router(ramped(start, share).split) for share in (low, high))
    for unit in UNITS[:100]:
        before, after = narrow.assign(unit), wide.assign(unit)
        if before.arm is not None:
            assert after.arm == before.arm
        if before.reason in ("holdout", "outside"):
            assert after.reason == before.reason
        if after.arm is None:
            assert before.arm is None


def test_a_pause_and_a_resume_leave_every_unit_where_it_is() -> None:
    now = challenged(ramp=0.5)
    lot = [Router(now.split).assign(unit) for unit in UNITS]
    for step in (paused(now), paused(now, everything=True), resumed(paused(now))):
        assert [Router(step.split).assign(unit) for unit in UNITS] == lot


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"traffic": {"control": 0.4, "champion": 0.2, "challenger": 0.4}}, "arms control rule 0.4"),
        ({"traffic": {"champion": 0.5, "challenger": 0.5}}, "control control → champion"),
        ({"holdout": 0.2}, "holdout 0.1 → 0.2"),
    ],
)
def test_other_arms_weights_or_holdout_under_a_name_that_was_dealt_are_refused(
    wanted: dict, told: str
) -> None:
    earlier = [(3, champion(CHERRY)), (2, challenged()), (1, champion())]
    with pytest.raises(LedgerError) as refused:
        check_same_deal(challenged(**wanted), earlier)
    assert told in str(refused.value) and "line 2" in str(refused.value)
    assert "`ml-workbench ramp`" in str(refused.value) and "--experiment NAME" in str(refused.value)
    check_same_deal(challenged(**wanted, experiment="retention-2"), earlier)


@pytest.mark.parametrize("key", ["namespace", "slots", "cluster"])
def test_so_are_another_namespace_slots_or_clusters(key: str) -> None:
    other = planned(**{key: {"namespace": "prices", "slots": [0.0, 0.5], "cluster": "town"}[key]})
    made = deployed(Order(BANANA, other, role="challenger"), champion())
    with pytest.raises(LedgerError, match=key):
        check_same_deal(made, [(1, challenged())])


def test_who_takes_part_and_which_release_an_arm_has_may_change() -> None:
    earlier = [(2, challenged(ramp=0.1)), (1, champion())]
    check_same_deal(challenged(ramp=0.9), earlier)
    check_same_deal(deployed(Order(CHERRY, PLAN, role="challenger"), challenged()), earlier)
    check_same_deal(champion(holdout=0.3), earlier)


def test_what_is_frozen_is_the_plan_with_the_shares_that_are_dealt() -> None:
    made = challenged(traffic={"champion": 0.5, "challenger": 0.5}, ramp=0.2, holdout=0.05, experiment="mine")
    frozen = experiment_of(made, PLAN)
    arms = [
        Arm(name="champion", policy="proposed", weight=0.5),
        Arm(name="challenger", policy="mlp", weight=0.5),
    ]
    changed = {"arms": arms, "ramp": 0.2, "holdout": 0.05, "name": "mine", "control": "champion"}
    assert frozen == PLAN.model_copy(update=changed)
    assert experiment_of(challenged(), PLAN) == PLAN
    assert experiment_of(champion(), PLAN) is None


# Stop and go on --------------------------------------------------------------------------------------------


def test_pausing_everything_leaves_the_rule_and_without_one_nobody() -> None:
    assert set(served_by(paused(challenged(), everything=True))) == {"control", None}
    assert set(served_by(paused(champion(), everything=True))) == {None}
    by_model = challenged(traffic={"champion": 0.5, "challenger": 0.5})
    assert set(served_by(paused(by_model, everything=True))) == {None}


def test_the_challenger_is_what_is_paused_when_nobody_says_what() -> None:
    assert paused(challenged()).paused == ("challenger",)
    with pytest.raises(LedgerError, match=r"say which arm to pause \(champion\), or --all"):
        paused(champion())


def test_pauses_add_up_in_the_order_of_the_arms_and_twice_is_once() -> None:
    both = paused(paused(challenged(), "challenger"), "champion")
    assert both.paused == ("champion", "challenger") and paused(both, "champion") == both
    assert resumed(both, "champion").paused == ("challenger",) and resumed(both) == challenged()
    assert resumed(challenged()) == challenged()


@pytest.mark.parametrize("step", [paused, resumed])
def test_an_arm_that_is_not_there_is_neither_paused_nor_resumed(step) -> None:
    with pytest.raises(LedgerError, match="there is no arm 'chalenger', did you mean 'challenger'"):
        step(challenged(), "chalenger")


def test_a_ramp_needs_an_experiment_and_a_share() -> None:
    with pytest.raises(LedgerError, match="there is no experiment to ramp"):
        ramped(champion(), 0.5)
    with pytest.raises(LedgerError, match=r"split\.ramp"):
        ramped(challenged(), 1.5)


def test_a_promoted_challenger_is_champion_of_everybody_and_the_holdout_stays_held_out() -> None:
    made = promoted(challenged(ramp=0.1, shadows=(CHERRY,)))
    assert made.releases == {"champion": BANANA} and made.terms == BANANA
    assert served_by(made) == {"champion": 0.9, None: 0.1} and made.shadows == (CHERRY,)
    before, after = Router(challenged().split), Router(made.split)
    for unit in UNITS:
        assert (before.assign(unit).reason == "holdout") == (after.assign(unit).reason == "holdout")


def test_nobody_is_promoted_who_is_not_there_or_is_paused() -> None:
    with pytest.raises(LedgerError, match="no challenger to promote"):
        promoted(champion())
    with pytest.raises(LedgerError, match="challenger is paused: resume it"):
        promoted(paused(challenged()))


def test_consequences_that_are_easily_overlooked_are_said() -> None:
    assert remarks(None, champion()) == () and remarks(champion(), challenged()) == ()
    assert remarks(challenged(), promoted(challenged())) == ("Experiment 'retention-1' ends here.",)
    assert "from 10% to 20%" in remarks(champion(), champion(holdout=0.2))[0]
    other = deployed(Order(APPLE, planned(namespace="prices")), None)
    assert "other units are held out" in remarks(champion(), other)[0]
    swapped = deployed(Order(CHERRY, PLAN, role="challenger"), challenged())
    assert (
        "'challenger' of experiment 'retention-1' goes on with another release"
        in remarks(challenged(), swapped)[0]
    )
    assert remarks(paused(challenged()), ramped(paused(challenged()), 0.5)) == ("Still paused: challenger.",)
