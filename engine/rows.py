"""Constructors for the common kinds of rows, and the shape and dtype rules that rows share."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from engine.core import (
    AXES,
    FLOAT64,
    INT64,
    Attribute,
    Aval,
    BadAttributeError,
    DType,
    InvalidValueError,
    Lowering,
    Operand,
    Operation,
    Shape,
    ShapeMismatchError,
    Value,
    Vjp,
    aval,
    canonical_dtype,
    ex,
    of_floats,
    public_call,
    register,
    row_call,
    runner,
    shape_of,
)
from engine.core.attributes import BOOL, Axes
from engine.core.trees import Function
from engine.core.values import BOOL as BOOL_DTYPE
from engine.tracers import aligned, leading

Domain = tuple[float, float]
#: Computes the value of an operation from raw values and attributes.
Forward = Callable[..., Value]
#: The function that other rows call, see `define`; constructors return it.
Row = Function
#: Wide enough to see curvature, narrow enough for exp.
REAL: Domain = (-2.0, 2.0)
POSITIVE: Domain = (0.3, 3.0)

# Costs are in floating-point operations: each takes about 0.3 ns on one processor, whatever the row and the values,
# and less in products of matrices.
#: Cost of one element of a transcendental function.
TRANSCENDENTAL = 10
#: Cost of one of NumPy's inner loops, beside its elements.
LOOP = 20
#: The same for maxima: after a loop over NaN, the processor's flags are cleared.
LOOP_OF_MAXIMA = 100

_AXIS_SHAPES: tuple[Shape, ...] = ((), (3,), (2, 3), (0,), (2, 0))
_PAIRS: tuple[tuple[Shape, Shape], ...] = (
    ((), ()),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), ()),
    ((), (2, 3)),
    ((2, 1), (1, 3)),
    ((0,), (1,)),
)

#: Number of combinations of shapes and dtypes for which an elementwise row remembers those of its result.
_REMEMBERED = 64

_LOWERING = {each.name for each in dataclasses.fields(Lowering)}


def define(*, operands: tuple[str, ...], symbol: str = "", **fields: Any) -> Row:
    """Add an operation to the table; return the function that other rows call, with attributes in canonical form.

    The fields are those of `Operation` and of its `Lowering`; `scalar` may be an expression in terms of the operands.
    """
    lowering = {key: fields.pop(key) for key in _LOWERING & fields.keys()}
    lowering |= of_floats(lowering.get("scalar"), operands, symbol)
    op = Operation(operands=operands, symbol=symbol, lowering=Lowering(**lowering), **fields)
    op.run = runner(op)
    public = public_call(op)
    call = row_call(op, public)
    register(op, public, call)
    return call


def unary(
    name: str,
    ufunc: Forward,
    vjp: Vjp | None,
    *,
    domain: Domain = REAL,
    dtype: str = "floating",
    flops: int = TRANSCENDENTAL,
    **fields: Any,
) -> Row:
    """Define a unary elementwise row; vjp is `(g, y, x) -> cotangent of x`, or None.

    dtype: "floating" converts int and bool to float64, "same" follows NumPy's rule, "bool" gives a mask.
    fields: further ones of `Operation` and `Lowering`.
    """
    examples = tuple(ex(shape) for shape in _AXIS_SHAPES)
    return elementwise(
        name, ("x",), ufunc, (vjp,), domain=(domain,), dtype=dtype, flops=flops, examples=examples, **fields
    )


def binary(
    name: str,
    ufunc: Forward,
    vjp1: Vjp | None,
    vjp2: Vjp | None,
    *,
    domain: tuple[Domain, Domain] = (REAL, REAL),
    **fields: Any,
) -> Row:
    """Define an elementwise row of two operands that broadcast; vjps are `(g, y, x1, x2) -> cotangent`, or None.

    fields: those of `elementwise`, and further ones of `Operation` and `Lowering`.
    """
    examples = tuple(ex(*pair) for pair in _PAIRS)
    return elementwise(name, ("x1", "x2"), ufunc, (vjp1, vjp2), domain=domain, examples=examples, **fields)


def elementwise(
    name: str,
    operands: tuple[str, ...],
    function: Forward,
    vjps: tuple[Vjp | None, ...],
    *,
    dtype: str = "same",
    dtype_operands: slice = slice(None),
    dtype_attributes: tuple[str, ...] = (),
    like: np.ufunc | None = None,
    kind: str = "elementwise",
    flops: int = 1,
    takes_out: bool = False,
    **fields: Any,
) -> Row:
    """Define an elementwise row; `dtype_operands` and the numbers in `dtype_attributes` determine the result's dtype.

    like: the ufunc whose dtype rule applies if `function` is not a ufunc.
    takes_out: `function` is not a ufunc but takes `out` like one: an array, which may be an operand.
    fields: further ones of `Operation` and `Lowering`.
    """
    ufunc = like or (function if isinstance(function, np.ufunc) else None)
    rule: Callable[..., DType] = {"floating": _floating, "same": _promoted, "bool": _bool}[dtype]

    def infer(*avals: Aval, **attrs: Any) -> Aval:
        numbers = [aval(attrs[key]) for key in dtype_attributes if attrs[key] is not None]
        found = rule(name, (*avals[dtype_operands], *numbers), ufunc)
        return Aval(broadcast_shapes(name, [a.shape for a in avals]), found)

    return define(
        name=name,
        operands=operands,
        kind=kind,
        forward=in_floating(function) if dtype == "floating" else function,
        ufunc=function if takes_out or isinstance(function, np.ufunc) else None,
        is_fresh=True,
        vjps=vjps,
        # Tracing asks again and again for the same few shapes.
        infer=infer if "attributes" in fields else lru_cache(_REMEMBERED)(infer),
        flops=lambda *avals, out, **attrs: flops * out.size,
        batch=aligned,
        **fields,
    )


def reduction(
    name: str,
    forward: Forward,
    vjp: Vjp | None,
    *,
    kind: str = "other",
    dtype: Callable[[DType], DType] = lambda d: d,
    has_identity: bool = True,
    domain: Domain = REAL,
    flops: int = 1,
    loop: int = LOOP,
    **fields: Any,
) -> Row:
    """Define a row that reduces over axes; forward is `(x, axes, keepdims)`, vjp `(g, y, x, axes, keepdims)`.

    has_identity: the reduction over no elements is defined; otherwise it raises ShapeMismatchError.
    flops, loop: cost of one element, and of one inner loop.

    fields: further ones of `Operation` and `Lowering`.
    """

    def infer(x: Aval, axes: Axes, keepdims: bool) -> Aval:
        over = normalize_axes(name, axes, len(x.shape))
        if not has_identity and any(x.shape[a] == 0 for a in over):
            raise ShapeMismatchError(f"{name}: nothing to reduce: shape {x.shape} is empty along axes {list(over)}")
        return Aval(reduced_shape(x.shape, over, keepdims), dtype(x.dtype))

    shapes = (ex(()), ex((3,)), ex((2, 3), axes=(1,)), ex((2, 3), axes=-2, keepdims=True), ex((2, 3, 2), axes=(0, -1)))
    some = (ex((2, 3), axes=()), *((ex((0, 2)), ex((0, 2), axes=1)) if has_identity else (ex((0, 2), axes=1),)))
    return define(
        name=name,
        operands=("x",),
        kind=kind,
        examples=shapes + some,
        attributes=(OVER_AXES, KEEPDIMS),
        forward=in_floating(forward) if dtype is floating else forward,
        vjps=(vjp,),
        infer=infer,
        flops=lambda x, out, **attrs: flops * x.size + loop * loops(x.shape),
        is_fresh=True,
        batch=leading,
        domain=(domain,),
        **fields,
    )


def composite(name: str, operands: tuple[str, ...], body: Function, **fields: Any) -> Row:
    """Define a row in terms of other rows: `body(*operands, **attributes)`; `fields` are those of `Operation`."""
    fields.setdefault("domain", (REAL,) * len(operands))
    return define(name=name, operands=operands, body=body, kind="composite", **fields)


def primitive(name: str, operands: tuple[str, ...], forward: Forward, **fields: Any) -> Row:
    """Define any other row; `fields` are those of `Operation` and `Lowering`."""
    fields.setdefault("domain", (REAL,) * len(operands))
    fields.setdefault("flops", lambda *avals, out, **attrs: out.size)
    fields.setdefault("kind", "other")
    return define(name=name, operands=operands, forward=forward, **fields)


#: `axes`, also spelled `axis`; None for all.
OVER_AXES = Attribute("axes", AXES, None, ("axis",))
KEEPDIMS = Attribute("keepdims", BOOL, False)


def in_floating(function: Forward) -> Forward:
    """Wrap a function so that it computes in float64 if no operand is floating; NumPy's exp of a bool is float16."""

    def forward(*xs: Value, **attrs: Any) -> Value:
        kinds = [x.dtype.kind for x in xs if isinstance(x, (np.ndarray, np.generic))]
        if "f" not in kinds:
            xs = tuple(np.asarray(x, FLOAT64) for x in xs)
        return function(*xs, **attrs)

    return forward


