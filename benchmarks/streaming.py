"""What it costs that every decision is counted where it is shipped: nothing where requests are answered, little in the shipper.

The project's own released model, served on loopback with routing and durable logging on, by one process; beside it the
shipper, in turns one that counts and one that does not, so that a busy machine disturbs both. Asked are 16 connections
and one. Then the shipper by itself: decisions for each second of its processor, with the features of real households
and with none, counting and not. Needs `wrk` (Debian: apt-get install wrk). Run as `python benchmarks/streaming.py
[--quick]` after `make run`; prints tables in Markdown, fails when a target is missed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import psutil
import sqlalchemy as sa

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tests' clients and services

from benchmarks.serving import body, project, table, wrk  # noqa: E402
from benchmarks.spooling import MEGABYTES, PER_SECOND, database, record, spool  # noqa: E402
from ml_workbench.database.connections import address, connected  # noqa: E402
from ml_workbench.database.tables import table_of  # noqa: E402
from ml_workbench.serve.segments import segments  # noqa: E402
from ml_workbench.serve.shipping import read_status  # noqa: E402
from tests.serve.live import Place, Running, free_port, until  # noqa: E402

LOST, ADDED = (
    0.03,
    0.02,
)  # share of the throughput, and milliseconds of half of the requests (what a run of its own differs by)
COUNTING = "import sys; from ml_workbench.serve import shipping; sys.exit(shipping.main([]))"
PLAIN = COUNTING.replace("; sys.exit", "; shipping.counting = lambda *_: None; sys.exit")


@contextmanager
def service(place: Place) -> Iterator[Running]:
    "A service without a shipper."
    port, log = free_port(), place.root / "service.log"
    command = [sys.executable, "-m", "ml_workbench.run.cli", "serve", "--no-shipper"]
    environment = place.environment(api_port=port, spool_mb=4096, log_level="warning")
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=place.root, env=environment, stdout=out, stderr=out)
    found = Running(process, port, log)
    try:
        found.wait_until_ready()
        yield found
    finally:
        process.kill()
        process.wait()


@contextmanager
def shipper(place: Place, code: str) -> Iterator[psutil.Process]:
    "A shipper that has begun."
    command = [sys.executable, "-c", code]
    environment = place.environment(spool_dir=place.root / "state/spool")
    with subprocess.Popen(command, cwd=place.root, env=environment, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield psutil.Process(process.pid)
        process.terminate()


def counted(place: Place) -> tuple[int, int]:
    "Decisions in the table, and in the summaries."
    engine, served, sums = (
        connected(address(place.url, root=place.root)),
        table_of("served"),
        table_of("summaries"),
    )
    with engine.connect() as connection:
        there = connection.execute(sa.select(sa.func.count()).select_from(served)).scalar()
        return there, connection.execute(sa.select(sa.func.sum(sums.c.decisions))).scalar() or 0


def answered(folder: Path, seconds: int, rounds: int) -> bool:
    "Throughput and latency of the service, with either shipper beside it."
    model = json.loads((ROOT / "reports/gate.json").read_text())["model"]
    place, sent = project(folder / "asked"), body(model)
    many: dict[str, list[dict]] = {COUNTING: [], PLAIN: []}
    single: dict[str, list[dict]] = {COUNTING: [], PLAIN: []}
    with service(place) as running:
        wrk(running.url, folder, sent, connections=4, seconds=2)
        for turn in range(rounds):
            for code in (COUNTING, PLAIN) if turn % 2 else (PLAIN, COUNTING):
                with shipper(place, code) as process:
                    until(
                        lambda pid=process.pid: (
                            (said := read_status(place.root / "state/spool")) and said.pid == pid
                        )
                    )
                    many[code].append(wrk(running.url, folder, sent, connections=16, seconds=seconds))
                    single[code].append(wrk(running.url, folder, sent, connections=1, seconds=seconds))
                    until(lambda: not read_status(place.root / "state/spool").waiting, 60)
    there, sums = counted(place)
    rates = [statistics.median(each["rate"] for each in many[code]) for code in (COUNTING, PLAIN)]
    ratio = statistics.median(one["rate"] / other["rate"] for one, other in zip(many[COUNTING], many[PLAIN]))
    halves = [statistics.median(each["p50"] for each in single[code]) for code in (COUNTING, PLAIN)]
    added = statistics.median(
        one["p50"] - other["p50"] for one, other in zip(single[COUNTING], single[PLAIN])
    )
    print(
        f"| {there:,} decisions, {sums:,} of them counted | measured | asked | holds |\n|---|---:|---:|---|"
    )
    return table([
        (f"16 connections, counting against not ({rates[0]:,.0f} and {rates[1]:,.0f} a second)", f"{ratio:.3f} ×", f"{1 - LOST:.2f} ×", ratio >= 1 - LOST),
        (f"one connection, half of the requests ({halves[0]:.3f} and {halves[1]:.3f} ms)", f"{added:+.3f} ms", f"+{ADDED:.2f} ms", added <= ADDED),
    ])  # fmt: skip


def households(place: Place) -> list[str]:
    "Features of real households, as the service writes them."
    import pandas as pd

    from ml_workbench.release.policy import POLICY

    (release,) = place.store.ids()
    names = [name for name, _ in json.loads(place.store.read(release).files[POLICY])["columns"]]
    rows = pd.read_parquet(ROOT / "data/features/snapshots.parquet", columns=names).sample(
        5000, random_state=1
    )
    plain = rows.astype(object).where(rows.notna(), None).values.tolist()
    return [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY).decode() for row in plain]


def emptied(place: Place, code: str, features: list[str] | None, count: int) -> tuple[float, float]:
    "Decisions that a shipper brings in a second of its processor, and its megabytes at their highest."
    folder, (release,) = place.root / "state/spool", place.store.ids()
    with spool(folder) as own:
        for number in range(count):
            made = orjson.loads(record(number))
            told = features and features[number % len(features)]
            made["served"][0] |= {"release": release, "line": 0, "features": told}
            own.append(orjson.dumps(made))
    with shipper(place, code) as process:
        before, most = process.cpu_times(), 0
        while segments(folder):
            most = max(most, process.memory_info().rss)
        used = process.cpu_times()
    return count / (used.user + used.system - before.user - before.system), most / 1e6


def shipped(folder: Path, count: int, rounds: int) -> bool:
    "The shipper by itself."
    from ml_workbench.release.bundle import build

    bundle, found = build(ROOT, allow_dirty=True), []
    for kind in ("SQLite", *(["PostgreSQL"] if os.environ.get("MLW_TEST_POSTGRES_URL") else [])):
        for what in ("without features", "with the features of households"):
            speeds: dict[str, list[float]] = {PLAIN: [], COUNTING: []}
            memory = 0.0
            for _ in range(rounds):
                for code in speeds:
                    with database(kind, Path(tempfile.mkdtemp(dir=folder))) as url:
                        place = Place(Path(tempfile.mkdtemp(dir=folder)), url)
                        place.store.add(bundle)
                        features = households(place) if what.startswith("with the") else None
                        speed, used = emptied(place, code, features, count)
                        place.ledger.engine.dispose()
                        assert code == PLAIN or counted(place) == (count, count)
                    speeds[code].append(speed)
                    memory = max(memory, used)
            without, counting = (max(each) for each in speeds.values())
            holds = counting >= PER_SECOND and memory <= MEGABYTES
            told = f"{counting:,.0f} of {without:,.0f}, {counting / without:.2f} ×, {memory:.0f} MB"
            found.append((f"{kind}, {what}", told, f"{PER_SECOND:,} in {MEGABYTES} MB", holds))
    print(
        "| decisions a second of the shipper's processor, counting and not | measured | asked | holds |\n|---|---:|---:|---|"
    )
    return table(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of a minute")
    parser.add_argument("--shipper", action="store_true", help="only the shipper by itself")
    options = parser.parse_args()
    if not options.shipper and not shutil.which("wrk"):
        sys.exit("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="mlw-streaming-") as name:
        folder = Path(name)
        held = shipped(folder, 20_000 if options.quick else 40_000, 1 if options.quick else 3)
        if not options.shipper:
            held &= answered(folder, 3 if options.quick else 5, 2 if options.quick else 5)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
