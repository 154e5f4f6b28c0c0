"""The recorder of a session: notes what is to be done, and sends it in one run when somebody looks.

A run happens whole or not at all. Where one command is refused, those recorded before it are sent again with the next
run; it, and what was recorded after it, has never happened, and who looks at what came of that is told why and where.
Leaves are made all the same.
"""

from __future__ import annotations

import copy
import hashlib
import html
import linecache
import math
import re
import sys
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

from pullback import trace
from pullback.config import is_recording, is_training
from pullback.current import current
from pullback.errors import (
    BadAttributeError,
    ExpiredSessionError,
    InvalidValueError,
    NotSupportedError,
    ProblemError,
    PullbackError,
    UnknownSessionError,
    WrongConnectionError,
)
from pullback.session import Session
from pullback.values import Value, as_raw, canonical, dtype_of, shape_of
from pullback.variable import Variable

#: So many commands are sent although nobody looks.
_MOST_COMMANDS = 1000
#: Arrays that are not variables are sent once; so many bytes of them are kept on the server.
_CONSTANT_BYTES = 64 * 2**20
_MOST_CONSTANTS = 1000
#: Gradients up to so many bytes are fetched with the one that is looked at, and so many bytes of them in all.
_SMALL_BYTES, _FETCHED_BYTES = 2**16, 2**20
_LARGEST_INT = 2**63
_PACKAGE = str(Path(__file__).parent)
_COMMAND = re.compile(r"^command \d+ \([^)]*\): ")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Names that ids are made of, or that mean something else.
_TAKEN = re.compile(r"v\d+|_\d+|pi|e|nan|inf")
_LONGEST_NAME = 100

_hint: ContextVar[str | None] = ContextVar("hint", default=None)

#: Where a command was recorded, and what to say besides where it is refused.
Site = tuple[CodeType, int, str | None]


@contextmanager
def hinted(text: str) -> Iterator[None]:
    """What is recorded inside says this first where it is refused."""
    token = _hint.set(text)
    try:
        yield
    finally:
        _hint.reset(token)


class Batch:
    """Commands that are sent together. failed_at: the place from which on they were refused; is_whole: all of them."""

    __slots__ = ("commands", "error", "failed_at", "is_whole", "sites")

    def __init__(self, commands: Sequence[dict[str, Any]] = (), sites: Sequence[Site] = ()) -> None:
        self.commands = list(commands)
        self.sites = list(sites)
        self.error: PullbackError | None = None
        self.failed_at = 0
        self.is_whole = False

    def failure(self, place: int) -> PullbackError | None:
        """Why the command at a place did not happen, if it did not. Leaves are made whatever was refused before."""
        if self.error is None or place < self.failed_at:
            return None
        is_made = not self.is_whole and place != self.failed_at and self.commands[place]["do"] == "variable"
        return None if is_made else self.error

    def fail(self, error: PullbackError, place: int, *, is_whole: bool = False) -> None:
        """What was recorded from a place on never happened."""
        self.error, self.failed_at, self.is_whole = error, place, is_whole

    def kept(self) -> tuple[list[dict[str, Any]], list[Site]]:
        """What is to be sent all the same."""
        kept = [n for n in range(len(self.commands)) if self.failure(n) is None]
        return [self.commands[n] for n in kept], [self.sites[n] for n in kept]


class _Attempt:
    """A run that was sent, and of which it may not be known what came of it."""

    def __init__(self, batch: Batch, dead: list[tuple[str, Batch | None, int]], fetch: Sequence[Any]) -> None:
        self.batch, self.dead = batch, dead
        ids = [name for name, _, _ in dead]
        self.commands = [*batch.commands, {"do": "delete", "ids": ids}] if ids else list(batch.commands)
        self.fetch = list(fetch)


