"""Derivatives that would be lost without a word: numbers and arrays made of traced values, and NumPy's functions."""

import cmath
import math
import operator
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import Variable, compile, no_grad
from engine import functions as F
from engine.core.errors import AutogradError, InvalidValueError, LostDerivativeError, LostDerivativeWarning
from engine.core.lost_derivatives import SUBSTITUTES, substitute
from engine.core.table import CALLS, OPERATIONS, rows
from engine.programs.tracing import trace
from engine.transforms import grad, hessian, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp, vmap

Function = Callable[[Any], Any]
V = np.array([1.5, 2.5])

#: Transforms in which the number behind a value is there: (function of one number, number) -> a derivative.
KNOWN: dict[str, Callable[[Function, Any], Any]] = {
    "grad": lambda f, x: grad(f)(x),
    "value_and_grad": lambda f, x: value_and_grad(f)(x)[1],
    "vjp": lambda f, x: vjp(f, x)[1](1.0)[0],
    "jvp": lambda f, x: jvp(f, (x,), (1.0,))[1],
    "jacobian, reverse": lambda f, x: jacobian(f, mode="reverse")(x),
    "jacobian, forward": lambda f, x: jacobian(f, mode="forward")(x),
    "grad of a variable": lambda f, x: grad(f)(Variable(x)).data,
    "grad inside of jvp": lambda f, x: jvp(lambda y: grad(lambda z: f(z))(x) * y, (1.0,), (1.0,))[1],
    "jvp inside of grad": lambda f, x: grad(lambda y: jvp(f, (x,), (1.0,))[1] * y)(1.0),
    "an outer value inside of grad": lambda f, x: grad(lambda y: grad(lambda z: z * f(y))(2.0))(x),
    "an outer value inside of jvp": lambda f, x: grad(lambda y: jvp(lambda z: z * f(y), (2.0,), (1.0,))[1])(x),
    "an outer value inside of vmap": lambda f, x: grad(lambda y: F.sum(vmap(lambda z: z * f(y))(np.array([1.0]))))(x),
}
#: The same of second order.
SECOND: dict[str, Callable[[Function, Any], Any]] = {
    "hessian": lambda f, x: hessian(f)(x),
    "hvp": lambda f, x: hvp(f, (x,), (1.0,))[0],
    "grad of grad": lambda f, x: grad(grad(f))(x),
    "jvp of jvp": lambda f, x: jvp(lambda y: jvp(f, (y,), (1.0,))[1], (x,), (1.0,))[1],
}
#: Transforms in which there is no number.
UNKNOWN: dict[str, Callable[[Function, Any], Any]] = {
    "vmap": lambda f, x: vmap(f)(np.array([x, x])),
    "compile": lambda f, x: compile(f)(x),
    "trace": lambda f, x: trace(f, x),
    "grad inside of compile": lambda f, x: compile(grad(f))(x),
    "grad inside of vmap": lambda f, x: vmap(grad(f))(np.array([x, x])),
    "jvp inside of compile": lambda f, x: compile(lambda y: jvp(f, (y,), (1.0,))[1])(x),
    "vmap inside of grad": lambda f, x: grad(lambda y: F.sum(vmap(f)(y)))(np.array([x, x])),
}
#: What makes a plain number or array of a value, and what the error says to use.
LOST: dict[str, tuple[Function, str]] = {
    "float": (lambda x: x * float(x), r"x\.item\(\) or stop_gradient\(x\)"),
    "int": (lambda x: x * int(x), r"x\.item\(\)"),
    "complex": (lambda x: x * complex(x).real, r"x\.item\(\)"),
    "index": (lambda x: x * operator.index(x), r"x\.item\(\)"),
    "an index of a list": (lambda x: x * [1.0, 2.0, 3.0][x], r"x\.item\(\)"),
    "range": (lambda x: x * len(range(x)), r"x\.item\(\)"),
    "math.sin": (lambda x: x * math.sin(x), r"F\.sin"),
    "math.pow": (lambda x: x * math.pow(x, 2.0), r"F\.pow"),
    "math.fabs": (lambda x: x * math.fabs(x), r"F\.abs"),
    "math.floor": (lambda x: x * math.floor(x), r"F\.floor"),
    "math.ceil": (lambda x: x * math.ceil(x), r"F\.ceil"),
    "math.lgamma": (lambda x: x * math.lgamma(x), r"F\.gammaln"),
    "math.isnan": (lambda x: x * math.isnan(x), r"F\.isnan"),
    "math.hypot": (lambda x: x * math.hypot(3.0, x), r"F\.hypot"),
    "cmath.sqrt": (lambda x: x * cmath.sqrt(x).real, r"F\.sqrt"),
    "%": (lambda x: x * float("%.3f" % x), r"x\.item\(\)"),  # noqa: UP031
    "np.float64": (lambda x: x * np.float64(x), r"stop_gradient\(x\)"),
    "np.asarray": (lambda x: x * np.asarray(x), r"stop_gradient\(x\)"),
    "np.array of a list": (lambda x: F.sum(x * np.array([x, x])), r"F\.stack"),
    "np.full": (lambda x: F.sum(x * np.full(2, x)), r"stop_gradient\(x\)"),
    "Variable": (lambda x: x * Variable(x), r"stop_gradient\(x\)"),
    "an attribute": (lambda x: F.sum(F.clip(V, 0.0, x) * x), r"x\.item\(\)"),
}


