"""A derivative is never lost without a word: what would lose it raises in transforms, and warns on the tape."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import Variable, compile, no_grad
from engine import functions as F
from engine.core.errors import AutogradError
from engine.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp, vmap
from tests.acceptance.comparing import agree, report
from tests.acceptance.server import Local

A = np.array
Function = Callable[..., Any]


# What turns a value into a number that no derivative follows. Each stands on a line of its own: errors name it.
def by_float(x: Any) -> Any:
    return x * float(x)


def by_math_sin(x: Any) -> Any:
    return x * math.sin(x)


def by_math_exp(x: Any) -> Any:
    return math.exp(x) + x


def by_math_sqrt(x: Any) -> Any:
    return x + math.sqrt(x)


def by_math_pow(x: Any) -> Any:
    return x + math.pow(x, 2)


def by_math_hypot(x: Any) -> Any:
    return x + math.hypot(x, 1.0)


def by_fsum(x: Any) -> Any:
    return x * math.fsum([x, x])


def by_asarray(x: Any) -> Any:
    return F.sum(x * np.asarray(x))


def by_array_of_list(x: Any) -> Any:
    return F.sum(x * np.array([x, x]))


def by_array_dtype(x: Any) -> Any:
    return x * np.array(x, dtype=float)


def by_assignment(x: Any) -> Any:
    buffer = np.zeros(2)
    buffer[0] = x
    return x + F.sum(buffer)


def by_float_of_a_part(x: Any) -> Any:
    return x * float(F.sin(x * x))


def by_list_of_floats(x: Any) -> Any:
    return x * next(float(v) for v in (x, 2.0))


LOSERS: list[Function] = [
    by_float,
    by_math_sin,
    by_math_exp,
    by_math_sqrt,
    by_math_pow,
    by_math_hypot,
    by_fsum,
    by_asarray,
    by_array_of_list,
    by_array_dtype,
    by_assignment,
    by_float_of_a_part,
    by_list_of_floats,
]
TRANSFORMS: dict[str, Function] = {
    "grad": lambda f: grad(f)(1.0),
    "value_and_grad": lambda f: value_and_grad(f)(1.0),
    "vjp": lambda f: vjp(f, 1.0),
    "jvp": lambda f: jvp(f, (1.0,), (1.0,)),
    "jacobian forward": lambda f: jacobian(f, mode="forward")(1.0),
    "jacobian reverse": lambda f: jacobian(f, mode="reverse")(1.0),
    "hessian": lambda f: hessian(f)(1.0),
    "hvp": lambda f: hvp(f, (1.0,), (1.0,)),
    "grad of grad": lambda f: grad(grad(f))(1.0),
    "vmap of grad": lambda f: vmap(grad(f))(A([1.0, 2.0])),
    "vmap": lambda f: vmap(f)(A([1.0, 2.0])),
    "compile": lambda f: compile(f)(1.0),
    "compile grad": lambda f: compile(grad(f))(1.0),
}


def outcome(run: Callable[[], Any]) -> str | BaseException:
    """Return what was raised, or the answer as text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return repr(run())
    except Exception as error:  # noqa: BLE001  (which one it is is what is tested)
        return error


def causes(error: Any) -> list[Any]:
    """Return an error and what it was raised from: NumPy wraps what comes out of a conversion."""
    found = []
    while error is not None and not isinstance(error, str):
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


# Here NumPy asks for an array; the line is only promised where Python asks for a number.
BY_ARRAY = (by_asarray, by_array_of_list, by_array_dtype, by_assignment)


def test_numbers_taken_out_in_transforms_raise() -> None:
    """A typed error of one line that says what to use instead and which line it was."""
    failures = []
    for f in LOSERS:
        lines, first = inspect.getsourcelines(f)
        numbers = range(first, first + len(lines))
        for name, transform in TRANSFORMS.items():
            error = outcome(lambda f=f, transform=transform: transform(f))
            named = f not in BY_ARRAY and not name.startswith(("vmap", "compile"))
            if not any(isinstance(e, AutogradError) for e in causes(error)):
                failures.append(f"{f.__name__} in {name}: {error!r}")
            elif named and not any(str(n) in str(error) for n in numbers):
                failures.append(f"{f.__name__} in {name} doesn't name the line: {error}")
    assert not failures, report(failures, len(LOSERS) * len(TRANSFORMS))


