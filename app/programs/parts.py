"""Parts of a request with a program, each read and checked: the program, its inputs, options of its run.

Kinds of faults are reported in the order of `engine.core.ORDER`; all faults of the first kind are listed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Never, TypeVar

import numpy as np

from app.programs.limits import ProgramLimits
from app.wire.values import decode
from engine.core import ORDER, AutogradError, Faults, InvalidValueError, NotSupportedError, Value
from engine.graph import Graph, name_fault, normalized, quoted
from engine.plans import Plans
from engine.programs import RunOptions, build, declare_further, parse

#: The key of a program, "expr", "graph" or "program", and its content.
Source = tuple[str, Any]
#: Looks up a registered program by its id or name.
Find = Callable[[str], Graph]
DType = np.dtype[Any]
Result = TypeVar("Result")
#: Noun for one value of a field, in messages.
_NOUNS = {
    "inputs": "input",
    "bind": "bound input",
    "cotangents": "cotangent of",
    "tangents": "tangent of",
    "vectors": "vector of",
}


def nowhere(program: str) -> Graph:
    """Refuse every registered program, where there are none; raises NotSupportedError."""
    msg = f"there are no registered programs here, and so no {quoted(program)}; give the program itself"
    raise NotSupportedError(msg, ("program",))


def read(
    source: Source, limits: ProgramLimits, find: Find = nowhere, declared: Mapping[str, Any] | None = None
) -> Graph:
    """Read the program that a document or a text describes.

    Args:
        source: the program.
        limits: on its form and cost.
        find: looks up registered programs.
        declared: declarations of its inputs, in addition to its own.

    Raises:
        AutogradError: of the kind of its faults; or whatever `find` raises.
    """
    key, document = source
    if key == "expr":
        return parse(document, None if declared is None else dict(declared), **limits.form())
    graph = find(document) if key == "program" else build(document, **limits.form())
    return declare_further(graph, declared) if declared else graph


def program_and_inputs(
    source: Source, inputs: Mapping[str, Any], limits: ProgramLimits, find: Find, decoded: Any = decode
) -> tuple[Graph | None, dict[str, Value] | None, list[AutogradError]]:
    """Read a program and decode its inputs; return both, None in place of a wrong one, and the faults found."""
    found: list[AutogradError] = []
    graph = attempt(lambda: read(source, limits, find), found)
    return graph, decode_inputs(inputs, graph, found, decoded), found


def run_options(
    batched: Sequence[str], train: bool, seed: int | None, limits: ProgramLimits, plans: Plans | None = None
) -> RunOptions:
    """Return the engine's options for running a program."""
    names = [normalized(name) for name in batched]
    return {"batched": names, "train": train, "seed": seed, "limits": limits.cost, "plans": plans}


def attempt(work: Callable[[], Result], found: list[AutogradError]) -> Result | None:
    """Return the result of `work`; on a fault add it to `found` and return None."""
    try:
        return work()
    except AutogradError as error:
        found.append(error)
        return None


def decode_inputs(
    inputs: Mapping[str, Any], graph: Graph | None, found: list[AutogradError], decoded: Any, field: str = "inputs"
) -> dict[str, Value] | None:
    """Decode inputs by normalized name; add faults to `found` and return None if one is wrong."""
    declared = {i.name: i.dtype for i in graph.inputs} if graph is not None else {}
    values: dict[str, Value] = {}
    wrong: list[AutogradError] = []
    for written, document in inputs.items():
        name, loc = normalized(written), (field, written)
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


def raise_first(found: list[AutogradError]) -> Never:
    """Raise the first kind of fault in the order of `engine.core.ORDER`, with all its places."""
    first = min(found, key=lambda error: ORDER.index(type(error)))
    same = [error for error in found if type(error) is type(first)]
    if len(same) == 1:
        raise first
    collected = Faults()
    for error in same:
        collected.take(error)
    collected.check()
    raise first