class Recorder:
    """What is recorded on a session.

    Args:
        session: which runs it.
        url: of the server, for messages.
        taken: ids that the session has already.
        flags: whether it records, and trains, as the session has them.
    """

    def __init__(
        self, session: Session, url: str, taken: Sequence[str] = (), flags: tuple[bool, bool] = (True, True)
    ) -> None:
        self.session = session
        self.client = session.client
        self._url = url
        self._lock = threading.RLock()
        self._batch = Batch()
        self._stuck: _Attempt | None = None
        self._lost: PullbackError | None = None
        self._flags: tuple[bool, bool] | None = flags
        self._names = set(taken)
        self._made = max((int(name[1:]) for name in taken if re.fullmatch(r"v\d+", name)), default=0)
        self._dead: deque[tuple[str, Batch | None, int]] = deque()
        self._leaves: weakref.WeakValueDictionary[str, Variable] = weakref.WeakValueDictionary()
        #: Gradients that are looked at and have no id: bound before the gradients change.
        self._unbound: list[weakref.ref[Variable]] = []
        self._constants: OrderedDict[tuple[Any, ...], tuple[str, Batch, int, int]] = OrderedDict()
        self._constant_bytes = 0
        #: Grows whenever gradients may have changed.
        self._passes = 0

    def record(self, command: dict[str, Any]) -> tuple[Batch, int]:
        """Notes a command, and says where."""
        with self._lock:
            if self._lost is not None:
                raise self._lost
            batch = self._batch
            place = len(batch.commands)
            batch.commands.append(command)
            frame = _users(sys._getframe(1))
            batch.sites.append((frame.f_code, frame.f_lineno, _hint.get()))
            if place >= _MOST_COMMANDS:
                self.flush()
            return batch, place

    def flush(self, fetch: Sequence[Any] = ()) -> dict[str, dict[str, Any]]:
        """Sends what is recorded, and returns what is to be seen then, by id.

        Raises:
            AutogradError: what is wrong with the first command that is refused, and where it was recorded.
            UnreachableError, UnavailableError, ...: what is recorded waits for the next look.
        """
        with self._lock:
            if self._lost is not None:
                raise self._lost
            if self._stuck is not None:
                self._attempt(self._stuck)
            forgotten = []
            while self._dead:
                name, its_batch, place = self._dead.popleft()
                if its_batch is None or its_batch.failure(place) is None:
                    forgotten.append((name, its_batch, place))
            batch, self._batch = self._batch, Batch()
            if not (batch.commands or forgotten or fetch):
                return {}
            return self._attempt(_Attempt(batch, forgotten, fetch))

    def _attempt(self, attempt: _Attempt) -> dict[str, dict[str, Any]]:
        self._stuck = attempt
        try:
            run = self.session.run(attempt.commands, attempt.fetch)
        except ProblemError as error:
            if _may_pass(error):
                raise
            self._stuck = None
            raise self._failed(attempt, error) from error
        self._stuck = None
        self._names.difference_update(name for name, _, _ in attempt.dead)
        return run.fetched

    def _failed(self, attempt: _Attempt, error: ProblemError) -> PullbackError:
        """Puts everything where it was before, and says what is wrong and where."""
        if isinstance(error, (ExpiredSessionError, UnknownSessionError)):
            self._lost = self._gone(error)
            return self._lost
        batch, later = attempt.batch, self._batch
        place = _place(error)
        if place < len(batch.sites):
            found = _located(error, batch.sites[place])
            batch.fail(found, place)
            # It was recorded while the run was on its way, and so after what was refused.
            later.fail(found, -1)
        else:
            found = error
            batch.fail(found, 0, is_whole=True)
            later.fail(found, 0, is_whole=True)
        for each in (batch, later):
            self._undo(each)
        commands, sites = batch.kept()
        more, their_sites = later.kept()
        self._batch = Batch([*commands, *more], [*sites, *their_sites])
        self._dead.extend(attempt.dead)
        self._passes += 1
        self._flags = None
        return found

    def _undo(self, batch: Batch) -> None:
        """Forgets what was believed of data that a batch was to assign."""
        for place, command in enumerate(batch.commands):
            if command["do"] == "assign" and batch.failure(place) is not None:
                leaf = self._leaves.get(command["id"])
                if leaf is not None:
                    leaf._raw = None

    def _gone(self, error: ProblemError) -> PullbackError:
        named = sorted(v.name for v in self._leaves.values() if v.name)
        lost = f" ({', '.join(named[:10])}{', ...' if len(named) > 10 else ''})" if named else ""
        found = copy.copy(error)
        found.args = (
            f"{error.detail}. Lost with it: all variables of this connection{lost}, their gradients and optimizers. "
            f"To start over: connect({self._url!r}) again and make them anew from data of your own; "
            "connect(..., ttl_s=...) keeps a session for longer",
        )
        return found

    def close(self, why: PullbackError) -> None:
        """From now on everything is refused with `why`."""
        with self._lock:
            self._lost = why

    # Variables: made, looked at, changed, forgotten

    def adopt(self, v: Variable, raw: Value) -> None:
        """Makes a variable a leaf of this session."""
        with self._lock:
            name = self._id(v.name)
            command: dict[str, Any] = {"do": "variable", "id": name, "value": raw}
            if v.name is not None:
                command["name"] = v.name
            _begin(v, name, *self.record(command))
            v._raw, v._grad_at = raw, self._passes
            v._recorder = self
            self._leaves[name] = v

    def take_up(self, name: str) -> Variable:
        """A variable that the session has already."""
        v = _new(Variable)
        _begin(v, name, None, 0)
        v._recorder, v.name = self, name
        self._leaves[name] = v
        return v

    def new_id(self) -> str:
        """An id that nothing has."""
        with self._lock:
            return self._id()

    def _id(self, name: str | None = None) -> str:
        """An id that nothing has: the name, where it can be one."""
        if name is None or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
            self._made += 1
            return f"v{self._made}"
        stem, n = (f"{name}_" if _TAKEN.fullmatch(name) or trace.is_keyword(name) else name), 1
        found = stem
        while found in self._names:
            n += 1
            found = f"{stem}_{n}"
        self._names.add(found)
        return found

    def id_of(self, v: Variable) -> str:
        """What a variable is called on the server.

        Raises:
            PullbackError: it never came to be.
        """
        batch = v._batch
        if batch is not None and batch.error is not None:
            failure = batch.failure(v._place)
            if failure is not None:
                raise failure
        if not v._id:
            self._bind(v)
        return v._id

    def _bind(self, gradient: Variable) -> None:
        """Gives a gradient an id of its own."""
        owner = gradient._owner
        assert owner is not None
        name = self._id()
        gradient._batch, gradient._place = self.record({"do": "grad", "of": self.id_of(owner), "out": name})
        gradient._id, gradient._owner = name, None

    def look(self, v: Variable, *what: str) -> dict[str, Any]:
        """What there is to see of a variable; a value is kept."""
        with self._lock:
            name = self.id_of(v)
            found = self.flush([{"id": name, "what": list(what)}])[name]
            if "value" in found:
                v._raw = canonical(found["value"])
            return found

    def look_all(self, variables: Sequence[Variable]) -> None:
        """Gets to know the values of all these at once."""
        with self._lock:
            wanted = {self.id_of(v): v for v in variables if v._raw is None}
            found = self.flush([{"id": name, "what": ["value"]} for name in wanted])
            for name, v in wanted.items():
                v._raw = canonical(found[name]["value"])

    def gradient(self, v: Variable) -> Variable | None:
        """The gradient of a variable, if it has one; others that are small come with it."""
        with self._lock:
            name = self.id_of(v)
            if v._grad_at != self._passes:
                self._fetch_gradients(v, name)
            if v._grad_raw is None:
                return None
            found = None if v._grad_ref is None else v._grad_ref()
            if found is None:
                found = _new(Variable)
                _begin(found, "", None, 0)
                found._recorder, found.name = self, None
                found._raw, found._owner = v._grad_raw, v
                v._grad_ref = weakref.ref(found)
                self._unbound.append(v._grad_ref)
            return found

    def _fetch_gradients(self, v: Variable, name: str) -> None:
        wanted: dict[str, Variable] = {name: v}
        nbytes = 0.0
        for other in list(self._leaves.values()):
            size = _nbytes(other)
            batch = other._batch
            is_there = batch is None or batch.failure(other._place) is None
            if other._grad_at != self._passes and size <= _SMALL_BYTES and nbytes + size <= _FETCHED_BYTES and is_there:
                wanted[other._id] = other
                nbytes += size
        found = self.flush([{"id": each, "what": ["grad"]} for each in wanted])
        for each, owner in wanted.items():
            grad = found[each]["grad"]
            owner._grad_raw = None if grad is None else canonical(grad)
            owner._grad_ref, owner._grad_at = None, self._passes

    def set_gradient(self, v: Variable, value: Variable | None) -> None:
        """Replaces the gradient of a leaf, or forgets any."""
        with self._lock:
            if value is None:
                self.cleargrad([v])
                return
            if v.creator is not None:
                raise NotSupportedError("grad: only the gradient of a leaf can be replaced on a server")
            cotangent = self.id_of(value)
            self.cleargrad([v])
            self.record({"do": "backward", "of": self.id_of(v), "cotangent": cotangent})
            self._passes += 1

    def backward(self, v: Variable, create_graph: bool, retain_grad: bool, cotangent: Any) -> None:
        """Records a backward pass."""
        with self._lock:
            command: dict[str, Any] = {"do": "backward", "of": self.id_of(v)}
            if create_graph:
                command["create_graph"] = create_graph
            if retain_grad:
                command["retain_grad"] = retain_grad
            if cotangent is not None:
                command["cotangent"] = self.id_of(cotangent) if type(cotangent) is Variable else as_raw(cotangent)
            self._before_gradients_change()
            self._record_flagged(command)
            self._passes += 1

    def cleargrad(self, variables: Sequence[Variable]) -> None:
        """Forgets the gradients of some variables."""
        with self._lock:
            ids = [self.id_of(v) for v in variables]
            if not ids:
                return
            self._before_gradients_change()
            self.record({"do": "cleargrad", "ids": ids})
            for v in variables:
                v._grad_raw, v._grad_ref, v._grad_at = None, None, self._passes

    def _before_gradients_change(self) -> None:
        """Gives those gradients an id that somebody still holds."""
        unbound, self._unbound = self._unbound, []
        for ref in unbound:
            found = ref()
            if found is not None and found._owner is not None:
                self._bind(found)

    def assign(self, v: Variable, raw: Value) -> None:
        """Gives a leaf other data.

        Raises:
            InvalidValueError: it was computed.
        """
        with self._lock:
            name = self.id_of(v)
            if name not in self._leaves and (creator := v.creator) is not None:
                raise InvalidValueError(
                    f"data: this variable was computed by {creator.name}; only a leaf's data can be replaced. "
                    "Call unchain() first, or make a new Variable"
                )
            before = v._raw
            self._before_gradients_change()
            self.record({"do": "assign", "id": name, "value": raw})
            if before is None or shape_of(before) != shape_of(raw):
                v._grad_at = -1
            v._raw, v._known = raw, None
            self._leaves[name] = v

    def command(self, do: str, v: Variable) -> None:
        """Records a command about one variable."""
        with self._lock:
            self.record({"do": do, "id": self.id_of(v)})

    def forget(self, name: str, batch: Batch | None, place: int) -> None:
        """Nobody holds what is called so. It comes from any thread, at any time: only a deque takes that."""
        self._dead.append((name, batch, place))

    def changed(self, variables: Sequence[Variable]) -> None:
        """The server replaces the values of some leaves."""
        for v in variables:
            if v._raw is not None:
                v._known = shape_of(v._raw), dtype_of(v._raw)
                v._raw = None

    def about_to_step(self, has_hooks: bool) -> None:
        """An optimizer is to step; its hooks change gradients."""
        if has_hooks:
            self._before_gradients_change()
            self._passes += 1

    def shown(self, v: Variable) -> str:
        """A variable in HTML."""
        text = f"<pre>{html.escape(str(v))}</pre><small>shape {v.shape}, {v.dtype}</small>"
        self.flush()
        try:
            return f"{text}<div>{self.session.svg(self.id_of(v))}</div>"
        except ProblemError:
            # Without Graphviz, or too large to be drawn, there is no picture.
            return text

    # Operations

    def apply(
        self, op: str, operands: Sequence[Any], attrs: dict[str, Any] | None, outputs: int, seed: int | None
    ) -> list[Variable]:
        """Records an operation, and returns what comes of it."""
        with self._lock:
            args = [self._operand(op, x) for x in operands]
            out = [self._id() for _ in range(outputs)]
            command: dict[str, Any] = {"do": "apply", "op": op, "args": args, "out": out}
            if attrs:
                command["attrs"] = attrs
            if seed is not None:
                command["seed"] = seed
            batch, place = self._record_flagged(command)
            found = []
            for name in out:
                v = _new(Variable)
                v._id, v._batch, v._place = name, batch, place
                v._raw = v._known = v._grad_raw = v._grad_ref = v._owner = v.name = None
                v._grad_at = -1
                v._recorder = self
                found.append(v)
            return found

    def _record_flagged(self, command: dict[str, Any]) -> tuple[Batch, int]:
        """Records a command after the flags that hold for it."""
        flags = is_recording(), is_training()
        if flags != self._flags:
            self.record({"do": "set", "nograd": not flags[0], "train": flags[1]})
            self._flags = flags
        return self.record(command)

    def _operand(self, op: str, x: Any) -> Any:
        kind = type(x)
        if kind is Variable:
            if x._recorder is not self:
                raise WrongConnectionError(
                    f"{op}: its operands belong to two connections; bring one over by its value: Variable(x.data)"
                )
            return self.id_of(x)
        if kind is float or kind is bool:
            return x
        if kind is int and -_LARGEST_INT <= x < _LARGEST_INT:
            return x
        try:
            raw = as_raw(x)
        except InvalidValueError as error:
            raise InvalidValueError(f"{op}: {error.detail}") from error
        return self.constant(raw) if shape_of(raw) else np.asarray(raw)

    def constant(self, raw: np.ndarray[Any, Any]) -> str:
        """The id of an array on the server, where it is sent once."""
        data = np.ascontiguousarray(raw)
        key = data.shape, str(data.dtype), hashlib.blake2b(data.reshape(-1).view(np.uint8).data).digest()
        known = self._constants.pop(key, None)
        if known is not None and known[1].failure(known[2]) is None:
            self._constants[key] = known
            return known[0]
        name = self._id()
        batch, place = self.record({"do": "variable", "id": name, "value": data, "constant": True})
        self._constants[key] = name, batch, place, data.nbytes
        self._constant_bytes += data.nbytes
        while len(self._constants) > 1 and (
            self._constant_bytes > _CONSTANT_BYTES or len(self._constants) > _MOST_CONSTANTS
        ):
            _, (old, its_batch, its_place, nbytes) = self._constants.popitem(last=False)
            self._constant_bytes -= nbytes
            self.forget(old, its_batch, its_place)
        return name


