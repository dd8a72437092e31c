"""What the pages say and draw, without a browser."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_workbench.page.story import answer_from, point_at, verdict
from ml_workbench.plan.charter import MONTH

FORECAST = "views/forecast.py"


def texts(page) -> str:
    "All HTML of a page, without its style sheet."
    bodies = (element.proto.body for element in page.get("html"))
    return "\n".join(body for body in bodies if not body.startswith("<style>"))


def chart(page, place: int = 0) -> dict:
    "The plotly figure at a place."
    return json.loads(page.get("plotly_chart")[place].proto.spec)


def traces(page) -> dict[str, dict]:
    "The named lines of the profit curve."
    return {trace["name"]: trace for trace in chart(page)["data"] if "name" in trace}


def sentence(raw: dict, offers: int = 400) -> str:
    "What the package says about these figures."
    answer = answer_from(raw)
    return verdict(answer, point_at(answer.proposal, offers)).sentence


def read(page) -> str:
    "The sentence on the page, without its markup."
    body = texts(page).split("<h1")[1].split("</h1>")[0].split(">", 1)[1]
    return body.replace("<strong>", "").replace("</strong>", "")


def test_the_forecast_shows_the_sentence_the_numbers_and_no_error(evaluation, made_up_project, page):
    made_up_project(raw := evaluation())
    shown = page(FORECAST)
    assert not shown.exception
    assert read(shown) == sentence(raw)
    assert "Worth doing" in texts(shown)
    assert "Weekly retention offers" in texts(shown)
    assert "41%" in texts(shown)


def test_the_curve_shown_is_the_evaluations_in_months(evaluation, made_up_project, page):
    made_up_project(raw := evaluation())
    lines = traces(page(FORECAST))
    for policy in raw["policies"]:
        name = policy["label"] + (" (proposed)" if policy["name"] == raw["proposal"]["policy"] else "")
        assert lines[name]["x"] == policy["curve"]["offers"]
        assert lines[name]["y"] == pytest.approx(
            [value * MONTH for value in policy["curve"]["profit_per_week"]]
        )
    band = lines["95% range of the proposal"]
    assert band["y"] == pytest.approx([value * MONTH for value in raw["policies"][0]["curve"]["high"]])


def test_every_line_differs_in_more_than_colour(evaluation, made_up_project, page):
    made_up_project(evaluation())
    lines = [trace["line"] for name, trace in traces(page(FORECAST)).items() if "range" not in name]
    assert len({(line["dash"], line["width"]) for line in lines}) == len(lines) == 4


def test_moving_the_slider_changes_sentence_numbers_and_mark(evaluation, made_up_project, page):
    made_up_project(raw := evaluation())
    shown = page(FORECAST)
    before = texts(shown)
    shown.select_slider(key="offers").set_value(150).run()
    assert not shown.exception
    assert read(shown) == sentence(raw, 150)
    assert texts(shown) != before
    mark = next(trace for trace in chart(shown)["data"] if trace.get("mode") == "markers+text")
    place = raw["policies"][0]["curve"]["offers"].index(150)
    assert mark["x"] == [150]
    assert mark["y"] == pytest.approx([raw["policies"][0]["curve"]["profit_per_week"][place] * MONTH])


def test_too_wide_a_range_is_shown_as_not_enough_evidence(evaluation, made_up_project, page):
    made_up_project(evaluation(spread=900))
    shown = page(FORECAST)
    assert not shown.exception
    assert "Not enough evidence yet" in texts(shown)
    assert "Worth doing" not in texts(shown)
    assert read(shown).startswith("Keep the rule")


def test_a_loss_is_shown_as_a_loss(evaluation, made_up_project, page):
    raw = evaluation()
    curve = raw["policies"][0]["curve"]
    curve["profit_per_week"][-1], curve["low"][-1], curve["high"][-1] = -300, -400, -200
    made_up_project(raw)
    shown = page(FORECAST)
    shown.select_slider(key="offers").set_value(1000).run()
    assert "Loses money" in texts(shown)
    assert "−$1,300 a month" in read(shown)


def test_another_currency_is_used_throughout(evaluation, made_up_project, page):
    made_up_project(evaluation(currency="SEK"))
    shown = page(FORECAST)
    assert "SEK 2,8" in texts(shown)
    assert "$" not in read(shown)
    marks = chart(shown)["layout"]["yaxis"]["ticktext"]
    assert all("SEK " in mark for mark in marks)


def test_the_list_can_be_taken_away(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page(FORECAST)
    assert "Download all 400 (CSV)" in [button.label for button in shown.get("download_button")]
    assert "Median days since the last basket" in texts(shown)


def test_assumptions_carry_their_confession_and_a_picture(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page(FORECAST)
    assert "No offer has been randomised yet" in texts(shown)
    pictures = [json.loads(picture.proto.spec) for picture in shown.get("plotly_chart")]
    trials = next(picture for picture in pictures if "error_x" in picture["data"][0])
    assert trials["data"][0]["y"] == ["5% pessimist", "15% assumed", "25% optimist"]


VIEWS = ("attribution", "targeting", "forecast", "model", "why", "candidates", "features", "notebooks")


@pytest.mark.parametrize("view", [None, *(f"views/{name}.py" for name in VIEWS)])
def test_a_project_without_results_says_what_to_run(made_up_project, page, view):
    made_up_project(None)
    shown = page(view)
    assert not shown.exception
    assert "make run" in texts(shown)


def test_a_broken_artefact_says_which_and_how_to_rebuild_it(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    (folder / "reports/evaluation.json").write_text('{"currency": "USD"')
    shown = page(FORECAST)
    assert not shown.exception
    assert "evaluation.json is not valid JSON" in texts(shown)


def test_a_mistake_in_the_parameters_is_not_blamed_on_missing_results(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    (folder / "params.yaml").write_text("charter: {}\n")
    shown = page(FORECAST)
    assert "The configuration needs a correction" in texts(shown)
    assert "make run" not in texts(shown)


def test_new_figures_appear_without_a_restart(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    shown = page(FORECAST)
    before = read(shown)
    raw = evaluation(scale=1700)
    (folder / "reports/evaluation.json").write_text(json.dumps(raw))
    shown.run()
    assert read(shown) == sentence(raw) != before


def test_what_a_label_contains_is_shown_as_text(evaluation, made_up_project, page):
    raw = evaluation()
    raw["proposal"]["sentence"] = "<script>alert(1)</script> & co"
    made_up_project(raw)
    assert "&lt;script&gt;" in texts(page(FORECAST))


def test_the_catalogue_shows_every_feature_and_what_it_is_worth(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page("views/features.py")
    assert not shown.exception
    table = shown.dataframe[0].value
    assert len(table) == 19
    assert list(table) == ["Feature", "Meaning", "Window", "Missing", "Worth", "Cost", "Source", "Family"]
    assert "Worth most to Logistic regression" in [heading.value for heading in shown.subheader]
    assert len(chart(shown)["data"][0]["x"]) == 15


def test_the_catalogue_can_be_narrowed_to_a_family(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page("views/features.py")
    shown.pills(key="family").set_value(["money"]).run()
    assert set(shown.dataframe[0].value["Family"]) == {"money"}


def test_the_catalogue_before_training_leaves_out_what_is_not_known(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    for name in ("reports/diagnosis.json", "reports/train.json", "state/feature_costs.json"):
        (folder / name).unlink()
    shown = page("views/features.py")
    assert not shown.exception
    assert not {"Worth", "Cost"} & set(shown.dataframe[0].value)


def test_an_executed_notebook_is_drawn_from_its_own_outputs(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page("views/notebooks.py")
    assert not shown.exception
    assert "# Data" in [block.value.splitlines()[0] for block in shown.markdown]
    assert chart(shown)["data"][0]["y"] == [3, 4]
    assert "<td>a cell</td>" in texts(shown)


def test_the_forecast_says_why_nothing_more_complex_and_what_the_gate_found(
    evaluation, made_up_project, page
):
    made_up_project(raw := evaluation())
    shown = texts(page(FORECAST))
    assert raw["parsimony"]["sentence"] in shown
    assert "Blessed: 17 of 17 checks" in shown
    assert "Do not use" not in shown


def test_a_vetoed_proposal_is_visibly_not_to_be_used(evaluation, gate, made_up_project, page):
    folder = made_up_project(evaluation())
    (folder / "reports/gate.json").write_text(json.dumps(gate(vetoed=True)))
    shown = page(FORECAST)
    assert not shown.exception
    assert "Vetoed: 2 of 17 checks failed" in texts(shown)
    assert "Do not use this proposal" in texts(shown) and "It ranks the youngest too poorly." in texts(shown)
    assert "mlw-unusable" in texts(shown).split("<h1")[1]
    assert "Worth doing" not in texts(shown)
    assert not shown.get("download_button")


def test_an_override_is_shown_with_its_name_and_reason(evaluation, gate, made_up_project, page):
    folder = made_up_project(evaluation())
    vetoed = gate(vetoed=True)
    failed = [check["name"] for check in vetoed["checks"] if not check["passed"]]
    signed = [
        {"artifact": vetoed["artifact"], "by": "A. Person", "reason": "The shop closes.", "failed": failed}
    ]
    (folder / "reports/gate.json").write_text(json.dumps(vetoed))
    (folder / "reports/overrides.json").write_text(json.dumps(signed))
    shown = page(FORECAST)
    assert "Vetoed, overridden by A. Person" in texts(shown) and "The shop closes." in texts(shown)
    assert shown.get("download_button")


def test_before_the_gate_the_forecast_says_so_and_after_another_run_that_it_is_outdated(
    evaluation, gate, made_up_project, page
):
    folder = made_up_project(evaluation())
    (folder / "reports/gate.json").unlink()
    shown = page(FORECAST)
    assert "Not judged yet" in texts(shown)
    (folder / "reports/gate.json").write_text(json.dumps(gate() | {"artifact": "cd34"}))
    assert "an earlier Logistic regression" in texts(shown.run())


def test_an_evaluation_without_parsimony_is_still_a_forecast(evaluation, made_up_project, page):
    raw = evaluation()
    del raw["parsimony"], raw["proposal"]["parsimony"]
    made_up_project(raw)
    assert read(page(FORECAST)) == sentence(raw)


def test_the_list_leads_to_the_page_that_says_why(evaluation, made_up_project, page):
    made_up_project(evaluation())
    assert "href='why?id=7'" in texts(page(FORECAST))


def part(shown, name: str):
    "Another part of the model's page."
    return shown.segmented_control(key="part").set_value(name).run()


def test_the_model_is_introduced_with_its_verdict_and_three_figures(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page("views/model.py")
    assert not shown.exception
    assert read(shown).startswith("Logistic regression looks at 16 features of a household")
    for said in ("Blessed: 17 of 17 checks", "86% of the time", "random order has", "Against the rule"):
        assert said in texts(shown), said
    assert texts(shown).count("mlw-check ") == 17


PARTS = {
    "How good": ("neither too bold nor too timid", 2),
    "Money": ("164 of 400 offers", 1),
    "Over time": ("Ahead of the rule in 5 of 6 weeks. Beyond doubt: ahead in 5, behind in 0.", 3),
    "For whom": ("It ranks those of age 19-24 worst", 2),
    "What matters": ("Recency and frequency earn their keep. Breadth could go.", 1),
    "Mistakes": ("left without a sign", 0),
    "Small and fast": ("a tenth of the size", 0),
}


@pytest.mark.parametrize(("name", "said", "pictures"), [(name, *told) for name, told in PARTS.items()])
def test_every_part_of_the_model_says_its_sentence_and_draws_its_pictures(
    evaluation, made_up_project, page, name, said, pictures
):
    made_up_project(evaluation())
    shown = part(page("views/model.py"), name)
    assert not shown.exception
    assert said in texts(shown)
    assert "mlw-lacking'" not in texts(shown)
    assert len(shown.get("plotly_chart")) == pictures


def test_a_part_that_an_older_artefact_lacks_is_told_calmly_and_the_rest_stays(
    evaluation, made_up_project, page
):
    folder = made_up_project(evaluation())
    raw = json.loads((folder / "reports/diagnosis.json").read_text())
    del raw["learning"]
    (folder / "reports/diagnosis.json").write_text(json.dumps(raw))
    shown = part(page("views/model.py"), "Over time")
    assert not shown.exception
    assert "lacks &#x27;learning&#x27;" in texts(shown) and "dvc repro --force diagnose" in texts(shown)
    assert len(shown.get("plotly_chart")) == 2


def test_small_variants_that_were_never_made_cost_their_part_only(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    (folder / "reports/compact.json").unlink()
    shown = part(page("views/model.py"), "Small and fast")
    assert not shown.exception
    assert "compact.json is missing" in texts(shown)


def test_why_this_one_begins_with_the_first_of_the_list(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page("views/why.py")
    assert not shown.exception
    assert shown.title[0].value == "Why this household"
    assert "Household 0 has a" in texts(shown) and "number 1 of 400 on the next list" in texts(shown)
    assert "need not be its cause" in texts(shown)


def drawn(shown) -> list[str]:
    "What the bars are called, from top to bottom."
    return re.findall(r"<li><div><b>([^<]+)</b>", texts(shown))


def test_why_is_told_family_by_family_without_a_rest(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    declared = json.loads((folder / "reports/features.json").read_text())["features"]
    shown = page("views/why.py")
    assert sorted(drawn(shown)) == sorted({row["family"].capitalize() for row in declared})
    assert "A made-up measure of recency, number" in texts(shown)


def test_explanations_with_the_strongest_features_only_leave_a_rest_on_the_page(
    evaluation, made_up_project, page
):
    folder = made_up_project(evaluation())
    path = folder / "data/explanations.parquet"
    rows = pq.read_table(path).to_pylist()
    kept = [row | {"contributions": row["contributions"][:3]} for row in rows]
    pq.write_table(pa.Table.from_pylist(kept), path)
    shown = page("views/why.py")
    assert not shown.exception
    assert drawn(shown)[-1] == "Everything else" and "Features that are not told apart here" in texts(shown)


def test_somebody_else_can_be_looked_up(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page("views/why.py")
    shown.selectbox(key="id").set_value("3").run()
    assert "Household 3 has a" in texts(shown) and "is not on the next list of 400" in texts(shown)


def test_a_link_to_somebody_unknown_gets_a_hint(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page("views/why.py", id="999999")
    assert not shown.exception
    assert "No household 999999 at the date of the next list" in texts(shown)


def test_the_pages_use_the_charters_word_for_the_unit(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    params = (folder / "params.yaml").read_text().replace("  unit: household", "  unit: member")
    (folder / "params.yaml").write_text(params)
    assert page("views/why.py").title[0].value == "Why this member"


def test_candidates_are_drawn_against_the_rule_and_beside_the_chosen_one(evaluation, made_up_project, page):
    made_up_project(raw := evaluation())
    shown = page("views/candidates.py")
    assert not shown.exception
    assert raw["parsimony"]["sentence"] in texts(shown)
    assert "And beside Logistic regression" in [heading.value for heading in shown.subheader]
    assert len(shown.get("plotly_chart")) == 2
    assert "It did not converge in 200 rounds." in texts(shown)
    assert "<b>learning rate 0.031</b> (50%)" in texts(shown)


def test_candidates_of_an_older_run_show_what_is_there(evaluation, made_up_project, page):
    raw = evaluation()
    del raw["parsimony"]
    folder = made_up_project(raw)
    for name in ("train.json", "tuned.json"):
        (folder / "reports" / name).unlink()
    shown = page("views/candidates.py")
    assert not shown.exception
    assert len(shown.get("plotly_chart")) == 1
    assert "What was tuned" not in [heading.value for heading in shown.subheader]


@pytest.mark.parametrize("view", [None, *(f"views/{name}.py" for name in VIEWS)])
def test_no_page_of_the_real_project_breaks_whatever_has_been_run(produced, monkeypatch, page, view):
    monkeypatch.chdir(produced)
    shown = page(view)
    assert not shown.exception
    if shown.segmented_control and view == "views/model.py":
        for name in PARTS:
            assert not part(shown, name).exception


def test_the_real_forecast_is_shown_as_evaluated(produced, monkeypatch, page):
    monkeypatch.chdir(produced)
    raw = json.loads((produced / "reports/evaluation.json").read_text())
    shown = page(FORECAST)
    assert not shown.exception
    assert read(shown) == sentence(raw, raw["capacity"])
