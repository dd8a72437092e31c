"""Traffic over time, as areas that always fill the whole."""

from collections.abc import Sequence

import plotly.graph_objects as go
from figures import NOTHING, OTHERS, PROPOSAL, RULE, _figure

from ml_workbench.page.releases import Series
from ml_workbench.release.deployment import NOBODY

COLOURS = {"champion": PROPOSAL, "challenger": OTHERS[0], "control": RULE, NOBODY: NOTHING}


def colour(name: str) -> str:
    "The colour of an arm, the same everywhere on the page."
    return COLOURS.get(name, OTHERS[1])


def traffic(found: Sequence[Series]) -> go.Figure:
    "Who decided about how many units, from when on."
    figure = _figure(
        300,
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )
    for series in found:
        figure.add_scatter(
            x=[point.at for point in series.points],
            y=[point.share for point in series.points],
            customdata=[point.told for point in series.points],
            name=series.name,
            stackgroup="all",
            mode="lines",
            line={"shape": "hv", "width": 1, "color": colour(series.name)},
            fillcolor=colour(series.name),
            opacity=0.9,
            hovertemplate="%{customdata}: %{y:.1%}<extra></extra>",
        )
    figure.update_yaxes(range=[0, 1], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_xaxes(nticks=6)
    return figure
