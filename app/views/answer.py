"""The answer: what it earned, how sure that is, what it cost, what is decided and when it is looked at again."""

from pathlib import Path

import approving
import streamlit as st
from common import explained, project, read_charter, report_of, sources_of, style, take_away, unhealthy

from ml_workbench.page import panels
from ml_workbench.page.earned import Report, Source, rests_on
from ml_workbench.page.export import answer_file, answer_rows, as_csv
from ml_workbench.page.story import Fact
from ml_workbench.plan.charter import Charter


def files(report: Report, source: Source, found: tuple[Fact, ...], charter: Charter, approved: str) -> None:
    "The same to take away."
    with st.container(horizontal=True):
        take_away(
            "Save or print (HTML)",
            lambda: answer_file(report, source, found, title=charter.title, style=style(), approved=approved),
            f"answer-{report.name}.html",
            "text/html",
        )
        take_away(
            "Figures (CSV)", lambda: as_csv(answer_rows(report)), f"answer-{report.name}.csv", "text/csv"
        )
        st.page_link("views/attribution.py", label="How we know", icon=":material/query_stats:")
        st.page_link("views/forecast.py", label="What was promised", icon=":material/event_upcoming:")


def promised(root: Path) -> str:
    "Before the first rollout there is only a promise: a link to it, where there is one."
    if not (root / "reports" / "evaluation.json").is_file():
        return ""
    return "<p><a href='forecast' target='_self'>What the test weeks promise</a> is known already.</p>"


root = project()
with explained("Nothing has been earned yet", more=promised(root)):
    charter = read_charter(root)
    report = report_of(root)
    source, commit = sources_of(root, report)
    found = rests_on(report, commit)
    approved = approving.shown(root, report)
    st.html(
        f"{panels.opening(report, source, charter.title)}{unhealthy(root, replayed=report.replayed)}"
        f"{approved}{panels.conclusion(report, 'forecast')}"
    )
    approving.form(root, report)
    files(report, source, found, charter, approved)
    st.subheader("What this rests on")
    st.html(panels.facts(found, {"Notebook": source.page}))
