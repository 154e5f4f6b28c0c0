"""The benchmark runs and computes the right things on our own side; nothing is asserted about time."""

import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.benchmarks import inputs, run


@pytest.fixture(scope="module")
def worker() -> Iterator[run.Worker]:
    with run.Worker(sys.executable, "ours", threads=1) as started:
        yield started


def quickstart() -> list[object]:
    return [1.648721270700128, 3.297442541400256]


def matyas() -> list[object]:
    return [0.040000000000000036, 0.040000000000000036, 0.040000000000000036]


def mlp() -> list[object]:
    x, labels = inputs.mlp_batch()
    w1, b1, w2, b2 = inputs.mlp_parameters()
    hidden = np.tanh(x @ w1 + b1)
    exponentials = np.exp(hidden @ w2 + b2)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(inputs.BATCH)
    loss = -np.log(probabilities[rows, labels]).mean()
    probabilities[rows, labels] -= 1.0
    g_logits = probabilities / inputs.BATCH
    g_hidden = (g_logits @ w2.T) * (1.0 - hidden**2)
    return [loss, x.T @ g_hidden, g_hidden.sum(axis=0), hidden.T @ g_logits, g_logits.sum(axis=0)]


def elementwise() -> list[object]:
    x = inputs.elementwise_x()
    value = np.tanh(x) * np.exp(-x * x) + np.sin(x)
    gradient = np.exp(-x * x) * (1.0 - np.tanh(x) ** 2 - 2.0 * x * np.tanh(x)) + np.cos(x)
    return [value.sum(), gradient]


def chain() -> list[object]:
    pairs = inputs.CHAIN_OPERATIONS // 2
    power = inputs.CHAIN_FACTOR**pairs
    series = inputs.CHAIN_TERM * (1.0 - power) / (1.0 - inputs.CHAIN_FACTOR)
    return [inputs.CHAIN_X * power + series, power]


@pytest.mark.parametrize("expected", [quickstart, matyas, mlp, elementwise, chain])
def test_value_and_gradients(worker: run.Worker, expected: Callable[[], list[object]]) -> None:
    found = worker.ask("check", expected.__name__)
    for first, second in zip(found, expected(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12)


def test_report_has_every_workload(worker: run.Worker) -> None:
    """The whole run, with ourselves as the rival."""
    results = run.compare(worker, worker, quick=True)
    growth = run.measure_growth(worker, quick=True)
    text = run.report(run.describe_ground(worker, worker, quick=True), results, growth)
    assert all(f"| {workload.title} |" in text for workload in run.WORKLOADS)
    assert text.count("| 1,000 |") == text.count("| 10,000 |") == 2
