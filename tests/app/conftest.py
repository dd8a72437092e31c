"""A small, made-up project in the shape that the stages leave behind, and the page run on it."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_workbench.plan.charter import money

OFFERS = list(range(0, 1001, 25))
AGAINST = ("against_rule", "against_rule_low", "against_rule_high")


def interval(value: float, spread: float) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


def made_up_policy(name: str, label: str, kind: str, scale: float, *, shift: float, spread: float) -> dict:
    "A policy whose profit rises, flattens and falls: `scale` is what it finds, `shift` moves the gain."

    def profit(offers: int, found: float) -> float:
        return found * (1 - math.exp(-offers / 260)) - 0.9 * offers

    values = [profit(offers, scale) if scale else 0.0 for offers in OFFERS]
    gains = [value - profit(offers, 900) + shift * min(offers, 1) for offers, value in zip(OFFERS, values)]
    wide = [spread * math.sqrt(offers / 400) for offers in OFFERS]
    at = OFFERS.index(400)
    calibration = [
        {
            "predicted": x / 10 + 0.03,
            "observed": x / 11 + 0.03,
            "low": x / 11,
            "high": x / 11 + 0.06,
            "count": 900,
        }
        for x in range(7)
    ]
    metrics = {
        "auc": interval(0.86, 0.01), "average_precision": interval(0.47, 0.03),
        "brier": interval(0.09, 0.004), "lift_at_capacity": interval(3.4, 0.2),
    }  # fmt: skip
    rule = kind == "rule"
    return {
        "name": name, "label": label, "kind": kind, "complexity": 1,
        "metrics": None if kind == "nothing" else metrics,
        "curve": {
            "offers": OFFERS,
            "profit_per_week": values,
            "low": [value - width for value, width in zip(values, wide)],
            "high": [value + width for value, width in zip(values, wide)],
            "against_rule": [0.0 if rule else gain for gain in gains],
            "against_rule_low": [0.0 if rule else gain - width * 0.6 for gain, width in zip(gains, wide)],
            "against_rule_high": [0.0 if rule else gain + width * 0.6 for gain, width in zip(gains, wide)],
        },
        "at_capacity": {
            "offers_per_week": 400, "precision": None if kind == "nothing" else 0.41,
            "profit_per_week": interval(values[at], spread), "profit_per_month": interval(values[at] * 52 / 12, spread),
        },
        "against_rule": {"per_week": interval(gains[at], spread), "per_month": interval(gains[at] * 52 / 12, spread)},
        "calibration": calibration if kind == "candidate" else [],
    }  # fmt: skip


def made_up_evaluation(
    *, currency: str = "USD", scale: float = 1300, shift: float = 0, spread: float = 120
) -> dict:
    "evaluation.json of a made-up run; the numbers mean nothing, their shape is the real one."
    policies = [
        made_up_policy(
            "logistic_regression", "Logistic regression", "candidate", scale, shift=shift, spread=spread
        ),
        made_up_policy("xgboost", "XGBoost", "candidate", scale * 0.98, shift=shift, spread=spread),
        made_up_policy("rule", "Rule: longest away first", "rule", min(scale, 900), shift=0, spread=spread),
        made_up_policy("nothing", "Do nothing", "nothing", 0, shift=0, spread=0),
    ]
    ladder = {"logistic_regression": 2, "xgboost": 6, "rule": 1, "nothing": 0}
    policies = [policy | {"complexity": ladder[policy["name"]]} for policy in policies]
    at, best = OFFERS.index(400), policies[0]
    enough = best["curve"]["against_rule_low"][at] > 0
    gain = [money(best["curve"][name][at] * 52 / 12, currency, sign=True) for name in AGAINST]
    earned = f"expected {gain[0]} a month, between {gain[1]} and {gain[2]}, against the rule"
    chosen, who, sentence = (
        (
            "logistic_regression",
            "those with the most to lose",
            f"Send 400 offers a week to those with the most to lose: {earned}.",
        )
        if enough
        else (
            "rule",
            "those longest away",
            f"Keep the rule, 400 offers a week: {earned} for a model is not enough evidence yet.",
        )
    )
    trials = zip((0.05, 0.15, 0.25), ("low", "value", "high"), (0.2, 1, 1.8))
    return {
        "currency": currency, "unit": "household", "unit_plural": "households", "capacity": 400,
        "weeks": 6, "rows": 13800, "units": 2381, "confidence": 0.95, "resamples": 1000,
        "test": {"first": "2017-09-11T05:00:00", "last": "2017-10-16T05:00:00"},
        "policies": policies,
        "parsimony": made_up_choice(currency),
        "proposal": {
            "policy": chosen, "label": "Logistic regression",
            "reason": "the simplest candidate that is not worse than the best",
            "beats_rule": enough, "enough_evidence": enough, "offers_per_week": 400,
            "sentence": sentence, "who": who, "parsimony": made_up_choice(currency)["sentence"],
        },
        "sensitivity": [
            {
                "save_rate": rate, "which": which,
                "profit_per_week": interval(best["curve"]["profit_per_week"][at] * factor - 90, spread),
                "against_rule": interval(best["curve"]["against_rule"][at] * factor, spread),
            }
            for rate, which, factor in trials
        ],
        "break_even_save_rate": 0.064,
        "next_list": {
            "as_of": "2018-01-01T05:00:00", "size": 400, "expected_profit": 512.0,
            "facts": [
                {"label": "Households on it", "value": "400"},
                {"label": "Median days since the last basket", "value": "31"},
                {"label": "Expected profit of this list", "value": "$512"},
            ],
        },
        "assumptions": [
            {
                "name": "save_rate", "value": 0.15, "low": 0.05, "high": 0.25,
                "text": "An offer keeps 15% of those who would otherwise stay away (between 5% and 25%). "
                "No offer has been randomised yet; the first experiment replaces this figure.",
            },
            {"name": "offer_cost", "value": 1.0, "low": None, "high": None, "text": "An offer costs 1.00, all in."},
        ],
    }  # fmt: skip


def made_up_choice(currency: str) -> dict:
    "The choice by parsimony of a made-up run."
    said = f"XGBoost earns {money(12, currency)} a week more than logistic regression, between {money(-40, currency)} and {money(61, currency)}"
    sentence = f"{said}: not worth the complexity."
    others = {"xgboost": ("XGBoost", 12.0, -40.0, 61.0), "linear_svm": ("Linear SVM", -55.0, -92.0, -18.0)}
    return {
        "best": "xgboost", "chosen": "logistic_regression", "margin_per_week": 25.0, "sentence": sentence,
        "comparisons": [
            {
                "policy": name, "label": label, "not_worse": high > 0, "sentence": sentence,
                "difference": {"value": value, "low": low, "high": high},
            }
            for name, (label, value, low, high) in others.items()
        ],
    }  # fmt: skip


def made_up_gate(*, vetoed: bool = False) -> dict:
    "gate.json of a made-up run: seventeen checks."
    checks = [
        {
            "name": f"check_{place}", "title": f"Made-up check {place}", "passed": not (vetoed and place < 2),
            "severity": "veto", "figure": "0.86", "limit": "at least 0.80", "sentence": f"What check {place} found.",
        }
        for place in range(17)
    ]  # fmt: skip
    reasons = (
        ["It ranks the youngest too poorly.", "One row takes 9 ms; at most 5 ms are allowed."]
        if vetoed
        else []
    )
    return {
        "model": "logistic_regression", "label": "Logistic regression", "artifact": "ab12", "checks": checks,
        "verdict": "vetoed" if vetoed else "blessed", "reasons": reasons,
        "sentence": "Logistic regression must not be used." if vetoed else "Logistic regression may be released.",
    }  # fmt: skip


FAMILIES = {"recency": 2, "frequency": 5, "money": 5, "breadth": 4}
GROUPS = {
    "age": ("19-24", "25-34", "35-44", "45-54", "(missing)"),
    "income": ("under 35K", "35-74K", "75K and more"),
    "household_size": ("1", "2", "3 and more"),
    "tenure": ("first half year", "longer"),
}


def made_up_groups() -> dict:
    "Slices and fairness of a made-up diagnosis: the first group is worse beyond doubt."
    names = [(name, level) for name, levels in GROUPS.items() for level in levels]
    slices = [
        {
            "slice": name, "level": level, "rows": 900, "units": 150 + 40 * place, "positives": 120,
            "auc": interval(0.86 - (0.09 if place == 0 else 0.01 * math.sin(place)), 0.035),
            "average_precision": interval(0.47, 0.06), "calibration_gap": interval(0.004, 0.01), "profit_per_offer": None,
            "difference": interval(-0.09 if place == 0 else 0.01 * math.sin(place), 0.035),
            "p_value": 0.2, "p_adjusted": 0.9, "flagged": place == 0,
        }
        for place, (name, level) in enumerate(names)
    ]  # fmt: skip
    fairness = [
        {
            "slice": name, "offer_rate": {level: 0.05 + 0.012 * place for place, level in enumerate(levels)},
            "precision": {}, "recall": {}, "largest_gap": 0.012 * (len(levels) - 1),
            "level_high": levels[-1], "level_low": levels[0],
            "sentence": f"{levels[-1]} gets offers most often, {levels[0]} least.",
        }
        for name, levels in GROUPS.items()
    ]  # fmt: skip
    return {
        "slices": slices, "fairness": fairness,
        "too_small": [{"slice": "age", "level": "65+", "units": 31}],
        "worst_slice": {"slice": "age", "level": "19-24", "sentence": "It ranks those of age 19-24 worst: AUC 0.77 against 0.86."},
    }  # fmt: skip


def made_up_drivers() -> dict:
    "Importance, ablation, misses and leaks of a made-up diagnosis."
    features = [(f"{family}_{place}", family) for family, count in FAMILIES.items() for place in range(count)]
    permutation = [
        {"feature": name, "family": family, "importance": 0.1 / (place + 1), "sd": 0.004}
        for place, (name, family) in enumerate(features)
    ]
    shap = [
        {"feature": name, "family": family, "mean_absolute": 0.4 / (place + 1)}
        for place, (name, family) in enumerate(features)
    ]
    ablation = [
        {
            "family": family, "features": count, "profit_lost_per_week": interval(40 - 14 * place, 20),
            "average_precision_lost": interval(0.01, 0.01), "earns_its_keep": (True, True, None, False)[place],
        }
        for place, (family, count) in enumerate(FAMILIES.items())
    ]  # fmt: skip
    misses = [
        {
            "entity": 70 + place, "as_of": "2017-10-09 05:00:00", "probability": 0.04, "money_lost": 61.2 - place,
            "kind": "wasted offer" if place % 2 else "missed lapse",
            "told": [{"feature": "money_1", "value": 80.0, "contribution": -0.9}, {"feature": "recency_0", "value": 2.0, "contribution": -0.4}],
        }
        for place in range(6)
    ]  # fmt: skip
    leaks = [
        {"check": check, "feature": None, "figure": 0.8, "limit": 0.95, "verdict": "clean", "sentence": f"Nothing found by {check}."}
        for check in ("single feature", "collapse", "overlap")
    ]  # fmt: skip
    return {
        "importance": {"permutation": permutation, "shap": shap}, "ablation": ablation, "leaks": leaks,
        "misses": misses, "misses_sentence": "The worst misses were regular customers who left without a sign.",
    }  # fmt: skip


def made_up_diagnosis(currency: str = "USD") -> dict:
    "diagnosis.json of a made-up run, in the shape of the real one."
    bins = made_up_policy("x", "X", "candidate", 1300, shift=0, spread=100)["calibration"]
    edges = [place / 4 for place in range(-24, 13)]  # log odds
    weeks = [
        {
            "as_of": f"2017-{9 + (11 + 7 * week) // 31:02d}-{(11 + 7 * week) % 30 or 1:02d} 05:00:00", "rows": 2300,
            "auc": interval(0.86 - 0.004 * week, 0.02), "profit_per_week": interval(120 - 30 * (week == 3), 70),
            "against_rule": interval(70 - 90 * (week == 3), 60),
        }
        for week in range(6)
    ]  # fmt: skip
    return {
        "model": {"name": "logistic_regression", "label": "Logistic regression"},
        "currency": currency, "unit": "household", "unit_plural": "households",
        "operating_point": {
            "threshold": 0.12, "precision": 0.41, "recall": 0.2,
            "confusion": {"offered_lapsed": 984, "offered_stayed": 1416, "left_lapsed": 990, "left_stayed": 10410},
            "money": {"kept": 640.0, "wasted": 236.0, "missed": 410.0, "offers_cost": 400.0, "running": 25.0},
        },
        "calibration": {"bins": bins, "expected_error": 0.011, "slope": interval(1.02, 0.08), "intercept": interval(0, 0.1)},
        "scores": {
            "edges": edges,
            "lapsed": [round(90 * math.exp(-((x + 1.2) ** 2) / 4)) for x in edges[:-1]],
            "stayed": [round(900 * math.exp(-((x + 3.4) ** 2) / 4)) for x in edges[:-1]],
        },
        "weeks": weeks,
        "learning": [
            {
                "share": share, "units": round(2300 * share), "rows": round(34000 * share),
                "profit_per_week": interval(160 - 60 * (1 - share) ** 2, 60), "auc": interval(0.86, 0.01),
                "average_precision": interval(0.47, 0.03),
            }
            for share in (0.1, 0.25, 0.5, 0.75, 1.0)
        ],
        "learning_sentence": "More of the same data would add little: the last quarter added $4 a week, between −$12 and +$19.",
        "staleness": [
            {
                "weeks": age, "profit_per_week": interval(160 - 3 * age, 60), "auc": interval(0.86 - age / 1000, 0.01),
                "loss_per_week": interval(3 * age, 12),
            }
            for age in (0, 4, 8, 12)
        ],
        "staleness_sentence": "A model of twelve weeks ago earns $36 a week less, between −$3 and +$70: not enough evidence that it ages.",
        **made_up_groups(), **made_up_drivers(),
    }  # fmt: skip


def made_up_compact() -> dict:
    "compact.json of a made-up run."
    kinds = {"champion": 41_000, "student": 4_100, "pruned": 12_000, "quantised": 16_000}
    variants = [
        {
            "name": kind, "label": f"Made-up {kind}", "kind": kind, "size_bytes": size, "parity": {}, "auc": 0.86 - 0.004 * place,
            "average_precision": 0.47, "profit_per_week": interval(160 - 9 * place, 60), "loss_per_week": interval(9.0 * place, 12),
        }
        for place, (kind, size) in enumerate(kinds.items())
    ]  # fmt: skip
    return {
        "champion": "logistic_regression",
        "variants": variants,
        "chosen": "student",
        "sentence": "The student costs $9 a week and is a tenth of the size.",
    }


def made_up_tuning() -> dict:
    "tuned.json of a made-up run."
    settings = {"logistic_regression": {"c": 0.05}, "xgboost": {"learning_rate": 0.031, "max_depth": 4}}
    candidates = {
        name: {
            "settings": values, "value": 0.3, "default_value": 0.31, "profit_per_week": 130.0, "default_profit_per_week": 121.0,
            "trials": 40, "pruned": 12, "stopped": "trials", "importance": {key: 1 / len(values) for key in values},
        }
        for name, values in settings.items()
    }  # fmt: skip
    return {"fingerprint": "0123", "objective": "log_loss", "folds": [], "candidates": candidates}


def made_up_features() -> tuple[dict, dict, dict]:
    "features.json, train.json and feature_costs.json of a made-up run."
    families = FAMILIES | {"demographics": 3}
    features = [
        {
            "name": f"{family}_{place}", "kind": "number", "family": family,
            "meaning": f"A made-up measure of {family}, number {place}.", "source": "baskets",
            "window_days": 28 * place or None, "missing_share": 0.67 if family == "demographics" else 0.0,
        }
        for family, count in families.items()
        for place in range(count)
    ]  # fmt: skip
    shown = [feature for feature in features if feature["family"] != "demographics"]
    importance = [
        {"feature": row["name"], "family": row["family"], "importance": 0.2 / (place + 1), "sd": 0.004}
        for place, row in enumerate(shown)
    ]
    declared = {
        "entity": "household_id",
        "time": "as_of",
        "horizon_days": 28,
        "features": features,
        "slices": [],
    }
    candidates = [
        {
            "name": name, "label": label, "complexity": complexity, "rounds": None, "features": 16, "artifact": "ab12",
            "size_bytes": size, "settings": settings, "warnings": [], "validation": {},
        }
        for name, label, complexity, size, settings in (
            ("logistic_regression", "Logistic regression", 2, 41_000, {"c": 0.05}),
            ("xgboost", "XGBoost", 6, 410_000, {"learning_rate": 0.031, "max_depth": 4}),
        )
    ]  # fmt: skip
    failed = [{"name": "mlp", "label": "Neural network", "reason": "It did not converge in 200 rounds."}]
    trained = {"candidates": candidates, "failed": failed, "importance": {"logistic_regression": importance}}
    return declared, trained, {feature["name"]: 2.5 for feature in features}


def made_up_notebook(title: str) -> dict:
    "An executed notebook with every kind of output."
    figure = {"data": [{"type": "bar", "x": [1, 2], "y": [3, 4]}], "layout": {"title": {"text": "Two bars"}}}
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["a printed line\n"]},
        {"output_type": "display_data", "data": {"application/vnd.plotly.v1+json": figure}},
        {"output_type": "execute_result", "data": {"text/html": ["<table><tr><td>a cell</td></tr></table>"]}},
    ]
    return {
        "cells": [
            {
                "cell_type": "markdown",
                "source": [f"# {title}\n", "\n", f"> The made-up stage {title.lower()}."],
            },
            {"cell_type": "code", "source": "figure", "outputs": outputs},
        ]
    }


def made_up_attribution(root: Path) -> dict:
    "attribution.json of a made-up replay: two arms, a holdout, and not enough evidence."
    return json.loads((root / "tests/page/attribution.json").read_text())


def made_up_replay(root: Path) -> dict:
    "replay.json that belongs to it."
    return json.loads((root / "tests/page/replay.json").read_text())


def made_up_stop(raw: dict) -> dict:
    "The same after a hard stop: the stage leaves the figures out."
    sentence = "The arms should hold 36% and 36% of the households, and hold 38.7% and 30.6%."
    stop = {
        "kind": "sample ratio",
        "sentence": sentence,
        "examples": ["champion: 642 households, 754 expected"],
    }
    left_out = {
        key: []
        for key in (
            "lifts",
            "against_holdout",
            "guardrails",
            "over_time",
            "segments",
            "triggered",
            "money",
            "truth",
        )
    }
    decision = raw["decision"] | {
        "action": "hard stop",
        "arm": None,
        "headline": "No lift is shown",
        "sentence": sentence,
        "missing": ["The cause, found and mended."],
    }
    sample = raw["sample"] | {"stop": True, "p_value": 6.6e-06, "sentence": sentence}
    return (
        raw
        | left_out
        | {"stopped": stop, "decision": decision, "sample": sample, "evidence": None, "policy": None}
    )


def made_up_gain(raw: dict) -> dict:
    "The same, observed in a real rollout, with a gain beyond doubt that the rule ships."
    span = {"value": 22_316.0, "low": 19_930.0, "high": 24_703.0}
    money = [
        row | {"net": span, "per_month": span, "prob_positive": 0.9999} if row["arm"] == "champion" else row
        for row in raw["money"]
    ]
    decision = raw["decision"] | {
        "action": "ship",
        "headline": "Ship Logistic regression",
        "sentence": "It earns more than the rule.",
        "missing": [],
    }
    guards = [row | {"passed": True} for row in raw["guardrails"]]
    experiment = raw["experiment"] | {
        "replayed": False,
        "declared": None,
        "changes": ["horizon: 28 days → 49 days"],
    }
    return raw | {
        "money": money,
        "decision": decision,
        "guardrails": guards,
        "experiment": experiment,
        "truth": [],
    }


def write_project(folder: Path, root: Path, evaluation: dict | None) -> Path:
    "Lay out a project as the pipeline leaves it; without results when there is no evaluation."
    for name in ("params.yaml", ".streamlit"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, folder / name)
    if evaluation is None:
        return folder
    declared, trained, costs = made_up_features()
    data = {
        "source": "made-up:", "description": "A made-up shop for tests", "version": "0123456789ab", "checks": 42,
        "tables": [{"name": "baskets", "meaning": "", "rows": 1000, "last_event": "2018-01-01T04:59:00"}],
    }  # fmt: skip
    artefacts = {
        "reports/evaluation.json": evaluation, "reports/data.json": data, "reports/features.json": declared,
        "reports/train.json": trained, "state/feature_costs.json": costs,
        "reports/diagnosis.json": made_up_diagnosis(evaluation["currency"]), "reports/gate.json": made_up_gate(),
        "reports/attribution.json": made_up_attribution(root), "reports/replay.json": made_up_replay(root),
        "reports/compact.json": made_up_compact(), "reports/tuned.json": made_up_tuning(),
        "state/gate_measured.json": {"model": "logistic_regression", "speed": {"one_row_ms": 0.009}},
        "state/compact_speed.json": {"champion": {"one_row_ms": 0.011, "rows_per_second": 900_000}},
        "data/features/schema.json": made_up_schema(declared),
        "reports/notebooks/data.ipynb": made_up_notebook("Data"),
        "reports/notebooks/evaluate.ipynb": made_up_notebook("Evaluate"),
        "reports/notebooks/attribution.ipynb": made_up_notebook("Attribution"),
    }  # fmt: skip
    for name, content in artefacts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    (folder / "reports/notebooks/evaluate.html").write_text("<h1>Evaluate</h1>")
    count = 400
    offers = {
        "household_id": [7 * row % 2500 for row in range(count)], "rank": list(range(1, count + 1)),
        "probability": [0.9 - row / 600 for row in range(count)],
        "usual_weekly_spend": [80 - row / 10 for row in range(count)],
        "expected_profit": [30 - row / 14 for row in range(count)], "days_since_basket": [30] * count,
    }  # fmt: skip
    pq.write_table(pa.table(offers), folder / "data/offers.parquet")
    write_explanations(folder, declared)
    return folder


def made_up_schema(declared: dict) -> dict:
    "schema.json of a made-up run: one of the features is the usual spend."
    features = [{name: row[name] for name in ("name", "kind", "family")} for row in declared["features"]]
    names = {
        "entity": "household_id",
        "time": "as_of",
        "slice": "slice",
        "label": "lapsed",
        "value": "next_spend",
    }
    return names | {"horizon_days": 28, "usual_weekly_spend": "money_0", "features": features}


def write_explanations(folder: Path, declared: dict) -> None:
    "Why every unit has its chance, and the snapshots that say what is usual."
    names, units = [row["name"] for row in declared["features"]], list(range(2500))
    values = {name: [float((unit * (3 + place)) % 97) for unit in units] for place, name in enumerate(names)}
    told = [
        [
            {
                "feature": name,
                "value": values[name][unit],
                "contribution": math.sin(unit + place) / (place + 1),
            }
            for place, name in enumerate(names)
        ]
        for unit in units
    ]
    odds = [-1.8 + sum(line["contribution"] for line in lines) for lines in told]
    chances = [1 / (1 + math.exp(-value)) for value in odds]
    columns = {
        "household_id": units,
        "probability": chances,
        "base": [-1.8] * len(units),
        "contributions": told,
    }
    pq.write_table(pa.table(columns), folder / "data/explanations.parquet")
    slices = {"household_id": units, "slice": ["next"] * len(units)}
    pq.write_table(pa.table(slices | values), folder / "data/features/snapshots.parquet")


@pytest.fixture
def evaluation() -> Callable[..., dict]:
    "Make an evaluation: evaluation(currency='EUR', scale=…, shift=…, spread=…)."
    return made_up_evaluation


@pytest.fixture
def gate() -> Callable[..., dict]:
    "Make a verdict: gate(vetoed=True)."
    return made_up_gate


@pytest.fixture
def attribution(root: Path) -> Callable[..., dict]:
    "Make an attribution: attribution(), attribution(kind='stop') or attribution(kind='gain')."
    kinds = {"": dict, "stop": made_up_stop, "gain": made_up_gain}
    return lambda kind="": kinds[kind](made_up_attribution(root))


@pytest.fixture
def made_up_project(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict | None], Path]:
    "Make a project around an evaluation and go there."

    def make(evaluation: dict | None, attribution: dict | None = None) -> Path:
        monkeypatch.chdir(write_project(tmp_path, root, evaluation))
        if attribution is not None:
            (tmp_path / "reports" / "attribution.json").write_text(json.dumps(attribution))
        return tmp_path

    return make


@pytest.fixture
def page(root: Path) -> Callable[..., object]:
    "Run the page in the current folder: page() for the answer, page('views/why.py', id='7') for another."
    from streamlit.testing.v1 import AppTest

    def run(view: str | None = None, **query: str) -> AppTest:
        test = AppTest.from_file(str(root / "app" / "main.py"), default_timeout=60)
        test.query_params.update(query)
        return test.run() if view is None else test.switch_page(view).run()

    return run


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve(folder: Path, root: Path) -> Iterator[str]:
    "Serve the page of a project as a user would start it; yields its address."
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(root / "app" / "main.py")]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLIT_")}
    server = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    server.kill()
                    pytest.fail(f"the page did not start:\n{server.communicate()[0]}")
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.communicate(timeout=30)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[str]:
    "Address of the page, showing a made-up project."
    yield from serve(write_project(tmp_path_factory.mktemp("shop"), root, made_up_evaluation()), root)


@pytest.fixture(scope="session")
def served_empty(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[str]:
    "Address of the page in a project that nothing has been run in."
    yield from serve(write_project(tmp_path_factory.mktemp("empty"), root, None), root)
