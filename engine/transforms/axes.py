"""Axes of `vmap`: match `in_axes` and `out_axes` to values, and move axes of rows."""

from collections.abc import Sequence
from typing import Any

from engine.core import ROW_CALLS, BadAttributeError, Operand, Result, ShapeMismatchError, shape_of, trees
from engine.tracers import Batch


def axes_of(name: str, axes: Any, tree: Any) -> list[int | None]:
    """Return the axis of each leaf of a tree; an axis or None in place of a subtree holds for all its leaves.

    name: "in_axes" or "out_axes", for messages.

    Raises:
        BadAttributeError: the axes do not have the form of the tree or its outer part.
    """
    if axes is None or (isinstance(axes, int) and not isinstance(axes, bool)):
        return [axes] * len(trees.leaves(tree))
    items = list(tree.values()) if isinstance(tree, dict) else tree
    if isinstance(axes, dict) and isinstance(tree, dict) and axes.keys() == tree.keys():
        axes = [axes[key] for key in tree]
    elif not isinstance(axes, list | tuple) or not isinstance(tree, list | tuple) or len(axes) != len(tree):
        raise BadAttributeError(
            f"vmap: {name} {axes!r} does not have the form of what it is for, nor of its outer part"
        )
    return [axis for part, item in zip(axes, items, strict=True) for axis in axes_of(name, part, item)]


def count_rows(values: Sequence[Operand], axes: Sequence[int | None]) -> int:
    """Return the number of rows: the length of the given axes, which must all agree.

    Raises:
        BadAttributeError: no value has an axis of rows.
        ShapeMismatchError: a value has no such axis, or the lengths differ.
    """
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


def gather_rows(batch: Batch, y: Operand, axis: int | None) -> Result:
    """Return the result for all rows, with their axis at `axis`; None for a result that all rows share.

    Raises:
        BadAttributeError: the axis is None, but the result differs from row to row.
        ShapeMismatchError: the result has no such axis.
    """
    if axis is not None:
        return move_axis(batch.unwrap(y), 0, axis)
    if batch.holds(y):
        raise BadAttributeError("vmap: out_axes is None for a result that differs from row to row")
    return y


def move_axis(x: Operand, source: int, target: int) -> Result:
    """Move one axis of a value to another position.

    Raises:
        ShapeMismatchError: the value has no such axis.
    """
    ndim = len(shape_of(x))
    for axis in (source, target):
        if not -ndim <= axis < ndim:
            raise ShapeMismatchError(f"vmap: there is no axis {axis} in a value of shape {shape_of(x)}")
    order = [a for a in range(ndim) if a != source % ndim]
    order.insert(target % ndim, source % ndim)
    return ROW_CALLS["transpose"](x, tuple(order)) if order != list(range(ndim)) else x
