"""The pictures of what was earned: an effect along the days, by group, by capacity, and how well a ranking finds it."""

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import plotly.graph_objects as go
from figures import BAND, NOTHING, OTHERS, PROPOSAL, RULE, _amounts, _figure, _whiskers

from ml_workbench.page.earned import exact
from ml_workbench.page.evidence import Series, measured
from ml_workbench.page.portrait import Dot
from ml_workbench.page.story import Span, ticks
from ml_workbench.page.targeting import Capacity, Qini

FAINT = "rgba(42, 134, 168, 0.09)"
LINES = (
    (PROPOSAL, "solid"),
    (RULE, "dash"),
    (OTHERS[0], "dot"),
    (OTHERS[1], "dashdot"),
    (OTHERS[2], "longdash"),
)


def _in_units(values: Sequence[float], text: Callable[[float], str], *, count: int = 5) -> dict[str, Any]:
    "An axis in any unit, with zero on it."
    low, high = min(*values, 0.0), max(*values, 0.0)
    room, marks = (high - low) * 0.05 or 1.0, ticks(low, high, count=count)
    return {"tickvals": marks, "ticktext": [text(mark) for mark in marks], "range": [low - room, high + room]}


def _lines(curves: Sequence[Capacity | Qini]) -> dict[str, tuple[str, str]]:
    "Colour and dash of each way of choosing, the same in every picture of a page."
    return dict(zip(sorted((curve.label for curve in curves), reverse=True), cycle(LINES)))


