"""Application: a program with the inputs that it is run on, and what it looks like on a trace with derivatives.

Levels, from the trace up: directions (many cotangents or tangents at once), rows (of a batch), tangents, the tape.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from engine.core.backward import gradients
from engine.core.config import test_mode
from engine.core.errors import Faults, InvalidValueError, ShapeMismatchError, UnknownNameError
from engine.core.masking import everywhere, nonzero, unmasked
from engine.core.messages import listed, nearest
from engine.core.operations import CALLS
from engine.core.tracer import Symbol, lowered
from engine.core.values import FLOAT64, Aval, Value, aval, shape_of, stand_in
from engine.graph.ir import Graph
from engine.graph.limits import Limits
from engine.graph.names import quoted
from engine.plans.plan import Plan, Plans
from engine.plans.trace import Stream, Trace
from engine.programs.declarations import misfit
from engine.programs.interpret import interpret
from engine.tracers.batching import Batch, Batched
from engine.tracers.forward import Forward
from engine.tracers.reverse import Tape, Taped

_DIRECTIONS, _ROWS, _TANGENTS, _TAPE = 1, 2, 3, 4


class Running(TypedDict, total=False):
    """How a program is run; every call that takes one accepts these.

    batched: inputs whose leading axis is a batch; the answer is that of one run a row, stacked.
    train: random operations are active; needs a seed where there are any.
    seed: of random operations; each draws from a stream of its own, keyed by its place in the graph and by row.
    limits: what it may cost.
    plans: what keeps compiled code, to be shared by programs that compute alike.
    """

    batched: Sequence[str]
    train: bool
    seed: int | None
    limits: Limits | None
    plans: Plans | None


@dataclass(frozen=True, slots=True)
class Application:
    """A program and the inputs that it is run on, checked; fields as of `Running`.

    rows: the length of the batch, None without.
    """

    graph: Graph
    inputs: dict[str, Value]
    batched: tuple[str, ...]
    rows: int | None
    train: bool
    seed: int | None
    limits: Limits
    plans: Plans | None

    @property
    def names(self) -> dict[str, str]:
        """Every name of a node or an alias, and what it stands for."""
        return {i: i for node in self.graph.nodes for i in node.ids} | self.graph.aliases

    @property
    def known(self) -> dict[str, str]:
        """The names of inputs as well."""
        return {i.name: i.name for i in self.graph.inputs} | self.names

    def mode(self) -> AbstractContextManager[Any]:
        """Whether random operations are active."""
        return nullcontext() if self.train else test_mode()

    def trace(self) -> Trace:
        """An empty trace with this program's limits."""
        return Trace(self.limits)

    def plan(self, trace: Trace, outputs: Sequence[Symbol]) -> Plan:
        """How some values of a trace are computed."""
        return Plan(trace, outputs) if self.plans is None else self.plans.plan(trace, outputs)

    def values(self) -> dict[str, Value]:
        """All inputs, bound ones too."""
        return self.inputs | self.graph.bound


def apply_to(graph: Graph, inputs: Mapping[str, Value], faults: Faults, **running: Unpack[Running]) -> Application:
    """A program with its inputs. What is wrong with them becomes faults; the result is of use where there are none."""
    batched = tuple(running.get("batched", ()))
    train, seed = running.get("train", False), running.get("seed")
    _check_inputs(graph, inputs, batched, faults)
    if train and seed is None and any(node.op is not None and node.op.random for node in graph.nodes):
        faults.add(InvalidValueError, "train: true with a random operation needs a seed (an integer)", ("seed",))
    rows = next((shape_of(inputs[name])[0] for name in batched if shape_of(inputs.get(name, 0.0))), None)
    in_order = {i.name: inputs[i.name] for i in graph.inputs if i.name in inputs}
    limits = running.get("limits") or Limits()
    return Application(graph, in_order, batched, rows, train, seed, limits, running.get("plans"))


def one_row(application: Application) -> Application:
    """The same program for one row of a batch; only shapes and dtypes of its inputs are of use."""
    avals = {name: aval(x) for name, x in application.inputs.items()}
    inputs = {
        name: stand_in(known._replace(shape=known.shape[name in application.batched :]))
        for name, known in avals.items()
    }
    return replace(application, inputs=inputs, batched=(), rows=None)


