"""One decision taken apart: the same score to the last bit, shares that add up, and what cannot be told is said."""

import json
import shutil
from dataclasses import replace

import numpy as np
import orjson
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml_workbench.database.connections import address, connected, transaction
from ml_workbench.database.tables import table_of
from ml_workbench.model.snapshots import write_table
from ml_workbench.monitor import explaining
from ml_workbench.monitor.explaining import distances, explain, hash_of
from ml_workbench.monitor.shares import added_up, log_odds, sampled, shares_of, usual_row
from ml_workbench.plan.errors import MonitorError, RecordError
from ml_workbench.release.loading import Loaded, loaded
from ml_workbench.release.reference import reference_from
from ml_workbench.run.cli import cli
from ml_workbench.serve.batch import Order, score
from ml_workbench.serve.deciding import Decider, matrix_of
from ml_workbench.serve.live import live
from ml_workbench.serve.refreshing import refresh
from ml_workbench.serve.requests import Question
from tests.serve.shop import MONDAY, SHOP, project, small


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A shop that has decided about everybody at once."
    root = tmp_path_factory.mktemp("shop")
    settings = project(root)
    refresh(MONDAY, "tables", settings, tables=SHOP)
    score(Order(MONDAY, "tables", "results"), settings, tables=SHOP)
    return settings


@pytest.fixture
def shop(made, tmp_path):
    "A copy of it, to be changed."
    shutil.copytree(made.root, tmp_path / "shop")
    return replace(made, root=tmp_path / "shop", database_url=f"sqlite:///{tmp_path}/shop/records.db")


def served(settings) -> list[dict]:
    engine = connected(address(settings.database_url, root=settings.root))
    with transaction(engine, reading=True) as connection:
        rows = (
            connection.execute(sa.select(table_of("served")).order_by(table_of("served").c.unit))
            .mappings()
            .all()
        )
    engine.dispose()
    return [dict(each) for each in rows]


def change(settings, name: str, **values: object) -> None:
    "Change the record of a decision."
    engine, table = connected(address(settings.database_url, root=settings.root)), table_of("served")
    with transaction(engine) as connection:
        connection.execute(table.update().where(table.c.decision_id == name).values(**values))
    engine.dispose()


def one_by(settings, policy: str) -> dict:
    return next(each for each in served(settings) if each["policy"] == policy)


@pytest.fixture
def quick(monkeypatch):
    "Releases are loaded without the child process that tries them first."
    from ml_workbench.release import loading

    monkeypatch.setattr(loading, "try_in_child", lambda *_: None)


pytestmark = pytest.mark.usefixtures("quick")


# The same score again --------------------------------------------------------------------------------------


def test_every_decision_of_a_batch_scores_again_to_the_last_bit(made):
    rows = served(made)
    taken = [*rows[::25], one_by(made, "rule"), one_by(made, "proposed"), one_by(made, "challenger")]
    for each in taken:
        found = explain(made, each["decision_id"])
        assert found.same and (found.rescored.score == each["score"]), each
    assert {each["policy"] for each in taken} >= {"rule", "proposed", "challenger"}


def test_a_decision_of_the_service_scores_again_to_the_last_bit_with_the_features_that_came_along(shop):
    found = live(shop, None)
    decider = Decider(found.line, found.deployment, {each.id: each for each in found.loaded.values()})
    rows = small.members("next").to_dict("records")
    given_features = {
        name: (None if rows[3][name] != rows[3][name] else rows[3][name]) for name, _ in found.terms.columns
    }
    decisions = decider.decide_many(
        [Question(str(place), given_features) for place in range(30)],
        [f"decision-{place}" for place in range(30)],
    )
    engine = connected(address(shop.database_url, root=shop.root))
    with transaction(engine) as connection:
        for each in decisions:
            row = dict(each.rows["served"][0])
            from datetime import datetime

            row |= {name: datetime.fromisoformat(row[name]) for name in ("at", "as_of")}
            connection.execute(sa.insert(table_of("served")), [row])
    engine.dispose()
    assert all(explain(shop, f"decision-{place}").same for place in range(0, 30, 5))


def test_a_record_with_another_score_is_told_and_ends_with_1(shop, monkeypatch):
    row = one_by(shop, "proposed")
    change(shop, row["decision_id"], score=np.nextafter(row["score"], 1.0))
    found = explain(shop, row["decision_id"])
    assert not found.same and found.rescored.said.startswith("ANOTHER SCORE")
    monkeypatch.chdir(shop.root)
    for name in ("database_url", "store_url", "cache_dir"):
        monkeypatch.setenv(f"MLW_{name.upper()}", str(getattr(shop, name)))
    done = CliRunner().invoke(cli, ["explain", row["decision_id"]])
    assert done.exit_code == 1 and "ANOTHER SCORE" in done.output


