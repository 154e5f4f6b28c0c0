"""Central differences, and a check of the tape's gradients against them up to second order.

The difference of two rounded values has a rounding error. If it is larger than a hundredth of the derivative, the
difference confirms nothing: the check lists the element as uncertain and is not ok. A derivative of 0 whose difference
is 0 too counts as confirmed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import BadAttributeError
from ..core.trees import Function
from ..core.values import FLOAT64, Array, Value, as_raw, dtype_of
from ..core.variable import Variable

Outputs = Callable[[list[Value]], list[Value]]

#: The largest ratio of the rounding error of a difference to the derivative that it confirms.
_CONFIRMING = 0.01
_EPS = float(np.finfo(FLOAT64).eps)
#: Relative moves of the inputs, to tell a small derivative from a rounding error.
_MOVES = (1e-6, -1.7e-6, 2.3e-6, -3.1e-6, 4.9e-6)


def diff(f: Function, xs: Sequence[object], h: float = 1e-4) -> Variable:
    """Central difference of `f(*xs)` with all inputs moved together: the sum of its partial derivatives, elementwise.

    f: a function with a variable for each value in `xs`. h: the step. Returns a variable of the shape of `f(*xs)`.
    Source: Saito, Deep Learning from Scratch 3 (2020), step 4.

    >>> print(round(diff(lambda x: x * x * x, [2.0]).item(), 6))
    12.0
    """
    low, high = (f(*(Variable(as_raw(x) + step) for x in xs)) for step in (-h, h))
    return Variable((as_raw(high) - as_raw(low)) / (2 * h))


def gradient(f: Function, *xs: object, eps: float = 1e-6) -> list[Value]:
    """Central differences of the sum of `f(*xs)`, element by element.

    xs: numbers, arrays or variables; integers and booleans are passed to `f` as they are and not moved.
    eps: the step; for elements above 1 it is relative to their magnitude.
    Returns for each floating x a value of its shape: the gradient that `backward()` of `f(*xs)` computes.

    >>> [dx, dy] = gradient(lambda x, y: x * y, np.array([1.0, 2.0]), 3.0)
    >>> print(np.round(dx, 6), round(dy, 6))
    [3. 3.] 3.0
    """
    args = _Arguments(xs)
    return central(lambda values: _raws(args.call(f, args.variables(values))), None, args.values, eps).slopes


@dataclass(frozen=True, slots=True)
class Difference:
    """Element of a gradient with the largest error against its central difference.

    order: of the derivative.
    input: the name of the variable, or its position, or `cotangent 0` for a cotangent of an output.
    index: of the element in the input.
    analytic, numeric: the derivative and its central difference.
    """

    order: int
    input: str
    index: tuple[int, ...]
    analytic: float
    numeric: float

    def __str__(self) -> str:
        place = _place(self.order, self.input, self.index)
        return f"{place}: analytic {self.analytic!r}, numeric {self.numeric!r}"


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Derivative that its central difference can neither confirm nor refute; further fields as of `Difference`.

    rounding: bound on the error of the difference that comes from rounding the values of the function.
    """

    order: int
    input: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    rounding: float

    def __str__(self) -> str:
        place = _place(self.order, self.input, self.index)
        return f"{place}: analytic {self.analytic!r}, numeric {self.numeric!r} within {self.rounding:.3g}"


def _place(order: int, name: str, index: tuple[int, ...]) -> str:
    return f"order {order}, input {name}" + (f"[{', '.join(map(str, index))}]" if index else "")


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """Result of `check_gradients`.

    ok: whether all gradients agree with their differences, and are confirmed by them.
    max_error: the largest error, relative to max(1, magnitude).
    worst: the element with this error; None if there was nothing to compare.
    uncertain: gradients within the tolerance whose differences cancel, and so confirm nothing.
    differs: whether a gradient is outside the tolerance.
    """

    ok: bool
    max_error: float
    worst: Difference | None
    uncertain: tuple[Uncertain, ...] = ()
    differs: bool = False

    def __str__(self) -> str:
        found = "ok" if self.ok else "gradients differ" if self.differs else "differences cancel"
        unsure = f"; uncertain in {len(self.uncertain)} places: {self.uncertain[0]}" if self.uncertain else ""
        return f"{found}: error {self.max_error:.3g}; worst: {self.worst}{unsure}"


