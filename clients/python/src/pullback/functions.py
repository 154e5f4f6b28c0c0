"""The public functions `F.*`: every operation, by name and alias.

Written from `operations.json` by `make mirror`: do not edit. An operand is a variable, a number, an array or a list;
the result is a variable, or a value if no operand is one.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from pullback.core.signatures import (
    array_of_one,
    array_of_three,
    array_of_two,
    like_of_one,
    like_of_three,
    like_of_two,
    of_many,
    of_subscripts,
    several_of_one,
    value_of_one,
    value_of_two,
    value_of_two_or_three,
)
from pullback.core.table import fill
from pullback.recording.operations import apply, apply_random, apply_several, spread

Axes = int | list[int] | tuple[int, ...] | None
Ints = int | list[int] | tuple[int, ...]
Contraction = int | tuple[Any, Any] | list[Any]
#: The decorators say which operands a function takes, and what it returns.
Operand = Any
Result = Any


@like_of_one
def abs(x: Operand) -> Result:
    """Absolute value. At 0 the gradient and second derivatives are 0; those of abs(x)**p are right for numbers p >= 2."""
    return apply("abs", (x,))


@value_of_two
def accuracy(x: Operand, t: Operand) -> Result:
    """Share of rows whose largest score is at the label; it has no derivative."""
    return apply("accuracy", (x, t))


@like_of_one
def acos(x: Operand) -> Result:
    """Inverse cosine, in radians; NaN outside [-1, 1]."""
    return apply("acos", (x,))


@like_of_one
def acosh(x: Operand) -> Result:
    """Inverse hyperbolic cosine; NaN below 1."""
    return apply("acosh", (x,))


@like_of_two
def add(x1: Operand, x2: Operand) -> Result:
    """Sum of two values."""
    return apply("add", (x1, x2))


@array_of_one
def all(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """True if no element over axes is 0."""
    return apply("all", (x,), {"axes": axes, "keepdims": keepdims, "axis": axis}, {"keepdims": False})


@array_of_one
def any(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """True if an element over axes is not 0."""
    return apply("any", (x,), {"axes": axes, "keepdims": keepdims, "axis": axis}, {"keepdims": False})


@array_of_one
def argmax(x: Operand, axis: int | None = None, keepdims: bool = False, *, axes: int | None = None) -> Result:
    """Index of the first largest element along an axis, by default of the flattened array."""
    return apply("argmax", (x,), {"axis": axis, "keepdims": keepdims, "axes": axes}, {"keepdims": False})


@array_of_one
def argmin(x: Operand, axis: int | None = None, keepdims: bool = False, *, axes: int | None = None) -> Result:
    """Index of the first smallest element along an axis, by default of the flattened array."""
    return apply("argmin", (x,), {"axis": axis, "keepdims": keepdims, "axes": axes}, {"keepdims": False})


@like_of_one
def asin(x: Operand) -> Result:
    """Inverse sine, in radians; NaN outside [-1, 1]."""
    return apply("asin", (x,))


@like_of_one
def asinh(x: Operand) -> Result:
    """Inverse hyperbolic sine."""
    return apply("asinh", (x,))


@like_of_one
def asinh_slope(x: Operand) -> Result:
    """The derivative of asinh: 1 / sqrt(1 + x * x), without overflow."""
    return apply("asinh_slope", (x,))


@value_of_one
def astype(x: Operand, dtype: DTypeLike) -> Result:
    """The value in another dtype."""
    return apply("astype", (x,), {"dtype": dtype}, {})


@like_of_one
def atan(x: Operand) -> Result:
    """Inverse tangent, in radians."""
    return apply("atan", (x,))


@like_of_two
def atan2(x1: Operand, x2: Operand) -> Result:
    """The angle of the point (x2, x1), in radians; gradient NaN at the origin."""
    return apply("atan2", (x1, x2))


@like_of_one
def atan_slope(x: Operand) -> Result:
    """The derivative of atan: 1 / (1 + x * x)."""
    return apply("atan_slope", (x,))


@like_of_one
def atanh(x: Operand) -> Result:
    """Inverse hyperbolic tangent; NaN outside [-1, 1]."""
    return apply("atanh", (x,))


@value_of_one
def broadcast_to(x: Operand, shape: Ints) -> Result:
    """x repeated along new axes and axes of length 1, to another shape."""
    return apply("broadcast_to", (x,), {"shape": shape}, {})


@like_of_one
def ceil(x: Operand) -> Result:
    """Smallest integer not below x, as a float."""
    return apply("ceil", (x,))


@array_of_one
def cholesky(x: Operand, upper: bool = False) -> Result:
    """Lower triangle L with L @ L.T = (x + x.T) / 2, or its transpose; NaN for a matrix that is not positive definite."""
    return apply("cholesky", (x,), {"upper": upper}, {"upper": False})


@like_of_one
def clip(x: Operand, min: float | None = None, max: float | None = None) -> Result:
    """x limited to [min, max]; the gradient is 1 inside, 0 outside and at a bound."""
    return apply("clip", (x,), {"min": min, "max": max}, {})


@array_of_one
def cofactor(x: Operand) -> Result:
    """Cofactors of the matrices of the last two axes: the gradient of det, exact also where det is 0."""
    return apply("cofactor", (x,))


@array_of_two
def cofactor_slope(g: Operand, x: Operand) -> Result:
    """Gradient of sum(g * cofactor(x)) with respect to x: the second derivatives of det, along g. Its own gradient divides by the determinant."""
    return apply("cofactor_slope", (g, x))


@of_many
def concat(*x: Operand, axis: int = 0) -> Result:
    """Arrays joined along an existing axis."""
    return apply("concat", spread(x), {"axis": axis}, {"axis": 0})


@like_of_one
def cos(x: Operand) -> Result:
    """Cosine of x in radians."""
    return apply("cos", (x,))


@like_of_one
def cosh(x: Operand) -> Result:
    """Hyperbolic cosine."""
    return apply("cosh", (x,))


@value_of_two
def cross_entropy(x: Operand, t: Operand, ignore_index: int = -100) -> Result:
    """Mean of -log softmax(x) at the labels t, without those equal to ignore_index; 0 if all are."""
    return apply("cross_entropy", (x, t), {"ignore_index": ignore_index}, {"ignore_index": -100})


@array_of_two
def cross_entropy_slope(x: Operand, t: Operand, ignore_index: int = -100) -> Result:
    """Gradient of cross_entropy: (softmax(x) - one_hot(t)) / n, 0 for ignored labels; n is the number of others."""
    return apply("cross_entropy_slope", (x, t), {"ignore_index": ignore_index}, {"ignore_index": -100})


@array_of_one
def cumsum(x: Operand, axis: int | None = None) -> Result:
    """Running sum along an axis, by default of the flattened array."""
    return apply("cumsum", (x,), {"axis": axis}, {})


@array_of_one
def cumulative_sum(x: Operand, axis: int = 0) -> Result:
    """Running sum along an axis."""
    return apply("cumulative_sum", (x,), {"axis": axis}, {"axis": 0})


@value_of_one
def det(x: Operand) -> Result:
    """Determinant of the matrices of the last two axes; its gradient is exact also where it is 0."""
    return apply("det", (x,))


@value_of_one
def det_sign(x: Operand) -> Result:
    """Sign of the determinant, -1, 0 or 1, of the matrices of the last two axes."""
    return apply("det_sign", (x,))


@array_of_one
def diagonal(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Result:
    """Diagonal of two axes, as the last axis of the result."""
    return apply(
        "diagonal", (x,), {"offset": offset, "axis1": axis1, "axis2": axis2}, {"offset": 0, "axis1": 0, "axis2": 1}
    )


@like_of_one
def digamma(x: Operand) -> Result:
    """The derivative of gammaln; -inf at 0, NaN at -1, -2, ..."""
    return apply("digamma", (x,))


@like_of_two
def div(x1: Operand, x2: Operand) -> Result:
    """Quotient of two values; x / 0 is inf or nan."""
    return apply("div", (x1, x2))


@like_of_one
def dropout(x: Operand, ratio: float = 0.5, *, rng: int | None = None) -> Result:
    """In training, elements set to 0 with probability `ratio`, others scaled by 1 / (1 - ratio); in test mode, x.

    rng: a seed of its own; left out, the session's generator goes on.
    """
    return apply_random("dropout", (x,), {"ratio": ratio}, {"ratio": 0.5}, rng)


@like_of_one
def dropout_mask(x: Operand, ratio: float = 0.5, *, rng: int | None = None) -> Result:
    """In training, 0 with probability `ratio`, otherwise 1 / (1 - ratio), in the shape of x; in test mode, ones.

    rng: a seed of its own; left out, the session's generator goes on.
    """
    return apply_random("dropout_mask", (x,), {"ratio": ratio}, {"ratio": 0.5}, rng)


@of_subscripts
def einsum(subscripts: str, *x: Operand) -> Result:
    """Sums of products over named axes, as in NumPy: `einsum("ij,jk->ik", a, b)`."""
    return apply("einsum", spread(x), {"subscripts": subscripts}, {})


@array_of_two
def equal(x1: Operand, x2: Operand) -> Result:
    """x1 == x2."""
    return apply("equal", (x1, x2))


@like_of_one
def erf(x: Operand) -> Result:
    """The error function (Abramowitz and Stegun 7.1.1)."""
    return apply("erf", (x,))


@like_of_one
def erfc(x: Operand) -> Result:
    """1 - erf(x), exact for large x."""
    return apply("erfc", (x,))


@value_of_one
def euclidean_norm(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Square root of the sum of squares over axes, without overflow. Where it is 0 the gradient is 0 and second derivatives are NaN; those of its powers with a number p >= 2 are right."""
    return apply("euclidean_norm", (x,), {"axes": axes, "keepdims": keepdims, "axis": axis}, {"keepdims": False})


