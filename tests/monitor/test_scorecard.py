"""The score follows from evidence alone: what is missing lowers it, what is old counts as half, nothing is taken on trust."""

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.monitor.evidence import (
    AGES,
    TESTS,
    Archive,
    Evidence,
    authors,
    moment,
    outcomes_from,
    outdated,
)
from ml_workbench.monitor.proofs import (
    Found,
    Monitored,
    Passed,
    Reported,
    affordable,
    ageing,
    beneficial,
    came_true,
    canaried,
    canaries,
    gate,
    inclusive,
    judged_review,
    private,
    promises,
    reviewed,
    rolled_back,
    simplest,
    tuned,
    whole_pipeline,
)  # fmt: skip
from ml_workbench.monitor.questions import CARD, SECTIONS, Question, named_tests
from ml_workbench.monitor.reviews import MODULES, REVIEWS, Review, add_review, read_reviews, reviewed_parts
from ml_workbench.monitor.scorecard import (
    Answer,
    Card,
    as_json,
    band,
    card_of,
    fallen,
    from_json,
    record,
    recorded,
)  # fmt: skip
from ml_workbench.plan.errors import MonitorError, WorkbenchError
from ml_workbench.plan.files import write_json
from ml_workbench.release.ledger import Ledger
from ml_workbench.release.operations import change, rollback
from ml_workbench.release.traffic import Order, deployed, promoted, ramped

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def junit(*cases: str, at: datetime = NOW) -> str:
    "A report of a test run as pytest writes it; a case is 'module.name', with '!' failed, with '?' skipped."
    parts = []
    for case in cases:
        module, name = case.rstrip("!?").rsplit(".", 1)
        inner = {"!": "<failure message='no'/>", "?": "<skipped/>"}.get(case[-1], "")
        parts.append(f'<testcase classname="{module}" name="{name}" time="0.5">{inner}</testcase>')
    suite = f'<testsuite name="pytest" timestamp="{at.isoformat()}">{"".join(parts)}</testsuite>'
    return f'<?xml version="1.0" encoding="utf-8"?><testsuites>{suite}</testsuites>'


