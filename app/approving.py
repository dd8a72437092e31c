"""Approving what the page proposes: by name, with a reason, written down beside the decisions of production."""

from datetime import UTC, datetime
from html import escape
from pathlib import Path

import signin
import streamlit as st

from ml_workbench.page.approval import approval_row, approvals, report_hash
from ml_workbench.page.decided import decision
from ml_workbench.page.earned import Report
from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.plan.settings import Settings, load_settings


@st.cache_resource(show_spinner=False, max_entries=4)
def _opened(settings: Settings):
    "The books of production, with their tables in place; opened once."
    from ml_workbench.serve.records import (
        open_records,
    )  # SQLAlchemy takes its time to load: only where it is needed

    records = open_records(settings)
    records.migrate()
    return records


def _records(root: Path):
    "The books that the settings name."
    return _opened(load_settings(root))


def shown(root: Path, report: Report) -> str:
    "Who approved this decision, as HTML; empty where nobody can sign in or nobody has approved."
    if signin.visitor() is None:
        return ""
    try:
        rows = _records(root).read("decisions", experiment=report.name).to_pylist()
    except WorkbenchError as error:
        return f'<p class="mlw-lacking"><b>Approvals cannot be shown</b><span>{escape(str(error))}</span></p>'
    found = approvals(rows, report_hash(report.path))
    lines = "".join(
        f"<p><b>{'✓ Approved' if each.current else 'Earlier figures were approved'}: {escape(each.decision)}</b>, "
        f"{escape(each.actor)}, {escape(each.when)}. {escape(each.reason)}</p>"
        for each in found[:3]
    )
    return f'<section class="mlw-approved">{lines}</section>' if lines else ""


def form(root: Path, report: Report) -> None:
    "A reason and a button, for those who may approve."
    visitor = signin.visitor()
    if visitor is None or visitor.role != "approver" or report.stop:
        return
    action = decision(report).action
    with (
        st.expander(f"Approve the decision: {action}"),
        st.form("approval", clear_on_submit=True, border=False),
    ):
        reason = st.text_area(
            "Why", key="reason", max_chars=2000, placeholder="In a sentence, for those who will ask later"
        )
        sent = st.form_submit_button("Approve", type="primary")
    if not sent:
        return
    try:
        row = approval_row(
            experiment=report.name,
            report=report_hash(report.path),
            decision=action,
            actor=visitor.email,
            reason=reason,
            at=datetime.now(UTC),
        )
        _records(root).write("decisions", [row])
    except WorkbenchError as error:
        st.error(str(error))
        return
    st.rerun()
