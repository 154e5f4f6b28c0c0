"""From a document to a result: what every way into the server, and the command line, does with a program.

Nothing here knows of HTTP. Kinds of faults answer in the order of `engine.core.ORDER`; within one kind all are listed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any, Never, TypedDict, TypeVar

import numpy as np

from engine import programs as engine
from engine.core import (
    DTYPES,
    FLOAT64,
    MAX_AXES,
    ORDER,
    AutogradError,
    Aval,
    Fault,
    Faults,
    InvalidValueError,
    LimitExceededError,
    Loc,
    NoGradError,
    NotSupportedError,
    Value,
    shape_of,
)
from engine.graph import Graph, Limits, name_fault, normalized, quoted
from engine.plans import Cost, Plans, check_cost
from engine.programs import (
    Backward,
    CheckedEvaluation,
    RunOptions,
    bind,
    build,
    declare_further,
    decode_value,
    described,
    parse,
    strong_value,
)

#: Which of "expr", "graph" and "program" a request has, and what it holds.
Source = tuple[str, Any]
#: From the id or name of a registered program to the program.
Find = Callable[[str], Graph]
DType = np.dtype[Any]
#: Something that was checked and can be run.
Prepares = TypeVar("Prepares")
Result = TypeVar("Result")


class FormLimits(TypedDict):
    """Arguments of `parse` and `build` that limit a program's form."""

    max_depth: int
    max_chain: int
    max_nodes: float


_COST = Limits(max_nodes=100_000, max_elements=10_000_000, max_bytes=2 * 10**9, max_flops=10**11)


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """What programs are held to; the defaults are the server's."""

    max_depth: int = 100
    max_chain: int = 1000
    cost: Limits = _COST

    def form(self) -> FormLimits:
        """Limits that hold while a document or a text is read."""
        return {"max_depth": self.max_depth, "max_chain": self.max_chain, "max_nodes": self.cost.max_nodes}


@dataclass(frozen=True, slots=True)
class Forecast:
    """Inferred facts of a program before it runs: shape and dtype by name, and what running it costs.

    exceeded: a fault for each limit that would refuse to run it.
    """

    inputs: dict[str, Aval]
    nodes: dict[str, Aval]
    outputs: dict[str, Aval]
    cost: Cost
    exceeded: list[Fault]


def nowhere(program: str) -> Graph:
    """What finds registered programs where there are none.

    Raises:
        NotSupportedError: always.
    """
    msg = f"there are no registered programs here, and so no {quoted(program)}; give the program itself"
    raise NotSupportedError(msg, ("program",))


def read(
    source: Source, limits: ProgramLimits, find: Find = nowhere, declared: Mapping[str, Any] | None = None
) -> Graph:
    """The program that a document or a text describes.

    Args:
        source: the program.
        limits: what it is held to.
        find: finds registered programs.
        declared: declarations of its inputs, beside those that it has.

    Raises:
        AutogradError: of the kind that is wrong with it, or what `find` raises.
    """
    key, document = source
    if key == "expr":
        return parse(document, None if declared is None else dict(declared), **limits.form())
    graph = find(document) if key == "program" else build(document, **limits.form())
    return declare_further(graph, declared) if declared else graph


def read_bound(
    source: Source,
    declared: Mapping[str, Any],
    bound: Mapping[str, Any],
    *,
    limits: ProgramLimits,
    find: Find,
    found: Sequence[AutogradError] = (),
) -> Graph:
    """A program some of whose inputs are declared, and some fixed for good.

    Args:
        source: the program.
        declared: declarations of inputs, as documents.
        bound: values of inputs, as documents.
        limits: what it is held to.
        find: finds registered programs.
        found: what is known to be wrong with the request, to be reported together with what is found here.

    Raises:
        AutogradError: as `prepare`.
    """
    found = list(found)
    graph = _attempt(lambda: read(source, limits, find, declared), found)
    values = _decode_inputs(bound, graph, found, decode, "bind")
    if graph is None or values is None or found:
        _fail(found)
    return bind(graph, values) if values else graph


