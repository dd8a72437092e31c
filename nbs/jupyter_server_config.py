"""JupyterLab as `make lab` starts it, and what a clean notebook is.

A notebook is cleaned whenever it is saved, so that git shows what was written and not that it was run, and
DVC reruns a stage for its code and not for its outputs. Stage notebooks are kept without outputs; library
notebooks keep theirs, because they teach. Cleans files as well: python nbs/jupyter_server_config.py FILE ...
"""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = ROOT / "nbs" / "stages"


def clean(
    notebook: dict,  # a notebook of format 4, changed in place
    path: Path,  # where it stands
) -> None:
    "Drop what running a notebook leaves in it: counts, timings, the kernel's details, a stage's outputs."
    from nbdev.clean import clean_nb

    clean_nb(notebook, allowed_cell_metadata_keys=["tags"])
    if path.resolve().is_relative_to(STAGES):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = []


def clean_on_save(*, model: dict, path: str, contents_manager: object, **_: object) -> None:
    "Jupyter's hook: called before any file is written."
    if model["type"] == "notebook" and model["content"]["nbformat"] == 4:
        clean(model["content"], Path(contents_manager.root_dir) / path)


def clean_file(path: Path) -> bool:  # whether it had to be changed
    "Clean a notebook file; one that is clean is not touched."
    before = path.read_text(encoding="utf-8")
    notebook = json.loads(before)
    clean(notebook, path)
    after = json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before


if "get_config" in globals():
    # Figures as data: the notebook stays small, and the stages' runner does the same.
    os.environ.setdefault("PLOTLY_RENDERER", "plotly_mimetype")
    c = get_config()  # noqa: F821
    c.ServerApp.root_dir = str(ROOT)
    c.ContentsManager.pre_save_hook = clean_on_save
    # Nothing is asked of the network.
    c.LabApp.news_url = None
    c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
    c.LabApp.extension_manager = "readonly"
    c.LanguageServerManager.autodetect = False  # it would run npm, which writes to the home folder

if __name__ == "__main__":
    for changed in [name for name in sys.argv[1:] if clean_file(Path(name))]:
        print(f"cleaned {changed}")
