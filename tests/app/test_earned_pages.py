"""What the pages about the rollout say and draw, without a browser."""

import csv
import json
import re
from io import StringIO

import pytest

from ml_workbench.page.earned import headline, report_from
from ml_workbench.page.evidence import lines


def texts(page) -> str:
    "All HTML of a page, without its style sheet."
    bodies = (element.proto.body for element in page.get("html"))
    return "\n".join(body for body in bodies if not body.startswith("<style>"))


def words(page) -> str:
    "The same without markup."
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", texts(page)))


def charts(page) -> list[dict]:
    "The plotly figures, in order."
    return [json.loads(each.proto.spec) for each in page.get("plotly_chart")]


# Answer


def test_the_first_page_answers_what_it_earned(evaluation, attribution, made_up_project, page):
    made_up_project(evaluation())
    shown = page()
    assert not shown.exception
    said = headline(report_from(attribution()))
    assert (
        re.sub("<[^>]+>", "", texts(shown).split("<h1")[1].split("</h1>")[0].split(">", 1)[1])
        == said.sentence
    )
    for told in ("+$381", "58 in 100", "42 in 100", "$60.33", "2 April 2018", "between −$3,393 and +$4,154"):
        assert told in texts(shown), told
    assert "Guardrails : 2 not told yet (spend, visits to the till)" in words(shown)


def test_a_replay_says_so_with_what_was_declared_on_every_page_that_shows_its_figures(
    evaluation, made_up_project, page
):
    made_up_project(evaluation())
    for view in (None, "views/attribution.py", "views/targeting.py"):
        shown = words(page(view))
        assert "Replayed, effect declared" in shown, view
        assert "15% spend as usual" in shown, view


def test_a_real_rollout_with_a_sure_gain_says_so_plainly_and_carries_no_mark_of_a_replay(
    evaluation, attribution, made_up_project, page
):
    made_up_project(evaluation(), attribution("gain"))
    shown = page()
    assert "Roll it out" in texts(shown) and re.search(
        r"has earned \$22,316 more\s+than the rule so far", words(shown)
    )
    assert "over 99 in 100" in texts(shown)
    assert "Replayed" not in words(shown) and "declared" not in words(shown)


def test_a_hard_stop_shows_its_reason_and_no_amount_anywhere(evaluation, attribution, made_up_project, page):
    made_up_project(evaluation(), attribution("stop"))
    for view in (None, "views/attribution.py"):
        shown = page(view)
        assert not shown.exception
        assert "Stopped: do not use these figures" in words(shown)
        assert "champion: 642 households, 754 expected" in words(shown)
        assert "$" not in words(shown)
        assert not charts(shown)


def test_every_amount_of_the_answer_leads_to_its_source(evaluation, made_up_project, page):
    made_up_project(evaluation())
    links = re.findall(r'<a class="mlw-from" href="([^"]+)"[^>]*title="([^"]+)">', texts(page()))
    assert len(links) == 4
    for address, title in links:
        assert address == "notebooks?stage=Attribution"
        assert title.startswith("reports/attribution.json, money of champion against control: ")
        assert "data 3dce17bdf60d, commit" in title


