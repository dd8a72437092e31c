"""Runs as lines across their parameters, and as amounts with their range."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from figures import NOTHING, PROPOSAL, RULE
from plotly.colors import sample_colorscale

from ml_workbench.page.story import between
from ml_workbench.plan.charter import money
from ml_workbench.run.compare import ordered
from ml_workbench.run.contrast import Axis, marks, monthly
from ml_workbench.run.history import Run

CONFIG = {"displayModeBar": False, "scrollZoom": False, "responsive": True}
SCALE = [
    [0, RULE],
    [0.5, NOTHING],
    [1, PROPOSAL],
]  # least profit to most; height on the first axis says the same


def _figure(height: int, **margin: int) -> go.Figure:
    "An empty figure that leaves scrolling to the page."
    figure = go.Figure()
    figure.update_layout(height=height, margin=margin, dragmode=False, hovermode="closest", hoverdistance=24)
    return figure


def _heading(name: str) -> str:
    "A parameter's name above its axis: the section small, the name below it."
    *section, last = name.split(".")
    if len(last) > 14 and "_" in last[4:]:
        last = last.replace("_", "_<br>", 1) if "_" in last[:14] else last
    above = f"<span style='font-size:10px'>{escape('.'.join(section))}</span><br>" if section else ""
    return f"{above}<b>{last}</b>"


def _heights(axis: Axis, order: Sequence[int]) -> list[float]:
    "Where each run meets an axis, from 0 to 1; runs that share a value lie side by side."
    low, high = axis.reach
    room: dict[float, list[int]] = {}
    for run in order:
        room.setdefault(axis.places[run], []).append(run)
    heights = [0.0] * len(axis.places)
    for place, sharing in room.items():
        step = min(0.012, 0.06 / len(sharing))
        for rank, run in enumerate(sharing):
            heights[run] = (place - low) / (high - low) + (rank - (len(sharing) - 1) / 2) * step
    return heights


def _two_lines(text: str) -> str:
    "A long text in two lines, so that it does not reach the axis before it."
    place = text.rfind(" ", 0, 13)
    return (
        f"{escape(text[:place])}<br>{escape(text[place + 1 :])}"
        if len(text) > 13 and place > 0
        else escape(text)
    )


def parallel(found: Sequence[Run], axes: Sequence[Axis], *, ground: str, ink: str) -> go.Figure:
    "Parallel coordinates: a line per run, profit first; `ground` and `ink` are the page's background and text."
    profit = axes[0].places
    order = [found.index(run) for run in reversed(ordered(found, "money"))]  # the best is drawn last
    heights = [_heights(axis, order) for axis in axes]
    low, high = axes[0].reach
    colours = sample_colorscale(SCALE, [(value - low) / (high - low) for value in profit])
    figure = _figure(440, l=58, r=46, t=66, b=12)
    for place, axis in enumerate(axes):
        figure.add_shape(
            type="line", x0=place, x1=place, y0=0, y1=1, line={"color": NOTHING, "width": 1}, layer="below"
        )
        figure.add_annotation(
            x=place, y=1.05, text=_heading(axis.label), showarrow=False, yanchor="bottom", font={"color": ink}
        )
    for run in order:
        best, head = run == order[-1], found[run].name == "HEAD"
        amount = monthly(found[run])
        told = f"<b>{escape(found[run].name)}</b><br>{money(amount.value, found[run].currency)} a month, {between(amount, found[run].currency)}"
        figure.add_scatter(
            x=list(range(len(axes))),
            y=[axis[run] for axis in heights],
            mode="lines+markers",
            name=found[run].name,
            showlegend=best or head,
            line={
                "color": colours[run],
                "width": 4 if best else 3 if head else 1.8,
                "dash": "dash" if head else "solid",
            },
            marker={"size": 7 if best or head else 5},
            opacity=1 if best or head or len(found) < 12 else 0.6,
            hovertemplate=told + "<extra></extra>",
        )
    for place, axis in enumerate(axes):
        low, high = axis.reach
        thin = -(-len(axis.marks) // 12)
        for mark, text in list(zip(axis.marks, axis.texts))[::thin]:
            figure.add_annotation(
                x=place, y=(mark - low) / (high - low), text=_two_lines(text), showarrow=False, xanchor="right", xshift=-7, align="right",
                bgcolor=ground, borderpad=1, opacity=0.9, font={"size": 12, "color": ink},
            )  # fmt: skip
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top", "title": ""})
    figure.update_xaxes(visible=False, fixedrange=True, range=[-0.04, len(axes) - 0.96])
    figure.update_yaxes(visible=False, fixedrange=True, range=[-0.05, 1.05])
    return figure


def amounts(found: Sequence[Run]) -> go.Figure:
    "Monthly profit of each run with its range, the best on top."
    ranked = ordered(found, "money")[::-1]
    spans, currency = [monthly(run) for run in ranked], ranked[0].currency
    figure = _figure(84 + 30 * len(ranked), l=4, r=12, t=8, b=28)
    if head := next((run for run in ranked if run.name == "HEAD"), None):
        figure.add_vline(x=monthly(head).value, line={"color": NOTHING, "width": 1.5, "dash": "dot"})
    figure.add_scatter(
        x=[span.value for span in spans],
        y=list(range(len(ranked))),
        mode="markers",
        marker={
            "size": 11,
            "color": PROPOSAL,
            "symbol": ["diamond-open" if run is head else "circle" for run in ranked],
        },
        error_x={
            "type": "data", "symmetric": False, "thickness": 2, "width": 5, "color": PROPOSAL,
            "array": [span.high - span.value for span in spans],
            "arrayminus": [span.value - span.low for span in spans],
        },
        customdata=[
            f"<b>{escape(run.name)}</b><br>{money(span.value, currency)} a month, {between(span, currency)}"
            for run, span in zip(ranked, spans)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    at = marks(min(span.low for span in spans), max(span.high for span in spans), count=4)
    names = [run.name if len(run.name) <= 18 else f"{run.name[:17]}…" for run in ranked]
    ends = [*at, *(end for span in spans for end in span)]
    room = 0.08 * ((max(ends) - min(ends)) or 1.0)  # so that the outermost amounts are written in full
    figure.update_xaxes(
        range=[min(ends) - room, max(ends) + room],
        tickvals=at,
        ticktext=[money(mark, currency) for mark in at],
        fixedrange=True,
        zeroline=False,
        automargin=True,
    )
    figure.update_yaxes(
        tickvals=list(range(len(ranked))), ticktext=[escape(name) for name in names], ticksuffix="  ",
        range=[-0.6, len(ranked) - 0.4], fixedrange=True, zeroline=False, automargin=True, showgrid=False,
    )  # fmt: skip
    return figure
