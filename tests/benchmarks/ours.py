"""The workloads in Pullback, eager: on a tape, without compiling anything.

Each function prepares one workload and returns a step; the step returns the value and the gradients.
"""

import time
from collections.abc import Callable

from engine import Variable
from engine import functions as F
from tests.benchmarks import inputs

PACKAGE = "pullback-server"


def quickstart() -> Callable[[], object]:
    def step():
        x = Variable(inputs.QUICKSTART_X)
        y = F.square(F.exp(F.square(x)))
        y.backward()
        return y.data, x.grad.data

    return step


def matyas() -> Callable[[], object]:
    def step():
        x, y = Variable(inputs.MATYAS_X), Variable(inputs.MATYAS_Y)
        z = 0.26 * (x**2 + y**2) - 0.48 * x * y
        z.backward()
        return z.data, (x.grad.data, y.grad.data)

    return step


def mlp() -> Callable[[], object]:
    x, labels = inputs.mlp_batch()
    params = [Variable(param) for param in inputs.mlp_parameters()]
    w1, b1, w2, b2 = params

    def step():
        loss = F.cross_entropy(F.linear(F.tanh(F.linear(x, w1, b1)), w2, b2), labels)
        loss.backward()
        grads = [param.grad.data for param in params]
        for param, grad in zip(params, grads, strict=True):
            param.data = param.data - inputs.RATE * grad
            param.cleargrad()
        return loss.data, grads

    return step


def elementwise() -> Callable[[], object]:
    data = inputs.elementwise_x()

    def step():
        x = Variable(data)
        y = F.sum(F.tanh(x) * F.exp(-x * x) + F.sin(x))
        y.backward()
        return y.data, x.grad.data

    return step


def repeat(y: Variable, operations: int) -> Variable:
    for _ in range(operations // 2):
        y = y * inputs.CHAIN_FACTOR
        y = y + inputs.CHAIN_TERM
    return y


def chain() -> Callable[[], object]:
    def step():
        x = Variable(inputs.CHAIN_X)
        y = repeat(x, inputs.CHAIN_OPERATIONS)
        y.backward()
        return y.data, x.grad.data

    return step


def tape_growth(operations: int) -> tuple[float, float, float]:
    """Return the seconds that a chain of that length takes forward, backward and to be freed."""
    x = Variable(inputs.CHAIN_X)
    start = time.perf_counter()
    y = repeat(x, operations)
    forward = time.perf_counter()
    y.backward()
    backward = time.perf_counter()
    del y
    freed = time.perf_counter()
    return forward - start, backward - forward, freed - backward
