"""Two engines, one result; and a process that is afterwards as it was before."""

import builtins
import os
import sys
from pathlib import Path

from ml_workbench.run.stages import run_stage

CELLS = (
    "import sys\nimport warnings\n\nimport numpy as np\nimport pandas as pd\nimport plotly.express as px\n"
    "from ml_workbench.plan.files import replacing\nfrom ml_workbench.plan.settings import find_root\nroot = find_root()",
    "print('one'); print('careful', file=sys.stderr); print('two')\n"
    "display(pd.DataFrame({'a': range(3)}))\nprint('three')\nwarnings.warn('old')",
    "frame = pd.DataFrame(np.random.default_rng(seed).normal(size=(2, 30)) * 1e9)\n"
    "with replacing(root / 'data/frame.csv') as path:\n    frame.to_csv(path)\nframe",
    "px.line(frame.T)",
    "print('\\r'.join(map(str, range(9))))\nset('abcdefgh'), object(), resamples",
    "with replacing(root / 'data/words.txt') as path:\n    path.write_text(' '.join(set('abcdefgh')))\nNone",
)


def results(project, *arguments: str) -> dict[str, bytes]:
    done = project.call("stage", "evaluate", *arguments)
    assert done.returncode == 0, done.stderr
    return {path: (project.root / path).read_bytes() for path in project.files()}


def test_both_engines_leave_the_same_bytes(project) -> None:
    project.write(*CELLS)
    kernel = results(project, "--engine", "kernel")
    assert kernel.keys() == {
        "data/frame.csv", "data/words.txt", "reports/notebooks/evaluate.html", "reports/notebooks/evaluate.ipynb",
    }  # fmt: skip
    assert results(project, "--engine", "inprocess") == kernel


def test_the_engine_is_what_the_settings_say(project) -> None:
    (project.root / ".env").write_text("MLW_ENGINE=inprocess\n")
    project.write("resamples")
    assert run_stage("evaluate", root=project.root).engine == "inprocess"


def test_the_process_is_afterwards_as_it_was(project) -> None:
    before = (
        dict(os.environ),
        list(sys.path),
        sys.modules["__main__"],
        Path.cwd(),
        sys.stdout,
        sys.displayhook,
        sys.excepthook,
    )
    project.write("import os\nos.environ['LEFT'] = 'behind'\nx = 1\nx")
    for _ in range(2):
        run_stage("evaluate", root=project.root, engine="inprocess")
    after = (
        dict(os.environ),
        list(sys.path),
        sys.modules["__main__"],
        Path.cwd(),
        sys.stdout,
        sys.displayhook,
        sys.excepthook,
    )
    assert after == before
    assert not hasattr(builtins, "get_ipython")


def test_the_code_of_the_project_wins_over_an_installed_one(project) -> None:
    (project.root / "only_here.py").write_text("where = 'the project'")
    project.write("import only_here\nonly_here.where")
    for engine in ("kernel", "inprocess"):
        run_stage("evaluate", root=project.root, engine=engine)
        assert project.copy()["cells"][-1]["outputs"][0]["data"]["text/plain"] == ["'the project'"]


def test_a_stage_finds_nobodys_startup_files(project, monkeypatch, tmp_path) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("surprise = 1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    project.write("'surprise' in globals()")
    for engine in ("kernel", "inprocess"):
        run_stage("evaluate", root=project.root, engine=engine)
        assert project.copy()["cells"][-1]["outputs"][0]["data"]["text/plain"] == ["False"]