def test_the_error_names_what_to_use() -> None:
    for f in (by_math_sin, by_float):
        with pytest.raises(AutogradError, match=r"(F\.|functions|stop_gradient)"):
            grad(f)(1.0)


def test_a_float_of_something_else_still_works() -> None:
    """Numbers that are not being differentiated are numbers."""
    assert agree(grad(lambda x: x * float(np.float64(3)))(2.0), 3)
    assert agree(grad(lambda x: x * math.sin(2.0))(1.0), math.sin(2.0))
    assert agree(grad(lambda x, y: x * 2 * math.sin(y), argnums=0)(1.0, 0.5), 2 * math.sin(0.5))
    assert agree(grad(lambda x: x * len([1, 2]))(1.0), 2)
    # Control flow on values is concrete.
    assert agree(grad(lambda x: x * x if x > 0 else -x)(3.0), 6)
    assert agree(grad(lambda x: x * x if x > 0 else -x)(-3.0), -1)


def test_values_that_outlive_their_transform_raise() -> None:
    """JAX's leaked tracers: whatever is done with them afterwards."""
    kept: list[Any] = []

    def keeping(x: Any) -> Any:
        kept.append(F.sin(x) * x)
        kept.append(x)
        return F.sum(x * x)

    makers: dict[str, Callable[[], Any]] = {
        "grad": lambda: grad(keeping)(1.0),
        "value_and_grad": lambda: value_and_grad(keeping)(1.0),
        "jvp": lambda: jvp(keeping, (1.0,), (1.0,)),
        "jacobian": lambda: jacobian(keeping, mode="forward")(1.0),
        "hessian": lambda: hessian(keeping)(1.0),
        "grad of grad": lambda: grad(grad(keeping))(1.0),
        "grad of an array": lambda: grad(keeping)(A([1.0, 2.0])),
        "vmap": lambda: vmap(keeping)(A([1.0, 2.0])),
        "compile": lambda: compile(keeping)(1.0),
    }
    uses: dict[str, Function] = {
        "times a number": lambda v: v * 2.0,
        "a number minus": lambda v: 1.0 - v,
        "sin": lambda v: F.sin(v),
        "sum": lambda v: F.sum(v),
        "with a Variable": lambda v: Variable(1.0) + v,
        "stack": lambda v: F.stack([v, v]),
        "in grad": lambda v: grad(lambda y: F.sum(y * v))(2.0),
        "alone in grad": lambda v: grad(lambda y: F.sum(v * v))(2.0),
        "in jvp": lambda v: jvp(lambda y: F.sum(y * v), (2.0,), (1.0,)),
        "in jacobian": lambda v: jacobian(lambda y: y * v)(2.0),
        "in vmap": lambda v: vmap(lambda y: y * v)(A([1.0, 2.0])),
        "as the result": lambda v: grad(lambda y: v)(2.0),
        "as an argument": lambda v: grad(lambda y: F.sum(y * y))(v),
        "compared": lambda v: bool(F.sum(v) > 0),
    }
    failures = []
    for maker_name, maker in makers.items():
        kept.clear()
        maker()
        for which, value in enumerate(kept[:2]):
            for use_name, use in uses.items():
                error = outcome(lambda use=use, value=value: use(value))
                if not isinstance(error, AutogradError):
                    failures.append(f"{maker_name}, value {which}, {use_name}: {error!r}")
    assert not failures, report(failures, len(makers) * len(uses) * 2)


def test_an_inner_value_in_the_outer_function_raises() -> None:
    def outer(x: Any) -> Any:
        kept: list[Any] = []

        def inner(y: Any) -> Any:
            kept.append(y * x)
            return y * y * x

        return grad(inner)(x) * kept[0]

    assert isinstance(outcome(lambda: grad(outer)(2.0)), AutogradError)
    assert isinstance(outcome(lambda: jvp(outer, (2.0,), (1.0,))), AutogradError)


