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
    fared,
    leak_of,
    leak_readings,
    outcome_readings,
    ratio_readings,
    split_lines,
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


def against_before(kind="service", **rest):
    before = lines(21, since=START - timedelta(days=21), kind=kind, seed=1)
    return {
        each.check: each
        for each in ratio_readings(ASKED, kind, fared(before), fared(lines(kind=kind, **rest)))
    }


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
    found = ratio_readings(ASKED, "service", fared([]), fared(lines()))
    assert {each.status for each in found} == {"unknown"} and found[0].subject == "service"


def test_lines_are_told_apart_by_kind_and_period():
    table = pa.Table.from_pylist(
        [*lines(1), *lines(1, kind="batch"), *lines(1, since=START - timedelta(days=9))],
        schema=schema_of("operations"),
    )
    found = split_lines(table, START)
    assert {kind: (len(before), len(now)) for kind, (before, now) in found.items()} == {
        "batch": (0, 4),
        "service": (4, 4),
    }


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
