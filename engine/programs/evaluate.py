"""Values and gradients of a program; it is checked and its cost is known before anything runs."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Unpack

import numpy as np

from engine.core import Aval, Faults, InvalidValueError, NotSupportedError, Symbol, Value, full_support, unmask
from engine.graph import Graph
from engine.plans.replay import has_alternatives, replay
from engine.plans.trace import Trace, as_graph
from engine.programs.call import RunOptions
from engine.programs.call_setup import CallSetup
from engine.programs.executable import CheckedProgram
from engine.tracers import Forward
from engine.transforms.calls import ReverseCall, next_level

#: Derivatives of higher order take too many steps and are too inaccurate in floating point.
HIGHEST_ORDER = 12


@dataclass(frozen=True, slots=True)
class Backward:
    """Options of a backward pass; see the fields of the same names in the wire contract."""

    of: str | None = None
    wrt: tuple[str, ...] | None = None
    cotangent: Value | None = None
    order: int = 1
    create_graph: bool = False
    retain_grad: bool = False
    #: Whether the program of the gradients has supports (see `masking`); a picture is simpler without.
    supports: bool = True


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of a run.

    values: by output.
    grads: gradients by name of `wrt`.
    higher: by name of `wrt`, the derivatives of order 1, 2, ... up to `order`.
    node_grads: gradients of all floating nodes by id.
    """

    values: dict[str, Value]
    grads: dict[str, Value] | None = None
    higher: dict[str, list[Value]] | None = None
    node_grads: dict[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class Prepared(CheckedProgram[Evaluation]):
    """A checked program with its inputs, whose `run` takes another `cotangent` as `along`.

    avals: shapes and dtypes of all inputs and nodes, for one row.
    grad_graph: the program of the gradients, with create_graph.
    """

    avals: dict[str, Aval]
    grad_graph: Graph | None

    @property
    def rows(self) -> int | None:
        """Number of rows of the batch; None without a batch."""
        return self.call.rows


@dataclass(frozen=True, slots=True)
class _Names:
    """Names of the values that a plan computes, in order.

    higher: name -> number of derivatives beyond the first.
    """

    values: tuple[str, ...]
    grads: tuple[str, ...] | None
    higher: dict[str, int]
    node_grads: tuple[str, ...] | None

    def evaluation(self, values: Iterable[Value]) -> Evaluation:
        """Build the result from the values that the plan computes."""
        found = iter(values)
        outputs = {name: next(found) for name in self.values}
        if self.grads is None:
            return Evaluation(outputs)
        grads = {name: next(found) for name in self.grads}
        higher = {name: [grads[name], *islice(found, rest)] for name, rest in self.higher.items()}
        retained = None if self.node_grads is None else {name: next(found) for name in self.node_grads}
        return Evaluation(outputs, grads, higher or None, retained)


def prepare(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    outputs: Sequence[str] | str | None = None,
    backward: Backward | None = None,
    **running: Unpack[RunOptions],
) -> Prepared:
    """Check a program with its inputs, trace it and find its cost; nothing is computed.

    Args:
        graph: a program.
        inputs: a raw value for each of its inputs.
        outputs: names of the values to return: None for the program's outputs, "all" for every node.
        backward: options of the backward pass; None for values only.
        running: batched, train, seed, limits and plans, see `RunOptions`.

    Raises:
        AutogradError: of the kind that the wire contract names for the fault.
    """
    setup = CallSetup(graph, inputs, running)
    names = setup.call.names if isinstance(outputs, str) else setup.outputs(outputs)
    if backward is None:
        setup.faults.check()
        values = setup.values()
        found = [values[i] for i in names.values()]
        checked = setup.checked(found, _Names(tuple(names), None, {}, None).evaluation)
        return Prepared(checked.call, checked.executable, setup.function.avals, None)
    of = setup.only_output(backward.of, ("backward",))
    if not 1 <= backward.order <= HIGHEST_ORDER:
        msg = f"order is {backward.order}; expected an integer from 1 to {HIGHEST_ORDER}"
        setup.faults.add(InvalidValueError, msg, ("backward", "order"))
    setup.check_known("wrt", backward.wrt or (), ("backward", "wrt"))
    setup.faults.check()
    return _differentiated(setup, backward, names, str(of))


def _differentiated(setup: CallSetup, backward: Backward, names: Mapping[str, str], of: str) -> Prepared:
    chosen = setup.wrt(backward.wrt, ("backward", "wrt"))
    setup.check_gradient_size([of], chosen.values())
    given_along = {}
    if backward.cotangent is not None:
        lead, loc = setup.rows(of, is_cotangent=True), ("backward", "cotangent")
        key = free_name("cotangent", {*setup.call.known, *setup.call.graph.bound})
        given_along = {"cotangent": setup.direction("cotangent", key, of, backward.cotangent, of, lead, loc)}

    def check() -> None:
        setup.check_floating("of", of, of, ("backward", "of"))
        if chosen or backward.wrt is not None:
            _check_order(backward, chosen, setup.faults)
        setup.faults.check()

    if setup.faults:
        check()
    is_higher = backward.order > 1
    retained: list[str] = []

    def row(inputs: dict[str, Any], along: Mapping[str, Any]) -> Any:
        nodes: dict[str, Any] = {}

        def f(moved: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
            found = setup.at(inputs, moved)
            check()
            if backward.retain_grad:
                own = [i for node in setup.call.graph.nodes for i in node.ids]
                # Floating nodes, except those on literals alone.
                retained[:] = [i for i in own if setup.aval(i).is_floating and not setup.aval(i).weak]
                nodes.update((i, found[i]) for i in retained)
            return found[of], {name: found[i] for name, i in names.items()}

        start = {i: inputs[i] if setup.is_input(i) else shifts[i] for i in (*chosen.values(), *others)}
        run = ReverseCall(f, (start,), {}, 0, True, "backward")
        g = along["cotangent"] if along else setup.trace.filled(1.0, setup.aval(of)._replace(weak=None))
        wanted = [*run.xs[: len(dict.fromkeys(chosen.values()))], *nodes.values()]
        found = run.cotangents([(run.y, g)], wanted, through_powers=is_higher or backward.create_graph)
        slopes = iter(found)
        return {
            "values": run.aux,
            "grads": {i: next(slopes) for i in dict.fromkeys(chosen.values())},
            "nodes": {i: next(slopes) for i in nodes},
        }

    others = _sources(setup, chosen.values()) if backward.retain_grad else []
    # The shift must be a step of its own, with respect to which the first derivative can be differentiated.
    shifts = {
        i: setup.function.shift(i, is_apart=is_higher) for i in (*chosen.values(), *others) if not setup.is_input(i)
    }
    axes = dict.fromkeys(given_along, 0 if setup.call.rows is not None else None)
    answer = setup.function.over_rows(row, (given_along, axes))
    steps = list(answer["values"].values())
    grads = {name: setup.symbol(answer["grads"][i]) for name, i in chosen.items()}
    higher: dict[str, list[Symbol]] = {}
    if is_higher:
        [(name, i)] = chosen.items()
        x = setup.function.inputs[i] if setup.is_input(i) else shifts[i]
        higher[name] = derivatives(setup.trace, grads[name], x, backward.order)[1:]
    steps += [*grads.values(), *(step for rest in higher.values() for step in rest), *answer["nodes"].values()]
    counts = {name: len(rest) for name, rest in higher.items()}
    made = _Names(tuple(names), tuple(grads), counts, tuple(retained) if backward.retain_grad else None)
    last = {name: higher[name][-1] if name in higher else first for name, first in grads.items()}
    grad_graph = _grad_graph(setup, last, backward.supports) if backward.create_graph else None
    checked = setup.checked(steps, made.evaluation)
    return Prepared(checked.call, checked.executable, setup.function.avals, grad_graph)


def _sources(setup: CallSetup, chosen: Iterable[str]) -> list[str]:
    """Return the floating inputs, and the floating nodes that are made of constants, beside some that are chosen.

    With these on the tape every node has a gradient.
    """
    inputs = [i.name for i in setup.call.graph.inputs if setup.aval(i.name).is_floating]
    reached = {*inputs, *chosen}
    nodes = []
    for node in setup.call.graph.nodes:
        if reached.isdisjoint(x for x in node.args if isinstance(x, str)):
            nodes += [i for i in node.ids if setup.aval(i).is_floating and not setup.aval(i).weak]
        reached.update(node.ids)
    return [i for i in (*inputs, *nodes) if i not in set(chosen)]


def derivatives(trace: Trace, first: Symbol, x: Symbol, order: int) -> list[Symbol]:
    """Return the derivatives of order 1 up to `order`, each the tangent of the one before along ones.

    first: the gradient of some scalar with respect to x. Because second derivatives are symmetric, the tangent along
    ones equals the gradient of the sum of the elements.
    """
    found = [first]
    ones = trace.filled(1.0, x.aval._replace(weak=None))
    for _ in range(order - 1):
        tangent, has_choices = _pushed(trace, found[-1], x, ones, is_masked=False)
        if has_choices:
            with trace.uncounted():
                masked, _ = _pushed(trace, found[-1], x, ones, is_masked=True)
            tangent = trace.alternative(tangent, masked)
        found.append(tangent)
    return found


def _pushed(trace: Trace, y: Symbol, x: Symbol, ones: Symbol, *, is_masked: bool) -> tuple[Symbol, bool]:
    """Return the tangent of a step along ones, and whether it may differ with supports."""
    forward = Forward(next_level(), "order", through_powers=True)
    moved = forward.pair(x, full_support(ones) if is_masked else ones)
    with np.errstate(all="ignore"):
        tangent = unmask(forward.parts(replay(trace, y, [x], is_masked=is_masked)(moved))[1])
    has_choices = forward.has_choices or has_alternatives(trace, y)
    return trace.filled(0.0, y.aval) if tangent is None else tangent, has_choices


def free_name(name: str, taken: Container[str]) -> str:
    """Return the name with underscores appended until it is free."""
    while name in taken:
        name += "_"
    return name


def _grad_graph(setup: CallSetup, grads: Mapping[str, Symbol], is_masked: bool) -> Graph:
    trace = setup.trace
    taken = {step.name for step in trace.steps if step.name}
    outputs = {}
    for name, step in grads.items():
        output = free_name(f"grad_{name}", taken)
        outputs[output] = step
        taken.add(output)
    if setup.call.train and any(trace.steps[p].stream for p in trace.live(list(outputs.values()))):
        msg = "create_graph: a program of gradients draws random numbers of its own, not those of train: true here"
        raise NotSupportedError(msg, ("backward", "create_graph"))
    return as_graph(trace, outputs, setup.call.graph.bound, is_masked=is_masked)


def _check_order(backward: Backward, wrt: Mapping[str, str], faults: Faults) -> None:
    if backward.order > 1 and len(wrt) != 1:
        listed = ", ".join(wrt) or "none"
        msg = f"order: {backward.order} takes one name to differentiate by, not {len(wrt)} ({listed}); say which in wrt"
        faults.add(InvalidValueError, msg, ("backward", "wrt"))
