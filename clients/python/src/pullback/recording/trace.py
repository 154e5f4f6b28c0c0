"""Tracing: a Python function is called on symbols, whose operations become the nodes of a program."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pullback.core.current import tracing
from pullback.core.lost_derivatives import advice, place
from pullback.core.operators import Operators
from pullback.core.table import CALLS
from pullback.core.values import Shape, Value, as_raw, dtype_of, shape_of
from pullback.errors import InvalidValueError, TraceError
from pullback.recording.constants import content_of
from pullback.remote.documents import JSON

if TYPE_CHECKING:
    from pullback.remote.client import Client


_LARGEST_INT = 2**63


@dataclass(frozen=True)
class Argument:
    """Input of a program: the leaf at that place among the arguments of a call."""

    place: int


@dataclass(frozen=True)
class Capture:
    """Input of a program: an array or a Variable that the function reads; each call sends its present value."""

    owner: Any

    def value(self) -> Value:
        """Return the present value.

        Raises:
            PullbackError: the value of a Variable cannot be fetched.
        """
        return as_raw(self.owner)


@dataclass(frozen=True)
class Constant:
    """Input of a program: a value that cannot change."""

    raw: Value


Source = Argument | Capture | Constant


class Symbol(Operators):
    """Stands for a value of a program: an input or the result of a node."""

    __slots__ = ("name", "trace")
    _alone = ""

    def __init__(self, trace: Trace, name: str) -> None:
        self.trace = trace
        self.name = name

    @property
    def shape(self) -> Shape:
        """Lengths of the axes; the server infers them, in one request for everything traced so far."""
        return self.trace.about(self.name)[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64, float32, int64 or bool."""
        return self.trace.about(self.name)[1]

    def __getitem__(self, index: Any) -> Any:
        return CALLS["slice"](self, index if isinstance(index, tuple) else (index,))

    def _refuse(self, *_: Any) -> Any:
        raise TraceError(
            "the value of a symbol was read inside of a function that is traced, when it has none yet. Compute with "
            "the symbol (functions.where in place of `if` and of a mask x[condition]), pass the value that decides as "
            f"another argument, or read it outside{advice()}{place()}"
        )

    data = grad = creator = property(_refuse)
    item = backward = cleargrad = unchain = unchain_backward = _refuse
    __bool__ = __float__ = __int__ = __index__ = __array__ = _refuse

    def __format__(self, spec: str) -> str:
        return str(self._refuse() if spec else self)

    def __repr__(self) -> str:
        return f"symbol({self.name})"


