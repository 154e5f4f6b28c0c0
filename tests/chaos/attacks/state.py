"""State that the server keeps: sessions, programs, and their disk."""

from __future__ import annotations

import asyncio
import itertools
import json

from tests.chaos.attack import Aim, attack
from tests.chaos.attacks.programs import evaluate
from tests.chaos.wire import request

_FILL = "sin(broadcast_to(0.5, [500000]))"


async def _session(aim: Aim, **fields: object) -> str:
    status, body = await aim.ask(request("/v1/sessions", fields), keep=True)
    return str(json.loads(body)["id"]) if status == 201 else ""


@attack()
async def session_flood(aim: Aim) -> None:
    """New sessions on 32 connections, as many as there are given, each with a variable."""

    async def repeat(number: int) -> None:
        while aim.is_on():
            made = await _session(aim, seed=number)
            if not made:
                await asyncio.sleep(0.02)
                continue
            commands = {"commands": [{"do": "variable", "id": "x", "value": [0.5] * 1000}]}
            await aim.ask(request(f"/v1/sessions/{made}/run", commands))

    await aim.together(32, repeat)


@attack()
async def full_sessions(aim: Aim) -> None:
    """Sessions that are filled with arrays until there is no more room, 4 at a time."""

    async def fill(number: int) -> None:
        while aim.is_on():
            made = await _session(aim, seed=number)
            status = 201 if made else 0
            for step in range(40) if made else ():
                commands = [{"do": "apply", "expr": _FILL, "out": [f"y{step}_{k}"]} for k in range(2)]
                status, _ = await aim.ask(request(f"/v1/sessions/{made}/run", {"commands": commands}))
                if status != 200 or not aim.is_on():
                    break
            if status == 0:
                await asyncio.sleep(0.05)

    await aim.together(4, fill)


@attack()
async def long_tapes(aim: Aim) -> None:
    """Sessions whose tape grows by thousands of operations in each run, with backward over all of it, 8 at a time."""

    async def grow(number: int) -> None:
        while aim.is_on():
            made = await _session(aim)
            if not made:
                await asyncio.sleep(0.05)
                continue
            run = f"/v1/sessions/{made}/run"
            await aim.ask(request(run, {"commands": [{"do": "variable", "id": "x", "value": 0.5}]}))
            step = {"do": "apply", "op": "sin", "args": ["x"], "out": ["x"]}
            back = {"do": "backward", "of": "x", "create_graph": True, "retain_grad": True}
            status = 200
            while status == 200 and aim.is_on():
                status, _ = await aim.ask(request(run, {"commands": [*[step] * 3000, back], "fetch": ["x"]}))

    await aim.together(8, grow)


@attack()
async def one_session(aim: Aim) -> None:
    """Runs of one session from 64 connections at once, cheap ones and long ones."""
    made = await _session(aim)
    run = f"/v1/sessions/{made}/run"
    await aim.ask(request(run, {"commands": [{"do": "variable", "id": "x", "value": 0.5}]}))
    step = {"do": "apply", "expr": "x + 1.0", "out": ["y"]}
    long = {"do": "apply", "expr": "sum(inv(broadcast_to(x * 0.0, [500000, 2, 2])))", "out": ["z"]}
    await aim.flood(64, lambda number: request(run, {"commands": [long if number % 50 == 0 else step]}))


@attack()
async def programs_in_a_loop(aim: Aim) -> None:
    """Programs that are registered, named, used and deleted in a loop, on 16 connections."""
    numbers = itertools.count()

    async def repeat(_: int) -> None:
        while aim.is_on():
            number = next(numbers)
            name = f"loop{number}"
            expr = f"sin(x * {number}.5) + sum(b)"
            await aim.ask(request("/v1/programs", {"expr": expr, "name": name, "bind": {"b": [0.5] * 1000}}))
            await aim.ask(request("/v1/evaluate", {"program": name, "inputs": {"x": 1.0}, "backward": True}))
            await aim.ask(request("/v1/programs", {"expr": "x", "name": "contested", "replace": True}))
            await aim.ask(request(f"/v1/programs/{name}", method="DELETE"))

    await aim.together(16, repeat)


@attack()
async def programs_that_stay(aim: Aim) -> None:
    """Programs that are registered and stay, with 4 MB bound to each, and stored gradients; on 8 connections."""
    text = ", ".join(f"0.{place:07d}" for place in range(400_000))

    def make(number: int) -> bytes:
        if number % 2:
            return evaluate(f"sin(x * {number}.5)", backward={"create_graph": True})
        return request("/v1/programs", f'{{"expr":"sum(b)*x","bind":{{"b":[{number},{text}]}}}}'.encode())

    await aim.flood(8, make)


@attack()
async def pictures(aim: Aim) -> None:
    """Pictures of derivatives of high order of a registered program, on 4 connections."""
    body = {"expr": "tanh(exp(sin(x))) * sin(x) + exp(x * x)", "name": "pictured"}
    await aim.ask(request("/v1/programs", body))
    paths = ("dot?order=8", "dot.svg?order=3", "dot?order=12", "dot?order=99999", "dot.svg?order=5")
    await aim.flood(4, lambda number: request(f"/v1/programs/pictured/{paths[number % 5]}", method="GET"))
