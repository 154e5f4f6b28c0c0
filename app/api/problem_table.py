"""Problems as RFC 9457 has them: one table from errors to slugs, statuses, titles and pages."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag, auto

from app.errors import (
    DeadlineExceededError,
    ForbiddenError,
    OverloadedError,
    RateLimitedError,
    UnauthorizedError,
    WorkerDiedError,
)
from app.programs.graphviz import DrawingError
from app.programs.registry import UnknownProgramError
from app.sessions.errors import (
    ExpiredSessionError,
    SequenceConflictError,
    TakenIdError,
    UnknownSessionError,
    UnknownVariableError,
)
from app.stores import NameConflictError, StorageFullError, StoreUnavailableError, TooManySessionsError
from app.wire import media
from app.wire.document import MalformedBodyError
from engine.core import errors

#: What a client is told to wait before it tries again.
RETRY_AFTER_S = 1


class Where(Flag):
    """Groups of requests that have their problems in common."""

    NOWHERE = 0
    #: A request with a program.
    CALL = auto()
    #: A request of a session.
    SESSION = auto()
    #: A request that only asks the store.
    STORE = auto()


_CALL_OR_SESSION = Where.CALL | Where.SESSION
_ANY = _CALL_OR_SESSION | Where.STORE


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem.

    page: its meaning, and what to do about it.
    errors: the classes of errors that are answered with it.
    where: the requests for which OpenAPI lists it; those of a single path are named by its route.
    """

    slug: str
    status: int
    title: str
    page: str
    errors: tuple[type[Exception], ...] = ()
    where: Where = Where.NOWHERE