def git(folder: Path, *words: str, at: datetime = NOW - timedelta(days=30), by: str = "Ben") -> None:
    day = at.isoformat()
    surroundings = {
        "GIT_AUTHOR_DATE": day, "GIT_COMMITTER_DATE": day, "GIT_AUTHOR_NAME": by, "GIT_COMMITTER_NAME": by,
        "GIT_AUTHOR_EMAIL": f"{by.lower()}@example.org", "GIT_COMMITTER_EMAIL": f"{by.lower()}@example.org",
        "GIT_CONFIG_GLOBAL": "/dev/null", "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder),
    }  # fmt: skip
    subprocess.run(["git", *words], cwd=folder, env=surroundings, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    "A project with its parameters, its specification and nothing that was shown yet."
    for name in ("params.yaml", *MODULES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def with_tests(project: Path, *cases: str, at: datetime = NOW) -> Archive:
    (project / TESTS).parent.mkdir(exist_ok=True)
    (project / TESTS).write_text(junit(*cases, at=at))
    return Archive(project, NOW)


# Tests ------------------------------------------------------------------------------------------------------


def test_a_test_that_passed_lately_is_evidence_with_its_id_and_its_date(project):
    found = Passed("tests/a/test_b.py::test_c", "c holds")(with_tests(project, "tests.a.test_b.test_c"))
    assert found == Evidence("test", "tests/a/test_b.py::test_c", "c holds", 1, NOW, "")


@pytest.mark.parametrize(
    ("cases", "remedy"),
    [
        (("tests.a.test_b.test_c!",), "it failed"), (("tests.a.test_b.test_c?",), "it was skipped"),
        (("tests.a.test_b.test_d",), "it was not among"), ((), "it was not among"),
        (("tests.a.test_b.test_c[1]", "tests.a.test_b.test_c[2]!"), "it failed"),
        (("tests.a.test_bb.test_c",), "it was not among"),
    ],
)  # fmt: skip
def test_a_test_that_did_not_pass_is_none(project, cases, remedy):
    found = Passed("tests/a/test_b.py::test_c", "c holds")(with_tests(project, *cases))
    assert found.weight == 0 and found.remedy.startswith(remedy)


def test_of_many_parameters_all_must_hold_and_some_must_have_run(project):
    archive = with_tests(project, "tests.a.test_b.test_c[1]", "tests.a.test_b.test_c[2]?")
    assert Passed("tests/a/test_b.py::test_c", "")(archive).weight == 1
    assert Passed("tests/a/test_b.py", "")(archive).weight == 1
    assert (
        Passed("tests/a/test_b.py", "")(
            with_tests(project, "tests.a.test_b.test_c", "tests.a.test_b.test_d!")
        ).weight
        == 0
    )


def test_a_test_in_a_class_has_its_class_in_its_id():
    assert (
        outcomes_from(junit("tests.a.test_b.TestC.test_d")).of("tests/a/test_b.py::TestC::test_d") == "passed"
    )


def test_an_old_run_of_the_tests_is_half_unless_nothing_was_committed_since(project):
    week = timedelta(days=AGES["test"])
    proof, case = Passed("tests/a/test_b.py::test_c", ""), "tests.a.test_b.test_c"
    assert proof(with_tests(project, case, at=NOW - week)).weight == 1
    late = proof(with_tests(project, case, at=NOW - week - timedelta(hours=1)))
    assert late.weight == 0.5 and "7 days old, 7 were agreed: run `make test`" in late.remedy
    git(project, "init", "-q")
    git(project, "add", "params.yaml")
    git(project, "commit", "-qm", "x", at=NOW - timedelta(days=90))
    assert proof(with_tests(project, case, at=NOW - timedelta(days=60))).weight == 1
    assert proof(with_tests(project, case, at=NOW - timedelta(days=91))).weight == 0.5


def test_a_test_that_is_also_a_measurement_must_keep_its_time(project):
    archive = with_tests(project, "tests.a.test_b.test_c")
    assert Passed("tests/a/test_b.py::test_c", "quick", seconds=0.5)(archive).weight == 1
    slow = Passed("tests/a/test_b.py::test_c", "quick", seconds=0.4)(archive)
    assert slow.weight == 0.5 and slow.remedy == "it took 0.5 s, 0.4 are allowed"


@pytest.mark.parametrize(
    "text", ["", "<testsuites>", "not xml", '<testsuite timestamp="yesterday"><testcase/></testsuite>']
)
def test_a_damaged_report_of_tests_shows_nothing_and_says_so(project, text):
    (project / TESTS).parent.mkdir()
    (project / TESTS).write_text(text)
    found = Passed("tests/a/test_b.py", "")(Archive(project, NOW))
    assert found.weight == 0 and "cannot be read" in found.remedy and "make test" in found.remedy


def test_what_pytest_itself_writes_is_understood(project, run_python):
    (project / "tests" / "a").mkdir(parents=True)
    (project / "tests/a/test_b.py").write_text(
        "import pytest\n@pytest.mark.parametrize('x', [1, 2])\ndef test_c(x): pass\n"
        "def test_d(): assert 0\ndef test_e(): pytest.skip('no')\n"
        "@pytest.fixture\ndef broken(): raise OSError\ndef test_f(broken): pass\n"
    )
    before = datetime.now(UTC) - timedelta(seconds=1)
    run_python(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        f"--junitxml={TESTS}",
        "tests",
        cwd=project,
    )
    seen = Archive(project).tests
    assert {name.split("::")[-1]: how for name, how in seen.outcomes.items() if "::" in name} == {
        "test_c": "passed", "test_d": "failed", "test_e": "skipped", "test_f": "failed",
    }  # fmt: skip
    assert seen.at >= before.replace(microsecond=0) and seen.of("tests/a/test_b.py") == "failed"


# The pipeline -----------------------------------------------------------------------------------------------


@pytest.fixture
def piped(project: Path) -> Path:
    "A pipeline of three stages that has run: code → reports/a.json → reports/b.json, and a frozen one."
    from ml_workbench.release.provenance import dvc_hash

    (project / "reports").mkdir()
    (project / "code.py").write_text("x = 1\n")
    for name in ("a", "b", "tuned"):
        (project / f"reports/{name}.json").write_text(
            json.dumps({"checks": 9, "tables": [{"name": "t"}], "tolerated": []})
        )
    stages = {
        "a": {"deps": ["code.py"], "outs": ["reports/a.json"], "params": ["data"]},
        "b": {"deps": ["reports/a.json"], "outs": ["reports/b.json"], "params": []},
        "tune": {"frozen": True, "deps": ["code.py"], "outs": ["reports/tuned.json"], "params": ["data"]},
    }
    entry = lambda path: {"path": path, "md5": dvc_hash(project / path)}  # noqa: E731
    params = yaml.safe_load((project / "params.yaml").read_text())
    lock = {
        name: {"deps": [*map(entry, stage["deps"])], "outs": [*map(entry, stage["outs"])],
               "params": {"params.yaml": {part: params[part] for part in stage["params"]}}}
        for name, stage in stages.items()
    }  # fmt: skip
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (project / "dvc.lock").write_text(yaml.safe_dump({"stages": lock}, sort_keys=False))
    return project


PROMISED = Reported("reports/a.json", "checks", promises)


def test_a_report_of_the_present_pipeline_is_evidence(piped):
    assert outdated(piped) == {}
    assert PROMISED(Archive(piped)).weight == 1 and whole_pipeline(Archive(piped)).weight == 1


def test_changed_code_makes_every_later_report_half_and_is_named(piped):
    (piped / "code.py").write_text("x = 2\n")
    assert set(outdated(piped)) == {"reports/a.json", "reports/b.json"}
    found = PROMISED(Archive(piped))
    assert found.weight == 0.5 and found.remedy == "code.py has changed since it was written: run `dvc repro`"
    assert Reported("reports/b.json", "checks", promises)(Archive(piped)).weight == 0.5
    assert whole_pipeline(Archive(piped)).weight == 0.5


def test_a_frozen_stage_stands_while_its_output_does(piped):
    (piped / "code.py").write_text("x = 2\n")
    assert Reported("reports/tuned.json", "checks", promises)(Archive(piped)).weight == 1
    (piped / "reports/tuned.json").write_text("{}")
    assert "reports/tuned.json" in outdated(piped)


def test_a_changed_parameter_and_an_edited_report_are_noticed(piped):
    (piped / "reports/b.json").write_text(
        json.dumps({"checks": 99, "tables": [{"name": "t"}], "tolerated": []})
    )
    assert outdated(piped) == {"reports/b.json": "reports/b.json has changed"}
    text = (piped / "params.yaml").read_text().replace("max_row_change: 0.5", "max_row_change: 0.4")
    (piped / "params.yaml").write_text(text)
    assert "section data of params.yaml has changed" in outdated(piped)["reports/a.json"]


def test_a_missing_report_a_broken_one_and_one_of_another_shape_show_nothing(piped):
    for text in (None, "{", "[]", '{"tables": 3}'):
        (piped / "reports/a.json").unlink() if text is None else (piped / "reports/a.json").write_text(text)
        found = PROMISED(Archive(piped))
        assert found.weight == 0 and found.remedy and str(piped) not in found.remedy


def test_without_a_run_of_the_pipeline_nothing_is_proved(project):
    with pytest.raises(WorkbenchError, match="has not run here"):
        outdated(project)
    assert PROMISED(Archive(project)).weight == 0 and whole_pipeline(Archive(project)).weight == 0


def test_a_report_is_as_old_as_it_was_last_seen_true(piped):
    git(piped, "init", "-q")
    git(piped, "add", "reports", "dvc.lock")
    git(piped, "commit", "-qm", "x", at=NOW - timedelta(days=100))
    old = PROMISED(Archive(piped, NOW))
    assert old.weight == 0.5 and old.at == NOW - timedelta(days=100) and "100 days old" in old.remedy
    case = "tests.repository.test_reproduction.test_running_again_has_nothing_to_do"
    assert PROMISED(with_tests(piped, case)).weight == 1
    assert PROMISED(with_tests(piped, case + "!")).weight == 0.5


def test_the_gate_is_asked_for_the_checks_that_matter():
    checks = [
        {"name": "leaks", "passed": True, "sentence": "No leak."},
        {"name": "size", "passed": False, "sentence": "Too large."},
    ]
    raw = {"checks": checks, "sentence": "It is vetoed."}
    archive = Archive(ROOT, NOW)
    assert gate("leaks")(raw, archive) == Found(1, "No leak.", "run `dvc repro gate`")
    assert gate("leaks", "size")(raw, archive) == Found(0.5, "It is vetoed.", "Too large.")
    assert gate("size")(raw, archive).weight == 0 and "no check 'other'" in gate("other")(raw, archive).remedy
    assert gate()(raw, archive).weight == 1 and gate()(raw | {"checks": []}, archive).weight == 0


def test_the_real_reports_are_understood(root, produced):
    read = lambda name: json.loads((root / f"reports/{name}.json").read_text())  # noqa: E731
    archive = Archive(root)
    diagnosis = read("diagnosis")
    assert promises(read("data"), archive).weight == 1 and ageing(diagnosis, archive).weight == 1
    assert tuned(read("tuned"), archive).weight == 1 and simplest(read("evaluation"), archive).weight == 1
    assert inclusive(diagnosis, archive).weight == 1 and came_true(read("attribution"), archive).weight == 0.5
    found = beneficial(diagnosis, archive)
    idle = [each["family"] for each in diagnosis["ablation"] if each["earns_its_keep"] is False]
    assert found.weight == (0.5 if idle else 1) and all(name in found.remedy for name in idle)


def test_an_attribute_of_people_by_which_nobody_compared_is_named(root, produced):
    diagnosis = json.loads((root / "reports/diagnosis.json").read_text())
    cut = {
        name: [each for each in diagnosis[name] if each["slice"] != "income"]
        for name in ("fairness", "too_small")
    }
    found = inclusive(diagnosis | cut, Archive(root))
    assert found.weight == 0.5 and found.remedy == "nobody compared by income"


def test_a_real_rollout_that_keeps_its_promise_is_whole_and_a_replay_never(piped):
    write_json(
        piped / "reports/evaluation.json",
        {
            "proposal": {"policy": "m"},
            "policies": [{"name": "m", "against_rule": {"per_month": {"value": 200.0}}}],
        },
    )

    def raw(low: float, high: float, *, replayed: bool) -> dict:
        money = [{"arm": "champion", "everybody_per_month": {"value": 150.0, "low": low, "high": high}}]
        return {
            "currency": "USD",
            "experiment": {"replayed": replayed},
            "decision": {"arm": "champion"},
            "money": money,
        }

    archive = Archive(piped)
    assert came_true(raw(100, 300, replayed=False), archive).weight == 1
    assert came_true(raw(100, 190, replayed=False), archive).weight == 0.5
    assert came_true(raw(100, 300, replayed=True), archive).weight == 0.5
    assert came_true(raw(100, 300, replayed=False) | {"money": []}, archive).weight == 0


def test_a_feature_that_is_dear_and_worthless_is_named(piped):
    write_json(piped / "reports/features.json", {"features": [{"name": "a"}, {"name": "b"}]})
    worth = [{"feature": "a", "importance": 0.2}, {"feature": "b", "importance": 0.0}]
    write_json(piped / "reports/diagnosis.json", {"importance": {"permutation": worth}})
    archive = Archive(piped)
    assert affordable({"a": 99.0, "b": 1.0}, archive).weight == 1
    assert affordable({"a": 1.0, "b": 99.0}, archive).remedy.startswith(
        "b takes 99% of the time and adds nothing"
    )
    assert affordable({"a": 1.0}, archive).remedy.startswith("b was not measured")


def test_settings_that_are_not_those_found_are_no_tuned_ones(piped):
    asked = yaml.safe_load((piped / "params.yaml").read_text())["tune"]["candidates"]
    found = {name: {"trials": 20, "settings": {"C": 0.1}} for name in asked}

    def train(settings: dict) -> None:
        rows = [{"name": name, "settings": settings} for name in asked]
        write_json(piped / "reports/train.json", {"candidates": rows})

    train({"C": 0.1, "other": 3})
    assert tuned({"candidates": found}, Archive(piped)).weight == 1
    assert (
        "was not tuned"
        in tuned({"candidates": found | {asked[0]: {"trials": 1, "settings": {}}}}, Archive(piped)).remedy
    )
    train({"C": 0.2})
    assert "trained with other settings" in tuned({"candidates": found}, Archive(piped)).remedy


# Privacy ----------------------------------------------------------------------------------------------------


def test_privacy_is_looked_at_now(project):
    found = private(Archive(project, NOW))
    assert found.weight == 1 and found.at == NOW
    shown = (
        (project / "params.yaml")
        .read_text()
        .replace("withheld_families: [demographics]", "withheld_families: []")
    )
    (project / "params.yaml").write_text(shown)
    lowered = private(Archive(project, NOW))
    assert lowered.weight == 0.5 and "demographics.age" in lowered.remedy


# The ledger -------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(project: Path, small, monkeypatch) -> tuple[Path, str, str]:
    "A project with a champion and a challenger of which a line each may be written."
    (project / "settings.ini").write_text("[workbench]\n")
    return project, "a" * 64, "b" * 64


def written(folder: Path, small, *steps: str) -> None:
    "Lines of a ledger: deploy, canary, promote, rollback."
    champion, challenger = "a" * 64, "b" * 64
    plan = small.EXPERIMENT
    with Ledger("sqlite:///state/workbench.db", folder) as ledger:
        ledger.migrate()
        for step in steps:
            now = ledger.current()
            last = now.line if now else None
            if step == "deploy":
                ledger.write(
                    "deploy", deployed(Order(champion, plan), now and now.deployment), "Ann", "first", last
                )
            elif step == "canary":
                ledger.write(
                    "deploy",
                    deployed(Order(challenger, plan, role="challenger", ramp=0.2), now.deployment),
                    "Ann",
                    "try it",
                    last,
                )
            elif step == "ramp":
                change(ledger, "ramp", lambda each: ramped(each, 0.6), actor="Ann", reason="more")
            elif step == "promote":
                change(ledger, "promote", promoted, actor="Ann", reason="it earns more")
            else:
                rollback(ledger, actor="guard", reason="2% failed")


def test_a_release_that_served_a_part_before_it_served_all_was_a_canary(shop, small):
    folder, *_ = shop
    written(folder, small, "deploy", "canary", "ramp", "promote")
    found = canaried(Archive(folder))
    assert (
        found.weight == 1
        and found.source == "ledger: lines 3 and 4"
        and "before line 4 promoted it" in found.said
    )
    (pair,) = canaries(Archive(folder).database[0])
    assert (pair[0].action, pair[1].action) == ("promote", "ramp")


def test_a_challenger_that_was_never_promoted_and_an_empty_ledger_are_no_canary(shop, small):
    folder, *_ = shop
    assert canaried(Archive(folder)).weight == 0 and not (folder / "state/workbench.db").exists()
    written(folder, small, "deploy", "canary")
    found = canaried(Archive(folder))
    assert found.weight == 0 and "no release was ever promoted" in found.said


def test_a_rollback_that_happened_is_shown_and_an_old_one_is_half(shop, small):
    folder, *_ = shop
    written(folder, small, "deploy", "canary", "rollback")
    found = rolled_back(Archive(folder))
    assert found.weight == 1 and found.said == "guard rolled back: 2% failed"
    later = Archive(folder, datetime.now(UTC) + timedelta(days=AGES["line"] + 1))
    assert rolled_back(later).weight == 0.5


def test_a_line_that_cannot_be_read_is_passed_over(shop, small):
    folder, *_ = shop
    written(folder, small, "deploy", "canary", "promote")
    lines = Archive(folder).database[0]
    damaged = [replace(lines[0]), replace(lines[1], state="{"), lines[2]]
    assert canaries(damaged) == [] and len(canaries(lines)) == 1


def test_a_database_that_is_away_is_said_to_be_without_its_password(shop):
    folder, *_ = shop
    (folder / "settings.ini").write_text(
        "[workbench]\ndatabase_url = postgresql://ann:hunter2@127.0.0.1:1/nowhere\n"
    )
    found = canaried(Archive(folder))
    assert found.weight == 0 and "hunter2" not in found.remedy and found.remedy


# The monitor ------------------------------------------------------------------------------------------------


def monitored(folder: Path, small, at: datetime, *statuses: str) -> None:
    "A run of the monitor in the database, with readings of skew."
    import sqlalchemy as sa

    from ml_workbench.database.connections import transaction
    from ml_workbench.database.tables import table_of

    naive = at.replace(tzinfo=None)
    with Ledger("sqlite:///state/workbench.db", folder) as ledger:
        ledger.migrate()
    with Ledger("sqlite:///state/workbench.db", folder) as ledger, transaction(ledger.engine) as connection:
        head = {"period": naive, "release": "m 1"}
        connection.execute(
            sa.insert(table_of("monitor_runs")),
            head | {"started_at": naive, "finished_at": naive, "inputs": "x", "report": "{}"},
        )
        for number, status in enumerate(statuses):
            row = {
                "check": "skew.features",
                "subject": str(number),
                "monitor": "skew",
                "status": status,
                "count": 9,
                "sentence": "",
                "details": "{}",
                "at": naive,
            }
            connection.execute(sa.insert(table_of("readings")), head | row)


def test_a_monitor_that_ran_lately_and_had_an_answer_counts(shop, small):
    folder, *_ = shop
    monitored(folder, small, NOW - timedelta(days=1), "unknown", "alarm")
    found = Monitored("skew")(Archive(folder, NOW))
    assert found.weight == 1 and found.kind == "run" and "alarm, unknown" in found.said
    assert Monitored("quality")(Archive(folder, NOW)).weight == 0


def test_a_monitor_that_could_say_nothing_is_half_and_one_that_is_long_silent_is_none(shop, small):
    folder, *_ = shop
    monitored(folder, small, NOW - timedelta(days=1), "unknown")
    assert Monitored("skew")(Archive(folder, NOW)).weight == 0.5
    assert Monitored("skew")(Archive(folder, NOW + timedelta(days=AGES["run"]))).weight == 0


def test_without_a_database_the_report_of_the_replay_speaks(piped):
    readings = [{"check": "skew.features", "status": "fine"}, {"check": "quality.money", "status": "unknown"}]
    write_json(
        piped / "reports/monitor.json", {"replayed": True, "periods": [{"end": "x", "readings": readings}]}
    )
    found = Monitored("skew")(Archive(piped))
    assert (
        found.weight == 1 and "on the replay" in found.said and found.source == "reports/monitor.json: skew"
    )
    assert (
        Monitored("quality")(Archive(piped)).weight == 0.5
        and Monitored("numbers")(Archive(piped)).weight == 0
    )


# Reviews ----------------------------------------------------------------------------------------------------


def test_in_a_fresh_clone_nobody_has_reviewed_anything(root):
    assert read_reviews(root) == () or all(each.by and each.note for each in read_reviews(root))
    assert (root / REVIEWS).is_file()


def test_a_review_holds_while_what_was_reviewed_stands(project):
    assert reviewed(Archive(project)).weight == 0
    add_review(project, by=" Ada  Love ", verdict="approved", note="Read  it all.")
    found = reviewed(Archive(project))
    assert found.weight == 1 and found.said == "Ada Love approved it: Read it all."
    (project / MODULES[2]).write_text("spec = 2\n")
    late = reviewed(Archive(project))
    assert late.weight == 0.5 and late.remedy.startswith(f"{MODULES[2]} changed since")
    add_review(project, by="Ada", verdict="approved", note="Again.")
    assert reviewed(Archive(project)).weight == 1 and len(read_reviews(project)) == 2


def test_the_order_of_parameters_and_comments_change_no_review(project):
    before = reviewed_parts(project)
    raw = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text("# moved\n" + yaml.safe_dump(raw, sort_keys=True))
    assert reviewed_parts(project) == before
    raw["charter"]["capacity_per_week"] += 1
    (project / "params.yaml").write_text(yaml.safe_dump(raw))
    assert Review("A", "2026-01-01", "approved", "x", before).changed(reviewed_parts(project)) == ["charter"]


def test_a_rejection_an_old_review_and_that_of_the_only_author_are_half(project):
    add_review(project, by="Ada", verdict="rejected", note="Capacity is a guess.")
    assert reviewed(Archive(project)).weight == 0.5
    add_review(project, by="Ada", verdict="approved", note="Now it is not.")
    later = Archive(project, datetime.now(UTC) + timedelta(days=AGES["review"] + 1))
    assert reviewed(later).weight == 0.5 and "have it reviewed again" in reviewed(later).remedy
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "x", by="Ada")
    alone = reviewed(Archive(project))
    assert alone.weight == 0.5 and "only author" in alone.remedy
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "\n# a word of Ben's\n")
    git(project, "commit", "-qam", "y", by="Ben")
    assert reviewed(Archive(project)).weight == 1


