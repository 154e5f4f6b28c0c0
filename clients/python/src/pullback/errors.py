"""All errors of this package. A problem that a server reports is raised as the class of the same name in the engine.

PullbackError
    NotConnectedError, WrongConnectionError, TraceError, WrongServerError: mistakes in the calling code
    UnreachableError (RequestTimeoutError): no response from the server
    ProblemError: the server refused the request; has all fields of its problem document
        AutogradError: errors of the engine, raised locally too; the subclasses have the engine's names
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Loc = tuple[str | int, ...]


class Fault(NamedTuple):
    """One fault of a request: its location, a path into the request (empty for a local call), and a message."""

    loc: Loc
    msg: str


class PullbackError(Exception):
    """Base of all errors of this package."""


class NotConnectedError(PullbackError):
    """There is no connection on which to make a variable, or it is closed."""


class WrongConnectionError(PullbackError):
    """Variables of two connections met in one operation."""


class TraceError(PullbackError):
    """The value of a symbol was read while a function is traced, when it has none yet."""


class WrongServerError(PullbackError):
    """The response is not from a Pullback server, or from one with another version of the contract."""


class UnreachableError(PullbackError, ConnectionError):
    """The server could not be reached, or the response was incomplete. reason: the exception of httpx."""

    reason: Exception | None = None


class RequestTimeoutError(UnreachableError, TimeoutError):
    """The response did not arrive within the timeout."""


class ProblemError(PullbackError):
    """The server refused a request.

    detail: what was given, what was expected, and where. faults: all faults of the request. slug, title, status: the
    kind of problem (None, "" and None for an error that was found locally). request_id: id of the request in the
    server's log. retry_after_s: seconds to wait before the next try, if the server sent Retry-After.
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
    """Too many requests in a period, or too many sessions at once."""


class MalformedRequestError(ProblemError):
    """What arrived was no HTTP, which something between the client and the server may have spoilt."""


class WrongHostError(ProblemError):
    """The server listens on its own machine alone and does not answer to the name in the URL."""


class HeadersTooLargeError(ProblemError):
    """The headers have more bytes, or more fields, than the server accepts."""


class SlowRequestError(ProblemError):
    """The request arrived too slowly; nothing was run."""


class OverloadedError(ProblemError):
    """The server is busy and its queue is full, or it has too many connections; nothing was run."""


class UnavailableError(ProblemError):
    """The server cannot do this at the moment."""


class StorageFullError(ProblemError):
    """The disk or the memory of the server's store is full; nothing was kept. Deleting works and makes room."""


class BodyTooLargeError(ProblemError):
    """The request has more bytes than the server accepts."""


class UnsupportedMediaTypeError(ProblemError):
    """The server does not support the media type of the request."""


class NotAcceptableError(ProblemError):
    """The server cannot respond in an accepted media type."""


class MalformedBodyError(ProblemError):
    """The body of the request could not be parsed."""


class UnknownProgramError(ProblemError):
    """There is no program with this id or name."""


class UnknownSessionError(ProblemError):
    """There is no session with this id: it was deleted, or expired some time ago."""


class UnknownVariableError(ProblemError):
    """The session has no object with this id."""


class ExpiredSessionError(ProblemError):
    """The session has expired."""


class SequenceConflictError(ProblemError):
    """Another client changed the session; `expected` is the number of the next change."""

    expected: int | None = None


class NameConflictError(ProblemError):
    """Another object has the name."""


class DeadlineExceededError(ProblemError):
    """The work took longer than the server allows."""


class InternalServerError(ProblemError):
    """A bug in the server; its log has the details under `request_id`."""


class AutogradError(ProblemError):
    """Base of the engine's errors."""


class InvalidValueError(AutogradError):
    """A value is not acceptable: ragged, of an unknown dtype, an index out of range, a lossy conversion."""


class ProgramSyntaxError(AutogradError):
    """Infix text has a syntax error."""


class UnknownOperationError(AutogradError):
    """An operation is not in the table."""


class ArityError(AutogradError):
    """Too many or too few operands."""


class BadAttributeError(AutogradError):
    """An attribute is unknown, missing, of the wrong type or out of range."""


class UnknownNameError(AutogradError):
    """A name is neither a given input nor a node."""


class CycleError(AutogradError):
    """A node depends on itself."""


class ShapeMismatchError(AutogradError):
    """Shapes do not fit together."""


class NotScalarError(AutogradError):
    """A value with one element was expected."""


class NotDifferentiableError(AutogradError):
    """The value to differentiate, or the variable of differentiation, is not floating or has no derivative."""


class NoGradError(AutogradError):
    """A backward pass was requested inside `no_grad`."""


class NoGradientError(AutogradError):
    """There is no gradient."""


#: The engine has a class for each reason why there is no gradient; on the wire they are one kind of problem.
StaleDataError = NoGradientError


class NotSupportedError(AutogradError):
    """The feature is not supported."""


class LimitExceededError(AutogradError):
    """The request costs more than the server allows; nothing was run."""


class LostDerivativeWarning(UserWarning):
    """The value of a recorded variable was taken without its derivative: `float(v)`, `math.sin(v)`, `Variable(v)`."""


#: The kinds of problems, by the last part of their `type`.
BY_SLUG: Mapping[str, type[ProblemError]] = {
    "unknown-path": UnknownPathError,
    "method-not-allowed": MethodNotAllowedError,
    "unauthorized": UnauthorizedError,
    "forbidden": ForbiddenError,
    "rate-limited": RateLimitedError,
    "malformed-request": MalformedRequestError,
    "wrong-host": WrongHostError,
    "headers-too-large": HeadersTooLargeError,
    "request-timeout": SlowRequestError,
    "overloaded": OverloadedError,
    "unavailable": UnavailableError,
    "storage-full": StorageFullError,
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
    """Return the error for a problem document; a `ProblemError` if this release does not know its kind."""
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
