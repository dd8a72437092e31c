"""A release says what it was made from, and is not made of what is not one run."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release.provenance import (
    HELD,
    LINEAGE,
    check_committed,
    commit_of,
    dvc_hash,
    made_with,
    origin_of,
    section_hash,
)

DECLARING = "ml_workbench/data/definitions.py"


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def run(tmp_path: Path) -> Path:
    "What a run left behind, as far as it is looked at here, in a repository."
    root = tmp_path / "project"
    for path in (DECLARING, *HELD):
        file = root / (path if Path(path).suffix else f"{path}/table.parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"what {path} holds")
    (root / "params.yaml").write_text("train: {C: 0.00001, seed: 1}\nother: 1\n")
    stages = {name: {"params": {"params.yaml": {"train": {"seed": 1, "C": "1e-05"}}}} for name in LINEAGE}
    stages["features"] |= {"deps": [{"path": DECLARING, "md5": dvc_hash(root / DECLARING)}]}
    stages["train"] |= {"outs": [{"path": path, "md5": dvc_hash(root / path)} for path in HELD]}
    stages["data"] |= {"outs": [{"path": "data/tables", "md5": "ab.dir"}]}
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    (root / ".gitignore").write_text("/data/\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first", "--date", "2024-07-15T08:00:00+02:00")
    return root


def test_a_run_says_what_it_was_made_from(run: Path):
    origin = origin_of(run)
    assert origin.commit == git(run, "rev-parse", "HEAD").strip() and origin.dirty == ()
    assert origin.data == {"data/features": dvc_hash(run / "data/features"), "data/tables": "ab.dir"}
    assert set(origin.sections) == {"train", "other"} and origin.versions["numpy"]


def test_the_time_is_the_commits_in_utc(run: Path, monkeypatch):
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2024-07-15T08:00:00+02:00")
    git(run, "commit", "-q", "--allow-empty", "-m", "second")
    assert origin_of(run).committed_at == "2024-07-15T06:00:00Z"


def test_the_same_commit_elsewhere_is_the_same_origin(run: Path, tmp_path):
    shutil.copytree(run, tmp_path / "elsewhere")
    assert origin_of(tmp_path / "elsewhere") == origin_of(run)


def test_outside_a_repository_there_is_no_commit(run: Path):
    shutil.rmtree(run / ".git")
    assert commit_of(run) == (None, None, ()) and origin_of(run).commit is None


def test_a_repository_without_a_commit_has_none(tmp_path):
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path) == (None, None, ())


@pytest.mark.parametrize("path", ["ml_workbench/new.py", "nbs/data/new.ipynb", "params.yaml", DECLARING])
def test_code_that_is_not_committed_is_refused_with_what_to_do(run: Path, path: str):
    (run / path).parent.mkdir(parents=True, exist_ok=True)
    with (run / path).open("a") as file:
        file.write("\n# more\n")
    with pytest.raises(
        ReleaseError, match=r"not as in the commit\. Commit first, or release with --allow-dirty"
    ) as told:
        origin_of(run)
    assert path in str(told.value)


def test_code_that_is_not_committed_can_be_allowed_and_is_listed(run: Path):
    (run / "ml_workbench/new file.py").write_text("")
    assert origin_of(run, allow_dirty=True).dirty == ("ml_workbench/new file.py",)


def test_what_is_no_code_is_listed_and_stops_nothing(run: Path):
    (run / "notes.txt").write_text("hello")
    assert origin_of(run).dirty == ("notes.txt",)


def test_a_project_below_the_root_of_a_repository_is_looked_at_alone(run: Path, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q")
    shutil.rmtree(run / ".git")
    run.rename(repository / "project")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "all")
    (repository / "outside.txt").write_text("hello")
    (repository / "project/params.yaml").write_text("train: {C: 0.00001, seed: 1}\nother: 2\n")
    assert commit_of(repository / "project")[2] == ("params.yaml",)


def test_many_files_are_told_as_a_few_and_a_number():
    with pytest.raises(ReleaseError, match=r"nbs/0, nbs/1, nbs/2 and 5 more: not as in the commit"):
        check_committed(tuple(f"nbs/{number}" for number in range(8)))


# One run? ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "params.yaml").write_text("train: {C: 0.00002, seed: 1}\n"), "section train of params.yaml has changed since stage data ran"),
        (lambda root: (root / "params.yaml").write_text("other: 1\n"), "section train of params.yaml has changed"),
        (lambda root: (root / DECLARING).write_text("other"), f"{DECLARING} has changed since stage features ran"),
        (lambda root: (root / "data/features/table.parquet").write_text("other"), "data/features is not what its stage wrote"),
        (lambda root: (root / "data/features/more.parquet").write_text("more"), "data/features is not what its stage wrote"),
        (lambda root: (root / "data/predictions.parquet").unlink(), r"data/predictions\.parquet is not what its stage wrote"),
        (lambda root: shutil.rmtree(root / "data/features"), "data/features is not what its stage wrote"),
    ],
    ids=["section", "no section", "declaration", "data", "more data", "no predictions", "no features"],
)  # fmt: skip
def test_what_is_not_of_the_run_is_named_with_what_to_do(run: Path, change, said: str):
    change(run)
    with pytest.raises(ReleaseError, match=f"{said}.*: run `dvc repro`"):
        origin_of(run, allow_dirty=True)


def test_a_comment_or_another_order_of_keys_changes_nothing(run: Path):
    (run / "params.yaml").write_text("# new\nother: 1\ntrain:\n  seed: 1\n  C: 0.00001 # small\n")
    assert origin_of(run, allow_dirty=True).sections == {
        "other": section_hash(1),
        "train": section_hash({"C": 1e-5, "seed": 1}),
    }


@pytest.mark.parametrize("lock", [None, "", "stages: {}", "stages: [1]", "{", "\xff"])
def test_without_a_whole_run_there_is_no_release(run: Path, lock: str | None):
    (run / "dvc.lock").unlink() if lock is None else (run / "dvc.lock").write_text(lock, encoding="latin-1")
    with pytest.raises(ReleaseError, match="run `dvc repro`"):
        origin_of(run, allow_dirty=True)


def test_our_hash_of_an_output_is_the_one_of_dvc(produced: Path):
    stages = yaml.safe_load((produced / "dvc.lock").read_text())["stages"]
    outs = {each["path"]: each["md5"] for stage in ("features", "train") for each in stages[stage]["outs"]}
    for path in ("data/features", "models"):
        listed = {
            each.relative_to(produced / path).as_posix()
            for each in (produced / path).rglob("*")
            if each.is_file()
        }
        assert listed and dvc_hash(produced / path) == outs[path], path


def test_packages_are_named_with_their_versions():
    assert {"numpy", "onnxruntime", "duckdb"} <= {*made_with()} and json.dumps(made_with())
