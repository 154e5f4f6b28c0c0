"""Many calls at once on one client, and tasks that are cancelled in the middle of a call."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pullback import AsyncClient
from pullback.errors import InvalidValueError, RequestTimeoutError, ShapeMismatchError, UnreachableError
from tests.app.conftest import ROOT
from tests.clients.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from tests.app.conftest import Server

pytestmark = pytest.mark.usefixtures("short_pauses")

CALLS = 100
ADD_ONE: list[dict[str, Any]] = [
    {"do": "apply", "expr": "x + 1", "out": ["y"]},
    {"do": "assign", "id": "x", "from": "y"},
]


@pytest.mark.parametrize("json", [True, False], ids=["json", "msgpack"])
def test_a_hundred_calls_at_once(server: Server, json: bool) -> None:
    async def main() -> None:
        async with AsyncClient(server.base_url, json=json) as client:
            found = await asyncio.gather(
                *(client.evaluate(f"x**2 + {i}", {"x": float(i)}, backward=True) for i in range(CALLS))
            )
        assert [one.values["out"] for one in found] == [float(i * i + i) for i in range(CALLS)]
        assert [one.grads["x"] for one in found] == [2.0 * i for i in range(CALLS)]

    asyncio.run(main())


@pytest.mark.parametrize("connections", [1, 7])
def test_connections_are_bounded(proxy: Proxy, connections: int) -> None:
    async def main() -> None:
        async with AsyncClient(proxy.url, connections=connections) as client:
            await asyncio.gather(*(client.evaluate("x * 1", {"x": float(i)}) for i in range(CALLS)))

    asyncio.run(main())
    assert proxy.count == CALLS
    assert proxy.connections <= connections


def test_calls_that_wait_for_a_connection_do_not_time_out() -> None:
    """`timeout_s` is for a try of a call, not for standing in a queue of our own making."""
    told = []

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            told.append(request.extensions["timeout"])
            raise httpx.ReadTimeout("late", request=request)

    async def main() -> None:
        async with AsyncClient("http://here", timeout_s=0.5, retries=0, transport=Transport()) as client:
            with pytest.raises(RequestTimeoutError):
                await client.evaluate("x * 1", {"x": 1.0})

    asyncio.run(main())
    assert told == [{"connect": 0.5, "read": 0.5, "write": 0.5, "pool": None}]


def test_every_kind_of_call_at_once(server: Server) -> None:
    async def main() -> None:
        async with AsyncClient(server.base_url) as client:
            inputs = {"x": [1.0, 2.0]}
            evaluation, jacobian, hessian, check, inference, info, ops = await asyncio.gather(
                client.evaluate("sum(x**3)", inputs, backward=True),
                client.jacobian("x**2", inputs),
                client.hessian("sum(x**3)", inputs),
                client.check("sum(x**3)", inputs),
                client.infer("x**2", {"x": {"shape": [2], "dtype": "float64"}}),
                client.info(),
                client.ops(),
            )
            assert evaluation.grads["x"].tolist() == [3.0, 12.0]
            assert jacobian.jacobian["out"]["x"].tolist() == [[2.0, 0.0], [0.0, 4.0]]
            assert hessian.hessian["x"]["x"].tolist() == [[6.0, 0.0], [0.0, 12.0]]
            assert check.ok
            assert inference is not None and info is not None and ops
            raw = await client.with_raw_response.evaluate("x", {"x": 1.0})
            assert (raw.status, raw.tries, raw.is_replay) == (200, 1, False)
            assert raw.headers["x-request-id"] == raw.request_id

    asyncio.run(main())


def test_one_error_does_not_disturb_the_others(server: Server) -> None:
    async def main() -> None:
        async with AsyncClient(server.base_url) as client:
            calls: list[Coroutine[Any, Any, Any]] = []
            for i in range(50):
                calls.append(client.evaluate("x + 1", {"x": float(i)}))
                calls.append(client.evaluate("x @ x", {"x": [[1.0, 2.0]]}))
            found = await asyncio.gather(*calls, return_exceptions=True)
        assert [one.values["out"] for one in found[::2]] == [i + 1.0 for i in range(50)]
        assert all(type(one) is ShapeMismatchError for one in found[1::2])

    asyncio.run(main())


def test_tasks_that_share_a_session(server: Server) -> None:
    async def main() -> None:
        async with AsyncClient(server.base_url) as client:
            session = await client.session()
            await session.run([{"do": "variable", "id": "x", "value": 0}])
            runs = await asyncio.gather(*(session.run(ADD_ONE, fetch=["x"]) for _ in range(CALLS)))
            assert sorted(run.fetched["x"]["value"] for run in runs) == list(range(1, CALLS + 1))
            assert [run.seq for run in sorted(runs, key=lambda run: run.seq)] == list(range(2, CALLS + 2))
            await session.delete()

    asyncio.run(main())


async def cancelled_in_flight(proxy: Proxy, call: Coroutine[Any, Any, Any]) -> None:
    """Cancels a call when the proxy has its request and does not answer."""
    task = asyncio.ensure_future(call)
    assert await asyncio.to_thread(proxy.waiting.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("fault", ["hold", "lose", "late"])
@pytest.mark.parametrize("waiting", [0, 3])
def test_a_run_that_is_cancelled(port: int, fault: str, waiting: int) -> None:
    """Before or after the server did it, or while it is still on its way; alone, or with others that wait for it."""
    faults: list[str] = []

    async def main(proxy: Proxy) -> None:
        async with AsyncClient(proxy.url) as client:
            session = await client.session()
            await session.run([{"do": "variable", "id": "x", "value": 0}])
            for attempt in range(3):
                before = (await session.run([], fetch=["x"])).fetched["x"]["value"]
                faults.append(fault)
                task = asyncio.ensure_future(session.run(ADD_ONE, fetch=["x"]))
                assert await asyncio.to_thread(proxy.waiting.wait, 60)
                others = [asyncio.ensure_future(session.run(ADD_ONE, fetch=["x"])) for _ in range(waiting)]
                await asyncio.sleep(0)
                faults.clear()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                values = [run.fetched["x"]["value"] for run in await asyncio.gather(*others)]
                values.append((await session.run(ADD_ONE, fetch=["x"])).fetched["x"]["value"])
                assert values[-1] - before in (waiting + 1, waiting + 2), (attempt, values)
                assert values == sorted(set(values))
            assert (await client.evaluate("x * 1", {"x": 1.0})).values == {"out": 1.0}

    with Proxy(port, lambda number: faults[0] if faults else None) as proxy:
        asyncio.run(main(proxy))


@pytest.mark.parametrize("fetch", [["x"], ["y"]], ids=["the same again", "something else"])
def test_a_run_that_is_known_to_be_done(port: int, fetch: list[str]) -> None:
    """Who saw that the server did what was cancelled, and goes on, must not have the next run taken for the first."""
    faults: list[str] = []

    async def main(proxy: Proxy) -> None:
        async with AsyncClient(proxy.url) as client:
            session = await client.session()
            await session.run([{"do": "variable", "id": "x", "value": 0}])
            before = (await session.info()).seq
            faults.append("hold")
            await cancelled_in_flight(proxy, session.run(ADD_ONE, fetch=["x"]))
            faults.clear()
            assert (await session.info()).seq == before + 1, "it was done"
            assert (await session.run(ADD_ONE, fetch=fetch)).fetched[fetch[0]]["value"] == 2
            assert (await session.info()).seq == before + 2

    with Proxy(port, lambda number: faults[0] if faults else None) as proxy:
        asyncio.run(main(proxy))


def test_a_change_and_a_state_that_are_cancelled(port: int) -> None:
    faults: list[str] = []

    async def main(proxy: Proxy) -> None:
        async with AsyncClient(proxy.url) as client:
            session = await client.session(seed=1)
            await session.run([{"do": "variable", "id": "x", "value": 0}])
            faults.append("hold")
            await cancelled_in_flight(proxy, session.change(nograd=True))
            faults.clear()
            await session.run(ADD_ONE)
            await session.change(nograd=False)
            assert not (await session.info()).nograd
            config = {"out_size": 1, "in_size": 2}
            await session.run([{"do": "layer", "id": "l", "kind": "linear", "config": config}])
            file = await session.state("l")
            faults.append("hold")
            await cancelled_in_flight(proxy, session.put_state("l", file))
            faults.clear()
            assert (await session.run(ADD_ONE, fetch=["x"])).fetched["x"]["value"] == 2
            assert await session.state("l") == file

    with Proxy(port, lambda number: faults[0] if faults else None) as proxy:
        asyncio.run(main(proxy))


@pytest.mark.parametrize("seed", range(4))
def test_cancellation_at_any_time(port: int, seed: int) -> None:
    """Every value that was seen is one more than some number of earlier runs; no run counts twice."""
    chance = random.Random(seed)

    async def main(url: str) -> None:
        async with AsyncClient(url, connections=4) as client:
            session = await client.session()
            await session.run([{"do": "variable", "id": "x", "value": 0}])
            finished = 0
            last = 0
            for started in range(1, 61):
                task = asyncio.ensure_future(session.run(ADD_ONE, fetch=["x"]))
                with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                    async with asyncio.timeout(chance.random() * 0.008):
                        value = (await task).fetched["x"]["value"]
                        finished += 1
                        assert last < value <= started
                        last = value
            value = (await session.run([], fetch=["x"])).fetched["x"]["value"]
            assert finished <= value <= 60
            assert (await session.run(ADD_ONE, fetch=["x"])).fetched["x"]["value"] == value + 1

    with Proxy(port, lambda number: "delay" if number % 2 else None, seed=seed) as proxy:
        asyncio.run(main(proxy.url))


def test_cancelled_calls_give_their_connections_back(port: int) -> None:
    async def main(proxy: Proxy) -> None:
        async with AsyncClient(proxy.url, connections=2) as client:
            for _ in range(5):
                faults.append("lose")
                await cancelled_in_flight(proxy, client.evaluate("x * 1", {"x": 1.0}))
                faults.clear()
            found = await asyncio.gather(*(client.evaluate("x * 1", {"x": 1.0}) for _ in range(20)))
            assert all(one.values == {"out": 1.0} for one in found)

    faults: list[str] = []
    with Proxy(port, lambda number: faults[0] if faults else None) as proxy:
        asyncio.run(main(proxy))


def test_cancellation_in_the_pause_between_two_tries(port: int) -> None:
    async def main(proxy: Proxy) -> None:
        async with AsyncClient(proxy.url, retries=1000) as client:
            task = asyncio.ensure_future(client.evaluate("x * 1", {"x": 1.0}))
            while proxy.count < 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with Proxy(port, lambda number: "drop_before") as proxy:
        asyncio.run(main(proxy))


def test_a_timeout_of_the_caller(port: int) -> None:
    async def main(url: str) -> None:
        async with AsyncClient(url) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.evaluate("x * 1", {"x": 1.0}), 0.2)

    with Proxy(port, lambda number: "lose") as proxy:
        asyncio.run(main(proxy.url))


def test_a_session_over_a_network_that_fails_for_a_while(port: int) -> None:
    """An error after all tries leaves open whether the run was done; the next one settles it."""
    faults: list[str] = []

    async def main(url: str) -> None:
        async with AsyncClient(url, retries=1) as client:
            session = await client.session()
            await session.run([{"do": "variable", "id": "x", "value": 0}])
            value = 0
            patience = client._http.timeout
            for fault in ("drop_before", "drop_after", "truncate", "lose"):
                faults.append(fault)
                if fault == "lose":
                    client._http.timeout = httpx.Timeout(0.05)
                with pytest.raises((UnreachableError, RequestTimeoutError)):
                    await session.run(ADD_ONE, fetch=["x"])
                client._http.timeout = patience
                faults.clear()
                seen = (await session.run(ADD_ONE, fetch=["x"])).fetched["x"]["value"]
                assert seen - value in (1, 2)
                value = seen

    with Proxy(port, lambda number: faults[0] if faults else None) as proxy:
        asyncio.run(main(proxy.url))


def test_a_refused_run_takes_no_number(server: Server) -> None:
    async def main() -> None:
        async with AsyncClient(server.base_url) as client:
            session = await client.session()
            await session.run([{"do": "variable", "id": "x", "value": 0}])
            with pytest.raises(InvalidValueError):
                await session.run([{"do": "variable", "id": "z", "value": [[1.0], [1.0, 2.0]]}])
            assert (await session.run(ADD_ONE, fetch=["x"])).fetched["x"]["value"] == 1

    asyncio.run(main())


def run_strictly(script: str, *arguments: str) -> str:
    """What a script prints under `-W error -X dev`, where it ends well and nothing warns.

    In that mode asyncio also notes what kept its loop busy for long, as imports and the start of a server do.
    """
    command: Sequence[str] = [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert [line for line in done.stderr.splitlines() if not line.startswith("Executing <")] == []
    assert done.returncode == 0
    return done.stdout


def test_nothing_is_left_open(server: Server) -> None:
    script = """
        import asyncio, gc, sys
        from pullback import AsyncClient

        async def main():
            async with AsyncClient(sys.argv[1]) as client:
                found = await asyncio.gather(*(client.evaluate("x * 2", {"x": float(i)}) for i in range(100)))
                session = await client.session()
                await session.run([{"do": "variable", "id": "x", "value": 0.5}], fetch=["x"])
                tasks = [asyncio.ensure_future(client.evaluate("x * 1", {"x": 1.0})) for _ in range(20)]
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await session.delete()
            print(sum(one.values["out"] for one in found))

        asyncio.run(main())
        gc.collect()
    """
    assert run_strictly(script, server.base_url) == "9900.0\n"


def test_nothing_is_left_open_after_aclose(server: Server) -> None:
    script = """
        import asyncio, gc, sys
        from pullback import AsyncClient

        async def main():
            client = AsyncClient(sys.argv[1])
            print((await client.evaluate("x * 2", {"x": 2.0})).values)
            await client.aclose()
            await client.aclose()

        asyncio.run(main())
        gc.collect()
    """
    assert run_strictly(script, server.base_url) == "{'out': 4.0}\n"


def test_nothing_is_left_open_by_a_cancelled_main(port: int) -> None:
    script = """
        import asyncio, gc, sys
        from pullback import AsyncClient

        async def main():
            async with AsyncClient(sys.argv[1]) as client:
                await client.evaluate("x * 1", {"x": 1.0})

        try:
            asyncio.run(asyncio.wait_for(main(), 0.5))
        except TimeoutError:
            print("cancelled")
        gc.collect()
    """
    with Proxy(port, lambda number: "lose") as proxy:
        assert run_strictly(script, proxy.url) == "cancelled\n"


def test_nothing_is_left_open_by_an_embedded_server() -> None:
    script = """
        import asyncio, gc
        from pullback import AsyncClient, Client, Variable, connect

        async def main():
            async with AsyncClient("local") as client:
                found = await asyncio.gather(*(client.evaluate("x * 1", {"x": float(i)}) for i in range(20)))
                task = asyncio.ensure_future(client.evaluate("x * 1", {"x": 1.0}))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                print(len(found))

        asyncio.run(main())
        with Client("local") as client:
            print(client.evaluate("x * 1", {"x": 1.0}).values)
        with connect("local"):
            print(Variable(2.0) * 2.0)
        gc.collect()
    """
    assert run_strictly(script) == "20\n{'out': 1.0}\nvariable(4.0)\n"


@pytest.mark.sampled(one_in=6, each=["where", "close"])
@pytest.mark.parametrize("close", ["", "connection.close()", "connection.close(); connection.close()"])
@pytest.mark.parametrize("where", ["url", "local"])
def test_a_script_that_connects(server: Server, where: str, close: str) -> None:
    """As in the quickstart: `connect(...)` at its top, and it just ends."""
    script = f"""
        import sys
        from pullback import Variable, connect, functions as F
        connection = connect(sys.argv[1])
        x = Variable(0.5)
        y = F.square(F.exp(F.square(x)))
        y.backward()
        print(y, x.grad)
        {close}
    """
    url = server.base_url if where == "url" else "local"
    assert run_strictly(script, url) == "variable(1.648721270700128) variable(3.297442541400256)\n"


def test_two_loops_one_after_the_other(server: Server) -> None:
    """A client belongs to a loop: one for each works."""

    async def main() -> float:
        async with AsyncClient(server.base_url) as client:
            value: float = (await client.evaluate("x * 1", {"x": 2.0})).values["out"]
            return value

    assert [asyncio.run(main()) for _ in range(3)] == [2.0] * 3
