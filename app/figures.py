"""The pictures: sized for a phone, the same colours everywhere, and never colour alone."""

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

import plotly.graph_objects as go

from ml_workbench.page.catalogue import Feature
from ml_workbench.page.portrait import Dot, Flow, Scores
from ml_workbench.page.steadiness import Curve, Fairness
from ml_workbench.page.story import Answer, Point, Policy, Span, between, point_at, telling, ticks
from ml_workbench.plan.charter import money

# Middle tones: each has a contrast of at least three to one on the light and on the dark background.
PROPOSAL, RULE, NOTHING = "#2a86a8", "#c9772b", "#85909b"
OTHERS = ("#8a74c9", "#4f9a68", "#c2628f")
BAND = "rgba(42, 134, 168, 0.16)"


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
    lines, others = {}, iter(OTHERS)
    for policy in telling(answer):
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
    lines, drawn = styles(answer), telling(answer)
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
    for policy in sorted(drawn, key=lambda policy: policy.name == answer.chosen):
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
    side = "left" if point.offers > proposal.offers[-1] * 0.55 else "right"
    beaten = any(point_at(policy, point.offers).profit.value > point.profit.value for policy in drawn)
    figure.add_scatter(
        x=[point.offers],
        y=[point.profit.value],
        mode="markers+text",
        marker={"size": 15, "color": PROPOSAL, "line": {"color": "white", "width": 2}},
        text=[f"<b>  {money(point.profit.value, currency)}  </b>"],
        textposition=f"{'bottom' if beaten else 'top'} {side}",
        textfont={"size": 15, "color": PROPOSAL},
        showlegend=False,
        hoverinfo="skip",
    )
    reach = [part for span in proposal.profit for part in span]
    reach += [span.value for policy in drawn for span in policy.profit]
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


def calibration(bins: Sequence[Mapping[str, float]]) -> go.Figure:
    "What was predicted against what happened."
    spans = [Span(row["observed"], row["low"], row["high"]) for row in bins]
    top = max([row["predicted"] for row in bins] + [span.high for span in spans], default=1.0)
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


def scores(found: Scores) -> go.Figure:
    "How predicted chances are spread: those who lapsed above, those who stayed below."
    middles = [(low + high) / 2 for low, high in zip(found.edges, found.edges[1:])]
    figure = _figure(300, barmode="overlay", bargap=0.06, legend={"orientation": "h", "y": 1.12, "x": 0})
    for name, shares, colour, sign, pattern in (
        ("lapsed", found.lapsed, RULE, 1, ""),
        ("stayed", found.stayed, PROPOSAL, -1, "/"),
    ):
        figure.add_bar(
            x=middles,
            y=[sign * share for share in shares],
            name=name,
            marker={
                "color": colour,
                "pattern": {
                    "shape": pattern,
                    "fillmode": "overlay",
                    "fgcolor": "white",
                    "fgopacity": 0.5,
                    "size": 6,
                },
            },
            customdata=[f"{share:.1%}" for share in shares],
            hovertemplate="%{customdata} of those who " + name + "<extra></extra>",
        )
    marks = [mark for mark in (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95) if _odds(mark) > found.edges[0]]
    marks = [mark for mark in marks if _odds(mark) < found.edges[-1]]
    labels = [f"{mark:.1%}" if mark < 0.01 else f"{mark:.0%}" for mark in marks]
    figure.update_xaxes(title="Predicted chance", tickvals=[_odds(mark) for mark in marks], ticktext=labels)
    figure.update_yaxes(showticklabels=False, zeroline=True, zerolinecolor=NOTHING, zerolinewidth=1)
    return figure


def _odds(chance: float) -> float:
    "Log odds."
    return log(chance / (1 - chance))