@like_of_one
def exp(x: Operand) -> Result:
    """e to the power x."""
    return apply("exp", (x,))


@like_of_one
def exp2(x: Operand) -> Result:
    """2 to the power x."""
    return apply("exp2", (x,))


@array_of_one
def expand_dims(x: Operand, axis: Axes = 0, *, axes: Axes | None = None) -> Result:
    """x with a new axis of length 1."""
    return apply("expand_dims", (x,), {"axis": axis, "axes": axes}, {"axis": 0})


@like_of_one
def expm1(x: Operand) -> Result:
    """exp(x) - 1, exact near 0."""
    return apply("expm1", (x,))


@like_of_one
def flip(x: Operand, axes: Axes = None, *, axis: Axes | None = None) -> Result:
    """Elements in reverse order along axes, by default all."""
    return apply("flip", (x,), {"axes": axes, "axis": axis}, {})


@like_of_one
def floor(x: Operand) -> Result:
    """Largest integer not above x, as a float."""
    return apply("floor", (x,))


@like_of_two
def floor_divide(x1: Operand, x2: Operand) -> Result:
    """The quotient, rounded down."""
    return apply("floor_divide", (x1, x2))


@like_of_one
def full_like(x: Operand, value: float) -> Result:
    """`value` in the shape and dtype of x."""
    return apply("full_like", (x,), {"value": value}, {})


