"""Runs out of git, side by side and in words: on small projects whose experiments are written as DVC writes them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ml_workbench.page.story import Span
from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.run.compare import (
    ABSENT,
    as_json,
    blocks,
    differing,
    notes,
    of_policy,
    ordered,
    remarks,
    rows,
    shortened,
    table,
    unlike,
)
from ml_workbench.run.contrast import axes, axis, contrast, drawable, leading, line, marks, summary
from ml_workbench.run.history import Revision, Run, label, labels, revisions, runs, state, verdict

FIGURES = ("profit_per_week", "against_rule_per_week")
SETTINGS = {"xgboost": {"max_depth": 4, "learning_rate": 0.03}, "logistic_regression": {"C": 0.05}}


class Project:
    "A project under git, with runs as stages and `dvc exp run` leave them behind."

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "reports").mkdir(parents=True)

    def git(self, *arguments: str, **environment: str) -> str:
        names = {"GIT_AUTHOR_NAME": "A", "GIT_COMMITTER_NAME": "A"}
        mails = {"GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_EMAIL": "a@example.org"}
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, env=os.environ | names | mails | environment,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def write(
        self,
        profit: float = 120.0,
        *,
        policy: str = "xgboost",
        settings: dict | None = None,
        params: dict | None = None,
        gate: str = "",
        currency: str = "USD",
    ) -> None:
        "Write the artefacts of a run into the workspace."
        charter = {"currency": currency, "unit_plural": "households", "economics": {"offer_cost": 1.0}}
        given = {"charter": charter, "train": {"seed": 1, "settings": settings or {}}}
        given["evaluate"] = {"seed": 84, "resamples": 1000, "confidence": 0.95}
        for dotted, value in (params or {}).items():
            *path, last = dotted.split(".")
            section = given
            for name in path:
                section = section.setdefault(name, {})
            section[last] = value
        figures = {
            f"{name}{end}": profit + add
            for name in FIGURES
            for end, add in (("", 0), ("_low", -50), ("_high", 50))
        }
        figures |= {"auc": 0.861, "average_precision": 0.47}
        other = {name: value / 2 for name, value in figures.items()}
        metrics = {
            policy: figures,
            "rule": other,
            "nothing": {"profit_per_week": 0.0},
            "proposal": {"policy": policy, **figures},
        }
        self.put("reports/metrics.json", json.dumps(metrics))
        self.put("params.yaml", yaml.safe_dump(given, sort_keys=False))
        candidates = [
            {
                "name": name,
                "label": name.replace("_", " ").capitalize(),
                "settings": default | (settings or {}).get(name, {}),
            }
            for name, default in SETTINGS.items()
        ]
        self.put("reports/train.json", json.dumps({"candidates": candidates}))
        if gate:
            self.put("reports/gate.json", json.dumps({"model": policy, "verdict": gate}))

    def put(self, path: str, text: str) -> None:
        (self.root / path).write_text(text)

    def commit(self, message: str = "A run") -> str:
        "Commit the workspace; returns the commit."
        if not (self.root / ".git").exists():
            self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def experiment(self, name: str, minute: int = 0, **written: object) -> None:
        "Keep a run as `dvc exp run -n NAME` does, and leave the workspace as it was."
        head = self.git("rev-parse", "HEAD")
        if written:
            self.write(**written)
        self.git("add", "-A")
        tree, when = self.git("write-tree"), f"{1_800_000_000 + 60 * minute} +0000"
        made = self.git(
            "commit-tree", tree, "-p", head, "-m", f"dvc: commit experiment {name}", GIT_COMMITTER_DATE=when
        )
        self.git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", made)
        self.git("reset", "-q", "--hard", head)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    "A project with one committed run."
    made = Project(tmp_path / "project")
    made.write()
    made.commit()
    return made


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Project:
    "A project with fifty experiments."
    made = Project(tmp_path_factory.mktemp("many") / "project")
    made.write()
    made.commit()
    for number in range(50):
        made.experiment(
            f"trial-{number}",
            number,
            profit=100.0 + number,
            settings={"xgboost": {"max_depth": 2 + number % 6}},
        )
    return made


def run(
    name: str = "a",
    profit: float | None = 120.0,
    *,
    width: float = 50.0,
    currency: str = "USD",
    **params: object,
) -> Run:
    "A run in memory; parameters with __ for a dot."
    figures = {} if profit is None else {
        "profit_per_week": profit, "profit_per_week_low": profit - width, "profit_per_week_high": profit + width,
    }  # fmt: skip
    given = {key.replace("__", "."): value for key, value in params.items()} or {"train.seed": 1}
    return Run(
        name, {"proposal": {"policy": "xgboost", **figures}}, given, currency, revision=Revision(name, "abc")
    )


# Where runs come from


def test_workspace_head_and_experiments_stand_side_by_side(project):
    project.experiment("shallow", profit=130.0, settings={"xgboost": {"max_depth": 3}})
    assert rows(runs(project.root)) == [
        ["run", "profit per week", "against the rule", "proposal", "AUC", "AP", "xgboost.max_depth"],
        ["workspace", "+$120 [$70, $170]", "+$120 [$70, $170]", "xgboost", "0.861", "0.470", "4"],
        ["HEAD", "+$120 [$70, $170]", "+$120 [$70, $170]", "xgboost", "0.861", "0.470", "4"],
        ["shallow", "+$130 [$80, $180]", "+$130 [$80, $180]", "xgboost", "0.861", "0.470", "3"],
    ]


def test_dvcs_own_references_are_no_experiments(project):
    head = project.git("rev-parse", "HEAD")
    for reference in ("refs/exps/exec/EXEC_HEAD", "refs/exps/celery/stash", "refs/exps/stash"):
        project.git("update-ref", reference, head)
    assert [each.name for each in revisions(project.root, everything=True)][:2] == ["workspace", "HEAD"]
    assert [each.name for each in runs(project.root)] == ["workspace", "HEAD"]


def test_experiments_of_earlier_commits_are_found_by_name_and_on_request(project):
    project.experiment("old", profit=90.0)
    project.write(140.0)
    project.commit("Better")
    assert "old" not in [each.name for each in runs(project.root)]
    assert [each.name for each in runs(project.root, ["old"])] == ["old"]
    assert {"HEAD", "old"} < {each.name for each in runs(project.root, everything=True)}


def test_two_experiments_of_one_name_are_told_apart_by_where_they_started(project):
    project.experiment("trial", profit=90.0)
    first = project.git("rev-parse", "HEAD")
    project.write(140.0)
    project.commit("Better")
    project.experiment("trial", profit=150.0)
    found = {
        each.name: each.metrics["proposal"]["profit_per_week"] for each in runs(project.root, everything=True)
    }
    assert found["trial"] == 150.0 and found[f"trial@{first[:7]}"] == 90.0


def test_everything_names_each_result_once(project):
    project.put("notes.txt", "nothing that matters")
    project.commit("Notes")
    assert [each.name for each in runs(project.root, everything=True)] == ["HEAD"]
    project.write(125.0)
    assert [each.name for each in runs(project.root, everything=True)] == ["workspace", "HEAD"]


def test_earlier_commits_that_changed_the_metrics_are_runs_too(project):
    before = project.git("rev-parse", "--short", "HEAD")
    project.write(140.0)
    project.commit("Better")
    assert [each.name for each in runs(project.root, everything=True)] == ["HEAD", before]


def test_a_detached_head_is_as_good_as_a_branch(project):
    project.git("checkout", "-q", "--detach")
    project.experiment("shallow", profit=130.0)
    assert [each.name for each in runs(project.root)] == ["workspace", "HEAD", "shallow"]


def test_a_project_below_the_repositorys_root_reads_its_own_files(tmp_path):
    outer = Project(tmp_path / "project")
    outer.write(1.0)
    inner = Project(tmp_path / "project" / "inner")
    inner.write(2.0)
    outer.commit()
    assert [each.metrics["proposal"]["profit_per_week"] for each in runs(inner.root, ["HEAD"])] == [2.0]


def test_without_git_the_workspace_is_the_only_run(tmp_path, monkeypatch):
    alone = Project(tmp_path / "project")
    alone.write()
    assert [each.name for each in runs(alone.root, everything=True)] == ["workspace"]
    monkeypatch.setenv("PATH", "")
    assert [each.name for each in runs(alone.root)] == ["workspace"]
    with pytest.raises(
        WorkbenchError, match=r"'HEAD' cannot be looked up: .* is not under git, or git is not"
    ):
        runs(alone.root, ["HEAD"])


def test_a_repository_without_a_commit_has_its_workspace(tmp_path):
    alone = Project(tmp_path / "project")
    alone.write()
    alone.git("init", "-q")
    assert [each.name for each in runs(alone.root, everything=True)] == ["workspace"]


@pytest.mark.parametrize("name", ["shalow", "-n", "HEAD:params.yaml"])
def test_a_name_that_stands_for_nothing_is_refused(project, name):
    project.experiment("shallow", profit=130.0)
    with pytest.raises(WorkbenchError, match=f"no revision or experiment '{name}'"):
        runs(project.root, [name])


def test_a_mistyped_experiment_is_suggested(project):
    project.experiment("shallow", profit=130.0)
    with pytest.raises(WorkbenchError, match="did you mean 'shallow'"):
        runs(project.root, ["shalow"])


def test_a_project_without_metrics_says_how_to_get_them(tmp_path):
    with pytest.raises(WorkbenchError, match="`dvc repro` writes it"):
        runs(tmp_path)


def test_a_commit_older_than_the_first_metrics_is_named_and_hides_no_other(project):
    project.git("rm", "-q", "-r", "reports", "params.yaml")
    project.put("readme", "empty")
    project.commit("Nothing here")
    found = runs(project.root, ["HEAD~1", "HEAD"])
    assert [bool(each.metrics) for each in found] == [True, False]
    assert "HEAD: has no reports/metrics.json: it was recorded before the first `dvc repro`." in notes(found)


@pytest.mark.parametrize("broken", ["{", '["a list"]', '{"proposal": 3}', "\ufffd\x00", "[" * 10_000])
def test_broken_metrics_of_one_run_are_named_and_the_others_shown(project, broken):
    project.put("reports/metrics.json", broken)
    project.experiment("broken")
    found = runs(project.root)
    assert [each.name for each in found] == ["workspace", "HEAD", "broken"]
    assert found[2].trouble.startswith("reports/metrics.json") and not found[0].trouble
    assert "broken: reports/metrics.json" in table(project.root)


@pytest.mark.parametrize("path", ["params.yaml", "reports/train.json", "reports/gate.json"])
def test_a_run_keeps_its_money_when_another_of_its_files_is_broken(project, path):
    project.put(path, "{[")
    project.experiment("broken")
    found = runs(project.root)[-1]
    assert found.trouble.startswith(f"{path} cannot be read") and rows([found])[1][1] == "+$120 [$70, $170]"


def test_runs_from_before_settings_and_gate_were_recorded_are_shown_with_what_they_have(project):
    for path in ("reports/train.json", "params.yaml"):
        (project.root / path).unlink()
    project.commit("As it was once")
    project.write(gate="vetoed")
    told = rows(runs(project.root, ["HEAD", "workspace"]))
    assert [line[4] for line in told] == ["gate", "–", "vetoed"]


def test_the_gates_verdict_belongs_to_the_model_it_judged():
    judged = Run(
        "a",
        {"proposal": {"policy": "xgboost"}, "mlp": {"auc": 0.8}},
        {},
        gate={"model": "xgboost", "verdict": "blessed"},
    )
    assert verdict(judged) == "blessed"
    assert verdict(of_policy([judged], "mlp")[0]) == ""


def test_fifty_experiments_are_compared_in_under_two_seconds(many):
    began = time.process_time(), os.times().children_user + os.times().children_system
    assert len(table(many.root, sort="money").splitlines()) > 50
    ended = time.process_time(), os.times().children_user + os.times().children_system
    assert ended[0] - began[0] + ended[1] - began[1] < 2


def test_reading_fifty_experiments_starts_no_process_for_each(many, tmp_path, monkeypatch):
    log = tmp_path / "log"
    (tmp_path / "git").write_text(f'#!/bin/sh\necho "$1" >> {log}\nPATH={os.environ["PATH"]} exec git "$@"\n')
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert len(runs(many.root)) == 52
    assert len(log.read_text().splitlines()) <= 6


def test_the_state_changes_with_commits_experiments_and_the_workspace_only(project):
    seen = [state(project.root)]
    assert state(project.root) == seen[0]
    project.experiment("shallow", profit=130.0)
    seen.append(state(project.root))
    project.write(150.0)
    seen.append(state(project.root))
    project.commit("Better")
    seen.append(state(project.root))
    assert len(set(seen)) == 4


# The table


def test_the_settings_in_force_are_told_once_whether_tuned_or_by_hand(project):
    project.experiment("deeper", 0, settings={"xgboost": {"max_depth": 6}})
    told = differing(runs(project.root)).names
    assert told == ("xgboost.max_depth",)


def test_settings_of_a_candidate_that_is_not_proposed_are_told_as_they_were_set(project):
    project.experiment("other", settings={"mlp": {"alpha": 0.1}})
    assert differing(runs(project.root)).names == ("train.settings.mlp.alpha",)


def test_another_proposal_does_not_bring_all_its_settings_along(project):
    project.experiment("plain", policy="logistic_regression")
    assert differing(runs(project.root)).names == ()
    assert [line[3] for line in rows(runs(project.root))] == [
        "proposal",
        "xgboost",
        "xgboost",
        "logistic_regression",
    ]


def test_keys_that_only_newer_runs_have_are_no_difference_but_are_mentioned(project):
    project.write(params={"tune.trials": 40, "tune.spaces.xgboost.max_depth": {"low": 2, "high": 6}})
    found = runs(project.root)
    assert differing(found).names == ()
    assert "Only in some runs, with one value: tune (2 keys)." in remarks(found)


def test_a_search_space_is_one_value():
    one = run("a", tune__spaces__xgboost__depth={"low": 2, "high": 6})
    two = run("b", tune__spaces__xgboost__depth={"low": 2, "high": 9})
    assert rows([one, two])[1][-1] == "{low: 2, high: 6}"


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([4, 4.0, True, None, ABSENT], ["4", "4", "true", "null", "–"]),
        ([["a", "b"], []], ["[a, b]", "[]"]),
        (["2017-03-20 05:00 until the summer", "2017-03-20 05:00 until the autumn"], ["…summer", "…autumn"]),
        (["a\nb", "x" * 40], ["a b", "x" * 25 + "…"]),
    ],
)
def test_values_are_compact_and_keep_what_tells_them_apart(values, texts):
    assert shortened(values) == texts


def test_the_table_fits_120_columns_however_many_parameters_differ(project):
    for number in range(3):
        project.experiment(
            f"wide-{number}",
            params={f"train.a_rather_long_parameter_name_{key}": key * number for key in range(9)},
        )
    project.write(params={f"train.a_rather_long_parameter_name_{key}": -1 for key in range(9)})
    text = table(project.root)
    assert max(map(len, text.splitlines())) <= 120
    assert text.count("a_rather_long_parameter_name") == 9
    blocks_ = text.split("\n\n")
    assert len(blocks_) > 3 and all(block.startswith("run ") for block in blocks_[:-1])


def test_a_long_name_is_cut_and_a_narrow_terminal_still_gets_every_column():
    found = [run("x" * 60, train__seed=1), run("short", train__seed=2)]
    assert "x" * 31 + "…" in blocks(found)
    assert "train.seed" in blocks(found, width=20)


def test_runs_are_ordered_by_money_name_or_time():
    found = [
        Run(
            name,
            {"proposal": {"profit_per_week": profit}},
            {},
            currency,
            revision=Revision(name, "c", time=when),
        )
        for name, profit, currency, when in [
            ("b", 5, "USD", 3),
            ("A", 900, "SEK", 1),
            ("c", None, "USD", 2),
            ("d", 7, "USD", 4),
        ]
    ]
    assert [each.name for each in ordered(found, "money")] == ["d", "b", "A", "c"]
    assert [each.name for each in ordered(found, "name")] == ["A", "b", "c", "d"]
    assert [each.name for each in ordered(found, "time")] == ["d", "b", "c", "A"]
    assert ordered(found) == found


def test_the_workspace_is_the_newest_run(project):
    assert [each.name for each in ordered(runs(project.root, ["HEAD", "workspace"]), "time")] == [
        "workspace",
        "HEAD",
    ]


def test_one_candidate_can_be_followed_through_all_runs(project):
    found = of_policy(runs(project.root), "rule")
    assert rows(found)[0][3] == "policy" and rows(found)[1][1] == "+$60 [$35, $85]"
    with pytest.raises(WorkbenchError, match="no run has figures of 'xgbost': did you mean 'xgboost'"):
        of_policy(found, "xgbost")


def test_a_program_gets_figures_settings_and_what_differs(project):
    project.experiment("shallow", profit=130.0, settings={"xgboost": {"max_depth": 3}}, gate="blessed")
    told = json.loads(table(project.root, machine=True))
    assert [each["run"] for each in told["runs"]] == ["workspace", "HEAD", "shallow"]
    shallow = told["runs"][2]
    assert shallow["figures"]["profit_per_week"] == 130.0 and shallow["settings"]["xgboost.max_depth"] == 3
    assert shallow["gate"] == "blessed" and len(shallow["commit"]) == 40 and told["runs"][0]["commit"] is None
    assert told["differing"] == ["xgboost.max_depth"]


def test_a_figure_that_is_no_number_is_left_out():
    odd = Run(
        "odd", {"proposal": {"profit_per_week": "much", "auc": True, "average_precision": float("nan")}}, {}
    )
    assert rows([odd])[1] == ["odd", "–", "–", "–", "–", "–"]
    assert "NaN" not in as_json([odd])


def test_runs_counted_on_other_terms_are_not_to_be_compared():
    found = [
        run("HEAD", charter__economics__offer_cost=1.0),
        run("cheap", charter__economics__offer_cost=0.5),
    ]
    assert unlike(found) == ("charter.economics.offer_cost",)
    assert any(
        "do not compare the amounts: cheap (charter.economics.offer_cost)" in note for note in notes(found)
    )


def test_other_data_is_another_term(project):
    project.put("reports/data.json", '{"version": "0123456789ab"}')
    project.commit("One export")
    project.put("reports/data.json", '{"version": "ba9876543210"}')
    found = runs(project.root)
    assert unlike(found) == ("data.version",) and rows(found)[1][-1] == "ba9876543210"


def test_what_the_intervals_mean_is_said():
    same = [
        run("a", evaluate__seed=84, evaluate__confidence=0.9),
        run("b", evaluate__seed=84, evaluate__confidence=0.9),
    ]
    assert "Ranges are 90% intervals of one run" in notes(same)[0] and "not paired" in notes(same)[0]
    assert "same seed and number of resamples" in notes(same)[1]
    other = [run("a", evaluate__seed=84), run("b", evaluate__seed=85)]
    assert (
        notes(other)[1] == "Judged on the same weeks, but the intervals are drawn differently: evaluate.seed."
    )


def test_the_best_of_many_is_said_to_be_lucky():
    assert any("The best of 5 runs" in note for note in remarks([run(str(number)) for number in range(5)]))
    assert not any("The best of" in note for note in remarks([run(str(number)) for number in range(4)]))


def test_a_single_run_is_told_how_to_make_another(project):
    text = table(project.root)
    assert "dvc exp run -n deeper -S '++train.settings.xgboost.max_depth=6'" in text
    project.experiment("shallow", profit=130.0)
    assert "dvc exp run" not in table(project.root)


def test_exactly_two_runs_get_a_sentence(project):
    project.experiment("shallow", profit=130.0)
    text = " ".join(table(project.root, ["HEAD", "shallow"]).split())
    assert "shallow: +$43 a month against HEAD, $563 (between $347 and $780) instead of $520" in text
    assert "the predictions of HEAD are not in this machine's DVC cache" in text


# Two runs in words


def test_a_paired_difference_is_told_with_its_interval_and_the_changes():
    told = contrast(run("HEAD", 120, train__seed=1), run("deeper", 124, train__seed=2), Span(4.0, -5.0, 12.0))
    assert str(told) == "deeper: +$17 a month, between −$22 and +$52, against HEAD; train.seed 1 → 2"
    assert told.amount == "+$17 a month" and "not a sure difference" in told.caution


@pytest.mark.parametrize(
    ("paired", "caution"),
    [(Span(4.0, 1.0, 7.0), "; a sure difference."), (Span(0.0, 0.0, 0.0), "Both runs make the same offers.")],
)
def test_what_may_be_said_follows_the_paired_interval(paired, caution):
    assert contrast(run("a"), run("b"), paired).caution.endswith(caution)


def test_without_a_paired_interval_no_range_is_given_to_the_difference():
    told = contrast(run("HEAD", 120), run("deeper", 124), None, "the predictions are gone")
    assert (
        told.sentence
        == "deeper: +$17 a month against HEAD, $537 (between $321 and $754) instead of $520 (between $303 and $737)"
    )
    assert told.caution.endswith("no range of its own: the predictions are gone.")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (run("b", None), "b has no profit on record"),
        (run("b", currency="SEK"), "b counts in SEK, a in USD"),
        (
            run("b", charter__capacity_per_week=400),
            "profit is not counted alike in the two: charter.capacity_per_week",
        ),
    ],
)
def test_runs_that_cannot_be_compared_in_money_still_tell_what_was_set(other, why):
    told = contrast(run("a", charter__capacity_per_week=150), other)
    assert told.sentence == f"b and a cannot be compared in money: {why}." and not told.amount


def test_another_proposal_is_the_first_thing_that_changed():
    other = Run("b", {"proposal": {"policy": "mlp", "profit_per_week": 1.0}}, {"train.seed": 2})
    assert [str(each) for each in contrast(run("a"), other).changes] == [
        "proposal xgboost → mlp",
        "train.seed 1 → 2",
    ]


# Lines and pictures


def test_numbers_keep_their_distances_and_words_get_a_place_each():
    assert axis("depth", [2, 8, 4]).places == (2, 8, 4)
    named = axis("kind", ["b", "a", "b"])
    assert named.places == (1.0, 0.0, 1.0) and named.texts == ("a", "b")


def test_a_run_without_the_parameter_has_a_place_of_its_own():
    few = axis("depth", [4, ABSENT, 10])
    assert few.texts == ("4", "10", "–") and few.places == (0.0, 2.0, 1.0)
    many = axis("rate", [*range(8), ABSENT])
    assert many.places[:8] == tuple(range(8)) and many.places[8] < 0 and many.texts[0] == "–"


def test_an_axis_of_one_value_has_room_around_it():
    low, high = axis("depth", [4, 4]).reach
    assert low < 4 < high


@pytest.mark.parametrize(("low", "high"), [(120, 131), (-3, 5), (0.8612, 0.8648), (1e6, 3e6), (7, 7)])
def test_marks_are_round_and_enclose_the_values(low, high):
    found = marks(low, high)
    assert found[0] <= low and found[-1] >= high and len(found) <= 8 and found == sorted(set(found))


def test_money_is_the_first_axis_and_eight_are_enough():
    found = [
        run(name, profit, **{f"train__p{key}": key * profit for key in range(12)})
        for name, profit in (("a", 1), ("b", 2))
    ]
    drawn, left = axes(found)
    assert drawn[0].label == "Profit a month" and drawn[0].texts[0].startswith("$")
    assert (
        len(drawn) == 8
        and drawn[1].label == "train.p1"
        and left == ("train.p8", "train.p9", "train.p10", "train.p11")
    )


def test_only_runs_counted_alike_share_a_picture():
    found = [
        run("first", charter__capacity_per_week=400), run("HEAD", charter__capacity_per_week=150),
        run("abroad", currency="SEK", charter__capacity_per_week=150), run("silent", None), run("b", charter__capacity_per_week=150),
    ]  # fmt: skip
    kept, others = drawable(found)
    assert [each.name for each in kept] == ["HEAD", "b"] and others == ["first", "abroad", "silent"]
    assert drawable([run("silent", None)]) == ([], ["silent"])


def test_head_is_among_the_leading_wherever_it_stands():
    found = [run("HEAD", 1), *(run(f"r{number}", 10 + number) for number in range(30))]
    best = leading(found, 5)
    assert [each.name for each in best] == ["r29", "r28", "r27", "r26", "r25", "HEAD"]


def test_the_page_opens_with_the_best_run_and_its_lead():
    assert summary([run("HEAD", 120), run("deeper", 124)]).endswith("$17 more than what is committed.")
    assert summary([run("HEAD", 120), run("twin", 120)]).startswith(
        "Of 2 runs, what is committed (HEAD) earns most"
    )
    assert summary([run("workspace", 120)]).startswith("One run so far: Xgboost earns $520 a month, between")
    assert summary([run("HEAD", 120)], apart=2).startswith(
        "Of 3 runs only one is counted by these terms: Xgboost"
    )
    assert summary([run("HEAD", 120), run("b", 124)], apart=1).startswith(
        "Of 2 runs counted alike, b earns most"
    )


def test_a_line_of_the_table_has_currency_range_and_unit():
    told = line(run("abroad", 120, currency="SEK"))
    assert (
        told.profit == "SEK 520" and told.profit_range == "between SEK 303 and SEK 737" and told.gain == "–"
    )
    assert line(run("silent", None)).profit == "–"


def test_policies_are_named_as_readers_say_them(project):
    assert labels(runs(project.root)) == {"xgboost": "Xgboost", "rule": "Rule"}
    assert label(runs(project.root)[0]) == "Xgboost"


def test_reading_and_telling_runs_loads_no_dvc_and_no_table_library():
    code = (
        "import sys, ml_workbench.run.contrast\n"
        "print([name for name in ('dvc', 'pandas', 'duckdb', 'sklearn', 'plotly') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
