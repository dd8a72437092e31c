"""What was written is read back, whatever a dying process, a power failure or a bad disk did to the rest."""

import fcntl
import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.plan.errors import SpoolError
from ml_workbench.serve import segments as module
from ml_workbench.serve.segments import (
    POSITIONS,
    Position,
    closed,
    find,
    framed,
    frames,
    name_of,
    read,
    read_positions,
    segments,
    write_positions,
)

RECORDS = st.lists(
    st.binary(min_size=1, max_size=60).map(lambda each: each.replace(b"\n", b"\0")), min_size=1, max_size=12
)


def written(path: Path, data: bytes) -> int:
    "A file, opened for reading."
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY)


def decision(name: str) -> bytes:
    return orjson.dumps({"served": [{"decision_id": name, "action": "offer"}]})


@given(RECORDS)
def test_what_was_written_is_read_with_its_time_and_place(records: list[bytes]) -> None:
    data = b"".join(framed(record, at) for at, record in enumerate(records))
    found = list(frames(data, 1000))
    assert [(each.record, each.at) for each in found] == [(record, at) for at, record in enumerate(records)]
    assert [each.end for each in found[:-1]] == [each.start for each in found[1:]]
    assert (found[0].start, found[-1].end) == (1000, 1000 + len(data))


@given(RECORDS, st.data())
def test_a_torn_end_costs_what_was_torn_and_nothing_before(records: list[bytes], data: st.DataObject) -> None:
    lines = [framed(record, 7) for record in records]
    cut = data.draw(st.integers(0, sum(map(len, lines))))
    rest = data.draw(st.sampled_from([b"", bytes(40), b"\xff" * 9]))  # a power failure may leave zeros behind
    found = [each.record for each in frames(b"".join(lines)[:cut] + rest)]
    whole = [record for i, record in enumerate(records) if sum(map(len, lines[: i + 1])) <= cut]
    assert found == whole


@given(RECORDS, st.data())
def test_a_spoilt_byte_costs_one_record_and_never_alters_one(
    records: list[bytes], data: st.DataObject
) -> None:
    text = bytearray(b"".join(framed(record, 7) for record in records))
    ends = [each.end for each in frames(bytes(text))]
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] ^= 1 << data.draw(st.integers(0, 7))
    found = [each.record for each in frames(bytes(text))]
    hit = next(i for i, end in enumerate(ends) if place < end)
    # A line break that is lost joins two lines; what is not covered by the sum does no harm.
    lost = {0, 1} if place < ends[hit] - 1 else {2}
    assert found in [records[:hit] + records[hit + count :] for count in lost]


@pytest.mark.parametrize("record", [b"", b'{"a":\n1}'])
def test_a_record_is_one_line(record: bytes) -> None:
    with pytest.raises(SpoolError, match="one line of JSON"):
        framed(record, 0)


@pytest.mark.parametrize("piece", [40, 64, 1 << 20])
def test_a_file_is_read_in_pieces_and_a_large_record_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    records = [b"a", b"b" * 5000, b"c" * 30, b"d" * 700]
    file, found, offset = written(tmp_path / "file", b"".join(framed(each, 0) for each in records)), [], 0
    while some := read(file, offset, most=2):
        assert len(some) <= 2
        found, offset = found + [each.record for each in some], some[-1].end
    os.close(file)
    assert found == records and offset == (tmp_path / "file").stat().st_size


def test_a_file_that_is_being_written_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    file = written(tmp_path / "file", framed(b"one", 0) + framed(b"two", 0)[:-5])
    (first,) = read(file)
    assert read(file, first.end) == []
    with (tmp_path / "file").open("ab") as more:
        more.write(framed(b"two", 0)[-5:])
    assert [each.record for each in read(file, first.end)] == [b"two"]
    os.close(file)


def test_files_are_listed_by_instance_in_the_order_of_writing(tmp_path: Path) -> None:
    names = [name_of("b" * 12, 1), name_of("a" * 12, 10), name_of("a" * 12, 9)]
    for name in (*names, "notes.txt", f".{names[0]}.new", "xyz-00000001.log", POSITIONS):
        (tmp_path / name).write_bytes(b"12345")
    assert [(each.path.name, each.size) for each in segments(tmp_path)] == [(each, 5) for each in names[::-1]]


def test_a_file_is_closed_when_its_writer_is_gone(tmp_path: Path) -> None:
    file = written(tmp_path / "file", b"")
    with (tmp_path / "file").open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert not closed(file)
    assert closed(file) and closed(file)
    os.close(file)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', '{"a": ["x", 2]}', "\0\0\0"])
def test_a_position_that_cannot_be_read_is_the_beginning(tmp_path: Path, text: str) -> None:
    (tmp_path / POSITIONS).write_text(text)
    assert read_positions(tmp_path) == {}
    write_positions(tmp_path, {"file": Position(74, 2)})
    assert read_positions(tmp_path) == {"file": Position(74, 2)}
    assert read_positions(tmp_path / "elsewhere") == {}


def test_a_decision_is_found_wherever_it_was_written(tmp_path: Path) -> None:
    for sequence in (1, 2):
        for instance in ("a" * 12, "b" * 12):
            names = [f"{instance[0]}{sequence}-{number}" for number in range(3)]
            (tmp_path / name_of(instance, sequence)).write_bytes(
                b"".join(framed(decision(each), 0) for each in names)
            )
    for name in ("a1-0", "b2-2", "a2-1"):
        assert find(tmp_path, name) == {"decision_id": name, "action": "offer"}
    assert find(tmp_path, "a3-0") is None


def test_a_name_that_is_only_mentioned_is_no_decision(tmp_path: Path) -> None:
    lines = [
        framed(decision("a1"), 0),
        framed(orjson.dumps({"served": [{"decision_id": "a2", "unit": "a1"}]}), 0),
        framed(b'{"outcomes":["a1"]}', 0),
        framed(b'not "a1" JSON', 0),
        framed(decision("a3"), 0)[:-3],
    ]
    (tmp_path / name_of("a" * 12, 1)).write_bytes(b"".join(lines))
    assert find(tmp_path, "a1") == {"decision_id": "a1", "action": "offer"}
    assert find(tmp_path, "a3") is None


def test_the_search_for_a_decision_is_bounded(tmp_path: Path) -> None:
    for sequence in (1, 2):
        path = tmp_path / name_of("a" * 12, sequence)
        path.write_bytes(framed(decision(f"a{sequence}"), 0))
        os.utime(path, (sequence, sequence))
    most = segments(tmp_path)[1].size
    assert find(tmp_path, "a2", most=most) and find(tmp_path, "a1", most=most) is None
    assert find(tmp_path, "a1", most=2 * most)