@like_of_one
def gammaln(x: Operand) -> Result:
    """log(abs(gamma(x))); inf at 0, -1, -2, ..., -inf and, as in SciPy, at subnormal numbers."""
    return apply("gammaln", (x,))


@like_of_one
def gaussian(x: Operand) -> Result:
    """exp(-x * x)."""
    return apply("gaussian", (x,))


@like_of_one
def gelu(x: Operand) -> Result:
    """Gaussian error linear unit, tanh form (Hendrycks and Gimpel, arXiv:1606.08415)."""
    return apply("gelu", (x,))


@value_of_one
def get_item(x: Operand, axis: int, indices: Any) -> Result:
    """Elements at fixed integer indices along an axis."""
    return apply("get_item", (x,), {"axis": axis, "indices": indices}, {})


@array_of_two
def greater(x1: Operand, x2: Operand) -> Result:
    """x1 > x2."""
    return apply("greater", (x1, x2))


@array_of_two
def greater_equal(x1: Operand, x2: Operand) -> Result:
    """x1 >= x2."""
    return apply("greater_equal", (x1, x2))


@like_of_two
def hypot(x1: Operand, x2: Operand) -> Result:
    """sqrt(x1**2 + x2**2) without overflow. Where it is 0 the gradient is 0, second derivatives are NaN; those of hypot(x1, x2)**p are right for a number p >= 2."""
    return apply("hypot", (x1, x2))


@like_of_two
def hypot_slope(x1: Operand, x2: Operand) -> Result:
    """The derivative of hypot by x1: x1 / hypot(x1, x2), and 0 where that is 0; its own derivatives are NaN there."""
    return apply("hypot_slope", (x1, x2))


@array_of_one
def inv(x: Operand) -> Result:
    """Inverse of the matrices of the last two axes; NaN for a singular one."""
    return apply("inv", (x,))


@array_of_two
def isclose(x1: Operand, x2: Operand, rtol: float = 1e-05, atol: float = 1e-08) -> Result:
    """|x1 - x2| <= atol + rtol |x2|."""
    return apply("isclose", (x1, x2), {"rtol": rtol, "atol": atol}, {"rtol": 1e-05, "atol": 1e-08})


