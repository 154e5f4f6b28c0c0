"""Programs that are short to write and long to run, or whose answers are long."""

from __future__ import annotations

import asyncio
import itertools

from tests.chaos.attack import Aim, attack
from tests.chaos.attacks.programs import evaluate
from tests.chaos.wire import request

#: 82 bytes of a request, for minutes of singular matrices.
INV = b'{"expr":"sum(inv(broadcast_to(x,[%d,2,2])))","inputs":{"x":1.0},"backward":true}'


@attack()
async def inv_twice(aim: Aim) -> None:
    """Two requests of 82 bytes for the inverses of two million singular matrices."""
    await aim.together(2, lambda number: aim.ask(request("/v1/evaluate", INV % (2_000_000 - number))))


@attack()
async def inv_six(aim: Aim) -> None:
    """Six of these at once."""
    await aim.together(6, lambda number: aim.ask(request("/v1/evaluate", INV % (2_000_000 - number))))


@attack()
async def inv_flood(aim: Aim) -> None:
    """The same on 32 connections, as often as they are answered."""
    await aim.flood(32, lambda number: request("/v1/evaluate", INV % (2_000_000 - number)))


@attack()
async def int64_matmul(aim: Aim) -> None:
    """Products of integer matrices of 3000 rows, for which there is no BLAS, on 4 connections."""
    operand = "broadcast_to(astype(x, 'int64'), [3000, 3000])"
    await aim.together(4, lambda number: aim.ask(evaluate(f"sum(matmul({operand} + {number}, {operand}))")))


@attack()
async def einsum_giants(aim: Aim) -> None:
    """Products of matrices and of all axes just below the limits, on 4 connections."""
    cube, square = "broadcast_to(x, [56, 56, 56])", "broadcast_to(x, [3000, 3000])"
    texts = [
        f"sum(einsum({cube}, {cube}, subscripts='abc,dec->abde'))",
        f"sum(einsum({square}, {square}, subscripts='ab,bc->ac'))",
        "sum(einsum(broadcast_to(x, [2154, 2154]), broadcast_to(x, [2154]), subscripts='ab,c->ab'))",
        f"sum(matmul({square} * sin(x), {square}))",
        "sum(tensordot(broadcast_to(x, [10000, 1000]), broadcast_to(x, [1000, 1000]), axes=1))",
    ]
    await aim.flood(4, lambda number: evaluate(texts[number % 5], backward=True))


@attack()
async def broadcast_giants(aim: Aim) -> None:
    """Arrays of ten million elements, several at once, with gradients, on 8 connections."""
    texts = [
        "sum(cumulative_sum(sin(broadcast_to(x, [10000000]))))",
        "a = sin(broadcast_to(x, [5000000])); b = cumulative_sum(a); c = cumulative_sum(a * b); sum(c * sort(b))",
        "sum(softmax(cumulative_sum(broadcast_to(x, [1000, 10000]), axis=0)))",
        "sum(roll(cumulative_sum(broadcast_to(x, [10000000])), 1) ** 3.5)",
        "sum(take(cumulative_sum(broadcast_to(x, [9000000])), broadcast_to(1, [9000000])))",
    ]
    await aim.flood(8, lambda number: evaluate(texts[number % 5], backward=True))


@attack()
async def long_answers(aim: Aim) -> None:
    """Answers of 200 MB in all encodings, read as fast as they come, on 4 connections."""
    forms = ("nested", "flat", "base64")
    await aim.flood(4, lambda number: evaluate("broadcast_to(sin(x), [10000, 1000])", encoding=forms[number % 3]))


@attack()
async def drip_readers(aim: Aim) -> None:
    """Answers of 28 MB that are read at 10 bytes a second, on 12 connections."""

    async def drip(number: int) -> None:
        start = aim.now()
        try:
            connection = await aim.open(receive_bytes=4096)
            await connection.write(evaluate("broadcast_to(sin(x), [1500, 1000])", inputs={"x": 0.1 + number}))
            head = await connection.head()
        except (OSError, EOFError):
            aim.note("cut", start)
            return
        # An answer that is late may be read for as long as another.
        got, begun = 0, aim.now()
        while aim.now() < begun + aim.patience_s and got < head.length:
            got += len(await connection.reader.read(1)) or head.length
            await asyncio.sleep(0.1)
        # What is in the buffers of the kernel comes still; all of it only if nobody cut it.
        outcome = f"{head.status} cut"
        try:
            async with asyncio.timeout(5):
                await connection.body(head.length - got)
            outcome = "left" if head.status == 200 else str(head.status)
        except (EOFError, ConnectionError, TimeoutError):
            pass
        connection.close()
        aim.outcomes[outcome] += 1

    await aim.together(12, drip)


@attack()
async def value_trap(aim: Aim) -> None:
    """Matrices that are regular until they are known as cheap, and singular from then on, on 2 connections."""
    texts = itertools.cycle(
        f"sum(inv(broadcast_to(x, [{count}, {size}, {size}])))" for count, size in ((8000, 1), (2000, 2), (400, 4))
    )
    for text in itertools.islice(texts, 3):
        for _ in range(5):
            await aim.ask(evaluate(text))
    await aim.flood(2, lambda number: evaluate(next(texts), inputs={"x": 0.0 if number % 4 else 1.0}))


@attack()
async def many_derivatives(aim: Aim) -> None:
    """Jacobians, Hessians and checks of a thousand elements, at new shapes each time, on 4 connections."""

    def make(number: int) -> bytes:
        x = [0.5] * (900 + number % 100)
        path, expr = (
            ("/v1/jacobian", "cumulative_sum(sin(x) * x)"),
            ("/v1/hessian", "sum(cumulative_prod(x))"),
            ("/v1/check", "sum(cumulative_sum(exp(x)))"),
            ("/v1/hessian", "sum(outer(sin(x), x) * outer(x, exp(x)))"),
        )[number % 4]
        return request(path, {"expr": expr, "inputs": {"x": x}})

    await aim.flood(4, make)
