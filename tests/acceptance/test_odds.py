"""Gathering by index arrays, copies of deep tapes, and limits that belong to the server alone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from engine import Variable, compile
from engine import functions as F
from engine.transforms import grad, hessian, jacobian, jvp, vmap
from tests.acceptance.comparing import agree, report, shown

A = np.array
P = np.arange(12.0).reshape(4, 3) + 1

# name, index, and the same for NumPy
INDICES: list[tuple[str, Any]] = [
    ("array", A([2, 0, 2])),
    ("negative", A([-1, -4, 1])),
    ("int32", A([1, 3], dtype="int32")),
    ("uint8", A([1, 3], dtype="uint8")),
    ("two axes", A([[0, 3], [3, 1]])),
    ("empty", A([], dtype=int)),
    ("0-d", A(2)),
    ("list", [3, 3, 3]),
    ("numpy integer", np.int64(1)),
    ("array and slice", (A([0, 3]), slice(1, None))),
    ("slice and array", (slice(None), A([2, 0]))),
    ("two arrays", (A([0, 3, 0]), A([2, 1, 2]))),
    ("broadcast arrays", (A([[0], [3]]), A([2, 1]))),
    ("array and integer", (A([0, 3]), 1)),
    ("ellipsis", (..., A([1, 1]))),
    ("newaxis", (None, A([1, 2]))),
    ("reversed view", np.arange(4)[::-1]),
    ("strided view", np.arange(4)[::3]),
    ("read-only", np.broadcast_to(A([2]), (3,))),
    ("mask", A([True, False, True, False])),
    ("matrix mask", P > 6),
    ("array after slice", (slice(None, None, 2), A([0, 0]))),
]


def test_gather_by_arrays() -> None:
    """P[u] as NumPy has it; its gradient adds up where a place is named twice."""
    failures = []
    for name, index in INDICES:
        want = P[index]
        weights = np.cos(np.arange(want.size, dtype=float)).reshape(want.shape)
        slope = np.zeros_like(P)
        np.add.at(slope, index, weights)

        def f(p: Any, index: Any = index, weights: Any = weights) -> Any:
            return F.sum(p[index] * weights)

        p = Variable(P)
        y = p[index]
        f(p).backward()
        got = {
            "value": (y.data, want),
            "tape": (p.grad, slope),
            "grad": (grad(f)(P), slope),
            "compiled": (compile(grad(f))(P), slope),
            "jvp": (jvp(lambda v, index=index: v[index], (P,), (P * 2,))[1], want * 2),
            "second": (grad(lambda v, f=f: F.sum(grad(lambda u: f(u * u))(v)))(P), 2 * slope),
            "vmap": (vmap(grad(f))(np.stack([P, P]))[1], slope),
        }
        failures += [f"{name}, {way}: {shown(g)}, right: {shown(w)}" for way, (g, w) in got.items() if not agree(g, w)]
    assert not failures, report(failures, len(INDICES) * 7)


def test_an_index_array_is_read_when_it_is_used() -> None:
    """Changing it afterwards changes neither the value nor the way back."""
    u = A([0, 1])
    p = Variable(P)
    y = F.sum(p[u])
    u[:] = 3
    y.backward()
    assert agree(p.grad, [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]])


def test_indices_that_are_none() -> None:
    p = Variable(P)
    for bad in (A([0, 4]), A([-5]), A([0.5]), A(["a"])):
        with pytest.raises(Exception, match=r".+") as caught:
            p[bad]
        assert "\n" not in str(caught.value)


def test_gather_agrees_with_take() -> None:
    u = np.random.default_rng(0).integers(0, 4, 5000)
    w = np.random.default_rng(1).normal(size=(5000, 3))
    by_index = grad(lambda p: F.sum(F.sin(p[u]) * w))(P)
    by_take = grad(lambda p: F.sum(F.sin(F.take(p, u, axis=0)) * w))(P)
    want = np.zeros_like(P)
    np.add.at(want, u, w)
    assert agree(by_index, by_take) and agree(by_index, want * np.cos(P), 1e-9, 1e-9)


def chain(x: Variable, length: int) -> Variable:
    """Return x + length * 0.5 by so many steps."""
    y = x
    for _ in range(length):
        y = y + 0.5
    return y


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda v: pickle.loads(pickle.dumps(v))}


def test_copies_of_deep_tapes() -> None:
    """A tape is as deep as the computation is long: 50,000 steps need no recursion."""
    for name, copied in COPIES.items():
        x = Variable(2.0)
        y = chain(x * x, 50_000)
        x2, y2 = copied((x, y))
        assert y2.item() == y.item() == 4 + 25_000, name
        y2.backward()
        assert x2.grad.item() == 4.0 and x.grad is None, name
        y.backward()
        assert x.grad is not None
        assert x.grad.item() == 4.0 and x2.grad.item() == 4.0, name


def test_copies_keep_what_a_variable_is() -> None:
    for copied in COPIES.values():
        x = Variable(A([1.0, 2.0], dtype="float32"), name="weights")
        y = F.sum(F.exp(x) * x)
        y.backward(create_graph=True)
        x2, y2, g2 = copied((x, y, x.grad))
        assert x2.name == "weights" and x2.dtype == "float32" and agree(x2.data, x.data)
        assert agree(x2.grad, x.grad) and y2.generation == y.generation
        # The gradient of the copy is on the copy's own tape: (x e^x)'' = (x + 2) e^x.
        x2.cleargrad()
        F.sum(g2).backward()
        assert agree(x2.grad, (A([1.0, 2]) + 2) * np.exp(A([1.0, 2])), 1e-6)
        assert agree(x.grad, (A([1.0, 2]) + 1) * np.exp(A([1.0, 2])), 1e-6)


def test_copies_share_what_was_shared() -> None:
    """A diamond stays one: the leaf exists once in the copy."""
    for copied in COPIES.values():
        x = Variable(3.0)
        a = x * x
        y = F.sin(a) * F.cos(a) + a
        x2, y2 = copied([x, y])
        y2.backward()
        # d/da (sin a cos a + a) = cos 2a + 1, times 2x.
        assert agree(x2.grad, (np.cos(18.0) + 1) * 6)
        alone = copied(y)
        alone.backward()
        assert x.grad is None
    wide = Variable(np.ones((2, 2)))
    total = wide
    for _ in range(40):
        total = total + total * 0.0 + total * 0.0  # 3**40 paths, 40 diamonds
    assert agree(copy.deepcopy(total).data, np.ones((2, 2)))


def test_the_library_has_no_limits_of_its_own() -> None:
    """10,000,001 elements is a server's setting; a function that is compiled knows of no server."""
    x = np.ones(10_000_001)
    assert compile(lambda v: F.sum(v))(x) == 10_000_001
    assert compile(grad(lambda v: F.sum(v * v)))(x)[-1] == 2.0


def test_programs_of_many_steps_compile_in_the_library() -> None:
    def f(x: Any) -> Any:
        for _ in range(3000):
            x = x * 1.0001 + 0.5
        return x

    assert agree(compile(grad(f))(1.0), 1.0001**3000, 1e-9)


def test_no_message_of_the_library_names_a_setting() -> None:
    with pytest.raises(Exception, match=r".+") as caught:
        compile(lambda x: F.reshape(x, (7,)))(np.ones(3))
    assert "PULLBACK_" not in str(caught.value)


def test_jacobians_and_hessians_of_gathers() -> None:
    u = A([2, 2, 0])
    assert agree(jacobian(lambda p: p[u])(A([1.0, 2, 3])), [[0, 0, 1], [0, 0, 1], [1, 0, 0]])
    assert agree(hessian(lambda p: F.prod(p[u]))(A([5.0, 1, 3])), [[0, 0, 6], [0, 0, 0], [6, 0, 10]])
