"""Traces: a program of gradients is a program like any other, and running one holds no more than it needs."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from engine import functions as F
from engine.core.errors import InvalidValueError
from engine.core.values import FLOAT32, FLOAT64, INT64, Aval, canonical
from engine.graph import Graph, Literal
from engine.graph.limits import Limits
from engine.plans.plan import Plan
from engine.plans.trace import Trace, as_graph
from engine.programs.binding import bind
from engine.programs.derivatives import hvp
from engine.programs.document.build import build
from engine.programs.evaluate import Backward, Evaluation, prepare
from engine.programs.identity import program_id
from engine.programs.text.parser import parse
from engine.programs.text.write import as_document, as_text, declarations
from tests.engine.graphs import shown, shown_inputs, shown_outputs, with_loss
from tests.engine.programs import PROGRAMS, Program

Values = dict[str, Any]

every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


def assert_bits(found: Any, expected: Any) -> None:
    """The same dtype, shape and bits."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


def differentiated(graph: Graph, inputs: Values, **fields: Any) -> tuple[Evaluation, Graph]:
    """The gradients of a program, and the program of them."""
    prepared = prepare(graph, inputs, backward=Backward(create_graph=True, **fields))
    assert prepared.grad_graph is not None
    return prepared.run(), prepared.grad_graph


def evaluated(graph: Graph, inputs: Values) -> Values:
    return prepare(graph, {i.name: inputs[i.name] for i in graph.inputs}).run().values


def assert_sound(graph: Graph) -> None:
    """Every node has a name of its own, and reads inputs and earlier nodes."""
    known = {i.name for i in graph.inputs} | graph.bound.keys()
    for node in graph.nodes:
        assert {arg for arg in node.args if not isinstance(arg, Literal)} <= known
        assert known.isdisjoint(node.ids)
        known.update(node.ids)
    assert {output.id for output in graph.outputs} | set(graph.aliases.values()) <= known


@every_program
def test_a_program_of_gradients_gives_their_bits(program: Program) -> None:
    graph = parse(program.text)
    for output in program.outputs:
        found, grad_graph = differentiated(graph, dict(program.inputs), of=output)
        assert_sound(grad_graph)
        assert found.grads is not None
        again = evaluated(grad_graph, dict(program.inputs))
        assert list(again) == [f"grad_{name}" for name in found.grads]
        for name, g in found.grads.items():
            assert_bits(again[f"grad_{name}"], g)
        for read in (build(as_document(grad_graph)), parse(as_text(grad_graph), declarations(grad_graph))):
            assert program_id(read) == program_id(grad_graph)


@pytest.mark.sampled(one_in=3)
@every_program
def test_a_program_of_gradients_is_differentiated_again(program: Program) -> None:
    """The gradient of a gradient's weighted sum is the product of the Hessian with the weights."""
    loss, inputs = with_loss(parse(program.text)), dict(program.inputs)
    _, first = differentiated(loss, inputs)
    rng = np.random.default_rng(3)
    vectors = {
        name: canonical(rng.standard_normal(np.shape(x)).astype(np.asarray(x).dtype))
        for name, x in program.floating.items()
    }
    expected = hvp(loss, inputs, vectors).run()["hvp"]
    found = {name: np.zeros(np.shape(x)) for name, x in expected.items()}
    given = {i.name: inputs[i.name] for i in first.inputs}
    for name, vector in vectors.items():
        second = prepare(first, given, backward=Backward(of=f"grad_{name}", cotangent=vector)).run()
        for x, part in (second.grads or {}).items():
            found[x] = found[x] + part
    eps = 1e-10 if program.is_float64 else 1e-4
    for name, product in expected.items():
        np.testing.assert_allclose(found[name], product, rtol=eps, atol=eps * np.max(np.abs(product), initial=1.0))


@pytest.mark.parametrize("order", [2, 3, 5])
def test_a_program_of_higher_derivatives_gives_their_bits(order: int) -> None:
    for source, x in (("tanh(x)", 0.3), ("sum(exp(x)*sin(x))", np.array([0.3, -1.0])), ("a = x*x; a**3", 0.5)):
        found, grad_graph = differentiated(parse(source), {"x": x}, order=order)
        assert found.higher is not None
        assert_sound(grad_graph)
        assert_bits(evaluated(grad_graph, {"x": x})["grad_x"], found.higher["x"][-1])
    found, grad_graph = differentiated(parse("a = sin(x); a*exp(a)"), {"x": 0.5}, order=order, wrt=("a",))
    assert found.higher is not None
    assert_bits(evaluated(grad_graph, {"x": 0.5})["grad_a"], found.higher["a"][-1])


def test_inputs_keep_shapes_and_dtypes() -> None:
    inputs = {"x": np.ones((2, 3), np.float32), "n": np.array([1, 2, 3]), "s": 2.0, "unused": np.array([True])}
    graph = parse("sum(x**n)*s", {"unused": {}})
    _, grad_graph = differentiated(graph, inputs)
    assert shown_inputs(grad_graph) == ["unused[1] bool", "x[2, 3] float32", "n[3] int64", "s[] float64"]
    with pytest.raises(InvalidValueError, match="declared"):
        evaluated(grad_graph, {**inputs, "x": np.ones((3, 3), np.float32)})


def test_the_order_in_which_inputs_are_given_does_not_matter() -> None:
    graph = parse("sin(x*y)*y")
    graphs = [differentiated(graph, inputs)[1] for inputs in ({"x": 1.0, "y": 2.0}, {"y": 2.0, "x": 1.0})]
    assert [i.name for i in graphs[0].inputs] == ["x", "y"]
    assert program_id(graphs[0]) == program_id(graphs[1])


