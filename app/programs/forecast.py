"""The forecast of a program: shapes, dtypes and cost before it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from app.programs.limits import ProgramLimits
from app.programs.parts import DType, Find, Source, nowhere, program_and_inputs, raise_first, run_options
from app.wire.values import decode
from engine import programs as engine
from engine.core import (
    DTYPES,
    FLOAT64,
    MAX_AXES,
    Aval,
    Fault,
    InvalidValueError,
    LimitExceededError,
    Loc,
    Value,
    shape_of,
)
from engine.graph import Graph, Limits, quoted
from engine.plans import Cost, check_cost
from engine.programs import CheckedEvaluation, RunOptions, described

#: Largest integer of JSON and MessagePack in responses, and largest length or size of an array.
LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Forecast:
    """Shapes and dtypes of a program by name, and the cost of running it.

    exceeded: a fault for each limit that would refuse the run.
    """

    inputs: dict[str, Aval]
    nodes: dict[str, Aval]
    outputs: dict[str, Aval]
    cost: Cost
    exceeded: list[Fault]


def infer(
    source: Source,
    inputs: Mapping[str, Any],
    *,
    batched: Sequence[str] = (),
    train: bool = False,
    seed: int | None = None,
    limits: ProgramLimits,
    find: Find = nowhere,
) -> Forecast:
    """Infer shapes, dtypes and cost of a program; an input is a value, or the `{"shape", "dtype"}` of one.

    Sizes and cost may exceed the limits on elements, bytes and flops; the forecast lists these limits.

    Raises:
        AutogradError: see `app.programs.prepare`.
    """
    graph, values, found = program_and_inputs(source, inputs, limits, find, _decode_or_stand_in)
    if graph is None or values is None:
        raise_first(found)
    running = run_options(batched, train, seed, limits)
    prepared, exceeded = _beyond_limits(graph, values, running, limits.cost)
    rows = () if prepared.rows is None else (prepared.rows,)
    avals = {name: aval._replace(shape=rows + aval.shape) for name, aval in prepared.avals.items()}
    return Forecast(
        inputs={i.name: _given_aval(values[i.name]) for i in graph.inputs},
        nodes={name: avals[name] for node in graph.nodes for name in node.ids},
        outputs={output.name: avals[output.id] for output in graph.outputs},
        cost=Cost(*(min(n, LARGEST_INTEGER) for n in (prepared.cost.nodes, prepared.cost.bytes, prepared.cost.flops))),
        exceeded=exceeded,
    )


def _beyond_limits(
    graph: Graph, values: Mapping[str, Value], running: RunOptions, limits: Limits
) -> tuple[CheckedEvaluation, list[Fault]]:
    """Check a program with its inputs; return it with a fault for each limit on sizes and cost that it exceeds."""
    try:
        return engine.prepare(graph, values, **running), []
    except LimitExceededError as error:
        if error.limit == "nodes":
            raise
        refusal = error
    faults: list[Fault] = []
    prepared = engine.prepare(graph, values, **running | {"limits": Limits(max_nodes=limits.max_nodes)})
    if any(length > LARGEST_INTEGER for known in prepared.avals.values() for length in known.shape):
        raise refusal
    for check in (
        lambda: engine.prepare(graph, values, **running | {"limits": replace(limits, max_bytes=inf, max_flops=inf)}),
        lambda: check_cost(prepared.cost, replace(limits, max_flops=inf)),
        lambda: check_cost(prepared.cost, replace(limits, max_bytes=inf)),
    ):
        try:
            check()
        except LimitExceededError as error:
            faults.append(error.faults[0])
    return prepared, faults


def _decode_or_stand_in(value: Any, loc: Loc, dtype: DType | None) -> Value:
    """Decode a value, or the shape and dtype that stand for one, which may be larger than any memory."""
    if not isinstance(value, dict) or "shape" not in value or not value.keys() <= {"shape", "dtype"}:
        return decode(value, loc, dtype)
    shape, name = value["shape"], value.get("dtype", str(dtype or FLOAT64))
    if not isinstance(name, str) or name not in DTYPES:
        raise InvalidValueError(f"unknown dtype {quoted(name)}; expected one of {', '.join(DTYPES)}", (*loc, "dtype"))
    if not isinstance(shape, list):
        raise InvalidValueError("expected a list of lengths, integers from 0", (*loc, "shape"))
    if len(shape) > MAX_AXES:
        raise InvalidValueError(f"the shape has {len(shape)} axes; at most {MAX_AXES} are possible", (*loc, "shape"))
    for axis, length in enumerate(shape):
        # Readers of JSON give a float for an integer of more than 64 bits.
        if type(length) in (int, float) and length > LARGEST_INTEGER:
            msg = f"length {length:.6g} of axis {axis}; the largest of any array is {LARGEST_INTEGER:,}"
            raise InvalidValueError(msg, (*loc, "shape", axis))
        if type(length) is not int or length < 0:
            msg = f"length {described(length)} of axis {axis}; expected an integer from 0"
            raise InvalidValueError(msg, (*loc, "shape", axis))
    return Aval(tuple(shape), DTYPES[name])


def _given_aval(value: Value) -> Aval:
    return Aval(shape_of(value), FLOAT64 if type(value) is float else value.dtype)
