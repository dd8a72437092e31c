"""The commands of batches: what they say, what they refuse, and how they end."""

import json
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ml_workbench.plan.settings import Settings
from ml_workbench.run.cli import cli
from ml_workbench.serve import batch, refreshing
from tests.serve.shop import MONDAY, SHOP, WEEK, project, settings_of, write_tables


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    "A machine in production, with the shop's own promises about its tables."
    monkeypatch.setattr("ml_workbench.release.loading.try_in_child", lambda *_: 0.0)
    monkeypatch.setattr(batch, "score", partial(batch.score, tables=SHOP))
    monkeypatch.setattr(refreshing, "refresh", partial(refreshing.refresh, tables=SHOP))
    monkeypatch.chdir(tmp_path)
    settings = project(tmp_path)
    for name in ("database_url", "store_url", "cache_dir"):
        monkeypatch.setenv(f"MLW_{name.upper()}", getattr(settings, name))
    return settings


def call(*words: object, command: str = "score", **options: str) -> Result:
    "Score last Monday's members."
    given = {"as-of": f"{MONDAY}", "source": "tables"} | ({"target": "results"} if command == "score" else {})
    flags = [part for name, value in (given | options).items() for part in (f"--{name}", value)]
    return CliRunner().invoke(cli, [command, *flags, *map(str, words)])


def test_a_run_says_what_it_did_and_a_second_that_there_was_nothing_to_do(shop):
    first = call()
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert (
        "units as of 2024-07-01 05:00 under release" in lines[0]
        and "control" in lines[0]
        and "holdout" in lines[0]
    )
    assert (
        lines[1].startswith(("18", "19", "20", "17", "16"))
        and "actions (" in lines[1]
        and "which cost" in lines[1]
    )
    assert f"{shop.root}/results?table=scores is written" in lines[2]
    assert "units are active as of 2024-07-01 05:00" in first.stderr
    second = call()
    assert second.exit_code == 0 and "nothing was done (--again does it anew)" in second.stdout
    assert call("--again").stdout.splitlines()[0] == lines[0]


def test_a_program_gets_a_record_of_the_run_on_the_output_and_nothing_else(shop):
    told = json.loads(call("--json").stdout)
    assert told["done"] and told["as_of"] == f"{MONDAY}" and told["line"] == 1 and len(told["release"]) == 64
    assert sum(told["by_arm"].values()) == told["units"] == told["records"]["served"]["new"]
    assert sum(told["acted_by_arm"].values()) == told["actions"] == told["cost"]
    assert set(told["seconds"]) == {"look", "read", "score", "decide", "write", "record"}
    again = json.loads(call("--json").stdout)
    assert not again["done"] and again["actions"] == told["actions"] and again["by_arm"] == told["by_arm"]


def test_features_are_put_where_a_service_looks_them_up(shop):
    first = call(command="online")
    assert first.exit_code == 0 and "features of" in first.stdout and "for release" in first.stdout
    later = [call(command="online", **{"as-of": f"{MONDAY + weeks * WEEK}"}) for weeks in (1, 2)]
    assert "those as of 2024-07-01 05:00 are gone" in later[1].stdout
    told = json.loads(call("--json", command="online", **{"as-of": f"{MONDAY + 2 * WEEK}"}).stdout)
    assert told["replaced"] == told["units"] > 100 and told["dropped"] == []
    old = call(command="online")
    assert old.exit_code == 1 and "older than those in use" in old.stderr


BAD = {
    "no time": ({"as-of": "yesterday"}, "'yesterday' is no time like"),
    "a time zone": ({"as-of": "2024-07-01T05:00+02:00"}, "names a time zone"),
    "the future of the data": (
        {"as-of": "2030-01-01"},
        "lies in their future; the latest as-of time that would do is",
    ),
    "a source that is away": ({"source": "postgresql://ann:secret@127.0.0.1:1/x"}, "cannot reach database"),
    "no source": ({"source": "nowhere"}, "nowhere does not exist"),
    "no release of that name": ({"release": "0000"}, "0000"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("command", ["score", "online"])
def test_bad_input_ends_with_1_and_a_line_that_says_what_to_do(shop, command, case):
    given, message = BAD[case]
    done = call(command=command, **given)
    last = done.stderr.strip().splitlines()[-1]
    assert done.exit_code == 1 and done.stdout == "" and last.startswith("error: ") and message in last, (
        done.stderr
    )
    assert "secret" not in done.output and "Traceback" not in done.output
    assert not (shop.root / "results").exists() or not list((shop.root / "results").rglob("*.parquet"))


def test_a_target_that_cannot_be_written_is_told_before_anything_is_read(shop):
    for target, message in (
        ("postgresql://ann:secret@127.0.0.1:1/x", "cannot be written"),
        ("mysql://x", "unknown kind"),
    ):
        done = call(target=target)
        assert done.exit_code == 1 and message in done.stderr and "secret" not in done.output
        assert "active" not in done.stderr


def test_without_a_deployment_a_release_must_be_named(tmp_path, monkeypatch):
    settings = settings_of(tmp_path)
    write_tables(tmp_path / "tables")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLW_DATABASE_URL", settings.database_url)
    for command in ("score", "online"):
        done = call(command=command)
        assert done.exit_code == 1
        assert (
            done.stderr
            == "error: nothing is deployed: `ml-workbench deploy` a release, or name one with --release\n"
        )


def test_a_database_of_another_version_or_kind_is_told(shop, monkeypatch):
    for url, message in (
        ("mysql://x/y", "records are not kept in 'mysql'"),
        ("postgresql://127.0.0.1:1/x", "cannot be reached"),
    ):
        monkeypatch.setenv("MLW_DATABASE_URL", url)
        done = call()
        assert done.exit_code == 1 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_real_week_is_scored_from_the_tables_that_the_pipeline_read(produced, tmp_path, monkeypatch):
    for name, value in (
        ("DATABASE_URL", f"sqlite:///{tmp_path}/r.db"),
        ("STORE_URL", f"{tmp_path}/store"),
        ("CACHE_DIR", f"{tmp_path}/cache"),
    ):
        monkeypatch.setenv(f"MLW_{name}", value)
    monkeypatch.chdir(produced)
    release = CliRunner().invoke(cli, ["release", "create", "--allow-dirty", "--json"])
    assert release.exit_code == 0, release.output
    name = next(path.name for path in (tmp_path / "store").iterdir() if len(path.name) == 64)
    words = [
        "score",
        "--as-of",
        "2018-01-01 05:00",
        "--source",
        "data/tables",
        "--target",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(cli, [*words, "--release", name[:8], "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (
        told["units"] > 2000 and 0 < told["actions"] <= 100 and told["as_of"] == f"{datetime(2018, 1, 1, 5)}"
    )
