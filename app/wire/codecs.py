"""The two encodings of documents, JSON and MessagePack, by media type."""

from dataclasses import dataclass
from math import inf
from typing import Any, TypedDict

from app.wire import msgpack, values
from app.wire.document import parse
from app.wire.media import JSON, MSGPACK


class DocumentLimits(TypedDict):
    """Arguments of `decode` that limit a document."""

    max_depth: int
    max_bytes: float
    max_items: float


@dataclass(frozen=True, slots=True)
class Message:
    """A body, its media type and that of the response."""

    body: bytes
    media_type: str = JSON
    answer_type: str = JSON

    def document(self, max_depth: int, max_bytes: float = inf, max_items: float = inf) -> Any:
        """Decode the body; see `decode`."""
        return decode(self.media_type, self.body, max_depth, max_bytes, max_items)


def decode(media_type: str, body: bytes, max_depth: int, max_bytes: float = inf, max_items: float = inf) -> Any:
    """Decode one whole document.

    Args:
        media_type: of the body.
        body: the document.
        max_depth: of nested lists and objects.
        max_bytes: estimated size of the document in memory.
        max_items: of all lists and maps of MessagePack together; of JSON the estimated size bounds them.

    Raises:
        LimitExceededError: a limit is exceeded, found before objects are made.
        MalformedBodyError: the body is not a document of this media type.
        MemoryError: there is not enough memory.
    """
    if media_type == MSGPACK:
        return msgpack.decode(body, max_depth, max_bytes, max_items)
    return parse(body, max_depth, max_bytes)


def encode(media_type: str, document: Any) -> bytes:
    """Encode a document whose values `app.wire.values.encode` has made for this media type."""
    if media_type == MSGPACK:
        return msgpack.encode(document)
    return values.dumps(document)
