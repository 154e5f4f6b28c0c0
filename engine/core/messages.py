"""Parts of messages: names that are near an unknown one, and lists of names."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

_FARTHEST = 3
_CANDIDATES = 50
_LISTED = 10


def nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """`; nearest: a, b` for a message, or nothing where no known name is near."""
    # Comparing is slow: a document that is wrong in many places must not become expensive to answer.
    alike = [other for other in known if abs(len(other) - len(name)) <= _FARTHEST]
    alike = sorted(alike, key=lambda other: other[:1] != name[:1])[:_CANDIDATES]
    found = get_close_matches(name, alike, n=3, cutoff=0.6)
    return f"; nearest: {', '.join(found)}" if found else ""


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first few of many."""
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
