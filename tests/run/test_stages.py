"""A stage runs with exactly its parameters, and leaves everything or nothing."""

import json
import os
import resource
import signal
import subprocess
import sys

import psutil
import pytest

from ml_workbench.plan.errors import ParamsError, StageError
from ml_workbench.run.stages import STAGES, run_stage, stage_section


def run(project, **options):
    return run_stage("evaluate", root=project.root, engine="inprocess", **options)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_stage_gets_its_section_and_leaves_a_copy_and_a_page(project) -> None:
    project.set("resamples", 7)
    project.write("(seed, resamples)", resamples=7)
    done = run(project)
    assert (done.stage, done.cells) == ("evaluate", 3) and done.page.is_file()
    cells = project.copy()["cells"]
    assert [cell["id"] for cell in cells] == ["head", "parameters", "injected", "code-1"]
    assert cells[-1]["outputs"][0]["data"]["text/plain"] == ["(84, 7)"]


def test_running_again_changes_no_byte(project) -> None:
    project.write("print(seed)")
    first = run(project).notebook.read_bytes()
    assert run(project).notebook.read_bytes() == first


def test_an_unknown_stage_is_refused_with_a_suggestion(project) -> None:
    with pytest.raises(StageError, match="there is no stage 'evalaute': did you mean 'evaluate'"):
        run_stage("evalaute", root=project.root)
    assert not {"charter", "experiment"} & set(STAGES)


def test_a_stage_without_a_notebook_is_refused(project) -> None:
    with pytest.raises(StageError, match=r"evaluate\.ipynb does not exist"):
        run(project)


def test_a_misspelt_key_in_params_is_refused(project) -> None:
    project.set("sed", 1)
    project.write("1")
    with pytest.raises(ParamsError, match=r"evaluate\.sed: unknown key, did you mean 'seed'"):
        run(project)


def test_a_mistyped_value_in_params_is_refused(project) -> None:
    project.set("resamples", "many")
    project.write("1")
    with pytest.raises(ParamsError, match=r"evaluate\.resamples: .* got 'many'"):
        run(project)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tags": ()}, "no cell is tagged 'parameters'"),
        ({"first": "seed: int = 84"}, "lacks 'resamples'"),
        ({"first": "sed: int = 84"}, "did you mean 'seed'"),
    ],
)
def test_a_notebook_that_does_not_fit_never_starts(project, options: dict, message: str) -> None:
    project.write("open('started', 'w')", **options)
    with pytest.raises(StageError, match=message):
        run(project)
    assert not (project.root / "started").exists() and project.files() == []


def test_a_default_that_differs_is_refused_but_not_within_an_experiment(project, monkeypatch) -> None:
    project.write("resamples")
    project.set("resamples", 5)
    with pytest.raises(
        StageError, match=r"'resamples: int = 1000', but evaluate\.resamples in params\.yaml is 5"
    ):
        run(project)
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0" * 40)
    run(project)
    assert project.copy()["cells"][-1]["outputs"][0]["data"]["text/plain"] == ["5"]


def test_a_notebook_that_changes_a_parameter_unseen_is_caught_afterwards(project) -> None:
    project.write("globals()['seed'] = 5")
    with pytest.raises(StageError, match=r"evaluate\.seed is 84 in params\.yaml, the notebook ran with 5"):
        run(project)
    assert project.files() == []


def test_parameters_that_change_while_a_stage_runs_are_noticed(project) -> None:
    project.write(
        "from pathlib import Path\np = Path('params.yaml')\np.write_text(p.read_text().replace('resamples: 1000', 'resamples: 2000'));"
    )
    with pytest.raises(
        StageError, match=r"evaluate\.resamples is 2000 in params\.yaml, the notebook ran with 1000"
    ):
        run(project)


def test_a_failing_cell_is_named_and_the_copy_is_kept(project) -> None:
    project.write("print('so far')", "\nvalue = 1 / 0", "open('after', 'w')")
    with pytest.raises(StageError) as caught:
        run(project)
    assert str(caught.value) == (
        "stage evaluate failed in cell 4 (`value = 1 / 0`): ZeroDivisionError: division by zero\n"
        "executed copy: state/failed/evaluate.ipynb"
    )
    kept = json.loads((project.root / "state" / "failed" / "evaluate.ipynb").read_text())
    assert [output["output_type"] for cell in kept["cells"][3:5] for output in cell["outputs"]] == [
        "stream",
        "error",
    ]
    assert len(kept["cells"]) == 6 and not (project.root / "after").exists() and project.files() == []


