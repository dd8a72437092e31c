"""Plans, releases with a verdict, and ledgers to try changes on."""

import json
from dataclasses import replace
from hashlib import sha256

from ml_workbench.plan.experiment import Arm, Experiment, Metric
from ml_workbench.release.bundle import Bundle, bundle_of
from ml_workbench.release.policy import POLICY, terms_from

APPLE, BANANA, CHERRY, DAMSON = (
    sha256(name.encode()).hexdigest() for name in ("apple", "banana", "cherry", "damson")
)
ARMS = (("control", "rule", 0.4), ("champion", "proposed", 0.4), ("challenger", "mlp", 0.2))
CAME = Metric(name="came", label="came at all", kind="proportion", outcome="visit", of="any")


def planned(arms=ARMS, **other) -> Experiment:
    "A plan with the usual three arms."
    made = [Arm(name=name, policy=policy, weight=weight) for name, policy, weight in arms]
    fields = {"name": "retention-1", "namespace": "retention", "holdout": 0.1, "control": "control"}
    fields |= {"arms": made, "metrics": [CAME], "primary": "came", "horizon_days": 28}
    return Experiment(**fields | other)


CHECK = {"name": "auc", "title": "Ranking: AUC", "figure": "0.86", "limit": "at least 0.84", "sentence": "Its AUC is 0.86.", "severity": "veto"}  # fmt: skip


def judged(
    bundle: Bundle,
    verdict: str = "blessed",
    *,
    override: dict | None = None,  # who took a veto upon themselves
    artifact: str | None = None,  # what the gate judged
    experiment: Experiment | None = None,  # planned when it was built
    card: str = "",  # any other makes another release of the same model
) -> Bundle:
    "The same release with a verdict of the gate in it; it gets another name by that."
    raw = {
        "model": bundle.release.model, "label": bundle.release.label, "artifact": artifact or bundle.release.artifact,
        "verdict": verdict, "sentence": f"The model is {verdict}.", "checks": [CHECK | {"passed": verdict == "blessed"}],
        "reasons": [] if verdict == "blessed" else ["Its AUC is too low."],
    }  # fmt: skip
    files = {**bundle.files, "verdict.json": json.dumps({"verdict": raw, "override": override}).encode()}
    if card:
        files["card.md"] = card.encode()
    if experiment:
        files[POLICY] = replace(terms_from(files[POLICY]), experiment=experiment).as_bytes()
    said = "blessed" if verdict == "blessed" else "overridden"
    return bundle_of(files, origin=bundle.release.origin, verdict=said, metrics=bundle.release.metrics)
