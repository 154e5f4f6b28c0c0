"""Which axis of each value counts rows, where they come from and where they go."""

from collections.abc import Sequence
from typing import Any

from engine.core import trees
from engine.core.errors import BadAttributeError, ShapeMismatchError
from engine.core.table import CALLS
from engine.core.values import shape_of
from engine.tracers.batching import Batch


def axes_of(name: str, axes: Any, tree: Any) -> list[int | None]:
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
    return [axis for part, item in zip(axes, items, strict=True) for axis in axes_of(name, part, item)]


def count_rows(values: Sequence[Any], axes: Sequence[int | None]) -> int:
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


def gathered(batch: Batch, y: Any, axis: int | None) -> Any:
    """A result of all rows, whose axis is where it is wanted; None where all rows are alike."""
    if axis is not None:
        return moved(batch.unwrap(y), 0, axis)
    if batch.holds(y):
        raise BadAttributeError("vmap: out_axes is None for a result that differs from row to row")
    return y


def moved(x: Any, source: int, target: int) -> Any:
    """A value with one of its axes at another place."""
    ndim = len(shape_of(x))
    for axis in (source, target):
        if not -ndim <= axis < ndim:
            raise ShapeMismatchError(f"vmap: there is no axis {axis} in a value of shape {shape_of(x)}")
    order = [a for a in range(ndim) if a != source % ndim]
    order.insert(target % ndim, source % ndim)
    return CALLS["transpose"](x, tuple(order)) if order != list(range(ndim)) else x
