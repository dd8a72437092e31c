"""A new feature is a line of declaration: nothing else is written, and it is there wherever features are used."""

from dataclasses import replace
from types import SimpleNamespace

import duckdb
import pandas as pd
import pytest

from ml_workbench.data.declarations import Feature
from ml_workbench.data.features import compute_features, select_snapshots
from ml_workbench.database.connections import address, connected, transaction
from ml_workbench.database.schema import upgrade
from ml_workbench.release.declaration import columns_in, declaration_bytes, declared_from
from ml_workbench.serve.extracts import reduced
from ml_workbench.serve.online import read_online, write_online

NEW = Feature("largest_visit_4w", "max(spent)", "visits", 28, "Largest visit in four weeks", "money")


def computed(small, declared, as_ofs) -> pd.DataFrame:
    "Features of every member at some dates."
    with duckdb.connect() as connection:
        for name, table in small.tables().items():
            connection.register(name, table)
        select_snapshots(connection, declared, as_ofs, source="visits", active_days=84)
        compute_features(connection, declared)
        return connection.sql("SELECT * FROM features ORDER BY as_of, member").df()


def test_a_new_feature_is_one_line_and_is_there_in_training_in_a_batch_and_online(small, tmp_path):
    grown = replace(small.DECLARED, features=(*small.DECLARED.features, NEW))
    training = computed(small, grown, small.WEEKS)
    expected = [
        small.tables()["receipts"].query("member == @member and @begin < bought_at <= @end")["spent"].max()
        for member, end in zip(training["member"], training["as_of"])
        for begin in [end - pd.Timedelta(days=28)]
    ]
    pd.testing.assert_series_equal(
        training[NEW.name].astype("float64"), pd.Series(expected, name=NEW.name), rtol=1e-6, check_names=False
    )
    # A release carries the declaration; a batch computes of it what its model asks for.
    data = declaration_bytes(grown)
    released = reduced(declared_from(data), [NEW.name], activity="visits")
    batch = computed(small, released, small.WEEKS[-1:])
    latest = training[training["as_of"] == small.WEEKS[-1]].reset_index(drop=True)
    pd.testing.assert_series_equal(batch[NEW.name], latest[NEW.name])
    # The service looks it up.
    columns, engine = columns_in(data), connected(address(f"sqlite:///{tmp_path}/online.db"))
    with transaction(engine) as connection:
        upgrade(connection)
    rows = (
        latest[[name for name, _ in columns]].astype(object).where(latest.notna(), None).to_numpy().tolist()
    )
    write_online(engine, "4f2a", small.WEEKS[-1], columns, list(map(str, latest["member"])), rows)
    online = read_online(engine, SimpleNamespace(feature_set="4f2a", columns=columns))
    engine.dispose()
    found = [online.column(NEW.name)[online.index[str(member)]] for member in latest["member"]]
    assert found == pytest.approx(latest[NEW.name].tolist(), nan_ok=True)