@array_of_one
def isfinite(x: Operand) -> Result:
    """x is neither infinite nor NaN."""
    return apply("isfinite", (x,))


@array_of_one
def isinf(x: Operand) -> Result:
    """x is infinite."""
    return apply("isinf", (x,))


@array_of_one
def isnan(x: Operand) -> Result:
    """x is not a number."""
    return apply("isnan", (x,))


@array_of_two
def less(x1: Operand, x2: Operand) -> Result:
    """x1 < x2."""
    return apply("less", (x1, x2))


@array_of_two
def less_equal(x1: Operand, x2: Operand) -> Result:
    """x1 <= x2."""
    return apply("less_equal", (x1, x2))


@value_of_two_or_three
def linear(x: Operand, w: Operand, b: Operand = None) -> Result:
    """x @ w + b: a layer of weights and biases."""
    return apply("linear", (x, w) if b is None else (x, w, b))


@like_of_one
def log(x: Operand) -> Result:
    """Natural logarithm."""
    return apply("log", (x,))


@like_of_one
def log10(x: Operand) -> Result:
    """Logarithm to base 10."""
    return apply("log10", (x,))


@like_of_one
def log1p(x: Operand) -> Result:
    """log(1 + x), exact near 0."""
    return apply("log1p", (x,))


@like_of_one
def log2(x: Operand) -> Result:
    """Logarithm to base 2."""
    return apply("log2", (x,))


@value_of_one
def log_abs_det(x: Operand) -> Result:
    """log(abs(det(x))) without overflow; -inf, with gradient NaN, where a matrix is singular."""
    return apply("log_abs_det", (x,))


@array_of_one
def log_softmax(x: Operand, axis: int = -1) -> Result:
    """x - logsumexp(x) along an axis, accurate also where softmax is nearly 1."""
    return apply("log_softmax", (x,), {"axis": axis}, {"axis": -1})


@like_of_two
def logaddexp(x1: Operand, x2: Operand) -> Result:
    """log(exp(x1) + exp(x2)) without overflow; gradient 0 where both are -inf, NaN where both are inf."""
    return apply("logaddexp", (x1, x2))


@array_of_two
def logical_and(x1: Operand, x2: Operand) -> Result:
    """Both are not 0."""
    return apply("logical_and", (x1, x2))


@array_of_one
def logical_not(x: Operand) -> Result:
    """x is 0."""
    return apply("logical_not", (x,))


@array_of_two
def logical_or(x1: Operand, x2: Operand) -> Result:
    """At least one is not 0."""
    return apply("logical_or", (x1, x2))


@array_of_two
def logical_xor(x1: Operand, x2: Operand) -> Result:
    """Exactly one is not 0."""
    return apply("logical_xor", (x1, x2))


