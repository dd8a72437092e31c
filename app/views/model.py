"""The model: what it is, whether it may be used, how good it is, where it holds and what it goes by."""

from html import escape
from pathlib import Path

import streamlit as st
from common import (
    answer_of,
    aside,
    badge,
    blessing_of,
    cached,
    explained,
    note,
    picture,
    project,
    read_charter,
    table,
    tiles,
    warning,
)

from ml_workbench.page import drivers, steadiness
from ml_workbench.page.blessing import Blessing
from ml_workbench.page.catalogue import families, read_catalogue
from ml_workbench.page.editions import pace, read_editions, size
from ml_workbench.page.lookup import horizon, meanings
from ml_workbench.page.portrait import (
    Diagnosis,
    flow,
    introduction,
    plain,
    read_diagnosis,
    reliability,
    scores,
    skills,
)
from ml_workbench.page.story import Answer, Span, between, point_at
from ml_workbench.plan.charter import MONTH, money


def checks(blessing: Blessing) -> None:
    "What the gate looked at, the failures first; warnings are said, vetoes are shown with everything."
    failed = [check for check in blessing.checks if not check.passed]
    for check in failed:
        if not check.vetoes:
            note(f"{check.mark} {check.title}: {check.sentence}")
    vetoed = any(check.vetoes for check in failed)
    with st.expander(f"The gate's {len(blessing.checks)} checks", expanded=vetoed):
        rows = "".join(
            f"<li class='mlw-check {'mlw-ok' if check.passed else 'mlw-bad' if check.vetoes else 'mlw-warn'}'>"
            f"<span aria-hidden='true'>{check.mark}</span><div><b>{escape(check.title)}</b> "
            f"<span>{escape(check.figure)}</span> <small>{escape(check.limit)}</small>"
            f"{'' if check.passed else f'<p>{escape(check.sentence)}</p>'}</div></li>"
            for check in blessing.checks
        )
        st.html(f"<ul class='mlw-checks'>{rows}</ul>")


def opening(diagnosis: Diagnosis, answer: Answer, blessing: Blessing, root: Path) -> None:
    "What it is in a sentence, the verdict, and two or three figures with their reading."
    proposed = diagnosis.model == answer.chosen
    behind = "The model behind the proposal" if proposed else "The best of the models, not proposed"
    said = introduction(diagnosis, cached(horizon, root, files=(root / "reports" / "features.json",)))
    st.html(
        f'<div class="mlw-kicker">{badge(blessing)}<span>{behind}</span></div>'
        f'<h1 class="mlw-sentence">{escape(said)}</h1>{warning(blessing)}'
    )
    if not proposed:
        note(f"The proposal is {answer.proposal.label}; what follows is about {diagnosis.label}.")
    policy = next((policy for policy in answer.policies if policy.name == diagnosis.model), answer.proposal)
    with aside("No figures to show"):
        found = skills(policy, answer.unit, share=scores(diagnosis).lapse_share)
        shown = [(one.label, one.value, f"{one.interval}. {one.reading}") for one in found]
        gain = point_at(policy, answer.capacity).gain.times(1 / MONTH)
        earned = f"a week at {answer.capacity:,} offers, {between(gain, answer.currency, sign=True)}."
        shown.append(("Against the rule", money(gain.value, answer.currency, sign=True), earned))
        st.html(tiles(shown))
    if blessing.checks:
        checks(blessing)
    elif blessing.state in ("none", "outdated"):
        note(blessing.sentence)


def how_good(diagnosis: Diagnosis, answer: Answer, root: Path) -> None:
    "Chances against what happened, and how they are spread."
    import figures

    left, right = st.columns(2, gap="large")
    with left, aside("No reliability to show"):
        st.subheader("Do its chances come true?")
        found = reliability(diagnosis)
        picture(
            figures.calibration(found.bins),
            key="reliability",
            alt="Predicted chance against the share that happened; on the dashed line they agree",
        )
        note(f"On the dashed line they do. {found.sentence}")
    with right, aside("No scores to show"):
        st.subheader("Does it tell them apart?")
        picture(
            figures.scores(scores(diagnosis)),
            key="scores",
            alt="How the predicted chances of those who lapsed and of those who stayed are spread",
        )
        note(
            "Above the line those who lapsed, below it those who stayed, each as a share of its own. The less they overlap, the better."
        )
    with aside("Nothing known about leaks"):
        st.subheader("Is it too good to be true?")
        facts = drivers.leaks(diagnosis)
        signs = {"clean": "✓ clean", "suspicious": "! suspicious", "unchecked": "? unchecked"}
        rows = [
            [escape(fact.label), f"<span class='mlw-still'>{signs[fact.value]}</span>", escape(fact.note)]
            for fact in facts
        ]
        table(["Looked for", "Verdict", "What was found"], rows, style="mlw-prose")


