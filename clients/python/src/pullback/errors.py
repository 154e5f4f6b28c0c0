"""Every error of this package. What a server answers with becomes the class that its engine has for it.

PullbackError
    NotConnectedError, WrongConnectionError, TraceError, WrongServerError: something to do differently here
    UnreachableError (RequestTimeoutError): the server could not be asked
    ProblemError: the server said no, with all that it said
        AutogradError: what the engine raises, locally too; its subclasses are named as there
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Loc = tuple[str | int, ...]


class Fault(NamedTuple):
    """One place that is wrong: a path into the request (empty for a local call) and what is wrong with it."""

    loc: Loc
    msg: str


class PullbackError(Exception):
    """Base of all."""


class NotConnectedError(PullbackError):
    """There is no connection to make a variable on, or the one there was is closed."""


class WrongConnectionError(PullbackError):
    """Variables of two connections met in one operation."""


class TraceError(PullbackError):
    """Something was asked of a value that is not there yet: a function is being traced."""


class WrongServerError(PullbackError):
    """What answered is no Pullback server, or one that speaks another contract."""


class UnreachableError(PullbackError, ConnectionError):
    """The server could not be reached, or broke off before its answer was whole. reason: what httpx raised."""

    reason: Exception | None = None


class RequestTimeoutError(UnreachableError, TimeoutError):
    """The answer did not come in time."""


class ProblemError(PullbackError):
    """The server refused a request.

    detail: what was wrong, where, and what would be right. faults: every place of this kind. slug, title, status: what
    kind it is (None, "" and None for an error that was found without asking the server). request_id: finds it in the
    server's log. retry_after_s: when to try again, where the server said so.
    """

    def __init__(
        self,
        detail: str,
        *,
        slug: str | None = None,
        title: str = "",
        status: int | None = None,
        faults: Iterable[Fault] = (),
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.slug = slug
        self.title = title
        self.status = status
        self.faults = tuple(faults) or (Fault((), detail),)
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class UnknownPathError(ProblemError):
    """The server has nothing at this path."""


class MethodNotAllowedError(ProblemError):
    """The path has other methods."""


class UnauthorizedError(ProblemError):
    """A key is needed: `api_key=` or PULLBACK_API_KEY."""


class ForbiddenError(ProblemError):
    """The key does not allow this."""


class RateLimitedError(ProblemError):
    """Too many requests, or too many sessions at once."""


class OverloadedError(ProblemError):
    """The server is busy and its queue is full; nothing was run."""


class UnavailableError(ProblemError):
    """The server cannot do this just now."""


class BodyTooLargeError(ProblemError):
    """The request has more bytes than the server reads."""


class UnsupportedMediaTypeError(ProblemError):
    """The server does not read this form of request."""


class NotAcceptableError(ProblemError):
    """The server does not write this form of answer."""


class MalformedBodyError(ProblemError):
    """The request was no document."""


class UnknownProgramError(ProblemError):
    """There is no program of this id or name."""


class UnknownSessionError(ProblemError):
    """There is no session of this id: it was deleted, or expired some time ago."""


class UnknownVariableError(ProblemError):
    """The session has nothing of this id."""


class ExpiredSessionError(ProblemError):
    """The session was not used for longer than its life."""


class SequenceConflictError(ProblemError):
    """Somebody else used the session; `expected` is the number that it expects next."""

    expected: int | None = None


class NameConflictError(ProblemError):
    """The name belongs to something else."""


class DeadlineExceededError(ProblemError):
    """The work took longer than the server allows."""


class InternalServerError(ProblemError):
    """A bug in the server; its log has the details under `request_id`."""


class AutogradError(ProblemError):
    """Base of what the engine raises."""


class InvalidValueError(AutogradError):
    """A value that cannot be taken: ragged, of an unknown dtype, an index out of range, lossy to convert."""


class ProgramSyntaxError(AutogradError):
    """Infix text that does not parse."""


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


#: The engine tells apart why there is no gradient; a problem has one kind for both.
StaleDataError = NoGradientError


class NotSupportedError(AutogradError):
    """A feature that is not there."""


class LimitExceededError(AutogradError):
    """What was asked costs more than the server allows; nothing has run."""


class LostDerivativeWarning(UserWarning):
    """The value of a recorded variable was taken without its derivative: `float(v)`, `math.sin(v)`, `Variable(v)`."""


#: The kinds of problems, by the last part of their `type`.
BY_SLUG: Mapping[str, type[ProblemError]] = {
    "unknown-path": UnknownPathError,
    "method-not-allowed": MethodNotAllowedError,
    "unauthorized": UnauthorizedError,
    "forbidden": ForbiddenError,
    "rate-limited": RateLimitedError,
    "overloaded": OverloadedError,
    "unavailable": UnavailableError,
    "body-too-large": BodyTooLargeError,
    "unsupported-media-type": UnsupportedMediaTypeError,
    "not-acceptable": NotAcceptableError,
    "malformed-body": MalformedBodyError,
    "unknown-program": UnknownProgramError,
    "unknown-session": UnknownSessionError,
    "unknown-variable": UnknownVariableError,
    "unknown-job": ProblemError,
    "expired-session": ExpiredSessionError,
    "sequence-conflict": SequenceConflictError,
    "name-conflict": NameConflictError,
    "deadline-exceeded": DeadlineExceededError,
    "internal-error": InternalServerError,
    "invalid-request": InvalidValueError,
    "syntax-error": ProgramSyntaxError,
    "unknown-op": UnknownOperationError,
    "wrong-arity": ArityError,
    "bad-attribute": BadAttributeError,
    "unknown-name": UnknownNameError,
    "cycle": CycleError,
    "shape-mismatch": ShapeMismatchError,
    "not-scalar": NotScalarError,
    "not-differentiable": NotDifferentiableError,
    "nograd": NoGradError,
    "no-gradient": NoGradientError,
    "not-supported": NotSupportedError,
    "limit-exceeded": LimitExceededError,
}


def of_problem(document: Mapping[str, Any], status: int, retry_after_s: float | None) -> ProblemError:
    """The error that a problem document stands for; of a kind that this release does not know, a `ProblemError`."""
    slug = str(document.get("type", "")).rpartition("/problems/")[2]
    error = BY_SLUG.get(slug, ProblemError)(
        str(document.get("detail", "")),
        slug=slug,
        title=str(document.get("title", "")),
        status=status,
        faults=[Fault(tuple(each["loc"]), each["msg"]) for each in document.get("errors", ())],
        request_id=document.get("request_id"),
        retry_after_s=retry_after_s,
    )
    if isinstance(error, (UnauthorizedError, ForbiddenError)):
        error.args = (f"{error.detail} (argument api_key, PULLBACK_API_KEY)",)
    if isinstance(error, SequenceConflictError):
        error.expected = document.get("expected")
    return error
