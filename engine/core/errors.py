"""Every error that the engine raises, and the collector that reports many at once.

The order of the classes below is the order in which faults are reported: where a program has several kinds, the first
kind answers, with all its places.
"""

from collections.abc import Iterable
from typing import NamedTuple, Never, Self

Loc = tuple[str | int, ...]


class Fault(NamedTuple):
    """One place that is wrong: a path into the document (empty for a local call) and what is wrong with it.

    limit: where a limit refuses, its name: depth, chain, nodes, elements, bytes or flops.
    """

    loc: Loc
    msg: str
    limit: str = ""


class AutogradError(Exception):
    """Base of all: `detail` says what was given and what was expected, `faults` every place of this kind."""

    def __init__(self, detail: str, loc: Loc = (), *, faults: Iterable[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults) or (Fault(loc, detail),)

    def of(self, name: str) -> Self:
        """The same error with the name of an operation before what it says."""
        faults = [fault._replace(msg=f"{name}: {fault.msg}") for fault in self.faults]
        return type(self)(f"{name}: {self.detail}", faults=faults)


class InvalidValueError(AutogradError):
    """A value that cannot be taken: ragged, of an unknown dtype, an index out of range, lossy to convert."""


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
    """A name that is neither an input that was given nor a node."""


class CycleError(AutogradError):
    """Nodes that depend on themselves."""


class ShapeMismatchError(AutogradError):
    """Shapes that do not fit together."""


class NotScalarError(AutogradError):
    """One element was needed, more were given."""


class NotDifferentiableError(AutogradError):
    """A derivative of, or with respect to, something that is not floating or has none."""


class NoGradError(AutogradError):
    """A backward pass was asked for where none is recorded."""


class NoGradientError(AutogradError):
    """A gradient was asked for where there is none."""


class StaleDataError(AutogradError):
    """The data of a variable was replaced after the forward pass that a higher-order backward needs."""


class LostDerivativeError(AutogradError):
    """A value under differentiation would become a plain number or array, which has no derivative."""


class LeakedValueError(AutogradError):
    """A value of a transform is used after the transform has ended."""


class NotSupportedError(AutogradError):
    """A feature that this release does not have."""


class LimitExceededError(AutogradError):
    """A cost above a limit; nothing has run. `limit` is the limit's name, as in `Fault`."""

    def __init__(self, detail: str, loc: Loc = (), *, limit: str = "", faults: Iterable[Fault] = ()) -> None:
        super().__init__(detail, faults=tuple(faults) or (Fault(loc, detail, limit),))

    @property
    def limit(self) -> str:
        """Name of the limit that refuses; empty where it has none."""
        return next((fault.limit for fault in self.faults if fault.limit), "")


class LostDerivativeWarning(UserWarning):
    """The value of a recorded variable was taken without its derivative: `float(v)`, `math.sin(v)`, `Variable(v)`."""


ORDER: tuple[type[AutogradError], ...] = tuple(AutogradError.__subclasses__())


#: As many places of one kind are listed.
MAX_FAULTS = 100


class Faults:
    """Collects faults while a document is checked.

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
        """Notes one fault and goes on; beyond MAX_FAULTS of a kind, no more are kept."""
        found = self._found.setdefault(kind, [])
        if len(found) < MAX_FAULTS:
            found.append(Fault(loc, msg, limit))

    def is_full(self, kind: type[AutogradError]) -> bool:
        """Whether looking for more faults of a kind is of no use."""
        return len(self._found.get(kind, ())) >= MAX_FAULTS

    def take(self, error: AutogradError, loc: Loc = ()) -> None:
        """Notes the faults of an error that was caught, `loc` before their places."""
        for fault in error.faults:
            self.add(type(error), fault.msg, loc + fault.loc, fault.limit)

    def check(self) -> None:
        """Raises the first kind found, in the order of this module, with all its places; returns if there is none.

        Raises:
            AutogradError: of the kind found.
        """
        for kind in ORDER:
            if kind in self._found:
                _fail(kind, self._found[kind])


def _fail(kind: type[AutogradError], faults: list[Fault]) -> Never:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise kind(faults[0].msg + more, faults=faults)
