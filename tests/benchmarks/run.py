"""Times Pullback beside others: `make bench`, or `python -m tests.benchmarks.run [--quick] [--write]`.

Each library works in a process of its own, with the same Python, NumPy and number of threads; rivals that have to be
installed have an environment of their own too. The rounds of two sides alternate, so that whatever else the machine
does falls on both. Nothing is asserted about time.
"""

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from tests.benchmarks import inputs
from tests.benchmarks.processes import ALLOCATOR, HERE, Worker
from tests.benchmarks.report import RIVALS, Comparison, Figures, Growth, Ladder, Peak, Workload, report
from tests.benchmarks.workloads import LADDERS, WORKLOADS
from tests.chaos.report import kept

RESULTS = HERE / "RESULTS.md"
#: What was found out about targets that are not met; written by hand.
LIMITS = HERE / "LIMITS.md"
#: How many times as long as httpx a call of the SDK may take at most, of a number and of large arrays.
SDK_TARGETS = (1.25, 1.3)
#: How many times as long as what it is measured by a run of a session may take at most, by what it does and the store.
RUN_TARGETS = {("quickstart", "memory"): 2.0, ("quickstart", "sqlite"): 1.0, ("quickstart", "redis"): 1.0}


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: so many rounds of so many seconds, and so far up each ladder.

    limit_s: a comparison whose steps are long has fewer rounds, so that they all take about as long as this.
    """

    rounds: int
    round_s: float
    limit_s: float
    growth_rounds: int
    rungs: int
    #: numbers of programs that the server has cached, of sessions that it holds, and of operations on a session's tape
    cached: tuple[int, ...]
    held: tuple[int, ...]
    tapes: tuple[int, ...]


FULL = Effort(
    rounds=7,
    round_s=0.25,
    limit_s=30.0,
    growth_rounds=3,
    rungs=4,
    cached=(1, 10, 100, 1_000, 10_000),
    held=(1, 100, 10_000),
    tapes=(10, 100, 1_000, 10_000),
)
QUICK = Effort(
    rounds=3,
    round_s=0.02,
    limit_s=0.5,
    growth_rounds=1,
    rungs=2,
    cached=(1, 10, 100, 1_000),
    held=(1, 100),
    tapes=(10, 1_000),
)
#: To see that everything runs.
ONCE = Effort(rounds=1, round_s=0.0, limit_s=0.0, growth_rounds=1, rungs=2, cached=(1, 10), held=(1, 3), tapes=(10, 20))


class Workers:
    """The processes, each started when it is first needed, by module and number of threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._stack = ExitStack()
        self._workers: dict[tuple[str, int], Worker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, module: str, threads: int | None = None) -> Worker:
        """The one that holds a module and has as many threads, or the run's number."""
        key = module, threads or self.threads
        if key not in self._workers:
            self._workers[key] = self._stack.enter_context(Worker(*key))
        return self._workers[key]


#: From a module, and a number of threads where it is not the run's, to a worker.
Finder = Callable[..., Worker]


def measure(tables: Mapping[str, Sequence[Workload]], workers: Finder, effort: Effort) -> Figures:
    """Take all figures."""
    modules = dict.fromkeys(
        module for workloads in tables.values() for each in workloads for module in (each.ours, each.rival)
    )
    ground = describe_ground([workers(module) for module in modules], effort)
    serving = workers("serving")
    return Figures(
        ground,
        {title: [compare(each, workers, effort) for each in workloads] for title, workloads in tables.items()},
        serving.ask("call", "throughput", effort.rounds, 2 * effort.round_s),
        measure_arrays(serving, effort),
        serving.ask("call", "cached", effort.cached, effort.rounds, effort.round_s),
        [(ladder, measure_growth(ladder, workers(ladder.module), effort)) for ladder in LADDERS],
        measure_peaks(workers("programs")),
        measure_runs(workers("sessions"), effort),
        workers("sessions").ask("call", "growth", effort.held, effort.tapes),
        measure_sdk(workers("sdk"), effort),
        workers("sdk").ask("call", "recorded", effort.rounds),
    )


def measure_runs(sessions: Worker, effort: Effort) -> list[Comparison]:
    """Time runs of sessions beside a call that keeps nothing, or beside what has to reach a disk or another server."""
    return [
        Comparison(f"{what}, {store}", seconds[what], *beside(store, seconds), RUN_TARGETS.get((what, store)))
        for store, seconds in sessions.ask("call", "runs", effort.rounds).items()
        for what in ("empty", "quickstart", "MLP step")
    ]


def measure_sdk(sdk: Worker, effort: Effort) -> list[Comparison]:
    """Time the SDK beside httpx with the same bytes, and a training step in three places."""
    calls = sdk.ask("call", "calls", effort.rounds)
    found = [
        Comparison(title, ours, "httpx, the same bytes", bare, target)
        for (title, (ours, bare)), target in zip(calls.items(), SDK_TARGETS, strict=True)
    ]
    steps = sdk.ask("call", "steps", effort.rounds)
    return found + [
        Comparison(f"MLP 64-128-10, one Adam step, {where}", steps[where], "the engine in process", steps["engine"])
        for where in ("embedded", "socket")
    ]


