"""Request: what all calls for derivatives check, and the directions that they are given."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from engine.core.errors import (
    Faults,
    InvalidValueError,
    LimitExceededError,
    Loc,
    NotDifferentiableError,
    NotScalarError,
    ShapeMismatchError,
    UnknownNameError,
)
from engine.core.messages import nearest
from engine.core.operations import CALLS
from engine.core.tracer import Symbol
from engine.core.values import FLOAT32, Aval, Value, aval, shape_of
from engine.graph.ir import Graph
from engine.graph.names import quoted
from engine.plans.basis import Basis
from engine.plans.cost import check_cost
from engine.plans.sparsity import Pattern, pattern
from engine.plans.trace import Trace
from engine.programs.application import Running, View, along_tangents, apply_to, one_row
from engine.programs.choices import check_answer, check_direction, check_floating, check_known, chosen_wrt
from engine.programs.ready import Checked, Direction, ready

#: Names to steps, or to None, to any depth.
Form = Mapping[str, Any]


#: What was checked; `run` computes a document of values by name, nested as the steps are. What is given `along` are
#: cotangents, tangents or vectors by name.
Derivative = Checked[dict[str, Any]]


def _filled(form: Form, values: Iterable[Value]) -> dict[str, Any]:
    found = iter(values)
    return {name: _filled(x, found) if isinstance(x, Mapping) else next(found) for name, x in form.items()}


def _names(form: Form) -> Form:
    """The same without the steps, which hold all of their trace."""
    return {name: _names(x) if isinstance(x, Mapping) else None for name, x in form.items()}


def _steps(form: Form) -> list[Symbol]:
    return [step for x in form.values() for step in (_steps(x) if isinstance(x, Mapping) else [x])]


class Request:
    """What all of them have in common: the checks, one trace, and the extra inputs that directions are."""

    def __init__(self, graph: Graph, inputs: Mapping[str, Value], running: Running) -> None:
        self.faults = Faults()
        self.application = apply_to(graph, inputs, self.faults, **running)
        self.trace: Trace = self.application.trace()
        self._along: dict[str, tuple[Direction, Value]] = {}
        self._apart: list[str] = []

    def view(self, **options: Any) -> View:
        """The program on the trace; faults found before are reported first."""
        self.faults.check()
        return View(self.application, self.trace, apart=self._apart, **options)

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
        self._apart = [self.application.known.get(name, "") for name in wrt or ()]
        check_known("wrt", wrt or (), self.application, ("wrt",), self.faults)

    def chosen(self, view: View, wrt: Sequence[str] | None) -> dict[str, str]:
        """What is differentiated with respect to."""
        return chosen_wrt(self.application, view, wrt, ("wrt",), self.faults)

    def smooth(self, view: View, names: Mapping[str, str], field: str, are_named: bool) -> dict[str, str]:
        """The outputs that have derivatives: all that are named, or those of the program's that are floating."""
        if are_named:
            for place, (name, i) in enumerate(names.items()):
                loc: Loc = (field,) if field == "of" else (field, place)
                check_floating(field, name, view.aval(i), loc, self.faults)
        found = {name: i for name, i in names.items() if view.aval(i).is_floating}
        if not found:
            listed = ", ".join(f"{name}: {view.aval(i).dtype}" for name, i in names.items())
            msg = f"{field}: none of the outputs is floating ({listed})"
            self.faults.add(NotDifferentiableError, msg, (field,))
        self.faults.check()
        return found

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
            # A space keeps it apart from every name of a program.
            key = f"{field} {name}"
            self._along[name] = (Direction(key, name, known.dtype == FLOAT32), value)
            step = self.trace.input(key, aval(value)._replace(weak=None))
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

    def pattern(
        self, plain: View, below: Mapping[str, Aval], above: Callable[[View], Sequence[Symbol]]
    ) -> Pattern | None:
        """Where the Jacobian of some steps of a view, which is that of one row, can be other than zero.

        plain: the program on the trace. below: what is moved, by name.
        """
        nodes = below.keys() - {x.name for x in self.application.graph.inputs}
        if nodes or self.application.rows is not None:
            # What is computed from a node may have been simplified to what does not read it.
            alone = one_row(self.application)
            plain = View(alone, alone.trace(), cut=[*nodes])
        return pattern(plain.trace, above(plain), [plain.step(i) for i in below])

    def basis(self, avals: Mapping[str, Aval], known: Pattern | None) -> Basis:
        """Directions along the elements of some values, by name; `known` has a column for each."""
        return Basis(self.trace, avals, self.application.rows, known)

    def check_matrices(self, view: View, above: Any, below: Any) -> None:
        """Refuses matrices that are too large before anything of their size is written down."""
        rows = 1 if self.application.rows is None else self.application.rows
        limit = self.application.limits.max_elements
        size = rows * sum(view.aval(i).size for i in above) * sum(view.aval(i).size for i in below)
        if size > limit:
            raise LimitExceededError(f"the matrices have {size:,} elements, the limit is {limit:,}", limit="elements")

    def tangents(
        self, found: Callable[[View], list[Symbol]], *, is_basis: bool = False, **options: Any
    ) -> tuple[View, list[Symbol]]:
        """A view with tangents, and what is found there: as a plan computes it with supports where that is needed.

        found: tangents of the view. options: of the view.
        """
        return along_tangents(partial(self.view, **options), found, is_basis=is_basis)

    def outputs(self, view: View, names: Mapping[str, str] | None = None) -> dict[str, Symbol]:
        """The program's values."""
        names = names or {output.name: output.id for output in self.application.graph.outputs}
        return {name: view.value(i) for name, i in names.items()}

    def derivative(self, form: Form) -> Derivative:
        """The whole, once its cost is known to be within limits."""
        steps = _steps(form)
        plan = self.application.plan(self.trace, steps)
        check_cost(plan.cost, self.application.limits)
        check_answer(steps, self.application.limits)
        return Checked(self.application, ready(plan, self.application, partial(_filled, _names(form)), self._along))
