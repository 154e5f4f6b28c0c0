"""Branches that were not taken never contribute to a derivative, whatever their values and slopes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine import Variable
from engine import functions as F
from engine.core import masking
from engine.core.masking import selects
from engine.core.table import rows
from engine.core.values import aval, canonical, dtype_of
from engine.graph.limits import Limits
from engine.plans.codegen.finiteness import FinitenessGuard
from engine.plans.trace import Trace
from engine.programs import derivatives, parse, tracing
from engine.programs.evaluate import Backward, prepare
from engine.programs.gradient_check import check
from engine.transforms import grad, hessian, hvp, jacobian, jvp, vjp, vmap
from tests.engine import cases

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

NAN, INF = np.nan, np.inf
D = np.array([1.0, NAN, 2.0])
M = np.array([[True], [False]])

#: Rows that leave elements out.
CHOOSING = """clip cofactor cross_entropy cross_entropy_slope mask_fill max maximum min
minimum relu slice take tril triu where""".split()

#: f, x, gradient of the sum of f: derived by hand; what is not taken has slope 0.
FIRST: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (lambda x: F.where(x > 0, F.sqrt(x), x), [-1.0, -4.0], [1.0, 1.0]),
    (lambda x: F.where(x > 0, F.sqrt(x), x), [-1.0, 4.0, 0.0], [1.0, 0.25, 1.0]),
    (lambda x: F.where(x < 1, x, F.sqrt(x)), 0.0, 1.0),
    (lambda x: F.where(x < 1, x, 1 / x), [0.0, 2.0], [1.0, -0.25]),
    (lambda x: F.where(x > 0, F.log(x), 0.0), [0.0, 2.0, -1.0], [0.0, 0.5, 0.0]),
    (lambda x: F.where(x != 0, F.sin(x) / x, 1.0), [0.0, 1.0], [0.0, np.cos(1.0) - np.sin(1.0)]),
    (lambda x: F.sqrt(x)[1:], [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.sqrt(x)[[1, 1]], [0.0, 4.0], [0.0, 0.5]),
    (lambda x: F.take(F.sqrt(x), [1, 1]), [0.0, 4.0], [0.0, 0.5]),
    (lambda x: F.get_item(F.log(x), 0, [1]), [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.split(F.sqrt(x), [1, 1])[1], [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.maximum(F.sqrt(x), 1.0), [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.minimum(1 / x, 1.0), [0.0, 2.0], [0.0, -0.25]),
    (lambda x: F.clip(F.log(x), -1, 1), [0.0, 1.0, 9.0], [0.0, 1.0, 0.0]),
    (lambda x: F.relu(F.sqrt(x) - 1), [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.sqrt(F.relu(x)), [-1.0, 4.0], [0.0, 0.25]),
    (lambda x: F.relu(F.sqrt(x) - 1), 0.0, 0.0),
    (lambda x: F.sqrt(F.relu(x)), -1.0, 0.0),
    (lambda x: F.mask_fill(F.sqrt(x), np.array([0.0, 1.0]), value=3), [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.max(F.sqrt(x)), [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.min(1 / x), [0.0, 4.0], [0.0, -1 / 16]),
    (lambda x: F.norm(F.sqrt(x), ord=np.inf), [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.diagonal(F.sqrt(x)), [[4.0, 0.0], [0.0, 1.0]], [[0.25, 0.0], [0.0, 0.5]]),
    (lambda x: F.trace(F.sqrt(x)), [[4.0, 0.0], [0.0, 1.0]], [[0.25, 0.0], [0.0, 0.5]]),
    (lambda x: F.tril(F.sqrt(x)), [[4.0, 0.0], [1.0, 1.0]], [[0.25, 0.0], [0.5, 0.5]]),
    (lambda x: F.triu(F.log(x), k=1), [[0.0, 2.0], [0.0, 0.0]], [[0.0, 0.5], [0.0, 0.0]]),
    (lambda x: F.norm(x, axes=1)[1:], [[0.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [0.6, 0.8]]),
    (lambda x: F.std(F.sqrt(x), axes=1)[1:], [[0.0, 1.0], [4.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]),
    (lambda x: F.sum(F.sqrt(x), axes=1)[1:], [[0.0, 1.0], [4.0, 4.0]], [[0.0, 0.0], [0.25, 0.25]]),
    (lambda x: F.transpose(F.sqrt(x))[0], [[4.0, 0.0], [1.0, 0.0]], [[0.25, 0.0], [0.5, 0.0]]),
    (lambda x: F.reshape(F.sqrt(x), (4,))[1:3], [[0.0, 4.0], [1.0, 0.0]], [[0.0, 0.25], [0.5, 0.0]]),
    (lambda x: F.concat([F.sqrt(x), x])[1:], [0.0, 4.0], [1.0, 1.25]),
    (lambda x: F.stack([F.sqrt(x), x])[1], [0.0, 4.0], [1.0, 1.0]),
    (lambda x: F.flip(F.sqrt(x))[:1], [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.roll(F.sqrt(x), 1)[:1], [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.repeat(F.sqrt(x), 2)[2:], [0.0, 4.0], [0.0, 0.5]),
    (lambda x: F.tile(F.sqrt(x), (2,))[1::2], [0.0, 4.0], [0.0, 0.5]),
    (lambda x: F.prod(F.sqrt(x)[1:]), [0.0, 4.0], [0.0, 0.25]),
    (lambda x: F.logsumexp(F.log(x), axes=1)[1:], [[0.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.5, 0.5]]),
    (lambda x: F.softmax(F.log(x), axis=1)[1], [[0.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]),
    (lambda x: F.cross_entropy(F.log(x), [-100, 1]), [[0.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.5, -0.5]]),
    (lambda x: F.cross_entropy(F.log(x), [1, -100]), [[1.0, 1.0], [NAN, 0.0]], [[0.5, -0.5], [0.0, 0.0]]),
    (lambda x: F.atan2(x, 0.0)[1:], [0.0, 1.0], [0.0, 0.0]),
    (lambda x: F.where(x > 0, x**1.5, 0.0), [-1.0, 4.0], [0.0, 3.0]),
    (lambda x: F.where(x > 0, x**x, 0.0), [-1.0, 1.0], [0.0, 1.0]),
    (lambda x: F.sum(F.where(F.isnan(D), 0.0, x * D)), [1.0, 2.0, 3.0], [1.0, 0.0, 2.0]),
    # Products of matrices: a row that is masked contributes nothing, be there a NaN in it or beside it.
    (
        lambda x: F.where(M, x @ np.array([[2.0, 3.0], [3.0, 4.0]]), 0.0),
        [[1.0, 1.0], [NAN, NAN]],
        [[5.0, 7.0], [0.0, 0.0]],
    ),
    (lambda x: F.where(np.array([True, False]), np.array([[1.0, 2.0], [NAN, INF]]) @ x, 0.0), [1.0, 1.0], [1.0, 2.0]),
    (
        lambda x: F.where(np.array([[True, False]]), x @ np.array([[2.0, NAN], [3.0, INF]]), 0.0),
        [[1.0, 1.0]],
        [[2.0, 3.0]],
    ),
    (lambda x: F.einsum("ij,j->i", np.array([[1.0, 2.0], [NAN, 1.0]]), x)[:1], [1.0, 1.0], [1.0, 2.0]),
    (lambda x: F.linear(x, np.array([[2.0], [3.0]]))[1:], [[NAN, 1.0], [1.0, 1.0]], [[0.0, 0.0], [2.0, 3.0]]),
    # A column that is masked in all rows has slope 0, one that is masked in some has none.
    (
        lambda x: F.where(np.array([[True, False], [True, False]]), F.sqrt(x) + np.zeros((2, 1)), 0.0),
        [4.0, 0.0],
        [0.5, 0.0],
    ),
    (
        lambda x: F.where(np.array([[True, False], [True, True]]), F.sqrt(x) + np.zeros((2, 1)), 0.0),
        [4.0, 0.0],
        [0.5, INF],
    ),
    # Used inside of the choice and outside: what is outside stays.
    (lambda x: F.where(x > 0, F.sqrt(x), 0.0) + F.sqrt(x), [0.0, 4.0], [INF, 0.5]),
    # A zero that is merely a number absorbs nothing.
    (lambda x: F.sqrt(x) ** 2, [0.0, 4.0], [NAN, 1.0]),
    (lambda x: 0.0 * F.sqrt(x), [0.0, 4.0], [NAN, 0.0]),
]

#: f, x, the gradient of the sum of the gradient of the sum of f.
SECOND: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (lambda x: F.where(x > 0, F.sqrt(x), x), [-1.0, -4.0], [0.0, 0.0]),
    (lambda x: F.where(x > 0, F.sqrt(x), x), [-1.0, 4.0, 0.0], [0.0, -1 / 32, 0.0]),
    (lambda x: F.where(x > 0, x**1.5, 0.0), [-1.0, 4.0, 0.0], [0.0, 0.375, 0.0]),
    (lambda x: F.where(x < 1, x, 1 / x), [0.0, 2.0], [0.0, 0.25]),
    (lambda x: F.where(x < 1, x, 1 / x), 0.0, 0.0),
    (lambda x: F.sqrt(x)[1:], [0.0, 4.0], [0.0, -1 / 32]),
    (lambda x: F.maximum(F.log(x), -1.0), [0.0, 2.0], [0.0, -0.25]),
    (lambda x: F.relu(F.sqrt(x) - 1), [0.0, 4.0], [0.0, -1 / 32]),
    (lambda x: F.sqrt(F.relu(x)), [-1.0, 4.0], [0.0, -1 / 32]),
    (lambda x: F.clip(1 / x, -2, 2), [0.0, 2.0], [0.0, 0.25]),
    (lambda x: F.max(F.sqrt(x)), [0.0, 4.0], [0.0, -1 / 32]),
    (lambda x: F.norm(x, axes=1)[1:], [[0.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [0.032, -0.024]]),
]


def of_sum(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: F.sum(f(x))


def on_tape(f: Callable[[Any], Any], x: Any, **options: bool) -> Any:
    v = Variable(x)
    F.sum(f(v)).backward(**options)
    return v.grad.data


def twice_on_tape(f: Callable[[Any], Any], x: Any) -> Any:
    v = Variable(x)
    F.sum(f(v)).backward(create_graph=True)
    first = v.grad
    v.cleargrad()
    F.sum(first).backward()
    return 0.0 if v.grad is None else v.grad.data


def first_ways(f: Callable[[Any], Any], x: Any) -> dict[str, Any]:
    """The gradient of the sum by each way to it."""
    graph = tracing.trace(f, x)
    y = f(x)
    ones = canonical(np.ones(np.shape(y)))
    batch = np.stack([x, x])
    found = {
        "tape": on_tape(f, x),
        "retained": on_tape(f, x, retain_grad=True),
        "recorded": on_tape(f, x, create_graph=True),
        "grad": grad(of_sum(f))(x),
        "vjp": vjp(f, x)[1](ones)[0],
        "compiled": engine.compile(grad(of_sum(f)))(x),
        "vmap": vmap(grad(of_sum(f)))(batch)[1],
        "compiled vmap": engine.compile(vmap(grad(of_sum(f))))(batch)[0],
        "grad of grad": grad(lambda t: F.sum(grad(lambda x: t * F.sum(f(x)))(x) * 1.0))(1.0),
        "program": prepare(graph, {"x": x}, backward=Backward()).run().grads["x"],
        "batched": prepare(graph, {"x": batch}, batched=["x"], backward=Backward()).run().grads["x"][1],
        "vjp of program": derivatives.vjp(graph, {"x": x}, {"out": ones}).run()["vjps"]["x"],
        "program of gradient": of_gradient(graph, x),
        "grad in program": prepare(tracing.trace(lambda x: F.grad(F.sum(f(x)), x), x), {"x": x}).run().values["out"],
    }
    # Of a sum of all elements.
    is_same = np.array_equal(np.sum(found["grad"]), found["grad of grad"], equal_nan=True)
    found["grad of grad"] = found["grad"] if is_same else f"{found['grad of grad']}, not the sum of {found['grad']}"
    axes = tuple(range(np.ndim(y)))
    for mode in ("reverse", "forward"):
        matrices = {
            "": jacobian(f, mode=mode)(x),
            "compiled ": engine.compile(jacobian(f, mode=mode))(x),
            "program's ": derivatives.jacobian(graph, {"x": x}, mode=mode).run()["jacobian"]["out"]["x"],
        }
        found |= {f"{name}{mode} jacobian": np.sum(matrix, axis=axes) for name, matrix in matrices.items()}
    return found


def of_gradient(graph: Any, x: Any) -> Any:
    program = prepare(graph, {"x": x}, backward=Backward(create_graph=True)).grad_graph
    given = {i.name: x for i in program.inputs}
    return prepare(program, given).run().values["grad_x"]


def second_ways(f: Callable[[Any], Any], x: Any) -> dict[str, Any]:
    graph = tracing.trace(f, x)
    total = tracing.trace(of_sum(f), x)
    ones = canonical(np.ones(np.shape(x)))
    axes = tuple(range(np.ndim(x)))
    batch = np.stack([x, x])
    return {
        "tape": twice_on_tape(f, x),
        "grad of grad": grad(of_sum(grad(of_sum(f))))(x),
        "hessian": np.sum(hessian(of_sum(f))(x), axis=axes),
        "reverse": np.sum(jacobian(grad(of_sum(f)), mode="reverse")(x), axis=axes),
        "hvp": hvp(of_sum(f), (x,), (ones,))[0],
        "compiled": engine.compile(grad(of_sum(grad(of_sum(f)))))(x),
        "compiled hessian": np.sum(engine.compile(hessian(of_sum(f)))(x), axis=axes),
        "vmap": vmap(lambda x: F.sum(hessian(of_sum(f))(x), axes=axes))(batch)[0],
        "order 2": prepare(graph, {"x": x}, backward=Backward(order=2)).run().higher["x"][1],
        "hessian of program": np.sum(derivatives.hessian(total, {"x": x}).run()["hessian"]["x"]["x"], axis=axes),
        "hvp of program": derivatives.hvp(total, {"x": x}, {"x": ones}).run()["hvp"]["x"],
        "grad in program": prepare(tracing.trace(lambda x: F.grad(F.sum(f(x)), x), x), {"x": x}, backward=Backward())
        .run()
        .grads["x"],
    }


@pytest.mark.parametrize(
    ("table", "ways"), [(FIRST, first_ways), (SECOND, second_ways)], ids=["first order", "second order"]
)
def test_by_hand(table: Any, ways: Callable[..., dict[str, Any]]) -> None:
    wrong = []
    for place, (f, given, expected) in enumerate(table):
        x = canonical(np.array(given))
        for way, found in ways(f, x).items():
            if not np.allclose(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True):
                wrong.append(f"{place} at {given}: {way} gives {np.array(found).tolist()}, expected {expected}")
    assert not wrong, "\n".join(wrong)


def test_third_derivatives() -> None:
    x = np.array([-1.0, 4.0, 0.0])
    f = of_sum(lambda x: F.where(x > 0, F.sqrt(x), x))
    third = prepare(tracing.trace(f, x), {"x": x}, backward=Backward(order=3)).run().higher["x"][2]
    np.testing.assert_allclose(third, [0.0, 3 / 256, 0.0])
    np.testing.assert_allclose(grad(of_sum(grad(of_sum(grad(f)))))(x), [0.0, 3 / 256, 0.0])


def test_a_cotangent_of_the_users_absorbs_nothing() -> None:
    x, g = np.array([0.0, 4.0]), np.array([0.0, 1.0])
    np.testing.assert_array_equal(vjp(F.sqrt, x)[1](g)[0], [NAN, 0.25])
    np.testing.assert_array_equal(jvp(F.sqrt, (x,), (g,))[1], [NAN, 0.25])
    program = tracing.trace(F.sqrt, x)
    np.testing.assert_array_equal(derivatives.vjp(program, {"x": x}, {"out": g}).run()["vjps"]["x"], [NAN, 0.25])
    np.testing.assert_array_equal(derivatives.jvp(program, {"x": x}, {"x": g}).run()["jvps"]["out"], [NAN, 0.25])


def test_a_check_of_gradients_finds_them_right() -> None:
    graph = tracing.trace(of_sum(lambda x: F.where(x > 0, F.sqrt(x), x)), np.ones(2))
    assert check(graph, {"x": np.array([-1.0, 4.0])}, order=2).run().ok


def test_descent_leaves_a_branch_that_is_not_taken_alone() -> None:
    descend = engine.descent(of_sum(lambda x: F.where(x > 0, F.sqrt(x), x)))
    np.testing.assert_allclose(descend(np.array([4.0, -1.0]), learning_rate=0.1, steps=1), [3.975, -1.1])


def test_descent_sees_derivatives_that_the_loss_looks_at() -> None:
    def loss(x: Any, y: Any) -> Any:
        slope = grad(lambda t: F.where(t > 0, F.sqrt(t), t))(y)
        return F.where(slope > 0.5, x * x, -x)

    assert engine.descent(loss)(1.0, -1.0, learning_rate=0.1, steps=1) == pytest.approx(0.8)
    assert engine.descent(loss)(1.0, 4.0, learning_rate=0.1, steps=1) == pytest.approx(1.1)


def test_large_programs_are_held_to_their_nodes_alone() -> None:
    """The way with supports is another way to the same: it counts for nothing."""
    text = "v = x\n" + "v = where(v > 0, sqrt(v), v - x)\n" * 60 + "v"
    for name in ("where", "relu"):
        graph = parse(text if name == "where" else text.replace("where(v > 0, sqrt(v), v - x)", "relu(v - x) + x"))
        nodes = prepare(graph, {"x": 0.5}, backward=Backward()).cost.nodes
        prepare(graph, {"x": 0.5}, backward=Backward(), limits=Limits(max_nodes=2 * nodes))


def test_the_rows_that_choose() -> None:
    assert sorted(op.name for op in {id(op): op for op in rows()}.values() if selects(op)) == sorted(CHOOSING)


def documented(title: str) -> str:
    text = (Path(__file__).parents[2] / "docs" / "conventions.md").read_text()
    return text[text.index(f"- **{title}**") :].partition("\n- ")[0]


def test_the_rows_that_choose_are_documented() -> None:
    text = documented("What leaves out")
    # Derivatives of other rows, which nobody writes.
    inner = {"cofactor", "cross_entropy_slope"}
    assert not [name for name in CHOOSING if name not in inner and name not in text]


def test_the_rows_that_stop_it_are_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()

    def stopped(op: Any, values: list[Any], supports: list[Any], attrs: dict[str, Any]) -> Any:
        found.add(op.name)
        return op.run(tuple(values), attrs), True

    monkeypatch.setattr(masking, "_stopped", stopped)
    for op in rows():
        if op.body is None and op.is_differentiable:
            for example in op.examples:
                masking._leaves_out(op, example)
    assert found
    assert not [name for name in found if f"`{name}`" not in documented("What stops it")]


def test_programs_without_a_choice_have_one_way() -> None:
    """Their code stays what it is: nothing is computed beside it, and nothing is looked at."""
    wrong = []
    for op in rows():
        if op.body is not None or op.random or not op.is_differentiable or selects(op):
            continue
        for example in op.examples:
            xs, attrs = cases.operands(op, example), cases.attributes(op, example)
            trace = Trace()
            given = [trace.input(f"x{k}", aval(x)._replace(weak=None)) for k, x in enumerate(xs)]
            moved = tuple(cases.moved(op, example))
            if not moved or dtype_of(op.run(tuple(xs), attrs)).kind != "f":
                continue
            slopes = grad(lambda *xs, op=op, attrs=attrs: F.sum(op.run(xs, attrs)), moved)(*given)
            if trace.alternatives or FinitenessGuard(trace, slopes).watched:
                wrong.append(op.name)
    assert not wrong
