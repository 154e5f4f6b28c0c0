"""The benchmark runs and computes the right things on our own side; nothing is asserted about time."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from tests.benchmarks import inputs, run
from tests.benchmarks.report import report

OURS = ("ours", "programs", "by_hand")


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, run.Worker]]:
    with ExitStack() as stack:
        yield {library: stack.enter_context(run.Worker(library, threads=1)) for library in OURS}


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


def matyas_rows() -> list[object]:
    x, y = inputs.matyas_rows()
    return [0.26 * (x * x + y * y) - 0.48 * x * y, 0.52 * x - 0.48 * y, 0.52 * y - 0.48 * x]


def rosenbrock() -> list[object]:
    return [rosenbrock_whole()[2]]


def rosenbrock_whole() -> list[object]:
    x = inputs.rosenbrock_x()
    head, tail = x[:-1], x[1:]
    residual = tail - head**2
    gradient, diagonal = np.zeros_like(x), np.zeros_like(x)
    gradient[:-1] += -400.0 * head * residual - 2.0 * (1.0 - head)
    gradient[1:] += 200.0 * residual
    diagonal[:-1] += 800.0 * head**2 - 400.0 * residual + 2.0
    diagonal[1:] += 200.0
    hessian = np.diag(diagonal) + np.diag(-400.0 * head, 1) + np.diag(-400.0 * head, -1)
    return [np.sum(100.0 * residual**2 + (1.0 - head) ** 2), gradient, hessian]


def sine() -> list[object]:
    return [np.sin(inputs.SINE_X + n * np.pi / 2) for n in range(inputs.SINE_ORDER + 1)]


def product() -> list[object]:
    x, v = inputs.product_operands()
    found = 200.0 * v
    found[0] = 0.0
    found[:-1] += (1200.0 * x[:-1] ** 2 - 400.0 * x[1:] + 2.0) * v[:-1] - 400.0 * x[:-1] * v[1:]
    found[1:] -= 400.0 * x[:-1] * v[:-1]
    return [found]


CASES = [
    *(("ours", expected.__name__, expected) for expected in (quickstart, matyas, mlp, elementwise, chain)),
    ("by_hand", "matyas_rows", matyas_rows),
    ("programs", "rosenbrock_whole_prepared", rosenbrock_whole),
    *(
        ("programs", expected.__name__ + suffix, expected)
        for expected in (matyas_rows, rosenbrock, sine, product)
        for suffix in ("", "_prepared")
    ),
]


@pytest.mark.parametrize(("library", "workload", "expected"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_value_and_gradients(
    workers: dict[str, run.Worker], library: str, workload: str, expected: Callable[[], list[object]]
) -> None:
    found = workers[library].ask("check", workload)
    for first, second in zip(found, expected(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12)


def test_every_workload_is_checked() -> None:
    assert {(workload.ours, workload.function) for workload in run.WORKLOADS} <= {case[:2] for case in CASES}


def test_report_has_every_workload(workers: dict[str, run.Worker]) -> None:
    """The whole run, with ourselves as the rival of what needs an environment of its own."""
    results = [
        run.compare(workload, workers[workload.ours], workers.get(workload.rival, workers[workload.ours]), quick=True)
        for workload in run.WORKLOADS
    ]
    ladders = [(ladder, run.measure_growth(ladder, workers[ladder.module], quick=True)) for ladder in run.LADDERS]
    ground = run.describe_ground(workers, quick=True)
    text = report(ground, results, ladders, run.measure_peaks(workers["programs"]))
    for workload in run.WORKLOADS:
        assert f"| {workload.title} |" in text
    for ladder, growth in ladders:
        assert ladder.title in text
        assert [row.operations for row in growth] == [*ladder.lengths[:2]] * 2
    assert text.count(" vectors (target: at most 20; met)") == 2
