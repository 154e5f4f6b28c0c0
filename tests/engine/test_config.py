"""no_grad and test_mode: nesting, exceptions, decorators, threads and tasks."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engine import Variable, no_grad, test_mode
from engine import functions as F
from engine.core.config import is_recording, is_training


def test_they_nest_and_are_restored() -> None:
    with no_grad():
        assert not is_recording()
        with no_grad(), test_mode():
            assert not is_training()
        assert not is_recording()
        assert is_training()
    assert is_recording()


def test_they_are_restored_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), no_grad(), test_mode():
        raise ZeroDivisionError
    assert is_recording()
    assert is_training()


def test_one_object_serves_many_threads() -> None:
    off = no_grad()
    barrier = threading.Barrier(8)

    def enter(_: int) -> tuple[bool, bool]:
        barrier.wait()
        with off:
            barrier.wait()
            inside = is_recording()
        return inside, is_recording()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(enter, range(8))) == [(False, True)] * 8


def test_nothing_is_recorded_inside_no_grad() -> None:
    x = Variable([1.0, 2.0])
    with no_grad():
        y = F.sum(x * x)
    assert y.creator is None
    assert y.generation == 0


def test_they_decorate_functions_methods_and_coroutines() -> None:
    @no_grad()
    def recursive(n: int) -> bool:
        return is_recording() if n == 0 else recursive(n - 1)

    @test_mode()
    async def coroutine() -> bool:
        await asyncio.sleep(0)
        return is_training()

    assert not recursive(3)
    assert is_recording()
    assert not asyncio.run(coroutine())
    assert is_training()
    with pytest.raises(TypeError, match="generator"):

        @no_grad()
        def generator():  # type: ignore[no-untyped-def]
            yield 1


def work(k: int) -> list[float]:
    """Backward, no_grad and test_mode interleaved; the result depends on k alone."""
    results = []
    for i in range(20):
        x = Variable(0.1 * k + 0.01 * i)
        w = Variable(np.full(3, 0.5 + k))
        y = F.sum(F.exp(x * w)) + F.sin(x)
        with no_grad():
            silent = F.exp(x)
            with test_mode():
                same = F.dropout(x, ratio=0.9)
        dropped = F.dropout(w, ratio=0.5, rng=k * 100 + i)
        (y + F.sum(dropped)).backward()
        assert silent.creator is None
        assert x.grad is not None
        assert w.grad is not None
        results += [x.grad.data, *w.grad.data, same.data, *dropped.data]
    return results


def test_32_threads_give_what_one_gives() -> None:
    expected = [work(k) for k in range(32)]
    barrier = threading.Barrier(32)

    def start(k: int) -> list[float]:
        barrier.wait()
        return work(k)

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(start, range(32))) == expected
    assert is_recording()


async def task(k: int) -> list[float]:
    results = []
    for i in range(5):
        x = Variable(0.1 * k + i)
        with no_grad():
            await asyncio.sleep(0)
            silent = F.exp(x)
            with test_mode():
                await asyncio.sleep(0)
                same = F.dropout(x, ratio=0.9)
        await asyncio.sleep(0)
        y = F.sin(x) * x
        await asyncio.sleep(0)
        y.backward()
        assert silent.creator is None
        assert x.grad is not None
        results += [x.grad.data, same.data]
    return results


def test_200_tasks_give_what_one_gives() -> None:
    async def alone() -> list[list[float]]:
        return [await task(k) for k in range(200)]

    async def together() -> list[list[float]]:
        return list(await asyncio.gather(*(task(k) for k in range(200))))

    assert asyncio.run(together()) == asyncio.run(alone())
