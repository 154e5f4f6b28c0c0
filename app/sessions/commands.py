"""The commands of a run: for each its fields and what it does, in one class, which is found by its `do`."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, StrictBool, StrictInt, StrictStr, WithJsonSchema

from app.programs.catalog import configuration
from app.sessions.session import MODULES, Constant, Held, Module, Session, check_quota
from app.wire.schemas import LARGEST_SEED, Body, Value
from app.wire.values import decode
from engine.core import (
    FLOAT64,
    ArityError,
    BadAttributeError,
    Faults,
    InvalidValueError,
    Loc,
    NoGradientError,
    Operation,
    Variable,
    as_raw,
    aval,
    canonical,
    lookup,
    nearest,
    shape_of,
)
from engine.graph import Graph, Input, Literal, Node, Output, check_limit, quoted
from engine.nn import HOOKS, OPTIMIZERS, Layer, Linear, Unmade, load_state_dict, resume, steps
from engine.plans import Cost, check_cost, cost_of
from engine.programs import WORDS, ProgramFunction, check_call, decode_value, interpret, parse

Made = Sequence[str]

Id = Annotated[StrictStr, Field(description="A name: letters, digits and _.")]
Ids = Annotated[list[StrictStr], Field(description="Ids.")]
Config = Annotated[dict[str, Any], Field(default_factory=dict, description="As GET /v1/ops lists it for the kind.")]
IdOrValue = Annotated[Any, WithJsonSchema({"description": "An id, or a value."})]
#: A linear layer's result, and what gates and activations make of it.
_VALUES_PER_LINEAR = 4
#: So many forms of programs that were found right are remembered of a session.
_MOST_CHECKED = 2000
#: Stands for what is larger, also where that is infinite.
_UNLIMITED = 2.0**62

#: `do` -> command
COMMANDS: dict[str, type["Command"]] = {}


class Command(Body):
    """One command; `do` finds its class."""

    do: StrictStr
    #: What `do` is.
    name_of: ClassVar[str] = ""

    def __init_subclass__(cls, do: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.name_of = do
        if do:
            COMMANDS[do] = cls

    def run(self, session: Session) -> Made:
        """Does it, and returns the ids that it made where it was not told any.

        Raises:
            AutogradError, SessionError: with places in this command. The session may then be half changed.
        """
        raise NotImplementedError(f"{type(self).__name__} does nothing")


class MakeVariable(Command, do="variable"):
    """A leaf."""

    id: Id | None = None
    value: Value
    name: StrictStr | None = Field(None, description="What it is called in pictures.")
    constant: StrictBool = Field(False, description="No gradient is computed or kept for it.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        raw = _value(session, self.value, ("value",))
        held: Held = Constant(raw, self.name) if self.constant else _leaf(raw, self.name)
        return _bind_all(session, [held], None if self.id is None else [self.id])


class Apply(Command, do="apply"):
    """An operation, or an expression whose names are ids."""

    op: StrictStr | None = None
    args: list[IdOrValue] = Field(default_factory=list, description="Ids or values.")
    attrs: dict[str, Any] = Field(default_factory=dict)
    expr: StrictStr | None = Field(None, description="In place of op and args.")
    seed: StrictInt | None = Field(
        None, ge=0, le=LARGEST_SEED, description="Where its random numbers come from; default: the session's own."
    )
    out: Ids | None = Field(None, description="Ids of the results; default: v1, v2, ...")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        if (self.op is None) == (self.expr is None):
            raise InvalidValueError('exactly one of "op" and "expr" is expected')
        if self.expr is None:
            graph = self._one_node(lookup(self.op or ""), session.quotas.programs.cost.max_nodes)
        elif self.args or self.attrs:
            raise InvalidValueError('"expr" has its operands within; leave out "args" and "attrs"', ("expr",))
        else:
            graph = parse(self.expr, **session.quotas.programs.form())
        where = {name: ("args", n) for n, name in enumerate(self.args) if isinstance(name, str)}
        operands = {i.name: session.operand(i.name, where.get(i.name, ("expr",))) for i in graph.inputs}
        rng = session.rng if self.seed is None else np.random.default_rng(self.seed)
        with session.mode():
            results = _run(session, graph, operands, rng)
        return _bind_all(session, results, self.out)

    def _one_node(self, op: Operation, max_nodes: float) -> Graph:
        """The operation alone, whose inputs are called as the ids are."""
        if len(self.args) > len(op.operands) and not op.variadic:
            expected = f"expected {op.signature()} with its attributes in attrs"
            raise ArityError(f"{op.name}: got {len(self.args)} args; {expected}", ("args",))
        args = [
            x if isinstance(x, str) and x not in WORDS else decode_value(x, ("args", n))
            for n, x in enumerate(self.args)
        ]
        operands, attrs = op.bind([args] if op.variadic and args else args, self.attrs, _is_literal)
        # What was left out of args may stand in attrs.
        found = [x if isinstance(x, str | Literal) else decode_value(x, ("attrs",)) for x in operands]
        count = 1 if op.outputs is None else op.outputs(**attrs)
        check_limit("nodes", count, max_nodes, op.name)
        ids = tuple(f"_{n}" for n in range(count))
        inputs = tuple(Input(name) for name in dict.fromkeys(x for x in found if isinstance(x, str)))
        node = Node(ids, op, tuple(found), attrs, is_named=False, loc=())
        return Graph(inputs, (node,), tuple(Output(i, i) for i in ids))


class Backward(Command, do="backward"):
    """Adds the gradient of a variable to every leaf that it was computed from."""

    of: Id
    create_graph: StrictBool = False
    retain_grad: StrictBool = False
    cotangent: IdOrValue = Field(None, description="What to start from, an id or a value; default: ones.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        v = session.variable(self.of, ("of",))
        cotangent = self.cotangent
        if isinstance(cotangent, str) and cotangent not in WORDS:
            cotangent = session.operand(cotangent, ("cotangent",))
        elif cotangent is not None:
            cotangent = _value(session, cotangent, ("cotangent",), v.dtype if v.dtype.kind == "f" else None)
        with session.mode():
            v.backward(create_graph=self.create_graph, retain_grad=self.retain_grad, cotangent=cotangent)
        if self.create_graph:
            session.spend(0)
        return ()


class Grad(Command, do="grad"):
    """Names the gradient of a variable, so that it can be computed with."""

    of: Id
    out: Id | None = None

    def run(self, session: Session) -> Made:
        """See `Command`."""
        v = session.variable(self.of, ("of",))
        if v.grad is None:
            raise NoGradientError(
                f"{quoted(self.of)} has no gradient; go backward from what it leads to first", ("of",)
            )
        return _bind_all(session, [v.grad], None if self.out is None else [self.out])


class Assign(Command, do="assign"):
    """New data for a leaf; what was computed becomes one."""

    id: Id
    value: Value = None
    source: Id | None = Field(None, alias="from", description="The id of what has the data, in place of value.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        given = self.model_fields_set
        if ("value" in given) == ("source" in given):
            raise InvalidValueError('exactly one of "value" and "from" is expected')
        raw = _value(session, self.value, ("value",)) if "value" in given else None
        if self.source is not None:
            raw = as_raw(_raw(session.operand(self.source, ("from",))))
        held = session.find(self.id, ("id",))
        if isinstance(held, Constant):
            held.value = raw
            return ()
        v = session.variable(self.id, ("id",))
        v.unchain()
        v.data = raw
        return ()


class ClearGrad(Command, do="cleargrad"):
    """Forgets gradients; of a layer or model those of its parameters."""

    ids: Ids | None = Field(None, description="Default: all.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        if self.ids is None:
            for held in session.variables().values():
                if isinstance(held, Variable):
                    held.cleargrad()
            return ()
        for n, name in enumerate(self.ids):
            found = session.find(name, ("ids", n))
            if isinstance(found, Module):
                found.layer.cleargrads()
            elif not isinstance(found, Constant):
                session.variable(name, ("ids", n)).cleargrad()
        return ()


class Unchain(Command, do="unchain"):
    """Forgets what computed a variable."""

    id: Id

    def run(self, session: Session) -> Made:
        """See `Command`."""
        session.variable(self.id, ("id",)).unchain()
        return ()


class UnchainBackward(Command, do="unchain_backward"):
    """Forgets what computed the variables that a variable was computed from."""

    id: Id

    def run(self, session: Session) -> Made:
        """See `Command`."""
        session.variable(self.id, ("id",)).unchain_backward()
        return ()


class Delete(Command, do="delete"):
    """Drops ids; the tape keeps what it needs."""

    ids: Ids

    def run(self, session: Session) -> Made:
        """See `Command`."""
        for n, name in enumerate(self.ids):
            session.find(name, ("ids", n))
            if "." in name:
                raise InvalidValueError(f"{quoted(name)} is a parameter, which goes with its layer", ("ids", n))
        for n, name in enumerate(self.ids):
            session.find(name, ("ids", n))
            del session.ids[session.new_id(name, ("ids", n))]
        return ()


class Set(Command, do="set"):
    """Flags from here on."""

    nograd: StrictBool | None = Field(None, description="Nothing is recorded.")
    train: StrictBool | None = Field(None, description="Random operations are active.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        if self.nograd is None and self.train is None:
            raise InvalidValueError('nothing to set; expected "nograd" or "train"')
        session.nograd = session.nograd if self.nograd is None else self.nograd
        session.train = session.train if self.train is None else self.train
        return ()


class _MakeModule(Command):
    """What makes layers and models."""

    id: Id
    kind: StrictStr
    config: Config

    def run(self, session: Session) -> Made:
        """See `Command`."""
        makers = MODULES[self.name_of]
        _check_kind(self.name_of, self.kind, makers)
        _check_config(self.kind, self.config, makers[self.kind])
        _check_sizes(session, self.config)
        layer = makers[self.kind](**self.config, rng=session.rng)
        session.bind(self.id, Module(self.name_of, self.kind, dict(self.config), layer), ("id",))
        return ()


class MakeLayer(_MakeModule, do="layer"):
    """A layer, whose parameters are variables `l.w`."""


class MakeModel(_MakeModule, do="model"):
    """A model, whose parameters are variables `m.linear[0].w`."""


class Call(Command, do="call"):
    """Calls a layer or a model."""

    id: Id
    args: list[IdOrValue] = Field(description="Ids or values.")
    out: Ids | None = Field(None, description="Default: v1, v2, ...")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        layer = session.module(self.id, ("id",)).layer
        if len(self.args) != 1:
            raise ArityError(f"{quoted(self.id)}: got {len(self.args)} arguments; expected 1", ("args",))
        x = _operand(session, self.args[0], ("args", 0))
        _check_call(session, layer, shape_of(x))
        with session.mode():
            y = layer(x)
        return _bind_all(session, [y], self.out)


class ResetState(Command, do="reset_state"):
    """Recurrent layers forget earlier calls."""

    id: Id

    def run(self, session: Session) -> Made:
        """See `Command`."""
        session.module(self.id, ("id",)).layer.reset_state()
        return ()


class Load(Command, do="load"):
    """Gives a layer, a model or an optimizer a state."""

    id: Id
    state: dict[str, Value] = Field(description="Values by name, as fetch gives them.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        raws = {name: _value(session, value, ("state", name)) for name, value in self.state.items()}
        load_state(session, self.id, raws)
        return ()


def load_state(session: Session, name: str, state: Mapping[str, Any]) -> None:
    """Gives a layer, a model or an optimizer the values of a state; raises as `state.load_state_dict`."""
    held = session.find(name, ("id",))
    if isinstance(held, Module):
        load_state_dict(held.layer, state)
    else:
        session.steps(name, ("id",)).optimizer.load_state_dict(state)


class MakeOptimizer(Command, do="optimizer"):
    """An optimizer."""

    id: Id
    kind: StrictStr
    config: Config
    params: StrictStr | list[StrictStr] = Field(description="The id of a layer or model, or ids of variables.")
    hooks: list[dict[str, Any]] = Field(default_factory=list, description="In order: kind, and its configuration.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        _check_kind("optimizer", self.kind, OPTIMIZERS)
        _check_config(self.kind, self.config, OPTIMIZERS[self.kind])
        _check_hooks(self.hooks)
        if isinstance(self.params, str):
            session.module(self.params, ("params",))
        else:
            for n, name in enumerate(self.params):
                session.variable(name, ("params", n))
        session.bind(self.id, session.optimizer(self.kind, self.config, self.params, self.hooks), ("id",))
        return ()


class Step(Command, do="step"):
    """One step of an optimizer; what is given of its configuration holds from this one on."""

    id: Id
    config: Annotated[dict[str, Any], Field(default_factory=dict, description="What changes, as a learning rate does.")]
    hooks: list[dict[str, Any]] | None = Field(None, description="In place of those that it had.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        if self.config or self.hooks is not None:
            self._configure(session)
        session.steps(self.id, ("id",)).optimizer.step()
        return ()

    def _configure(self, session: Session) -> None:
        before = session.steps(self.id, ("id",))
        config = {**before.config, **self.config}
        _check_config(before.kind, config, OPTIMIZERS[before.kind])
        hooks = before.hooks if self.hooks is None else self.hooks
        _check_hooks(hooks)
        after = session.optimizer(before.kind, config, before.params, hooks)
        resume(after.optimizer, *steps(before.optimizer))
        session.ids[session.new_id(self.id, ("id",))] = after


class _OnTape:
    """Runs a program on a tape; its random operations draw from one generator, in their order."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def constant(self, value: Any, is_weak: bool) -> Any:
        """A number stays weak as it does among variables; what has a dtype of its own keeps it."""
        return value if is_weak or type(value) is not float else np.float64(value)

    def result(self, name: str, value: Any) -> Any:
        """As it is."""
        return value

    def random(self, place: int, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        """The generator, whatever the place."""
        return args, self._rng


def _run(session: Session, graph: Graph, operands: Mapping[str, Any], rng: np.random.Generator) -> list[Any]:
    """The outputs of a program, once it is known what it costs."""
    if not _makes_numbers(graph, operands):
        _check_program(session, graph, operands)
    values = interpret(graph, operands, _OnTape(rng))
    return [values[output.id] for output in graph.outputs]


def _makes_numbers(graph: Graph, operands: Mapping[str, Any]) -> bool:
    """Whether it is plain without a closer look that nothing of any size is made."""
    nodes = graph.nodes
    if len(nodes) > 1 or any(node.op is None or node.op.kind != "elementwise" for node in nodes):
        return False
    given = [*operands.values(), *(x.value for node in nodes for x in node.args if isinstance(x, Literal))]
    return all(not shape_of(x) for x in given)


def _check_program(session: Session, graph: Graph, operands: Mapping[str, Any]) -> None:
    """Raises what is wrong with a program on such operands, or LimitExceededError where it would cost too much."""
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
    inputs = {name: canonical(_raw(x)) for name, x in operands.items()}
    call = check_call(graph, inputs, faults, train=session.train, seed=0, limits=limits)
    faults.check()
    trace = call.trace()
    function = ProgramFunction(call, trace)
    function(function.inputs)
    cost = cost_of(trace, range(len(trace.steps)))
    check_cost(cost, limits, "the operation")
    return cost


def _form(graph: Graph, operands: Mapping[str, Any], train: bool) -> Hashable:
    """All that decides whether a program is right on such operands, and what it costs: names and values do not.

    None where it cannot be told, as where an array stands in the program.
    """
    places = {name: n for n, name in enumerate(operands)}
    parts: list[Hashable] = [train, *(aval(_raw(x)) for x in operands.values())]
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


def _bind_all(session: Session, results: Sequence[Any], out: Sequence[str] | None) -> Made:
    """Binds results to ids, and returns those that were not told."""
    # A number by itself is float64, as in programs.
    held = [x if isinstance(x, Variable | Constant) else Constant(as_raw(x)) for x in results]
    if out is None:
        return [session.bind(None, x, ("out",)) for x in held]
    if len(out) != len(results):
        raise InvalidValueError(f"out names {len(out)} ids for {len(results)} results", ("out",))
    for n, (name, x) in enumerate(zip(out, held, strict=True)):
        session.bind(name, x, ("out", n))
    return ()


def _leaf(raw: Any, name: str | None) -> Variable:
    v = Variable._leaf(raw)
    v.name = name
    return v


def _value(session: Session, document: Any, loc: Loc, dtype: Any = None) -> Any:
    """A value of a document as a raw one that nobody else holds."""
    raw = as_raw(decode(document, loc, dtype))
    _check_elements(session, math.prod(shape_of(raw)))
    session.spend(aval(raw).nbytes)
    return raw


def _operand(session: Session, given: Any, loc: Loc) -> Any:
    if isinstance(given, str) and given not in WORDS:
        return session.operand(given, loc)
    return _value(session, given, loc)


def _raw(x: Any) -> Any:
    return x.data if isinstance(x, Variable) else x


def _is_literal(x: Any) -> bool:
    return isinstance(x, Literal)


def _check_kind(group: str, kind: str, known: Mapping[str, Any], loc: Loc = ("kind",)) -> None:
    if kind not in known:
        near = nearest(kind[:200], list(known)) or f"; known: {', '.join(known)}"
        raise InvalidValueError(f"there is no {group} of kind {quoted(kind)}{near}", loc)


def _check_config(kind: str, config: Mapping[str, Any], maker: Any, loc: Loc = ("config",)) -> None:
    """Raises BadAttributeError where a configuration has keys that its kind does not take, or lacks some."""
    known = configuration(maker)
    for key in config:
        if key not in known:
            near = nearest(key[:200], list(known)) or f"; it has {', '.join(known) or 'none'}"
            raise BadAttributeError(f"{kind}: unknown attribute {quoted(key)}{near}", (*loc, key))
    missing = [key for key, is_required in known.items() if is_required and key not in config]
    if missing:
        raise BadAttributeError(f"{kind}: attribute {', '.join(missing)} is missing", loc)


def _check_hooks(hooks: Sequence[Mapping[str, Any]]) -> None:
    """Raises what is wrong with the hooks of an optimizer."""
    for n, hook in enumerate(hooks):
        kind = hook.get("kind")
        if not isinstance(kind, str):
            raise InvalidValueError('a hook needs a "kind"', ("hooks", n))
        _check_kind("hook", kind, HOOKS, ("hooks", n, "kind"))
        _check_config(kind, {key: value for key, value in hook.items() if key != "kind"}, HOOKS[kind], ("hooks", n))


def _check_sizes(session: Session, config: Mapping[str, Any]) -> None:
    """Raises LimitExceededError where a parameter that a configuration makes at once would be too large."""
    given = [n for value in config.values() for n in (value if isinstance(value, list) else [value])]
    needed = max(map(_size, given), default=0.0)
    for key in ("hidden_size", "in_size"):
        needed *= max(_size(config.get(key)), 1.0)
    _check_elements(session, int(min(needed, _UNLIMITED)))


def _size(value: Any) -> float:
    """A number of units as it may be written, 2 or 2.0; 0 for what is none, which the layer refuses."""
    return float(value) if type(value) in (int, float) and value > 0 else 0.0


def _check_call(session: Session, layer: Layer, shape: Sequence[int]) -> None:
    """Raises LimitExceededError where a call would make too large a value, weights of the first call included."""
    linears = [found for found in layer.layers().values() if isinstance(found, Linear)]
    widths = [found._out_size for found in linears]
    rows, last = math.prod(shape[:-1]), shape[-1] if shape else 0
    made = 0
    for n, found in enumerate(linears):
        _check_elements(session, rows * widths[n])
        if isinstance(found.w, Unmade):
            inputs = max([last, *widths[:n], *widths[n + 1 :]])
            _check_elements(session, inputs * widths[n])
            made += inputs * widths[n]
        made += _VALUES_PER_LINEAR * rows * widths[n]
    session.spend(made * FLOAT64.itemsize)


def _check_elements(session: Session, needed: int) -> None:
    check_quota("elements in one value", needed, session.quotas.programs.cost.max_elements, "MAX_ELEMENTS")
