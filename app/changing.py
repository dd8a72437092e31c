"""Changing what is live: by name, with a reason, and only after reading what would hold then."""

from dataclasses import replace
from html import escape

import signin
import streamlit as st

from ml_workbench.page.releases import Step, carried_out
from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.release.ledger import Ledger


def _form(ledger: Ledger, found: tuple[Step, ...], who: str) -> None:
    "Choose, read, say why, do it."
    by_label = {step.label: step for step in found}
    step = by_label[st.selectbox("What", list(by_label), key="step")]
    # A click runs the page again, on a ledger that may have grown: what counts is the line that was on show.
    step = replace(step, line=st.session_state.get("seen", step.line))
    st.session_state["seen"] = found[0].line
    said = "".join(f"<p>{escape(each)}</p>" for each in step.told)
    st.html(f"<section class='mlw-preview'><b>What would hold then</b>{said}</section>")
    with st.form("change", border=False):
        reason = st.text_area(
            "Why", key="why", max_chars=2000, placeholder="In a sentence, for those who will ask later"
        )
        sent = st.form_submit_button("Do it now", type="primary")
    if not sent:
        return
    try:
        made = carried_out(ledger, step, actor=who, reason=reason)
    except WorkbenchError as error:
        st.error(str(error))
        return
    st.session_state["seen"] = made.line.line
    st.session_state["done"] = f"Line {made.line.line} is in force: {made.line.action}."
    st.rerun()


def form(ledger: Ledger, found: tuple[Step, ...]) -> None:
    "What an approver may do now; nothing for anybody else."
    visitor = signin.visitor()
    if visitor is None or visitor.role != "approver":
        return
    if done := st.session_state.pop("done", None):
        st.success(done)
    if found:
        with st.expander("Change what is live"):
            _form(ledger, found, visitor.email)


def hint() -> str:
    "How to change what is live where nobody can do it here."
    visitor = signin.visitor()
    if visitor is not None and visitor.role == "approver":
        return ""
    return "Changed with `ml-workbench deploy`, `ramp`, `pause`, `promote` and `rollback`, or here by an approver who has signed in."
