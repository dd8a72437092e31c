"""What is slower than before, or grows from day to day, is found; restarts and single slow answers are not taken for it."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.database.rows import schema_of
from ml_workbench.monitor.asking import Asked
from ml_workbench.monitor.performance import (
    CHECKS,
    FIRST,
    fared,
    first_healthy,
    leak_of,
    leak_readings,
    lines_in,
    outcome_readings,
    ratio_readings,
    release_in,
    stretches_of,
)

ASKED, START = Asked({each.name: each for each in CHECKS}), datetime(2024, 7, 22, 5)


def lines(days=7, *, p50=0.2, memory=lambda day: 200.0, kind="service", since=START, seed=0, **rest):
    random = np.random.default_rng(seed)
    noise = random.normal(0, 1, days * 4)
    return [
        {"at": since + timedelta(hours=6 * (place + 1)), "process": "host/1", "kind": kind, "release": "r", "seconds": 60.0, "decisions": 100, "failed": 0,
         "p50_ms": p50 * (1 + 0.02 * each), "p99_ms": 4 * p50, "memory_mb": memory(place / 4) + each, "waiting": 1, **rest}
        for place, each in enumerate(noise)
    ]  # fmt: skip


def table(*parts):
    return pa.Table.from_pylist([one for each in parts for one in each], schema=schema_of("operations"))


def against(before, now):
    "What is said of some lines, by check."
    kind = now[0]["kind"]
    return {
        each.check: each
        for each in ratio_readings(ASKED, kind, stretches_of(table(before), START, 7).get(kind, ()), now)
    }


def against_before(kind="service", **rest):
    return against(lines(21, since=START - timedelta(days=21), kind=kind, seed=1), lines(kind=kind, **rest))


def course(*weeks):
    "Lines of earlier weeks, the oldest first: release and speed of each."
    return [
        line
        for ago, (release, p50) in enumerate(reversed(weeks), 1)
        for line in lines(p50=p50, since=START - timedelta(weeks=ago), seed=ago, release=release)
    ]


def test_the_same_speed_and_size_are_fine():
    assert {each.status for each in against_before().values()} == {"fine"}


def test_a_slow_model_a_slow_batch_and_a_large_process_are_alarms():
    assert (
        against_before(p50=0.8)["performance.latency"].status
        == against_before(p50=0.8)["performance.tail"].status
        == "alarm"
    )
    assert against_before("batch", seconds=120.0)["performance.throughput"].status == "alarm"
    assert against_before(memory=lambda day: 400.0)["performance.footprint"].status == "alarm"


def test_without_anything_earlier_nothing_is_claimed():
    found = ratio_readings(ASKED, "service", (), lines())
    assert {each.status for each in found} == {"unknown"} and found[0].subject == "service"


def test_lines_are_told_apart_by_kind_and_period():
    rows = table(lines(1), lines(1, kind="batch"), lines(1, since=START - timedelta(days=9)))
    assert {kind: len(now) for kind, now in lines_in(rows, START).items()} == {"batch": 4, "service": 4}
    before = stretches_of(rows, START, 7)
    assert [(each.release, each.ago, each.fared.lines) for each in before["service"]] == [("r", 2, 4)]


def test_earlier_periods_are_summed_up_as_the_present_one_is():
    rows = lines(since=START - timedelta(days=7), memory=lambda day: 200 + day)
    rows += lines(since=START - timedelta(days=7), process="host/2", seed=2)
    rows[0] |= {"p50_ms": None, "p99_ms": float("nan"), "memory_mb": None, "decisions": 0}
    (found,) = stretches_of(table(rows), START, 7)["service"]
    assert found.fared == fared(rows) and found.ago == 1  # the last line ends where the period begins


# What is slow for long -------------------------------------------------------------------------------------


def test_a_release_that_is_slow_from_its_first_week_never_becomes_its_own_measure():
    for weeks in (1, 4, 30):
        found = against(course(*[("old", 0.2)] * 3, *[("new", 0.8)] * weeks), lines(p50=0.8, release="new"))
        reading = found["performance.latency"]
        assert reading.status == "alarm" and reading.value == pytest.approx(4, rel=0.05), weeks
        assert reading.details["against"] == "with the release before"


def test_a_release_that_became_slow_is_held_against_its_first_healthy_weeks_for_as_long_as_it_lives():
    for weeks in (1, 4, 30):
        found = against(course(("r", 0.2), *[("r", 0.8)] * weeks), lines(p50=0.8))["performance.latency"]
        assert found.status == "alarm" and found.value == pytest.approx(4, rel=0.05), weeks
        assert "in its first healthy periods" in found.sentence


def test_a_release_that_creeps_is_not_carried_along_by_its_newest_weeks():
    speeds = [0.2 * 1.1**week for week in range(12)]
    found = against(course(*(("r", speed) for speed in speeds)), lines(p50=0.2 * 1.1**12))
    assert found["performance.latency"].status == "alarm"


def test_a_faster_release_is_the_measure_for_itself_and_for_the_next_one():
    quick = course(*[("old", 0.4)] * 4, *[("quick", 0.1)] * 2)
    found = against(quick, lines(p50=0.2, release="quick"))["performance.latency"]
    assert found.status == "alarm" and found.details["against"] == "in its first healthy periods"
    found = against(quick, lines(p50=0.2, release="next"))["performance.latency"]
    assert found.status == "alarm" and found.details["before"] == pytest.approx(0.1, rel=0.05)


def test_only_the_release_just_before_is_the_measure_and_not_one_of_long_ago():
    found = against(
        course(*[("first", 0.05)] * 4, *[("second", 0.2)] * 4, ("third", 0.2)), lines(release="third")
    )
    assert found["performance.latency"].status == "fine"


def test_a_first_release_that_always_was_so_is_fine():
    assert against(course(*[("r", 0.8)] * 5), lines(p50=0.8))["performance.latency"].status == "fine"


def test_a_slow_start_and_a_week_in_which_hardly_anybody_asked_are_no_measure():
    assert first_healthy([0.9, 0.2, 0.2, 0.2, 9.0], 1.5) == pytest.approx(0.2)
    assert first_healthy([None, 0.0], 1.5) is None and first_healthy([], 1.5) is None
    assert first_healthy([0.2] * FIRST + [0.1] * 9, 1.5) == pytest.approx(0.2), "the first, not the newest"
    idle = [each | {"decisions": 1} for each in lines(p50=0.02, since=START - timedelta(weeks=2))]
    busy = lines(since=START - timedelta(weeks=1), seed=1)
    assert against([*idle, *busy], lines())["performance.latency"].status == "fine"
    assert against(idle, lines(p50=0.02))["performance.latency"].status == "fine", "better than nothing"


def test_the_release_of_a_period_is_the_one_that_decided_most():
    assert release_in([*lines(1, release="a", decisions=3), *lines(1, release="b", decisions=2)]) == "a"
    assert release_in(lines(release="")) == release_in(lines(decisions=0)) == release_in([]) == ""


# Leaks -----------------------------------------------------------------------------------------------------


def test_a_leak_is_found_within_a_week_and_a_steady_process_is_left_alone():
    (leak,) = leak_readings(ASKED, "service", lines(memory=lambda day: 200 + 12 * day))
    (steady,) = leak_readings(ASKED, "service", lines())
    assert (
        leak.status == "alarm"
        and 11 < leak.details["slope"] < 13
        and leak.details["low"] <= leak.details["slope"] <= leak.details["high"]
    )
    assert steady.status == "fine" and steady.details["low"] < 0 < steady.details["high"]


def test_a_restart_and_one_large_request_are_no_leak():
    restart = leak_readings(ASKED, "service", lines(memory=lambda day: 260.0 if day < 3 else 200.0))[0]
    peak = leak_readings(ASKED, "service", lines(memory=lambda day: 900.0 if day == 5 else 200.0))[0]
    assert restart.status == peak.status == "fine"


def test_too_few_lines_say_nothing_of_memory():
    assert (
        leak_readings(ASKED, "service", lines(1))[0].status == "unknown"
        and leak_of(np.zeros(20), np.arange(20.0)) is None
    )
    assert (
        leak_readings(ASKED, "service", [each | {"memory_mb": None} for each in lines()])[0].status
        == "unknown"
    )


@settings(max_examples=30)
@given(slope=st.floats(-50, 50), level=st.floats(0, 1000), seed=st.integers(0, 99))
def test_the_interval_holds_the_slope_that_was_put_in(slope, level, seed):
    days = np.arange(0, 7, 0.25)
    found = leak_of(
        days, level + slope * days + np.random.default_rng(seed).normal(0, 1, len(days)), confidence=0.999
    )
    assert found[1] - 0.1 <= slope <= found[2] + 0.1


def test_many_lines_are_summed_up_and_not_paired_one_by_one():
    days = np.linspace(0, 7, 20_000)
    value, low, high = leak_of(days, 100 + 5 * days)
    assert value == pytest.approx(5, abs=0.01) and low <= 5.01 and high >= 4.99


# Failures --------------------------------------------------------------------------------------------------


def test_failures_and_a_spool_that_grows_are_alarms():
    fine = {each.check: each.status for each in outcome_readings(ASKED, lines())}
    assert fine == {"performance.failed": "fine", "performance.waiting": "fine"}
    bad = {
        each.check: each.status
        for each in outcome_readings(ASKED, [each | {"failed": 5, "waiting": 20_000} for each in lines()])
    }
    assert bad == {"performance.failed": "alarm", "performance.waiting": "alarm"}
    assert (
        outcome_readings(ASKED, [each | {"decisions": 0, "waiting": None} for each in lines()])[0].status
        == "unknown"
    )
