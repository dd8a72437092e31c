"""The default features: many, well described, and blind to the future."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.data.definitions import ACTIVITY, LABEL, USUAL_SPEND, VALUE, declare, describe_schema
from ml_workbench.data.features import check_features, compute_features, compute_labels, select_snapshots
from ml_workbench.plan.errors import FeatureError
from ml_workbench.plan.params import load_params

AS_OFS = tuple(datetime(2017, 4, 3, 5) + timedelta(days=7 * n) for n in range(4))
BEGIN = datetime(2017, 1, 1, 12)
DEPARTMENTS = ("GROCERY", "FUEL", "PRODUCE", "MEAT")


def make_market(seed: int = 7) -> duckdb.DuckDBPyConnection:
    "A small market with the eight tables of the default source."
    rng = random.Random(seed)
    connection = duckdb.connect(config={"threads": 2})
    connection.execute(
        "CREATE TABLE products (product_id BIGINT, department VARCHAR, product_category VARCHAR, brand VARCHAR)"
    )
    connection.executemany(
        "INSERT INTO products VALUES (?, ?, ?, ?)",
        [(n, DEPARTMENTS[n % 4], f"C{n % 7}", "Private" if n % 3 else "National") for n in range(1, 20)],
    )
    connection.execute(
        """CREATE TABLE transactions (household_id BIGINT, store_id BIGINT, basket_id BIGINT, product_id BIGINT,
           sales_value DECIMAL(12,2), retail_disc DECIMAL(12,2), coupon_disc DECIMAL(12,2), coupon_match_disc DECIMAL(12,2),
           week BIGINT, transaction_timestamp TIMESTAMP)"""
    )
    lines = []
    for basket in range(300):
        who, store, when = (
            rng.randint(1, 12),
            rng.randint(1, 3),
            BEGIN + timedelta(minutes=rng.randint(0, 60 * 24 * 140)),
        )
        bought = [(rng.randint(1, 20), rng.randint(0, 2000) / 100) for _ in range(rng.randint(1, 6))]
        lines += make_basket(who, basket, when, store, bought)
    connection.executemany(INSERT_LINE, lines)
    connection.execute(
        "CREATE TABLE promotions (product_id BIGINT, store_id BIGINT, display_location VARCHAR, mailer_location VARCHAR, week BIGINT)"
    )
    rows = [
        (rng.randint(1, 19), rng.randint(1, 3), rng.choice("0139"), rng.choice("0AD"), rng.randint(1, 20))
        for _ in range(400)
    ]
    connection.executemany("INSERT INTO promotions VALUES (?, ?, ?, ?, ?)", rows + rows[:50])
    connection.execute(
        "CREATE TABLE coupon_redemptions (household_id BIGINT, coupon_upc BIGINT, campaign_id BIGINT, redemption_date TIMESTAMP)"
    )
    connection.executemany(
        "INSERT INTO coupon_redemptions VALUES (?, 1, ?, ?)",
        [
            (rng.randint(1, 6), rng.randint(1, 5), datetime(2017, 1, 1) + timedelta(days=rng.randint(0, 130)))
            for _ in range(40)
        ],
    )
    connection.execute(
        "CREATE TABLE campaign_descriptions (campaign_id BIGINT, campaign_type VARCHAR, start_date TIMESTAMP, end_date TIMESTAMP)"
    )
    connection.executemany(
        "INSERT INTO campaign_descriptions VALUES (?, 'Type A', ?, ?)",
        [
            (
                n,
                datetime(2017, 1, 23) + timedelta(days=21 * n),
                datetime(2017, 2, 23) + timedelta(days=21 * n),
            )
            for n in range(1, 6)
        ],
    )
    connection.execute(
        "CREATE TABLE campaigns AS SELECT c AS campaign_id, h AS household_id FROM range(1, 6) AS a(c), range(1, 8) AS b(h) WHERE (c + h) % 2 = 0"
    )
    names = "age, income, home_ownership, marital_status, household_size, household_comp, kids_count"
    connection.execute(
        f"CREATE TABLE demographics AS SELECT * FROM (VALUES (1, '25-34', '50-74K', NULL, 'Married', '2', '2 Adults No Kids', '0')) AS t(household_id, {names})"
    )
    return connection


INSERT_LINE = "INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def make_basket(who: int, basket: int, when: datetime, store: int, lines: list[tuple]) -> list[tuple]:
    "The rows of one receipt."
    week = (when - datetime(2016, 12, 26, 5)).days // 7 + 1
    return [
        (who, store, basket, product, spend, round(spend / 10, 2), basket % 3 / 10, 0, week, when)
        for product, spend in lines
    ]


@pytest.fixture
def market() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = make_market()
    yield connection
    connection.close()


def compute(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    declared = declare()
    select_snapshots(connection, declared, AS_OFS, source=ACTIVITY, active_days=84)
    return compute_features(connection, declared).df()


def test_there_are_many_features_and_each_is_explained() -> None:
    declared = declare()
    assert len(declared.columns) >= 70
    assert all(item.meaning and item.family for item in declared.columns)
    assert len({item.meaning for item in declared.columns}) == len(declared.columns)
    assert {item.days for item in declared.features} == {7, 28, 84, None}
    families = {item.family for item in declared.columns}
    assert {
        "recency",
        "frequency",
        "money",
        "regularity",
        "breadth",
        "trend",
        "coupons",
        "campaigns",
        "promotions",
        "demographics",
    } <= families


def test_the_charter_finds_its_rule_among_the_features(root) -> None:
    names = {item.name for item in declare().columns}
    assert {load_params(root).charter.baseline.feature, USUAL_SPEND} <= names


def test_the_schema_names_what_the_upper_layers_need() -> None:
    declared = declare(horizon_days=14)
    schema = describe_schema(declared)
    assert (schema["entity"], schema["time"], schema["label"], schema["value"]) == (
        "household_id",
        "as_of",
        LABEL,
        VALUE,
    )
    assert schema["horizon_days"] == 14
    assert [item["name"] for item in schema["features"]] == [item.name for item in declared.columns]
    assert {item["kind"] for item in schema["features"]} == {"number", "category"}


def test_every_definition_fits_the_tables(market: duckdb.DuckDBPyConnection) -> None:
    check_features(market, declare())


def test_known_households_have_known_values(market: duckdb.DuckDBPyConnection) -> None:
    as_of = AS_OFS[-1]
    days = [1, 4, 10, 40]
    for number, ago in enumerate(days):
        lines = [(1, 10.0), (2, 20.0)] if number % 2 else [(1, 30.0)]
        market.executemany(
            INSERT_LINE, make_basket(99, 1000 + number, as_of - timedelta(days=ago), 1 + number % 2, lines)
        )
    rows = compute(market).set_index(["household_id", "as_of"])
    row = rows.loc[(99, as_of)]
    wanted = {
        "days_since_basket": 1, "tenure_days": 40, "baskets_1w": 2, "baskets_4w": 3, "baskets_12w": 4, "spend_1w": 60, "spend_12w": 120,
        "usual_weekly_spend": 10, "mean_basket_12w": 30, "sd_basket_12w": 0, "largest_basket_12w": 30, "mean_gap_12w": 13,
        "longest_gap": 30, "overdue_ratio": 1 / 13, "products_12w": 2, "stores_12w": 2, "departments_12w": 2,
        "fuel_share_12w": 80 / 120, "private_label_share_12w": 1.0, "spend_change_4w": 90 - 15, "campaigns": 0, "redemptions_12w": 0,
        "discount_share_12w": 12 / 132, "active_weeks_4w": 2,
    }  # fmt: skip
    got = {name: float(row[name]) for name in wanted}
    assert got == pytest.approx(wanted, rel=1e-6)
    assert row["age"] == "(missing)" and rows.loc[(1, as_of), "age"] == "25-34"
    assert rows.loc[(1, as_of), "home_ownership"] == "(missing)"


def test_a_promotion_counts_once_however_often_it_is_listed(market: duckdb.DuckDBPyConnection) -> None:
    as_of = AS_OFS[-1]
    market.execute("DELETE FROM promotions")
    when = as_of - timedelta(days=3)
    week = (when - datetime(2016, 12, 26, 5)).days // 7 + 1
    market.executemany(INSERT_LINE, make_basket(99, 1000, when, 1, [(1, 30.0), (2, 10.0)]))
    market.execute("INSERT INTO promotions SELECT 1, 1, '9', '0', ? FROM range(3)", [week])
    market.execute("INSERT INTO promotions VALUES (2, 2, '9', 'A', ?), (2, 1, '0', 'A', ?)", [week, week + 1])
    row = compute(market).set_index(["household_id", "as_of"]).loc[(99, as_of)]
    assert (row["display_share_12w"], row["mailer_share_12w"]) == (0.75, 0)


def test_a_coupon_is_known_only_when_its_day_has_ended(market: duckdb.DuckDBPyConnection) -> None:
    monday = AS_OFS[-1].replace(hour=0)
    market.execute("DELETE FROM coupon_redemptions")
    market.execute(
        "INSERT INTO coupon_redemptions VALUES (1, 1, 1, ?), (1, 2, 1, ?)",
        [monday, monday - timedelta(days=1)],
    )
    row = compute(market).set_index(["household_id", "as_of"]).loc[(1, AS_OFS[-1])]
    assert (row["redemptions_4w"], row["days_since_redemption"]) == (1, 0)


def test_a_campaign_is_known_from_its_first_day_and_active_until_its_last(
    market: duckdb.DuckDBPyConnection,
) -> None:
    monday = AS_OFS[1].replace(hour=0)
    market.execute("DELETE FROM campaigns")
    market.execute("DELETE FROM campaign_descriptions")
    market.execute(
        "INSERT INTO campaign_descriptions VALUES (1, 'Type A', ?, ?)", [monday, monday + timedelta(days=6)]
    )
    market.execute("INSERT INTO campaigns VALUES (1, 1)")
    rows = compute(market).set_index(["household_id", "as_of"]).loc[1]
    assert rows["campaigns"].reindex(AS_OFS).tolist() == [0, 1, 1, 1]
    assert rows["campaigns_active"].reindex(AS_OFS).tolist() == [0, 1, 0, 0]


def test_labels_say_who_stayed_away_and_what_the_others_spent(market: duckdb.DuckDBPyConnection) -> None:
    compute(market)
    labels = compute_labels(market, declare(7), known_until=AS_OFS[-1]).df()
    assert labels.loc[labels["as_of"] == AS_OFS[-1], LABEL].isna().all()
    for row in labels[labels["as_of"] < AS_OFS[-1]].itertuples():
        query = """SELECT count(*), coalesce(sum(sales_value), 0) FROM transactions
                   WHERE household_id = ? AND transaction_timestamp > ? AND transaction_timestamp <= ?"""
        moment = row.as_of.to_pydatetime()
        lines, spend = market.execute(
            query, [row.household_id, moment, moment + timedelta(days=7)]
        ).fetchall()[0]
        assert (row.lapsed, row.next_spend) == (lines == 0, float(spend))


def test_no_label_that_could_be_known_is_refused(market: duckdb.DuckDBPyConnection) -> None:
    compute(market)
    with pytest.raises(FeatureError, match=r"no snapshot has 28 days.*2017-04-24 05:00"):
        compute_labels(market, declare(), known_until=AS_OFS[-1])


@pytest.fixture(scope="module")
def known() -> Iterator[tuple[duckdb.DuckDBPyConnection, pd.DataFrame]]:
    "A market and its features, for tests that leave it as they found it."
    connection = make_market()
    yield connection, compute(connection)
    connection.close()


LATER = st.integers(1, 10**12)  # microseconds after the cut


@settings(max_examples=20, deadline=None)
@given(
    cut=st.sampled_from(AS_OFS),
    baskets=st.lists(
        st.tuples(
            st.integers(1, 14),
            st.integers(250, 400),
            LATER,
            st.integers(1, 4),
            st.integers(1, 25),
            st.integers(0, 10**6),
        ),
        max_size=8,
    ),
    coupons=st.lists(st.tuples(st.integers(1, 14), st.integers(0, 40)), max_size=5),
    campaigns=st.lists(st.tuples(st.integers(1, 14), st.integers(1, 40)), max_size=5),
)
def test_nothing_that_happens_later_changes_a_feature(
    known: tuple, cut: datetime, baskets: list, coupons: list, campaigns: list
) -> None:
    market, before = known
    day = cut.replace(hour=0)
    market.begin()
    try:
        for who, basket, wait, store, product, cents in baskets:  # some continue an old receipt
            market.executemany(
                INSERT_LINE,
                make_basket(who, basket, cut + timedelta(microseconds=wait), store, [(product, cents / 100)]),
            )
        for who, wait in coupons:  # from the day of the cut itself on
            market.execute(
                "INSERT INTO coupon_redemptions VALUES (?, 1, 1, ?)", [who, day + timedelta(days=wait)]
            )
        for number, (who, wait) in enumerate(campaigns, start=100):
            starts = day + timedelta(days=wait)
            market.execute(
                "INSERT INTO campaign_descriptions VALUES (?, 'Type B', ?, ?)",
                [number, starts, starts + timedelta(days=30)],
            )
            market.execute("INSERT INTO campaigns VALUES (?, ?)", [number, who])
        after = compute(market)
    finally:
        market.rollback()
    assert after[after["as_of"] <= cut].equals(before[before["as_of"] <= cut])
