"""The image's steps, without an engine: the Dockerfile is read, and what it would run is run.

Each stage gets an empty folder for its file system; absolute paths of the Dockerfile are moved below it. The base image is
a fresh environment of a Python that anybody may run. Not carried out: the creation of the user (its numbers are
used), and what only an engine does (layers, volumes, ports).
"""

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from ml_workbench.database.tables import table_of
from tests.release.live import judged
from tests.release.small import small_bundle
from tests.serve.live import Place, free_port, until

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
USER = 10001
TOKEN = "a-token-for-the-image"
MOVED = re.compile(r"(?<![\w.:/-])/(?=(?:opt|src|var/lib/workbench|srv|store|usr/local)\b)")


# The Dockerfile --------------------------------------------------------------------------------------------


@dataclass
class Stage:
    "A stage: what it is made from, and its instructions."

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)  # instruction and the rest of its line


def stages(text: str) -> dict[str, Stage]:
    "The stages of a Dockerfile by name, in order."
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        instruction, rest = line.split(maxsplit=1)
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest.strip()).groups()
            found[name] = stage = Stage(base, name)
        else:
            stage.steps.append((instruction, " ".join(rest.split())))
    return found


def lineage(all_stages: dict[str, Stage], name: str) -> list[tuple[str, str]]:
    "Every instruction that makes a stage, from its base image on."
    stage = all_stages[name]
    return (lineage(all_stages, stage.base) if stage.base in all_stages else []) + stage.steps


def variables_in(text: str) -> dict[str, str]:
    "The variables of an ENV instruction."
    return dict(part.split("=", 1) for part in shlex.split(text))


@pytest.fixture(scope="module")
def read() -> dict[str, Stage]:
    return stages(DOCKERFILE.read_text())


def effective(steps: list[tuple[str, str]], instruction: str) -> str:
    "The last of its kind, which holds."
    return next(rest for kind, rest in reversed(steps) if kind == instruction)


@pytest.mark.parametrize("target", ["serve", "batch", "app"])
def test_every_target_runs_as_nobody_in_particular_and_ends_when_it_is_told_to(read, target):
    steps = lineage(read, target)
    assert effective(steps, "USER") == f"{USER}:{USER}" and effective(steps, "STOPSIGNAL") == "SIGTERM"
    assert json.loads(effective(steps, "ENTRYPOINT")) == ["ml-workbench"], (
        "exec form: signals reach the service itself"
    )
    assert isinstance(json.loads(effective(steps, "CMD")), list)
    assert json.loads(effective(steps, "VOLUME")) == ["/var/lib/workbench/spool", "/var/lib/workbench/cache"]
    assert "org.opencontainers.image.licenses" in effective(steps, "LABEL")
    after_user = steps[[kind for kind, _ in steps].index("USER") :]
    assert not [rest for kind, rest in after_user if kind == "RUN"], (
        "nothing is installed by the user who serves"
    )


def test_the_image_that_is_built_by_default_serves_and_asks_itself_how_it_is(read):
    assert list(read)[-1] == "serve"
    steps = lineage(read, "serve")
    assert json.loads(effective(steps, "CMD")) == ["serve"]
    command = effective(steps, "HEALTHCHECK").split("CMD", 1)[1]
    assert json.loads(command)[0] == "python" and "/healthz" in command


