"""The workloads in NumPy alone, derivatives and all, as one would write them by hand.

Each function prepares one workload and returns a step; the step returns the value and the gradients.
"""

from collections.abc import Callable

from tests.benchmarks import inputs

PACKAGE = "numpy"


def matyas_rows() -> Callable[[], object]:
    x, y = inputs.matyas_rows()

    def step():
        value = 0.26 * (x**2 + y**2) - 0.48 * x * y
        return value, (0.52 * x - 0.48 * y, 0.52 * y - 0.48 * x)

    return step


matyas_rows_prepared = matyas_rows
