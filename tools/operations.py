"""Write the table of operations as data for the SDK: `python -m tools.operations`.

The document has what a function of the SDK is made of, for each operation: names, operands, attributes, and the type of
the result. `tools.functions` reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import engine.primitives  # noqa: F401 - fills the table
from engine.core import REQUIRED, SIZES, Attribute, AutogradError, Operation, activations, example_operands, rows

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "clients" / "python" / "operations.json"
#: Operations that give a float for certain arrays and attributes, although none of their examples shows it.
_MAY_GIVE_FLOATS = {"astype", "broadcast_to", "get_item", "linear", "reshape", "squeeze", "sum_to"}


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(text(), encoding="utf-8")


def text() -> str:
    """Return the document, one operation on each line."""
    lines = ",\n".join(json.dumps(describe(op), ensure_ascii=False, allow_nan=False) for op in rows())
    return f"[\n{lines}\n]\n"


def describe(op: Operation) -> dict[str, Any]:
    """Return what a function needs to know about an operation."""
    return {
        "name": op.name,
        "aliases": list(op.aliases),
        "doc": op.doc,
        "operands": list(op.operands),
        "required": op.required,
        "variadic": op.variadic,
        "attributes": [describe_attribute(attribute) for attribute in op.attributes],
        "outputs": outputs(op),
        "random": op.random,
        "is_activation": op.name in activations(),
        "result": result(op),
    }


def describe_attribute(attribute: Attribute) -> dict[str, Any]:
    """Return name, spellings, type and default of an attribute; one without a default is required."""
    document = {
        "name": attribute.name,
        "spellings": list(attribute.spellings),
        "type": attribute.type.name,
        "leads": attribute.leads,
    }
    return document if attribute.default is REQUIRED else document | {"default": attribute.default}


def outputs(op: Operation) -> int | str:
    """Return the number of results, or the name of the attribute that determines it."""
    if op.outputs is None:
        return 1
    return next((a.name for a in op.attributes if a.type is SIZES), None) or op.outputs()


def result(op: Operation) -> str:
    """Return the kind of result for operands that are not variables, as the examples of the row show it.

    like: a float for floats, otherwise an array. array: always an array. value: a float or an array, by shapes.
    """
    if op.name in _MAY_GIVE_FLOATS:
        return "value"
    calls = [example_operands(op, example) for example in op.examples]
    if not op.variadic:
        calls += [([0.5] * len(xs), attrs) for xs, attrs in calls]
    # Whether results are floats, for floats and for operands with an array.
    of_floats, of_arrays = set[bool](), set[bool]()
    for xs, attrs in calls:
        try:
            y = op.run(xs, attrs, **({"rng": np.random.default_rng(0)} if op.random else {}))
        except AutogradError:
            # The operation needs an axis, which a float does not have.
            continue
        are_floats = {isinstance(part, float) for part in (y if isinstance(y, tuple) else (y,))}
        (of_floats if all(isinstance(x, float) for x in xs) else of_arrays).update(are_floats)
    if True in of_arrays:
        return "value"
    return "like" if of_floats == {True} else "array"


if __name__ == "__main__":
    main()