def test_base_images_have_a_tag_and_no_secret_is_baked_in(read):
    bases = {stage.base for stage in read.values()} - set(read)
    assert all(re.fullmatch(r"python:3\.1[1-3]-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base) for base in bases)
    text = DOCKERFILE.read_text()
    assert not re.search(r"MLW_(TOKENS|SIGNING_KEY|DATABASE_URL)", text) and "ARG" not in text


def reaches(path: str) -> bool:
    "Whether the builder sees a path, by Dockerfile.dockerignore."
    seen = True
    for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        parts = Path(path).parts
        prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        if (
            line
            and not line.startswith("#")
            and any(fnmatch(each, pattern) or fnmatch(f"x/{each}", pattern) for each in prefixes)
        ):
            seen = line.startswith("!")
    return seen


def test_the_builder_sees_what_is_copied_and_nothing_private(read):
    copied = [
        part
        for stage in read.values()
        for kind, rest in stage.steps
        if kind == "COPY" and "--from" not in rest
        for part in rest.split()[:-1]
    ]
    assert copied and all(reaches(path) and (ROOT / path).exists() for path in copied)
    hidden = (".env", "deploy/.env", ".git/config", "state/workbench.db", "data/tables/x.parquet", ".streamlit/secrets.toml", "ml_workbench/plan/__pycache__/x.pyc")  # fmt: skip
    assert [path for path in hidden if reaches(path)] == []


# Carried out -----------------------------------------------------------------------------------------------


def somebody() -> dict:
    "How a process starts as the image's user; as ourselves where we are nobody special."
    return {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}


def python_for_all() -> str:
    "A Python that the image's user may run too."
    fits = "import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
    candidates = [
        str(Path(sys.base_prefix) / "bin" / "python3"),
        *(shutil.which(f"python3.{n}", path="/usr/bin:/usr/local/bin") for n in (13, 12, 11)),
    ]
    for path in filter(None, candidates):
        try:
            if subprocess.run([path, "-c", fits], cwd="/", capture_output=True, **somebody()).returncode == 0:
                return path
        except OSError:
            continue
    pytest.skip("no Python here that an unprivileged user may run")


@dataclass
class Sandbox:
    "A folder in place of an engine."

    root: Path  # the file system of the stage at work
    python: str
    variables: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    layers: dict[str, Path] = field(default_factory=dict)

    def inside(self, text: str) -> str:
        "A text of the Dockerfile with its paths below the folder."
        return MOVED.sub(f"{self.root}/", text)

    def begin(self) -> None:
        "A base image: a Python, and nothing else."
        self.root.mkdir(mode=0o755)
        subprocess.run([self.python, "-m", "venv", self.root / "usr/local"], check=True)
        kept = {
            key: value
            for key, value in os.environ.items()
            if key.startswith(("PIP_", "UV_", "SSL_", "REQUESTS_"))
            or key in ("LANG", "http_proxy", "https_proxy", "no_proxy")
        }
        cache = subprocess.run(
            [Path(sys.executable).parent / "uv", "cache", "dir"], capture_output=True, text=True, check=True
        ).stdout
        kept["UV_CACHE_DIR"] = cache.strip()
        self.variables, self.folder = (
            kept | {"PATH": f"{self.root}/usr/local/bin:/usr/bin:/bin", "HOME": str(self.root / "tmp")},
            self.root,
        )
        (self.root / "tmp").mkdir()

    def end(self, name: str) -> None:
        "Put a stage aside, so that the next has the same paths: environments cannot be moved."
        self.layers[name] = self.root.with_name(f"stage-{name}")
        self.root.rename(self.layers[name])

    def build(self, all_stages: dict[str, Stage], name: str) -> list[tuple[str, str]]:
        "Carry out a stage after those that it needs; its instructions."
        steps = lineage(all_stages, name)
        for source in re.findall(r"--from=(\S+)", " ".join(rest for kind, rest in steps if kind == "COPY")):
            if source not in self.layers:
                self.build(all_stages, source)
                self.end(source)
        self.begin()
        for kind, rest in steps:
            getattr(self, kind.lower(), lambda _rest: None)(rest)
        return steps

    def run(self, rest: str) -> None:
        if rest.startswith("groupadd"):
            return  # the user's numbers are all that is needed
        rest = rest.replace(
            " --no-cache ", " "
        )  # it keeps an image small; here the cache of this machine may serve
        if os.geteuid():
            rest = re.sub(r"--(?:owner|group)=\d+ ", "", rest)
        done = subprocess.run(
            ["/bin/sh", "-ec", self.inside(rest)],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"RUN {rest}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"

    def copy(self, rest: str) -> None:
        *sources, target = (part for part in rest.split() if not part.startswith("--"))
        source_root = self.layers[match[1]] if (match := re.search(r"--from=(\S+)", rest)) else ROOT
        place = Path(self.inside(target)) if target.startswith("/") else self.folder / target
        for source in sources:
            origin = source_root / source.lstrip("/")
            if origin.is_dir():
                shutil.copytree(
                    origin,
                    place,
                    symlinks=True,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__") if source_root == ROOT else None,
                )
            else:
                place.mkdir(parents=True, exist_ok=True) if target.endswith("/") else None
                shutil.copy(origin, place)

    def workdir(self, rest: str) -> None:
        self.folder = Path(self.inside(rest))
        self.folder.mkdir(parents=True, exist_ok=True)

    def env(self, rest: str) -> None:
        for name, value in variables_in(rest).items():
            self.variables[name] = self.inside(value.replace("$PATH", self.variables["PATH"]))


@pytest.fixture(scope="module")
def image(read) -> Iterator[tuple[Sandbox, list[str], list[str]]]:
    "The serve target: its file system, how it starts, and how its health is asked for."
    python, parent = python_for_all(), Path(tempfile.mkdtemp(prefix="mlw-image-", dir="/tmp"))
    parent.chmod(0o755)
    sandbox = Sandbox(parent / "root", python)
    try:
        steps = sandbox.build(read, "serve")
        for path in (sandbox.root / "opt").rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
        start = json.loads(effective(steps, "ENTRYPOINT")) + json.loads(effective(steps, "CMD"))
        yield sandbox, start, json.loads(effective(steps, "HEALTHCHECK").split("CMD", 1)[1])
    finally:
        if os.geteuid():  # root removes what nobody may write
            subprocess.run(["chmod", "-R", "u+w", parent], check=False)
        shutil.rmtree(parent, ignore_errors=True)


@pytest.mark.slow
def test_the_image_holds_what_serves_and_nothing_of_the_build(image):
    sandbox, _, _ = image
    packages = {
        path.name
        for path in next((sandbox.root / "opt/workbench/lib").glob("python3*/site-packages")).iterdir()
    }
    assert {"ml_workbench", "fastapi", "onnxruntime", "psycopg"} <= packages
    assert not packages & {
        "pandas",
        "pyarrow",
        "duckdb",
        "sklearn",
        "scipy",
        "xgboost",
        "papermill",
        "dvc",
        "streamlit",
        "nvidia",
        "pip",
        "uv",
        "setuptools",
    }
    assert not (sandbox.root / "src").exists() and not (sandbox.root / "usr/local/bin/uv").exists()


@pytest.mark.slow
@pytest.mark.postgres
def test_the_image_starts_decides_and_ends_as_an_unprivileged_user(image, postgres_url, tmp_path):
    sandbox, start, health = image
    place = Place(tmp_path / "place", postgres_url)
    release = place.store.add(judged(small_bundle()))
    place.fill_online()
    shutil.copytree(place.root / "state/store", sandbox.root / "store", dirs_exist_ok=True)
    port = free_port()
    variables = sandbox.variables | {
        "MLW_DATABASE_URL": postgres_url,
        "MLW_TOKENS": TOKEN,
        "MLW_API_PORT": str(port),
        "MLW_API_HOST": "127.0.0.1",
    }
    options = {"cwd": sandbox.folder, "env": variables, **somebody()}
    program = str(sandbox.root / "opt/workbench/bin" / start[0])

    def said(*arguments: str) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "✗" not in said("release", "verify", release[:8])
    said("deploy", release[:8], "--by", "Ann", "--reason", "the first")
    service = subprocess.Popen(
        [program, *start[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    try:
        begun = time.monotonic()
        url = f"http://127.0.0.1:{port}"
        until(
            lambda: service.poll() is not None or httpx.get(f"{url}/readyz").status_code == 200,
            30,
            "it was not ready",
        )
        assert service.poll() is None, service.stdout.read()
        print(f"ready after {time.monotonic() - begun:.2f} s")
        asked = [part.replace("8502", str(port)) for part in health]
        assert (
            subprocess.run(
                [str(sandbox.root / "opt/workbench/bin" / asked[0]), *asked[1:]], **options
            ).returncode
            == 0
        )
        answer = httpx.post(
            f"{url}/v1/decisions",
            json={"unit": "12"},
            headers={"authorization": f"Bearer {TOKEN}"},
            timeout=10,
        )
        assert answer.status_code == 200 and answer.json()["release"] == release[:12]
        table = table_of("served")

        def recorded() -> bool:
            with place.ledger.engine.connect() as connection:
                return connection.execute(sa.select(table.c.decision_id)).scalars().all() == [
                    answer.json()["id"]
                ]

        until(recorded, 20, "the decision did not reach the database")
    finally:
        service.terminate()
        try:
            service.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            service.kill()
            raise
    assert service.returncode == 0, "it ended by itself, and after its shipper"
    written = [path for path in sandbox.root.rglob("*") if os.geteuid() == 0 and path.lstat().st_uid == USER]
    home = sandbox.root / "var/lib/workbench"
    assert [path for path in written if not path.is_relative_to(home)] == []
    assert {path.relative_to(home).parts[0] for path in written if path != home} <= {"spool", "cache"}