class View:
    """A program interpreted on a trace.

    Args:
        application: the program and its inputs.
        trace: where its operations are written down; several views may share one.
        directions: how many cotangents or tangents there are at once; None for one.
        tangents: for inputs and nodes what to move them along, in their shapes and dtypes, with all axes.
        cut: nodes that are to be steps of their own on the trace, to be differentiated with respect to there.
        shifts: for nodes what is added to their values.
        apart: names that are differentiated with respect to.
        wrap: gives tangents their supports, see `masking`; None for a view without.
    """

    def __init__(
        self,
        application: Application,
        trace: Trace,
        *,
        directions: int | None = None,
        tangents: Mapping[str, Symbol] | None = None,
        cut: Sequence[str] = (),
        shifts: Mapping[str, Symbol] | None = None,
        apart: Iterable[str] = (),
        wrap: Callable[[Any], Any] | None = None,
    ) -> None:
        self.application = application
        self.trace = trace
        self._directions = None if directions is None else Batch(_DIRECTIONS, directions)
        self._rows = None if application.rows is None else Batch(_ROWS, application.rows)
        self._forward = Forward(_TANGENTS)
        self._tape = Tape(_TAPE)
        self._tangents = tangents or {}
        self._cut = cut
        self._shifts = shifts or {}
        self._apart = {*apart, *self._tangents}
        self._wrap = wrap
        own = _differentiated(application.graph)
        bound = {name: self._bound(name, value, name in own) for name, value in application.graph.bound.items()}
        given = {name: self._input(name, value) for name, value in application.inputs.items()}
        with application.mode():
            self.values: dict[str, Any] = interpret(application.graph, bound | given, self)

    def _given(self, name: str, value: Value) -> Any:
        return self.trace.shared_input(name, aval(value)._replace(weak=None))

    def _bound(self, name: str, value: Value, is_differentiated: bool) -> Any:
        given = self._given(name, value)
        return self._tape.leaf(given) if is_differentiated and given.dtype.kind == "f" else given

    def _input(self, name: str, value: Value) -> Any:
        given = self._given(name, value)
        if self._rows is not None and name in self.application.batched:
            given = self._rows.wrap(given)
        if given.dtype.kind != "f":
            return given
        if name in self._tangents:
            given = self._forward.pair(given, self._moved(name, name in self.application.batched))
        return self._tape.leaf(given)

    def directed(self, value: Symbol, is_batched: bool = True) -> Any:
        """A cotangent or tangent with its axes of directions and of rows taken as such."""
        found: Any = value
        if self._directions is not None:
            found = self._directions.wrap(found)
        if self._rows is not None and is_batched:
            found = self._rows.wrap(found)
        return found

    def _moved(self, name: str, is_batched: bool = True) -> Any:
        tangent = self.directed(self._tangents[name], is_batched)
        return tangent if self._wrap is None else self._wrap(tangent)

    @property
    def has_choices(self) -> bool:
        """Return whether an operation may leave out elements, so that tangents with supports can differ."""
        return self._forward.has_choices

    def constant(self, value: Value, is_weak: bool) -> Any:
        """A step of the trace; on the tape where it may be differentiated."""
        return self.result("", self.trace.constant(value, is_weak))

    def result(self, name: str, value: Any) -> Any:
        """A node's value; one that is made of constants is on the tape as well, but for weak numbers."""
        is_weak = isinstance(value, Symbol) and value.aval.weak
        if not isinstance(value, Taped) and value.dtype.kind == "f" and not is_weak:
            value = self._tape.leaf(value)
        if isinstance(value, Taped) and name in self._shifts:
            value = value + self.directed(self._shifts[name])
        if isinstance(value, Taped) and name in self._apart and value._op is not None and value._op.power_vjps:
            # A value of its own, which nothing knows for a length.
            value = value * 1.0
        if isinstance(value, Taped) and name in self._tangents:
            primal, tangent = self._forward.parts(value._data)
            added = self._moved(name)
            value._data = self._forward.pair(primal, added if tangent is None else tangent + added)
        if isinstance(value, Taped) and name in self._cut:
            inner = value._data
            batch = self._rows
            whole = batch.unwrap(inner) if batch is not None else inner
            value._data = batch.wrap(self.trace.cut(whole)) if batch is not None else self.trace.cut(whole)
        return value

    def random(self, place: int, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Stream]:
        """Every row draws numbers of its own, also where the operand is the same for all."""
        if self._rows is not None and self.application.train:
            ones = self._rows.wrap(self.trace.filled(1.0, Aval((self._rows.rows,), FLOAT64)))
            args = tuple(x if x.dtype.kind != "f" else x * ones.astype(str(x.dtype)) for x in args)
        return args, Stream(place)

    def aval(self, name: str) -> Aval:
        """Shape and dtype of a value, for one row."""
        value = self.values[name]
        return value.aval if isinstance(value, Symbol) else Aval(value.shape, value.dtype)

    @property
    def avals(self) -> dict[str, Aval]:
        """Shape and dtype of every input and node."""
        return {name: self.aval(name) for name in self.values}

    def step(self, name: str) -> Symbol:
        """The step that a value is, as it stands on the trace."""
        value = self._forward.parts(self._tape.data(self.values[name]))[0]
        found: Symbol = value.value if isinstance(value, Batched) else value
        return found

    def value(self, name: str) -> Symbol:
        """A value with the axis of rows, if there is one."""
        found: Symbol = self.primal(self.values[name])
        return found

    def primal(self, value: Any) -> Any:
        """What a value or gradient is, without its tangent, with the axis of rows."""
        primal, _ = self._forward.parts(self._tape.data(value))
        return primal if self._rows is None else self._rows.unwrap(primal)

    def directions(self, value: Any) -> Symbol:
        """The same with the axis of directions before that of rows."""
        found: Symbol = self.primal(value)
        return found if self._directions is None else self._directions.unwrap(found)

    def tangent(self, value: Any) -> Symbol:
        """The tangent of a value or gradient, with both axes."""
        primal, tangent = self._forward.parts(self._tape.data(value))
        if tangent is None:
            tangent = self.trace.filled(0.0, Aval(shape_of(primal), primal.dtype))
        return self.directions(unmasked(tangent))

    def gradients(
        self,
        roots: Sequence[tuple[str, Any]],
        wanted: Sequence[str],
        *,
        is_basis: bool = False,
        through_powers: bool = False,
    ) -> list[Any]:
        """For each name the cotangent that comes back to it from several roots together; zeros where none does.

        What is given and what is returned is as a value holds it, below the tape: see `part` and `tangent`.

        is_basis: the cotangents are those of a basis, whose zeros are structural ones.
        through_powers: the cotangents are differentiated again, on the trace.
        """
        pairs = [(self.values[name], self._like(g, name)) for name, g in roots if isinstance(self.values[name], Taped)]
        found = (
            gradients(pairs, [self.values[name] for name in wanted], is_basis=is_basis, through_powers=through_powers)
            if pairs
            else [None] * len(wanted)
        )
        return [self._zeros(name) if g is None else lowered(g) for name, g in zip(wanted, found, strict=True)]

    def _like(self, g: Any, name: str) -> Any:
        known = self.aval(name)
        return g if g.dtype == known.dtype else CALLS["astype"](g, str(known.dtype))

    def _zeros(self, name: str) -> Any:
        known = self.aval(name)
        return self.trace.filled(0.0, known if known.is_floating else known._replace(dtype=FLOAT64))

    def ones(self, name: str) -> Symbol:
        """The cotangent of a sum over a value's elements."""
        return self.trace.filled(1.0, self.aval(name)._replace(weak=None))


