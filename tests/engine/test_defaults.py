"""The defaults of attributes are part of what stored programs mean."""

import json
from pathlib import Path

import pytest

from engine.core.attributes import REQUIRED
from engine.core.operation import Operation
from engine.core.table import OPERATIONS, rows

PINNED = Path(__file__).parent / "data" / "defaults.json"
#: By operation, each attribute's default as Python writes it, which tells 0, 0.0, -0.0 and False apart.
DEFAULTS: dict[str, dict[str, str]] = json.loads(PINNED.read_text())

WHY = """
Documents and ids of programs leave out attributes that have their defaults. If the default of an attribute changes, or
an attribute or an operation goes or gets another name, every stored program that left it out means something else from
then on, under the same id. Give the operation another name in place of that. A new operation may be added, and a new
attribute whose default does what was done before it was there: add its line to tests/engine/data/defaults.json.
"""


def defaults(op: Operation) -> dict[str, str]:
    return {a.name: "required" if a.default is REQUIRED else repr(a.default) for a in op.attributes}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_never_change(name: str) -> None:
    assert name in OPERATIONS, f"{name} is gone.{WHY}"
    assert defaults(OPERATIONS[name]) == DEFAULTS[name], WHY


def test_every_operation_is_pinned() -> None:
    new = {op.name: defaults(op) for op in rows() if op.name not in DEFAULTS}
    assert new == {}, f"these are new; add them to {PINNED.name}"
