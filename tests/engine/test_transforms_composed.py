"""Transforms of transforms, through Python's control flow, variables on a tape and threads."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine import Variable, models, no_grad
from engine import functions as F
from engine.core.errors import NotDifferentiableError, NotScalarError
from engine.transforms import check_grads, grad, hessian, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp, vmap
from tests.engine.same import assert_same

Array = npt.NDArray[Any]

A = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
V = np.array([1.0, 2.0, -0.5])


def cubes(x: Any) -> Any:
    return F.sum(x**3)


class TestControlFlow:
    @staticmethod
    def newton_sqrt(a: Any) -> Any:
        """The derivative comes through as many steps as this value needs."""
        x = a
        while abs(x * x - a) > 1e-14 * a:
            x = 0.5 * (x + a / x)
        return 0.5 * (x + a / x)

    @staticmethod
    def collatz(x: Any) -> Any:
        """Polynomials chosen by comparisons, some steps deep."""
        for step in range(1, 8):
            x = x / 2 if x > 4 else x * x - step if x < 1 else 3 * x + 1
        return x

    @staticmethod
    def power(x: Any, n: int) -> Any:
        if n == 0:
            return 1.0
        half = TestControlFlow.power(x, n // 2)
        return half * half * x if n % 2 else half * half

    def test_while(self) -> None:
        a = 7.0
        assert grad(self.newton_sqrt)(a) == pytest.approx(0.5 / math.sqrt(a), rel=1e-12)
        assert jvp(self.newton_sqrt, (a,), (1.0,))[1] == pytest.approx(0.5 / math.sqrt(a), rel=1e-12)

    def test_branches_in_loops(self) -> None:
        for x in (0.3, 1.7, 5.0, -2.0):
            h = 1e-6
            slope = (self.collatz(x + h) - self.collatz(x - h)) / (2 * h)
            assert grad(self.collatz)(x) == pytest.approx(slope, rel=1e-7)
            assert grad(self.collatz)(x) == pytest.approx(jvp(self.collatz, (x,), (1.0,))[1], rel=1e-13)

    def test_recursion(self) -> None:
        assert grad(lambda x: self.power(x, 11))(1.1) == pytest.approx(11 * 1.1**10, rel=1e-13)
        assert hessian(lambda x: self.power(x, 11))(1.1) == pytest.approx(110 * 1.1**9, rel=1e-13)

    def test_a_branch_on_a_derivative(self) -> None:
        def f(x: Any) -> Any:
            slope = grad(F.sin)(x)
            return x**2 if slope > 0 else x**3

        assert_same(grad(f)(1.0), 2.0)
        assert_same(grad(f)(2.0), 12.0)

    def test_iteration_and_shapes(self) -> None:
        def f(x: Any) -> Any:
            assert x.shape == (2, 3) and x.dtype == np.float64 and len(x) == 2
            total = 0.0
            for i, row in enumerate(x):
                total = total + (i + 1) * F.sum(row**2)
            return total

        assert_same(grad(f)(A), 2 * A * [[1], [2]])

    def test_a_long_loop(self) -> None:
        def f(x: Any) -> Any:
            for _ in range(20_000):
                x = x + 0.0001 * F.sin(x)
            return x

        forward = jvp(f, (1.0,), (1.0,))[1]
        # The flow of x' = sin(x): tan(x/2) grows by exp(t).
        expected = math.sin(2 * math.atan(math.tan(0.5) * math.exp(2.0))) / math.sin(1.0)
        assert grad(f)(1.0) == pytest.approx(forward, rel=1e-12)
        assert forward == pytest.approx(expected, rel=1e-3)

    def test_random_operations_draw_from_the_generator_that_they_are_given(self) -> None:
        x = np.linspace(1, 2, 50)

        def f(x: Any) -> Any:
            return F.sum(F.dropout(x, 0.5, rng=7) * x)

        mask = F.dropout(np.ones(50), 0.5, rng=7)
        assert 0 < np.count_nonzero(mask) < 50
        assert_same(grad(f)(x), 2 * mask * x)
        assert_same(jvp(f, (x,), (x,))[1], float(2 * mask @ (x * x)))
        assert_same(hvp(f, (x,), (x,)), (2 * mask * x,))


class TestVariables:
    """Plain values in, plain values out; where a result depends on a Variable, it is one, on the same tape."""

    def test_an_argument(self) -> None:
        x = Variable(2.0)
        slope = grad(lambda x: x**3)(x)
        assert type(slope) is Variable
        assert slope.data == 12.0
        slope.backward()
        assert x.grad is not None and x.grad.data == 12.0

    def test_a_closure(self) -> None:
        w = Variable(3.0)
        slope = grad(lambda x: w * x**2)(2.0)
        assert type(slope) is Variable
        assert slope.data == 12.0
        assert w.grad is None
        slope.backward()
        assert w.grad is not None and w.grad.data == 4.0

    def test_values_and_products(self) -> None:
        w = Variable(V)
        y, pullback = vjp(lambda x: w * x, A)
        y2, dy = jvp(lambda x: w * x, (A,), (A,))
        J = jacobian(lambda x: w * x)(2.0)
        H = hessian(lambda x: F.sum(w) * x**2)(5.0)
        rows = vmap(lambda row: row @ w)(A)
        (product,) = hvp(lambda x: F.sum(w * x**2), (V,), (V,))
        value, slope = value_and_grad(lambda x: F.sum(w * x))(V)
        expected = [
            (y, A * V, A.sum(axis=0)),
            (pullback(np.ones((2, 3)))[0], np.tile(V, (2, 1)), np.full(3, 2.0)),
            (y2, A * V, A.sum(axis=0)),
            (dy, A * V, A.sum(axis=0)),
            (J, V, np.ones(3)),
            (H, 2 * V.sum(), np.full(3, 2.0)),
            (rows, A @ V, A.sum(axis=0)),
            (product, 2 * V * V, 2 * V),
            (value, V @ V, V),
            (slope, V, np.ones(3)),
        ]
        for found, data, gradient in expected:
            assert type(found) is Variable
            np.testing.assert_allclose(found.data, data, rtol=1e-13)
            w.cleargrad()
            found.backward()
            assert w.grad is not None
            np.testing.assert_allclose(w.grad.data, gradient, rtol=1e-13)

    def test_aux_and_containers(self) -> None:
        w = Variable(3.0)
        slopes, aux = grad(lambda p: (w * p["x"] ** 2 + p["y"], {"w": w * 2}), has_aux=True)({"x": 2.0, "y": 1.0})
        assert type(slopes["x"]) is Variable and slopes["x"].data == 12.0
        assert type(aux["w"]) is Variable and aux["w"].data == 6.0
        aux["w"].backward()
        assert w.grad is not None and w.grad.data == 2.0

    def test_on_the_tape_before_and_after(self) -> None:
        """d/dw of (d/dx sin(a x) at x = w)**2 with a = exp(w)."""
        w = Variable(0.3)
        a = F.exp(w)
        loss = grad(lambda x: F.sin(a * x))(w) ** 2
        loss.backward()
        s = math.exp(0.3)
        u, du = s * math.cos(0.3 * s), s * math.cos(0.3 * s) - s * math.sin(0.3 * s) * (s + 0.3 * s)
        assert loss.data == pytest.approx(u * u, rel=1e-13)
        assert w.grad is not None
        assert w.grad.data == pytest.approx(2 * u * du, rel=1e-12)

    def test_parameters_of_a_model_get_their_gradients_through_a_gradient(self) -> None:
        """A loss made of u''; its gradient against central differences of the loss."""
        model = models.MLP([5, 1], activation="tanh", rng=0)
        points = np.linspace(-1, 1, 4)
        model(np.zeros((1, 1)))

        def u(x: Any) -> Any:
            return F.sum(model(F.reshape(x, (1, 1))))

        def loss() -> Any:
            residuals = vmap(lambda x: grad(grad(u))(x) + u(x) * F.sin(x))(points)
            return F.mean(F.square(residuals))

        found = loss()
        assert type(found) is Variable
        model.cleargrads()
        found.backward()
        for parameter in model.params().values():
            assert parameter.grad is not None
            data, h = parameter.data, 1e-5
            numeric = np.zeros(data.shape)
            for index in np.ndindex(data.shape):
                step = np.zeros(data.shape)
                step[index] = h
                values = []
                for moved in (data + step, data - step):
                    parameter.data = moved
                    values.append(loss().item())
                numeric[index] = (values[0] - values[1]) / (2 * h)
            parameter.data = data
            np.testing.assert_allclose(parameter.grad.data, numeric, rtol=1e-6, atol=1e-9)

    def test_no_gradient_is_left_behind(self) -> None:
        x, w = Variable(2.0), Variable(3.0)
        grad(lambda x: w * x**2)(x)
        hessian(lambda x: w * x**2)(x)
        jvp(lambda x: w * x, (x,), (x,))
        assert x.grad is None
        assert w.grad is None

    def test_transforms_record_inside_no_grad(self) -> None:
        with no_grad():
            assert_same(grad(F.sin)(1.0), math.cos(1.0))
            assert_same(grad(grad(F.sin))(1.0), -math.sin(1.0))
            assert_same(jvp(grad(F.exp), (1.0,), (1.0,))[1], math.e)
            w = Variable(3.0)
            slope = grad(lambda x: w * x**2)(2.0)
            assert float(slope) == 12.0
            assert F.sin(w).creator is None
        assert F.sin(Variable(1.0)).creator is not None


class TestGradOperation:
    """`F.grad(y, x)` on variables."""

    def test_orders(self) -> None:
        x = Variable(1.0)
        y = F.sin(x)
        for expected in (math.cos(1.0), -math.sin(1.0), -math.cos(1.0), math.sin(1.0)):
            y = F.grad(y, x)
            assert type(y) is Variable
            assert y.data == pytest.approx(expected, rel=1e-14)
        assert x.grad is None

    def test_shapes_and_intermediates(self) -> None:
        x = Variable(A)
        h = x * x
        y = F.sum(h @ V)
        np.testing.assert_allclose(F.grad(y, h).data, np.tile(V, (2, 1)))
        np.testing.assert_allclose(F.grad(y, x).data, 2 * A * V)
        np.testing.assert_allclose(F.grad(F.sum(F.grad(y, x) ** 2), x).data, 8 * A * V**2)
        np.testing.assert_allclose(F.grad(y, y).data, 1.0)

    def test_is_on_the_tape(self) -> None:
        k, x = Variable(2.0), Variable(V)
        u = F.sin(k * x)
        loss = F.mean((F.grad(F.sum(u), x) - u) ** 2)
        loss.backward()
        gap = 2 * np.cos(2 * V) - np.sin(2 * V)
        slope = np.cos(2 * V) - 2 * V * np.sin(2 * V) - V * np.cos(2 * V)
        assert k.grad is not None
        assert k.grad.data == pytest.approx(float(np.mean(2 * gap * slope)), rel=1e-12)

    def test_what_is_not_depended_on_has_zeros(self) -> None:
        x = Variable(V)
        found = F.grad(F.exp(Variable(1.0)), x)
        np.testing.assert_array_equal(found.data, np.zeros(3))

    def test_refuses(self) -> None:
        x, n = Variable(V), Variable(np.array([1, 2]))
        with pytest.raises(NotScalarError, match=r"\(3,\)"):
            F.grad(F.sin(x), x)
        with pytest.raises(NotDifferentiableError, match="int64"):
            F.grad(F.sum(x) * F.sum(n), n)
        with pytest.raises(NotDifferentiableError, match="bool"):
            F.grad(F.sum(x) > 0, x)


def test_an_error_inside_leaves_nothing_behind() -> None:
    def fails(x: Any) -> Any:
        grad(lambda y: x * y)(1.0)
        raise KeyError("inside")

    with no_grad():
        for transform in (lambda: grad(fails)(1.0), lambda: jvp(fails, (1.0,), (1.0,)), lambda: vmap(fails)(V)):
            with pytest.raises(KeyError, match="inside"):
                transform()
            assert F.sin(Variable(1.0)).creator is None
    assert_same(grad(grad(F.sin))(1.0), -math.sin(1.0))


def test_threads_do_not_disturb_each_other() -> None:
    def work(k: int) -> float:
        x = 0.1 * k
        for _ in range(20):
            second = grad(lambda x: x * grad(F.sin)(x))(x)
            assert second == pytest.approx(math.cos(x) - x * math.sin(x), rel=1e-13)
        return float(second)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(16)))
    np.testing.assert_allclose(found, [math.cos(0.1 * k) - 0.1 * k * math.sin(0.1 * k) for k in range(16)], rtol=1e-13)


def derivative(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The derivative in one variable by forward mode."""
    return lambda x: jvp(f, (x,), (1.0,))[1]


