"""The benchmark runs and computes the right things on our own side; nothing is asserted about time."""

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine import functions as F
from engine import load_state_dict, models
from tests.benchmarks import inputs, overload, run
from tests.benchmarks.load import Round
from tests.benchmarks.processes import RIVAL_MODULES
from tests.benchmarks.report import Comparison, comparison_row, rate_cells, report
from tests.benchmarks.serving import SERVERS
from tests.benchmarks.sessions import STORES
from tests.benchmarks.workloads import LADDERS, WORKLOADS


@pytest.fixture(scope="module")
def workers() -> Iterator[run.Workers]:
    with run.Workers(threads=1) as found:
        yield found


def quickstart() -> list[object]:
    return [1.648721270700128, 3.297442541400256]


def matyas() -> list[object]:
    return [0.040000000000000036, 0.040000000000000036, 0.040000000000000036]


def mlp(batch: int = inputs.BATCH) -> list[object]:
    x, labels = inputs.mlp_batch(batch)
    w1, b1, w2, b2 = inputs.mlp_parameters()
    hidden = np.tanh(x @ w1 + b1)
    exponentials = np.exp(hidden @ w2 + b2)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(batch)
    loss = -np.log(probabilities[rows, labels]).mean()
    probabilities[rows, labels] -= 1.0
    g_logits = probabilities / batch
    g_hidden = (g_logits @ w2.T) * (1.0 - hidden**2)
    return [loss, x.T @ g_hidden, g_hidden.sum(axis=0), hidden.T @ g_logits, g_logits.sum(axis=0)]


def elementwise() -> list[object]:
    x = inputs.elementwise_x()
    value = np.tanh(x) * np.exp(-x * x) + np.sin(x)
    gradient = np.exp(-x * x) * (1.0 - np.tanh(x) ** 2 - 2.0 * x * np.tanh(x)) + np.cos(x)
    return [value.sum(), gradient]


def waves() -> list[object]:
    x = inputs.elementwise_x()
    y = np.exp(np.tanh(x))
    return [np.sin(y).sum(), np.cos(y) * y * (1.0 - np.tanh(x) ** 2)]


def descent() -> list[object]:
    x, y = inputs.DESCENT_START
    for _ in range(inputs.DESCENT_STEPS):
        gradient = -400.0 * x * (y - x**2) - 2.0 * (1.0 - x), 200.0 * (y - x**2)
        x, y = x - inputs.DESCENT_RATE * gradient[0], y - inputs.DESCENT_RATE * gradient[1]
    return [x, y]


def mlp_small() -> list[object]:
    value, *grads = mlp(inputs.SMALL_BATCH)
    return [value, *(w - inputs.RATE * g for w, g in zip(inputs.mlp_parameters(), grads, strict=True))]


def lstm() -> list[object]:
    """One step of the library's own model, whose gates have parameters of their own, on a tape."""
    xs, t = inputs.lstm_batch()
    given, size = inputs.lstm_parameters(), inputs.LSTM_HIDDEN
    model = models.LSTM(size, 1, rng=0)
    state = {"linear.w": given["w"], "linear.b": given["c"][None]}
    for k, gate in enumerate("ifuo"):
        columns = slice(k * size, (k + 1) * size)
        state[f"lstm.x2{gate}.w"], state[f"lstm.h2{gate}.w"] = given["x2z"][:, columns], given["h2z"][:, columns]
        state[f"lstm.x2{gate}.b"] = given["b"][None, columns]
    load_state_dict(model, state)
    for x in xs:
        y = model(x)
    loss = F.mean_squared_error(y, t)
    loss.backward()
    after = {name: param.data - inputs.RATE * param.grad.data for name, param in model.params().items()}

    def joined(pattern: str) -> Any:
        return np.concatenate([after[pattern.format(gate)] for gate in "ifuo"], axis=1)

    b, c = joined("lstm.x2{}.b")[0], after["linear.b"][0]
    return [loss.data, joined("lstm.x2{}.w"), joined("lstm.h2{}.w"), b, after["linear.w"], c]


