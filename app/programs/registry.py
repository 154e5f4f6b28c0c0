"""Registered programs: requests are stored as programs, ids and names are resolved to graphs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from app.programs import packing
from app.programs.limits import ProgramLimits
from app.programs.parts import Source
from app.programs.service import read_bound
from app.stores import Listed, Program, Store, damaged
from app.stores.base import Deletion, is_id
from app.stores.owners import ANYONE, Caller
from engine.core import InvalidValueError, LimitExceededError, Lru, aval, nearest
from engine.graph import Graph, check_limit, quoted
from engine.plans import Plans
from engine.programs import program_id

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_LONGEST_NAME = 200
#: Bytes of the objects of a graph, as a multiple of the bytes of its document.
_BYTES_PER_CHARACTER = 15
#: Entries of the cache, which its bytes limit first unless graphs are very small.
_MOST_GRAPHS = 1_000_000


class UnknownProgramError(Exception):
    """There is no registered program of this id or name."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of programs, and where the next page begins; None after the last."""

    programs: list[Listed]
    next: int | None


class Registry:
    """The registered programs of a store.

    Graphs are cached as far as there is room. The store is asked for every id and name each time: another process may
    have deleted a program or moved a name. The content of an id never changes.
    """

    def __init__(self, store: Store, limits: ProgramLimits, cache_bytes: int, plans: Plans | None = None) -> None:
        self.store = store
        self.plans = plans
        self._limits = limits
        self._ready: Lru[str, Graph] = Lru(_MOST_GRAPHS, cache_bytes)
        self._ids: WeakKeyDictionary[Graph, str] = WeakKeyDictionary()

    def register(
        self,
        source: Source,
        *,
        name: str | None = None,
        declared: Mapping[str, Any],
        bound: Mapping[str, Any],
        replace: bool = False,
        caller: Caller = ANYONE,
    ) -> tuple[Program, bool]:
        """Store the program that a request describes.

        Args:
            source: the program.
            name: for it, beside its id and the names that it has already.
            declared: declarations of inputs, as documents.
            bound: values of inputs that are fixed for good, as documents.
            replace: take the name from another program if it has it.
            caller: the owner.

        Returns:
            The stored program, and whether it is new.

        Raises:
            UnknownProgramError: the source is a registered program that is not there.
            NameConflictError: the name belongs to another program.
            ForbiddenError: the name belongs to another owner.
            AutogradError: of the kind of the request's faults.
        """
        found = []
        if name is not None and (fault := name_fault(name)):
            found.append(InvalidValueError(fault, ("name",)))
        if replace and name is None:
            found.append(InvalidValueError('replace: true moves a name; give "name" too', ("replace",)))
        graph = read_bound(source, declared, bound, limits=self._limits, find=self.graph, found=found)
        return self.add(graph, name, replace=replace, caller=caller)

    def add(
        self, graph: Graph, name: str | None = None, *, replace: bool = False, caller: Caller = ANYONE
    ) -> tuple[Program, bool]:
        """Store a program; see `register`."""
        return self.store.add_program(*self.pack(graph, name), replace=replace, caller=caller)

    def pack(self, graph: Graph, name: str | None = None) -> tuple[Program, dict[str, bytes]]:
        """Pack a program for the store; return it with the bytes of its bound arrays by digest.

        Raises:
            LimitExceededError: it has too many nodes.
        """
        check_limit("nodes", len(graph.nodes), self._limits.cost.max_nodes, "the program")
        return packing.pack(graph, name, self._limits.cost)

    def graph(self, key: str) -> Graph:
        """Return the graph of a program by its id or a name.

        Raises:
            UnknownProgramError: there is none.
            StoreUnavailableError: it is damaged.
        """
        found = self.resolve(key)
        graph = self._ready.get(found)
        if graph is None:
            program = self._load(key, found)
            graph = self._build(key, program)
            size = len(program.document) * _BYTES_PER_CHARACTER + sum(aval(x).nbytes for x in graph.bound.values())
            self._ready.put(found, graph, size)
            self._ids[graph] = found
        return graph

    def identify(self, graph: Graph) -> str:
        """Return the id of a program; that of a graph from this registry is known without hashing its bound arrays."""
        return self._ids.get(graph) or program_id(graph)

    def program(self, key: str) -> Program:
        """Return the stored program of an id or a name, with that name.

        Raises:
            UnknownProgramError: there is none.
            StoreUnavailableError: it is damaged.
        """
        program = self._load(key, self.resolve(key))
        packing.check_summary(program)
        return program if key == program.id else replace(program, name=key)

    def page(self, limit: int, after: int = 0, caller: Caller = ANYONE) -> Page:
        """Return at most `limit` programs in order of registration; `after` is the `next` of the page before.

        caller: sees its own; an admin sees all.
        """
        found = self.store.list_programs(limit + 1, after, None if caller.is_admin else caller.owner)
        return Page(found[:limit], found[limit - 1].number if len(found) > limit else None)

    def delete(self, key: str, caller: Caller = ANYONE) -> Deletion:
        """Take a program from its owner, and delete it if that was the last one; see `Store`.

        Requests that are running it go on.

        Raises:
            UnknownProgramError: there is none.
            ForbiddenError: only others own it.
        """
        found = self.store.delete_program(key, caller)
        if found is Deletion.NONE:
            raise self._unknown(key)
        return found

    def resolve(self, key: str) -> str:
        """Return the id of the program of an id or a name.

        Raises:
            UnknownProgramError: there is none.
        """
        found = self.store.resolve_program(key)
        if found is None:
            raise self._unknown(key)
        return found

    def _load(self, key: str, found: str) -> Program:
        program = self.store.load_program(found)
        if program is None:
            raise self._unknown(key)
        return program

    def _build(self, key: str, program: Program) -> Graph:
        blobs = self.store.load_blobs([binding.digest for binding in program.bound.values()])
        if any(binding.digest not in blobs for binding in program.bound.values()):
            if self.store.load_program(program.id) is not None:
                raise damaged(program.id, "a bound array is missing")
            # It was deleted in between.
            raise self._unknown(key)
        try:
            return packing.unpack(program, blobs, self._limits)
        except LimitExceededError as error:
            # Limits may be lower than when it was registered.
            raise LimitExceededError(
                f"program {quoted(key)}: {error.detail}", ("program",), limit=error.limit
            ) from None

    def _unknown(self, key: str) -> UnknownProgramError:
        if is_id(key):
            return UnknownProgramError(
                f"there is no program {quoted(key)}: it was never registered, or has expired; evaluating a "
                "program tells its id but does not register it, POST /v1/programs with the same program does"
            )
        near = nearest(key[:_LONGEST_NAME], self.store.program_names())
        return UnknownProgramError(f"there is no program {quoted(key)}{near}")


def name_fault(name: str) -> str:
    """Explain why a text cannot be the name of a program; empty if it can.

    >>> name_fault("p_1")
    'name "p_1": names do not begin with p_, as ids do'
    """
    if len(name) > _LONGEST_NAME:
        return f"name {quoted(name)} is {len(name):,} letters long; a name has at most {_LONGEST_NAME}"
    if not _NAME.fullmatch(name):
        rule = "a name has letters a to z, digits, _, . and -, and begins with a letter or _"
        return f"name {quoted(name)}: {rule}"
    if name.startswith("p_"):
        return f"name {quoted(name)}: names do not begin with p_, as ids do"
    return ""