def caught(call: Callable[[], Any]) -> str:
    """How a call fails, as `Class: message`; empty if it doesn't, or another library's error."""
    try:
        call()
    except AutogradError as error:
        return f"{type(error).__name__}: {error.detail}"
    except (TypeError, ValueError, ArithmeticError) as error:
        return f"not ours: {error!r}"
    return "no error"


def test_what_would_lose_a_derivative_is_refused_where_the_number_is_known() -> None:
    wrong = []
    for way, derivative in (KNOWN | SECOND).items():
        transforms = r"(grad|value_and_grad|vjp|jvp|jacobian|hessian|hvp)"
        for name, (f, words) in LOST.items():
            found = caught(lambda f=f, derivative=derivative: derivative(f, 2.0))
            line = f"test_lost_derivatives.py, line {f.__code__.co_firstlineno}: "
            pattern = rf"LostDerivativeError: (clip: )?{transforms}: .*{words}"
            if not _matches(pattern, found) or line not in found:
                wrong.append((way, name, found))
    assert wrong == []


def test_what_needs_a_number_is_refused_where_there_is_none() -> None:
    wrong = []
    for way, derivative in UNKNOWN.items():
        for name, (f, words) in LOST.items():
            found = caught(lambda f=f, derivative=derivative: derivative(f, 2.0))
            advice = words if words.startswith("F") and "stack" not in words else ""
            if not _matches(rf"InvalidValueError: .*{advice}.*where\(condition, x, y\).*test_lost_derivatives", found):
                wrong.append((way, name, found))
    assert wrong == []


def _matches(pattern: str, text: str) -> bool:
    return re.match(pattern, text) is not None


