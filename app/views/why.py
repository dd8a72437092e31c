"""Why this one: look somebody up and see what speaks for and against, in plain words."""

from html import escape
from pathlib import Path

import streamlit as st
from common import cached, explained, note, project, read_charter, tiles

from ml_workbench.page.drivers import Push
from ml_workbench.page.lookup import Case, Family, bars, case, chance, entries, guide, horizon, told, usual
from ml_workbench.plan.charter import Charter, money


def lines(found: Case) -> str:
    "Families as bars to either side of a line, strongest first, with the features that did most of it."
    drawn = bars(found)
    most = max((abs(family.amount) for family in drawn), default=0) or 1
    rows = []
    for family in drawn:
        side = "up" if family.amount > 0 else "down"
        width = 50 * abs(family.amount) / most
        rows.append(
            f"<li><div><b>{escape(family.words)}</b>{_told(family)}</div>"
            f"<div class='mlw-track' role='img' aria-label='{'raises' if side == 'up' else 'lowers'} the chance: {family.effect}' "
            f"title='{family.effect.capitalize()}'><i class='mlw-{side}' style='width:{width:.2f}%'></i></div></li>"
        )
    return (
        "<div class='mlw-sides' aria-hidden='true'><span>◀ lowers the chance</span><span>raises it ▶</span></div>"
        f"<ul class='mlw-pushes'>{''.join(rows)}</ul>"
    )


def _told(family: Family) -> str:
    "What did most of it, or what it stands for."
    told = "".join(
        f"<div class='mlw-words'><span>{escape(push.words)}</span>{_value(push)}</div>"
        for push in family.told
    )
    return f"{told}<div class='mlw-words'><span>{escape(family.note)}</span></div>" if family.note else told


def _value(push: Push) -> str:
    "A value beside what is usual."
    if not push.value:
        return ""
    beside = f" <small>usual {escape(push.usual)}</small>" if push.usual else ""
    return f"<b>{escape(push.value)}{beside}</b>"


def show(found: Case, charter: Charter, root: Path) -> None:
    "One case: the sentence, three figures, and what speaks for and against."
    days = cached(horizon, root, files=(root / "reports" / "features.json",))
    st.html(f'<p class="mlw-sentence mlw-second">{escape(told(found, charter, days=days))}</p>')
    place = f"No. {found.rank:,}" if found.rank else "Not on it"
    figures = [
        (
            f"Chance of lapsing within {days} days",
            chance(found.probability),
            f"a typical {charter.unit}: {chance(found.base)}",
        ),
        ("The next list", place, f"of {found.listed:,} offers"),
    ]
    if found.spend is not None:
        figures.insert(1, ("Usual spend", money(found.spend, charter.currency), "a week"))
    st.html(tiles(figures))
    st.subheader("What speaks for it, and against")
    st.html(lines(found))
    note(guide(found, charter.unit, charter.unit_plural))


with explained("Nobody to look up yet"):
    root = project()
    charter = read_charter(root)
    paths = ("data/explanations.parquet", "data/offers.parquet", "reports/features.json")
    files = tuple(root / path for path in (*paths, "data/features/schema.json"))
    known = {str(entry.entity): entry.entity for entry in cached(entries, root, files=files)}
    medians = cached(usual, root, files=(root / "data" / "features" / "schema.json",))

st.title(f"Why this {charter.unit}")
chosen = st.selectbox(
    f"{charter.unit.capitalize()} (the next list first, in its order; type to search)",
    list(known),
    index=0,
    key="id",
    bind="query-params",
    accept_new_options=True,
    filter_mode="prefix",
    width=420,
)
if chosen not in known:
    st.html(
        f'<section class="mlw-lacking" role="status"><b>No {escape(charter.unit)} {escape(str(chosen))} at the date of the next list</b>'
        f"<span>Only {escape(charter.unit_plural)} that were active then can be looked up: {len(known):,} of them. "
        "Type the first digits to see which.</span></section>"
    )
else:
    with explained("This case cannot be shown"):
        show(cached(case, root, known[chosen], medians, files=files), charter, root)
st.page_link("views/forecast.py", label="Back to the forecast and its list", icon=":material/arrow_back:")
