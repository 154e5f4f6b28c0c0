"""One library in one process: answers requests on a pipe. Started by `run.py` in the library's own environment.

A request is a pickled (name of a function below, arguments); the answer is what it returns.
"""

import gc
import importlib
import importlib.metadata
import os
import pickle
import platform
import sys
import time
import tracemalloc
from contextlib import contextmanager
from types import ModuleType

import numpy as np


def describe(library: ModuleType) -> dict[str, str]:
    """Return what the figures depend on; it must be the same on both sides, but for the library."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "library": f"{library.PACKAGE} {importlib.metadata.version(library.PACKAGE)}",
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "BLAS": f"{blas['name']} {blas['version']}",
        "threads of each side, where a line does not say": os.environ["OMP_NUM_THREADS"],
    }


def check(library: ModuleType, workload: str) -> list[np.ndarray]:
    """Return the value and the gradients of a first step."""
    return [np.asarray(array) for array in flatten(getattr(library, workload)()())]


def seconds(library: ModuleType, workload: str, number: int, collector: bool) -> float:
    """Return the seconds of one step: the mean of `number` steps from a fresh start."""
    step = getattr(library, workload)()
    with garbage_collector(collector):
        start = time.perf_counter()
        for _ in range(number):
            step()
        return (time.perf_counter() - start) / number


def call(library: ModuleType, function: str, *arguments: object) -> object:
    """Return what a function of the module does."""
    return getattr(library, function)(*arguments)


def growth(library: ModuleType, function: str, operations: int, collector: bool) -> tuple[float, float, float]:
    """Return the seconds of the three phases of something of that many operations."""
    with garbage_collector(collector):
        return getattr(library, function)(operations)


def peak(library: ModuleType, workload: str) -> int:
    """Return the most bytes that a second step holds at once beside what there was before it."""
    step = getattr(library, workload)()
    step()
    gc.collect()
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@contextmanager
def garbage_collector(enabled: bool):
    """Start from a clean heap, with the collector as said."""
    gc.collect()
    if not enabled:
        gc.disable()
    try:
        yield
    finally:
        gc.enable()


def flatten(values: object) -> list[object]:
    """Return the leaves of nested tuples and lists."""
    if isinstance(values, tuple | list):
        return [leaf for value in values for leaf in flatten(value)]
    return [values]


REQUESTS = {function.__name__: function for function in (describe, check, seconds, call, growth, peak)}


def main() -> None:
    """Answer until the pipe is closed."""
    module, *processors = sys.argv[1:]
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(processors[0]) :])
    library = importlib.import_module(f"tests.benchmarks.{module}")
    while True:
        try:
            request, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(REQUESTS[request](library, *arguments), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
