"""What a metric looks like without an action: from figures, from tables, from the weeks before."""

import math
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_workbench.estimators.moments import moments_of
from ml_workbench.experiment.planner import History, design_effect, history_before, history_from, history_of
from ml_workbench.plan.errors import ExperimentError
from ml_workbench.plan.experiment import Arm, Experiment, Metric

RNG = np.random.default_rng(8)
BEFORE = RNG.gamma(2, 20, 3000)
SPEND = 0.8 * BEFORE + RNG.gamma(2, 10, 3000)
VISITS = RNG.integers(1, 6, 3000)
TABLE = pa.table(
    {
        "before": BEFORE,
        "spend": SPEND,
        "visits": VISITS,
        "came": (SPEND > 40).astype(int),
        "noise": RNG.normal(size=3000),
    }
)


# From tables -----------------------------------------------------------------------------------------------


def test_a_table_gives_mean_spread_and_what_is_known_beforehand() -> None:
    known = history_from(TABLE, "spend", kind="revenue", covariates=["before", "noise"], at_start=3000)
    assert (known.mean, known.spread) == (pytest.approx(SPEND.mean()), pytest.approx(SPEND.std(ddof=1)))
    assert known.r2 == pytest.approx(np.corrcoef(BEFORE, SPEND)[0, 1] ** 2, abs=2e-3)
    assert (known.units, known.at_start, known.metric) == (3000, 3000, "spend")


def test_the_share_explained_is_the_adjusted_one() -> None:
    import statsmodels.api as sm

    fitted = sm.OLS(SPEND[:40], sm.add_constant(np.column_stack([BEFORE, TABLE["noise"]])[:40])).fit()
    few = history_from(TABLE.slice(0, 40), "spend", covariates=["before", "noise"])
    assert few.r2 == pytest.approx(fitted.rsquared_adj)
    assert history_from(TABLE.slice(0, 40), "noise", covariates=["visits"]).r2 < 0.1


def test_a_proportion_varies_as_its_rate_says() -> None:
    known = history_from(TABLE, "came", kind="proportion")
    assert known.spread == pytest.approx(math.sqrt(known.mean * (1 - known.mean)))
    with pytest.raises(ExperimentError, match="spend is no proportion"):
        history_from(pa.table({"spend": SPEND / SPEND.max()}), "spend", kind="proportion")


def test_a_ratio_varies_as_the_delta_method_says() -> None:
    known = history_from(TABLE, "spend", denominator="visits", covariates=["before"])
    ratio = SPEND.sum() / VISITS.sum()
    linear = (SPEND - ratio * VISITS) / VISITS.mean()
    assert (known.kind, known.mean, known.spread) == (
        "ratio",
        pytest.approx(ratio),
        pytest.approx(linear.std(ddof=1)),
    )
    resampled = [SPEND[draw].sum() / VISITS[draw].sum() for draw in RNG.integers(0, 3000, (2000, 3000))]
    assert known.spread / math.sqrt(3000) == pytest.approx(np.std(resampled), rel=0.06)


def test_a_cap_makes_a_metric_vary_less() -> None:
    assert history_from(TABLE, "spend", cap=0.9).spread < history_from(TABLE, "spend").spread


@pytest.mark.parametrize("form", ["file", "folder", "relation", "sql", "frame", "opened"])
def test_a_table_may_be_anything(form: str, tmp_path) -> None:
    import duckdb

    pq.write_table(TABLE, tmp_path / "units.parquet")
    connection = duckdb.connect()
    connection.register("units_seen", TABLE)
    given = {
        "file": str(tmp_path / "units.parquet"), "folder": tmp_path, "relation": connection.table("units_seen"),
        "sql": "SELECT * FROM units_seen", "frame": TABLE.to_pandas(),
        "opened": lambda query: connection.execute(query.replace("{units}", "units_seen")).fetchall(),
    }[form]  # fmt: skip
    found = history_from(
        given, "spend", covariates=["before"], connection=connection if form == "sql" else None
    )
    assert found == history_from(TABLE, "spend", covariates=["before"])


