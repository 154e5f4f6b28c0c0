"""Values and gradients of a program; it is checked and its cost is known before anything runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Unpack

import numpy as np

from engine.core import Aval, Faults, InvalidValueError, NotSupportedError, Symbol, Value, full_support, unmask
from engine.graph import Graph, free_name
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
class CheckedEvaluation(CheckedProgram[Evaluation]):
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
) -> CheckedEvaluation:
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
        return CheckedEvaluation(checked.call, checked.executable, setup.function.avals, None)
    of = setup.only_output(backward.of, ("backward",))
    if not 1 <= backward.order <= HIGHEST_ORDER:
        msg = f"order is {backward.order}; expected an integer from 1 to {HIGHEST_ORDER}"
        setup.faults.add(InvalidValueError, msg, ("backward", "order"))
    setup.check_known("wrt", backward.wrt or (), ("backward", "wrt"))
    setup.faults.check()
    return _BackwardPass(setup, backward, names, str(of)).prepared()


class _BackwardPass:
    """Backward pass of a program, recorded on the trace of a setup.

    Args:
        setup: the checked call.
        options: of the backward pass.
        names: the values to return, name -> id.
        of: id of the value to differentiate.
    """

    def __init__(self, setup: CallSetup, options: Backward, names: Mapping[str, str], of: str) -> None:
        self._setup = setup
        self._options = options
        self._names = names
        self._of = of
        self._chosen = setup.wrt(options.wrt, ("backward", "wrt"))
        self._cotangents = self._given_cotangent()
        if setup.faults:
            self._check()
        setup.check_gradient_size([of], self._chosen.values())
        #: Ids of the values on the tape; those to differentiate with respect to come first, each once.
        self._wrt = list(dict.fromkeys(self._chosen.values()))
        self._leaves = [*self._wrt, *(_sources(setup, self._wrt) if options.retain_grad else ())]
        # The shift must be a step of its own, with respect to which the first derivative can be differentiated.
        self._shifts = {
            i: setup.function.shift(i, is_apart=options.order > 1) for i in self._leaves if not setup.is_input(i)
        }

    def prepared(self) -> CheckedEvaluation:
        """Record the pass; return the program with its gradients."""
        setup, options = self._setup, self._options
        axes = dict.fromkeys(self._cotangents, 0 if setup.call.rows is not None else None)
        values, by_id, retained = setup.function.over_rows(self._row, (self._cotangents, axes))
        grads = {name: setup.symbol(by_id[i]) for name, i in self._chosen.items()}
        higher = self._higher(grads)
        last = {name: higher[name][-1] if name in higher else first for name, first in grads.items()}
        grad_graph = _grad_graph(setup, last, options.supports) if options.create_graph else None
        counts = {name: len(rest) for name, rest in higher.items()}
        names = _Names(tuple(self._names), tuple(grads), counts, tuple(retained) if options.retain_grad else None)
        answer = [*values.values(), *grads.values(), *chain.from_iterable(higher.values()), *retained.values()]
        checked = setup.checked(answer, names.evaluation)
        return CheckedEvaluation(checked.call, checked.executable, setup.function.avals, grad_graph)

    def _given_cotangent(self) -> dict[str, Symbol]:
        """Return the input of the trace for the cotangent of the value; empty if none is given."""
        setup, of = self._setup, self._of
        if self._options.cotangent is None:
            return {}
        lead, loc = setup.rows(of, is_cotangent=True), ("backward", "cotangent")
        key = free_name("cotangent", {*setup.call.known, *setup.call.graph.bound})
        return {"cotangent": setup.direction("cotangent", key, of, self._options.cotangent, of, lead, loc)}

    def _check(self) -> None:
        """Check what can be differentiated, as soon as shapes and dtypes are known.

        Raises:
            AutogradError: there are faults, those found before included.
        """
        self._setup.check_floating("of", self._of, self._of, ("backward", "of"))
        if self._chosen or self._options.wrt is not None:
            _check_order(self._options, self._chosen, self._setup.faults)
        self._setup.faults.check()

    def _row(
        self, inputs: Mapping[str, Value], cotangents: Mapping[str, Value]
    ) -> tuple[Value, dict[str, Value], dict[str, Value]]:
        """Return for one row the values by name, the gradients by id, and the gradients of nodes to retain by id."""
        setup, options = self._setup, self._options
        nodes: dict[str, Value] = {}

        def f(moved: Mapping[str, Value]) -> tuple[Value, dict[str, Value]]:
            found = setup.at(inputs, moved)
            self._check()
            if options.retain_grad:
                nodes.update((i, found[i]) for i in self._retained())
            return found[self._of], {name: found[i] for name, i in self._names.items()}

        start = {i: inputs[i] if setup.is_input(i) else self._shifts[i] for i in self._leaves}
        run = ReverseCall(f, (start,), {}, 0, True, "backward")
        g = cotangents["cotangent"] if cotangents else setup.trace.full(1.0, setup.aval(self._of)._replace(weak=None))
        slopes = iter(
            run.cotangents(
                [(run.y, g)],
                [*run.xs[: len(self._wrt)], *nodes.values()],
                through_powers=options.order > 1 or options.create_graph,
            )
        )
        return run.aux, {i: next(slopes) for i in self._wrt}, {i: next(slopes) for i in nodes}

    def _retained(self) -> list[str]:
        """Return the ids of the floating nodes, except those on literals alone."""
        avals = {i: self._setup.aval(i) for node in self._setup.call.graph.nodes for i in node.ids}
        return [i for i, known in avals.items() if known.is_floating and not known.weak]

    def _higher(self, grads: Mapping[str, Symbol]) -> dict[str, list[Symbol]]:
        """Return the derivatives of order 2 and above by the only name of `wrt`; empty if none are asked for."""
        if self._options.order == 1:
            return {}
        [(name, i)] = self._chosen.items()
        x = self._setup.function.inputs[i] if self._setup.is_input(i) else self._shifts[i]
        return {name: derivatives(self._setup.trace, grads[name], x, self._options.order)[1:]}


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
    ones = trace.full(1.0, x.aval._replace(weak=None))
    for _ in range(order - 1):
        tangent, has_choices = _tangent(trace, found[-1], x, ones, is_masked=False)
        if has_choices:
            with trace.uncounted():
                masked, _ = _tangent(trace, found[-1], x, ones, is_masked=True)
            tangent = trace.alternative(tangent, masked)
        found.append(tangent)
    return found


def _tangent(trace: Trace, y: Symbol, x: Symbol, ones: Symbol, *, is_masked: bool) -> tuple[Symbol, bool]:
    """Return the tangent of a step along ones, and whether it may differ with supports."""
    forward = Forward(next_level(), "order", through_powers=True)
    moved = forward.pair(x, full_support(ones) if is_masked else ones)
    with np.errstate(all="ignore"):
        tangent = unmask(forward.parts(replay(trace, y, [x], is_masked=is_masked)(moved))[1])
    has_choices = forward.has_choices or has_alternatives(trace, y)
    return trace.full(0.0, y.aval) if tangent is None else tangent, has_choices


def _grad_graph(setup: CallSetup, grads: Mapping[str, Symbol], is_masked: bool) -> Graph:
    trace = setup.trace
    names = {step.name for step in trace.steps if step.name}
    outputs = {}
    for name, step in grads.items():
        output = free_name(f"grad_{name}", names)
        outputs[output] = step
        names.add(output)
    if setup.call.train and any(trace.steps[p].stream for p in trace.live(list(outputs.values()))):
        msg = "create_graph: a program of gradients draws random numbers of its own, not those of train: true here"
        raise NotSupportedError(msg, ("backward", "create_graph"))
    return as_graph(trace, outputs, setup.call.graph.bound, is_masked=is_masked)


def _check_order(backward: Backward, wrt: Mapping[str, str], faults: Faults) -> None:
    if backward.order > 1 and len(wrt) != 1:
        listed = ", ".join(wrt) or "none"
        msg = f"order: {backward.order} takes one name to differentiate by, not {len(wrt)} ({listed}); say which in wrt"
        faults.add(InvalidValueError, msg, ("backward", "wrt"))
