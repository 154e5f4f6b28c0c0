"""Function transforms: derivatives of Python functions of arrays, in JAX's terms, each in one request.

A function is called on symbols that stand for its arguments, and all that it does with them is sent as one program. It
cannot branch on the values of symbols. Arguments and results are numbers, arrays and nested lists, tuples and dicts of
them. Transforms may stand inside of functions that are transformed.

A function is called at each call of its transform, so it counts with all that it reads as that is now. What it does is
sent as values alone where it does the same as before: a program that the server has is sent by its id. Arguments that
are not differentiated reach the function as they are. Arrays and Variables that it reads from outside (closures,
globals, attributes) are inputs of its program; no derivative reaches the tape of such a Variable, and its value or
gradient cannot be looked at inside. `compile` calls a function once for each form of its arguments: see there.

>>> from pullback import functions as F
>>> grad(grad(F.sin))(1.0) == -F.sin(1.0)
True
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pullback import trees
from pullback.errors import BadAttributeError, NotDifferentiableError, NotSupportedError
from pullback.recording.trace import Constant, Symbol
from pullback.table import CALLS
from pullback.transforms.calls import (
    Function,
    called,
    called_inside,
    check_form,
    check_scalar,
    is_inside,
    only_leaf,
)
from pullback.values import as_raw, canonical, shape_of

#: Gradients that a Jacobian inside of a traced function is written out as.
_MOST_ROWS = 1000


def stop_gradient(x: Any) -> Any:
    """The value itself, with no derivative through it."""
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
        TraceError: the function looks at a value.
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args: Any, **keywords: Any) -> Any:
        value, found = both(*args, **keywords)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The value and the gradient of a function of one element, in one request. Arguments and errors as of `grad`.

    >>> value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)
    (6.0, (3.0, 2.0))
    """

    @functools.wraps(f)
    def both(*args: Any, **keywords: Any) -> Any:
        if is_inside():
            inner = called_inside(f, args, keywords, argnums, has_aux)
            slopes = inner.in_form(inner.gradients(only_leaf(inner.y)))
            return ((inner.y, inner.aux), slopes) if has_aux else (inner.y, slopes)
        call = called(f, args, keywords, argnums, has_aux)
        y = call.only_output()
        answer = call.ask("evaluate", backward={"of": y, "wrt": call.wrt} if call.wrt else False)
        check_scalar(np.shape(answer.values[y]))
        value, found = call.value(answer.values), call.in_form(answer.grads or {})
        return ((value, call.aux(answer.values)), found) if has_aux else (value, found)

    return both


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function, and the function that carries a cotangent of it back to its arguments.

    Returns (y, pullback), or (y, pullback, aux). `pullback(cotangent)`, of a cotangent in the form of y, returns a
    tuple: for each argument the product of the cotangent with the Jacobian.

    >>> y, pullback = vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> y, pullback(1.0)
    (6.0, (3.0, 2.0))
    """
    everything = tuple(range(len(primals)))
    if is_inside():
        return _vjp_inside(f, primals, everything, has_aux)
    call = called(f, primals, {}, everything, has_aux)
    answer = call.ask("evaluate")
    y = call.value(answer.values)

    def pullback(cotangent: Any) -> Any:
        check_form("cotangent", cotangent, y)
        pairs = zip(call.ys, trees.leaves(cotangent, y), strict=True)
        cotangents: dict[str, Any] = {}
        for name, g in pairs:
            raw = as_raw(g)
            # An output that stands in two places has the sum of what comes from both.
            cotangents[name] = cotangents[name] + raw if name in cotangents else raw
        if not call.wrt:
            return call.in_form({})
        return call.in_form(call.ask("vjp", cotangents=cotangents, wrt=call.wrt).vjps)

    return (y, pullback, call.aux(answer.values)) if has_aux else (y, pullback)


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """The value of a function, and its derivative along tangents of its arguments.

    primals, tangents: tuples of as many values as f has arguments, of the same form.
    Returns (y, dy), or (y, dy, aux); dy has the form of y.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 3.0)
    """
    check_form("tangent", list(tangents), list(primals))
    everything = tuple(range(len(primals)))
    if is_inside():
        return _jvp_inside(f, primals, tangents, has_aux)
    call = called(f, tuple(primals), {}, everything, has_aux)
    given = call.directions(tangents, primals)
    if given:
        found = call.ask("jvp", tangents=given)
        values, slopes = found.values, call.value(found.jvps)
    else:
        values = call.ask("evaluate").values
        slopes = trees.map_leaves(lambda y: canonical(np.zeros_like(y)), call.value(values))
    value = call.value(values)
    return (value, slopes, call.aux(values)) if has_aux else (value, slopes)


def jacobian(f: Function, argnums: int | Sequence[int] = 0, mode: str = "auto", has_aux: bool = False) -> Function:
    """All derivatives of a function: in the form of its result, in each place the form of the argument.

    mode: "reverse" costs a pass back an element of the result, "forward" a pass an element of the arguments; "auto"
        takes the cheaper.
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
        if is_inside():
            return _jacobian_inside(f, args, keywords, argnums, has_aux)
        call = called(f, args, keywords, argnums, has_aux)
        if call.wrt:
            answer = call.ask("jacobian", wrt=call.wrt, mode=mode)
            blocks, values = answer.jacobian, answer.values
        else:
            blocks, values = {}, call.ask("evaluate").values
        rows = [call.in_form(blocks.get(y, {}), np.shape(values[y])) for y in call.ys]
        found = trees.unflatten(call.traced.y, iter(rows))
        return (found, call.aux(values)) if has_aux else found

    return matrices