def prepare(
    source: Source,
    inputs: Mapping[str, Any],
    *,
    outputs: Sequence[str] | str | None = None,
    backward: Mapping[str, Any] | None = None,
    nograd: bool = False,
    batched: Sequence[str] = (),
    train: bool = False,
    seed: int | None = None,
    limits: ProgramLimits,
    find: Find = nowhere,
    plans: Plans | None = None,
) -> CheckedEvaluation:
    """Checks all of a request to evaluate; nothing has run when this returns.

    Args:
        source: the program.
        inputs: the values of its inputs, as documents.
        outputs: names to return; None for the program's own, "all" for every node.
        backward: the fields of the wire's `backward`, those with defaults left out or not; None for none.
        nograd: no tape is kept.
        batched: inputs whose leading axis is a batch.
        train: random operations are active.
        seed: where they draw from.
        limits: what the program is held to.
        find: finds registered programs.
        plans: keeps compiled code.

    Raises:
        AutogradError: the first kind of fault in the order of the wire's table, with all its places.
    """
    graph, values, found = _given(source, inputs, limits, find)
    options = None if backward is None else _backward(backward, found)
    if nograd and backward is not None:
        found.append(NoGradError('nograd: true keeps no tape; leave out either it or "backward"', ("nograd",)))
    prepared = None
    if graph is not None and values is not None:
        chosen = outputs if outputs is None or outputs == "all" else [normalized(name) for name in outputs]
        running = _running(batched, train, seed, limits, plans)
        preparing = partial(engine.prepare, graph, values, outputs=chosen, backward=options, **running)
        prepared = _attempt(preparing, found)
    if prepared is None or found:
        _fail(found)
    return prepared


def differentiate(
    derivative: Callable[..., Prepares],
    source: Source,
    inputs: Mapping[str, Any],
    *,
    directions: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, Any],
    batched: Sequence[str] = (),
    train: bool = False,
    seed: int | None = None,
    limits: ProgramLimits,
    find: Find = nowhere,
    plans: Plans | None = None,
) -> Prepares:
    """Checks all of a request for derivatives; nothing has run when this returns.

    Args:
        derivative: what is wanted: a function of `engine.programs.derivatives`, or `engine.programs.check`.
        source: the program.
        inputs: the values of its inputs, as documents.
        directions: the cotangents, tangents or vectors under their argument's name: values by name, as documents.
        options: further arguments of `derivative`.
        batched, train, seed, limits, find, plans: as of `prepare`.

    Raises:
        AutogradError: as `prepare`.
    """
    graph, values, found = _given(source, inputs, limits, find)
    along = {field: _decode_inputs(given, None, found, decode, field) for field, given in directions.items()}
    prepared = None
    if graph is not None and values is not None and None not in along.values():
        chosen = {key: _normalized(value) for key, value in options.items()}
        running = _running(batched, train, seed, limits, plans)
        prepared = _attempt(partial(derivative, graph, values, **along, **chosen, **running), found)
    if prepared is None or found:
        _fail(found)
    return prepared


def _normalized(option: Any) -> Any:
    """Names as programs have them; anything else as it is."""
    if isinstance(option, str):
        return normalized(option)
    return [normalized(name) for name in option] if isinstance(option, list) else option


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
    """Shapes, dtypes and cost of a program; an input is a value, or `{"shape", "dtype"}` of one.

    Sizes and cost may be above the limits of elements, bytes and flops: to say so is what this is for.

    Raises:
        AutogradError: as `prepare`.
    """
    graph, values, found = _given(source, inputs, limits, find, _decode_or_stand_in)
    if graph is None or values is None:
        _fail(found)
    running = _running(batched, train, seed, limits)
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
    """A program that was checked with its inputs, and a fault for each limit on sizes and cost that it exceeds."""
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


