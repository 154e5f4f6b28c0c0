"""Function transforms: derivatives of Python functions of arrays, in JAX's terms, each in one request.

A function is called once, on symbols, and what it does with them is sent as one program. So it cannot branch on values,
and is traced anew at each call. Arguments and results are numbers, arrays and nested lists, tuples and dicts of them.
`grad` and `value_and_grad` may stand inside of functions that are transformed.

>>> from pullback import functions as F
>>> grad(grad(F.sin))(1.0) == -F.sin(1.0)
True
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from pullback import trees
from pullback.errors import (
    BadAttributeError,
    NotDifferentiableError,
    NotScalarError,
    NotSupportedError,
    ShapeMismatchError,
)
from pullback.recording.current import current
from pullback.recording.trace import Symbol, Trace
from pullback.table import CALLS
from pullback.values import Shape, as_raw, canonical, dtype_of, shape_of

Function = Callable[..., Any]

_tracing: ContextVar[Trace | None] = ContextVar("tracing", default=None)


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
        run = _Run(f, args, keywords, argnums, has_aux)
        y = run.only_output()
        if run.is_inside:
            slopes = [run.trace.node("grad", [y, x])[0] for x in run.xs]
            value, found = run.y, trees.filled(run.chosen, iter(slopes))
            return ((value, run.aux), found) if has_aux else (value, found)
        backward = {"of": y.name, "wrt": run.wrt} if run.wrt else False
        answer = run.trace.client.evaluate(**run.program, backward=backward)
        run.check_scalar(answer.values[y.name])
        value, found = run.value(answer.values), run.in_form(answer.grads or {})
        return ((value, run.filled_aux(answer.values)), found) if has_aux else (value, found)

    return both


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function, and the function that carries a cotangent of it back to its arguments.

    Returns (y, pullback), or (y, pullback, aux). `pullback(cotangent)`, of a cotangent in the form of y, returns a
    tuple: for each argument the product of the cotangent with the Jacobian.

    >>> y, pullback = vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> y, pullback(1.0)
    (6.0, (3.0, 2.0))
    """
    run = _Run(f, primals, {}, tuple(range(len(primals))), has_aux).outside("vjp")
    answer = run.trace.client.evaluate(**run.program)
    y = run.value(answer.values)

    def pullback(cotangent: Any) -> Any:
        _check_form("cotangent", cotangent, run.y)
        pairs = zip(run.ys, trees.leaves(cotangent, run.y), strict=True)
        cotangents: dict[str, Any] = {}
        for symbol, g in pairs:
            raw = as_raw(g)
            # An output that stands in two places has the sum of what comes from both.
            cotangents[symbol.name] = cotangents[symbol.name] + raw if symbol.name in cotangents else raw
        if not run.wrt:
            return run.in_form({})
        return run.in_form(run.trace.client.vjp(**run.program, cotangents=cotangents, wrt=run.wrt).vjps)

    return (y, pullback, run.filled_aux(answer.values)) if has_aux else (y, pullback)


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """The value of a function, and its derivative along tangents of its arguments.

    primals, tangents: tuples of as many values as f has arguments, of the same form.
    Returns (y, dy), or (y, dy, aux); dy has the form of y.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 3.0)
    """
    _check_form("tangent", list(tangents), list(primals))
    run = _Run(f, tuple(primals), {}, tuple(range(len(primals))), has_aux).outside("jvp")
    given = run.directions(tangents, primals)
    if given:
        found = run.trace.client.jvp(**run.program, tangents=given)
        values, slopes = found.values, run.value(found.jvps)
    else:
        values = run.trace.client.evaluate(**run.program).values
        slopes = trees.mapped(lambda y: canonical(np.zeros_like(y)), run.value(values))
    value = run.value(values)
    return (value, slopes, run.filled_aux(values)) if has_aux else (value, slopes)


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
        run = _Run(f, args, keywords, argnums, has_aux).outside("jacobian")
        if run.wrt:
            answer = run.trace.client.jacobian(**run.program, wrt=run.wrt, mode=mode)
            blocks, values = answer.jacobian, answer.values
        else:
            blocks, values = {}, run.trace.client.evaluate(**run.program).values
        rows = [run.in_form(blocks.get(y.name, {}), np.shape(values[y.name])) for y in run.ys]
        found = trees.filled(run.y, iter(rows))
        return (found, run.filled_aux(values)) if has_aux else found

    return matrices