def test_a_clone_without_history_does_not_know_its_authors(project, tmp_path_factory):
    git(project, "init", "-q")
    git(project, "add", "-A")
    for day in (3, 2):
        git(project, "commit", "-qm", "x", "--allow-empty", by="Ada", at=NOW - timedelta(days=day))
    assert authors(project, ["params.yaml"]) == {"ada", "ada@example.org"}
    clone = tmp_path_factory.mktemp("shallow") / "clone"
    git(project, "clone", "-q", "--depth", "1", f"file://{project}", str(clone))
    assert authors(clone, ["params.yaml"]) == set()


@pytest.mark.parametrize(
    ("given", "lacking"),
    [({"by": " "}, "--by NAME"), ({"note": ""}, "--note TEXT"), ({"by": "", "note": ""}, "--by NAME and --note TEXT"), ({"verdict": "aproved"}, "did you mean 'approved'")],
)  # fmt: skip
def test_a_review_without_a_name_a_note_or_a_verdict_is_refused_and_nothing_is_written(
    project, given, lacking
):
    with pytest.raises(MonitorError, match=lacking):
        add_review(project, **{"by": "Ada", "verdict": "approved", "note": "Read."} | given)
    assert not (project / REVIEWS).exists()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '[{"by": "Ada"}]',
        '[{"by": "A", "at": "x", "verdict": "approved", "note": "n", "parts": {"a": "b"}}]',
    ],
)
def test_reviews_that_were_meddled_with_are_refused(project, text):
    (project / REVIEWS).parent.mkdir(exist_ok=True)
    (project / REVIEWS).write_text(text)
    with pytest.raises(MonitorError, match=r"is damaged.*git checkout"):
        read_reviews(project)
    assert reviewed(Archive(project)).weight == 0


