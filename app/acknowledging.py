"""Acknowledging an alert: by name, with a note, by those who may; everybody else sees who is on it."""

from collections.abc import Mapping, Sequence

import signin
import streamlit as st
from common import books_of, note, project

from ml_workbench.page.cases import Case
from ml_workbench.plan.errors import WorkbenchError

HINT = "Acknowledged with `ml-workbench monitor acknowledge`, or here by an approver who has signed in."
GONE = "Nothing was changed: that alert is over, or somebody else has taken it meanwhile."


def _take(case: Case, by: str, said: str) -> None:
    "Write it down, and show the page as it is then."
    from ml_workbench.page.looks import acknowledged

    try:
        done = acknowledged(books_of(project()), case.alert, by=by, note=said)
    except WorkbenchError as error:
        st.error(str(error))
        return
    st.session_state["acknowledged"] = done
    st.rerun()


def _form(waiting: Mapping[str, Case], by: str) -> None:
    "Choose an alert, say something, take it."
    with st.expander("Acknowledge an alert"), st.form("acknowledge", border=False):
        chosen = st.selectbox("Which", list(waiting), key="alert")
        said = st.text_area("Note", key="note", max_chars=2000, placeholder="What you know, and will do")
        sent = st.form_submit_button("I am on it", type="primary", key="take")
    if sent:
        _take(waiting[chosen], by, said)


def form(cases: Sequence[Case], *, live: bool) -> None:
    "What an approver may take; for everybody else how it is done."
    waiting = {
        f"{case.title} · {case.alert[:6]}": case for case in cases if case.alert and case.state == "open"
    }
    visitor = signin.visitor()
    if visitor is None or visitor.role != "approver":
        if live and waiting:
            note(HINT)
        return
    if done := st.session_state.pop("acknowledged", None):
        st.success(done)
    # A click runs the page again, on alerts that may have changed: what counts is the one that was on show.
    if st.session_state.get("take") and st.session_state.get("alert") not in waiting:
        st.error(GONE)
    elif live and waiting:
        _form(waiting, visitor.email)
