"""The pictures: sized for a phone, the same colours everywhere, and never colour alone."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from ml_workbench.model.catalogue import Feature
from ml_workbench.model.story import Answer, Point, Policy, Span, between, ticks
from ml_workbench.plan.charter import money

# Middle tones: each has a contrast of at least three to one on the light and on the dark background.
PROPOSAL, RULE, NOTHING = "#2a86a8", "#c9772b", "#85909b"
OTHERS = ("#8a74c9", "#4f9a68", "#c2628f")
BAND = "rgba(42, 134, 168, 0.16)"
CONFIG = {"displayModeBar": False, "scrollZoom": False, "responsive": True}


def _figure(height: int, **layout: Any) -> go.Figure:
    "An empty figure that leaves scrolling to the page."
    figure = go.Figure()
    figure.update_layout(height=height, margin={"l": 4, "r": 12, "t": 8, "b": 4}, dragmode=False, **layout)
    figure.update_xaxes(fixedrange=True, automargin=True, zeroline=False)
    figure.update_yaxes(fixedrange=True, automargin=True, zeroline=False)
    return figure


def _amounts(values: Sequence[float], currency: str) -> dict[str, Any]:
    "An axis of amounts: a little more than the values need, marked at round numbers."
    low, high = min(*values, 0.0), max(*values, 0.0)
    room = (high - low) * 0.06 or 1.0
    marks = ticks(low, high)
    digits = 0 if marks[-1] - marks[0] >= len(marks) else 2
    labels = [money(mark, currency, digits=digits) for mark in marks]
    return {"tickvals": marks, "ticktext": labels, "range": [low - room, high + room]}


def styles(answer: Answer) -> dict[str, dict[str, Any]]:
    "Line of every policy: colour, dash and width."
    lines, others = {}, iter(OTHERS * len(answer.policies))
    for policy in answer.policies:
        if policy.name == answer.chosen:
            lines[policy.name] = {"color": PROPOSAL, "dash": "solid", "width": 3}
        elif policy.kind == "candidate":
            lines[policy.name] = {"color": next(others), "dash": "dot", "width": 2.5}
        elif policy.kind == "rule":
            lines[policy.name] = {"color": RULE, "dash": "dash", "width": 2.5}
        else:
            lines[policy.name] = {"color": NOTHING, "dash": "solid", "width": 1.5}
    return lines


def _band(policy: Policy, label: str) -> list[go.Scatter]:
    "The range around a policy's curve."
    edge = {"x": policy.offers, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    low = go.Scatter(y=[span.low for span in policy.profit], showlegend=False, **edge)
    high = go.Scatter(
        y=[span.high for span in policy.profit], fill="tonexty", fillcolor=BAND, name=label, **edge
    )
    return [low, high]


def profit_curve(answer: Answer, point: Point) -> go.Figure:
    "Monthly profit by offers a week, with the point that the slider marks."
    proposal, currency = answer.proposal, answer.currency
    lines = styles(answer)
    figure = _figure(
        380,
        legend={
            "orientation": "h",
            "y": -0.12,
            "yanchor": "top",
            "x": 0,
            "title": "",
            "traceorder": "reversed",
        },
    )
    figure.add_traces(_band(proposal, f"{answer.confidence:.0%} range of the proposal"))
    for policy in sorted(answer.policies, key=lambda policy: policy.name == answer.chosen):
        values = [span.value for span in policy.profit]
        figure.add_scatter(
            x=policy.offers,
            y=values,
            name=policy.label + (" (proposed)" if policy.name == answer.chosen else ""),
            mode="lines",
            line=lines[policy.name],
            text=[f"{money(value, currency)} a month" for value in values],
            hovertemplate="%{x} offers a week: %{text}<extra>" + policy.label + "</extra>",
        )
    if point.offers != answer.capacity:
        figure.add_vline(
            x=answer.capacity,
            line={"color": NOTHING, "width": 1, "dash": "dot"},
            annotation={"text": "capacity", "font": {"color": NOTHING}},
            annotation_position="bottom left" if point.offers > answer.capacity else "bottom right",
        )
    figure.add_vline(x=point.offers, line={"color": PROPOSAL, "width": 1})
    side = "middle left" if point.offers > proposal.offers[-1] * 0.55 else "middle right"
    figure.add_scatter(
        x=[point.offers],
        y=[point.profit.value],
        mode="markers+text",
        marker={"size": 15, "color": PROPOSAL, "line": {"color": "white", "width": 2}},
        text=[f"<b>  {money(point.profit.value, currency)}  </b>"],
        textposition=side.replace("middle", "top"),
        textfont={"size": 15, "color": PROPOSAL},
        showlegend=False,
        hoverinfo="skip",
    )
    reach = [part for span in proposal.profit for part in span]
    reach += [span.value for policy in answer.policies for span in policy.profit]
    figure.update_xaxes(range=[0, proposal.offers[-1]], nticks=6)
    figure.update_yaxes(**_amounts(reach, currency))
    return figure


def _whiskers(spans: Sequence[Span]) -> dict[str, Any]:
    "Error bars from intervals."
    return {
        "type": "data",
        "symmetric": False,
        "array": [span.high - span.value for span in spans],
        "arrayminus": [span.value - span.low for span in spans],
        "thickness": 2,
        "width": 6,
    }


def sensitivity(answer: Answer) -> go.Figure:
    "Monthly profit of the proposal for a pessimist's, the assumed and an optimist's save rate."
    spans = [trial.profit for trial in answer.trials]
    names = {"low": "pessimist", "value": "assumed", "high": "optimist"}
    labels = [f"{trial.save_rate:.0%} {names.get(trial.which, trial.which)}" for trial in answer.trials]
    figure = _figure(190, showlegend=False)
    figure.add_vline(x=0, line={"color": NOTHING, "width": 1.5})
    figure.add_scatter(
        x=[span.value for span in spans],
        y=labels,
        mode="markers",
        marker={
            "size": 12,
            "color": PROPOSAL,
            "symbol": ["diamond-open", "circle", "diamond-open"][: len(spans)],
        },
        error_x=_whiskers(spans) | {"color": PROPOSAL},
        text=[
            f"{money(span.value, answer.currency)} a month, {between(span, answer.currency)}"
            for span in spans
        ],
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    reach = [part for span in spans for part in span]
    figure.update_xaxes(**_amounts(reach, answer.currency))
    figure.update_yaxes(autorange="reversed", ticksuffix="  ")
    return figure


def calibration(answer: Answer) -> go.Figure:
    "What the proposal predicted against what happened."
    bins = answer.proposal.calibration
    spans = [Span(row["observed"], row["low"], row["high"]) for row in bins]
    top = max([row["predicted"] for row in bins] + [span.high for span in spans])
    figure = _figure(300, showlegend=False)
    figure.add_scatter(
        x=[0, top], y=[0, top], mode="lines", line={"color": NOTHING, "dash": "dash"}, hoverinfo="skip"
    )
    figure.add_scatter(
        x=[row["predicted"] for row in bins],
        y=[span.value for span in spans],
        mode="markers",
        marker={"size": 9, "color": PROPOSAL},
        error_y=_whiskers(spans) | {"color": PROPOSAL},
        hovertemplate="predicted %{x:.0%}, happened %{y:.0%}<extra></extra>",
    )
    figure.update_xaxes(title="Predicted chance", tickformat=".0%", range=[0, top * 1.03], nticks=6)
    figure.update_yaxes(title="Share that happened", tickformat=".0%", rangemode="tozero", nticks=6)
    return figure


def importance(features: Sequence[Feature], *, count: int = 15) -> go.Figure:
    "The features that the model would miss most."
    best = sorted((row for row in features if row.importance is not None), key=lambda row: -row.importance)[
        :count
    ]
    figure = _figure(60 + 26 * len(best), showlegend=False)
    figure.add_bar(
        x=[row.importance for row in best],
        y=[row.name.replace("_", " ") for row in best],
        orientation="h",
        marker={"color": PROPOSAL},
        error_x={
            "type": "data",
            "array": [row.spread or 0 for row in best],
            "thickness": 1.5,
            "width": 3,
            "color": NOTHING,
        },
        customdata=[[row.meaning, row.family] for row in best],
        hovertemplate="%{customdata[0]}<br>Family: %{customdata[1]}<br>Worth %{x:.4f}<extra></extra>",
    )
    figure.update_xaxes(nticks=4, rangemode="tozero")
    figure.update_yaxes(autorange="reversed", ticksuffix="  ")
    return figure
