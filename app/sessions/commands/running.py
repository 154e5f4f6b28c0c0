"""Programs run on a session's tape, after their cost is known."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from app.sessions.commands.base import raw_of
from app.sessions.session import Session
from engine.core import Faults, aval, canonical, shape_of
from engine.graph import Graph, Literal
from engine.plans import Cost, check_cost, cost_of
from engine.programs import ProgramFunction, check_call, interpret

#: Checked forms of programs that a session remembers.
_MOST_CHECKED = 2000


def run_program(session: Session, graph: Graph, operands: Mapping[str, Any], rng: np.random.Generator) -> list[Any]:
    """Check the cost of a program, run it and return its outputs."""
    if not _makes_numbers(graph, operands):
        _check_program(session, graph, operands)
    values = interpret(graph, operands, _OnTape(rng))
    return [values[output.id] for output in graph.outputs]


class _OnTape:
    """Interpreter of programs on a tape; random operations draw from one generator, in their order."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def constant(self, value: Any, is_weak: bool) -> Any:
        """Return a constant; a weak number stays weak, as among variables."""
        return value if is_weak or type(value) is not float else np.float64(value)

    def result(self, name: str, value: Any) -> Any:
        """Return a result unchanged."""
        return value

    def random(self, place: int, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        """Return the generator, whatever the place of the operation."""
        return args, self._rng


def _makes_numbers(graph: Graph, operands: Mapping[str, Any]) -> bool:
    """Return whether a program obviously makes only numbers, so that its cost needs no check."""
    nodes = graph.nodes
    if len(nodes) > 1 or any(node.op is None or node.op.kind != "elementwise" for node in nodes):
        return False
    given = [*operands.values(), *(x.value for node in nodes for x in node.args if isinstance(x, Literal))]
    return all(not shape_of(x) for x in given)


def _check_program(session: Session, graph: Graph, operands: Mapping[str, Any]) -> None:
    """Raise the faults of a program on its operands, or LimitExceededError if it costs too much."""
    form = _form(graph, operands, session.train)
    nbytes = None if form is None else session.checked.get(form)
    if nbytes is None:
        nbytes = _cost_of(session, graph, operands).bytes
        if form is not None:
            if len(session.checked) >= _MOST_CHECKED:
                session.checked.clear()
            session.checked[form] = nbytes
    session.spend(nbytes)


def _cost_of(session: Session, graph: Graph, operands: Mapping[str, Any]) -> Cost:
    limits = session.quotas.programs.cost
    faults = Faults()
    inputs = {name: canonical(raw_of(x)) for name, x in operands.items()}
    call = check_call(graph, inputs, faults, train=session.train, seed=0, limits=limits)
    faults.check()
    trace = call.trace()
    function = ProgramFunction(call, trace)
    function(function.inputs)
    cost = cost_of(trace, range(len(trace.steps)))
    check_cost(cost, limits, "the operation")
    return cost


def _form(graph: Graph, operands: Mapping[str, Any], train: bool) -> Hashable:
    """Return a key of all that decides the validity and the cost of a program: neither names nor values.

    None if there is no such key, as for an array inside the program.
    """
    places = {name: n for n, name in enumerate(operands)}
    parts: list[Hashable] = [train, *(aval(raw_of(x)) for x in operands.values())]
    for node in graph.nodes:
        args: list[Hashable] = []
        for x in node.args:
            if isinstance(x, str):
                args.append(places[x])
            elif type(x.value) is np.ndarray:
                return None
            else:
                args.append((type(x.value), x.value, x.is_weak, x.is_integral))
        places |= {name: len(places) + n for n, name in enumerate(node.ids)}
        parts.append((node.op, *args, *node.attrs.items()))
    return tuple(parts)
