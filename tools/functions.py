"""Write the functions of the SDK, and the types of the engine's: `python -m tools.functions`.

Both follow from the document of operations alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "clients" / "python"
DOCUMENT = PROJECT / "operations.json"
FUNCTIONS = PROJECT / "src" / "pullback" / "functions.py"
STUB = ROOT / "engine" / "functions.pyi"

#: How attributes of each type are written in Python.
_TYPES = {
    "axes": "Axes",
    "axis": "int",
    "bool": "bool",
    "contraction": "Contraction",
    "counts": "Ints",
    "degree": "int",
    "dtype": "DTypeLike",
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

#: Type and description of the parameter `rng` of random functions, in the SDK and in the engine.
_SEED = "int | None", "a seed of its own; left out, the session's generator goes on."
_GENERATOR = "Rng | None", "a seed or a generator, which is required in training."

_ALIASES = """
Axes = int | list[int] | tuple[int, ...] | None
Ints = int | list[int] | tuple[int, ...]
Contraction = int | tuple[Any, Any] | list[Any]
#: The decorators say which operands a function takes, and what it returns.
Operand = Any
Result = Any
"""

_MODULE = '''"""The public functions `F.*`: every operation, by name and alias.

Written from `operations.json` by `make mirror`: do not edit. An operand is a variable, a number, an array or a list;
the result is a variable, or a value if no operand is one.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike
from pullback.core.signatures import {decorators}
from pullback.core.table import fill
from pullback.recording.operations import apply, apply_random, apply_several, spread
'''

_STUB = '''"""Types of the functions `F.*`, which `functions.py` takes from the table of operations.

Written from the table by `make mirror`: do not edit.
"""

from typing import Any

from numpy.typing import DTypeLike
from engine.core.signatures import {decorators}
from engine.random import Rng
'''


def main() -> None:
    """Write the module of the SDK, and the stub of the engine's."""
    FUNCTIONS.write_text(text(), encoding="utf-8")
    STUB.write_text(stub(), encoding="utf-8")


def text() -> str:
    """Return the text of the SDK's module of all functions."""
    # In a trace it is an operation, but what users call is transforms.grad.
    operations = [op for op in documents() if op["name"] != "grad"]
    names = sorted(name for op in operations for name in (op["name"], *op["aliases"]))
    active = sorted(name for op in operations if op["is_activation"] for name in (op["name"], *op["aliases"]))
    table = "".join(f'"{name}": {name}, ' for name in names)
    parts = [
        head(_MODULE, operations),
        *(f"{declaration(op, _SEED)}    return {call(op)}\n" for op in operations),
        *aliases(operations),
        f"fill({{{table}}}, {{{', '.join(map(repr, active))}}})\n",
    ]
    return format_source("\n\n".join(parts), FUNCTIONS)


def stub() -> str:
    """Return the text of the stub of the engine's functions."""
    operations = documents()
    parts = [
        head(_STUB, operations),
        *(declaration(op, _GENERATOR) for op in operations),
        *aliases(operations),
    ]
    return format_source("\n\n".join(parts), STUB)


def documents() -> list[dict[str, Any]]:
    """Return the documents of all operations."""
    found: list[dict[str, Any]] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    return found


def head(template: str, operations: list[dict[str, Any]]) -> str:
    """Return the head of a module, with the imports of the decorators that the operations need."""
    return template.replace("{decorators}", ", ".join(sorted({decorator(op) for op in operations}))) + _ALIASES


def aliases(operations: list[dict[str, Any]]) -> list[str]:
    """Return the assignments of other names."""
    return [f"{alias} = {op['name']}\n" for op in operations for alias in op["aliases"]]


def declaration(op: dict[str, Any], rng: tuple[str, str]) -> str:
    """Return a function as far as its docstring; rng: type and description of the generator of random functions."""
    kind, description = rng
    described = f"\n\n    rng: {description}\n    " if op["random"] else ""
    lines = [
        f"@{decorator(op)}",
        f"def {op['name']}({parameters(op, kind)}) -> Result:",
        f'    """{op["doc"]}{described}"""',
    ]
    return "\n".join([*lines, ""])


def decorator(op: dict[str, Any]) -> str:
    """Return the name of the decorator in `core.signatures` that gives a function its type."""
    if op["outputs"] != 1:
        return "several_of_one"
    if op["variadic"]:
        return "of_subscripts" if op["attributes"][0]["leads"] else "of_many"
    numbers = ("one", "two", "three")
    if op["required"] < len(op["operands"]):
        return f"{op['result']}_of_{numbers[op['required'] - 1]}_or_{numbers[op['required']]}"
    return f"{op['result']}_of_{numbers[op['required'] - 1]}"


def parameters(op: dict[str, Any], rng: str) -> str:
    """Return the parameters of a function: operands, attributes, other spellings of these, and a seed."""
    operands, attributes = op["operands"], op["attributes"]
    spellings = [f"{other}: {_TYPES[a['type']]} | None = None" for a in attributes for other in a["spellings"]]
    if op["random"]:
        spellings.append(f"rng: {rng} = None")
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
    optional = " | None" if default is None and kind not in ("Any", "Axes") else ""
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


def format_source(text: str, path: Path) -> str:
    """Return the text of a file with its imports in order, as the project's formatter writes it."""
    for command in (["check", "--quiet", "--select", "I", "--fix"], ["format"]):
        words = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"]
        text = subprocess.run(words, input=text, capture_output=True, encoding="utf-8", check=True).stdout
    return text


if __name__ == "__main__":
    main()
