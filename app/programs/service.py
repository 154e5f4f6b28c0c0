"""Requests to evaluate, differentiate and register programs, checked until nothing is left but to run them.

HTTP and the command line begin here; nothing here knows of either.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from app.programs.limits import ProgramLimits
from app.programs.parts import (
    Find,
    Source,
    attempt,
    decode_inputs,
    nowhere,
    program_and_inputs,
    raise_first,
    read,
    run_options,
)
from app.wire.values import decode
from engine import programs as engine
from engine.core import AutogradError, InvalidValueError, NoGradError
from engine.graph import Graph, normalized
from engine.plans import Plans
from engine.programs import Backward, CheckedEvaluation, bind

#: A checked request that can be run.
Prepares = TypeVar("Prepares")


def read_bound(
    source: Source,
    declared: Mapping[str, Any],
    bound: Mapping[str, Any],
    *,
    limits: ProgramLimits,
    find: Find,
    found: Sequence[AutogradError] = (),
) -> Graph:
    """Read a program of which some inputs are declared and some are bound to values.

    Args:
        source: the program.
        declared: declarations of inputs, as documents.
        bound: values of inputs, as documents.
        limits: on its form and cost.
        find: looks up registered programs.
        found: faults of the request that are known already, reported together with those found here.

    Raises:
        AutogradError: see `prepare`.
    """
    found = list(found)
    graph = attempt(lambda: read(source, limits, find, declared), found)
    values = decode_inputs(bound, graph, found, decode, "bind")
    if graph is None or values is None or found:
        raise_first(found)
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
    """Check a request to evaluate; nothing has run when this returns.

    Args:
        source: the program.
        inputs: the values of its inputs, as documents.
        outputs: names to return; None for the program's own, "all" for every node.
        backward: the fields of the request's `backward`, with or without those at their defaults; None for none.
        nograd: keep no tape.
        batched: inputs whose leading axis is a batch.
        train: activate random operations.
        seed: of their random numbers.
        limits: on the program's form and cost.
        find: looks up registered programs.
        plans: cache of compiled code.

    Raises:
        AutogradError: the first kind of fault in the order of `engine.core.ORDER`, with all its places.
    """
    graph, values, found = program_and_inputs(source, inputs, limits, find)
    options = None if backward is None else _backward(backward, found)
    if nograd and backward is not None:
        found.append(NoGradError('nograd: true keeps no tape; leave out either it or "backward"', ("nograd",)))
    prepared = None
    if graph is not None and values is not None:
        chosen = outputs if outputs is None or outputs == "all" else [normalized(name) for name in outputs]
        running = run_options(batched, train, seed, limits, plans)
        preparing = partial(engine.prepare, graph, values, outputs=chosen, backward=options, **running)
        prepared = attempt(preparing, found)
    if prepared is None or found:
        raise_first(found)
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
    """Check a request for derivatives; nothing has run when this returns.

    Args:
        derivative: a function of `engine.programs.derivatives`, or `engine.programs.check`.
        source: the program.
        inputs: the values of its inputs, as documents.
        directions: cotangents, tangents or vectors under the name of that argument: values by name, as documents.
        options: further arguments of `derivative`.
        batched, train, seed, limits, find, plans: see `prepare`.

    Raises:
        AutogradError: see `prepare`.
    """
    graph, values, found = program_and_inputs(source, inputs, limits, find)
    along = {field: decode_inputs(given, None, found, decode, field) for field, given in directions.items()}
    prepared = None
    if graph is not None and values is not None and None not in along.values():
        chosen = {key: _normalized(value) for key, value in options.items()}
        running = run_options(batched, train, seed, limits, plans)
        prepared = attempt(partial(derivative, graph, values, **along, **chosen, **running), found)
    if prepared is None or found:
        raise_first(found)
    return prepared


def _normalized(option: Any) -> Any:
    """Normalize names in an option; return anything else unchanged."""
    if isinstance(option, str):
        return normalized(option)
    return [normalized(name) for name in option] if isinstance(option, list) else option


def _backward(given: Mapping[str, Any], found: list[AutogradError]) -> Backward:
    """Convert the fields of `backward` to the engine's options; add faults to `found`."""
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