def matmul() -> list[object]:
    a, b = inputs.matrices()
    gram = b @ b.T
    return [np.sum((a.T @ a) * gram), (2.0 * a @ gram), 2.0 * (a.T @ a) @ b]


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
    *(("compiled", expected.__name__, expected) for expected in (quickstart, descent, mlp_small, waves, matmul)),
    ("compiled", "descent_by_steps", descent),
    ("compiled", "lstm_cells", lstm),
    ("compiled", "lstm_layer", lstm),
    ("compiled", "rosenbrock_compiled", rosenbrock),
    *(("by_hand", expected.__name__, expected) for expected in (descent, mlp_small, matmul, matyas_rows)),
    ("by_hand", "descent_by_steps", descent),
    ("programs", "rosenbrock_whole_prepared", rosenbrock_whole),
    *(
        ("programs", expected.__name__ + suffix, expected)
        for expected in (matyas_rows, rosenbrock, sine, product)
        for suffix in ("", "_prepared")
    ),
]
OUR_MODULES = {"ours", "compiled", "programs"}


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize(("library", "workload", "expected"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_value_and_gradients(
    workers: run.Workers, library: str, workload: str, expected: Callable[[], list[object]]
) -> None:
    found = workers(library).ask("check", workload)
    for first, second in zip(found, expected(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12)


def test_every_workload_is_checked() -> None:
    workloads = itertools.chain.from_iterable(WORKLOADS.values())
    assert {(each.ours, each.function) for each in workloads} <= {case[:2] for case in CASES}


@pytest.mark.thorough
def test_report_has_every_line(workers: run.Workers) -> None:
    """The whole run, servers and all, with ourselves as the rival of what needs an environment of its own."""
    tables = {
        title: [replace(each, rival=each.ours) if each.rival in RIVAL_MODULES else each for each in workloads]
        for title, workloads in WORKLOADS.items()
    }
    text = report(run.measure(tables, workers, run.ONCE), "## Limits\n")
    for title, workloads in WORKLOADS.items():
        assert f"## {title}" in text
        assert all(f"| {each.title} |" in text for each in workloads)
    for ladder in LADDERS:
        assert f"{ladder.title[1:]}, microseconds" in text
    assert all(f"\n| {server} |" in text for server in SERVERS)
    assert all(f"\n| {encoding}" in text for encoding in ("MessagePack", "JSON"))
    assert "A request among 10 programs costs" in text
    assert all(f"\n| {what}, {store} |" in text for what in ("empty", "quickstart") for store in STORES)
    assert all(f"\n| {store} | sessions held | 3 |" in text for store in STORES)
    assert all(f"\n| {call}" in text for call in ("evaluate, the quickstart", "MLP 64-128-10, one Adam step, socket"))
    assert "An operation that is recorded" in text
    assert text.count(" vectors (target: at most 20; met)") == 2
    assert text.endswith("## Limits\n")


def test_verdicts() -> None:
    comparisons = [Comparison("a", [1.0], "b", [2.0], target) for target in (0.5, 0.4, None)]
    assert [row.split("|")[-3:-1] for row in map(comparison_row, comparisons)] == [
        [" 0.5 ", " met "],
        [" 0.4 ", " not met "],
        ["  ", "  "],
    ]
    rounds = [[Round(rate, 0.001)] for rate in (70.0, 20.0)]
    assert rate_cells(*rounds, 3.5)[-1] == "met"
    assert rate_cells(*rounds, 3.6)[-1] == "not met"


@pytest.mark.thorough
def test_overload_has_every_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["overload", "--seconds", "0.3", "--rounds", "1", "--clients", "20"])
    monkeypatch.setattr(overload, "on", lambda processor: None)
    overload.main()
    *rounds, fair = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in rounds] == ["one address", "obedient", "20 keys"]
    assert all("of capacity" in line and "Retry-After" in line for line in rounds)
    assert "modest clients" in fair
