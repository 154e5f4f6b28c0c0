"""Trees: nested lists, tuples and dicts of values, flattened into leaves and rebuilt. None has no leaves."""

from collections.abc import Callable, Iterator
from typing import Any

from .errors import InvalidValueError

#: Nested lists, tuples and dicts of values, to any depth. A type checker can only say that it is an object.
Tree = object
#: A function of values and trees of them.
Function = Callable[..., Any]

#: Maximum depth of nested containers.
_DEEPEST = 100
_TOO_DEEP = f"lists, tuples or dicts are nested more than {_DEEPEST} deep, or contain themselves"
#: A tuple, because `isinstance` of a union takes twice as long.
_CONTAINERS = (dict, list, tuple)


def leaves(tree: Tree, like: Any = None, depth: int = 0) -> list[Any]:
    """Return the leaves of a tree from left to right.

    like: a tree of the same form, whose dicts determine the order of leaves; by default, each dict has its own order.
    >>> leaves({"w": [1.0, 2.0], "b": (3.0, None)})
    [1.0, 2.0, 3.0]
    >>> leaves({"a": 1.0, "b": 2.0}, like={"b": 0.0, "a": 0.0})
    [2.0, 1.0]

    Raises:
        InvalidValueError: the tree is nested too deep, or contains itself.
    """
    if not isinstance(tree, _CONTAINERS):
        return [] if tree is None else [tree]
    if depth == _DEEPEST:
        raise InvalidValueError(_TOO_DEEP)
    items, others = tree, like
    if isinstance(tree, dict):
        keys = like or tree
        items, others = [tree[key] for key in keys], like and [like[key] for key in keys]
    found = []
    for item, other in zip(items, [None] * len(items) if others is None else others, strict=True):
        # Most items are leaves: no call for these.
        if isinstance(item, _CONTAINERS):
            found += leaves(item, other, depth + 1)
        elif item is not None:
            found.append(item)
    return found


def paths(tree: Tree, before: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Return the path of each leaf: its keys and positions.

    >>> paths({"w": [1.0, 2.0], "b": 3.0})
    [('w', 0), ('w', 1), ('b',)]

    Raises:
        InvalidValueError: see `leaves`.
    """
    if not isinstance(tree, _CONTAINERS):
        return [] if tree is None else [before]
    if len(before) == _DEEPEST:
        raise InvalidValueError(_TOO_DEEP)
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [path for key, item in items for path in paths(item, (*before, key))]


def unflatten(tree: Tree, values: Iterator[object]) -> Any:
    """Return the same containers with their leaves replaced by `values`.

    >>> unflatten({"w": [1.0, 2.0], "b": (3.0, None)}, iter("abc"))
    {'w': ['a', 'b'], 'b': ('c', None)}
    """
    return map_leaves(lambda _: next(values), tree)


def map_leaves(function: Function, tree: Tree, depth: int = 0) -> Any:
    """Apply a function to every leaf; return the results in the same containers.

    Raises:
        InvalidValueError: see `leaves`.
    """
    if not isinstance(tree, _CONTAINERS):
        return None if tree is None else function(tree)
    if depth == _DEEPEST:
        raise InvalidValueError(_TOO_DEEP)
    if isinstance(tree, dict):
        return {key: map_leaves(function, item, depth + 1) for key, item in tree.items()}
    items = [map_leaves(function, item, depth + 1) for item in tree]
    return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)


def structure(tree: Tree, depth: int = 0) -> Tree:
    """Return the containers without their leaves, for comparison.

    >>> structure([1.0, (2.0, None)]) == structure([5, (6, None)])
    True

    Raises:
        InvalidValueError: see `leaves`.
    """
    if not isinstance(tree, _CONTAINERS):
        return None if tree is None else ...
    if depth == _DEEPEST:
        raise InvalidValueError(_TOO_DEEP)
    if isinstance(tree, dict):
        return {key: structure(item, depth + 1) for key, item in tree.items()}
    return (type(tree), *(structure(item, depth + 1) for item in tree))
