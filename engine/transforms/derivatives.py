"""Function transforms: derivatives and vectorization of Python functions of arrays, in JAX's terms.

A function may use any Python control flow. Arguments and results are numbers, arrays, variables and nested lists,
tuples and dicts of them. A result is a plain value, unless it depends on a `Variable` (an argument, or one that the
function uses): then it is a variable on that tape. Transforms nest in any order.

>>> from engine import functions as F
>>> grad(grad(F.sin))(1.0) == -F.sin(1.0)
True
>>> print(vmap(grad(lambda x: x**3))(np.array([1.0, 2.0])))
[ 3. 12.]
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.core import (
    FLOAT64,
    ROW_CALLS,
    BadAttributeError,
    Result,
    Tracer,
    Value,
    Variable,
    as_raw,
    canonical,
    dtype_of,
    end,
    shape_of,
    trees,
)
from engine.core.attributes import Given
from engine.core.trees import Function, Tree
from engine.tracers import Batch
from engine.transforms.axes import axes_of, count_rows, gather_rows, move_axis
from engine.transforms.calls import (
    ReverseCall,
    as_result,
    check_form,
    check_hidden,
    direction,
    floating,
    live_value,
    next_level,
    only_element,
    run_forward,
    value_of,
    with_aux,
    zeros,
)
from engine.transforms.calls import jacobian as by_passes
from engine.transforms.numerical import Comparison, Differences, GradientCheck, check_gradients

#: Modes of `jacobian`.
MODES = ("auto", "reverse", "forward")


def stop_gradient(x: Given) -> Result:
    """Return the value of `x` as a constant: no derivative passes through it.

    >>> grad(lambda x: x * stop_gradient(x))(3.0)
    3.0
    """
    return ROW_CALLS["stop_gradient"](x)


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Gradient of a function of one element.

    f: its result has one element; with `has_aux` it returns (result, aux), where aux is anything.
    argnums: positions of the arguments to differentiate with respect to; for a sequence, the gradients are a tuple.
    Returns a function of the same arguments that returns gradients in the form of the arguments; with `has_aux`,
    (gradients, aux).

    >>> grad(lambda w: (w["a"] * w["b"]) ** 2)({"a": 2.0, "b": 3.0})
    {'a': 36.0, 'b': 24.0}

    Raises (when called):
        NotScalarError: the result has more elements, or none.
        NotDifferentiableError: an argument to differentiate with respect to, or the result, is not floating.
        BadAttributeError: there is no argument of that number, or it is named twice.
    """
    return _grad(f, argnums, has_aux, "grad")


