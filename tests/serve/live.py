"""Releases that are deployed, in a folder of a test's own, and a service over them: inside the test, or as real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ml_workbench.plan.experiment import Arm, Split
from ml_workbench.plan.settings import Settings
from ml_workbench.release.deployment import Deployment
from ml_workbench.release.ledger import Ledger
from ml_workbench.release.policy import POLICY, terms_from
from ml_workbench.release.store import Store
from ml_workbench.serve.online import write_online
from tests.release.small import members, small_bundle

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-for-the-tests"
ARMS = (("control", "rule", 0.4), ("champion", "proposed", 0.4), ("challenger", "other", 0.2))


def split(*, arms: tuple = ARMS, holdout: float = 0.1, **more: Any) -> Split:
    "A split of units into arms."
    made = [Arm(name=name, policy=policy, weight=weight) for name, policy, weight in arms]
    return Split(**{"name": "letters-1", "namespace": "letters", "holdout": holdout, "arms": made} | more)


@dataclass
class Place:
    "A folder with a store, and a database with a ledger."

    root: Path
    url: str = "sqlite:///state/workbench.db"
    names: dict[str, str] = field(default_factory=dict)  # releases by candidate

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.store, self.ledger = Store("state/store", self.root), Ledger(self.url, self.root)
        self.ledger.migrate()

    def release(self, name: str = "logistic_regression", **options: Any) -> str:
        "Build a small release and put it into the store."
        key = name + json.dumps(options, sort_keys=True)
        if key not in self.names:
            self.names[key] = self.store.add(small_bundle(name, **options))
        return self.names[key]

    def deployment(self, **changes: Any) -> Deployment:
        "Control, champion and challenger, each with what it needs."
        champion, challenger = self.release(), self.release("xgboost")
        made = {
            "split": split(),
            "control": "control",
            "releases": {"champion": champion, "challenger": challenger},
        }
        return Deployment(**made | {"terms": champion, "base": "champion"} | changes)

    def alone(self, release: str, **changes: Any) -> Deployment:
        "One release for everybody but the holdout."
        made = split(arms=(("champion", "proposed", 1.0),))
        return Deployment(
            **{
                "split": made,
                "control": None,
                "releases": {"champion": release},
                "terms": release,
                "base": "champion",
            }
            | changes
        )

    def deploy(self, deployment: Deployment | None = None, reason: str = "a test") -> int:
        "Write the next line of the ledger."
        found = deployment or self.deployment()
        return self.ledger.write("deploy", found, "tester", reason, self.ledger.latest_line()).line

    def fill_online(self, slice: str = "next") -> list[str]:
        "Put the members' features where a service looks them up; their names."
        rows = members(slice)
        terms = terms_from(small_bundle().files[POLICY])
        values = [[_plain(row[name]) for name, _ in terms.columns] for row in rows.to_dict("records")]
        units = [str(member) for member in rows["member"]]
        write_online(
            self.ledger.engine,
            terms.feature_set,
            rows["as_of"].iloc[0].to_pydatetime(),
            terms.columns,
            units,
            values,
        )
        return units

    def settings(self, **changes: Any) -> Settings:
        "The settings of a service in this folder."
        return Settings(root=self.root, database_url=self.url, **{"tokens": TOKEN, "poll_ms": 50} | changes)

    def environment(self, **changes: Any) -> dict[str, str]:
        "The same for a process."
        settings = {"database_url": self.url, "tokens": TOKEN, "poll_ms": 100} | changes
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("MLW_") and key != "PYTHONDONTWRITEBYTECODE"
        }
        return (
            kept
            | {"PYTHONPATH": str(ROOT)}
            | {f"MLW_{key.upper()}": str(value) for key, value in settings.items()}
        )


def _plain(value: Any) -> Any:
    return None if value is None or value != value else value if isinstance(value, str) else float(value)


def features_of(row: Mapping[str, Any]) -> dict[str, Any]:
    "A member's features as a client sends them."
    names = [name for name, _ in terms_from(small_bundle().files[POLICY]).columns]
    return {name: _plain(row[name]) for name in names}


def until(condition, seconds: float = 30.0, what: str = "it did not happen") -> Any:
    "Wait until something holds, at most so long; what it gave."
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError, OSError):
            if found := condition():
                return found
        time.sleep(0.02)
    raise AssertionError(f"{what} within {seconds} s")


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Running:
    "A service that runs in processes of its own."

    process: subprocess.Popen
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=10, **options
        )

    def lines(self) -> list[dict]:
        "What it has logged."
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return httpx.get(f"{self.url}/readyz").status_code == 200

        try:
            until(ready, seconds, "the service was not ready")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.log.read_text()[-3000:]}") from None

    def kill(self) -> None:
        "SIGKILL, as when the machine runs out of memory."
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self, seconds: float = 30.0) -> int:
        "SIGTERM, as an orchestrator sends it; the exit code."
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextmanager
def running(
    place: Place, *, ready: bool = True, port: int | None = None, **settings: Any
) -> Iterator[Running]:
    "Start `ml-workbench serve`, and end it whatever happens."
    port = port or free_port()
    log = place.root / f"service-{port}.log"
    command = [sys.executable, "-m", "ml_workbench.run.cli", "serve"]
    with log.open("a") as out:
        process = subprocess.Popen(
            command,
            cwd=place.root,
            env=place.environment(api_port=port, **settings),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    service = Running(process, port, log)
    try:
        if ready:
            service.wait_until_ready()
        yield service
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
