"""Forward and backward of a program: everything is checked and its cost known before anything runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Unpack

from engine.core.errors import Faults, InvalidValueError, NotSupportedError
from engine.core.tracer import Symbol
from engine.core.values import FLOAT32, Aval, Value, aval
from engine.graph.ir import Graph
from engine.plans.cost import check_cost
from engine.plans.trace import Trace, as_graph
from engine.programs.application import Application, Running, View, apply_to
from engine.programs.choices import (
    check_answer,
    check_cotangent,
    check_floating,
    check_known,
    chosen_outputs,
    chosen_wrt,
    free_name,
    only_output,
)
from engine.programs.forward import derivatives
from engine.programs.ready import Checked, Direction, ready

#: Derivatives beyond grow too large, and mean too little in floating point.
HIGHEST_ORDER = 12


@dataclass(frozen=True, slots=True)
class Backward:
    """What to differentiate: see the fields of the same names in the wire contract."""

    of: str | None = None
    wrt: tuple[str, ...] | None = None
    cotangent: Value | None = None
    order: int = 1
    create_graph: bool = False
    retain_grad: bool = False
    #: Whether the program of the gradients has supports (see `masking`), which a picture does without.
    supports: bool = True


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Values by output, gradients by name of `wrt`, all derivatives up to `order`, gradients of every floating node."""

    values: dict[str, Value]
    grads: dict[str, Value] | None = None
    higher: dict[str, list[Value]] | None = None
    node_grads: dict[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class Prepared(Checked[Evaluation]):
    """A program that was checked with its inputs; `run` computes. What can be given `along` is another `cotangent`.

    avals: shape and dtype of every input and node, for one row.
    grad_graph: with create_graph, a program of the gradients.
    """

    avals: dict[str, Aval]
    grad_graph: Graph | None

    @property
    def rows(self) -> int | None:
        """The length of the batch."""
        return self.application.rows


@dataclass(frozen=True, slots=True)
class _Names:
    """What the values of an answer are called, in order; of higher derivatives how many there are beyond the first."""

    values: tuple[str, ...]
    grads: tuple[str, ...] | None
    higher: dict[str, int]
    node_grads: tuple[str, ...] | None

    def evaluation(self, values: Iterable[Value]) -> Evaluation:
        """What was asked for, put together from what the plan computes."""
        found = iter(values)
        outputs = {name: next(found) for name in self.values}
        if self.grads is None:
            return Evaluation(outputs)
        grads = {name: next(found) for name in self.grads}
        higher = {name: [grads[name], *islice(found, rest)] for name, rest in self.higher.items()}
        retained = None if self.node_grads is None else {name: next(found) for name in self.node_grads}
        return Evaluation(outputs, grads, higher or None, retained)


@dataclass(slots=True)
class _Form:
    """The steps that an answer is made of."""

    values: dict[str, Symbol]
    grads: dict[str, Symbol] | None = None
    higher: dict[str, list[Symbol]] = field(default_factory=dict)
    node_grads: dict[str, Symbol] | None = None

    def steps(self) -> list[Symbol]:
        rest = [step for steps in self.higher.values() for step in steps]
        return [*self.values.values(), *(self.grads or {}).values(), *rest, *(self.node_grads or {}).values()]

    def names(self) -> _Names:
        """The same without the steps, which hold all of their trace."""
        return _Names(
            tuple(self.values),
            None if self.grads is None else tuple(self.grads),
            {name: len(rest) for name, rest in self.higher.items()},
            None if self.node_grads is None else tuple(self.node_grads),
        )


def prepare(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    outputs: Sequence[str] | str | None = None,
    backward: Backward | None = None,
    **running: Unpack[Running],
) -> Prepared:
    """Checks a program with its inputs and finds its cost; nothing is computed.

    Args:
        graph: a program.
        inputs: a raw value for each of its inputs.
        outputs: names to return: None for the program's, "all" for every node.
        backward: what to differentiate; None for forward only.
        running: batched, train, seed, limits and plans, see `Running`.

    Raises:
        AutogradError: of the kind that the wire contract names for the fault.
    """
    faults = Faults()
    application = apply_to(graph, inputs, faults, **running)
    names = application.names if isinstance(outputs, str) else chosen_outputs(application, outputs, faults)
    of = only_output(application, backward.of, ("backward",), faults) if backward else None
    if backward:
        _check_names(backward, application, faults)
    faults.check()

    trace = application.trace()
    wrt = backward.wrt or () if backward and backward.order > 1 else ()
    cut = [application.known[name] for name in wrt]
    apart = [application.known[name] for name in (backward and backward.wrt) or ()]
    view = View(application, trace, cut=cut, apart=apart)
    chosen = chosen_wrt(application, view, backward.wrt, ("backward", "wrt"), faults) if backward else {}
    if backward and of is not None:
        check_floating("of", of, view.aval(of), ("backward", "of"), faults)
        check_cotangent("cotangent", backward.cotangent, of, view, application, ("backward", "cotangent"), faults)
        if chosen or backward.wrt is not None:
            _check_order(backward, chosen, faults)
    faults.check()

    form = _Form({name: view.value(i) for name, i in names.items()})
    along = {}
    grad_graph = None
    if backward and of is not None:
        seed_name = free_name("cotangent", application)
        _differentiate(form, trace, view, backward, of, chosen, seed_name)
        if backward.cotangent is not None:
            direction = Direction(seed_name, of, view.aval(of).dtype == FLOAT32)
            along["cotangent"] = (direction, backward.cotangent)
        if backward.create_graph:
            grad_graph = _grad_graph(form, trace, application, backward.supports)
    steps = form.steps()
    plan = application.plan(trace, steps)
    who = "the program" if application.rows is None else f"a batch of {application.rows} rows"
    check_cost(plan.cost, application.limits, who)
    check_answer(steps, application.limits)
    return Prepared(application, ready(plan, application, form.names().evaluation, along), view.avals, grad_graph)


def _differentiate(
    form: _Form, trace: Trace, view: View, backward: Backward, of: str, wrt: Mapping[str, str], seed_name: str
) -> None:
    cotangent = view.ones(of)
    if backward.cotangent is not None:
        given = trace.input(seed_name, aval(backward.cotangent)._replace(weak=None))
        cotangent = view.directed(given)
    retained = []
    if backward.retain_grad:
        # Floating, and not made of literals alone.
        names = [i for node in view.application.graph.nodes for i in node.ids]
        retained = [i for i in names if view.aval(i).is_floating and not view.aval(i).weak]
    is_differentiated = backward.order > 1 or backward.create_graph
    found = view.gradients([(of, cotangent)], [*wrt.values(), *retained], through_powers=is_differentiated)
    grads = [view.primal(g) for g in found]
    form.grads = dict(zip(wrt, grads, strict=False))
    if backward.retain_grad:
        form.node_grads = dict(zip(retained, grads[len(wrt) :], strict=True))
    if backward.order > 1:
        [(name, i)] = wrt.items()
        form.higher = {name: derivatives(trace, form.grads[name], view.step(i), backward.order)[1:]}


def _grad_graph(form: _Form, trace: Trace, application: Application, is_masked: bool) -> Graph:
    taken = {step.name for step in trace.steps if step.name}
    outputs = {}
    for name, first in (form.grads or {}).items():
        output = free_name(f"grad_{name}", taken)
        outputs[output] = form.higher[name][-1] if name in form.higher else first
        taken.add(output)
    if application.train and any(trace.steps[p].stream for p in trace.live(list(outputs.values()))):
        msg = "create_graph: a program of gradients draws random numbers of its own, not those of train: true here"
        raise NotSupportedError(msg, ("backward", "create_graph"))
    return as_graph(trace, outputs, application.graph.bound, is_masked=is_masked)


def _check_names(backward: Backward, application: Application, faults: Faults) -> None:
    if not 1 <= backward.order <= HIGHEST_ORDER:
        msg = f"order is {backward.order}; expected an integer from 1 to {HIGHEST_ORDER}"
        faults.add(InvalidValueError, msg, ("backward", "order"))
    check_known("wrt", backward.wrt or (), application, ("backward", "wrt"), faults)


def _check_order(backward: Backward, wrt: Mapping[str, str], faults: Faults) -> None:
    if backward.order > 1 and len(wrt) != 1:
        listed = ", ".join(wrt) or "none"
        msg = f"order: {backward.order} takes one name to differentiate by, not {len(wrt)} ({listed}); say which in wrt"
        faults.add(InvalidValueError, msg, ("backward", "wrt"))
