"""The gate: every check vetoes alone and says why; a missing figure never passes; the verdict follows from the checks."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ml_workbench.model.checks import Evidence
from ml_workbench.model.gate import basis, fingerprint, has_model, judged, verdict_from
from ml_workbench.model.metrics import Interval
from ml_workbench.model.requirements import SLOPE
from ml_workbench.model.trials import Agreement, Incumbent, Speed, Trials
from ml_workbench.plan.errors import GateError
from ml_workbench.plan.files import write_json
from ml_workbench.plan.params import load_params
from ml_workbench.serve.parity import Agreement as Decided

ROOT = Path(__file__).resolve().parents[2]
PARAMS = load_params(ROOT)
LIMITS, HASH = PARAMS.gate, "ab" * 32


def span(value, low, high):
    return {"value": value, "low": low, "high": high}


def slice_of(name, level, auc, *, promised=0.8, flagged=True):
    return {
        "slice": name, "level": level, "rows": 900, "auc": span(auc, auc - 0.03, auc + 0.03),
        "expected_auc": promised, "difference": span(auc - 0.85, -0.2, 0.1), "flagged": flagged,
    }  # fmt: skip


def reports():
    "The three reports of a model with nothing against it, as the stages write them."
    weeks = [
        {"as_of": f"2017-09-{day} 05:00", "rows": 2300, "against_rule": span(60.0, 5.0, 120.0)}
        for day in (11, 18, 25)
    ]
    slices = [slice_of("tenure", "new", 0.77, flagged=False), slice_of("tenure", "old", 0.82, flagged=False)]
    leaks = [
        {"check": "single feature", "feature": "visits", "figure": 0.83, "limit": 0.95, "verdict": "clean", "sentence": "No feature is too good."},
        {"check": "collapse", "feature": None, "figure": 0.1, "limit": 0.8, "verdict": "clean", "sentence": "Old features still rank."},
        {"check": "overlap", "feature": None, "figure": 0, "limit": 0, "verdict": "clean", "sentence": "No overlap."},
    ]  # fmt: skip
    policies = [
        {
            "name": "xgboost", "label": "XGBoost", "kind": "candidate", "complexity": 6,
            "metrics": {"auc": span(0.865, 0.852, 0.877), "average_precision": span(0.476, 0.437, 0.516)},
            "at_capacity": {"profit_per_week": span(122.9, 74.5, 175.4)},
            "against_rule": {"per_week": span(75.7, 38.5, 117.6)},
        },
        {"name": "rule", "label": "Rule", "kind": "rule", "complexity": 1},
        {"name": "nothing", "label": "Do nothing", "kind": "nothing", "complexity": 0},
    ]  # fmt: skip
    proposal = {"policy": "xgboost", "label": "XGBoost", "sentence": "Send 150 offers a week to them."}
    candidates = [
        {"name": "rule", "warnings": [], "artifact": None},
        {"name": "xgboost", "warnings": [], "artifact": HASH},
    ]
    return {
        "evaluation": {"currency": "USD", "confidence": 0.95, "policies": policies, "proposal": proposal},
        "diagnosis": {
            "model": {"name": "xgboost", "label": "XGBoost"},
            "calibration": {"expected_error": 0.012, "slope": span(1.03, 0.95, 1.11)},
            "weeks": weeks, "slices": slices, "leaks": leaks,
        },
        "train": {"candidates": candidates, "failed": []},
    }  # fmt: skip


def agreed(name, apart=0, unusable=0, problem=None, rows=10_000):
    return Agreement(name, name, rows, apart, unusable, 1e-7, 1e-4, problem)


WAYS = tuple(agreed(name) for name in ("golden", "evaluated", "onnx", "xgboost"))
TRIALS = Trials(HASH, None, WAYS, Speed(0.02, 0.1, 400_000.0), 1_200_000)


RESPECTS = ("features", "scores", "values", "places", "actions")
SERVING = tuple(
    Decided(f"{way} {respect}", respect, 4_000, 0, 0, 0.0, 1e-4)
    for way in ("batch", "rest")
    for respect in RESPECTS
)


def otherwise(name, **changes):
    "Production that decides otherwise in one respect."
    return tuple(replace(each, **changes) if each.name == name else each for each in SERVING)


def evidence(change=None, *, trials=TRIALS, incumbent=None, limits=LIMITS, serving=SERVING):
    "Evidence with one thing changed in the reports."
    held = copy.deepcopy(reports())
    if change:
        change(held)
    options = {"limits": limits, "charter": PARAMS.charter, "incumbent": incumbent, "serving": serving}
    return Evidence(**held, trials=trials, **options)


def at(*path, to):
    "A change: the value at a path of keys and positions becomes another."

    def change(held):
        *parents, last = path
        for key in parents:
            held = held[key]
        held[last] = to

    return change


def tried(name, **changes):
    "Trials in which one way of scoring does otherwise."
    return replace(
        TRIALS, agreements=tuple(agreed(name, **changes) if way.name == name else way for way in WAYS)
    )


POLICY = ("evaluation", "policies", 0)
GAIN = (*POLICY, "against_rule", "per_week")
CALIBRATION = ("diagnosis", "calibration")


def test_a_model_with_nothing_against_it_is_blessed_in_one_sentence():
    verdict = judged(evidence())
    assert verdict.verdict == "blessed" and verdict.reasons == () and verdict.artifact == HASH
    assert verdict.sentence == "XGBoost is blessed: 25 of 25 checks passed."
    assert len({each.name for each in verdict.checks}) == len(verdict.checks) == 25


FAILING = {
    "batch": (
        {"serving": otherwise("batch features", apart=3, worst="unit 7 as of 2017-10-16: spend_4w 2.0 instead of 1.0")},
        "decides otherwise, by features: 3 of 20,000 answers apart; unit 7",
    ),
    "rest": ({"serving": otherwise("rest actions", apart=1)}, "decides otherwise, by actions: 1 of 20,000"),
    "auc": ({"change": at(*POLICY, "metrics", "auc", "low", to=0.79)}, "AUC may be as low as 0.790"),
    "average_precision": (
        {"change": at(*POLICY, "metrics", "average_precision", "low", to=0.31)},
        "average precision may be as low as 0.310",
    ),
    "against_rule": ({"change": at(*GAIN, "low", to=-3.2)}, "no more than the rule: −$3 a week"),
    "worthwhile": ({"change": at(*GAIN, "value", to=12.0)}, "is +$12 a week, the charter asks for at least +$25 a week."),
    "profit": (
        {"change": at(*POLICY, "at_capacity", "profit_per_week", "low", to=-8.0)},
        "no more than doing nothing: −$8 a week",
    ),
    "champion": (
        {"incumbent": Incumbent("Random forest", "cd" * 32, Interval(-4.0, -31.0, 22.0))},
        "(Random forest), there may be a loss of $31 a week, a loss of $25 a week is allowed",
    ),
    "calibration": (
        {"change": at(*CALIBRATION, "expected_error", to=0.041)},
        "off by 4.1 percentage points on average, 2 are allowed",
    ),
    "slope": ({"change": at(*CALIBRATION, "slope", "value", to=0.6)}, "too bold or too timid: slope 0.60"),
    "slices": (
        {"change": at("diagnosis", "slices", 0, to=slice_of("home_age", "65+", 0.4))},
        "For one group it ranks worse than it could: AUC short by 0.400 (home age: 65+)",
    ),
    "weeks_won": (
        {"change": at("diagnosis", "weeks", to=[{"as_of": "2017-09-11", "against_rule": span(-1.0, -9.0, 9.0)}])},
        "0 of 1 weeks won",
    ),
    "leaks": (
        {"change": at("diagnosis", "leaks", 1, to={"figure": 0.9, "verdict": "suspicious", "sentence": "Skill collapses {when} older."})},
        "could not have known. Skill collapses {when} older",
    ),
    "convergence": (
        {"change": at("train", "candidates", 1, "warnings", to=["did not converge"])},
        "gave a warning: did not converge",
    ),
    "file": ({"trials": replace(TRIALS, artifact="cd" * 32)}, "not the one that training wrote"),
    "golden": ({"trials": tried("golden", apart=1)}, "On its golden rows the probabilities do not agree: 1 of 10,000"),
    "evaluated": ({"trials": tried("evaluated", apart=100)}, "evaluated on the probabilities do not agree: 100 of"),
    "onnx": ({"trials": tried("onnx", apart=37)}, "37 of 10,000 rows apart, at most 0.1%"),
    "xgboost": ({"trials": tried("xgboost", problem="ValueError: no trees")}, "could not score: ValueError: no trees"),
    "latency": ({"trials": replace(TRIALS, speed=Speed(900.0, 999.0, 400_000.0))}, "beyond its budget: one row in"),
    "throughput": ({"trials": replace(TRIALS, speed=Speed(0.02, 0.1, 3.0))}, "beyond its budget: at least"),
    "size": ({"trials": replace(TRIALS, size_bytes=900_000_000)}, "take 900.0 MB"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING)
def test_each_check_alone_vetoes_and_says_why(name):
    changes, why = FAILING[name]
    verdict = judged(evidence(**changes))
    assert verdict.verdict == "vetoed" and verdict.failed == (name,)
    (reason,) = verdict.reasons
    assert why in reason
    assert verdict.sentence == f"XGBoost is vetoed: {reason[0].lower()}{reason[1:]}"


def test_every_check_that_can_veto_is_shown_to_veto():
    vetoes = {each.name for each in judged(evidence()).checks if each.severity == "veto"}
    assert vetoes == set(FAILING)


WARNING = {
    "failed": (at("train", "failed", to=[{"name": "mlp", "label": "MLP", "reason": "…"}]), "MLP failed"),
    "worst_week": (
        at("diagnosis", "weeks", 1, "against_rule", "high", to=-12.0),
        "earned less than the rule: at best −$12 in the week of 2017-09-18",
    ),
}


@pytest.mark.parametrize("name", WARNING)
def test_a_warning_is_told_and_does_not_veto(name):
    change, why = WARNING[name]
    verdict = judged(evidence(change))
    (check,) = [each for each in verdict.checks if not each.passed]
    assert check.name == name and check.severity == "warning" and why in check.sentence
    assert verdict.verdict == "blessed" and verdict.reasons == ()
    assert verdict.sentence == "XGBoost is blessed: 24 of 25 checks passed, with 1 warning."


def test_of_several_reasons_the_first_is_told_and_the_others_are_counted():
    def change(held):
        at(*CALIBRATION, "expected_error", to=0.041)(held)
        at(*CALIBRATION, "slope", "value", to=2.0)(held)
        at("diagnosis", "leaks", to=[])(held)

    verdict = judged(evidence(change))
    assert verdict.failed == ("calibration", "slope", "leaks") and len(verdict.reasons) == 3
    assert verdict.sentence.endswith("2 are allowed. There are 2 more reasons.")
    two = judged(evidence(at(*CALIBRATION, to={"expected_error": 0.041, "slope": {"value": 2.0}})))
    assert two.sentence.endswith("There is 1 more reason.")


FIGURES = {
    "auc": (*POLICY, "metrics", "auc", "low"),
    "average_precision": (*POLICY, "metrics", "average_precision", "low"),
    "against_rule": (*GAIN, "low"),
    "champion": (*GAIN, "low"),
    "worthwhile": (*GAIN, "value"),
    "profit": (*POLICY, "at_capacity", "profit_per_week", "low"),
    "calibration": (*CALIBRATION, "expected_error"),
    "slope": (*CALIBRATION, "slope", "value"),
    "weeks_won": ("diagnosis", "weeks", 0, "against_rule", "value"),
    "worst_week": ("diagnosis", "weeks", 2, "against_rule", "high"),
    "leaks": ("diagnosis", "leaks", 2, "verdict"),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf"), "0.9", True], ids=str)
def test_a_figure_that_is_missing_or_no_number_never_passes(name, value):
    found = {each.name: each for each in judged(evidence(at(*FIGURES[name], to=value))).checks}
    assert not found[name].passed


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ((*POLICY, "metrics"), {"auc", "average_precision"}),
        ((*POLICY, "against_rule"), {"against_rule", "worthwhile", "champion"}),
        (CALIBRATION, {"calibration", "slope"}),
        (("diagnosis", "weeks"), {"weeks_won"}),
        (("diagnosis", "slices"), {"slices"}),
        (("diagnosis", "leaks"), {"leaks"}),
        (("train", "candidates", 1, "warnings"), {"convergence"}),
        (("train", "candidates", 1, "artifact"), {"file"}),
        (("train", "candidates"), {"convergence", "file"}),
    ],
)
@pytest.mark.parametrize("gone", [True, False], ids=["absent", "null"])
def test_what_a_report_does_not_say_is_held_against_the_model(path, names, gone):
    def change(held):
        *parents, last = path
        for key in parents:
            held = held[key]
        if gone:
            del held[last]
        else:
            held[last] = None

    verdict = judged(evidence(change))
    assert set(verdict.failed) == names
    assert all("cannot pass: run `dvc repro`" in reason for reason in verdict.reasons)


def test_a_file_that_could_not_be_read_fails_all_that_was_to_be_tried():
    trials = Trials(None, "models/xgboost/model.onnx is not the file that the manifest lists")
    verdict = judged(evidence(trials=trials))
    assert verdict.failed == ("file", "golden", "evaluated", "onnx", "latency", "throughput", "size")
    assert "is not the file that the manifest lists." in verdict.reasons[0] and verdict.artifact is None


def test_trees_are_asked_for_only_where_the_file_has_them():
    verdict = judged(evidence(trials=replace(TRIALS, agreements=WAYS[:3])))
    assert verdict.verdict == "blessed" and "xgboost" not in {each.name for each in verdict.checks}


LIMIT = {
    "auc": (at(*POLICY, "metrics", "auc", "low", to=LIMITS.minimum_auc), LIMITS.minimum_auc, -1),
    "average_precision": (at(*POLICY, "metrics", "average_precision", "low", to=LIMITS.minimum_average_precision), LIMITS.minimum_average_precision, -1),
    "worthwhile": (at(*GAIN, "value", to=PARAMS.charter.minimum_lift_per_week), PARAMS.charter.minimum_lift_per_week, -1),
    "calibration": (at(*CALIBRATION, "expected_error", to=LIMITS.maximum_calibration_error), LIMITS.maximum_calibration_error, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMIT)
def test_a_figure_on_its_limit_passes_and_the_next_one_beyond_does_not(name):
    change, limit, worse = LIMIT[name]
    assert judged(evidence(change)).verdict == "blessed"
    beyond = math.nextafter(limit, worse * math.inf)
    path = FIGURES[name]
    assert judged(evidence(at(*path, to=beyond))).failed == (name,)


@pytest.mark.parametrize(
    ("name", "kept", "broken"),
    [
        (
            "latency",
            {"speed": Speed(LIMITS.maximum_latency_ms, 9.0, 1e6)},
            {"speed": Speed(math.nextafter(LIMITS.maximum_latency_ms, 9e9), 9.0, 1e6)},
        ),
        (
            "throughput",
            {"speed": Speed(0.01, 9.0, LIMITS.minimum_rows_per_second)},
            {"speed": Speed(0.01, 9.0, math.nextafter(LIMITS.minimum_rows_per_second, 0))},
        ),
        (
            "size",
            {"size_bytes": int(1e6 * LIMITS.maximum_size_mb)},
            {"size_bytes": int(1e6 * LIMITS.maximum_size_mb) + 1},
        ),
    ],
)
def test_a_budget_may_be_used_up_and_not_exceeded(name, kept, broken):
    assert judged(evidence(trials=replace(TRIALS, **kept))).verdict == "blessed"
    assert judged(evidence(trials=replace(TRIALS, **broken))).failed == (name,)


def test_a_group_may_fall_short_by_the_limit():
    most = LIMITS.maximum_slice_loss
    kept = slice_of("age", "old", 0.0, promised=most)
    assert judged(evidence(at("diagnosis", "slices", 0, to=kept))).verdict == "blessed"
    broken = slice_of("age", "old", 0.0, promised=math.nextafter(most, 1.0))
    assert judged(evidence(at("diagnosis", "slices", 0, to=broken))).failed == ("slices",)


@pytest.mark.parametrize("slope", [*SLOPE, 1.0])
def test_a_slope_within_its_bounds_passes(slope):
    assert judged(evidence(at(*CALIBRATION, "slope", "value", to=slope))).verdict == "blessed"


def test_no_gain_at_all_is_not_more_than_the_rule():
    assert judged(evidence(at(*GAIN, "low", to=0.0))).failed == ("against_rule",)
    nothing = at(*POLICY, "at_capacity", "profit_per_week", "low", to=0.0)
    assert judged(evidence(nothing)).failed == ("profit",)


def test_a_week_on_a_par_with_the_rule_is_neither_won_nor_certainly_lost():
    par = [{"as_of": "2017-09-11", "against_rule": span(0.0, -9.0, 0.0)}]
    verdict = judged(evidence(at("diagnosis", "weeks", to=par)))
    assert verdict.failed == ("weeks_won",)
    assert next(each for each in verdict.checks if each.name == "worst_week").passed


def test_the_share_of_rows_that_may_differ_is_exact_and_golden_rows_have_none():
    most = int(LIMITS.parity_share * 10_000)
    assert judged(evidence(trials=tried("onnx", apart=most))).verdict == "blessed"
    assert judged(evidence(trials=tried("onnx", apart=most + 1))).failed == ("onnx",)
    assert judged(evidence(trials=tried("onnx", unusable=1))).failed == ("onnx",)
    assert judged(evidence(trials=tried("golden", apart=1))).failed == ("golden",)
    assert judged(evidence(trials=tried("evaluated", rows=0))).failed == ("evaluated",)


def test_half_of_the_weeks_is_enough_when_half_is_asked():
    weeks = [{"as_of": str(n), "against_rule": span(n - 1.5, -9.0, 9.0)} for n in range(4)]
    half = LIMITS.model_copy(update={"minimum_weeks_won": 0.5})
    assert judged(evidence(at("diagnosis", "weeks", to=weeks), limits=half)).verdict == "blessed"
    more = LIMITS.model_copy(update={"minimum_weeks_won": 0.51})
    assert judged(evidence(at("diagnosis", "weeks", to=weeks), limits=more)).failed == ("weeks_won",)


def test_only_flagged_groups_count_and_the_worst_is_named():
    rows = [
        slice_of("age", "65+", 0.1, flagged=False),
        slice_of("income", "low", 0.3),
        slice_of("tenure", "{figure}", 0.79),
        slice_of("value", "high", 0.9),
    ]
    (reason,) = judged(evidence(at("diagnosis", "slices", to=rows))).reasons
    assert "AUC short by 0.500 (income: low)" in reason
    assert judged(evidence(at("diagnosis", "slices", to=[rows[0], *rows[2:]]))).verdict == "blessed"
    for unclear in (
        {**rows[0], "flagged": None},
        {**rows[2], "expected_auc": None},
        {**rows[2], "auc": None},
    ):
        assert judged(evidence(at("diagnosis", "slices", 1, to=unclear))).failed == ("slices",)


def test_a_group_whose_members_are_alike_may_be_hard_to_rank():
    alike = {**slice_of("spend", "low", 0.64, promised=0.67), "difference": span(-0.24, -0.29, -0.19)}
    assert judged(evidence(at("diagnosis", "slices", 0, to=alike))).verdict == "blessed"


def test_without_a_group_large_enough_the_gate_warns():
    verdict = judged(evidence(at("diagnosis", "slices", to=[])))
    (check,) = [each for each in verdict.checks if not each.passed]
    assert check.name == "slices" and check.severity == "warning" and verdict.verdict == "blessed"


def test_a_leak_that_could_not_be_looked_for_warns_unless_none_could():
    blind = {"check": "collapse", "figure": None, "verdict": "unchecked", "sentence": "No older snapshots."}
    verdict = judged(evidence(at("diagnosis", "leaks", 1, to=blind)))
    (check,) = [each for each in verdict.checks if not each.passed]
    assert check.name == "leaks_checked" and "No older snapshots." in check.sentence
    assert verdict.verdict == "blessed"
    assert judged(evidence(at("diagnosis", "leaks", to=[blind]))).failed == ("leaks",)


def test_a_model_in_use_is_compared_with_instead_of_the_rule():
    def found(low):
        incumbent = Incumbent("Forest", "cd" * 32, Interval(1.0, low, 30.0))
        return judged(evidence(incumbent=incumbent))

    most = LIMITS.maximum_champion_loss_per_week
    assert found(-most).verdict == "blessed" and found(math.nextafter(-most, -99)).failed == ("champion",)
    assert found(float("nan")).failed == ("champion",)
    check = next(each for each in judged(evidence()).checks if each.name == "champion")
    assert "the rule, as no model is in use yet" in check.sentence


@pytest.mark.parametrize(("policy", "label"), [("rule", "Rule"), ("nothing", "Do nothing")])
def test_without_a_proposed_model_nothing_is_blessed_and_the_reason_is_the_evaluations(policy, label):
    sentence = "Keep the rule: XGBoost is expected to earn more, which is not enough evidence yet."
    proposal = {"policy": policy, "label": label, "sentence": sentence}

    def change(held):
        held["evaluation"]["proposal"] = proposal
        held["diagnosis"], held["train"] = {}, {}

    verdict = judged(evidence(change))
    assert (verdict.verdict, verdict.model, verdict.artifact) == ("vetoed", policy, None)
    assert verdict.failed == ("proposal",) and sentence in verdict.reasons[0]
    assert verdict.sentence.startswith("There is no model to bless: keep the rule")


def test_a_diagnosis_of_another_model_stops_the_gate():
    with pytest.raises(GateError, match=r"about 'mlp', but 'xgboost' is proposed: run `dvc repro`"):
        judged(evidence(at("diagnosis", "model", "name", to="mlp")))


@pytest.mark.parametrize(
    "broken", [{}, {"proposal": None}, {"proposal": {"policy": "x"}, "policies": []}, None]
)
def test_an_evaluation_that_proposes_nothing_known_is_named(broken):
    with pytest.raises(GateError, match=r"evaluation\.json does not say what is proposed"):
        has_model(broken)


def test_the_measured_milliseconds_stay_out_of_the_verdict():
    quick, slow = (replace(TRIALS, speed=Speed(ms, 2 * ms, 1e6 / ms)) for ms in (0.01, 0.5))
    assert judged(evidence(trials=quick)) == judged(evidence(trials=slow))


def test_a_verdict_survives_writing_and_reading(tmp_path):
    verdict = judged(evidence(at("diagnosis", "leaks", to=[])))
    write_json(tmp_path / "gate.json", verdict.as_json())
    assert verdict_from(json.loads((tmp_path / "gate.json").read_text())) == verdict


@pytest.mark.parametrize(
    "forged",
    [
        {"verdict": "blessed"}, {"verdict": "fine"}, {"checks": []}, {"checks": [{"name": "auc"}]},
        {"checks": None}, {"model": None, "checks": "abc"},
    ],
    ids=str,
)  # fmt: skip
def test_a_verdict_that_does_not_follow_from_its_checks_is_refused(forged):
    held = judged(evidence(at("diagnosis", "leaks", to=[]))).as_json()
    with pytest.raises(GateError, match=r"gate\.json.*dvc repro --force gate"):
        verdict_from(held | forged)
    with pytest.raises(GateError, match="holds no verdict"):
        verdict_from(["blessed"])


def test_a_check_that_is_neither_passed_nor_failed_is_refused():
    held = judged(evidence()).as_json()
    held["checks"][0]["passed"] = "yes"
    with pytest.raises(GateError, match="does not follow from its checks"):
        verdict_from(held)


def test_what_a_verdict_rests_on_changes_with_any_of_it(tmp_path):
    for name in ("evaluation", "diagnosis", "train"):
        write_json(tmp_path / "reports" / f"{name}.json", {})
    before = basis(tmp_path, LIMITS)
    assert before == basis(tmp_path, LIMITS) and before["champion"] is None
    write_json(tmp_path / "reports/diagnosis.json", {"leaks": []})
    assert basis(tmp_path, LIMITS)["reports"] != before["reports"]
    (tmp_path / "reports/train.json").unlink()
    assert basis(tmp_path, LIMITS)["reports"]["train.json"] is None
    used = LIMITS.model_copy(update={"champion": "used"})
    write_json(tmp_path / "used/manifest.json", {})
    assert basis(tmp_path, used)["champion"] == fingerprint(tmp_path / "used/manifest.json")


def test_the_real_reports_are_understood(produced):
    if not (produced / "reports/diagnosis.json").is_file():
        pytest.skip("the pipeline has not diagnosed anything here")
    held = {name: json.loads((produced / f"reports/{name}.json").read_text()) for name in reports()}
    if not has_model(held["evaluation"]):
        pytest.skip("no model is proposed here")
    row = next(
        each
        for each in held["train"]["candidates"]
        if each["name"] == held["evaluation"]["proposal"]["policy"]
    )
    trials = replace(TRIALS, artifact=row["artifact"])
    verdict = judged(Evidence(**held, trials=trials, limits=LIMITS, charter=PARAMS.charter, serving=SERVING))
    assert not [each.name for each in verdict.checks if each.figure == "missing"]


def test_scores_may_differ_in_a_few_rows_and_actions_in_none():
    few = otherwise("rest scores", apart=int(LIMITS.parity_share * 4_000))
    assert judged(evidence(serving=few)).verdict == "blessed"
    assert judged(evidence(serving=otherwise("rest scores", unusable=1))).failed == ("rest",)
    assert judged(evidence(serving=otherwise("rest places", apart=1))).failed == ("rest",)


def test_what_production_could_not_decide_or_nobody_let_it_decide_never_passes():
    stopped = otherwise("batch features", problem="SourceError: no table 'transactions'")
    verdict = judged(evidence(serving=stopped))
    assert verdict.failed == ("batch",) and "could not decide: SourceError" in verdict.reasons[0]
    assert judged(evidence(serving=())).failed == ("batch", "rest")
