# The engine's own code, from engine/core/trees.py by `make mirror`: do not edit.
"""Nested lists, tuples and dicts of values: taken apart into leaves and put together again. None holds nothing."""

from collections.abc import Callable, Iterator
from typing import Any

from pullback.errors import InvalidValueError

#: Containers inside of containers.
_DEEPEST = 100


def leaves(tree: Any, like: Any = None, depth: int = 0) -> list[Any]:
    """The values in it, from left to right; those of a dict in its order, or in that of another tree of its form.

    >>> leaves({"w": [1.0, 2.0], "b": (3.0, None)})
    [1.0, 2.0, 3.0]
    >>> leaves({"a": 1.0, "b": 2.0}, like={"b": 0.0, "a": 0.0})
    [2.0, 1.0]

    Raises:
        InvalidValueError: it is nested too deep, as one that contains itself is.
    """
    if tree is None:
        return []
    if isinstance(tree, dict):
        items: Any = [(tree[key], None if like is None else like[key]) for key in (like or tree)]
    elif isinstance(tree, list | tuple):
        items = zip(tree, [None] * len(tree) if like is None else like, strict=True)
    else:
        return [tree]
    if depth == _DEEPEST:
        raise InvalidValueError(f"lists, tuples or dicts are nested more than {_DEEPEST} deep, or contain themselves")
    return [leaf for item, other in items for leaf in leaves(item, other, depth + 1)]


def paths(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """For each leaf the keys and places that lead to it.

    >>> paths({"w": [1.0, 2.0], "b": 3.0})
    [('w', 0), ('w', 1), ('b',)]
    """
    if tree is None:
        return []
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [path for key, item in items for path in paths(item, (*before, key))]
    return [before]


def filled(tree: Any, values: Iterator[Any]) -> Any:
    """The same containers with other leaves.

    >>> filled({"w": [1.0, 2.0], "b": (3.0, None)}, iter("abc"))
    {'w': ['a', 'b'], 'b': ('c', None)}
    """
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: filled(item, values) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        items = [filled(item, values) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return next(values)


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """A function of every leaf, in the same containers."""
    return filled(tree, map(function, leaves(tree)))


def form(tree: Any) -> Any:
    """The containers without their leaves, to be compared.

    >>> form([1.0, (2.0, None)]) == form([5, (6, None)])
    True
    """
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: form(item) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return (type(tree), *map(form, tree))
    return ...
