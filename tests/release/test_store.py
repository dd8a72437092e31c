"""A release in the store is whole: whoever creates it beside whom, wherever an upload is cut off, however full the disk."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ml_workbench.model.quarantine import Limits
from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release.bundle import MANIFEST, SIGNATURES, Bundle
from ml_workbench.release.places import INCOMING
from ml_workbench.release.signing import new_keys, signed, signers
from ml_workbench.release.store import Store, StoreAwayError


@pytest.fixture(scope="module")
def bundle(small) -> Bundle:
    return small.small_bundle()


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store("store" if request.param == "folder" else f"memory://{tmp_path.name}", tmp_path)


@pytest.fixture
def folder(tmp_path: Path, bundle: Bundle) -> Path:
    "The folder of a release in a store of its own, to be changed."
    return tmp_path / "store" / Store("store", tmp_path).add(bundle)


# Keeping and finding ----------------------------------------------------------------------------------------


def test_a_release_comes_back_as_it_was(store: Store, bundle: Bundle):
    assert store.read(store.add(bundle)) == bundle


def test_the_same_release_again_changes_nothing(store: Store, bundle: Bundle):
    assert store.add(bundle) == store.add(bundle)
    assert store.ids() == (bundle.release.id,)


def test_the_same_release_again_writes_nothing(folder: Path, bundle: Bundle, monkeypatch):
    store = Store("store", folder.parents[1])
    monkeypatch.setattr(type(store.place), "write", lambda *_: pytest.fail("wrote"))
    store.add(bundle)


def test_a_release_is_found_by_the_beginning_of_its_name(store: Store, bundle: Bundle):
    id = store.add(bundle)
    assert [store.find(id[:length]) for length in (4, 12, 64)] == [id] * 3


@pytest.mark.parametrize("prefix", ["", "abc", "xyz1", "ABCD", "../..", "0" * 65, "0123 "])
def test_what_is_no_beginning_of_a_name_is_refused(store: Store, prefix: str):
    with pytest.raises(ReleaseError, match="give at least 4 of its hexadecimal digits"):
        store.find(prefix)


def test_a_beginning_that_two_names_share_is_not_enough(store: Store, bundle: Bundle, monkeypatch):
    names = tuple("abcd" + digit * 60 for digit in "12")
    monkeypatch.setattr(Store, "ids", lambda _: names)
    with pytest.raises(
        ReleaseError, match=f"2 releases begin with abcd: {names[0][:12]}, {names[1][:12]}; give more"
    ):
        store.find("abcd")


def test_a_name_that_is_not_there_is_told_with_those_that_are(store: Store, bundle: Bundle):
    with pytest.raises(ReleaseError, match="it has none: `ml-workbench release create`"):
        store.find("0000")
    id = store.add(bundle)
    for ask in (store.find, store.read, store.held):
        with pytest.raises(ReleaseError, match=f"has no release 000000000000; it has {id[:12]}"):
            ask("0" * 64)


def test_a_cut_off_name_is_not_enough_to_read(store: Store, bundle: Bundle):
    with pytest.raises(ReleaseError, match="is no full name"):
        store.read(store.add(bundle)[:12])


def test_newer_commits_come_first_and_what_is_damaged_last(small, store: Store):
    made = []
    for number, moment in enumerate(("2024-01-01T00:00:00Z", "2024-03-01T00:00:00Z", "2024-02-01T00:00:00Z")):
        bundle = small.small_bundle(note=str(number))
        origin = replace(bundle.release.origin, committed_at=moment)
        made.append(store.add(replace(bundle, release=replace(bundle.release, origin=origin))))
    assert [each.id for each in store.releases()] == [made[1], made[2], made[0]]
    store.place.write(f"{made[1]}/{MANIFEST}", b"{}")
    assert [each.id for each in store.releases()] == [made[2], made[0], made[1]]
    assert "is not the one of that name" in store.releases()[-1].problem


def test_what_else_lies_in_the_store_is_none_of_its_business(store: Store, bundle: Bundle):
    id = store.add(bundle)
    for name in ("notes.txt", f"{'g' * 64}/{MANIFEST}", f"{id[:12]}/{MANIFEST}", f"{'0' * 64}/card.md"):
        store.place.write(name, b"hello")
    assert store.ids() == (id,)


def test_a_store_that_does_not_exist_yet_is_empty_and_not_reachable(tmp_path):
    store = Store("store", tmp_path)
    assert store.ids() == () and store.releases() == ()
    with pytest.raises(StoreAwayError, match="the store store is not there"):
        store.check_reachable()


# Signatures -------------------------------------------------------------------------------------------------


def test_a_signature_that_is_there_stays_when_another_creator_signs(store: Store, bundle: Bundle):
    ann, ben, manifest = new_keys(), new_keys(), bundle.release.as_bytes()
    for keys in (ann, ben):
        store.add(replace(bundle, signature=signed(manifest, keys.private)))
    id = store.add(bundle)
    assert {*signers(store.read(id).signature, manifest)} == {ann.public, ben.public}


def test_a_signature_that_does_not_fit_gives_way(store: Store, bundle: Bundle):
    id, keys = store.add(replace(bundle, signature=b"nonsense")), new_keys()
    store.add(replace(bundle, signature=signed(bundle.release.as_bytes(), keys.private)))
    assert signers(store.read(id).signature, bundle.release.as_bytes()) == (keys.public,)


def test_a_release_is_never_seen_without_the_signature_it_was_created_with(
    tmp_path, bundle: Bundle, monkeypatch
):
    store, written = Store("store", tmp_path), []
    write = type(store.place).write
    monkeypatch.setattr(
        type(store.place), "write", lambda *given: (written.append(given[1].split("/", 1)[1]), write(*given))
    )
    store.add(replace(bundle, signature=signed(bundle.release.as_bytes(), new_keys().private)))
    assert written[-2:] == [SIGNATURES, MANIFEST]


# What was changed -------------------------------------------------------------------------------------------


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ReleaseError, match=match) as told:
        Store("store", folder.parents[1]).read(folder.name)
    assert folder.name[:12] in str(told.value) and "\n" not in str(told.value)


def test_a_changed_byte_is_found_in_whatever_file(folder: Path, bundle: Bundle):
    for name in bundle.files:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        refused(folder, f"{name} is not the file that was released")
        (folder / name).write_bytes(bundle.files[name])


def test_a_missing_or_a_longer_file_is_found_before_any_is_read(folder: Path, bundle: Bundle, monkeypatch):
    (folder / "card.md").unlink()
    refused(folder, "lacks card.md")
    (folder / "card.md").write_bytes(bundle.files["card.md"] + b" ")
    refused(folder, "holds files of another size: card.md")


@pytest.mark.parametrize(
    "name", ["notes.txt", "model/weights.pkl", ".hidden", "model/deep/er/file", "release.json.bak"]
)
def test_a_file_too_many_is_found(folder: Path, name: str):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("hello")
    refused(folder, f"holds what was not released: {name}")


def test_a_link_in_place_of_a_file_is_found_even_to_the_same_bytes(folder: Path, tmp_path):
    (folder / "card.md").rename(tmp_path / "card.md")
    (folder / "card.md").symlink_to(tmp_path / "card.md")
    refused(folder, r"holds links or pipes instead of files: card\.md")


def test_a_link_in_place_of_a_folder_is_found(folder: Path, tmp_path):
    (folder / "model").rename(tmp_path / "model")
    (folder / "model").symlink_to(tmp_path / "model")
    refused(folder, "lacks model/")


def test_a_release_under_another_name_is_none(folder: Path):
    other = folder.with_name("0" * 64)
    folder.rename(other)
    refused(other, r"release\.json is not the one of that name")


def test_a_file_may_only_be_so_large(folder: Path):
    with pytest.raises(ReleaseError, match="holds files of more than 0 MB"):
        Store("store", folder.parents[1]).read(folder.name, Limits(file_mb=0))


def test_creating_a_release_again_mends_what_was_changed(folder: Path, bundle: Bundle):
    (folder / "card.md").write_text("changed")
    (folder / "policy.json").unlink()
    store = Store("store", folder.parents[1])
    assert store.read(store.add(bundle)) == bundle


def test_creating_it_again_does_not_hide_a_file_too_many(folder: Path, bundle: Bundle):
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(ReleaseError, match=r"holds what was not released: notes\.txt"):
        Store("store", folder.parents[1]).add(bundle)


# Several at once, cut off, full -----------------------------------------------------------------------------

CREATE = """if 1:
    import sys, time
    from pathlib import Path
    from ml_workbench.release.store import Store
    folder = Path(sys.argv[1])
    bundle = Store("made", folder).read(sys.argv[2])
    (folder / f"ready-{sys.argv[3]}").touch()
    while not (folder / "go").exists():
        time.sleep(0.002)
    print(Store("store", folder).add(bundle))
