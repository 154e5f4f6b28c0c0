"""Limits: the library has none unless it is given some, and knows no settings of a server."""

import math
from dataclasses import fields
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

import engine
from engine import compile, descent
from engine import functions as F
from engine.core.errors import Fault, Faults, LimitExceededError
from engine.core.values import FLOAT32, Aval, stand_in
from engine.graph.limits import Limits
from engine.plans.cost import Cost
from engine.plans.trace import Trace
from engine.programs.derivatives import hvp, jacobian
from engine.programs.document.build import build
from engine.programs.evaluate import Backward, prepare
from engine.programs.text.parser import parse

#: More than the server allows a request.
LARGE = stand_in(Aval((10_000_001,), FLOAT32))


def test_no_limit_holds_by_default() -> None:
    assert all(getattr(Limits(), field.name) == math.inf for field in fields(Limits))
    ones = np.ones(LARGE.shape, FLOAT32)
    assert compile(lambda x: F.sum(x * x))(ones) == LARGE.size
    steps = descent(lambda x: F.sum(x * x))(ones, learning_rate=0.25, steps=1)
    assert steps[0] == 0.5
    for cost in (
        prepare(parse("sum(sin(x)) + tile(1, [99999, 99999])[0, 0]"), {"x": LARGE}, backward=Backward()).cost,
        prepare(parse("x @ x"), {"x": stand_in(Aval((30_000, 30_000), FLOAT32))}).cost,
        hvp(parse("sum(x**3)"), {"x": LARGE}, {"x": LARGE}).cost,
        jacobian(parse("x * x"), {"x": LARGE[:10_000]}).cost,
    ):
        assert isinstance(cost, Cost)
        assert cost.bytes > 10_000_000


def test_programs_may_be_of_any_length() -> None:
    assert Trace().limits == Limits()
    for read in (parse, build):
        assert signature(read).parameters["max_nodes"].default == math.inf


def test_the_library_names_no_setting() -> None:
    sources = [*Path(engine.__path__[0]).rglob("*.py")]
    assert len(sources) > 50
    assert [path for path in sources if "PULLBACK" in path.read_text()] == []


def test_a_refusal_keeps_the_name_of_its_limit_through_collections() -> None:
    error = LimitExceededError("too much", ("x",), limit="bytes")
    assert error.limit == "bytes"
    assert error.faults == (Fault(("x",), "too much", "bytes"),)
    assert LimitExceededError("too much").limit == ""
    faults = Faults()
    faults.take(error, ("inputs",))
    with pytest.raises(LimitExceededError) as caught:
        faults.check()
    assert (caught.value.limit, caught.value.faults[0].loc) == ("bytes", ("inputs", "x"))