def _bool(name: str, avals: Sequence[Aval], ufunc: np.ufunc | None) -> DType:
    return BOOL_DTYPE


def _floating(name: str, avals: Sequence[Aval], ufunc: np.ufunc | None) -> DType:
    return floating(promote(avals))


def summed(dtype: DType) -> DType:
    """Return the dtype of sums: the dtype itself if floating, otherwise int64."""
    return dtype if dtype.kind == "f" else INT64


def floating(dtype: DType) -> DType:
    """Return the dtype itself if floating, otherwise float64."""
    return dtype if dtype.kind == "f" else FLOAT64


def _promoted(name: str, avals: Sequence[Aval], ufunc: np.ufunc | None) -> DType:
    if ufunc is None:
        return promote(avals)
    if all(a.weak for a in avals):
        avals = [Aval((), a.dtype) for a in avals]
    return _resolved(name, ufunc, tuple(a.weak if a.weak in (int, float) else a.dtype for a in avals))


@lru_cache(maxsize=1024)
def _resolved(name: str, ufunc: np.ufunc, given: tuple[Any, ...]) -> DType:
    try:
        return canonical_dtype(ufunc.resolve_dtypes((*given, *[None] * ufunc.nout))[-1])
    except TypeError as error:
        shown = ", ".join(getattr(d, "__name__", str(d)) for d in given)
        raise InvalidValueError(f"{name}: not defined for dtypes {shown}") from error


