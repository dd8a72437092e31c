"""A shop in miniature, and real releases made of it: features computed, a candidate fitted, a bundle put together."""

import json
from dataclasses import replace
from datetime import datetime
from functools import cache

import duckdb
import numpy as np
import pandas as pd

from ml_workbench.data.declarations import Attribute, Feature, FeatureSet, Relation
from ml_workbench.data.features import compute_features, compute_labels, select_snapshots
from ml_workbench.model.artifact import MANIFEST, files_of, manifest_of
from ml_workbench.model.candidates import Fitted, candidate_named, fit_candidate
from ml_workbench.model.snapshots import Feature as Column
from ml_workbench.model.snapshots import Schema
from ml_workbench.plan.charter import Charter
from ml_workbench.plan.experiment import Experiment
from ml_workbench.plan.params import TrainParams
from ml_workbench.release.bundle import FOLDER, Bundle, Origin, bundle_of
from ml_workbench.release.declaration import DECLARATION, columns_in, declaration_bytes, declaration_hash
from ml_workbench.release.policy import POLICY, terms_for
from ml_workbench.release.reference import REFERENCE, Slice, reference_bytes, reference_of

WEEKS = tuple(
    datetime(2024, *day, 5) for day in ((4, 1), (5, 6), (6, 10), (7, 15))
)  # train, validation, test, next
SLICES = ("train", "validation", "test", "next")
RECEIPTS = "SELECT member, bought_at AS time, CAST(spent AS DECIMAL(18, 4)) AS spent FROM receipts"
DECLARED = FeatureSet(
    "member",
    (
        Relation("visits", RECEIPTS, "Visits to the till"),
        Relation("people", "SELECT member, town FROM people", "Members", None),
    ),
    (
        Feature("days_since_visit", "date_diff('day', max(time), as_of)", "visits", None, "Days since a visit", "recency"),
        Feature("visits_4w", "count(*)", "visits", 28, "Visits in four weeks", "frequency", 0.0),
        Feature("usual_weekly_spend", "CAST(sum(spent) AS DOUBLE) / 12", "visits", 84, "Spend in a usual week", "money"),
    ),
    attributes=(Attribute("town", "town", "people", "Where the member lives", "people"),),
    labels=(
        Feature("lapsed", "CAST(count(*) = 0 AS TINYINT)", "visits", 28, "No visit in four weeks", "label", 1.0),
        Feature("next_spend", "CAST(COALESCE(sum(spent), 0) AS DOUBLE)", "visits", 28, "Spend in them", "label", 0.0),
    ),
)  # fmt: skip
SCHEMA = Schema(
    "member", "as_of", "slice", "lapsed", "next_spend", 28, "usual_weekly_spend",
    tuple(Column(each.name, each.kind, each.family) for each in DECLARED.columns),
)  # fmt: skip
CHARTER = Charter.model_validate({
    "title": "Letters to members", "decision": "Who gets a letter this week", "action": "Send a letter",
    "unit": "member", "unit_plural": "members", "kpi": "margin kept, net of letters", "currency": "EUR",
    "capacity_per_week": 20, "minimum_lift_per_week": 1.0, "guardrails": [], "owner": "Ann", "review_date": "2025-01-01",
    "decision_rule": "The simplest that is not worse",
    "economics": {
        "gross_margin": 0.3, "offer_cost": 1.0, "value_weeks": 12, "cooldown_days": 28, "running_cost_per_week": 1.0,
        "save_rate": {"value": 0.2, "low": 0.1, "high": 0.3, "status": "assumption", "source": "A guess"},
    },
    "baseline": {"feature": "days_since_visit", "order": "descending", "meaning": "the members longest away"},
})  # fmt: skip
EXPERIMENT = Experiment.model_validate({
    "name": "letters-1", "namespace": "letters", "holdout": 0.1, "control": "control", "primary": "spend",
    "arms": [
        {"name": "control", "policy": "rule", "weight": 0.4},
        {"name": "champion", "policy": "proposed", "weight": 0.4},
        {"name": "challenger", "policy": "proposed", "weight": 0.2},
    ],
    "metrics": [{"name": "spend", "label": "spend", "kind": "revenue", "outcome": "visit", "of": "sum"}],
    "covariates": ["usual_weekly_spend"], "horizon_days": 28,
})  # fmt: skip
SETTINGS = {
    "xgboost": {"rounds": 30, "patience": 10, "learning_rate": 0.2, "max_depth": 3, "min_child_weight": 2.0},
    "random_forest": {"n_estimators": 20},
}
TRAINING = {
    "withheld_families": [],
    "use_tuned": False,
    "settings": {},
    "calibration": "sigmoid",
    "spend": ["naive"],
}


