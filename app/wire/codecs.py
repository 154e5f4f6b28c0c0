"""The two encodings of documents: bytes -> a document and back, by media type."""

from dataclasses import dataclass
from typing import Any

from app.wire import msgpack, values
from app.wire.document import parse
from app.wire.media import JSON, MSGPACK


@dataclass(frozen=True, slots=True)
class Message:
    """A body, its media type and that of the answer."""

    body: bytes
    media_type: str = JSON
    answer_type: str = JSON

    def document(self, max_depth: int) -> Any:
        """The document that the body holds; raises what `decode` raises."""
        return decode(self.media_type, self.body, max_depth)


def decode(media_type: str, body: bytes, max_depth: int) -> Any:
    """The document that `body` holds.

    Raises:
        LimitExceededError: it is nested deeper than `max_depth`.
        MalformedBodyError: it is none of this media type.
    """
    return msgpack.decode(body, max_depth) if media_type == MSGPACK else parse(body, max_depth)


def encode(media_type: str, document: Any) -> bytes:
    """A document, whose values `app.wire.values.encode` has made for this media type, as bytes."""
    if media_type == MSGPACK:
        return msgpack.encode(document)
    return values.dumps(document)
