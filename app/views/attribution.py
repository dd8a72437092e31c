"""How we know: every metric with its range, over time and by group, whether the draw was fair, and who was counted."""

from html import escape

import streamlit as st
from common import (
    aside,
    explained,
    note,
    picture,
    project,
    read_charter,
    report_of,
    sources_of,
    style,
    take_away,
)

from ml_workbench.page import panels
from ml_workbench.page.earned import Report, Source, called, rests_on, treated
from ml_workbench.page.evidence import asides, lines, over_time, segments, tracked
from ml_workbench.page.export import as_csv, attribution_file, attribution_rows


def by_metric(report: Report, arm: str, source: Source) -> None:
    "Every metric of an arm against the control."
    st.subheader(f"{called(report, arm)} against {called(report, report.control)}")
    st.html(panels.lifts_table(report, arm, source))
    truth = " The violet diamond is what the replay put in." if report.raw.get("truth") else ""
    note(
        f"Every line has its own scale with zero in the middle. The thick bar holds the true figure in {report.confidence:.0%} of "
        f"such experiments, looked at once; the thin one however often somebody looks. A filled dot is a sure difference.{truth}"
    )
    if any(line.helped for line in lines(report, arm)):
        note(
            "The difference compares like with like by what was known before the draw, so it need not be the plain "
            "difference of the two levels beside it."
        )
    if small_print := panels.remarks(report, arm):
        with st.expander("More about each metric"):
            st.html(small_print)
    if lines(report, arm, beside="against_holdout"):
        with st.expander(f"{called(report, arm)} against {called(report, report.holdout or 'holdout')}"):
            st.html(panels.lifts_table(report, arm, source, beside="against_holdout"))
    told_above = arm == report.raw["decision"].get(
        "arm"
    )  # the truth of a replay, in the note under the title
    for fact in asides(report, arm):
        if not (told_above and fact.label == "What was put in"):
            st.html(f"<p>{escape(fact.value)}</p>")


@st.fragment
def along_the_days(report: Report, arm: str) -> None:
    "The running total, or each day by itself."
    if not (found := tracked(report, arm)):
        return
    import earned_figures  # plotly takes its time to load: the words come first

    st.subheader("Over time")
    left, right = st.columns(2)
    metric = left.selectbox(
        "Metric", list(found), format_func=lambda name: found[name].capitalize(), key="over"
    )
    daily = right.segmented_control(
        "Shown", ["Running total", "Day by day"], default="Running total", required=True, key="daily"
    )
    series = over_time(report, metric, arm)
    picture(
        earned_figures.over_time(series, report.currency, daily=daily == "Day by day"),
        key="over-time",
        alt=f"Effect on {series.label} along the days since the draw, with its range",
    )
    st.html(
        "<p class='mlw-small'>Day since the draw. The inner band is right for one look at the end, the outer one is "
        f"<abbr title='A wider range that stays right however often somebody looks before the end.'>peeking-safe</abbr>. {escape(series.novelty)}</p>"
    )


def by_group(report: Report, arm: str) -> None:
    "Whether the effect differs between groups."
    import earned_figures

    found = segments(report, arm)
    if not found:
        return
    st.subheader("By group")
    for column, each in zip(st.columns(len(found), gap="large"), found):
        with column:
            st.markdown(f"**{each.label}**")
            picture(
                earned_figures.dots(each.dots, report.currency),
                key=f"group-{each.label}",
                alt=f"Effect by {each.label}, with intervals",
            )
            note(each.sentence)


def effects(report: Report, source: Source) -> None:
    "All that may only be shown when no check stopped the analysis."
    if evidence := report.raw.get("evidence"):
        st.html(f"<p>{panels.explained(evidence['sentence'])}</p>")
    names = {arm: called(report, arm) for arm in treated(report)}
    arm = next(iter(names))
    if len(names) > 1:
        arm = st.segmented_control(
            "Arm",
            names,
            format_func=names.get,
            default=arm,
            required=True,
            key="arm",
            bind="query-params",
            label_visibility="collapsed",
        )
    by_metric(report, arm, source)
    st.subheader("Guardrails")
    st.html(panels.guard_panel(report, arm))
    with aside("Nothing to show over time"):
        along_the_days(report, arm)
    with aside("Nothing to show by group"):
        by_group(report, arm)
    st.subheader("In money, against what")
    st.html(panels.bills_table(report, source))
    note(f"A month: with every {report.unit} in that arm. So far: with those who were drawn into it.")


with explained("Nothing has been measured yet"):
    root = project()
    charter, report = read_charter(root), report_of(root)
    source, commit = sources_of(root, report)
    if report.stop:
        st.html(panels.opening(report, source, charter.title))
    else:
        st.html(
            f"{panels.marks(report, charter.title)}<h1 class='mlw-sentence mlw-second'>How we know</h1>{panels.replay_note(report)}"
        )
        effects(report, source)
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.subheader("Was the draw fair?")
        st.html(panels.draw_panel(report, source))
    with right:
        st.subheader("Who was counted, and who was not")
        st.html(panels.counted_panel(report, source))
    found = rests_on(report, commit)
    with st.container(horizontal=True):
        name = f"attribution-{report.name}"
        saved = lambda: attribution_file(report, source, found, title=charter.title, style=style())  # noqa: E731
        take_away("Save or print (HTML)", saved, f"{name}.html", "text/html")
        take_away("Figures (CSV)", lambda: as_csv(attribution_rows(report)), f"{name}.csv", "text/csv")
        st.page_link("views/answer.py", label="Back to the answer", icon=":material/arrow_back:")
    st.subheader("What this rests on")
    st.html(panels.facts(found, {"Notebook": source.page}))