def test_values_of_an_outer_function_are_alive_inside() -> None:
    """The other way round is what nesting is for."""
    f = lambda x: grad(lambda y: y * y * x)(3.0)  # noqa: E731
    assert agree(grad(f)(2.0), 6)
    assert agree(jvp(f, (2.0,), (1.0,))[1], 6)
    assert agree(grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0), 1)


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return isinstance(value, float | int | bool | np.ndarray | np.generic | str | None.__class__)


def test_answers_are_plain_values() -> None:
    """No tracer comes out: not as the result, the gradient, the auxiliary value or in a container."""
    two = lambda x: (F.sum(x * x), {"y": x * 2, "z": [F.sin(x), 3.0]})  # noqa: E731
    x = A([1.0, 2.0])
    answers = {
        "grad aux": grad(two, has_aux=True)(x),
        "value_and_grad aux": value_and_grad(two, has_aux=True)(x),
        "jvp aux": jvp(two, (x,), (x,), has_aux=True),
        "vjp": vjp(lambda v: {"a": v * 2, "b": 1.0}, x)[0],
        "jacobian aux": jacobian(lambda v: (v * v, {"s": F.sum(v)}), has_aux=True)(x),
        "hessian aux": hessian(two, has_aux=True)(x),
        "grad of grad aux": grad(lambda v: grad(lambda w: (w * w * w, w), has_aux=True)(v)[0], has_aux=False)(2.0),
        "vmap": vmap(lambda v: {"a": v, "b": [v * 2, 1.0]})(x),
        "constant": grad(lambda v: F.sum(A([1.0, 2.0])))(x),
    }
    failures = [f"{name}: {answer!r}" for name, answer in answers.items() if not plain(answer)]
    assert not failures, report(failures, len(answers))


def test_float_of_a_recorded_variable_works_and_warns_once_a_line() -> None:
    x = Variable(2.0)
    y = x * x
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            first = float(y)
        second = float(y)
        third = math.sqrt(y)
    assert (first, second, third) == (4.0, 4.0, 2.0)
    lines = [w.lineno for w in caught]
    here = inspect.getsourcelines(test_float_of_a_recorded_variable_works_and_warns_once_a_line)[1]
    assert len(lines) == len(set(lines)) == 3, lines
    assert all(here < line < here + 14 for line in lines) and all(w.filename == __file__ for w in caught), caught
    assert any("item" in str(w.message) for w in caught), [str(w.message) for w in caught]


