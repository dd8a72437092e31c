"""What git may hold."""

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000
TOP = {
    "nbs", "ml_workbench", "app", "tests", "benchmarks", "reports", "deploy", "docs", "dvc.yaml", "dvc.lock",
    "params.yaml", "settings.ini", "pyproject.toml", "Makefile", "README.md", "CONTRIBUTING.md", "LICENSE",
    "requirements.lock", ".github", ".ci", ".dvc", ".dvcignore", ".streamlit", ".pre-commit-config.yaml",
    ".gitignore", ".gitattributes",
}  # fmt: skip
# Folders of one machine, hosts of a package registry, and addresses that mean something on one network only.
PRIVATE = re.compile(
    r"(?<![\w.])/(?:work|root|(?:home|Users)(?!/(?:me|you|user)\b))/[\w.]+"
    r"|https?://(?:[\w.-]*\.)?(?:pypi|pythonhosted|npmjs|debian)\.\w+/"
    r"|(?<![\d.])(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+(?![\d.])"
    r"|https?://[^\s/@]+:[^\s/@]+@"
)


def private(text: str) -> list[str]:
    "What in a text belongs to one machine."
    return [match[0] for match in PRIVATE.finditer(text)]


def test_the_top_level_holds_what_it_should_and_little_else(tracked):
    assert {path.parts[0] for path in tracked} - TOP == set()


def test_no_file_is_large(tracked):
    large = {str(path): size for path in tracked if (size := (ROOT / path).stat().st_size) > MEGABYTE}
    assert large == {}


def test_the_reports_in_git_are_small_together(tracked):
    sizes = [(ROOT / path).stat().st_size for path in tracked if path.parts[0] == "reports"]
    assert sum(sizes) < 2 * MEGABYTE


def test_nothing_in_git_belongs_to_one_machine(tracked):
    found = {}
    for path in tracked:
        if path != Path(__file__).relative_to(ROOT):
            text = (ROOT / path).read_bytes().decode("utf-8", errors="ignore")
            if hits := private(text):
                found[str(path)] = hits[:3]
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "/home/ada/data", "'/root/.cache'", "https://pypi.org/simple", "10.1.2.3", "192.168.0.7",
        "/Users/ada", "https://user:token@example.org/", "file:///work/main/a.parquet",
    ],
)  # fmt: skip
def test_what_belongs_to_one_machine_is_recognised(text):
    assert private(text)


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "/home/me/data", "ml_workbench/data", "2.10.1.0.3", "nbs/home/x", "1.10.0.0.1"]
)
def test_what_does_not_is_left_alone(text):
    assert private(text) == []


def test_nothing_produced_or_secret_can_be_committed_by_mistake(tmp_path):
    paths = [
        ".env", "data/tables/baskets.parquet", "models/xgboost.skops", "state/workbench.db", ".venv/bin/python",
        "reports/notebooks/data.html", "nbs/plan/.ipynb_checkpoints/x.ipynb", "ml_workbench/__pycache__/x.pyc",
        "test-artefacts/page.png", "dist/x.whl", "data/.offers.parquet.tmp",
    ]  # fmt: skip
    done = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True)
    assert set(paths) - set(done.stdout.splitlines()) == set()


@pytest.mark.parametrize(
    "path",
    ["reports/data.json", "dvc.lock", "README.md", "nbs/stages/data.ipynb", "tests/data/test_sources.py"],
)
def test_what_must_be_committed_can_be(path):
    assert subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=ROOT).returncode == 1


def test_every_configuration_file_can_be_read(tracked):
    for path in tracked:
        text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
        if path.suffix in (".yaml", ".yml"):
            yaml.safe_load(text)
        elif path.suffix == ".toml":
            tomllib.loads(text)
    configparser.ConfigParser(interpolation=None).read_string((ROOT / "settings.ini").read_text())


def test_the_lock_pins_every_dependency_with_hashes_and_names_no_index():
    text = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^([\w.-]+)==(\S+)(?: ;[^\\\n]*)? \\\n    --hash=sha256:[0-9a-f]{64}", text, re.M)
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pins) == len(lines) > 100
    assert "://" not in text and "--index-url" not in text


def test_the_lock_satisfies_every_declared_requirement():
    from importlib.metadata import distribution

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M))
    for declared in chain(project["dependencies"], *project["optional-dependencies"].values()):
        requirement = Requirement(declared)
        if requirement.name == project["name"]:  # an extra that contains another
            continue
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{declared} but {version} is locked: make lock"
        assert distribution(requirement.name).version == version, f"{declared}: not what is installed"


def test_make_is_told_to_readers_target_by_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("run", "test", "lab", "app", "export", "check", "bench", "lock", "clean"):
        assert f"make {target} " in shown


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_command_and_file_that_a_document_names_exists(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)\b(?=`|\s*#|\s*$)", text, re.M)) - targets == set()
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / link).exists(), f"{document} links to {link}"
    scripts = Path(sys.executable).parent
    for line in re.findall(r"^(?:\$ )?((?:ml-workbench|dvc) [a-z]+)", text, re.M):
        command, verb = line.split()
        helped = subprocess.run([scripts / command, verb, "--help"], cwd=ROOT, capture_output=True, text=True)
        assert helped.returncode == 0, f"{document}: `{line}` does not exist: {helped.stderr[-300:]}"


def test_the_workflows_pass_their_linter_and_the_linter_can_fail(tmp_path):
    zizmor = Path(sys.executable).parent / "zizmor"
    command = [zizmor, "--offline", "--quiet", "--no-progress", "--strict-collection"]
    assert subprocess.run([*command, ROOT / ".github"], capture_output=True).returncode == 0
    copy = tmp_path / ".github" / "workflows"
    shutil.copytree(ROOT / ".github" / "workflows", copy)
    text = (copy / "test.yml").read_text()
    (copy / "test.yml").write_text(re.sub(r"@[0-9a-f]{40}.*", "@main", text))
    assert subprocess.run([*command, tmp_path / ".github"], capture_output=True).returncode != 0


def test_the_workflows_hold_no_secret_and_pin_every_action():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text()
        assert "secrets." not in text
        assert yaml.safe_load(text)["permissions"] == {}
        uses = re.findall(r"uses: (\S+)", text)
        assert uses and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in uses)


def test_ci_runs_the_same_tests_as_a_person_on_every_python_that_the_package_allows():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]["test"]
    assert any("make test" in step.get("run", "") for step in workflow["steps"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [name.split(" :: ")[2] for name in project["classifiers"] if "Python :: 3." in name]
    assert workflow["strategy"]["matrix"]["python"] == declared
