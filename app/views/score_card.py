"""Score card: how well tested all of this is, the weakest part first, with the evidence for each of 28 tests."""

from html import escape

import streamlit as st
from common import cached, explained, note, project, prose

from ml_workbench.page.score_card import Row, Section, View, read_score_card


def bars(view: View) -> None:
    "Four bars of seven boxes, the weakest first: full, half and empty."
    lines = []
    for section in view.sections:
        boxes = "".join(
            f"<i class='mlw-{row.mark}' title='{escape(row.text)}: {escape(row.word)}'></i>"
            for row in sorted(section.rows, key=lambda row: -float(row.score))
        )
        decides = "<em>decides</em>" if section.weakest else ""
        lines.append(
            f"<li><div><b>{escape(section.title)}</b>{decides}<small>{escape(section.about)}</small></div>"
            f"<div class='mlw-seven' role='img' aria-label='{escape(section.told)}'>{boxes}</div>"
            f"<strong>{escape(section.told)}</strong></li>"
        )
    key = "".join(f"<span><i class='mlw-{mark}'></i>{word}</span>" for mark, word in KEY)
    st.html(f"<ul class='mlw-sections'>{''.join(lines)}</ul><p class='mlw-key'>{key}</p>")


KEY = (("full", "shown by machine"), ("half", "in part, or long ago"), ("none", "not shown"))


def one(row: Row) -> str:
    "One test, folded."
    shown = "".join(
        f"<li><i class='mlw-{each.mark}'></i><div>{escape(each.said)}<small><code>{escape(each.source)}</code> {escape(each.about)}</small></div></li>"
        for each in row.shown
    )
    raised = "".join(f"<p class='mlw-raise'>To raise it: {prose(each)}</p>" for each in row.remedies)
    return (
        f"<details><summary><i class='mlw-{row.mark}'></i><span>{row.number}. {escape(row.text)}</span>"
        f"<small>{escape(row.word)}{f', {escape(row.age)}' if row.age else ''}</small></summary>"
        f"<ul>{shown}</ul>{raised}</details>"
    )


def section(found: Section) -> None:
    "The seven tests of a section."
    st.subheader(f"{found.title}: {found.told}")
    note(found.open)
    st.html(f"<div class='mlw-tests'>{''.join(map(one, found.rows))}</div>")


with explained("No score card to show yet"):
    root = project()
    reports = sorted((root / "reports").glob("*.json"))
    others = (
        root / "test-artefacts" / "tests.xml",
        root / "dvc.lock",
        root / "params.yaml",
        root / "state" / "workbench.db",
    )
    view = cached(read_score_card, root, files=(*reports, *others))

st.title("Score card")
st.html(
    f"<p class='mlw-sentence mlw-second'>{escape(view.headline)}</p><p class='mlw-because'>{escape(view.meaning)}</p>"
)
bars(view)
note(
    "The ML Test Score (Breck and others, Google, 2017): 28 tests in four sections. The score is the smallest section, "
    f"for what nobody looks at decides. {view.since}"
)
if view.common:
    raised = "".join(f"<li>{prose(each)}</li>" for each in view.common)
    st.html(
        f"<section class='mlw-lacking'><b>What would raise many tests at once</b><ul>{raised}</ul></section>"
    )
for each in view.sections:
    section(each)
