"""Write the functions of the SDK from the document of operations: `python -m tools.functions`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1] / "clients" / "python"
DOCUMENT = PROJECT / "operations.json"
FUNCTIONS = PROJECT / "src" / "pullback" / "functions.py"

#: How attributes of each type are written in Python.
_TYPES = {
    "axes": "Axes",
    "axis": "int",
    "bool": "bool",
    "contraction": "Contraction",
    "counts": "Ints",
    "degree": "int",
    "dtype": "Dtype",
    "index": "Any",
    "indices": "Any",
    "int": "int",
    "natural": "int",
    "number": "float",
    "order": "float | str",
    "ratio": "float",
    "repeats": "int",
    "shape": "Ints",
    "sizes": "Ints",
    "subscripts": "str",
}

_HEAD = '''"""The public functions `F.*`: every operation, by name and alias.

Written from `operations.json` by `make mirror`: do not edit. An operand is a variable, a number, an array or a list;
the result is a variable, or a value if no operand is one.
"""

from __future__ import annotations

from typing import Any

from pullback.recording.operations import apply, apply_random, apply_several, spread
from pullback.core.table import fill

Axes = int | list[int] | tuple[int, ...] | None
Ints = int | list[int] | tuple[int, ...]
Contraction = int | tuple[Any, Any] | list[Any]
Dtype = Any
Operand = Any
Result = Any
'''


def main() -> None:
    """Write the module."""
    FUNCTIONS.write_text(text(), encoding="utf-8")


def text() -> str:
    """Return the text of the module of all functions."""
    operations = [op for op in json.loads(DOCUMENT.read_text(encoding="utf-8")) if op["name"] != "grad"]
    names = sorted(name for op in operations for name in (op["name"], *op["aliases"]))
    active = sorted(name for op in operations if op["is_activation"] for name in (op["name"], *op["aliases"]))
    table = "".join(f'"{name}": {name}, ' for name in names)
    parts = [
        _HEAD,
        *map(function, operations),
        *(f"{alias} = {op['name']}\n" for op in operations for alias in op["aliases"]),
        f"fill({{{table}}}, {{{', '.join(map(repr, active))}}})\n",
    ]
    return formatted("\n\n".join(parts))


def function(op: dict[str, Any]) -> str:
    """Return the definition of one function."""
    seeded = "\n\n    rng: a seed of its own; left out, the session's generator goes on.\n    " if op["random"] else ""
    head = f"def {op['name']}({parameters(op)}) -> {'Result' if op['outputs'] == 1 else 'Any'}:"
    return f'{head}\n    """{op["doc"]}{seeded}"""\n    return {call(op)}\n'


def parameters(op: dict[str, Any]) -> str:
    """Return the parameters of a function: operands, attributes, other spellings of these, and a seed."""
    operands, attributes = op["operands"], op["attributes"]
    spellings = [f"{other}: {_TYPES[a['type']]} | None = None" for a in attributes for other in a["spellings"]]
    if op["random"]:
        spellings.append("rng: int | None = None")
    if op["variadic"]:
        leading = [parameter(a) for a in attributes if a["leads"]]
        others = [parameter(a) for a in attributes if not a["leads"]]
        return ", ".join([*leading, f"*{operands[0]}: Operand", *others, *spellings])
    required = [f"{name}: Operand" for name in operands[: op["required"]]]
    optional = [f"{name}: Operand = None" for name in operands[op["required"] :]]
    keywords = ["*", *spellings] if spellings else []
    return ", ".join([*required, *optional, *map(parameter, attributes), *keywords])


def parameter(attribute: dict[str, Any]) -> str:
    """Return an attribute as a parameter."""
    kind = _TYPES[attribute["type"]]
    if "default" not in attribute and not attribute["spellings"]:
        return f"{attribute['name']}: {kind}"
    # Where another spelling may stand in its place, the server says what is missing.
    default = attribute.get("default")
    optional = " | None" if default is None and kind not in ("Any", "Axes", "Dtype") else ""
    return f"{attribute['name']}: {kind}{optional} = {default!r}"


def call(op: dict[str, Any]) -> str:
    """Return the call that a function makes."""
    attributes = op["attributes"]
    words = [f'"{op["name"]}"', given(op)]
    names = [a["name"] for a in attributes] + [other for a in attributes for other in a["spellings"]]
    if names:
        defaults = {a["name"]: a["default"] for a in attributes if a.get("default") is not None}
        words += [f"{{{', '.join(f'{name!r}: {name}' for name in names)}}}", repr(defaults)]
    if op["random"]:
        return f"apply_random({', '.join(words)}, rng)"
    if op["outputs"] != 1:
        return f"apply_several({op['outputs']}, {', '.join(words)})"
    return f"apply({', '.join(words)})"


def given(op: dict[str, Any]) -> str:
    """Return the operands of a call as a tuple; one that is optional is the last."""
    operands = op["operands"]
    if op["variadic"]:
        return f"spread({operands[0]})"
    if op["required"] == len(operands):
        return as_tuple(operands)
    return f"{as_tuple(operands[:-1])} if {operands[-1]} is None else {as_tuple(operands)}"


def as_tuple(names: list[str]) -> str:
    """Return names as a tuple."""
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def formatted(text: str) -> str:
    """Return a module's text with its imports in order, as the project's formatter writes it."""
    for command in (["check", "--quiet", "--select", "I", "--fix"], ["format"]):
        words = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(FUNCTIONS), "-"]
        text = subprocess.run(words, input=text, capture_output=True, encoding="utf-8", check=True).stdout
    return text


if __name__ == "__main__":
    main()