@pytest.mark.postgres
def test_history_comes_out_of_postgresql(postgres_url: str) -> None:
    import psycopg

    from ml_workbench.experiment.tables import open_table

    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE units (spend float8, before float8)")
        with connection.cursor().copy("COPY units FROM STDIN") as copy:
            for row in zip(SPEND.tolist(), BEFORE.tolist(), strict=True):
                copy.write_row(row)
    with open_table(f"{postgres_url}?table=units") as table:
        found = history_from(table.ask, "spend", covariates=["before"])
    assert found == history_from(TABLE, "spend", covariates=["before"])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"spend": pa.array([], pa.float64())}, "empty"),
        ({"spend": [1.0, 2.0]}, "a history of 2 units says nothing"),
        ({"spend": [5.0] * 9}, r"history of spend: sd must be above 0, got 0.0: what never varies"),
        ({"spend": [1.0, None, 2.0, 3.0]}, "NULL in 1 of 4 rows"),
        ({"spend": ["a", "b", "c", "d"]}, "VARCHAR, not a number"),
        ({"spend": [1.0, math.inf, 2.0, 3.0]}, "infinite"),
        ({"spent": [1.0, 2.0, 3.0, 4.0]}, "no column 'spend', did you mean 'spent'"),
    ],
)  # fmt: skip
def test_a_table_that_says_nothing_is_refused(table: dict, said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        history_from(pa.table(table), "spend")


def test_missing_outcomes_are_what_was_declared() -> None:
    gaps = pa.table({"spend": [1.0, None, 2.0, 3.0]})
    assert history_from(gaps, "spend", nulls="zero").mean == 1.5
    assert history_from(gaps, "spend", nulls="drop").mean == 2.0


# From moments and figures ----------------------------------------------------------------------------------


def test_moments_are_enough() -> None:
    rows = np.column_stack([SPEND, BEFORE])
    from_moments = history_of(moments_of(["spend", "before"], rows), "spend", covariates=["before"])
    assert from_moments.r2 == pytest.approx(history_from(TABLE, "spend", covariates=["before"]).r2)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"mean": 10, "kind": "proportion"}, r"a base rate lies between 0 and 1, got 10 \(10% is 0.1\)"),
        ({"mean": 0.0, "kind": "proportion"}, "a base rate lies between 0 and 1, got 0"),
        ({"mean": 1.0, "kind": "proportion"}, "got 1"),
        ({"mean": -0.1, "kind": "proportion"}, "got -0.1"),
        ({"mean": 10.0}, "sd is missing"),
        ({"mean": 10.0, "sd": -1.0}, "sd must be above 0, got -1.0"),
        ({"mean": math.nan, "sd": 1.0}, "figures must be finite"),
        ({"mean": 1.0, "sd": math.inf}, "figures must be finite"),
        ({"mean": 1.0, "sd": 1.0, "r2": 1.0}, "r2 is a share from 0 to below 1, got 1"),
        ({"mean": 1.0, "sd": 1.0, "units_per_week": -10}, "units_per_week cannot be negative, got -10"),
        ({"mean": 1.0, "sd": 1.0, "at_start": -1}, "at_start cannot be negative"),
        ({"mean": 1.0, "sd": 1.0, "kind": "means"}, "no kind 'means', did you mean 'mean'"),
        ({"mean": 1.0, "sd": 1.0, "metric": "spend", "design_effect": 0.0}, "history of spend: a design effect is above 0"),
    ],
)  # fmt: skip
def test_impossible_figures_are_refused(figures: dict, said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        History(**figures)


def test_alike_units_in_clusters_tell_less() -> None:
    assert design_effect(1, 0.9) == 1
    assert design_effect(21, 0.05) == pytest.approx(2)
    assert design_effect(21, 0.05, variation=1.0) == pytest.approx(3.05)
    for size, correlation in ((0, 0.1), (5, -0.1), (5, 1.1)):
        with pytest.raises(ExperimentError, match="a cluster has at least 1 unit"):
            design_effect(size, correlation)


# From the weeks before -------------------------------------------------------------------------------------

START = datetime(2030, 3, 4)
METRICS = [
    Metric(name="spend", label="spend", kind="revenue", outcome="basket", of="sum"),
    Metric(name="visits", label="visits", kind="mean", outcome="basket", of="count"),
    Metric(name="came", label="came", kind="proportion", outcome="basket", of="any"),
    Metric(name="per visit", label="per visit", kind="ratio", numerator="spend", denominator="visits"),
]
PLAN = Experiment(
    name="trial", namespace="offers", holdout=0.1, control="a", primary="spend", horizon_days=28, covariates=["usual"],
    arms=[Arm(name=name, policy="none", weight=0.5) for name in "ab"], metrics=METRICS,
)  # fmt: skip


@pytest.fixture
def snapshots(tmp_path):
    "Six weeks of a hundred units; ten more from the fourth week on."
    weeks = [START - timedelta(weeks=week) for week in range(8, 1, -1)]
    rows = [
        (unit, week, float(unit))
        for place, week in enumerate(weeks)
        for unit in range(100 + 10 * (place >= 5))
    ]
    names, times, usual = zip(*rows, strict=True)
    path = tmp_path / "snapshots.parquet"
    pq.write_table(
        pa.table({"shopper": names, "as_of": pa.array(times, pa.timestamp("us")), "usual": usual}), path
    )
    return path


def baskets(*events: tuple[int, datetime, float]) -> dict[str, pa.Table]:
    units, times, values = zip(*events, strict=True)
    return {
        "basket": pa.table(
            {
                "unit": list(map(str, units)),
                "occurred_at": pa.array(times, pa.timestamp("us")),
                "value": values,
            }
        )
    }


def before(path, outcomes: dict, **other) -> History:
    return history_before(
        PLAN, snapshots=path, outcomes=outcomes, unit="shopper", time="as_of", start=START, **other
    )


AS_OF = START - timedelta(weeks=4)  # the last date whose horizon ends before the start
OUTCOMES = baskets(
    (1, AS_OF, 1000.0),  # at the as-of time: known by then
    (1, AS_OF + timedelta(seconds=1), 30.0),
    (1, START, 10.0),  # the last moment of the horizon
    (2, START + timedelta(seconds=1), 5000.0),  # of the experiment itself
    (3, AS_OF + timedelta(days=3), 60.0),
    (999, AS_OF + timedelta(days=3), 777.0),  # who was not there
)


def test_only_what_a_plan_could_know_is_looked_at(snapshots) -> None:
    known = before(snapshots, OUTCOMES)
    assert (known.units, known.mean, known.metric) == (100, pytest.approx(100 / 100), "spend")
    assert before(snapshots, OUTCOMES, metric="visits").mean == pytest.approx(3 / 100)
    assert before(snapshots, OUTCOMES, metric="came").mean == pytest.approx(2 / 100)
    assert before(snapshots, OUTCOMES, metric="per visit").mean == pytest.approx(100 / 3)


def test_units_that_are_there_and_those_that_join_are_told_apart(snapshots) -> None:
    known = before(snapshots, OUTCOMES)
    assert (known.at_start, known.units_per_week) == (100, pytest.approx(10 / 4))


def test_without_a_whole_horizon_before_the_start_there_is_no_history(snapshots) -> None:
    with pytest.raises(
        ExperimentError, match=r"no snapshot is one horizon \(28 days\) older than the start, 2030-01-10"
    ):
        history_before(
            PLAN,
            snapshots=snapshots,
            outcomes=OUTCOMES,
            unit="shopper",
            time="as_of",
            start=datetime(2030, 1, 10),
        )


def test_outcomes_that_nobody_brought_are_asked_for(snapshots) -> None:
    with pytest.raises(ExperimentError, match="no outcomes 'basket', did you mean 'baskets'"):
        before(snapshots, {"baskets": OUTCOMES["basket"]})


def test_covariates_must_be_in_the_snapshots(snapshots) -> None:
    with pytest.raises(ExperimentError, match="no column 'usually', did you mean 'usual'"):
        history_before(
            PLAN.model_copy(update={"covariates": ["usually"]}), snapshots=snapshots, outcomes=OUTCOMES,
            unit="shopper", time="as_of", start=START,
        )  # fmt: skip
