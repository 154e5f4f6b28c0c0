"""A program's derivatives are the transforms of the program as a function: the same bits, signs of zeros included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import compile
from engine.core.values import as_raw
from engine.programs import Backward, derivatives, parse, prepare
from engine.transforms import hessian, hvp, jacobian, jvp, value_and_grad, vjp
from tests.app.test_congruence import as_loss, floating, like, scalar
from tests.engine.programs import PROGRAMS, Program


def raw(values: dict[str, Any]) -> dict[str, Any]:
    return {name: as_raw(x) for name, x in values.items()}


def jacobians(mode: str) -> Callable[[Program], tuple[Any, Any]]:
    def both(program: Program) -> tuple[Any, Any]:
        f, xs = floating(program, raw(program.inputs))
        found = derivatives.jacobian(parse(program.text), raw(program.inputs), mode=mode).run()["jacobian"]
        return found, compile(jacobian(f, mode=mode))(xs)

    return both


def gradients(program: Program) -> tuple[Any, Any]:
    f, xs = scalar(as_loss(program), raw(program.inputs))
    found = prepare(parse(as_loss(program).text), raw(program.inputs), backward=Backward()).run()
    return found.grads, compile(value_and_grad(f))(xs)[1]


def hessians(program: Program) -> tuple[Any, Any]:
    f, xs = scalar(as_loss(program), raw(program.inputs))
    found = derivatives.hessian(parse(as_loss(program).text), raw(program.inputs)).run()["hessian"]
    return found, compile(hessian(f))(xs)


def vector_products(program: Program) -> tuple[Any, Any]:
    f, xs = scalar(as_loss(program), raw(program.inputs))
    vectors = raw(like(xs, 3))
    found = derivatives.hvp(parse(as_loss(program).text), raw(program.inputs), vectors).run()["hvp"]
    return found, compile(lambda xs, vectors: hvp(f, (xs,), (vectors,))[0])(xs, vectors)


def tangents(program: Program) -> tuple[Any, Any]:
    f, xs = floating(program, raw(program.inputs))
    along = raw(like(xs, 3))
    found = derivatives.jvp(parse(program.text), raw(program.inputs), along).run()["jvps"]
    return found, compile(lambda xs, along: jvp(f, (xs,), (along,))[1])(xs, along)


def cotangents(program: Program) -> tuple[Any, Any]:
    f, xs = floating(program, raw(program.inputs))
    given = raw(like(program({}), 4))
    found = derivatives.vjp(parse(program.text), raw(program.inputs), given).run()["vjps"]
    return found, compile(lambda xs, given: vjp(f, xs)[1](given)[0])(xs, given)


KINDS: dict[str, Callable[[Program], tuple[Any, Any]]] = {
    "gradients": gradients,
    "hessian": hessians,
    "hvp": vector_products,
    "jvp": tangents,
    "vjp": cotangents,
    **{f"jacobian, {mode}": jacobians(mode) for mode in derivatives.MODES},
}


def bits(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: bits(x) for name, x in tree.items()}
    x = np.asarray(tree)
    return x.shape, x.dtype, x.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_programs_and_functions_have_the_same_bits(kind: str) -> None:
    wrong = []
    for program in PROGRAMS:
        found, expected = KINDS[kind](program)
        if bits(found) != bits(expected):
            wrong.append((program.name, found, expected))
    assert wrong == []


def test_gradients_of_nodes_do_not_depend_on_what_else_is_asked() -> None:
    wrong = []
    for program in PROGRAMS:
        graph, inputs = parse(program.text), raw(program.inputs)
        of = next(iter(program.outputs))
        avals = prepare(graph, inputs).avals
        nodes = [i for node in graph.nodes for i in node.ids if avals[i].is_floating and not avals[i].weak]
        chosen = [None] if program.floating else []
        found = [
            prepare(graph, inputs, backward=Backward(of=of, wrt=wrt, retain_grad=True)).run().node_grads
            for wrt in [*chosen, *((name,) for name in [*program.floating][:1] + nodes[:1])]
        ]
        if any(bits(other) != bits(found[0]) for other in found):
            wrong.append((program.name, found))
    assert wrong == []


def test_nodes_made_of_constants_have_gradients_and_tangents() -> None:
    graph = parse("c = array([1, 2]) * 3; d = 0.5; sum(c * x) * d")
    inputs = raw({"x": [1.0, 10.0]})
    found = prepare(graph, inputs, backward=Backward(wrt=("x",), retain_grad=True)).run().node_grads
    assert found is not None
    np.testing.assert_array_equal(found["c"], [0.5, 5.0])
    assert derivatives.jvp(graph, inputs, {"d": 1.0}).run()["jvps"] == {"out": 63.0}
