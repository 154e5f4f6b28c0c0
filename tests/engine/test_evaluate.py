"""Programs against the tape: the same text as a graph and as Python gives the same bits; and what only graphs have."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Variable
from engine import functions as F
from engine.core.errors import (
    AutogradError,
    InvalidValueError,
    LimitExceededError,
    NotDifferentiableError,
    ShapeMismatchError,
    UnknownNameError,
)
from engine.graph.limits import Limits
from engine.programs.binding import bind
from engine.programs.derivatives import jvp
from engine.programs.evaluate import Backward, Evaluation, prepare
from engine.programs.text.parser import parse

UNARY = ["sin", "cos", "tanh", "exp", "sigmoid", "relu", "abs", "square", "softplus", "erf", "neg", "gelu", "floor"]
BINARY = ["maximum", "minimum", "hypot", "logaddexp", "add", "mul", "div", "pow"]
REDUCTIONS = [
    "sum({})",
    "mean({}, axes=0, keepdims=True)",
    "max({}, -1, True)",
    "logsumexp({})",
    "norm({}, axes=-1, keepdims=True)",
]
LEAVES = ["x", "y", "w", "2", "0.5", "-1.5", "[1, 2, 3]", "pi"]

expressions = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.builds("{}({})".format, st.sampled_from(UNARY), inner),
        st.builds("{}({}, {})".format, st.sampled_from(BINARY), inner, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/"]), inner),
        st.builds(lambda form, arg: form.format(arg), st.sampled_from(REDUCTIONS), inner),
        st.builds("where({} > {}, {}, {})".format, inner, inner, inner, inner),
        st.builds("stop_gradient({})".format, inner),
    ),
    max_leaves=8,
)
INPUTS = {
    "x": 0.7,
    "y": np.array([0.3, -1.2, 2.5]),
    "w": np.array([[0.5, 1.5, -0.5], [2.0, 0.25, 1.0]], np.float32),
}


def run(text: str, inputs: dict[str, Any], **options: Any) -> Evaluation:
    return prepare(parse(text), inputs, **options).run()


def eagerly(text: str) -> tuple[Any, dict[str, Any]]:
    variables = {name: Variable(value) for name, value in INPUTS.items()}
    names = {name: getattr(F, name) for name in dir(F)} | {"pi": np.pi} | variables
    with np.errstate(all="ignore"):
        y = eval(text, {"__builtins__": {}}, names)
        if isinstance(y, Variable):
            y.backward()
    return y, {name: None if v.grad is None else v.grad.data for name, v in variables.items()}


@given(expressions)
def test_a_program_is_what_python_computes(text: str) -> None:
    """Lists are the exception: in a program they take the dtype of what they meet, so they stay with float64 here."""
    text = text.replace("[1, 2, 3]", "stop_gradient(y)")
    names = [name for name in INPUTS if f"{name}" in {i.name for i in parse(text).inputs}]
    try:
        expected, slopes = eagerly(text)
    except AutogradError as error:
        with pytest.raises(type(error)):
            run(text, {name: INPUTS[name] for name in names}, backward=Backward())
        return
    found = run(text, {name: INPUTS[name] for name in names}, backward=Backward(wrt=None if names else ()))
    value = expected.data if isinstance(expected, Variable) else expected
    np.testing.assert_array_equal(next(iter(found.values.values())), value)
    assert found.grads is not None
    for name in names:
        slope = np.zeros_like(INPUTS[name]) if slopes[name] is None else slopes[name]
        np.testing.assert_array_equal(found.grads[name], slope)
        assert np.asarray(found.grads[name]).dtype == np.asarray(INPUTS[name]).dtype


@given(expressions, st.booleans())
def test_batched_is_a_loop(text: str, retain_grad: bool) -> None:
    graph = parse(text)
    if "y" not in {i.name for i in graph.inputs}:
        return
    rows = np.array([[0.3, -1.2, 2.5], [1.0, 1.0, 1.0], [-0.1, 0.0, 4.0]])
    shared = {i.name: INPUTS[i.name] for i in graph.inputs if i.name != "y"}
    backward = Backward(retain_grad=retain_grad)
    try:
        alone = [prepare(graph, {**shared, "y": row}, backward=backward).run() for row in rows]
    except AutogradError as error:
        with pytest.raises(type(error)):
            prepare(graph, {**shared, "y": rows}, backward=backward, batched=["y"])
        return
    together = prepare(graph, {**shared, "y": rows}, backward=backward, batched=["y"]).run()
    for pick in (lambda r: r.values, lambda r: r.grads, lambda r: r.node_grads or {}):
        assert pick(together).keys() == pick(alone[0]).keys()
        for name, stacked in pick(together).items():
            # NumPy's functions of arrays may round otherwise than those of single numbers.
            np.testing.assert_allclose(stacked, np.stack([pick(row)[name] for row in alone]), rtol=1e-12, atol=1e-12)
    empty = prepare(graph, {**shared, "y": rows[:0]}, backward=backward, batched=["y"]).run()
    for pick in (lambda r: r.values, lambda r: r.grads):
        for name, stacked in pick(empty).items():
            assert stacked.shape == (0, *pick(together)[name].shape[1:])
            assert stacked.dtype == pick(together)[name].dtype


def test_list_literals_take_the_dtype_of_what_they_meet() -> None:
    x = np.array([1.0, 2.0], np.float32)
    assert run("x * [1, 2.5]", {"x": x}).values["out"].dtype == np.float32
    assert run("x * [1, 2]", {"x": np.array([1, 2])}).values["out"].dtype == np.int64
    assert run("x * [1, 2.5]", {"x": np.array([1, 2])}).values["out"].dtype == np.float64
    assert run('x * array([1, 2], dtype="float64")', {"x": x}).values["out"].dtype == np.float64
    taken = run("take(x, [16777217])", {"x": np.arange(16777218, dtype=np.float32)}, limits=Limits(max_elements=10**8))
    np.testing.assert_array_equal(taken.values["out"], [np.float32(16777217)])


def test_a_node_that_changes_nothing_has_a_gradient_of_its_own() -> None:
    found = run("y = roll(x, 0, 0); sum(y*x)", {"x": np.array([2.0, 3.0])}, backward=Backward(wrt=("y", "x")))
    assert found.grads is not None
    np.testing.assert_array_equal(found.grads["y"], [2.0, 3.0])
    np.testing.assert_array_equal(found.grads["x"], [4.0, 6.0])


def test_numbers_alone_are_float64() -> None:
    for text, expected in (("3", 3.0), ("a = 3; a", 3.0), ("2 + 3", 5.0), ("where(1 > 0, 2, 3)", 2.0)):
        (value,) = run(text, {}).values.values()
        assert (type(value), value) == (float, expected)


def test_gradient_with_respect_to_nodes_and_what_has_none() -> None:
    found = run("a = x*y; b = sin(a); c = b*z", {"x": 2.0, "y": 3.0, "z": 5.0}, backward=Backward(wrt=("a", "x", "c")))
    assert found.grads == {"a": 5 * np.cos(6.0), "x": 15 * np.cos(6.0), "c": 1.0}
    assert run("x*0 + floor(y)", {"x": 1.0, "y": 2.0}, backward=Backward()).grads == {"x": 0.0, "y": 0.0}
    with pytest.raises(NotDifferentiableError, match="literals"):
        run("b = sin(2.0); b*x", {"x": 1.0}, backward=Backward(wrt=("b",)))
    with pytest.raises(NotDifferentiableError, match="bool"):
        run("x > 1", {"x": 1.0}, backward=Backward())


def test_what_is_computed_of_numbers_alone_is_differentiated_too() -> None:
    found = run("a = broadcast_to(2, [3]); sum(a*x)", {"x": 5.0}, backward=Backward(wrt=("a", "x"), retain_grad=True))
    assert found.grads is not None
    np.testing.assert_array_equal(found.grads["a"], [5.0, 5.0, 5.0])
    assert found.grads["x"] == 6.0


def test_numbers_alone_are_not_computed_before_limits_are_checked() -> None:
    for text in ("sum(sin(broadcast_to(2, [9000, 9000])))", "tile(1, [99999, 99999])", "repeat([1, 2], 999999999)"):
        with pytest.raises(LimitExceededError, match="elements"):
            prepare(parse(text), {}, limits=Limits(max_elements=10_000_000))


def test_an_answer_is_held_to_the_limit_of_elements() -> None:
    names = "; ".join(f"a{i} = a{i - 1}" for i in range(1, 31))
    text = f"a0 = broadcast_to(x, [5]); {names}"
    for options in (
        {"outputs": "all"},
        {"backward": Backward(wrt=tuple(f"a{i}" for i in range(31)), cotangent=np.ones(5))},
    ):
        with pytest.raises(LimitExceededError, match="the answer needs"):
            prepare(parse(text), {"x": 1.0}, limits=Limits(max_elements=100), **options)  # type: ignore[arg-type]


def test_what_is_shared_by_rows_is_counted_once() -> None:
    graph = parse("sum(X @ w)")
    inputs = {"X": np.ones((100, 100)), "w": np.ones((50, 100))}
    assert prepare(graph, inputs, batched=["w"]).cost.bytes < 4 * 80_000


def test_dropout_masks_are_inactive_without_train() -> None:
    assert run("dropout_mask(2.5)", {}).values == {"out": 1.0}
    np.testing.assert_array_equal(run("dropout_mask(x)", {"x": np.ones(9)}).values["out"], np.ones(9))
    assert run("dropout_mask(2.5, 0.5)", {}, train=True, seed=1).values["out"] in (0.0, 2.0)


def test_random_operations_draw_from_streams_of_their_own() -> None:
    x = np.ones((4, 50))
    text = "a = dropout(x); b = dropout(x); a + 0*b"
    first = run(text, {"x": x}, train=True, seed=3, outputs=["a", "b"], backward=Backward())
    again = run(text, {"x": x}, train=True, seed=3, outputs=["a", "b"], backward=Backward())
    other = run(text, {"x": x}, train=True, seed=4, outputs=["a", "b"])
    np.testing.assert_array_equal(first.values["a"], again.values["a"])
    assert not np.array_equal(first.values["a"], first.values["b"])
    assert not np.array_equal(first.values["a"], other.values["a"])
    assert first.grads is not None
    np.testing.assert_array_equal(first.grads["x"], first.values["a"])
    rows = run(text, {"x": x}, train=True, seed=3, batched=["x"], outputs=["a"])
    assert not np.array_equal(rows.values["a"][0], rows.values["a"][1])
    np.testing.assert_array_equal(run(text, {"x": x}, outputs=["a"]).values["a"], x)
    with pytest.raises(InvalidValueError, match="seed"):
        run(text, {"x": x}, train=True)


@pytest.mark.parametrize(
    ("limits", "text", "words"),
    [
        (Limits(max_nodes=3), "x+x+x+x+x", "nodes"),
        (Limits(max_elements=10), "broadcast_to(x, [4, 3])", "12 elements"),
        (Limits(max_bytes=100), "a = x+[1,2,3,4]; b = a+a; c = b+b; c+c", "bytes"),
        (Limits(max_flops=100), "broadcast_to(x, [20, 20]) @ broadcast_to(x, [20, 20])", "flops"),
    ],
)
def test_limits_are_checked_before_anything_runs(limits: Limits, text: str, words: str) -> None:
    with pytest.raises(LimitExceededError, match=words) as caught:
        prepare(parse(text), {"x": 1.0}, limits=limits)
    assert caught.value.limit == words.split()[-1]
    prepare(parse(text), {"x": 1.0})


def test_all_faults_of_a_kind_are_listed() -> None:
    with pytest.raises(UnknownNameError) as caught:
        prepare(parse("alpha + beta + x"), {"x": 1.0})
    assert [fault.loc for fault in caught.value.faults] == [("inputs", "alpha"), ("inputs", "beta")]
    with pytest.raises(InvalidValueError, match=r"alpah.*alpha"):
        prepare(parse("alpha + x"), {"x": 1.0, "alpah": 2.0})
    with pytest.raises(ShapeMismatchError, match="and 1 more") as several:
        prepare(parse("a = x @ x; b = a + 1; c = x + [1, 2]; b + c + 1"), {"x": np.ones((2, 3))})
    assert [fault.loc[:3] for fault in several.value.faults] == [("expr", 1, 5), ("expr", 1, 27)]
    with pytest.raises(ShapeMismatchError, match='node "s"'):
        prepare(parse("s = x @ y; s + 1"), {"x": np.ones((2, 3)), "y": np.ones((2, 3))})


def test_a_cotangent_that_the_output_s_dtype_does_not_hold_is_refused() -> None:
    x = np.ones(2, np.float32)
    with pytest.raises(InvalidValueError, match="float32"):
        run("x * 2", {"x": x}, backward=Backward(cotangent=np.array([1e300, 1.0])))
    with pytest.raises(InvalidValueError, match="true or false"):
        run("x * 2", {"x": x}, backward=Backward(cotangent=np.array([True, True])))


OVER_DATA = [
    "sum((A @ x - t)**2)",
    "u = tanh(A @ x); sum(grad(sum(u), A) * A)",
    "u = sin(A @ x) * t; du = grad(sum(u), t); sum(grad(sum(du**2), A)**2)",
    "B = A; g = grad(sum(exp(B @ x)), A); sum(g * g) + sum(grad(sum(g), x))",
    "h = A * 2; sum(grad(sum((h @ x)**2), h)) * grad(t[0]**3, t)[0]",
    "sum(grad(sum(A**3), A) @ x)",
]


@pytest.mark.parametrize("text", OVER_DATA)
def test_bound_values_count_as_the_same_values_given(text: str) -> None:
    data = {"A": np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]]), "t": np.array([0.3, -1.2])}
    x = np.array([0.1, 0.7, -0.4])
    free = parse(text)
    data = {i.name: data[i.name] for i in free.inputs if i.name in data}
    fixed = bind(free, data)
    for backward in (Backward(wrt=("x",), create_graph=True), Backward(wrt=("x",), order=3)):
        given = prepare(free, {"x": x, **data}, backward=backward)
        bound = prepare(fixed, {"x": x}, backward=backward)
        assert_equal(bound.run(), given.run())
    gradient = prepare(fixed, {"x": x}, backward=Backward(create_graph=True)).grad_graph
    assert gradient is not None
    expected = prepare(free, {"x": -x, **data}, backward=Backward(wrt=("x",))).run().grads
    assert expected is not None
    np.testing.assert_array_equal(prepare(gradient, {"x": -x}).run().values["grad_x"], expected["x"])
    rows = np.stack([x, -x, 2 * x])
    many, alike = (
        prepare(graph, {"x": rows, **others}, batched=["x"], backward=Backward(wrt=("x",))).run()
        for graph, others in ((fixed, {}), (free, data))
    )
    assert_equal(many, alike)


def assert_equal(found: Evaluation, expected: Evaluation) -> None:
    """The same bits in every value and derivative."""
    for one, other in (
        (found.values, expected.values),
        (found.grads, expected.grads),
        (found.higher or {}, expected.higher or {}),
    ):
        assert one is not None
        assert other is not None
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_what_was_prepared_runs_on_other_values() -> None:
    graph = parse("y = sum(x ** 2) * k; y")
    x = np.array([1.0, 2.0])
    prepared = prepare(graph, {"x": x, "k": 3.0}, backward=Backward())
    again = prepared.run({"x": 2.0 * x})
    assert again.values == {"y": 60.0}
    np.testing.assert_array_equal((again.grads or {})["x"], 12.0 * x)
    assert prepared.run().values == {"y": 15.0}
    assert jvp(graph, {"x": x, "k": 3.0}, {"k": 1.0}).run({"x": 2.0 * x})["jvps"] == {"y": 20.0}
    for wrong, words in (
        ({"x": x[:1]}, r"float64\[1\].*float64\[2\]"),
        ({"x": x.astype(np.float32)}, "float32"),
        ({"kk": 1.0}, "nearest: k"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            prepared.run(wrong)