#: What loses nothing, with the derivative and the second derivative at 2.5.
KEPT: dict[str, tuple[Function, float, float]] = {
    "item": (lambda x: x * x.item(), 2.5, 0.0),
    "float of stop_gradient": (lambda x: x * float(stop_gradient(x)), 2.5, 0.0),
    "computed from stop_gradient": (lambda x: x * float(stop_gradient(x) * 2.0), 5.0, 0.0),
    "an array of stop_gradient": (lambda x: x * np.asarray(stop_gradient(x)), 2.5, 0.0),
    "int of floor": (lambda x: x * x * int(F.floor(x)), 10.0, 4.0),
    "float of a comparison": (lambda x: x * x * float(x > 0), 5.0, 2.0),
    "inside no_grad": (lambda x: x * frozen(x), 2.5, 0.0),
    "if": (lambda x: x * x if x > 0 else -x, 5.0, 2.0),
    "if of a number": (lambda x: x * x if x else x, 5.0, 2.0),
    "while": (lambda x: doubled(x), 4.0, 0.0),
    "min and max": (lambda x: max(x * x, x) + min(x, 0.0), 5.0, 2.0),
    "sorted": (lambda x: sorted([x * x, x, 3.0])[2], 5.0, 2.0),
    "builtin sum": (lambda x: sum([x * x, x]), 6.0, 2.0),
    "f-string": (lambda x: x * len(f"{x:.2f}"), 4.0, 0.0),
    "a mask of numbers": (lambda x: F.sum(x * x * V[V > x.item() - 1.0]) + F.sum(V[stack(x) > 9]), 12.5, 5.0),
    "an array on the left": (lambda x: F.sum(np.array([1.0, 2.0]) * x * x), 15.0, 6.0),
    "a scalar of NumPy's on the left": (lambda x: np.float64(2.0) * x * x, 10.0, 4.0),
    "an integer of NumPy's on the left": (lambda x: np.int64(2) * x * x, 10.0, 4.0),
    "shape, ndim and size": (lambda x: x * x * (len(np.shape(x)) + np.ndim(x) + np.size(x)), 5.0, 2.0),
}


def frozen(x: Any) -> float:
    with no_grad():
        return float(x)


def doubled(x: Any) -> Any:
    while x < 8.0:
        x = x * 2.0
    return x


def stack(x: Any) -> Any:
    return F.stack([x, x])


@pytest.mark.parametrize("name", KEPT)
def test_what_loses_nothing_works(name: str) -> None:
    f, first, second = KEPT[name]
    for way, derivative in KNOWN.items():
        assert np.ravel(derivative(f, 2.5)).tolist() == [first], way
    for way, derivative in SECOND.items():
        assert np.ravel(derivative(f, 2.5)).tolist() == [second], way


def test_an_integer_or_a_mask_is_a_number() -> None:
    def f(x: Any) -> Any:
        biggest = F.argmax(x)
        assert (int(biggest), float(biggest), operator.index(biggest), [7, 8][biggest]) == (1, 1.0, 1, 8)
        assert list(range(biggest)) == [0] and bool(x[0] > 0) is True and int(x[0] > 0) == 1
        np.testing.assert_array_equal(np.asarray(x > 2.0), [False, True])
        np.testing.assert_array_equal(np.arange(2)[x > 2.0], [1])
        # As a NumPy mask does, one without axes adds an axis.
        assert np.arange(2)[x[0] > 2.0].shape == (0, 2)
        return F.sum(x * x)

    assert grad(f)(V).tolist() == [3.0, 5.0]
    assert jvp(f, (V,), (V,))[1] == 17.0
    assert hessian(f)(V).tolist() == [[2.0, 0.0], [0.0, 2.0]]


def test_setting_an_element_of_an_array() -> None:
    """NumPy has words of its own for it; ours is the cause."""

    def f(x: Any) -> Any:
        y = np.zeros(2)
        y[0] = x
        return F.sum(y)

    for call in (lambda: grad(f)(1.0), lambda: jvp(f, (1.0,), (1.0,))):
        with pytest.raises(ValueError, match="element") as found:
            call()
        assert isinstance(found.value.__cause__, LostDerivativeError)


def test_a_derivative_that_is_not_wanted_is_not_lost() -> None:
    """An argument that is not differentiated is a plain number, and one without a tangent has none to lose."""
    assert grad(lambda x, y: x * float(y))(2.0, 3.0) == 3.0
    assert jacobian(lambda x, y: x * float(y), mode="forward")(2.0, 3.0) == 3.0
    with pytest.raises(LostDerivativeError):
        jacobian(lambda x, y: x * float(y), argnums=(0, 1), mode="forward")(2.0, 3.0)


# Text