class Trace:
    """Record of the operations of a function: nodes, and inputs by name with their sources."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.nodes: list[dict[str, Any]] = []
        self.inputs: dict[str, Source] = {}
        self.known: dict[str, tuple[Shape, np.dtype[Any]]] = {}
        self._constants: dict[tuple[Any, ...], Symbol] = {}
        #: Symbols of captures by identity, of arrays by identity and content.
        self._captures: dict[tuple[Any, ...], Symbol] = {}
        #: Keys and values of captured arrays at the time of their capture.
        self._snapshots: dict[str, tuple[tuple[Any, ...], Value]] = {}
        self._count = 0
        #: True once the function has returned.
        self.is_over = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Span in which operations are added to this trace."""
        token = tracing.set(self)
        try:
            yield
        finally:
            tracing.reset(token)

    def input(self, source: Source, shape: Shape, dtype: np.dtype[Any]) -> Symbol:
        """Add an input."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = source
        self.known[name] = shape, dtype
        return Symbol(self, name)

    def constant(self, x: Any) -> Symbol:
        """Return the input for a value that is not a symbol: a number, a list, an array or a Variable.

        Raises:
            InvalidValueError: the argument is not a value.
        """
        if hasattr(type(x), "_recorder"):
            if (id(x),) not in self._captures:
                self._captures[id(x),] = self.input(Capture(x), x.shape, x.dtype)
            return self._captures[id(x),]
        if isinstance(x, np.ndarray) and x.dtype != object:
            key = id(x), *content_of(x)
            if key not in self._captures:
                raw = as_raw(x)
                self._captures[key] = self.input(Capture(x), shape_of(raw), dtype_of(raw))
                self._snapshots[self._captures[key].name] = key[1:], raw
            return self._captures[key]
        raw = as_raw(x)
        key = content_of(np.asarray(raw))
        if key not in self._constants:
            self._constants[key] = self.input(Constant(raw), shape_of(raw), dtype_of(raw))
        return self._constants[key]

    def node(self, op: str, args: Sequence[Any], attrs: dict[str, Any] | None = None, outputs: int = 1) -> list[Symbol]:
        """Add a node; return its results.

        Raises:
            TraceError: the function that was traced has returned.
        """
        if self.is_over:
            raise TraceError(
                f"{op}: a symbol is used after the function that was traced has returned; return it from the function "
                f"(beside the result with has_aux=True) instead of keeping it{place()}"
            )
        ids = [f"n{self._count + n}" for n in range(outputs)]
        self._count += outputs
        node: dict[str, Any] = {
            "id": ids[0] if outputs == 1 else ids,
            "op": op,
            "args": [self._arg(op, x) for x in args],
        }
        if attrs:
            node["attrs"] = attrs
        self.nodes.append(node)
        return [Symbol(self, name) for name in ids]

    def _arg(self, op: str, x: Any) -> Any:
        if type(x) is Symbol:
            self.check_own(op, x)
            return x.name
        if type(x) is bool or (type(x) is int and abs(x) < _LARGEST_INT) or (type(x) is float and self._is_written(x)):
            return x
        try:
            return self.constant(x).name
        except InvalidValueError as error:
            raise InvalidValueError(f"{op}: {error.detail}") from None

    def check_own(self, op: str, x: Symbol) -> None:
        """Check that a symbol belongs to this trace.

        Raises:
            TraceError: it belongs to another one.
        """
        if x.trace is not self:
            raise TraceError(
                f"{op}: a symbol of a function that was traced before cannot be used in another one{place()}"
            )

    def _is_written(self, x: float) -> bool:
        """Return whether a float can be a literal in a graph; in JSON, NaN and infinity are texts, like names."""
        return math.isfinite(x) or self.client.settings.media_type != JSON

    def symbol(self, x: Any) -> Symbol:
        """Return a value as a symbol of a new node, so that derivatives with respect to it go through it alone."""
        return self.node("mul", [x if type(x) is Symbol else self.constant(x), 1.0])[0]

    def finish(self) -> None:
        """End the trace. A captured array that has changed since becomes a constant with its value at the capture."""
        self.is_over = True
        for name, (content, raw) in self._snapshots.items():
            source = self.inputs[name]
            if isinstance(source, Capture) and content_of(source.owner) != content:
                self.inputs[name] = Constant(raw)
        self._snapshots.clear()

    def program(self, outputs: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Return the graph that computes these outputs, and the names of the inputs that it needs."""
        needed, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if not needed.isdisjoint(self.ids(node)):
                needed.update(x for x in node["args"] if type(x) is str)
                nodes.append(node)
        return {"nodes": nodes[::-1], "outputs": list(outputs)}, [name for name in self.inputs if name in needed]

    @staticmethod
    def ids(node: dict[str, Any]) -> list[str]:
        """Return the names of a node's results."""
        return [node["id"]] if isinstance(node["id"], str) else list(node["id"])

    def copy(self, begin: int, end: int, others: dict[str, str]) -> dict[str, str]:
        """Copy the nodes of a span that depend on given values, with other values in their place.

        others: names of the other values by the names of the given ones.
        Returns the names of the copies by the names of the originals, together with `others`.
        """
        names = dict(others)
        for node in self.nodes[begin:end]:
            if names.keys().isdisjoint(x for x in node["args"] if type(x) is str):
                continue
            for name in self.ids(node):
                names[name] = f"n{self._count}"
                self._count += 1
                if name in self.known:
                    self.known[names[name]] = self.known[name]
            made = [names[name] for name in self.ids(node)]
            args = [names.get(x, x) if type(x) is str else x for x in node["args"]]
            self.nodes.append({**node, "id": made[0] if isinstance(node["id"], str) else made, "args": args})
        return names

    def about(self, name: str) -> tuple[Shape, np.dtype[Any]]:
        """Return shape and dtype of an input or a node; the server infers those that are unknown."""
        if name not in self.known:
            graph, needed = self.program([name])
            known = {key: self.known[key] for key in needed}
            inputs = {key: {"shape": list(shape), "dtype": str(dtype)} for key, (shape, dtype) in known.items()}
            found = self.client.infer(graph=graph, inputs=inputs)
            for key, one in found.nodes.items():
                self.known[key] = tuple(one["shape"]), np.dtype(one["dtype"])
        return self.known[name]


def dependents(nodes: Sequence[dict[str, Any]], names: Sequence[str]) -> set[str]:
    """Return these names, and those of all nodes that depend on them."""
    found = set(names)
    for node in nodes:
        if not found.isdisjoint(x for x in node["args"] if type(x) is str):
            found.update(Trace.ids(node))
    return found


def apply(op: str, operands: Sequence[Any], attrs: dict[str, Any] | None, outputs: int) -> list[Any]:
    """Add an operation to the trace of its symbols or, if it has none, to the current trace."""
    trace = next((x.trace for x in operands if type(x) is Symbol), None) or tracing.get()
    assert trace is not None
    return list(trace.node(op, operands, attrs, outputs))
