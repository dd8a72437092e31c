"""Rows get in once, by either way of bringing them; what a driver says on the way becomes a message."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_workbench.database.connections import address, connected, transaction
from ml_workbench.database.insertion import insert_missing, insert_new
from ml_workbench.database.schema import upgrade
from ml_workbench.database.tables import table_of
from ml_workbench.plan.errors import RecordError

AT = "2017-11-13 05:00:00.000000"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    "A migrated database of either kind."
    made = connected(
        address("sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    )
    with transaction(made) as connection:
        upgrade(connection)
    yield made
    made.dispose()


def columns(events: list[tuple[int, float | None]]) -> list[list]:
    "Outcomes as columns."
    names, values = [f"b{event}" for event, _ in events], [value for _, value in events]
    return [
        ["basket"] * len(events),
        names,
        ["7"] * len(events),
        [AT] * len(events),
        values,
        [AT] * len(events),
    ]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 2)), min_size=1, max_size=6),
        max_size=4,
    )
)
def test_the_first_of_each_key_stands_and_the_new_ones_are_counted(engine: sa.Engine, batches: list) -> None:
    outcomes, first = table_of("outcomes"), {}
    with transaction(engine) as connection:
        connection.execute(outcomes.delete())
    for batch in batches:
        before = len(first)
        for event, value in batch:
            first.setdefault(f"b{event}", value)
        with transaction(engine) as connection:
            assert insert_missing(connection, "outcomes", columns(batch)) == len(first) - before
        with transaction(engine) as connection:
            assert insert_new(connection, "outcomes", [columns(batch)]).new == 0
    with transaction(engine, reading=True) as connection:
        found = connection.execute(sa.select(outcomes.c.event_id, outcomes.c.value)).all()
    assert {event: value for event, value in found} == first


def test_two_tables_in_one_transaction_do_not_disturb_each_other(engine: sa.Engine) -> None:
    covariates = [["trial"] * 2, ["7", "8"], ["usual"] * 2, [1.0, 2.0], [None, None]]
    with transaction(engine) as connection:
        assert insert_missing(connection, "outcomes", columns([(1, 1)])) == 1
        assert insert_missing(connection, "covariates", covariates) == 2
        assert insert_missing(connection, "outcomes", columns([(1, 1), (2, 1)])) == 1
    with transaction(engine, reading=True) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM outcomes")).scalar() == 2


@pytest.mark.postgres
def test_what_the_driver_says_during_a_copy_is_a_message_and_nothing_is_written(postgres_url: str) -> None:
    engine = connected(address(postgres_url))
    with transaction(engine) as connection:
        upgrade(connection)
    wrong = columns([(1, 1.0), (2, 2.0)])
    wrong[2] = ["7", "a\0b"]
    for insert in (insert_missing, lambda *given: insert_new(*given[:2], [given[2]])):
        with pytest.raises(RecordError, match="mlw@") as caught, transaction(engine) as connection:
            insert(connection, "outcomes", wrong)
        assert "NUL" in str(caught.value)
    with transaction(engine, reading=True) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM outcomes")).scalar() == 0
    engine.dispose()
