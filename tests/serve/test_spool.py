"""A decision that was acknowledged is in a file; whoever is killed, whatever fills up, whatever is taken away."""

import asyncio
import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ml_workbench.plan.errors import SpoolError
from ml_workbench.plan.settings import Settings
from ml_workbench.serve import spool as module
from ml_workbench.serve.segments import Position, framed, name_of, read, segments, write_positions
from ml_workbench.serve.spool import Spool, SpoolFull, State, open_spool, refresh, weight

MB = 1 << 20
RECORD = b'{"served":[{"decision_id":"%012d","action":"offer"}]}'


def opened(folder: Path, *, limit: int = 64 * MB, fsync_ms: int = 5, **options: object) -> Spool:
    return Spool(folder, limit_bytes=limit, fsync_ms=fsync_ms, **options)


def records_in(folder: Path) -> list[bytes]:
    "All records of a spool, file by file."
    found = []
    for segment in segments(folder):
        with segment.path.open("rb") as file:
            offset = 0
            while some := read(file.fileno(), offset):
                found, offset = found + [each.record for each in some], some[-1].end
    return found


def until(true: Callable[[], object], seconds: float = 10) -> None:
    "Wait for something to become true."
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.005)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    "A disk of 256 kB."
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


# What is kept.


def test_a_record_is_in_the_file_when_the_call_returns(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        for number in range(3):
            assert spool.append(RECORD % number) is True
            assert records_in(tmp_path) == [RECORD % each for each in range(number + 1)]
            assert spool.find(f"{number:012}") == {"decision_id": f"{number:012}", "action": "offer"}


def test_files_follow_each_other_in_order_and_only_the_last_is_open(tmp_path: Path) -> None:
    with opened(tmp_path, limit=80_000) as spool:
        for number in range(500):
            spool.append(RECORD % number)
        found = segments(tmp_path)
        assert [each.sequence for each in found] == [1, 2, 3, 4, 5]
        assert all(each.size <= 10_000 for each in found)
    assert records_in(tmp_path) == [RECORD % number for number in range(500)]


def test_a_record_larger_than_a_file_gets_one_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path, limit=80_000) as spool:
        sent = [b"a" * 30, b"b" * 30_000, b"c" * 30]
        for record in sent:
            spool.append(record)
    assert records_in(tmp_path) == sent and len(segments(tmp_path)) == 3


def test_a_spool_that_took_nothing_leaves_nothing(tmp_path: Path) -> None:
    opened(tmp_path).close()
    assert segments(tmp_path) == []


def test_only_the_user_of_the_service_can_read_it(tmp_path: Path) -> None:
    with opened(tmp_path / "spool") as spool:
        spool.append(RECORD % 1)
        modes = [stat.S_IMODE(each.stat().st_mode) for each in (spool.folder, segments(spool.folder)[0].path)]
    assert modes == [0o700, 0o600]


def test_two_spools_of_a_folder_never_share_a_file(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as other:
        for number in range(50):
            (one, other)[number % 2].append(RECORD % number)
        assert len({each.instance for each in segments(tmp_path)}) == 2
        assert one.find("000000000001") == other.find("000000000001")
    assert sorted(records_in(tmp_path)) == [RECORD % number for number in range(50)]


def test_threads_may_append_at_the_same_time(tmp_path: Path) -> None:
    with opened(tmp_path, limit=8 * MB) as spool, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: spool.append(RECORD % number), range(2000)))
    assert sorted(records_in(tmp_path)) == [RECORD % number for number in range(2000)]


@pytest.mark.parametrize("record", [b"", b"one\ntwo"])
def test_what_is_no_line_is_refused(tmp_path: Path, record: bytes) -> None:
    with opened(tmp_path) as spool:
        with pytest.raises(SpoolError, match="one line of JSON"):
            spool.append(record)
        assert records_in(tmp_path) == []


def test_a_closed_spool_takes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        spool.append(RECORD % 1)
    spool.close()  # harmless
    with pytest.raises(SpoolError, match="the spool was closed"):
        spool.append(RECORD % 2)
    assert records_in(tmp_path) == [RECORD % 1]


def test_it_stands_where_the_settings_say(tmp_path: Path) -> None:
    with open_spool(Settings(root=tmp_path, spool_dir="here", spool_mb=3, spool_full="drop")) as spool:
        assert (spool.folder, spool.state().limit, spool.drops) == (tmp_path / "here", 3 * MB, True)


WRITER = """
import os, sys
from ml_workbench.serve.spool import Spool

spool = Spool(sys.argv[1], limit_bytes=64 << 20, fsync_ms=int(sys.argv[2]))
for number in range(10**9):
    spool.append(b'{"served":[{"decision_id":"%012d","action":"offer"}]}' % number)
    os.write(1, b"%012d\\n" % number)  # the answer
"""


