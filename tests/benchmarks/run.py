"""Times Pullback and HIPS autograd side by side: `make bench`, or `python -m tests.benchmarks.run [--quick] [--write]`.

Each library works in a process and an environment of its own, with the same Python, NumPy and number of BLAS threads.
Their rounds alternate, so that whatever else the machine does falls on both. Nothing is asserted about time.
"""

import argparse
import os
import pickle
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIVAL_PYTHON = HERE / ".venv" / "bin" / "python"
RESULTS = HERE / "RESULTS.md"

ROUNDS = 7
ROUND_S = 0.25
GROWTH_ROUNDS = 3
GROWTH_OPERATIONS = (1_000, 10_000, 100_000, 1_000_000)
# Dearer by at most this much an operation from the shortest chain to the longest still counts as linear.
GROWTH_TARGET = 1.5
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, slots=True)
class Workload:
    """A line of the table: a function of `ours.py` and `hips.py`, and what is wanted of it."""

    function: str
    title: str
    target: float | None = None
    collector: bool = True


WORKLOADS = (
    Workload("quickstart", "quickstart, forward + backward", target=0.2),
    Workload("matyas", "Matyas, both gradients", target=0.1),
    Workload("mlp", "MLP 64-128-10, batch 64, one SGD step", target=0.5),
    Workload("elementwise", "sum(tanh(x)*exp(-x*x) + sin(x)), 1,000,000 elements"),
    Workload("chain", "100,000 scalar operations, collector on"),
    Workload("chain", "100,000 scalar operations, collector off", collector=False),
)


@dataclass(frozen=True, slots=True)
class Result:
    """The seconds of one step, round by round."""

    workload: Workload
    ours: list[float]
    rival: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours over the rival's, round by round."""
        return [ours / rival for ours, rival in zip(self.ours, self.rival, strict=True)]


@dataclass(frozen=True, slots=True)
class Growth:
    """Median seconds an operation, forward, backward and freed, of a chain of so many operations."""

    operations: int
    collector: bool
    seconds: tuple[float, float, float]


