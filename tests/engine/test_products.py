"""Sums of products as one product, and parts computed in place: what a plan gives beside what the tape gives."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from engine import Variable
from engine import functions as F
from engine.core.values import aval
from engine.plans.codegen import products
from engine.plans.codegen.kernel import Kernel
from engine.plans.codegen.structure import Structure
from engine.plans.trace import Trace
from engine.transforms import value_and_grad
from engine.transforms.compilation import compile

Array = npt.NDArray[Any]
Function = Callable[..., Any]


def draw(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def programmed(f: Function, *xs: Any) -> tuple[Kernel, list[Any]]:
    """The program of a function that gives several values, and what it gives."""
    trace = Trace()
    structure = Structure(trace, f(*(trace.input(f"x{k}", aval(x)) for k, x in enumerate(xs))))
    program = Kernel(structure)
    values = dict(zip((f"x{k}" for k in range(len(xs))), xs, strict=True))
    given = [*(values[name] for name in structure.names), *structure.constant_values(trace)]
    program(given)
    return program, program(given)


def on_tape(f: Function, *xs: Any) -> list[Any]:
    return [y.data for y in f(*map(Variable, xs))]


def assert_close(found: list[Any], expected: list[Any]) -> None:
    """Equal but for the order in which sums round."""
    for one, other in zip(found, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * np.max(np.abs(other), initial=1e-3))


A, B = draw(12, 3, 40), draw(12, 5, 40)
LEFT, RIGHT = draw(12, 40, 3), draw(12, 3, 50)
PLAIN = [draw(40, 50), draw(40, 50)]


def added(terms: Any) -> Any:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


#: What is summed up, and how many products are left of it.
SUMS: dict[str, tuple[Function, tuple[Any, ...], int]] = {
    "plain": (lambda x, y: [added(x[k] @ y[k] for k in range(12))], (LEFT, RIGHT), 1),
    "first transposed": (lambda x, y: [added(x[k].T @ y[k] for k in range(12))], (A, RIGHT), 1),
    "second transposed": (lambda x, y: [added(x[k] @ y[k].T for k in range(12))], (LEFT, draw(12, 50, 3)), 1),
    "both transposed": (lambda x, y: [added(x[k].T @ y[k].T for k in range(12))], (A, draw(12, 50, 3)), 1),
    "some transposed": (
        lambda x, y, z: [added((x[k].T if k % 3 else z[k]) @ y[k] for k in range(12))],
        (A, RIGHT, LEFT),
        1,
    ),
    "added as a tree": (
        lambda x, y: [added(x[k] @ y[k] for k in range(6)) + added(x[k] @ y[k] for k in range(6, 12))],
        (LEFT, RIGHT),
        1,
    ),
    "other terms": (
        lambda x, y, p, q: [p + added(x[k] @ y[k] for k in range(12)) + F.sin(q)],
        (LEFT, RIGHT, *PLAIN),
        1,
    ),
    "terms that are repeated": (
        lambda x, y, p, q: [p[0] + added(x[k] @ y[k] for k in range(12)) + (q[:1] + p[1:2]) + 2.0],
        (LEFT, RIGHT, *PLAIN),
        1,
    ),
    "products that are repeated": (
        lambda x, y: [added(x[k] @ y[k] for k in range(6)) + (x[6, :1] @ y[6] + x[7, :1] @ y[7])],
        (LEFT, RIGHT),
        3,
    ),
    "second operands in common": (
        lambda x, y, u, w: [x[k] @ u + y[k] @ w + u[0] for k in range(9)],
        (LEFT[:, :20, :2], LEFT[:, 20:], draw(2, 100), draw(3, 100)),
        9,
    ),
    "first operands in common": (
        lambda x, y, u, w: [u @ x[k] + F.transpose(w) @ y[k] for k in range(9)],
        (draw(9, 2, 20), draw(9, 3, 20), draw(100, 2), draw(3, 100)),
        9,
    ),
    "second operands in common that are large": (
        lambda x, y, u, w: [x[k] @ u + y[k] @ w for k in range(3)],
        (draw(3, 4, 40), draw(3, 4, 40), draw(40, 50), draw(40, 50)),
        6,
    ),
    "inner lengths that differ": (lambda x, y: [added(x[:, :k] @ y[:k] for k in range(4))], (LEFT[0], RIGHT[0]), 1),
    "two sums": (
        lambda x, y: [added(x[k] @ y[k] for k in range(6)), added(x[k] @ y[k] for k in range(6, 12))],
        (LEFT, RIGHT),
        2,
    ),
    "operands that are sums": (
        lambda x, y, z: [added(z[k] @ F.sin(added(x[j] @ y[j] for j in range(9)))[k : k + 3] for k in range(3))],
        (LEFT, RIGHT, LEFT),
        2,
    ),
    "one term": (lambda x, y, p: [x[0] @ y[0] + p], (LEFT, RIGHT, PLAIN[0]), 1),
    "a term that is handed out": (lambda x, y: [x[0] @ y[0], x[0] @ y[0] + x[1] @ y[1]], (LEFT, RIGHT), 2),
    "a term that is used twice": (
        lambda x, y: [x[0] @ y[0] + x[1] @ y[1] + x[2] @ y[2], F.sin(x[0] @ y[0])],
        (LEFT, RIGHT),
        2,
    ),
    "a sum that is used on the way": (
        lambda x, y: [F.sin(p := x[0] @ y[0] + x[1] @ y[1]), p + x[2] @ y[2]],
        (LEFT, RIGHT),
        2,
    ),
    "long operands": (lambda x, y: [added(x[k] @ y[k].T for k in range(3))], (A, B), 3),
    "single precision": (
        lambda x, y: [added(x[k] @ y[k] for k in range(4))],
        (LEFT.astype("float32"), RIGHT.astype("float32")),
        4,
    ),
    "no rows": (lambda x, y: [added(x[k] @ y[k] for k in range(3))], (LEFT[:, :0], RIGHT), 3),
    "nothing to sum over": (lambda x, y: [added(x[k] @ y[k] for k in range(3))], (LEFT[..., :0], RIGHT[:, :0]), 1),
    "stacks": (lambda x, y: [x[:4] @ y[:4] + x[4:8] @ y[4:8]], (LEFT, RIGHT), 2),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_of_products_is_one_product(name: str) -> None:
    f, xs, left = SUMS[name]
    program, found = programmed(f, *xs)
    assert program.source.count("matmul") == left
    tolerant = xs[0].dtype == np.float64
    if tolerant:
        assert_close(found, on_tape(f, *xs))
    else:
        np.testing.assert_array_equal(found, on_tape(f, *xs), strict=True)


def test_operands_in_common_are_joined_once() -> None:
    f, xs, _ = SUMS["second operands in common"]
    assert programmed(f, *xs)[0].source.count("concat") == 9 + 1


def test_products_are_taken_together_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    f, xs, _ = SUMS["plain"]
    size = 8 * (LEFT[0].size + RIGHT[0].size)
    monkeypatch.setattr(products, "_LARGEST", 5 * size)
    program, found = programmed(f, *xs)
    assert program.source.count("matmul") == 3
    assert_close(found, on_tape(f, *xs))
    monkeypatch.setattr(products, "_MOST", 9 * size)
    program, found = programmed(f, *xs)
    assert program.source.count("matmul") == 1 + 1 + 3
    assert_close(found, on_tape(f, *xs))


def recurrent(w: Any, u: Any, xs: Any) -> Any:
    """The sum of the last state of a network with gates side by side, and of all of its states but one."""
    n = u.shape[0]
    h = F.tanh(xs[0] @ w[:, :n])
    kept = 0.0
    for k in range(1, 8):
        z = xs[k] @ w + h @ u
        h = F.sigmoid(z[:, :n]) * F.tanh(z[:, 2 * n :]) + F.sin(z[:, n : 2 * n])
        kept = kept + F.sum(h) if k != 3 else kept
    return F.sum(h) + 0.5 * kept


RECURRENT = value_and_grad(recurrent, (0, 1, 2))
GIVEN = (0.1 * draw(2, 120), 0.1 * draw(40, 120), draw(8, 10, 2))


def test_gradients_of_weights_that_are_used_in_every_step() -> None:
    h = compile(RECURRENT)
    value, grads = h(*GIVEN)
    expected, gradients = RECURRENT(*GIVEN)
    assert_close([np.asarray(value), *grads], [np.asarray(expected), *gradients])
    again = h(*GIVEN)
    for one, other in zip(grads, again[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_results_depend_on_no_number_of_threads() -> None:
    h = compile(RECURRENT)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(h(*GIVEN)[1])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_do_not_show_in_the_code() -> None:
    keys, sources = [], []
    for names in ("ab", "ba"):
        trace = Trace()
        x, y = (trace.input(name, aval(value)) for name, value in zip(names, (LEFT, RIGHT), strict=True))
        structure = Structure(trace, SUMS["plain"][0](x, y))
        keys.append(structure.key())
        sources.append(Kernel(structure).source)
    assert keys[0] == keys[1] and sources[0] == sources[1]


def test_what_is_held_together_counts_as_memory() -> None:
    f, xs, _ = SUMS["plain"]
    program, _ = programmed(f, *xs)
    assert program.nbytes > 8 * (LEFT.size + RIGHT.size)


def test_work_to_compile_is_linear_in_the_number_of_terms() -> None:
    calls = []
    for terms in (500, 4000):
        trace = Trace()
        x, y = trace.input("x", aval(draw(40, 3))), trace.input("y", aval(draw(3, 50)))
        structure = Structure(trace, [added((x * float(k)) @ (y * float(k)) for k in range(2, terms + 2))])
        calls.append(calls_during(lambda s=structure: products.with_products_joined(s)) / terms)
    assert calls[1] < 1.5 * calls[0]


def calls_during(f: Function) -> int:
    """How many functions are called, those in C among them."""
    count = 0

    def counted(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        f()
    finally:
        sys.setprofile(None)
    return count
