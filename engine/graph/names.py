"""Names of inputs and nodes: their syntax, normalization, and the reserved names of constants."""

import keyword
import math
import re
import unicodedata
from collections.abc import Container

#: Constants of infix text; their names are reserved.
CONSTANTS = {"pi": math.pi, "e": math.e, "nan": math.nan, "inf": math.inf}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GENERATED = re.compile(r"_[0-9]+")
_SHOWN = 60
#: Maximum length of a name.
LONGEST_NAME = 200


def normalized(name: str) -> str:
    """Normalize a name to NFKC character by character: equal to full NFKC for valid names, linear in time for any.

    >>> normalized("ｘ")
    'x'
    """
    return name if name.isascii() else "".join(unicodedata.normalize("NFKC", c) for c in name)


def name_fault(name: str) -> str:
    """Explain why a normalized name is not valid for an input or node; empty if it is valid.

    >>> name_fault("lambda")
    '"lambda" is a keyword of Python and no name; write lam'
    """
    if len(name) > LONGEST_NAME:
        return f"{quoted(name)} is {len(name):,} letters long; a name has at most {LONGEST_NAME}"
    if not _NAME.fullmatch(name):
        return f"{quoted(name)} is no name; a name has letters a to z, digits and _, and does not begin with a digit"
    if keyword.iskeyword(name):
        return f'"{name}" is a keyword of Python and no name; write {"lam" if name == "lambda" else name + "_"}'
    if name in CONSTANTS:
        return f'"{name}" is a constant ({CONSTANTS[name]}), nothing else may have its name; write {name}_'
    if _GENERATED.fullmatch(name):
        return f"{quoted(name)} is reserved for nodes without a name; write n{name}"
    return ""


def is_generated(name: str) -> bool:
    """Return whether a name is a generated number, `_1, _2, ...`, of an unnamed node.

    >>> is_generated("_12"), is_generated("_a")
    (True, False)
    """
    return _GENERATED.fullmatch(name) is not None


def free_name(name: str, names: Container[str]) -> str:
    """Return a name with underscores appended until it is free, that is, not in `names`.

    >>> free_name("out", {"out"})
    'out_'
    """
    while name in names:
        name += "_"
    return name


def quoted(text: object) -> str:
    """Quote a user's text for a message: shortened, and always encodable."""
    shown = str(text)
    shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
    return '"' + shown.encode("utf-8", "backslashreplace").decode() + '"'
