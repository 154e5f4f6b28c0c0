"""Function transforms: derivatives and batches of Python functions of arrays, in JAX's terms.

A function is called as it is, with whatever Python control flow it has. Arguments and results are numbers, arrays,
variables and nested lists, tuples and dicts of them. What comes out is a plain value, unless it depends on a `Variable`
(an argument, or one that the function uses): then it is a variable on that tape. Transforms nest in any order.

>>> from engine import functions as F
>>> grad(grad(F.sin))(1.0) == -F.sin(1.0)
True
>>> print(vmap(grad(lambda x: x**3))(np.array([1.0, 2.0])))
[ 3. 12.]
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from engine import trees
from engine.autodiff import Forward, Tape, Taped
from engine.backward import gradients
from engine.batching import Batch
from engine.errors import (
    BadAttributeError,
    InvalidValueError,
    NotDifferentiableError,
    NotScalarError,
    ShapeMismatchError,
)
from engine.numerical import Comparison, GradientCheck, check_gradients
from engine.symbol import Tracer
from engine.table import CALLS
from engine.values import as_raw, canonical, dtype_of, shape_of
from engine.variable import Variable

Function = Callable[..., Any]

#: How many transforms are at work; each has a level of its own.
_depth: ContextVar[int] = ContextVar("depth", default=0)


def stop_gradient(x: Any) -> Any:
    """The value itself, with no derivative through it.

    >>> grad(lambda x: x * stop_gradient(x))(3.0)
    3.0
    """
    return CALLS["stop_gradient"](x)


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The gradient of a function of one element.

    f: its result has one element; with `has_aux` it returns (result, anything).
    argnums: which arguments to differentiate with respect to; with several, the gradients are a tuple.
    Returns a function of the same arguments that returns gradients in the form of the arguments, with aux beside them.

    >>> grad(lambda w: (w["a"] * w["b"]) ** 2)({"a": 2.0, "b": 3.0})
    {'a': 36.0, 'b': 24.0}

    Raises (when called):
        NotScalarError: the result has more elements, or none.
        NotDifferentiableError: an argument, or the result, is not floating.
        BadAttributeError: there is no argument of that number.
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args: Any, **keywords: Any) -> Any:
        value, found = both(*args, **keywords)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The value and the gradient of a function of one element, in one pass. Arguments and errors as of `grad`.

    >>> value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)
    (6.0, (3.0, 2.0))
    """

    @functools.wraps(f)
    def both(*args: Any, **keywords: Any) -> Any:
        run = _Run(f, args, keywords, argnums, has_aux)
        y = _only(run.y)
        found = run.back([(y, CALLS["ones_like"](run.tape.data(y)))])
        value = run.result(y)
        return ((value, run.aux), found) if has_aux else (value, found)

    return both


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function, and the function that carries a cotangent of it back to its arguments.

    Returns (y, pullback), or (y, pullback, aux). `pullback(cotangent)`, of a cotangent in the form of y, returns a
    tuple: for each argument the product of the cotangent with the Jacobian.

    >>> y, pullback = vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> y, pullback(1.0)
    (6.0, (3.0, 2.0))

    Raises:
        NotDifferentiableError: an argument is not floating.
        ShapeMismatchError: the cotangent (when it is given) is not in the form of y.
    """
    run = _Run(f, primals, {}, tuple(range(len(primals))), has_aux)
    ys = trees.leaves(run.y)

    def pullback(cotangent: Any) -> Any:
        _check_form("cotangent", cotangent, run.y)
        pairs = []
        for y, g in zip(ys, trees.leaves(cotangent), strict=True):
            g = _direction("cotangent", g, y)
            if dtype_of(y).kind == "f":
                pairs.append((y, g))
        return run.back(pairs)

    y = trees.mapped(run.result, run.y)
    return (y, pullback, run.aux) if has_aux else (y, pullback)


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """The value of a function, and its derivative along tangents of its arguments.

    primals, tangents: tuples of as many values as f has arguments, of the same form.
    Returns (y, dy), or (y, dy, aux); dy has the form of y.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 3.0)

    Raises:
        NotDifferentiableError: an argument is not floating.
        ShapeMismatchError: tangents are not in the form of the primals.
    """
    primals, tangents = list(primals), list(tangents)
    _check_form("tangent", tangents, primals)
    xs = [_floating(x) for x in trees.leaves(primals)]
    ts = [_direction("tangent", t, x) for t, x in zip(trees.leaves(tangents), xs, strict=True)]
    with _level() as level:
        forward = Forward(level)
        duals = map(forward.pair, xs, ts)
        y = f(*trees.filled(primals, duals))
    y, aux = _split(f, y, has_aux)
    ys = [forward.parts(_value(leaf)) for leaf in trees.leaves(y)]
    value = trees.filled(y, iter([_plain(primal) for primal, _ in ys]))
    slopes = trees.filled(y, iter([_plain(_zeros(p) if t is None else t) for p, t in ys]))
    if has_aux:
        return value, slopes, trees.mapped(lambda leaf: _plain(forward.parts(leaf)[0]), aux)
    return value, slopes


def jacobian(f: Function, argnums: int | Sequence[int] = 0, mode: str = "auto", has_aux: bool = False) -> Function:
    """All derivatives of a function: in the form of its result, in each place the form of the argument.

    mode: "reverse" costs a pass back an element of the result, "forward" a pass an element of the arguments; "auto"
        takes the cheaper. Several elements are one batched pass.
    Returns a function whose results have the shapes result + argument.

    >>> print(jacobian(lambda x: x * x)(np.array([1.0, 2.0])))
    [[2. 0.]
     [0. 4.]]

    Raises (when called): as `grad`, but for results of any shape.
        BadAttributeError: another mode.
    """
    if mode not in ("auto", "reverse", "forward"):
        raise BadAttributeError(f"jacobian: mode is {mode!r}; expected auto, reverse or forward")

    @functools.wraps(f)
    def matrices(*args: Any, **keywords: Any) -> Any:
        if mode != "forward":
            run = _Run(f, args, keywords, argnums, has_aux)
            if mode == "reverse" or _size(run.y) <= _size(run.chosen):
                found = run.rows()
                return (found, run.aux) if has_aux else found
        return _columns(f, args, keywords, argnums, has_aux)

    return matrices


def hessian(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """All second derivatives of a function of one element: the forward Jacobian of its gradient.

    Arguments and errors as of `grad`. In the form of the argument, in each place the form of the argument again.

    >>> print(hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0])))
    [[4. 2.]
     [2. 0.]]
    """
    return jacobian(grad(f, argnums, has_aux), argnums, "forward", has_aux)


def hvp(f: Function, primals: Sequence[Any], vectors: Sequence[Any]) -> tuple[Any, ...]:
    """The product of the Hessian of a function of one element with a vector, without the matrix.

    primals, vectors: tuples of as many values as f has arguments, of the same form. Returns a tuple in that form.

    >>> hvp(lambda x, y: x * x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 4.0)

    Raises:
        NotScalarError, NotDifferentiableError: as `grad`.
        ShapeMismatchError: vectors are not in the form of the primals.
    """
    _check_form("vector", list(vectors), list(primals))
    for v, x in zip(trees.leaves(vectors), trees.leaves(primals), strict=True):
        _direction("vector", v, _floating(x))
    everything = tuple(range(len(primals)))
    found: tuple[Any, ...] = jvp(grad(f, everything), primals, vectors)[1]
    return found


def vmap(f: Function, in_axes: Any = 0, out_axes: Any = 0) -> Function:
    """A function for many rows at once, from a function of one.

    in_axes: for each argument, or the parts of one, the axis that counts rows, None for what is the same for all; one
        number stands for everything below it.
    out_axes: where the axis of rows is in the result; None for what is the same for all.

    >>> print(vmap(lambda x, w: x @ w, in_axes=(0, None))(np.eye(2), np.array([3.0, 4.0])))
    [3. 4.]

    Raises (when called):
        ShapeMismatchError: the numbers of rows differ, or an argument has no such axis.
        BadAttributeError: in_axes or out_axes do not fit the form of the arguments or results.
        InvalidValueError: Python branches on a value that differs from row to row.
    """

    @functools.wraps(f)
    def over_rows(*args: Any, **keywords: Any) -> Any:
        spread = tuple(in_axes) if isinstance(in_axes, list | tuple) else (in_axes,) * len(args)
        axes = _prefix("in_axes", spread, args)
        values = [leaf if isinstance(leaf, Variable | Tracer) else as_raw(leaf) for leaf in trees.leaves(args)]
        rows = _rows(values, axes)
        with _level() as level:
            batch = Batch(level, rows)
            given = [
                x if axis is None else batch.wrap(_moved(x, axis, 0)) for x, axis in zip(values, axes, strict=True)
            ]
            y = f(*trees.filled(args, iter(given)), **keywords)
        places = _prefix("out_axes", out_axes, y)
        found = [_gathered(batch, _value(leaf), axis) for leaf, axis in zip(trees.leaves(y), places, strict=True)]
        return trees.filled(y, iter(found))

    return over_rows


def check_grads(
    f: Function, *args: Any, order: int = 2, eps: float = 1e-6, rtol: float = 1e-6, atol: float = 1e-6
) -> GradientCheck:
    """Compares the derivatives of a function, in reverse and in forward mode, with central differences.

    args: its arguments; floating leaves are differentiated. order: 1 or 2. The others as of `check_gradients`.
    Returns what was found: `ok`, `max_error` and where the worst is.

    >>> check_grads(lambda x: x["a"] ** 3, {"a": 2.0}).ok
    True
    """
    leaves = trees.leaves(args)
    moved = [i for i, x in enumerate(leaves) if not isinstance(x, bool | int) and dtype_of(_value(x)).kind == "f"]

    def flat(*values: Any) -> list[Any]:
        return trees.leaves(f(*trees.filled(args, iter(values))))

    found = check_gradients(flat, *leaves, order=order, eps=eps, rtol=rtol, atol=atol)
    if not found.ok or not moved:
        return found

    def smooth(*xs: Any) -> list[Any]:
        full = list(leaves)
        for i, x in zip(moved, xs, strict=True):
            full[i] = x
        return [y for y in flat(*full) if dtype_of(_value(y)).kind == "f"]

    forward = _check_forward(smooth, [as_raw(_value(leaves[i])) for i in moved], order, eps, Comparison(rtol, atol))
    return max(found, forward, key=lambda check: (not check.ok, check.max_error))


def _check_forward(f: Function, xs: list[Any], order: int, eps: float, comparison: Comparison) -> GradientCheck:
    """Derivatives along one direction, and again along it, beside central differences."""
    rng = np.random.default_rng(0)
    ts = [canonical(rng.uniform(0.5, 1.5, shape_of(x)).astype(dtype_of(x))) for x in xs]
    step = eps * max([1.0, *(float(np.max(np.abs(x), initial=0.0)) for x in xs)])
    for n in range(1, order + 1):

        def along(*at: Any, f: Function = f) -> list[Any]:
            found: list[Any] = jvp(f, at, ts)[1]
            return found

        high, low = ([as_raw(y) for y in f(*(x + h * t for x, t in zip(xs, ts, strict=True)))] for h in (step, -step))
        with np.errstate(all="ignore"):
            numeric = [(a - b) / (2 * step) for a, b in zip(high, low, strict=True)]
        analytic = [as_raw(y) for y in along(*xs)]
        comparison.add(n, [f"output {k} along a tangent" for k in range(len(analytic))], analytic, numeric)
        f = along
    return comparison.result()


class _Run:
    """A function called on a tape: its result, and the way back from it."""

    def __init__(self, f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool) -> None:
        self.chosen, places = _chosen(args, argnums)
        full = list(args)
        with _level() as level:
            self.tape = Tape(level)
            taped = trees.mapped(lambda x: self.tape.leaf(_floating(x)), self.chosen)
            self.xs = trees.leaves(taped)
            for place, x in zip(places, taped if isinstance(argnums, list | tuple) else [taped], strict=True):
                full[place] = x
            y, aux = _split(f, f(*full, **keywords), has_aux)
        self.y = trees.mapped(_value, y)
        self.aux = trees.mapped(self.result, aux)

    def result(self, value: Any) -> Any:
        """A value without the tape."""
        return _plain(self.tape.data(value))

    def cotangents(self, pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
        """What comes back to every leaf of the arguments."""
        mine = [(y, g) for y, g in pairs if isinstance(y, Taped) and y.recorder is self.tape]
        found = gradients(mine, self.xs, create_graph=False) if mine else [None] * len(self.xs)
        return [_zeros(self.tape.data(x)) if g is None else g for x, g in zip(self.xs, found, strict=True)]

    def back(self, pairs: Sequence[tuple[Any, Any]]) -> Any:
        """The same in the form of the arguments."""
        return trees.filled(self.chosen, map(_plain, self.cotangents(pairs)))

    def rows(self) -> Any:
        """The Jacobian, by one batched pass back for each output."""
        found = []
        for y in trees.leaves(self.y):
            _check_smooth(y)
            with _level() as level:
                batch = Batch(level, y.size if isinstance(y, Variable | Tracer) else np.size(y))
                g = batch.wrap(_directions(y))
                parts = [batch.unwrap(part) for part in self.cotangents([(y, g)])]
            parts = [CALLS["reshape"](p, (*shape_of(y), *shape_of(p)[1:])) for p in parts]
            found.append(trees.filled(self.chosen, map(_plain, parts)))
        return trees.filled(self.y, iter(found))


def _columns(f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool) -> Any:
    """The Jacobian, by one batched forward pass for each leaf of the arguments."""
    chosen, places = _chosen(args, argnums)
    xs = [_floating(x) for x in trees.leaves(chosen)]
    columns: list[list[Any]] = []
    y = aux = None
    for k, x in enumerate(xs):
        with _level() as level, _level() as above:
            batch, forward = Batch(level, _size(x)), Forward(above)
            duals = [forward.pair(x, batch.wrap(_directions(x)) if i == k else None) for i, x in enumerate(xs)]
            full = list(args)
            given = trees.filled(chosen, iter(duals))
            for place, value in zip(places, given if isinstance(argnums, list | tuple) else [given], strict=True):
                full[place] = value
            y, aux = _split(f, f(*full, **keywords), has_aux)
            pairs = [forward.parts(_value(leaf)) for leaf in trees.leaves(y)]
            for primal, _ in pairs:
                _check_smooth(primal)
            tangents = [batch.unwrap(_zeros(p) if t is None else t) for p, t in pairs]
            aux = trees.filled(aux, iter([_plain(forward.parts(leaf)[0]) for leaf in trees.leaves(aux)]))
        columns.append([_last(t, x) for t in tangents])
    found = [trees.filled(chosen, iter([_plain(column[n]) for column in columns])) for n in range(len(trees.leaves(y)))]
    result = trees.filled(y, iter(found))
    return (result, aux) if has_aux else result


def _directions(x: Any) -> Any:
    """Directions along each element of a value, one a row."""
    n = _size(x)
    eye = np.eye(n, dtype=dtype_of(x)).reshape((n, *shape_of(x)))
    return eye


def _last(tangents: Any, x: Any) -> Any:
    """The axis of directions at the end, in the shape and dtype of what they are directions of."""
    moved = _moved(tangents, 0, -1)
    found = CALLS["reshape"](moved, (*shape_of(moved)[:-1], *shape_of(x)))
    return found if dtype_of(found) == dtype_of(x) else CALLS["astype"](found, str(dtype_of(x)))


def _moved(x: Any, source: int, target: int) -> Any:
    ndim = len(shape_of(x))
    for axis in (source, target):
        if not -ndim <= axis < ndim:
            raise ShapeMismatchError(f"vmap: there is no axis {axis} in a value of shape {shape_of(x)}")
    order = [a for a in range(ndim) if a != source % ndim]
    order.insert(target % ndim, source % ndim)
    return CALLS["transpose"](x, tuple(order)) if order != list(range(ndim)) else x


def _gathered(batch: Batch, y: Any, axis: int | None) -> Any:
    """A result of all rows, whose axis is where it is wanted; None where all rows are alike."""
    if axis is not None:
        return _plain(_moved(batch.unwrap(y), 0, axis))
    if batch.holds(y):
        raise BadAttributeError("vmap: out_axes is None for a result that differs from row to row")
    return _plain(y)


def _rows(values: Sequence[Any], axes: Sequence[int | None]) -> int:
    """The number of rows, which all that have such an axis agree on."""
    lengths = []
    for x, axis in zip(values, axes, strict=True):
        if axis is not None:
            shape = shape_of(x)
            if not -len(shape) <= axis < len(shape):
                raise ShapeMismatchError(f"vmap: there is no axis {axis} in an argument of shape {shape}")
            lengths.append(shape[axis])
    if not lengths:
        raise BadAttributeError("vmap: in_axes has no axis of rows; at least one argument needs one")
    if len(set(lengths)) > 1:
        raise ShapeMismatchError(f"vmap: the numbers of rows differ: {', '.join(map(str, lengths))}")
    return lengths[0]


def _prefix(name: str, axes: Any, tree: Any) -> list[int | None]:
    """For each leaf of a tree its axis; a number or None stands for all that is below it."""
    if axes is None or (isinstance(axes, int) and not isinstance(axes, bool)):
        return [axes] * len(trees.leaves(tree))
    items = list(tree.values()) if isinstance(tree, dict) else tree
    if isinstance(axes, dict) and isinstance(tree, dict) and axes.keys() == tree.keys():
        axes = [axes[key] for key in tree]
    elif not isinstance(axes, list | tuple) or not isinstance(tree, list | tuple) or len(axes) != len(tree):
        raise BadAttributeError(
            f"vmap: {name} {axes!r} does not have the form of what it is for, nor of its outer part"
        )
    return [axis for part, item in zip(axes, items, strict=True) for axis in _prefix(name, part, item)]


@contextmanager
def _level() -> Iterator[int]:
    """A level above all transforms that are at work."""
    level = _depth.get() + 1
    token = _depth.set(level)
    try:
        yield level
    finally:
        _depth.reset(token)


def _chosen(args: Sequence[Any], argnums: Any) -> tuple[Any, list[int]]:
    """The arguments to differentiate with respect to: one, or a tuple of them; and their places."""
    places = []
    for n in argnums if isinstance(argnums, list | tuple) else [argnums]:
        if isinstance(n, bool) or not isinstance(n, int) or not -len(args) <= n < len(args):
            raise BadAttributeError(f"argnums is {n!r}; the function was called with {len(args)} positional arguments")
        places.append(n % len(args))
    if len(set(places)) < len(places):
        raise BadAttributeError(f"argnums {tuple(argnums)} name an argument twice")
    chosen = tuple(args[n] for n in places)
    return (chosen if isinstance(argnums, list | tuple) else chosen[0]), places


def _split(f: Function, y: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return y, None
    if not isinstance(y, tuple) or len(y) != 2:
        raise InvalidValueError(f"with has_aux, {getattr(f, '__name__', 'f')} returns a pair (result, aux)")
    return y


def _floating(x: Any) -> Any:
    """A value to be differentiated with respect to."""
    x = _value(x)
    if dtype_of(x).kind != "f":
        raise NotDifferentiableError(f"an argument has dtype {dtype_of(x)}; expected a floating one to differentiate")
    return x


def _value(x: Any) -> Any:
    return x if isinstance(x, Variable | Tracer) else as_raw(x)


def _check_smooth(y: Any) -> None:
    if dtype_of(y).kind != "f":
        raise NotDifferentiableError(f"the result has dtype {dtype_of(y)}; expected a floating one to differentiate")


def _only(y: Any) -> Any:
    """The one element that a function of which there is a gradient returns."""
    found = trees.leaves(y)
    if len(found) != 1 or found[0] is not y:
        raise NotScalarError(
            f"expected a function of one element; this one returns {len(found)} values in a {type(y).__name__}"
        )
    _check_smooth(y)
    if math.prod(shape_of(y)) != 1:
        raise NotScalarError(
            f"expected a function of one element, this one returns shape {shape_of(y)}; reduce it first"
        )
    return y


def _check_form(noun: str, given: Any, expected: Any) -> None:
    if trees.form(given) != trees.form(expected):
        raise ShapeMismatchError(f"{noun}: given {_shown(given)}; expected the form {_shown(expected)}")


def _shown(tree: Any) -> str:
    def shown(leaf: Any) -> str:
        value = _value(leaf)
        return f"{dtype_of(value)}{list(shape_of(value))}"

    return str(trees.mapped(shown, tree)).replace("'", "")


def _direction(noun: str, value: Any, x: Any) -> Any:
    """A cotangent or tangent in the shape and dtype of what it belongs to."""
    value = _value(value)
    if shape_of(value) != shape_of(x):
        raise ShapeMismatchError(f"{noun}: shape {shape_of(value)}; expected {shape_of(x)}")
    if dtype_of(x).kind == "f" and dtype_of(value) != dtype_of(x):
        value = CALLS["astype"](value, str(dtype_of(x)))
    return value


def _zeros(x: Any) -> Any:
    return CALLS["zeros_like"](x)


def _size(tree: Any) -> int:
    return sum(math.prod(shape_of(_value(leaf))) for leaf in trees.leaves(tree))


def _plain(value: Any) -> Any:
    """What a user gets: no array is shared with another result or argument."""
    if isinstance(value, Variable | Tracer):
        return value
    value = canonical(float(value) if type(value) is int else value)
    return value if type(value) is float else value.copy()