def test_text_of_traced_values() -> None:
    seen: list[str] = []

    def f(x: Any) -> Any:
        seen.extend([str(x), repr(x), f"{x}", "%s" % x, f"{x * 2:.2f}", f"{F.stack([x, x])}"])  # noqa: UP031
        return x * x

    for way in KNOWN:
        if not way.startswith("an outer value"):
            seen.clear()
            KNOWN[way](f, 1.5)
            assert seen[0].startswith("traced(1.5, by "), way
            assert seen[1:4] == [seen[0]] * 3
            assert seen[4] == "3.00"
            assert seen[5].startswith("traced([1.5 1.5], by ")
    for outer, inside in (("vmap", "float64[], by vmap"), ("compile", "float64[], by compile")):
        shown: list[str] = []
        UNKNOWN[outer](lambda x, shown=shown: shown.append(f"{x} {x!r}") or x, 1.5)
        assert shown == [f"traced({inside}) traced({inside})"]
    assert "which has ended" in repr(_leaked())


def _leaked() -> Any:
    kept: list[Any] = []
    grad(lambda x: kept.append(x) or x * x)(1.0)
    return kept[0]


@pytest.mark.parametrize("way", UNKNOWN)
def test_a_format_needs_a_number(way: str) -> None:
    with pytest.raises(InvalidValueError, match=r"not known|differs from row to row"):
        UNKNOWN[way](lambda x: x * len(f"{x:.2f}"), 1.5)


# Functions of NumPy's

ARRAY_FUNCTIONS: dict[str, tuple[Function, str]] = {
    "np.sum": (np.sum, r"F\.sum"),
    "np.mean": (np.mean, r"F\.mean"),
    "np.max": (np.max, r"F\.max"),
    "np.amin": (np.amin, r"F\.min"),
    "np.concatenate": (lambda x: np.concatenate([x, x]), r"F\.concat"),
    "np.stack": (lambda x: np.stack([x, V]), r"F\.stack"),
    "np.hstack": (lambda x: np.hstack([V, x]), r"F\.concat"),
    "np.where": (lambda x: np.where(V > 0, x, 0.0), r"F\.where"),
    "np.clip": (lambda x: np.clip(x, 0.0, 1.0), r"F\.clip"),
    "np.dot": (lambda x: np.dot(V, x), r"F\.matmul"),
    "np.einsum": (lambda x: np.einsum("i,i", x, V), r"F\.einsum"),
    "np.linalg.norm": (np.linalg.norm, r"F\.norm"),
    "np.outer": (lambda x: np.outer(x, V), r"F\.outer"),
    "np.zeros_like": (np.zeros_like, r"F\.zeros_like"),
    "np.var": (np.var, r"F\.var"),
    "np.reshape": (lambda x: np.reshape(x, (2, 1)), r"F\.reshape"),
    "np.transpose": (np.transpose, r"F\.transpose"),
    "np.allclose": (lambda x: np.allclose(x, V), r"no such function"),
    "np.sort": (np.sort, r"no such function"),
    "np.fft.fft": (np.fft.fft, r"no such function"),
    "np.add.reduce": (np.add.reduce, r"no such function"),
    "np.add": (lambda x: np.add(V, x, out=np.zeros(2)), r"in place"),
}
BOTH = {"a variable": lambda f: f(Variable(V)), "a traced value": lambda f: grad(lambda x: F.sum(f(x)))(V)}


@pytest.mark.parametrize("who", [*BOTH, *UNKNOWN])
def test_functions_of_numpy_say_what_to_use(who: str) -> None:
    wrong = []
    for name, (f, words) in ARRAY_FUNCTIONS.items():
        if who in BOTH:
            found = caught(lambda f=f: BOTH[who](f))
        elif who == "vmap inside of grad":
            found = caught(lambda f=f: grad(lambda y: F.sum(vmap(f)(y)))(np.array([V, V])))
        else:
            found = caught(lambda f=f: UNKNOWN[who](lambda x: F.sum(f(F.stack([x, x]))), 1.5))
        pattern = rf"InvalidValueError: {name}: .*{words}.*\(test_lost_derivatives.py, line \d+: "
        if not _matches(pattern, found) or "\n" in found:
            wrong.append((name, found))
    assert wrong == []


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    name: getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "lt", "le", "gt", "ge", "eq", "ne")
}


