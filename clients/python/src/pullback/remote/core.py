"""Protocol of a call, without input or output: requests, retries, and the parsing of responses.

`conversation` yields the steps of a call; the clients carry them out, blocking or awaiting, and have no rules of their
own.
"""

from __future__ import annotations

import email.utils
import random
import re
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from pullback import errors
from pullback.errors import ProblemError, PullbackError, RequestTimeoutError, UnreachableError, WrongServerError
from pullback.remote.documents import ENCODINGS, JSON, MSGPACK, encode
from pullback.remote.results import Raw
from pullback.version import OLDEST_SERVER, __version__

R = TypeVar("R")

#: Statuses after which a request is sent again: it had no effect, or its number makes a repetition safe.
_PASSING = (429, 502, 503)
#: Statuses of proxies whose server does not respond.
_FRONT = (502, 503, 504)
#: The first pause between two tries; each further one is twice as long.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
#: If the server asks for a longer pause, the error is raised instead.
_LONGEST_WAIT_S = 60.0
#: Characters of an unexpected response that a message quotes.
_SHOWN = 200


@dataclass(frozen=True)
class Call(Generic[R]):
    """Request with the parser of its response. It may be repeated: it has no effects, or has a key or a number.

    document: body, with arrays in it. is_encoded: whether it names the encoding of arrays in the response. content,
    media_type: body that is not a document. accept: media type of a response that is not a document. forgives: class of
    problems that count as success.
    """

    method: str
    path: str
    parse: Callable[[Any], R]
    document: Mapping[str, Any] | None = None
    is_encoded: bool = False
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    media_type: str = ""
    accept: str = ""
    forgives: type[ProblemError] | None = None


@dataclass(frozen=True)
class Settings:
    """Settings of a client.

    media_type: media type of documents in both directions. retries: limit of the repetitions of a call. timeout_s:
    timeout of each try.
    """

    url: str
    api_key: str | None
    media_type: str
    retries: int
    timeout_s: float

    def headers(self) -> dict[str, str]:
        """Return the headers of every request."""
        # Compression hardly makes floats shorter, and takes longer than sending them.
        found = {"Accept": self.media_type, "Accept-Encoding": "identity"}
        found["User-Agent"] = f"pullback-python/{__version__}"
        return found if self.api_key is None else found | {"Authorization": f"Bearer {self.api_key}"}


@dataclass(frozen=True)
class Pause:
    """Step of a conversation: wait."""

    seconds: float


def conversation(
    call: Call[R], settings: Settings
) -> Generator[tuple[Call[R], bytes] | Pause, httpx.Response | httpx.TransportError | None, Raw]:
    """Yield the steps of a call: a call and its body to send, whose outcome is sent into the generator, or a pause.

    Raises:
        PullbackError: the call has failed, and another try is useless or there is none left.
    """
    body = call.content
    if call.document is not None:
        document = dict(call.document)
        if call.is_encoded:
            document["encoding"] = ENCODINGS[settings.media_type]
        body = encode(document, settings.media_type)
    tries = 0
    while True:
        tries += 1
        outcome = yield call, body
        if isinstance(outcome, httpx.Response):
            found = _read(call, outcome, settings)
            if not isinstance(found, PullbackError):
                return Raw(outcome.status_code, outcome.headers, outcome.content, tries, found)
            may_pass = outcome.status_code in _PASSING
        else:
            assert outcome is not None
            found, may_pass = _unreachable(outcome, settings), not isinstance(outcome, httpx.UnsupportedProtocol)
        pause_s = _pause_s(tries, found)
        if not may_pass or tries > settings.retries or pause_s > _LONGEST_WAIT_S:
            raise found
        yield Pause(pause_s)


def request_of(call: Call[Any], body: bytes, settings: Settings) -> dict[str, Any]:
    """Return the arguments of httpx's `request`, with a path in place of the URL."""
    headers = dict(call.headers)
    if call.document is not None:
        headers["Content-Type"] = settings.media_type
    elif call.media_type:
        headers["Content-Type"] = call.media_type
    if call.accept:
        headers["Accept"] = call.accept
    query = {key: value for key, value in call.query.items() if value is not None}
    return {
        "method": call.method,
        "url": call.path,
        "params": query or None,
        "headers": headers,
        "content": body or None,
    }


def _read(call: Call[R], response: httpx.Response, settings: Settings) -> Any:
    """Parse a response; return its result, or the error that it reports."""
    version = response.headers.get("pullback-version")
    kind = response.headers.get("content-type", "").partition(";")[0]
    if version is None and response.status_code in _FRONT:
        return UnreachableError(
            f"what stands in front of {settings.url} answered {response.status_code}: the server cannot be reached"
        )
    if version is None:
        return WrongServerError(
            f"{settings.url} answered {response.status_code} ({kind or 'no content'}: "
            f"{response.text[:_SHOWN]!r}) and is no Pullback server, or something in front of one; "
            "check the URL (argument url, PULLBACK_URL)"
        )
    if _numbers(version) < _numbers(OLDEST_SERVER):
        return WrongServerError(
            f"{settings.url} runs pullback-server {version}; this client (pullback {__version__}) needs "
            f"{OLDEST_SERVER} or newer: upgrade the server, or install an older client"
        )
    try:
        if response.status_code >= 400:
            problem = errors.of_problem(
                _document(response, kind), response.status_code, retry_after_s(response.headers)
            )
            return None if call.forgives is not None and isinstance(problem, call.forgives) else problem
        if call.accept:
            return call.parse(response.content)
        return call.parse(_document(response, kind) if response.content else None)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        return WrongServerError(
            f"{settings.url} answered what this client (pullback {__version__}) cannot read: {error!r}"
        )


def _document(response: httpx.Response, kind: str) -> Any:
    if kind == MSGPACK:
        return msgspec.msgpack.decode(response.content)
    if kind in (JSON, "application/problem+json"):
        return msgspec.json.decode(response.content)
    raise ValueError(f"its Content-Type is {kind}")


def _unreachable(error: httpx.TransportError, settings: Settings) -> UnreachableError:
    said = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        found: UnreachableError = RequestTimeoutError(
            f"{settings.url} did not answer within {settings.timeout_s:g} s ({said}); "
            "where it has more to do, give it longer (argument timeout_s)"
        )
    elif isinstance(error, httpx.UnsupportedProtocol):
        found = UnreachableError(f"{settings.url} is no address of a server ({said}); expected http://host:port")
    elif isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        found = UnreachableError(
            f"nothing answers at {settings.url} ({said}). Start a server there (pullback serve, or make serve in "
            'its checkout), name another (argument url, PULLBACK_URL), or use connect("local"), which runs one here'
        )
    else:
        found = UnreachableError(f"{settings.url} broke off before its answer was whole ({said})")
    # An attribute, not `raise from`: the tracebacks of httpx and its transports are long.
    found.reason = error
    return found


def _pause_s(tries: int, error: PullbackError) -> float:
    """Return the pause after a try: exponential backoff, at least Retry-After; random, or all come back at once."""
    pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (tries - 1)) * random.uniform(0.5, 1.0)
    asked_s = error.retry_after_s if isinstance(error, ProblemError) else None
    if asked_s is None:
        return pause_s
    room_s = max(0.0, min(asked_s / 2, _LONGEST_WAIT_S - asked_s))
    return max(pause_s, asked_s + random.uniform(0.0, room_s))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Parse Retry-After, in either of its forms, as seconds; None without one, or if it is malformed.

    >>> retry_after_s({"retry-after": "2"}), retry_after_s({"retry-after": "soon"})
    (2.0, None)
    """
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
