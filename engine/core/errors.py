"""Errors that the engine raises, and a collector that reports many faults at once.

The order of the classes below is the order in which faults are reported: if a program has several kinds of faults, the
first kind is raised, with all its places.
"""

from collections.abc import Iterable
from typing import NamedTuple, Never, Self

Loc = tuple[str | int, ...]


class Fault(NamedTuple):
    """One fault: its path in the document (empty for a local call) and its message.

    limit: name of the exceeded limit, if any: depth, chain, nodes, elements, bytes or flops.
    """

    loc: Loc
    msg: str
    limit: str = ""


class AutogradError(Exception):
    """Base of all errors. detail: the given and the expected value. faults: every fault of this kind."""

    def __init__(self, detail: str, loc: Loc = (), *, faults: Iterable[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults) or (Fault(loc, detail),)

    def of(self, name: str) -> Self:
        """Return the same error with its messages prefixed with the name of an operation."""
        faults = [fault._replace(msg=f"{name}: {fault.msg}") for fault in self.faults]
        return type(self)(f"{name}: {self.detail}", faults=faults)


class InvalidValueError(AutogradError):
    """A value that is not accepted: ragged, of an unknown dtype, an index out of range, or a lossy conversion."""


class ProgramSyntaxError(AutogradError):
    """Infix text that does not parse. `line` and `column` count from 1; `text` is the line."""

    def __init__(self, detail: str, line: int = 1, column: int = 1, text: str = "", loc: Loc = ("expr",)) -> None:
        super().__init__(f"line {line}, column {column}: {detail}", loc)
        self.line, self.column, self.text = line, column, text


class UnknownOperationError(AutogradError):
    """An operation that is not in the table."""


class ArityError(AutogradError):
    """Too many or too few operands."""


class BadAttributeError(AutogradError):
    """An attribute that is unknown, missing, of the wrong type or out of range."""


class UnknownNameError(AutogradError):
    """A name that is neither a given input nor a node."""


class CycleError(AutogradError):
    """Nodes that depend on themselves."""


class ShapeMismatchError(AutogradError):
    """Shapes that do not match."""


class NotScalarError(AutogradError):
    """A value that must have one element, but has none or several."""


class NotDifferentiableError(AutogradError):
    """A derivative of, or with respect to, a value that is not floating or not differentiable."""


class NoGradError(AutogradError):
    """A request for a backward pass where nothing is recorded."""


class NoGradientError(AutogradError):
    """A request for a gradient that does not exist."""


class StaleDataError(AutogradError):
    """Data of a variable that was replaced since the forward pass, although the backward pass needs it."""


class LostDerivativeError(AutogradError):
    """A conversion of a value under differentiation to a plain number or array, which has no derivative."""


class LeakedValueError(AutogradError):
    """A value of a transform that is used after the transform has ended."""


class NotSupportedError(AutogradError):
    """A feature that this release does not have."""


class LimitExceededError(AutogradError):
    """A cost above a limit; nothing has run. `limit` is the name of the limit, as in `Fault`."""

    def __init__(self, detail: str, loc: Loc = (), *, limit: str = "", faults: Iterable[Fault] = ()) -> None:
        super().__init__(detail, faults=tuple(faults) or (Fault(loc, detail, limit),))

    @property
    def limit(self) -> str:
        """Name of the exceeded limit; empty if unknown."""
        return next((fault.limit for fault in self.faults if fault.limit), "")


class LostDerivativeWarning(UserWarning):
    """Use of a recorded variable's value without its derivative: `float(v)`, `math.sin(v)`, `Variable(v)`."""


ORDER: tuple[type[AutogradError], ...] = tuple(AutogradError.__subclasses__())


#: Maximum number of faults listed per kind.
MAX_FAULTS = 100


class Faults:
    """Collector of the faults of a document.

    >>> faults = Faults()
    >>> faults.add(UnknownOperationError, 'unknown operation "sine"; nearest: sin', ("graph", "nodes", 0))
    >>> faults.check()
    Traceback (most recent call last):
    engine.core.errors.UnknownOperationError: unknown operation "sine"; nearest: sin
    """

    def __init__(self) -> None:
        self._found: dict[type[AutogradError], list[Fault]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, kind: type[AutogradError], msg: str, loc: Loc = (), limit: str = "") -> None:
        """Record a fault; beyond MAX_FAULTS of a kind, drop it."""
        found = self._found.setdefault(kind, [])
        if len(found) < MAX_FAULTS:
            found.append(Fault(loc, msg, limit))

    def is_full(self, kind: type[AutogradError]) -> bool:
        """Return whether the list of a kind is full: further faults of it would be dropped."""
        return len(self._found.get(kind, ())) >= MAX_FAULTS

    def take(self, error: AutogradError, loc: Loc = ()) -> None:
        """Record the faults of a caught error, with `loc` prepended to their paths."""
        for fault in error.faults:
            self.add(type(error), fault.msg, loc + fault.loc, fault.limit)

    def check(self) -> None:
        """Raise the first kind recorded, in the order of this module, with all its faults; return if there is none.

        Raises:
            AutogradError: of that kind.
        """
        for kind in ORDER:
            if kind in self._found:
                _fail(kind, self._found[kind])


def _fail(kind: type[AutogradError], faults: list[Fault]) -> Never:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise kind(faults[0].msg + more, faults=faults)
