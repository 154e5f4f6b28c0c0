"""Deep copies and pickles of variables, with their tapes, however long: without recursion.

`copy.deepcopy` and `pickle` ask for the parts of one object after another, and would go down a tape level by level. All
variables that one is computed from, gradients included, are therefore copied as one object, of flat lists. What is
copied together stays together: variables that share operands share them afterwards.
"""

import copyreg
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any
from weakref import ref

from engine.core.values import DTYPES, Value
from engine.core.variable import Variable

#: A variable of the same tape by its place, one of another tape, or None.
Reference = int | Variable | None


class Tape:
    """Variables that are copied as one; exists as long as a copy is being made."""

    __slots__ = ("__weakref__", "places", "variables")

    def __init__(self, variables: Sequence[Variable]) -> None:
        self.variables = variables
        self.places = {id(v): place for place, v in enumerate(variables)}

    def __reduce__(self) -> tuple[Any, ...]:
        leaves = [v._data for v in self.variables], [(v.name, v.generation) for v in self.variables]
        return _restored, leaves, [self._links(v) for v in self.variables]

    def __setstate__(self, state: Sequence[tuple[Any, ...]]) -> None:
        for v, (grad, op, parents, saved, attrs) in zip(self.variables, state, strict=True):
            v._grad = self._found(grad)
            found = [self._found(parent) for parent in parents]
            pairs = zip(found, saved, strict=True)
            v._saved = tuple(p._data if raw is None and p is not None else _native(raw) for p, raw in pairs)
            v._parents = tuple(raw if p is None else p for p, raw in zip(found, v._saved, strict=True))
            v._op, v._attrs = op, attrs

    def _links(self, v: Variable) -> tuple[Any, ...]:
        """Record of how a variable was computed; None for an operand that is still the data of its variable."""
        pairs = list(zip(v._parents, v._saved, strict=True))
        saved = [None if type(p) is Variable and p._data is raw else raw for p, raw in pairs]
        return self._reference(v._grad), v._op, [self._reference(p) for p, _ in pairs], saved, v._attrs

    def _reference(self, v: Any) -> Reference:
        return self.places.get(id(v), v) if type(v) is Variable else None

    def _found(self, reference: Reference) -> Any:
        return self.variables[reference] if type(reference) is int else reference


class _Copying(threading.local):
    """The tapes of which copies are being made by one thread, by identity of each of their variables."""

    def __init__(self) -> None:
        self.tapes: dict[int, ref[Tape]] = {}

    def add(self, tape: Tape) -> None:
        """Keeps a tape for as long as somebody else does."""
        tapes, places = self.tapes, tape.places

        def forget(gone: "ref[Tape]") -> None:
            for key in places:
                if tapes.get(key) is gone:
                    del tapes[key]

        tapes.update(dict.fromkeys(places, ref(tape, forget)))

    def tape(self, v: Variable) -> Tape | None:
        """The tape of a variable, where it has all that the variable holds now."""
        found = self.tapes.get(id(v))
        return None if found is None or any(id(p) not in self.tapes for p in _linked(v)) else found()


_copying = _Copying()


def _reduced(v: Variable) -> tuple[Callable[..., Variable], tuple[Tape, int]]:
    """A variable as a place on a tape, for `pickle` and `copy.deepcopy`."""
    tape = _copying.tape(v)
    if tape is None:
        tape = Tape(_reached(v, _copying.tapes))
        _copying.add(tape)
    return _picked, (tape, tape.places[id(v)])


def _linked(v: Variable) -> Iterator[Variable]:
    """The variables that one holds."""
    for p in (*v._parents, v._grad):
        if type(p) is Variable:
            yield p


def _reached(v: Variable, known: Container[int]) -> list[Variable]:
    """A variable and all that it holds, directly or not, but for those that are being copied already."""
    found, seen = [v], {id(v)}
    for each in found:  # grows while it is read
        for p in _linked(each):
            if id(p) not in seen and id(p) not in known:
                seen.add(id(p))
                found.append(p)
    return found


def _picked(tape: Tape, place: int) -> Variable:
    return tape.variables[place]


def _restored(data: Sequence[Value], about: Sequence[tuple[str | None, int]]) -> Tape:
    """A tape whose variables know nothing of each other yet."""
    variables = [Variable._leaf(_native(value)) for value in data]
    for v, (name, generation) in zip(variables, about, strict=True):
        v.name, v.generation = name, generation
    return Tape(variables)


def _native(value: Any) -> Any:
    """An array that was unpickled has a dtype that is equal to NumPy's own, but is another object."""
    dtype = DTYPES.get(str(getattr(value, "dtype", None)))
    return value if dtype is None or value.dtype is dtype else value.view(dtype)


copyreg.pickle(Variable, _reduced)