class Worker:
    """A process that holds one library and answers `worker.py`'s requests."""

    def __init__(self, python: Path | str, library: str, threads: int) -> None:
        self.process = subprocess.Popen(
            [python, "-m", "tests.benchmarks.worker", library],
            cwd=ROOT,
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait()

    def ask(self, request: str, *arguments: object) -> Any:
        """Return the answer to one request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump((request, arguments), self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)


def compare(ours: Worker, rival: Worker, *, quick: bool) -> list[Result]:
    """Time every workload on both sides, after their gradients were found equal."""
    assert_same_ground(ours, rival)
    results = []
    for workload in WORKLOADS:
        assert_same_gradients(workload, ours, rival)
        sides = [(side, 1 if quick else steps_a_round(side, workload)) for side in (ours, rival)]
        rounds = [
            [side.ask("seconds", workload.function, steps, workload.collector) for side, steps in sides]
            for _ in range(1 if quick else ROUNDS)
        ]
        results.append(Result(workload, [first for first, _ in rounds], [second for _, second in rounds]))
    return results


def assert_same_ground(ours: Worker, rival: Worker) -> None:
    """Refuse to compare what differs in more than the library."""
    first, second = ours.ask("describe"), rival.ask("describe")
    different = {key for key in first if first[key] != second[key]} - {"library"}
    if different:
        raise SystemExit(f"the two environments differ in {', '.join(sorted(different))}: {first} and {second}")


def assert_same_gradients(workload: Workload, ours: Worker, rival: Worker) -> None:
    """Refuse to time two sides that do not compute the same."""
    pairs = zip(ours.ask("check", workload.function), rival.ask("check", workload.function), strict=True)
    for first, second in pairs:
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12, err_msg=workload.title)


def steps_a_round(side: Worker, workload: Workload) -> int:
    """Return how many steps fill a round; the first, cold ones are not counted."""
    steps, once = 1, side.ask("seconds", workload.function, 1, workload.collector)
    while steps * once < ROUND_S / 10:
        steps *= 10
        once = side.ask("seconds", workload.function, steps, workload.collector)
    return max(1, round(ROUND_S / once))


def measure_growth(ours: Worker, *, quick: bool) -> list[Growth]:
    """Time our own side on longer and longer chains."""
    sizes = GROWTH_OPERATIONS[:2] if quick else GROWTH_OPERATIONS
    found = []
    for collector in (False, True):
        for operations in sizes:
            rounds = [ours.ask("growth", operations, collector) for _ in range(1 if quick else GROWTH_ROUNDS)]
            forward, backward, freed = (statistics.median(part) / operations for part in zip(*rounds, strict=True))
            found.append(Growth(operations, collector, (forward, backward, freed)))
    return found


def report(ground: Iterable[tuple[str, str]], results: list[Result], growth: list[Growth]) -> str:
    """Write the figures as Markdown."""
    lines = ["# Pullback beside HIPS autograd", ""]
    lines += [f"- {name}: {value}" for name, value in ground]
    lines += [
        "",
        "Median time of one step; the ratio is Pullback's over HIPS autograd's, its median and range over the rounds.",
    ]
    lines += ["", "| workload | Pullback | HIPS autograd | ratio | range | target | |", "|---|--:|--:|--:|--:|--:|---|"]
    lines += [result_row(result) for result in results]
    lines += ["", "Growth: a chain of scalar operations on Pullback's tape, microseconds an operation.", ""]
    lines += ["| operations | collector | forward | backward | freed | all |", "|--:|---|--:|--:|--:|--:|"]
    lines += [growth_row(row) for row in growth]
    lines += ["", *(linearity(growth, collector) for collector in (False, True)), ""]
    return "\n".join(lines)


def result_row(result: Result) -> str:
    """Write one line of the table of ratios."""
    ratio, target = statistics.median(result.ratios), result.workload.target
    verdict = "" if target is None else "met" if ratio <= target else "not met"
    cells = [
        result.workload.title,
        duration(statistics.median(result.ours)),
        duration(statistics.median(result.rival)),
        f"{ratio:.3f}",
        f"{min(result.ratios):.3f} to {max(result.ratios):.3f}",
        "" if target is None else f"{target}",
        verdict,
    ]
    return f"| {' | '.join(cells)} |"


def growth_row(row: Growth) -> str:
    """Write one line of the table of growth."""
    parts = " | ".join(f"{part * 1e6:.2f}" for part in (*row.seconds, sum(row.seconds)))
    return f"| {row.operations:,} | {switch(row.collector)} | {parts} |"


def linearity(growth: list[Growth], collector: bool) -> str:
    """Say how much dearer an operation is in the longest chain than in the shortest."""
    rows = [row for row in growth if row.collector is collector]
    factor = sum(rows[-1].seconds) / sum(rows[0].seconds)
    sentence = (
        f"- Collector {switch(collector)}: an operation among {rows[-1].operations:,} costs {factor:.2f} times one"
    )
    verdict = "met" if factor <= GROWTH_TARGET else "not met"
    target = "" if collector else f" (target: at most {GROWTH_TARGET}; {verdict})"
    return f"{sentence} among {rows[0].operations:,}{target}."


def switch(on: bool) -> str:
    """Write a state in a word."""
    return "on" if on else "off"


def duration(seconds: float) -> str:
    """Write a time with three digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def describe_ground(ours: Worker, rival: Worker, *, quick: bool) -> list[tuple[str, str]]:
    """Return what the figures depend on."""
    described = ours.ask("describe")
    libraries = f"{described.pop('library')}, {rival.ask('describe')['library']}"
    rounds = "one round of one step: no figure to quote" if quick else f"{ROUNDS}, the two sides in turn"
    return [
        ("machine", f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"),
        ("compared", libraries),
        *described.items(),
        ("OPENBLAS_CORETYPE", os.environ.get("OPENBLAS_CORETYPE", "not set")),
        ("rounds", rounds),
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
    extent.add_argument("--quick", action="store_true", help="one step of each, to see that everything runs")
    extent.add_argument("--write", action="store_true", help=f"record the figures in {RESULTS.name}")
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads of each side (default 1)")
    options = parser.parse_args()
    with (
        Worker(sys.executable, "ours", options.threads) as ours,
        Worker(RIVAL_PYTHON, "hips", options.threads) as rival,
    ):
        results = compare(ours, rival, quick=options.quick)
        growth = measure_growth(ours, quick=options.quick)
        text = report(describe_ground(ours, rival, quick=options.quick), results, growth)
    print(text, end="")
    if options.write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
