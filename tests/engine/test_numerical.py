"""Central differences, and a check of gradients that finds what is wrong and nothing else."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.core.errors import BadAttributeError, InvalidValueError
from engine.core.operation import Operation
from engine.core.table import OPERATIONS, unregister
from engine.rows import unary
from engine.transforms import check_grads
from engine.transforms.numerical import GradientCheck, check_gradients, diff, gradient

RNG = np.random.default_rng(3)
A, B, V = RNG.normal(size=(2, 3)), RNG.normal(size=(3, 2)), RNG.normal(size=3)


class TestDiff:
    def test_one_input(self) -> None:
        y = diff(lambda x: F.square(F.exp(F.square(x))), [Variable(0.5)])
        assert isinstance(y, Variable)
        assert y.item() == pytest.approx(3.297442541400256, rel=1e-6)

    def test_all_inputs_move_together(self) -> None:
        assert diff(lambda x, y: x * y, [2.0, 5.0]).item() == pytest.approx(7.0)

    def test_elementwise_and_the_inputs_stay(self) -> None:
        x = Variable([1.0, 2.0])
        np.testing.assert_allclose(diff(F.square, [x]).data, [2.0, 4.0], rtol=1e-8)
        assert np.array_equal(x.data, [1.0, 2.0])

    def test_a_larger_step_is_less_exact(self) -> None:
        assert abs(diff(F.exp, [0.0], h=0.1).item() - 1) > abs(diff(F.exp, [0.0]).item() - 1)


class TestGradient:
    def test_is_what_backward_gives(self) -> None:
        x, y = Variable(A), Variable(V)
        F.sin(x * y).backward()
        for found, v in zip(gradient(lambda a, b: F.sin(a * b), A, V), (x, y), strict=True):
            assert v.grad is not None
            np.testing.assert_allclose(found, v.grad.data, rtol=1e-8, atol=1e-9)

    def test_integers_are_not_moved(self) -> None:
        [found] = gradient(lambda x, n, mask: F.where(mask, x * n, 0.0), V, 2, np.array([True, False, True]))
        np.testing.assert_allclose(found, [2, 0, 2], rtol=1e-8)

    def test_large_values_take_large_steps(self) -> None:
        assert gradient(F.square, 1e8) == [pytest.approx(2e8, rel=1e-6)]

    def test_empty(self) -> None:
        [found] = gradient(F.exp, np.zeros((0, 2)))
        assert found.shape == (0, 2)


class TestCheckGradients:
    @pytest.mark.parametrize(
        ("f", "xs"),
        [
            (F.exp, (0.5,)),
            (F.exp, ([0.5, 1.0],)),
            (F.exp, (np.zeros((2, 0)),)),
            (F.mul, (A, V)),
            (F.add, (A, 2.0)),
            (F.matmul, (A, B)),
            (F.max, (A,)),
            (lambda x: x, (A,)),
            (lambda x: F.split(x, [1, 2], axis=0), (V,)),
            (lambda x: [x, x, F.sum(x)], (V,)),
            (lambda x: (F.argmax(x), F.square(x)), (A,)),
            (F.argmax, (A,)),
            (lambda x: 3.0, (A,)),
            (F.cross_entropy, (A, np.array([1, 2]))),
            (F.pow, (np.abs(V), 3)),
            (F.add, (np.float32([1, 2]), 2.0)),
            (F.sin, (Variable(A, name="angle"),)),
            (F.square, (1e6,)),
        ],
    )
    def test_right_gradients_pass(self, f: Any, xs: tuple[Any, ...]) -> None:
        for order in (1, 2):
            report = check_gradients(f, *xs, order=order)
            assert report.ok, report
            assert report.max_error < 1e-6

    def test_a_function_may_go_backward_itself(self) -> None:
        def slope(x: Variable) -> Any:
            inner = Variable(2.0)
            F.square(inner).backward()
            assert inner.grad is not None
            return x * inner.grad.data

        assert check_gradients(slope, 3.0).ok

    def test_nothing_to_compare(self) -> None:
        assert check_gradients(lambda n: F.one_hot(n, classes=3), 1) == GradientCheck(True, 0.0, None)
        assert check_gradients(F.exp, np.zeros(0)).worst is None

    def test_the_variables_that_are_given_stay_as_they_are(self) -> None:
        x = Variable(A)
        check_gradients(F.sin, x)
        assert x.grad is None
        assert np.array_equal(x.data, A)

    def test_repeats_itself(self) -> None:
        assert check_gradients(F.sin, A, seed=5) == check_gradients(F.sin, A, seed=5)

    def test_where_there_is_no_derivative(self) -> None:
        report = check_gradients(F.sqrt, 0.0)
        assert not report.ok
        assert report.max_error == np.inf

    def test_the_tolerances(self) -> None:
        coarse = {"eps": 1e-2, "order": 1}
        assert not check_gradients(F.exp, 3.0, **coarse).ok
        assert check_gradients(F.exp, 3.0, **coarse, rtol=1e-3).ok
        assert check_gradients(F.exp, 3.0, **coarse, atol=1e-1).ok

    @pytest.mark.parametrize(
        ("f", "x", "order", "index"),
        [
            (F.tanh, [0.5, 20.0], 1, (1,)),
            (F.tanh, [14.0, 0.5], 1, (0,)),
            (F.erf, [[0.1, 6.5]], 1, (0, 1)),
            (F.sigmoid, [40.0, 1.0], 1, (0,)),
            (lambda x: F.atan(x) + 0.0, [1e9, 1.0], 1, (0,)),
            (lambda x: (1e-20 * x + 1.0) - 1.0, [1.0], 1, (0,)),
            (lambda x: 1e17 + F.log(x), [2.0], 1, (0,)),
            (F.softplus, [45.0], 2, (0,)),
        ],
    )
    def test_where_differences_cancel_it_cannot_tell(self, f: Any, x: Any, order: int, index: tuple[int, ...]) -> None:
        report = check_gradients(f, x, order=order)
        assert not report.ok
        if report.differs:
            assert not report.uncertain
            return
        assert index in {place.index for place in report.uncertain if place.order == order}
        assert str(report).startswith("differences cancel: error ")
        assert "uncertain in" in str(report)
        if order == 1:
            assert not check_grads(f, np.array(x), order=1).ok

    @pytest.mark.parametrize(
        ("f", "x"),
        [
            (F.relu, [-1.0, 2.0]),
            (lambda x: F.sum(x[:1]), [3.0, 1e8]),
            (lambda x: F.where(x > 0, x, 1e6), [-1.0, 2.0]),
            (lambda x: x**3, [0.0]),
            (lambda x: 1e-12 * x, [1.0]),
            (F.tanh, [1e-300, 5.0]),
            (F.exp, [-300.0]),
            (lambda x: F.sum(x) * np.ones(1000), [1.0, 2.0]),
            (lambda x: F.sum(F.softmax(x)), [0.3, 1.0, -2.0]),
            (lambda x: F.sum(x / F.sum(x)), [0.3, 1.0, 2.0]),
            (lambda x: (x - F.mean(x)) / F.std(x), [0.3, 1.0]),
        ],
    )
    def test_what_is_0_or_small_throughout_is_no_cancellation(self, f: Any, x: Any) -> None:
        report = check_gradients(f, x, order=1)
        assert report.ok, report

    def test_errors(self) -> None:
        with pytest.raises(BadAttributeError, match="order is 3; expected 1 or 2"):
            check_gradients(F.exp, 1.0, order=3)
        with pytest.raises(InvalidValueError):
            check_gradients(lambda x: "text", 1.0)


WRONG = {
    "a factor": (lambda g, y, x: g * 2.001, 1),
    "one element": (lambda g, y, x: g * F.where(np.arange(np.size(x)).reshape(np.shape(x)) == 1, 2.001, 2.0), 1),
    "what a sum hides": (lambda g, y, x: 2.0 * F.flip(g), 1),
    "detached from the operand": (lambda g, y, x: g * 3.0 * F.stop_gradient(x * x), 2),
    "detached from the cotangent": (lambda g, y, x: F.stop_gradient(g) * 2.0, 2),
}


@pytest.fixture(params=WRONG)
def wrong_row(request: pytest.FixtureRequest) -> Iterator[tuple[Any, int]]:
    """A row with a wrong vjp: its call, and the order at which it shows."""
    vjp, order = WRONG[request.param]
    forward = (lambda x: x**3) if "operand" in request.param else (lambda x: 2.0 * x)
    call = unary("wrong", forward, vjp, doc="For this test.")
    op: Operation = OPERATIONS["wrong"]
    yield call, order
    unregister(op)


def test_wrong_gradients_are_found_and_named(wrong_row: tuple[Any, int]) -> None:
    call, order = wrong_row
    report = check_gradients(lambda n, x: call(x), 1, Variable(V, name="x"))
    assert not report.ok
    assert report.worst is not None
    assert report.worst.order == order
    assert report.worst.input in ("x", "cotangent 0")
    assert len(report.worst.index) == 1
    assert report.worst.analytic != pytest.approx(report.worst.numeric, rel=1e-6)
    assert str(report).startswith(f"gradients differ: error {report.max_error:.3g}; worst: order {order}, input ")
    assert check_gradients(lambda x: call(x), V, order=1).ok == (order == 2)
