"""Every database comes to the tables of this version: from nothing, from any revision, also when two ask at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from ml_workbench.database.connections import transaction
from ml_workbench.database.schema import REVISIONS, differences, head, revision_of
from ml_workbench.database.tables import TABLES
from ml_workbench.plan.errors import RecordError
from ml_workbench.serve.records import Records


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    "An empty database, of either kind."
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path}/deep/down/records.db"


def test_the_newest_revision_has_the_tables_of_the_definition(url: str) -> None:
    with Records(url) as records:
        records.migrate()
        with transaction(records.engine) as connection:
            assert differences(connection) == []
            assert revision_of(connection) == head()
            assert {*sa.inspect(connection).get_table_names()} == {*TABLES.tables, "alembic_version"}


def test_columns_types_and_keys_are_those_of_the_definition(url: str) -> None:
    with Records(url) as records:
        records.migrate()
        with transaction(records.engine) as connection:
            found = sa.inspect(connection)
            for name, table in TABLES.tables.items():
                columns = {each["name"]: each for each in found.get_columns(name)}
                assert list(columns) == table.columns.keys()
                assert (
                    found.get_pk_constraint(name)["constrained_columns"] == table.primary_key.columns.keys()
                )
                for column in table.columns:
                    assert columns[column.name]["nullable"] == column.nullable, f"{name}.{column.name}"
                    assert columns[column.name]["type"]._type_affinity is column.type._type_affinity


def test_migrating_again_keeps_what_is_there(url: str) -> None:
    row = {"experiment": "trial", "unit": "7", "name": "usual", "number": 1.5}
    with Records(url) as records:
        records.migrate()
        records.write("covariates", [row])
        records.migrate()
        assert records.read("covariates").to_pylist() == [row | {"level": None}]


def test_processes_that_start_at_once_migrate_once(url: str) -> None:
    def migrate(_: int) -> None:
        with Records(url) as records:
            records.migrate()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(migrate, range(6)))
    with Records(url) as records, transaction(records.engine) as connection:
        assert differences(connection) == []
        assert connection.execute(sa.text("SELECT count(*) FROM alembic_version")).scalar() == 1


def test_a_migration_that_fails_leaves_nothing_behind(url: str) -> None:
    with Records(url) as records:
        with transaction(records.engine) as connection:
            connection.execute(
                sa.text("CREATE TABLE outcomes (somebody TEXT)")
            )  # in the way of the last step
        with pytest.raises(RecordError, match="outcomes"):
            records.migrate()
        with transaction(records.engine) as connection:
            assert sa.inspect(connection).get_table_names() == ["outcomes"]


def test_a_database_of_a_newer_version_is_left_alone(url: str) -> None:
    with Records(url) as records:
        records.migrate()
        with transaction(records.engine) as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(RecordError, match=r"9999.*update ml-workbench"):
            records.migrate()


def revisions() -> ScriptDirectory:
    "The revisions, as Alembic's own command line would see them."
    config = Config()
    config.set_main_option("script_location", REVISIONS)
    config.set_main_option("version_locations", REVISIONS)
    config.set_main_option("path_separator", "space")
    return ScriptDirectory.from_config(config)


def test_revisions_are_one_line_from_nothing_to_the_head() -> None:
    found = revisions()
    assert len(found.get_heads()) == len(found.get_bases()) == 1
    steps = list(found.walk_revisions())
    assert [step.revision for step in reversed(steps)] == [f"{i + 1:04}" for i in range(len(steps))]


def test_every_revision_stands_alone() -> None:
    "History does not import today's definition, which may change."
    for step in revisions().walk_revisions():
        text = Path(step.path).read_text()
        assert "ml_workbench.serve" not in text and "from .." not in text and "from ." not in text


def test_migrating_needs_neither_notebooks_nor_a_configuration_file(
    run_python: Callable, tmp_path: Path
) -> None:
    code = "from ml_workbench.serve.records import Records; Records('sqlite:///here.db').migrate(); print('done')"
    done = run_python("-c", code, cwd=tmp_path)
    assert done.stdout == "done\n" and done.stderr == "" and (tmp_path / "here.db").is_file()


def test_the_newest_step_can_be_taken_back_and_again_and_what_came_before_stays(url: str) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    from ml_workbench.database.migrations import r0004_feeds as newest

    row = {"experiment": "trial", "unit": "7", "name": "usual", "number": 1.5}
    with Records(url) as records:
        records.migrate()
        records.write("covariates", [row])
        with transaction(records.engine) as connection, Operations.context(MigrationContext.configure(connection)):  # fmt: skip
            assert newest.revision == head() == "0004" and newest.down_revision == "0003"
            newest.downgrade()
            assert "feeds" not in sa.inspect(connection).get_table_names() and differences(connection)
            newest.upgrade()
        with transaction(records.engine) as connection:
            assert differences(connection) == []
        assert records.read("covariates").to_pylist() == [row | {"level": None}]


def test_a_database_of_the_version_before_comes_to_this_one(url: str) -> None:
    from ml_workbench.database.schema import upgrade

    with Records(url) as records:
        with transaction(records.engine) as connection:
            upgrade(connection, to="0003")
            assert "feeds" not in sa.inspect(connection).get_table_names()
        records.migrate()
        assert records.read("feeds").num_rows == 0
