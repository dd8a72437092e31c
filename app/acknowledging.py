"""Acknowledging an alert: by name, with a note, by those who may; everybody else sees who is on it."""

from collections.abc import Sequence

import signin
import streamlit as st
from common import books_of, note, project

from ml_workbench.page.cases import Case
from ml_workbench.plan.errors import WorkbenchError

HINT = "Acknowledged with `ml-workbench monitor acknowledge`, or here by an approver who has signed in."


def _sent(waiting: Sequence[Case]) -> tuple[Case, str] | None:
    "What was chosen and said; None until somebody presses the button."
    by_label = {f"{case.title} · {case.alert[:6]}": case for case in waiting}
    with st.expander("Acknowledge an alert"), st.form("acknowledge", clear_on_submit=True, border=False):
        chosen = st.selectbox("Which", list(by_label), key="alert")
        said = st.text_area(
            "Note", key="note", max_chars=2000, placeholder="What you know, and what you will do"
        )
        return (by_label[chosen], said) if st.form_submit_button("I am on it", type="primary") else None


def form(cases: Sequence[Case], *, live: bool) -> None:
    "Choose an alert that nobody has taken, say something, take it."
    if done := st.session_state.pop("acknowledged", None):
        st.success(done)
    waiting = [case for case in cases if case.alert and case.state == "open"]
    visitor = signin.visitor()
    if not live or not waiting:
        return
    if visitor is None or visitor.role != "approver":
        note(HINT)
        return
    if (sent := _sent(waiting)) is None:
        return
    from ml_workbench.page.looks import acknowledged

    case, said = sent
    try:
        st.session_state["acknowledged"] = acknowledged(
            books_of(project()), case.alert, by=visitor.email, note=said
        )
    except WorkbenchError as error:
        st.error(str(error))
        return
    st.rerun()
