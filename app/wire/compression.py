"""Content codings: responses compressed when the client asks, compressed requests inflated within limits."""

import sys
import zlib

from app.wire.document import MalformedBodyError
from app.wire.media import BodyTooLargeError, NotAcceptableError, UnsupportedMediaTypeError, preferences, too_large

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import backports.zstd as zstd

IDENTITY, GZIP, ZSTD = "identity", "gzip", "zstd"
#: In order of preference among equals: zstd takes a twentieth of gzip's time for arrays.
CODINGS = (ZSTD, GZIP)

#: Shorter responses fit into a packet anyway.
SMALLEST_BYTES = 1024
#: Bytes of a response that are compressed as a sample, and the largest share that makes the rest worth it: floats
#: hardly shrink.
_SAMPLE_BYTES = 1 << 14
_WORTH = 0.9
#: The fastest level of either: higher ones save little of numbers.
_LEVEL = 1
_GZIP_WBITS = 16 + zlib.MAX_WBITS
#: An inflated body may have any size up to the first, and be longer than the compressed one by the second factor.
_FREE_BYTES, _LARGEST_RATIO = 2**20, 100
#: Largest window of zstd over HTTP (RFC 9659): 8 MiB.
_ZSTD_OPTIONS = {zstd.DecompressionParameter.window_log_max.value: 23}


def request_coding(content_encoding: str) -> str:
    """Return the coding of a body by its `Content-Encoding` headers, joined by commas.

    Raises:
        UnsupportedMediaTypeError: the coding is unknown, or there are several.

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
    """Choose the coding of a response of `nbytes` bytes by its `Accept-Encoding` header; identity without one.

    Raises:
        NotAcceptableError: the header refuses identity and every coding that the server writes.

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
            raise NotAcceptableError(f"{wanted}; this server sends identity, {' or '.join(CODINGS)}")
        return IDENTITY
    if not is_refused and (nbytes < SMALLEST_BYTES or liked[best] < liked.get(IDENTITY, 0.0)):
        return IDENTITY
    return best


def compressed(content: bytes, accept_encoding: str) -> tuple[bytes, str]:
    """Compress `content` for the client, unless it hardly shrinks; return it with its coding.

    Raises:
        NotAcceptableError: see `answer_coding`.
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
    """Compress bytes by gzip or zstd."""
    if coding == ZSTD:
        return zstd.compress(content, _LEVEL)
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP_WBITS)
    return packer.compress(content) + packer.flush()


def inflate(body: bytes, coding: str, limit: int) -> bytes:
    """Inflate a body that is compressed by gzip or zstd; more bytes than allowed are never made.

    Args:
        body: the compressed body.
        coding: "gzip" or "zstd".
        limit: bytes of the inflated body. Beyond 1 MiB it may also not be more than 100 times as long as `body`:
            documents with numbers shrink to a half or a tenth.

    Raises:
        BodyTooLargeError: the inflated body would be longer.
        MalformedBodyError: the body is not one whole stream of this coding.
    """
    longest_by_ratio = max(_FREE_BYTES, _LARGEST_RATIO * len(body))
    allowed = min(limit, longest_by_ratio)
    reader = zlib.decompressobj(_GZIP_WBITS) if coding == GZIP else zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
    try:
        found = reader.decompress(body, allowed + 1)
    except (zlib.error, zstd.ZstdError) as error:
        raise MalformedBodyError(f"the body is not {coding}: {error}") from None
    if len(found) > limit:
        raise too_large(f"goes on after {limit:,} bytes once inflated", limit)
    if len(found) > allowed:
        raise BodyTooLargeError(
            f"the body goes on after {allowed:,} bytes once inflated; {len(body):,} bytes of {coding} may become "
            f"{_LARGEST_RATIO} times as many, or {_FREE_BYTES:,} if that is more; send it without Content-Encoding"
        )
    if not reader.eof:
        raise MalformedBodyError(f"the body is not whole: its {coding} stream has no end")
    if reader.unused_data:
        raise MalformedBodyError(f"{len(reader.unused_data)} bytes follow the end of the {coding} stream")
    return found