_new = object.__new__


def _begin(v: Variable, name: str, batch: Batch | None, place: int) -> None:
    """Sets what is known of a variable: its id, and nothing else."""
    v._id, v._batch, v._place = name, batch, place
    v._raw = v._known = v._grad_raw = v._grad_ref = v._owner = None
    v._grad_at = -1


def _nbytes(v: Variable) -> float:
    """Bytes of a variable, as far as its shape is known here."""
    if v._raw is not None:
        return np.asarray(v._raw).nbytes
    return math.inf if v._known is None else math.prod(v._known[0]) * v._known[1].itemsize


def _users(frame: FrameType) -> FrameType:
    """The innermost frame that is not of this package."""
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _may_pass(error: ProblemError) -> bool:
    """Whether the same run may be answered otherwise later."""
    return error.status is None or error.status >= 500 or error.status in (401, 403, 429)


def _place(error: ProblemError) -> int:
    """Which command a refusal is about; none of any run where it is about all."""
    loc = error.faults[0].loc
    return loc[1] if len(loc) > 1 and loc[0] == "commands" and isinstance(loc[1], int) else sys.maxsize


def _located(error: ProblemError, site: Site) -> ProblemError:
    """A refusal as the engine has it, and the line where the command was recorded."""
    code, line, hint = site
    found = copy.copy(error)
    found.detail = _COMMAND.sub("", error.detail)
    if hint is not None:
        found.detail = f"{hint} ({found.detail})"
    source = linecache.getline(code.co_filename, line).strip()
    shown = f": {source}" if source else ""
    found.args = (f"{found.detail}\n  recorded at {code.co_filename}, line {line}, in {code.co_name}{shown}",)
    return found


