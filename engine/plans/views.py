"""Views of views: merge consecutive transposes, reshapes and slices."""

from typing import Any, NamedTuple

from engine.core import ROW_CALLS, Attributes, Aval, Shape, Symbol, Value, slice_item
from engine.plans.step import Steps


def transposed(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    """Return `x` for a transpose that moves no axis, and one transpose for two; None for any other."""
    [x] = xs
    order = _order(attrs["axes"], x.ndim)
    if order == tuple(range(x.ndim)):
        return x
    step = trace.steps[x.index]
    if not step.runs("transpose"):
        return None
    first = _order(step.attrs["axes"], x.ndim)
    return _found(ROW_CALLS["transpose"](trace.symbol(step.args[0]), tuple(first[a] for a in order)))


def reshaped(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    """Return `x` for a reshape to its own shape, and one reshape for two of a vector; None for any other.

    The first reshape of a matrix may copy it to C order, which changes the rounding of sums over it.
    """
    [x] = xs
    if x.shape == out.shape and x.dtype == out.dtype and x.aval.weak == out.weak and x.dtype.kind == "f":
        return x
    step = trace.steps[x.index]
    if not step.runs("reshape"):
        return None
    inner = trace.symbol(step.args[0])
    is_vector = sum(length != 1 for length in inner.shape) <= 1
    return _found(ROW_CALLS["reshape"](inner, out.shape)) if is_vector else None


def sliced(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    """Return one slice for two; None for any other."""
    [x] = xs
    step = trace.steps[x.index]
    if not step.runs("slice"):
        return None
    inner = trace.symbol(step.args[0])
    first = _spans(step.attrs["index"], inner.shape)
    second = _spans(attrs["index"], x.shape)
    if first is None or second is None:
        return None
    later = iter(second)
    both = [span if isinstance(span, int) else _within(span, next(later)) for span in first]
    return _found(ROW_CALLS["slice"](inner, tuple(map(_item, both))))


class _Span(NamedTuple):
    """Range of elements along an axis: `length` elements from `start`, `step` apart."""

    start: int
    step: int
    length: int


def _spans(index: tuple[Any, ...], shape: Shape) -> list[_Span | int] | None:
    """Return the element or the span that a basic index takes of each axis; None for new axes and integer lists."""
    if any(item is None or (isinstance(item, tuple) and item[0] != "slice") for item in index):
        return None
    missing = [("slice", None, None, None)] * (len(shape) - sum(item is not Ellipsis for item in index))
    at = next((k for k, item in enumerate(index) if item is Ellipsis), len(index))
    items = [*index[:at], *missing, *index[at + 1 :]]
    found: list[_Span | int] = []
    for item, length in zip(items, shape, strict=True):
        if isinstance(item, tuple):
            taken = range(length)[slice(*item[1:])]
            found.append(_Span(taken.start, taken.step, len(taken)))
        else:
            found.append(item % length)
    return found


def _within(span: _Span, later: _Span | int) -> _Span | int:
    """Convert a span or an element of a span to one of the whole axis."""
    if isinstance(later, int):
        return span.start + span.step * later
    return _Span(span.start + span.step * later.start, span.step * later.step, later.length)


def _item(span: _Span | int) -> int | tuple[str | int | None, ...]:
    if isinstance(span, int):
        return span
    if not span.length:
        return slice_item(0, 0)
    stop = span.start + span.step * span.length
    return slice_item(span.start, stop if stop >= 0 else None, span.step)


def _order(axes: tuple[int, ...] | int | None, ndim: int) -> tuple[int, ...]:
    given = tuple(reversed(range(ndim))) if axes is None else (axes,) if isinstance(axes, int) else axes
    return tuple(a % ndim for a in given)


def _found(symbol: Value) -> Symbol:
    result: Symbol = symbol
    return result
