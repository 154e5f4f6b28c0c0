"""Derivatives of Python functions of arrays, in JAX's terms, each in one request.

A function is called on symbols in place of its arguments, and its operations are sent as one program. It cannot branch
on the values of symbols. Arguments and results are numbers, arrays and nested lists, tuples and dicts of them.
Transforms may be used inside of functions that are transformed.

A function is called at each call of its transform, so that it reads the present state of everything around it. If its
program is one that the server has, only an id and values are sent. Arguments that are not differentiated are passed to
the function unchanged. Arrays and Variables that it reads from outside (closures, globals, attributes) are inputs of
its program; no derivative reaches the tape of such a Variable, and its value and gradient cannot be read inside.
`compile` calls a function once for each form of its arguments: see there.

>>> from pullback import functions as F
>>> grad(grad(F.sin))(1.0) == -F.sin(1.0)
True
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pullback.core import trees
from pullback.core.table import CALLS
from pullback.core.values import as_raw, canonical, shape_of
from pullback.errors import BadAttributeError, NotDifferentiableError, NotSupportedError
from pullback.recording.trace import Constant, Symbol
from pullback.transforms.calls import (
    Function,
    call_inside,
    call_traced,
    check_form,
    check_scalar,
    is_inside,
    only_leaf,
)

#: Limit of the gradients that make up a Jacobian inside of a traced function.
_MOST_ROWS = 1000


def stop_gradient(x: Any) -> Any:
    """Return x itself, treated as a constant by derivatives."""
    return CALLS["stop_gradient"](x)


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Return the gradient function of a function whose result has one element.

    f: the function; with `has_aux` it returns (result, aux), and aux may be anything.
    argnums: position of the argument of differentiation; for several positions, the gradients are a tuple.
    Returns a function of the same arguments, which returns gradients in their form, and with `has_aux` also aux.

    >>> grad(lambda w: (w["a"] * w["b"]) ** 2)({"a": 2.0, "b": 3.0})
    {'a': 36.0, 'b': 24.0}

    Raises (when called):
        NotScalarError: the result has several elements, or none.
        NotDifferentiableError: an argument, or the result, is not floating.
        BadAttributeError: there is no argument at a position.
        TraceError: the function reads the value of a symbol.
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args: Any, **keywords: Any) -> Any:
        value, found = both(*args, **keywords)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Return a function that returns value and gradient, in one request. Arguments and errors as for `grad`.

    >>> value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)
    (6.0, (3.0, 2.0))
    """

    @functools.wraps(f)
    def both(*args: Any, **keywords: Any) -> Any:
        if is_inside():
            inner = call_inside(f, args, keywords, argnums, has_aux)
            slopes = inner.in_form(inner.gradients(only_leaf(inner.y)))
            return ((inner.y, inner.aux), slopes) if has_aux else (inner.y, slopes)
        call = call_traced(f, args, keywords, argnums, has_aux)
        y = call.only_output()
        answer = call.ask("evaluate", backward={"of": y, "wrt": call.wrt} if call.wrt else False)
        check_scalar(np.shape(answer.values[y]))
        value, found = call.value(answer.values), call.in_form(answer.grads or {})
        return ((value, call.aux(answer.values)), found) if has_aux else (value, found)

    return both


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """Return the value of a function and its pullback, which maps a cotangent to cotangents of the arguments.

    Returns (y, pullback), or (y, pullback, aux). `pullback(cotangent)` takes a cotangent in the form of y, and returns
    a tuple: for each argument the product of the cotangent with the Jacobian.

    >>> y, pullback = vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> y, pullback(1.0)
    (6.0, (3.0, 2.0))
    """
    everything = tuple(range(len(primals)))
    if is_inside():
        return _vjp_inside(f, primals, everything, has_aux)
    call = call_traced(f, primals, {}, everything, has_aux)
    answer = call.ask("evaluate")
    y = call.value(answer.values)

    def pullback(cotangent: Any) -> Any:
        check_form("cotangent", cotangent, y)
        pairs = zip(call.ys, trees.leaves(cotangent, y), strict=True)
        cotangents: dict[str, Any] = {}
        for name, g in pairs:
            raw = as_raw(g)
            # If a result is in several places, its cotangents add up.
            cotangents[name] = cotangents[name] + raw if name in cotangents else raw
        if not call.wrt:
            return call.in_form({})
        return call.in_form(call.ask("vjp", cotangents=cotangents, wrt=call.wrt).vjps)

    return (y, pullback, call.aux(answer.values)) if has_aux else (y, pullback)


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """Return the value of a function and its derivative along tangents of its arguments.

    primals, tangents: tuples with a value for each argument of f, of the same form.
    Returns (y, dy), or (y, dy, aux); dy has the form of y.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 3.0)
    """
    check_form("tangent", list(tangents), list(primals))
    everything = tuple(range(len(primals)))
    if is_inside():
        return _jvp_inside(f, primals, tangents, has_aux)
    call = call_traced(f, tuple(primals), {}, everything, has_aux)
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
    """Return the Jacobian function: its result has the form of the function's result, with the argument's in each leaf.

    mode: "reverse" takes a backward pass for each element of the result, "forward" a pass for each element of the
        arguments; "auto" chooses the cheaper one.
    Returns a function whose results have the shapes result + argument.

    >>> print(jacobian(lambda x: x * x)(np.array([1.0, 2.0])))
    [[2. 0.]
     [0. 4.]]

    Raises (when called):
        BadAttributeError: an unknown mode, or there is no argument at a position.
        NotDifferentiableError, TraceError: as for `grad`.
    """
    if mode not in ("auto", "reverse", "forward"):
        raise BadAttributeError(f"jacobian: mode is {mode!r}; expected auto, reverse or forward")

    @functools.wraps(f)
    def matrices(*args: Any, **keywords: Any) -> Any:
        if is_inside():
            return _jacobian_inside(f, args, keywords, argnums, has_aux)
        call = call_traced(f, args, keywords, argnums, has_aux)
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
    """Return the Hessian function of a function whose result has one element; arguments and errors as for `grad`.

    Its result has the form of the argument, with that form again in each leaf.
    """

    @functools.wraps(f)
    def matrices(*args: Any, **keywords: Any) -> Any:
        if is_inside():
            return _jacobian_inside(grad(f, argnums, has_aux), args, keywords, argnums, has_aux)
        call = call_traced(f, args, keywords, argnums, has_aux)
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
    """Return the product of the Hessian of a function with a vector, without forming the Hessian.

    f: a function whose result has one element. primals, vectors: tuples with a value for each argument of f, of the
    same form. Returns a tuple in that form.

    >>> hvp(lambda x, y: x * x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 4.0)
    """
    check_form("vector", list(vectors), list(primals))
    everything = tuple(range(len(primals)))
    if is_inside():
        inner = call_inside(f, tuple(primals), {}, everything)
        along = _inner_product(inner.gradients(only_leaf(inner.y)), trees.leaves(list(vectors), list(primals)))
        products: tuple[Any, ...] = inner.in_form(inner.gradients(along) if along is not None else ())
        return products
    call = call_traced(f, tuple(primals), {}, everything)
    given, y = call.directions(vectors, primals), call.only_output()
    if given:
        found = call.ask("hvp", of=y, vectors=given, wrt=list(given)).hvp
    else:
        check_scalar(np.shape(call.ask("evaluate").values[y]))
        found = {}
    products = call.in_form(found)
    return products


