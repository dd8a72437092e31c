"""A blessed run becomes one release, byte for byte the same each time; anything else is refused with the reason."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ml_workbench.model.snapshots import read_schema, read_slices
from ml_workbench.plan.errors import GateError, ReleaseError
from ml_workbench.plan.params import load_params
from ml_workbench.release.bundle import Bundle, build
from ml_workbench.release.declaration import DECLARATION, declared_from
from ml_workbench.release.loading import loaded
from ml_workbench.release.policy import POLICY, terms_from
from ml_workbench.release.reference import REFERENCE, reference_from

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(copy_run: Callable[[Path], Path], tmp_path: Path) -> Path:
    return copy_run(tmp_path / "project")


@pytest.fixture(scope="module")
def made(copy_run: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(copy_run(tmp_path_factory.mktemp("made") / "project"))


def rewritten(root: Path, name: str, change: Callable[[dict], object]) -> None:
    "Change a report."
    path = root / "reports" / name
    raw = json.loads(path.read_text())
    change(raw)
    path.unlink()  # it is shared with the project
    path.write_text(json.dumps(raw))


# The release of the default run -----------------------------------------------------------------------------


def test_the_same_run_is_the_same_release_here_and_elsewhere_now_and_later(
    run: Path, made: Bundle, monkeypatch
):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    again = build(run)
    assert again == made and again.release.id == made.release.id


def test_it_is_the_same_in_another_process_too(run: Path, made: Bundle, run_python):
    code = "from ml_workbench.release.bundle import build\nprint(build('.').release.id)"
    done = run_python("-c", code, cwd=run, PYTHONPATH=str(ROOT), PYTHONHASHSEED="7")
    assert (done.stdout.strip(), done.stderr) == (made.release.id, "")


def test_it_is_the_model_that_the_gate_blessed(made: Bundle, produced: Path):
    gate = json.loads((produced / "reports/gate.json").read_text())
    assert (made.release.model, made.release.artifact, made.release.verdict) == (
        gate["model"],
        gate["artifact"],
        "blessed",
    )
    assert json.loads(made.files["verdict.json"]) == {"verdict": gate, "override": None}


def test_it_scores_the_test_weeks_as_they_were_judged(made: Bundle, produced: Path):
    schema = read_schema(produced / "data/features/schema.json")
    rows, judged = (
        read_slices(produced / path, schema, ["test"])
        for path in ("data/features/snapshots.parquet", "data/predictions.parquet")
    )
    keys = [schema.entity, schema.time]
    both = rows.merge(judged[[*keys, made.release.model]], on=keys)
    apart = np.abs(loaded(made).scorer.scores(both) - both[made.release.model])
    assert np.mean(apart > 1e-4) <= 1e-3


def test_its_terms_are_those_of_the_run(made: Bundle, produced: Path):
    params, terms = load_params(produced), terms_from(made.files[POLICY])
    assert (terms.charter, terms.experiment, terms.rank_by) == (
        params.charter,
        params.experiment,
        params.evaluate.rank_by,
    )
    assert made.files["params.yaml"] == (produced / "params.yaml").read_bytes()
    assert made.files["environment.lock"] == (produced / "requirements.lock").read_bytes()


def test_its_cutoff_is_where_the_next_list_ended(made: Bundle, produced: Path):
    import duckdb

    lowest = duckdb.sql(f"SELECT min(expected_profit) FROM '{produced}/data/offers.parquet'").fetchall()[0][0]
    assert terms_from(made.files[POLICY]).cutoffs["proposed"] == pytest.approx(lowest)


def test_its_features_are_those_that_were_computed_without_those_about_people(made: Bundle, produced: Path):
    schema = read_schema(produced / "data/features/schema.json")
    held = [each.name for each in schema.features if each.family != "demographics"]
    declared = declared_from(made.files[DECLARATION])
    assert [each.name for each in declared.columns] == held and len(held) < len(schema.names)
    assert "demographics" not in {each.name for each in declared.relations}


@pytest.mark.parametrize("allowed", [{}, {"demographics.age": "an insurance"}])
def test_a_model_that_is_fed_a_column_about_people_is_refused_unless_it_is_allowed(root: Path, allowed: dict):
    from types import SimpleNamespace

    from ml_workbench.data import definitions
    from ml_workbench.release.building import _declaration

    params = load_params(root)
    params = params.model_copy(update={"privacy": params.privacy.model_copy(update={"allowed": allowed})})
    scorer = SimpleNamespace(signature=SimpleNamespace(names=["spend_12w", "age"]))
    if allowed:
        assert b'"age"' in _declaration(definitions.declare(), params, scorer)
        return
    with pytest.raises(ReleaseError, match=r"'age', which carries demographics\.age.*privacy\.allowed"):
        _declaration(definitions.declare(), params, scorer)


def test_its_figures_are_those_of_the_evaluation(made: Bundle, produced: Path):
    evaluation = json.loads((produced / "reports/evaluation.json").read_text())
    judged = next(each for each in evaluation["policies"] if each["name"] == made.release.model)
    assert made.release.figure("auc") == judged["metrics"]["auc"]
    assert made.release.figure("against_rule_per_month") == judged["against_rule"]["per_month"]
    assert json.loads(made.files["metrics.json"])["model"] == judged


def test_its_summaries_are_of_the_weeks_it_was_made_and_judged_on(made: Bundle, produced: Path):
    reference = reference_from(made.files[REFERENCE])
    report = {
        each["slice"]: each["rows"]
        for each in json.loads((produced / "reports/features.json").read_text())["slices"]
    }
    assert {name: each["rows"] for name, each in reference["slices"].items()} == {
        name: report[name] for name in ("train", "test")
    }
    assert [*reference["features"]] == [*terms_from(made.files[POLICY]).names, "lapsed"]
    listed = reference["actions"]["proposed"]["test"]
    assert 0 < listed["listed"] < listed["rows"] and len(made.files[REFERENCE]) < 1e6


def test_it_knows_its_origin(made: Bundle):
    assert set(made.release.origin.data) == {"data/features", "data/tables"}
    assert made.release.origin.commit is None  # the copy is in no repository


# What is refused --------------------------------------------------------------------------------------------


def veto(raw: dict) -> None:
    raw["checks"][0] |= {"passed": False, "sentence": "Its AUC is too low."}
    raw |= {"verdict": "vetoed", "reasons": ["Its AUC is too low."], "sentence": f"{raw['label']} is vetoed."}


def test_a_vetoed_model_is_refused_with_the_reasons(run: Path):
    rewritten(run, "gate.json", veto)
    with pytest.raises(GateError, match=r"is vetoed\.\n✗ Its AUC is too low\."):
        build(run)


def test_who_passed_over_a_veto_travels_along(run: Path):
    rewritten(run, "gate.json", veto)
    gate = json.loads((run / "reports/gate.json").read_text())
    record = {"artifact": gate["artifact"], "model": gate["model"], "label": gate["label"], "by": "Ann *Lee*", "reason": "A pilot", "time": "2024-07-15T06:00:00Z", "failed": ("auc",)}  # fmt: skip
    made = build(run, override=record)
    assert (
        made.release.verdict == "overridden"
        and json.loads(made.files["verdict.json"])["override"]["by"] == "Ann *Lee*"
    )
    assert r"Ann \*Lee\* passed over the veto" in made.files["card.md"].decode()
    for other in (record | {"failed": ()}, record | {"artifact": "0" * 64}):
        with pytest.raises(GateError, match="is about another file or other reasons"):
            build(run, override=other)


def test_where_no_model_is_proposed_there_is_nothing_to_release(run: Path):
    rewritten(run, "gate.json", lambda raw: (veto(raw), raw.update(artifact=None)))
    with pytest.raises(GateError, match="is vetoed"):
        build(run, override={"artifact": None, "failed": ["auc"], "by": "Ann"})


def test_another_model_in_place_of_the_judged_one_is_refused(run: Path, made: Bundle):
    folder = run / "models" / made.release.model
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(ReleaseError, match=r"model\.onnx is not the file that the manifest lists"):
        build(run)
    rewritten(run, "gate.json", lambda raw: raw.update(artifact="0" * 64))
    with pytest.raises(ReleaseError, match="is another artefact"):
        build(run)


@pytest.mark.parametrize("name", ["evaluation.json", "diagnosis.json"])
def test_a_report_that_changed_since_it_was_judged_is_refused(run: Path, name: str):
    rewritten(run, name, lambda raw: raw.update(note="more"))
    with pytest.raises(ReleaseError, match=f"reports/{name} is not the one that the gate judged"):
        build(run)


def test_parameters_that_changed_since_the_run_are_refused(run: Path):
    text = (run / "params.yaml").read_text()
    (run / "params.yaml").write_text(text.replace("capacity_per_week: 100", "capacity_per_week: 90"))
    with pytest.raises(
        ReleaseError, match=r"section charter of params\.yaml has changed since stage train ran"
    ):
        build(run)


def test_without_a_lock_of_packages_there_is_no_release(run: Path):
    (run / "requirements.lock").unlink()
    with pytest.raises(
        ReleaseError, match=r"requirements\.lock cannot be read .*: write it with `make lock`"
    ):
        build(run)


def test_without_a_verdict_there_is_no_release(run: Path):
    (run / "reports/gate.json").unlink()
    with pytest.raises(Exception, match=r"gate\.json is missing"):
        build(run)
