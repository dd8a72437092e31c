"""What the pages say and draw, without a browser."""

import json

import pytest

from ml_workbench.model.story import MONTH, answer_from, point_at, verdict


def texts(page) -> str:
    "All HTML of a page."
    return "\n".join(element.proto.body for element in page.get("html"))


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


def test_the_answer_shows_the_sentence_the_numbers_and_no_error(evaluation, made_up_project, page):
    made_up_project(raw := evaluation())
    shown = page()
    assert not shown.exception
    assert read(shown) == sentence(raw)
    assert "Worth doing" in texts(shown)
    assert "Weekly retention offers" in texts(shown)
    assert "41%" in texts(shown)


def test_the_curve_shown_is_the_evaluations_in_months(evaluation, made_up_project, page):
    made_up_project(raw := evaluation())
    lines = traces(page())
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
    lines = [trace["line"] for name, trace in traces(page()).items() if "range" not in name]
    assert len({(line["dash"], line["width"]) for line in lines}) == len(lines) == 4


def test_moving_the_slider_changes_sentence_numbers_and_mark(evaluation, made_up_project, page):
    made_up_project(raw := evaluation())
    shown = page()
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
    shown = page()
    assert not shown.exception
    assert "Not enough evidence yet" in texts(shown)
    assert "Worth doing" not in texts(shown)
    assert read(shown).startswith("Keep the rule")


def test_a_loss_is_shown_as_a_loss(evaluation, made_up_project, page):
    raw = evaluation()
    curve = raw["policies"][0]["curve"]
    curve["profit_per_week"][-1], curve["low"][-1], curve["high"][-1] = -300, -400, -200
    made_up_project(raw)
    shown = page()
    shown.select_slider(key="offers").set_value(1000).run()
    assert "Loses money" in texts(shown)
    assert "−$1,300 a month" in read(shown)


def test_another_currency_is_used_throughout(evaluation, made_up_project, page):
    made_up_project(evaluation(currency="SEK"))
    shown = page()
    assert "SEK 2,8" in texts(shown)
    assert "$" not in read(shown)
    marks = chart(shown)["layout"]["yaxis"]["ticktext"]
    assert all("SEK " in mark for mark in marks)


def test_the_list_can_be_taken_away(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page()
    assert "Download all 400 (CSV)" in [button.label for button in shown.get("download_button")]
    assert "Median days since the last basket" in texts(shown)


def test_assumptions_carry_their_confession_and_a_picture(evaluation, made_up_project, page):
    made_up_project(evaluation())
    shown = page()
    assert "No offer has been randomised yet" in texts(shown)
    pictures = [json.loads(picture.proto.spec) for picture in shown.get("plotly_chart")]
    trials = next(picture for picture in pictures if "error_x" in picture["data"][0])
    assert trials["data"][0]["y"] == ["5% pessimist", "15% assumed", "25% optimist"]


@pytest.mark.parametrize("view", [None, "views/features.py", "views/notebooks.py"])
def test_a_project_without_results_says_what_to_run(made_up_project, page, view):
    made_up_project(None)
    shown = page(view)
    assert not shown.exception
    assert "make run" in texts(shown)


def test_a_broken_artefact_says_which_and_how_to_rebuild_it(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    (folder / "reports/evaluation.json").write_text('{"currency": "USD"')
    shown = page()
    assert not shown.exception
    assert "evaluation.json is not valid JSON" in texts(shown)


def test_a_mistake_in_the_parameters_is_not_blamed_on_missing_results(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    (folder / "params.yaml").write_text("charter: {}\n")
    shown = page()
    assert "The configuration needs a correction" in texts(shown)
    assert "make run" not in texts(shown)


def test_new_figures_appear_without_a_restart(evaluation, made_up_project, page):
    folder = made_up_project(evaluation())
    shown = page()
    before = read(shown)
    raw = evaluation(scale=1700)
    (folder / "reports/evaluation.json").write_text(json.dumps(raw))
    shown.run()
    assert read(shown) == sentence(raw) != before


def test_what_a_label_contains_is_shown_as_text(evaluation, made_up_project, page):
    raw = evaluation()
    raw["proposal"]["sentence"] = "<script>alert(1)</script> & co"
    made_up_project(raw)
    assert "&lt;script&gt;" in texts(page())


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
    (folder / "reports/train.json").unlink()
    (folder / "state/feature_costs.json").unlink()
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


def test_the_real_answer_is_shown_as_evaluated(produced, monkeypatch, page):
    monkeypatch.chdir(produced)
    raw = json.loads((produced / "reports/evaluation.json").read_text())
    shown = page()
    assert not shown.exception
    assert read(shown) == sentence(raw, raw["capacity"])
