"""The workloads in Python and NumPy alone, derivatives and all, as one would write them by hand.

Each function prepares one workload and returns a step; the step returns the value and the gradients, or the parameters
that it has made.
"""

from collections.abc import Callable

import numpy as np

from tests.benchmarks import inputs

PACKAGE = "numpy"


def matyas_rows() -> Callable[[], object]:
    x, y = inputs.matyas_rows()

    def step():
        value = 0.26 * (x**2 + y**2) - 0.48 * x * y
        return value, (0.52 * x - 0.48 * y, 0.52 * y - 0.48 * x)

    return step


matyas_rows_prepared = matyas_rows


def rosenbrock_2d(x: float, y: float) -> tuple[float, tuple[float, float]]:
    """Value and gradient."""
    a, b = y - x * x, x - 1.0
    return 100.0 * a * a + b * b, (2.0 * b - 400.0 * a * x, 200.0 * a)


def descent_by_steps() -> Callable[[], object]:
    def step():
        x, y = inputs.DESCENT_START
        for _ in range(inputs.DESCENT_STEPS):
            _, (gx, gy) = rosenbrock_2d(x, y)
            x -= inputs.DESCENT_RATE * gx
            y -= inputs.DESCENT_RATE * gy
        return x, y

    return step


def descent() -> Callable[[], object]:
    def step():
        x, y = inputs.DESCENT_START
        rate = inputs.DESCENT_RATE
        for _ in range(inputs.DESCENT_STEPS):
            a = y - x * x
            x -= rate * (2.0 * (x - 1.0) - 400.0 * a * x)
            y -= rate * 200.0 * a
        return x, y

    return step


def mlp_small() -> Callable[[], object]:
    x, labels = inputs.mlp_batch(inputs.SMALL_BATCH)
    params = inputs.mlp_parameters()
    w1, b1, w2, b2 = params
    rows = np.arange(inputs.SMALL_BATCH)

    def step():
        hidden = x @ w1
        hidden += b1
        np.tanh(hidden, out=hidden)
        logits = hidden @ w2
        logits += b2
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[rows, labels]
        probabilities = np.exp(logits, out=logits)
        totals = probabilities.sum(axis=1, keepdims=True)
        loss = (np.log(totals).sum() - chosen.sum()) / inputs.SMALL_BATCH
        probabilities /= totals
        probabilities[rows, labels] -= 1.0
        g_logits = probabilities
        g_logits /= inputs.SMALL_BATCH
        g_hidden = g_logits @ w2.T
        g_w2 = hidden.T @ g_logits
        hidden *= hidden
        g_hidden *= np.subtract(1.0, hidden, out=hidden)
        grads = x.T @ g_hidden, g_hidden.sum(axis=0), g_w2, g_logits.sum(axis=0)
        for param, grad in zip(params, grads, strict=True):
            grad *= inputs.RATE
            param -= grad
        return loss, params

    return step


def matmul() -> Callable[[], object]:
    a, b = inputs.matrices()

    def step():
        c = a @ b
        value = np.sum(np.square(c))
        c *= 2.0
        return value, (c @ b.T, a.T @ c)

    return step
