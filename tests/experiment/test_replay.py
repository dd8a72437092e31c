"""A replay: who is listed, who is assigned, what is true, and the tables it fills, whatever happens meanwhile."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlalchemy as sa

from ml_workbench.experiment.cohort import cohort
from ml_workbench.experiment.filling import fill, loads_of, replay_report, weekly
from ml_workbench.experiment.play import make_world, matured, policies_by_name, weekly_lists
from ml_workbench.experiment.replay import MODES, measured, repetition, replay
from ml_workbench.experiment.tosses import lift_of, sample_ratio, tosses
from ml_workbench.experiment.traces import loads, tables
from ml_workbench.model.evaluation import NOTHING, Policy
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.errors import ExperimentError, RecordError
from ml_workbench.plan.experiment import Effect, Experiment
from ml_workbench.serve.records import Records, export_records

MEMBERS, CAPACITY = 500, 60
SCHEMA = Schema(
    "member", "as_of", "slice", "left", "spend", 28, "weekly", (Feature("weekly", "number", "money"),)
)
CHARTER = SimpleNamespace(
    capacity_per_week=CAPACITY,
    economics=SimpleNamespace(cooldown_days=14),
    unit="member",
    unit_plural="members",
    currency="USD",
)
UNTIL = pd.Timestamp("2024-02-12 05:00")
NONE, KEEPS, RAISES = (
    Effect(kind="none"),
    Effect(kind="heterogeneous", size=0.5),
    Effect(kind="constant", size=0.2),
)


def planned(**changes) -> Experiment:
    metric = {"label": "-", "outcome": "basket"}
    plan = {
        "name": "offers-1", "namespace": "offers", "holdout": 0.1, "horizon_days": 42, "control": "control", "primary": "spend",
        "covariates": ["weekly"], "segments": ["region"],
        "arms": [
            {"name": "control", "policy": "rule", "weight": 0.4},
            {"name": "champion", "policy": "proposed", "weight": 0.4},
            {"name": "challenger", "policy": "xgboost", "weight": 0.2},
        ],
        "metrics": [
            {"name": "spend", "kind": "revenue", "of": "sum", **metric},
            {"name": "baskets", "kind": "mean", "of": "count", **metric},
            {"name": "came", "kind": "proportion", "of": "any", **metric},
        ],
    }  # fmt: skip
    return Experiment.model_validate(plan | changes)


def snapshots() -> pd.DataFrame:
    "Three weeks; a tenth of the members are first seen in the second."
    random = np.random.default_rng(3)
    mondays = pd.to_datetime(["2024-01-01 05:00", "2024-01-08 05:00", "2024-01-15 05:00"])
    frame = pd.DataFrame({"member": np.tile(np.arange(MEMBERS), 3), "as_of": np.repeat(mondays, MEMBERS)})
    frame["weekly"] = np.tile(random.gamma(2, 15, MEMBERS).astype(np.float32), 3)
    frame["region"] = np.tile(np.where(np.arange(MEMBERS) % 3, "north", "south"), 3)
    frame["xgboost"] = random.random(len(frame))
    late = (frame["member"] % 10 == 0) & (frame["as_of"] == mondays[0])
    return frame[~late].reset_index(drop=True)


def baskets() -> pa.Table:
    "Two in three members come, a few times; a stranger comes too."
    random = np.random.default_rng(4)
    who = np.concatenate([random.choice(np.flatnonzero(np.arange(MEMBERS) % 3), 1500), [MEMBERS + 7] * 5])
    when = pd.Timestamp("2024-01-01 05:00") + pd.to_timedelta(random.integers(1, 60_000, len(who)), "min")
    return pa.table(
        {
            "event_id": [f"b{number}" for number in range(len(who))],
            "unit": [str(one) for one in who],
            "occurred_at": pa.array(when, pa.timestamp("us")),
            "value": random.gamma(2, 20, len(who)).round(2),
        }
    )


def ranking(name: str, score: np.ndarray, floor: float = -np.inf) -> Policy:
    return Policy(name, name.capitalize(), "candidate", 2, score, None, score, floor)


@pytest.fixture(scope="module")
def world():
    rows = snapshots()
    policies = {
        "rule": ranking("rule", -rows["weekly"].to_numpy(float)),
        "proposed": ranking("logistic", rows["weekly"].to_numpy(float) - 15, floor=0.0),
        "xgboost": ranking("xgboost", rows["xgboost"].to_numpy()),
    }
    return make_world(
        rows, {"basket": baskets()}, policies, planned(), charter=CHARTER, schema=SCHEMA, until=UNTIL
    )


def play(world, effect=NONE, mode="plain", plan=None, **options):
    return replay(
        world, plan or planned(), effect, **{"capacity": CAPACITY, "mode": mode, "seed": 1} | options
    )


def rows_of(played) -> dict[str, pa.Table]:
    return {name: rows.table for name, rows in tables(played, cost=1.0).items()}


# Lists


def test_a_policy_lists_the_first_of_those_who_do_not_rest(world) -> None:
    for policy, listing in world.lists.items():
        last: dict[int, int] = {}
        for week in range(3):
            rows = np.flatnonzero((world.week == week) & listing.listed)
            assert len(rows) <= CAPACITY
            assert listing.place[rows].min() == 1 and listing.place[rows].max() <= CAPACITY
            for unit in world.unit[rows].tolist():
                assert week - last.get(unit, -9) >= 2, f"{policy} lists a unit that rests"
                last[unit] = week


def test_a_place_is_empty_exactly_while_a_unit_rests(world) -> None:
    listing = world.lists["rule"]
    listed_before = set(world.unit[(world.week == 0) & listing.listed])
    resting = set(world.unit[(world.week == 1) & (listing.place == 0)])
    assert listed_before and resting == listed_before


def test_nobody_is_listed_below_the_floor(world) -> None:
    assert (world.policies["proposed"].rank[world.lists["proposed"].listed] > 0).all()


def test_a_policy_that_does_nothing_lists_nobody() -> None:
    listing = weekly_lists(NOTHING, np.zeros(3, int), np.arange(3), np.arange(3), size=9, cooldown_days=0)
    assert not listing.listed.any() and not listing.place.any()


def test_lists_do_not_depend_on_the_coin(world) -> None:
    one, other = play(world), play(world, plan=repetition(planned(), 1))
    assert (one.place != other.place).any()
    first, second = (rows_of(each)["predictions"].drop_columns(["experiment"]) for each in (one, other))
    assert first.equals(second)


def test_proposed_is_whatever_the_evaluation_proposes() -> None:
    policies = [ranking("rule", np.zeros(1)), ranking("xgboost", np.zeros(1)), NOTHING]
    for name, label in (("xgboost", "Xgboost"), ("rule", "Rule"), ("nothing", "Do nothing")):
        assert policies_by_name(planned(), policies, proposed=name)["proposed"].label == label
    with pytest.raises(ExperimentError, match="did you mean 'xgboost'"):
        policies_by_name(planned(), policies, proposed="xgbost")
    unknown = planned(
        arms=[
            {"name": "control", "policy": "none", "weight": 0.5},
            {"name": "b", "policy": "mlp", "weight": 0.5},
        ]
    )
    with pytest.raises(ExperimentError, match="arm 'b' follows the unknown policy 'mlp'"):
        policies_by_name(unknown, policies, proposed="rule")


# The coin


def test_a_unit_is_assigned_when_it_is_first_seen_and_stays(world) -> None:
    assignments = rows_of(play(world))["assignments"]
    assert assignments.num_rows == MEMBERS == pc.count_distinct(assignments["unit"]).as_py()
    found = {
        unit: at
        for unit, at in zip(
            assignments["unit"].to_pylist(), assignments["assigned_at"].to_pylist(), strict=True
        )
    }
    assert {found[str(member)].day for member in range(0, MEMBERS, 10)} == {8} and found["1"].day == 1


def test_the_action_goes_to_those_whom_the_policy_of_their_own_arm_lists(world) -> None:
    played = play(world)
    for number, arm in enumerate(played.experiment.arms):
        mine = np.flatnonzero(played.place[world.unit] == number)
        assert set(np.intersect1d(played.due, mine)) == set(mine[world.lists[arm.policy].listed[mine]])
    treated = set(rows_of(play(world))["exposures"]["arm"].to_pylist())
    assert treated == {"control", "champion", "challenger"}  # never the holdout


def test_beyond_the_capacity_the_last_places_go_without_and_are_counted(world) -> None:
    short = play(world, capacity=20)
    assert len(short.offered) == 60 < len(short.due) and set(short.offered) <= set(short.due)
    entry = weekly(short)[0]
    assert (
        sum(entry["offered"].values()) == 20
        and entry["beyond_capacity"] == sum(entry["listed"].values()) - 20
    )
    places = np.zeros(len(world.unit), dtype=int)
    for number, arm in enumerate(short.experiment.arms):
        mine = short.place[world.unit] == number
        places[mine] = world.lists[arm.policy].place[mine]
    first = world.week[short.due] == 0
    left_out = np.setdiff1d(short.due[first], short.offered)
    assert places[left_out].min() >= places[np.intersect1d(short.due[first], short.offered)].max()


def test_units_outside_the_slots_or_the_ramp_take_no_part(world) -> None:
    half = play(world, plan=planned(slots=[0.0, 0.5], ramp=0.5))
    arms = sum(count for arm, count in half.counts.items() if arm != "holdout")
    assert 0.15 * MEMBERS < arms < 0.35 * MEMBERS
    assert rows_of(half)["assignments"].num_rows == sum(half.counts.values())
    assert not (half.place[world.unit[half.offered]] < 0).any()


def test_units_of_a_cluster_share_the_coin_and_are_summed(world) -> None:
    rows, metric = snapshots(), planned().metrics[0].model_dump()
    rows["street"] = "street " + (rows["member"] // 10).astype(str)
    plan = planned(cluster="street", metrics=[metric])
    policies = {
        name: ranking(name, np.random.default_rng(6).random(len(rows)))
        for name in ("rule", "proposed", "xgboost")
    }
    options = {"charter": CHARTER, "schema": SCHEMA, "until": UNTIL}
    played = play(make_world(rows, {"basket": baskets()}, policies, plan, **options), RAISES, plan=plan)
    assert all(len(set(played.place[street * 10 : street * 10 + 10])) == 1 for street in range(MEMBERS // 10))
    moments = measured(played)["champion"]
    assert (
        moments.count * 10 == played.counts["champion"] and moments.of("units") == 9
    )  # one of ten came too late to mature
    assert lift_of(played, "champion").n == played.maturity["champion"]
    assert sum(sample_ratio(played).observed.values()) == MEMBERS // 10
    rows["street"] = np.where(rows["member"] == 4, None, rows["street"])
    with pytest.raises(ExperimentError, match=r"experiment\.cluster: 1 units have no 'street'"):
        play(make_world(rows, {"basket": baskets()}, policies, plan, **options), plan=plan)


def test_weeks_in_which_nobody_came_are_played_all_the_same(world) -> None:
    policies = dict.fromkeys(("rule", "proposed", "xgboost"), ranking("any", np.ones(len(snapshots()))))
    options = {"charter": CHARTER, "schema": SCHEMA, "until": UNTIL}
    quiet = make_world(snapshots(), {"basket": baskets().slice(0, 0)}, policies, planned(), **options)
    assert rows_of(play(quiet))["outcomes"].num_rows == 0
    kept = Effect(kind="heterogeneous", size=1.0)
    assert (
        play(quiet, kept).truth["champion"].against_nothing > 0
        and rows_of(play(quiet, kept))["outcomes"].num_rows > 100
    )


def test_an_unknown_mode_is_refused_with_a_suggestion(world) -> None:
    with pytest.raises(ExperimentError, match="did you mean 'broken'"):
        play(world, mode="brokn")


# The truth


def test_without_an_effect_the_truth_is_nothing_for_every_arm(world) -> None:
    for truth in play(world).truth.values():
        assert truth.spend_per_unit == truth.against_nothing == truth.total == 0


@pytest.mark.parametrize("effect", [KEEPS, RAISES, Effect(kind="fading", size=0.5)])
def test_what_a_unit_brings_is_what_it_would_have_brought_in_its_arm(world, effect) -> None:
    "What is observed is the potential outcome of the arm, unit by unit, as long as nobody is left out."
    from ml_workbench.experiment.play import totals

    played = play(world, effect, capacity=10**6)
    observed, _ = totals(world, played.experiment, played.response)
    for number, arm in enumerate(played.experiment.arms):
        mine = played.place == number
        would, _ = totals(world, played.experiment, played.responses[arm.policy])
        assert np.allclose(observed[mine], would[mine])
    untouched, _ = totals(world, played.experiment)
    assert np.allclose(observed[played.place == 3], untouched[played.place == 3])


def test_the_truth_is_the_mean_difference_over_the_same_units(world) -> None:
    from ml_workbench.experiment.play import totals

    played = play(world, RAISES)
    who = (played.place >= 0) & (played.place < 3) & matured(world, played.experiment)
    champion, control = (
        totals(world, played.experiment, played.responses[name])[0][who] for name in ("proposed", "rule")
    )
    truth = played.truth["champion"]
    assert truth.spend_per_unit == pytest.approx((champion - control).mean()) and truth.spend_per_unit > 0
    assert truth.relative == pytest.approx((champion - control).sum() / control.sum())
    assert truth.total == pytest.approx(truth.spend_per_unit * played.maturity["champion"])


def test_two_arms_with_the_same_policy_differ_in_nothing(world) -> None:
    same = planned(
        arms=[
            {"name": "control", "policy": "rule", "weight": 0.5},
            {"name": "twin", "policy": "rule", "weight": 0.5},
        ]
    )
    assert play(world, RAISES, plan=same).truth["twin"].spend_per_unit == 0


def test_a_missing_feature_or_outcome_is_named(world) -> None:
    options = {"charter": CHARTER, "schema": SCHEMA, "until": UNTIL}
    with pytest.raises(ExperimentError, match="no feature 'weeky', did you mean 'weekly'"):
        make_world(snapshots(), {"basket": baskets()}, {}, planned(covariates=["weeky"]), **options)
    with pytest.raises(ExperimentError, match="outcome 'basket', of which there are no events"):
        make_world(snapshots(), {"visit": baskets()}, {}, planned(), **options)
    with pytest.raises(ExperimentError, match="twice"):
        make_world(pd.concat([snapshots()] * 2), {"basket": baskets()}, {}, planned(), **options)
    with pytest.raises(ExperimentError, match="no snapshots to replay"):
        make_world(snapshots().iloc[:0], {"basket": baskets()}, {}, planned(), **options)


# The tables


@pytest.mark.parametrize("effect", [NONE, KEEPS, RAISES])
def test_the_one_join_finds_in_the_tables_what_was_measured_in_memory(world, effect) -> None:
    played = play(world, effect)
    found = cohort(rows_of(played), played.experiment)
    assert not found.problems and found.units.num_rows == sum(played.maturity.values())
    for arm, moments in measured(played).items():
        mine = found.units.filter(pc.equal(found.units["arm"], arm))
        assert mine.num_rows == moments.count
        for name in ("spend", "baskets", "came", "weekly"):
            assert pc.mean(mine[name]).as_py() == pytest.approx(moments.of(name), rel=1e-6)


def test_outcomes_come_in_weekly_loads_until_nothing_more_is_known(world) -> None:
    played = play(world)
    times = pd.to_datetime(loads(played), unit="us")
    assert (
        times[0] == pd.Timestamp("2024-01-01 05:00")
        and times[-1] == UNTIL
        and set(np.diff(times).astype("timedelta64[D]").astype(int)) == {7}
    )
    outcomes = rows_of(played)["outcomes"].to_pandas()
    assert (outcomes["recorded_at"] >= outcomes["occurred_at"]).all()
    assert (outcomes["recorded_at"] - outcomes["occurred_at"] < pd.Timedelta("7D")).all()


def test_outcomes_of_strangers_come_in_as_from_any_till(world) -> None:
    assert str(MEMBERS + 7) in rows_of(play(world))["outcomes"]["unit"].to_pylist()


def test_covariates_are_those_of_the_first_week_numbers_and_levels_apart(world) -> None:
    covariates = rows_of(play(world))["covariates"].to_pandas().set_index(["unit", "name"])
    known = snapshots().groupby("member").first()
    assert covariates.loc[("20", "weekly"), "number"] == pytest.approx(known.loc[20, "weekly"])
    assert covariates.loc[("20", "region"), "level"] == known.loc[20, "region"]
    assert covariates.loc[("20", "region"), "number"] != covariates.loc[("20", "region"), "number"]  # NaN


def test_the_sum_of_what_was_recorded_is_real_spend_plus_what_was_declared(world) -> None:
    plain, raised = (
        pc.sum(rows_of(play(world, effect))["outcomes"]["value"]).as_py() for effect in (NONE, RAISES)
    )
    response = play(world, RAISES).response
    assert (
        raised - plain == pytest.approx(response.added.sum() + response.value.sum(), abs=0.5)
        and raised > plain
    )


def test_the_same_seed_gives_the_same_tables_and_another_one_others(world) -> None:
    one, again, other = (rows_of(play(world, KEEPS, seed=seed)) for seed in (1, 1, 2))
    assert all(one[name].equals(again[name]) for name in one)
    assert not one["outcomes"].equals(other["outcomes"]) and one["assignments"].equals(other["assignments"])


# Faults


def test_a_broken_randomisation_loses_the_best_of_one_arm_without_a_trace(world) -> None:
    sound, broken = play(world), play(world, mode="broken")
    assert broken.counts["champion"] < 0.85 * sound.counts["champion"]
    assert all(broken.counts[arm] == sound.counts[arm] for arm in ("control", "challenger", "holdout"))
    gone = set(world.names[broken.lost])
    written = rows_of(broken)
    for name in ("assignments", "covariates", "exposures"):
        assert not gone & set(written[name]["unit"].to_pylist())
    assert not cohort(written, broken.experiment).problems  # nothing shows but the sizes of the arms


def test_late_outcomes_are_counted_and_left_out(world) -> None:
    played = play(world, mode="late")
    assert not set(world.names[::10][: MEMBERS // 10]) & set(
        rows_of(played)["assignments"]["unit"].to_pylist()
    )
    found = {each.who: each.count for each in cohort(rows_of(played), played.experiment).accounting}
    assert found["Late outcomes"] > 0 and found["Not matured yet"] == 0


def test_duplicates_change_nothing_and_are_counted(world) -> None:
    plain, doubled = play(world, RAISES), play(world, RAISES, mode="duplicates")
    one, other = (cohort(rows_of(each), each.experiment) for each in (plain, doubled))
    assert one.units.equals(other.units) and not other.problems
    assert {each.who: each.count for each in other.accounting}["Duplicate outcomes"] > 10


def test_conflicting_outcomes_are_a_hard_stop(world) -> None:
    played = play(world, mode="conflicts")
    assert [each.kind for each in cohort(rows_of(played), played.experiment).problems] == ["contract"]


def test_every_mode_plays(world) -> None:
    for mode in MODES:
        assert rows_of(play(world, KEEPS, mode=mode))["outcomes"].num_rows > 1000


# The records


def contents(records, name="offers-1") -> dict[str, pa.Table]:
    return {
        table: records.read(table, experiment=name)
        for table in ("assignments", "covariates", "predictions", "exposures", "outcomes")
    }


def untouched(tmp_path, played) -> dict[str, pa.Table]:
    with Records(f"sqlite:///{tmp_path / 'untouched.db'}") as records:
        fill(records, played, tables(played, cost=1.0))
        return contents(records)


def test_a_load_writes_assignments_before_exposures_and_in_the_order_of_time(world) -> None:
    parts = list(loads_of(tables(play(world), cost=1.0)))
    assert [part.at for part in parts] == sorted(part.at for part in parts)
    assert list(parts[1].tables) == ["assignments", "covariates", "predictions", "exposures", "outcomes"]


def test_the_records_hold_what_the_memory_holds(world, tmp_path) -> None:
    played = play(world, KEEPS)
    with Records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        fill(records, played, tables(played, cost=1.0))
        export_records(records, tmp_path / "replay", "offers-1")
        one, other = cohort(tmp_path / "replay", played.experiment), cohort(records, played.experiment)
    direct = cohort(rows_of(played), played.experiment)
    for name in ("unit", "arm", "exposures"):
        assert one.units.sort_by("unit")[name].equals(direct.units.sort_by("unit")[name])
    for found in (one, other):
        assert pc.sum(found.units["spend"]).as_py() == pytest.approx(pc.sum(direct.units["spend"]).as_py())


def test_a_replay_written_twice_is_there_once(world, tmp_path) -> None:
    played = play(world, KEEPS)
    with Records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        fill(records, played, tables(played, cost=1.0))
        before = contents(records)
        fill(records, played, tables(played, cost=1.0))
        assert all(before[name].equals(table) for name, table in contents(records).items())


@pytest.mark.parametrize("written", [1, 4, 7, 13])
def test_a_database_that_goes_away_leaves_a_replay_that_resumes_without_doubling(
    world, tmp_path, monkeypatch, written
) -> None:
    played, path, away = play(world, KEEPS), tmp_path / "records.db", tmp_path / "away.db"
    rows, left, write = tables(played, cost=1.0), [written], Records.write

    def until_it_goes(self, table, *arguments, **options):
        left[0] -= 1
        if left[0] < 0 and not away.exists():
            shutil.move(path, away)
            path.mkdir()  # something else stands in its place: SQLite cannot open it
            self.close()
        return write(self, table, *arguments, **options)

    with Records(f"sqlite:///{path}") as records:
        with monkeypatch.context() as patched:
            patched.setattr(Records, "write", until_it_goes)
            with pytest.raises(RecordError, match="cannot be reached"):
                fill(records, played, rows)
        path.rmdir()
        shutil.move(away, path)
        halfway = {name: len(table) for name, table in contents(records).items()}
        fill(records, played, rows)
        resumed = contents(records)
    expected = untouched(tmp_path, played)
    assert sum(halfway.values()) < sum(len(table) for table in expected.values())
    assert all(resumed[name].equals(expected[name]) for name in expected)


def test_on_postgresql_a_replay_survives_that_its_connections_are_cut(
    world, postgres_url, postgres_server, tmp_path, monkeypatch
) -> None:
    played, rows, write, left = play(world, KEEPS), None, Records.write, [6]
    rows = tables(played, cost=1.0)
    name = postgres_url.rsplit("/", 1)[1]
    server = sa.create_engine(
        postgres_server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )

    def allow(yes: bool) -> None:
        with server.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(yes).lower()}")
            if not yes:
                connection.exec_driver_sql(
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
                )

    def until_it_goes(self, table, *arguments, **options):
        left[0] -= 1
        if not left[0]:
            allow(False)
        return write(self, table, *arguments, **options)

    with Records(postgres_url) as records:
        with monkeypatch.context() as patched:
            patched.setattr(Records, "write", until_it_goes)
            with pytest.raises(RecordError):
                fill(records, played, rows)
        allow(True)
        fill(records, played, rows)
        found = contents(records)
    server.dispose()
    assert all(found[table].equals(expected) for table, expected in untouched(tmp_path, played).items())


def test_another_effect_replaces_the_replay_that_was_there(world, tmp_path) -> None:
    with Records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        for effect in (KEEPS, RAISES):
            fill(records, play(world, effect), tables(play(world, effect), cost=1.0))
        found = contents(records)
    expected = untouched(tmp_path, play(world, RAISES))
    assert all(found[name].equals(table) for name, table in expected.items())


def test_a_replay_under_another_name_replaces_the_older_one(world, tmp_path) -> None:
    with Records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        for plan in (planned(), planned(name="offers-2")):
            fill(records, play(world, KEEPS, plan=plan), tables(play(world, KEEPS, plan=plan), cost=1.0))
        names = {each.split(":")[0] for each in records.read("outcomes")["event_id"].to_pylist()}
    assert names == {"offers-2"}


def test_a_real_experiment_of_that_name_is_left_alone(world, tmp_path) -> None:
    with Records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        records.migrate()
        records.freeze(planned(), at=pd.Timestamp("2024-01-01").to_pydatetime(), actor="marketing")
        with pytest.raises(RecordError, match="'offers-1' is a real one"):
            fill(records, play(world), tables(play(world), cost=1.0))
        assert not len(records.read("assignments"))


def test_real_outcomes_of_the_same_units_are_not_mixed_with_replayed_ones(world, tmp_path) -> None:
    real = {"outcome": "basket", "event_id": "17", "unit": "1", "value": 5.0}
    real |= {
        "occurred_at": pd.Timestamp("2024-01-02").to_pydatetime(),
        "recorded_at": pd.Timestamp("2024-01-03").to_pydatetime(),
    }
    with Records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        records.migrate()
        records.write("outcomes", [real])
        with pytest.raises(RecordError, match="a database of its own"):
            fill(records, play(world), tables(play(world), cost=1.0))
        assert "17" in records.read("outcomes")["event_id"].to_pylist()


def test_conflicting_rows_are_counted_and_the_first_stands(world, tmp_path) -> None:
    played = play(world, mode="conflicts")
    with Records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        conflicting = fill(records, played, tables(played, cost=1.0))
        again = fill(records, played, tables(played, cost=1.0))
        found = records.read("outcomes")
    plain = rows_of(play(world))["outcomes"]
    assert conflicting == again and conflicting["outcomes"] > 5
    assert pc.sum(found["value"]).as_py() == pytest.approx(pc.sum(plain["value"]).as_py())


# What is said


def test_the_report_counts_what_was_played(world) -> None:
    played = play(world, KEEPS)
    report = replay_report(played, tables(played, cost=1.0), {"outcomes": 3}, {}, CHARTER)
    assert report["replayed"] is True and report["units"] == played.counts
    assert sum(week["newly_assigned"] for week in report["weeks"]) == MEMBERS
    assert report["first"] == "2024-01-01 05:00:00" and report["as_of"] == "2024-02-12 05:00:00"
    assert (
        set(report["truth"]) == {"champion", "challenger"} and report["declared"]["kind"] == "heterogeneous"
    )
    assert "keeps 50%" in report["sentence"] and "members" in report["sentence"]


def test_many_tosses_are_centred_on_the_truth_and_covariates_help(world) -> None:
    many = tosses(world, planned(), RAISES, count=30, capacity=CAPACITY, seed=2)
    errors = [each.estimate - each.truth for each in many.each]
    assert abs(np.mean(errors)) < 3 * many.spread / np.sqrt(30) and many.coverage > 0.8
    assert all(each.error > 0 for each in many.each) and len({each.estimate for each in many.each}) == 30


def test_a_single_toss_agrees_with_its_own_lift(world) -> None:
    played = play(world, RAISES)
    found, plain = lift_of(played, "champion"), lift_of(played, "champion", adjusted=False)
    moments = measured(played)
    assert plain.absolute.value == pytest.approx(
        moments["champion"].of("spend") - moments["control"].of("spend")
    )
    assert found.n == played.maturity["champion"] and not sample_ratio(played).stop
