"""Health: is it still true, what is at stake, what the monitors saw, and what somebody must look into."""

from datetime import UTC, datetime
from html import escape

import acknowledging
import streamlit as st
from common import explained, look_of, note, project, prose, read_charter

from ml_workbench.page import signs
from ml_workbench.page.health import View, view_of
from ml_workbench.page.looks import Look
from ml_workbench.plan.charter import Charter


def nobody(view: View, title: str) -> None:
    "Before the monitors ever looked."
    st.html(
        f"{signs.opening(view, title)}<section class='mlw-message'><p>Look at the replay, or at what is live:</p>"
        "<pre>dvc repro monitor\nml-workbench monitor run</pre></section>"
    )


def alerts(view: View, look: Look, charter: Charter, page: str) -> None:
    "What must be looked into, and who is on it."
    st.subheader("What must be looked into")
    if view.cases:
        st.html(signs.cards(view.cases, charter.currency, page))
    else:
        note("Nothing." if not view.first else "Nothing that is known.")
    acknowledging.form(view.cases, live=look.live)
    if view.over:
        note(f"{view.over} {'alert is' if view.over == 1 else 'alerts are'} over.")


def beside(view: View, look: Look) -> None:
    "The programme in figures, and whether a new model pays."
    if view.programme:
        st.subheader("The programme")
        st.html(signs.tiles(view.programme, style="mlw-lesser"))
    if look.advice:
        st.subheader("Does a new model pay?")
        st.html(f"<p><b>{escape(view.advice.value.capitalize())}.</b> {prose(view.advice.note)}</p>")
        note(view.asked)


with explained("The monitors' report cannot be read"):
    root = project()
    charter, look = read_charter(root), look_of(root)
    now = datetime.now(UTC).replace(tzinfo=None)
    view = view_of(look, now, currency=charter.currency, units=charter.unit_plural)

if look.problem:
    st.html(
        f"<section class='mlw-lacking'><b>The records of production cannot be read</b><span>{prose(look.problem)}</span></section>"
    )
if not view.lines:
    nobody(view, charter.title)
else:
    notebook = root / "reports" / "notebooks" / "monitor.ipynb"
    st.html(f"{signs.opening(view, charter.title)}{signs.tiles(view.tiles)}{signs.rows(view)}")
    note("Point at a sign for its day, or open a line for everything that was asked.")
    alerts(view, look, charter, "notebooks?stage=Monitor" if notebook.is_file() else "")
    if view.trends:
        st.subheader("How near to the limits")
        st.html(signs.multiples(view.trends))
    beside(view, look)
