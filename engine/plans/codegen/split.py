"""Pieces: split long code into several functions, because Python holds the interpreter lock while it compiles one.

Values that later pieces read are passed in a list `k`; each piece loads the values that it reads once.
"""

import re
from collections.abc import Iterable, Sequence

from engine.plans.codegen.code import INDENT, Code, Line

#: Lines of the longest code that is not split; it takes some 25 ms to compile.
MOST_LINES = 2000
#: Lines of a piece; shorter pieces would pass on more values.
LENGTH = 500
#: Names that lines assign: values, and common first parts of operations; `_NAME` is any name.
_VALUE = re.compile(r"\b[vw]\d+\b")
_NAME = re.compile(r"\b[A-Za-z_]\w*\b")
_TARGETS = re.compile(r"(?:[vw]\d+, ?)*(?:[vw]\d+ )?= ")
#: Parameters of the function, and inputs that a loop assigns.
_PARAMETER = re.compile(r"[xcb]\d+|seed")


def in_pieces(code: Code, parts: Sequence[Sequence[Line]], results: str) -> list[list[Line]]:
    """Replace straight-line code by calls of functions, which are compiled one by one.

    Args:
        code: receives the functions, their source and the operations of their lines.
        parts: separate stretches of lines of one function, in the order in which they first run.
        results: an expression that reads values after all parts.

    Returns:
        For each part the lines that replace it.
    """
    pieces = [part[begin : begin + LENGTH] for part in parts for begin in range(0, len(part), LENGTH)]
    slots = _slots(pieces, results)
    calls = [[_call(code, piece, slots)] for piece in pieces]
    found: list[list[Line]] = []
    for part in parts:
        count = -(-len(part) // LENGTH)
        found.append([line for call in calls[:count] for line in call])
        calls = calls[count:]
    found[0].insert(0, (f"k = [None] * {len(slots)}", ""))
    found[-1] += [(f"{name} = k[{slots[name]}]", "") for name in dict.fromkeys(_VALUE.findall(results))]
    return found


def _slots(pieces: Iterable[Sequence[Line]], results: str) -> dict[str, int]:
    """Return indices in the list `k` for values that another piece than their own or the results read."""
    found: dict[str, int] = {}
    own: dict[str, int] = {}
    for n, piece in enumerate(pieces):
        for line, _ in piece:
            for name in _assigned(line):
                own[name] = n
            for name in () if line.startswith("del ") else _VALUE.findall(line):
                if own[name] != n:
                    found.setdefault(name, len(found))
    for name in _VALUE.findall(results):
        found.setdefault(name, len(found))
    return found


def _assigned(line: str) -> list[str]:
    targets = _TARGETS.match(line)
    return _VALUE.findall(targets.group()) if targets else []


def _call(code: Code, piece: Sequence[Line], slots: dict[str, int]) -> Line:
    """Compile a piece; return the line that calls it."""
    body: list[Line] = []
    local: set[str] = set()
    loaded: list[str] = []
    for line, operation in piece:
        assigned = _assigned(line)
        if line.startswith("del "):
            name = line.removeprefix("del ")
            body += [(line, "")] if name in local else []
            body += [(f"k[{slots[name]}] = None", "")] if name in slots else []
            continue
        read = [name for name in _VALUE.findall(line) if name not in local and name not in assigned]
        loaded += dict.fromkeys(read)
        local.update(read, assigned)
        body.append((line, operation))
        body += [(f"k[{slots[name]}] = {name}", "") for name in assigned if name in slots]
    body = [(f"{name} = k[{slots[name]}]", "") for name in loaded] + body
    names = dict.fromkeys(name for line, _ in piece for name in _NAME.findall(line))
    given = ", ".join(["k", *(name for name in names if _PARAMETER.fullmatch(name))])
    function = Code(names={name: code.names[name] for name in names if name in code.names})
    function.add(f"def piece({given}):")
    for line, operation in body:
        function.add(INDENT + line, operation)
    return f"{code.bound('piece', code.piece(function))}({given})", ""
