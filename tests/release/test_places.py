"""Files appear whole or not at all, no link is followed, and an address never shows its password."""

import os
from pathlib import Path

import fsspec
import pytest

from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release import places
from ml_workbench.release.places import INCOMING, Folder, Remote, place_of, shown


@pytest.fixture(params=["folder", "memory", "moving"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Folder | Remote:
    "A folder; an object store; a place of fsspec where a file is written aside and moved."
    if request.param == "folder":
        return Folder(tmp_path / "store")
    if request.param == "memory":
        return place_of(f"memory://{tmp_path.name}")
    return Remote(fsspec.filesystem("file"), str(tmp_path / "store"))


def test_what_was_written_is_read_again(place):
    place.write("one/model/graph", b"a graph")
    place.write("one/card", b"")
    assert place.read("one/model/graph", 100) == b"a graph" and place.read("one/card", 100) == b""
    assert place.files("one") == {"model/graph": 7, "card": 0}
    assert [each for each in place.children() if each != INCOMING] == ["one"]


def test_what_is_not_there_is_nothing(place):
    assert place.read("one/card", 100) is None and place.children() == []
    place.write("one/model/graph", b"a graph")
    assert place.read("one/card", 100) is None and place.read("one/model", 100) is None


def test_no_more_is_read_than_one_byte_too_many(place):
    place.write("one/card", b"0123456789")
    assert place.read("one/card", 4) == b"01234" and place.read("one/card", 10) == b"0123456789"


def test_a_file_is_replaced_by_its_next_version(place):
    for data in (b"first", b"the second, which is longer", b"3"):
        place.write("one/card", data)
        assert place.read("one/card", 100) == data


def test_nothing_is_left_aside(place):
    place.write("one/card", b"hello")
    place.sweep()
    assert INCOMING not in place.children() or place.files(INCOMING) == {}


def test_a_writer_who_fails_leaves_the_old_file_and_nothing_aside(tmp_path, monkeypatch):
    place = Folder(tmp_path)
    place.write("one/card", b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(places.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        place.write("one/card", b"new")
    monkeypatch.undo()
    assert place.read("one/card", 10) == b"old" and place.files(INCOMING) == {}


def test_a_mover_who_fails_leaves_nothing_aside(tmp_path, monkeypatch):
    system = fsspec.filesystem("file")
    place = Remote(system, str(tmp_path))
    monkeypatch.setattr(type(system), "mv", lambda *_, **__: (_ for _ in ()).throw(OSError("refused")))
    with pytest.raises(OSError, match="refused"):
        place.write("one/card", b"new")
    assert place.read("one/card", 10) is None and place.files(INCOMING) == {}


def test_no_link_is_followed_and_no_pipe_is_waited_for(tmp_path):
    (tmp_path / "secret").write_bytes(b"not for you")
    place = Folder(tmp_path / "store")
    place.write("one/model/graph", b"a graph")
    (tmp_path / "store/one/link").symlink_to(tmp_path / "secret")
    (tmp_path / "store/one/dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "store/one/folder").symlink_to(tmp_path)
    (tmp_path / "store/two").symlink_to(tmp_path / "store/one")
    os.mkfifo(tmp_path / "store/one/pipe")
    for name in ("one/link", "one/dangling", "one/folder/secret", "two/model/graph", "one/pipe", "one/model"):
        assert place.read(name, 100) is None, name
    assert place.files("one") == {"model/graph": 7, "link": -1, "dangling": -1, "folder": -1, "pipe": -1}
    with pytest.raises(OSError):
        place.files("two")


def test_nothing_is_written_through_a_link(tmp_path):
    place, outside = Folder(tmp_path / "store"), tmp_path / "outside"
    outside.mkdir()
    place.write("one/card", b"x")
    (tmp_path / "store/two").symlink_to(outside)
    (tmp_path / "store/one/model").symlink_to(outside)
    for path in ("two/card", "one/model/graph"):
        with pytest.raises(OSError):
            place.write(path, b"escaped")
    assert list(outside.iterdir()) == []


def test_a_file_that_is_a_link_is_replaced_not_followed(tmp_path):
    place, outside = Folder(tmp_path / "store"), tmp_path / "outside"
    outside.write_bytes(b"kept")
    place.write("one/card", b"x")
    (tmp_path / "store/one/card").unlink()
    (tmp_path / "store/one/card").symlink_to(outside)
    place.write("one/card", b"new")
    assert outside.read_bytes() == b"kept" and place.read("one/card", 10) == b"new"


def test_the_store_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "real")
    Folder(tmp_path / "store").write("one/card", b"x")
    assert (tmp_path / "real/one/card").read_bytes() == b"x"


def test_what_a_killed_process_left_aside_is_swept_away_after_a_day(tmp_path):
    place = Folder(tmp_path)
    place.write("one/card", b"x")
    old, young = tmp_path / INCOMING / "old", tmp_path / INCOMING / "young"
    for each in (old, young):
        each.write_bytes(b"half a file")
    os.utime(old, (0, 0))
    place.sweep()
    assert young.exists() and not old.exists()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("state/store", "state/store"),
        ("/srv/releases", "/srv/releases"),
        ("s3://bucket/releases", "s3://bucket/releases"),
        ("sftp://ann:pass@word@host:22/releases", "sftp://host:22/releases"),
        ("sftp://ann@host/releases", "sftp://host/releases"),
        ("https://host/releases?token=secret", "https://host/releases"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, told: str):
    assert shown(url) == told


@pytest.mark.parametrize("url", ["carrier-pigeon://ann:secret@loft/x", "gopher://x:secret@y"])
def test_an_address_that_nothing_opens_is_one_line_without_its_password(url: str):
    with pytest.raises(ReleaseError, match="MLW_STORE_URL: ") as told:
        place_of(url)
    assert "secret" not in str(told.value) and "\n" not in str(told.value)


def test_a_folder_is_relative_to_the_root_whichever_way_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert place_of("state/store", tmp_path) == Folder(tmp_path / "state/store")
    assert place_of(f"file://{tmp_path}/x", "/elsewhere") == Folder(tmp_path / "x")
    assert place_of("~/store", "/elsewhere") == Folder(tmp_path / "home/store")
