"""Runs: which parameters earned what, as lines, as amounts with their range, and two of them in words."""

from html import escape
from pathlib import Path

import streamlit as st
from common import explained, note, project, table

from ml_workbench.run.compare import ANOTHER, luck, notes, of_policy, reference
from ml_workbench.run.contrast import Contrast, axes, contrast, drawable, leading, line, summary
from ml_workbench.run.history import Run, labels, runs, state

TALL = 14  # lines of a table before it scrolls by itself
# Lines across eight axes need room: a narrow window has the amounts instead.
NARROW = "<style>@media (max-width: 640px) { .st-key-lines { display: none; } }</style>"


@st.cache_data(show_spinner=False, max_entries=4)
def read(root: Path, state: str) -> list[Run]:
    "All runs, read again when a commit, an experiment or the workspace's reports change."
    return runs(root, everything=True)


@st.cache_data(show_spinner=False, max_entries=64)
def told(root: Path, state: str, policy: str, before: str, after: str) -> Contrast:
    "What one run has that another has not, with the paired difference where it can be had."
    from ml_workbench.run.paired import paired  # it reads tables: the page is there before it

    named = {run.name: run for run in of_policy(read(root, state), policy)}
    pair = paired(root, named[before], named[after])
    return contrast(named[before], named[after], pair.span, pair.reason)


def lines(found: list[Run]) -> None:
    "Every run as a line, where there is room for it."
    import runs_figures  # plotly takes its time to load: the words come first

    theme = f"theme.{st.context.theme.type or 'light'}"
    ground, ink = (st.get_option(f"{theme}.{name}") for name in ("backgroundColor", "textColor"))
    drawn, left = axes(found)
    if len(drawn) < 2:
        return
    with st.container(key="lines"):
        st.html(NARROW)
        st.plotly_chart(
            runs_figures.parallel(found, drawn, ground=ground, ink=ink),
            config=runs_figures.CONFIG,
            key="parallel",
            alt="Every run as a line through its profit, its ranking and the parameters that differ",
        )
        more = f" No room for: {', '.join(left)}." if left else ""
        note(
            f"One line is one run; point at it for its name. Runs that share a value lie side by side.{more}"
        )


def amounts(found: list[Run]) -> None:
    "Amounts with their range."
    import runs_figures

    best = leading(found)
    st.subheader("Profit a month")
    st.plotly_chart(
        runs_figures.amounts(best),
        config=runs_figures.CONFIG,
        key="amounts",
        alt="Monthly profit of each run with its range",
    )
    cut = f"The best of {len(found)} runs. " if len(best) < len(found) else ""
    note(f"{cut}The dotted line is what is committed (HEAD).")


@st.fragment
def two(root: Path, stamp: str, policy: str, found: list[Run]) -> None:
    "Choose two runs; only this part runs again."
    st.subheader("Two runs in words")
    names, first = [run.name for run in found], reference(found).name
    second = next(run.name for run in leading(found) if run.name != first)
    left, right = st.columns(2)
    before = left.selectbox("From", names, index=names.index(first), key="before")
    after = right.selectbox("To", names, index=names.index(second), key="after")
    said = told(root, stamp, policy, before, after)
    stressed = f"<strong>{escape(said.amount)}</strong>"
    sentence = (
        escape(said.sentence).replace(escape(said.amount), stressed, 1)
        if said.amount
        else escape(said.sentence)
    )
    st.html(f"<p role='status'>{sentence}.</p>")
    note(said.caution)
    if said.changes:
        rows = [[escape(text) for text in (each.name, each.before, each.after)] for each in said.changes]
        table(["Set differently", "from", "to"], rows)
    else:
        note("No parameter was set differently.")


def another() -> None:
    "How to make a second run."
    st.subheader("Another run")
    st.html(
        "<p>Change a parameter and run what depends on it; the result is kept beside this one:</p>"
        f"<pre class='mlw-command'>{escape(ANOTHER)}</pre><p class='mlw-small'>Then reload this page. "
        "Several at once: <code>dvc exp run --queue -S …</code> each, then <code>dvc queue start</code>.</p>"
    )


def numbers(found: list[Run], apart: list[str]) -> None:
    "All runs, one line each."
    st.subheader(f"All {len(found)} runs" if len(found) > 1 else "In numbers")
    heads = ["Run", "Profit a month", "-Against the rule", "-Proposal", "-Gate", "-AUC / AP"]
    cells = [line(run, "in no picture, see below" if run.name in apart else "") for run in found]
    rows = [
        [
            f"{escape(each.name)}<small style='white-space: normal'>{escape(each.note)}</small>",
            f"{each.profit}<small>{each.profit_range}</small>",
            f"{each.gain}<small>{each.gain_range}</small>",
            *map(escape, (each.policy, each.gate, each.ranking)),
        ]
        for each in cells
    ]
    with st.container(height=620 if len(rows) > TALL else "content", border=False):
        table(heads, rows)


with explained("No runs to show yet"):
    root = project()
    stamp = state(root)
    everything = read(root, stamp)

st.title("Runs")
sentence, picture = st.container(), st.container()
with st.expander("Choose runs and whose figures"):
    names = [run.name for run in everything]
    picked = st.multiselect("Runs", names, placeholder=f"All {len(names)}", key="picked")
    policies = {"": "What each run proposes"} | labels(everything)
    policy = st.selectbox("Figures of", policies, format_func=policies.get, key="of")
chosen = of_policy([run for run in everything if not picked or run.name in picked], policy)
found, apart = drawable(chosen)
left, right = st.columns([1, 1], gap="large")
if found:
    sentence.html(
        f"<p>{escape(summary(found, apart=len(apart)))}</p><p class='mlw-small'>{escape(luck(found))}</p>"
    )
    with left:
        amounts(found)
    if len(found) > 1:
        with picture:
            lines(found)
numbers(leading(chosen, len(chosen)), apart)
st.html("".join(f"<p class='mlw-small'>{escape(said)}</p>" for said in notes(chosen)))
with right:
    if len(found) > 1:
        two(root, stamp, policy, found)
    else:
        another()
