"""Libraries at work in processes of their own, each with the interpreter and the number of threads that it is given."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIVAL_PYTHON = HERE / ".venv" / "bin" / "python"

#: The modules whose libraries have to be installed in an environment beside ours.
RIVAL_MODULES = ("hips", "pytorch", "xla")
# NPROC is what XLA makes its pool of threads from.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NPROC")
# glibc gives freed memory back to the system, or keeps it, depending on what else lies in the heap; taking arrays of
# megabytes anew in every step can double its time on either side. With these it keeps them, on all sides.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2), "MALLOC_TRIM_THRESHOLD_": str(1024**3)}


#: Modules that start processes beside themselves, for which one processor would be none.
UNRESTRICTED = ("serving", "sessions", "sdk")


class Worker:
    """A process that holds one module of workloads and answers `worker.py`'s requests.

    It is kept on as many processors as it has threads, for libraries that ask the system how many there are.
    """

    def __init__(self, module: str, threads: int) -> None:
        python = RIVAL_PYTHON if module in RIVAL_MODULES else sys.executable
        processors = [] if module in UNRESTRICTED else [str(threads)]
        self.process = subprocess.Popen(
            [python, "-m", "tests.benchmarks.worker", module, *processors],
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
