"""The workloads in HIPS autograd, as its documentation writes them: the gradient's function is made once, then called.

Each function prepares one workload and returns a step; the step returns the value and the gradients.
"""

from collections.abc import Callable

import autograd.numpy as np
from autograd import elementwise_grad, value_and_grad
from autograd.scipy.special import logsumexp

from tests.benchmarks import inputs

PACKAGE = "autograd"


def quickstart() -> Callable[[], object]:
    step = value_and_grad(lambda x: np.square(np.exp(np.square(x))))
    return lambda: step(inputs.QUICKSTART_X)


def matyas() -> Callable[[], object]:
    step = value_and_grad(lambda x, y: 0.26 * (x**2 + y**2) - 0.48 * x * y, argnum=(0, 1))
    return lambda: step(inputs.MATYAS_X, inputs.MATYAS_Y)


def mlp() -> Callable[[], object]:
    x, labels = inputs.mlp_batch()
    targets = np.eye(inputs.CLASSES)[labels]
    params = inputs.mlp_parameters()

    def loss(w1, b1, w2, b2):
        logits = np.dot(np.tanh(np.dot(x, w1) + b1), w2) + b2
        log_probabilities = logits - logsumexp(logits, axis=1, keepdims=True)
        return -np.sum(log_probabilities * targets) / inputs.BATCH

    value_and_gradients = value_and_grad(loss, argnum=(0, 1, 2, 3))

    def step():
        nonlocal params
        value, grads = value_and_gradients(*params)
        params = [param - inputs.RATE * grad for param, grad in zip(params, grads, strict=True)]
        return value, grads

    return step


def elementwise() -> Callable[[], object]:
    step = value_and_grad(lambda x: np.sum(np.tanh(x) * np.exp(-x * x) + np.sin(x)))
    x = inputs.elementwise_x()
    return lambda: step(x)


def chain() -> Callable[[], object]:
    def repeat(y):
        for _ in range(inputs.CHAIN_OPERATIONS // 2):
            y = y * inputs.CHAIN_FACTOR
            y = y + inputs.CHAIN_TERM
        return y

    step = value_and_grad(repeat)
    return lambda: step(inputs.CHAIN_X)


def sine() -> Callable[[], object]:
    functions = [np.sin]
    for _ in range(inputs.SINE_ORDER):
        functions.append(elementwise_grad(functions[-1]))
    return lambda: [function(inputs.SINE_X) for function in functions]


sine_prepared = sine
