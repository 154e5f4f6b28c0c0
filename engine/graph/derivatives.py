"""Products with Jacobians and Hessians, and the matrices themselves, of a program: checked and costed before they run.

Each is one interpretation of the program, on a tape for cotangents, with tangents for directions, or both; several
directions at once are an axis more, never a loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import (
    Fault,
    Faults,
    InvalidValueError,
    LimitExceededError,
    NotScalarError,
    ShapeMismatchError,
    UnknownNameError,
)
from engine.graph.application import Application, View, apply_to
from engine.graph.cost import Cost, check_cost
from engine.graph.evaluate import (
    check_answer,
    check_direction,
    check_floating,
    check_known,
    chosen_outputs,
    chosen_wrt,
    only_output,
)
from engine.graph.ir import Graph
from engine.graph.names import quoted
from engine.graph.schedule import Schedule
from engine.graph.trace import Trace
from engine.symbol import Symbol
from engine.table import CALLS, nearest
from engine.values import Aval, Value, aval, shape_of

#: Names to steps, to any depth.
Form = Mapping[str, Any]

MODES = ("auto", "reverse", "forward")


@dataclass(frozen=True, slots=True)
class Derivative:
    """What was checked; `run` computes a document of values by name, nested as the steps are."""

    application: Application
    cost: Cost
    _schedule: Schedule
    _inputs: dict[str, Value]
    _form: Form

    def run(self) -> dict[str, Any]:
        """The values."""
        with self.application.mode():
            found = iter(self._schedule.run(self._inputs, self.application.seed or 0))
        return _filled(self._form, found)


def _filled(form: Form, values: Any) -> dict[str, Any]:
    return {name: _filled(x, values) if isinstance(x, Mapping) else next(values) for name, x in form.items()}


def _steps(form: Form) -> list[Symbol]:
    return [step for x in form.values() for step in (_steps(x) if isinstance(x, Mapping) else [x])]


def vjp(
    graph: Graph,
    inputs: Mapping[str, Value],
    cotangents: Mapping[str, Value],
    *,
    wrt: Sequence[str] | None = None,
    many: bool = False,
    **options: Any,
) -> Derivative:
    """Cotangents of outputs (or nodes) carried back to `wrt`: {"values", "vjps"}.

    many: every cotangent has a leading axis of directions, and so has every result.
    options: batched, train, seed and limits, as of `evaluate.prepare`.

    Raises:
        AutogradError: of the kind that the wire contract names for the fault.
    """
    request = _Request(graph, inputs, options)
    request.check_names("cotangents", cotangents, request.application.known)
    request.check_wrt(wrt)
    view = request.view(directions=request.directions("cotangents", cotangents, many))
    chosen = request.chosen(view, wrt)
    roots = request.directed("cotangents", cotangents, view, many)
    found = view.gradients([(name, view.directed(step)) for name, step in roots.items()], list(chosen.values()))
    vjps = dict(zip(chosen, map(view.directions, found), strict=True))
    return request.derivative({"values": request.outputs(view), "vjps": vjps})


def jvp(
    graph: Graph,
    inputs: Mapping[str, Value],
    tangents: Mapping[str, Value],
    *,
    outputs: Sequence[str] | None = None,
    many: bool = False,
    **options: Any,
) -> Derivative:
    """Tangents of inputs (or nodes) carried to outputs: {"values", "jvps"}. Arguments as of `vjp`."""
    request = _Request(graph, inputs, options)
    names = chosen_outputs(request.application, outputs, request.faults)
    request.check_names("tangents", tangents, request.application.known)
    m = request.directions("tangents", tangents, many)
    plain = request.view()
    steps = request.directed("tangents", tangents, plain, many)
    request.check_outputs(plain, names)
    view = request.view(directions=m, tangents=steps)
    jvps = {name: view.tangent(view.values[i]) for name, i in names.items()}
    return request.derivative({"values": {name: view.value(i) for name, i in names.items()}, "jvps": jvps})


def jacobian(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    mode: str = "auto",
    **options: Any,
) -> Derivative:
    """All derivatives of outputs: {"values", "jacobian": {output: {name: value}}}, of shapes output + input.

    mode: "reverse" costs a pass back an element of the outputs, "forward" a pass an element of the inputs, "auto" takes
    the cheaper.

    Raises:
        LimitExceededError: the matrix, or the way to it, is beyond a limit; products with it are not.
    """
    request = _Request(graph, inputs, options)
    if mode not in MODES:
        msg = f"mode is {quoted(mode)}; expected one of {', '.join(MODES)}"
        request.faults.add(InvalidValueError, msg, ("mode",))
    names = chosen_outputs(request.application, None if of is None else [of], request.faults)
    request.check_wrt(wrt)
    plain = request.view()
    chosen = request.chosen(plain, wrt)
    request.check_outputs(plain, names)
    rows = sum(plain.aval(i).size for i in names.values())
    columns = sum(plain.aval(i).size for i in chosen.values())
    forward = mode == "forward" or (mode == "auto" and columns < rows)
    with _suggesting("vjp gives its products from the left, jvp those from the right"):
        request.check_matrices(plain, names.values(), chosen.values())
        found = _forward(request, names, chosen, plain) if forward else _reverse(request, names, chosen, plain)
        return request.derivative({"values": request.outputs(plain, names), "jacobian": found})


def hessian(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    **options: Any,
) -> Derivative:
    """All second derivatives of one element: {"values", "hessian": {name: {name: value}}, "grads"}."""
    request = _Request(graph, inputs, options)
    root = only_output(request.application, of, (), request.faults)
    request.check_wrt(wrt)
    plain = request.view()
    chosen = request.chosen(plain, wrt)
    root = request.check_one(plain, root)
    blocks: dict[str, dict[str, Symbol]] = {name: {} for name in chosen}
    with _suggesting("hvp gives its products with vectors"):
        request.check_matrices(plain, chosen.values(), chosen.values())
        for name, i in chosen.items():
            known = plain.aval(i)
            view = request.view(
                directions=known.size, tangents={i: request.identity(known, request.rows(i, "tangents"))}
            )
            for other, g in zip(chosen, view.gradients([(root, view.ones(root))], list(chosen.values())), strict=True):
                blocks[other][name] = request.last(view.tangent(g), known)
        [*grads] = plain.gradients([(root, plain.ones(root))], list(chosen.values()))
        document = {
            "values": request.outputs(plain),
            "hessian": blocks,
            "grads": dict(zip(chosen, map(plain.primal, grads), strict=True)),
        }
        return request.derivative(document)


def hvp(
    graph: Graph,
    inputs: Mapping[str, Value],
    vectors: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    many: bool = False,
    **options: Any,
) -> Derivative:
    """Products of the Hessian with vectors, without the matrix: {"values", "hvp", "grads"}. Arguments as of `vjp`."""
    request = _Request(graph, inputs, options)
    root = only_output(request.application, of, (), request.faults)
    request.check_wrt(wrt)
    request.check_names("vectors", vectors, request.application.known)
    m = request.directions("vectors", vectors, many)
    plain = request.view()
    chosen = request.chosen(plain, wrt)
    steps = request.directed("vectors", vectors, plain, many)
    for name in vectors:
        if name not in chosen and request.application.known[name] not in chosen.values():
            msg = f"vectors: {quoted(name)} is not among wrt ({', '.join(chosen)})"
            request.faults.add(InvalidValueError, msg, ("vectors", name))
    root = request.check_one(plain, root)
    view = request.view(directions=m, tangents=steps)
    found = view.gradients([(root, view.ones(root))], list(chosen.values()))
    document = {
        "values": request.outputs(view),
        "hvp": dict(zip(chosen, map(view.tangent, found), strict=True)),
        "grads": dict(zip(chosen, map(view.primal, found), strict=True)),
    }
    return request.derivative(document)


class _Request:
    """What all of them have in common: the checks, one trace, and the extra inputs that directions are."""

    def __init__(self, graph: Graph, inputs: Mapping[str, Value], options: Mapping[str, Any]) -> None:
        self.faults = Faults()
        self.application = apply_to(graph, inputs, faults=self.faults, **options)
        self.trace: Trace = self.application.trace()
        self._given: dict[str, Value] = {}
        self._lead: dict[str, tuple[int, ...]] = {}

    def view(self, **options: Any) -> View:
        """The program on the trace; faults found before are reported first."""
        self.faults.check()
        return View(self.application, self.trace, **options)

    def check_names(self, field: str, given: Mapping[str, Value], known: Mapping[str, str]) -> None:
        """There is at least one, and each is the name of something."""
        if not given:
            self.faults.add(InvalidValueError, f"{field}: expected at least one; none is given", (field,))
        for name in given:
            if name not in known:
                msg = f"{field}: there is no input or node {quoted(name)}{nearest(name, list(known))}"
                self.faults.add(UnknownNameError, msg, (field, name))

    def check_wrt(self, wrt: Sequence[str] | None) -> None:
        """Each name is that of an input or node."""
        check_known("wrt", wrt or (), self.application, ("wrt",), self.faults)

    def chosen(self, view: View, wrt: Sequence[str] | None) -> dict[str, str]:
        """What is differentiated with respect to."""
        return chosen_wrt(self.application, view, wrt, ("wrt",), self.faults)

    def check_outputs(self, view: View, names: Mapping[str, str]) -> None:
        """Outputs that have derivatives are floating."""
        for name, i in names.items():
            check_floating("of", name, view.aval(i), ("of",), self.faults)
        self.faults.check()

    def check_one(self, view: View, root: str | None) -> str:
        """What has a Hessian is one floating element."""
        name = str(root)
        known = view.aval(name)
        check_floating("of", name, known, ("of",), self.faults)
        if known.size != 1:
            msg = f'of: "{name}" has shape {list(known.shape)}; expected one element: reduce it, as with sum'
            self.faults.add(NotScalarError, msg, ("of",))
        self.faults.check()
        return name

    def directions(self, field: str, given: Mapping[str, Value], many: bool) -> int | None:
        """The number of directions, None for one without an axis of its own."""
        if not many:
            return None
        lengths = {}
        for name, value in given.items():
            if shape_of(value):
                lengths[name] = shape_of(value)[0]
            else:
                msg = f"{field}: {quoted(name)} is a scalar; with many: true expected a leading axis of directions"
                self.faults.add(ShapeMismatchError, msg, (field, name))
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name}: {n}" for name, n in lengths.items())
            self.faults.add(ShapeMismatchError, f"{field}: leading axes of directions differ ({listed})", (field,))
        return next(iter(lengths.values()), None)

    def directed(self, field: str, given: Mapping[str, Value], view: View, many: bool) -> dict[str, Symbol]:
        """Inputs of the trace for directions, by what they belong to; each in its dtype and with all its axes."""
        m = self.directions(field, given, many)
        self.faults.check()
        found: dict[str, Symbol] = {}
        for name, value in given.items():
            i = self.application.known[name]
            known, loc = view.aval(i), (field, name)
            lead = (() if m is None else (m,)) + self.rows(i, field)
            check_floating(field, name, known, loc, self.faults)
            check_direction(field, value, name, known, lead, loc, self.faults)
            step = self.trace.input(self._name(f"{field} {name}", value), aval(value)._replace(weak=None))
            if known.is_floating and step.dtype != known.dtype:
                step = CALLS["astype"](step, str(known.dtype))
            found[i] = found[i] + step if i in found else step
        self.faults.check()
        return found

    def rows(self, i: str, field: str) -> tuple[int, ...]:
        """What is not an input, and every cotangent, differs from row to row."""
        rows = self.application.rows
        is_shared = any(x.name == i for x in self.application.graph.inputs) and i not in self.application.batched
        return () if rows is None or (is_shared and field != "cotangents") else (rows,)

    def _name(self, name: str, value: Value) -> str:
        # A space keeps it apart from every name of a program.
        self._given[name] = value
        return name

    def identity(self, known: Aval, rows: tuple[int, ...]) -> Symbol:
        """Directions along each element of a value, the same for all rows where it differs by row."""
        shape, dtype = (known.size, *known.shape), known.dtype
        step = self.trace.made(Aval(shape, dtype), lambda: np.eye(known.size, dtype=dtype).reshape(shape))
        if not rows:
            return step
        wide = CALLS["reshape"](step, (known.size, 1, *known.shape))
        found: Symbol = CALLS["broadcast_to"](wide, (known.size, *rows, *known.shape))
        return found

    def last(self, step: Symbol, known: Aval) -> Symbol:
        """A result with its axis of directions at the end, in the shape and dtype of what they are directions of."""
        moved = CALLS["transpose"](step, (*range(1, step.ndim), 0))
        found: Symbol = CALLS["reshape"](moved, (*step.shape[1:], *known.shape))
        return found if found.dtype == known.dtype else CALLS["astype"](found, str(known.dtype))

    def check_matrices(self, view: View, above: Any, below: Any) -> None:
        """Refuses matrices that are too large before anything of their size is written down."""
        rows = 1 if self.application.rows is None else self.application.rows
        limit = self.application.limits.max_elements
        size = rows * sum(view.aval(i).size for i in above) * sum(view.aval(i).size for i in below)
        if size > limit:
            raise LimitExceededError(
                f"the matrices have {size:,} elements, the limit is {limit:,} (setting PULLBACK_MAX_ELEMENTS)"
            )

    def outputs(self, view: View, names: Mapping[str, str] | None = None) -> dict[str, Symbol]:
        """The program's values."""
        names = names or {output.name: output.id for output in self.application.graph.outputs}
        return {name: view.value(i) for name, i in names.items()}

    def derivative(self, form: Form) -> Derivative:
        """The whole, once its cost is known to be within limits."""
        steps = _steps(form)
        schedule = Schedule(self.trace, steps)
        check_cost(schedule.cost, self.application.limits)
        check_answer(steps, self.application.limits)
        given = self.application.values() | self._given
        return Derivative(self.application, schedule.cost, schedule, given, form)


