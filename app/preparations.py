"""Requests that were checked once and are run again and again on other values: a cache of what is ready to run."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.limits import weight
from app.lru import Lru
from app.programs import decode
from app.questions import Question
from app.registry import Registry
from engine.errors import InvalidValueError
from engine.graph.evaluate import Prepared
from engine.graph.names import normalized
from engine.graph.request import Derivative
from engine.values import FLOAT64, Value, aval

#: Objects that stand for an entry.
_ENTRY_BYTES = 1000
#: A part of the bytes is for what is known of questions.
_SHARE_OF_NAMES = 8

#: An input's name in the program, and the dtype that is declared of it.
Name = tuple[str, "np.dtype[Any] | None"]
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """What was checked, without values.

    program: the id of the program.
    weight: what a run costs, all in one figure.
    """

    prepared: Prepared | Derivative
    program: str
    weight: int


@dataclass(frozen=True, slots=True)
class Found:
    """What is ready for a question, and the question's values."""

    ready: Ready
    inputs: Mapping[str, Value]
    along: Mapping[str, Value]
    seed: int | None

    def run(self) -> Any:
        """The result.

        Raises:
            InvalidValueError: of values that this cannot be run on.
        """
        return self.ready.prepared.run(self.inputs, along=self.along, seed=self.seed)


class Preparations:
    """Keeps what was prepared for a question, for values of each form.

    Whatever an id of a program stands for never changes, but a name may be moved and a program deleted: the store is
    asked for it each time. Errors are not kept.

    Args:
        registry: finds registered programs.
        limit_entries, limit_bytes: how much is kept.
    """

    def __init__(self, registry: Registry, limit_entries: int, limit_bytes: int) -> None:
        self._registry = registry
        of_names = limit_bytes // _SHARE_OF_NAMES
        self.names: Lru[Key, tuple[Name, ...]] = Lru(limit_entries, of_names)
        self.ready: Lru[Key, Ready] = Lru(limit_entries, limit_bytes - of_names)
        self._lock = threading.Lock()
        self._making: dict[Key, tuple[threading.Lock, int]] = {}

    def find(self, question: Question) -> Found | None:
        """What is ready for a question; None where nothing is, or where its values are not right.

        Raises:
            UnknownProgramError: it names a program that is not there.
            StoreUnavailableError: the store does not answer.
        """
        key = self._key(question)
        names = self.names.get(key)
        if names is None:
            return None
        try:
            inputs, forms = _decoded(names, question.inputs)
            along, more = _decoded([(normalized(name), None) for name in question.along], question.along)
        except InvalidValueError:
            return None
        ready = self.ready.get((key, forms, more))
        return None if ready is None else Found(ready, inputs, along, question.seed)

    def keep(self, question: Question, prepared: Prepared | Derivative) -> Ready:
        """Keeps what was prepared for a question and values of its forms."""
        graph = prepared.application.graph
        ready = Ready(prepared.without_values(), self._registry.identify(graph), weight(prepared.cost))
        dtypes = {declared.name: declared.dtype for declared in graph.inputs}
        names = tuple((name, dtypes.get(name)) for name in map(normalized, question.inputs))
        # A name may have been moved meanwhile: what counts is the program that was prepared.
        key = question.key, "" if question.program is None else ready.program
        # The forms are those of what the engine was given; directions are read once more.
        forms = tuple(_form(prepared.application.inputs[name]) for name, _ in names)
        _, more = _decoded([(normalized(name), None) for name in question.along], question.along)
        written = len(key[0][1]) + _ENTRY_BYTES
        bound = sum(aval(value).nbytes for value in graph.bound.values())
        self.names.put(key, names, written)
        self.ready.put((key, forms, more), ready, written + prepared.nbytes + bound)
        return ready

    @contextmanager
    def making(self, question: Question) -> Iterator[None]:
        """While one prepares an answer to a question, others who would do the same wait."""
        key = question.key
        with self._lock:
            lock, waiting = self._making.get(key) or (threading.Lock(), 0)
            self._making[key] = lock, waiting + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, waiting = self._making[key]
                if waiting == 1:
                    del self._making[key]
                else:
                    self._making[key] = lock, waiting - 1

    def _key(self, question: Question) -> Key:
        if question.program is None:
            return question.key, ""
        return question.key, self._registry.resolve(question.program)


def _decoded(names: Any, given: Mapping[str, Any]) -> tuple[dict[str, Value], tuple[Any, ...]]:
    """Values by name, and the form of each.

    Raises:
        InvalidValueError: one is no value, or does not convert to the dtype of its name.
    """
    values: dict[str, Value] = {}
    forms = []
    for (name, dtype), document in zip(names, given.values(), strict=True):
        if type(document) is float and (dtype is None or dtype is FLOAT64):
            value = document
        else:
            value = decode(document, (), dtype)
        values[name] = value
        forms.append(_form(value))
    return values, tuple(forms)


def _form(value: Value) -> Any:
    """Shape and dtype; None for a float, which most values are."""
    return None if type(value) is float else (value.shape, value.dtype)