def test_bound_values_stay_bound() -> None:
    data = np.array([1.0, 2.0])
    graph = bind(parse("sum(square(x*data)) + shift"), {"data": data})
    found, grad_graph = differentiated(graph, {"x": 3.0, "shift": 1.0})
    assert [i.name for i in grad_graph.inputs] == ["x", "shift"]
    assert grad_graph.bound.keys() == {"data"}
    assert found.grads is not None
    assert_bits(evaluated(grad_graph, {"x": 3.0, "shift": 1.0})["grad_x"], found.grads["x"])
    assert found.grads["x"] == 30.0


def test_names_that_are_taken() -> None:
    graph = parse("v1 = x*grad_x; v2 = v1*cotangent; sin(v2)*v3")
    inputs = {"x": 0.5, "grad_x": 2.0, "cotangent": 3.0, "v3": 1.5}
    found, grad_graph = differentiated(graph, inputs, cotangent=4.0)
    assert_sound(grad_graph)
    assert [i.name for i in grad_graph.inputs] == ["x", "grad_x", "cotangent", "v3", "cotangent_"]
    assert [o.name for o in grad_graph.outputs] == ["grad_x_", "grad_grad_x", "grad_cotangent", "grad_v3"]
    again = evaluated(grad_graph, {**inputs, "cotangent_": 4.0})
    assert found.grads is not None
    for name, g in zip(again, found.grads.values(), strict=True):
        assert_bits(again[name], g)
    assert evaluated(grad_graph, {**inputs, "cotangent_": 8.0})["grad_v3"] == 2 * again["grad_v3"]


def test_outputs_that_are_constants_inputs_and_each_other() -> None:
    found, grad_graph = differentiated(parse("x*y + 2*z + 0*w + stop_gradient(u) + 2*v"), dict.fromkeys("xyzwuv", 3.0))
    assert_sound(grad_graph)
    assert shown(grad_graph) == ["grad_z = (float64 2.0)", "grad_w = (float64 0.0)"]
    assert shown_outputs(grad_graph) == [
        "grad_x: y",
        "grad_y: x",
        "grad_z",
        "grad_w",
        "grad_u: grad_w",
        "grad_v: grad_z",
    ]
    given = dict(zip("xyzwuv", (3.0, 5.0, 7.0, 9.0, 11.0, 13.0), strict=True))
    expected = {"x": 5.0, "y": 3.0, "z": 2.0, "w": 0.0, "u": 0.0, "v": 2.0}
    assert evaluated(grad_graph, given) == {f"grad_{name}": g for name, g in expected.items()}
    assert found.grads == {**expected, "x": 3.0}


def test_a_trace_as_a_program() -> None:
    trace = Trace()
    x = trace.input("x", Aval((2,), FLOAT32))
    n = trace.input("n", Aval((), INT64))
    y = F.exp(x) * 2 + np.float32(0.5)
    outputs = {
        "y": y,
        "same": y,
        "x_again": x,
        "c": trace.constant(1.5),
        "made": trace.lazy_constant(Aval((3,), FLOAT64), lambda: np.arange(3.0)),
        "cut": trace.cut(y),
        "m": F.where(n > 1, n, True),
    }
    graph = as_graph(trace, outputs)
    assert_sound(graph)
    inputs = {"x": np.array([0.5, -1.0], np.float32), "n": np.array(3)}
    expected = dict(zip(outputs, Plan(trace, list(outputs.values())).run(inputs), strict=True))
    found = prepare(graph, inputs).run().values
    assert list(found) == list(outputs)
    for name, value in expected.items():
        assert_bits(found[name], value)


VECTOR = 8 * 1_000_000
LARGE = Limits(max_bytes=10**12)


def peak(run: Any) -> float:
    """The most memory that a call holds at a time beyond what was there before, in vectors of a million elements."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] / VECTOR
    finally:
        tracemalloc.stop()


def test_a_chain_holds_a_few_vectors() -> None:
    x = np.linspace(-1.0, 1.0, 1_000_000)
    chain = "; ".join(f"x{i + 1} = sin(x{i})*x{i}" for i in range(40))
    prepared = prepare(parse(chain), {"x0": x}, limits=LARGE)
    assert prepared.cost.bytes >= 80 * VECTOR
    assert peak(prepared.run) <= 5
    # On the way back, what has been used is let go.
    backward = prepare(parse(f"{chain}; sum(x40)"), {"x0": x}, backward=Backward(), limits=LARGE)
    assert peak(backward.run) <= 85
    assert peak(prepare(parse("a = exp(x); b = a + 1; c = b*b; c"), {"x": x}, outputs="all").run) <= 4


def test_a_product_with_the_hessian_in_a_million_dimensions_holds_a_few_vectors() -> None:
    """The second run holds no more than the first: nothing is kept."""
    x = np.linspace(-1.0, 1.0, 1_000_000)
    prepared = hvp(parse("sum(tanh(x)**2 * roll(x, 1, 0))"), {"x": x}, {"x": np.cos(x)}, limits=LARGE)
    prepared.run()
    assert peak(prepared.run) <= 20


def test_bound_values_that_a_gradient_does_not_need_are_left_behind() -> None:
    graph = bind(parse("x * w + offset"), {"w": 3.0, "offset": 5.0})
    prepared = prepare(graph, {"x": 2.0}, backward=Backward(create_graph=True))
    assert prepared.grad_graph is not None
    assert prepared.grad_graph.bound == {"w": 3.0}
    assert prepare(prepared.grad_graph, {"x": 2.0}).run().values == {"grad_x": 3.0}
