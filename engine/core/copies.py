"""Deep copies and pickles of variables with their tapes, of any length, without recursion.

`copy.deepcopy` and `pickle` visit the parts of each object and would recurse down a tape level by level. Therefore all
variables from which one is computed, gradients included, are copied as one object that holds flat lists. Variables that
share operands still share them after the copy.
"""

import copyreg
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any
from weakref import ref

from engine.core.values import DTYPES, Value
from engine.core.variable import Variable

#: The position of a variable on the same tape, a variable of another tape, or None.
Reference = int | Variable | None


class Tape:
    """Variables that are copied as one object; lives only while a copy is made."""

    __slots__ = ("__weakref__", "positions", "variables")

    def __init__(self, variables: Sequence[Variable]) -> None:
        self.variables = variables
        self.positions = {id(v): i for i, v in enumerate(variables)}

    def __reduce__(self) -> tuple[object, ...]:
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
        """Record of a variable's operation and operands; a saved operand that is its variable's data becomes None."""
        pairs = list(zip(v._parents, v._saved, strict=True))
        saved = [None if type(p) is Variable and p._data is raw else raw for p, raw in pairs]
        return self._reference(v._grad), v._op, [self._reference(p) for p, _ in pairs], saved, v._attrs

    def _reference(self, v: object) -> Reference:
        return self.positions.get(id(v), v) if type(v) is Variable else None

    def _found(self, reference: Reference) -> Any:
        return self.variables[reference] if type(reference) is int else reference


class _Copying(threading.local):
    """Tapes that the current thread is copying, by the `id` of each of their variables."""

    def __init__(self) -> None:
        self.tapes: dict[int, ref[Tape]] = {}

    def add(self, tape: Tape) -> None:
        """Register a tape, by weak reference."""
        tapes, positions = self.tapes, tape.positions

        def forget(gone: "ref[Tape]") -> None:
            for key in positions:
                if tapes.get(key) is gone:
                    del tapes[key]

        tapes.update(dict.fromkeys(positions, ref(tape, forget)))

    def tape(self, v: Variable) -> Tape | None:
        """Return the tape of a variable; None if it lacks a variable that this one now holds."""
        found = self.tapes.get(id(v))
        return None if found is None or any(id(p) not in self.tapes for p in _linked(v)) else found()


_copying = _Copying()


def _reduced(v: Variable) -> tuple[Callable[..., Variable], tuple[Tape, int]]:
    """Reduce a variable to a position on a tape, for `pickle` and `copy.deepcopy`."""
    tape = _copying.tape(v)
    if tape is None:
        tape = Tape(_reached(v, _copying.tapes))
        _copying.add(tape)
    return _picked, (tape, tape.positions[id(v)])


def _linked(v: Variable) -> Iterator[Variable]:
    """Yield the variables to which a variable refers: its parents and its gradient."""
    for p in (*v._parents, v._grad):
        if type(p) is Variable:
            yield p


def _reached(v: Variable, known: Container[int]) -> list[Variable]:
    """Return a variable and all variables reachable from it, except those in `known`."""
    found, seen = [v], {id(v)}
    for each in found:  # grows during the loop
        for p in _linked(each):
            if id(p) not in seen and id(p) not in known:
                seen.add(id(p))
                found.append(p)
    return found


def _picked(tape: Tape, position: int) -> Variable:
    return tape.variables[position]


def _restored(data: Sequence[Value], about: Sequence[tuple[str | None, int]]) -> Tape:
    """Return a tape of variables that are not linked yet (see `Tape.__setstate__`)."""
    variables = [Variable._leaf(_native(value)) for value in data]
    for v, (name, generation) in zip(variables, about, strict=True):
        v.name, v.generation = name, generation
    return Tape(variables)


def _native(value: Value) -> Value:
    """Return an unpickled array with NumPy's own dtype object: its dtype is equal, but another object."""
    dtype = DTYPES.get(str(getattr(value, "dtype", None)))
    return value if dtype is None or value.dtype is dtype else value.view(dtype)


copyreg.pickle(Variable, _reduced)