def test_a_record_whose_features_were_changed_is_told(shop):
    row = one_by(shop, "proposed")
    values = json.loads(row["features"])
    values[0] = (values[0] or 0) + 50.0
    change(shop, row["decision_id"], features=json.dumps(values))
    found = explain(shop, row["decision_id"])
    assert any("the record was changed" in each for each in found.notes) and not found.same


# What cannot be told ---------------------------------------------------------------------------------------


def test_an_unknown_decision_is_told_as_one(made):
    with pytest.raises(MonitorError, match="no decision 'nowhere' is in the records"):
        explain(made, "nowhere")


def test_a_database_that_is_away_is_told(made):
    with pytest.raises(RecordError, match="it cannot be reached"):
        explain(replace(made, database_url="postgresql://ada@127.0.0.1:1/none"), "x")


def test_a_decision_that_waits_in_the_spool_is_found(made, monkeypatch):
    row = one_by(made, "proposed")
    waiting = {**row, "decision_id": "waiting", "at": str(row["at"]), "as_of": str(row["as_of"])}
    monkeypatch.setattr(explaining, "find", lambda _spool, name: waiting if name == "waiting" else None)
    (made.root / made.spool_dir).mkdir(parents=True, exist_ok=True)
    found = explain(made, "waiting")
    assert found.decision["recorded"] is False and found.same


def test_a_release_that_is_gone_leaves_the_record(shop):
    for name in (shop.store_url, shop.cache_dir):
        shutil.rmtree(shop.root / name, ignore_errors=True)
    (shop.root / shop.store_url).mkdir()
    row = one_by(shop, "proposed")
    found = explain(shop, row["decision_id"])
    assert found.release is None and found.rescored is None and found.decision["action"] == row["action"]
    assert "Its release cannot be loaded" in found.notes[0]


def test_a_release_that_only_the_cache_has_is_taken_from_there(shop):
    row = one_by(shop, "proposed")
    explain(shop, row["decision_id"])  # which keeps it in the cache
    shutil.rmtree(shop.root / shop.store_url)
    (shop.root / shop.store_url).mkdir()
    assert explain(shop, row["decision_id"]).same


def test_where_only_a_hash_was_kept_the_online_features_stand_in_if_they_are_the_same(shop):
    row = one_by(shop, "proposed")
    change(shop, row["decision_id"], features=None)
    found = explain(shop, row["decision_id"])
    assert found.same and found.shares is not None and "have the same" in found.notes[0]
    change(shop, row["decision_id"], features_hash="0" * 32)
    found = explain(shop, row["decision_id"])
    assert found.then is None and found.rescored is None and "only a hash was kept" in found.notes[0]


def test_without_online_features_or_training_data_the_rest_is_told(shop):
    engine = connected(address(shop.database_url, root=shop.root))
    with transaction(engine) as connection:
        connection.execute(table_of("online_features").delete())
    engine.dispose()
    found = explain(shop, one_by(shop, "proposed")["decision_id"])
    assert found.now is None and found.same and found.shares.exact
    assert [each.split(":")[0] for each in found.notes] == [
        "The online table does not hold this unit",
        "No neighbours",
    ]


# Shares ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def releases() -> dict[str, Loaded]:
    return {
        name: loaded(small.small_bundle(name))
        for name in ("logistic_regression", "xgboost", "random_forest", "mlp")
    }


def parts_of(found: Loaded, place: int = 5):
    values = {
        name: (None if value != value else value)
        for name, value in small.members("next").iloc[place][found.terms.names].items()
    }
    row = matrix_of(found.scorer.signature, values)
    return row, usual_row(reference_from(found.files["reference.json"]), found.scorer.signature)


@pytest.mark.parametrize(
    ("name", "exact"),
    [("logistic_regression", True), ("xgboost", True), ("random_forest", False), ("mlp", False)],
)
def test_shares_add_up_to_the_score_and_say_whether_they_are_exact(releases, name, exact):
    row, usual = parts_of(releases[name])
    session = releases[name].scorer.session
    found = shares_of(session, row, usual)
    assert found.exact is exact and (found.error == 0) is exact and ("Approximate" in found.how) is not exact
    assert found.base + found.values.sum() == pytest.approx(log_odds(session.by_onnx(row))[0], abs=2e-3)