def waterfall(flow: Flow, currency: str) -> go.Figure:
    "From the margin that offers keep down to the profit of a week."
    figure = _figure(320, showlegend=False, waterfallgap=0.35)
    ends, held = [], 0.0
    for step in flow.steps:
        held = step.amount if step.total else held + step.amount
        ends.append(held)
    figure.add_waterfall(
        x=[step.label.replace(" ", "<br>") for step in flow.steps],
        y=[step.amount for step in flow.steps],
        measure=["total" if step.total else "relative" for step in flow.steps],
        text=[f"<b>{money(step.amount, currency, sign=not step.total)}</b>" for step in flow.steps],
        textposition="outside",
        cliponaxis=False,
        increasing={"marker": {"color": OTHERS[1]}},
        decreasing={"marker": {"color": RULE}},
        totals={"marker": {"color": PROPOSAL}},
        connector={"line": {"color": NOTHING, "width": 1}},
        hoverinfo="skip",
    )
    axis = _amounts(ends, currency)
    low, high = axis["range"]
    figure.update_yaxes(**axis | {"range": [low, high + (high - low) * 0.1]})
    figure.update_xaxes(tickangle=0)
    return figure


def _rows(dots: Sequence[Dot]) -> tuple[list[str], list[int]]:
    "Labels from top to bottom, a heading above every group, and the places of the dots."
    labels, places, group = [], [], ""
    for dot in dots:
        if dot.group and dot.group != group:
            labels.append(f"<b>{dot.group}</b>")
            group = dot.group
        places.append(len(labels))
        labels.append(dot.label)
    return labels, places


def dots(
    found: Sequence[Dot],
    *,
    currency: str = "",
    line: float = 0.0,
    limit: float | None = None,
    stress: str = "chosen",
    written: bool = False,
    height: int = 30,
) -> go.Figure:
    "Dots with their intervals, one line each, beside a line to compare them with."
    labels, places = _rows(found)
    stressed = (RULE, "diamond") if stress == "warn" else (PROPOSAL, "circle")
    rest = (PROPOSAL, "circle") if stress == "warn" else (NOTHING, "circle-open")
    figure = _figure(62 + height * len(labels), showlegend=False)
    figure.add_vline(x=line, line={"color": NOTHING, "width": 1.5})
    if limit is not None:
        figure.add_vline(x=limit, line={"color": RULE, "width": 1.5, "dash": "dash"})
    for wanted, (colour, symbol) in ((False, rest), (True, stressed)):
        chosen = [(place, dot) for place, dot in zip(places, found) if dot.stressed is wanted]
        figure.add_scatter(
            x=[dot.span.value for _, dot in chosen],
            y=[place for place, _ in chosen],
            mode="markers",
            marker={"size": 11, "color": colour, "symbol": symbol, "line": {"width": 2, "color": colour}},
            error_x=_whiskers([dot.span for _, dot in chosen]) | {"color": colour, "width": 4},
            customdata=[[f"{dot.group} {dot.label}".strip(), dot.note] for _, dot in chosen],
            hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
        )
    if currency:
        reach = [part for dot in found for part in dot.span] + [line, limit or 0.0]
        axis = _amounts(reach, currency)
        if written:
            axis["range"][1] += 0.16 * (axis["range"][1] - axis["range"][0])
            figure.add_scatter(
                x=[axis["range"][1]] * len(found),
                y=places,
                mode="text",
                text=[f"<b>{money(dot.span.value, currency, sign=True)}</b>" for dot in found],
                textposition="middle left",
                hoverinfo="skip",
            )
        figure.update_xaxes(**axis)
    else:
        figure.update_xaxes(nticks=5)
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=[f"{label}  " for label in labels],
        range=[len(labels) - 0.4, -0.75],
        showgrid=False,
    )
    return figure