def by_jacobian(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return jacobian(f, mode="forward")


DERIVATIVES = {"grad": grad, "jvp": derivative, "jacobian": by_jacobian}

#: name -> (a function of two ways to differentiate, the right value)
CONFUSIONS: dict[str, tuple[Callable[[Any, Any], Any], float]] = {
    "sum": (lambda D, E: D(lambda x: x * E(lambda y: x + y)(1.0))(1.0), 1.0),
    "product": (lambda D, E: D(lambda x: x * E(lambda y: x * y)(2.0))(3.0), 6.0),
    "constant inside": (lambda D, E: D(lambda x: x * E(lambda y: x)(1.0))(2.0), 0.0),
    "shadowed name": (lambda D, E: D(lambda x: x * E(lambda x: x**2)(x))(3.0), 12.0),
    "same value": (lambda D, E: D(lambda x: E(lambda y: x * y)(x))(3.0), 1.0),
    "power": (lambda D, E: D(lambda x: E(lambda y: y**3 * x**2)(x))(2.0), 3 * 4 * 2.0**3),
    "independent": (lambda D, E: D(lambda x: E(F.sin)(2.0) * x)(5.0), math.cos(2.0)),
    "twice inside": (lambda D, E: D(lambda x: E(lambda y: x * y**2)(1.0) * E(lambda z: x * z)(1.0))(3.0), 12.0),
    "three deep": (
        lambda D, E: D(lambda x: E(lambda y: D(lambda z: x * y * z)(1.0) * y)(2.0))(3.0),
        4.0,
    ),
    "three deep sum": (lambda D, E: D(lambda x: x * E(lambda y: y * D(lambda z: x + y + z)(1.0))(1.0))(5.0), 1.0),
    "inside out": (lambda D, E: D(lambda x: E(lambda y: x**2 + D(lambda z: y * z * x)(x))(x))(3.0), 1.0),
    "stopped": (lambda D, E: D(lambda x: x * E(lambda y: stop_gradient(x) * y**2)(3.0))(2.0), 12.0),
}


@pytest.mark.parametrize("inner", DERIVATIVES)
@pytest.mark.parametrize("outer", DERIVATIVES)
@pytest.mark.parametrize("name", CONFUSIONS)
def test_perturbations_are_not_confused(name: str, outer: str, inner: str) -> None:
    call, expected = CONFUSIONS[name]
    assert_same(call(DERIVATIVES[outer], DERIVATIVES[inner]), expected)


@pytest.mark.parametrize("inner", DERIVATIVES)
def test_perturbations_are_not_confused_with_the_tape_or_rows(inner: str) -> None:
    D = DERIVATIVES[inner]
    x = Variable(1.0)
    y = x * D(lambda y: x + y)(1.0)
    y.backward()
    assert x.grad is not None and x.grad.data == 1.0
    assert_same(vmap(lambda x: x * D(lambda y: x * y)(2.0))(V), V * V)
    assert_same(D(lambda x: F.sum(vmap(lambda y: x * y)(V)))(7.0), float(V.sum()))
    assert_same(D(lambda x: x * F.sum(vmap(D(lambda y: x * y**2))(V)))(7.0), float(28 * V.sum()))


S = math.sin(0.7)
C = math.cos(0.7)
E3 = np.exp(V)
M = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -1.0], [0.0, -1.0, 3.0]])