def _grad(f: Function, argnums: int | Sequence[int], has_aux: bool, transform: str) -> Function:
    both = _value_and_grad(f, argnums, has_aux, transform)

    @functools.wraps(f)
    def gradient(*args: Tree, **keywords: Tree) -> Any:
        value, found = both(*args, **keywords)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Value and gradient of a function of one element, in one pass. Arguments and errors as of `grad`.

    >>> value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)
    (6.0, (3.0, 2.0))
    """
    return _value_and_grad(f, argnums, has_aux, "value_and_grad")


def _value_and_grad(f: Function, argnums: int | Sequence[int], has_aux: bool, transform: str) -> Function:
    @functools.wraps(f)
    def both(*args: Tree, **keywords: Tree) -> Any:
        run = ReverseCall(f, args, keywords, argnums, has_aux, transform)
        y = only_element(run.y)
        found = run.back([(y, ROW_CALLS["ones_like"](run.tape.data(y)))])
        value = run.result(y)
        return ((value, run.aux), found) if has_aux else (value, found)

    return both


def vjp(f: Function, *primals: Tree, has_aux: bool = False) -> Any:
    """Value of a function, and its pullback, which computes vector-Jacobian products.

    Returns (y, pullback), or (y, pullback, aux) with `has_aux`. `pullback(cotangent)` takes a cotangent in the form of
    y and returns a tuple with its product with the Jacobian for each argument, in the form of the argument.

    >>> y, pullback = vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> y, pullback(1.0)
    (6.0, (3.0, 2.0))

    Raises:
        NotDifferentiableError: an argument is not floating.
        ShapeMismatchError (when the pullback is called): the cotangent does not have the form of y.
    """
    run = ReverseCall(f, primals, {}, tuple(range(len(primals))), has_aux, "vjp")
    ys = trees.leaves(run.y)

    def pullback(cotangent: Tree) -> Any:
        check_form("cotangent", cotangent, run.y)
        pairs = []
        for y, g in zip(ys, trees.leaves(cotangent, run.y), strict=True):
            g = direction("cotangent", g, y)
            if dtype_of(y).kind == "f":
                pairs.append((y, g))
        return run.back(pairs)

    y = trees.map_leaves(run.result, run.y)
    return (y, pullback, run.aux) if has_aux else (y, pullback)


def jvp(f: Function, primals: Sequence[Tree], tangents: Sequence[Tree], has_aux: bool = False) -> Any:
    """Value of a function, and its Jacobian-vector product with tangents of its arguments.

    primals, tangents: tuples of the same form, with a value for each argument of f.
    Returns (y, dy), or (y, dy, aux) with `has_aux`; dy has the form of y.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 3.0)

    f is called again if a tangent is not finite, to leave out branches that are not taken.

    Raises:
        NotDifferentiableError: an argument is not floating.
        ShapeMismatchError: the tangents do not have the form of the primals.
    """
    return _jvp(f, primals, tangents, has_aux, "jvp")


def _jvp(f: Function, primals: Sequence[Tree], tangents: Sequence[Tree], has_aux: bool, transform: str) -> Any:
    primals, tangents = list(primals), list(tangents)
    check_form("tangent", tangents, primals)
    xs = [floating(x) for x in trees.leaves(primals)]
    ts = [direction("tangent", t, x) for t, x in zip(trees.leaves(tangents, primals), xs, strict=True)]
    found = run_forward(
        lambda values: with_aux(f, f(*trees.unflatten(primals, iter(values))), has_aux), xs, ts, transform
    )
    value = trees.unflatten(found.y, iter(map(as_result, found.primals)))
    tangents = [zeros(p) if t is None else t for p, t in zip(found.primals, found.tangents, strict=True)]
    slopes = trees.unflatten(found.y, iter(map(as_result, tangents)))
    return (value, slopes, found.aux) if has_aux else (value, slopes)


def jacobian(f: Function, argnums: int | Sequence[int] = 0, mode: str = "auto", has_aux: bool = False) -> Function:
    """Jacobian of a function.

    f, argnums, has_aux: as of `grad`, but the result of f may have any form.
    mode: "reverse" takes a backward pass for each element of the result, "forward" a forward pass for each element of
        the arguments, "auto" the cheaper one. The passes for all elements are usually one batched pass.
    Returns a function of the same arguments. Its result has the form of the result of f, with the form of the argument
    in place of each leaf, and leaves of shape result shape + argument shape.

    In forward mode f is called again if a derivative is not finite, to leave out zeros of the basis and branches that
    are not taken.

    >>> print(jacobian(lambda x: x * x)(np.array([1.0, 2.0])))
    [[2. 0.]
     [0. 4.]]

    Raises:
        BadAttributeError: the mode is unknown.

    Raises (when called):
        NotDifferentiableError, BadAttributeError: as `grad`.
    """
    if mode not in MODES:
        raise BadAttributeError(f"jacobian: mode is {mode!r}; expected auto, reverse or forward")
    return _jacobian(f, argnums, mode, has_aux, "jacobian")


def _jacobian(f: Function, argnums: int | Sequence[int], mode: str, has_aux: bool, transform: str) -> Function:
    @functools.wraps(f)
    def matrices(*args: Tree, **keywords: Tree) -> Any:
        return by_passes(f, args, keywords, argnums, mode, has_aux, transform)

    return matrices


def hessian(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Hessian of a function of one element, as the forward-mode Jacobian of its gradient.

    Arguments and errors as of `grad`. The result has the form of the argument, with that form again in place of each
    leaf. Inside of `compile` a sparse Hessian takes few directions, and entries outside of its pattern are exactly 0.0.

    >>> print(hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0])))
    [[4. 2.]
     [2. 0.]]
    """
    return _jacobian(_grad(f, argnums, has_aux, "hessian"), argnums, "forward", has_aux, "hessian")


def hvp(f: Function, primals: Sequence[Tree], vectors: Sequence[Tree]) -> tuple[Any, ...]:
    """Product of the Hessian of a function of one element with a vector, without the matrix.

    primals, vectors: tuples of the same form, with a value for each argument of f. Returns a tuple in that form.

    >>> hvp(lambda x, y: x * x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 4.0)

    Raises:
        NotScalarError, NotDifferentiableError: as `grad`.
        ShapeMismatchError: the vectors do not have the form of the primals.
    """
    check_form("vector", list(vectors), list(primals))
    for v, x in zip(trees.leaves(list(vectors), list(primals)), trees.leaves(primals), strict=True):
        direction("vector", v, floating(x))
    everything = tuple(range(len(primals)))
    found: tuple[Any, ...] = _jvp(_grad(f, everything, False, "hvp"), primals, vectors, False, "hvp")[1]
    return found


