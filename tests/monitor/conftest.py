"""Records that monitors read and write, in both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ml_workbench.database.connections import address, connected, transaction
from ml_workbench.database.schema import upgrade


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    "Records with all their tables, and nothing in them."
    engine = connected(address(url))
    with transaction(engine) as connection:
        upgrade(connection)
    yield engine
    engine.dispose()
