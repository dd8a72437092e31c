"""Rows get in once, few or many, in either database."""

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from ml_workbench.database.connections import address, connected, transaction
from ml_workbench.database.insertion import FEW, insert_missing
from ml_workbench.database.schema import upgrade
from ml_workbench.database.tables import table_of

AT = "2024-07-15 05:00:00.000000"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> sa.Engine:
    url = (
        request.getfixturevalue("postgres_url")
        if request.param == "postgres"
        else f"sqlite:///{tmp_path}/records.db"
    )
    made = connected(address(url))
    with transaction(made) as connection:
        upgrade(connection)
    yield made
    made.dispose()


def visits(numbers: range, value: float = 1.0) -> list[list]:
    "Outcomes as columns."
    count = len(numbers)
    return [
        ["visit"] * count,
        [f"v-{n}" for n in numbers],
        [f"u{n}" for n in numbers],
        [AT] * count,
        [value] * count,
        [AT] * count,
    ]


@pytest.mark.parametrize("count", [1, 2, FEW, FEW + 1, 3 * FEW])
def test_it_is_told_how_many_rows_were_new_and_the_first_stands(engine, count):
    with transaction(engine) as connection:
        assert insert_missing(connection, "outcomes", visits(range(count))) == count
        assert insert_missing(connection, "outcomes", visits(range(count), 2.0)) == 0
        assert insert_missing(connection, "outcomes", visits(range(1, count + 1), 2.0)) == 1
        values = connection.execute(sa.select(table_of("outcomes").c.value)).scalars().all()
    assert sorted(values) == [1.0] * count + [2.0]


def test_two_writers_with_the_same_rows_in_another_order_do_not_wait_for_each_other_for_ever(engine):
    forward, failed = visits(range(20)), []
    backward = [list(reversed(column)) for column in forward]

    def write(columns: list[list]) -> None:
        try:
            for _ in range(10):
                with transaction(engine) as connection:
                    insert_missing(connection, "outcomes", columns)
        except Exception as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(columns,)) for columns in (forward, backward) * 2]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert failed == []
