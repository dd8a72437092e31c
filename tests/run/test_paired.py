"""The paired difference of two runs, from files that DVC's cache holds: on a small project laid out as DVC lays it out."""

import json
import subprocess
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ml_workbench.model.evaluation import judge, metrics_json, policies_of
from ml_workbench.model.metrics import interval_of
from ml_workbench.model.snapshots import Schema, schema_from
from ml_workbench.model.value import panel_of
from ml_workbench.plan.charter import Charter
from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.run.compare import of_policy
from ml_workbench.run.history import Revision, Run, runs
from ml_workbench.run.paired import cache, earned, held, paired

NAMES = dict(
    zip(("entity", "time", "slice", "label", "value"), ("member", "as_of", "slice", "left", "spend"))
)
FEATURES = [
    {"name": "weekly", "kind": "number", "family": "money"},
    {"name": "days", "kind": "number", "family": "recency"},
]
RAW = NAMES | {"horizon_days": 28, "usual_weekly_spend": "weekly", "features": FEATURES}
SCHEMA: Schema = schema_from(RAW)
CANDIDATES = [
    {"name": name, "label": name.title(), "complexity": place, "settings": {}}
    for place, name in enumerate(("plain", "fancy"), 2)
]
HERE = Revision("workspace")


def charter() -> dict:
    today = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())["charter"]
    baseline = {"feature": "days", "order": "descending", "meaning": "those longest away"}
    economics = today["economics"] | {"run_in_weeks": 1}
    return today | {"capacity_per_week": 20, "baseline": baseline, "economics": economics}


def snapshots() -> pd.DataFrame:
    "Four weeks of two hundred members; who stays away longer leaves more often."
    random, weeks = np.random.default_rng(7), pd.date_range("2024-01-01", periods=4, freq="7D")
    rows = pd.DataFrame(
        [(member, week) for week in weeks for member in range(200)], columns=["member", "as_of"]
    )
    rows["days"], rows["weekly"] = (
        random.gamma(2, 10, 800).astype("float32"),
        random.gamma(2, 20, 800).astype("float32"),
    )
    rows["left"] = (random.random(800) < rows["days"] / 90).astype("int8")
    rows["spend"], rows["slice"] = 0.0, "test"
    return rows


class Shop:
    "A project whose outputs are in DVC's cache."

    def __init__(self, root: Path) -> None:
        self.root, self.outs = root, {}
        (root / "reports").mkdir()
        self.rows = snapshots()
        chance = (self.rows["days"] / 90).clip(0.01, 0.9)
        noise = np.random.default_rng(8).normal(0, 0.1, len(chance))
        self.predictions = self.rows[["member", "as_of", "slice"]].assign(
            plain=(chance + noise).clip(0.01, 0.99), fancy=chance
        )
        self.parameters = {"charter": charter(), "evaluate": {"seed": 3, "resamples": 400, "confidence": 0.9}}
        self.produce()

    def keep(self, content: bytes, suffix: str = "") -> str:
        name = md5(content).hexdigest() + suffix
        path = cache(self.root) / "files" / "md5" / name[:2] / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name

    def produce(self) -> None:
        "Write what features, train and evaluate leave behind."
        parts = {"schema.json": json.dumps(RAW).encode(), "snapshots.parquet": self.rows.to_parquet()}
        listing = [{"md5": self.keep(content), "relpath": name} for name, content in parts.items()]
        outs = {
            "data/features": self.keep(json.dumps(listing).encode(), ".dir"),
            "data/predictions.parquet": self.keep(self.predictions.to_parquet()),
        }
        stages = {"train": {"outs": [{"path": path, "md5": name} for path, name in outs.items()]}, "idle": {}}
        terms = Charter.model_validate(self.parameters["charter"])
        joined = self.rows.assign(plain=self.predictions["plain"], fancy=self.predictions["fancy"])
        panel = panel_of(joined, SCHEMA, terms.economics)
        self.results = judge(
            policies_of(joined, CANDIDATES, SCHEMA, terms), panel, terms,
            offers_step=10, offers_max=40, **self.parameters["evaluate"],
        )  # fmt: skip
        metrics = metrics_json(self.results)
        metrics["proposal"] = {"policy": "fancy", **metrics["fancy"]}
        for path, content in {
            "dvc.lock": yaml.safe_dump({"stages": stages}),
            "params.yaml": yaml.safe_dump(self.parameters),
            "reports/metrics.json": json.dumps(metrics),
            "reports/train.json": json.dumps({"candidates": CANDIDATES}),
        }.items():
            (self.root / path).write_text(content)

    def commit(self) -> None:
        "Commit everything but the cache."
        (self.root / ".gitignore").write_text(".dvc\n")
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "A run"]):
            subprocess.run(["git", *who, *command], cwd=self.root, check=True)

    def run(self, policy: str = "") -> Run:
        return of_policy(runs(self.root, ["workspace"]), policy)[0]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_the_difference_is_the_one_that_the_evaluation_would_have_drawn(shop):
    found = paired(shop.root, shop.run("plain"), shop.run("fancy"))
    plain, fancy = shop.results[:2]
    rate = charter()["economics"]["save_rate"]["value"]
    wanted = interval_of(fancy.draws.profit(rate) - plain.draws.profit(rate), 0.9)
    assert found.reason == ""
    assert tuple(found.span) == pytest.approx((wanted.value, wanted.low, wanted.high))