def along_tangents(
    view: Callable[..., View], found: Callable[[View], list[Symbol]], *, is_basis: bool = False
) -> tuple[View, list[Symbol]]:
    """A view with tangents, and values found on it: as plans compute them with supports where these are needed.

    view: makes it; takes `wrap` as of `View`.
    found: the values.
    is_basis: zeros of the tangents are structural ones, see `masking`.
    """
    plain = view(wrap=None)
    values = found(plain)
    if not (is_basis or plain.has_choices):
        return plain, values
    with plain.trace.uncounted():
        masked = found(view(wrap=nonzero if is_basis else everywhere))
    return plain, [plain.trace.alternative(p, m) for p, m in zip(values, masked, strict=True)]


def _differentiated(graph: Graph) -> set[str]:
    """What the program takes gradients with respect to itself: bound values too, though no request may."""
    grads = [node for node in graph.nodes if node.op is not None and node.op.name == "grad"]
    return {x for node in grads for x in node.args if isinstance(x, str)}


def _check_inputs(graph: Graph, inputs: Mapping[str, Value], batched: Sequence[str], faults: Faults) -> None:
    wanted = {i.name: i for i in graph.inputs}
    for name in inputs:
        if faults.is_full(InvalidValueError):
            break
        if name in graph.bound:
            msg = f"input {quoted(name)} is bound: its value is fixed and not given again"
            faults.add(InvalidValueError, msg, ("inputs", name))
        elif name not in wanted:
            near = nearest(name, wanted) or f"; it has {listed(list(wanted)) or 'no inputs'}"
            faults.add(InvalidValueError, f"input {quoted(name)} is not used by the program{near}", ("inputs", name))
    for name in batched:
        if name not in wanted:
            faults.add(InvalidValueError, f'batched: "{name}" is no input{nearest(name, wanted)}', ("batched",))
    for name, declared in wanted.items():
        if name not in inputs and faults.is_full(UnknownNameError):
            continue
        if name not in inputs:
            faults.add(
                UnknownNameError, f"input {quoted(name)} is missing{nearest(name, list(inputs))}", ("inputs", name)
            )
            continue
        known = aval(inputs[name])
        if name in batched and not known.shape:
            msg = f'batched: input "{name}" is a scalar; expected a leading axis of rows'
            faults.add(ShapeMismatchError, msg, ("inputs", name))
        elif fault := misfit(declared, known, name in batched):
            faults.add(InvalidValueError, fault, ("inputs", name))
    lengths = {name: shape_of(inputs[name])[0] for name in batched if shape_of(inputs.get(name, 0.0))}
    if len(set(lengths.values())) > 1:
        found = listed([f"{name}: {n}" for name, n in lengths.items()])
        faults.add(ShapeMismatchError, f"batched: leading axes differ ({found})", ("batched",))
