"""A Python function as a program: it is called on symbols, which write down what is done with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pullback.errors import InvalidValueError, TraceError
from pullback.lost_derivatives import advice, place
from pullback.operators import Operators
from pullback.recording.constants import content_of
from pullback.remote.documents import JSON
from pullback.table import CALLS
from pullback.values import Shape, Value, as_raw, dtype_of, shape_of

if TYPE_CHECKING:
    from pullback.remote.client import Client


_LARGEST_INT = 2**63


class Symbol(Operators):
    """Stands for a value of a program: an input or the result of a node."""

    __slots__ = ("name", "trace")
    _alone = ""

    def __init__(self, trace: Trace, name: str) -> None:
        self.trace = trace
        self.name = name

    @property
    def shape(self) -> Shape:
        """Lengths of the axes; the server is asked, once for all that was traced so far."""
        return self.trace.about(self.name)[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64, float32, int64 or bool."""
        return self.trace.about(self.name)[1]

    def __getitem__(self, index: Any) -> Any:
        return CALLS["slice"](self, index if isinstance(index, tuple) else (index,))

    def _refuse(self, *_: Any) -> Any:
        raise TraceError(
            "a value was looked at inside of a function that is traced, where there is none yet. Compute with it "
            "instead (functions.where in place of if, and in place of a mask x[condition]), take what decides as "
            f"another argument, or look at it outside{advice()}{place()}"
        )

    data = grad = creator = property(_refuse)
    item = backward = cleargrad = unchain = unchain_backward = _refuse
    __bool__ = __float__ = __int__ = __index__ = __array__ = _refuse

    def __format__(self, spec: str) -> str:
        return str(self._refuse() if spec else self)

    def __repr__(self) -> str:
        return f"symbol({self.name})"


class Trace:
    """What was written down: nodes, and the values of inputs by name."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.nodes: list[dict[str, Any]] = []
        self.inputs: dict[str, Value] = {}
        self._known: dict[str, tuple[Shape, np.dtype[Any]]] = {}
        self._arrays: dict[tuple[Any, ...], Symbol] = {}
        self._count = 0
        #: The function that was traced has returned.
        self.is_over = False

    def input(self, raw: Value) -> Symbol:
        """A new input with that value."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = raw
        self._known[name] = shape_of(raw), dtype_of(raw)
        return Symbol(self, name)

    def node(self, op: str, args: Sequence[Any], attrs: dict[str, Any] | None = None, outputs: int = 1) -> list[Symbol]:
        """A new node.

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
        if hasattr(x, "_recorder"):
            raise TraceError(
                f"{op}: a Variable of a session stands inside of a function that is traced; give its value (x.data), "
                "as an argument where it is to be differentiated"
            )
        try:
            raw = as_raw(x)
        except InvalidValueError as error:
            raise InvalidValueError(f"{op}: {error.detail}") from None
        key = content_of(np.asarray(raw))
        if key not in self._arrays:
            self._arrays[key] = self.input(raw)
        return self._arrays[key].name

    def check_own(self, op: str, x: Symbol) -> None:
        """Make sure that a symbol stands for a value of this trace.

        Raises:
            TraceError: it does not.
        """
        if x.trace is not self:
            raise TraceError(f"{op}: a symbol of a function that was traced before is of no use any more{place()}")

    def _is_written(self, x: float) -> bool:
        """Whether it stands in a graph as it is: in JSON, words for numbers would be names there."""
        return math.isfinite(x) or self.client.settings.media_type != JSON

    def symbol(self, x: Any) -> Symbol:
        """Anything as a symbol that nothing else is: what is differentiated by it goes through it alone."""
        return self.node("mul", [x if type(x) is Symbol else self.input(as_raw(x)), 1.0])[0]

    def program(self, outputs: Sequence[str]) -> tuple[dict[str, Any], dict[str, Value]]:
        """What gives these outputs: the graph, and the inputs that it needs."""
        needed, nodes = set(outputs), []
        for node in reversed(self.nodes):
            ids = [node["id"]] if isinstance(node["id"], str) else node["id"]
            if not needed.isdisjoint(ids):
                needed.update(x for x in node["args"] if type(x) is str)
                nodes.append(node)
        inputs = {name: raw for name, raw in self.inputs.items() if name in needed}
        return {"nodes": nodes[::-1], "outputs": list(outputs)}, inputs

    def about(self, name: str) -> tuple[Shape, np.dtype[Any]]:
        """Shape and dtype of what is called so."""
        if name not in self._known:
            graph, needed = self.program([name])
            inputs = {key: {"shape": list(shape_of(raw)), "dtype": str(dtype_of(raw))} for key, raw in needed.items()}
            found = self.client.infer(graph=graph, inputs=inputs)
            for key, one in found.nodes.items():
                self._known[key] = tuple(one["shape"]), np.dtype(one["dtype"])
        return self._known[name]


def apply(op: str, operands: Sequence[Any], attrs: dict[str, Any] | None, outputs: int) -> list[Any]:
    """Writes an operation down."""
    trace = next(x.trace for x in operands if type(x) is Symbol)
    return list(trace.node(op, operands, attrs, outputs))
