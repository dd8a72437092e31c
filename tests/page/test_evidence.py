"""What stands behind the headline: metrics, the draw, the days, the groups, and who was counted."""

import json
import re
from pathlib import Path

import pytest

from ml_workbench.page.earned import Source, report_from
from ml_workbench.page.evidence import asides, counted, draw, lines, measured, over_time, segments, tracked
from ml_workbench.page.glossary import TERMS, explained, used
from ml_workbench.page.panels import counted_panel, draw_panel, guard_panel, lifts_table, remarks

SOURCE = Source("3dce17bdf60d", "4f09511", "")


@pytest.fixture
def raw() -> dict:
    return json.loads(Path(__file__).with_name("attribution.json").read_text())


def test_every_metric_is_there_with_the_deciding_one_first(raw):
    raw["lifts"].reverse()
    found = lines(report_from(raw), "champion")
    assert [line.metric for line in found if line.primary] == [found[0].metric] == ["spend_per_household"]
    assert {line.metric for line in found} == {row["metric"] for row in raw["lifts"]}


def test_a_verdict_is_repeated_not_derived(raw):
    raw["lifts"][0]["verdict"] = "higher"  # though its interval includes zero: the report answers for it
    assert lines(report_from(raw), "champion")[0].verdict == "↑ higher"


def test_levels_and_differences_are_written_in_their_units(raw):
    told = {
        line.metric: (line.before, line.after, line.change) for line in lines(report_from(raw), "champion")
    }
    assert told["spend_per_household"] == ("$271.40", "$273.30", "+$1.90")
    assert told["baskets_per_household"][2] == "+0.02 visits"
    assert told["share_that_came"][2].endswith(" points") and told["share_that_came"][0].endswith("%")
    assert (
        measured(12_345, "revenue", "USD", "USD") == "$12,345"
        and measured(-0.001, "mean", "", "USD", sign=True) == "0.00"
    )


def test_the_truth_of_a_replay_stands_beside_the_deciding_metric_only(raw):
    assert [line.truth for line in lines(report_from(raw), "champion")] == [1.37, None, None, None]
    assert 'title="declared truth"' in lifts_table(report_from(raw), "champion", SOURCE)
    assert "declared truth" not in lifts_table(report_from(raw | {"truth": []}), "champion", SOURCE)


def test_against_the_holdout_the_rules_own_offers_can_be_judged(raw):
    assert lines(report_from(raw), "control", beside="against_holdout")[0].change == "+$1.10"
    assert lines(report_from(raw | {"against_holdout": None}), "control", beside="against_holdout") == ()


def test_what_could_not_be_computed_is_left_out_and_nothing_breaks(raw):
    raw["lifts"][0] |= {"absolute": None}
    raw["lifts"][2] |= {
        "relative": None,
        "sequential": None,
        "mde": None,
        "variance_removed": None,
        "prob_better": None,
    }
    found = lines(report_from(raw), "champion")
    assert len(found) == 3 and found[0].chance == "unknown" and found[0].sequential is None
    assert "nan" not in lifts_table(report_from(raw), "champion", SOURCE).lower()


def test_the_draw_shows_what_was_intended_beside_what_came(raw):
    found = draw(report_from(raw))
    assert next((arm.label, arm.units, round(arm.expected)) for arm in found.arms) == ("The rule", 812, 823)
    assert sum(arm.share for arm in found.arms) == pytest.approx(1)
    shown = draw_panel(
        report_from(raw | {"sample": raw["sample"] | {"stop": True, "sentence": "Uneven."}}), SOURCE
    )
    assert "✕" in shown and "Uneven." in shown


def test_who_was_left_out_is_told_with_the_reason_and_what_was_not_found_in_one_line(raw):
    some, none = counted(report_from(raw))
    assert [each.who for each in some][:2] == ["Counted", "Of them in the holdout"]
    assert none.startswith("Looked for and not found: outside the test") and "counted," not in none
    assert "2,285" in counted_panel(report_from(raw), SOURCE)


def test_the_peeking_safe_band_lies_outside_the_other(raw):
    report = report_from(raw)
    for metric in tracked(report, "champion"):
        series = over_time(report, metric, "champion")
        assert all(
            wide.low <= inner.low and wide.high >= inner.high
            for (_, inner), (_, wide) in zip(series.points, series.wide)
        )


def test_groups_carry_sizes_and_the_sentence_about_whether_they_differ(raw):
    found = segments(report_from(raw), "champion")
    assert len(found) == 2 and found[0].sentence.startswith("No sign that the effect differs")
    assert "276 against 270 households" in found[0].dots[0].note


def test_guardrails_stand_with_their_sentences(raw):
    assert "not told yet" in guard_panel(report_from(raw), "champion")
    assert "No guardrail" in guard_panel(report_from(raw | {"guardrails": []}), "champion")


def test_the_small_print_tells_of_caps_covariates_and_warnings(raw):
    shown = re.sub("<[^>]+>", "", remarks(report_from(raw), "champion"))
    assert (
        "Capped: +$1.71, between −$12.60 and +$16.02, when every figure above $1,480 is capped there."
        in shown
    )
    assert "The smallest effect that this experiment would have found: $23.24." in shown
    assert "The covariates explain 66% of the variance." in shown and "Spend is skewed" in shown
    assert remarks(report_from(raw | {"lifts": []}), "champion") == ""


def test_after_a_hard_stop_only_the_draw_and_the_count_are_left(raw):
    report = report_from(raw | {"stopped": {"kind": "contract", "sentence": "Broken.", "examples": []}})
    assert (
        lines(report, "champion") == ()
        and segments(report, "champion") == ()
        and asides(report, "champion") == ()
    )
    assert tracked(report, "champion") == {} and draw(report).arms and counted(report)[0]


def test_terms_explain_themselves_once_and_only_as_words():
    shown = explained("The guardrail and the guardrail; a charm, a p-value and p = 0.3")
    assert shown.count("<abbr") == 2 and "charm" in shown
    assert set(used(shown)) == {"guardrail", "p"}
    assert explained('"><script>') == "&quot;&gt;&lt;script&gt;"


def test_every_explanation_is_a_plain_sentence():
    assert all(re.fullmatch(r"[A-Z].{20,200}\.", said) for said in TERMS.values())
