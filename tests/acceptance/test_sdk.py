"""The SDK at the first look: in notebooks, in tracebacks, after the end."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import pullback
from pullback import Client, Variable, connect
from pullback import functions as F
from pullback.transforms import grad, hessian

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # sessions warn as NumPy does


@pytest.fixture
def connection() -> Iterator[Any]:
    with connect("local") as local:
        yield local


def cell(value: Any) -> str:
    """Show a value as a notebook does, which asks for HTML first and for text beside it."""
    html = value._repr_html_() if hasattr(value, "_repr_html_") else ""
    assert html is None or isinstance(html, str)
    return (html or "") + repr(value)


@pytest.mark.usefixtures("connection")
def test_the_first_look_at_anything() -> None:
    """Nothing has travelled before the look; each time in a program of its own."""

    def after_backward(look: Callable[[Any, Any], Any]) -> str:
        x = Variable(np.array([0.5, 2.0]))
        y = F.sum(F.exp(x) * x)
        y.backward()
        return cell(look(x, y))

    looks: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
        "gradient": (lambda x, y: x.grad, "2.47"),  # (1 + 0.5) e**0.5
        "leaf": (lambda x, y: x, "0.5"),
        "result": (lambda x, y: y, "15.6"),  # 0.5 e**0.5 + 2 e**2
        "something new": (lambda x, y: x * 2, "4"),
        "gradient of something": (lambda x, y: x.grad * 2, "4.9"),
        "a part": (lambda x, y: x[1], "2"),
    }
    failures = []
    for name, (look, digits) in looks.items():
        text = after_backward(look)
        if digits not in text:
            failures.append(f"{name}: {text}")
    assert not failures, failures


@pytest.mark.usefixtures("connection")
def test_looking_at_gradients_of_gradients_first() -> None:
    x = Variable(1.0)
    y = F.sin(x)
    y.backward(create_graph=True)
    g = x.grad
    assert "0.54" in cell(g)
    x.cleargrad()
    g.backward()
    assert "-0.84" in cell(x.grad)
    # Twice the same, and in another order.
    assert "0.54" in cell(g) and "-0.84" in cell(x.grad) and "0.84" in cell(y)


@pytest.mark.usefixtures("connection")
def test_html_never_raises() -> None:
    """A notebook that raises while showing has nothing to show: no gradient, or a wrong operation."""
    x = Variable([1.0, 2.0])
    assert x.grad is None
    wrong = F.matmul(Variable([[1.0, 2.0]]), Variable([[1.0, 2.0]]))
    html = wrong._repr_html_()
    assert html is None or isinstance(html, str)
    with pytest.raises(pullback.errors.ShapeMismatchError):
        F.sum(wrong)


def test_html_after_the_connection_was_closed() -> None:
    with connect("local"):
        x = Variable([1.0, 2.0])
        y = F.sum(x * x)
    for value in (x, y):
        html = value._repr_html_()
        assert html is None or isinstance(html, str)


def test_html_of_a_session_that_is_gone() -> None:
    with connect("local") as connection:
        x = Variable([1.0, 2.0])
        connection.flush()
        connection.client.sessions.delete(connection.id)
        y = x * 3
        html = y._repr_html_()
        assert html is None or isinstance(html, str)


@pytest.mark.usefixtures("connection")
def test_one_error_has_one_traceback() -> None:
    """What is printed for a wrong line is one traceback, not two with `During handling` between them."""
    wrongs: dict[str, Callable[[], Any]] = {
        "shapes": lambda: F.matmul(Variable([[1.0, 2.0]]), Variable([[1.0, 2.0]])).data,
        "shapes, printed": lambda: str(F.add(Variable([1.0, 2.0]), Variable([1.0, 2.0, 3.0]))),
        "backward of integers": lambda: _backward_of_integers(),
        "axis": lambda: F.sum(Variable([1.0]), axes=4).item(),
        "grad": lambda: grad(lambda x: x * np.ones(3))(1.0),
        "transform": lambda: hessian(lambda x: F.matmul(x, x))(np.ones((2, 3))),
    }
    failures = []
    for name, wrong in wrongs.items():
        try:
            found = wrong()
        except Exception as error:  # noqa: BLE001  (which one it is doesn't matter here)
            text = "".join(traceback.format_exception(error))
            count = text.count("Traceback (most recent call last)")
            if count != 1:
                failures.append(f"{name}: {count} tracebacks\n{text}")
        else:
            failures.append(f"{name}: no error but {found!r}")
    assert not failures, "\n".join(failures)


def _backward_of_integers() -> Any:
    x = Variable(np.array([1, 2]))
    y = F.sum(x)
    y.backward()
    return y.data


def test_the_client_has_one_traceback_too() -> None:
    with Client("local") as client:
        for call in (
            lambda: client.evaluate("sine(x)", {"x": 1}),
            lambda: client.evaluate("x +", {"x": 1}),
            lambda: client.evaluate("x + y", {"x": 1}),
        ):
            with pytest.raises(pullback.errors.PullbackError) as caught:
                call()
            assert "".join(traceback.format_exception(caught.value)).count("Traceback (most recent") == 1


@pytest.mark.usefixtures("connection")
def test_derivatives_are_not_lost_without_a_word() -> None:
    """A value in a transform is no number yet; a list of values is no operand."""
    kept: list[Any] = []

    def keeping(x: Any) -> Any:
        kept.append(x)
        return x * x

    assert grad(keeping)(3.0) == 6.0
    losers: dict[str, Callable[[], Any]] = {
        "float": lambda: grad(lambda x: x * float(x))(1.0),
        "math.sin": lambda: grad(lambda x: x * math.sin(x))(1.0),
        "hessian": lambda: hessian(lambda x: x * math.exp(x))(1.0),
        "asarray": lambda: grad(lambda x: F.sum(x * np.asarray(x)))(np.ones(2)),
        "kept": lambda: grad(lambda y: y * kept[0])(2.0),
        "kept, alone": lambda: (kept[0] * 2.0).item(),
    }
    failures = []
    for name, lose in losers.items():
        try:
            failures.append(f"{name}: {lose()!r}")
        except pullback.errors.PullbackError:
            continue
        except Exception as error:  # noqa: BLE001  (which one it is is what is tested)
            failures.append(f"{name}: {error!r}")
    assert not failures, failures


@pytest.mark.usefixtures("connection")
def test_branches_and_kinks_are_the_engines() -> None:
    """The session's tape and the SDK's transforms follow the same rules as the library."""
    x = Variable(np.array([-1.0, 4.0, 0.0]))
    F.sum(F.where(x > 0, F.sqrt(x), x)).backward()
    assert np.array_equal(x.grad.data, [1, 0.25, 1])
    got = grad(lambda v: F.sum(F.where(v > 0, F.sqrt(v), v)))(np.array([-1.0, 4.0, 0.0]))
    assert np.array_equal(got, [1, 0.25, 1])
    assert np.array_equal(hessian(lambda v: F.norm(v) ** 2)(np.zeros(2)), 2 * np.eye(2))
    k = Variable(np.array([0.0, 1.0]))
    F.sum(F.maximum(k, 0.0) + F.abs(k) + F.clip(k, 0.0, 1.0)).backward()
    # 0.5 + 0 + 0 and 1 + 1 + 0
    assert np.array_equal(k.grad.data, [0.5, 2])


@pytest.mark.usefixtures("connection")
def test_gathering_and_tanh_over_the_wire() -> None:
    p = Variable(np.arange(6.0).reshape(3, 2))
    F.sum(p[np.array([2, 0, 2])] ** 2).backward()
    assert np.array_equal(p.grad.data, [[0, 2], [0, 0], [16, 20]])
    t = Variable(20.0)
    F.tanh(t).backward()
    # sech(20)**2 = 4 e**-40 / (1 + e**-40)**2
    assert t.grad.item() == pytest.approx(4 * np.exp(-40.0), rel=1e-14)
