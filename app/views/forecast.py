"""The forecast: what the test weeks promise in one sentence, three numbers with their range, and one picture."""

from html import escape
from pathlib import Path
from urllib.parse import quote

import streamlit as st
from common import (
    answer_of,
    badge,
    blessing_of,
    cached,
    definition_list,
    executed,
    explained,
    note,
    picture,
    project,
    read_charter,
    table,
    tiles,
    unhealthy,
    warning,
)

from ml_workbench.page.blessing import Blessing
from ml_workbench.page.story import (
    Answer,
    Fact,
    Point,
    Span,
    as_csv,
    between,
    condition,
    day,
    first_lines,
    foundations,
    point_at,
    read_offers,
    verdict,
)
from ml_workbench.plan.charter import Charter, money

ICONS = {"gain": "✓", "keep": "→", "unclear": "?", "worse": "↓", "loss": "✕", "nothing": "○"}


def _tile(label: str, span: Span, currency: str) -> tuple[str, str, str]:
    "Label, amount and range of a monthly figure."
    return label, money(span.value, currency, sign=True), f"a month, {between(span, currency, sign=True)}"


def headline(answer: Answer, point: Point, charter: Charter, blessing: Blessing) -> None:
    "The sentence and the numbers of one point, and whether they may be acted on."
    said, currency = verdict(answer, point), answer.currency
    sentence = escape(said.sentence)
    if said.amount:
        sentence = sentence.replace(escape(said.amount), f"<strong>{escape(said.amount)}</strong>", 1)
    shown = [_tile(f"Against {point.versus}", point.gain, currency)]
    if point.versus != "doing nothing":
        shown.append(_tile("Against doing nothing", point.profit, currency))
    if (needed := answer.proposal.precision) is not None:
        told = "of offers; the rest would have come anyway"
        shown.append((f"Needed, at {answer.capacity:,} a week", f"{needed:.0%}", told))
    mark = f'<div class="mlw-mark mlw-{said.state}"><span aria-hidden="true">{ICONS[said.state]}</span>{said.mark}</div>'
    judged = badge(blessing, link="model") if answer.proposal.kind == "candidate" or blessing.checks else ""
    st.html(
        f'<div class="mlw-kicker">{mark if blessing.usable else ""}{judged}<span>{escape(charter.title)}: what the test weeks promise</span></div>'
        f'{warning(blessing)}<h1 class="mlw-sentence {"" if blessing.usable else "mlw-unusable"}" role="status">{sentence}</h1>'
        f"{_because(answer, charter)}{tiles(shown)}"
    )


def _because(answer: Answer, charter: Charter) -> str:
    "Why nothing more complex, and on what condition."
    simplest = f'<p class="mlw-because">{escape(answer.parsimony)}</p>' if answer.parsimony else ""
    told = condition(answer, charter.economics.save_rate)
    return f'{simplest}<p class="mlw-small">{escape(told)}</p>'


@st.fragment
def proposal(answer: Answer, charter: Charter, blessing: Blessing) -> None:
    "Sentence, numbers and curve; only this part runs again when the slider moves."
    top = st.container()
    start = point_at(answer.proposal, answer.capacity).offers
    offers = st.select_slider(
        f"Offers a week (capacity: {answer.capacity:,})",
        options=answer.proposal.offers,
        value=start,
        format_func=lambda number: f"{number:,}",
        key="offers",
    )
    point = point_at(answer.proposal, offers)
    with top:
        headline(answer, point, charter, blessing)
    import figures  # plotly takes its time to load: the words come first

    st.markdown("**Profit a month** by the number of offers a week")
    picture(
        figures.profit_curve(answer, point),
        key="profit-curve",
        alt=f"Expected profit a month in {answer.currency} by offers a week, for every way of choosing",
    )
    st.html(f"<p><b>Why this one.</b> {escape(answer.reason)}</p>")
    note(
        f"The rule takes {charter.baseline.meaning} and uses every offer; a model stops where one no longer pays."
    )
    with st.container(horizontal=True):
        st.page_link("views/model.py", label="The model and the gate's checks", icon=":material/verified:")
        st.page_link("views/candidates.py", label="Every candidate", icon=":material/leaderboard:")


def _cell(span: Span, currency: str, *, sign: bool = False) -> str:
    "A table cell with an amount, and its range where it has one."
    note = "" if span.low == span.high else f"<small>{between(span, currency, sign=sign)}</small>"
    return f"<td>{money(span.value, currency, sign=sign)}{note}</td>"


