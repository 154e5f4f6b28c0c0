"""Programs in two spellings, infix text and Python, with inputs: every family of operations, several outputs, corners.

Kinks are avoided: at these inputs the programs are smooth, so that central differences agree with their derivatives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import functions as F

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Program:
    """One program.

    Fields:
        name: for the ids of tests.
        text: infix text.
        function: the same in Python; takes the inputs by keyword and returns the output, or a tuple of them.
        inputs: values by name: floats and arrays.
        outputs: names of the outputs in the text's order.
    """

    name: str
    text: str
    function: Callable[..., Any]
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...] = ("out",)

    @property
    def floating(self) -> dict[str, Any]:
        """The inputs that are differentiated."""
        return {name: x for name, x in self.inputs.items() if np.asarray(x).dtype.kind == "f"}

    @property
    def is_float64(self) -> bool:
        """Whether all floating inputs are: single precision is too coarse for differences."""
        return all(np.asarray(x).dtype == np.float64 for x in self.floating.values())

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, the inputs that are not given being those of the program."""
        y = self.function(**{**self.inputs, **inputs})
        return dict(zip(self.outputs, y if isinstance(y, tuple) else (y,), strict=True))


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def between(low: float, high: float, seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).uniform(low, high, shape)


def apart(seed: int, *shape: int) -> Array:
    """Elements in random order, no two nearer than 0.3 or of one size, none nearer than 0.1 to 0."""
    n = int(np.prod(shape))
    steps = 0.3 * (np.arange(n) - n // 2) + 0.1
    return np.random.default_rng(seed).permutation(steps).reshape(shape)


def positive_definite(seed: int, n: int) -> Array:
    x = normal(seed, n, n)
    return x @ x.T + n * np.eye(n)


def goldstein_price(x: Any, y: Any) -> Any:
    a = 1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)
    b = 30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2)
    return a * b


def sines(x: Any) -> Any:
    for _ in range(5):
        x = F.sin(x)
    return x


def mlp(X: Any, w1: Any, b1: Any, w2: Any, b2: Any, t: Any) -> Any:
    return F.mean_squared_error(F.linear(F.tanh(F.linear(X, w1, b1)), w2, b2), t)


def attention(q: Any, k: Any, v: Any) -> Any:
    return F.softmax(q @ F.transpose(k) / F.sqrt(3.0)) @ v


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    centred = x - F.mean(x, axes=-1, keepdims=True)
    return scale * centred / F.sqrt(F.variance(x, axes=-1, keepdims=True) + 1e-5) + shift


def swapped_halves(x: Any) -> Any:
    a, b = F.split(x, 2, axis=1)
    return F.concat(b * b, a, axis=1)


def quarters(x: Any) -> Any:
    a, b, c = F.split(x, [1, 2, 1])
    return F.sum(a) * b, F.exp(c)


def lorenz(x: Any, y: Any, z: Any) -> Any:
    dt = 0.01
    return x + dt * 10 * (y - x), y + dt * (x * (28 - z) - y), z + dt * (x * y - 8 / 3 * z)


def black_scholes(S: Any, K: Any, r: Any, sigma: Any, T: Any) -> Any:
    d1 = (F.log(S / K) + (r + sigma**2 / 2) * T) / (sigma * F.sqrt(T))
    d2 = d1 - sigma * F.sqrt(T)
    n1, n2 = (0.5 * F.erfc(-d / F.sqrt(2.0)) for d in (d1, d2))
    call = S * n1 - K * F.exp(-r * T) * n2
    return call, call - S + K * F.exp(-r * T)


def logistic_posterior(theta: Any, X: Any, t: Any) -> Any:
    z = X @ theta
    return F.sum(t * z - F.softplus(z)) - 0.5 * F.sum(F.square(theta))


def gaussian_loss(x: Any, mu: Any, log_sigma: Any) -> Any:
    z = (x - mu) * F.exp(-log_sigma)
    return F.sum(0.5 * z * z + log_sigma + 0.5 * F.log(2 * np.pi))


def huber(x: Any, t: Any) -> Any:
    gap = F.abs(x - t)
    return F.mean(F.where(gap < 1, 0.5 * gap**2, gap - 0.5))


def cosine_similarity(x: Any, y: Any) -> Any:
    return F.sum(x * y, axes=-1) / (F.norm(x, axes=-1) * F.norm(y, axes=-1))


