"""Transforms where it is easy to be wrong: dicts in another order, threads, no_grad inside, data replaced, dtypes."""

import threading
from typing import Any

import numpy as np
import pytest

from engine import Variable, no_grad
from engine import functions as F
from engine.core.errors import InvalidValueError, StaleDataError
from engine.transforms import check_grads, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp, vmap


def weighted(d: dict[str, Any]) -> Any:
    return d["a"] * 10.0 + d["b"]


def test_dicts_are_paired_by_key() -> None:
    assert jvp(weighted, ({"a": 1.0, "b": 2.0},), ({"b": 1.0, "a": 0.0},))[1] == 1.0
    _, pullback = vjp(lambda x: {"a": 10.0 * x, "b": x}, 1.0)
    assert pullback({"b": 0.0, "a": 1.0}) == (10.0,)
    at, along = {"a": 1.0, "b": 2.0}, {"b": 0.0, "a": 1.0}
    assert hvp(lambda d: weighted(d) ** 2, (at,), (along,)) == ({"a": 200.0, "b": 20.0},)


def test_a_transform_in_another_thread_is_inside_of_what_it_was_started_in() -> None:
    def f(x: Any) -> Any:
        found: list[Any] = []
        inner = threading.Thread(target=lambda: found.append(grad(lambda y: x * y * y)(3.0)))
        inner.start()
        inner.join()
        return found[0]

    assert grad(f)(2.0) == 6.0
    assert jvp(f, (2.0,), (1.0,)) == (12.0, 6.0)


def held(x: Any) -> Any:
    with no_grad():
        constant = x * 1.0
    return x * constant


@pytest.mark.parametrize("inside", [False, True], ids=["outside of no_grad", "inside of no_grad"])
def test_no_grad_inside_a_function_means_the_same_in_all_modes(inside: bool) -> None:
    def slopes() -> list[Any]:
        return [
            grad(held)(3.0),
            jvp(held, (3.0,), (1.0,))[1],
            jacobian(held, mode="forward")(3.0),
            jacobian(held, mode="reverse")(3.0),
            hvp(lambda x: held(x) * x / 2.0, (3.0,), (1.0,))[0],
        ]

    if inside:
        with no_grad():
            found = slopes()
    else:
        found = slopes()
    assert found[:4] == [3.0] * 4
    assert found[4] == 3.0


def test_a_pullback_refuses_data_that_was_replaced() -> None:
    v = Variable(3.0)
    _, pullback = vjp(lambda x: x * v, 2.0)
    v.data = 5.0
    with pytest.raises(StaleDataError):
        pullback(1.0)


def test_a_pullback_keeps_the_arrays_that_it_was_made_with() -> None:
    weights = np.array([1.0, 2.0])
    _, pullback = vjp(lambda x: x * weights, np.array([3.0, 4.0]))
    weights[:] = 0.0
    np.testing.assert_array_equal(pullback(np.ones(2))[0], [1.0, 2.0])


def test_aux_is_anything() -> None:
    aux = {"text": "note", "count": 3, "flag": True, "none": None}
    _, found = value_and_grad(lambda x: (x * x, aux), has_aux=True)(2.0)[0]
    assert found == aux
    assert type(found["count"]) is int
    assert jvp(lambda x: (x, aux), (1.0,), (1.0,), has_aux=True)[2] == aux
    assert jacobian(lambda x: (x, aux), mode="forward", has_aux=True)(1.0) == (1.0, aux)
    assert grad(lambda x: (x * x, x), has_aux=True)(2.0) == (4.0, 2.0)


def test_float32_is_checked_in_float64() -> None:
    assert check_grads(lambda x: F.sum(F.sin(x)), np.ones(3, np.float32)).ok


@pytest.mark.parametrize(
    "name", ["div", "mul", "maximum", "minimum", "hypot", "atan2", "logaddexp"], ids=lambda name: str(name)
)
def test_scalars_beside_float32_count_as_they_did_on_the_way_forward(name: str) -> None:
    """0.1 is no float32: a tie that the forward pass did not see would share the gradient."""
    x, y = Variable(0.1), Variable(np.array([0.1, 0.3, 0.7], np.float32))
    getattr(F, name)(x, y).backward()
    wide = Variable(np.full(3, 0.1)), Variable(y.data.astype(np.float64))
    getattr(F, name)(*wide).backward()
    assert x.grad is not None
    assert y.grad is not None
    assert wide[0].grad is not None
    assert wide[1].grad is not None
    np.testing.assert_allclose(x.grad.data, np.sum(wide[0].grad.data), rtol=1e-14)
    np.testing.assert_allclose(y.grad.data, wide[1].grad.data, rtol=1e-6)


def test_a_cotangent_of_two_scalars_has_the_dtype_of_their_result() -> None:
    x, y = Variable(0.7), Variable(np.array(1.3, np.float32))
    F.div(x, y).backward()
    assert x.grad is not None
    assert x.grad.data == 1.0 / np.float64(np.float32(1.3))


@pytest.mark.parametrize("f", [F.norm, lambda x: F.hypot(x[0], x[1])], ids=["norm", "hypot"])
def test_a_length_has_a_gradient_at_zero_and_no_second_derivative(f: Any) -> None:
    zero = np.zeros(2)
    np.testing.assert_array_equal(grad(f)(zero), zero)
    np.testing.assert_array_equal(hessian(f)(zero), np.full((2, 2), np.nan))
    np.testing.assert_array_equal(jacobian(grad(f), mode="reverse")(zero), np.full((2, 2), np.nan))


def test_a_batch_of_a_batch() -> None:
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(vmap(vmap(grad(lambda x: x**3)))(x), 3 * x**2)


def test_containers_that_contain_themselves_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    _, back = vjp(lambda x: F.sin(x[0]), [1.0])
    for call in (
        lambda: grad(lambda x: x[0])(endless),
        lambda: jvp(lambda x: F.sin(x[0]), ([1.0],), (endless,)),
        lambda: hvp(lambda x: F.sin(x[0]), ([1.0],), (endless,)),
        lambda: back(endless),
    ):
        with pytest.raises(InvalidValueError, match="nested more than 100 deep, or contain themselves"):
            call()


def test_argnums_may_be_an_integer_of_numpy() -> None:
    def f(x: Any, y: Any) -> Any:
        return x * y

    assert grad(f, argnums=np.int64(1))(2.0, 3.0) == 2.0
    assert grad(f, argnums=(np.int64(-1), np.int8(0)))(2.0, 3.0) == (2.0, 3.0)