def vmap(f: Function, in_axes: Any = 0, out_axes: Any = 0) -> Function:
    """Vectorize a function of one row over the rows of a batch.

    in_axes: the axis of rows for each argument, or for the parts of one, None for a value that all rows share; a number
        in place of a container holds for everything in it.
    out_axes: the axis of rows in the result, in the same way; None for a result that all rows share.
    Keyword arguments are shared by all rows.

    >>> print(vmap(lambda x, w: x @ w, in_axes=(0, None))(np.eye(2), np.array([3.0, 4.0])))
    [3. 4.]

    Raises (when called):
        ShapeMismatchError: the numbers of rows differ, or an argument has no such axis.
        BadAttributeError: in_axes or out_axes do not fit the form of the arguments or results, in_axes has no axis of
            rows, or out_axes is None for a result that differs from row to row.
        InvalidValueError: Python branches on a value that differs from row to row.
    """

    @functools.wraps(f)
    def over_rows(*args: Tree, **keywords: Tree) -> Any:
        spread = tuple(in_axes) if isinstance(in_axes, list | tuple) else (in_axes,) * len(args)
        axes = axes_of("in_axes", spread, args)
        values = [leaf if isinstance(leaf, Variable | Tracer) else as_raw(leaf) for leaf in trees.leaves(args)]
        rows = count_rows(values, axes)
        batch = Batch(next_level(), rows)
        given = [x if axis is None else batch.wrap(move_axis(x, axis, 0)) for x, axis in zip(values, axes, strict=True)]
        try:
            y = f(*trees.unflatten(args, iter(given)), **keywords)
            ys = [live_value(leaf) for leaf in trees.leaves(y)]
        finally:
            end(batch)
        check_hidden(y)
        result_axes = axes_of("out_axes", out_axes, y)
        found = [as_result(gather_rows(batch, leaf, axis)) for leaf, axis in zip(ys, result_axes, strict=True)]
        return trees.unflatten(y, iter(found))

    return over_rows


def check_grads(
    f: Function, *args: Tree, order: int = 2, eps: float = 1e-6, rtol: float = 1e-6, atol: float = 1e-6
) -> GradientCheck:
    """Compare the derivatives of a function, in reverse and in forward mode, with central differences.

    args: its arguments; floating leaves are differentiated with respect to.
    order: 1 or 2. Other arguments as of `check_gradients`.
    Returns a `GradientCheck`: that of the mode with errors, or with the larger `max_error`.

    >>> check_grads(lambda x: x["a"] ** 3, {"a": 2.0}).ok
    True
    """
    leaves = trees.leaves(args)
    moved = [i for i, x in enumerate(leaves) if not isinstance(x, bool | int) and dtype_of(value_of(x)).kind == "f"]

    def flat(*values: object) -> list[Any]:
        return trees.leaves(f(*trees.unflatten(args, iter(values))))

    found = check_gradients(flat, *leaves, order=order, eps=eps, rtol=rtol, atol=atol)
    if not found.ok or not moved:
        return found

    def smooth(*xs: object) -> list[Any]:
        full = list(leaves)
        for i, x in zip(moved, xs, strict=True):
            full[i] = x
        return [y for y in flat(*full) if dtype_of(value_of(y)).kind == "f"]

    forward = _check_forward(
        smooth, [as_raw(value_of(leaves[i]), FLOAT64) for i in moved], order, eps, Comparison(rtol, atol)
    )
    return max(found, forward, key=lambda check: (not check.ok, check.max_error))


def _check_forward(f: Function, xs: list[Value], order: int, eps: float, comparison: Comparison) -> GradientCheck:
    """Compare the derivative along a random direction, and the second one along it, with central differences."""
    rng = np.random.default_rng(0)
    ts = [canonical(rng.uniform(0.5, 1.5, shape_of(x)).astype(dtype_of(x))) for x in xs]
    step = eps * max([1.0, *(float(np.max(np.abs(x), initial=0.0)) for x in xs)])
    for n in range(1, order + 1):

        def along(*at: object, f: Function = f) -> list[Any]:
            found: list[Any] = jvp(f, at, ts)[1]
            return found

        high, low = ([as_raw(y) for y in f(*(x + h * t for x, t in zip(xs, ts, strict=True)))] for h in (step, -step))
        with np.errstate(all="ignore"):
            pairs = list(zip(high, low, strict=True))
            numeric = Differences(
                [(a - b) / (2 * step) for a, b in pairs],
                [np.finfo(FLOAT64).eps * np.maximum(np.abs(a), np.abs(b)) / (2 * step) for a, b in pairs],
            )
        names = [f"output {k} along a tangent" for k in range(len(pairs))]
        comparison.add(n, names, lambda at, along=along: [as_raw(y) for y in along(*at)], xs, numeric)  # type: ignore[misc]
        f = along
    return comparison.result()