def test_two_who_review_at_once_are_both_kept(project):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as crowd:
        list(
            crowd.map(lambda n: add_review(project, by=f"R{n}", verdict="approved", note="Read."), range(24))
        )
    assert {each.by for each in read_reviews(project)} == {f"R{n}" for n in range(24)}
    assert len((project / REVIEWS).read_text().splitlines()) == 26


def test_whose_address_is_given_is_known_as_an_author_too():
    review = Review("ada@example.org", "2026-01-01T00:00:00+00:00", "approved", "x", {"a": "b"})
    assert judged_review(review, {"a": "b"}, {"ada", "ada@example.org"}).weight == 0.5
    assert judged_review(review, {"a": "b"}, {"ada", "ada@example.org", "ben"}).weight == 1


# The card ---------------------------------------------------------------------------------------------------


def test_there_are_28_tests_in_four_sections_each_once_with_the_papers_words(root):
    assert [(each.section, each.number) for each in CARD] == [
        (name, n) for name in SECTIONS for n in range(1, 8)
    ]
    assert all(each.proofs for each in CARD) and len({each.text for each in CARD}) == 28
    assert CARD[4].text == "The data pipeline has appropriate privacy controls"


def proving(*weights: float) -> tuple:
    "Proofs that are worth so much."

    def one(number: int, weight: float):
        found = Evidence("test", f"t{number}", "", weight, NOW, "" if weight == 1 else "try")
        return lambda archive: found

    return tuple(one(number, weight) for number, weight in enumerate(weights))


