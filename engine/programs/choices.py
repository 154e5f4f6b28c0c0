"""What requests about a program choose by name (outputs, what to differentiate by what), and whether it can be."""

from collections.abc import Sequence

import numpy as np

from engine.core.errors import (
    Faults,
    InvalidValueError,
    Loc,
    NotDifferentiableError,
    ShapeMismatchError,
    UnknownNameError,
)
from engine.core.messages import nearest
from engine.core.tracer import Symbol
from engine.core.values import BOOL, FLOAT32, Aval, Value, aval, shape_of
from engine.graph.limits import Limits, check_limit
from engine.graph.names import quoted
from engine.programs.application import Application, View


def free_name(name: str, taken: Application | set[str]) -> str:
    """The name itself, with underscores after it while it is taken."""
    known = {*taken.known, *taken.graph.bound} if isinstance(taken, Application) else taken
    while name in known:
        name += "_"
    return name


def check_answer(steps: Sequence[Symbol], limits: Limits) -> None:
    """Holds all values of an answer together to the limit of one: aliases cost nothing but here.

    Raises:
        LimitExceededError: they have too many elements.
    """
    check_limit("elements", sum(step.aval.size for step in steps), limits.max_elements, "the answer")


def check_known(field: str, names: Sequence[str], application: Application, loc: Loc, faults: Faults) -> None:
    """Names have to be those of inputs or nodes."""
    known = application.known
    for place, name in enumerate(names):
        if name in application.graph.bound:
            msg = f"{field}: {quoted(name)} is bound, and never differentiated"
            faults.add(NotDifferentiableError, msg, (*loc, place))
        elif name not in known and not faults.is_full(UnknownNameError):
            msg = f"{field}: there is no input or node {quoted(name)}{nearest(name, list(known))}"
            faults.add(UnknownNameError, msg, (*loc, place))


def chosen_outputs(application: Application, outputs: Sequence[str] | None, faults: Faults) -> dict[str, str]:
    """What each name to return stands for; the program's own outputs where none is said."""
    if outputs is None:
        return {output.name: output.id for output in application.graph.outputs}
    known = application.known | {name: name for name in application.graph.bound}
    for place, name in enumerate(outputs):
        if name not in known and not faults.is_full(UnknownNameError):
            msg = f"outputs: there is no input or node {quoted(name)}{nearest(name, list(known))}"
            faults.add(UnknownNameError, msg, ("outputs", place))
    return {name: known[name] for name in outputs if name in known}


def only_output(application: Application, of: str | None, loc: Loc, faults: Faults) -> str | None:
    """What is differentiated: the node that `of` names, or the only output."""
    graph = application.graph
    if of is not None:
        known = application.known
        if of not in known:
            msg = f"of: there is no input or node {quoted(of)}{nearest(of, list(known))}"
            faults.add(UnknownNameError, msg, (*loc, "of"))
        return known.get(of)
    if len(graph.outputs) == 1:
        return graph.outputs[0].id
    names = ", ".join(output.name for output in graph.outputs)
    msg = f"of: the program has {len(graph.outputs)} outputs ({names}); say which one to differentiate"
    faults.add(InvalidValueError, msg, (*loc, "of"))
    return None


def chosen_wrt(
    application: Application, view: View, wrt: Sequence[str] | None, loc: Loc, faults: Faults
) -> dict[str, str]:
    """Resolve the names to differentiate with respect to; all floating inputs where none is given.

    Without a floating input, none being said is a fault.
    """
    if wrt is None:
        inputs = {i.name: view.aval(i.name) for i in application.graph.inputs}
        floating = {name: name for name, known in inputs.items() if known.is_floating}
        if not floating:
            told = ", ".join(f"{name}: {known.dtype}" for name, known in inputs.items())
            msg = f"none of the inputs is floating ({told})" if inputs else "the program has no inputs"
            msg = f"wrt: {msg}; there is nothing to differentiate with respect to"
            faults.add(NotDifferentiableError, msg, loc)
        return floating
    known = application.known
    for place, name in enumerate(wrt):
        found = view.aval(known[name])
        if not found.is_floating:
            msg = f'wrt: "{name}" has dtype {found.dtype}; expected a floating one'
            faults.add(NotDifferentiableError, msg, (*loc, place))
        elif found.weak:
            msg = f'wrt: "{name}" is made of literals alone; make it an input'
            faults.add(NotDifferentiableError, msg, (*loc, place))
    return {name: known[name] for name in wrt}


def check_floating(field: str, name: str, known: Aval, loc: Loc, faults: Faults) -> None:
    """What is differentiated has to be floating."""
    if not known.is_floating:
        msg = f'{field}: "{name}" has dtype {known.dtype}; expected a floating value'
        faults.add(NotDifferentiableError, msg, loc)


def check_cotangent(
    field: str, value: Value | None, of: str, view: View, application: Application, loc: Loc, faults: Faults
) -> None:
    """A cotangent has the shape of its output, with the batch's axis, and numbers that its dtype holds."""
    if value is not None:
        rows = () if application.rows is None else (application.rows,)
        check_direction(field, value, of, view.aval(of), rows, loc, faults)


def check_direction(
    field: str, value: Value, of: str, known: Aval, lead: tuple[int, ...], loc: Loc, faults: Faults
) -> None:
    """A cotangent or tangent has the shape of its value, after the axes of directions and rows."""
    if aval(value).dtype == BOOL:
        faults.add(InvalidValueError, f"{field}: expected numbers, got true or false", loc)
    if known.dtype == FLOAT32 and (fault := narrow_fault(field, value, of)):
        faults.add(InvalidValueError, fault, loc)
    expected = (*lead, *known.shape)
    if shape_of(value) != expected:
        msg = f'{field}: shape {list(shape_of(value))}; expected that of "{of}", {list(expected)}'
        faults.add(ShapeMismatchError, msg, loc)


def narrow_fault(field: str, value: Value, of: str) -> str:
    """What keeps a direction from being one of a float32 value; empty where nothing does."""
    with np.errstate(all="ignore"):
        narrow = np.asarray(value, FLOAT32)
    is_beyond = (np.isinf(narrow) & np.isfinite(value)).any()
    return f'{field}: a number is more than float32, the dtype of "{of}", holds' if is_beyond else ""
