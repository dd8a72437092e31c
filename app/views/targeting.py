"""Targeting: what every way of choosing would have earned, told from the randomised households alone."""

from html import escape

import streamlit as st
from common import aside, explained, note, picture, project, read_charter, report_of, sources_of, table

from ml_workbench.page import panels
from ml_workbench.page.drawing import bar, reach_of
from ml_workbench.page.earned import Report, Source
from ml_workbench.page.targeting import Value, capacities, qini, values, what_if, witnesses
from ml_workbench.plan.charter import Charter


def row(value: Value, reach: tuple[float, float], source: Source, unit_plural: str) -> list[str]:
    "One way of choosing as a line of the table."
    amount, _, spread = value.told.partition(", ")
    return [
        f"{escape(value.label)}<small>{panels.explained(value.method)}</small>",
        bar(value.span, reach, said=value.told),
        f"{panels.number(amount, f'policy: values of {value.policy}', source)}<small>{escape(spread)}</small>",
        f"{value.effective:,.0f} {escape(unit_plural)}",
        f"{value.supported:.0%}",
    ]


HEADS = ["Choose by", "", "A month, against no offers", "-Known from", "-Could be tried"]


def policies(report: Report, source: Source) -> None:
    "What every way of choosing would have earned."
    found, others = values(report), witnesses(report)
    reach = reach_of([value.span for value in (*found, *others)])
    st.html(f"<p>{panels.explained(report.raw['policy']['sentence'])}</p>")
    table(HEADS, [row(value, reach, source, report.unit_plural) for value in found], style="mlw-values")
    note(
        f"Known from: as many equally weighted {report.unit_plural} as stand behind the figure. Could be tried: the share of its "
        "choices that chance gave somebody, so that there is anything to learn from."
    )
    if others:
        with st.expander("The same by other methods"):
            table(
                HEADS, [row(value, reach, source, report.unit_plural) for value in others], style="mlw-values"
            )


@st.fragment
def capacity(report: Report, charter: Charter) -> None:
    "What if there were more offers, or fewer; only this part runs again when the slider moves."
    curves = {curve.policy: curve for curve in capacities(report)}
    st.subheader("What if there were more offers, or fewer?")
    said = st.container()
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    names, arms = list(curves), {arm["name"]: arm["policy"] for arm in report.raw["arms"]}
    usual = arms.get(report.raw["decision"].get("arm"))
    chosen = left.selectbox(
        "Choose by",
        names,
        index=names.index(usual) if usual in names else 0,
        format_func=lambda name: curves[name].label,
        key="policy",
    )
    grid, today = curves[chosen].offers, charter.capacity_per_week
    start = min(grid, key=lambda offers: abs(offers - today))
    offers = right.select_slider(
        f"Offers a week (today: {today:,})",
        options=grid,
        value=start,
        format_func="{:,}".format,
        key="capacity",
    )
    said.html(
        f"<p class='mlw-because' role='status'>{escape(what_if(curves[chosen], offers, today, report.currency))}</p>"
    )
    import earned_figures  # plotly takes its time to load: the words come first

    picture(
        earned_figures.capacity(list(curves.values()), chosen, offers, today, report.currency),
        key="capacity-curve",
        alt=f"Earned a month in {report.currency} by offers a week, for every way of choosing",
    )


def rankings(report: Report) -> None:
    "Whether a ranking finds those whom an offer moves."
    import earned_figures

    found = qini(report)
    st.subheader("Does the ranking find those whom an offer moves?")
    st.html("".join(f"<p>{panels.explained(each.sentence)}</p>" for each in found))
    picture(
        earned_figures.qini(found, report.currency),
        key="qini",
        alt="Gain by the share treated, the best first, beside a lottery",
    )
    note("Above the dotted line a ranking knows something; on it, drawing lots would have done as well.")


with explained("Nothing is known about targeting yet"):
    root = project()
    charter, report = read_charter(root), report_of(root)
    source, _ = sources_of(root, report)
    st.html(
        f"{panels.marks(report, charter.title)}<h1 class='mlw-sentence mlw-second'>Whom should one choose, and how many?</h1>{panels.replay_note(report)}"
    )
    with aside("No way of choosing can be judged"):
        policies(report, source)
        capacity(report, charter)
        rankings(report)
st.page_link("views/attribution.py", label="How we know", icon=":material/query_stats:")
