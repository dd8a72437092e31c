"""A PostgreSQL server of a test's own, which it may kill and start again."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from tests.services import free_port, postgres_programs, unprivileged


@dataclass
class Server:
    "A server on loopback, which comes back on the same port with what it had."

    folder: Path
    programs: Path
    port: int
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"postgresql://mlw@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        "Start it, and wait until it answers."
        command = [
            self.programs / "postgres",
            "-D",
            self.folder / "cluster",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-k",
            self.folder,
        ]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **unprivileged()
            )
        deadline = time.monotonic() + 30
        ready = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready).returncode:
            assert time.monotonic() < deadline and self.process.poll() is None, (
                self.folder / "log"
            ).read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        "Stop it as a power cut would: nothing is finished, nobody is told."
        import os
        import signal

        if self.process is not None and self.process.poll() is None:
            os.kill(
                self.process.pid, signal.SIGQUIT
            )  # 'immediate': connections are cut, the log is replayed on start
            self.process.wait(20)


@contextmanager
def own_server() -> Iterator[Server]:
    "An empty server; stopped and removed at the end."
    who = unprivileged()
    folder, programs = Path(tempfile.mkdtemp(prefix="mlw-own-", dir="/tmp")), postgres_programs()
    server = Server(folder, programs, free_port())
    try:
        if who:
            import os

            os.chown(folder, who["user"], who["group"])
        command = [
            programs / "initdb",
            "-D",
            folder / "cluster",
            "-U",
            "mlw",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **who)
        assert done.returncode == 0, done.stderr
        server.start()
        yield server
    finally:
        server.kill()
        rmtree(folder, ignore_errors=True)
        sys.stdout.flush()
