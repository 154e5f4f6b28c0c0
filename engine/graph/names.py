"""Names of inputs and nodes: what they may be, and the constants whose names are taken."""

import keyword
import math
import re
import unicodedata

#: Constants of infix text; nothing else may have their names.
CONSTANTS = {"pi": math.pi, "e": math.e, "nan": math.nan, "inf": math.inf}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GENERATED = re.compile(r"_[0-9]+")
_SHOWN = 60
#: Letters of a name.
LONGEST_NAME = 200


def normalized(name: str) -> str:
    """NFKC, character by character: the same for all names that are allowed, and linear for those that are not.

    >>> normalized("ｘ")
    'x'
    """
    return name if name.isascii() else "".join(unicodedata.normalize("NFKC", c) for c in name)


def name_fault(name: str) -> str:
    """What keeps a normalised name from being one of an input or a node; empty where nothing does.

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
    """Whether it is a number, `_1, _2, ...`, of something that has no name.

    >>> is_generated("_12"), is_generated("_a")
    (True, False)
    """
    return _GENERATED.fullmatch(name) is not None


def quoted(text: object) -> str:
    """Something that a user wrote, in quotes, short enough for a message and always encodable."""
    shown = str(text)
    shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
    return '"' + shown.encode("utf-8", "backslashreplace").decode() + '"'
