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
        "proposal": {
            "policy": chosen, "label": "Logistic regression",
            "reason": "the simplest candidate that is not worse than the best",
            "beats_rule": enough, "enough_evidence": enough, "offers_per_week": 400,
            "sentence": sentence, "who": who,
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


def made_up_features() -> tuple[dict, dict, dict]:
    "features.json, train.json and feature_costs.json of a made-up run."
    families = {"recency": 2, "frequency": 5, "money": 5, "breadth": 4, "demographics": 3}
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
    candidates = [{"name": "logistic_regression", "label": "Logistic regression", "complexity": 1}]
    trained = {"candidates": candidates, "importance": {"logistic_regression": importance}}
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
        "reports/notebooks/data.ipynb": made_up_notebook("Data"),
        "reports/notebooks/evaluate.ipynb": made_up_notebook("Evaluate"),
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
    (folder / "data").mkdir()
    pq.write_table(pa.table(offers), folder / "data/offers.parquet")
    return folder


@pytest.fixture
def evaluation() -> Callable[..., dict]:
    "Make an evaluation: evaluation(currency='EUR', scale=…, shift=…, spread=…)."
    return made_up_evaluation


@pytest.fixture
def made_up_project(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict | None], Path]:
    "Make a project around an evaluation and go there."

    def make(evaluation: dict | None) -> Path:
        monkeypatch.chdir(write_project(tmp_path, root, evaluation))
        return tmp_path

    return make


@pytest.fixture
def page(root: Path) -> Callable[..., object]:
    "Run the page in the current folder: page() for the answer, page('views/features.py') for another."
    from streamlit.testing.v1 import AppTest

    def run(view: str | None = None) -> AppTest:
        test = AppTest.from_file(str(root / "app" / "main.py"), default_timeout=60)
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