@given(st.lists(st.sampled_from([0, 0.5, 1]), min_size=1, max_size=5))
def test_a_test_is_whole_only_when_every_proof_is_and_nothing_only_when_none_is(weights):
    (answer,) = card_of(Archive(ROOT, NOW), [Question("data", 1, "x", proving(*weights))]).answers
    assert answer.score == (1 if set(weights) == {1} else 0 if set(weights) == {0} else 0.5)
    assert bool(answer.remedies) == (answer.score < 1)


@given(st.lists(st.sampled_from([0, 0.5, 1]), min_size=28, max_size=28))
def test_the_score_is_the_smallest_section_and_losing_evidence_never_raises_it(weights):
    places = [(name, n) for name in SECTIONS for n in range(1, 8)]

    def card(each: list) -> Card:
        asked = [Question(*place, "x", proving(weight)) for place, weight in zip(places, each)]
        return card_of(Archive(ROOT, NOW), asked)

    found = card(weights)
    assert (
        found.score == min(sum(weights[7 * k : 7 * k + 7]) for k in range(4))
        and found.sections[found.weakest] == found.score
    )
    for place, weight in enumerate(weights):
        if weight:
            assert card([*weights[:place], 0, *weights[place + 1 :]]).score <= found.score
            break


def test_what_is_shown_beside_lowers_nothing_where_it_is_missing():
    question = Question("data", 1, "x", proving(1), also=proving(0, 1))
    (answer,) = card_of(Archive(ROOT, NOW), [question]).answers
    assert answer.score == 1 and len(answer.also) == 1


