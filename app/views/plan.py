"""The plan: the charter and the experiment's design in words, and how long the next experiment would take."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import streamlit as st
from common import cached, explained, note, picture, project

from ml_workbench.page import panels
from ml_workbench.page.earned import Report, exact, read_report
from ml_workbench.page.evidence import measured
from ml_workbench.page.rollout import (
    Part,
    Yardstick,
    charter_in_words,
    design_in_words,
    parts,
    planned,
    read_yardstick,
)
from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.plan.experiment import Experiment
from ml_workbench.plan.params import load_params

if TYPE_CHECKING:
    from ml_workbench.experiment.planner import Terms

SHADES = ("#85909b", "#1f6f8b", "#5f4da3", "#2f7d4f", "#9c3f63", "#9a5a1c")
LONGEST = 52  # weeks that the planner looks ahead


def split(found: tuple[Part, ...]) -> None:
    "Into which groups units are drawn, as wide as their share."
    boxes = "".join(
        f"<div style='flex: {part.share:.4f} 1 0; background: {shade}'><b>{part.share:.0%}</b><span>{escape(part.name)}: {escape(part.policy)}</span></div>"
        for part, shade in zip(found, ("#5a646f", *SHADES[1:]))
    )
    st.html(f"<div class='mlw-split'>{boxes}</div>")


def last_report(root: Path) -> tuple[Report | None, Yardstick | None]:
    "The last attribution and what it tells the planner; nothing where there is none yet."
    files = (root / "reports" / "attribution.json", root / "reports" / "replay.json")
    try:
        report = cached(read_report, root, files=files)
        return report, cached(read_yardstick, root, report, files=files)
    except WorkbenchError:
        return None, None


def yardstick(found: Yardstick | None, currency: str) -> Yardstick:
    "What the metric looks like: as it was last time, or as somebody expects it."
    with st.expander("What the plan starts from", expanded=found is None):
        start = found or Yardstick("the metric", "revenue", currency, 100.0, 150.0, 0.5, 1000, 0, None)
        first, second, third = st.columns(3)
        mean = first.number_input("Usual level", value=float(f"{start.mean:.4g}"), min_value=0.01, key="mean")
        sd = second.number_input(
            "How much it varies (standard deviation)",
            value=float(f"{start.sd:.4g}"),
            min_value=0.01,
            key="sd",
        )
        r2 = third.slider(
            "Known beforehand",
            0,
            95,
            round(100 * start.r2),
            format="%d%%",
            key="r2",
            help="Share of the variance that is explained by what is known before the draw. The more, the fewer are needed.",
        )
        there = first.number_input(
            "There at the start", value=start.at_start, min_value=0, step=100, key="there"
        )
        come = second.number_input("New each week", value=start.per_week, min_value=0, step=10, key="come")
    return start._replace(mean=mean, sd=sd, r2=r2 / 100, at_start=there, per_week=come)


LIFTS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3)
SURE = (0.8, 0.9, 0.95, 0.99)


class Ahead(NamedTuple):
    "What would be known, week by week."

    weeks: tuple[int, ...]
    units: tuple[float, ...]  # that take part by then
    chances: tuple[float, ...]  # to find the effect
    smallest: float | None  # effect that could be found at the end
    reached: int | None  # the first week in which the chance is as wanted


def near(value: float, options: Sequence[float]) -> float:
    "The option closest to a value."
    return min(options, key=lambda option: abs(option - value))


def sliders(experiment: Experiment, unit_plural: str) -> tuple[float, Terms]:
    "The effect to find, as a share, and the terms of the experiment that is to find it."
    one, two, three = st.columns(3)
    lift = one.select_slider("Effect to find", LIFTS, value=0.05, format_func="{:.1%}".format, key="lift")
    share = two.slider(
        f"{unit_plural.capitalize()} that get a new way", 10, 90, 50, step=5, format="%d%%", key="share",
        help="The others go on as before. Half and half needs the fewest.",
    )  # fmt: skip
    arms = three.select_slider(
        "New ways to compare", (1, 2, 3, 4), value=near(len(experiment.treated), (1, 2, 3, 4)), key="arms",
        help="Each gets an equal part. With more of them chance may pick the winner, so each must be surer.",
    )  # fmt: skip
    powers = tuple(share / 100 for share in range(60, 100, 5))
    power = one.select_slider(
        "Chance to find it", powers, value=near(experiment.power, powers), format_func="{:.0%}".format, key="power",
        help="Its power: how often an experiment like this finds the effect when it is there.",
    )  # fmt: skip
    confidence = two.select_slider(
        "Confidence", SURE, value=near(experiment.confidence, SURE), format_func="{:.0%}".format, key="confidence",
        help="How seldom an experiment without any effect may claim one: 95% means at most 5 times in 100.",
    )  # fmt: skip
    looks = three.slider(
        "Looks before the end", 1, 20, min(experiment.looks, 20), key="looks",
        help="More than one look asks for the wider, peeking-safe range.",
    )  # fmt: skip
    from ml_workbench.experiment.planner import Terms

    return lift, Terms(1 - share / 100, (share / 100 / arms,) * arms, confidence, power, looks)


def looked_ahead(start: Yardstick, effect: float, terms: Terms) -> Ahead:
    "The chance to find an effect, week by week, and the smallest effect that could be found at all."
    from ml_workbench.experiment.planner import History, mde, power

    known = {
        "units_per_week": start.per_week,
        "at_start": start.at_start,
        "r2": start.r2,
        "metric": start.label,
    }
    history = History(mean=start.mean, sd=start.sd, **known)
    if not history.arrived(1):
        raise WorkbenchError("nobody takes part: say how many are there, or how many come new each week")
    weeks = range(1, (LONGEST if start.per_week else 1) + 1)
    units, end = [history.arrived(week) for week in weeks], history.arrived(weeks[-1])
    chances = [power(effect, count, history, terms, end=end) for count in units]
    reached = next((week for week, chance in zip(weeks, chances) if chance >= terms.power), None)
    return Ahead(tuple(weeks), tuple(units), tuple(chances), mde(end, history, terms), reached)


def told(start: Yardstick, lift: float, terms: Terms, ahead: Ahead, horizon_days: int, currency: str) -> None:
    "How long it takes, and what could be found at all."
    effect = measured(lift * start.mean, start.kind, start.unit, currency, sign=True)
    said = planned(
        ahead.reached,
        len(ahead.weeks),
        horizon_days,
        f"{lift:.1%} of {start.label} ({effect} each)",
        terms.power,
    )
    st.html(f"<p class='mlw-sentence mlw-second' role='status'>{escape(said)}</p>")
    if ahead.smallest is not None:
        worth = (
            f", {exact(ahead.smallest * start.monthly, currency)} a month in margin" if start.monthly else ""
        )
        within = "1 week" if len(ahead.weeks) == 1 else f"{len(ahead.weeks)} weeks"
        share = f"{ahead.smallest / start.mean:.1%} of {start.label}{worth}"
        st.html(f"<p>{panels.explained(f'The smallest effect to be found within {within}: {share}.')}</p>")


@st.fragment
def planner(found: Yardstick | None, experiment: Experiment, currency: str, unit_plural: str) -> None:
    "Sliders and what follows from them; only this part runs again."
    answer = st.container()  # the answer stands above the sliders, its picture below them
    lift, terms = sliders(experiment, unit_plural)
    drawn = st.container()
    start = yardstick(found, currency)
    try:
        ahead = looked_ahead(start, lift * start.mean, terms)
    except WorkbenchError as error:
        answer.html(
            f"<p class='mlw-lacking'><b>This cannot be planned</b><span>{escape(str(error))}</span></p>"
        )
        return
    with answer:
        told(start, lift, terms, ahead, experiment.horizon_days, currency)
    if len(ahead.weeks) > 1:
        import earned_figures  # plotly takes its time to load: the words come first

        with drawn:
            picture(
                earned_figures.power(
                    ahead.weeks, ahead.units, ahead.chances, terms.power, reached=ahead.reached
                ),
                key="power-curve",
                alt="Chance to find the effect, by weeks of taking units in",
            )


with explained("The plan cannot be shown"):
    root = project()
    params = cached(load_params, root, files=(root / "params.yaml",))
    charter, experiment = params.charter, params.experiment

report, known = last_report(root)
st.html(
    f'<div class="mlw-kicker"><span>{escape(charter.title)}</span></div><h1 class="mlw-sentence">{escape(charter.decision)}</h1>'
)
left, right = st.columns(2, gap="large")
with left:
    st.subheader("The charter")
    st.html(panels.facts(charter_in_words(charter)))
with right:
    st.subheader("How it is rolled out")
    split(parts(experiment))
    st.html(panels.facts(design_in_words(experiment, charter.unit)))
    if report and (changes := report.raw["experiment"].get("changes")):
        st.html(f"<p><b>Changed since it began:</b> {escape('; '.join(changes))}.</p>")
st.subheader("The next experiment: how long would it take?")
planner(known, experiment, charter.currency, charter.unit_plural)
note(
    "The plan and its limits stand in params.yaml; the starting figures come from the last experiment where there was one."
)