@value_of_one
def logsumexp(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """log(sum(exp(x))) over axes, without overflow. Where a probability exp(x) / sum(exp(x)) is nearly 1, second derivatives are accurate only to rounding at 1; those of log_softmax are more accurate."""
    return apply("logsumexp", (x,), {"axes": axes, "keepdims": keepdims, "axis": axis}, {"keepdims": False})


@like_of_two
def mask_fill(x: Operand, mask: Operand, value: float) -> Result:
    """x, with `value` where the mask is 0."""
    return apply("mask_fill", (x, mask), {"value": value}, {})


@value_of_two
def matmul(x1: Operand, x2: Operand) -> Result:
    """Matrix product, batched over leading axes; a vector is a row on the left and a column on the right."""
    return apply("matmul", (x1, x2))


@array_of_one
def matrix_transpose(x: Operand) -> Result:
    """Last two axes swapped."""
    return apply("matrix_transpose", (x,))


@value_of_one
def max(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Largest element over axes; NaN if one is NaN. Ties share the gradient evenly."""
    return apply("max", (x,), {"axes": axes, "keepdims": keepdims, "axis": axis}, {"keepdims": False})


@like_of_two
def maximum(x1: Operand, x2: Operand) -> Result:
    """Larger of two values; NaN if one is NaN. A tie gives half the gradient to each."""
    return apply("maximum", (x1, x2))


@value_of_one
def mean(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Mean over axes; NaN if there are no elements."""
    return apply("mean", (x,), {"axes": axes, "keepdims": keepdims, "axis": axis}, {"keepdims": False})


@value_of_two
def mean_squared_error(x: Operand, t: Operand) -> Result:
    """Mean of squared differences over all elements."""
    return apply("mean_squared_error", (x, t))


@value_of_one
def min(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Smallest element over axes; NaN if one is NaN. Ties share the gradient evenly."""
    return apply("min", (x,), {"axes": axes, "keepdims": keepdims, "axis": axis}, {"keepdims": False})


@like_of_two
def minimum(x1: Operand, x2: Operand) -> Result:
    """Smaller of two values; NaN if one is NaN. A tie gives half the gradient to each."""
    return apply("minimum", (x1, x2))


@like_of_two
def mul(x1: Operand, x2: Operand) -> Result:
    """Product of two values, element by element."""
    return apply("mul", (x1, x2))


@like_of_one
def neg(x: Operand) -> Result:
    """-x."""
    return apply("neg", (x,))


@value_of_one
def norm(
    x: Operand, ord: float | str | None = None, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None
) -> Result:
    """Euclidean norm over axes, by default all; ord 1, 2 or inf along one axis. Where it is 0 the gradient is 0 and second derivatives are NaN; those of norm(x)**p are right for a number p >= 2. Where one element is nearly the whole norm, the second derivative along it is accurate only to rounding at 1."""
    return apply("norm", (x,), {"ord": ord, "axes": axes, "keepdims": keepdims, "axis": axis}, {"keepdims": False})


@array_of_two
def not_equal(x1: Operand, x2: Operand) -> Result:
    """x1 != x2."""
    return apply("not_equal", (x1, x2))


@array_of_one
def one_hot(labels: Operand, classes: int, ignore_index: int = -100) -> Result:
    """Mask with a last axis of classes, true at the label; all false for ignore_index."""
    return apply("one_hot", (labels,), {"classes": classes, "ignore_index": ignore_index}, {"ignore_index": -100})


@like_of_one
def one_minus_square(x: Operand) -> Result:
    """1 - x * x, exact near 1 and -1."""
    return apply("one_minus_square", (x,))


@like_of_one
def ones_like(x: Operand) -> Result:
    """Ones of the shape and dtype of x."""
    return apply("ones_like", (x,))


@array_of_two
def outer(x1: Operand, x2: Operand) -> Result:
    """Products of all elements of x1 with all of x2."""
    return apply("outer", (x1, x2))


@like_of_one
def polygamma(x: Operand, n: int) -> Result:
    """The n-th derivative of digamma."""
    return apply("polygamma", (x,), {"n": n}, {})


@like_of_two
def pow(x1: Operand, x2: Operand) -> Result:
    """x1 to the power x2. x**0 is 1 with gradient 0, also at 0; 0**x2 has gradient 0 with respect to x2 >= 0."""
    return apply("pow", (x1, x2))


@value_of_one
def prod(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Product over axes; 1 if there are no elements. The gradient is exact where factors are 0."""
    return apply("prod", (x,), {"axes": axes, "keepdims": keepdims, "axis": axis}, {"keepdims": False})


@like_of_one
def relu(x: Operand) -> Result:
    """max(x, 0); gradient 0 at 0."""
    return apply("relu", (x,))


@like_of_two
def remainder(x1: Operand, x2: Operand) -> Result:
    """The remainder of the quotient rounded down, with the sign of the divisor, as Python's %."""
    return apply("remainder", (x1, x2))


@array_of_one
def repeat(x: Operand, repeats: int, axis: int | None = None) -> Result:
    """Each element repeated `repeats` times along an axis, by default of the flattened array."""
    return apply("repeat", (x,), {"repeats": repeats, "axis": axis}, {})


@value_of_one
def reshape(x: Operand, shape: Ints) -> Result:
    """Elements in row-major order in another shape; one length may be -1."""
    return apply("reshape", (x,), {"shape": shape}, {})


@like_of_one
def roll(x: Operand, shift: Ints, axes: Axes = None, *, axis: Axes | None = None) -> Result:
    """Elements shifted cyclically along axes, by default of the flattened array."""
    return apply("roll", (x,), {"shift": shift, "axes": axes, "axis": axis}, {})


@like_of_one
def round(x: Operand) -> Result:
    """Nearest integer, halves to even, as a float."""
    return apply("round", (x,))


@array_of_three
def scatter_add(x: Operand, indices: Operand, updates: Operand, axis: int | None = None) -> Result:
    """x with `updates` added at integer places along an axis; a place named twice gets both."""
    return apply("scatter_add", (x, indices, updates), {"axis": axis}, {})


@like_of_one
def sigmoid(x: Operand) -> Result:
    """1 / (1 + exp(-x)), without overflow."""
    return apply("sigmoid", (x,))


@like_of_one
def sigmoid_slope(x: Operand) -> Result:
    """The derivative of sigmoid: sigmoid(x) * sigmoid(-x), exact where it is small."""
    return apply("sigmoid_slope", (x,))


@like_of_one
def sign(x: Operand) -> Result:
    """Sign of x: -1, 0 or 1; NaN if x is NaN."""
    return apply("sign", (x,))


@like_of_one
def sin(x: Operand) -> Result:
    """Sine of x in radians."""
    return apply("sin", (x,))


@like_of_one
def sinh(x: Operand) -> Result:
    """Hyperbolic sine."""
    return apply("sinh", (x,))


@value_of_one
def slice(x: Operand, index: Any) -> Result:
    """x[index]: integers, slices, new axes, an ellipsis and lists of integers, as in NumPy."""
    return apply("slice", (x,), {"index": index}, {})


@array_of_two
def slice_add(x: Operand, updates: Operand, index: Any) -> Result:
    """x with `updates` added at an index; updates of a repeated place accumulate."""
    return apply("slice_add", (x, updates), {"index": index}, {})


@several_of_one
def slogdet(x: Operand) -> Result:
    """Sign and logarithm of the absolute value of the determinant, without overflow; two outputs."""
    return apply_several(2, "slogdet", (x,))


@array_of_one
def softmax(x: Operand, axis: int = -1) -> Result:
    """exp(x) / sum(exp(x)) along an axis, without overflow."""
    return apply("softmax", (x,), {"axis": axis}, {"axis": -1})


@like_of_one
def softplus(x: Operand) -> Result:
    """log(1 + exp(x)), without overflow."""
    return apply("softplus", (x,))


@array_of_two
def solve(a: Operand, b: Operand) -> Result:
    """x with a @ x = b, batched over leading axes; b is a vector only if it has one axis. NaN if a is singular."""
    return apply("solve", (a, b))


@several_of_one
def split(x: Operand, sizes: Ints, axis: int = 0) -> Result:
    """Parts of the given sizes along an axis, or a number of equal parts; several outputs."""
    return apply_several(sizes, "split", (x,), {"sizes": sizes, "axis": axis}, {"axis": 0})


@like_of_one
def sqrt(x: Operand) -> Result:
    """Square root; NaN below 0, gradient inf at 0."""
    return apply("sqrt", (x,))


@like_of_one
def square(x: Operand) -> Result:
    """x * x."""
    return apply("square", (x,))


@value_of_one
def squeeze(x: Operand, axes: Axes = None, *, axis: Axes | None = None) -> Result:
    """x without the given axes of length 1, by default all of them."""
    return apply("squeeze", (x,), {"axes": axes, "axis": axis}, {})


@of_many
def stack(*x: Operand, axis: int = 0) -> Result:
    """Arrays joined along a new axis."""
    return apply("stack", spread(x), {"axis": axis}, {"axis": 0})


@value_of_one
def std(
    x: Operand, axes: Axes = None, keepdims: bool = False, correction: int = 0, *, axis: Axes | None = None
) -> Result:
    """Square root of the variance. Where it is 0 the gradient is 0 and second derivatives are NaN."""
    return apply(
        "std",
        (x,),
        {"axes": axes, "keepdims": keepdims, "correction": correction, "axis": axis},
        {"keepdims": False, "correction": 0},
    )


@like_of_one
def stop_gradient(x: Operand) -> Result:
    """The value itself, with no gradient through it."""
    return apply("stop_gradient", (x,))


@like_of_two
def sub(x1: Operand, x2: Operand) -> Result:
    """Difference of two values."""
    return apply("sub", (x1, x2))


@value_of_one
def sum(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Sum over axes; 0 if there are no elements."""
    return apply("sum", (x,), {"axes": axes, "keepdims": keepdims, "axis": axis}, {"keepdims": False})


@value_of_one
def sum_to(x: Operand, shape: Ints) -> Result:
    """Sum over the axes that broadcasting from `shape` would repeat."""
    return apply("sum_to", (x,), {"shape": shape}, {})


@value_of_two
def take(x: Operand, indices: Operand, axis: int | None = None) -> Result:
    """Elements at integer indices along an axis, by default of the flattened array."""
    return apply("take", (x, indices), {"axis": axis}, {})


@like_of_one
def tan(x: Operand) -> Result:
    """Tangent of x in radians."""
    return apply("tan", (x,))


@like_of_one
def tanh(x: Operand) -> Result:
    """Hyperbolic tangent."""
    return apply("tanh", (x,))


@like_of_one
def tanh_slope(x: Operand) -> Result:
    """The derivative of tanh: 1 - tanh(x)**2, exact where it is small."""
    return apply("tanh_slope", (x,))


@value_of_two
def tensordot(x1: Operand, x2: Operand, axes: Contraction = 2) -> Result:
    """Sum of products over the last `axes` axes of x1 and the first of x2, or over two lists of axes."""
    return apply("tensordot", (x1, x2), {"axes": axes}, {"axes": 2})


@array_of_one
def tile(x: Operand, reps: Ints) -> Result:
    """The whole array repeated along each axis."""
    return apply("tile", (x,), {"reps": reps}, {})


@value_of_one
def trace(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Result:
    """Sum of a diagonal of two axes."""
    return apply(
        "trace", (x,), {"offset": offset, "axis1": axis1, "axis2": axis2}, {"offset": 0, "axis1": 0, "axis2": 1}
    )


@like_of_one
def transpose(x: Operand, axes: Axes = None, *, axis: Axes | None = None) -> Result:
    """Axes in another order, by default reversed."""
    return apply("transpose", (x,), {"axes": axes, "axis": axis}, {})


@array_of_one
def tril(x: Operand, k: int = 0) -> Result:
    """Lower triangle of the last two axes: zeros above the k-th diagonal."""
    return apply("tril", (x,), {"k": k}, {"k": 0})


@array_of_one
def triu(x: Operand, k: int = 0) -> Result:
    """Upper triangle of the last two axes: zeros below the k-th diagonal."""
    return apply("triu", (x,), {"k": k}, {"k": 0})


@like_of_one
def trunc(x: Operand) -> Result:
    """x rounded towards 0, as a float."""
    return apply("trunc", (x,))


@array_of_one
def unsqueeze(x: Operand, axes: Axes = None, *, axis: Axes | None = None) -> Result:
    """x with new axes of length 1 at the given places of the result."""
    return apply("unsqueeze", (x,), {"axes": axes, "axis": axis}, {})


@value_of_one
def variance(
    x: Operand, axes: Axes = None, keepdims: bool = False, correction: int = 0, *, axis: Axes | None = None
) -> Result:
    """Mean squared deviation from the mean; divided by n - correction."""
    return apply(
        "variance",
        (x,),
        {"axes": axes, "keepdims": keepdims, "correction": correction, "axis": axis},
        {"keepdims": False, "correction": 0},
    )


@like_of_three
def where(condition: Operand, x: Operand, y: Operand) -> Result:
    """x where the condition is not 0, otherwise y. Both are computed; the one not taken never contributes to a derivative, whatever its value."""
    return apply("where", (condition, x, y))


@like_of_one
def zero_or_nan(x: Operand) -> Result:
    """0, or NaN where x is NaN: the derivative along an operand that was not chosen."""
    return apply("zero_or_nan", (x,))


@like_of_one
def zeros_like(x: Operand) -> Result:
    """Zeros of the shape and dtype of x."""
    return apply("zeros_like", (x,))


absolute = abs


arccos = acos


arccosh = acosh


arcsin = asin


arcsinh = asinh


arctan = atan


arctan2 = atan2


arctanh = atanh


concatenate = concat


divide = div


transpose_matmul = matrix_transpose


multiply = mul


negative = neg


power = pow


subtract = sub


permute_dims = transpose


var = variance


fill(
    {
        "abs": abs,
        "absolute": absolute,
        "accuracy": accuracy,
        "acos": acos,
        "acosh": acosh,
        "add": add,
        "all": all,
        "any": any,
        "arccos": arccos,
        "arccosh": arccosh,
        "arcsin": arcsin,
        "arcsinh": arcsinh,
        "arctan": arctan,
        "arctan2": arctan2,
        "arctanh": arctanh,
        "argmax": argmax,
        "argmin": argmin,
        "asin": asin,
        "asinh": asinh,
        "asinh_slope": asinh_slope,
        "astype": astype,
        "atan": atan,
        "atan2": atan2,
        "atan_slope": atan_slope,
        "atanh": atanh,
        "broadcast_to": broadcast_to,
        "ceil": ceil,
        "cholesky": cholesky,
        "clip": clip,
        "cofactor": cofactor,
        "cofactor_slope": cofactor_slope,
        "concat": concat,
        "concatenate": concatenate,
        "cos": cos,
        "cosh": cosh,
        "cross_entropy": cross_entropy,
        "cross_entropy_slope": cross_entropy_slope,
        "cumsum": cumsum,
        "cumulative_sum": cumulative_sum,
        "det": det,
        "det_sign": det_sign,
        "diagonal": diagonal,
        "digamma": digamma,
        "div": div,
        "divide": divide,
        "dropout": dropout,
        "dropout_mask": dropout_mask,
        "einsum": einsum,
        "equal": equal,
        "erf": erf,
        "erfc": erfc,
        "euclidean_norm": euclidean_norm,
        "exp": exp,
        "exp2": exp2,
        "expand_dims": expand_dims,
        "expm1": expm1,
        "flip": flip,
        "floor": floor,
        "floor_divide": floor_divide,
        "full_like": full_like,
        "gammaln": gammaln,
        "gaussian": gaussian,
        "gelu": gelu,
        "get_item": get_item,
        "greater": greater,
        "greater_equal": greater_equal,
        "hypot": hypot,
        "hypot_slope": hypot_slope,
        "inv": inv,
        "isclose": isclose,
        "isfinite": isfinite,
        "isinf": isinf,
        "isnan": isnan,
        "less": less,
        "less_equal": less_equal,
        "linear": linear,
        "log": log,
        "log10": log10,
        "log1p": log1p,
        "log2": log2,
        "log_abs_det": log_abs_det,
        "log_softmax": log_softmax,
        "logaddexp": logaddexp,
        "logical_and": logical_and,
        "logical_not": logical_not,
        "logical_or": logical_or,
        "logical_xor": logical_xor,
        "logsumexp": logsumexp,
        "mask_fill": mask_fill,
        "matmul": matmul,
        "matrix_transpose": matrix_transpose,
        "max": max,
        "maximum": maximum,
        "mean": mean,
        "mean_squared_error": mean_squared_error,
        "min": min,
        "minimum": minimum,
        "mul": mul,
        "multiply": multiply,
        "neg": neg,
        "negative": negative,
        "norm": norm,
        "not_equal": not_equal,
        "one_hot": one_hot,
        "one_minus_square": one_minus_square,
        "ones_like": ones_like,
        "outer": outer,
        "permute_dims": permute_dims,
        "polygamma": polygamma,
        "pow": pow,
        "power": power,
        "prod": prod,
        "relu": relu,
        "remainder": remainder,
        "repeat": repeat,
        "reshape": reshape,
        "roll": roll,
        "round": round,
        "scatter_add": scatter_add,
        "sigmoid": sigmoid,
        "sigmoid_slope": sigmoid_slope,
        "sign": sign,
        "sin": sin,
        "sinh": sinh,
        "slice": slice,
        "slice_add": slice_add,
        "slogdet": slogdet,
        "softmax": softmax,
        "softplus": softplus,
        "solve": solve,
        "split": split,
        "sqrt": sqrt,
        "square": square,
        "squeeze": squeeze,
        "stack": stack,
        "std": std,
        "stop_gradient": stop_gradient,
        "sub": sub,
        "subtract": subtract,
        "sum": sum,
        "sum_to": sum_to,
        "take": take,
        "tan": tan,
        "tanh": tanh,
        "tanh_slope": tanh_slope,
        "tensordot": tensordot,
        "tile": tile,
        "trace": trace,
        "transpose": transpose,
        "transpose_matmul": transpose_matmul,
        "tril": tril,
        "triu": triu,
        "trunc": trunc,
        "unsqueeze": unsqueeze,
        "var": var,
        "variance": variance,
        "where": where,
        "zero_or_nan": zero_or_nan,
        "zeros_like": zeros_like,
    },
    {
        "abs",
        "absolute",
        "acos",
        "acosh",
        "arccos",
        "arccosh",
        "arcsin",
        "arcsinh",
        "arctan",
        "arctanh",
        "asin",
        "asinh",
        "asinh_slope",
        "atan",
        "atan_slope",
        "atanh",
        "cos",
        "cosh",
        "digamma",
        "erf",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "gammaln",
        "gaussian",
        "gelu",
        "log",
        "log10",
        "log1p",
        "log2",
        "neg",
        "negative",
        "one_minus_square",
        "relu",
        "sigmoid",
        "sigmoid_slope",
        "sin",
        "sinh",
        "softplus",
        "sqrt",
        "square",
        "tan",
        "tanh",
        "tanh_slope",
    },
)