def columns(found: Sequence[Dot], currency: str) -> go.Figure:
    "The same along time: one upright interval per week."
    figure = _figure(280, showlegend=False)
    figure.add_hline(y=0, line={"color": NOTHING, "width": 1.5})
    spans = [dot.span for dot in found]
    sure = [span.low > 0 or span.high < 0 for span in spans]
    figure.add_scatter(
        x=list(range(len(found))),
        y=[span.value for span in spans],
        mode="markers",
        marker={
            "size": 12,
            "color": PROPOSAL,
            "symbol": ["circle" if one else "circle-open" for one in sure],
            "line": {"width": 2, "color": PROPOSAL},
        },
        error_y=_whiskers(spans) | {"color": PROPOSAL},
        customdata=[[dot.label, dot.note] for dot in found],
        hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
    )
    figure.update_yaxes(**_amounts([part for span in spans for part in span], currency))
    figure.update_xaxes(
        tickvals=list(range(len(found))),
        ticktext=[dot.label for dot in found],
        range=[-0.5, len(found) - 0.5],
    )
    return figure


def curve(found: Curve, currency: str, *, title: str) -> go.Figure:
    "A figure along an axis with its band."
    spans = found.spans
    figure = _figure(270, showlegend=False)
    edge = {"x": found.places, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(y=[span.low for span in spans], **edge)
    figure.add_scatter(y=[span.high for span in spans], fill="tonexty", fillcolor=BAND, **edge)
    figure.add_scatter(
        x=found.places,
        y=[span.value for span in spans],
        mode="lines+markers",
        line={"color": PROPOSAL, "width": 2.5},
        marker={"size": 8, "color": PROPOSAL},
        customdata=[
            [label, f"{money(span.value, currency)} a week, {between(span, currency)}"]
            for label, span in zip(found.labels, spans)
        ],
        hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
    )
    figure.update_xaxes(title=title, tickvals=found.places, ticktext=found.labels)
    figure.update_yaxes(**_amounts([part for span in spans for part in span], currency))
    return figure


def rates(found: Sequence[Fairness]) -> go.Figure:
    "How often every group gets an offer: a line of dots per slice."
    figure = _figure(60 + 44 * len(found), showlegend=False)
    for place, row in enumerate(found):
        reach = sorted(row.rates.values())
        figure.add_scatter(
            x=[reach[0], reach[-1]], y=[place, place], mode="lines", line={"color": NOTHING, "width": 2},
            hoverinfo="skip",
        )  # fmt: skip
        ends = (min(row.rates, key=row.rates.get), max(row.rates, key=row.rates.get))
        figure.add_scatter(
            x=list(row.rates.values()),
            y=[place] * len(row.rates),
            mode="markers+text",
            marker={"size": 10, "color": PROPOSAL},
            text=[level if level in ends else "" for level in row.rates],
            textposition=["middle left" if level == ends[0] else "middle right" for level in row.rates],
            cliponaxis=False,
            customdata=[[row.slice, level] for level in row.rates],
            hovertemplate="%{customdata[0]} %{customdata[1]}: %{x:.1%} got an offer<extra></extra>",
        )
    top = max((rate for row in found for rate in row.rates.values()), default=1.0)
    figure.update_xaxes(tickformat=".0%", range=[-0.25 * top, top * 1.4], nticks=6)
    figure.update_yaxes(
        tickvals=list(range(len(found))), ticktext=[f"{row.slice}  " for row in found],
        range=[len(found) - 0.4, -0.6], showgrid=False,
    )  # fmt: skip
    return figure


def bars(found: Sequence[Dot]) -> go.Figure:
    "Bars with their spread, the longest first."
    figure = _figure(60 + 26 * len(found), showlegend=False)
    figure.add_bar(
        x=[dot.span.value for dot in found],
        y=[dot.label for dot in found],
        orientation="h",
        marker={"color": PROPOSAL},
        error_x=_whiskers([dot.span for dot in found]) | {"color": NOTHING, "thickness": 1.5, "width": 3},
        customdata=[dot.note for dot in found],
        hovertemplate="%{y}<br>%{customdata}<br>Worth %{x:.4f}<extra></extra>",
    )
    figure.update_xaxes(nticks=4, rangemode="tozero")
    figure.update_yaxes(autorange="reversed", ticksuffix="  ")
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