@pytest.mark.parametrize("fsync_ms", [0, 20])
def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path, fsync_ms: int) -> None:
    command = [sys.executable, "-c", WRITER, tmp_path, str(fsync_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        heard = [writer.stdout.readline() for _ in range(500)]
        writer.kill()
        heard += writer.stdout.readlines()
    acknowledged = [RECORD % int(each) for each in heard if each.endswith(b"\n")]
    found = Counter(records_in(tmp_path))
    assert writer.returncode == -signal.SIGKILL and len(acknowledged) >= 500
    assert [found[each] for each in acknowledged] == [1] * len(acknowledged)
    assert len(found) - len(acknowledged) in (0, 1)  # the one that was written and not answered any more


# On the disk.


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    "When files were brought to the disk, on one that takes its time."
    times, real = [], os.fdatasync

    def slow(file: int) -> None:
        real(file)
        time.sleep(0.005)
        times.append(time.monotonic())

    monkeypatch.setattr(module.os, "fdatasync", slow)
    return times


def test_without_a_delay_a_record_is_on_the_disk_when_the_call_returns(
    tmp_path: Path, flushes: list[float]
) -> None:
    with opened(tmp_path, fsync_ms=0) as spool:
        for number in range(1, 4):
            spool.append(RECORD % number)
            assert len(flushes) == number


def test_with_a_delay_many_records_go_to_the_disk_together(tmp_path: Path, flushes: list[float]) -> None:
    with opened(tmp_path, fsync_ms=50) as spool:
        for number in range(200):
            spool.append(RECORD % number)
        until(lambda: spool._writer.synced == 200)
    assert 1 <= len(flushes) <= 5


def test_who_waits_for_the_disk_shares_the_way(
    tmp_path: Path, flushes: list[float], awaited: Callable
) -> None:
    async def many(spool: Spool) -> list[int]:
        async def one(number: int) -> int:
            assert await spool.durable(RECORD % number)
            return len(flushes)

        return await asyncio.gather(*map(one, range(100)))

    with opened(tmp_path, fsync_ms=0) as spool:
        seen = awaited(many(spool))
        assert min(seen) >= 1 and len(flushes) <= 5
        assert spool._writer.synced == 100
    assert len(records_in(tmp_path)) == 100


def test_all_files_are_on_the_disk_also_those_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, real = set(), os.fdatasync
    monkeypatch.setattr(
        module.os,
        "fdatasync",
        lambda file: (synced.add(str(Path(f"/proc/self/fd/{file}").readlink())), real(file)),
    )
    with opened(tmp_path, limit=80_000) as spool:
        for number in range(500):
            spool.append(RECORD % number)
        files = {str(each.path) for each in segments(tmp_path)}
    assert len(files) == 5 and synced == files


def test_a_disk_that_fails_is_told_and_its_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, awaited: Callable
) -> None:
    broken, real = [True], os.fdatasync

    def fails(file: int) -> None:
        if broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    monkeypatch.setattr(module.os, "fdatasync", fails)
    with opened(tmp_path, fsync_ms=0) as spool:
        with pytest.raises(SpoolError, match="put spool_dir on another"):
            spool.append(RECORD % 1)
        with pytest.raises(SpoolError, match="Input/output error"):
            awaited(spool.durable(RECORD % 2))
        assert spool.state().level == "broken"
        refresh(spool)
        assert spool.state().level == "broken"
        broken.clear()
        spool.append(RECORD % 3)
        refresh(spool)
        assert spool.state().level == "ok"
        assert len(segments(tmp_path)) == 3  # a disk that failed may say afterwards that all is well


def test_a_disk_that_fails_in_the_background_shows_in_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with opened(tmp_path) as spool:
        with monkeypatch.context() as patch:
            patch.setattr(module.os, "fdatasync", fails)
            spool.append(RECORD % 1)
            until(lambda: spool.state().level == "broken")
            assert "Input/output error" in spool.state().error
            refresh(spool)
            assert spool.state().level == "broken"
        refresh(spool)
        assert spool.state().level == "ok"  # though nothing was asked of it meanwhile
    assert records_in(tmp_path) == [RECORD % 1]


# Full.


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_bound_holds_for_all_processes_together(tmp_path: Path, processes: int) -> None:
    limit = 100_000
    spools = [opened(tmp_path, limit=limit) for _ in range(processes)]
    sent = 0
    with pytest.raises(SpoolFull, match="raise spool_mb"):
        while True:
            spools[sent % processes].append(b"x" * 600)
            sent += 1
    assert limit - 700 < weight(tmp_path) <= limit
    for spool in spools:
        with pytest.raises(SpoolFull):
            spool.append(b"x" * 600)
        refresh(spool)
        # its own thread may be looking as well, and say for a moment what it saw before
        until(lambda spool=spool: (spool.state().level, spool.state().waiting) == ("full", sent))
        assert spool.state().refused > 0
        spool.close()


def test_it_says_that_it_is_filling_before_it_refuses(tmp_path: Path) -> None:
    with opened(tmp_path, limit=100_000) as spool:
        seen: list[State] = [spool.state()]
        with pytest.raises(SpoolFull):
            while spool.append(b"x" * 600):
                seen.append(spool.state())
    *before, last = seen
    assert [each.level for each in before] == ["ok" if each.share < 0.8 else "filling" for each in before]
    assert (before[0].level, before[-1].level, last.level) == ("ok", "filling", "full")


def test_what_is_dropped_is_counted(tmp_path: Path, awaited: Callable) -> None:
    with opened(tmp_path, limit=20_000, full="drop") as spool:
        kept = [spool.append(b"x" * 600) for _ in range(50)]
        assert kept == sorted(kept, reverse=True) and 0 < sum(kept) < 50
        assert awaited(spool.durable(b"x" * 600)) is False
        said = spool.state()
        assert (said.dropped, said.refused, said.level) == (51 - sum(kept), 0, "full")
    assert len(records_in(tmp_path)) == sum(kept)


def test_it_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    with opened(tmp_path, limit=100_000, refresh_seconds=0.02) as spool:
        with pytest.raises(SpoolFull):
            while True:
                spool.append(b"x" * 600)
        segments(tmp_path)[0].path.unlink()  # it was shipped
        until(lambda: spool.state().level != "full")
        assert spool.append(b"x" * 600)


def test_what_was_set_aside_counts_too(tmp_path: Path) -> None:
    with opened(tmp_path, limit=100_000) as spool:
        (tmp_path / "rejected").mkdir()
        (tmp_path / "rejected" / "some.record").write_bytes(bytes(99_900))
        refresh(spool)
        assert spool.state().level == "filling"
        with pytest.raises(SpoolFull):
            spool.append(b"x" * 600)


def test_files_that_are_in_the_database_make_way_though_their_processes_still_hold_them(
    tmp_path: Path,
) -> None:
    spools = [opened(tmp_path, limit=80_000, refresh_seconds=60) for _ in range(9)]
    with pytest.raises(SpoolFull):
        while True:
            for spool in spools:
                spool.append(b"x" * 600)
    there = segments(tmp_path)
    shipped = {each.path.name: Position(each.size, 1) for each in there[1:]}  # all but one
    write_positions(tmp_path, shipped)
    for spool in spools:
        refresh(spool)
    fresh = {each.path.name for each in segments(tmp_path)} - {each.path.name for each in there}
    assert len(fresh) == 8
    for each in there[1:]:
        each.path.unlink()  # as whoever ships does with what is in the database
    for spool in spools:
        refresh(spool)
        assert spool.append(b"x" * 600)
        spool.close()


# What waits.


def test_the_state_counts_what_waits_and_says_for_how_long(tmp_path: Path) -> None:
    name = name_of("a" * 12, 1)
    old, lines = int(time.time() - 3600), [framed(RECORD % number, 0) for number in range(5)]
    lines[2] = framed(RECORD % 2, old * 1_000_000)
    (tmp_path / name).write_bytes(b"".join(lines))
    with opened(tmp_path) as spool:
        assert spool.state().waiting == 5
        write_positions(tmp_path, {name: Position(len(lines[0]) * 2, 2)})
        spool.append(RECORD % 9)
        refresh(spool)
        said = spool.state()
        assert said.waiting == 4 and 3600 <= said.oldest_seconds < 3700
        write_positions(tmp_path, {name: Position(sum(map(len, lines)), 5)})
        refresh(spool)
        assert spool.state().waiting == 1 and spool.state().oldest_seconds < 60


def test_a_clock_that_goes_back_makes_nothing_negative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as spool:
        spool.append(RECORD % 1)
        refresh(spool)
        monkeypatch.setattr(module.time, "time", lambda: 5.0)
        monkeypatch.setattr(module.time, "time_ns", lambda: 5_000_000_000)
        assert spool.state().oldest_seconds == 0
        spool.append(RECORD % 2)
        refresh(spool)
        assert spool.state().waiting == 2
    assert records_in(tmp_path) == [RECORD % 1, RECORD % 2]


# What is in the way.


def test_a_disk_that_is_full_is_told_and_the_file_stays_whole(tmpfs: Path) -> None:
    with opened(tmpfs, refresh_seconds=0.02) as spool:
        sent = 0
        with pytest.raises(SpoolError, match="free space on its disk"):
            while True:
                spool.append(b"x" * 700)
                sent += 1
        assert records_in(tmpfs) == [b"x" * 700] * sent
        assert spool.state().level == "broken"
        with pytest.raises(SpoolError, match="No space left"):
            spool.append(b"x" * 9000)
        assert records_in(tmpfs) == [b"x" * 700] * sent
        subprocess.run(["mount", "-o", "remount,size=512k", tmpfs], check=True)
        until(lambda: spool.state().level == "ok")  # though nobody asked for anything meanwhile
        spool.append(b"y")
    assert records_in(tmpfs) == [b"x" * 700] * sent + [b"y"]
    assert len(segments(tmpfs)) == 1


def test_a_disk_that_turns_read_only_is_told(tmpfs: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", tmpfs], check=True)
    with pytest.raises(SpoolError, match="mount it for writing"):
        opened(tmpfs)


LIMITED = """
import resource, signal, sys
from ml_workbench.plan.errors import SpoolError
from ml_workbench.serve.spool import Spool

spool = Spool(sys.argv[1], limit_bytes=64 << 20, fsync_ms=20)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
sent = 0
try:
    while True:
        spool.append(b"x" * 700)
        sent += 1
except SpoolError as error:
    print(sent, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
spool.append(b"after")
spool.close()
"""


def test_a_write_that_was_cut_short_is_taken_back(tmp_path: Path, run_python: Callable) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = run_python("-c", LIMITED, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("13 ") and "ulimit -f" in done.stdout
    assert records_in(tmp_path) == [b"x" * 700] * 13 + [b"after"] and len(segments(tmp_path)) == 1


def test_a_tear_that_cannot_be_taken_back_ends_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def half(file: int, data: bytes) -> int:
        if data.startswith(b"the rest"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        monkeypatch.setattr(module.os, "write", lambda *_: half(file, b"the rest"))
        return real(file, data[:20])

    def refuses(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with opened(tmp_path) as spool:
        spool.append(RECORD % 1)
        with monkeypatch.context() as patch:
            monkeypatch = patch
            patch.setattr(module.os, "write", half)
            patch.setattr(module.os, "ftruncate", refuses)
            with pytest.raises(SpoolError, match="its disk fails"):
                spool.append(RECORD % 2)
        spool.append(RECORD % 3)
    assert len(segments(tmp_path)) == 2
    assert records_in(tmp_path) == [RECORD % 1, RECORD % 3]


def test_a_folder_that_was_deleted_is_told_and_what_was_in_it_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    with opened(folder, refresh_seconds=0.02) as spool:
        spool.append(RECORD % 1)
        shutil.rmtree(folder)
        with pytest.raises(SpoolError, match="make the folder again"):
            spool.append(RECORD % 2)
        with pytest.raises(SpoolError, match="No such file or directory"):
            spool.append(RECORD % 3)
        assert spool.state().level == "broken" and not folder.exists()
        folder.mkdir()
        until(lambda: spool.state().level == "ok")
        spool.append(RECORD % 4)
    found = records_in(folder)
    assert found[0] == RECORD % 1 and found[-1] == RECORD % 4


def test_a_folder_that_was_deleted_shows_in_the_state_though_nobody_asks(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    with opened(folder, refresh_seconds=0.02) as spool:
        shutil.rmtree(folder)
        until(lambda: spool.state().level == "broken")
        assert "make the folder again" in spool.state().error


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    for folder in (tmp_path / "spool", tmp_path / "spool" / "deeper"):
        with pytest.raises(SpoolError, match="a file is in the way"):
            opened(folder)


def test_too_many_open_files_are_told(tmp_path: Path, run_python: Callable) -> None:
    code = """
import os, resource, sys
from ml_workbench.plan.errors import SpoolError
from ml_workbench.serve.spool import Spool

spool = Spool(sys.argv[1], limit_bytes=80_000, fsync_ms=20)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1,) * 2)
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    while True:
        spool.append(b"x" * 600)
except SpoolError as error:
    print(error)
"""
    done = run_python("-c", code, str(tmp_path))
    assert "allow more open files" in done.stdout, done.stderr


def test_nothing_heavy_is_loaded(run_python: Callable) -> None:
    heavy = ("pandas", "pyarrow", "duckdb", "numpy", "sqlalchemy", "pydantic")
    code = f"import sys, ml_workbench.serve.spool; print([each for each in {heavy} if each in sys.modules])"
    assert run_python("-c", code).stdout == "[]\n"
