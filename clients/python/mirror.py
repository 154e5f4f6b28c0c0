"""Write the functions of the package from the server's list of operations: `make mirror`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from app.catalog import describe_all

HERE = Path(__file__).parent
PACKAGE = HERE / "src" / "pullback"
_ROW = 120

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

_HEAD = '''"""The public functions `F.*`: every operation of the server, by name and alias.

Made from the server's list of operations by `make mirror`: do not edit. What is given is a variable, a number, an array
or a list; what is returned a variable, or a value where no variable was given.
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


def modules() -> dict[str, str]:
    """The text of every module that is written here, by its path."""
    return {"functions.py": formatted(functions(describe_all()["operations"]))}


def functions(operations: list[dict[str, Any]]) -> str:
    """The module of all functions."""
    public = [op for op in operations if op["name"] != "grad"]
    names = sorted({name for op in public for name in (op["name"], *op["aliases"])})
    lines = [_HEAD]
    lines += [function(op) for op in public]
    spelled = {name for op in public for name in (op["name"],)}
    lines += [f"{alias} = {op['name']}\n" for op in public for alias in op["aliases"] if alias not in spelled]
    table = "".join(f'"{name}": {name}, ' for name in names)
    active = [
        name
        for op in public
        if op["kind"] == "elementwise" and len(op["operands"]) == 1 and not op["attributes"] and op["differentiable"]
        for name in (op["name"], *op["aliases"])
    ]
    lines += [f"fill({{{table}}}, {{{', '.join(map(repr, sorted(active)))}}})\n"]
    return "\n\n".join(lines)


def function(op: dict[str, Any]) -> str:
    """One function."""
    name, attributes = op["name"], op["attributes"]
    operands = [each["name"] for each in op["operands"]]
    leading = op["signature"].startswith(f"{name}(subscripts")
    parts = []
    if op["variadic"]:
        parts += [f"{a['name']}: {_TYPES[a['type']]}" for a in attributes if leading]
        parts += [f"*{operands[0]}: Operand"]
        parts += [parameter(a) for a in attributes if not leading]
    else:
        parts += [f"{each['name']}: Operand{'' if each['required'] else ' = None'}" for each in op["operands"]]
        parts += [parameter(a) for a in attributes]
    spellings = [f"{other}: {_TYPES[a['type']]} | None = None" for a in attributes for other in a["spellings"]]
    if op["random"]:
        spellings += ["rng: int | None = None"]
    if spellings:
        parts += spellings if op["variadic"] else ["*", *spellings]
    given = f"spread({operands[0]})" if op["variadic"] else written_tuple(operands)
    optional = [each["name"] for each in op["operands"] if not each["required"]]
    if optional:
        # It is the last one.
        given = f"{written_tuple(operands[:-1])} if {optional[0]} is None else {given}"
    attrs = [f'"{a["name"]}": {a["name"]}' for a in attributes]
    attrs += [f'"{other}": {other}' for a in attributes for other in a["spellings"]]
    defaults = {a["name"]: a["default"] for a in attributes if a.get("default") is not None}
    call = [f'"{name}"', given]
    if attrs:
        call += [f"{{{', '.join(attrs)}}}", repr(defaults)]
    if op["random"]:
        call += ["rng"]
    if op["outputs"] == 1:
        applied = f"{'apply_random' if op['random'] else 'apply'}({', '.join(call)})"
        result = "Result"
    else:
        applied = f"apply_several({op['outputs']}, {', '.join(call)})"
        result = "Any"
    seeded = "\n\n    rng: a seed of its own; left out, the session's generator goes on." if op["random"] else ""
    doc = f'"""{op["doc"]}{seeded}{chr(10) + "    " if seeded else ""}"""'
    return f"def {name}({', '.join(parts)}) -> {result}:\n    {doc}\n    return {applied}\n"


def written_tuple(names: list[str]) -> str:
    """Names as a tuple."""
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def parameter(attribute: dict[str, Any]) -> str:
    """An attribute as a parameter."""
    kind = _TYPES[attribute["type"]]
    if attribute["required"] and not attribute["spellings"]:
        return f"{attribute['name']}: {kind}"
    # Where another spelling may stand in its place, the server says what is missing.
    default = attribute.get("default")
    optional = " | None" if default is None and "None" not in kind and kind not in ("Any", "Axes", "Dtype") else ""
    return f"{attribute['name']}: {kind}{optional} = {default!r}"


def formatted(text: str) -> str:
    """Return a module's text with its imports in order, as the project's formatter writes it."""
    for command in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--line-length", str(_ROW)]):
        given = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(PACKAGE / "module.py"), "-"]
        text = subprocess.run(given, input=text, capture_output=True, text=True, check=True).stdout
    return text


def main() -> None:
    """Writes what has changed."""
    for name, text in modules().items():
        path = PACKAGE / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(HERE)}")


if __name__ == "__main__":
    main()