@pytest.mark.parametrize(("score", "words"), [(0, "research"), (0.5, "serious holes"), (1, "serious holes"), (1.5, "first pass"), (2.5, "reasonably"), (3, "reasonably"), (3.5, "strong"), (5, "strong"), (5.5, "exceptional"), (7, "exceptional")])  # fmt: skip
def test_the_bands_are_those_of_the_paper(score, words):
    assert words in band(score)


def test_in_a_fresh_clone_the_card_says_what_is_missing_and_claims_nothing(project):
    card = card_of(Archive(project, NOW))
    assert card.score == 0 and sum(card.sections.values()) <= 1
    assert "the tests have not run here: run `make test`" in card.common
    assert all(each.remedies for each in card.answers if each.score < 1)


def test_what_many_tests_need_is_said_once():
    questions = [Question("data", n, "x", proving(0)) for n in range(1, 8)]
    assert card_of(Archive(ROOT, NOW), questions).common == {"try": 7}
    assert card_of(Archive(ROOT, NOW), questions[:6]).common == {}


# Held against the recorded one ------------------------------------------------------------------------------


def answers(*rows: tuple) -> Card:
    "A card of made-up answers: (number, evidence…)."
    made = [Answer("data", number, f"Data {number}", "x", tuple(found)) for number, *found in rows]
    return Card(NOW, tuple(made))


