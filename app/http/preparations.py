"""Cache of requests that were checked once, and are run again and again on other values."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.http.questions import Question
from app.programs.registry import Registry
from app.wire.values import decode
from engine.core import FLOAT64, InvalidValueError, Lru, Value
from engine.graph import normalized
from engine.plans import Cost
from engine.programs import CheckedProgram, Executable

#: Objects that stand for an entry.
_ENTRY_BYTES = 2500
#: Values of so many forms a question is kept ready for.
_MOST_FORMS = 64

#: Python's share of an operation, in floating-point operations that NumPy does meanwhile.
_FLOPS_PER_NODE = 500
_BYTES_PER_FLOP = 8

#: An input's name in the program, and the dtype that is declared of it.
Name = tuple[str, "np.dtype[Any] | None"]
#: Of each value its shape and dtype, None for a float.
Forms = tuple[Any, ...]


def weight(cost: Cost) -> int:
    """Return a cost as one figure: time goes into operations, into the memory of results, and into Python."""
    return cost.flops + cost.bytes // _BYTES_PER_FLOP + cost.nodes * _FLOPS_PER_NODE


@dataclass(frozen=True, slots=True)
class Entry:
    """A checked request without its values.

    program: id of the program.
    weight: cost of a run, as one figure.
    nbytes: size in memory.
    cold_s: seconds of one processor that preparing took.
    """

    executable: Executable[Any]
    program: str
    weight: int
    nbytes: int
    cold_s: float


@dataclass(frozen=True, slots=True)
class _Known:
    """Entries of a question by the forms of its values; names: its inputs, in the order in which it has them."""

    names: tuple[Name, ...]
    entries: Mapping[Forms, Entry]


@dataclass(slots=True)
class Hit:
    """An entry for a question, with the question's values."""

    entry: Entry
    inputs: Mapping[str, Value]
    along: Mapping[str, Value]
    seed: int | None

    def run(self) -> Any:
        """Return the result.

        Raises:
            InvalidValueError: of values that this cannot be run on.
        """
        return self.entry.executable.run(self.inputs, along=self.along, seed=self.seed)


class Preparations:
    """Cache of prepared requests, by question and by the forms of its values.

    The program of an id never changes, but a name may be moved and a program deleted: the store is asked each time.
    Errors are not cached.

    Args:
        registry: finds registered programs.
        limit_entries, limit_bytes: size of the cache.
    """

    def __init__(self, registry: Registry, limit_entries: int, limit_bytes: int) -> None:
        self._registry = registry
        self.kept: Lru[tuple[Any, ...], _Known] = Lru(limit_entries, limit_bytes)
        self._lock = threading.Lock()

    def find(self, question: Question) -> Hit | None:
        """Return the entry for a question; None if there is none, or if its values are not right.

        Raises:
            UnknownProgramError: it names a program that is not there.
            StoreUnavailableError: the store does not answer.
        """
        program = "" if question.program is None else self._registry.resolve(question.program)
        known = self.kept.get((question.key, program))
        if known is None:
            return None
        along: dict[str, Value] = {}
        try:
            inputs, forms = _decoded(known.names, question.inputs)
            if question.along:
                along, more = _directions(question)
                forms += more
        except InvalidValueError:
            return None
        entry = known.entries.get(forms)
        return None if entry is None else Hit(entry, inputs, along, question.seed)

    def keep(self, question: Question, checked: CheckedProgram[Any], cold_s: float) -> Entry:
        """Keep what was prepared, in so many seconds, for a question and values of its forms."""
        graph = checked.call.graph
        program = self._registry.identify(graph)
        executable = checked.executable.without_values()
        entry = Entry(executable, program, weight(checked.cost), executable.nbytes + _ENTRY_BYTES, cold_s)
        dtypes = {declared.name: declared.dtype for declared in graph.inputs}
        names = tuple((name, dtypes.get(name)) for name in map(normalized, question.inputs))
        # The forms are those of what the engine was given; directions, which it has kept elsewhere, are read again.
        forms = tuple(_form(checked.call.inputs[name]) for name, _ in names)
        if question.along:
            forms += _directions(question)[1]
        # A name may have been moved meanwhile: what counts is the program that was prepared.
        path, written, *rest = question.key
        # Bytes that were written piece by piece take several times their length.
        key = (path, bytes(bytearray(written)), *rest), "" if question.program is None else program
        with self._lock:
            known = self.kept.get(key)
            before = list(known.entries.items())[1 - _MOST_FORMS :] if known is not None else []
            by_forms = {**dict(before), forms: entry}
            size = _ENTRY_BYTES + len(question.key[1]) + sum(each.nbytes for each in by_forms.values())
            self.kept.put(key, _Known(names, by_forms), size)
        return entry

    def forget(self, question: Question) -> None:
        """Drop the entries of a question that has its program in its key."""
        self.kept.pop((question.key, ""))

    def making(self, question: Question) -> AbstractContextManager[None]:
        """While one prepares an answer to a question, others who would do the same wait."""
        return self.kept.making(question.key)


def _directions(question: Question) -> tuple[dict[str, Value], Forms]:
    return _decoded([(normalized(name), None) for name in question.along], question.along)


def _decoded(names: Sequence[Name], given: Mapping[str, Any]) -> tuple[dict[str, Value], Forms]:
    """Values by name, and the form of each.

    Raises:
        InvalidValueError: one is no value, or does not convert to the dtype of its name.
    """
    values: dict[str, Value] = {}
    forms: Forms = ()
    for (name, dtype), document in zip(names, given.values(), strict=True):
        if type(document) is float and (dtype is None or dtype is FLOAT64):
            values[name] = document
            forms += (None,)
        else:
            values[name] = value = decode(document, (), dtype)
            forms += (_form(value),)
    return values, forms


def _form(value: Value) -> Any:
    return None if type(value) is float else (value.shape, value.dtype)
