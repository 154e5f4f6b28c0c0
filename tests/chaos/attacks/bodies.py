"""Bodies that are larger than they look, never end, or come slowly."""

from __future__ import annotations

import asyncio
import gzip
import sys

from tests.chaos.attack import Aim, attack
from tests.chaos.wire import JSON, MSGPACK, head, request

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: The limit of a body, as the server has it by default.
LIMIT = 32 * 2**20
_CODINGS = ("Content-Encoding", "gzip"), ("Content-Encoding", "zstd")


def _list_of(item: bytes) -> bytes:
    count = (LIMIT - 100) // (len(item) + 1)
    return b'{"expr":"x","inputs":{"x":[' + (item + b",") * count + item + b"]}}"


async def _bombs(aim: Aim, content: bytes, coding: tuple[str, str], media_type: str = JSON, count: int = 2) -> None:
    body = gzip.compress(content, 6) if coding[1] == "gzip" else zstd.compress(content)
    bomb = request("/v1/evaluate", body, ("Content-Type", media_type), coding)
    aim.until = aim.now() + aim.seconds
    await aim.flood(count, lambda number: bomb)


@attack()
async def gzip_bombs(aim: Aim) -> None:
    """32 MB of [[],[],...] in 32 KB of gzip, on 4 connections."""
    await _bombs(aim, _list_of(b"[]"), _CODINGS[0], count=4)


@attack()
async def zstd_bombs(aim: Aim) -> None:
    """32 MB of [[],[],...] in 3 KB of zstd, on 4 connections."""
    await _bombs(aim, _list_of(b"[]"), _CODINGS[1], count=4)


@attack()
async def inflating_bombs(aim: Aim) -> None:
    """256 MB of spaces in kilobytes, as gzip, as zstd, and as gzip of gzip, on 4 connections."""
    spaces = b" " * 2**26
    bombs = [zstd.compress(spaces) * 4, gzip.compress(spaces, 1) * 4]
    bombs.append(gzip.compress(bombs[1], 1))
    made = [
        request("/v1/evaluate", bombs[which], ("Content-Type", media_type), _CODINGS[coding])
        for which, coding in ((0, 1), (1, 0), (2, 0))
        for media_type in (JSON, MSGPACK)
    ]
    aim.until = aim.now() + aim.seconds
    await aim.flood(4, lambda number: made[number % len(made)])


@attack()
async def msgpack_bombs(aim: Aim) -> None:
    """32 MB of empty MessagePack lists, plain and as gzip and zstd, on 3 connections."""
    content = b"\x82\xa4expr\xa1x\xa6inputs\x81\xa1x\xdd" + (LIMIT - 100).to_bytes(4, "big") + b"\x90" * (LIMIT - 100)
    packed = gzip.compress(content, 6), zstd.compress(content)
    made = [request("/v1/evaluate", content, ("Content-Type", MSGPACK))]
    made += [
        request("/v1/evaluate", body, ("Content-Type", MSGPACK), coding)
        for body, coding in zip(packed, _CODINGS, strict=True)
    ]
    aim.until = aim.now() + aim.seconds
    await aim.flood(3, lambda number: made[number % 3])


@attack()
async def deep_nesting(aim: Aim) -> None:
    """Lists in lists, maps in maps, by the million, as JSON, MessagePack, nodes and text, on 4 connections."""
    half = LIMIT // 4
    made = [
        request("/v1/evaluate", b'{"expr":"x","inputs":{"x":' + b"[" * half + b"]" * half + b"}}"),
        request("/v1/evaluate", b"[" * half),
        request("/v1/evaluate", b'{"a":' * (half // 5)),
        request("/v1/evaluate", b"\x91" * half, ("Content-Type", MSGPACK)),
        request("/v1/evaluate", b"\x81\xa1a" * (half // 3), ("Content-Type", MSGPACK)),
        request("/v1/evaluate", b'{"graph":{"nodes":[' + b'{"op":"sin","args":[' * 200_000),
        request("/v1/evaluate", b'{"expr":"' + b"sin(" * 1_000_000 + b'"}'),
    ]
    await aim.flood(4, lambda number: made[number % len(made)])


@attack()
async def colons(aim: Aim) -> None:
    """32 MB of colons, of commas, of quotes, of escapes and of keys, on 3 connections."""
    size = LIMIT - 100
    contents = [
        b'{"expr":"' + b":" * size + b'"}',
        b'{"expr":"' + b"," * size + b'"}',
        b":" * size,
        b'{"expr":"' + b"\\u0041" * (size // 6) + b'"}',
        b"{" + b'"a":1,' * (size // 6) + b'"b":1}',
        b'{"' + b'":1,"'.join(b"%x" % key for key in range(2_000_000)) + b'":1}',
    ]
    made = [request("/v1/evaluate", content) for content in contents]
    aim.until = aim.now() + aim.seconds
    await aim.flood(3, lambda number: made[number % len(made)])


@attack()
async def endless_chunks(aim: Aim) -> None:
    """Chunked bodies without an end: large chunks, chunks of a byte, chunk extensions; on 6 connections."""
    start = head("/v1/evaluate", [("Content-Type", JSON), ("Transfer-Encoding", "chunked")])
    kinds = b"10000\r\n" + b" " * 0x10000 + b"\r\n", b"1\r\n \r\n" * 5000, b"1;" + b"a=b;" * 5000 + b"\r\n \r\n"

    async def endless(number: int) -> None:
        while aim.is_on():
            await aim.ask(start, *[kinds[number % 3]] * 1000)

    await aim.together(6, endless)


@attack()
async def drip_bodies(aim: Aim) -> None:
    """Bodies of which a byte comes each second, on 200 connections, some chunked."""
    lengths = ("Content-Length", "100000"), ("Transfer-Encoding", "chunked")

    async def drip(number: int) -> None:
        start = aim.now()
        try:
            connection = await aim.open()
            await connection.write(head("/v1/evaluate", [("Content-Type", JSON), lengths[number % 2]]))
        except OSError:
            aim.note("cut", start)
            return
        ending = asyncio.ensure_future(aim.see_end(connection, start))
        while not ending.done():
            if not connection.writer.is_closing():
                connection.writer.write(b" " if number % 2 == 0 else b"1\r\n \r\n")
            await asyncio.wait([ending], timeout=1)

    await aim.together(200, drip)


@attack()
async def stalled_bodies(aim: Aim) -> None:
    """40 bodies of 31 MB of which the last byte never comes."""
    size = 31 * 2**20
    piece = b" " * 2**20

    async def stall(number: int) -> None:
        start = aim.now()
        try:
            connection = await aim.open()
        except OSError:
            aim.note("cut", start)
            return
        ending = asyncio.ensure_future(aim.see_end(connection, start))
        try:
            await connection.write(head("/v1/evaluate", [("Content-Type", JSON), ("Content-Length", str(size + 1))]))
            for _ in range(31):
                if ending.done():
                    break
                await connection.write(piece)
        except OSError:
            pass
        await ending

    await aim.together(40, stall)