def test_the_running_cost_of_a_model_is_part_of_the_difference_to_the_rule(shop):
    found = paired(shop.root, shop.run("rule"), shop.run("fancy"))
    assert found.span.value == pytest.approx(shop.results[1].against_rule.value)


def test_a_run_differs_from_itself_by_nothing(shop):
    assert tuple(paired(shop.root, shop.run(), shop.run()).span) == (0.0, 0.0, 0.0)


def test_the_profit_on_record_is_found_again_unit_by_unit(shop):
    found = earned(shop.root, shop.run())
    assert found.per_week.sum() - found.running == pytest.approx(
        shop.results[1].at_capacity.profit_per_week.value
    )
    assert len(found.units) == 200 and found.rows == 800


def test_a_profit_that_cannot_be_found_again_gets_no_interval(shop):
    run = shop.run()
    told = {name: figures | {"profit_per_week": 1.0} for name, figures in run.metrics.items()}
    found = paired(shop.root, run, replace(run, metrics=told))
    assert found.span is None and found.reason.endswith(
        "judged by other rules than today's: its profit cannot be recomputed"
    )


@pytest.mark.parametrize("lost", ["predictions", "lock", "cache"])
def test_predictions_that_are_gone_are_said_to_be_gone(shop, lost):
    if lost == "lock":
        (shop.root / "dvc.lock").unlink()
    elif lost == "cache":
        (shop.root / ".dvc").rename(shop.root / "elsewhere")
    else:
        held(shop.root, HERE, "data/predictions.parquet").unlink()
    found = paired(shop.root, shop.run(), shop.run())
    assert (
        found.span is None
        and found.reason == "the predictions of workspace are not in this machine's DVC cache"
    )


def test_a_broken_file_in_the_cache_is_no_crash(shop):
    held(shop.root, HERE, "data/predictions.parquet").write_bytes(b"PAR1 half")
    assert "was recorded in another form than today's" in paired(shop.root, shop.run(), shop.run()).reason


def test_runs_counted_on_other_terms_have_no_difference(shop):
    run = shop.run()
    other = replace(run, params=run.params | {"charter.capacity_per_week": 30})
    assert paired(shop.root, run, other).reason == "profit is not counted alike: charter.capacity_per_week"


def test_runs_judged_on_other_rows_have_no_difference(shop):
    shop.commit()
    shop.rows["left"] = 1 - shop.rows["left"]
    shop.produce()
    before, after = runs(shop.root, ["HEAD", "workspace"])
    assert paired(shop.root, before, after).reason == "the two were judged on different rows"


def test_a_commits_predictions_are_compared_with_the_workspaces(shop):
    shop.commit()
    shop.predictions["fancy"] = shop.predictions["plain"]
    shop.produce()
    before, after = runs(shop.root, ["HEAD", "workspace"])
    found = paired(shop.root, before, after)
    assert found.span.value == pytest.approx(
        shop.results[0].draws.profit(0.15)[0]
        - earned(shop.root, before).per_week.sum()
        + charter()["economics"]["running_cost_per_week"]
    )


def test_a_run_without_profit_has_no_difference(shop):
    silent = replace(shop.run(), metrics={"proposal": {"policy": "fancy"}})
    assert paired(shop.root, silent, shop.run()).reason == "one of the runs has no profit on record"


def test_a_policy_that_nobody_trained_is_named(shop):
    with pytest.raises(WorkbenchError, match="workspace was recorded in another form"):
        earned(shop.root, replace(shop.run(), policy="unknown"))


def test_a_charter_from_before_a_key_existed_is_read_with_todays(shop):
    today = (shop.root / "params.yaml").read_text()
    del shop.parameters["charter"]["guardrails"]
    (shop.root / "params.yaml").write_text(yaml.safe_dump(shop.parameters))
    shop.commit()
    (shop.root / "params.yaml").write_text(today)
    before, after = runs(shop.root, ["HEAD", "workspace"])
    assert tuple(paired(shop.root, before, after).span) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("config", "folder"),
    [("", ".dvc/cache"), ("[cache]\n    dir = ../shared", ".dvc/../shared"), ("[[", ".dvc/cache")],
)
def test_the_cache_is_where_dvc_is_told_to_keep_it(tmp_path, config, folder):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(config)
    assert cache(tmp_path) == tmp_path / folder
