"""From the keyboard to the ledger: what is live changes in one line, is said in plain words, or is refused whole."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from ml_workbench.database.connections import transaction
from ml_workbench.database.tables import table_of
from ml_workbench.plan.experiment import Experiment
from ml_workbench.release.bundle import Bundle
from ml_workbench.release.ledger import Ledger
from ml_workbench.release.signing import new_keys
from ml_workbench.release.store import Store
from ml_workbench.run.cli import cli
from ml_workbench.serve.designs import REPLAY, canonical, design_hash, plain_design
from ml_workbench.serve.records import Records
from tests.release.live import judged
from tests.release.small import EXPERIMENT, small_bundle

ROOT = Path(__file__).resolve().parents[2]
WHY = ("--by", "Ann", "--reason", "because")


@dataclass
class Site:
    "A machine in production: a store, a database, and nothing of the project."

    root: Path
    url: str

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments))

    def release(self, bundle: Bundle) -> str:
        return Store("store", self.root).add(bundle)

    def said(self, *arguments: str) -> str:
        done = self(*arguments)
        assert done.exit_code == 0, done.output
        return done.output

    def refused(self, *arguments: str, code: int = 1) -> str:
        done = self(*arguments)
        assert done.exit_code == code and "Traceback" not in done.output, done.output
        if code == 1:
            assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        return done.stderr

    def told(self, *arguments: str) -> dict:
        return json.loads(self.said(*arguments, "--json"))

    @property
    def lines(self) -> list:
        with Ledger(self.url) as ledger:
            return ledger.lines()

    @property
    def designs(self) -> list[dict]:
        table = table_of("experiments")
        with Ledger(self.url) as ledger, transaction(ledger.engine, reading=True) as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.started_at)).mappings()
            return [dict(row) for row in rows]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    "An empty site with a database of either kind."
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/state/ledger.db"
    return _site(tmp_path, url, monkeypatch)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    "An empty site with SQLite, where the database makes no difference."
    return _site(tmp_path, f"sqlite:///{tmp_path}/state/ledger.db", monkeypatch)


def _site(root: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLW_DATABASE_URL", url)
    monkeypatch.setenv("MLW_STORE_URL", "store")
    return Site(root, url)


def apple() -> Bundle:
    return judged(small_bundle())


def banana(**other) -> Bundle:
    return judged(small_bundle(), card="another card", **other)


def experiment(**other) -> Experiment:
    return Experiment.model_validate(EXPERIMENT.model_dump() | other)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    "A site with a champion and a challenger at 10%, to be copied: checking releases takes its time."
    root = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patched:
        made = _site(root, f"sqlite:///{root}/state/ledger.db", patched)
        first, second = made.release(apple()), made.release(banana())
        made.said("deploy", first[:8], *WHY)
        made.said("deploy", second[:8], "--as", "challenger", "--ramp", ".1", *WHY)
    return root, first, second


@pytest.fixture
def live(small: Site, template: tuple[Path, str, str]) -> tuple[Site, str, str]:
    "A champion and a challenger at 10%."
    root, first, second = template
    shutil.copytree(root, small.root, dirs_exist_ok=True)
    return small, first, second


# The whole way ---------------------------------------------------------------------------------------------


def test_from_the_first_deployment_to_a_promotion_and_back(site: Site) -> None:
    first, second = site.release(apple()), site.release(banana())
    said = site.said("deploy", first[:8], "--by", "Ann", "--reason", "the first model")
    assert (
        said
        == f"Line 1: deploy by Ann.\nChampion ({first[:12]}) decides for 90% of all units and 10% are not treated.\n"
    )
    told = site.told("deploy", second, "--as", "challenger", "--ramp", "5%", *WHY)
    assert told["served"] == pytest.approx(
        {"champion": 0.873, "control": 0.018, "challenger": 0.009, "not treated": 0.1}
    )
    assert told["deployment"]["releases"] == {"champion": first, "challenger": second}
    assert told["line"] == 2 and told["previous"] == 1 and told["written"]
    assert "served like champion" in " ".join(told["told"])
    assert site.told("ramp", ".5", *WHY)["deployment"]["split"]["ramp"] == 0.5
    assert site.told("pause", *WHY)["deployment"]["paused"] == ["challenger"]
    assert site.told("resume", *WHY)["deployment"]["paused"] == []
    told = site.told("promote", "--by", "Ben", "--reason", "it ships")
    assert told["deployment"]["releases"] == {"champion": second} and told["served"] == {
        "champion": 0.9,
        "not treated": 0.1,
    }
    told = site.told("rollback", *WHY)
    assert told["restores"] == 5 and told["deployment"]["releases"] == {
        "champion": first,
        "challenger": second,
    }
    told = site.told("rollback", *WHY, "--without", second[:6])
    assert told["restores"] == 1 and told["condemned"] == second
    shown = site.said("history").splitlines()
    assert (
        len(shown) == 8
        and shown[0].startswith("   8  20")
        and "rollback (back to line 1, without" in shown[0]
    )
    assert re.search(r"Ben  promote: champion \w{12} 90%, not treated 10%\. it ships$", shown[2])


def test_a_design_is_frozen_with_the_line_and_again_when_the_ramp_changes(site: Site) -> None:
    site.said("deploy", site.release(apple()), *WHY)
    assert site.designs == []
    site.said("deploy", site.release(banana()), "--as", "challenger", "--ramp", ".1", *WHY)
    frozen = experiment(ramp=0.1)
    (row,) = site.designs
    assert row["design"] == canonical(plain_design(frozen)) and row["design_hash"] == design_hash(frozen)
    assert (row["experiment"], row["actor"]) == ("letters-1", "Ann")
    site.said("ramp", ".4", "--by", "Ben")
    wider = experiment(ramp=0.4)
    assert [each["design_hash"] for each in site.designs] == [design_hash(frozen), design_hash(wider)]
    assert site.designs[1]["design"] == canonical(plain_design(wider))


def test_where_both_releases_have_the_same_plan_the_champions_terms_stay_in_force(live) -> None:
    site, first, _ = live
    assert site.lines[0].deployment.terms == first
    other = site.release(banana(experiment=experiment(name="letters-2", horizon_days=35)))
    told = site.told("deploy", other, "--as", "challenger", *WHY)
    assert told["deployment"]["terms"] == other and told["deployment"]["split"]["name"] == "letters-2"
    assert "Experiment 'letters-1' ends here." in told["told"]


def test_shares_names_holdout_and_shadows_can_be_ones_own(live) -> None:
    site, first, second = live
    wanted = (
        "--as",
        "challenger",
        "--traffic",
        "champion=.9,challenger=.1",
        "--experiment",
        "mine",
        "--holdout",
        ".2",
    )
    told = site.told("deploy", second, *wanted, *WHY)
    split = told["deployment"]["split"]
    assert [(arm["name"], arm["weight"]) for arm in split["arms"]] == [("champion", 0.9), ("challenger", 0.1)]
    assert (split["name"], split["holdout"], told["deployment"]["control"]) == ("mine", 0.2, "champion")
    told = site.told("deploy", first, "--shadow", second[:8], *WHY)
    assert told["deployment"]["shadows"] == [second] and "never answers" in " ".join(told["told"])


def test_dealing_units_anew_under_a_name_that_runs_is_refused_with_the_remedy(live) -> None:
    site, _, second = live
    for option in (("--holdout", ".2"), ("--traffic", "control=.2,champion=.4,challenger=.4")):
        said = site.refused("deploy", second, "--as", "challenger", *option, *WHY)
        assert "dealt anew" in said and "ml-workbench ramp" in said and "--experiment NAME" in said
    assert len(site.lines) == 2 and len(site.designs) == 1


def test_a_wish_that_is_granted_already_writes_no_line(live) -> None:
    site, _, second = live
    for command in (("ramp", "10%"), ("resume",), ("deploy", second, "--as", "challenger", "--ramp", ".1")):
        told = site.told(*command, *WHY)
        assert (
            not told["written"]
            and told["line"] == 2
            and told["told"][0].startswith("Nothing to change, line 2")
        )
    assert len(site.lines) == 2


def test_who_is_at_the_keyboard_answers_for_it_unless_somebody_is_named(
    live, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, *_ = live
    monkeypatch.setenv("LOGNAME", "cleo")
    assert site.told("ramp", ".2")["actor"] == "cleo"
    assert site.told("ramp", ".3", "--by", "Dan")["actor"] == "Dan"


# Nothing but the ledger ------------------------------------------------------------------------------------


def test_all_but_deploy_work_while_the_store_is_away(live) -> None:
    site, first, second = live
    (site.root / "store").rename(site.root / "away")
    for command in (
        ("ramp", ".3"),
        ("pause",),
        ("resume",),
        ("promote",),
        ("rollback",),
        ("pause", "--all"),
        ("history",),
    ):
        assert site(*command, *(() if command[0] == "history" else WHY)).exit_code == 0, command
    site.said("rollback", "--without", second[:8], *WHY)
    assert site.lines[0].deployment.releases == {"champion": first}


def test_a_rollback_loads_nothing_that_takes_its_time(live, run_python) -> None:
    site, *_ = live
    heavy = {"numpy", "pandas", "pyarrow", "duckdb", "alembic", "onnxruntime", "fsspec", "sklearn", "scipy"}
    code = (
        "import sys\nfrom ml_workbench.run.cli import cli\n"
        "cli(['rollback', '--reason', 'now'], standalone_mode=False)\n"
        f"print('loaded', sorted({heavy} & set(sys.modules)))"
    )
    done = run_python("-c", code, cwd=site.root, MLW_DATABASE_URL=site.url, PYTHONPATH=str(ROOT))
    assert done.stdout.endswith("loaded []\n"), done.stdout + done.stderr


def test_pausing_everything_leaves_the_rule(live) -> None:
    site, *_ = live
    assert site.told("pause", "--all", *WHY)["served"] == {"control": 0.9, "not treated": 0.1}


# Refused whole ---------------------------------------------------------------------------------------------


def test_a_reason_is_asked_for_where_something_is_stopped_taken_back_or_made_final(live) -> None:
    site, *_ = live
    for command in ("pause", "rollback", "promote"):
        assert "--reason" in site.refused(command, code=2)
        assert "needs a reason" in site.refused(command, "--reason", " ")
    assert "needs somebody" in site.refused("pause", "--reason", "why", "--by", "")
    assert len(site.lines) == 2


def test_a_vetoed_model_is_not_deployed_unless_somebody_took_it_upon_themselves(small: Site) -> None:
    bundle = small_bundle()
    vetoed = small.release(judged(bundle, "vetoed"))
    said = small("deploy", vetoed, *WHY)
    assert said.exit_code == 1 and "is not deployed" in said.stderr and "Its AUC is too low." in said.stderr
    signed = {"artifact": bundle.release.artifact, "by": "Ada", "failed": ["auc"]}
    other = small.release(judged(bundle, "vetoed", override=signed | {"failed": ["size"]}))
    assert "the override by Ada is about another file or other reasons" in small.refused(
        "deploy", other, *WHY
    )
    small.said("deploy", small.release(judged(bundle, "vetoed", override=signed)), *WHY)
    assert len(small.lines) == 1


@pytest.mark.parametrize(
    ("bundle", "told"),
    [
        (small_bundle, "holds no verdict of the gate"),
        (lambda: judged(small_bundle(), artifact="0" * 64), "verdict is about another model"),
    ],
)
def test_a_release_that_nobody_judged_is_not_deployed(
    small: Site, bundle: Callable[[], Bundle], told: str
) -> None:
    assert told in small.refused("deploy", small.release(bundle()), *WHY)
    assert small.lines == []


def test_a_damaged_release_is_not_deployed(small: Site) -> None:
    release = small.release(apple())
    model = small.root / "store" / release / "model" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    assert "model/model.onnx is not the file that was released" in small.refused("deploy", release, *WHY)
    assert small.lines == []


def test_a_release_without_a_trusted_signature_is_not_deployed(
    small: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = small.release(apple())
    monkeypatch.setenv("MLW_TRUSTED_KEYS", new_keys().public)
    assert "sign" in small.refused("deploy", release, *WHY)
    assert small.lines == []


def test_an_unknown_release_a_shadow_that_is_not_there_and_a_store_that_is_away_are_told(live) -> None:
    site, first, _ = live
    assert "ffff" in site.refused("deploy", "ffff", *WHY)
    assert "ffff" in site.refused("deploy", first, "--shadow", "ffff", *WHY)
    (site.root / "store").rename(site.root / "away")
    assert site.refused("deploy", first, *WHY)
    assert len(site.lines) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("deploy", "{first}", "--traffic", "control=.5,champion=.4"), "must sum to 1"),
        (("deploy", "{first}", "--ramp", "much"), "--ramp: 'much' is no number"),
        (("deploy", "{first}", "--holdout", "2"), "--holdout: 2 is not between 0 and 1"),
        (("ramp", "-1"), "No such option"),
        (("ramp", "2"), "SHARE: 2 is not between 0 and 1"),
        (("pause", "chalenger"), "did you mean 'challenger'"),
        (("pause", "challenger", "--all"), "not both"),
        (("rollback", "--to", "2"), "name a line from 1 to 1"),
        (("rollback", "--to", "0"), "Invalid value"),
        (("rollback", "--without", "ff"), "at least 4"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(live, arguments: tuple[str, ...], told: str) -> None:
    site, first, _ = live
    filled = [each.format(first=first) for each in arguments]
    code = 2 if told in ("No such option", "Invalid value") else 1
    assert told in site.refused(*filled, *WHY, code=code)
    assert len(site.lines) == 2


def test_with_nothing_deployed_every_command_says_how_to_begin_and_leaves_nothing_behind(small: Site) -> None:
    commands = ("ramp", ".1"), ("pause",), ("resume",), ("promote",), ("rollback",)
    for command in commands:
        assert "begin with `ml-workbench deploy RELEASE`" in small.refused(*command, *WHY)
    assert (
        small.said("history") == "Nothing was ever deployed.\n"
        and json.loads(small.said("history", "--json")) == []
    )
    assert not (small.root / "state").exists()
    with Ledger(small.url) as ledger:
        ledger.migrate()
    for command in commands[:-1]:
        assert "begin with `ml-workbench deploy RELEASE`" in small.refused(*command, *WHY)
    assert "nothing to go back to" in small.refused("rollback", *WHY)
    assert small.said("history") == "Nothing was ever deployed.\n"


def test_a_damaged_line_can_be_read_past_and_rolled_back_from(live) -> None:
    site, *_ = live
    with Ledger(site.url) as ledger, transaction(ledger.engine) as connection:
        row = {
            "line": 3,
            "at": site.lines[0].at,
            "actor": "hand",
            "action": "deploy",
            "state": "{",
            "reason": "oops",
            "previous": 2,
        }
        connection.execute(sa.insert(table_of("ledger")), row)
    assert "cannot be read. oops" in site.said("history", "-n", "1")
    assert json.loads(site.said("history", "--json"))[0]["error"].startswith("line 3 of the ledger")
    assert "`ml-workbench rollback` goes back" in site.refused("ramp", ".3", *WHY)
    assert site.told("rollback", *WHY)["restores"] == 2


def test_a_database_that_is_away_is_one_line(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLW_DATABASE_URL", "postgresql://ann:hunter2@127.0.0.1:1/nowhere")
    said = small.refused("rollback", *WHY)
    assert "cannot be reached" in said and "hunter2" not in said


# Two at once -----------------------------------------------------------------------------------------------

HESITANT = """
import sys
from ml_workbench.release.ledger import Ledger
from ml_workbench.run.cli import cli
write = Ledger.write
def hesitating(*arguments, **options):
    print("looked", flush=True)
    sys.stdin.readline()
    return write(*arguments, **options)
