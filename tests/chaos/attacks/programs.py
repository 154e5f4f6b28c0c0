"""Programs that are short to write and long to read, check or compile."""

from __future__ import annotations

import json

from tests.chaos.attack import Aim, attack
from tests.chaos.wire import request


def evaluate(expr: str, **fields: object) -> bytes:
    """Return a request to evaluate an expression of x."""
    return request("/v1/evaluate", {"expr": expr, "inputs": {"x": 1.0}, **fields})


@attack()
async def grad_of_grad(aim: Aim) -> None:
    """A new program with grad inside grad, eight deep, on each of 4 connections."""

    def make(number: int) -> bytes:
        text = f"exp(sin(x * x) + tanh(x) * x) * sin({number}.5 * x)"
        for _ in range(8):
            text = f"grad  ({text}, x)"
        return evaluate(text)

    await aim.flood(4, make)


@attack()
async def order_12(aim: Aim) -> None:
    """Twelve derivatives of a new program, on 4 connections."""
    backward = {"order": 12, "create_graph": True}
    await aim.flood(4, lambda number: evaluate(f"tanh(exp(sin({number}.5 * x))) * sin(x)", backward=backward))


@attack()
async def hessian_of_500(aim: Aim) -> None:
    """The Hessian of 500 scalar inputs, each multiplied with the next, on 2 connections."""
    inputs = {f"x{place}": 0.1 for place in range(500)}
    steps = "; ".join(f"s{k} = s{k - 1} * tanh(x{k}) + sin(x{k} * x{k - 1})" for k in range(1, 500))
    document = {"expr": f"s0 = x0; {steps}", "inputs": inputs}
    await aim.flood(2, lambda number: request("/v1/hessian", document | {"inputs": inputs | {"x0": number}}))


@attack()
async def fresh_programs(aim: Aim) -> None:
    """A new program with each request, on 100 connections."""
    await aim.flood(100, lambda number: evaluate(f"sin(x * {number}.25) + exp(-x * x)", backward=True))


@attack()
async def many_names(aim: Aim) -> None:
    """64 KB of distinct names in one program, new ones each time, on 8 connections."""

    def make(number: int) -> bytes:
        names = [f"n{number}_{place}" for place in range(3000)]
        return request("/v1/evaluate", {"expr": "\n".join(f"{n} = x" for n in names), "inputs": {"x": 1}})

    await aim.flood(8, make)


@attack()
async def near_names(aim: Aim) -> None:
    """Thousands of names that are nearly those that the program has, so that the nearest are looked for."""

    def make(number: int) -> bytes:
        names = [f"variable{number}_{place}" for place in range(4000)]
        expr = "\n".join(f"a{place} = {name}" for place, name in enumerate(names))
        return request("/v1/evaluate", {"expr": expr, "inputs": {name + "x": 1 for name in names}})

    await aim.flood(8, make)


@attack()
async def long_text(aim: Aim) -> None:
    """Expressions of megabytes: sums, parentheses, comments, blank lines, digits, strings; on 4 connections."""
    size = 4_000_000
    texts = ["x + " * (size // 4) + "x", "(" * size, "# comment\n" * (size // 10) + "x", "\n" * size, "1" * size]
    texts += ["x = x\n" * (size // 6), "'" + "a" * size + "'", "x" * size, "-" * size + "x", "x[" * (size // 2)]
    texts += ["[1, 2], " * (size // 8), "f(x)(x)" * (size // 7)]
    bodies = [json.dumps({"expr": text, "inputs": {"x": 1}}).encode() for text in texts]
    await aim.flood(4, lambda number: request("/v1/evaluate", bodies[number % len(bodies)]))


@attack()
async def literal_lists(aim: Aim) -> None:
    """Lists of a million numbers as literals of a program and as inputs, on 4 connections."""
    numbers = "[" + "0.12345678901, " * 1_000_000 + "1]"
    short = "[" + "1," * 4_000_000 + "1]"
    bodies = [
        json.dumps({"expr": f"sum({numbers})"}).encode(),
        b'{"graph":{"nodes":[{"id":"y","op":"sum","args":[%s]}]}}' % numbers.encode(),
        b'{"expr":"sum(x)","inputs":{"x":%s}}' % short.encode(),
        b'{"expr":"sum(x)","inputs":{"x":[%s{}]}}' % (b'{"shape":[1],"data":[1]},' * 500_000),
        b'{"expr":"sum(x)","inputs":{"x":[%s[1]]}}' % (b"[1]," * 2_000_000),
    ]
    await aim.flood(4, lambda number: request("/v1/evaluate", bodies[number % len(bodies)]))


@attack()
async def heavy_json(aim: Aim) -> None:
    """138 KB of JSON for a program that is always the same, on 64 connections."""
    row = [round(0.001 * place, 6) for place in range(100)]
    inputs = {"a": [row] * 100, "b": [row] * 100}

    def make(number: int) -> bytes:
        return request("/v1/evaluate", {"expr": "sum(tanh(a @ b))", "inputs": inputs, "backward": True})

    once = make(0)
    await aim.flood(64, lambda number: once)


@attack()
async def wide_graphs(aim: Aim) -> None:
    """Graphs of thousands of nodes: all on one, a cycle of all, thousands of outputs, new each time."""

    def make(number: int) -> bytes:
        count = 20_000
        star = [{"id": f"n{k}", "op": "mul", "args": ["x", k + number]} for k in range(count)]
        ring = [{"id": f"n{k}", "op": "sin", "args": [f"n{(k + 1) % count}"]} for k in range(count)]
        fields = ({"outputs": [f"n{k}" for k in range(count)]}, {"outputs": ["n0"]})[number % 2]
        graph = {"nodes": (star, ring)[number % 2], **fields}
        return request("/v1/evaluate", {"graph": graph, "inputs": {"x": 1}, "outputs": "all"})

    once = [make(number) for number in range(2)]
    await aim.flood(4, lambda number: once[number % 2])
