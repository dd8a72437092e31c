"""What benchmarks measure by: the shortest of several turns, and memory at its highest."""

import sys
import time
from collections.abc import Callable
from pathlib import Path


def best_of(times: int, works: list[Callable[[], object]]) -> list[float]:
    "Shortest wall time of each: what the machine can do when nothing else disturbs it. They take turns."
    found: list[list[float]] = [[] for _ in works]
    for _ in range(times):
        for place, work in enumerate(works):
            start = time.perf_counter()
            work()
            found[place].append(time.perf_counter() - start)
    return [min(some) for some in found]


def peak_megabytes() -> float:
    "Resident memory of this process at its highest; on Linux since the program was loaded, as getrusage begins at what its parent held."
    if (status := Path("/proc/self/status")).is_file():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    )
