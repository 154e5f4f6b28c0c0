"""Times Pullback beside others: `make bench`, or `python -m tests.benchmarks.run [--quick] [--write]`.

Each library works in a process of its own, with the same Python, NumPy and number of threads; rivals that have to be
installed have an environment of their own too. The rounds of two sides alternate, so that whatever else the machine
does falls on both. Nothing is asserted about time.
"""

import argparse
import os
import pickle
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from tests.benchmarks import inputs
from tests.benchmarks.report import Growth, Ladder, Peak, Result, Workload, report

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIVAL_PYTHON = HERE / ".venv" / "bin" / "python"
RESULTS = HERE / "RESULTS.md"

#: The interpreter that has what a module of workloads needs.
PYTHONS = {
    "ours": sys.executable,
    "programs": sys.executable,
    "by_hand": sys.executable,
    "hips": RIVAL_PYTHON,
    "xla": RIVAL_PYTHON,
}

ROUNDS = 7
ROUND_S = 0.25
GROWTH_ROUNDS = 3
# NPROC is what XLA makes its pool of threads from.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NPROC")
# glibc gives freed memory back to the system, or keeps it, depending on what else lies in the heap; taking arrays of
# megabytes anew in every step can double its time on either side. With these it keeps them, on all sides.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2), "MALLOC_TRIM_THRESHOLD_": str(1024**3)}

WORKLOADS = (
    Workload("quickstart", "quickstart, forward + backward", target=0.2),
    Workload("matyas", "Matyas, both gradients", target=0.1),
    Workload("mlp", "MLP 64-128-10, batch 64, one SGD step", target=0.5),
    Workload("elementwise", "sum(tanh(x)*exp(-x*x) + sin(x)), 1,000,000 elements"),
    Workload("chain", "100,000 scalar operations, collector on"),
    Workload("chain", "100,000 scalar operations, collector off", collector=False),
    *(
        Workload(function, title, target, ours="programs", rival=rival)
        for function, title, target, rival in (
            ("matyas_rows", "batched Matyas, value and both gradients of 100,000 rows: prepare + run", 1.3, "by_hand"),
            ("matyas_rows_prepared", "the same, run alone", 1.3, "by_hand"),
            ("rosenbrock", "Rosenbrock-100 Hessian: prepare + run", None, "xla"),
            ("rosenbrock_prepared", "the same, run alone, which gives value and gradient too", 1.0, "xla"),
            ("rosenbrock_whole_prepared", "Rosenbrock-100 value, gradient and Hessian: run alone", None, "xla"),
            ("sine", "sin to order 6: prepare + run", None, "hips"),
            ("sine_prepared", "the same, run alone", None, "hips"),
            ("sine", "sin to order 6: prepare + run", None, "xla"),
            ("sine_prepared", "the same, run alone", None, "xla"),
            ("product", "Rosenbrock hvp, 1,000,000 dimensions: prepare + run", None, "xla"),
            ("product_prepared", "the same, run alone", None, "xla"),
        )
    ),
)

#: What an operation may cost more in the longest than in the shortest, and still count as linear.
LINEAR = 1.5
TAPE_PHASES = ("forward", "backward", "freed")
GRAPH_PHASES = ("trace and simplify", "gradient", "schedule")
GRAPH_LENGTHS = (100, 1_000, 10_000)
LADDERS = (
    Ladder(
        "ours",
        "tape_growth",
        "a chain of scalar operations on Pullback's tape",
        TAPE_PHASES,
        (1_000, 10_000, 100_000, 1_000_000),
        LINEAR,
    ),
    Ladder("programs", "chain_growth", "a program that is one chain", GRAPH_PHASES, GRAPH_LENGTHS, LINEAR),
    Ladder("programs", "sum_growth", "a program that is one wide sum", GRAPH_PHASES, GRAPH_LENGTHS, LINEAR),
)


class Worker:
    """A process that holds one library and answers `worker.py`'s requests."""

    def __init__(self, library: str, threads: int) -> None:
        self.process = subprocess.Popen(
            [PYTHONS[library], "-m", "tests.benchmarks.worker", library],
            cwd=ROOT,
            env={**os.environ, **ALLOCATOR, **dict.fromkeys(THREAD_VARIABLES, str(threads))},
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


def compare(workload: Workload, ours: Worker, rival: Worker, *, quick: bool) -> Result:
    """Time a workload on both sides, after their gradients were found equal."""
    assert_same_gradients(workload, ours, rival)
    sides = [(side, 1 if quick else steps_a_round(side, workload)) for side in (ours, rival)]
    rounds = [
        [side.ask("seconds", workload.function, steps, workload.collector) for side, steps in sides]
        for _ in range(1 if quick else ROUNDS)
    ]
    return Result(workload, [first for first, _ in rounds], [second for _, second in rounds])


def assert_same_ground(workers: Mapping[str, Worker]) -> None:
    """Refuse to compare what differs in more than the library."""
    first, *others = (worker.ask("describe") for worker in workers.values())
    for other in others:
        different = {key for key in first if first[key] != other[key]} - {"library"}
        if different:
            raise SystemExit(f"the environments differ in {', '.join(sorted(different))}: {first} and {other}")


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


def measure_growth(ladder: Ladder, worker: Worker, *, quick: bool) -> list[Growth]:
    """Time something of our own at growing length."""
    lengths = ladder.lengths[:2] if quick else ladder.lengths
    found = []
    for collector in (False, True):
        for operations in lengths:
            rounds = [
                worker.ask("growth", ladder.function, operations, collector)
                for _ in range(1 if quick else GROWTH_ROUNDS)
            ]
            first, second, third = (statistics.median(part) / operations for part in zip(*rounds, strict=True))
            found.append(Growth(operations, collector, (first, second, third)))
    return found


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


def describe_ground(workers: Mapping[str, Worker], *, quick: bool) -> list[tuple[str, str]]:
    """Return what the figures depend on."""
    described = [worker.ask("describe") for worker in workers.values()]
    libraries = ", ".join(dict.fromkeys(answer["library"] for answer in described))
    shared = {key: value for key, value in described[0].items() if key != "library"}
    rounds = "one round of one step: no figure to quote" if quick else f"{ROUNDS}, the two sides in turn"
    return [
        ("machine", f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"),
        ("compared", libraries),
        *shared.items(),
        ("OPENBLAS_CORETYPE", os.environ.get("OPENBLAS_CORETYPE", "not set")),
        ("allocator", ", ".join(f"{name}={value}" for name, value in ALLOCATOR.items())),
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
    parser.add_argument("--threads", type=int, default=1, help="threads of BLAS and XLA on each side (default 1)")
    options = parser.parse_args()
    with ExitStack() as stack:
        workers = {library: stack.enter_context(Worker(library, options.threads)) for library in PYTHONS}
        assert_same_ground(workers)
        results = [compare(w, workers[w.ours], workers[w.rival], quick=options.quick) for w in WORKLOADS]
        ladders = [(x, measure_growth(x, workers[x.module], quick=options.quick)) for x in LADDERS]
        peaks = measure_peaks(workers["programs"])
        text = report(describe_ground(workers, quick=options.quick), results, ladders, peaks)
    print(text, end="")
    if options.write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