def beside(store: str, seconds: Mapping[str, list[float]]) -> tuple[str, list[float]]:
    """What the runs on a store are measured by, and its seconds round by round."""
    if store == "memory":
        return "/v1/evaluate of the quickstart, its slow path", seconds["slow"]
    name, least = {"sqlite": ("one fsync", "fsync"), "redis": ("two round trips", "round trips")}[store]
    median_ms = 1e3 * statistics.median(seconds[least])
    return f"{name} ({median_ms:.2f} ms) and 1 ms", [each + 1e-3 for each in seconds[least]]


def compare(workload: Workload, workers: Finder, effort: Effort) -> Comparison:
    """Time a workload on both sides, after their results were found equal."""
    sides = [workers(module, workload.threads) for module in (workload.ours, workload.rival)]
    assert_same_results(workload, *sides)
    steps, seconds = zip(*(steps_a_round(side, workload, effort) for side in sides), strict=True)
    rounds = [
        [side.ask("seconds", workload.function, n, workload.collector) for side, n in zip(sides, steps, strict=True)]
        for _ in range(max(1, min(effort.rounds, int(effort.limit_s / sum(seconds)))))
    ]
    ours, rival = map(list, zip(*rounds, strict=True))
    return Comparison(workload.title, ours, RIVALS.get(workload.rival, workload.rival), rival, workload.target)


def assert_same_results(workload: Workload, ours: Worker, rival: Worker) -> None:
    """Refuse to time two sides that do not compute the same."""
    pairs = zip(ours.ask("check", workload.function), rival.ask("check", workload.function), strict=True)
    for first, second in pairs:
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12, err_msg=workload.title)


def steps_a_round(side: Worker, workload: Workload, effort: Effort) -> tuple[int, float]:
    """Return how many steps fill a round, and how many seconds they take; the first, cold ones are not counted."""
    steps, once = 1, side.ask("seconds", workload.function, 1, workload.collector)
    while steps * once < effort.round_s / 10:
        steps *= 10
        once = side.ask("seconds", workload.function, steps, workload.collector)
    number = max(1, round(effort.round_s / once))
    return number, number * once


def measure_growth(ladder: Ladder, worker: Worker, effort: Effort) -> list[Growth]:
    """Time something of our own at growing length."""
    found = []
    for collector in (False, True):
        for operations in ladder.lengths[: effort.rungs]:
            rounds = [worker.ask("growth", ladder.function, operations, collector) for _ in range(effort.growth_rounds)]
            first, second, third = (statistics.median(part) / operations for part in zip(*rounds, strict=True))
            found.append(Growth(operations, collector, (first, second, third)))
    return found


def measure_arrays(serving: Worker, effort: Effort) -> list[Comparison]:
    """Time large arrays over HTTP; of MessagePack, what comes on top of the work itself."""
    found = serving.ask("call", "arrays", effort.rounds)
    on_top = [ours - alone for ours, alone in zip(found["MessagePack"], found["in process"], strict=True)]
    median_ms = 1e3 * statistics.median(found["in process"])
    return [
        Comparison(
            f"MessagePack, on top of the {median_ms:.1f} ms in process",
            on_top,
            "bare ASGI echo of the same bytes",
            found["echo"],
            1.25,
        ),
        Comparison("JSON", found["JSON"], "orjson and NumPy both ways, in process", found["codec"], 1.5),
    ]


def measure_peaks(programs: Worker) -> list[Peak]:
    """Find what a product with a Hessian that is never formed needs."""
    vector_bytes = 8 * inputs.PRODUCT_LENGTH
    return [
        Peak(f"Rosenbrock hvp, {inputs.PRODUCT_LENGTH:,} dimensions, {title}", found / vector_bytes, 20)
        for title, found in (
            ("prepare + run", programs.ask("peak", "product")),
            ("run alone", programs.ask("peak", "product_prepared")),
        )
    ]


def describe_ground(workers: Sequence[Worker], effort: Effort) -> list[tuple[str, str]]:
    """Return what the figures depend on; refuse to compare what differs in more than the library."""
    first, *others = described = [worker.ask("describe") for worker in workers]
    for other in others:
        different = {key for key in first if first[key] != other[key]} - {"library"}
        if different:
            raise SystemExit(f"the environments differ in {', '.join(sorted(different))}: {first} and {other}")
    libraries = ", ".join(dict.fromkeys(answer["library"] for answer in described))
    rounds = f"{effort.rounds} of {effort.round_s} s or one step, the two sides in turn"
    return [
        ("machine", f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"),
        ("compared", libraries),
        *((key, value) for key, value in first.items() if key != "library"),
        ("OPENBLAS_CORETYPE", os.environ.get("OPENBLAS_CORETYPE", "not set")),
        ("allocator", ", ".join(f"{name}={value}" for name, value in ALLOCATOR.items())),
        ("rounds", rounds if effort is FULL else f"{rounds}: no figures to quote"),
        (
            "load average over the last minute",
            f"{os.getloadavg()[0]:.1f} (one process works at a time: above 1 is others)",
        ),
    ]


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def main() -> None:
    """Compare, print and, where asked, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="few and short rounds, in a minute")
    extent.add_argument("--write", action="store_true", help=f"record the figures in {RESULTS.name}")
    parser.add_argument("--threads", type=int, default=1, help="threads of each side, where a line does not say")
    options = parser.parse_args()
    with Workers(options.threads) as workers:
        figures = measure(WORKLOADS, workers, QUICK if options.quick else FULL)
    text = report(figures, LIMITS.read_text())
    print(text, end="")
    if options.write:
        RESULTS.write_text(text + kept(RESULTS.read_text()))


if __name__ == "__main__":
    main()
