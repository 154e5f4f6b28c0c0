"""A session: the objects under its ids, its flags, its random generator, its quotas."""

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.errors import DeadlineExceededError
from app.programs import ProgramLimits
from app.sessions.errors import TakenIdError, UnknownVariableError
from engine.core import (
    InvalidValueError,
    LimitExceededError,
    Loc,
    NotDifferentiableError,
    Value,
    Variable,
    aval,
    config,
    nearest,
)
from engine.graph import name_fault, normalized, quoted
from engine.nn import HOOKS, LAYERS, MODELS, OPTIMIZERS, Layer, Optimizer, memories
from engine.programs import WORDS


@dataclass(slots=True)
class Constant:
    """A value without a gradient."""

    value: Value
    name: str | None = None


@dataclass(slots=True)
class Module:
    """A layer or a model; `group`, `kind` and `config` are those it was made with."""

    group: str
    kind: str
    config: dict[str, Any]
    layer: Layer


@dataclass(slots=True)
class Steps:
    """An optimizer; `params` is the id of a layer or model, or ids of variables, looked up at each step."""

    kind: str
    config: dict[str, Any]
    params: str | list[str]
    hooks: list[dict[str, Any]]
    optimizer: Optimizer


SessionObject = Variable | Constant | Module | Steps

#: Constructors of layers and models by group and kind.
MODULES: Mapping[str, Mapping[str, Any]] = {"layer": LAYERS, "model": MODELS}


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits on one session.

    variables: ids and parameters. tape: live variables, nameless ones too. bytes: of all values.
    commands: in one run. programs: form and cost of each operation.
    """

    variables: int = 10_000
    tape: int = 100_000
    bytes: int = 256 * 2**20
    commands: int = 10_000
    programs: ProgramLimits = field(default_factory=ProgramLimits)


class _Params(Mapping[str, Variable]):
    """The parameters of an optimizer, looked up in a session whenever they are read."""

    def __init__(self, session: "Session", source: str | list[str]) -> None:
        self._session = session
        self._source = source

    def _found(self) -> dict[str, Variable]:
        if isinstance(self._source, str):
            return self._session.module(self._source, ("params",)).layer.params()
        return {name: self._session.variable(name, ("params", n)) for n, name in enumerate(self._source)}

    def __getitem__(self, name: str) -> Variable:
        return self._found()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())


class Session:
    """The objects and flags of one session.

    Args:
        seed: of PCG64, from which all random numbers are drawn in the order of commands.
        quotas: limits on its content.
    """

    def __init__(self, seed: int, quotas: Quotas) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.nograd = False
        self.train = True
        self.quotas = quotas
        self.ids: dict[str, SessionObject] = {}
        self.made = 0
        #: Deadline of the current run, by the clock below.
        self.until = math.inf
        self.monotonic: Callable[[], float] = time.monotonic
        self._spent = 0
        #: Bytes that checked programs make, by form: those of a training step come again.
        self.checked: dict[Hashable, int] = {}

    def mode(self) -> ExitStack:
        """Return a context in which the flags of this session hold."""
        stack = ExitStack()
        if self.nograd:
            stack.enter_context(config.no_grad())
        if not self.train:
            stack.enter_context(config.test_mode())
        return stack

    def find(self, name: str, loc: Loc) -> SessionObject:
        """Return the object of an id; `m.linear[0].w` is a parameter of m.

        Raises:
            UnknownVariableError: there is none.
        """
        name = normalized(name)
        owner, dot, path = name.partition(".")
        held = self.ids.get(owner)
        if not dot and held is not None:
            return held
        if dot and isinstance(held, Module):
            slot = held.layer.slots().get(path)
            if slot is not None and isinstance(slot.parameter, Variable):
                return slot.parameter
            if slot is not None:
                raise UnknownVariableError(
                    f"{quoted(name)} does not exist yet: the first call of {owner} makes it", loc
                )
        near = nearest(name[:200], [*self.ids, *(name for name, _ in self.parameters())])
        raise UnknownVariableError(f"there is no {quoted(name)} in this session{near}", loc)

    def variable(self, name: str, loc: Loc) -> Variable:
        """Return a variable by its id.

        Raises:
            UnknownVariableError: there is none.
            InvalidValueError: it is a layer, a model or an optimizer.
            NotDifferentiableError: it is a constant.
        """
        held = self.find(name, loc)
        if isinstance(held, Constant):
            raise NotDifferentiableError(f"{quoted(name)} is a constant: no gradient is kept for it", loc)
        if not isinstance(held, Variable):
            raise InvalidValueError(f"{quoted(name)} is {noun(held)}; expected a variable", loc)
        return held

    def operand(self, name: str, loc: Loc) -> Variable | Value:
        """Return a variable, or the value of a constant, by its id; raises like `find`."""
        held = self.find(name, loc)
        if isinstance(held, Constant):
            # A float would be weak and take the dtype of other operands; a constant has a dtype of its own.
            return np.float64(held.value) if type(held.value) is float else held.value
        return self.variable(name, loc)

    def module(self, name: str, loc: Loc) -> Module:
        """Return a layer or model by its id.

        Raises:
            UnknownVariableError: there is none.
            InvalidValueError: it is something else.
        """
        held = self.find(name, loc)
        if not isinstance(held, Module):
            raise InvalidValueError(f"{quoted(name)} is {noun(held)}; expected a layer or a model", loc)
        return held

    def steps(self, name: str, loc: Loc) -> Steps:
        """Return an optimizer by its id; raises like `module`."""
        held = self.find(name, loc)
        if not isinstance(held, Steps):
            raise InvalidValueError(f"{quoted(name)} is {noun(held)}; expected an optimizer", loc)
        return held

    def free_id(self) -> str:
        """Return the next free id of v1, v2, ..."""
        while True:
            self.made += 1
            if f"v{self.made}" not in self.ids:
                return f"v{self.made}"

    def bind(self, name: str | None, held: SessionObject, loc: Loc) -> str:
        """Bind an object to an id, None for a free one, and return the id. Only variables and constants rebind.

        Raises:
            InvalidValueError: the id is not a name.
            TakenIdError: the id is taken, and the old object or the new one cannot be rebound.
        """
        name = self.free_id() if name is None else self.new_id(name, loc)
        before = self.ids.get(name)
        if before is not None and not (_is_value(before) and _is_value(held)):
            raise TakenIdError(f"{quoted(name)} is {noun(before)}, which cannot be rebound; delete it first", loc)
        self.ids[name] = held
        return name

    @staticmethod
    def new_id(name: str, loc: Loc) -> str:
        """Normalize an id; raises InvalidValueError if it is not a name."""
        found = normalized(name)
        fault = name_fault(found)
        if found in WORDS:
            fault = f'"{found}" is a number, and cannot be an id'
        if fault:
            raise InvalidValueError(f"id {fault}", loc)
        return found

    def parameters(self) -> Iterator[tuple[str, Variable]]:
        """Yield every parameter of every layer and model with its id."""
        for owner, held in self.ids.items():
            if isinstance(held, Module):
                yield from ((f"{owner}.{path}", p) for path, p in held.layer.params().items())

    def variables(self) -> dict[str, Variable | Constant]:
        """Return every variable and constant by its id, parameters last."""
        named = {name: held for name, held in self.ids.items() if isinstance(held, Variable | Constant)}
        return named | dict(self.parameters())

    def optimizer(self, kind: str, config: Mapping[str, Any], params: str | list[str], hooks: Sequence[Any]) -> Steps:
        """Make an optimizer over this session's variables; raises BadAttributeError for a bad configuration."""
        made = [HOOKS[hook["kind"]](**{key: value for key, value in hook.items() if key != "kind"}) for hook in hooks]
        optimizer = OPTIMIZERS[kind](_Params(self, params), **config, hooks=made)
        return Steps(kind, dict(config), params, [dict(hook) for hook in hooks], optimizer)

    def roots(self) -> list[Variable]:
        """Return the variables from which every live variable is reachable."""
        found = [held for held in self.ids.values() if isinstance(held, Variable)]
        found += (p for _, p in self.parameters())
        for held in self.ids.values():
            if isinstance(held, Module):
                found += (v for kept in memories(held.layer).values() for v in kept)
        return found

    def check_time(self) -> None:
        """Raise DeadlineExceededError if a run takes too long: a thread cannot be stopped from outside."""
        if self.monotonic() > self.until:
            msg = "the call took longer than a request may (setting PULLBACK_DEADLINE_S); nothing has happened"
            raise DeadlineExceededError(msg)

    def spend(self, nbytes: int) -> None:
        """Count values of `nbytes` bytes that are about to be made.

        Raises:
            LimitExceededError: the session would hold more bytes than its quota.
        """
        self._spent += nbytes
        if self._spent > self.quotas.bytes:
            self._spent = self.size()[1] + nbytes
            check_quota("bytes", self._spent, self.quotas.bytes, "MAX_SESSION_BYTES")

    def size(self) -> tuple[int, int]:
        """Return the number of live variables, nameless ones too, and the bytes of all values, each counted once."""
        stack, seen, arrays, nbytes = self.roots(), set[int](), set[int](), 0
        for held in self.ids.values():
            if isinstance(held, Constant):
                nbytes += aval(held.value).nbytes
        while stack:
            v = stack.pop()
            if id(v) in seen:
                continue
            seen.add(id(v))
            for value in (v._data, *v._saved):
                if type(value) is np.ndarray and id(value) not in arrays:
                    arrays.add(id(value))
                    nbytes += value.nbytes
            stack += (p for p in v._parents if type(p) is Variable)
            if v._grad is not None:
                stack.append(v._grad)
        return len(seen), nbytes

    def check_quotas(self) -> None:
        """Raise LimitExceededError if the session holds more than its quotas."""
        count = len(self.ids) + sum(1 for _ in self.parameters())
        check_quota("variables", count, self.quotas.variables, "MAX_SESSION_VARIABLES")
        tape, nbytes = self.size()
        check_quota("variables on its tape", tape, self.quotas.tape, "MAX_SESSION_TAPE")
        check_quota("bytes", nbytes, self.quotas.bytes, "MAX_SESSION_BYTES")
        self._spent = nbytes


def check_quota(what: str, needed: int, allowed: float, setting: str) -> None:
    """Raise LimitExceededError, naming the setting, if more is needed than allowed."""
    if needed > allowed:
        msg = f"the session would hold {needed:,} {what}, the limit is {allowed:,} (setting PULLBACK_{setting})"
        raise LimitExceededError(msg)


def noun(held: SessionObject) -> str:
    """Return the noun for an object with its article, for a message."""
    if isinstance(held, Module | Steps):
        what = held.group if isinstance(held, Module) else "optimizer"
        return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
    return "a constant" if isinstance(held, Constant) else "a variable"


def _is_value(held: SessionObject) -> bool:
    return isinstance(held, Variable | Constant)