def seen(kind: str, source: str, weight: float) -> Evidence:
    return Evidence(kind, source, "", weight, NOW, "" if weight == 1 else "do it")


def test_a_card_comes_back_from_its_file(tmp_path):
    card = answers((1, seen("test", "a", 1)), (2, seen("line", "ledger: line 4", 0.5)))
    record(tmp_path, card)
    assert recorded(tmp_path) == card and recorded(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "raw",
    [
        [],
        {},
        {"at": "x", "tests": []},
        {"at": NOW.isoformat(), "tests": [{"section": "data"}]},
        {"at": NOW.isoformat(), "tests": 3},
    ],
)
def test_what_is_no_card_is_refused_in_one_line(raw):
    with pytest.raises(MonitorError, match=r"is no score card.*--record"):
        from_json(raw)


def test_a_test_that_is_worth_less_is_named_with_what_would_mend_it():
    before, now = answers((1, seen("test", "a", 1))), answers((1, seen("test", "a", 0)))
    fell, unseen = fallen(now, before)
    assert fell == ["Data 1 fell from 1 to 0 (x): do it"] and unseen == []
    assert fallen(before, now) == ([], []) and fallen(before, before) == ([], [])


def test_a_test_that_is_no_longer_asked_has_fallen():
    assert fallen(
        answers((1, seen("test", "a", 1))), answers((1, seen("test", "a", 1)), (2, seen("test", "b", 1)))
    )[0] == ["Data 2 is no longer asked"]