def check_gradients(
    f: Function, *xs: object, order: int = 2, eps: float = 1e-6, rtol: float = 1e-6, atol: float = 1e-6, seed: int = 0
) -> GradientCheck:
    """Compare the gradients of `f(*xs)` on the tape with central differences.

    The check is not ok if a gradient differs, or if differences cancel and confirm nothing; `uncertain` lists these.

    The outputs are weighted with random cotangents, so that errors cannot cancel in a sum. To second order the gradient
    itself is weighted and differentiated with respect to the inputs and the cotangents.

    f: takes the values as variables (integers and booleans as they are), returns a variable or several (other values
        count as constants).
    xs: numbers, lists, arrays or variables; floating ones are differentiated with respect to, in float64.
    order: 1 or 2.
    eps: the step; for elements above 1 it is relative to their magnitude.
    rtol, atol: a gradient agrees if |analytic - numeric| <= max(atol, rtol * max(|analytic|, |numeric|)).
    seed: of the random weights.

    >>> check_gradients(lambda x: x * x, 3.0).ok
    True

    Raises:
        BadAttributeError: the order is neither 1 nor 2.
        InvalidValueError: an argument, or a result of `f`, is not a number or array.
    """
    if order not in (1, 2):
        raise BadAttributeError(f"check_gradients: order is {order!r}; expected 1 or 2")
    args = _Arguments(xs)
    rng = np.random.default_rng(seed)
    found = Comparison(rtol, atol)
    values = args.values
    ys = _raws(args.call(f, args.variables(values)))
    cotangents = [random_weights(rng, y) for y in ys]
    numeric = central(lambda vs: _raws(args.call(f, args.variables(vs))), cotangents, values, eps)

    def first_order(moved: list[Value]) -> list[Value]:
        xs, cs = moved[: len(values)], moved[len(values) :]
        return _gradients(args.variables(xs), lambda variables: args.call(f, variables), cs)

    found.add(1, args.names, lambda xs: first_order(xs + cotangents), values, numeric)
    if order == 1:
        return found.result()
    weights = [random_weights(rng, x) for x in values]

    def both_orders(moved: list[Value]) -> tuple[list[Value], list[Value]]:
        variables = args.variables(moved[: len(values)])
        seeds = [Variable(c) for c in moved[len(values) :]]
        for y, c in zip(args.call(f, variables), seeds, strict=True):
            y.backward(create_graph=True, cotangent=c)
        taped = [x.grad for x in variables]
        inputs = variables + seeds
        for x in inputs:
            x.cleargrad()
        for g, w in zip(taped, weights, strict=True):
            if g is not None:
                g.backward(cotangent=w)
        second = [_value(x.grad, v) for x, v in zip(inputs, moved, strict=True)]
        for x in inputs:
            x.cleargrad()
        return [_value(g, x) for g, x in zip(taped, values, strict=True)], second

    found.add(1, args.names, lambda xs: both_orders(xs + cotangents)[0], values, numeric)
    names = args.names + [f"cotangent {k}" for k in range(len(cotangents))]
    moved = values + cotangents
    found.add(2, names, lambda moved: both_orders(moved)[1], moved, central(first_order, weights, moved, eps))
    return found.result()


class _Arguments:
    """Arguments of a function, with the values and names of the floating ones, to differentiate with respect to."""

    def __init__(self, xs: Sequence[object]) -> None:
        self._xs = list(xs)
        self._places: list[int] = []
        self.values: list[Value] = []
        self.names: list[str] = []
        for k, x in enumerate(xs):
            if isinstance(x, bool | int):
                continue
            raw = as_raw(x)
            if dtype_of(raw).kind == "f":
                self._places.append(k)
                self.values.append(raw if type(raw) is float else raw.astype(FLOAT64))
                self.names.append(getattr(x, "name", None) or str(k))

    def variables(self, values: list[Value]) -> list[Variable]:
        return [Variable(value, name=name) for value, name in zip(values, self.names, strict=True)]

    def call(self, f: Function, variables: list[Variable]) -> list[Variable]:
        """Call `f`, with `variables` in place of the floating arguments; return its floating outputs."""
        args = list(self._xs)
        for k, x in zip(self._places, variables, strict=True):
            args[k] = x
        y = f(*args)
        ys = [y if isinstance(y, Variable) else Variable(y) for y in (y if isinstance(y, tuple | list) else [y])]
        return [y for y in ys if y.dtype.kind == "f"]


def _raws(ys: list[Variable]) -> list[Value]:
    return [y.data for y in ys]


def _value(g: Variable | None, x: Value) -> Value:
    """Return the value of a gradient, zeros in the shape of x if there is none."""
    return np.zeros(np.shape(x)) if g is None else g.data


def random_weights(rng: np.random.Generator, y: Value) -> Value:
    """Draw random weights in the shape of `y`: not near 0, and all different."""
    weights: Value = rng.uniform(0.5, 1.5, np.shape(y))
    return weights


def _gradients(
    variables: list[Variable], call: Callable[[list[Variable]], list[Variable]], cs: list[Value]
) -> list[Value]:
    for y, c in zip(call(variables), cs, strict=True):
        y.backward(cotangent=c)
    return [_value(x.grad, x.data) for x in variables]


@dataclass(frozen=True, slots=True)
class Differences:
    """Central differences.

    slopes: for each value, its differences, in its shape.
    rounding: bounds on their rounding errors, in the same shapes.
    """

    slopes: list[Value]
    rounding: list[Value]


