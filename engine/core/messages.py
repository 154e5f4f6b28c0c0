"""Parts of messages: the known names nearest to an unknown one, and lists of names."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

_FARTHEST = 3
_CANDIDATES = 50
_LISTED = 10


def nearest(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    """Return `; nearest: a, b` for a message; empty if no known name is near."""
    # Comparing is slow: the error for a document with many unknown names must stay cheap.
    alike = [other for other in known if abs(len(other) - len(name)) <= _FARTHEST]
    alike = sorted(alike, key=lambda other: other[:1] != name[:1])[:_CANDIDATES]
    found = get_close_matches(name, alike, n=3, cutoff=0.6)
    return f"; nearest: {', '.join(found)}" if found else ""


def listed(names: Sequence[str]) -> str:
    """Join names for a message; after the first few, write `...`."""
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
