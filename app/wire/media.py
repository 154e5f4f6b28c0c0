"""Media types of requests and responses, negotiated by headers; and the refusals of bodies."""

from collections.abc import Sequence
from dataclasses import dataclass

JSON = "application/json"
MSGPACK = "application/msgpack"
PROBLEM = "application/problem+json"
#: Media types of documents, read and written.
SPOKEN = (JSON, MSGPACK)
#: Media type of files with weights.
SAFETENSORS = "application/safetensors"


class BodyTooLargeError(Exception):
    """The body is longer than the limit."""


class UnsupportedMediaTypeError(Exception):
    """The server does not read the body's encoding."""


class NotAcceptableError(Exception):
    """The client accepts no encoding that the server writes."""


@dataclass(frozen=True, slots=True)
class _Range:
    """One item of an `Accept` header."""

    kind: str
    subtype: str
    quality: float

    def precision(self, kind: str, subtype: str) -> int:
        """Return how precisely it names a media type: 2 exactly, 1 `type/*`, 0 `*/*`, -1 not at all."""
        if (self.kind, self.subtype) == (kind, subtype):
            return 2
        if (self.kind, self.subtype) == (kind, "*"):
            return 1
        return 0 if (self.kind, self.subtype) == ("*", "*") else -1


def preferences(header: str) -> list[tuple[str, float]]:
    """Parse a header such as `Accept` to its items in lower case, each with its quality, 1 by default.

    >>> preferences("gzip;q=0.5, *;q=0, br")
    [('gzip', 0.5), ('*', 0.0), ('br', 1.0)]
    """
    found = []
    for item in header.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        liked = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                liked = _quality(value)
        if name:
            found.append((name.lower(), liked))
    return found


def _quality(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return 0.0
    return number if 0 <= number <= 1 else 0.0


def _ranges(accept: str) -> list[_Range]:
    parts = ((name.partition("/"), liked) for name, liked in preferences(accept))
    return [_Range(kind, subtype, liked) for (kind, _, subtype), liked in parts if subtype]


def quality(accept: str, media_type: str) -> float:
    """Return the quality of a media type in an `Accept` header, 0 if it is refused; an empty header accepts all."""
    if not accept.strip():
        return 1.0
    kind, _, subtype = media_type.partition("/")
    best, liked = -1, 0.0
    for item in _ranges(accept):
        precision = item.precision(kind, subtype)
        if precision > best or (precision == best and precision >= 0 and item.quality > liked):
            best, liked = precision, item.quality
    return liked


def request_type(*content_types: str, spoken: Sequence[str] = SPOKEN) -> str:
    """Return the media type of a body by its `Content-Type` header, which may be repeated with the same words.

    spoken: media types that can be read.

    Raises:
        UnsupportedMediaTypeError: it cannot be read, has another charset, or there are several.

    >>> request_type("application/JSON; charset=utf-8")
    'application/json'
    """
    if len(set(content_types)) > 1:
        shown = " and ".join(map(repr, content_types))
        raise UnsupportedMediaTypeError(f"Content-Type is {shown}; expected one, {' or '.join(spoken)}")
    content_type = content_types[0] if content_types else ""
    name, _, parameters = content_type.partition(";")
    media_type = name.strip().lower()
    if media_type not in spoken:
        shown = f"Content-Type is {content_type!r}" if content_type else "there is no Content-Type"
        raise UnsupportedMediaTypeError(f"{shown}; expected {' or '.join(spoken)}")
    key, _, charset = parameters.partition("=")
    if key.strip().lower() == "charset" and charset.strip().strip('"').lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaTypeError(f"Content-Type is {content_type!r}; {media_type} is always UTF-8")
    return media_type


def answer_type(accept: str, own: str = JSON, spoken: Sequence[str] = SPOKEN) -> str:
    """Choose the media type of a response: the best one of the `Accept` header, the request's own among equals.

    spoken: media types that can be written.

    Raises:
        NotAcceptableError: the header refuses all of them.

    >>> answer_type("*/*", MSGPACK), answer_type("application/msgpack;q=0.5, application/json", MSGPACK)
    ('application/msgpack', 'application/json')
    """
    if not accept.strip():
        return own
    liked = {media_type: quality(accept, media_type) for media_type in (own, *spoken)}
    best = max(liked, key=lambda media_type: liked[media_type])
    if not liked[best]:
        raise NotAcceptableError(f"Accept is {accept!r}; this server responds in {' or '.join(spoken)}")
    return best


def takes_msgpack_alone(accept: str) -> bool:
    """Return whether an `Accept` header accepts MessagePack but no kind of JSON.

    >>> takes_msgpack_alone("application/msgpack"), takes_msgpack_alone("application/msgpack, */*;q=0.1")
    (True, False)
    """
    return not any(quality(accept, json) for json in (JSON, PROBLEM)) and quality(accept, MSGPACK) > 0


def too_large(found: str, limit: int) -> BodyTooLargeError:
    """Return the refusal of a body; `found` says how much of it was found."""
    return BodyTooLargeError(f"the body {found}, the limit is {limit:,} (setting PULLBACK_MAX_BODY_BYTES)")