def hessian(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """All second derivatives of a function of one element, in the form of the argument and in each place again.

    Arguments and errors as of `grad`.
    """

    @functools.wraps(f)
    def matrices(*args: Any, **keywords: Any) -> Any:
        if is_inside():
            return _jacobian_inside(grad(f, argnums, has_aux), args, keywords, argnums, has_aux)
        call = called(f, args, keywords, argnums, has_aux)
        y = call.only_output()
        if call.wrt:
            answer = call.ask("hessian", of=y, wrt=call.wrt)
            blocks, values = answer.hessian, answer.values
        else:
            blocks, values = {}, call.ask("evaluate").values
            check_scalar(np.shape(values[y]))
        rows = [call.in_form(blocks.get(x, {}), shape_of(raw)) for x, raw in zip(call.xs, call.raws, strict=True)]
        found = trees.unflatten(call.chosen, iter(rows))
        return (found, call.aux(values)) if has_aux else found

    return matrices


def hvp(f: Function, primals: Sequence[Any], vectors: Sequence[Any]) -> tuple[Any, ...]:
    """The product of the Hessian of a function of one element with a vector, without the matrix.

    primals, vectors: tuples of as many values as f has arguments, of the same form. Returns a tuple in that form.

    >>> hvp(lambda x, y: x * x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 4.0)
    """
    check_form("vector", list(vectors), list(primals))
    everything = tuple(range(len(primals)))
    if is_inside():
        inner = called_inside(f, tuple(primals), {}, everything)
        along = _inner_product(inner.gradients(only_leaf(inner.y)), trees.leaves(list(vectors), list(primals)))
        products: tuple[Any, ...] = inner.in_form(inner.gradients(along) if along is not None else ())
        return products
    call = called(f, tuple(primals), {}, everything)
    given, y = call.directions(vectors, primals), call.only_output()
    if given:
        found = call.ask("hvp", of=y, vectors=given, wrt=list(given)).hvp
    else:
        check_scalar(np.shape(call.ask("evaluate").values[y]))
        found = {}
    products = call.in_form(found)
    return products


def _vjp_inside(f: Function, primals: Sequence[Any], argnums: tuple[int, ...], has_aux: bool) -> Any:
    """Reverse mode inside of a trace: the gradient of the inner product with a cotangent."""
    inner = called_inside(f, primals, {}, argnums, has_aux)

    def pullback(cotangent: Any) -> Any:
        check_form("cotangent", cotangent, inner.y)
        pairs = [(y, g) for y, g in zip(inner.ys, trees.leaves(cotangent, inner.y), strict=True) if _is_floating(y)]
        along = _inner_product([y for y, _ in pairs], [g for _, g in pairs])
        if along is None:
            return inner.in_form(CALLS["zeros_like"](x) for x in inner.xs)
        return inner.in_form(inner.gradients(along))

    return (inner.y, pullback, inner.aux) if has_aux else (inner.y, pullback)


def _jvp_inside(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool) -> Any:
    """Forward mode inside of a trace, by two passes back.

    The vjp is linear in its cotangent u; therefore the gradient with respect to u of its inner product with the
    tangents is the jvp. Source: Townsend, A new trick for calculating Jacobian vector products (2017).
    """
    inner = called_inside(f, tuple(primals), {}, tuple(range(len(primals))), has_aux)
    floating = [y for y in inner.ys if _is_floating(y)]
    # Inputs of their own: a gradient is recorded only for nodes that depend on floating inputs.
    cotangents = [inner.trace.input(Constant(np.ones(y.shape, y.dtype)), y.shape, y.dtype) for y in floating]
    back = _inner_product(floating, cotangents)
    slopes: dict[str, Any] = {}
    if back is not None:
        along = _inner_product(inner.gradients(back), trees.leaves(list(tangents), list(primals)))
        if along is not None:
            slopes = {
                y.name: inner.trace.node("grad", [along, u])[0] for y, u in zip(floating, cotangents, strict=True)
            }
    dy = trees.map_leaves(lambda y: slopes[y.name] if y.name in slopes else CALLS["zeros_like"](y), inner.y)
    return (inner.y, dy, inner.aux) if has_aux else (inner.y, dy)


def _jacobian_inside(f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool) -> Any:
    """Jacobian inside of a trace: one gradient for each element of the result.

    Raises:
        NotSupportedError: there are too many.
    """
    inner = called_inside(f, args, keywords, argnums, has_aux)
    for y in inner.ys:
        if not _is_floating(y):
            raise NotDifferentiableError(f"a result is {y.dtype}; only floating ones are differentiated")
    count = sum(y.size for y in inner.ys)
    if count > _MOST_ROWS:
        raise NotSupportedError(
            f"jacobian: inside of a function that is traced it is written out for each element of the result, here "
            f"{count}, at most {_MOST_ROWS}. Take products with it instead (vjp, jvp, hvp), or make it the outermost "
            "transform"
        )
    found = trees.unflatten(inner.y, iter([inner.in_form(_rows(y, inner.xs, inner.gradients)) for y in inner.ys]))
    return (found, inner.aux) if has_aux else found


def _rows(y: Symbol, xs: Sequence[Symbol], gradients: Callable[[Symbol], list[Symbol]]) -> list[Any]:
    """For each x the derivatives of all elements of y, in the shape y.shape + x.shape."""
    if y.shape == ():
        return gradients(y)
    if y.size == 0:
        return [CALLS["zeros_like"](CALLS["broadcast_to"](x, (*y.shape, *x.shape))) for x in xs]
    flat = CALLS["reshape"](y, (y.size,))
    rows = [gradients(flat[i]) for i in range(y.size)]
    return [
        CALLS["reshape"](CALLS["stack"](list(column)), (*y.shape, *x.shape))
        for column, x in zip(zip(*rows, strict=True), xs, strict=True)
    ]


def _inner_product(xs: Sequence[Any], ys: Sequence[Any]) -> Any:
    """The sum of the products of all elements; None where there are none."""
    total: Any = None
    for x, y in zip(xs, ys, strict=True):
        part = CALLS["sum"](CALLS["mul"](x, y))
        total = part if total is None else total + part
    return total


def _is_floating(y: Symbol) -> bool:
    return bool(y.dtype.kind == "f")
