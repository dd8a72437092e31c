"""Releases: what decides about whom now, how that came about, what the gate said, and what one release has that another has not."""

from datetime import UTC, datetime
from html import escape
from pathlib import Path

import changing
import streamlit as st
from common import aside, explained, note, picture, project, table

from ml_workbench.page.releases import Now, Row, Standing, View, releases_view, steps
from ml_workbench.plan.errors import ReleaseError, WorkbenchError
from ml_workbench.plan.settings import Settings, load_settings
from ml_workbench.release.diff import Diff, diff
from ml_workbench.release.ledger import Ledger, open_ledger
from ml_workbench.release.store import Held, Store

TALL = 12  # lines of the ledger before they scroll by themselves
SLIM = 0.17  # a share whose name has no room on a phone


@st.cache_resource(show_spinner=False, max_entries=4)
def opened(settings: Settings) -> Ledger:
    "The ledger, whose connections are kept."
    return open_ledger(settings)


def store_of(settings: Settings) -> Store:
    return Store(settings.store_url, settings.root)


@st.cache_data(show_spinner=False, ttl=10, max_entries=4)
def shelf(_settings: Settings, url: str) -> tuple[tuple[Held, ...], str]:
    "The releases of the store, or why they cannot be told."
    try:
        return store_of(_settings).releases(), ""
    except WorkbenchError as error:
        return (), str(error)


@st.cache_data(show_spinner=False, max_entries=32)
def compared(_settings: Settings, url: str, before: str, after: str) -> Diff:
    "Two releases against each other; releases never change, so once is enough."
    store = store_of(_settings)
    return diff(store.read(before), store.read(after))


def now(found: Now) -> None:
    "What is live, as a bar and in words."
    from releases_figures import colour

    first, *rest = found.sentences
    bar = "".join(
        f"<div class='{'mlw-slim' if part.share < SLIM else ''}' style='flex: {max(part.share, 0.02):.4f}; background: {colour(part.name)}' title='{escape(part.told)}'>"
        f"<b>{escape(part.percent)}</b><span>{escape(part.name)}</span></div>"
        for part in found.parts
    )
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in rest)
    warned = f"<p class='mlw-lacking'><b>{escape(found.warning)}</b></p>" if found.warning else ""
    st.html(
        f"<p class='mlw-because'>{escape(first)}</p><div class='mlw-split mlw-live'>{bar}</div>{said}{warned}"
        f"<p class='mlw-small'>Line {found.line} of the ledger, since {escape(found.since)} UTC, by {escape(found.by)}: {escape(found.reason)}</p>"
    )


def over_time(view: View) -> None:
    "How traffic went."
    import releases_figures  # plotly takes its time to load: the words come first

    st.subheader("Traffic over time")
    picture(
        releases_figures.traffic(view.series),
        key="traffic",
        alt="Share of all units by who decides about them",
    )
    note("Of all units, by who decides about them. Times are UTC, as whoever wrote the line had them.")


def ledger_table(rows: tuple[Row, ...]) -> None:
    "Who changed what, and why."
    st.subheader("The ledger")
    cells = [
        [
            str(row.line),
            f"{escape(row.by)}<small>{escape(row.when)}</small>",
            *map(escape, (row.what, row.traffic, row.reason)),
        ]
        for row in rows
    ]
    with st.container(height=520 if len(rows) > TALL else "content", border=False):
        table(["Line", "Who, when (UTC)", "What", "-Traffic", "Why"], cells, style="mlw-prose")


def verdicts(found: tuple[Standing, ...]) -> None:
    "What the gate said of every release."
    st.subheader("Releases and the gate")
    cells = [
        [
            f"<code>{each.short}</code>", escape(each.label), escape(each.made),
            f"<span class='mlw-{escape(each.verdict)}'>{each.sign} {escape(each.verdict)}</span>",
            escape(each.earns), f"{escape(each.serves) or '–'}<small style='white-space: normal'>{escape(each.note)}</small>",
        ]
        for each in found
    ]  # fmt: skip
    table(
        ["Release", "-Model", "-Made", "Gate", "-A month, against the rule", "Now"], cells, style="mlw-prose"
    )


def parts(found: Diff) -> None:
    "Everything that differs, for those who want it."
    groups = (
        ("What it is", found.about), ("Parameters", found.params), ("Features that mean something else", found.redefined),
        ("Files, in bytes", found.files), ("Versions", found.versions),
    )  # fmt: skip
    for title, changes in groups:
        if changes:
            st.html(f"<h3 class='mlw-h'>{title}</h3>")
            rows = [[escape(str(cell)) for cell in (each.name, each.before, each.after)] for each in changes]
            table(["", "from", "to"], rows, style="mlw-prose")
    for title, names in (
        ("Features added", found.added),
        ("Features removed", found.removed),
        ("Features changed", found.changed),
    ):
        if names:
            note(f"{title}: {', '.join(names)}.")


@st.fragment
def two(settings: Settings, found: tuple[Standing, ...]) -> None:
    "Choose two releases; only this part runs again."
    st.subheader("Two releases")
    by_name = {
        f"{each.short} {each.label}{f' ({each.serves})' if each.serves else ''}": each.id for each in found
    }
    left, right = st.columns(2)
    before = by_name[left.selectbox("From", list(by_name), key="before")]
    after = by_name[right.selectbox("To", list(by_name), index=1, key="after")]
    with aside("These two cannot be compared"):
        said = compared(settings, settings.store_url, before, after)
        st.html("".join(f"<p role='status'>{escape(sentence)}</p>" for sentence in said.sentences))
        if said.figures:
            heads = ["", "from", "to", *(["difference"] if said.same_test else [])]
            rows = [
                [
                    escape(each.label), each.shown(each.before), each.shown(each.after),
                    *([each.shown(each.difference, sign=True)] if said.same_test else []),
                ]
                for each in said.figures
            ]  # fmt: skip
            table(heads, rows)
        if before != after:
            with st.expander("Everything that differs"):
                parts(said)


def empty(root: Path) -> None:
    "Before anything was deployed."
    st.html(
        "<section class='mlw-message'><h2>Nothing is live yet</h2><p>A release is made of a blessed model, and deployed:</p>"
        "<pre>ml-workbench release create\nml-workbench deploy RELEASE</pre></section>"
    )


with explained("The ledger cannot be read"):
    root = project()
    settings = load_settings(root)
    ledger = opened(settings)
    lines = ledger.lines() if ledger.ready() else []
    held, away = shelf(settings, settings.store_url)
    view = releases_view(lines, held, until=datetime.now(UTC).replace(tzinfo=None))

st.title("Releases")
if view.now:
    now(view.now)
    changing.form(ledger, steps(lines))
    if said := changing.hint():
        note(said)
    over_time(view)
elif not lines:
    empty(root)
if lines:
    ledger_table(view.rows)
with aside("The releases cannot be shown"):
    if away:
        raise ReleaseError(away)
if view.standings:
    verdicts(view.standings)
if len(view.standings) > 1:
    two(settings, view.standings)
