"""Content codings: answers compressed for who asks for it, and compressed requests inflated within a limit."""

import sys
import zlib

from app.wire.document import MalformedBodyError
from app.wire.media import NotAcceptableError, UnsupportedMediaTypeError, preferences, too_large

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import backports.zstd as zstd

IDENTITY, GZIP, ZSTD = "identity", "gzip", "zstd"
#: The one that is liked better among equals first: zstd takes a twentieth of gzip's time for arrays.
CODINGS = (ZSTD, GZIP)

#: Shorter answers fit a packet anyway.
SMALLEST_BYTES = 1024
#: So much of an answer is tried, and what of it has to be saved for the rest to be worth it: floats hardly shrink.
_SAMPLE_BYTES = 1 << 14
_WORTH = 0.9
#: The fastest of either: more would save little of numbers.
_LEVEL = 1
_GZIP_WBITS = 16 + zlib.MAX_WBITS
#: The window a sender may ask for, as RFC 9659 has it for zstd over HTTP: 8 MiB.
_ZSTD_OPTIONS = {zstd.DecompressionParameter.window_log_max.value: 23}


def request_coding(content_encoding: str) -> str:
    """The coding of a body, by its `Content-Encoding` headers, joined by commas.

    Raises:
        UnsupportedMediaTypeError: it is none that is read here, or several.

    >>> request_coding("X-GZIP"), request_coding("")
    ('gzip', 'identity')
    """
    codings = [coding for item in content_encoding.split(",") if (coding := item.strip().lower())] or [IDENTITY]
    coding = GZIP if codings[0] == "x-gzip" else codings[0]
    if len(codings) > 1 or coding not in (IDENTITY, *CODINGS):
        known = " or ".join(CODINGS)
        raise UnsupportedMediaTypeError(f"Content-Encoding is {content_encoding!r}; expected {known}, once, or none")
    return coding


def answer_coding(accept_encoding: str, nbytes: int) -> str:
    """The coding of an answer of so many bytes: none, but where the `Accept-Encoding` header names one.

    Raises:
        NotAcceptableError: it refuses an answer that is not compressed, and takes no coding that is written here.

    >>> answer_coding("gzip, zstd;q=0.5", 5000), answer_coding("*", 5000), answer_coding("gzip, identity;q=0", 10)
    ('gzip', 'identity', 'gzip')
    """
    liked = dict(preferences(accept_encoding))
    rest = liked.get("*", 0.0)
    is_refused = liked.get(IDENTITY, liked.get("*", 1.0)) <= 0
    if is_refused:
        liked = {coding: liked.get(coding, rest) for coding in CODINGS}
    best = max(CODINGS, key=lambda coding: liked.get(coding, 0.0))
    if liked.get(best, 0.0) <= 0:
        if is_refused:
            wanted = f"Accept-Encoding is {accept_encoding!r}"
            raise NotAcceptableError(f"{wanted}; this server answers as it is, or in {' or '.join(CODINGS)}")
        return IDENTITY
    if not is_refused and (nbytes < SMALLEST_BYTES or liked[best] < liked.get(IDENTITY, 0.0)):
        return IDENTITY
    return best


def compressed(content: bytes, accept_encoding: str) -> tuple[bytes, str]:
    """An answer as it is sent, and the coding of that; what hardly shrinks stays as it is.

    Raises:
        NotAcceptableError: as `answer_coding` does.
    """
    coding = answer_coding(accept_encoding, len(content))
    if coding == IDENTITY:
        return content, IDENTITY
    if len(content) > 2 * _SAMPLE_BYTES and answer_coding(accept_encoding, 0) == IDENTITY:
        middle = len(content) // 2
        sample = content[middle : middle + _SAMPLE_BYTES]
        if len(compress(sample, coding)) > _WORTH * len(sample):
            return content, IDENTITY
    return compress(content, coding), coding


def compress(content: bytes, coding: str) -> bytes:
    """Bytes in a coding, gzip or zstd."""
    if coding == ZSTD:
        return zstd.compress(content, _LEVEL)
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP_WBITS)
    return packer.compress(content) + packer.flush()


def inflate(body: bytes, coding: str, limit: int) -> bytes:
    """A body without its coding, gzip or zstd; no more than `limit` bytes are ever made.

    Raises:
        BodyTooLargeError: there would be more.
        MalformedBodyError: the body is not whole, or not in this coding.
    """
    reader = zlib.decompressobj(_GZIP_WBITS) if coding == GZIP else zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
    try:
        found = reader.decompress(body, limit + 1)
    except (zlib.error, zstd.ZstdError) as error:
        raise MalformedBodyError(f"the body is not {coding}: {error}") from None
    if len(found) > limit:
        raise too_large(f"goes on after {limit:,} bytes once inflated", limit)
    if not reader.eof:
        raise MalformedBodyError(f"the body is not whole: its {coding} stream has no end")
    if reader.unused_data:
        raise MalformedBodyError(f"{len(reader.unused_data)} bytes follow the end of the {coding} stream")
    return found
