"""Connections and headers: too many, too long, too slow, or not HTTP at all."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable

from tests.chaos.attack import Aim, attack
from tests.chaos.attacks.programs import evaluate
from tests.chaos.wire import JSON, Connection, head, request

_HOT = {"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": True}
_START = b"POST /v1/evaluate HTTP/1.1\r\nHost: a\r\n"


async def _pour(aim: Aim, first: bytes, pieces: Callable[[], bytes], pause_s: float = 0.0) -> None:
    """Send pieces on a new connection until the server answers or cuts, and note which."""
    start = aim.now()
    try:
        connection = await aim.open()
    except OSError:
        aim.note("cut", start)
        await asyncio.sleep(0.05)
        return
    ending = asyncio.ensure_future(aim.see_end(connection, start))
    try:
        await connection.write(first)
        while not ending.done():
            await connection.write(pieces())
            await asyncio.sleep(pause_s)
    except OSError:
        pass
    await ending


async def _again(aim: Aim, connections: int, work: Callable[[], Awaitable[None]]) -> None:
    async def repeat(_: int) -> None:
        while aim.is_on():
            await work()

    await aim.together(connections, repeat)


@attack()
async def endless_headers(aim: Aim) -> None:
    """Header lines without an end, on 8 connections."""
    numbers = itertools.count()
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 100) for number in range(500))
    await _again(aim, 8, lambda: _pour(aim, _START, lambda: b"Y-%d: b\r\n" % next(numbers) + lines))


@attack()
async def endless_value(aim: Aim) -> None:
    """One header value without an end, or a path, a method, a header name; on 8 connections."""
    starts = itertools.cycle([_START + b"X-A: ", b"GET /", b"", _START, _START + b"X-A:"])
    fillings = itertools.cycle([b"a" * 65536, b"a" * 65536, b"A" * 65536, b"a" * 65536, b" " * 65536])

    async def once() -> None:
        filling = next(fillings)
        await _pour(aim, next(starts), lambda: filling)

    await _again(aim, 8, once)


@attack()
async def half_open_headers(aim: Aim) -> None:
    """1100 connections with half a header each, to which a line is added each second."""
    await aim.together(1100, lambda number: _pour(aim, _START, lambda: b"X-A: b\r\n", pause_s=1.0))


@attack()
async def silent_connections(aim: Aim) -> None:
    """1100 connections on which nothing is ever sent, for as long as the attack lasts."""

    async def silent(number: int) -> None:
        try:
            connection = await aim.open()
        except OSError:
            aim.note("cut", aim.now())
            return
        try:
            async with asyncio.timeout(max(aim.until - aim.now(), 0)):
                await connection.reader.read(1)
            aim.outcomes["cut"] += 1
        except TimeoutError:
            aim.outcomes["kept"] += 1
        except OSError:
            aim.outcomes["cut"] += 1
        connection.close()

    await aim.together(1100, silent)


@attack()
async def connection_flood(aim: Aim) -> None:
    """Connections that are opened and dropped as fast as that goes, some after a first byte, by 64 at a time."""
    numbers = itertools.count()

    async def once() -> None:
        try:
            connection = await aim.open()
        except OSError:
            aim.note("cut", aim.now())
            await asyncio.sleep(0.01)
            return
        connection.writer.write((b"", b"G", b"GET /healthz HTTP/1.1\r\n", b"\r\n")[next(numbers) % 4])
        await asyncio.sleep(0)
        connection.close()
        aim.outcomes["dropped"] += 1

    await _again(aim, 64, once)


@attack()
async def pipelined(aim: Aim) -> None:
    """A thousand requests at once on each of 8 connections, cheap and dear, answers unread for a second."""
    cheap, fresh = request("/v1/evaluate", _HOT), itertools.count()

    def thousand() -> bytes:
        new = [evaluate(f"sin(x * {next(fresh)}.75)") for _ in range(250)]
        return b"".join(cheap * 3 + one for one in new)

    async def once(number: int) -> None:
        while aim.is_on():
            start = aim.now()
            try:
                connection = await aim.open()
                connection.writer.write(thousand())
                await asyncio.sleep(1)
                for _ in range(1000):
                    async with asyncio.timeout(aim.patience_s):
                        found = await connection.head()
                        await connection.body(found.length)
                    aim.note(str(found.status), aim.now() if aim.outcomes else start)
                    if not found.keeps_open or not aim.is_on():
                        break
            except TimeoutError:
                aim.note("left", start)
            except (OSError, EOFError):
                aim.note("cut", aim.now())
            connection.close()

    await aim.together(8, once)


@attack()
async def http_1_0(aim: Aim) -> None:
    """Requests as HTTP/1.0, 0.9, 1.2 and 2 say them, without Host, with two lengths, with both framings."""
    body = b'{"expr":"x","inputs":{"x":1}}'
    length = "Content-Length", str(len(body))
    lines = f"POST /v1/evaluate HTTP/1.0\r\nContent-Type: {JSON}\r\n"
    made = [
        head("/v1/evaluate", [("Content-Type", JSON), length], version=version) + body
        for version in ("1.0", "1.2", "2.0", "0.9")
    ]
    made += [
        f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body,
        f"{lines}Content-Length: {len(body)}\r\nContent-Length: 3\r\n\r\n".encode() + body,
        f"{lines}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + b"5\r\n12345\r\n0\r\n\r\n",
        f"{lines}Content-Length: -1\r\n\r\n".encode() + body,
        f"{lines}Content-Length: 99999999999999999999999\r\n\r\n".encode() + body,
        f"{lines}Content-Length: 1e3\r\n\r\n".encode() + body,
        f"{lines}Expect: 100-continue\r\n{length[0]}: {length[1]}\r\n\r\n".encode() + body,
        f"{lines}Connection: upgrade\r\nUpgrade: h2c\r\n{length[0]}: {length[1]}\r\n\r\n".encode() + body,
        b"GET /healthz\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/ops/%00%ff%2e%2e/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    numbers = itertools.count()

    async def once() -> None:
        number = next(numbers) % len(made)
        await _pour(aim, made[number], lambda: b"", pause_s=0.2)

    await _again(aim, 16, once)


@attack()
async def garbage(aim: Aim) -> None:
    """Bytes of TLS and of nothing, a few each second on 200 connections, and as fast as they go on 4."""
    chance = random.Random(3)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(500)
    at = itertools.count()

    def slowly() -> bytes:
        place = next(at) % 500
        return hello[place : place + 3]

    slow = aim.together(200, lambda number: _pour(aim, hello[:1], slowly, pause_s=0.5))
    fast = _again(aim, 4, lambda: _pour(aim, b"", lambda: chance.randbytes(20_000), pause_s=0.01))
    await asyncio.gather(slow, fast)


@attack()
async def many_forms(aim: Aim) -> None:
    """A known program with other media types, qualities, codings and headers each time, on 16 connections."""
    chance = random.Random(4)

    def make(number: int) -> bytes:
        many = ", ".join(f"a{number}/b{chance.random()};q={chance.random()}" for _ in range(chance.choice((1, 200))))
        own = (
            ("Accept", f"{many}, application/json;q=0.{number}"),
            ("Accept-Encoding", f"gzip;q=0.{number}, a{number}, zstd;q={chance.random()}"),
            ("Content-Type", f"{JSON}; a{number}={number}"),
            ("Origin", f"http://a{number}.example"),
            ("Cookie", "a=" + "b" * chance.choice((1, 4000))),
            (f"X-{number}", str(number)),
            ("Traceparent", f"00-{number:032x}-{number:016x}-01"),
        )
        return request("/v1/evaluate", _HOT, *own[: 1 + number % len(own)])

    await aim.flood(16, make)


@attack()
async def request_ids(aim: Aim) -> None:
    """Request ids and Idempotency-Keys that are long, odd, the same at once, or new each time; on 16 connections."""
    odd = ["a" * 7000, "\x01\x02", "\xff" * 200, "{}{0}%s%n", "../../etc", '"', "", "\t", "0" * 64]

    def make(number: int) -> bytes:
        text = odd[number % len(odd)]
        if number % 3 == 0:
            return request("/v1/evaluate", _HOT, ("X-Request-ID", text))
        key = ("same", f"key-{number}", text)[number // 3 % 3]
        seed = number % 2 if key == "same" else 1
        return request("/v1/sessions", {"seed": seed, "ttl_s": 1}, ("Idempotency-Key", key))

    await aim.flood(16, make)


@attack()
async def clients_that_leave(aim: Aim) -> None:
    """Hundreds of clients that go away while their work is done, waits, or is sent."""
    chance = random.Random(5)
    numbers = itertools.count()

    async def leave() -> None:
        number = next(numbers)
        work = (
            evaluate(f"sum(inv(broadcast_to(x + {number}, [500000, 2, 2])))"),
            evaluate(f"sum(sin(broadcast_to(x * {number}.5, [9000000])))"),
            evaluate(f"broadcast_to(sin(x * {number}), [1000000])"),
            evaluate(f"sin({number}.5 * x)"),
        )[number % 4]
        try:
            connection: Connection = await aim.open()
            connection.writer.write(work)
            await asyncio.sleep(chance.choice((0, 0.01, 0.15, 0.5)))
            connection.close()
            aim.outcomes["left by the client"] += 1
        except OSError:
            aim.note("cut", aim.now())
            await asyncio.sleep(0.05)

    await _again(aim, 100, leave)