def test_shares_of_a_regression_are_its_coefficients_times_the_distance_from_usual(releases):
    fitted = small.fitted_model("logistic_regression")
    row, usual = parts_of(releases["logistic_regression"])
    found = shares_of(releases["logistic_regression"].scorer.session, row, usual)
    prepare, model = fitted.model[:-1], fitted.model[-1]
    moved = (prepare.transform(row) - prepare.transform(usual)) * model.coef_.ravel()
    slope = fitted.calibrator.slope_ if fitted.calibrator else 1.0
    assert found.values.sum() == pytest.approx(slope * moved.sum(), abs=1e-3)


def test_sampled_shares_approach_the_exact_ones():
    random = np.random.default_rng(3)
    weights = random.normal(size=6)

    def model(rows: np.ndarray) -> np.ndarray:
        return rows @ weights + 0.5 * rows[:, 0] * rows[:, 1]

    row, usual = random.normal(size=(1, 6)), np.zeros((1, 6))
    exact = weights * row[0]
    exact[:2] += 0.25 * row[0, 0] * row[0, 1]
    assert added_up(model, row, usual) is None
    np.testing.assert_allclose(
        sampled(model, row, usual, orders=4).values, exact, atol=1e-9
    )  # both ways of an order: exact for pairs


@trying(max_examples=30)
@given(arrays(float, (2, 5), elements=st.floats(-3, 3)), arrays(float, 5, elements=st.floats(-2, 2)))
def test_a_model_that_adds_is_recognised_and_its_shares_are_those_of_every_order(rows, weights):
    def model(each: np.ndarray) -> np.ndarray:
        return each @ weights + np.sin(each[:, 0])

    found = added_up(model, rows[:1], rows[1:])
    walked = sampled(model, rows[:1], rows[1:], orders=2)
    np.testing.assert_allclose(found.values, walked.values, atol=1e-9)


def test_the_same_decision_is_explained_the_same_way_twice(releases):
    row, usual = parts_of(releases["random_forest"])
    first, second = (shares_of(releases["random_forest"].scorer.session, row, usual) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)


# Neighbours ------------------------------------------------------------------------------------------------


def test_neighbours_are_those_nearest_by_standard_deviations_and_the_row_itself_is_the_first(shop):
    folder = shop.root / "data" / "features"
    folder.mkdir(parents=True)
    rows = small.snapshots()
    write_table(folder / "snapshots.parquet", rows)
    schema = {"entity": "member", "time": "as_of", "slice": "slice", "label": "lapsed", "value": "next_spend", "horizon_days": 28, "usual_weekly_spend": "usual_weekly_spend",
              "features": [vars(each) for each in small.SCHEMA.features]}  # fmt: skip
    (folder / "schema.json").write_text(json.dumps(schema))
    found = explain(shop, one_by(shop, "proposed")["decision_id"], count=7)
    assert len(found.neighbours) == 7 and [each.distance for each in found.neighbours] == sorted(
        each.distance for each in found.neighbours
    )
    assert {each.label for each in found.neighbours} <= {0, 1} and all(
        each.as_of == "2024-04-01 05:00" for each in found.neighbours
    )


def test_what_is_missing_in_one_only_counts_as_one_and_in_both_as_nothing():
    rows = np.array([[np.nan, 0.0], [1.0, 0.0], [3.0, 1.0]], dtype=np.float32)
    away = distances(rows, np.array([[np.nan, 0.0]], dtype=np.float32), [1])
    assert away.tolist() == pytest.approx([0.0, np.sqrt(0.5), 1.0])


# The command -----------------------------------------------------------------------------------------------


def test_the_command_tells_a_reader_and_a_program(made, monkeypatch):
    monkeypatch.chdir(made.root)
    for name in ("database_url", "store_url", "cache_dir"):
        monkeypatch.setenv(f"MLW_{name.upper()}", str(getattr(made, name)))
    row = one_by(made, "proposed")
    done = CliRunner().invoke(cli, ["explain", row["decision_id"]])
    assert (
        done.exit_code == 0
        and "The same score again, to the last bit" in done.output
        and "the odds by" in done.output
    )
    raw = json.loads(CliRunner().invoke(cli, ["explain", row["decision_id"], "--json"]).output)
    assert raw["rescored"]["same"] and raw["shares"]["exact"] and len(raw["shares"]["contributions"]) == 4
    assert raw["features_then"]["days_since_visit"] == json.loads(row["features"])[0]
    assert CliRunner().invoke(cli, ["explain", "nowhere"]).exit_code == 1


def test_the_hash_of_features_is_the_one_that_is_recorded(made):
    for row in served(made)[:20]:
        assert hash_of(orjson.loads(row["features"])) == row["features_hash"]