# What functions are made of


def apply(
    op: str,
    operands: Sequence[Any],
    attrs: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
    rng: int | None = None,
) -> Any:
    """One operation on whatever is given: recorded, traced, or, where nothing is a variable, done at once."""
    return _applied(1, op, operands, attrs, defaults, rng)[0]


def apply_several(
    outputs: Any,
    op: str,
    operands: Sequence[Any],
    attrs: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
) -> Any:
    """The same for an operation of several results; `outputs`: how many, or a list as long."""
    count = outputs if isinstance(outputs, int) else len(outputs)
    return tuple(_applied(max(count, 1), op, operands, attrs, defaults, None))


def _applied(
    outputs: int,
    op: str,
    operands: Sequence[Any],
    attrs: dict[str, Any] | None,
    defaults: dict[str, Any] | None,
    rng: int | None,
) -> list[Any]:
    if len(operands) == 1 and type(operands[0]) in (list, tuple) and op in _VARIADIC:
        operands = operands[0]
    written = _written(attrs, defaults or {}) if attrs else None
    recorder = None
    for x in operands:
        if type(x) is Variable:
            recorder = x._recorder
            break
        if type(x) is trace.Symbol:
            return trace.apply(op, operands, written, outputs, rng)
    seed = None if rng is None else _seed(op, rng)
    while operands and operands[-1] is None:
        operands = operands[:-1]
    if recorder is not None:
        for x in operands:
            if type(x) is trace.Symbol:
                return trace.apply(op, operands, written, outputs, rng)
        return recorder.apply(op, operands, written, outputs, seed)
    return [v.data for v in current().apply(op, operands, written, outputs, seed)]