def central(outputs: Outputs, weights: list[Value] | None, values: list[Value], eps: float) -> Differences:
    """Central differences of the weighted sum of all outputs, with respect to each element of each value.

    outputs: the function of `values`.
    weights: for each output, in its shape; None for ones.
    eps: the step; for elements above 1 it is relative to their magnitude.
    """
    found = Differences([], [])
    for k, value in enumerate(values):
        slopes = np.zeros(np.shape(value))
        rounding = np.zeros(np.shape(value))
        for index in np.ndindex(slopes.shape):
            x = float(np.asarray(value)[index])
            step = eps * max(1.0, abs(x))
            high, low = x + step, x - step
            ys, zs = (outputs([*values[:k], _moved(value, index, to), *values[k + 1 :]]) for to in (high, low))
            with np.errstate(all="ignore"):
                change = [np.subtract(y, z) for y, z in zip(ys, zs, strict=True)]
                sizes = [np.maximum(np.abs(y), np.abs(z)) for y, z in zip(ys, zs, strict=True)]
                if weights is not None:
                    change = [w * d for w, d in zip(weights, change, strict=True)]
                    sizes = [w * s for w, s in zip(weights, sizes, strict=True)]
                slopes[index] = sum(float(np.sum(d)) for d in change) / (high - low)
                rounding[index] = _EPS * sum(map(_rounded, change, sizes)) / (high - low)
        found.slopes.append(slopes if slopes.ndim else float(slopes))
        found.rounding.append(rounding if rounding.ndim else float(rounding))
    return found


def _rounded(change: Array, sizes: Array) -> float:
    """Return the sum of the magnitudes that rounding acts on: of all elements that changed, and the largest of others.

    Most elements that did not change do not depend on the moved input, and so have no rounding error.
    """
    has_changed = change != 0
    unchanged = np.max(sizes, initial=0.0, where=~has_changed)
    return float(np.sum(sizes, where=has_changed)) + float(unchanged)


def _moved(value: Value, index: tuple[int, ...], to: float) -> Value:
    array = np.array(value)
    array[index] = to
    return array


def _beside(x: Value, move: float) -> Value:
    return x + move * np.maximum(1.0, np.abs(x))


class Comparison:
    """Comparison of derivatives with differences: collects the largest error, and derivatives that are not confirmed.

    A derivative that is 0 except for rounding changes from point to point: it counts as 0 and needs no confirmation.
    One that stays much the same at nearby points does need it.
    """

    def __init__(self, rtol: float, atol: float) -> None:
        self._rtol, self._atol = rtol, atol
        self._ok = True
        self._max_error = 0.0
        self._worst: Difference | None = None
        self._uncertain: dict[tuple[int, str, tuple[int, ...]], Uncertain] = {}

    def add(
        self,
        order: int,
        names: list[str],
        derivatives: Callable[[list[Value]], list[Value]],
        at: list[Value],
        numeric: Differences,
    ) -> None:
        """Compare derivatives of an order at the values `at` with their central differences, value by value."""
        arrays = (map(np.asarray, values) for values in (derivatives(at), numeric.slopes, numeric.rounding))
        for k, (name, a, n, rounding) in enumerate(zip(names, *arrays, strict=True)):
            with np.errstate(all="ignore"):
                size = np.maximum(np.abs(a), np.abs(n))
                gap = np.where(a == n, 0.0, np.abs(a - n))
                error = gap / np.maximum(1.0, size)
                close = gap <= np.maximum(self._atol, self._rtol * size)
            # An element that is not finite and not equal has an infinite error.
            wrong = ~np.isfinite(error) | ((a != n) & ~np.isfinite(size))
            error = np.where(wrong, np.inf, error)
            self._ok = self._ok and bool(np.all(close & ~wrong))
            cancels = ((rounding > _CONFIRMING * size) | ((n == 0) & (a != 0))) & close & ~wrong & (a != 0)
            for move in _MOVES if cancels.any() else ():
                again = np.asarray(derivatives([_beside(x, move) for x in at])[k])
                cancels &= np.abs(again - a) <= 0.5 * np.abs(a)
            for index in map(tuple, np.argwhere(cancels).tolist()):
                given = (float(a[index]), float(n[index]), float(rounding[index]))
                self._uncertain[order, name, index] = Uncertain(order, name, index, *given)
            if error.size and (self._worst is None or error.max() > self._max_error):
                index = tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))
                self._max_error = float(error[index])
                self._worst = Difference(order, name, index, float(a[index]), float(n[index]))

    def result(self) -> GradientCheck:
        """Return the result of all comparisons."""
        ok = self._ok and not self._uncertain
        return GradientCheck(ok, self._max_error, self._worst, tuple(self._uncertain.values()), differs=not self._ok)