def gaussian_density(x: Any, mu: Any, A: Any) -> Any:
    d = x - mu
    _, log_det = F.slogdet(A)
    return -0.5 * (d @ F.solve(A, d) + log_det)


ELEMENTWISE = [
    Program("quickstart", "square(exp(square(x)))", lambda x: F.square(F.exp(F.square(x))), {"x": 0.5}),
    Program(
        "matyas",
        "0.26*(x**2 + y**2) - 0.48*x*y",
        lambda x, y: 0.26 * (x**2 + y**2) - 0.48 * x * y,
        {"x": 1.0, "y": 1.0},
    ),
    Program(
        "goldstein_price",
        """a = 1 + (x + y + 1)**2 * (19 - 14*x + 3*x**2 - 14*y + 6*x*y + 3*y**2)
b = 30 + (2*x - 3*y)**2 * (18 - 32*x + 12*x**2 + 48*y - 36*x*y + 27*y**2)  # both are used once
a*b""",
        goldstein_price,
        {"x": 1.0, "y": 1.0},
    ),
    Program(
        "rosenbrock",
        "sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)",
        lambda x: F.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
        {"x": normal(1, 6)},
    ),
    Program(
        "horner",
        "((2*x - 3)*x + 5)*x - 7",
        lambda x: ((2 * x - 3) * x + 5) * x - 7,
        {"x": -1.25},
    ),
    Program("sines", "x1 = sin(x); x1 = sin(x1); x1 = sin(x1); x1 = sin(x1); sin(x1)", sines, {"x": 1.0}),
    Program(
        "trigonometric",
        "sin(x)*cos(y) + tan(x*y)",
        lambda x, y: F.sin(x) * F.cos(y) + F.tan(x * y),
        {"x": between(-1, 1, 2, 4), "y": 0.75},
    ),
    Program(
        "inverse_trigonometric",
        "asin(x) + acos(y)*arctan(x*y) + atan2(x, y)",
        lambda x, y: F.asin(x) + F.acos(y) * F.atan(x * y) + F.atan2(x, y),
        {"x": between(-0.8, 0.8, 3, 3), "y": between(0.1, 0.8, 4, 2, 3)},
    ),
    Program(
        "hyperbolic",
        "sinh(x)/cosh(y) + tanh(x*y) + asinh(x) + acosh(2 + y) + atanh(x/2)",
        lambda x, y: F.sinh(x) / F.cosh(y) + F.tanh(x * y) + F.asinh(x) + F.acosh(2 + y) + F.atanh(x / 2),
        {"x": between(-1, 1, 5, 3), "y": between(-0.5, 1, 6, 2, 1)},
    ),
    Program(
        "exponentials_and_logarithms",
        "exp(-x) + expm1(x)*log1p(x) + exp2(x)/log2(1 + x) - log10(x)*log(x)",
        lambda x: F.exp(-x) + F.expm1(x) * F.log1p(x) + F.exp2(x) / F.log2(1 + x) - F.log10(x) * F.log(x),
        {"x": between(0.5, 2, 7, 5)},
    ),
    Program(
        "powers",
        "x**3 - x**-2 + x**0.5 + 2**x + x**y + sqrt(x)",
        lambda x, y: x**3 - x**-2 + x**0.5 + 2**x + x**y + F.sqrt(x),
        {"x": between(0.5, 2, 8, 4), "y": normal(9, 3, 1)},
    ),
    Program("cube_at_zero", "x**3 + x**2*y", lambda x, y: x**3 + x**2 * y, {"x": 0.0, "y": 2.0}),
    Program(
        "error_functions",
        "erf(x)*erfc(y) + gelu(x + y)",
        lambda x, y: F.erf(x) * F.erfc(y) + F.gelu(x + y),
        {"x": normal(10, 4), "y": -0.3},
    ),
    Program(
        "soft_activations",
        "sigmoid(x) * softplus(y) + logaddexp(x, y)",
        lambda x, y: F.sigmoid(x) * F.softplus(y) + F.logaddexp(x, y),
        {"x": normal(11, 2, 3), "y": normal(12, 3)},
    ),
    Program(
        "distances",
        "hypot(x, y) - sqrt(x*x + y*y)/3",
        lambda x, y: F.hypot(x, y) - F.sqrt(x * x + y * y) / 3,
        {"x": apart(13, 4), "y": apart(14, 4)},
    ),
    Program(
        "hard_activations",
        "relu(x)*abs(x) + sign(x)*maximum(x, y) - minimum(x, 0.5*y)",
        lambda x, y: F.relu(x) * F.abs(x) + F.sign(x) * F.maximum(x, y) - F.minimum(x, 0.5 * y),
        {"x": apart(15, 6), "y": 0.25},
    ),
    Program("clip", "clip(x, -0.9, 1.2)*x", lambda x: F.clip(x, -0.9, 1.2) * x, {"x": apart(16, 8)}),
    Program(
        "steps",
        "x*floor(y) + ceil(x)*y + trunc(x*y) + remainder(x, 0.7)",
        lambda x, y: x * F.floor(y) + F.ceil(x) * y + F.trunc(x * y) + F.remainder(x, 0.7),
        {"x": np.array([0.3, -1.6, 2.2]), "y": 1.4},
    ),
    Program(
        "where",
        "where(x > 0, log(abs(x)), x**2*y)",
        lambda x, y: F.where(x > 0, F.log(F.abs(x)), x**2 * y),
        {"x": apart(17, 2, 4), "y": normal(18, 4)},
    ),
    Program(
        "masks",
        "m = logical_and(x > -1, logical_not(x > 1.2)); mask_fill(x*y, logical_or(m, isnan(x)), -3.5)",
        lambda x, y: F.mask_fill(x * y, ((x > -1) & ~(x > 1.2)) | F.isnan(x), -3.5),
        {"x": apart(19, 7), "y": 1.5},
    ),
    Program(
        "huber", "gap = abs(x - t); mean(where(gap < 1, 0.5*gap**2, gap - 0.5))", huber, {"x": apart(20, 6), "t": 0.05}
    ),
    Program(
        "constants",
        "pi*x + e**x - [1, 2.5, -3]*x",
        lambda x: np.pi * x + np.e**x - np.array([1, 2.5, -3]) * x,
        {"x": 0.4},
    ),
    Program("unused_input", "x*0 + floor(y)", lambda x, y: x * 0 + F.floor(y), {"x": 1.5, "y": 2.5}),
]