_VARIADIC = ("concat", "stack", "einsum")


def _seed(op: str, rng: Any) -> int:
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)) or rng < 0:
        raise BadAttributeError(
            f"{op}: rng is {rng!r}; expected a seed (a non-negative integer): the numbers are drawn on the server. "
            "Left out, the session's own generator goes on"
        )
    return int(rng)


def _written(attrs: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Attributes as a document has them, without those that say nothing."""
    found = {}
    for name, value in attrs.items():
        if value is None and name not in defaults:
            continue
        if name in defaults and type(value) is type(defaults[name]) and value == defaults[name]:
            continue
        found[name] = _attribute(value, is_index=name == "index")
    return found


def _attribute(value: Any, is_index: bool = False) -> Any:
    kind = type(value)
    if kind is int or kind is str or kind is float or kind is bool:
        return value
    if isinstance(value, (tuple, list)):
        return [item for each in value for item in _items(each, is_index)]
    if isinstance(value, slice):
        bounds = {"start": value.start, "stop": value.stop, "step": value.step}
        return {key: _attribute(bound) for key, bound in bounds.items() if bound is not None}
    if value is None:
        return "newaxis" if is_index else None
    if value is Ellipsis:
        return "..."
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (type, np.dtype)):
        return str(np.dtype(value))
    if type(value) is Variable:
        return _attribute(np.asarray(value.data))
    return value


def _items(item: Any, is_index: bool) -> list[Any]:
    """What an item of a list becomes: a mask of several axes is as many lists of places."""
    if is_index and isinstance(item, np.ndarray) and item.dtype.kind == "b" and item.ndim > 1:
        return [axis.tolist() for axis in np.nonzero(item)]
    return [_attribute(item, is_index)]