def quartic(x: Any) -> Any:
    """The square of a quadratic form, whose derivatives are q and 2q(2 M x), 8 (M x)(M x)^T + 4q M."""
    return (x @ M @ x) ** 2


Q = float(V @ M @ V)
MV = M @ V


def newton(f: Callable[[Any], Any], x: Array) -> Array:
    for _ in range(12):
        x = x - np.linalg.solve(hessian(f)(x), grad(f)(x))
    return x


def kepler_residual(u: Any, e: Any) -> Any:
    return u - e * F.sin(u) - 1.0


def kepler(e: Any) -> Any:
    """The anomaly u of u - e sin(u) = 1, by Newton's method with the derivative of its own residual."""
    u = 1.0
    for _ in range(8):
        u = u - kepler_residual(u, e) / grad(kepler_residual)(u, e)
    return u


#: The solution for e = 0.3, by bisection.
KEPLER = 1.2880913132118375


#: name -> (what is computed, its closed form)
COMPOSITIONS: dict[str, tuple[Callable[[], Any], Any]] = {
    "grad(grad)": (lambda: grad(grad(F.sin))(0.7), -S),
    "grad(grad(grad(grad)))": (lambda: grad(grad(grad(grad(F.sin))))(0.7), S),
    "jvp(jvp)": (lambda: derivative(derivative(F.sin))(0.7), -S),
    "jvp(grad)": (lambda: jvp(grad(quartic), (V,), (E3,))[1], 8 * MV * float(MV @ E3) + 4 * Q * (M @ E3)),
    "grad(jvp)": (lambda: grad(lambda x: jvp(quartic, (x,), (E3,))[1])(V), 8 * MV * float(MV @ E3) + 4 * Q * (M @ E3)),
    "grad(jvp) to the tangent": (lambda: grad(lambda t: jvp(quartic, (V,), (t,))[1])(E3), 4 * Q * MV),
    "vjp(grad)": (lambda: vjp(grad(quartic), V)[1](E3)[0], 8 * MV * float(MV @ E3) + 4 * Q * (M @ E3)),
    "grad(vjp)": (
        lambda: grad(lambda x: F.sum(vjp(lambda y: F.sin(y) * x, x)[1](E3)[0]))(V),
        E3 * (np.cos(V) - V * np.sin(V)),
    ),
    "jvp(vjp)": (
        lambda: jvp(lambda c: vjp(F.exp, V)[1](c)[0], (V,), (E3,)),
        (E3 * V, E3 * E3),
    ),
    "vmap(grad)": (lambda: vmap(grad(cubes))(A), 3 * A**2),
    "vmap(value_and_grad)": (lambda: vmap(value_and_grad(cubes))(A), ((A**3).sum(axis=1), 3 * A**2)),
    "vmap(hessian)": (lambda: vmap(hessian(cubes))(A), np.stack([np.diag(6 * row) for row in A])),
    "vmap(jvp)": (lambda: vmap(lambda x, t: jvp(F.sin, (x,), (t,))[1])(V, E3), np.cos(V) * E3),
    "vmap(vjp)": (lambda: vmap(lambda c: vjp(F.sin, V)[1](c)[0])(np.eye(3)), np.diag(np.cos(V))),
    "vmap(hvp)": (lambda: vmap(lambda v: hvp(quartic, (V,), (v,))[0])(np.eye(3)), 8 * np.outer(MV, MV) + 4 * Q * M),
    "vmap(jacobian)": (
        lambda: vmap(jacobian(lambda x: x[:2] * x[1]))(A),
        np.stack([[[r[1], r[0], 0.0], [0.0, 2 * r[1], 0.0]] for r in A]),
    ),
    "vmap(vmap(grad))": (lambda: vmap(vmap(grad(F.sin)))(A), np.cos(A)),
    "grad(vmap)": (
        lambda: grad(lambda x: F.sum(vmap(lambda row: row @ row * row)(x)))(A),
        2 * A * A.sum(axis=1, keepdims=True) + (A * A).sum(axis=1, keepdims=True),
    ),
    "grad(vmap(grad))": (
        lambda: grad(lambda w: F.sum(vmap(grad(lambda x: F.sin(w * x)))(V)))(0.5),
        float((np.cos(0.5 * V) - 0.5 * V * np.sin(0.5 * V)).sum()),
    ),
    "jvp(vmap)": (lambda: jvp(vmap(lambda row: F.sum(row**2)), (A,), (np.ones((2, 3)),))[1], 2 * A.sum(axis=1)),
    "jacobian(vmap)": (lambda: jacobian(vmap(lambda x: x**2))(V), np.diag(2 * V)),
    "hessian(vmap)": (lambda: hessian(lambda x: F.sum(vmap(lambda y: y**3)(x)))(V), np.diag(6 * V)),
    "hvp(vmap)": (lambda: hvp(lambda x: F.sum(vmap(lambda y: y**4)(x)), (V,), (E3,)), (12 * V**2 * E3,)),
    "jacobian(grad)": (lambda: jacobian(grad(quartic))(V), 8 * np.outer(MV, MV) + 4 * Q * M),
    "jacobian(grad) in reverse": (lambda: jacobian(grad(quartic), mode="reverse")(V), 8 * np.outer(MV, MV) + 4 * Q * M),
    "jacobian(jacobian)": (
        lambda: jacobian(jacobian(lambda x: x**3))(V),
        np.einsum("i,ij,ik->ijk", 6 * V, np.eye(3), np.eye(3)),
    ),
    "forward(reverse(forward))": (
        lambda: jacobian(jacobian(jacobian(quartic, mode="forward"), mode="reverse"), mode="forward")(V),
        8 * (np.einsum("ij,k->ijk", M, MV) + np.einsum("ik,j->ijk", M, MV) + np.einsum("jk,i->ijk", M, MV)),
    ),
    "grad(hessian)": (
        lambda: grad(lambda x: F.trace(hessian(quartic)(x)))(V),
        16 * M @ MV + 8 * np.trace(M) * MV,
    ),
    "grad(hvp)": (lambda: grad(lambda x: F.sum(hvp(cubes, (x,), (x**2,))[0]))(V), 18 * V**2),
    "hessian(hvp)": (lambda: hessian(lambda x: hvp(lambda y: y**4, (x,), (x,))[0])(2.0), 144.0),
    "hvp(hvp)": (lambda: hvp(lambda x: hvp(lambda y: y**6, (x,), (1.0,))[0], (2.0,), (1.0,)), (360.0 * 4,)),
    "hessian(grad norm)": (lambda: hessian(lambda x: F.sum(grad(cubes)(x) ** 2))(V), np.diag(108 * V**2)),
    "grad(grad norm)": (lambda: grad(lambda x: F.norm(grad(F.sum)(x * x) * x))(V), V / float(np.linalg.norm(V))),
    "grad(value_and_grad)": (
        lambda: grad(lambda x: (lambda y, dy: y * dy)(*value_and_grad(F.sin)(x)))(0.7),
        C * C - S * S,
    ),
    "grad(aux)": (lambda: grad(lambda x: grad(lambda y: (y**2, x * y), has_aux=True)(3.0)[1])(2.0), 3.0),
    "grad(stop_gradient(grad))": (lambda: grad(lambda x: x * stop_gradient(grad(F.sin)(x)))(0.7), C),
    "check_grads(grad)": (lambda: check_grads(grad(quartic), V).ok, True),
    "check_grads(jvp, vmap)": (
        lambda: check_grads(lambda x: vmap(lambda y, t: jvp(F.sin, (y,), (t,))[1])(x, x), V).ok,
        True,
    ),
    "float32": (
        lambda: jvp(grad(cubes), (V.astype(np.float32),), (np.ones(3, np.float32),))[1],
        (6 * V).astype(np.float32),
    ),
    "Laplacian": (
        lambda: F.sum(vmap(lambda e: hvp(lambda x: F.exp(x[0]) * F.sin(x[1]), (V[:2],), (e,))[0] @ e)(np.eye(2))),
        0.0,
    ),
    "Newton's method": (lambda: newton(lambda x: F.sum(F.cosh(x - V)), np.zeros(3)), V),
    "implicit differentiation": (lambda: grad(kepler)(0.3), math.sin(KEPLER) / (1 - 0.3 * math.cos(KEPLER))),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_compositions(name: str) -> None:
    call, expected = COMPOSITIONS[name]
    single = np.asarray(expected).dtype == np.float32 if not isinstance(expected, tuple) else False
    assert_same(call(), expected, rtol=1e-6 if single else 1e-10, atol=1e-12)