Ledger.write = hesitating
cli(sys.argv[1:])
"""


@pytest.mark.parametrize("commands", [(("ramp", ".2"), ("ramp", ".3")), (("rollback",), ("promote",)), (("deploy", "{first}"), ("pause", "--all"))])  # fmt: skip
def test_of_two_operators_at_once_one_wins_and_the_other_is_told_what_holds(
    site: Site, commands: tuple
) -> None:
    first, second = site.release(apple()), site.release(banana())
    site.said("deploy", first, *WHY)
    site.said("deploy", second, "--as", "challenger", "--ramp", ".1", *WHY)
    designs = len(site.designs)
    people = []
    for name, command in zip(("Ben", "Cleo"), commands):
        words = [each.format(first=first) for each in command]
        people.append(
            subprocess.Popen(
                [sys.executable, "-c", HESITANT, *words, "--by", name, "--reason", f"{name} wants it"],
                cwd=site.root, env=_environment(site), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    for each in people:
        assert each.stdout.readline() == "looked\n"
    for each in people:
        each.stdin.write("\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60) for each in people]
    assert sorted(each.returncode for each in people) == [0, 1], said
    line = site.lines[0]
    assert len(site.lines) == 3 and line.reason == f"{line.actor} wants it"
    loser = next(error for each, (_, error) in zip(people, said) if each.returncode)
    assert (
        f"nothing was changed: {line.actor} was faster and wrote line 3" in loser and loser.count("\n") == 1
    )
    assert len(site.designs) == designs + (line.action == "ramp")


def _environment(site: Site) -> dict[str, str]:
    return os.environ | {"MLW_DATABASE_URL": site.url, "MLW_STORE_URL": "store", "PYTHONPATH": str(ROOT)}


def test_every_change_has_the_same_options_for_who_and_why() -> None:
    for name in ("deploy", "ramp", "pause", "resume", "promote", "rollback"):
        options = {
            option
            for each in cli.commands[name].params
            if isinstance(each, click.Option)
            for option in each.opts
        }
        assert {"--by", "--reason", "--json"} <= options, name


def test_a_real_experiment_does_not_take_the_name_of_one_that_is_replayed_there(site: Site) -> None:
    first, second = (
        site.release(judged(small_bundle(name), experiment=EXPERIMENT))
        for name in ("logistic_regression", "xgboost")
    )
    site.said("deploy", first, *WHY)
    with Records(site.url) as records:
        records.freeze(EXPERIMENT, at=datetime(2024, 7, 15), actor=REPLAY)
    said = site.refused("deploy", second, "--as", "challenger", *WHY)
    assert "experiment 'letters-1' is replayed in" in said and "--experiment NAME" in said
    assert len(site.lines) == 1 and [each["actor"] for each in site.designs] == [REPLAY]
    site.said("deploy", second, "--as", "challenger", "--by", REPLAY, "--reason", "a drive")
    assert [each["actor"] for each in site.designs] == [REPLAY]
    site.said("deploy", second, "--as", "challenger", "--experiment", "letters-2", *WHY)
    assert {each["experiment"]: each["actor"] for each in site.designs} == {
        "letters-1": REPLAY,
        "letters-2": "Ann",
    }
