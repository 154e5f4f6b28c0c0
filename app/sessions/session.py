"""A session: what its ids stand for, its flags, and where its random numbers come from."""

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
    """A value that no gradient is computed for."""

    value: Value
    name: str | None = None


@dataclass(slots=True)
class Module:
    """A layer or a model; `group`, `kind` and `config` say how it was made."""

    group: str
    kind: str
    config: dict[str, Any]
    layer: Layer


@dataclass(slots=True)
class Steps:
    """An optimizer; `params` is the id of a layer or model, or those of variables: whatever they are at each step."""

    kind: str
    config: dict[str, Any]
    params: str | list[str]
    hooks: list[dict[str, Any]]
    optimizer: Optimizer


Held = Variable | Constant | Module | Steps

#: What makes layers and models, by group and kind.
MODULES: Mapping[str, Mapping[str, Any]] = {"layer": LAYERS, "model": MODELS}


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one session may hold.

    variables: names and parameters. tape: variables that are held, nameless ones too. bytes: of all values.
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
    """Everything that one client's variables are made of.

    Args:
        seed: of PCG64, which all random numbers come from in the order of commands.
        quotas: what it may hold.
    """

    def __init__(self, seed: int, quotas: Quotas) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.nograd = False
        self.train = True
        self.quotas = quotas
        self.ids: dict[str, Held] = {}
        self.made = 0
        #: When a run that is not done has to end, by the clock beside it.
        self.until = math.inf
        self.monotonic: Callable[[], float] = time.monotonic
        self._spent = 0
        #: The bytes that programs make which were found right, by their forms: those of a training step come again.
        self.checked: dict[Hashable, int] = {}

    def mode(self) -> ExitStack:
        """What to run inside of, so that the flags are those of this session."""
        stack = ExitStack()
        if self.nograd:
            stack.enter_context(config.no_grad())
        if not self.train:
            stack.enter_context(config.test_mode())
        return stack

    def find(self, name: str, loc: Loc) -> Held:
        """What an id stands for; `m.linear[0].w` is a parameter of m.

        Raises:
            UnknownVariableError: nothing.
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
                raise UnknownVariableError(f"{quoted(name)} is not made yet: the first call of {owner} makes it", loc)
        near = nearest(name[:200], [*self.ids, *(name for name, _ in self.parameters())])
        raise UnknownVariableError(f"there is no {quoted(name)} in this session{near}", loc)

    def variable(self, name: str, loc: Loc) -> Variable:
        """A variable by its id.

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
        """A variable, or the value of a constant, by its id; raises what `find` raises."""
        held = self.find(name, loc)
        if isinstance(held, Constant):
            # By itself a float is a number that takes the dtype of what it meets; this one has its own.
            return np.float64(held.value) if type(held.value) is float else held.value
        return self.variable(name, loc)

    def module(self, name: str, loc: Loc) -> Module:
        """A layer or model by its id.

        Raises:
            UnknownVariableError: there is none.
            InvalidValueError: it is something else.
        """
        held = self.find(name, loc)
        if not isinstance(held, Module):
            raise InvalidValueError(f"{quoted(name)} is {noun(held)}; expected a layer or a model", loc)
        return held

    def steps(self, name: str, loc: Loc) -> Steps:
        """An optimizer by its id; raises as `module`."""
        held = self.find(name, loc)
        if not isinstance(held, Steps):
            raise InvalidValueError(f"{quoted(name)} is {noun(held)}; expected an optimizer", loc)
        return held

    def free_id(self) -> str:
        """The next of v1, v2, ... that nothing has."""
        while True:
            self.made += 1
            if f"v{self.made}" not in self.ids:
                return f"v{self.made}"

    def bind(self, name: str | None, held: Held, loc: Loc) -> str:
        """Lets an id stand for something, a variable or constant in place of what it was; None: an id that is free.

        Raises:
            InvalidValueError: it is no name.
            TakenIdError: it belongs to something that cannot be rebound, or what is bound cannot rebind.
        """
        name = self.free_id() if name is None else self.new_id(name, loc)
        before = self.ids.get(name)
        if before is not None and not (_is_value(before) and _is_value(held)):
            raise TakenIdError(f"{quoted(name)} is {noun(before)}, which cannot be rebound; delete it first", loc)
        self.ids[name] = held
        return name

    @staticmethod
    def new_id(name: str, loc: Loc) -> str:
        """An id as it is kept; raises InvalidValueError where it is no name."""
        found = normalized(name)
        fault = name_fault(found)
        if found in WORDS:
            fault = f'"{found}" is a number, nothing else may have its name'
        if fault:
            raise InvalidValueError(f"id {fault}", loc)
        return found

    def parameters(self) -> Iterator[tuple[str, Variable]]:
        """Every parameter of every layer and model by its id."""
        for owner, held in self.ids.items():
            if isinstance(held, Module):
                yield from ((f"{owner}.{path}", p) for path, p in held.layer.params().items())

    def variables(self) -> dict[str, Variable | Constant]:
        """Every variable and constant by its id, parameters last."""
        named = {name: held for name, held in self.ids.items() if isinstance(held, Variable | Constant)}
        return named | dict(self.parameters())

    def optimizer(self, kind: str, config: Mapping[str, Any], params: str | list[str], hooks: Sequence[Any]) -> Steps:
        """An optimizer over this session's variables; raises BadAttributeError for what its kind does not take."""
        made = [HOOKS[hook["kind"]](**{key: value for key, value in hook.items() if key != "kind"}) for hook in hooks]
        optimizer = OPTIMIZERS[kind](_Params(self, params), **config, hooks=made)
        return Steps(kind, dict(config), params, [dict(hook) for hook in hooks], optimizer)

    def roots(self) -> list[Variable]:
        """What reaches every variable that is held."""
        found = [held for held in self.ids.values() if isinstance(held, Variable)]
        found += (p for _, p in self.parameters())
        for held in self.ids.values():
            if isinstance(held, Module):
                found += (v for kept in memories(held.layer).values() for v in kept)
        return found

    def check_time(self) -> None:
        """Raises DeadlineExceededError where a run takes too long: a thread cannot be stopped from outside."""
        if self.monotonic() > self.until:
            msg = "the call took longer than a request may (setting PULLBACK_DEADLINE_S); nothing has happened"
            raise DeadlineExceededError(msg)

    def spend(self, nbytes: int) -> None:
        """Notes that values of so many bytes are about to be made.

        Raises:
            LimitExceededError: with what is held, they would be more than may be.
        """
        self._spent += nbytes
        if self._spent > self.quotas.bytes:
            self._spent = self.size()[1] + nbytes
            check_quota("bytes", self._spent, self.quotas.bytes, "MAX_SESSION_BYTES")

    def size(self) -> tuple[int, int]:
        """How many variables are held, nameless ones too, and the bytes of all values, each counted once."""
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
        """Raises LimitExceededError where the session holds more than it may."""
        count = len(self.ids) + sum(1 for _ in self.parameters())
        check_quota("variables", count, self.quotas.variables, "MAX_SESSION_VARIABLES")
        tape, nbytes = self.size()
        check_quota("variables on its tape", tape, self.quotas.tape, "MAX_SESSION_TAPE")
        check_quota("bytes", nbytes, self.quotas.bytes, "MAX_SESSION_BYTES")
        self._spent = nbytes


def check_quota(what: str, needed: int, allowed: float, setting: str) -> None:
    """Raises LimitExceededError, naming the setting, where more is needed than allowed."""
    if needed > allowed:
        msg = f"the session would hold {needed:,} {what}, the limit is {allowed:,} (setting PULLBACK_{setting})"
        raise LimitExceededError(msg)


def noun(held: Held) -> str:
    """What something is, for a message."""
    if isinstance(held, Module | Steps):
        what = held.group if isinstance(held, Module) else "optimizer"
        return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
    return "a constant" if isinstance(held, Constant) else "a variable"


def _is_value(held: Held) -> bool:
    return isinstance(held, Variable | Constant)