@cache
def tables(seed: int = 1, members: int = 300) -> dict[str, pd.DataFrame]:
    "Receipts and people, as a source holds them: receipts(member, bought_at, spent), people(member, town)."
    random = np.random.default_rng(seed)
    often, basket = random.gamma(2.0, 0.6, members), random.exponential(30, members)
    until = random.uniform(20, 260, members)  # the day on which a member is seen last
    who = np.repeat(np.arange(1, members + 1), random.poisson(often * until / 7))
    day = random.uniform(0, until[who - 1])
    at = pd.Timestamp("2024-01-01 05:00") + pd.to_timedelta((day * 86_400).astype(int), unit="s")
    receipts = pd.DataFrame(
        {
            "member": who,
            "bought_at": at.astype("datetime64[us]"),
            "spent": (basket[who - 1] * random.gamma(4, 0.25, len(who))).round(2),
        }
    )
    towns = random.choice(["Arles", "Bath", None], members, p=[0.5, 0.4, 0.1])
    return {
        "receipts": receipts,
        "people": pd.DataFrame({"member": np.arange(1, members + 1), "town": towns}),
    }


@cache
def snapshots(seed: int = 1, members: int = 300) -> pd.DataFrame:
    "Features and labels of every member at four dates, as the features stage writes them; not to be changed."
    with duckdb.connect() as connection:
        for name, table in tables(seed, members).items():
            connection.register(name, table)
        select_snapshots(connection, DECLARED, WEEKS, source="visits", active_days=84)
        compute_features(connection, DECLARED)
        compute_labels(connection, DECLARED, known_until=WEEKS[-1])
        rows = connection.sql(
            "SELECT * FROM features JOIN labels USING (member, as_of) ORDER BY as_of, member"
        ).df()
    return rows.assign(slice=rows["as_of"].map(dict(zip(map(pd.Timestamp, WEEKS), SLICES))))


def members(slice: str = "next", seed: int = 1) -> pd.DataFrame:
    "The members of one date, with their features."
    rows = snapshots(seed)
    return rows[rows["slice"] == slice].reset_index(drop=True)


@cache
def fitted_model(name: str = "logistic_regression", seed: int = 1) -> Fitted:
    "A candidate, fitted on the members of the first date."
    training = TrainParams(seed=seed, candidates=[name], threads=1, **TRAINING)
    train, validation = members("train", seed), members("validation", seed)
    return fit_candidate(
        candidate_named(name),
        SCHEMA,
        training,
        train=train,
        validation=validation,
        settings=SETTINGS.get(name),
    )


@cache
def small_bundle(
    name: str = "logistic_regression",  # or xgboost, or another candidate
    seed: int = 1,  # another seed, another shop and another release
    *,
    rank_by: str = "usual_spend",
    note: str = "",  # another note, another release of the same model
    experiment: Experiment = EXPERIMENT,
) -> Bundle:
    "A release of a candidate that was really fitted, without signature."
    fitted, validation = fitted_model(name, seed), members("validation", seed)
    model, latest = files_of(fitted, SCHEMA, validation), members("next", seed)
    declaration = declaration_bytes(DECLARED)
    terms = terms_for(
        CHARTER, experiment, SCHEMA, columns_in(declaration), declaration_hash(declaration), latest,
        fitted.probability(latest), activity="visits", active_days=84, rank_by=rank_by,
    )  # fmt: skip
    files = {
        **{FOLDER + file: data for file, data in model.items()},
        FOLDER + MANIFEST: manifest_of(name, model).as_bytes(),
        DECLARATION: declaration,
        POLICY: terms.as_bytes(),
        "params.yaml": f"seed: {seed}\n".encode(),
        REFERENCE: _reference(fitted, seed),
        "metrics.json": json.dumps(METRICS).encode(),
        "verdict.json": b"{}\n",
        "environment.lock": b"some==1.0\n",
        "card.md": f"# {fitted.candidate.label}\n\n{note}\n".encode(),
    }
    return bundle_of(files, origin=ORIGIN, metrics=METRICS)


def _reference(fitted: Fitted, seed: int) -> bytes:
    "reference.json: the training and the test date, summarised."
    parts = {}
    for name in ("train", "test"):
        rows = members(name, seed)
        columns = {each: rows[each].to_numpy() for each in rows}
        for each in SCHEMA.of_kind("number"):
            columns[each] = np.ma.masked_invalid(columns[each].astype(np.float64))
        parts[name] = Slice(
            columns, fitted.probability(rows), {"proposed": (20, len(rows)), "rule": (20, len(rows))}
        )
    names = {"entity": SCHEMA.entity, "time": SCHEMA.time, "label": SCHEMA.label}
    return reference_bytes(reference_of(parts, columns_in(declaration_bytes(DECLARED)), **names))


def signed_by(bundle: Bundle, private: str) -> Bundle:
    "The same release with a signature."
    from ml_workbench.release.signing import signed

    return replace(bundle, signature=signed(bundle.release.as_bytes(), private))


ORIGIN = Origin(
    commit="0" * 40, committed_at="2024-07-15T06:00:00Z", dirty=(), data={}, params="0" * 64, sections={},
    python="3.11.7", versions={},
)  # fmt: skip
METRICS = {
    "currency": "EUR", "confidence": 0.95, "test": {"first": "2024-06-10 05:00:00", "last": "2024-06-10 05:00:00"},
    "auc": {"value": 0.8, "low": 0.75, "high": 0.85},
    "average_precision": {"value": 0.5, "low": 0.4, "high": 0.6},
    "profit_per_month": {"value": 100.0, "low": 50.0, "high": 150.0},
    "against_rule_per_month": {"value": 60.0, "low": 10.0, "high": 110.0},
}  # fmt: skip
