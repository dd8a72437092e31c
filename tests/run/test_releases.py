"""`ml-workbench release`: thin commands, one readable line for every mistake, and a key that nobody sees."""

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ml_workbench.release.signing import new_keys
from ml_workbench.release.store import Store
from ml_workbench.run.cli import cli
from ml_workbench.run.releases import release

ANN, BEN = new_keys(), new_keys()


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    "The command line in an empty folder, as where a service runs."
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli, ["release", *words])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    "The store that the command line looks into."
    return Store("state/store", tmp_path)


@pytest.fixture
def run(copy_run: Callable[[Path], Path], tmp_path: Path) -> Path:
    "A run without the project around it, in the folder of the command line."
    return copy_run(tmp_path)


def said(result: Result, code: int = 0) -> str:
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.mark.parametrize("name", list(release.commands))
def test_every_command_has_help_with_an_example(name: str):
    shown = CliRunner().invoke(cli, ["release", name, "--help"])
    assert f"ml-workbench release {name}" in shown.output.split("Example:")[1]


# Without a project ------------------------------------------------------------------------------------------


def test_an_empty_store_says_what_to_do(call):
    assert said(call("list")) == "state/store holds no release yet: `ml-workbench release create`\n"
    assert json.loads(said(call("list", "--json"))) == []
    assert "it has none: `ml-workbench release create`" in said(call("show", "abcd"), 1)


def test_creating_needs_a_project(call):
    assert "no params.yaml in" in said(call("create"), 1)


def test_the_list_has_a_line_for_each_release(call, small, store: Store):
    ids = [store.add(small.small_bundle(name)) for name in ("logistic_regression", "xgboost")]
    lines = said(call("list")).splitlines()
    assert sorted(line[:12] for line in lines) == sorted(id[:12] for id in ids)
    assert any(line.split("  ")[1:3] == ["2024-07-15", "XGBoost"] or "XGBoost" in line for line in lines)
    assert all("blessed" in line and "+€60 a month" in line and line.endswith("not signed") for line in lines)


def test_a_damaged_release_is_a_line_too(call, small, store: Store):
    id = store.add(small.small_bundle())
    store.place.write(f"{id}/release.json", b"{}")
    assert "damaged" in said(call("list")) and "is not the one of that name" in said(call("list"))
    assert json.loads(said(call("list", "--json")))[0]["problem"]
    assert "is not the one of that name" in said(call("show", id[:6]), 1)


def test_a_release_is_shown_with_its_files_and_its_card(call, small, store: Store):
    id = store.add(small.small_bundle())
    text = said(call("show", id[:5]))
    assert (
        text.startswith(f"{id}\nnot signed; ")
        and "model/model.onnx" in text
        and "# Logistic regression" in text
    )
    raw = json.loads(said(call("show", id[:5], "--json")))
    assert (
        raw["id"] == id
        and raw["card"].startswith("# Logistic regression")
        and raw["metrics"]["auc"]["value"] == 0.8
    )


def test_verifying_ends_with_one_when_something_is_wrong(call, small, store: Store):
    id = store.add(small.small_bundle())
    assert said(call("verify", id[:8])).count("✓") == 9
    store.place.write(f"{id}/card.md", b"x" * len(small.small_bundle().files["card.md"]))
    assert "✗ hashes: " in said(call("verify", id[:8]), 1)
    assert json.loads(said(call("verify", id[:8], "--json"), 1))[-1]["passed"] is False


def test_two_releases_are_held_against_each_other(call, small, store: Store):
    one, two = (store.add(small.small_bundle(name)) for name in ("logistic_regression", "xgboost"))
    text = said(call("diff", one[:8], two[:8]))
    assert (
        text.splitlines()[0] == f"{one[:12]} → {two[:12]}"
        and "XGBoost instead of Logistic regression." in text
    )
    assert json.loads(said(call("diff", one, two, "--json")))["after"] == two


@pytest.mark.parametrize("words", [("show",), ("verify",), ("sign",), ("diff", "abcd")])
@pytest.mark.parametrize("id", ["abc", "nothing", "../../etc/passwd", "0000"])
def test_a_name_that_is_none_is_one_line(call, monkeypatch, words: tuple, id: str):
    monkeypatch.setenv("MLW_SIGNING_KEY", ANN.private)
    result = call(*words, id)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1 and result.exit_code == 1


@pytest.mark.parametrize("url", ["carrier-pigeon://ann:secret@loft/x", "s3://bucket/releases"])
def test_a_store_that_cannot_be_opened_is_one_line_without_its_password(call, monkeypatch, url: str):
    if url.startswith("s3") and importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed, and would ask the network")
    monkeypatch.setenv("MLW_STORE_URL", url)
    result = call("list")
    assert (
        result.exit_code == 1
        and result.stderr.startswith("error: MLW_STORE_URL: ")
        and "secret" not in result.stderr
    )


# Keys -------------------------------------------------------------------------------------------------------


def test_new_keys_are_shown_once_and_fit_each_other(call, monkeypatch, small, store: Store):
    raw = json.loads(said(call("keys", "--json")))
    monkeypatch.setenv("MLW_SIGNING_KEY", raw["private"])
    monkeypatch.setenv("MLW_TRUSTED_KEYS", raw["public"])
    id = store.add(small.small_bundle())
    assert f"signed by {raw['public'][:8]}…" in said(call("sign", id[:8]))
    assert said(call("verify", id[:8])).count("✓") == 9
    text = said(call("keys"))
    assert (
        text.count("MLW_SIGNING_KEY=") == text.count("MLW_TRUSTED_KEYS=") == 1 and raw["private"] not in text
    )


