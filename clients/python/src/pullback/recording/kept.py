"""Programs of traced functions, kept for later calls that send values alone."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pullback.core.values import Shape, Value, dtype_of, shape_of
from pullback.errors import ProblemError, UnknownProgramError
from pullback.recording.trace import Argument, Held, Source

if TYPE_CHECKING:
    from pullback.remote.client import Client

#: Traces that are kept for one client, and bytes of the arrays that they hold.
_MOST, _MOST_BYTES = 256, 64 * 2**20
#: Graphs from so many nodes on are registered when they are used again; smaller ones are sent each time.
_LARGE = 32


class Program:
    """Graph of a traced function, which is sent as it is or by the id of its registration."""

    def __init__(self, graph: dict[str, Any]) -> None:
        self.graph = graph
        self._lock = threading.Lock()
        self._uses = 0
        self._id: str | None = None
        self._is_refused = len(graph["nodes"]) < _LARGE

    def ask(self, client: Client, call: str, **options: Any) -> Any:
        """Make a call about this program: `evaluate`, `jacobian` and so on. A forgotten one is sent anew.

        Raises:
            PullbackError: as the call does.
        """
        perform = getattr(client, call)
        known = self._registered(client)
        if known is not None:
            try:
                return perform(program=known, **options)
            except UnknownProgramError:
                with self._lock:
                    self._id = None
        return perform(graph=self.graph, **options)

    def id(self, client: Client) -> str:
        """Return the id of the program on the server, where it is registered.

        Raises:
            ProblemError: the server keeps no programs.
        """
        found: str = client.programs.register(graph=self.graph).id
        return found

    def _registered(self, client: Client) -> str | None:
        """The id, from the second use on; None where the server does not keep the program."""
        with self._lock:
            self._uses += 1
            if self._id is None and self._uses > 1 and not self._is_refused:
                try:
                    self._id = self.id(client)
                except ProblemError:
                    self._is_refused = True
            return self._id


@dataclass(frozen=True)
class Result:
    """Leaf of a traced function's result: an output of its program."""

    name: str


@dataclass(frozen=True)
class Traced:
    """Traced function.

    sources: for each input of the program. avals: shape and dtype of each input that the trace made.
    xs: names of the inputs that are differentiated, in order. y, aux: trees with `Result` leaves.
    """

    program: Program
    sources: dict[str, Source]
    avals: dict[str, tuple[Shape, np.dtype[Any]]]
    xs: tuple[str, ...]
    y: Any
    aux: Any
    #: Keeps the objects alive that the key of this trace knows by identity.
    held: Any

    @property
    def nbytes(self) -> int:
        """Size of the arrays that are kept alive, in bytes."""
        owners = {id(x): x for x in self.held if isinstance(x, np.ndarray)}
        owners |= {
            id(s.owner): s.owner
            for s in self.sources.values()
            if isinstance(s, Held) and isinstance(s.owner, np.ndarray)
        }
        return sum(x.nbytes for x in owners.values())

    def bound(self, arguments: Mapping[int, Value]) -> dict[str, Value] | None:
        """Return the inputs for these arguments, and for what the function reads as it is now.

        Returns None where that has another shape or dtype than when it was traced.
        """
        found: dict[str, Value] = {}
        for name, source in self.sources.items():
            if isinstance(source, Held):
                found[name] = source.value()
                if (shape_of(found[name]), dtype_of(found[name])) != self.avals[name]:
                    return None
            else:
                found[name] = arguments[source.place] if isinstance(source, Argument) else source.raw
        return found


class Traces:
    """Traces of one client by key; those that were not used for longest are dropped first. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Traced, int]] = OrderedDict()
        self._nbytes = 0
        self._programs: OrderedDict[bytes, tuple[Program, int]] = OrderedDict()
        self._program_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Traced | None:
        """The trace of a key."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, traced: Traced) -> None:
        """Keep a trace."""
        nbytes = traced.nbytes
        with self._lock:
            self._drop(key)
            self._kept[key] = traced, nbytes
            self._nbytes += nbytes
            while len(self._kept) > 1 and (len(self._kept) > _MOST or self._nbytes > _MOST_BYTES):
                self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._nbytes -= found[1]

    def program(self, graph: dict[str, Any]) -> Program:
        """The program of a graph: the same one for equal graphs, so that it is registered once."""
        text = repr(graph).encode()
        key = hashlib.blake2b(text).digest()
        with self._lock:
            found = self._programs.get(key)
            if found is None:
                found = self._programs[key] = Program(graph), len(text)
                self._program_bytes += len(text)
            self._programs.move_to_end(key)
            while len(self._programs) > 1 and (len(self._programs) > _MOST or self._program_bytes > _MOST_BYTES):
                self._program_bytes -= self._programs.popitem(last=False)[1][1]
            return found[0]


_lock = threading.Lock()


def traces_of(client: Client) -> Traces:
    """The traces that are kept for a client, for as long as it lives."""
    with _lock:
        found: Traces = client._kept.setdefault("traces", Traces())
        return found
