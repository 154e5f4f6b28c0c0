"""Forward and backward of a program: everything is checked and its cost known before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.errors import Faults, InvalidValueError, Loc, NotDifferentiableError, ShapeMismatchError, UnknownNameError
from engine.graph.application import Application, View, apply_to
from engine.graph.autodiff import derivatives
from engine.graph.cost import Cost, check_cost
from engine.graph.ir import Graph
from engine.graph.limits import Limits, check_limit
from engine.graph.names import quoted
from engine.graph.schedule import Schedule
from engine.graph.trace import Trace, as_graph
from engine.symbol import Symbol
from engine.table import nearest
from engine.values import BOOL, FLOAT32, Aval, Value, aval, shape_of

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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Values by output, gradients by name of `wrt`, all derivatives up to `order`, gradients of every floating node."""

    values: dict[str, Value]
    grads: dict[str, Value] | None = None
    higher: dict[str, list[Value]] | None = None
    node_grads: dict[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A program that was checked with its inputs; `run` computes.

    avals: shape and dtype of every input and node, for one row.
    grad_graph: with create_graph, a program of the gradients.
    """

    application: Application
    avals: dict[str, Aval]
    cost: Cost
    grad_graph: Graph | None
    _schedule: Schedule
    _inputs: dict[str, Value]
    _form: "_Form"

    @property
    def rows(self) -> int | None:
        """The length of the batch."""
        return self.application.rows

    def run(self) -> Evaluation:
        """Computes values and gradients."""
        with self.application.mode():
            found = iter(self._schedule.run(self._inputs, self.application.seed or 0))
        form = self._form
        values = {name: next(found) for name in form.values}
        if form.grads is None:
            return Evaluation(values)
        grads = {name: next(found) for name in form.grads}
        higher = {name: [grads[name], *(next(found) for _ in rest)] for name, rest in form.higher.items()}
        retained = None if form.node_grads is None else {name: next(found) for name in form.node_grads}
        return Evaluation(values, grads, higher or None, retained)


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


def prepare(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    outputs: Sequence[str] | str | None = None,
    backward: Backward | None = None,
    batched: Sequence[str] = (),
    train: bool = False,
    seed: int | None = None,
    limits: Limits | None = None,
) -> Prepared:
    """Checks a program with its inputs and finds its cost; nothing is computed.

    Args:
        graph: a program.
        inputs: a raw value for each of its inputs.
        outputs: names to return: None for the program's, "all" for every node.
        backward: what to differentiate; None for forward only.
        batched: inputs whose leading axis is a batch; the answer is that of one run a row, stacked.
        train: random operations are active; needs a seed where there are any.
        seed: of random operations; each draws from a stream of its own, keyed by its place in the graph and by row.
        limits: what it may cost.

    Raises:
        AutogradError: of the kind that the wire contract names for the fault.
    """
    faults = Faults()
    application = apply_to(graph, inputs, batched=batched, train=train, seed=seed, limits=limits, faults=faults)
    names = application.names if isinstance(outputs, str) else chosen_outputs(application, outputs, faults)
    of = only_output(application, backward.of, ("backward",), faults) if backward else None
    wrt = list(backward.wrt or ()) if backward else []
    if backward and not 1 <= backward.order <= HIGHEST_ORDER:
        msg = f"order is {backward.order}; expected an integer from 1 to {HIGHEST_ORDER}"
        faults.add(InvalidValueError, msg, ("backward", "order"))
    check_known("wrt", wrt, application, ("backward", "wrt"), faults)
    faults.check()

    trace = application.trace()
    cut = [application.known[name] for name in wrt] if backward and backward.order > 1 else []
    view = View(application, trace, cut=cut)
    chosen = chosen_wrt(application, view, backward.wrt, ("backward", "wrt"), faults) if backward else {}
    if backward and of is not None:
        check_floating("of", of, view.aval(of), ("backward", "of"), faults)
        check_cotangent("cotangent", backward.cotangent, of, view, application, ("backward", "cotangent"), faults)
        _check_order(backward, chosen, faults)
    faults.check()

    form = _Form({name: view.value(i) for name, i in names.items()})
    given = application.values()
    grad_graph = None
    if backward and of is not None:
        seed_name = free_name("cotangent", application)
        _differentiate(form, trace, view, backward, of, chosen, seed_name)
        if backward.cotangent is not None:
            given[seed_name] = backward.cotangent
        if backward.create_graph:
            grad_graph = _grad_graph(form, trace, application)
    steps = form.steps()
    schedule = Schedule(trace, steps)
    who = "the program" if application.rows is None else f"a batch of {application.rows} rows"
    check_cost(schedule.cost, application.limits, who)
    check_answer(steps, application.limits)
    return Prepared(application, view.avals, schedule.cost, grad_graph, schedule, given, form)


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
    found = view.gradients([(of, cotangent)], [*wrt.values(), *retained])
    grads = [view.primal(g) for g in found]
    form.grads = dict(zip(wrt, grads, strict=False))
    if backward.retain_grad:
        form.node_grads = dict(zip(retained, grads[len(wrt) :], strict=True))
    if backward.order > 1:
        [(name, i)] = wrt.items()
        form.higher = {name: derivatives(trace, form.grads[name], view.step(i), backward.order)[1:]}


def _grad_graph(form: _Form, trace: Trace, application: Application) -> Graph:
    taken = {step.name for step in trace.steps if step.name}
    outputs = {}
    for name, first in (form.grads or {}).items():
        output = free_name(f"grad_{name}", taken)
        outputs[output] = form.higher[name][-1] if name in form.higher else first
        taken.add(output)
    return as_graph(trace, outputs, application.graph.bound)


def _check_order(backward: Backward, wrt: Mapping[str, str], faults: Faults) -> None:
    if backward.order > 1 and len(wrt) != 1:
        listed = ", ".join(wrt) or "none"
        msg = f"order: {backward.order} takes one name to differentiate by, not {len(wrt)} ({listed}); say which in wrt"
        faults.add(InvalidValueError, msg, ("backward", "wrt"))


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
    """What each name to differentiate with respect to stands for; all floating inputs where none is said."""
    if wrt is None:
        return {i.name: i.name for i in application.graph.inputs if view.aval(i.name).is_floating}
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
        msg = f'{field}: "{name}" has dtype {known.dtype}; expected a floating output'
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
    if known.dtype == FLOAT32:
        with np.errstate(all="ignore"):
            narrow = np.asarray(value, FLOAT32)
        if (np.isinf(narrow) & np.isfinite(value)).any():
            msg = f'{field}: a number is more than float32, the dtype of "{of}", holds'
            faults.add(InvalidValueError, msg, loc)
    expected = (*lead, *known.shape)
    if shape_of(value) != expected:
        msg = f'{field}: shape {list(shape_of(value))}; expected that of "{of}", {list(expected)}'
        faults.add(ShapeMismatchError, msg, loc)