def _area(figure: go.Figure, places: Sequence[float], spans: Sequence[Span], colour: str, name: str) -> None:
    "A band, named in the legend."
    edge = {"x": list(places), "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(y=[span.low for span in spans], showlegend=False, **edge)
    figure.add_scatter(y=[span.high for span in spans], fill="tonexty", fillcolor=colour, name=name, **edge)


def over_time(series: Series, currency: str, *, daily: bool) -> go.Figure:
    "An effect along the days: the running total with both bands, or each day by itself."

    def text(value: float) -> str:
        return measured(value, series.kind, series.unit, currency, sign=True)

    def told(span: Span) -> str:
        return f"{text(span.value)}, between {text(span.low)} and {text(span.high)}"

    points = series.daily if daily else series.points
    places, spans = [place for place, _ in points], [span for _, span in points]
    figure = _figure(330, legend={"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0}, hovermode="x")
    figure.add_hline(y=0, line={"color": NOTHING, "width": 1.5})
    if series.wide and not daily:
        _area(
            figure,
            [place for place, _ in series.wide],
            [span for _, span in series.wide],
            FAINT,
            "peeking-safe",
        )
    _area(figure, places, spans, BAND, "one look")
    figure.add_scatter(
        x=places, y=[span.value for span in spans], mode="lines+markers" if daily else "lines", name="each day" if daily else "running total",
        line={"color": PROPOSAL, "width": 1 if daily else 3}, marker={"size": 6}, customdata=[told(span) for span in spans],
        hovertemplate="Day %{x}: %{customdata}<extra></extra>",
    )  # fmt: skip
    shown = [*spans, *(() if daily else (span for _, span in series.wide[len(series.wide) // 6 :]))]
    figure.update_yaxes(**_in_units([part for span in shown for part in span], text))
    figure.update_xaxes(nticks=8)
    return figure


def dots(found: Sequence[Dot], currency: str) -> go.Figure:
    "An effect by group: one line each, filled where it is sure."
    figure = _figure(70 + 34 * len(found), showlegend=False)
    figure.add_vline(x=0, line={"color": NOTHING, "width": 1.5})
    figure.add_scatter(
        x=[dot.span.value for dot in found], y=list(range(len(found))), mode="markers",
        marker={
            "size": 11, "color": PROPOSAL, "line": {"width": 2, "color": PROPOSAL},
            "symbol": ["circle" if dot.stressed else "circle-open" for dot in found],
        },
        error_x=_whiskers([dot.span for dot in found]) | {"color": PROPOSAL, "width": 4},
        customdata=[[dot.label, dot.note] for dot in found], hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(
        **_in_units([part for dot in found for part in dot.span], lambda mark: exact(mark, currency), count=3)
    )
    figure.update_yaxes(
        tickvals=list(range(len(found))), ticktext=[f"{dot.label}  " for dot in found], range=[len(found) - 0.4, -0.6], showgrid=False
    )  # fmt: skip
    return figure


def capacity(curves: Sequence[Capacity], chosen: str, offers: int, today: int, currency: str) -> go.Figure:
    "What every way of choosing would have earned a month, by offers a week."
    figure = _figure(390, legend={"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0})
    first = next((curve for curve in curves if curve.policy == chosen), curves[0])
    figure.add_hline(y=0, line={"color": NOTHING, "width": 1.5})
    _area(figure, first.offers, first.spans, BAND, f"range of {first.label}")
    drawn = _lines(curves)
    for curve in curves:
        colour, dash = drawn[curve.label]
        figure.add_scatter(
            x=curve.offers, y=[span.value for span in curve.spans], mode="lines", name=curve.label,
            line={"color": colour, "dash": dash, "width": 3.5 if curve is first else 2},
            customdata=[exact(span.value, currency, sign=True) for span in curve.spans],
            hovertemplate="%{x} offers a week: %{customdata} a month<extra>" + curve.label + "</extra>",
        )  # fmt: skip
    near = min(range(len(first.offers)), key=lambda place: abs(first.offers[place] - offers))
    if first.offers[near] != today:
        figure.add_vline(
            x=today,
            line={"color": NOTHING, "width": 1, "dash": "dot"},
            annotation={"text": "today", "font": {"color": NOTHING}},
        )
    figure.add_vline(x=first.offers[near], line={"color": PROPOSAL, "width": 1})
    figure.add_scatter(
        x=[first.offers[near]], y=[first.spans[near].value], mode="markers", showlegend=False, hoverinfo="skip",
        marker={"size": 15, "color": PROPOSAL, "line": {"color": "white", "width": 2}},
    )  # fmt: skip
    figure.update_yaxes(**_amounts([part for span in first.spans for part in span], currency))
    figure.update_xaxes(title="offers a week", nticks=7)
    return figure


def qini(curves: Sequence[Qini], currency: str) -> go.Figure:
    "Gain by the share treated, beside a lottery."
    figure = _figure(330, legend={"orientation": "h", "y": -0.27, "yanchor": "top", "x": 0})
    first = curves[0]
    figure.add_hline(y=0, line={"color": NOTHING, "width": 1})
    _area(figure, first.shares, first.spans, BAND, f"range of {first.label}")
    drawn = _lines(curves)
    for curve in curves:
        colour, dash = drawn[curve.label]
        figure.add_scatter(
            x=curve.shares, y=[span.value for span in curve.spans], mode="lines", name=curve.label, line={"color": colour, "dash": dash, "width": 2.5},
            customdata=[exact(span.value, currency, sign=True) for span in curve.spans],
            hovertemplate="the first %{x:.0%}: %{customdata}<extra>" + curve.label + "</extra>",
        )  # fmt: skip
    ends = first.spans[-1].value
    figure.add_scatter(
        x=[0, 1],
        y=[0, ends],
        mode="lines",
        name="a lottery",
        line={"color": NOTHING, "dash": "dot", "width": 2},
        hoverinfo="skip",
    )
    figure.update_yaxes(**_amounts([part for span in first.spans for part in span], currency))
    figure.update_xaxes(title="share treated, the best first", tickformat=".0%", nticks=6)
    return figure


def power(
    weeks: Sequence[int],
    units: Sequence[float],
    chances: Sequence[float],
    wanted: float,
    *,
    reached: int | None,
) -> go.Figure:
    "The chance to find an effect, week by week, and where it is enough."
    figure = _figure(250, showlegend=False)
    figure.add_hline(y=wanted, line={"color": RULE, "width": 1.5, "dash": "dash"})
    figure.add_annotation(
        x=weeks[-1], y=wanted, text=f"wanted: {wanted:.0%}", font={"color": RULE}, showarrow=False, xanchor="right", yanchor="bottom"
    )  # fmt: skip
    figure.add_scatter(
        x=list(weeks), y=list(chances), mode="lines+markers", line={"color": PROPOSAL, "width": 3},
        marker={"size": [14 if week == reached else 4 for week in weeks], "color": PROPOSAL, "line": {"width": 0}},
        customdata=[f"{count:,.0f}" for count in units],
        hovertemplate="After %{x} weeks, %{customdata} drawn: %{y:.0%}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(range=[0, 1.05], tickformat=".0%", nticks=6)
    figure.update_xaxes(title="weeks of taking in", nticks=10, range=[0, weeks[-1] + 1])
    return figure
