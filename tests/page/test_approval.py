"""Who may see and approve, and what an approval is about."""

from datetime import UTC, datetime

import pytest

from ml_workbench.page.approval import approval_row, approvals, report_hash, role_of
from ml_workbench.plan.errors import SettingsError, WorkbenchError

ROLES = {"approvers": ["Head@Example.org"], "viewers": ["*@example.org"]}
ROW = {
    "experiment": "retention", "report_hash": "ab", "decision": "ship", "actor": "head@example.org",
    "reason": "Seen.", "decided_at": datetime(2018, 1, 2, 9, tzinfo=UTC),
}  # fmt: skip


@pytest.mark.parametrize(
    ("email", "verified", "role"),
    [
        ("head@example.org", True, "approver"), (" HEAD@EXAMPLE.ORG ", True, "approver"),
        ("head@example.org", False, "nobody"), ("clerk@example.org", True, "viewer"),
        ("x@example.org.evil.com", True, "nobody"), ("", True, "nobody"), (None, True, "nobody"),
    ],
)  # fmt: skip
def test_a_role_belongs_to_a_verified_address(email, verified, role):
    assert role_of(email, ROLES, verified=verified) == role


def test_without_viewers_everybody_who_can_sign_in_may_look_and_nobody_approves():
    assert role_of("x@anywhere.com", {}) == "viewer"
    assert role_of("x@anywhere.com", {"approvers": ["head@example.org"]}) == "viewer"


@pytest.mark.parametrize(
    "roles", [{"approvers": "head@example.org"}, {"approver": []}, {"approvers": ["*"]}, {"viewers": [1]}]
)
def test_roles_that_would_surprise_are_refused(roles):
    with pytest.raises(SettingsError, match="roles"):
        role_of("head@example.org", roles)


def test_an_approval_is_about_the_bytes_of_a_report(tmp_path):
    path = tmp_path / "attribution.json"
    path.write_text("{}")
    first = report_hash(path)
    path.write_text("{ }")
    assert len(first) == 12 and report_hash(path) != first


def test_the_last_approval_comes_first_and_older_reports_do_not_count():
    rows = [ROW | {"report_hash": "old"}, ROW | {"decided_at": datetime(2018, 1, 3, 9, tzinfo=UTC)}]
    found = approvals(rows, "ab")
    assert [(each.when, each.current) for each in found] == [
        ("3 January 2018, 09:00", True),
        ("2 January 2018, 09:00", False),
    ]


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_an_approval_needs_a_reason(reason):
    with pytest.raises(WorkbenchError, match="reason"):
        approval_row(
            experiment="e", report="r", decision="ship", actor="a", reason=reason, at=ROW["decided_at"]
        )
