"""The page of health as a reader sees it, with alerts that are acknowledged by those who may, and the line on other pages."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ml_workbench.database.connections import transaction
from ml_workbench.database.tables import table_of
from ml_workbench.monitor.alerts import alert_from
from ml_workbench.monitor.running import Looked, place_of, write_looked
from ml_workbench.plan.settings import load_settings
from ml_workbench.serve.records import open_records
from tests.app.conftest import serve, write_project
from tests.app.test_browser import SIZES, Visit
from tests.page.watched import FIRST, alert, report, week

VIEW = "views/health.py"
ILL = ("invariants.nulls", "quality.money")


def words(shown) -> str:
    "Everything the page says, without markup."
    return " ".join(re.sub("<[^>]+>", " ", " ".join(each.proto.body for each in shown.get("html"))).split())


def write(folder: Path, found: dict) -> None:
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "reports/monitor.json").write_text(json.dumps(found))


def production(folder: Path, *ill: str, days: float = 1, alerts: int = 0, advice: bool = False) -> None:
    "A database in which somebody looked some days ago."
    settings, now = load_settings(folder), datetime.now(UTC).replace(tzinfo=None)
    with open_records(settings) as records:
        records.migrate()
        for place, readings in enumerate((week(), week(*ill))):
            end = FIRST + timedelta(weeks=place)
            looked = Looked(end, "xgboost 77c1d2aa01ff", str(place), tuple(readings), {}, False)
            at = now - timedelta(days=days)
            write_looked(records, looked, place_of(settings), started=at, finished=at)
        rows = [
            alert_from(
                alert(number)
                | {
                    "first_seen": FIRST,
                    "last_seen": FIRST,
                    "shows": json.dumps([f"invariants.nulls/feature_{number}"]),
                }
            ).as_row()
            for number in range(alerts)
        ]
        with transaction(records.engine) as connection:
            if rows:
                connection.execute(sa.insert(table_of("alerts")), rows)
            if advice:
                row = {
                    "at": now,
                    "release": "xgboost 77c1d2aa01ff",
                    "decision": "wait",
                    "reason": "Wait: it would bring −$300. It costs $700.",
                    "estimate": "{}",
                    "outcome": json.dumps({"result": "failed", "sentence": "Stage train failed."}),
                }
                connection.execute(sa.insert(table_of("retrainings")), row)


def alerts_of(folder: Path) -> list:
    with (
        open_records(load_settings(folder)) as records,
        transaction(records.engine, reading=True) as connection,
    ):
        return list(
            connection.execute(sa.select(table_of("alerts")).order_by(table_of("alerts").c.alert)).mappings()
        )


@pytest.fixture
def shop(made_up_project, evaluation) -> Path:
    return made_up_project(evaluation())


# What it says ----------------------------------------------------------------------------------------------


def test_all_is_well(shop, page) -> None:
    write(shop, report(week(), week()))
    shown = page(VIEW)
    said = words(shown)
    assert not shown.exception and "It is still true" in said and "Replayed" in said
    assert (
        "What must be looked into Nothing."
        in f"What must be looked into {said.split('everything that was asked.')[1].strip()}"
    )
    assert "Data engineering since 20 Nov" in said


def test_a_planted_fault_is_told_with_what_it_raised(shop, page) -> None:
    write(shop, report(week(), week(*ILL), fault="unit_change", alerts=[alert()]))
    replay = json.loads((shop / "reports/replay.json").read_text())
    planted = {"sentence": "Planted on purpose, from 2017-11-27 on: cents."}
    (shop / "reports/replay.json").write_text(json.dumps(replay | {"planted": planted}))
    said = words(page(VIEW))
    assert "Planted on purpose, from 2017-11-27 on: cents." in said and "$61 a week" in said
    assert "✕ critical" in said and "What to do:" in said and "observed, between $34 and $88" in said


def test_before_anybody_looked_it_says_that_and_how_to(shop, page) -> None:
    shown = page(VIEW)
    said = words(shown)
    assert (
        not shown.exception
        and "The monitors have never looked." in said
        and "ml-workbench monitor run" in said
    )
    assert "still true, " not in said and not (shop / "state/workbench.db").exists()


def test_what_is_live_is_told_from_its_database(shop, page) -> None:
    write(shop, report(week(), week()))  # a healthy replay
    production(shop, *ILL, alerts=1, advice=True)
    shown = page(VIEW)
    said = words(shown)
    assert not shown.exception and "Not everything is still true" in said and "Replayed" not in said
    assert "Looked on" in said and "does not pay now" in said and "It costs $700." in said
    assert "Stage train failed." in said and "Decided on " in said and "about xgboost 77c1d2aa01ff" in said
    assert not shown.text_area and "ml-workbench monitor acknowledge" in said


def test_an_old_look_is_said_first(shop, page) -> None:
    production(shop, days=30)
    shown = page(VIEW)
    html = next(each.proto.body for each in shown.get("html") if "mlw-sentence" in each.proto.body)
    assert html.index("30 days ago") < html.index("<h1") and "It cannot be said" in words(shown)
    assert "was fine" in words(shown) and "mlw-state mlw-is-fine" not in html


def test_a_database_that_is_away_or_older_leaves_the_replay(shop, page) -> None:
    write(shop, report(week()))
    (shop / "settings.ini").write_text(
        "[workbench]\ndatabase_url = postgresql://ann:hunter2@127.0.0.1:1/nowhere\n"
    )
    said = words(page(VIEW))
    assert "The records of production cannot be read" in said and "hunter2" not in said and "Replayed" in said


def test_a_report_of_another_shape_is_told_calmly(shop, page) -> None:
    write(shop, {"replayed": True})
    shown = page(VIEW)
    assert not shown.exception and "The monitors' report cannot be read" in words(shown).replace(
        "&#x27;", "'"
    )


# Acknowledging ---------------------------------------------------------------------------------------------


@pytest.fixture
def signed_in(root):
    "The page as somebody sees it."
    from streamlit.testing.v1 import AppTest

    def run(email: str):
        test = AppTest.from_file(str(root / "app" / "main.py"), default_timeout=60)
        test.secrets.update(
            {
                "auth": {"client_id": "x"},
                "roles": {"approvers": ["head@example.org"], "viewers": ["*@example.org"]},
            }
        )
        test.user = {"is_logged_in": bool(email), "email": email}
        return test.run().switch_page(VIEW).run()

    return run


def take(shown, which: str, note: str):
    shown.selectbox(key="alert").select(
        next(each for each in shown.selectbox(key="alert").options if which in each)
    )
    shown.text_area(key="note").set_value(note)
    return next(button for button in shown.button if button.label == "I am on it").click().run()


def test_an_approver_takes_an_alert_by_name_with_a_note(shop, signed_in) -> None:
    production(shop, *ILL, alerts=2)
    shown = take(signed_in("Head@example.org"), "feature_1", "The feed <was> renamed.")
    assert not shown.exception and not shown.error
    first, second = alerts_of(shop)
    assert (first["state"], second["state"]) == ("open", "acknowledged")
    assert (second["changed_by"], second["note"]) == ("Head@example.org", "The feed <was> renamed.")
    said = " ".join(each.proto.body for each in shown.get("html"))
    assert "Acknowledged by Head@example.org" in said and "The feed &lt;was&gt; renamed." in said
    assert len(shown.selectbox(key="alert").options) == 1 and "1 of them acknowledged" in words(shown)


def test_a_note_is_asked_for_and_nobody_else_may(shop, signed_in) -> None:
    production(shop, *ILL, alerts=1)
    shown = take(signed_in("head@example.org"), "feature_0", " ")
    assert "note" in shown.error[0].value and alerts_of(shop)[0]["state"] == "open"
    for email in ("clerk@example.org", ""):
        assert not signed_in(email).text_area
    assert "feature_0" not in words(signed_in(""))


def test_an_alert_that_was_resolved_meanwhile_is_not_taken(shop, signed_in) -> None:
    production(shop, *ILL, alerts=1)
    shown = signed_in("head@example.org")
    with open_records(load_settings(shop)) as records, transaction(records.engine) as connection:
        table = table_of("alerts")
        connection.execute(
            table.update().values(state="resolved", changed_by="Ada", changed_at=datetime(2026, 3, 1))
        )
    shown = take(shown, "feature_0", "On it.")
    assert "Nothing was changed" in shown.error[0].value and alerts_of(shop)[0]["changed_by"] == "Ada"


# Other pages -----------------------------------------------------------------------------------------------


def test_the_answer_and_the_forecast_say_when_they_rest_on_something_ill(shop, page) -> None:
    write(shop, report(week(), week()))
    for view in (None, "views/forecast.py"):
        shown = page(view)
        assert not shown.exception and "no longer healthy" not in words(shown)
    write(shop, report(week(), week(*ILL)))
    for view in (None, "views/forecast.py"):
        shown = page(view)
        assert not shown.exception and "no longer healthy: inputs and predictions. See Health" in words(shown)


def test_a_real_answer_says_when_nobody_has_looked(made_up_project, evaluation, attribution, page) -> None:
    folder = made_up_project(evaluation(), attribution("gain"))
    assert "Nobody has looked whether what this rests on still holds." in words(page())
    production(folder)
    assert "See Health" not in words(page())


# In a real browser -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, root: Path):
    "Addresses by state: all well, and one fault with many alerts of production."
    kinds = {"well": [], "ill": [*ILL]}
    with pytest.MonkeyPatch.context() as patched:
        started = {}
        for kind, ill in kinds.items():
            folder = write_project(tmp_path_factory.mktemp(kind), root, None)
            patched.chdir(folder)
            write(folder, report(*[week()] * 15))
            if ill:
                production(folder, *ill, alerts=9, advice=True)
            started[kind] = serve(folder, root)
        yield {kind: next(running) for kind, running in started.items()}
        for running in started.values():
            next(running, None)


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["well", "ill"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_its_window_without_errors_or_outside_requests(
    browser, sites, test_artefacts, size, scheme, kind
) -> None:
    seen = Visit(browser, sites[kind], size, scheme)
    try:
        seen.open("/health")
        seen.page.locator(".mlw-watcher").first.wait_for()
        assert seen.overflow() <= 0
        seen.page.locator("summary.mlw-row").first.click()
        seen.page.locator("details.mlw-watcher li").first.wait_for()
        assert seen.overflow() <= 0
        seen.picture(test_artefacts / f"health-{kind}-{size}-{scheme}.png")
        assert seen.elsewhere() == [] and seen.complaints == []
    finally:
        seen.context.close()
