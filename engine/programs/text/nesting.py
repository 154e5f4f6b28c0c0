"""Limits on how deep documents nest: as they are written, and as text where nodes are read by their place."""

from typing import Any

from engine.core.errors import LimitExceededError
from engine.graph.ir import Graph
from engine.graph.limits import check_limit
from engine.programs.text.scan import Scanner
from engine.programs.text.write import as_text


def check_depth(document: Any, max_depth: int) -> None:
    """Counts the levels of objects and lists in each other, without recursion.

    Raises:
        LimitExceededError: there are more.
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
    """Holds a program to the limits on text, for a list of nodes can nest them deeper than any text.

    Raises:
        LimitExceededError: its text would be refused.
    """
    try:
        Scanner(as_text(graph), max_depth, max_chain, max_nodes).scan()
    except LimitExceededError as error:
        detail = f"as nodes read by their place are nested, {error.detail}; give them ids"
        raise LimitExceededError(detail, limit=error.limit) from None
