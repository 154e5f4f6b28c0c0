"""Python functions and tapes read as programs: they compute the same, and can be written and differentiated."""

from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.core.errors import AutogradError, InvalidValueError
from engine.programs.evaluate import Backward, prepare
from engine.programs.identity import program_id
from engine.programs.text.parser import parse
from engine.programs.text.write import as_text, declarations
from engine.programs.tracing import read_tape, trace
from tests.engine.programs import PROGRAMS, Program

X = np.array([[0.5, -1.0], [2.0, 0.25]])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_traced_function_computes_what_it_did(program: Program) -> None:
    graph = trace(lambda inputs: program(inputs), program.inputs)
    given = {f"inputs_{name}": value for name, value in program.inputs.items()}
    found = prepare(graph, {name: _raw(value) for name, value in given.items()}).run().values
    for name, value in program(program.inputs).items():
        np.testing.assert_array_equal(found[f"out_{name}"], value)


def _raw(value: Any) -> Any:
    return Variable(value).data


def test_inputs_are_called_as_parameters_and_keys() -> None:
    graph = trace(lambda x, w, *rest: [x @ w["a"], (rest[0], rest[1])], X, {"a": X}, 1.0, np.ones(3, np.float32))
    assert [i.name for i in graph.inputs] == ["x", "w_a", "rest_0", "rest_1"]
    assert graph.inputs[3].shape == (3,)
    assert [output.name for output in graph.outputs] == ["out_0", "out_1_0", "out_1_1"]


def test_derivatives_inside_a_function_are_traced() -> None:
    def loss(k: Any, x: Any) -> Any:
        u = F.sin(k * x)
        return F.mean((F.grad(F.sum(u), x) - u) ** 2)

    graph = trace(loss, 1.3, np.array([0.0, 0.5, 1.0]))
    written = parse("u = sin(k * x); du = grad(sum(u), x); mean((du - u)**2)")
    inputs = {"k": 1.3, "x": np.array([0.0, 0.5, 1.0])}
    both = [prepare(g, inputs, backward=Backward()).run() for g in (graph, written)]
    assert both[0].values == both[1].values
    for name, slope in (both[0].grads or {}).items():
        np.testing.assert_allclose(slope, (both[1].grads or {})[name], rtol=1e-14)


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: x if x > 0 else -x, "where"),
        (lambda x: float(x), "where"),
        (lambda x: np.sin(x), "NumPy|numpy|ufunc|operand"),
        (lambda: 1.0, "1 examples"),
        (lambda x: "text", "not supported"),
    ],
    ids=["branches", "float", "a NumPy function", "too few parameters", "returns no value"],
)
def test_what_cannot_be_traced_says_why(f: Any, words: str) -> None:
    with pytest.raises((AutogradError, TypeError), match=words):
        trace(f, 1.0)


def test_a_tape_is_read_as_a_program() -> None:
    x, w = Variable(X, name="x"), Variable(X + 1, name="w")
    bias = Variable([0.5, 1.5])
    y = F.sum(F.tanh(x @ w + bias) ** 2, axes=0)[1] * 3.0
    graph = read_tape(y)
    assert {i.name for i in graph.inputs} == {"x", "w"}
    assert list(graph.bound) == ["x1"]
    inputs = {"x": X, "w": X + 1}
    found = prepare(graph, inputs, backward=Backward()).run()
    assert found.values == {"out": y.data}
    y.backward()
    for v in (x, w):
        assert v.grad is not None
        np.testing.assert_array_equal((found.grads or {})[str(v.name)], v.grad.data)
    again = parse(as_text(graph), declarations(graph))
    assert [node.op for node in again.nodes] == [node.op for node in graph.nodes]
    assert program_id(read_tape(y)) == program_id(graph)


def test_a_tape_of_one_leaf_and_of_many_operations() -> None:
    assert read_tape(Variable(2.0, name="x")).outputs[0].id == "x"
    y = x = Variable(1.0, name="x")
    for _ in range(5_000):
        y = y + x
    assert len(read_tape(y).nodes) == 5_000


@pytest.mark.parametrize("names", [("x", "x"), ("lambda", "y"), ("a b", "y")], ids=["twice", "a keyword", "a space"])
def test_names_that_inputs_cannot_have(names: tuple[str, str]) -> None:
    x, y = (Variable(1.0, name=name) for name in names)
    with pytest.raises(InvalidValueError, match=names[0]):
        read_tape(x * y)
