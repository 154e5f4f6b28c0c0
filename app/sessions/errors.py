"""Errors of sessions, in addition to the engine's; `faults` as in those."""

from engine.core import Fault, Loc


class SessionError(Exception):
    """Base of the errors of sessions."""

    def __init__(self, detail: str, loc: Loc = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults: tuple[Fault, ...] = (Fault(loc, detail),) if loc else ()


class UnknownSessionError(SessionError):
    """There is no session of this id."""


class ExpiredSessionError(SessionError):
    """The session has expired."""


class UnknownVariableError(SessionError):
    """The session has nothing of this id."""


class TakenIdError(SessionError):
    """An id that belongs to something that cannot be rebound."""


class SequenceConflictError(SessionError):
    """A number that is not the one that the session expects next."""

    def __init__(self, detail: str, expected: int) -> None:
        super().__init__(detail, ("seq",))
        self.expected = expected
