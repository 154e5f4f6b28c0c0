"""vmap: turns a function of one row into a function of many rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.core import trees
from pullback.core.current import tracing
from pullback.core.table import CALLS
from pullback.core.values import Shape, Value, as_raw, canonical, dtype_of, shape_of
from pullback.errors import BadAttributeError, NotSupportedError, ShapeMismatchError
from pullback.recording.trace import Argument, Symbol, Trace, dependents
from pullback.recording.trace_cache import Result
from pullback.transforms.calls import Function, Tracer, as_node

#: Limit of the nodes of a vmap inside of a traced function.
_MOST_NODES = 50_000


def vmap(f: Function, in_axes: Any = 0, out_axes: Any = 0) -> Function:
    """Vectorize a function of one row: the result computes all rows in one request.

    in_axes: for each argument, or each part of one, the axis of its rows; None if it is the same for all rows. One
        number stands for all parts.
    out_axes: the axis of the rows in each result; None if the result is the same for all rows.

    Inside of a traced function the program contains the operations of every row, at most 50,000 in all.

    >>> from pullback import functions as F
    >>> print(vmap(lambda x, w: F.sum(x * w), in_axes=(0, None))(np.eye(2), np.array([3.0, 4.0])))
    [3. 4.]

    Raises (when called):
        ShapeMismatchError: the numbers of rows differ, or an argument has no such axis.
        BadAttributeError: in_axes or out_axes do not fit the form of the arguments or results.
        TraceError: the function reads a value that differs from row to row.
        NotSupportedError: inside of a traced function there are no rows, or too many.
    """

    @functools.wraps(f)
    def over_rows(*args: Any, **keywords: Any) -> Any:
        spread = tuple(in_axes) if isinstance(in_axes, (list, tuple)) else (in_axes,) * len(args)
        axes = dict(enumerate(axes_of("in_axes", spread, args)))
        leaves = trees.leaves(args)
        chosen = {place: axis for place, axis in axes.items() if axis is not None}
        values = {place: _value(leaves[place]) for place in chosen}
        rows = count_rows([shape_of(x) for x in values.values()], list(chosen.values()))
        trace = tracing.get()
        if trace is not None:
            return _written_out(trace, f, args, keywords, chosen, rows, out_axes)
        moved = {place: canonical(np.moveaxis(x, chosen[place], 0)) for place, x in values.items()}
        symbols = {place: (shape_of(x)[1:], dtype_of(x)) for place, x in moved.items()}
        tracer = Tracer(f, (args, keywords), list(chosen), symbols)
        traced, inputs = tracer.bind(moved)
        batched = [n for n, s in traced.sources.items() if isinstance(s, Argument) and s.place in chosen]
        ys: list[Result] = trees.leaves(traced.y)
        places = axes_of("out_axes", out_axes, traced.y)
        if not ys:
            return traced.y
        varying = dependents(traced.program.graph["nodes"], batched)
        for y, axis in zip(ys, places, strict=True):
            _check_varying(y.name in varying, axis)
        values = traced.program.ask(tracer.client, "evaluate", inputs=inputs, batched=batched).values
        found = [_placed(values[y.name], axis, rows, bool(batched)) for y, axis in zip(ys, places, strict=True)]
        return trees.unflatten(traced.y, iter(found))

    return over_rows


def axes_of(name: str, axes: Any, tree: Any) -> list[int | None]:
    """Return the axis of each leaf of a tree; a number or None stands for all leaves below it."""
    if axes is None or (isinstance(axes, int) and not isinstance(axes, bool)):
        return [axes] * len(trees.leaves(tree))
    items = list(tree.values()) if isinstance(tree, dict) else tree
    if isinstance(axes, dict) and isinstance(tree, dict) and axes.keys() == tree.keys():
        axes = [axes[key] for key in tree]
    elif not isinstance(axes, (list, tuple)) or not isinstance(tree, (list, tuple)) or len(axes) != len(tree):
        raise BadAttributeError(
            f"vmap: {name} {axes!r} does not have the form of what it is for, nor of its outer part"
        )
    return [axis for part, item in zip(axes, items, strict=True) for axis in axes_of(name, part, item)]


def count_rows(shapes: Sequence[Shape], axes: Sequence[int]) -> int:
    """Return the number of rows, which is the same for all values that have an axis of rows.

    Raises:
        ShapeMismatchError: the numbers differ, or a value has no such axis.
        BadAttributeError: no value has an axis of rows.
    """
    lengths = []
    for shape, axis in zip(shapes, axes, strict=True):
        if not -len(shape) <= axis < len(shape):
            raise ShapeMismatchError(f"vmap: there is no axis {axis} in an argument of shape {shape}")
        lengths.append(shape[axis])
    if not lengths:
        raise BadAttributeError("vmap: in_axes has no axis of rows; at least one argument needs one")
    if len(set(lengths)) > 1:
        raise ShapeMismatchError(f"vmap: the numbers of rows differ: {', '.join(map(str, lengths))}")
    return lengths[0]


def _value(leaf: Any) -> Any:
    return leaf if type(leaf) is Symbol else as_raw(leaf)


def _check_varying(is_varying: bool, axis: int | None) -> None:
    if is_varying and axis is None:
        raise BadAttributeError("vmap: out_axes is None for a result that differs from row to row")


def _check_axis(axis: int, shape: Shape) -> None:
    if not -len(shape) <= axis < len(shape):
        raise ShapeMismatchError(f"vmap: there is no axis {axis} in a value of shape {shape}")


def _placed(value: Value, axis: int | None, rows: int, is_batched: bool) -> Value:
    """Move the axis of rows of a result to `axis`; remove it if that is None."""
    if not is_batched:
        # No input has rows, so the result was computed once.
        value = np.broadcast_to(value, (rows, *np.shape(value)))
    if axis is None:
        if not rows:
            raise NotSupportedError("vmap: out_axes is None, and there is no row that has the result; use out_axes=0")
        return canonical(value[0].copy())
    _check_axis(axis, np.shape(value))
    return canonical(np.moveaxis(value, 0, axis).copy())


def _written_out(
    trace: Trace,
    f: Function,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    chosen: dict[int, int],
    rows: int,
    out_axes: Any,
) -> Any:
    """Add a vmap to a trace: the nodes of the first row, and copies of them for the other rows.

    Raises:
        NotSupportedError: there are no rows, or too many.
    """
    if not rows:
        raise NotSupportedError(
            "vmap: inside of a function that is traced there has to be a row; make it the outermost"
        )
    leaves = trees.leaves(args)
    whole = {place: as_node(trace, leaves[place]) for place in chosen}
    parts = {
        place: [_row(whole[place], axis, len(shape_of(_value(leaves[place]))), n) for n in range(rows)]
        for place, axis in chosen.items()
    }
    begin = len(trace.nodes)
    full = [parts[place][0] if place in parts else leaf for place, leaf in enumerate(leaves)]
    y = f(*trees.unflatten(args, iter(full)), **keywords)
    ys = [as_node(trace, leaf) for leaf in trees.leaves(y)]
    places = axes_of("out_axes", out_axes, y)
    varying = dependents(trace.nodes[begin:], [own[0].name for own in parts.values()])
    count = sum(1 for node in trace.nodes[begin:] if not varying.isdisjoint(trace.ids(node)))
    if count * rows > _MOST_NODES:
        raise NotSupportedError(
            f"vmap: inside of a function that is traced each row is written out, here {rows} rows of {count} "
            f"operations, at most {_MOST_NODES} in all. Write the function for arrays with an axis of rows, or make "
            "vmap the outermost transform"
        )
    end = len(trace.nodes)
    names = [
        {},
        *(trace.copy(begin, end, {own[0].name: own[n].name for own in parts.values()}) for n in range(1, rows)),
    ]
    found = []
    for leaf, axis in zip(ys, places, strict=True):
        _check_varying(leaf.name in varying, axis)
        if axis is None:
            found.append(leaf)
            continue
        _check_axis(axis, (rows, *leaf.shape))
        alike = [Symbol(trace, each.get(leaf.name, leaf.name)) for each in names]
        found.append(CALLS["stack"](alike, axis=axis))
    return trees.unflatten(y, iter(found))


def _row(x: Symbol, axis: int, ndim: int, n: int) -> Any:
    return CALLS["slice"](x, (*[slice(None)] * (axis % ndim), n))
