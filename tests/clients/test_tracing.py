"""Values that are looked at while a function is traced, and functions that are odd."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import engine
import engine.core.errors
from pullback import (
    Connection,
    Variable,
    errors,
    transforms,
)
from pullback import functions as F

if TYPE_CHECKING:
    from collections.abc import Callable


LOOKS: dict[str, Callable[[Any], Any]] = {
    "if": lambda x: x if x > 0.0 else -x,
    "bool": bool,
    "float": float,
    "int": int,
    "data": lambda x: x.data,
    "item": lambda x: x.item(),
    "f-string with a format": lambda x: f"{x:.3f}",
    "and": lambda x: x and x,
    "while": lambda x: [x for _ in iter(lambda: bool(x > 0.0), True)],
    "max": lambda x: max(x, 0.0),
    "math": lambda x: __import__("math").sin(x),
    "numpy": lambda x: np.sin(x),
    "asarray": lambda x: np.asarray(x),
    "list": lambda x: float(next(iter(F.stack([x, x])))),
    "in": lambda x: 0.0 in [x * 2.0],
    "index": lambda x: [1, 2, 3][x],
    "range": lambda x: range(x),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_look_inside_of_a_trace(connection: Connection, look: str, nested: bool) -> None:
    def f(x: Any) -> Any:
        LOOKS[look](x * 1.0)
        return x * x

    differentiate = transforms.grad(transforms.grad(f)) if nested else transforms.grad(f)
    with pytest.raises((errors.TraceError, errors.InvalidValueError, TypeError)) as caught:
        differentiate(2.0)
    if look in ("if", "bool", "float", "int", "data", "item", "f-string with a format", "and", "while", "max"):
        assert type(caught.value) is errors.TraceError
    assert len(str(caught.value)) > 20
    assert transforms.grad(lambda x: x * x)(2.0) == 4.0, "the next trace works"
    assert (Variable(2.0) * 2.0).item() == 4.0


def test_a_trace_error_says_what_to_do(connection: Connection) -> None:
    def f(x: Any) -> Any:
        return x if x > 0.0 else -x

    with pytest.raises(errors.TraceError, match="where") as caught:
        transforms.grad(f)(2.0)
    assert any(entry.path.name == "test_tracing.py" and entry.name == "f" for entry in caught.traceback)


def test_a_print_inside_of_a_trace(connection: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    """It is there for those who look for their mistake: it shows that there is no value yet, or says so."""

    def f(x: Any) -> Any:
        print(x, repr(x), f"{x}")
        return x * x

    with contextlib.suppress(errors.TraceError):
        assert transforms.grad(f)(2.0) == 4.0
        assert capsys.readouterr().out.strip()


def test_what_is_no_value_is_let_through_a_trace(connection: Connection) -> None:
    def f(x: Any, flag: bool, n: int) -> Any:
        if flag:
            for _ in range(n):
                x = x * x
        assert x.shape == ()
        assert x.dtype == np.float64
        return x

    assert transforms.grad(lambda x: f(x, True, 2))(2.0) == 32.0
    assert transforms.grad(lambda x: f(x, False, 2))(2.0) == 1.0


def test_a_traced_value_that_escapes(connection: Connection) -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x * 2.0)
        return x * x

    assert transforms.grad(f)(3.0) == 6.0
    with pytest.raises(errors.TraceError):
        kept[0].item()
    with pytest.raises((errors.TraceError, errors.PullbackError)):
        F.add(kept[0], Variable(1.0)).item()
    with pytest.raises(errors.PullbackError):
        transforms.grad(lambda x: x * kept[0])(1.0)
    assert transforms.grad(f)(3.0) == 6.0


def test_a_function_that_raises_inside_of_a_trace(connection: Connection) -> None:
    def f(x: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        transforms.grad(f)(1.0)
    assert (Variable(2.0) * 2.0).item() == 4.0


ODD_FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "vector": (lambda x: x * 2.0, (np.ones(2),)),
    "one element": (lambda x: x * 2.0, (np.ones(1),)),
    "matrix": (lambda x: x @ x, (np.ones((2, 2)),)),
    "no element": (lambda x: x * 2.0, (np.ones(0),)),
    "integers": (F.sum, (np.array([1, 2]),)),
    "text": (lambda x: "text", (1.0,)),
    "constant": (lambda x: 3.0, (1.0,)),
    "another argument": (lambda x, y: y * y, (1.0, 2.0)),
    "identity": (lambda x: x, (1.0,)),
    "linear": (lambda x: 2.0 * x, (1.0,)),
    "tuple": (lambda x: (x, x), (1.0,)),
    "part of a dict": (lambda w: w["a"] ** 2, ({"a": 1.0, "b": 2.0},)),
}
TRANSFORMS: dict[str, Callable[..., Any]] = {
    "grad": lambda t, f, *x: t.grad(f)(*x),
    "grad of all": lambda t, f, *x: t.grad(f, argnums=tuple(range(len(x))))(*x),
    "value_and_grad": lambda t, f, *x: t.value_and_grad(f)(*x),
    "nested": lambda t, f, *x: t.grad(t.grad(f))(*x),
    "jacobian": lambda t, f, *x: t.jacobian(f)(*x),
    "hessian": lambda t, f, *x: t.hessian(f)(*x),
    "hvp": lambda t, f, *x: t.hvp(f, x, x),
    "jvp": lambda t, f, *x: t.jvp(f, x, x),
    "vjp": lambda t, f, *x: t.vjp(f, *x)[1](np.ones(np.shape(t.vjp(f, *x)[0]))),
}


def derived(package: Any, functions: Any, transform: str, name: str) -> Any:
    function, arguments = ODD_FUNCTIONS[name]
    if name == "integers":
        function = functions.sum
    try:
        return TRANSFORMS[transform](package, function, *arguments)
    except (engine.errors.AutogradError, errors.PullbackError) as error:
        return type(error).__name__


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", ODD_FUNCTIONS)
def test_derivatives_of_odd_functions_are_the_local_ones(connection: Connection, name: str, transform: str) -> None:
    expected = derived(engine.transforms, engine.functions, transform, name)
    np.testing.assert_equal(derived(transforms, F, transform, name), expected)