def decode(value: Any, loc: Loc, dtype: DType | None) -> Value:
    """A value of a document as a raw one.

    Raises:
        InvalidValueError: it is none, or does not convert to `dtype` without loss.
    """
    return strong_value(decode_value(value, loc, dtype))


#: What the values of a field are called, one by one.
_NOUNS = {
    "inputs": "input",
    "bind": "bound input",
    "cotangents": "cotangent of",
    "tangents": "tangent of",
    "vectors": "vector of",
}
#: The largest that the encodings of answers hold, and any array's lengths and sizes.
LARGEST_INTEGER = 2**63 - 1


def _given(
    source: Source, inputs: Mapping[str, Any], limits: ProgramLimits, find: Find, decoded: Any = decode
) -> tuple[Graph | None, dict[str, Value] | None, list[AutogradError]]:
    """The program and the values of its inputs, each None where it is wrong, and what is."""
    found: list[AutogradError] = []
    graph = _attempt(lambda: read(source, limits, find), found)
    return graph, _decode_inputs(inputs, graph, found, decoded), found


def _running(
    batched: Sequence[str], train: bool, seed: int | None, limits: ProgramLimits, plans: Plans | None = None
) -> RunOptions:
    """What the engine is told of how a program is to run."""
    names = [normalized(name) for name in batched]
    return {"batched": names, "train": train, "seed": seed, "limits": limits.cost, "plans": plans}


def _attempt(work: Callable[[], Result], found: list[AutogradError]) -> Result | None:
    """What `work` gives, or None where something is wrong, which is added to what was found."""
    try:
        return work()
    except AutogradError as error:
        found.append(error)
        return None


def _decode_inputs(
    inputs: Mapping[str, Any], graph: Graph | None, found: list[AutogradError], decoded: Any, field: str = "inputs"
) -> dict[str, Value] | None:
    """Every input by its normalised name, or None where one of them is wrong."""
    declared = {i.name: i.dtype for i in graph.inputs} if graph is not None else {}
    values: dict[str, Value] = {}
    wrong: list[AutogradError] = []
    for given, document in inputs.items():
        name, loc = normalized(given), (field, given)
        fault = f"the {_NOUNS[field]} {quoted(name)} is given twice" if name in values else name_fault(name)
        if fault:
            wrong.append(InvalidValueError(fault, loc))
            continue
        try:
            values[name] = decoded(document, loc, declared.get(name))
        except InvalidValueError as error:
            msg = f"{_NOUNS[field]} {quoted(name)}: {error.detail}"
            wrong.append(InvalidValueError(msg, error.faults[0].loc))
    found += wrong
    return None if wrong else values


def _backward(given: Mapping[str, Any], found: list[AutogradError]) -> Backward:
    """The engine's options."""
    cotangent = None
    if given.get("cotangent") is not None:
        try:
            cotangent = decode(given["cotangent"], ("backward", "cotangent"), None)
        except InvalidValueError as error:
            found.append(InvalidValueError(f"cotangent: {error.detail}", error.faults[0].loc))
    of, wrt = given.get("of"), given.get("wrt")
    return Backward(
        of=None if of is None else normalized(of),
        wrt=None if wrt is None else tuple(normalized(name) for name in wrt),
        cotangent=cotangent,
        order=given.get("order", 1),
        create_graph=given.get("create_graph", False),
        retain_grad=given.get("retain_grad", False),
    )


def _decode_or_stand_in(value: Any, loc: Loc, dtype: DType | None) -> Value:
    """A value, or the shape and dtype that stand for one, which may be larger than any memory."""
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


def _fail(found: list[AutogradError]) -> Never:
    """Raises the first kind of what was found, in the table's order, with all its places."""
    first = min(found, key=lambda error: ORDER.index(type(error)))
    same = [error for error in found if type(error) is type(first)]
    if len(same) == 1:
        raise first
    collected = Faults()
    for error in same:
        collected.take(error)
    collected.check()
    raise first
