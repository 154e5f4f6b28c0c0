"""CallSetup: shared setup of the calls on programs: validation by name, one trace, and inputs for directions."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, TypeVar

from engine.core import (
    FLOAT32,
    Aval,
    Faults,
    InvalidValueError,
    LimitExceededError,
    Loc,
    NotDifferentiableError,
    NotScalarError,
    ShapeMismatchError,
    Symbol,
    UnknownNameError,
    Value,
    aval,
    nearest,
    shape_of,
    trees,
)
from engine.core.values import BOOL
from engine.graph import Graph, check_limit, quoted
from engine.plans.cost import check_cost
from engine.programs.call import RunOptions, check_call
from engine.programs.executable import CheckedProgram, Direction, Executable, narrow_fault
from engine.programs.function import ProgramFunction
from engine.programs.gradient_size import check_gradient_size

Result = TypeVar("Result")


class CallSetup:
    """One call on a program: its checks, its trace, and its directions.

    faults: the faults found so far.
    call: the program with its inputs and options.
    trace: the trace on which the call is recorded.
    """

    def __init__(self, graph: Graph, inputs: Mapping[str, Value], running: RunOptions) -> None:
        self.faults = Faults()
        self.call = check_call(graph, inputs, self.faults, **running)
        self.trace = self.call.trace()
        self._along: dict[str, tuple[Direction, Value]] = {}

    @cached_property
    def function(self) -> ProgramFunction:
        """Return the program as a function on the trace; call it only if the inputs are valid."""
        return ProgramFunction(self.call, self.trace)

    def values(self) -> dict[str, Value]:
        """Return the values of all inputs and nodes on the trace, with the axis of rows."""
        found: dict[str, Value] = self.function.over_rows(self.function)
        return found

    def at(self, inputs: Mapping[str, Value], moved: Mapping[str, Value]) -> dict[str, Value]:
        """Return the values of all inputs and nodes for one row; `moved` replaces inputs and shifts nodes."""
        others = {i: x for i, x in moved.items() if self.is_input(i)}
        return self.function({**inputs, **others}, {i: x for i, x in moved.items() if i not in others})

    def start(self, inputs: Mapping[str, Value], names: Iterable[str]) -> dict[str, Value]:
        """Return the point of differentiation: the values of inputs, and zero shifts of nodes."""
        return {i: inputs[i] if self.is_input(i) else self.function.shift(i) for i in names}

    def aval(self, name: str) -> Aval:
        """Return the shape and dtype of an input or node, for one row."""
        if name in self.call.inputs:
            known = aval(self.call.inputs[name])._replace(weak=None)
            return known._replace(shape=known.shape[name in self.call.batched :])
        if not self.function.avals:
            self.values()
        return self.function.avals[name]

    def is_input(self, name: str) -> bool:
        """Return whether a name is that of an input, and not of a node."""
        return name in self.call.inputs

    def rows(self, name: str, *, is_cotangent: bool) -> tuple[int, ...]:
        """Return the axis of rows as a shape; empty without a batch, and for an input that all rows share.

        Its cotangent has the axis nevertheless.
        """
        is_shared = self.is_input(name) and name not in self.call.batched
        return () if self.call.rows is None or (is_shared and not is_cotangent) else (self.call.rows,)

    # Names

    def check_known(self, field: str, names: Sequence[str], loc: Loc) -> None:
        """Check that names to differentiate with respect to are those of inputs or nodes."""
        known = self.call.known
        for index, name in enumerate(names):
            if name in self.call.graph.bound:
                msg = f"{field}: {quoted(name)} is bound, and never differentiated"
                self.faults.add(NotDifferentiableError, msg, (*loc, index))
            elif name not in known:
                self._unknown(field, name, known, (*loc, index))

    def check_given(self, field: str, given: Mapping[str, Value]) -> None:
        """Check that at least one value is given, and that each has the name of an input or node."""
        if not given:
            self.faults.add(InvalidValueError, f"{field}: expected at least one; none is given", (field,))
        for name in given:
            if name not in self.call.known:
                self._unknown(field, name, self.call.known, (field, name))

    def outputs(self, names: Sequence[str] | None) -> dict[str, str]:
        """Return name -> id for the values to return; None for the program's outputs."""
        if names is None:
            return {output.name: output.id for output in self.call.graph.outputs}
        known = self.call.known | {name: name for name in self.call.graph.bound}
        for index, name in enumerate(names):
            if name not in known:
                self._unknown("outputs", name, known, ("outputs", index))
        return {name: known[name] for name in names if name in known}

    def only_output(self, of: str | None, loc: Loc = ()) -> str | None:
        """Return the id of the value to differentiate: that of `of`, or of the only output."""
        graph = self.call.graph
        if of is not None:
            if of not in self.call.known:
                self._unknown("of", of, self.call.known, (*loc, "of"), is_listed=True)
            return self.call.known.get(of)
        if len(graph.outputs) == 1:
            return graph.outputs[0].id
        names = ", ".join(output.name for output in graph.outputs)
        msg = f"of: the program has {len(graph.outputs)} outputs ({names}); say which one to differentiate"
        self.faults.add(InvalidValueError, msg, (*loc, "of"))
        return None

    def _unknown(self, field: str, name: str, known: Mapping[str, str], loc: Loc, *, is_listed: bool = False) -> None:
        # The search for near names is slow.
        if is_listed or not self.faults.is_full(UnknownNameError):
            msg = f"{field}: there is no input or node {quoted(name)}{nearest(name, list(known))}"
            self.faults.add(UnknownNameError, msg, loc)

    # What can be differentiated

    def wrt(self, names: Sequence[str] | None, loc: Loc = ("wrt",)) -> dict[str, str]:
        """Return name -> id for the values to differentiate with respect to; None for all floating inputs.

        Record a fault for each that cannot be differentiated, or if there is no floating input.
        """
        if names is None:
            inputs = {i.name: self.aval(i.name) for i in self.call.graph.inputs}
            floating = {name: name for name, known in inputs.items() if known.is_floating}
            if not floating:
                told = ", ".join(f"{name}: {known.dtype}" for name, known in inputs.items())
                msg = f"none of the inputs is floating ({told})" if inputs else "the program has no inputs"
                msg = f"wrt: {msg}; there is nothing to differentiate with respect to"
                self.faults.add(NotDifferentiableError, msg, loc)
            return floating
        known = self.call.known
        for index, name in enumerate(names):
            found = self.aval(known[name])
            if not found.is_floating:
                msg = f'wrt: "{name}" has dtype {found.dtype}; expected a floating one'
                self.faults.add(NotDifferentiableError, msg, (*loc, index))
            elif found.weak:
                msg = f'wrt: "{name}" is made of literals alone; make it an input'
                self.faults.add(NotDifferentiableError, msg, (*loc, index))
        return {name: known[name] for name in names}

    def smooth(self, names: Mapping[str, str], field: str, *, are_named: bool) -> dict[str, str]:
        """Return the floating outputs by name; if the user named them (`are_named`), all others are faults.

        Raises:
            AutogradError: there are faults, or no output is floating.
        """
        if are_named:
            for index, (name, i) in enumerate(names.items()):
                self.check_floating(field, name, i, (field,) if field == "of" else (field, index))
        found = {name: i for name, i in names.items() if self.aval(i).is_floating}
        if not found:
            listed = ", ".join(f"{name}: {self.aval(i).dtype}" for name, i in names.items())
            msg = f"{field}: none of the outputs is floating ({listed})"
            self.faults.add(NotDifferentiableError, msg, (field,))
        self.faults.check()
        return found

    def one_element(self, root: str | None) -> str:
        """Check that a value is one floating element, so that it has a Hessian; return its id.

        Raises:
            AutogradError: it is not, or there are other faults.
        """
        name = str(root)
        known = self.aval(name)
        self.check_floating("of", name, name, ("of",))
        if known.size != 1:
            msg = f'of: "{name}" has shape {list(known.shape)}; expected one element: reduce it, as with sum'
            self.faults.add(NotScalarError, msg, ("of",))
        self.faults.check()
        return name

    def check_floating(self, field: str, name: str, i: str, loc: Loc) -> None:
        """Record a fault if a value to differentiate is not floating."""
        if not self.aval(i).is_floating:
            msg = f'{field}: "{name}" has dtype {self.aval(i).dtype}; expected a floating value'
            self.faults.add(NotDifferentiableError, msg, loc)

    def check_gradient_size(self, of: Collection[str], wrt: Collection[str]) -> None:
        """Refuse a long program whose gradient is too long, before it is traced.

        Raises:
            LimitExceededError: the program and its gradient have more nodes than the limit.
        """
        if not self.faults:
            check_gradient_size(self.call.graph, of, wrt, self.call.limits)

    def check_matrices(self, above: Iterable[str], below: Iterable[str]) -> None:
        """Refuse matrices that are too large, before anything of their size is recorded.

        Raises:
            LimitExceededError: they have too many elements.
        """
        rows = 1 if self.call.rows is None else self.call.rows
        limit = self.call.limits.max_elements
        size = rows * sum(self.aval(i).size for i in above) * sum(self.aval(i).size for i in below)
        if size > limit:
            raise LimitExceededError(f"the matrices have {size:,} elements, the limit is {limit:,}", limit="elements")

    # Directions

    def count(self, field: str, given: Mapping[str, Value], *, many: bool) -> int | None:
        """Return the number of directions; None for one direction without an axis."""
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

    def directions(self, field: str, given: Mapping[str, Value], *, many: bool) -> dict[str, Symbol]:
        """Return inputs of the trace for directions, with all their axes, by the id of their primal."""
        m = self.count(field, given, many=many)
        self.faults.check()
        found: dict[str, Symbol] = {}
        for name, value in given.items():
            i = self.call.known[name]
            lead = (() if m is None else (m,)) + self.rows(i, is_cotangent=field == "cotangents")
            self.check_floating(field, name, i, (field, name))
            # The space makes it differ from every name of a program.
            step = self.direction(field, f"{field} {name}", name, value, i, lead, (field, name))
            found[i] = found[i] + step if i in found else step
        self.faults.check()
        return found

    def direction(
        self, field: str, key: str, name: str, value: Value, i: str, lead: tuple[int, ...], loc: Loc
    ) -> Symbol:
        """Return the input of the trace for a cotangent or tangent, in the dtype of its primal `i`.

        key: its name on the trace. name: the user's name for the primal. lead: axes before those of the primal.
        """
        known = self.aval(i)
        if aval(value).dtype == BOOL:
            self.faults.add(InvalidValueError, f"{field}: expected numbers, got true or false", loc)
        if known.dtype == FLOAT32 and (fault := narrow_fault(field, value, name)):
            self.faults.add(InvalidValueError, fault, loc)
        expected = (*lead, *known.shape)
        if shape_of(value) != expected:
            msg = f'{field}: shape {list(shape_of(value))}; expected that of "{name}", {list(expected)}'
            self.faults.add(ShapeMismatchError, msg, loc)
        self._along[name if field != "cotangent" else field] = (Direction(key, name, known.dtype == FLOAT32), value)
        step = self.trace.input(key, aval(value)._replace(weak=None))
        return step.astype(str(known.dtype)) if known.is_floating and step.dtype != known.dtype else step

    # The answer

    def checked(self, answer: Any, result: Callable[[Iterable[Value]], Result] | None = None) -> CheckedProgram[Result]:
        """Return the executable of an answer, after checking its cost against the limits.

        answer: symbols of the trace in containers.
        result: builds the result from the values; None for the same containers.

        Raises:
            LimitExceededError: the cost or the size of the answer exceeds a limit.
        """
        steps = [self.symbol(leaf) for leaf in trees.leaves(answer)]
        plan = self.call.plan(self.trace, steps)
        who = "the program" if self.call.rows is None else f"a batch of {self.call.rows} rows"
        check_cost(plan.cost, self.call.limits, who)
        # Several names of one value cost nothing in the plan, but count in the answer.
        check_limit("elements", sum(step.aval.size for step in steps), self.call.limits.max_elements, "the answer")
        made: Any = partial(_with_leaves, _without_leaves(answer)) if result is None else result
        return CheckedProgram(self.call, Executable.of(plan, self.call, made, self._along))

    def symbol(self, leaf: Value) -> Symbol:
        """Return a value of an answer as a step of the trace."""
        return leaf if isinstance(leaf, Symbol) else self.trace.constant(leaf)


def _without_leaves(tree: Any) -> Any:
    """Return containers without their leaves, which would keep the trace alive."""
    return {name: _without_leaves(x) for name, x in tree.items()} if isinstance(tree, dict) else ...


def _with_leaves(containers: Any, values: Iterable[Value]) -> Any:
    return trees.unflatten(containers, iter(values))