def its_money(diagnosis: Diagnosis, answer: Answer, root: Path) -> None:
    "A week's offers and what becomes of them."
    import figures

    found = flow(diagnosis)
    st.subheader(f"A week with {answer.capacity:,} offers")
    parts = (
        ("reached", found.reached, "would have lapsed"),
        ("wasted", found.wasted, "would have stayed anyway"),
        ("overlooked", found.overlooked, "lapsed without an offer"),
    )
    total = sum(count for _, count, _ in parts) or 1
    bar = "".join(
        f"<div class='mlw-part mlw-{name}' style='flex:{count / total:.4f} 1 0'><b>{count:,.0f}</b><span>{words}</span></div>"
        for name, count, words in parts
    )
    st.html(
        f"<div class='mlw-parts' role='img' aria-label='{escape(found.sentence)}'>{bar}</div><p>{escape(found.sentence)}</p>"
    )
    st.subheader("What that brings")
    picture(
        figures.waterfall(found, diagnosis.currency),
        key="waterfall",
        alt="From the margin that offers keep, less their cost, to the profit of a week",
    )
    note("Amounts are a week, the mean over the weeks of the test, on the terms of the charter.")


def over_time(diagnosis: Diagnosis, answer: Answer, root: Path) -> None:
    "Week by week, with more data, and as it ages."
    import figures

    with aside("No weeks to show"):
        st.subheader("Week by week, against the rule")
        found = steadiness.weeks(diagnosis)
        picture(
            figures.columns(found.dots, diagnosis.currency),
            key="weeks",
            alt="Profit against the rule in every week of the test, with intervals",
        )
        note(f"{found.sentence} A filled dot is beyond doubt.")
    left, right = st.columns(2, gap="large")
    pictures = (
        (
            left,
            "learning",
            "Would more data help?",
            steadiness.learning,
            f"{diagnosis.unit_plural.capitalize()} learned from",
        ),
        (right, "staleness", "How fast does it age?", steadiness.staleness, "Age of the model, weeks"),
    )
    for column, key, title, reader, axis in pictures:
        with column, aside(f"No {key} curve to show"):
            st.subheader(title)
            curve = reader(diagnosis)
            picture(
                figures.curve(curve, diagnosis.currency, title=axis),
                key=key,
                alt=f"Profit a week by {axis.lower()}",
            )
            note(f"Profit a week. {curve.sentence}")


def for_whom(diagnosis: Diagnosis, answer: Answer, root: Path) -> None:
    "Group by group: ranking, and who gets the offers."
    import figures

    left, right = st.columns(2, gap="large")
    with left, aside("No groups to show"):
        st.subheader("How well it ranks, group by group")
        found = steadiness.groups(diagnosis)
        if found.worst:
            st.html(f"<p>{escape(found.worst)}</p>")
        policy = next(
            (policy for policy in answer.policies if policy.name == diagnosis.model), answer.proposal
        )
        picture(
            figures.dots(found.dots, line=policy.metrics["auc"].value, stress="warn", height=25),
            key="groups",
            alt="Area under the curve in every group, with intervals, beside that of everybody",
        )
        flagged = (
            "An orange diamond is worse beyond doubt, however many groups were looked at."
            if found.flagged
            else "No group is worse than that beyond doubt, given how many were looked at."
        )
        note(
            "The line is everybody's AUC. Where all are alike there is little to rank by, and the dot lies lower. "
            f"{flagged}"
        )
        if found.too_small:
            with st.expander(f"{len(found.too_small)} groups have too few {diagnosis.unit_plural} to judge"):
                note(", ".join(found.too_small))
    with right, aside("Nothing known about fairness"):
        st.subheader("Who gets the offers")
        shares = steadiness.fairness(diagnosis)
        if shares:
            st.html(f"<p>{escape(shares[0].sentence)}</p>")
            picture(figures.rates(shares), key="rates", alt="Share of every group that gets an offer")
            note("The share of every group that gets an offer in a week; the ends are named.")
        if len(shares) > 1:
            with st.expander("Every comparison in words"):
                st.html("".join(f"<p class='mlw-small'>{escape(row.sentence)}</p>" for row in shares))


def _lost(span: Span | None, currency: str) -> str:
    "A table cell with an amount a week and its range."
    if span is None:
        return "—"
    return f"{money(span.value, currency)}<small>{between(span, currency)}</small>"


