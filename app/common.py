"""What every page needs: the project, its artefacts from a small cache, and a calm word when one is missing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from ml_workbench.plan.errors import ParamsError, SettingsError, WorkbenchError
from ml_workbench.plan.settings import find_root


@st.cache_data(show_spinner=False, max_entries=32)
def _read(_reader: Callable, name: str, stamps: tuple, arguments: tuple) -> Any:
    "Read once per content: `stamps` change when a file does."
    return _reader(*arguments)


def cached(
    reader: Callable,  # a function of the package that reads artefacts
    *arguments: Any,  # its arguments
    files: tuple[Path, ...],  # what it reads
) -> Any:  # its result, read again only when a file changed
    "Read artefacts through the cache."
    stamps = tuple((str(file), file.stat().st_mtime_ns if file.exists() else 0) for file in files)
    return _read(reader, reader.__name__, stamps, arguments)


def _message(title: str, body: str) -> None:
    "A calm box, and the end of the page."
    st.html(f'<section class="mlw-message" role="alert"><h2>{escape(title)}</h2>{body}</section>')
    st.stop()


@contextmanager
def explained(
    title: str = "No results to show yet",  # heading of the message
) -> Iterator[None]:
    "Show what is missing and how to get it instead of a traceback, and end the page there."
    try:
        yield
    except (ParamsError, SettingsError) as error:
        _message("The configuration needs a correction", f"<p>{escape(str(error))}</p>")
    except WorkbenchError as error:
        _message(
            title,
            "<p>To produce everything that this page shows, run this in the project's folder, then reload:</p>"
            f"<pre>make run</pre><p class='mlw-small'>{escape(str(error).replace(f'{Path.cwd()}/', ''))}</p>",
        )


def project() -> Path:
    "The project's root."
    return find_root()


ORDER = ("Data", "Features", "Train", "Evaluate")


def executed(folder: Path) -> dict[str, Path]:
    "The executed notebooks by stage, as a reader writes it, in the order of the pipeline."
    found = {path.stem.capitalize(): path for path in sorted(folder.glob("*.ipynb"))}
    return {stage: found[stage] for stage in sorted(found, key=lambda stage: (*ORDER, stage).index(stage))}