def test_an_error_of_the_workbench_is_told_in_its_own_words(project) -> None:
    project.write(
        "from ml_workbench.plan.errors import ContractError\nraise ContractError('transactions.price: 3 rows')"
    )
    with pytest.raises(StageError, match=r"failed in cell 3 \(.*\): transactions\.price: 3 rows\n"):
        run(project)


def test_the_kept_copy_goes_when_the_stage_succeeds(project) -> None:
    project.write("1 / 0")
    with pytest.raises(StageError):
        run(project)
    project.write("1")
    run(project)
    assert not (project.root / "state" / "failed" / "evaluate.ipynb").exists()


def test_a_failing_kernel_stage_ends_with_one_line_and_exit_code_one(project) -> None:
    project.write("x = 1", "raise KeyError('nothing here')")
    done = project.call("stage", "evaluate", "--engine", "kernel")
    assert done.returncode == 1
    assert done.stderr == (
        "error: stage evaluate failed in cell 4 (`raise KeyError('nothing here')`): KeyError: 'nothing here'\n"
        "executed copy: state/failed/evaluate.ipynb\n"
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["started", "failed"] and events[-1]["level"] == "error"


def test_a_kernel_that_dies_is_not_taken_for_success(project) -> None:
    project.write("import os\nos._exit(9)")
    done = project.call("stage", "evaluate", "--engine", "kernel")
    assert done.returncode == 1 and "failed in cell 3 (`import os`): the kernel died" in done.stderr
    assert project.files() == []


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stage_that_is_stopped_leaves_no_half_file_and_no_kernel(
    project, busy_stage, until, signum: int, code: int
) -> None:
    process, kernel = busy_stage
    process.send_signal(signum)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err.startswith(
        f"error: stage evaluate was stopped by {signal.Signals(signum).name} in cell 4; executed copy: state/failed"
    )
    assert "Traceback" not in err and len(err.splitlines()) == 1
    until(lambda: gone(kernel))
    assert [path for path in project.files() if not path.endswith(".tmp")] == []


def test_an_inprocess_stage_is_stopped_too(project, until) -> None:
    project.write(
        "from pathlib import Path\nimport time\nPath('here').touch()", "while True:\n    time.sleep(0.05)"
    )
    process = project.start("stage", "evaluate", "--engine", "inprocess")
    until((project.root / "here").exists)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "was stopped by SIGINT" in err and len(err.splitlines()) == 1


def test_a_stage_killed_half_way_runs_again(project, busy_stage) -> None:
    process, kernel = busy_stage
    process.kill()
    process.wait(timeout=30)
    (project.root / "go").touch()
    done = project.call("stage", "evaluate", "--engine", "kernel")
    assert done.returncode == 0, done.stderr
    assert (project.root / "data" / "table.csv").read_text() == "whole"
    assert project.files() == [
        "data/table.csv",
        "reports/notebooks/evaluate.html",
        "reports/notebooks/evaluate.ipynb",
    ]
    assert gone(kernel)


def test_two_runs_of_a_stage_do_not_mix(project, busy_stage) -> None:
    process, _ = busy_stage
    done = project.call("stage", "evaluate", "--engine", "inprocess")
    assert done.returncode == 1
    assert (
        f"stage evaluate is already running in {project.root} (process {process.pid}, since " in done.stderr
    )
    (project.root / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0 and (project.root / "data" / "table.csv").read_text() == "whole"


def test_a_lock_left_by_a_process_that_is_gone_is_no_obstacle(project) -> None:
    lock = project.root / "state" / "locks" / "evaluate.lock"
    lock.parent.mkdir(parents=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock.write_text(
        json.dumps({"process": ended.pid, "since": "00:00:00", "kernel": os.getpid(), "kernel_started": 0.0})
    )
    project.write("1")
    run(project)  # and this very process, whose number the kernel had, still lives
    lock.write_text("{half")
    run(project)


def test_a_full_disk_leaves_no_half_copy(project) -> None:
    project.write("print('x' * 300_000)")
    code = (
        "import resource, sys\nfrom ml_workbench.run.stages import run_stage\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, {resource.RLIM_INFINITY}))\n"
        "from ml_workbench.plan.errors import WorkbenchError\n"
        "try:\n    run_stage('evaluate', engine='inprocess')\nexcept WorkbenchError as error:\n    sys.exit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True)
    assert (
        done.returncode == 1 and "cannot write" in done.stderr and "nothing was changed there" in done.stderr
    )
    assert project.files() == []


def test_values_of_a_section_are_plain(project, root) -> None:
    from ml_workbench.plan.params import load_params

    section = stage_section(load_params(root), "features")
    assert type(section["train"]) is list and type(section["first_as_of"]) is str