"""


def started(code: str, *words: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(happened: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def test_processes_that_create_the_same_release_at_once_leave_one_that_is_whole(tmp_path, small):
    bundles = [small.small_bundle(), small.small_bundle("xgboost")]
    ids = [Store("made", tmp_path).add(each) for each in bundles]
    processes = [started(CREATE, tmp_path, ids[number % 2], number) for number in range(6)]
    until(lambda: all((tmp_path / f"ready-{number}").exists() for number in range(6)))
    (tmp_path / "go").touch()
    store = Store("store", tmp_path)
    while any(each.poll() is None for each in processes):
        for id in store.ids():  # whatever is seen meanwhile is whole
            store.read(id)
    ended = [(*each.communicate(timeout=60), each.returncode) for each in processes]
    assert [(out.strip(), code) for out, _, code in ended] == [(ids[number % 2], 0) for number in range(6)], (
        ended
    )
    assert {*store.ids()} == {*ids} and [store.read(each.release.id) for each in bundles] == bundles
    assert store.place.files(INCOMING) == {}


INTERRUPTED = """if 1:
    import os, sys, time
    from pathlib import Path
    from ml_workbench.release import places
    from ml_workbench.release.store import Store
    folder, after = Path(sys.argv[1]), int(sys.argv[3])
    bundle, replace, done = Store("made", folder).read(sys.argv[2]), os.replace, []
    def slow(*given, **options):
        if len(done) == after:
            (folder / "stuck").touch()
            time.sleep(600)
        done.append(given)
        replace(*given, **options)
    places.os.replace = slow
    Store("store", folder).add(bundle)
