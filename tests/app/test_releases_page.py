"""The page of releases: what is live in words, how it came about, what the gate said; and changes by those who may."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ml_workbench.database.connections import transaction
from ml_workbench.database.tables import table_of
from ml_workbench.release import ledger as module
from ml_workbench.release.ledger import Ledger
from ml_workbench.release.operations import change, rollback
from ml_workbench.release.store import Store
from ml_workbench.release.traffic import Order, deployed, ramped
from tests.app.conftest import serve, write_project
from tests.app.test_browser import SIZES, Visit
from tests.release.live import judged, planned
from tests.release.small import small_bundle

PLAN = planned()
VIEW = "views/releases.py"


class Days(datetime):
    "A clock on which a few days pass between two looks."

    passed = 0

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        cls.passed += 1
        return datetime(2026, 3, 2, 9, 30, tzinfo=tz) + timedelta(days=3 * cls.passed, hours=7 * cls.passed)


def site(folder: Path) -> tuple[str, str]:
    "A champion, a challenger whose ramp grew, one that was taken out, and a store with both."
    store = Store("state/store", folder)
    signed = {"artifact": small_bundle().release.artifact, "by": "Ada", "failed": ["auc"]}
    first = store.add(judged(small_bundle()))
    second = store.add(judged(small_bundle(), "vetoed", override=signed))
    with Ledger("sqlite:///state/workbench.db", folder) as ledger, pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "datetime", Days)
        Days.passed = 0
        ledger.migrate()
        alone = deployed(Order(first, PLAN), None)
        ledger.write("deploy", alone, "Ann", "the first <model>", None)
        for line in (1, 4):
            ledger.write(
                "deploy",
                deployed(Order(second, PLAN, role="challenger", ramp=0.2), alone),
                "Ann",
                "a canary",
                line,
            )
            change(ledger, "ramp", lambda now: ramped(now, 0.6), actor="Ben", reason="a quiet week")
            if line == 1:
                rollback(ledger, actor="guard", reason="2% of decisions failed", without=second)
    return first, second


@pytest.fixture
def shop(made_up_project, evaluation) -> tuple[Path, str, str]:
    folder = made_up_project(evaluation())
    return folder, *site(folder)


def words(shown) -> str:
    "Everything the page says, without markup."
    return re.sub("<[^>]+>", " ", " ".join(each.proto.body for each in shown.get("html")))


def lines(folder: Path) -> list:
    with Ledger("sqlite:///state/workbench.db", folder) as ledger:
        return ledger.lines()


def test_it_says_what_is_live_who_changed_it_and_what_the_gate_said(shop, page) -> None:
    _, first, second = shop
    shown = page(VIEW)
    assert not shown.exception
    said = words(shown)
    assert (
        f"Champion ({first[:12]}) decides for 57.6% of all units" in said and "Line 6 of the ledger" in said
    )
    assert "2% of decisions failed" in said and f"rolled back to line 1, without {second[:12]}" in said
    assert "✓ blessed" in said and "! overridden" in said
    assert "the first &lt;model&gt;" in " ".join(each.proto.body for each in shown.get("html"))
    (chart,) = shown.get("plotly_chart")
    assert '"champion"' in chart.proto.spec and '"not treated"' in chart.proto.spec


def test_two_releases_are_held_against_each_other(shop, page) -> None:
    shown = page(VIEW)
    assert "The model is the same, file for file." in words(shown)
    chosen = shown.selectbox(key="after").options[0]
    shown.selectbox(key="after").select(chosen).run()
    assert "This is the same release." in words(shown) and not shown.exception


def test_before_the_first_deployment_it_says_how_to_begin_and_makes_nothing(
    made_up_project, evaluation, page
) -> None:
    folder = made_up_project(evaluation())
    shown = page(VIEW)
    assert (
        not shown.exception
        and "Nothing is live yet" in words(shown)
        and "ml-workbench deploy" in words(shown)
    )
    assert not (folder / "state" / "workbench.db").exists()


def test_a_store_that_is_away_and_a_line_that_is_damaged_leave_the_rest_of_the_page(shop, page) -> None:
    folder, *_ = shop
    with Ledger("sqlite:///state/workbench.db", folder) as ledger, transaction(ledger.engine) as connection:
        row = {
            "line": 7,
            "at": datetime(2026, 3, 2),
            "actor": "hand",
            "action": "deploy",
            "state": "{",
            "reason": "oops",
        }
        connection.execute(sa.insert(table_of("ledger")), row)
    (folder / "settings.ini").write_text("[workbench]\nstore_url = nosuch://place\n")
    shown = page(VIEW)
    assert not shown.exception
    said = words(shown)
    assert "Line 7 cannot be read, so services keep what line 6 says." in said and "oops" in said
    assert "The releases cannot be shown" in said


def test_a_database_that_is_away_is_told_calmly(shop, page) -> None:
    folder, *_ = shop
    (folder / "settings.ini").write_text(
        "[workbench]\ndatabase_url = postgresql://ann:hunter2@127.0.0.1:1/nowhere\n"
    )
    shown = page(VIEW)
    assert (
        not shown.exception and "The ledger cannot be read" in words(shown) and "hunter2" not in words(shown)
    )


# Changing what is live: AppTest stands for a signed-in person through its own `user` and `secrets` ----------

SECRETS = {
    "auth": {"client_id": "x"},
    "roles": {"approvers": ["head@example.org"], "viewers": ["*@example.org"]},
}


@pytest.fixture
def signed_in(root):
    "The page as somebody sees it."
    from streamlit.testing.v1 import AppTest

    def run(email: str):
        test = AppTest.from_file(str(root / "app" / "main.py"), default_timeout=60)
        test.secrets.update(SECRETS)
        test.user = {"is_logged_in": bool(email), "email": email}
        return test.run().switch_page(VIEW).run()

    return run


def do(shown, label: str, reason: str):
    "Choose, say why, do it."
    option = next(each for each in shown.selectbox(key="step").options if label in each)
    shown.selectbox(key="step").select(option).run()
    shown.text_area(key="why").set_value(reason)
    return next(button for button in shown.button if button.label == "Do it now").click().run()


def test_nobody_but_an_approver_can_change_anything(shop, page, signed_in) -> None:
    for shown in (page(VIEW), signed_in("clerk@example.org")):
        assert not shown.exception and not shown.text_area
        assert "Do it now" not in [button.label for button in shown.button]
        assert "ml-workbench deploy" in words(shown)
    assert "decides for" not in words(signed_in(""))


@pytest.mark.parametrize(
    ("label", "action", "releases"),
    [
        ("Approve", "promote", {"champion": 1}), ("Pause the challenger", "pause", {"champion": 0, "challenger": 1}),
        ("Pause every model", "pause", {"champion": 0, "challenger": 1}), ("Roll back", "rollback", {"champion": 0, "challenger": 1}),
    ],
)  # fmt: skip
def test_an_approver_changes_what_is_live_by_name_with_a_reason(
    shop, signed_in, label, action, releases
) -> None:
    folder, *ids = shop
    shown = do(signed_in("Head@example.org"), label, "We looked at it <together>.")
    assert not shown.exception and not shown.error
    assert f"Line 7 is in force: {action}." in [each.value for each in shown.success]
    line = lines(folder)[0]
    assert (line.line, line.actor, line.action, line.reason) == (
        7,
        "Head@example.org",
        action,
        "We looked at it <together>.",
    )
    assert line.deployment.releases == {arm: ids[place] for arm, place in releases.items()}
    assert "Line 7 of the ledger" in words(shown)


def test_before_anybody_says_yes_they_read_what_would_hold(shop, signed_in) -> None:
    shown = signed_in("head@example.org")
    option = next(
        each for each in shown.selectbox(key="step").options if each.startswith("Pause every model")
    )
    shown.selectbox(key="step").select(option).run()
    assert "What would hold then" in words(
        shown
    ) and "Control (the rule) decides for 90% of all units" in words(shown)


def test_without_a_reason_and_after_somebody_was_faster_nothing_is_changed(shop, signed_in) -> None:
    folder, *_ = shop
    shown = do(signed_in("head@example.org"), "Approve", " ")
    assert "needs a reason" in shown.error[0].value and len(lines(folder)) == 6
    with Ledger("sqlite:///state/workbench.db", folder) as ledger:
        rollback(ledger, actor="guard", reason="too slow")
    option = shown.selectbox(key="step").options[0]
    assert option.startswith("Approve")
    shown.text_area(key="why").set_value("It ships.")
    shown = next(button for button in shown.button if button.label == "Do it now").click().run()
    assert "guard has written line 7 since" in shown.error[0].value
    assert len(lines(folder)) == 7 and lines(folder)[0].actor == "guard"
    do(shown, "Approve", "It still ships.")
    assert [line.action for line in lines(folder)][:2] == ["promote", "rollback"]


# In a real browser -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served_site(tmp_path_factory: pytest.TempPathFactory, root: Path):
    "Address of the page, with something live."
    folder = write_project(tmp_path_factory.mktemp("live"), root, None)
    site(folder)
    yield from serve(folder, root)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_its_window_without_errors_or_outside_requests(
    browser, served_site, test_artefacts, size, scheme
) -> None:
    seen = Visit(browser, served_site, size, scheme)
    try:
        seen.open("/releases")
        seen.page.locator(".js-plotly-plot .main-svg").first.wait_for()
        assert seen.overflow() <= 0
        seen.picture(test_artefacts / f"releases-{size}-{scheme}.png")
        assert seen.elsewhere() == [] and seen.complaints == []
    finally:
        seen.context.close()
