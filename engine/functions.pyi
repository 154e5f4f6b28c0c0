"""Types of the functions `F.*`, which `functions.py` takes from the table of operations.

Written from the table by `make mirror`: do not edit.
"""

from typing import Any

from numpy.typing import DTypeLike

from engine.core.signatures import (
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
from engine.random import Rng

Axes = int | list[int] | tuple[int, ...] | None
Ints = int | list[int] | tuple[int, ...]
Contraction = int | tuple[Any, Any] | list[Any]
#: The decorators say which operands a function takes, and what it returns.
Operand = Any
Result = Any

@like_of_one
def abs(x: Operand) -> Result:
    """Absolute value. At 0 the gradient and second derivatives are 0; those of abs(x)**p are right for numbers p >= 2."""

@value_of_two
def accuracy(x: Operand, t: Operand) -> Result:
    """Share of rows whose largest score is at the label; it has no derivative."""

@like_of_one
def acos(x: Operand) -> Result:
    """Inverse cosine, in radians; NaN outside [-1, 1]."""

@like_of_one
def acosh(x: Operand) -> Result:
    """Inverse hyperbolic cosine; NaN below 1."""

@like_of_two
def add(x1: Operand, x2: Operand) -> Result:
    """Sum of two values."""

@array_of_one
def all(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """True if no element over axes is 0."""

@array_of_one
def any(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """True if an element over axes is not 0."""

@array_of_one
def argmax(x: Operand, axis: int | None = None, keepdims: bool = False, *, axes: int | None = None) -> Result:
    """Index of the first largest element along an axis, by default of the flattened array."""

@array_of_one
def argmin(x: Operand, axis: int | None = None, keepdims: bool = False, *, axes: int | None = None) -> Result:
    """Index of the first smallest element along an axis, by default of the flattened array."""

@like_of_one
def asin(x: Operand) -> Result:
    """Inverse sine, in radians; NaN outside [-1, 1]."""

@like_of_one
def asinh(x: Operand) -> Result:
    """Inverse hyperbolic sine."""

@like_of_one
def asinh_slope(x: Operand) -> Result:
    """The derivative of asinh: 1 / sqrt(1 + x * x), without overflow."""

@value_of_one
def astype(x: Operand, dtype: DTypeLike) -> Result:
    """The value in another dtype."""

@like_of_one
def atan(x: Operand) -> Result:
    """Inverse tangent, in radians."""

@like_of_two
def atan2(x1: Operand, x2: Operand) -> Result:
    """The angle of the point (x2, x1), in radians; gradient NaN at the origin."""

@like_of_one
def atan_slope(x: Operand) -> Result:
    """The derivative of atan: 1 / (1 + x * x)."""

@like_of_one
def atanh(x: Operand) -> Result:
    """Inverse hyperbolic tangent; NaN outside [-1, 1]."""

@value_of_one
def broadcast_to(x: Operand, shape: Ints) -> Result:
    """x repeated along new axes and axes of length 1, to another shape."""

@like_of_one
def ceil(x: Operand) -> Result:
    """Smallest integer not below x, as a float."""

@array_of_one
def cholesky(x: Operand, upper: bool = False) -> Result:
    """Lower triangle L with L @ L.T = (x + x.T) / 2, or its transpose; NaN for a matrix that is not positive definite."""

@like_of_one
def clip(x: Operand, min: float | None = None, max: float | None = None) -> Result:
    """x limited to [min, max]; the gradient is 1 inside, 0 outside and at a bound."""

@array_of_one
def cofactor(x: Operand) -> Result:
    """Cofactors of the matrices of the last two axes: the gradient of det, exact also where det is 0."""

@array_of_two
def cofactor_slope(g: Operand, x: Operand) -> Result:
    """Gradient of sum(g * cofactor(x)) with respect to x: the second derivatives of det, along g. Its own gradient divides by the determinant."""

@of_many
def concat(*x: Operand, axis: int = 0) -> Result:
    """Arrays joined along an existing axis."""

@like_of_one
def cos(x: Operand) -> Result:
    """Cosine of x in radians."""

@like_of_one
def cosh(x: Operand) -> Result:
    """Hyperbolic cosine."""

@value_of_two
def cross_entropy(x: Operand, t: Operand, ignore_index: int = -100) -> Result:
    """Mean of -log softmax(x) at the labels t, without those equal to ignore_index; 0 if all are."""

@array_of_two
def cross_entropy_slope(x: Operand, t: Operand, ignore_index: int = -100) -> Result:
    """Gradient of cross_entropy: (softmax(x) - one_hot(t)) / n, 0 for ignored labels; n is the number of others."""

@array_of_one
def cumsum(x: Operand, axis: int | None = None) -> Result:
    """Running sum along an axis, by default of the flattened array."""

@array_of_one
def cumulative_sum(x: Operand, axis: int = 0) -> Result:
    """Running sum along an axis."""

@value_of_one
def det(x: Operand) -> Result:
    """Determinant of the matrices of the last two axes; its gradient is exact also where it is 0."""

@value_of_one
def det_sign(x: Operand) -> Result:
    """Sign of the determinant, -1, 0 or 1, of the matrices of the last two axes."""

@array_of_one
def diagonal(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Result:
    """Diagonal of two axes, as the last axis of the result."""

@like_of_one
def digamma(x: Operand) -> Result:
    """The derivative of gammaln; -inf at 0, NaN at -1, -2, ..."""

@like_of_two
def div(x1: Operand, x2: Operand) -> Result:
    """Quotient of two values; x / 0 is inf or nan."""

@like_of_one
def dropout(x: Operand, ratio: float = 0.5, *, rng: Rng | None = None) -> Result:
    """In training, elements set to 0 with probability `ratio`, others scaled by 1 / (1 - ratio); in test mode, x.

    rng: a seed or a generator, which is required in training.
    """

@like_of_one
def dropout_mask(x: Operand, ratio: float = 0.5, *, rng: Rng | None = None) -> Result:
    """In training, 0 with probability `ratio`, otherwise 1 / (1 - ratio), in the shape of x; in test mode, ones.

    rng: a seed or a generator, which is required in training.
    """

@of_subscripts
def einsum(subscripts: str, *x: Operand) -> Result:
    """Sums of products over named axes, as in NumPy: `einsum("ij,jk->ik", a, b)`."""

@array_of_two
def equal(x1: Operand, x2: Operand) -> Result:
    """x1 == x2."""

@like_of_one
def erf(x: Operand) -> Result:
    """The error function (Abramowitz and Stegun 7.1.1)."""

@like_of_one
def erfc(x: Operand) -> Result:
    """1 - erf(x), exact for large x."""

@value_of_one
def euclidean_norm(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Square root of the sum of squares over axes, without overflow. Where it is 0 the gradient is 0 and second derivatives are NaN; those of its powers with a number p >= 2 are right."""

@like_of_one
def exp(x: Operand) -> Result:
    """e to the power x."""

@like_of_one
def exp2(x: Operand) -> Result:
    """2 to the power x."""

@array_of_one
def expand_dims(x: Operand, axis: Axes = 0, *, axes: Axes | None = None) -> Result:
    """x with a new axis of length 1."""

@like_of_one
def expm1(x: Operand) -> Result:
    """exp(x) - 1, exact near 0."""

@like_of_one
def flip(x: Operand, axes: Axes = None, *, axis: Axes | None = None) -> Result:
    """Elements in reverse order along axes, by default all."""

@like_of_one
def floor(x: Operand) -> Result:
    """Largest integer not above x, as a float."""

@like_of_two
def floor_divide(x1: Operand, x2: Operand) -> Result:
    """The quotient, rounded down."""

@like_of_one
def full_like(x: Operand, value: float) -> Result:
    """`value` in the shape and dtype of x."""

@like_of_one
def gammaln(x: Operand) -> Result:
    """log(abs(gamma(x))); inf at 0, -1, -2, ..., -inf and, as in SciPy, at subnormal numbers."""

@like_of_one
def gaussian(x: Operand) -> Result:
    """exp(-x * x)."""

@like_of_one
def gelu(x: Operand) -> Result:
    """Gaussian error linear unit, tanh form (Hendrycks and Gimpel, arXiv:1606.08415)."""

@value_of_one
def get_item(x: Operand, axis: int, indices: Any) -> Result:
    """Elements at fixed integer indices along an axis."""

@like_of_two
def grad(y: Operand, x: Operand) -> Result:
    """Gradient of y, which has one element, with respect to x; zeros if y does not depend on x."""

@array_of_two
def greater(x1: Operand, x2: Operand) -> Result:
    """x1 > x2."""

@array_of_two
def greater_equal(x1: Operand, x2: Operand) -> Result:
    """x1 >= x2."""

@like_of_two
def hypot(x1: Operand, x2: Operand) -> Result:
    """sqrt(x1**2 + x2**2) without overflow. Where it is 0 the gradient is 0, second derivatives are NaN; those of hypot(x1, x2)**p are right for a number p >= 2."""

@like_of_two
def hypot_slope(x1: Operand, x2: Operand) -> Result:
    """The derivative of hypot by x1: x1 / hypot(x1, x2), and 0 where that is 0; its own derivatives are NaN there."""

@array_of_one
def inv(x: Operand) -> Result:
    """Inverse of the matrices of the last two axes; NaN for a singular one."""

@array_of_two
def isclose(x1: Operand, x2: Operand, rtol: float = 1e-05, atol: float = 1e-08) -> Result:
    """|x1 - x2| <= atol + rtol |x2|."""

@array_of_one
def isfinite(x: Operand) -> Result:
    """x is neither infinite nor NaN."""

@array_of_one
def isinf(x: Operand) -> Result:
    """x is infinite."""

@array_of_one
def isnan(x: Operand) -> Result:
    """x is not a number."""

@array_of_two
def less(x1: Operand, x2: Operand) -> Result:
    """x1 < x2."""

@array_of_two
def less_equal(x1: Operand, x2: Operand) -> Result:
    """x1 <= x2."""

@value_of_two_or_three
def linear(x: Operand, w: Operand, b: Operand = None) -> Result:
    """x @ w + b: a layer of weights and biases."""

@like_of_one
def log(x: Operand) -> Result:
    """Natural logarithm."""

@like_of_one
def log10(x: Operand) -> Result:
    """Logarithm to base 10."""

@like_of_one
def log1p(x: Operand) -> Result:
    """log(1 + x), exact near 0."""

@like_of_one
def log2(x: Operand) -> Result:
    """Logarithm to base 2."""

@value_of_one
def log_abs_det(x: Operand) -> Result:
    """log(abs(det(x))) without overflow; -inf, with gradient NaN, where a matrix is singular."""

@array_of_one
def log_softmax(x: Operand, axis: int = -1) -> Result:
    """x - logsumexp(x) along an axis, accurate also where softmax is nearly 1."""

@like_of_two
def logaddexp(x1: Operand, x2: Operand) -> Result:
    """log(exp(x1) + exp(x2)) without overflow; gradient 0 where both are -inf, NaN where both are inf."""

@array_of_two
def logical_and(x1: Operand, x2: Operand) -> Result:
    """Both are not 0."""

@array_of_one
def logical_not(x: Operand) -> Result:
    """x is 0."""

@array_of_two
def logical_or(x1: Operand, x2: Operand) -> Result:
    """At least one is not 0."""

@array_of_two
def logical_xor(x1: Operand, x2: Operand) -> Result:
    """Exactly one is not 0."""

@value_of_one
def logsumexp(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """log(sum(exp(x))) over axes, without overflow. Where a probability exp(x) / sum(exp(x)) is nearly 1, second derivatives are accurate only to rounding at 1; those of log_softmax are more accurate."""

@like_of_two
def mask_fill(x: Operand, mask: Operand, value: float) -> Result:
    """x, with `value` where the mask is 0."""

@value_of_two
def matmul(x1: Operand, x2: Operand) -> Result:
    """Matrix product, batched over leading axes; a vector is a row on the left and a column on the right."""

@array_of_one
def matrix_transpose(x: Operand) -> Result:
    """Last two axes swapped."""

@value_of_one
def max(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Largest element over axes; NaN if one is NaN. Ties share the gradient evenly."""

@like_of_two
def maximum(x1: Operand, x2: Operand) -> Result:
    """Larger of two values; NaN if one is NaN. A tie gives half the gradient to each."""

@value_of_one
def mean(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Mean over axes; NaN if there are no elements."""

@value_of_two
def mean_squared_error(x: Operand, t: Operand) -> Result:
    """Mean of squared differences over all elements."""

@value_of_one
def min(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Smallest element over axes; NaN if one is NaN. Ties share the gradient evenly."""

@like_of_two
def minimum(x1: Operand, x2: Operand) -> Result:
    """Smaller of two values; NaN if one is NaN. A tie gives half the gradient to each."""

@like_of_two
def mul(x1: Operand, x2: Operand) -> Result:
    """Product of two values, element by element."""

@like_of_one
def neg(x: Operand) -> Result:
    """-x."""

@value_of_one
def norm(
    x: Operand, ord: float | str | None = None, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None
) -> Result:
    """Euclidean norm over axes, by default all; ord 1, 2 or inf along one axis. Where it is 0 the gradient is 0 and second derivatives are NaN; those of norm(x)**p are right for a number p >= 2. Where one element is nearly the whole norm, the second derivative along it is accurate only to rounding at 1."""

@array_of_two
def not_equal(x1: Operand, x2: Operand) -> Result:
    """x1 != x2."""

@array_of_one
def one_hot(labels: Operand, classes: int, ignore_index: int = -100) -> Result:
    """Mask with a last axis of classes, true at the label; all false for ignore_index."""

@like_of_one
def one_minus_square(x: Operand) -> Result:
    """1 - x * x, exact near 1 and -1."""

@like_of_one
def ones_like(x: Operand) -> Result:
    """Ones of the shape and dtype of x."""

@array_of_two
def outer(x1: Operand, x2: Operand) -> Result:
    """Products of all elements of x1 with all of x2."""

@like_of_one
def polygamma(x: Operand, n: int) -> Result:
    """The n-th derivative of digamma."""

@like_of_two
def pow(x1: Operand, x2: Operand) -> Result:
    """x1 to the power x2. x**0 is 1 with gradient 0, also at 0; 0**x2 has gradient 0 with respect to x2 >= 0."""

@value_of_one
def prod(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Product over axes; 1 if there are no elements. The gradient is exact where factors are 0."""

@like_of_one
def relu(x: Operand) -> Result:
    """max(x, 0); gradient 0 at 0."""

@like_of_two
def remainder(x1: Operand, x2: Operand) -> Result:
    """The remainder of the quotient rounded down, with the sign of the divisor, as Python's %."""

@array_of_one
def repeat(x: Operand, repeats: int, axis: int | None = None) -> Result:
    """Each element repeated `repeats` times along an axis, by default of the flattened array."""

@value_of_one
def reshape(x: Operand, shape: Ints) -> Result:
    """Elements in row-major order in another shape; one length may be -1."""

@like_of_one
def roll(x: Operand, shift: Ints, axes: Axes = None, *, axis: Axes | None = None) -> Result:
    """Elements shifted cyclically along axes, by default of the flattened array."""

@like_of_one
def round(x: Operand) -> Result:
    """Nearest integer, halves to even, as a float."""

@array_of_three
def scatter_add(x: Operand, indices: Operand, updates: Operand, axis: int | None = None) -> Result:
    """x with `updates` added at integer places along an axis; a place named twice gets both."""

@like_of_one
def sigmoid(x: Operand) -> Result:
    """1 / (1 + exp(-x)), without overflow."""

@like_of_one
def sigmoid_slope(x: Operand) -> Result:
    """The derivative of sigmoid: sigmoid(x) * sigmoid(-x), exact where it is small."""

@like_of_one
def sign(x: Operand) -> Result:
    """Sign of x: -1, 0 or 1; NaN if x is NaN."""

@like_of_one
def sin(x: Operand) -> Result:
    """Sine of x in radians."""

@like_of_one
def sinh(x: Operand) -> Result:
    """Hyperbolic sine."""

@value_of_one
def slice(x: Operand, index: Any) -> Result:
    """x[index]: integers, slices, new axes, an ellipsis and lists of integers, as in NumPy."""

@array_of_two
def slice_add(x: Operand, updates: Operand, index: Any) -> Result:
    """x with `updates` added at an index; updates of a repeated place accumulate."""

@several_of_one
def slogdet(x: Operand) -> Result:
    """Sign and logarithm of the absolute value of the determinant, without overflow; two outputs."""

@array_of_one
def softmax(x: Operand, axis: int = -1) -> Result:
    """exp(x) / sum(exp(x)) along an axis, without overflow."""

@like_of_one
def softplus(x: Operand) -> Result:
    """log(1 + exp(x)), without overflow."""

@array_of_two
def solve(a: Operand, b: Operand) -> Result:
    """x with a @ x = b, batched over leading axes; b is a vector only if it has one axis. NaN if a is singular."""

@several_of_one
def split(x: Operand, sizes: Ints, axis: int = 0) -> Result:
    """Parts of the given sizes along an axis, or a number of equal parts; several outputs."""

@like_of_one
def sqrt(x: Operand) -> Result:
    """Square root; NaN below 0, gradient inf at 0."""

@like_of_one
def square(x: Operand) -> Result:
    """x * x."""

@value_of_one
def squeeze(x: Operand, axes: Axes = None, *, axis: Axes | None = None) -> Result:
    """x without the given axes of length 1, by default all of them."""

@of_many
def stack(*x: Operand, axis: int = 0) -> Result:
    """Arrays joined along a new axis."""

@value_of_one
def std(
    x: Operand, axes: Axes = None, keepdims: bool = False, correction: int = 0, *, axis: Axes | None = None
) -> Result:
    """Square root of the variance. Where it is 0 the gradient is 0 and second derivatives are NaN."""

@like_of_one
def stop_gradient(x: Operand) -> Result:
    """The value itself, with no gradient through it."""

@like_of_two
def sub(x1: Operand, x2: Operand) -> Result:
    """Difference of two values."""

@value_of_one
def sum(x: Operand, axes: Axes = None, keepdims: bool = False, *, axis: Axes | None = None) -> Result:
    """Sum over axes; 0 if there are no elements."""

@value_of_one
def sum_to(x: Operand, shape: Ints) -> Result:
    """Sum over the axes that broadcasting from `shape` would repeat."""

@value_of_two
def take(x: Operand, indices: Operand, axis: int | None = None) -> Result:
    """Elements at integer indices along an axis, by default of the flattened array."""

@like_of_one
def tan(x: Operand) -> Result:
    """Tangent of x in radians."""

@like_of_one
def tanh(x: Operand) -> Result:
    """Hyperbolic tangent."""

@like_of_one
def tanh_slope(x: Operand) -> Result:
    """The derivative of tanh: 1 - tanh(x)**2, exact where it is small."""

@value_of_two
def tensordot(x1: Operand, x2: Operand, axes: Contraction = 2) -> Result:
    """Sum of products over the last `axes` axes of x1 and the first of x2, or over two lists of axes."""

@array_of_one
def tile(x: Operand, reps: Ints) -> Result:
    """The whole array repeated along each axis."""

@value_of_one
def trace(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Result:
    """Sum of a diagonal of two axes."""

@like_of_one
def transpose(x: Operand, axes: Axes = None, *, axis: Axes | None = None) -> Result:
    """Axes in another order, by default reversed."""

@array_of_one
def tril(x: Operand, k: int = 0) -> Result:
    """Lower triangle of the last two axes: zeros above the k-th diagonal."""

@array_of_one
def triu(x: Operand, k: int = 0) -> Result:
    """Upper triangle of the last two axes: zeros below the k-th diagonal."""

@like_of_one
def trunc(x: Operand) -> Result:
    """x rounded towards 0, as a float."""

@array_of_one
def unsqueeze(x: Operand, axes: Axes = None, *, axis: Axes | None = None) -> Result:
    """x with new axes of length 1 at the given places of the result."""

@value_of_one
def variance(
    x: Operand, axes: Axes = None, keepdims: bool = False, correction: int = 0, *, axis: Axes | None = None
) -> Result:
    """Mean squared deviation from the mean; divided by n - correction."""

@like_of_three
def where(condition: Operand, x: Operand, y: Operand) -> Result:
    """x where the condition is not 0, otherwise y. Both are computed; the one not taken never contributes to a derivative, whatever its value."""

@like_of_one
def zero_or_nan(x: Operand) -> Result:
    """0, or NaN where x is NaN: the derivative along an operand that was not chosen."""

@like_of_one
def zeros_like(x: Operand) -> Result:
    """Zeros of the shape and dtype of x."""

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
