"""Give a command the services its tests need: PostgreSQL on loopback and Chromium.

    python tests/services.py COMMAND [ARGUMENT ...]

Installs what is missing where apt-get can be used as root, starts a throw-away PostgreSQL on a free port of
127.0.0.1, runs the command with MLW_TEST_POSTGRES_URL and MLW_TEST_CHROMIUM set, stops the server whatever
happened, and exits as the command did. What is set already is used as it is. Where a service cannot be had the
tests that need it are skipped, but never with CI=true or MLW_TEST_REQUIRE_SERVICES=1: then this fails instead.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

POSTGRES_URL = "MLW_TEST_POSTGRES_URL"
CHROMIUM = "MLW_TEST_CHROMIUM"
PACKAGES = {"postgres": ("postgresql",), "chromium": ("chromium", "fonts-dejavu-core", "fonts-liberation")}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60  # seconds until the server must answer


def required() -> bool:
    "Whether a missing service is a failure rather than a reason to skip."
    return os.environ.get("CI") == "true" or os.environ.get("MLW_TEST_REQUIRE_SERVICES") == "1"


def say(text: str) -> None:
    "One line on the standard error output, apart from what the command prints."
    print(f"services: {text}", file=sys.stderr, flush=True)


def postgres_programs() -> Path | None:
    "The folder of the newest PostgreSQL server that is installed."
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    for folder in [*reversed(versions), *map(Path, os.get_exec_path())]:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    return None


def browser() -> str | None:
    "The Chromium that is installed."
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def install(packages: list[str]) -> None:
    "Install Debian packages: as root, or in CI through a sudo that asks for no password."
    if not packages or not shutil.which("apt-get"):
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and not (os.environ.get("CI") == "true" and shutil.which("sudo")):
        return
    say(f"installing {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    get = [*sudo, "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3"]
    for step in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run([*get, *step], env=environment, capture_output=True, text=True)
        if done.returncode:
            return say(f"apt-get {step[0]} failed: {done.stderr.strip()[-500:]}")


def unprivileged() -> dict[str, int | list[int]]:
    "How to start a program when root, whom PostgreSQL refuses: as the user postgres, else nobody."
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("neither a user postgres nor nobody exists to run the server")


def free_port() -> int:
    "A port of the loopback interface that nothing listens on."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    "A PostgreSQL server with an empty cluster; yields its URL, stops it and removes it at the end."
    who = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="mlw-postgres-", dir="/tmp"))
    server = None
    try:
        if who:
            os.chown(folder, who["user"], who["group"])
        cluster, log = folder / "cluster", folder / "log"
        made = subprocess.run(
            [programs / "initdb", "-D", cluster, "-U", "mlw", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            cwd=folder, capture_output=True, text=True, **who,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr.strip()}")
        port = free_port()
        # A session of its own: Ctrl-C in the terminal must not stop the server under running tests.
        server = subprocess.Popen(
            [programs / "postgres", "-D", cluster, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log.open("w"), stderr=subprocess.STDOUT,
            start_new_session=True, **who,
        )  # fmt: skip
        wait_for(server, cluster / "postmaster.pid", log)
        yield f"postgresql://mlw@127.0.0.1:{port}/postgres"
    finally:
        if server and server.poll() is None:
            server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(server: subprocess.Popen, status: Path, log: Path) -> None:
    "Return when the server says in its status file that it is ready."
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-1000:]}")
        if status.is_file() and status.read_text().splitlines()[7:8] == ["ready   "]:
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL was not ready after {PATIENCE} s: {log.read_text()[-1000:]}")


def run(command: list[str], environment: dict[str, str]) -> int:
    "Run the command to its end, also when Ctrl-C or a termination reaches this process."
    child = subprocess.Popen(command, env=environment)
    signal.signal(signal.SIGINT, lambda *_: None)  # the terminal has sent it to the child as well
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = child.wait()
    return 128 - code if code < 0 else code


def main(command: list[str]) -> int:
    "Install, start, run, stop."
    if not command:
        print(__doc__)
        return 2
    environment = dict(os.environ)
    wanted = {
        "postgres": not environment.get(POSTGRES_URL) and not postgres_programs(),
        "chromium": not environment.get(CHROMIUM) and not browser(),
    }
    install([package for name, missing in wanted.items() if missing for package in PACKAGES[name]])
    if not environment.get(CHROMIUM) and (found := browser()):
        environment[CHROMIUM] = found
    programs = None if environment.get(POSTGRES_URL) else postgres_programs()
    missing = [name for name, there in (
        ("PostgreSQL", programs or environment.get(POSTGRES_URL)), ("Chromium", environment.get(CHROMIUM))
    ) if not there]  # fmt: skip
    if missing:
        say(f"{' and '.join(missing)} not found, and apt-get as root is not possible here")
        if required():
            return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server is stopped on the way out
    try:
        with postgres(programs) if programs else nullcontext() as url:
            if url:
                environment[POSTGRES_URL] = url
            return run(command, environment)
    except RuntimeError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
