"""More than a million units a second are assigned from an array, and one unit in less than 5 µs.

The default experiment, and one with all four questions to ask: holdout, slots, ramp, arm. Beside it the plain hash
of the same units in DuckDB, which nothing that hashes there can beat. Then what is under a page's sliders: the answers
of the planner, each in well under a tenth of a second.
Run as `python benchmarks/routing.py [--quick]`; prints tables in Markdown, fails when a target is missed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ml_workbench.experiment.planner import History, Terms, false_alarms, mde, plan_for, power, sample_size
from ml_workbench.plan.experiment import Experiment
from ml_workbench.plan.params import load_params
from ml_workbench.serve.hashing import over, texts_of
from ml_workbench.serve.routing import Router

ROOT = Path(__file__).resolve().parent.parent
PER_SECOND, MICROSECONDS, MILLISECONDS = 1e6, 5.0, 100.0


def seconds(action: Callable[[], object], times: int = 5) -> float:
    "The shortest of some runs."
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def one(router: Router, units: list, times: int = 5) -> float:
    "The microseconds of a single call, each timed by itself: the lowest median of some runs."
    assign, clock, medians = router.assign, time.perf_counter_ns, []
    for _ in range(times):
        taken = []
        for unit in units:
            begun = clock()
            assign(unit)
            taken.append(clock() - begun)
        medians.append(statistics.median(taken))
    return min(medians) / 1000


def experiments() -> dict[str, Experiment]:
    "The default one, and one that asks all four questions."
    default = load_params(ROOT).experiment
    return {
        "default": default,
        "all four questions": default.model_copy(update={"slots": [0.1, 0.9], "ramp": 0.9}),
    }


def routing(rows: int) -> bool:
    "Print how fast units are assigned; whether the targets are met."
    numbers = np.arange(rows)
    texts = np.char.add("customer-", numbers[: rows // 4].astype(str))
    bare = rows / seconds(lambda: over(texts_of(numbers), "md5('salt:' || unit) < '8'"), 7)
    print(f"One bare MD5 per unit in DuckDB: {bare / 1e6:.1f} million a second\n")
    print("| experiment | units | a second | target | one unit | target |")
    print("|---|---|---:|---:|---:|---:|")
    met = True
    for name, experiment in experiments().items():
        router = Router(experiment)
        for kind, units in (("whole numbers", numbers), ("texts", texts)):
            rate = len(units) / seconds(lambda router=router, units=units: router.assign_many(units), 7)
            single = one(router, [str(unit) if kind == "texts" else int(unit) for unit in units[:20_000]])
            met &= rate > PER_SECOND and single < MICROSECONDS
            print(
                f"| {name} | {kind} | {rate / 1e6:.2f} million | {PER_SECOND / 1e6:.0f} million "
                f"| {single:.2f} µs | {MICROSECONDS:g} µs |"
            )
    return met


def planning() -> bool:
    "Print how long the planner takes; whether a slider would feel it."
    history = History(mean=261.0, sd=281.0, kind="revenue", units_per_week=10, at_start=2304, r2=0.68)
    terms = Terms(0.4, (0.4, 0.2), looks=7)
    asked: dict[str, Callable[[], object]] = {
        "power": lambda: power(20.0, 2000, history, terms),
        "smallest detectable effect": lambda: mde(2000, history, terms),
        "sample size": lambda: sample_size(20.0, history, terms),
        "chance of a false alarm, 20 looks": lambda: false_alarms(20),
        "plan of 52 weeks, with sentences": lambda: plan_for(20.0, history, terms, weeks=52),
    }
    print("\n| question | takes | target |\n|---|---:|---:|")
    taken = {name: 1000 * seconds(action) for name, action in asked.items()}
    for name, milliseconds in taken.items():
        print(f"| {name} | {milliseconds:.2f} ms | {MILLISECONDS:g} ms |")
    return max(taken.values()) < MILLISECONDS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the units")
    rows = 500_000 if parser.parse_args().quick else 2_000_000
    met = [routing(rows), planning()]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
