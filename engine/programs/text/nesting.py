"""Limits on the nesting of documents: as written, and as text if nodes are referred to by their index."""

from typing import Any

from engine.core import LimitExceededError
from engine.graph import Graph, check_limit
from engine.programs.text.scan import Scanner
from engine.programs.text.write import as_text


def check_depth(document: Any, max_depth: int) -> None:
    """Check the depth of nested objects and lists, without recursion.

    Raises:
        LimitExceededError: it is more than `max_depth`.
    """
    level, depth = [document], 0
    while level:
        depth += 1
        check_limit("depth", depth, max_depth, "the graph")
        level = [child for item in level for child in _containers(item)]


def _containers(item: Any) -> list[Any]:
    items = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    if {dict, list}.isdisjoint(map(type, items)):
        return []
    return [child for child in items if isinstance(child, dict | list)]


def check_as_text(graph: Graph, max_depth: int, max_chain: int, max_nodes: float) -> None:
    """Check a program against the limits on text, because references by index can nest nodes to any depth.

    Raises:
        LimitExceededError: its text would exceed a limit.
    """
    try:
        Scanner(as_text(graph), max_depth, max_chain, max_nodes).scan()
    except LimitExceededError as error:
        detail = f"as nodes read by their place are nested, {error.detail}; give them ids"
        raise LimitExceededError(detail, limit=error.limit) from None