def _vjp_inside(f: Function, primals: Sequence[Any], argnums: tuple[int, ...], has_aux: bool) -> Any:
    """Reverse mode inside of a traced function: the gradient of the inner product with a cotangent."""
    inner = call_inside(f, primals, {}, argnums, has_aux)

    def pullback(cotangent: Any) -> Any:
        check_form("cotangent", cotangent, inner.y)
        pairs = [(y, g) for y, g in zip(inner.ys, trees.leaves(cotangent, inner.y), strict=True) if _is_floating(y)]
        along = _inner_product([y for y, _ in pairs], [g for _, g in pairs])
        if along is None:
            return inner.in_form(CALLS["zeros_like"](x) for x in inner.xs)
        return inner.in_form(inner.gradients(along))

    return (inner.y, pullback, inner.aux) if has_aux else (inner.y, pullback)


def _jvp_inside(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool) -> Any:
    """Forward mode inside of a traced function, by two backward passes.

    The vjp is linear in its cotangent u; therefore the gradient with respect to u of its inner product with the
    tangents is the jvp. Source: Townsend, A new trick for calculating Jacobian vector products (2017).
    """
    inner = call_inside(f, tuple(primals), {}, tuple(range(len(primals))), has_aux)
    floating = [y for y in inner.ys if _is_floating(y)]
    # New inputs, as only nodes that depend on floating inputs have gradients.
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
    """Jacobian inside of a traced function: one gradient for each element of the result.

    Raises:
        NotSupportedError: the result has too many elements.
    """
    inner = call_inside(f, args, keywords, argnums, has_aux)
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
    """Return for each x the derivatives of all elements of y, in the shape y.shape + x.shape."""
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
    """Return the sum of the products of all elements; None for empty lists."""
    total: Any = None
    for x, y in zip(xs, ys, strict=True):
        part = CALLS["sum"](CALLS["mul"](x, y))
        total = part if total is None else total + part
    return total


def _is_floating(y: Symbol) -> bool:
    return bool(y.dtype.kind == "f")
