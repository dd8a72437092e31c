"""Leaks that were planted are found, and nothing honest is suspected."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from ml_workbench.examine.leaks import (
    CLEAN,
    SUSPICIOUS,
    UNCHECKED,
    check_single,
    find_leaks,
    usual_loss,
)
from ml_workbench.examine.readings import feature_skills
from ml_workbench.model.snapshots import Feature, Schema, read_schema, read_slices, without_families
from ml_workbench.plan.errors import TrainingError

WINDOWS = (1, 2, 3, 4, 6, 8, 10, 12)
SCHEMA = Schema(
    "customer", "as_of", "slice", "left", "next_spend", 28, "visits_12w",
    (*(Feature(f"visits_{w}w", "number", "frequency") for w in WINDOWS), Feature("weeks_away", "number", "recency")),
)  # fmt: skip
SLICES = dict.fromkeys(range(12, 24), "train") | dict.fromkeys(range(27, 31), "validation") | {34: "test"}
UNITS = 900


@pytest.fixture(scope="module")
def visits() -> np.ndarray:
    "Weekly visits of customers with rates of their own, who fall asleep now and then."
    random = np.random.default_rng(5)
    rate, awake = random.gamma(1.2, 0.8, UNITS), np.ones((UNITS, 40), dtype=bool)
    for week in range(1, 40):
        awake[:, week] = np.where(
            awake[:, week - 1], random.random(UNITS) > 0.03, random.random(UNITS) < 0.06
        )
    return random.poisson(rate[:, None] * np.where(awake, 1.0, 0.05))


@pytest.fixture(scope="module")
def shop(visits) -> pd.DataFrame:
    "Weekly snapshots of those customers; no label beyond the validation slice, as in the diagnosis."
    total, ahead = np.pad(visits.cumsum(axis=1), ((0, 0), (1, 0))), lambda t: visits[:, t : t + 4].sum(axis=1)
    rows = pd.concat(
        pd.DataFrame(
            {
                **{f"visits_{w}w": total[:, t] - total[:, t - w] for w in WINDOWS},
                "weeks_away": np.argmax(visits[:, t - 1 :: -1] > 0, axis=1),
                "customer": range(UNITS),
                "as_of": pd.Timestamp("2024-01-01") + pd.Timedelta(weeks=t),
                "slice": name,
                "left": (ahead(t) == 0).astype(float) if name != "test" else np.nan,
                "next_spend": 30.0 * ahead(t),
                "soon": visits[:, t : t + 2].sum(axis=1),  # events after the as-of time
                "neighbour": (ahead(t - 1) == 0).astype(
                    float
                ),  # the label of a week ago, known in three weeks
            }
        )
        for t, name in SLICES.items()
    )
    return rows.reset_index(drop=True)


def looked(
    rows: pd.DataFrame, *extra: str, schema: Schema = SCHEMA, **options
) -> list[tuple[str, str | None]]:
    "Check and feature of every suspicious finding."
    wider = replace(
        schema, features=(*schema.features, *(Feature(name, "number", "extra") for name in extra))
    )
    return [(x.check, x.feature) for x in find_leaks(rows, wider, **options) if x.verdict == SUSPICIOUS]


def test_honest_snapshots_are_clean_and_every_check_says_so(shop):
    findings = find_leaks(shop, SCHEMA)
    assert [(x.check, x.verdict) for x in findings] == [
        ("single feature", CLEAN),
        ("collapse", CLEAN),
        ("undated attribute", CLEAN),
        ("overlap", CLEAN),
    ]
    assert all(x.sentence.endswith(".") for x in findings)


def test_the_label_under_noise_is_found_by_its_collapse(shop):
    noise = np.random.default_rng(1).normal(size=len(shop))
    for strength in (0.4, 0.8, 1.1):
        assert ("collapse", "noisy") in looked(shop.assign(noisy=shop["left"] + strength * noise), "noisy")


def test_a_copy_of_the_coming_spend_is_too_good_alone(shop):
    found = looked(shop.assign(spend=shop["next_spend"]), "spend")
    assert found == [("single feature", "spend"), ("collapse", "spend")]


def test_a_feature_of_events_after_the_as_of_time_is_found(shop):
    assert ("collapse", "soon") in looked(shop, "soon")


def test_the_label_of_the_same_unit_a_week_ago_is_found(shop):
    assert ("collapse", "neighbour") in looked(shop, "neighbour")


def test_several_leaks_do_not_hide_each_other(shop):
    noisy = shop["left"] + np.random.default_rng(2).normal(size=len(shop))
    found = {name for _, name in looked(shop.assign(noisy=noisy), "noisy", "soon", "neighbour", "next_spend")}
    assert found == {"noisy", "soon", "neighbour", "next_spend"}


def test_a_leak_in_a_category_or_in_what_is_missing_is_found_too(shop):
    kept = np.random.default_rng(3).random(len(shop)) < 0.9
    left = shop["left"].to_numpy() == 1
    rows = shop.assign(
        state=np.where(left & kept, "closed", "open"), called=np.where(left & kept, np.nan, 1.0)
    )
    features = (*SCHEMA.features, Feature("state", "category", "x"), Feature("called", "number", "x"))
    found = {name for _, name in looked(rows, schema=replace(SCHEMA, features=features))}
    assert found == {"state", "called"}


def test_a_leak_that_does_not_run_in_order_is_found(shop):
    noise = np.random.default_rng(4).normal(0, 0.1, len(shop))
    found = looked(shop.assign(code=np.abs(shop["next_spend"] - 60.0) * shop["left"] + noise), "code")
    assert ("single feature", "code") in found


def test_a_model_that_leans_on_a_leak_collapses_with_it(shop):
    honest, leaning = (
        -shop["visits_12w"].to_numpy(float),
        -(shop["visits_12w"] + 9 * shop["soon"]).to_numpy(float),
    )
    assert looked(shop, score=honest) == []
    assert looked(shop, score=leaning) == [("collapse", None)]
    sentence = next(x.sentence for x in find_leaks(shop, SCHEMA, score=leaning) if x.check == "collapse")
    assert sentence.startswith("The whole model loses") and "features it leans on" in sentence


def test_a_leak_hidden_in_an_honest_feature_is_found_by_the_model_that_uses_it(shop):
    names, first = SCHEMA.names, (shop["slice"] == "train").to_numpy()
    found = {}
    for name, extra in (("honest", 0), ("mixed", shop["soon"])):
        rows = shop.assign(visits_10w=shop["visits_10w"] + extra)
        table = np.sqrt(rows[names].to_numpy(float))
        score = (
            LogisticRegression(max_iter=2000).fit(table[first], rows["left"][first]).decision_function(table)
        )
        found[name] = looked(rows, score=score)
    assert found == {"honest": [], "mixed": [("collapse", None)]}


def test_a_feature_that_beats_the_whole_model_is_suspicious(shop):
    skills = feature_skills(shop[shop["left"].notna()].reset_index(drop=True), SCHEMA)
    best = max(each.auc for each in skills)
    assert [x.verdict for x in check_single(skills, limit=0.9, model_auc=best - 0.01)] == [CLEAN]
    assert SUSPICIOUS in [x.verdict for x in check_single(skills, limit=0.9, model_auc=best - 0.03)]


def test_an_attribute_kept_only_for_those_who_stayed_is_found_and_an_honest_one_is_not(shop, visits):
    stayed = visits[:, 30:].sum(axis=1) > 2
    half = np.random.default_rng(5).random(UNITS) < 0.5
    for who, expected in ((stayed, [("undated attribute", "age")]), (half, [])):
        rows = shop.assign(age=np.where(who, "young", "(missing)")[shop["customer"]])
        assert (
            looked(rows, schema=replace(SCHEMA, features=(*SCHEMA.features, Feature("age", "category", "x"))))
            == expected
        )
        assert looked(rows.assign(age=np.where(who, 30.0, np.nan)[shop["customer"]]), "age") == expected


def test_a_random_split_is_found(shop):
    shuffled = shop.assign(
        slice=np.random.default_rng(6).permutation(shop["slice"].to_numpy()), left=shop["left"].fillna(0)
    )
    assert ("overlap", None) in looked(shuffled)


def test_slices_whose_label_windows_touch_are_found_and_counted(shop):
    near = shop[shop["slice"] != "test"]
    near = near.assign(
        slice=near["slice"].where(near["as_of"] < "2024-06-10", "validation")
    )  # from week 23 on
    found = [x for x in find_leaks(near, SCHEMA) if x.check == "overlap"]
    assert [x.figure for x in found] == [3 * UNITS]  # weeks 20 to 22 look into what begins at week 23
    assert "'train'" in found[0].sentence and "7 days" in found[0].sentence


def test_exactly_a_horizon_between_slices_is_enough(shop):
    assert shop.loc[shop["slice"] == "validation", "as_of"].min() - pd.Timedelta(days=28) == (
        shop.loc[shop["slice"] == "train", "as_of"].max()
    )
    assert looked(shop) == []
    assert ("overlap", None) in looked(shop, schema=replace(SCHEMA, horizon_days=29))


def test_a_snapshot_in_two_slices_is_found(shop):
    again = shop[shop["slice"] == "train"].head(3).assign(slice="validation")
    assert any(
        "3 of" in x.sentence for x in find_leaks(pd.concat([shop, again]), SCHEMA) if x.check == "overlap"
    )


def test_learning_from_weeks_after_those_judged_is_found(shop):
    swapped = shop.assign(slice=shop["slice"].replace({"train": "validation", "validation": "train"}))
    assert any("order of time" in x.sentence for x in find_leaks(swapped, SCHEMA))


def test_labels_of_other_slices_are_never_read(shop):
    assert shop.loc[shop["slice"] == "test", "left"].isna().all()
    flipped = shop.assign(left=shop["left"].fillna(1.0))
    assert find_leaks(shop, SCHEMA) == find_leaks(flipped, SCHEMA)


def test_the_order_of_rows_decides_nothing(shop):
    shuffled = shop.sample(frac=1, random_state=1)
    for one, other in zip(find_leaks(shop, SCHEMA), find_leaks(shuffled, SCHEMA), strict=True):
        assert (one.check, one.verdict) == (other.check, other.verdict)
        assert one.figure == pytest.approx(other.figure) if one.figure is not None else other.figure is None


def test_without_older_snapshots_the_check_says_that_it_could_not_look(shop):
    one = shop[shop["as_of"].isin(pd.to_datetime(["2024-03-25", "2024-07-29"]))]
    collapse = next(x for x in find_leaks(one, SCHEMA) if x.check == "collapse")
    assert collapse.verdict == UNCHECKED and "28 days older" in collapse.sentence


def test_useless_columns_do_no_harm(shop):
    odd = {"constant": 1.0, "empty": np.nan, "endless": np.where(shop["customer"] == 1, np.inf, -np.inf)}
    assert looked(shop.assign(**odd), *odd) == []


def test_with_few_features_only_a_large_loss_stands_out(shop):
    few = replace(SCHEMA, features=SCHEMA.features[:2])
    assert usual_loss(feature_skills(shop[shop["left"].notna()].reset_index(drop=True), few)) == (
        0.0,
        pytest.approx(0.14),
    )
    assert looked(shop, "soon", schema=few) == [("collapse", "soon")]


def test_what_is_missing_is_said_plainly(shop):
    with pytest.raises(TrainingError, match="no snapshots in slice 'validation'"):
        find_leaks(shop[shop["slice"] == "train"], SCHEMA)
    with pytest.raises(TrainingError, match="have no label 'left'"):
        find_leaks(shop.assign(left=shop["left"].where(shop["customer"] != 4)), SCHEMA)
    with pytest.raises(TrainingError, match="score is missing"):
        find_leaks(shop, SCHEMA, score=np.full(len(shop), np.nan))
    with pytest.raises(TrainingError, match="5 scores for"):
        find_leaks(shop, SCHEMA, score=np.zeros(5))


REAL = Path(__file__).parents[2] / "data" / "features"


@pytest.fixture(scope="module")
def real() -> tuple[pd.DataFrame, Schema]:
    "The default problem's snapshots, with the labels of later slices removed."
    if not (REAL / "snapshots.parquet").is_file():
        pytest.skip("data/features/ is not produced yet: run `dvc repro features`")
    schema = read_schema(REAL / "schema.json")
    rows = read_slices(REAL / "snapshots.parquet", schema, ["train", "validation", "test", "next"])
    later = ~rows[schema.slice].isin(["train", "validation"])
    return rows.assign(**{name: rows[name].mask(later) for name in (schema.label, schema.value)}), schema


def test_the_real_features_are_clean_and_the_withheld_ones_are_found(real):
    rows, schema = real
    withheld = {x.name for x in schema.features if x.family == "demographics"}
    assert looked(rows, schema=without_families(schema, ["demographics"])) == []
    assert set(looked(rows, schema=schema)) == {("undated attribute", name) for name in withheld}


def test_leaks_planted_in_the_real_snapshots_are_found_and_nothing_else(real):
    rows, schema = real
    label, random = rows[schema.label].astype(float), np.random.default_rng(8)
    ago = pd.MultiIndex.from_arrays([rows[schema.entity], rows[schema.time] - pd.Timedelta(days=7)])
    known = pd.Series(label.to_numpy(), index=pd.MultiIndex.from_frame(rows[[schema.entity, schema.time]]))
    planted = {
        "noisy": label + random.normal(0, 1.0, len(rows)),
        "copy": rows[schema.value],
        "neighbour": known.reindex(ago).to_numpy(),
    }
    found = looked(rows.assign(**planted), *planted, schema=without_families(schema, ["demographics"]))
    assert {name for _, name in found} == set(planted)