def what_matters(diagnosis: Diagnosis, answer: Answer, root: Path) -> None:
    "Families by their worth and cost, and the features that matter most."
    import figures

    with aside("Nothing known about features"):
        names = ("features.json", "train.json", "evaluation.json", "diagnosis.json")
        files = (*(root / "reports" / name for name in names), root / "state" / "feature_costs.json")
        catalogue = cached(read_catalogue, root, files=files)
        costs = {family.name: family.cost_ms for family in families(catalogue.features)}
        words = cached(meanings, root, files=(root / "reports" / "features.json",))
        found = drivers.families(diagnosis, costs)
        st.subheader("Which families earn their keep")
        st.html(f"<p>{escape(drivers.keepers(diagnosis, found))}</p>")
        most = max((row.moved or 0 for row in found), default=0) or 1
        rows = [
            [
                escape(plain(row.family)),
                str(row.features),
                "—"
                if row.moved is None
                else f"<i class='mlw-bar' style='width:calc((100% - 3rem) * {row.moved / most:.3f})'></i>{row.moved:.0%}",
                _lost(row.lost, diagnosis.currency),
                escape(row.verdict),
                "—" if row.cost_ms is None else f"{row.cost_ms:,.0f} ms",
            ]
            for row in found
        ]
        table(
            ["Family", "-Features", "Moves the chance", "Lost without it, a week", "-Verdict", "-Cost"],
            rows,
            style="mlw-third mlw-inline",
        )
        note(
            "Moves the chance: its share of all that features add or take away (SHAP). Lost without it: profit a week when "
            "the model is trained again without the family. Cost: computing it for one date."
        )
        st.subheader("The features it would miss most")
        picture(
            figures.bars(drivers.features(diagnosis, words, count=12)),
            key="importance",
            alt="The features that the model would miss most",
        )
        note(
            "How much the average precision falls when a feature is shuffled; the thin line is one standard deviation."
        )
        st.page_link("views/features.py", label="Every feature and what it means", icon=":material/list:")


WORST = 4  # of each kind, before the reader asks for more
MISSED = ["Who and when", "Chance", "Lost", "What it went by"]


def mistakes(diagnosis: Diagnosis, answer: Answer, root: Path) -> None:
    "The most expensive misses of each kind, and what misled it."
    words = cached(meanings, root, files=(root / "reports" / "features.json",))
    cases, common = drivers.misses(diagnosis, words)
    st.subheader("Where it was most expensively wrong")
    st.html(f"<p>{escape(common)}</p>")
    for kind in dict.fromkeys(case.kind for case in cases):
        alike = [_miss(case) for case in cases if case.kind == kind]
        st.markdown(f"**{kind.capitalize()}**")
        table(MISSED, alike[:WORST], style="mlw-prose")
        if alike[WORST:]:
            with st.expander(f"{len(alike) - WORST} more"):
                table(MISSED, alike[WORST:], style="mlw-prose")
    note("▲ raised the chance, ▼ lowered it.")


def _miss(case: drivers.Miss) -> list[str]:
    "One line of the table of misses."
    told = [
        f"{'▲' if push.amount > 0 else '▼'} {escape(push.words)}: {escape(push.value)}"
        for push in case.told[:3]
    ]
    return [escape(case.title), case.chance, case.lost, "<br>".join(told)]


def small_and_fast(diagnosis: Diagnosis, answer: Answer, root: Path) -> None:
    "The champion's stand-ins for small machines."
    files = (root / "reports" / "compact.json", root / "state" / "compact_speed.json")
    found = cached(read_editions, root, files=files)
    st.subheader("Where memory or time is short")
    st.html(f"<p>{escape(found.sentence)}</p>")
    timed = any(variant.one_row_ms is not None for variant in found.rows)
    rows = [
        [
            escape(variant.label) + (" ✓" if variant.chosen else ""),
            size(variant.size_bytes),
            *([pace(variant.one_row_ms)] if timed else []),
            "—" if variant.skill is None else f"{variant.skill:.3f}",
            "the measure" if variant.loss is None else _lost(variant.loss, diagnosis.currency),
        ]
        for variant in found.rows
    ]
    heads = ["Variant", "Size", *(["One row"] if timed else []), "-AUC", "Lost a week"]
    table(heads, rows)
    note(
        "✓ marks the charter's choice. Lost: profit a week less than the champion's, on the same resamples."
        + (" One row: measured on this machine." if timed else "")
    )
    for reason in found.skipped:
        note(reason)


PARTS = {
    "How good": how_good,
    "Money": its_money,
    "Over time": over_time,
    "For whom": for_whom,
    "What matters": what_matters,
    "Mistakes": mistakes,
    "Small and fast": small_and_fast,
}

with explained("No model to show yet"):
    root = project()
    read_charter(root)
    answer = answer_of(root)
    diagnosis = cached(read_diagnosis, root, files=(root / "reports" / "diagnosis.json",))
    opening(diagnosis, answer, blessing_of(root, answer.chosen), root)

part = st.segmented_control(
    "Part",
    list(PARTS),
    default=next(iter(PARTS)),
    required=True,
    key="part",
    bind="query-params",
    label_visibility="collapsed",
)
with aside("Nothing to show here yet"):
    PARTS[part](diagnosis, answer, root)
