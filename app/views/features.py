"""The catalogue of features: what each means, where it comes from, what it is worth and what it costs."""

from html import escape

import figures
import streamlit as st
from common import cached, explained, picture, project

from ml_workbench.page.catalogue import Family, Feature, families, read_catalogue


def by_family(groups: tuple[Family, ...]) -> None:
    "A short table: one line per family, with a bar for its worth."
    most = max((group.importance or 0 for group in groups), default=0) or 1

    def worth(group: Family) -> str:
        if group.importance is None:
            return "—"
        share = max(0.0, group.importance / most)
        return f"<i class='mlw-bar' style='width:calc((100% - 3.6rem) * {share:.3f})'></i>{round(group.importance, 3) + 0.0:.3f}"

    rows = "".join(
        f"<tr><td>{escape(group.name)}</td><td>{group.features}</td><td class='mlw-bars'>{worth(group)}</td>"
        f"<td>{'—' if group.cost_ms is None else f'{group.cost_ms:,.0f} ms'}</td></tr>"
        for group in groups
    )
    st.html(
        "<div class='mlw-scroll'><table><thead><tr><th>Family</th><th>Features</th><th>Worth</th><th>Cost</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def catalogue_table(features: tuple[Feature, ...]) -> None:
    "Every feature, one line each."
    columns = {
        "Feature": [row.name for row in features],
        "Meaning": [row.meaning for row in features],
        "Window": [row.window_days for row in features],
        "Missing": [100 * row.missing for row in features],
        "Worth": [row.importance for row in features],
        "Cost": [row.cost_ms for row in features],
        "Source": [row.source for row in features],
        "Family": [row.family for row in features],
    }
    column = st.column_config
    st.dataframe(
        {name: values for name, values in columns.items() if any(value is not None for value in values)},
        hide_index=True,
        height=520,
        placeholder="—",
        alt="The catalogue of features",
        column_config={
            "Meaning": column.TextColumn(width="large"),
            "Window": column.NumberColumn(format="%d days", width="small", help="How far back it looks"),
            "Missing": column.NumberColumn(
                format="%.0f%%", width="small", help="Share of snapshots without it"
            ),
            "Worth": column.NumberColumn(
                format="%.4f", width="small", help="Fall in average precision without it"
            ),
            "Cost": column.NumberColumn(format="%.1f ms", width="small", help="Computing it for one date"),
        },
    )


with explained("No catalogue to show yet"):
    root = project()
    reports = root / "reports"
    names = ("features.json", "diagnosis.json", "train.json", "evaluation.json")
    files = (*(reports / name for name in names), root / "state" / "feature_costs.json")
    features, model = cached(read_catalogue, root, files=files)

st.title("What the model looks at")
st.html(
    f"<p class='mlw-small'>{len(features)} features, each declared once and computed from the past only. "
    "Training, the weekly list and any later service use the same declaration.</p>"
)
left, right = st.columns(2, gap="large")
with left:
    st.subheader("By family")
    by_family(families(features))
    st.html(
        "<p class='mlw-small'>Worth: how much the average precision of the model falls when a feature is shuffled, "
        "added up over the family. Cost: computing the family for one date. — means not measured, or not shown to the model.</p>"
    )
with right:
    if model is None:
        st.info("What each feature is worth is known after the first diagnosis: `make run`.")
    else:
        st.subheader(f"Worth most to {model}")
        picture(
            figures.importance(features),
            key="importance",
            alt=f"The features that {model} would miss most",
        )
        st.html("<p class='mlw-small'>The thin line is one standard deviation over repeated shuffles.</p>")

st.subheader("The catalogue")
chosen = st.pills(
    "Family",
    sorted({row.family for row in features}),
    selection_mode="multi",
    key="family",
    label_visibility="collapsed",
)
catalogue_table(tuple(row for row in features if not chosen or row.family in chosen))