def comparison(answer: Answer) -> None:
    "Every way of choosing, at the capacity."
    import figures

    rows = []
    for policy in answer.policies:
        place = policy.offers.index(point_at(policy, answer.capacity).offers)
        versus = (
            "<td>—</td>" if policy.kind == "rule" else _cell(policy.gain[place], answer.currency, sign=True)
        )
        needed = "—" if policy.precision is None else f"{policy.precision:.0%}"
        auc = f"{policy.metrics['auc'].value:.3f}" if "auc" in policy.metrics else "—"
        rows.append(
            f"<tr><td>{escape(policy.label)}{' ✓' if policy.name == answer.chosen else ''}</td>"
            f"{_cell(policy.profit[place], answer.currency)}{versus}"
            f"<td class='mlw-wide'>{needed}</td><td class='mlw-wide'>{auc}</td></tr>"
        )
    st.html(
        "<div class='mlw-scroll'><table><thead><tr><th>Choose by</th><th>Profit a month</th><th>Against the rule</th>"
        "<th class='mlw-wide'>Offers that were needed</th><th class='mlw-wide'>AUC</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f"<p class='mlw-small'>At {answer.capacity:,} offers a week. ✓ marks the proposal. AUC says how well a ranking "
        "puts the right ones first.</p>"
    )
    if answer.proposal.calibration:
        st.markdown("**Can the predicted chances be taken at their word?** On the dashed line they can.")
        picture(
            figures.calibration(answer.proposal.calibration),
            key="calibration",
            alt="Predicted chance against the share that happened",
        )


def next_list(answer: Answer, root: Path, blessing: Blessing) -> None:
    "Who is on the list, its first lines, and the whole of it to take away."
    st.subheader("Who is on the next list")
    listed = cached(read_offers, root, files=(root / "data" / "offers.parquet",))
    definition_list((Fact("Drawn up for", day(answer.next_as_of)), *answer.facts), style="mlw-pairs")
    lines, who = first_lines(listed, answer), answer.unit.capitalize()
    if lines:
        rows = [
            [_why(text, answer.unit) if name == who else escape(text) for name, text in line.items()]
            for line in lines
        ]
        table(list(lines[0]), rows)
        note(f"Choose a {answer.unit} to see why it is on the list.")
    if not blessing.usable:
        note("The list is held back while the gate's veto stands.")
        return
    st.download_button(
        f"Download all {listed.num_rows:,} (CSV)",
        as_csv(listed),
        file_name=f"offers-{answer.next_as_of[:10]}.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def _why(entity: str, unit: str) -> str:
    "A link to the page that says why this one is on the list."
    return f"<a href='why?id={quote(entity)}' target='_self' title='Why this {escape(unit)}'>{escape(entity)}</a>"


def assumptions(answer: Answer) -> None:
    "What nobody has measured yet, and how much hangs on it."
    import figures

    st.subheader("What is assumed, not measured")
    guesses = [row["text"] for row in answer.assumptions if row["low"] is not None]
    given = [row["text"] for row in answer.assumptions if row["low"] is None]
    st.html("".join(f"<p>{escape(text)}</p>" for text in guesses))
    if answer.trials:
        st.markdown("**Profit a month**, should the save rate be lower or higher than assumed")
        picture(
            figures.sensitivity(answer),
            key="sensitivity",
            alt="Profit a month of the proposal for a low, the assumed and a high save rate",
        )
    if answer.break_even is not None:
        st.html(
            f"<p class='mlw-small'>The offers pay for themselves from a save rate of {answer.break_even:.1%} upwards.</p>"
        )
    if given:
        with st.expander("The other terms"):
            st.html("<ul>" + "".join(f"<li>{escape(text)}</li>" for text in given) + "</ul>")


def rests_on(answer: Answer, charter: Charter, root: Path) -> None:
    "Data, model, test, commit, owner, and where to look further."
    st.subheader("What this rests on")
    files = (
        root / "reports" / "data.json",
        root / "reports" / "evaluation.json",
        root / ".git" / "logs" / "HEAD",
    )
    owner = Fact("Owner", charter.owner, f"To be reviewed by {day(charter.review_date)}")
    definition_list((*cached(foundations, root, answer, files=files), owner))
    stages = executed(root / "reports" / "notebooks")
    with st.container(horizontal=True):
        st.page_link("views/features.py", label="What the model looks at", icon=":material/list:")
        for stage in stages:
            label = f"Executed notebook: {stage.lower()}"
            st.page_link(
                "views/notebooks.py",
                label=label,
                icon=":material/description:",
                query_params={"stage": stage},
            )


with explained():
    root = project()
    charter, answer = read_charter(root), answer_of(root)
    blessing = blessing_of(root, answer.chosen)
    above = st.container()
    proposal(answer, charter, blessing)
    with st.expander("How the ways of choosing compare"):
        comparison(answer)
    left, right = st.columns(2, gap="medium")
    with left:
        next_list(answer, root, blessing)
    with right:
        assumptions(answer)
    rests_on(answer, charter, root)
    if ill := unhealthy(root):  # last: it asks the database, and the page is there already
        above.html(ill)
