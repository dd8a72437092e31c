"""A design is checked by name, and a change says what it would do to units."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.experiment.design import (
    changes,
    check_design,
    consequences,
    design_hash,
    expected_units,
    moved,
    plain_design,
    taking_part,
)
from ml_workbench.plan.charter import Charter, Guardrail
from ml_workbench.plan.errors import ExperimentError
from ml_workbench.plan.experiment import Arm, Experiment, Metric
from ml_workbench.plan.params import Params, load_params
from ml_workbench.serve.routing import Router

MILLION = np.arange(1_000_000)


@pytest.fixture(scope="module")
def params(root) -> Params:
    return load_params(root)


@pytest.fixture(scope="module")
def charter(params: Params) -> Charter:
    return params.charter


@pytest.fixture(scope="module")
def experiment(params: Params) -> Experiment:
    return params.experiment


def of(weights: dict[str, float], **other) -> Experiment:
    arms = [Arm(name=name, policy="none", weight=weight) for name, weight in weights.items()]
    came = Metric(name="came", label="came", kind="proportion", outcome="visit", of="any")
    plan = {
        "name": "trial",
        "namespace": "offers",
        "holdout": 0.1,
        "control": "a",
        "primary": "came",
        "horizon_days": 28,
    }
    return Experiment(**plan | {"arms": arms, "metrics": [came]} | other)


# Names -----------------------------------------------------------------------------------------------------


def test_the_default_design_is_sound(params: Params, produced) -> None:
    from ml_workbench.data.outcomes import OUTCOMES
    from ml_workbench.model.snapshots import read_schema

    features = [feature.name for feature in read_schema(produced / "data/features/schema.json").features]
    outcomes = [outcome.name for outcome in OUTCOMES]
    check_design(
        params.experiment, params.charter, features, outcomes=outcomes, policies=params.train.candidates
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"covariates": ["usual_weekly_spent"]}, "covariates: unknown 'usual_weekly_spent', did you mean 'usual_weekly_spend'"),
        ({"segments": ["age"]}, "segments: unknown 'age', known: baskets_12w"),
        ({"cluster": "store"}, "cluster: unknown 'store'"),
    ],
)  # fmt: skip
def test_a_name_that_means_nothing_stops_the_plan(
    experiment: Experiment, charter: Charter, change: dict, said: str
) -> None:
    known = ["usual_weekly_spend", "baskets_12w", "days_since_basket"]
    with pytest.raises(ExperimentError, match=said):
        check_design(experiment.model_copy(update=change), charter, known)


def test_every_mistake_is_named_at_once(experiment: Experiment, charter: Charter) -> None:
    wrong = charter.model_copy(update={"guardrails": [Guardrail(metric="spend", margin=0.02, meaning="x")]})
    with pytest.raises(ExperimentError) as caught:
        check_design(experiment, wrong, [], outcomes=["visit"], policies=["mlp"])
    said = str(caught.value)
    assert said.startswith(f"experiment '{experiment.name}': ")
    for part in (
        "covariates",
        "segments",
        "charter.guardrails: no metric 'spend'",
        "no outcome 'basket'",
        "no policy 'kernel_machine'",
    ):
        assert part in said


# Numbers ---------------------------------------------------------------------------------------------------


def test_arms_can_expect_what_the_hash_will_give_them() -> None:
    plan = of({"a": 0.5, "b": 0.3, "c": 0.2}, slots=[0.2, 0.9], ramp=0.6)
    expected, found = expected_units(plan, 1e6), Router(plan).assign_many(MILLION).counts
    assert taking_part(plan) == pytest.approx(0.9 * 0.7 * 0.6)
    assert set(expected) == {"a", "b", "c", "holdout"}
    assert all(abs(found[arm] - units) < 4 * units**0.5 for arm, units in expected.items())


# Changes ---------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_twelve_digits_and_does_not_hang_on_the_order_of_sets(
    experiment: Experiment,
) -> None:
    fingerprint = design_hash(experiment)
    assert len(fingerprint) == 12 and int(fingerprint, 16) >= 0
    shuffled = {
        "metrics": experiment.metrics[::-1],
        "covariates": experiment.covariates[::-1],
        "segments": experiment.segments[::-1],
    }
    assert design_hash(experiment.model_copy(update=shuffled)) == fingerprint
    assert design_hash(experiment.model_copy(update={"arms": experiment.arms[::-1]})) != fingerprint


def test_a_changed_design_is_told_in_words(experiment: Experiment) -> None:
    later = experiment.model_copy(update={"horizon_days": 28, "covariates": []})
    said = " ".join(changes(plain_design(experiment), plain_design(later)))
    assert f"{experiment.horizon_days} days → 28 days" in said and "none" in said
    assert design_hash(later) != design_hash(experiment)


def test_a_ramp_moves_nobody_between_arms() -> None:
    full = of({"a": 0.5, "b": 0.5})
    for ramp in (0.0, 0.3, 0.99):
        assert consequences(full.model_copy(update={"ramp": ramp}), full) == ()
        assert all(
            "keep counting them" in each
            for each in consequences(full, full.model_copy(update={"ramp": ramp}))
        )


def test_other_weights_move_units_and_that_is_said() -> None:
    before, after = of({"a": 0.8, "b": 0.1, "c": 0.1}), of({"a": 0.4, "b": 0.3, "c": 0.3})
    assert moved(before, after) == pytest.approx({("a", "b"): 0.27, ("a", "c"): 0.09, ("b", "c"): 0.09})
    assert (
        "27.00% of the units would move from a to b and be in two arms: give it a new name instead."
        in consequences(before, after)
    )


def test_a_larger_holdout_takes_units_out_of_their_arms() -> None:
    said = consequences(of({"a": 0.5, "b": 0.5}), of({"a": 0.5, "b": 0.5}, holdout=0.2))
    assert said == tuple(
        f"5.00% of the units would move from {arm} to holdout and be in two arms: give it a new name instead."
        for arm in "ab"
    )


def test_no_change_moves_nobody() -> None:
    assert moved(of({"a": 0.5, "b": 0.5}), of({"a": 0.5, "b": 0.5}, horizon_days=7)) == {}


def test_another_name_is_another_coin() -> None:
    with pytest.raises(ExperimentError, match="'offers/trial' and 'offers/next' toss different coins"):
        moved(of({"a": 0.5, "b": 0.5}), of({"a": 0.5, "b": 0.5}, name="next"))
    assert consequences(of({"a": 0.5, "b": 0.5}), of({"a": 0.5, "b": 0.5}, name="next")) == (
        "'offers/next' is another experiment than 'offers/trial'.",
    )


PLANS = st.builds(
    lambda parts, holdout, ramp, slots: of(
        {name: part / sum(parts) for name, part in zip("abc", parts)},
        holdout=holdout / 10, ramp=ramp / 10, slots=[min(slots) / 10, max(slots) / 10],
    ),
    st.lists(st.integers(1, 9), min_size=3, max_size=3), st.integers(0, 5), st.integers(0, 10),
    st.sets(st.integers(0, 10), min_size=2, max_size=2),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(PLANS, PLANS)
def test_what_would_move_is_what_moves(before: Experiment, after: Experiment) -> None:
    units = MILLION[:40_000]
    one, other = (Router(plan).assign_many(units).arm for plan in (before, after))
    expected = moved(before, after)
    for pair in {(old or "nobody", new or "nobody") for old, new in zip(one, other)} | set(expected):
        found = np.mean([(old or "nobody", new or "nobody") == pair for old, new in zip(one, other)])
        if pair[0] != pair[1]:
            assert found == pytest.approx(expected.get(pair, 0.0), abs=0.015)
