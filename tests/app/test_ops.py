"""/v1/ops says of each operation whether rows of a batch run at once, as the engine runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app.programs.catalog import describe
from engine.core.operation import Example, Operation
from engine.core.table import OPERATIONS, unregister
from engine.rows import unary
from engine.tracers import batching
from engine.transforms import vmap
from tests.engine.cases import CASES, attributes, operands

if TYPE_CHECKING:
    from tests.app.conftest import Server

# `grad` looks for a tape below its operands, and random rows want a generator.
FIRST = {
    op.name: (op, example)
    for op, example in reversed([case.values for case in CASES])
    if op.name != "grad" and not op.random
}


@pytest.mark.parametrize(("op", "example"), FIRST.values(), ids=FIRST)
def test_rows_run_as_is_said(op: Operation, example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    looped: list[Any] = []
    loop = batching.loop

    def counted(op: Operation, *args: Any, **more: Any) -> Any:
        looped.append(op)
        return loop(op, *args, **more)

    monkeypatch.setattr(batching, "loop", counted)
    stacked = [np.stack([np.asarray(x)] * 2) for x in operands(op, example, seed=7)]
    attrs = attributes(op, example)
    vmap(lambda *xs: op.run(xs, attrs))(*stacked)
    assert describe(op)["batched"] is (not looped)


def test_an_operation_without_a_rule_runs_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    unary("slow_sine", np.sin, lambda g, y, x: g, doc="Sine of x.")
    op = OPERATIONS["slow_sine"]
    try:
        assert describe(op)["batched"]
        monkeypatch.setattr(op, "batch", None)
        monkeypatch.setattr(op, "kind", "other")
        assert not describe(op)["batched"]
        test_rows_run_as_is_said(op, op.examples[0], monkeypatch)
    finally:
        unregister(op)


@pytest.mark.parametrize(("name", "expected"), [("sin", True), ("sum", True), ("softmax", True), ("dropout", False)])
def test_it_is_told(server: Server, name: str, expected: bool) -> None:
    assert server.client.get(f"/v1/ops/{name}").json()["batched"] is expected


@pytest.mark.parametrize(
    ("name", "kind", "outputs"),
    [
        ("sin", "elementwise", 1),
        ("slogdet", "composite", 2),
        ("split", "composite", "sizes"),
        ("solve", "other", 1),
    ],
)
def test_kinds_and_results(server: Server, name: str, kind: str, outputs: int | str) -> None:
    found = server.client.get(f"/v1/ops/{name}").json()
    assert (found["kind"], found["outputs"]) == (kind, outputs)
    assert found["several_outputs"] is (outputs != 1)