"""


@pytest.mark.parametrize("after", [0, 5, 11, 12], ids=["first file", "middle", "last file", "manifest"])
def test_an_upload_that_is_killed_is_not_seen_and_the_next_one_completes_it(
    tmp_path, bundle: Bundle, after: int
):
    id, store = Store("made", tmp_path).add(bundle), Store("store", tmp_path)
    process = started(INTERRUPTED, tmp_path, id, after)
    until(lambda: (tmp_path / "stuck").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert store.ids() == () and len(store.place.files(INCOMING)) == 1  # what was being written stands aside
    with pytest.raises(ReleaseError, match="has no release"):
        store.read(id)
    assert store.read(store.add(bundle)) == bundle and store.ids() == (id,)


def test_a_disk_that_is_full_is_one_line_and_nothing_is_seen(tmp_path, bundle: Bundle, run_python):
    id = Store("made", tmp_path).add(bundle)
    code = f"""if 1:
        import resource, signal
        from ml_workbench.plan.errors import WorkbenchError
        from ml_workbench.release.store import Store
        bundle = Store("made", {str(tmp_path)!r}).read({id!r})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        try:
            Store("store", {str(tmp_path)!r}).add(bundle)
        except WorkbenchError as error:
            print(error)"""
    done = run_python("-c", code)
    said = f"the store store cannot be written: File too large; release {id[:12]} is not in it\n"
    assert (done.stdout, done.stderr) == (said, "")
    store = Store("store", tmp_path)
    assert store.ids() == () and store.place.files(INCOMING) == {}
    assert store.read(store.add(bundle)) == bundle


def test_a_file_system_without_room_is_one_line_and_nothing_is_seen(tmp_path, bundle: Bundle):
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", tiny], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        store = Store("store", tiny)
        with pytest.raises(
            ReleaseError, match=r"cannot be written: No space left on device; release .* is not in it"
        ):
            store.add(bundle)
        assert store.ids() == () and store.place.files(INCOMING) == {}
        subprocess.run(["mount", "-o", "remount,size=4m", tiny], check=True)
        assert store.read(store.add(bundle)) == bundle
        subprocess.run(["mount", "-o", "remount,ro", tiny], check=True)
        store.add(bundle)  # nothing is to be written
        with pytest.raises(ReleaseError, match="cannot be written: Read-only file system"):
            store.add(replace(bundle, signature=signed(bundle.release.as_bytes(), new_keys().private)))
    finally:
        subprocess.run(["umount", tiny], check=True)


def test_a_store_that_may_not_be_written_is_one_line(tmp_path, bundle: Bundle):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "store").mkdir(mode=0o555)
    with pytest.raises(StoreAwayError, match="the store store cannot be written: Permission denied"):
        Store("store", tmp_path).add(bundle)


def test_a_store_that_is_a_file_is_one_line(tmp_path, bundle: Bundle):
    (tmp_path / "store").write_text("hello")
    store = Store("store", tmp_path)
    with pytest.raises(StoreAwayError, match="the store store cannot be written: "):
        store.add(bundle)
    with pytest.raises(StoreAwayError, match="is not there"):
        store.check_reachable()


def test_whatever_a_library_raises_is_one_line(tmp_path):
    class Broken:
        def children(self) -> list[str]:
            raise RuntimeError("first line\nsecond line")

    store = Store("store", tmp_path)
    store.place = Broken()
    with pytest.raises(StoreAwayError, match=r"^the store store cannot be read: first line$"):
        store.ids()


def test_the_store_is_opened_by_what_a_service_has(run_python, tmp_path):
    code = """if 1:
        import sys
        from ml_workbench.release import bundle, card, declaration, diff, loading, policy, reference, signing, store, verification
        print([n for n in ("pandas", "pyarrow", "duckdb", "sqlglot", "sklearn", "scipy", "xgboost") if n in sys.modules])"""
    assert run_python("-c", code).stdout == "[]\n"