def promote(avals: Iterable[Aval]) -> DType:
    """Return the dtype that operands promote to, by NumPy's rule; a weak Python number adapts to the others."""
    avals = list(avals)
    if all(a.weak for a in avals):
        return BOOL_DTYPE if all(a.weak is bool for a in avals) else FLOAT64
    return canonical_dtype(np.result_type(*(a.weak(0) if a.weak else a.dtype for a in avals)))


def broadcast_shapes(name: str, shapes: Sequence[Shape]) -> Shape:
    """Return the shape to which all shapes broadcast.

    Raises:
        ShapeMismatchError: they do not broadcast.
    """
    found: Shape = ()
    for shape in shapes:
        if shape and shape != found:
            if found:
                break
            found = shape
    else:
        # Numbers, and values of one shape.
        return found
    ndim = max(map(len, shapes))
    result = [1] * ndim
    for shape in shapes:
        for i, length in enumerate(shape, ndim - len(shape)):
            if length != 1:
                if result[i] not in (1, length):
                    listed = " and ".join(str(s) for s in shapes)
                    raise ShapeMismatchError(f"{name}: shapes {listed} do not broadcast: {result[i]} != {length}")
                result[i] = length
    return tuple(result)


def normalize_axis(name: str, axis: int, ndim: int) -> int:
    """Return the axis as a non-negative number.

    Raises:
        BadAttributeError: there is no such axis.
    """
    if not -ndim <= axis < ndim:
        raise BadAttributeError(f"{name}: axis {axis} is out of range for an operand of {ndim} axes")
    return axis % ndim


def normalize_axes(name: str, axes: Axes, ndim: int) -> tuple[int, ...]:
    """Return the axes as sorted non-negative numbers; None means all.

    Raises:
        BadAttributeError: an axis does not exist, or occurs twice.
    """
    if axes is None:
        return tuple(range(ndim))
    given = [axes] if isinstance(axes, int) else list(axes)
    over = [normalize_axis(name, a, ndim) for a in given]
    if len(set(over)) != len(over):
        raise BadAttributeError(f"{name}: axes {given} name an axis twice")
    return tuple(sorted(over))


def reduced_shape(shape: Shape, over: tuple[int, ...], keepdims: bool) -> Shape:
    """Return the shape after a reduction over some axes."""
    if keepdims:
        return tuple(1 if i in over else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in over)


def loops(shape: Shape) -> int:
    """Return the largest number of inner loops over an array: along its shortest axis, as some memory layouts need."""
    return prod(shape) // min((n for n in shape if n > 1), default=1)


def kept_shape(x: Operand, axes: Axes) -> Shape:
    """Return the shape of a reduction of x with keepdims."""
    shape = shape_of(x)
    return reduced_shape(shape, normalize_axes("", axes, len(shape)), True)
