"""What every page needs: the project, its artefacts from a small cache, and a calm word when one is missing."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from ml_workbench.page.blessing import Blessing, read_blessing
from ml_workbench.page.earned import Report, Source, read_report, source_of
from ml_workbench.page.health import caution
from ml_workbench.page.looks import Look, reported
from ml_workbench.page.signs import caution_line
from ml_workbench.page.story import Answer, Fact, read_answer
from ml_workbench.plan.charter import Charter
from ml_workbench.plan.errors import ParamsError, SettingsError, WorkbenchError
from ml_workbench.plan.params import load_params
from ml_workbench.plan.settings import Settings, find_root, load_settings


@st.cache_data(show_spinner=False, max_entries=64)
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
    return _read(reader, f"{reader.__module__}.{reader.__name__}", stamps, arguments)


def _message(title: str, body: str) -> None:
    "A calm box, and the end of the page."
    st.html(f'<section class="mlw-message" role="alert"><h2>{escape(title)}</h2>{body}</section>')
    st.stop()


@contextmanager
def explained(
    title: str = "No results to show yet",  # heading of the message
    *,
    more: str = "",  # what else can be seen meanwhile, as HTML
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
            f"<pre>make run</pre><p class='mlw-small'>{_relative(error)}</p>{more}",
        )


@contextmanager
def aside(
    title: str,  # what is missing, for a reader
) -> Iterator[None]:
    "Show what a part of the page lacks instead of that part; the rest of the page goes on."
    try:
        yield
    except WorkbenchError as error:
        st.html(
            f'<section class="mlw-lacking"><b>{escape(title)}</b><span>{_relative(error)}</span></section>'
        )


def _relative(error: Exception) -> str:
    "An error's message as HTML, with paths as seen from the project's folder."
    return prose(str(error).replace(f"{Path.cwd()}/", ""))


def prose(text: str) -> str:
    "A sentence as HTML: what stands in backticks is a command."
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def project() -> Path:
    "The project's root."
    return find_root()


def read_charter(root: Path) -> Charter:
    "The charter of the project."
    return cached(load_params, root, files=(root / "params.yaml",)).charter


def answer_of(root: Path) -> Answer:
    "What the evaluation found."
    return cached(read_answer, root, files=(root / "reports" / "evaluation.json",))


def blessing_of(root: Path, model: str) -> Blessing:
    "What the gate says of a model."
    reports = root / "reports"
    files = (reports / "gate.json", reports / "overrides.json", reports / "train.json")
    return cached(read_blessing, root, model, files=files)


def report_of(root: Path) -> Report:
    "What the attribution found."
    return cached(read_report, root, files=(root / "reports" / "attribution.json",))


def sources_of(root: Path, report: Report) -> tuple[Source, Fact]:
    "Where the figures of the attribution come from: for the figures, and the commit for the list."
    notebook = root / "reports" / "notebooks" / "attribution.ipynb"
    page = "notebooks?stage=Attribution" if notebook.is_file() else ""
    files = (root / "reports" / "attribution.json", root / ".git" / "logs" / "HEAD", notebook)
    return cached(source_of, root, report, page, files=files)


@st.cache_resource(show_spinner=False, max_entries=4)
def _books(_settings: Settings, url: str, there: bool) -> Any:
    "The database, whose connections are kept; looked for again when it comes into being."
    from ml_workbench.page.looks import books  # SQLAlchemy takes its time to load: only where it is needed

    return books(_settings)


def books_of(root: Path) -> Any:
    "The database that the settings name; None where there is none yet."
    settings = load_settings(root)
    file = settings.database_url.removeprefix("sqlite:///")
    return _books(settings, f"{root} {settings.database_url}", (root / file).is_file())


def look_of(root: Path) -> Look:
    "The newest look of the monitors: at production, or at the replay."
    from ml_workbench.page.looks import last_look

    return last_look(load_settings(root), books_of(root))


def unhealthy(root: Path, *, replayed: bool | None = None) -> str:
    "A line where an amount of a replay, of production, or of either rests on something that is no longer healthy."
    reports = root / "reports"
    try:
        files = (reports / "monitor.json", reports / "replay.json")
        look = cached(reported, root, files=files) if replayed else look_of(root)
        if replayed is None and look.report is None:
            return ""
        about = look.replayed if replayed is None else replayed
        return caution_line(caution(look, datetime.now(UTC).replace(tzinfo=None), replayed=about))
    except WorkbenchError as error:
        return caution_line(f"Whether what this rests on still holds cannot be read: {error}")


def take_away(label: str, make: Callable[[], str], file_name: str, mime: str) -> None:
    "A button that hands out a file, made only when somebody asks for it."
    st.download_button(
        label, make, file_name=file_name, mime=mime, icon=":material/download:", on_click="ignore"
    )


def style() -> str:
    "The page's style sheet, for files that are taken away."
    return (Path(__file__).parent / "style.css").read_text()


def unit() -> str:
    "What the charter calls one of those it decides about; a neutral word where it cannot be read."
    try:
        return read_charter(project()).unit
    except WorkbenchError:
        return "one"


def badge(blessing: Blessing, *, link: str = "") -> str:
    "The gate's verdict as a mark, which may lead to another page."
    said = escape(blessing.badge)
    if link:
        said = f"<a href='{link}' target='_self' title='What the gate looked at'>{said}</a>"
    sign = f'<span aria-hidden="true">{blessing.sign}</span>'
    return f'<div class="mlw-mark mlw-{blessing.state}">{sign}{said}</div>'


def warning(blessing: Blessing) -> str:
    "What stands against the proposal, with the reasons; empty where nothing does."
    if blessing.state not in ("vetoed", "overridden"):
        return ""
    heading = "Do not use this proposal" if blessing.state == "vetoed" else "Used against the gate's advice"
    said = f"<p>{escape(blessing.sentence)}</p>" if blessing.override or not blessing.reasons else ""
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in blessing.reasons)
    return (
        f'<section class="mlw-stop mlw-{blessing.state}" role="alert"><h2>{heading}</h2>'
        f"{said}<ul>{reasons}</ul></section>"
    )


def tiles(found: list[tuple[str, str, str]]) -> str:
    "Labels, large values and notes, side by side."
    body = "".join(
        f'<div class="mlw-tile"><span>{escape(label)}</span><b>{escape(value)}</b><small>{escape(note)}</small></div>'
        for label, value, note in found
    )
    return f'<div class="mlw-tiles">{body}</div>'


def definition_list(facts: tuple[Fact, ...], *, style: str = "") -> None:
    "Labelled lines."
    rows = "".join(
        f"<dt>{escape(fact.label)}</dt><dd>{escape(fact.value)}{f'<small>{escape(fact.note)}</small>' if fact.note else ''}</dd>"
        for fact in facts
    )
    st.html(f'<dl class="mlw-facts {style}">{rows}</dl>')


def table(heads: list[str], rows: list[list[str]], *, style: str = "") -> None:
    "A table of ready HTML cells; a head that begins with '-' is left out on a phone."

    def cells(tag: str, line: list[str]) -> str:
        return "".join(
            f"<{tag}{' class=mlw-wide' if head.startswith('-') else ''}>{cell}</{tag}>"
            for head, cell in zip(heads, line)
        )

    head = cells("th", [escape(name.lstrip("-")) for name in heads])
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    st.html(
        f"<div class='mlw-scroll {style}'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def picture(
    figure: Any,  # of plotly
    *,
    key: str,  # its name on the page
    alt: str,  # what it shows, for those who do not see it
) -> None:
    "A picture that leaves scrolling to the page and brings no toolbar."
    config = {"displayModeBar": False, "scrollZoom": False, "responsive": True}
    st.plotly_chart(figure, config=config, key=key, alt=alt)


def note(text: str) -> None:
    "A sentence under a picture."
    st.html(f"<p class='mlw-small'>{prose(text)}</p>")


ORDER = (
    "Data",
    "Features",
    "Tune",
    "Train",
    "Evaluate",
    "Diagnose",
    "Compact",
    "Gate",
    "Replay",
    "Attribution",
    "Monitor",
)


def executed(folder: Path) -> dict[str, Path]:
    "The executed notebooks by stage, as a reader writes it, in the order of the pipeline."
    found = {path.stem.capitalize(): path for path in sorted(folder.glob("*.ipynb"))}
    return {stage: found[stage] for stage in sorted(found, key=lambda stage: (*ORDER, stage).index(stage))}
