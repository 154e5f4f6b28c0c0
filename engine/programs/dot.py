"""Pictures of a tape in Graphviz's DOT language."""

import re
from collections.abc import Mapping

import numpy as np

from engine.core import Variable

#: The most elements that a label shows in full.
_LARGEST_WHOLE = 16
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\n", "&": "&amp;"})
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def dot(variable: Variable, verbose: bool = False, names: Mapping[int, str] | None = None) -> str:
    """Return the tape of a variable as DOT text: variables in orange, functions as lightblue boxes, each once.

    variable: the end of the tape.
    verbose: label variables with their values, large arrays abridged, instead of their names.
    names: id of a variable -> label, for variables without a name.

    Nodes are numbered from the end of the tape backwards, so that equal tapes give equal text.

    >>> x = Variable(1.0, name="x")
    >>> print(dot(x + x))
    digraph g {
    "v0" [label="", color=orange, style=filled]
    "f0" [label="add", color=lightblue, style=filled, shape=box]
    "f0" -> "v0"
    "v1" -> "f0"
    "v1" -> "f0"
    "v1" [label="x", color=orange, style=filled]
    }
    """
    lines = ["digraph g {"]
    numbers = {id(variable): 0}
    found = [variable]
    for n, v in enumerate(found):  # grows while it is read
        label = escaped(_shown(v) if verbose else v.name or (names or {}).get(id(v), ""))
        lines.append(f'"v{n}" [label="{label}", color=orange, style=filled]')
        if v.creator is None:
            continue
        lines.append(f'"f{n}" [label="{escaped(v.creator.name)}", color=lightblue, style=filled, shape=box]')
        lines.append(f'"f{n}" -> "v{n}"')
        for x in v._parents:
            if isinstance(x, Variable):
                if id(x) not in numbers:
                    numbers[id(x)] = len(found)
                    found.append(x)
                lines.append(f'"v{numbers[id(x)]}" -> "f{n}"')
    return "\n".join([*lines, "}"])


def _shown(v: Variable) -> str:
    if v.size <= _LARGEST_WHOLE:
        return str(v)
    edge = 2 if v.ndim <= 2 else 1
    return f"{v.name or 'variable'}({np.array2string(v.data, threshold=_LARGEST_WHOLE, edgeitems=edge)})"


def escaped(text: str) -> str:
    """Escape text for a quoted label, where backslashes, quotes and HTML entities have a meaning."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text).translate(_ESCAPES)