def test_a_rise_elsewhere_makes_up_for_nothing():
    before = answers((1, seen("test", "a", 1)), (2, seen("test", "b", 0)))
    now = answers((1, seen("test", "a", 0)), (2, seen("test", "b", 1)))
    assert len(fallen(now, before)[0]) == 1


def test_what_only_a_database_knows_is_not_held_against_a_machine_without_it():
    before = answers((1, seen("line", "ledger: lines 3 and 4", 1), seen("test", "a", 1)))
    assert fallen(answers((1, seen("line", "ledger", 0), seen("test", "a", 1))), before)[0] == []
    fell, unseen = fallen(answers((1, seen("line", "ledger", 0), seen("test", "a", 0))), before)
    assert len(fell) == 1 and unseen == []


def test_two_tests_of_one_file_are_told_apart():
    before = answers(
        (1, seen("test", "f.py::a", 1), seen("test", "f.py::b", 1), seen("line", "ledger: line 1", 1))
    )
    now = answers((1, seen("test", "f.py::a", 0), seen("test", "f.py::b", 1), seen("line", "ledger", 0)))
    assert len(fallen(now, before)[0]) == 1


def test_a_card_as_json_says_everything_and_is_plain():
    raw = as_json(answers((1, seen("test", "a", 0.5))))
    assert json.loads(json.dumps(raw)) == raw and raw["tests"][0]["evidence"][0]["remedy"] == "do it"
    assert set(raw["sections"]) == set(SECTIONS) and raw["score"] == 0


def test_a_time_without_a_zone_is_local_and_all_are_told_in_utc():
    assert moment("2026-03-02T10:30:00+01:00") == datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    assert moment("2026-03-02T10:30:00").tzinfo == UTC


def test_every_test_that_the_card_names_lies_below_the_tests():
    assert all(name.startswith("tests/") and ".py" in name for name in named_tests())
