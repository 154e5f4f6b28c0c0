"""Recorder: records operations on the variables of a session, and caches their values and gradients."""

from __future__ import annotations

import html
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pullback.core.config import is_recording, is_training
from pullback.core.values import Value, as_raw, canonical, dtype_of, shape_of
from pullback.core.variable import Variable, problem_of, unshown
from pullback.errors import (
    InvalidValueError,
    LimitExceededError,
    NotSupportedError,
    ProblemError,
    PullbackError,
    SequenceConflictError,
    UnavailableError,
    WrongConnectionError,
)
from pullback.recording.constants import Constants
from pullback.recording.entries import Entry
from pullback.recording.outbox import Outbox, fresh, with_text
from pullback.remote.session import Session

#: Variables up to the first size are fetched along with one that is read, up to the second in all.
_SMALL_BYTES, _FETCHED_BYTES = 2**16, 2**20
_LARGEST_INT = 2**63
_MOST_NAMED = 10
#: Number of `_unbound` references from which dead ones are dropped.
_MOST_UNBOUND = 100

_new = object.__new__


class Recorder:
    """Recorder of one session.

    Args:
        session: the session.
        url: URL of the server, for messages.
        taken: ids that the session has already.
        flags: the session's present flags: recording, training.
    """

    def __init__(
        self, session: Session, url: str, taken: Sequence[str] = (), flags: tuple[bool, bool] = (True, True)
    ) -> None:
        self.session = session
        self.client = session.client
        self._url = url
        self.outbox = Outbox(session, taken, self._undo, self._gone)
        self._lock = self.outbox.lock
        self._constants = Constants(self.outbox)
        self._flags: tuple[bool, bool] | None = flags
        self._leaves: weakref.WeakValueDictionary[str, Variable] = weakref.WeakValueDictionary()
        #: Gradients that were read and have no id; they get one before the gradients change.
        self._unbound: list[weakref.ref[Variable]] = []
        #: Counter of the changes of gradients.
        self._passes = 0
        #: The variable on which `backward` was called last.
        self._of: weakref.ref[Variable] | None = None

    # Refusals

    def _undo(self, entries: list[Entry]) -> None:
        """Invalidate cached values that the failed entries were to change."""
        self._passes += 1
        self._flags = None
        if any(isinstance(entry.error, LimitExceededError) for entry in entries):
            self._constants.clear()
        for entry in entries:
            if entry.command["do"] == "assign":
                leaf = self._leaves.get(entry.command["id"])
                if leaf is not None:
                    leaf._raw = None

    def _gone(self, error: ProblemError) -> PullbackError:
        if isinstance(error, SequenceConflictError):
            return with_text(
                error,
                f"another client changed this session ({error.detail}), so that the values of its variables are not "
                f"known here; take it up as it is with connect({self._url!r}, session=...), or connect anew",
            )
        named = sorted({v.name for v in self._leaves.values() if v.name})
        more = ", ..." if len(named) > _MOST_NAMED else ""
        lost = f" ({', '.join(named[:_MOST_NAMED])}{more})" if named else ""
        return with_text(
            error,
            f"{error.detail}. Lost with it: all variables of this connection{lost}, their gradients and optimizers. "
            f"To start over: connect({self._url!r}) again and make them anew from data of your own; "
            "connect(..., ttl_s=...) keeps a session for longer",
        )

    # Making, naming and reading variables

    def adopt(self, v: Variable, raw: Value) -> None:
        """Make a variable a leaf of this session."""
        with self._lock:
            name = self.outbox.new_id(v.name)
            command: dict[str, Any] = {"do": "variable", "id": name, "value": raw}
            if v.name is not None:
                command["name"] = v.name
            _begin(v, name, self.outbox.record(command))
            v._raw, v._grad_at = raw, self._passes
            v._recorder = self
            self._leaves[name] = v

    def take_up(self, name: str, called: str | None) -> Variable:
        """Return a variable for an existing object of the session, by its id."""
        with self._lock:
            found = self._leaves.get(name)
            if found is not None:
                return found
            v = _new(Variable)
            _begin(v, name, None)
            v._recorder, v.name = self, called
            self._leaves[name] = v
            return v

    def id_of(self, v: Variable) -> str:
        """Return the id of a variable on the server.

        Raises:
            PullbackError: the command that made it has failed.
        """
        entry = v._entry
        if entry is not None and entry.error is not None:
            self.outbox.mark_reported(entry.error)
            raise fresh(entry.error) from None
        if not v._id:
            self._bind(v)
        return v._id

    def is_leaf(self, v: Variable) -> bool:
        """Return whether a variable was made here as a leaf; of others (resumed, unchained) only the server knows."""
        return bool(v._id) and v._entry is not None and self._leaves.get(v._id) is v

    def look(self, v: Variable, *what: str) -> dict[str, Any]:
        """Fetch properties of a variable; cache its value, and with it the values of small leaves that have changed."""
        with self._lock:
            name = self.id_of(v)
            wanted = {name: v}
            if "value" in what and self.is_leaf(v):
                wanted |= self._small_leaves(lambda leaf: leaf._raw is None)
            others: list[dict[str, Any]] = [{"id": each, "what": ["value"]} for each in wanted if each != name]
            found = self.outbox.flush([{"id": name, "what": list(what)}, *others])
            for each, one in wanted.items():
                if "value" in found[each]:
                    one._raw = canonical(found[each]["value"])
            return found[name]

    def _small_leaves(self, is_wanted: Callable[[Variable], bool]) -> dict[str, Variable]:
        """Return the leaves to fetch along with another variable, by id: small ones for which `is_wanted` holds."""
        found, nbytes = {}, 0.0
        for name, leaf in list(self._leaves.items()):
            size = _nbytes(leaf)
            is_there = leaf._entry is None or leaf._entry.error is None
            if is_there and size <= _SMALL_BYTES and nbytes + size <= _FETCHED_BYTES and is_wanted(leaf):
                found[name] = leaf
                nbytes += size
        return found

    def shown(self, v: Variable) -> str:
        """Return a variable as HTML; if that fails, the error as text, as notebooks would show a second traceback."""
        try:
            text = f"<pre>{html.escape(str(v))}</pre><small>shape {v.shape}, {v.dtype}</small>"
        except Exception as error:  # noqa: BLE001 - the text shows it
            return f"<pre>{html.escape(unshown(error))}</pre>"
        try:
            # If it is a gradient, `id_of` records a command, which has to be sent first.
            name = self.id_of(v)
            self.outbox.flush()
            return f"{text}<div>{self.session.svg(name)}</div>"
        except (NotSupportedError, LimitExceededError, UnavailableError):
            # The server has no Graphviz, or the graph is too large for a picture.
            return text
        except Exception as error:  # noqa: BLE001 - the text shows it
            return f"{text}<pre>no picture: {html.escape(problem_of(error))}</pre>"

    # Changing variables

    def assign(self, v: Variable, raw: Value) -> None:
        """Replace the value of a leaf.

        Raises:
            InvalidValueError: the variable is not a leaf.
        """
        with self._lock:
            name = self.id_of(v)
            if (creator := v.creator) is not None:
                raise InvalidValueError(
                    f"data: this variable was computed by {creator.name}; only a leaf's data can be replaced. "
                    "Call unchain() first, or make a new Variable"
                )
            before = v._raw
            self._before_gradients_change()
            self.outbox.record({"do": "assign", "id": name, "value": raw})
            if before is None or shape_of(before) != shape_of(raw):
                v._grad_at = -1
            v._raw, v._known = raw, None
            self._leaves[name] = v

    def command(self, do: str, v: Variable) -> None:
        """Record a command on one variable."""
        with self._lock:
            self.outbox.record({"do": do, "id": self.id_of(v)})

    def step(self, command: dict[str, Any], params: Sequence[Variable], has_hooks: bool) -> Entry:
        """Record a step of an optimizer, which replaces values of parameters and, with hooks, gradients."""
        with self._lock:
            if has_hooks:
                self._before_gradients_change()
            entry = self.outbox.record(command)
            if has_hooks:
                self._passes += 1
            for v in params:
                if v._raw is not None:
                    v._known = shape_of(v._raw), dtype_of(v._raw)
                    v._raw = None
            return entry

    # Gradients

    def backward(self, v: Variable, create_graph: bool, retain_grad: bool, cotangent: Any) -> None:
        """Record a backward pass."""
        with self._lock:
            command: dict[str, Any] = {"do": "backward", "of": self.id_of(v)}
            if create_graph:
                command["create_graph"] = create_graph
            if retain_grad:
                command["retain_grad"] = retain_grad
            if cotangent is not None:
                is_variable = type(cotangent) is Variable
                command["cotangent"] = self._own("backward", cotangent) if is_variable else as_raw(cotangent)
            self._before_gradients_change()
            self._record_flagged(command)
            self._passes += 1
            self._of = weakref.ref(v)

    def gradient(self, v: Variable) -> Variable | None:
        """Return the gradient of a variable, None without one; gradients of small leaves are fetched along with it."""
        with self._lock:
            name = self.id_of(v)
            if v._grad_at != self._passes:
                self._fetch_gradients(v, name)
            if v._grad_raw is None:
                return None
            found = None if v._grad_ref is None else v._grad_ref()
            if found is None:
                found = _new(Variable)
                _begin(found, "", None)
                found._recorder, found.name = self, None
                found._raw, found._owner, found._is_constant = v._grad_raw, v, True
                v._grad_ref = weakref.ref(found)
                if len(self._unbound) >= _MOST_UNBOUND:
                    self._unbound = [ref for ref in self._unbound if ref() is not None]
                self._unbound.append(v._grad_ref)
            return found

    def _fetch_gradients(self, v: Variable, name: str) -> None:
        wanted = {name: v} | self._small_leaves(lambda leaf: leaf._grad_at != self._passes)
        fetch = [{"id": each, "what": ["grad"]} for each in wanted]
        # Code that reads gradients usually reads the loss too.
        of = None if self._of is None else self._of()
        loss = of if of is not None and of._raw is None and of._id and of._id not in wanted else None
        if loss is not None:
            fetch.append({"id": loss._id, "what": ["value"]})
        found = self.outbox.flush(fetch)
        if loss is not None:
            loss._raw = canonical(found[loss._id]["value"])
        for each, owner in wanted.items():
            grad = found[each]["grad"]
            owner._grad_raw = None if grad is None else canonical(grad)
            owner._grad_ref, owner._grad_at = None, self._passes

    def set_gradient(self, v: Variable, value: Variable | None) -> None:
        """Replace the gradient of a leaf, or clear it."""
        with self._lock:
            if value is None:
                self.cleargrad([v])
                return
            if v.creator is not None:
                raise NotSupportedError("grad: only the gradient of a leaf can be replaced on a server")
            cotangent = self._own("grad", value)
            self.cleargrad([v])
            self.outbox.record({"do": "backward", "of": self.id_of(v), "cotangent": cotangent})
            self._passes += 1

    def cleargrad(self, variables: Sequence[Variable]) -> None:
        """Clear the gradients of variables."""
        with self._lock:
            ids = [self.id_of(v) for v in variables]
            self._before_gradients_change()
            self.outbox.record({"do": "cleargrad", "ids": ids})
            for v in variables:
                v._grad_raw, v._grad_ref, v._grad_at = None, None, self._passes

    def _before_gradients_change(self) -> None:
        """Give an id to each gradient that is still referenced."""
        unbound, self._unbound = self._unbound, []
        for ref in unbound:
            found = ref()
            if found is not None and found._owner is not None:
                self._bind(found)

    def _bind(self, gradient: Variable) -> None:
        """Give a gradient an id."""
        owner = gradient._owner
        assert owner is not None
        name = self.outbox.new_id()
        gradient._entry = self.outbox.record({"do": "grad", "of": self.id_of(owner), "out": name})
        gradient._id, gradient._owner = name, None

    # Operations

    def apply(
        self,
        op: str,
        operands: Sequence[Any],
        attrs: dict[str, Any] | None,
        outputs: int,
        *,
        is_random: bool,
        seed: int | None,
    ) -> list[Variable]:
        """Record an operation; return its results. Without a seed, a random one draws from the session's generator."""
        with self._lock:
            args = [self._operand(op, x) for x in operands]
            out = [self.outbox.new_id() for _ in range(outputs)]
            command: dict[str, Any] = {"do": "apply", "op": op, "args": args, "out": out}
            if attrs:
                command["attrs"] = attrs
            if is_random:
                command["seed"] = seed
            entry = self._record_flagged(command)
            self._constants.trim()
            is_constant = not is_recording() or op == "stop_gradient"
            is_constant = is_constant or all(x._is_constant for x in operands if type(x) is Variable)
            found = []
            for name in out:
                v = _new(Variable)
                _begin(v, name, entry)
                v._recorder, v.name, v._is_constant = self, None, is_constant
                found.append(v)
            return found

    def _record_flagged(self, command: dict[str, Any]) -> Entry:
        """Record a command, after one that sets the session's flags if they have changed."""
        flags = is_recording(), is_training()
        if flags != self._flags:
            self.outbox.record({"do": "set", "nograd": not flags[0], "train": flags[1]})
            self._flags = flags
        return self.outbox.record(command)

    def _operand(self, op: str, x: Any) -> Any:
        kind = type(x)
        if kind is Variable:
            return self._own(op, x)
        if kind is float or kind is bool or (kind is int and -_LARGEST_INT <= x < _LARGEST_INT):
            return x
        try:
            raw = as_raw(x)
        except InvalidValueError as error:
            raise InvalidValueError(f"{op}: {error.detail}") from None
        return self._constants.id_of(raw) if shape_of(raw) else np.asarray(raw)

    def _own(self, what: str, v: Variable) -> str:
        """Return the id of a variable of this session.

        Raises:
            WrongConnectionError: the variable belongs to another connection.
        """
        if v._recorder is not self:
            raise WrongConnectionError(
                f"{what}: its variables belong to two connections; bring one over by its value: Variable(x.data)"
            )
        found: str = self.id_of(v)
        return found


def _begin(v: Variable, name: str, entry: Entry | None) -> None:
    """Initialize the fields of a variable: it has an id, and nothing else is known."""
    v._id, v._entry = name, entry
    v._raw = v._known = v._grad_raw = v._grad_ref = v._owner = None
    v._grad_at = -1
    v._is_constant = False


def _nbytes(v: Variable) -> float:
    """Return the size of a variable in bytes; infinity if its shape is unknown here."""
    if v._raw is not None:
        return np.asarray(v._raw).nbytes
    return math.inf if v._known is None else math.prod(v._known[0]) * v._known[1].itemsize