def hessian(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """All second derivatives of a function of one element, in the form of the argument and in each place again.

    Arguments and errors as of `grad`.
    """

    @functools.wraps(f)
    def matrices(*args: Any, **keywords: Any) -> Any:
        run = _Run(f, args, keywords, argnums, has_aux).outside("hessian")
        y = run.only_output()
        if run.wrt:
            answer = run.trace.client.hessian(**run.program, of=y.name, wrt=run.wrt)
            blocks, values = answer.hessian, answer.values
        else:
            blocks, values = {}, run.trace.client.evaluate(**run.program).values
            run.check_scalar(values[y.name])
        rows = [run.in_form(blocks.get(x.name, {}), run.shape(x)) for x in run.xs]
        found = trees.filled(run.chosen, iter(rows))
        return (found, run.filled_aux(values)) if has_aux else found

    return matrices


def hvp(f: Function, primals: Sequence[Any], vectors: Sequence[Any]) -> tuple[Any, ...]:
    """The product of the Hessian of a function of one element with a vector, without the matrix.

    primals, vectors: tuples of as many values as f has arguments, of the same form. Returns a tuple in that form.

    >>> hvp(lambda x, y: x * x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 4.0)
    """
    _check_form("vector", list(vectors), list(primals))
    run = _Run(f, tuple(primals), {}, tuple(range(len(primals))), has_aux=False).outside("hvp")
    given, y = run.directions(vectors, primals), run.only_output()
    if given:
        found = run.trace.client.hvp(**run.program, of=y.name, vectors=given, wrt=list(given)).hvp
    else:
        run.check_scalar(run.trace.client.evaluate(**run.program).values[y.name])
        found = {}
    products: tuple[Any, ...] = run.in_form(found)
    return products


class _Run:
    """A function called on symbols."""

    def __init__(self, f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool) -> None:
        outer = _tracing.get()
        self.is_inside = outer is not None
        self.trace = outer if outer is not None else Trace(current().client)
        numbers = list(argnums) if isinstance(argnums, (list, tuple)) else [argnums]
        for number in numbers:
            if not -len(args) <= number < len(args):
                raise BadAttributeError(f"argnums: there is no argument {number}; the call has {len(args)}")
        if len({number % len(args) for number in numbers}) < len(numbers):
            raise BadAttributeError(f"argnums: {argnums} names an argument twice")
        picked = [args[number] for number in numbers]
        self.chosen = tuple(picked) if isinstance(argnums, (list, tuple)) else picked[0]
        make = self.trace.symbol if self.is_inside else self._input
        self.xs = [make(x) for x in trees.leaves(self.chosen)]
        symbols = trees.filled(self.chosen, iter(self.xs))
        full = list(args)
        for number, x in zip(numbers, symbols if isinstance(argnums, (list, tuple)) else [symbols], strict=True):
            full[number] = x
        try:
            with _traced(self.trace):
                y = f(*full, **keywords)
            self._take(f, y, has_aux)
        finally:
            self.trace.is_over = not self.is_inside

    def _take(self, f: Function, y: Any, has_aux: bool) -> None:
        """Reads the program off what the function returned."""
        if has_aux and not (isinstance(y, tuple) and len(y) == 2):
            raise BadAttributeError(
                f"has_aux: {getattr(f, '__name__', f)} returned {type(y).__name__}; expected a pair"
            )
        self.aux: Any = None
        if has_aux:
            y, self.aux = y
        # Each result is a node of its own: one that is an input, or a plain number, becomes one.
        for leaf in trees.leaves([y, self.aux]):
            if type(leaf) is Symbol:
                self.trace.check_own("return", leaf)
        self.ys = [self._as_node(leaf) for leaf in trees.leaves(y)]
        self.y: Any = trees.filled(y, iter(self.ys))
        #: The program and its inputs, and those of them that are differentiated.
        self.program: dict[str, Any] = {}
        self.wrt: list[str] = []
        if not self.is_inside:
            aux = [leaf.name for leaf in trees.leaves(self.aux) if type(leaf) is Symbol]
            graph, inputs = self.trace.program(list(dict.fromkeys([*(each.name for each in self.ys), *aux])))
            self.program = {"graph": graph, "inputs": inputs}
            self.wrt = [x.name for x in self.xs if x.name in inputs]

    def _input(self, x: Any) -> Symbol:
        raw = as_raw(x)
        if dtype_of(raw).kind != "f":
            raise NotDifferentiableError(f"an argument is {dtype_of(raw)}; only floating ones are differentiated")
        return self.trace.input(raw)

    def _as_node(self, leaf: Any) -> Symbol:
        if type(leaf) is Symbol and leaf.name not in self.trace.inputs:
            return leaf
        return self.trace.symbol(leaf)

    def outside(self, transform: str) -> _Run:
        """Itself, where no other function is being traced.

        Raises:
            NotSupportedError: one is.
        """
        if self.is_inside:
            raise NotSupportedError(
                f"{transform}: inside of a function that is traced there are only grad and value_and_grad"
            )
        return self

    def only_output(self) -> Symbol:
        """The only result.

        Raises:
            NotScalarError: there are several, or none.
        """
        if type(self.y) is not Symbol:
            kind = type(self.y).__name__
            raise NotScalarError(
                f"expected a function of one element; this one returns {len(self.ys)} values in a {kind}"
            )
        return self.y

    def directions(self, given: Any, primals: Any) -> dict[str, Any]:
        """Tangents or vectors of the inputs that count."""
        leaves = trees.leaves(list(given), list(primals))
        return {x.name: as_raw(t) for x, t in zip(self.xs, leaves, strict=True) if x.name in self.wrt}

    def shape(self, x: Symbol) -> Shape:
        """The shape of an argument."""
        return shape_of(self.trace.inputs[x.name])

    @staticmethod
    def check_scalar(value: Any) -> None:
        """Raises NotScalarError where a result has more elements than one, or none."""
        if math.prod(np.shape(value)) != 1:
            raise NotScalarError(
                f"expected a function of one element, this one returns shape {np.shape(value)}; reduce it first"
            )

    def value(self, values: dict[str, Any]) -> Any:
        """The result."""
        return trees.filled(self.y, iter([values[y.name] for y in self.ys]))

    def filled_aux(self, values: dict[str, Any]) -> Any:
        """What came with it."""
        return trees.mapped(lambda leaf: values[leaf.name] if type(leaf) is Symbol else leaf, self.aux)

    def in_form(self, found: dict[str, Any], before: Shape = ()) -> Any:
        """Results by name in the form of the arguments; zeros for those that the function does not use."""
        raws = [self.trace.inputs[x.name] for x in self.xs]
        zeros = (canonical(np.zeros((*before, *shape_of(raw)), dtype_of(raw))) for raw in raws)
        return trees.filled(
            self.chosen, iter([found.get(x.name, zero) for x, zero in zip(self.xs, zeros, strict=True)])
        )


@contextmanager
def _traced(trace: Trace) -> Iterator[None]:
    token = _tracing.set(trace)
    try:
        yield
    finally:
        _tracing.reset(token)


def _check_form(what: str, given: Any, expected: Any) -> None:
    """Raises ShapeMismatchError where two trees have not the same containers."""
    if trees.form(given) != trees.form(expected):
        raise ShapeMismatchError(f"{what}: {given!r} is not in the form of {expected!r}")
    for g, x in zip(trees.leaves(given, expected), trees.leaves(expected), strict=True):
        if type(x) is not Symbol and shape_of(as_raw(g)) != shape_of(as_raw(x)):
            raise ShapeMismatchError(f"{what}: expected shape {shape_of(as_raw(x))}, got {shape_of(as_raw(g))}")
