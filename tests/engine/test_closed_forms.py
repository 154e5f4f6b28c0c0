"""Derivatives of high order, Hessians and Greeks against closed forms and sympy: 1e-10 relative."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sympy
from scipy import special
from scipy.stats import norm

from engine import Variable
from engine import functions as F
from engine.transforms import grad, hessian, hvp, jacobian, jvp, vmap

Function = Callable[..., Any]
Array = npt.NDArray[Any]

RTOL = 1e-10


def forward(f: Function) -> Function:
    """The derivative in one variable by forward mode."""
    return lambda x: jvp(f, (x,), (1.0,))[1]


#: name -> what differentiates at each order
WAYS: dict[str, Callable[[int], Callable[[Function], Function]]] = {
    "reverse": lambda order: grad,
    "forward": lambda order: forward,
    "mixed": lambda order: forward if order % 2 else grad,
}
every_way = pytest.mark.parametrize("way", WAYS)


def derivatives(f: Function, x: float, n: int, way: str) -> list[float]:
    """f and its first n derivatives at x."""
    found = [float(f(x))]
    for order in range(n):
        f = WAYS[way](order)(f)
        found.append(f(x))
    return found


def exact(text: str, x: float, n: int) -> list[float]:
    """The same of an expression in x by sympy, rounded once from 40 digits."""
    symbol = sympy.Symbol("x", real=True)
    expression = sympy.sympify(text, {"x": symbol})
    at = {symbol: sympy.Float(x, 40)}
    return [float(sympy.diff(expression, symbol, order).subs(at).evalf(40)) for order in range(n + 1)]


#: name -> (function, order, points, its derivative of order n at x)
HIGH_ORDERS: dict[str, tuple[Function, int, list[float], Callable[[float, int], float]]] = {
    "sin": (F.sin, 12, [0.0, 0.5, 1.0, -2.5], lambda x, n: (math.sin, math.cos)[n % 2](x) * (-1) ** (n // 2)),
    "cos": (F.cos, 8, [0.3], lambda x, n: (math.cos, math.sin)[n % 2](x) * (-1) ** ((n + 1) // 2)),
    "exp": (F.exp, 8, [-1.0, 0.0, 2.0], lambda x, n: math.exp(x)),
    "reciprocal": (lambda x: 1 / x, 8, [0.5, -2.0], lambda x, n: (-1) ** n * math.factorial(n) / x ** (n + 1)),
    "log": (F.log, 8, [0.5, 3.0], lambda x, n: -math.factorial(n - 1) / (-x) ** n if n else math.log(x)),
    "x**10": (lambda x: x**10, 11, [0.0, 1.5, -1.0], lambda x, n: math.perm(10, n) * x ** max(10 - n, 0)),
    "x*x*...*x": (
        lambda x: x * x * x * x * x,
        6,
        [0.0, 1.5],
        lambda x, n: math.perm(5, n) * x ** max(5 - n, 0),
    ),
    "x**2.5": (
        lambda x: x**2.5,
        6,
        [0.5, 2.0],
        lambda x, n: math.prod(2.5 - k for k in range(n)) * x ** (2.5 - n),
    ),
    "2**x": (lambda x: 2**x, 6, [0.5, -1.0], lambda x, n: math.log(2.0) ** n * 2**x),
    "square": (F.square, 3, [0.0, 3.0], lambda x, n: [x * x, 2 * x, 2.0, 0.0][n]),
    "gammaln": (
        F.gammaln,
        5,
        [0.5, 3.5],
        lambda x, n: float(special.polygamma(n - 1, x)) if n else float(special.gammaln(x)),
    ),
}


@pytest.mark.sampled(one_in=12)
@every_way
@pytest.mark.parametrize("name", HIGH_ORDERS)
def test_high_orders(name: str, way: str) -> None:
    f, n, points, expected = HIGH_ORDERS[name]
    for x in points:
        found = derivatives(f, x, n, way)
        np.testing.assert_allclose(found, [expected(x, k) for k in range(n + 1)], rtol=RTOL, atol=1e-15)


#: name -> (function, the same for sympy, order, points)
BY_SYMPY: dict[str, tuple[Function, str, int, list[float]]] = {
    "tanh": (F.tanh, "tanh(x)", 8, [0.0, 0.3, -1.2]),
    "sigmoid": (F.sigmoid, "1/(1 + exp(-x))", 6, [0.0, 0.7, -2.0]),
    "softplus": (F.softplus, "log(1 + exp(x))", 6, [0.4]),
    "atan": (F.atan, "atan(x)", 6, [0.0, 0.6]),
    "asinh": (F.asinh, "asinh(x)", 5, [0.6]),
    "atanh": (F.atanh, "atanh(x)", 5, [0.4]),
    "acos": (F.acos, "acos(x)", 5, [0.4]),
    "tan": (F.tan, "tan(x)", 6, [0.4]),
    "erf": (F.erf, "erf(x)", 6, [0.0, 0.8]),
    "gelu": (F.gelu, "x*(1 + tanh(sqrt(2/pi)*(x + 44715*x**3/1000000)))/2", 5, [0.8, -0.5]),
    "log1p": (F.log1p, "log(1 + x)", 6, [0.0, 0.5]),
    "sqrt": (F.sqrt, "sqrt(x)", 6, [0.7, 4.0]),
    "Runge": (lambda x: 1 / (1 + x**2), "1/(1 + x**2)", 8, [0.0, 0.5]),
    "Gaussian wave": (lambda x: F.exp(-(x**2)) * F.cos(3 * x), "exp(-x**2)*cos(3*x)", 7, [0.0, 0.4]),
    "sinc": (lambda x: F.sin(x) / x, "sin(x)/x", 6, [1.3]),
    "x**x": (lambda x: x**x, "x**x", 5, [0.8, 2.0]),
    "quickstart": (lambda x: F.square(F.exp(F.square(x))), "exp(x**2)**2", 5, [0.5]),
    "nested sines": (lambda x: F.sin(F.sin(F.sin(x))), "sin(sin(sin(x)))", 5, [1.0]),
    "quotient": (lambda x: (x**2 + 1) / (F.exp(x) - 3 * x), "(x**2 + 1)/(exp(x) - 3*x)", 5, [0.3]),
    "logsumexp": (lambda x: F.logsumexp(F.stack([x, 2 * x, x * x])), "log(exp(x) + exp(2*x) + exp(x**2))", 5, [0.3]),
    "hypot": (lambda x: F.hypot(x, 2.0), "sqrt(x**2 + 4)", 5, [0.0, 1.5]),
    "atan2": (lambda x: F.atan2(x, 1 + x * x), "atan(x/(1 + x**2))", 4, [0.5]),
    "digamma": (F.digamma, "digamma(x)", 4, [1.0, 2.5]),
    "log of x + sqrt": (lambda x: F.log(x + F.sqrt(x * x + 1)), "log(x + sqrt(x**2 + 1))", 5, [0.5]),
    "determinant": (
        lambda x: F.det(F.reshape(F.stack([x, 2.0, x * x, F.sin(x)]), (2, 2))),
        "x*sin(x) - 2*x**2",
        4,
        [0.5, -1.2],
    ),
}


@pytest.mark.sampled(one_in=12)
@every_way
@pytest.mark.parametrize("name", BY_SYMPY)
def test_high_orders_by_sympy(name: str, way: str) -> None:
    f, text, n, points = BY_SYMPY[name]
    for x in points:
        expected = exact(text, x, n)
        scale = max(map(abs, expected))
        np.testing.assert_allclose(derivatives(f, x, n, way), expected, rtol=RTOL, atol=1e-14 * scale)


@every_way
@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda x: x**3, [0.0, 0.0, 0.0, 6.0, 0.0]),
        (lambda x: x**3.0, [0.0, 0.0, 0.0, 6.0, 0.0]),
        (lambda x: x * x * x, [0.0, 0.0, 0.0, 6.0, 0.0]),
        (lambda x: x**2, [0.0, 0.0, 2.0, 0.0, 0.0]),
        (lambda x: x**1, [0.0, 1.0, 0.0, 0.0, 0.0]),
        (lambda x: x**0, [1.0, 0.0, 0.0, 0.0, 0.0]),
        (lambda x: F.prod(F.stack([x, x, x])), [0.0, 0.0, 0.0, 6.0, 0.0]),
        (lambda x: F.sum(F.stack([x, 2 * x]) ** 3), [0.0, 0.0, 0.0, 54.0, 0.0]),
    ],
    ids="pow float_pow mul square identity one prod array".split(),
)
def test_powers_at_zero_are_exact(f: Function, expected: list[float], way: str) -> None:
    assert derivatives(f, 0.0, 4, way) == expected


def test_the_tape_gives_the_same() -> None:
    """Backward passes over backward passes, as an independent third way."""
    for f, x, n in ((F.sin, 1.0, 12), (F.tanh, 0.3, 8), (lambda x: x**3, 0.0, 4)):
        v = Variable(x)
        y, found = f(v), []
        for _ in range(n):
            v.cleargrad()
            y.backward(create_graph=True)
            y = v.grad
            found.append(y.item())
        np.testing.assert_allclose(found, derivatives(f, x, n, "forward")[1:], rtol=RTOL, atol=1e-14)


def rosenbrock(x: Any) -> Any:
    return F.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock_hessian(x: Array) -> Array:
    diagonal = np.zeros(x.size)
    diagonal[:-1] = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    diagonal[1:] += 200
    return np.diag(diagonal) + np.diag(-400 * x[:-1], 1) + np.diag(-400 * x[:-1], -1)


@pytest.mark.parametrize("n", [2, 10, 100])
def test_rosenbrock(n: int) -> None:
    x = np.random.default_rng(n).standard_normal(n)
    v = np.random.default_rng(n + 1).standard_normal(n)
    H = rosenbrock_hessian(x)
    np.testing.assert_allclose(hessian(rosenbrock)(x), H, rtol=RTOL)
    np.testing.assert_allclose(hvp(rosenbrock, (x,), (v,))[0], H @ v, rtol=RTOL)
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(jacobian(grad(rosenbrock), mode=mode)(x), H, rtol=RTOL)
    g = np.zeros(n)
    g[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    g[1:] += 200 * (x[1:] - x[:-1] ** 2)
    np.testing.assert_allclose(grad(rosenbrock)(x), g, rtol=RTOL)


def test_rosenbrock_at_its_minimum() -> None:
    np.testing.assert_array_equal(grad(rosenbrock)(np.ones(5)), np.zeros(5))
    np.testing.assert_array_equal(hessian(rosenbrock)(np.ones(2)), [[802.0, -400.0], [-400.0, 200.0]])


def positive_definite(n: int, seed: int) -> Array:
    x = np.random.default_rng(seed).standard_normal((n, n))
    return x @ x.T + n * np.eye(n)


def matrix(n: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((n, n)) + 3 * np.eye(n)


def log_det(A: Any) -> Any:
    _, found = F.slogdet(A)
    return found


class TestLinearAlgebra:
    @pytest.mark.parametrize("n", [1, 3, 5])
    def test_log_det(self, n: int) -> None:
        A = matrix(n, n)
        B = np.linalg.inv(A)
        np.testing.assert_allclose(grad(log_det)(A), B.T, rtol=RTOL)
        H = -np.einsum("jk,li->ijkl", B, B)
        np.testing.assert_allclose(hessian(log_det)(A), H, rtol=RTOL, atol=1e-14)
        V = matrix(n, n + 10)
        np.testing.assert_allclose(hvp(log_det, (A,), (V,))[0], -(B @ V @ B).T, rtol=RTOL, atol=1e-14)

    def test_third_derivative_of_log_det_along_a_line(self) -> None:
        """With A + t V, every derivative is a trace of powers of the inverse of A times V."""
        A, V = matrix(4, 1), matrix(4, 2)
        P = np.linalg.inv(A) @ V
        traces = [np.trace(np.linalg.matrix_power(P, k)) for k in range(1, 5)]
        found = derivatives(lambda t: log_det(A + t * V), 0.0, 4, "forward")[1:]
        expected = [(-1) ** k * math.factorial(k) * t for k, t in enumerate(traces)]
        np.testing.assert_allclose(found, expected, rtol=RTOL)

    def test_log_det_by_cholesky(self) -> None:
        """Of a symmetric matrix, with derivatives in the directions of symmetric matrices."""
        A, V = positive_definite(4, 3), positive_definite(4, 4)
        B = np.linalg.inv(A)

        def f(A: Any) -> Any:
            return 2 * F.sum(F.log(F.diagonal(F.cholesky(A))))

        np.testing.assert_allclose(f(A), np.linalg.slogdet(A)[1], rtol=RTOL)
        np.testing.assert_allclose(grad(f)(A), B, rtol=RTOL, atol=1e-14)
        np.testing.assert_allclose(hvp(f, (A,), (V,))[0], -(B @ V @ B), rtol=RTOL, atol=1e-13)

    def test_det(self) -> None:
        A = matrix(3, 5)
        B, d = np.linalg.inv(A), np.linalg.det(A)
        np.testing.assert_allclose(grad(F.det)(A), d * B.T, rtol=RTOL)
        H = d * (np.einsum("ji,lk->ijkl", B, B) - np.einsum("jk,li->ijkl", B, B))
        np.testing.assert_allclose(hessian(F.det)(A), H, rtol=RTOL, atol=1e-12)

    def test_det_of_a_singular_matrix_has_its_cofactors(self) -> None:
        A = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
        cofactors = [[-3.0, 6.0, -3.0], [6.0, -12.0, 6.0], [-3.0, 6.0, -3.0]]
        np.testing.assert_allclose(grad(F.det)(A), cofactors, rtol=1e-9)

    def test_inverse(self) -> None:
        A = matrix(3, 6)
        B = np.linalg.inv(A)
        expected = -np.einsum("ik,lj->ijkl", B, B)
        for mode in ("forward", "reverse"):
            np.testing.assert_allclose(jacobian(F.inv, mode=mode)(A), expected, rtol=RTOL, atol=1e-14)

    def test_solve(self) -> None:
        A, b = matrix(3, 7), np.array([1.0, -2.0, 0.5])
        B = np.linalg.inv(A)
        x = B @ b
        for mode in ("forward", "reverse"):
            to_A, to_b = jacobian(F.solve, argnums=(0, 1), mode=mode)(A, b)
            np.testing.assert_allclose(to_A, -np.einsum("ik,l->ikl", B, x), rtol=RTOL, atol=1e-14)
            np.testing.assert_allclose(to_b, B, rtol=RTOL)
        H = hessian(lambda b: 0.5 * (b @ F.solve(A, b)))(b)
        np.testing.assert_allclose(H, (B + B.T) / 2, rtol=RTOL)

    def test_contractions(self) -> None:
        x, y = np.random.default_rng(8).standard_normal((2, 3, 4))
        np.testing.assert_allclose(
            grad(lambda x: F.sum(F.einsum("ij,kj->ik", x, y)))(x), np.tile(y.sum(axis=0), (3, 1))
        )
        np.testing.assert_allclose(hessian(lambda x: F.tensordot(x, x, axes=2))(x), 2 * np.eye(12).reshape(3, 4, 3, 4))


class TestLearning:
    def test_softmax(self) -> None:
        z = np.array([0.3, -1.0, 2.0, 0.0])
        p = np.exp(z) / np.exp(z).sum()
        np.testing.assert_allclose(jacobian(F.softmax)(z), np.diag(p) - np.outer(p, p), rtol=RTOL)
        np.testing.assert_allclose(hessian(F.logsumexp)(z), np.diag(p) - np.outer(p, p), rtol=RTOL)

    def test_cross_entropy(self) -> None:
        z = np.random.default_rng(0).standard_normal((3, 4))
        t = np.array([2, 0, 3])
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        expected = np.zeros((3, 4, 3, 4))
        for i in range(3):
            expected[i, :, i, :] = (np.diag(p[i]) - np.outer(p[i], p[i])) / 3
        np.testing.assert_allclose(grad(F.cross_entropy)(z, t), (p - np.eye(4)[t]) / 3, rtol=RTOL)
        np.testing.assert_allclose(hessian(F.cross_entropy)(z, t), expected, rtol=RTOL, atol=1e-17)

    def test_cross_entropy_of_extreme_scores(self) -> None:
        """No overflow on the way: the wrong label has the whole loss, and the curvature vanishes."""
        z = np.array([[1000.0, -1000.0, 0.0]])
        np.testing.assert_array_equal(grad(F.cross_entropy)(z, np.array([1])), [[1.0, -1.0, 0.0]])
        np.testing.assert_array_equal(hessian(F.cross_entropy)(z, np.array([1])), np.zeros((1, 3, 1, 3)))

    def test_softmax_regression(self) -> None:
        rng = np.random.default_rng(1)
        X, w, t = rng.standard_normal((5, 2)), rng.standard_normal((2, 3)), np.array([0, 1, 2, 1, 0])
        z = X @ w
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        blocks = (p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None, :]) / 5
        expected = np.einsum("na,nkl,nb->akbl", X, blocks, X)
        found = hessian(lambda w: F.cross_entropy(X @ w, t))(w)
        np.testing.assert_allclose(found, expected, rtol=RTOL, atol=1e-15)

    def test_logistic_regression(self) -> None:
        rng = np.random.default_rng(2)
        X, theta, t = rng.standard_normal((50, 4)), rng.standard_normal(4), rng.integers(0, 2, 50)
        p = 1 / (1 + np.exp(-X @ theta))

        def loss(theta: Any) -> Any:
            z = X @ theta
            return F.sum(F.softplus(z) - t * z)

        np.testing.assert_allclose(grad(loss)(theta), X.T @ (p - t), rtol=RTOL)
        np.testing.assert_allclose(hessian(loss)(theta), X.T @ (X * (p * (1 - p))[:, None]), rtol=RTOL)

    def test_least_squares(self) -> None:
        rng = np.random.default_rng(3)
        X, t = rng.standard_normal((6, 3)), rng.standard_normal(6)
        H = hessian(lambda w: F.mean_squared_error(X @ w, t))(rng.standard_normal(3))
        np.testing.assert_allclose(H, 2 * X.T @ X / 6, rtol=RTOL)


class TestLikelihoods:
    def test_gaussian(self) -> None:
        x = np.random.default_rng(4).normal(1.0, 2.0, 20)

        def log_likelihood(p: Any) -> Any:
            z = (x - p["mu"]) / p["sigma"]
            return F.sum(-0.5 * z * z - F.log(p["sigma"]) - 0.5 * math.log(2 * math.pi))

        mu, sigma, n = 0.7, 1.8, x.size
        d, squares = float(np.sum(x - mu)), float(np.sum((x - mu) ** 2))
        at = {"mu": mu, "sigma": sigma}
        np.testing.assert_allclose(log_likelihood(at), norm(mu, sigma).logpdf(x).sum(), rtol=RTOL)
        slopes = grad(log_likelihood)(at)
        np.testing.assert_allclose(slopes["mu"], d / sigma**2, rtol=RTOL)
        np.testing.assert_allclose(slopes["sigma"], squares / sigma**3 - n / sigma, rtol=RTOL)
        H = hessian(log_likelihood)(at)
        np.testing.assert_allclose(H["mu"]["mu"], -n / sigma**2, rtol=RTOL)
        np.testing.assert_allclose(H["mu"]["sigma"], -2 * d / sigma**3, rtol=RTOL)
        np.testing.assert_allclose(H["sigma"]["mu"], -2 * d / sigma**3, rtol=RTOL)
        np.testing.assert_allclose(H["sigma"]["sigma"], n / sigma**2 - 3 * squares / sigma**4, rtol=RTOL)

    def test_several_dimensions(self) -> None:
        X = np.random.default_rng(5).standard_normal((10, 3))
        mu, S = np.array([0.1, -0.2, 0.3]), positive_definite(3, 6)
        P = np.linalg.inv(S)

        def log_likelihood(mu: Any, S: Any) -> Any:
            d = X - mu
            return -0.5 * (F.sum(d * F.transpose(F.solve(S, F.transpose(d)))) + 10 * log_det(S))

        d = X - mu
        to_mu, to_S = grad(log_likelihood, argnums=(0, 1))(mu, S)
        np.testing.assert_allclose(to_mu, P @ d.sum(axis=0), rtol=RTOL)
        np.testing.assert_allclose(to_S, -0.5 * (10 * P - P @ d.T @ d @ P), rtol=RTOL)
        np.testing.assert_allclose(hessian(log_likelihood)(mu, S), -10 * P, rtol=RTOL)

    def test_gamma(self) -> None:
        x = np.random.default_rng(7).gamma(2.0, 1.5, 30)
        a, b, n = 2.5, 0.8, x.size

        def log_likelihood(a: Any, b: Any) -> Any:
            return F.sum((a - 1) * F.log(x) - b * x + a * F.log(b) - F.gammaln(a))

        to_a, to_b = grad(log_likelihood, argnums=(0, 1))(a, b)
        np.testing.assert_allclose(to_a, np.log(x).sum() + n * math.log(b) - n * special.digamma(a), rtol=RTOL)
        np.testing.assert_allclose(to_b, n * a / b - x.sum(), rtol=RTOL)
        ((aa, ab), (ba, bb)) = hessian(log_likelihood, argnums=(0, 1))(a, b)
        np.testing.assert_allclose(
            [aa, ab, ba, bb], [-n * special.polygamma(1, a), n / b, n / b, -n * a / b**2], rtol=RTOL
        )


def black_scholes(S: Any, K: Any, r: Any, sigma: Any, T: Any) -> Any:
    """The price of a call. Source: Black and Scholes (1973), eq. 13."""
    d1 = (F.log(S / K) + (r + sigma**2 / 2) * T) / (sigma * F.sqrt(T))
    d2 = d1 - sigma * F.sqrt(T)
    return S * normal_cdf(d1) - K * F.exp(-r * T) * normal_cdf(d2)


def normal_cdf(d: Any) -> Any:
    return 0.5 * F.erfc(-d / math.sqrt(2))


def greeks(S: Any, K: float, r: float, sigma: float, T: float) -> dict[str, Any]:
    """All derivatives that have a name, from the textbook."""
    root = sigma * math.sqrt(T)
    d1 = (np.log(S / K) + (r + sigma**2 / 2) * T) / root
    d2 = d1 - root
    discount = K * math.exp(-r * T)
    gamma = norm.pdf(d1) / (S * root)
    vega = S * norm.pdf(d1) * math.sqrt(T)
    return {
        "delta": norm.cdf(d1),
        "dual delta": -math.exp(-r * T) * norm.cdf(d2),
        "rho": T * discount * norm.cdf(d2),
        "vega": vega,
        "theta": S * norm.pdf(d1) * sigma / (2 * math.sqrt(T)) + r * discount * norm.cdf(d2),
        "gamma": gamma,
        "vanna": -norm.pdf(d1) * d2 / sigma,
        "volga": vega * d1 * d2 / sigma,
        "speed": -gamma / S * (d1 / root + 1),
    }


OPTION = (105.0, 100.0, 0.03, 0.25, 0.75)


class TestBlackScholes:
    def test_first_order(self) -> None:
        expected = greeks(*OPTION)
        found = grad(black_scholes, argnums=(0, 1, 2, 3, 4))(*OPTION)
        names = ["delta", "dual delta", "rho", "vega", "theta"]
        np.testing.assert_allclose(found, [expected[name] for name in names], rtol=RTOL)

    def test_second_and_third_order(self) -> None:
        expected = greeks(*OPTION)
        H = hessian(black_scholes, argnums=(0, 3))(*OPTION)
        np.testing.assert_allclose(H[0][0], expected["gamma"], rtol=RTOL)
        np.testing.assert_allclose([H[0][1], H[1][0]], [expected["vanna"]] * 2, rtol=RTOL)
        np.testing.assert_allclose(H[1][1], expected["volga"], rtol=RTOL)
        speed = grad(grad(grad(black_scholes)))(*OPTION)
        np.testing.assert_allclose(speed, expected["speed"], rtol=RTOL)

    def test_all_of_second_order_by_sympy(self) -> None:
        symbols = sympy.symbols("S K r sigma T", positive=True)
        S, K, r, sigma, T = symbols
        d1 = (sympy.log(S / K) + (r + sigma**2 / 2) * T) / (sigma * sympy.sqrt(T))
        d2 = d1 - sigma * sympy.sqrt(T)
        n1, n2 = (sympy.erfc(-d / sympy.sqrt(2)) / 2 for d in (d1, d2))
        price = S * n1 - K * sympy.exp(-r * T) * n2
        at = {symbol: sympy.Float(value, 40) for symbol, value in zip(symbols, OPTION, strict=True)}
        exact = [[float(sympy.diff(price, a, b).subs(at).evalf(40)) for a in symbols] for b in symbols]
        found = hessian(black_scholes, argnums=(0, 1, 2, 3, 4))(*OPTION)
        np.testing.assert_allclose(found, exact, rtol=RTOL)

    def test_many_options_at_once(self) -> None:
        S = np.linspace(60, 150, 200)
        _, *rest = OPTION
        expected = greeks(S, *rest)

        def all_of(S: Any) -> Any:
            delta = grad(black_scholes)
            return delta(S, *rest), grad(delta)(S, *rest), grad(grad(delta))(S, *rest)

        delta, gamma, speed = vmap(all_of)(S)
        np.testing.assert_allclose(delta, expected["delta"], rtol=RTOL)
        np.testing.assert_allclose(gamma, expected["gamma"], rtol=RTOL)
        np.testing.assert_allclose(speed, expected["speed"], rtol=RTOL, atol=1e-15)

    def test_the_price_solves_its_equation(self) -> None:
        """theta + r S delta + sigma^2 S^2 gamma / 2 = r V, time running backwards."""
        S, _, r, sigma, _ = OPTION
        value = black_scholes(*OPTION)
        delta, to_T = grad(black_scholes, argnums=(0, 4))(*OPTION)
        gamma = grad(grad(black_scholes))(*OPTION)
        assert -to_T + r * S * delta + 0.5 * sigma**2 * S**2 * gamma == pytest.approx(r * value, rel=RTOL)
