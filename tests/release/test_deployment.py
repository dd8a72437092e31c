"""One value says all that is live, and refuses what cannot be: on the way in, and when it is read back."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.plan.errors import LedgerError
from ml_workbench.plan.experiment import Arm, Split
from ml_workbench.plan.params import load_params
from ml_workbench.release.deployment import FREE, Deployment, percent, sentences, served_by, shares, short
from ml_workbench.serve.routing import Router, places_of

APPLE, BANANA, CHERRY = (sha256(name.encode()).hexdigest() for name in ("apple", "banana", "cherry"))
PLAN = (("control", "rule", 0.4), ("champion", "proposed", 0.4), ("challenger", "mlp", 0.2))


def split(arms=PLAN, **other) -> Split:
    made = [Arm(name=name, policy=policy, weight=weight) for name, policy, weight in arms]
    return Split(
        **{"name": "retention-2017-11", "namespace": "retention", "holdout": 0.1, "arms": made} | other
    )


def deployment(**other) -> Deployment:
    fields = {
        "split": split(), "control": "control", "releases": {"champion": APPLE, "challenger": BANANA},
        "terms": APPLE, "base": "champion",
    }  # fmt: skip
    return Deployment(**fields | other)


def alone(**other) -> Deployment:
    "A champion, and nobody to compare it with."
    fields = {
        "split": split([("champion", "proposed", 1.0)]),
        "control": None,
        "releases": {"champion": APPLE},
    }
    return Deployment(**fields | {"terms": APPLE, "base": "champion"} | other)


@st.composite
def deployments(draw) -> Deployment:
    "Any arms and weights, any ramp, slots and holdout, any arms paused, with and without a control."
    parts = draw(st.lists(st.integers(1, 50), min_size=1, max_size=4))
    policies = [draw(st.sampled_from(["rule", "none", "nothing", "proposed", "mlp"])) for _ in parts]
    arms = [(f"arm {i}", policy, part / sum(parts)) for i, (part, policy) in enumerate(zip(parts, policies))]
    names = [name for name, _, _ in arms]
    first, last = sorted(draw(st.lists(st.integers(0, 20), min_size=2, max_size=2, unique=True)))
    return Deployment(
        split(arms, ramp=draw(st.integers(0, 20)) / 20, holdout=draw(st.integers(0, 9)) / 10, slots=[first / 20, last / 20]),
        draw(st.sampled_from([None, *names])),
        {name: APPLE for name, policy, _ in arms if policy not in FREE},
        APPLE,
        draw(st.sampled_from(names)),
        draw(st.sampled_from([(), (BANANA,), (BANANA, CHERRY)])),
        tuple(draw(st.lists(st.sampled_from(names), unique=True))),
    )  # fmt: skip


@given(deployments())
def test_what_is_read_back_is_what_was_written_and_the_text_is_always_the_same(made: Deployment) -> None:
    text = made.as_json()
    assert Deployment.from_json(text) == made
    assert Deployment.from_json(text).as_json() == text
    assert "\n" not in text


@given(deployments())
def test_shares_are_those_by_which_the_router_deals(made: Deployment) -> None:
    places = places_of(made.split)
    dealt = {place.arm: place.propensity for place in places if place.arm}
    found = shares(made)
    assert found[None] == pytest.approx(sum(place.propensity for place in places if place.arm is None))
    assert {arm: share for arm, share in found.items() if arm} == pytest.approx(dealt)
    assert sum(found.values()) == pytest.approx(1) and sum(served_by(made).values()) == pytest.approx(1)


@given(deployments())
def test_nothing_that_is_paused_serves_anybody_and_the_holdout_is_never_treated(made: Deployment) -> None:
    names = [arm.name for arm in made.split.arms]
    assert made.serves("holdout") is None
    for arm in [None, *names]:
        assert made.serves(arm) not in made.paused
        if arm is not None and arm not in made.paused:
            assert made.serves(arm) == arm


@given(deployments())
def test_there_is_always_something_to_say_and_no_sentence_is_long(made: Deployment) -> None:
    said = sentences(made)
    assert 1 <= len(said) <= 5
    assert all(each.endswith(".") and len(each) < 500 for each in said)


def test_a_paused_challenger_is_served_like_the_base_and_its_units_stay() -> None:
    made = deployment(paused=("challenger",))
    assert made.serves("challenger") == "champion" and made.serves("control") == "control"
    assert shares(made) == shares(deployment())
    router = Router(made.split)
    assert router.assign(17) == Router(deployment().split).assign(17)


def test_with_everything_paused_the_rule_steps_in_and_without_one_nobody_is_treated() -> None:
    stopped = deployment(paused=("champion", "challenger"))
    assert {stopped.serves(arm) for arm in ("control", "champion", "challenger", None)} == {"control"}
    assert alone(paused=("champion",)).serves("champion") is None
    assert sentences(alone(paused=("champion",)))[0] == "Nobody is treated."
    by_model = deployment(control="champion", paused=("champion", "challenger"))
    assert by_model.serves(None) is None, "a control that needs a release does not step in"


def test_sentences_say_who_decides_over_all_units() -> None:
    said = " ".join(sentences(deployment(split=split(ramp=0.05))))
    assert f"Champion ({short(APPLE)}) decides for 87.3% of all units" in said
    assert "10% are not treated" in said and "reaches 4.5% of all units" in said
    assert "those who take no part are served like champion" in said
    assert sentences(alone()) == (
        f"Champion ({short(APPLE)}) decides for 90% of all units and 10% are not treated.",
    )


@pytest.mark.parametrize(("share", "told"), [(0.045, "4.5%"), (1.0, "100%"), (0.0, "0%"), (1 / 3, "33.3%")])
def test_a_share_is_told_shortly(share: float, told: str) -> None:
    assert percent(share) == told


def test_everything_that_must_be_loaded_is_named_once() -> None:
    made = deployment(terms=BANANA, shadows=(CHERRY,))
    assert made.needed == (APPLE, BANANA, CHERRY)
    assert made.answering == {APPLE, BANANA}


WRONG = {
    "an arm that scores lacks its release": ({"releases": {"champion": APPLE}}, "'challenger' follows the policy 'mlp'"),
    "a rule has a release": ({"releases": {"champion": APPLE, "challenger": BANANA, "control": CHERRY}}, "leave it out"),
    "a release of no arm": ({"releases": {"champion": APPLE, "challenger": BANANA, "chalenger": CHERRY}}, "'challenger'?"),
    "a short name": ({"terms": "3a7bd3e2360a"}, "terms: '3a7bd3e2360a' is no release"),
    "capital digits": ({"terms": APPLE.upper()}, "is no release"),
    "an unknown base": ({"base": "champoin"}, "base: there is no arm 'champoin', did you mean 'champion'"),
    "an unknown control": ({"control": "rule"}, "control: there is no arm 'rule'"),
    "an unknown pause": ({"paused": ("chalenger",)}, "paused: there is no arm 'chalenger'"),
    "paused twice": ({"paused": ("champion", "champion")}, "named twice, champion"),
    "a shadow twice": ({"shadows": (CHERRY, CHERRY)}, "shadows: named twice"),
    "a shadow that serves": ({"shadows": (BANANA,)}, "serves arm 'challenger'"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_refused_with_the_value_and_its_place(what: str) -> None:
    other, told = WRONG[what]
    with pytest.raises(LedgerError) as refused:
        replace(deployment(), **other)
    assert told in str(refused.value)


def changed(**other) -> str:
    "The text of a deployment with some keys changed, '…' to leave one out."
    content = json.loads(deployment().as_json()) | other
    return json.dumps({key: value for key, value in content.items() if value != "…"})


def with_split(**other) -> str:
    return changed(split=json.loads(deployment().as_json())["split"] | other)


UNREADABLE = {
    "nothing": ("", "it is no JSON"),
    "half of it": (deployment().as_json()[:100], "it is no JSON"),
    "deeply nested": ("[" * 100_000, "it is no JSON"),
    "a list": ("[1]", "it is list"),
    "another format": (changed(format=2), "not of format 1: update ml-workbench"),
    "an unknown key": (changed(basis="champion"), "unknown key 'basis', did you mean 'base'?"),
    "a key that is missing": (changed(base="…"), "it lacks 'base'"),
    "a number for a name": (changed(base=7), "base: 7 is of the wrong kind"),
    "numbers for names": (changed(paused=[7]), "paused: [7] is of the wrong kind"),
    "a release that is null": (changed(releases={"champion": None, "challenger": BANANA}), "arm 'champion': None"),
    "traffic that does not sum to one": (
        with_split(arms=[{"name": name, "policy": policy, "weight": 0.3} for name, policy, _ in PLAN]),
        "split: the arms' weights must sum to 1, got 0.9",
    ),
    "a ramp above one": (with_split(ramp=1.5), "split.ramp: input should be less than or equal to 1, got 1.5"),
    "a ramp that is no number": (with_split(ramp=float("nan")), "split.ramp"),
    "no arms": (with_split(arms=[]), "split.arms"),
    "a split without a name": (with_split(name=" "), "split.name"),
    "a key of an experiment": (with_split(primary="spend"), "split.primary"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_text_that_is_no_deployment_is_refused_with_what_is_wrong(what: str) -> None:
    text, told = UNREADABLE[what]
    with pytest.raises(LedgerError) as refused:
        Deployment.from_json(text)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value) and "pydantic" not in str(refused.value)


@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)).map(json.dumps))  # fmt: skip
def test_no_text_whatever_brings_anything_but_a_ledger_error(text: str) -> None:
    with pytest.raises(LedgerError):
        Deployment.from_json(text)


def test_an_experiment_in_place_of_a_split_leaves_only_its_split_in_the_text() -> None:
    planned = load_params(Path(__file__).parents[2]).experiment
    made = deployment(split=planned)
    assert set(json.loads(made.as_json())["split"]) == set(Split.model_fields)
