"""Powers of norm, hypot and abs: all derivatives of the smooth function, at 0 as well; NaN where they do not exist."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import engine
from engine import Variable
from engine import functions as F
from engine.programs import derivatives as programs
from engine.programs.evaluate import Backward, prepare
from engine.programs.text.parser import parse
from engine.transforms import grad, hessian, hvp, jacobian, jvp, vmap

Way = Callable[[str, Any], Any]
NAMES = {name: getattr(F, name) for name in dir(F)}

#: What is a power, and the smooth function that it is, of a matrix x with two rows and two columns.
SMOOTH = {
    "norm(x) ** 2": "sum(x * x)",
    "norm(x) ** 2.0": "sum(x * x)",
    "norm(x) * norm(x)": "sum(x * x)",
    "square(norm(x))": "sum(x * x)",
    "norm(x) ** 4": "sum(x * x) ** 2",
    "norm(x) * norm(x) ** 3": "sum(x * x) ** 2",
    "(norm(x) ** 2) ** 2": "sum(x * x) ** 2",
    "(norm(x) ** 2.5) * (norm(x) ** 1.5)": "sum(x * x) ** 2",
    "(norm(x) * norm(x)) * (norm(x) * norm(x))": "sum(x * x) ** 2",
    "square(norm(x) ** 3)": "sum(x * x) ** 3",
    "norm(x - 1) ** 2": "sum(square(x - 1))",
    "norm(2 * x - x) * norm(2 * x - x)": "sum(x * x)",
    "exp(norm(x) ** 2)": "exp(sum(x * x))",
    "sqrt(1 + norm(x) ** 2)": "sqrt(1 + sum(x * x))",
    "sin(norm(x) ** 2) * sum(x)": "sin(sum(x * x)) * sum(x)",
    "sum(x) / (1 + norm(x) * norm(x))": "sum(x) / (1 + sum(x * x))",
    "norm(x ** 2) ** 2": "sum(x ** 4)",
    "sum(norm(x, axes=1) ** 2 * array([1, 2]))": "sum(sum(x * x, axes=1) * array([1, 2]))",
    "sum(norm(x, axes=0, keepdims=True) ** 2 * x)": "sum(sum(x * x, axes=0, keepdims=True) * x)",
    "sum(norm(x, axes=1, keepdims=True) * norm(x, axes=1, keepdims=True) * x)": (
        "sum(sum(x * x, axes=1, keepdims=True) * x)"
    ),
    "prod(norm(x, axes=-1) ** 2)": "prod(sum(x * x, axes=-1))",
    "sum(hypot(x[0], x[1]) ** 2)": "sum(x * x)",
    "sum(hypot(x[0], x[1]) * hypot(x[0], x[1]))": "sum(x * x)",
    "sum(square(hypot(x[0], x[1])) ** 2)": "sum(square(sum(x * x, axes=0)))",
    "sum(hypot(x[0][0], x[1]) ** 2)": "sum(x[0][0] * x[0][0] + x[1] * x[1])",
    "sum(hypot(x, 0) ** 2)": "sum(x * x)",
    "sum(hypot(1, x) ** 2 * x)": "sum((1 + x * x) * x)",
    "sum(hypot(x, x) ** 2)": "2 * sum(x * x)",
    "sum(abs(x) ** 2)": "sum(x * x)",
    "sum(abs(x) * abs(x))": "sum(x * x)",
    "sum(square(abs(x)) * x)": "sum(x ** 3)",
    "sum(exp(abs(x) ** 4))": "sum(exp(x ** 4))",
    "sum(abs(x) ** 2 * abs(x) ** 2)": "sum(x ** 4)",
}
ZERO = np.zeros((2, 2))
POINTS = {
    "zero": ZERO,
    "a zero row": np.array([[0.0, 0.0], [0.6, -0.8]]),
    "a zero column": np.array([[0.0, 0.5], [0.0, -0.25]]),
    "none that is zero": np.array([[0.5, -0.75], [1.25, 0.25]]),
}
#: For orders that take long.
FEW_POINTS = ("zero", "a zero row", "none that is zero")


def function(text: str) -> Callable[[Any], Any]:
    text = re.sub(r"array\((.*?)\)", r"np.array(\1)", text)
    return lambda x: eval(text, NAMES | {"x": x, "np": np})


def square_matrix(found: Any, n: int) -> Any:
    return np.asarray(found).reshape(n, n)


def tape(text: str, x: Any) -> Any:
    v = Variable(x)
    function(text)(v).backward(create_graph=True)
    slope, found = v.grad, []
    assert slope is not None
    for place in np.ndindex(x.shape):
        v.cleargrad()
        slope[place].backward()
        found.append(np.zeros(x.shape) if v.grad is None else v.grad.data)
    return found


def units(x: Any) -> Any:
    return np.eye(x.size).reshape(x.size, *x.shape)


def program_order(text: str, x: Any) -> Any:
    """Row sums: along ones."""
    found = prepare(parse(text), {"x": x}, backward=Backward(order=2)).run()
    assert found.higher is not None
    return found.higher["x"][1]


SECOND: dict[str, Way] = {
    "tape": tape,
    "hessian": lambda text, x: hessian(function(text))(x),
    "reverse over reverse": lambda text, x: jacobian(grad(function(text)), mode="reverse")(x),
    "reverse over forward": lambda text, x: jacobian(jacobian(function(text), mode="forward"), mode="reverse")(x),
    "forward over forward": lambda text, x: jacobian(jacobian(function(text), mode="forward"), mode="forward")(x),
    "jvp of grad": lambda text, x: [jvp(grad(function(text)), (x,), (unit,))[1] for unit in units(x)],
    "hvp": lambda text, x: [hvp(function(text), (x,), (unit,))[0] for unit in units(x)],
    "vmap": lambda text, x: vmap(hessian(function(text)))(np.array([x, x + 1.0, x]))[2],
    "compiled hessian": lambda text, x: engine.compile(hessian(function(text)))(x),
    "compiled reverse": lambda text, x: engine.compile(jacobian(grad(function(text)), mode="reverse"))(x),
    "program": lambda text, x: programs.hessian(parse(text), {"x": x}).run()["hessian"]["x"]["x"],
    "program, hvp": lambda text, x: programs.hvp(parse(text), {"x": x}, {"x": units(x)}, many=True).run()["hvp"]["x"],
    "program in rows": lambda text, x: programs.hvp(
        parse(text), {"x": np.stack([x] * x.size)}, {"x": units(x)}, batched=["x"]
    ).run()["hvp"]["x"],
}
THIRD: dict[str, Way] = {
    "reverse": lambda text, x: jacobian(hessian(function(text)), mode="reverse")(x),
    "forward": lambda text, x: jacobian(hessian(function(text)), mode="forward")(x),
    "reverse thrice": lambda text, x: jacobian(jacobian(grad(function(text)), mode="reverse"), mode="reverse")(x),
    "compiled": lambda text, x: engine.compile(jacobian(hessian(function(text)), mode="forward"))(x),
}


def disagreements(
    texts: Any, ways: dict[str, Way], expected: Callable[[str, Any], Any], points: Any = tuple(POINTS)
) -> list[str]:
    """Where a way to differentiate a text at a point gives something else."""
    found = []
    for text, where, (name, way) in itertools.product(texts, points, ways.items()):
        x = POINTS[where]
        wanted = np.ravel(expected(text, x))
        value = np.ravel(way(text, x))
        if not np.allclose(value, wanted, rtol=1e-11, atol=1e-12, equal_nan=True):
            found.append(f"{name} of {text} at {where}: {value} in place of {wanted}")
    return found


def eager_gradient(text: str, x: Any, create_graph: bool) -> Any:
    v = Variable(x)
    function(text)(v).backward(create_graph=create_graph)
    assert v.grad is not None
    return v.grad.data


FIRST: dict[str, Way] = {
    "eager": lambda text, x: eager_gradient(text, x, create_graph=False),
    "with create_graph": lambda text, x: eager_gradient(text, x, create_graph=True),
    "grad": lambda text, x: grad(function(text))(x),
    "jvp": lambda text, x: [jvp(function(text), (x,), (unit,))[1] for unit in units(x)],
    "compiled": lambda text, x: engine.compile(grad(function(text)))(x),
}


def test_gradients_are_those_of_the_smooth_function() -> None:
    assert not disagreements(SMOOTH, FIRST, lambda text, x: grad(function(SMOOTH[text]))(x), FEW_POINTS)


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("way", SECOND)
def test_second_derivatives_are_those_of_the_smooth_function(way: str) -> None:
    assert not disagreements(SMOOTH, {way: SECOND[way]}, lambda text, x: hessian(function(SMOOTH[text]))(x))


@pytest.mark.thorough
@pytest.mark.parametrize("way", THIRD)
def test_third_derivatives_are_those_of_the_smooth_function(way: str) -> None:
    def expected(text: str, x: Any) -> Any:
        return jacobian(hessian(function(SMOOTH[text])), mode="forward")(x)

    assert not disagreements(SMOOTH, {way: THIRD[way]}, expected, FEW_POINTS)


def orders(text: str, x: Any) -> Any:
    found = prepare(parse(text), {"x": x}, backward=Backward(order=4)).run()
    assert found.higher is not None
    return found.higher["x"]


def test_higher_orders_of_programs_are_those_of_the_smooth_function() -> None:
    assert not disagreements(SMOOTH, {"orders": orders}, lambda text, x: orders(SMOOTH[text], x), FEW_POINTS)


EXPONENTS = [2.0, 2.25, 3.0, 3.5, 5.0, 6.5]
#: Ways that differ in how powers are found.
SOME = {name: SECOND[name] for name in ("tape", "hessian", "reverse over forward", "forward over forward", "program")}


def radial(p: float, x: Any) -> tuple[Any, Any]:
    """The Hessian of |x|**p and the third derivatives, which do not exist at 0 for 2 < p <= 3."""
    x = np.ravel(x)
    n, eye = np.sqrt(x @ x), np.eye(x.size)
    if n == 0.0:
        third = np.nan if 2.0 < p <= 3.0 else 0.0
        return (2.0 if p == 2.0 else 0.0) * eye, np.full((x.size,) * 3, third)
    pairs = np.einsum("i,jk->ijk", x, eye) + np.einsum("j,ik->ijk", x, eye) + np.einsum("k,ij->ijk", x, eye)
    second = p * n ** (p - 2) * eye + p * (p - 2) * n ** (p - 4) * np.outer(x, x)
    third = p * (p - 2) * n ** (p - 4) * pairs
    third += p * (p - 2) * (p - 4) * n ** (p - 6) * np.einsum("i,j,k->ijk", x, x, x)
    return second, third


def separate(p: float, x: Any) -> tuple[Any, Any]:
    """The same of the sum of |x|**p; the slope of abs at 0 is 0, and so the third derivative of |x|**3 is 0 as well."""
    x = np.ravel(x)
    with np.errstate(all="ignore"):
        second = p * (p - 1) * np.abs(x) ** (p - 2)
        third = np.where(x == 0.0, 0.0, p * (p - 1) * (p - 2) * np.abs(x) ** (p - 3) * np.sign(x))
    cube = np.zeros((x.size,) * 3)
    cube[(np.arange(x.size),) * 3] = third
    return np.diag(second), cube


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("p", EXPONENTS)
def test_any_exponent_from_2_on(p: float) -> None:
    for text in (f"norm(x) ** {p}", f"(norm(x) ** 1.25) ** {p / 1.25}", f"norm(x) * norm(x) ** {p - 1}"):
        assert not disagreements([text], SOME, lambda _, x: radial(p, x)[0])
    assert not disagreements([f"norm(x) ** {p}"], THIRD, lambda _, x: radial(p, x)[1], FEW_POINTS)


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("p", EXPONENTS)
def test_any_exponent_of_hypot_and_abs(p: float) -> None:
    def columns(x: Any, place: int) -> Any:
        """Columns are lengths of their own."""
        found = np.zeros((4,) * (2 + place))
        for column in range(2):
            found[np.ix_(*[[column, 2 + column]] * (2 + place))] = radial(p, x[:, column])[place]
        return found

    texts = [f"sum(hypot(x[0], x[1]) ** {p})", f"sum(norm(x, axes=0) ** {p})"]
    assert not disagreements(texts, SOME, lambda _, x: columns(x, 0))
    assert not disagreements([f"sum(abs(x) ** {p})"], SOME, lambda _, x: separate(p, x)[0])
    if p == 2.0 or p > 3.0:
        assert not disagreements(texts, THIRD, lambda _, x: columns(x, 1), ("a zero column",))
        assert not disagreements([f"sum(abs(x) ** {p})"], THIRD, lambda _, x: separate(p, x)[1], ("a zero row",))


#: Compositions that have a gradient at 0 by convention, and no second derivative.
KINKED = [
    "norm(x)",
    "3 * norm(x)",
    "std(x)",
    "std(x) ** 2",
    "sum(std(x, axes=1))",
    "sum(hypot(x[0], x[1]))",
    "norm(x) ** 1.5",
    "(norm(x) / 3) ** 2",
    "sum(norm(x) * x)",
    "norm(x) * norm(x + 1)",
    "exp(norm(x))",
]


@pytest.mark.parametrize("way", SECOND)
def test_elsewhere_second_derivatives_at_0_are_nan(way: str) -> None:
    for text in KINKED:
        assert np.isfinite(np.ravel(grad(function(text))(ZERO))).all(), text
        if not way.startswith("program, hvp"):
            found = np.ravel(SECOND[way](text, ZERO))
            # Elements of different lengths have nothing to do with each other.
            assert (np.isnan(found) | (found == 0.0)).all(), text
            own = found.reshape(ZERO.size, -1).diagonal() if found.size > ZERO.size else found
            assert np.isnan(own).all(), text


def test_a_length_in_rows_is_nan_in_its_own_row_alone() -> None:
    x = POINTS["a zero row"]
    found = vmap(hessian(F.norm))(x)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], hessian(F.norm)(x[1]), rtol=1e-12)
    powers = vmap(hessian(lambda row: F.norm(row) ** 2))(x)
    np.testing.assert_allclose(powers, [2.0 * np.eye(2)] * 2, rtol=1e-12)


def test_values_stay_as_they_are() -> None:
    """A power is what NumPy gives for the power of the length, be it differentiated or not."""
    x = np.array([0.1, 0.7, -0.3])
    n = F.norm(x)
    for power in (lambda y: y**2, lambda y: y**2.5, lambda y: y * y, F.square):
        v = Variable(x)
        assert power(F.norm(v)).data == power(n)
        assert jvp(lambda x, power=power: power(F.norm(x)), (x,), (x,))[0] == power(n)


@pytest.mark.parametrize("retain_grad", [False, True])
def test_gradients_with_respect_to_the_length_itself(retain_grad: bool) -> None:
    x = Variable([3.0, 4.0])
    n = F.norm(x)
    y = (n * n) ** 1.5
    y.backward(create_graph=True, retain_grad=retain_grad)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data, [45.0, 60.0], rtol=1e-14)
    if retain_grad:
        assert n.grad is not None and y.grad is not None
        np.testing.assert_allclose([n.grad.data, y.grad.data], [75.0, 1.0], rtol=1e-14)
        n.cleargrad()
        slope = F.grad(F.grad(y, n), n)
        np.testing.assert_allclose(slope.data, 30.0, rtol=1e-14)
    else:
        assert n.grad is None


def test_gradients_in_programs_with_respect_to_the_length_itself() -> None:
    graph = parse("n = norm(x)\ny = n ** 3\ny")
    for point in (np.zeros(2), np.array([3.0, 4.0])):
        n = np.sqrt(point @ point)
        found = prepare(graph, {"x": point}, backward=Backward(wrt=("n",), order=3)).run()
        assert found.higher is not None
        np.testing.assert_allclose(found.higher["n"], [3 * n * n, 6 * n, 6.0], rtol=1e-12)
        kept = prepare(graph, {"x": point}, backward=Backward(retain_grad=True, create_graph=True)).run()
        assert kept.node_grads is not None and kept.grads is not None
        np.testing.assert_allclose(kept.node_grads["n"], 3 * n * n, rtol=1e-12)
        np.testing.assert_allclose(kept.grads["x"], 3 * n * point, rtol=1e-12)
    twice = prepare(parse("n = norm(x)\ngrad(grad(n ** 3, n), n)"), {"x": np.array([3.0, 4.0])}).run()
    np.testing.assert_allclose(next(iter(twice.values.values())), 30.0, rtol=1e-12)


def test_a_tangent_of_the_length_itself_is_not_lost() -> None:
    """Where the length moves by itself, the gradient is no longer that of the power of a length."""
    graph = parse("n = norm(x)\ny = n ** 2\ny")
    x = np.array([3.0, 4.0])
    found = programs.hvp(graph, {"x": x}, {"n": np.array(1.0)}, wrt=["x", "n"]).run()["hvp"]
    np.testing.assert_allclose(found["x"], 2.0 * x / 5.0, rtol=1e-12)
    np.testing.assert_allclose(found["n"], 2.0, rtol=1e-12)


def test_values_of_other_variables_are_not_taken_for_the_same() -> None:
    """Two lengths that happen to be equal are not one."""
    a, b = Variable([0.0, 0.0]), Variable([0.0, 0.0])
    y = F.norm(a) * F.norm(b)
    y.backward(create_graph=True)
    assert a.grad is not None
    slope = F.grad(F.sum(a.grad), a)
    assert np.isnan(slope.data).all()
    away = hessian(lambda a, b: F.norm(a) * F.norm(b), (0, 1))(np.array([3.0, 4.0]), np.array([3.0, 4.0]))
    np.testing.assert_allclose(away[0][1], [[0.36, 0.48], [0.48, 0.64]], rtol=1e-12)


def test_long_products_are_no_deeper_than_python() -> None:
    x = Variable(1.0)
    y = x
    for _ in range(3_000):
        y = y * x
    y.backward(create_graph=True)
    assert x.grad is not None
    assert x.grad.data == 3001.0


@pytest.mark.parametrize(
    ("text", "x"),
    [
        ("n = exp(x); y = n * n; g = grad(y, x); sum(g)", 0.0),
        ("n = sqrt(x); y = n * n * n; g = grad(y, x); sum(g)", 4.0),
        ("n = norm(x); y = n * n * n; g = grad(y, x); sum(g)", np.array([3.0, 4.0])),
    ],
)
def test_a_node_is_one_value_in_both_modes(text: str, x: Any) -> None:
    """Beside a gradient inside of the program, the derivative with respect to a node is the same each way."""
    graph, given = parse(text), {"x": x}
    forward, reverse = (
        programs.jacobian(graph, given, wrt=["n"], mode=mode).run()["jacobian"]["out"]["n"]
        for mode in ("forward", "reverse")
    )
    assert forward == pytest.approx(reverse)
    assert prepare(graph, given, backward=Backward(wrt=("n",))).run().grads["n"] == pytest.approx(forward)


@pytest.mark.parametrize("kind", [float, int, np.float64, np.float32, np.int64, np.array])
def test_an_exponent_may_be_any_number(kind: Any) -> None:
    p = kind(2)
    for f in (lambda x: F.norm(x) ** p, lambda x: F.sum(F.abs(x) ** p)):
        np.testing.assert_allclose(hessian(f)(np.zeros(2)), 2.0 * np.eye(2))
        np.testing.assert_allclose(engine.compile(hessian(f))(np.zeros(2)), 2.0 * np.eye(2))