def test_every_ufunc_works_or_says_what_to_use() -> None:
    x, wrong = Variable(V), []
    is_operator = {
        *("add subtract multiply divide floor_divide remainder divmod power matmul".split()),
        *("less less_equal greater greater_equal equal not_equal bitwise_and bitwise_or bitwise_xor".split()),
    }
    seen = 0
    for ufunc in {item for item in vars(np).values() if isinstance(item, np.ufunc)}:
        args = (V,) * (ufunc.nin - 1) + (x,)
        found = caught(lambda ufunc=ufunc, args=args: ufunc(*args))
        if ufunc.__name__ in is_operator:
            expected = "InvalidValueError: [&|^]: expected masks" if "bitwise" in ufunc.__name__ else "no error"
            seen += 1
        else:
            expected = rf"InvalidValueError: np\.{ufunc.__name__}: .*(use |no such function)"
        if not _matches(expected, found):
            wrong.append((ufunc.__name__, found))
    assert wrong == []
    assert seen == len(is_operator)


def test_arrays_on_the_left_compute_as_arrays_on_the_right() -> None:
    array, other = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 0.5], [-1.0, 3.0]])
    masks = np.array([True, False]), Variable(np.array([True, True]))
    for name, operation in OPERATORS.items():
        expected = operation(array, other)
        for left in (array, np.asfortranarray(array), array[0], array[0, 0], np.float32(2.0)):
            if name == "matmul" and np.ndim(left) == 0:
                continue
            found = operation(left, Variable(other))
            assert type(found) is Variable, name
            np.testing.assert_array_equal(found.data, operation(left, other), err_msg=name)
        slopes = grad(lambda x, operation=operation: F.sum(F.astype(operation(array, x), "float64")))
        assert slopes(other).shape == (2, 2)
        assert expected.shape == (2, 2)
    for operation in (operator.and_, operator.or_, operator.xor):
        np.testing.assert_array_equal(operation(*masks).data, operation(masks[0], masks[1].data))
    quotient, rest = divmod(array, Variable(other))
    np.testing.assert_array_equal([quotient.data, rest.data], np.divmod(array, other))


def test_nothing_is_added_to_an_array_in_place() -> None:
    def f(x: Any) -> Any:
        total = np.zeros(2)
        total += x
        return F.sum(total)

    for call in (lambda: grad(f)(V), lambda: f(Variable(V)), lambda: compile(f)(V)):
        with pytest.raises(InvalidValueError, match=r"write y = y \+ x in place of y \+= x"):
            call()


def test_every_function_that_is_named_exists() -> None:
    for text in SUBSTITUTES.values():
        for word in text.split():
            if word.startswith("F."):
                assert word[2:] in CALLS, text
    for op in rows():
        if isinstance(op.lowering.ufunc, np.ufunc):
            assert OPERATIONS[substitute(op.lowering.ufunc.__name__).removeprefix("F.")] is op
        for name in (op.name, *op.aliases):
            if hasattr(np, name) and name not in SUBSTITUTES:
                assert OPERATIONS[substitute(name).removeprefix("F.")] is op


def test_lists_of_traced_values_are_stacked() -> None:
    lists: dict[str, Function] = {
        "sum": lambda x: F.sum([x, x]),
        "nested": lambda x: F.sum([[x, 1.0], [2.0, x]]),
        "a tuple": lambda x: F.mean((x, 2.0)),
        "an operator": lambda x: F.sum(x * [x, x]),
        "a composite": lambda x: F.norm([x, x]),
        "an argument of a transform": lambda x: grad(lambda y: F.sum(y * F.sum([x, y])))(2.0),
    }
    wrong = []
    everywhere = {**KNOWN, **SECOND, **UNKNOWN, "a variable": lambda f, x: f(Variable(x))}
    for way, derivative in everywhere.items():
        for name, f in lists.items():
            found = caught(lambda f=f, derivative=derivative: derivative(f, 2.0))
            if not _matches(r"InvalidValueError: .*F\.stack", found):
                wrong.append((way, name, found))
    assert wrong == []
    with pytest.raises(InvalidValueError, match=r"F\.stack"):
        Variable([Variable(1.0), 2.0])
    assert grad(lambda x: F.sum(F.stack([x, x * x])))(2.0) == 5.0