def test_silent_ways_to_a_number() -> None:
    """`.item()` says that a number is wanted; where nothing is recorded nothing can be lost."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = Variable(2.0)
        y = x * x
        assert y.item() == 4.0
        assert f"{y:.1f}" == "4.0" and "4.0" in str(y) and "4.0" in repr(y)
        with no_grad():
            z = x * x
            assert float(z) == 4.0
        assert bool(y > 1) is True
        assert int(F.argmax(Variable([1.0, 3.0, 2.0])).item()) == 1


def test_masks_of_values_under_differentiation() -> None:
    x = A([1.0, -2.0, 3.0, 0.0])
    square = lambda v: F.sum(v[v > 0] ** 2)  # noqa: E731
    want = [2, 0, 6, 0]
    failures = []
    variable = Variable(x)
    square(variable).backward()
    got = {
        "tape": variable.grad,
        "grad": grad(square)(x),
        "value_and_grad": value_and_grad(square)(x)[1],
        "forward": jacobian(square, mode="forward")(x),
        "reverse": jacobian(square, mode="reverse")(x),
        "vjp": vjp(square, x)[1](1.0)[0] if isinstance(vjp(square, x)[1](1.0), tuple) else vjp(square, x)[1](1.0),
    }
    failures += [f"{way}: {g}" for way, g in got.items() if not agree(g, want)]
    assert agree(jvp(square, (x,), (A([1.0, 1, 1, 1]),))[1], 8)
    assert agree(hessian(square)(x), np.diag([2, 0, 2, 0]))
    assert agree(hvp(square, (x,), (x,))[0] if isinstance(hvp(square, (x,), (x,)), tuple) else 0, [2, 0, 6, 0])
    assert agree(grad(lambda v: F.sum(grad(square)(v)))(x), [2, 0, 2, 0])
    m = A([[1.0, -2], [-3, 4]])
    masks: dict[str, tuple[Function, Any]] = {
        "matrix": (lambda v: F.sum(v[v > 0] ** 2), [[2, 0], [0, 8]]),
        "inverted": (lambda v: F.sum(v[~(v > 0)] ** 2), [[0, -4], [-6, 0]]),
        "and": (lambda v: F.sum(v[(v > 0) & (v < 2)] ** 2), [[2, 0], [0, 0]]),
        "or": (lambda v: F.sum(v[(v < -2) | (v > 2)] ** 2), [[0, 0], [-6, 8]]),
        "rows": (lambda v: F.sum(v[F.sum(v, axes=1) > 0] ** 2), [[0, 0], [-6, 8]]),
        "of a part": (lambda v: F.sum((v * v)[v > 0]), [[2, 0], [0, 8]]),
        "nothing": (lambda v: F.sum(v[v > 100]) + F.sum(v), [[1, 1], [1, 1]]),
        "equal": (lambda v: F.sum(v[v == 4.0] * 3), [[0, 0], [0, 3]]),
        "numpy mask": (lambda v: F.sum(v[A([[True, False], [False, True]])]), [[1, 0], [0, 1]]),
        "isnan": (lambda v: F.sum(v[F.logical_not(F.isnan(v))]), [[1, 1], [1, 1]]),
    }
    for name, (f, right) in masks.items():
        variable = Variable(m)
        f(variable).backward()
        answers = {"tape": variable.grad, "grad": grad(f)(m), "forward": jacobian(f, mode="forward")(m)}
        failures += [f"{name}, {way}: {g}" for way, g in answers.items() if not agree(g, right)]
    # The elements that are taken, one by one.
    assert agree(jacobian(lambda v: v[v > 0] * 2)(x), [[2, 0, 0, 0], [0, 0, 2, 0]])
    assert not failures, report(failures, 6 + 3 * len(masks))


def test_masks_where_nothing_is_concrete_are_refused(server: Local) -> None:
    f = lambda v: F.sum(v[v > 0])  # noqa: E731
    x = A([1.0, -2.0])
    for run in (lambda: compile(f)(x), lambda: compile(grad(f))(x), lambda: vmap(f)(A([[1.0, -2.0], [1.0, 1.0]]))):
        error = outcome(run)
        assert isinstance(error, AutogradError) and "where" in str(error) and "\n" not in str(error), repr(error)
    response = server.post("/v1/evaluate", {"expr": "sum(x[x > 0])", "inputs": {"x": [1, -2]}, "backward": True})
    assert response.status_code == 422 and "\n" not in response.json()["detail"], response.text


def test_f_strings() -> None:
    seen: list[str] = []

    def f(x: Any) -> Any:
        seen.append(f"{x:.2f}|{x}|{x!r}")
        return x * x

    runs: dict[str, Callable[[], Any]] = {
        "grad": lambda: grad(f)(1.5),
        "jvp": lambda: jvp(f, (1.5,), (1.0,)),
        "jacobian": lambda: jacobian(f, mode="forward")(1.5),
        "hessian": lambda: hessian(f)(1.5),
        "tape": lambda: f(Variable(1.5)).backward(),
    }
    for name, run in runs.items():
        seen.clear()
        run()
        assert seen and all(text.startswith("1.50|") and text.count("1.5") >= 3 for text in seen), (name, seen)
    arrays: list[str] = []

    def g(x: Any) -> Any:
        arrays.append(f"{x}")
        return F.sum(x * x)

    grad(g)(A([1.0, 2.5]))
    assert "2.5" in arrays[0]


def test_lists_where_an_operand_stands_say_stack() -> None:
    calls: dict[str, Function] = {
        "sum": lambda x: F.sum([x, x]),
        "mean": lambda x: F.mean([x, x]),
        "max": lambda x: F.max([x, x * 2]),
        "norm": lambda x: F.norm([x, x]),
        "sin": lambda x: F.sum(F.sin([x, x])),
        "prod": lambda x: F.prod([x, 2.0]),
        "logsumexp": lambda x: F.logsumexp((x, x)),
        "add": lambda x: F.sum(F.add([x, x], 1.0)),
        "matmul": lambda x: F.sum(F.matmul(A([[1.0, 2.0]]), [x, x])),
        "nested": lambda x: F.sum([[x, 1.0], [2.0, x]]),
    }
    failures = []
    for name, f in calls.items():
        runs = {
            "tape": lambda f=f: f(Variable(1.0)),
            "grad": lambda f=f: grad(f)(1.0),
            "jvp": lambda f=f: jvp(f, (1.0,), (1.0,)),
            "compile": lambda f=f: compile(f)(1.0),
        }
        for way, run in runs.items():
            error = outcome(run)
            if not (isinstance(error, AutogradError) and "stack" in str(error)):
                failures.append(f"{name}, {way}: {error!r}")
    assert not failures, report(failures, len(calls) * 4)
    # Lists of numbers lose nothing, and operations of several operands take lists.
    assert agree(grad(lambda x: x * F.sum([1.0, 2.0]))(1.0), 3)
    assert agree(grad(lambda x: F.sum(F.stack([x, x])))(1.0), 2)


NUMPY: dict[str, tuple[Function, str]] = {
    "np.sin": (lambda x: np.sin(x), "sin"),
    "np.exp": (lambda x: np.exp(x), "exp"),
    "np.sqrt": (lambda x: np.sqrt(x), "sqrt"),
    "np.tanh": (lambda x: np.tanh(x), "tanh"),
    "np.abs": (lambda x: np.abs(x), "abs"),
    "np.maximum": (lambda x: np.maximum(x, 0.0), "maximum"),
    "np.arctan2": (lambda x: np.arctan2(x, 1.0), "a"),
    "np.sum": (lambda x: np.sum(x), "sum"),
    "np.mean": (lambda x: np.mean(x), "mean"),
    "np.max": (lambda x: np.max(x), "max"),
    "np.prod": (lambda x: np.prod(x), "prod"),
    "np.std": (lambda x: np.std(x), "std"),
    "np.dot": (lambda x: np.dot(x, A([1.0, 2.0])), ""),
    "np.where": (lambda x: np.where(A([True, False]), x, 0.0), "where"),
    "np.concatenate": (lambda x: np.concatenate([x, x]), "concat"),
    "np.stack": (lambda x: np.stack([x, x]), "stack"),
    "np.reshape": (lambda x: np.reshape(x, (2, 1)), "reshape"),
    "np.transpose": (lambda x: np.transpose(x), "transpose"),
    "np.linalg.norm": (lambda x: np.linalg.norm(x), "norm"),
    "np.cumsum": (lambda x: np.cumsum(x), "cum"),
}


def test_functions_of_numpy_name_their_counterpart() -> None:
    """One line that names F's function, never an accident of NumPy's."""
    failures = []
    for name, (f, counterpart) in NUMPY.items():
        runs = {
            "tape": lambda f=f: f(Variable([1.0, 2.0])),
            "grad": lambda f=f: grad(lambda x: F.sum(f(x)))(A([1.0, 2.0])),
            "jvp": lambda f=f: jvp(f, (A([1.0, 2.0]),), (A([1.0, 2.0]),)),
            "compile": lambda f=f: compile(f)(A([1.0, 2.0])),
        }
        for way, run in runs.items():
            error = outcome(run)
            if not isinstance(error, AutogradError | TypeError) or "\n" in str(error):
                failures.append(f"{name}, {way}: {error!r}")
            elif not any(f"{prefix}{counterpart}" in str(error) for prefix in ("F.", "functions.")):
                failures.append(f"{name}, {way}, doesn't name F.{counterpart}: {error}")
    assert not failures, report(failures, len(NUMPY) * 4)
    # Operators with arrays on the left are ours, not NumPy's.
    # a * x gives a; the scalar a @ x is added to both elements: 2 a more.
    assert agree(grad(lambda x: F.sum(A([1.0, 2.0]) * x + A([1.0, 2.0]) @ x))(A([3.0, 4.0])), [3, 6])
    assert agree(grad(lambda x: np.float64(2.0) * x)(1.0), 2)


def test_copies_of_values_under_differentiation_keep_the_derivative() -> None:
    """Either the derivative goes along, or it is refused: never a constant."""
    for f in (lambda x: copy.copy(x) * x, lambda x: copy.deepcopy(x) * x):
        result = outcome(lambda f=f: grad(f)(3.0))
        assert isinstance(result, AutogradError | TypeError) or float(str(result)) == 6.0, result