def _reverse(
    request: _Request, names: Mapping[str, str], wrt: Mapping[str, str], plain: View
) -> dict[str, dict[str, Symbol]]:
    """One pass back for each output, along all its elements at once."""
    found = {}
    for name, i in names.items():
        known = plain.aval(i)
        view = request.view(directions=known.size)
        root = view.directed(request.identity(known, request.rows(i, "cotangents")))
        grads = view.gradients([(i, root)], list(wrt.values()))
        found[name] = {
            x: _first(view.directions(g), known, request.application.rows) for x, g in zip(wrt, grads, strict=True)
        }
    return found


def _first(step: Symbol, known: Aval, rows: int | None) -> Symbol:
    """A result with its axis of directions in the shape of what they are directions of, after that of rows."""
    if rows is not None:
        step = CALLS["transpose"](step, (1, 0, *range(2, step.ndim)))
    lead = () if rows is None else (rows,)
    found: Symbol = CALLS["reshape"](step, (*lead, *known.shape, *step.shape[len(lead) + 1 :]))
    return found


def _forward(
    request: _Request, names: Mapping[str, str], wrt: Mapping[str, str], plain: View
) -> dict[str, dict[str, Symbol]]:
    """One pass for each input, along all its elements at once."""
    found: dict[str, dict[str, Symbol]] = {name: {} for name in names}
    for x, i in wrt.items():
        known = plain.aval(i)
        eye = request.identity(known, request.rows(i, "tangents"))
        view = request.view(directions=known.size, tangents={i: eye})
        for name, output in names.items():
            found[name][x] = request.last(view.tangent(view.values[output]), known)
    return found


class _suggesting:  # noqa: N801 - reads as a keyword
    """Adds to a refusal for cost what costs less."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, tb: Any) -> None:
        if isinstance(error, LimitExceededError):
            detail = f"{error.detail}; {self._what}, which costs far less"
            raise LimitExceededError(detail, faults=[Fault(f.loc, detail) for f in error.faults]) from error