# Variables


def test_a_number_of_a_recorded_variable_warns() -> None:
    v = Variable(2.0)
    y = v * v
    taken: dict[str, Callable[[Any], Any]] = {
        "float": float,
        "int": int,
        "complex": complex,
        "math.sin": lambda x: math.sin(x),
        "an attribute": lambda x: F.clip(V, 0.0, x),
        "an element of an array": lambda x: np.zeros(2).__setitem__(0, x),
    }
    for name, take in taken.items():
        for x in (v, y, Variable([2.0]), Variable(2.0, dtype="float32")):
            with pytest.warns(LostDerivativeWarning, match=r"x\.item\(\)") as found:
                take(x)
            assert [warning.filename for warning in found] == [__file__], name
    with pytest.warns(LostDerivativeWarning, match=r"use F\.sin"):
        assert v * math.sin(v) != 0
    for x in (v, y, Variable(V), Variable(V) * 2.0):
        with pytest.warns(LostDerivativeWarning, match=r"x\.data") as found:
            Variable(x)
        assert [warning.filename for warning in found] == [__file__]


def test_it_warns_once_a_line() -> None:
    v = Variable(2.0)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        for _ in range(3):
            float(v)
            math.sin(v)
    lines = [warning.lineno for warning in found]
    assert len(lines) == 2 and lines[1] == lines[0] + 1


def test_what_is_silent() -> None:
    v = Variable(2.0)
    y = F.sin(v) * v
    y.backward()
    assert v.item() == v.data == 2.0
    assert f"{v:.1f} {v} {v!r}" == "2.0 variable(2.0) variable(2.0)"
    assert v > 1.0 and v and v == 2.0 and [v, y][v.data > 9] is v
    # A gradient is on no tape, and what is computed from gradients alone is on none that matters.
    assert v.grad is not None
    assert float(v.grad) == float(v.grad * 2.0) / 2.0 == float(F.sum(F.stack([v.grad])))
    assert float(F.floor(v)) == float(stop_gradient(v)) == 2.0
    assert int(Variable(np.array(3))) == 3 and float(Variable(np.array(True))) == 1.0
    with no_grad():
        assert float(v) == 2.0
        z = v * 3.0 + F.exp(v) * 0.0
        w = F.sum(F.stack([v, z]))
    assert (float(z), float(w), float(z * z)) == (6.0, 8.0, 36.0)
    v.cleargrad()
    (v * 1.0).backward()
    (v * 1.0).backward()
    assert float(v.grad) == 2.0
    with pytest.warns(LostDerivativeWarning):
        float(z * v)
    v.cleargrad()
    (v * v).backward(create_graph=True)
    with pytest.warns(LostDerivativeWarning):
        float(v.grad)


def test_arrays_of_variables() -> None:
    mask, whole = Variable(V) > 2.0, F.argmax(Variable(V))
    np.testing.assert_array_equal(np.asarray(mask), [False, True])
    np.testing.assert_array_equal(np.arange(2)[mask], [1])
    assert np.asarray(whole) == 1
    for refused in (np.asarray, np.float64, np.array):
        with pytest.raises(InvalidValueError, match=r"x\.data"):
            refused(Variable(V))


def test_rounding_to_digits_says_how() -> None:
    for call in (lambda: round(Variable(1.25), 1), lambda: grad(lambda x: round(x, 1))(1.25)):
        with pytest.raises(InvalidValueError, match=r"F\.round"):
            call()
    assert grad(lambda x: x * round(x))(2.7) == 3.0
