"""The contest: what every candidate earns and asks for, and why the simplest good one is taken."""

from html import escape
from pathlib import Path

import figures
import streamlit as st
from common import cached, explained, note, picture, project, table

from ml_workbench.page.editions import pace, size
from ml_workbench.page.standings import Rung, Setting, Standings, against_rule, read_standings
from ml_workbench.page.story import Span, between
from ml_workbench.plan.charter import money


def pictures(standings: Standings) -> None:
    "Everybody against the rule, and the others beside the chosen one."
    currency = standings.currency
    left, right = st.columns(2, gap="large") if standings.compared else (st.container(), None)
    with left:
        st.subheader("Profit a week, against the rule")
        picture(
            figures.dots(against_rule(standings), currency=currency, written=True, height=34),
            key="against-rule",
            alt="Profit a week of every candidate against the rule, with intervals",
        )
        note(
            f"At {standings.capacity:,} offers a week; {standings.confidence:.0%} intervals. "
            "The filled dot is proposed, the simplest is on top."
        )
    if right:
        with right:
            st.subheader(f"And beside {standings.beside}")
            picture(
                figures.dots(
                    standings.compared, currency=currency, written=True, height=34,
                    limit=standings.margin, stress="warn",
                ),
                key="compared",
                alt=f"What each of the others earns a week more than {standings.beside}, with intervals",
            )  # fmt: skip
            margin = money(standings.margin or 0, currency)
            note(
                f"What each earns a week more or less, week for week and {standings.unit} for {standings.unit}. To be worth its "
                f"complexity, one must lie right of zero and its dot right of the dashed line, {margin} a week. "
                "An orange diamond is surely worse."
            )


def ladder(standings: Standings) -> None:
    "One line per way of choosing."

    def cell(span: Span) -> str:
        spread = (
            "" if span.low == span.high else f"<small>{between(span, standings.currency, sign=True)}</small>"
        )
        return f"{money(span.value, standings.currency, sign=True)}{spread}"

    def skill(rung: Rung, name: str) -> str:
        return f"{rung.skill[name].value:.3f}" if name in rung.skill else "—"

    st.subheader("The ladder, simplest first")
    timed = any(rung.one_row_ms is not None for rung in standings.rungs)
    rows = [
        [
            escape(rung.label) + (" ✓" if rung.proposed else ""),
            str(rung.complexity),
            cell(rung.profit),
            "—" if rung.kind == "rule" else cell(rung.gain),
            skill(rung, "auc"),
            skill(rung, "average_precision"),
            size(rung.size_bytes),
            *([pace(rung.one_row_ms)] if timed else []),
        ]
        for rung in standings.rungs
    ]
    heads = [
        "Choose by",
        "-Complexity",
        "Profit a week",
        "Against the rule",
        "-AUC",
        "-Average precision",
        "-Size",
        *(["-One row"] if timed else []),
    ]
    table(heads, rows)
    note(
        "✓ marks the proposal. Complexity: 1 is the simplest. AUC and average precision say how well a ranking "
        f"puts the right ones first.{' One row: as the gate measured it on this machine.' if timed else ''}"
    )


def settings(standings: Standings) -> None:
    "What every candidate was trained with, and what tuning brought."
    shown = [rung for rung in standings.trained if rung.settings]
    if not shown:
        return
    st.subheader("What was tuned")
    rows = [
        [
            escape(rung.label) + "".join(f"<small>{escape(warned)}</small>" for warned in rung.warnings),
            str(rung.trials or "—"),
            "—" if rung.tuned_gain is None else money(rung.tuned_gain, standings.currency, sign=True),
            "; ".join(_setting(setting) for setting in rung.settings),
        ]
        for rung in shown
    ]
    table(["Candidate", "-Trials", "Gain", "Settings"], rows, style="mlw-prose")
    note(
        "Bold is tuned, in brackets how much of the difference between trials it explains; the rest is given. "
        "Gain: what tuning added a week to the settings given, on folds that lie before the test."
    )


def _setting(setting: Setting) -> str:
    "A setting with its value, stressed when it was tuned."
    told = f"{escape(setting.name)} {escape(setting.value)}"
    weight = "" if setting.weight is None else f" ({setting.weight:.0%})"
    return f"<b>{told}</b>{weight}" if setting.tuned else told


def amounts(standings: Standings) -> None:
    "How well the amount of spend is foretold."
    if not standings.amounts:
        return
    st.subheader("And how much will they spend?")
    rows = "".join(
        f"<li>{escape(one.sentence or one.label)}{' ✓' if one.chosen else ''}</li>"
        for one in standings.amounts
    )
    st.html(f"<ul>{rows}</ul>")


def failures(standings: Standings) -> None:
    "Candidates that could not take part, and why."
    if not standings.failures:
        return
    st.subheader("Who could not take part")
    rows = "".join(f"<li><b>{escape(one.label)}.</b> {escape(one.reason)}</li>" for one in standings.failures)
    st.html(f"<ul>{rows}</ul>")


with explained("No candidates to show yet"):
    root: Path = project()
    names = ("evaluation.json", "train.json", "tuned.json")
    files = (*(root / "reports" / name for name in names), root / "state" / "gate_measured.json")
    standings = cached(read_standings, root, files=files)

st.title("Candidates")
if standings.sentence:
    st.html(f'<p class="mlw-sentence mlw-second">{escape(standings.sentence)}</p>')
pictures(standings)
if len(standings.said) > 1:
    with st.expander("Every comparison in words"):
        st.html("<ul>" + "".join(f"<li>{escape(said)}</li>" for said in standings.said) + "</ul>")
ladder(standings)
settings(standings)
amounts(standings)
failures(standings)
