"""What is taken away from the page says the same, needs nothing else and hides nothing."""

import csv
import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest

from ml_workbench.page.earned import Source, headline, report_from, rests_on
from ml_workbench.page.evidence import lines
from ml_workbench.page.export import answer_file, answer_rows, as_csv, attribution_file, attribution_rows
from ml_workbench.page.story import Fact

SOURCE = Source("3dce17bdf60d", "4f09511", "notebooks?stage=Attribution")
VOID = {"meta", "br", "img", "link"}


class Balance(HTMLParser):
    "Finds tags that are not closed, and addresses that lead outside the file."

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.outside: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag, attributes) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("href", "src") and not (value or "").startswith("#"):
                self.outside.append(value)
            if name == "id":
                self.ids.add(value)

    def handle_startendtag(self, tag, attributes) -> None:
        pass

    def handle_endtag(self, tag) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture
def raw() -> dict:
    return json.loads(Path(__file__).with_name("attribution.json").read_text())


def found(report) -> tuple[Fact, ...]:
    return rests_on(report, Fact("Commit", "4f09511", "Committed on 2 January 2018"))


def checked(text: str) -> Balance:
    seen = Balance()
    seen.feed(text)
    return seen


@pytest.mark.parametrize("make", [answer_file, attribution_file])
@pytest.mark.parametrize("halt", [False, True])
def test_a_saved_file_is_whole_html_without_scripts_or_anything_from_outside(raw, make, halt):
    stop = {"kind": "contract", "sentence": "Broken.", "examples": ["row 7"]}
    report = report_from(raw | ({"stopped": stop} if halt else {}))
    text = make(report, SOURCE, found(report), title="Weekly <offers>")
    seen = checked(text)
    assert seen.open == [] and seen.wrong == [] and seen.outside == []
    assert "sources" in seen.ids and "<script" not in text and not re.search(r"https?://|@import|url\(", text)
    assert "Replayed, effect declared" in text and "Weekly &lt;offers&gt;" in text


def test_the_saved_answer_says_what_the_page_says(raw):
    report = report_from(raw)
    text = answer_file(report, SOURCE, found(report), title="Weekly offers", approved="<p>Approved by A.</p>")
    plain = re.sub("<[^>]+>", "", text)
    assert headline(report).sentence in plain and "58 in 100" in plain and "Approved by A." in plain
    assert text.count('href="#sources"') >= 4 and "3dce17bdf60d" in plain and "4f09511" in plain
    assert "<details open>" in text and "guardrails" in plain.split("Words")[1]


def test_the_saved_evidence_holds_every_arm_and_the_bands_over_time(raw):
    report = report_from(raw)
    text = attribution_file(report, SOURCE, found(report), title="Weekly offers")
    assert "Logistic regression against the rule" in text and "Kernel machine against the rule" in text
    assert all(line.between in text for arm in ("champion", "challenger") for line in lines(report, arm))
    assert (
        text.count("<svg")
        == len(raw["over_time"])
        == text.count("mlw-wide-band") - text.split("</style>")[0].count("mlw-wide-band")
    )


def test_after_a_hard_stop_the_saved_files_hold_no_amount(raw):
    raw["decision"] |= {"sentence": "Mend it.", "missing": [], "headline": "Stopped"}
    report = report_from(raw | {"stopped": {"kind": "contract", "sentence": "Broken.", "examples": []}})
    for make in (answer_file, attribution_file):
        assert "$" not in make(report, SOURCE, found(report), title="Weekly offers")
    rows = list(csv.DictReader(StringIO(as_csv(attribution_rows(report)))))
    assert {row["part"] for row in rows} == {"decision", "experiment", "sample", "accounting"}
    assert "Broken." in [row["value"] for row in rows]


def test_the_csv_says_that_it_is_a_replay_and_holds_the_figures_as_they_are(raw):
    rows = list(csv.DictReader(StringIO(as_csv(answer_rows(report_from(raw))))))
    declared = next(row for row in rows if row["figure"] == "declared")
    assert "15% spend as usual" in declared["value"]
    net = next(
        row
        for row in rows
        if (row["part"], row["arm"], row["versus"], row["figure"]) == ("money", "champion", "control", "net")
    )
    assert [float(net[name]) for name in ("value", "low", "high")] == [380.694, -3393.02, 4154.41] and net[
        "unit"
    ] == "USD"


def test_a_label_that_a_spreadsheet_would_run_is_made_harmless(raw):
    raw["accounting"][0]["who"] = "=HYPERLINK(1)"
    rows = list(csv.DictReader(StringIO(as_csv(attribution_rows(report_from(raw))))))
    assert "'=HYPERLINK(1)" in [row["of"] for row in rows]
    assert any(row["low"].startswith("-") for row in rows)  # numbers stay numbers


def test_every_figure_stands_once(raw):
    rows = [(row.part, row.arm, row.versus, row.of, row.figure) for row in attribution_rows(report_from(raw))]
    assert len(rows) == len(set(rows))
