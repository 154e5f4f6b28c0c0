"""Nested lists, tuples and dicts of values: taken apart into leaves and put together again. None holds nothing."""

from collections.abc import Callable, Iterator
from typing import Any


def leaves(tree: Any) -> list[Any]:
    """The values in it, from left to right; those of a dict in its order.

    >>> leaves({"w": [1.0, 2.0], "b": (3.0, None)})
    [1.0, 2.0, 3.0]
    """
    if tree is None:
        return []
    if isinstance(tree, dict):
        return [leaf for item in tree.values() for leaf in leaves(item)]
    if isinstance(tree, list | tuple):
        return [leaf for item in tree for leaf in leaves(item)]
    return [tree]


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