REDUCTIONS = [
    Program(
        "sums",
        "x/sum(x, axes=0, keepdims=True) + sum(x, 1, True) - sum(x)",
        lambda x: x / F.sum(x, axes=0, keepdims=True) + F.sum(x, 1, True) - F.sum(x),
        {"x": between(0.5, 2, 21, 2, 3)},
    ),
    Program(
        "means",
        "mean(x*x, axes=[0, 2]) - mean(x)**2",
        lambda x: F.mean(x * x, axes=[0, 2]) - F.mean(x) ** 2,
        {"x": normal(22, 2, 3, 2)},
    ),
    Program(
        "deviations",
        "variance(x, axes=0, correction=1)*std(x, axes=0) + std(x)",
        lambda x: F.variance(x, axes=0, correction=1) * F.std(x, axes=0) + F.std(x),
        {"x": normal(23, 4, 2)},
    ),
    Program(
        "layer_norm",
        """centred = x - mean(x, axes=-1, keepdims=True)
scale*centred/sqrt(variance(x, axes=-1, keepdims=True) + 1e-5) + shift""",
        layer_norm,
        {"x": normal(24, 2, 4), "scale": normal(25, 4), "shift": normal(26, 4)},
    ),
    Program(
        "extremes",
        "max(x, axes=1)*min(x, axes=1, keepdims=False) + max(x)",
        lambda x: F.max(x, axes=1) * F.min(x, axes=1) + F.max(x),
        {"x": apart(27, 3, 4)},
    ),
    Program(
        "products",
        "prod(x) + sum(prod(x, axes=0))",
        lambda x: F.prod(x) + F.sum(F.prod(x, axes=0)),
        {"x": normal(28, 2, 3)},
    ),
    Program(
        "products_with_zeros",
        "prod(x, axes=1)",
        lambda x: F.prod(x, axes=1),
        {"x": np.array([[2.0, 3.0, 5.0], [0.0, 3.0, 5.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])},
    ),
    Program(
        "logsumexp",
        "logsumexp(x*y, axes=0) - logsumexp(x)",
        lambda x, y: F.logsumexp(x * y, axes=0) - F.logsumexp(x),
        {"x": normal(29, 2, 3), "y": 30.0},
    ),
    Program(
        "norms",
        'norm(x) + norm(x, 1, axes=0) * norm(x, ord="inf", axes=1, keepdims=True)',
        lambda x: F.norm(x) + F.norm(x, 1, axes=0) * F.norm(x, ord="inf", axes=1, keepdims=True),
        {"x": apart(31, 2, 3)},
    ),
    Program(
        "any_and_all",
        "where(any(x > 0.5, axes=1, keepdims=True), x**3, 0.5*x) * where(all(x > -9), 2, 3)",
        lambda x: F.where(F.any(x > 0.5, axes=1, keepdims=True), x**3, 0.5 * x) * F.where(F.all(x > -9), 2, 3),
        {"x": apart(32, 3, 2)},
    ),
    Program(
        "cumulative_sums",
        "cumulative_sum(x*x, axis=1) + cumsum(x, 0)",
        lambda x: F.cumulative_sum(x * x, axis=1) + F.cumsum(x, 0),
        {"x": normal(33, 2, 3)},
    ),
]

SHAPES = [
    Program(
        "reshape_and_transpose",
        "transpose(reshape(x, [3, -1])) * y",
        lambda x, y: F.transpose(F.reshape(x, [3, -1])) * y,
        {"x": normal(34, 2, 3), "y": normal(35, 2, 1)},
    ),
    Program(
        "axes",
        "squeeze(unsqueeze(x, 0)*expand_dims(y, axis=2), axes=0) * permute_dims(x[newaxis], [1, 0, 2])[:, 0]",
        lambda x, y: (
            F.squeeze(F.unsqueeze(x, 0) * F.expand_dims(y, axis=2), axes=0) * F.permute_dims(x[None], [1, 0, 2])[:, 0]
        ),
        {"x": normal(36, 2, 3), "y": normal(37, 1, 2)},
    ),
    Program(
        "broadcasting",
        "sum_to(broadcast_to(x, [4, 2, 3])*y, [2, 1])",
        lambda x, y: F.sum_to(F.broadcast_to(x, [4, 2, 3]) * y, [2, 1]),
        {"x": normal(38, 2, 3), "y": normal(39, 4, 1, 1)},
    ),
    Program(
        "concat_and_stack",
        "stack([concat([x, y*y], axis=0), concat([y, x*y[0]])], axis=1)",
        lambda x, y: F.stack([F.concat([x, y * y], axis=0), F.concat([y, x * y[0]])], axis=1),
        {"x": normal(40, 2), "y": normal(41, 3)},
    ),
    Program(
        "swapped_halves", "a, b = split(x, 2, axis=1); concat(b*b, a, axis=1)", swapped_halves, {"x": normal(42, 2, 4)}
    ),
    Program(
        "tile_and_repeat",
        "tile(x, 2)*repeat(x, 2, axis=0)",
        lambda x: F.tile(x, 2) * F.repeat(x, 2, axis=0),
        {"x": normal(43, 3)},
    ),
    Program(
        "flip_and_roll",
        "x*flip(x, axes=0) + roll(x, 1, axes=1)**2",
        lambda x: x * F.flip(x, axes=0) + F.roll(x, 1, axes=1) ** 2,
        {"x": normal(44, 2, 3)},
    ),
    Program(
        "slices",
        "x[1:, ::2]*x[:-1, 1:][..., ::-1] + x[-1, 0]",
        lambda x: x[1:, ::2] * x[:-1, 1:][..., ::-1] + x[-1, 0],
        {"x": normal(45, 3, 3)},
    ),
    Program(
        "get_item",
        "get_item(x, 0, [2, 0, 0]) * get_item(x, 1, 1)[0]",
        lambda x: F.get_item(x, 0, [2, 0, 0]) * F.get_item(x, 1, 1)[0],
        {"x": normal(46, 3, 2)},
    ),
    Program(
        "take",
        "take(table, words, axis=0) * w",
        lambda table, words, w: F.take(table, words, axis=0) * w,
        {"table": normal(47, 4, 2), "words": np.array([3, 1, 3]), "w": normal(48, 3, 1)},
    ),
    Program(
        "scatter_add",
        "scatter_add(x, places, x*y)",
        lambda x, places, y: F.scatter_add(x, places, x * y),
        {"x": normal(49, 3), "places": np.array([2, 0, 2]), "y": normal(50, 3)},
    ),
    Program(
        "empty",
        "concat([x*x, y], axis=0)",
        lambda x, y: F.concat([x * x, y], axis=0),
        {"x": np.zeros((0, 2)), "y": normal(51, 1, 2)},
    ),
]

MATRICES = [
    Program("matrix_vector", "tanh(A @ x)", lambda A, x: F.tanh(A @ x), {"A": normal(52, 3, 2), "x": normal(53, 2)}),
    Program("quadratic_form", "x @ A @ x", lambda A, x: x @ A @ x, {"A": normal(54, 3, 3), "x": normal(55, 3)}),
    Program(
        "batched_matmul",
        "matmul(A, B) + A[0] @ B",
        lambda A, B: F.matmul(A, B) + A[0] @ B,
        {"A": normal(56, 2, 2, 3), "B": normal(57, 3, 2)},
    ),
    Program(
        "gram",
        "x @ matrix_transpose(x) + outer(x[:, 0], x[:, 1])",
        lambda x: x @ F.matrix_transpose(x) + F.outer(x[:, 0], x[:, 1]),
        {"x": normal(58, 3, 2)},
    ),
    Program(
        "triangles",
        "triu(x, 1) @ tril(x) + trace(x)*diagonal(x, -1)[0]",
        lambda x: F.triu(x, 1) @ F.tril(x) + F.trace(x) * F.diagonal(x, -1)[0],
        {"x": normal(59, 3, 3)},
    ),
    Program(
        "attention",
        "softmax(q @ transpose(k) / sqrt(3)) @ v",
        attention,
        {"q": normal(60, 2, 3), "k": normal(61, 4, 3), "v": normal(62, 4, 2)},
    ),
    Program(
        "cosine_similarity",
        "sum(x*y, axes=-1)/(norm(x, axes=-1)*norm(y, axes=-1))",
        cosine_similarity,
        {"x": normal(63, 2, 3), "y": normal(64, 3)},
    ),
    Program(
        "solve",
        "solve(A, b) @ inv(A)",
        lambda A, b: F.solve(A, b) @ F.inv(A),
        {"A": positive_definite(65, 3), "b": normal(66, 3)},
    ),
    Program("determinant", "det(A)*x", lambda A, x: F.det(A) * x, {"A": normal(67, 2, 3, 3), "x": 0.5}),
    Program(
        "gaussian_density",
        "d = x - mu; s, log_det = slogdet(A); -0.5*(d @ solve(A, d) + log_det)",
        gaussian_density,
        {"x": normal(68, 3), "mu": normal(69, 3), "A": positive_definite(70, 3)},
    ),
    Program(
        "cholesky",
        "cholesky(A) @ x",
        lambda A, x: F.cholesky(A) @ x,
        {"A": positive_definite(71, 3), "x": normal(72, 3)},
    ),
    Program(
        "contractions",
        'einsum("ij,kj->ik", x, y) + tensordot(x, y, axes=[[1], [1]])*einsum("ij,ij->", x, x)',
        lambda x, y: F.einsum("ij,kj->ik", x, y) + F.tensordot(x, y, axes=[[1], [1]]) * F.einsum("ij,ij->", x, x),
        {"x": normal(73, 2, 3), "y": normal(74, 2, 3)},
    ),
    Program(
        "gamma_density",
        "sum((a - 1)*log(x) - b*x + a*log(b) - gammaln(a)) + digamma(b)",
        lambda x, a, b: F.sum((a - 1) * F.log(x) - b * x + a * F.log(b) - F.gammaln(a)) + F.digamma(b),
        {"x": between(0.5, 2, 75, 4), "a": 2.5, "b": 1.25},
    ),
]

LEARNING = [
    Program(
        "mlp",
        "h = tanh(linear(X, w1, b1)); mean_squared_error(linear(h, w2, b2), t)",
        mlp,
        {
            "X": normal(76, 3, 2),
            "w1": normal(77, 2, 4),
            "b1": normal(78, 4),
            "w2": normal(79, 4, 1),
            "b2": normal(80, 1),
            "t": normal(81, 3, 1),
        },
    ),
    Program(
        "cross_entropy",
        "cross_entropy(X @ w, t)",
        lambda X, w, t: F.cross_entropy(X @ w, t),
        {"X": normal(82, 4, 2), "w": normal(83, 2, 3), "t": np.array([0, 2, 1, 1])},
    ),
    Program(
        "cross_entropy_with_ignored_labels",
        "cross_entropy(z, t, ignore_index=-1)",
        lambda z, t: F.cross_entropy(z, t, ignore_index=-1),
        {"z": normal(84, 3, 4), "t": np.array([3, -1, 0])},
    ),
    Program(
        "log_softmax",
        "-mean(sum(one_hot(t, 3)*log_softmax(z, axis=1), axes=1))",
        lambda z, t: -F.mean(F.sum(F.one_hot(t, 3) * F.log_softmax(z, axis=1), axes=1)),
        {"z": normal(85, 2, 3), "t": np.array([2, 0])},
    ),
    Program("softmax", "softmax(x, 0)*softmax(x)", lambda x: F.softmax(x, 0) * F.softmax(x), {"x": normal(86, 2, 3)}),
    Program(
        "best_scores",
        "sum(x*one_hot(argmax(x, axis=1), 3), axes=1)",
        lambda x: F.sum(x * F.one_hot(F.argmax(x, axis=1), 3), axes=1),
        {"x": apart(87, 2, 3)},
    ),
    Program(
        "logistic_posterior",
        "z = X @ theta; sum(t*z - softplus(z)) - 0.5*sum(square(theta))",
        logistic_posterior,
        {"theta": normal(88, 2), "X": normal(89, 5, 2), "t": np.array([1, 0, 0, 1, 1])},
    ),
    Program(
        "gaussian_loss",
        "z = (x - mu)*exp(-log_sigma); sum(0.5*z*z + log_sigma + 0.5*log(2*pi))",
        gaussian_loss,
        {"x": normal(90, 4), "mu": 0.3, "log_sigma": -0.2},
    ),
]

SEVERAL_OUTPUTS = [
    Program(
        "polar",
        "r = hypot(x, y); phi = atan2(y, x); r, phi",
        lambda x, y: (F.hypot(x, y), F.atan2(y, x)),
        {"x": 0.6, "y": -0.8},
        ("r", "phi"),
    ),
    Program(
        "quarters",
        "a, b, c = split(x, [1, 2, 1]); p = sum(a)*b; q = exp(c); p, q",
        quarters,
        {"x": normal(91, 4)},
        ("p", "q"),
    ),
    Program(
        "lorenz",
        "dt = 0.01; x1 = x + dt*10*(y - x); y1 = y + dt*(x*(28 - z) - y); z1 = z + dt*(x*y - 8/3*z); x1, y1, z1",
        lorenz,
        {"x": 1.0, "y": 2.0, "z": 3.0},
        ("x1", "y1", "z1"),
    ),
    Program(
        "black_scholes",
        """d1 = (log(S/K) + (r + sigma**2/2)*T)/(sigma*sqrt(T))
d2 = d1 - sigma*sqrt(T)
call = S*0.5*erfc(-d1/sqrt(2)) - K*exp(-r*T)*0.5*erfc(-d2/sqrt(2))
put = call - S + K*exp(-r*T)
call, put""",
        black_scholes,
        {"S": np.array([90.0, 100.0, 115.0]), "K": 100.0, "r": 0.03, "sigma": 0.25, "T": 0.75},
        ("call", "put"),
    ),
    Program(
        "value_and_matrix",
        "A = outer(x, y); s = sum(A*A); A, s, y",
        lambda x, y: ((A := F.outer(x, y)), F.sum(A * A), y),
        {"x": normal(92, 2), "y": normal(93, 3)},
        ("A", "s", "y"),
    ),
]

DTYPES = [
    Program(
        "float32",
        "tanh(x @ w)*2",
        lambda x, w: F.tanh(x @ w) * 2,
        {"x": normal(94, 2, 3).astype(np.float32), "w": normal(95, 3).astype(np.float32)},
    ),
    Program(
        "mixed_precision",
        'astype(x, "float64")*y + x*array([1, 2, 3], dtype="float32")',
        lambda x, y: F.astype(x, "float64") * y + x * np.array([1, 2, 3], np.float32),
        {"x": normal(96, 3).astype(np.float32), "y": normal(97, 3)},
    ),
    Program(
        "integers",
        "x**n * (n + 1)",
        lambda x, n: x**n * (n + 1),
        {"x": normal(98, 3), "n": np.array([0, 1, 3])},
    ),
]

PROGRAMS = [*ELEMENTWISE, *REDUCTIONS, *SHAPES, *MATRICES, *LEARNING, *SEVERAL_OUTPUTS, *DTYPES]
