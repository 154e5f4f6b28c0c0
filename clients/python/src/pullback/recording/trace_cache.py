"""Cache of traced functions and their programs: a later call sends values alone."""

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
from pullback.recording.trace import Argument, Capture, Source

if TYPE_CHECKING:
    from pullback.remote.client import Client

#: Limits of the cache of one client: entries, and bytes of the arrays that they hold.
_MOST, _MOST_BYTES = 256, 64 * 2**20
#: Number of nodes from which a graph is registered at its second use; smaller ones are sent each time.
_LARGE = 32


class Program:
    """Graph of a traced function, sent as a document or, once registered, by its id."""

    def __init__(self, graph: dict[str, Any]) -> None:
        self.graph = graph
        self._lock = threading.Lock()
        self._uses = 0
        self._id: str | None = None
        self._is_refused = len(graph["nodes"]) < _LARGE

    def ask(self, client: Client, call: str, **options: Any) -> Any:
        """Make a call with this program: `evaluate`, `jacobian` and so on; send the graph if its id is unknown.

        Raises:
            PullbackError: any error of the call.
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
        """Register the program; return its id.

        Raises:
            ProblemError: the server keeps no programs.
        """
        found: str = client.programs.register(graph=self.graph).id
        return found

    def _registered(self, client: Client) -> str | None:
        """Return the id from the second use on; None if the program is small or the server refuses to keep it."""
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
class TracedFunction:
    """Program of a function, with the sources of its inputs and the form of its result.

    sources, avals: source, shape and dtype of each input by name. xs: names of the differentiated inputs, in order.
    y, aux: trees with `Result` leaves.
    """

    program: Program
    sources: dict[str, Source]
    avals: dict[str, tuple[Shape, np.dtype[Any]]]
    xs: tuple[str, ...]
    y: Any
    aux: Any
    #: Objects that count by identity in the key of this entry.
    held: Any

    @property
    def nbytes(self) -> int:
        """Size of the arrays that are kept alive, in bytes."""
        owners = {id(x): x for x in self.held if isinstance(x, np.ndarray)}
        owners |= {
            id(s.owner): s.owner
            for s in self.sources.values()
            if isinstance(s, Capture) and isinstance(s.owner, np.ndarray)
        }
        return sum(x.nbytes for x in owners.values())

    def bound(self, arguments: Mapping[int, Value]) -> dict[str, Value] | None:
        """Return the inputs for arguments by place, with the present values of captures.

        Returns None if a capture has another shape or dtype than it had when the function was traced.
        """
        found: dict[str, Value] = {}
        for name, source in self.sources.items():
            if isinstance(source, Capture):
                found[name] = source.value()
                if (shape_of(found[name]), dtype_of(found[name])) != self.avals[name]:
                    return None
            else:
                found[name] = arguments[source.place] if isinstance(source, Argument) else source.raw
        return found


class TraceCache:
    """Cache of one client: traced functions by key, least recently used out first. It is safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[TracedFunction, int]] = OrderedDict()
        self._nbytes = 0
        self._programs: OrderedDict[bytes, tuple[Program, int]] = OrderedDict()
        self._program_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> TracedFunction | None:
        """Return the entry for a key."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, traced: TracedFunction) -> None:
        """Add an entry."""
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
        """Return the program of a graph, the same one for equal graphs, so that it is registered once."""
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


def trace_cache_of(client: Client) -> TraceCache:
    """Return the cache of a client, which lives as long as the client."""
    with _lock:
        found: TraceCache = client._caches.setdefault("traces", TraceCache())
        return found