KINDS = (
    Kind("unknown-path", 404, "Unknown path", "Nothing lives at this path. GET /docs lists every path."),
    Kind("method-not-allowed", 405, "Method not allowed", "The path exists; the Allow header names its methods."),
    Kind(
        "unauthorized",
        401,
        "Unauthorized",
        "A key is needed: send it as Authorization: Bearer <key>. Whoever runs the server makes one with `pullback "
        "keys create NAME`.",
        (UnauthorizedError,),
    ),
    Kind(
        "forbidden",
        403,
        "Forbidden",
        "The key that was sent does not allow this: it lacks a scope, or the program, name or session belongs to "
        "another key.",
        (ForbiddenError,),
    ),
    Kind(
        "rate-limited",
        429,
        "Rate limited",
        "Too much work, or too many bytes, in too short a time for this key, or too many sessions at once. Wait as "
        "long as Retry-After says, or delete sessions that are not needed any more.",
        (TooManySessionsError, RateLimitedError),
    ),
    Kind(
        "wrong-host",
        421,
        "Wrong host",
        "The server listens on this machine alone, and the Host header is neither localhost, nor a loopback address, "
        "nor a name in its setting PULLBACK_ALLOWED_HOSTS: a page of another site may have sent the request. Ask by "
        "localhost or 127.0.0.1, or let whoever runs the server add the name.",
    ),
    Kind(
        "malformed-request",
        400,
        "Malformed request",
        "What arrived is no HTTP/1.1: a line or a field of the header, the framing of the body, or bytes behind a "
        "request. A body that is longer than its Content-Length ends so too.",
    ),
    Kind(
        "headers-too-large",
        431,
        "Headers too large",
        "The request's line and header have more bytes or more fields than the server reads. Put data into the body.",
    ),
    Kind(
        "request-timeout",
        408,
        "Request timeout",
        "The header did not arrive in time, or the body came too slowly. Send the request again as a whole.",
    ),
    Kind(
        "overloaded",
        503,
        "Overloaded",
        "All workers are busy and the queue is full, there is no memory left for the body, or there are too many "
        "connections. Nothing has happened; try again after Retry-After, on connections that are kept open.",
        (OverloadedError,),
        where=_ANY,
    ),
    Kind(
        "unavailable",
        503,
        "Unavailable",
        "The server cannot do this just now, for want of memory or because something that it needs is out of reach. "
        "Try again after Retry-After.",
        (MemoryError, StoreUnavailableError, DrawingError, WorkerDiedError),
        where=_ANY,
    ),
    Kind(
        "body-too-large",
        413,
        "Body too large",
        "The body has more bytes than the server reads, or would have once inflated. Large arrays are shortest in "
        "MessagePack, else as base64.",
        (media.BodyTooLargeError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "unsupported-media-type",
        415,
        "Unsupported media type",
        "The body's Content-Type is none that the server reads, or there are several that differ. Send one "
        "Content-Type, application/json or application/msgpack, and the body as it is or compressed once, with one "
        "Content-Encoding, gzip or zstd.",
        (media.UnsupportedMediaTypeError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "not-acceptable",
        406,
        "Not acceptable",
        "The Accept header leaves out every encoding that the server writes: accept application/json or "
        "application/msgpack, or leave it out. Or Accept-Encoding leaves out answers that are not compressed, and also "
        "gzip and zstd.",
        (media.NotAcceptableError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "malformed-body",
        400,
        "Malformed body",
        "The body is not what its Content-Type says: it does not parse, is not UTF-8, has a key twice in one object or "
        "more after its end. JSON has no bare NaN or Infinity: numbers that are not finite are written as "
        '"NaN", "Infinity" and "-Infinity". MessagePack has texts for keys, and no extension types.',
        (MalformedBodyError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "unknown-program",
        404,
        "Unknown program",
        "There is no program of this id or name: it was never registered here, was deleted, or had no name and was not "
        "used for long. Evaluating a program tells its id but does not register it: POST /v1/programs does. "
        "GET /v1/programs lists all.",
        (UnknownProgramError,),
        where=Where.CALL,
    ),
    Kind(
        "unknown-session",
        404,
        "Unknown session",
        "There is no session of this id.",
        (UnknownSessionError,),
        where=Where.SESSION,
    ),
    Kind(
        "unknown-variable",
        404,
        "Unknown variable",
        "The session has nothing of this id.",
        (UnknownVariableError,),
        where=Where.SESSION,
    ),
    Kind("unknown-job", 404, "Unknown job", "There is no job of this id."),
    Kind(
        "expired-session",
        410,
        "Expired session",
        "The session was not used for longer than its life; make a new one.",
        (ExpiredSessionError,),
        where=Where.SESSION,
    ),
    Kind(
        "sequence-conflict",
        409,
        "Sequence conflict",
        "The number is neither the one that the session expects next, which stands in expected, nor that of its last "
        "call, repeated as it was: another client uses the session, or an answer was taken for lost that was not.",
        (SequenceConflictError,),
    ),
    Kind(
        "name-conflict",
        409,
        "Name conflict",
        'The name belongs to something else. Choose another, or take it with "replace": true.',
        (NameConflictError, TakenIdError),
    ),
    Kind(
        "invalid-request",
        422,
        "Invalid request",
        "The document is JSON but not a request of this kind: an unknown or missing field, a field of the wrong type, "
        "a value that is ragged or does not convert without loss. Every place is listed in errors.",
        (errors.InvalidValueError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "syntax-error",
        422,
        "Syntax error",
        "The infix text does not parse; the message has the line and the column, counted from 1.",
        (errors.ProgramSyntaxError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "unknown-op",
        422,
        "Unknown operation",
        "A program calls an operation that does not exist. GET /v1/ops lists all.",
        (errors.UnknownOperationError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "wrong-arity",
        422,
        "Wrong number of operands",
        "An operation was given too many or too few operands. GET /v1/ops/{name} shows its signature.",
        (errors.ArityError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "bad-attribute",
        422,
        "Bad attribute",
        "An attribute of an operation is unknown, missing, of the wrong type or out of range.",
        (errors.BadAttributeError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "unknown-name",
        422,
        "Unknown name",
        "A name is neither an input that was given nor a node of the program.",
        (errors.UnknownNameError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "cycle",
        422,
        "Cycle",
        "Nodes depend on themselves; a program has no cycle.",
        (errors.CycleError,),
        where=Where.CALL,
    ),
    Kind(
        "shape-mismatch",
        422,
        "Shapes do not fit",
        "The shapes of operands do not fit together. POST /v1/infer shows the shape of every node.",
        (errors.ShapeMismatchError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "not-scalar",
        422,
        "Not a scalar",
        "One element is needed where there are more: reduce first, with sum or mean.",
        (errors.NotScalarError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "not-differentiable",
        422,
        "Not differentiable",
        "A derivative was asked for of, or with respect to, something that is not floating.",
        (errors.NotDifferentiableError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "nograd",
        422,
        "No tape",
        "nograd: true keeps no tape, so there is nothing to go backward through.",
        (errors.NoGradError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "no-gradient",
        422,
        "No gradient",
        "A gradient was asked for where there is none.",
        (errors.NoGradientError, errors.StaleDataError),
    ),
    Kind(
        "not-supported",
        422,
        "Not supported",
        "The request is right, but this release cannot answer it yet.",
        (errors.NotSupportedError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "limit-exceeded",
        413,
        "Limit exceeded",
        "The request would cost more than the server allows: nesting, nodes, elements, bytes or floating-point "
        "operations; or there is no room to keep another program, or a session that grows. Nothing has happened, and "
        "deleting always works. The message names the setting that raises the limit; GET /v1 shows all limits.",
        (errors.LimitExceededError,),
        where=_CALL_OR_SESSION,
    ),
    Kind(
        "deadline-exceeded",
        504,
        "Deadline exceeded",
        "The work took longer than the server allows a request.",
        (DeadlineExceededError,),
        where=_ANY,
    ),
    Kind(
        "storage-full",
        507,
        "Storage full",
        "The disk or the memory of the server's store is full, and nothing was kept. Deleting programs and sessions "
        "still works and makes room. Programs that are sent with their request run as before.",
        (StorageFullError,),
        where=_ANY,
    ),
    Kind(
        "internal-error",
        500,
        "Internal error",
        "A bug in the server. Its log has the details under the request_id.",
        where=_ANY,
    ),
)

BY_SLUG: Mapping[str, Kind] = {kind.slug: kind for kind in KINDS}
BY_ERROR: Mapping[type[Exception], Kind] = {error: kind for kind in KINDS for error in kind.errors}


def slugs(where: Where) -> tuple[str, ...]:
    """Return the slugs of the problems of a group of requests."""
    return tuple(kind.slug for kind in KINDS if where in kind.where)


def page_of(kind: Kind) -> str:
    """Return the page to which the `type` of a problem leads."""
    title = html.escape(kind.title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}</style>"
        f"</head><body><h1>{title}</h1><p><code>{kind.slug}</code>, status {kind.status}</p>"
        f"<p>{html.escape(kind.page)}</p></body></html>"
    )