def test_keys_are_changed_without_a_gap(call, monkeypatch, small, store: Store):
    id = store.add(small.small_bundle())
    for pair, trusted in ((ANN, ANN.public), (BEN, f"{ANN.public},{BEN.public}")):
        monkeypatch.setenv("MLW_SIGNING_KEY", pair.private)
        monkeypatch.setenv("MLW_TRUSTED_KEYS", trusted)
        said(call("sign", id[:8]))
        said(call("verify", id[:8]))
    for trusted in (ANN, BEN):
        monkeypatch.setenv("MLW_TRUSTED_KEYS", trusted.public)
        said(call("verify", id[:8]))
    monkeypatch.setenv("MLW_TRUSTED_KEYS", new_keys().public)
    assert "✗ signature: it is signed by" in said(call("verify", id[:8]), 1)
    assert said(call("list")).rstrip().endswith("not trusted")


def test_signing_needs_a_key_and_a_whole_release(call, monkeypatch, small, store: Store):
    id = store.add(small.small_bundle())
    assert "set MLW_SIGNING_KEY" in said(call("sign", id[:8]), 1)
    monkeypatch.setenv("MLW_SIGNING_KEY", "my secret words")
    shown = call("sign", id[:8])
    assert (
        "MLW_SIGNING_KEY is not the Base64 of 32 bytes" in said(shown, 1)
        and "my secret words" not in shown.output
    )
    monkeypatch.setenv("MLW_SIGNING_KEY", ANN.private)
    store.sign(id, b"nonsense")
    assert "release.sig is damaged" in said(call("sign", id[:8]), 1)
    store.place.write(f"{id}/card.md", b"x" * len(small.small_bundle().files["card.md"]))
    assert "card.md is not the file that was released" in said(call("sign", id[:8]), 1)


# With a run -------------------------------------------------------------------------------------------------


def test_a_blessed_run_is_released_once_signed_and_found_again(call, run: Path, store: Store, monkeypatch):
    monkeypatch.setenv("MLW_SIGNING_KEY", ANN.private)
    monkeypatch.setenv("MLW_TRUSTED_KEYS", ANN.public)
    id, line, new = said(call("create")).splitlines()
    assert store.ids() == (id,) and new == "new in the store"
    assert f"signed by {ANN.public[:8]}…" in line and "blessed" in line and ANN.private not in line
    assert said(call("create")).splitlines()[0::2] == [id, "it was in the store already"]
    assert said(call("list")).startswith(id[:12])
    assert "✓ reference: counts add up, and the run's features give the same again" in said(
        call("verify", id[:12])
    )


def test_who_trusts_keys_and_has_none_is_told_that_the_release_would_be_refused(call, run: Path, monkeypatch):
    monkeypatch.setenv("MLW_TRUSTED_KEYS", ANN.public)
    assert "sign it with `ml-workbench release sign`" in said(call("create"))
    assert json.loads(said(call("create", "--json")))["new"] is False


def veto(run: Path) -> None:
    path = run / "reports/gate.json"
    raw = json.loads(path.read_text())
    raw["checks"][0] |= {"passed": False, "sentence": "Its AUC is too low."}
    raw |= {"verdict": "vetoed", "reasons": ["Its AUC is too low."], "sentence": f"{raw['label']} is vetoed."}
    path.unlink()
    path.write_text(json.dumps(raw))


def test_a_vetoed_model_is_not_released_until_somebody_answers_for_it(call, run: Path, store: Store):
    veto(run)
    shown = call("create")
    assert "✗ Its AUC is too low." in said(shown, 1) and store.ids() == ()
    signed = CliRunner().invoke(cli, ["gate", "--override", "--by", "Ann", "--reason", "A pilot"])
    assert signed.exit_code == 0, signed.output
    raw = json.loads(said(call("create", "--json")))
    assert raw["verdict"] == "overridden" and "overridden" in said(call("list"))
    verdict = json.loads(store.read(raw["id"]).files["verdict.json"])
    assert (verdict["override"]["by"], verdict["override"]["reason"]) == ("Ann", "A pilot")


def test_a_verdict_that_is_out_of_date_is_refused(call, run: Path):
    path = run / "reports/train.json"
    text = path.read_text()
    path.unlink()
    path.write_text(text + "\n")
    assert "the verdict is out of date" in said(call("create"), 1)


def test_a_store_that_is_full_is_one_line(run: Path, run_python):
    code = """if 1:
        import resource
        from ml_workbench.run.cli import cli
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        cli(["release", "create"])"""
    done = run_python("-c", code, cwd=run, PYTHONPATH=str(Path(__file__).parents[2]))
    assert done.returncode == 1 and done.stderr.startswith(
        "error: the store state/store cannot be written: File too large; release "
    )
    assert done.stderr.count("\n") == 1


def test_code_that_is_not_committed_is_refused_unless_it_is_allowed(call, run: Path):
    for words in (
        ("init", "-q"),
        (
            "-c",
            "user.name=Ann",
            "-c",
            "user.email=ann@example.org",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "first",
        ),
    ):
        subprocess.run(["git", *words], cwd=run, check=True, capture_output=True)
    assert "Commit first, or release with --allow-dirty" in said(call("create"), 1)
    raw = json.loads(said(call("create", "--allow-dirty", "--json")))
    assert "params.yaml" in raw["origin"]["dirty"] and raw["origin"]["commit"]