def test_without_the_executed_notebook_a_number_still_names_its_source(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    (folder / "reports/notebooks/attribution.ipynb").unlink()
    assert '<span class="mlw-from" title="reports/attribution.json' in texts(page())
    assert "notebooks?stage=Attribution" not in texts(page())


def test_what_a_report_contains_is_shown_as_text(evaluation, attribution, made_up_project, page):
    raw = attribution()
    raw["decision"] |= {
        "sentence": "<script>alert(1)</script>",
        "missing": ["<b>x</b>"],
        "headline": "<i>h</i>",
    }
    raw["arms"][1]["label"] = "<u>Model</u>"
    made_up_project(evaluation(), raw)
    for view in (None, "views/attribution.py"):
        body = texts(page(view))
        assert "<script>" not in body and "<u>Model" not in body and "<i>h</i>" not in body, view


def test_before_the_first_rollout_the_answer_leads_to_the_forecast(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    (folder / "reports/attribution.json").unlink()
    shown = page()
    assert not shown.exception
    assert "Nothing has been earned yet" in texts(shown) and "make run" in texts(shown)
    assert "href='forecast'" in texts(shown)


def test_a_report_of_another_shape_is_refused_by_name(evaluation, attribution, made_up_project, page):
    raw = attribution()
    del raw["currency"]
    made_up_project(evaluation(), raw)
    shown = page()
    assert not shown.exception
    assert "lacks &#x27;currency&#x27;" in texts(shown) and "dvc repro --force attribution" in texts(shown)


def test_the_answer_can_be_taken_away(evaluation, made_up_project, page):
    made_up_project(evaluation())
    for view in (None, "views/attribution.py"):
        labels = [button.label for button in page(view).get("download_button")]
        assert labels == ["Save or print (HTML)", "Figures (CSV)"]


# Attribution


def test_every_metric_stands_with_its_range_and_the_reports_own_verdict(
    evaluation, attribution, made_up_project, page
):
    made_up_project(evaluation())
    shown = page("views/attribution.py")
    assert not shown.exception
    found = lines(report_from(attribution()), "champion")
    assert len(found) == 4
    for line in found:
        assert line.change in words(shown) and line.between in words(shown) and line.verdict in words(shown)
    assert texts(shown).count('title="declared truth"') == 1
    assert [each.label for each in shown.expander] == [
        "More about each metric",
        "Logistic regression against no offers at all",
    ]


def test_another_arm_can_be_chosen(evaluation, attribution, made_up_project, page):
    made_up_project(evaluation())
    shown = page("views/attribution.py")
    shown.segmented_control(key="arm").set_value("challenger").run()
    assert not shown.exception
    assert "Kernel machine against the rule" in [heading.value for heading in shown.subheader]
    assert lines(report_from(attribution()), "challenger")[0].between in words(shown)


def test_the_effect_over_time_has_the_peeking_safe_band_outside(
    evaluation, attribution, made_up_project, page
):
    made_up_project(evaluation())
    shown = page("views/attribution.py")
    named = {trace["name"]: trace["y"] for trace in charts(shown)[0]["data"] if trace.get("showlegend", True)}
    row = attribution()["over_time"][0]
    assert named["running total"] == [point["absolute"]["value"] for point in row["points"]]
    assert all(wide >= narrow for wide, narrow in zip(named["peeking-safe"], named["one look"]))
    shown.segmented_control(key="daily").set_value("Day by day").run()
    assert [trace["name"] for trace in charts(shown)[0]["data"] if trace.get("showlegend", True)] == [
        "one look",
        "each day",
    ]


def test_groups_the_draw_and_who_was_left_out_are_told(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = words(page("views/attribution.py"))
    assert "No sign that the effect differs by usual weekly spend" in shown
    assert "823 intended" in shown and "The arms are as large as planned" in shown
    assert "Not yet matured" in shown and "74" in shown
    assert "Looked for and not found: outside the test" in shown


def test_a_part_that_the_report_lacks_costs_that_part_only(evaluation, attribution, made_up_project, page):
    raw = attribution()
    raw["over_time"], raw["segments"], raw["triggered"], raw["truth"] = [], [], [], []
    made_up_project(evaluation(), raw)
    shown = page("views/attribution.py")
    assert not shown.exception
    assert not charts(shown) and "+$1.90" in words(shown)


# Targeting


def test_every_way_of_choosing_has_its_value_and_a_capacity_can_be_tried(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page("views/targeting.py")
    assert not shown.exception
    assert "between −$2,730 and +$3,150" in words(shown) and "doubly robust" in words(shown)
    before = words(shown)
    shown.select_slider(key="capacity").set_value(200).run()
    assert "With 200 offers a week" in words(shown) and words(shown) != before
    mark = charts(shown)[0]["data"][-1]
    assert mark["x"] == [200]


def test_a_report_without_a_policy_section_says_so_calmly(evaluation, attribution, made_up_project, page):
    made_up_project(evaluation(), attribution() | {"policy": None})
    shown = page("views/targeting.py")
    assert not shown.exception
    assert "No way of choosing can be judged" in words(shown)


# Plan


def test_the_plan_is_told_in_words_and_can_be_played_with(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page("views/plan.py")
    assert not shown.exception
    assert "Head of customer marketing" in words(shown) and "36%" in words(shown)
    assert "would not be found 80 times in 100 within 52 weeks" in words(shown)
    shown.select_slider(key="lift").set_value(0.2).run()
    assert not shown.exception
    assert "of taking units in" in words(shown)
    assert len(charts(shown)) == 1


def test_before_any_experiment_the_planner_asks_for_plain_numbers(made_up_project, page):
    made_up_project(None)
    shown = page("views/plan.py")
    assert not shown.exception
    assert "Head of customer marketing" in words(shown)
    assert shown.number_input(key="mean").value == 100
    shown.number_input(key="there").set_value(0).run()
    assert not shown.exception
    assert "This cannot be planned" in words(shown)


# Sign-in: AppTest stands for a signed-in person through its own `user` and `secrets`; no provider is asked.

SECRETS = {
    "auth": {"client_id": "x"},
    "roles": {"approvers": ["head@example.org"], "viewers": ["*@example.org"]},
}


@pytest.fixture
def signed_in(root):
    "Run the first page as somebody: signed_in('head@example.org'), or signed_in('') for nobody."
    from streamlit.testing.v1 import AppTest

    def run(email: str, **claims: object):
        test = AppTest.from_file(str(root / "app" / "main.py"), default_timeout=60)
        test.secrets.update(SECRETS)
        test.user = {"is_logged_in": bool(email), "email": email, **claims}
        return test.run()

    return run


def test_without_sign_in_nothing_of_it_appears(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    shown = page()
    assert "Sign" not in " ".join(button.label for button in shown.button)
    assert "pprove" not in words(shown) and not shown.text_area
    assert not (folder / "state" / "workbench.db").exists()


def test_with_sign_in_nobody_sees_a_figure_before(evaluation, made_up_project, signed_in):
    made_up_project(evaluation())
    shown = signed_in("")
    assert not shown.exception
    assert "Sign in to see what it earned" in words(shown) and "$" not in words(shown)
    assert [button.label for button in shown.button] == ["Sign in"]


@pytest.mark.parametrize(
    ("email", "claims"), [("someone@example.com", {}), ("head@example.org", {"email_verified": False})]
)
def test_an_address_that_is_not_welcome_or_not_verified_sees_no_figure(
    evaluation, made_up_project, signed_in, email, claims
):
    made_up_project(evaluation())
    shown = signed_in(email, **claims)
    assert "Not for this address" in words(shown) and "$" not in words(shown)


def test_a_viewer_sees_everything_and_approves_nothing(evaluation, made_up_project, signed_in):
    made_up_project(evaluation())
    shown = signed_in("clerk@example.org")
    assert not shown.exception
    assert "+$381" in texts(shown) and "clerk@example.org, viewer" in words(shown)
    assert not shown.text_area


def test_an_approver_approves_with_a_reason_which_is_shown_and_kept(
    evaluation, attribution, made_up_project, signed_in
):
    folder = made_up_project(evaluation())
    shown = signed_in("Head@example.org")
    shown.text_area(key="reason").set_value("We wait for <more>.")
    next(button for button in shown.button if button.label == "Approve").click().run()
    assert not shown.exception
    assert "✓ Approved: not enough evidence" in words(shown) and "We wait for &lt;more&gt;." in texts(shown)
    assert "Head@example.org" in words(shown)
    (folder / "reports/attribution.json").write_text(json.dumps(attribution("gain")))
    assert "Earlier figures were approved: not enough evidence" in words(signed_in("clerk@example.org"))


def test_an_approval_without_a_reason_is_refused(evaluation, made_up_project, signed_in):
    made_up_project(evaluation())
    shown = signed_in("head@example.org")
    next(button for button in shown.button if button.label == "Approve").click().run()
    assert "needs a reason" in shown.error[0].value
    assert "Approved:" not in words(shown)


def test_a_stopped_report_cannot_be_approved(evaluation, attribution, made_up_project, signed_in):
    made_up_project(evaluation(), attribution("stop"))
    assert not signed_in("head@example.org").text_area


def test_a_secrets_file_that_cannot_be_read_lets_nobody_in(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    (folder / ".streamlit/secrets.toml").write_text("[auth\n")
    shown = page()
    assert "nobody is let in" in words(shown) and "$" not in words(shown)


def test_the_csv_holds_every_figure_once(root, attribution):
    from ml_workbench.page.export import as_csv, attribution_rows

    rows = list(csv.DictReader(StringIO(as_csv(attribution_rows(report_from(attribution()))))))
    keys = [(row["part"], row["arm"], row["versus"], row["of"], row["figure"]) for row in rows]
    assert len(keys) == len(set(keys)) > 150
