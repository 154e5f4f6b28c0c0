"""Threads on one connection, and on several."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

import engine
import engine.core.errors
from pullback import (
    Client,
    Connection,
    Variable,
    connect,
    errors,
    no_grad,
    transforms,
)
from pullback import functions as F

if TYPE_CHECKING:
    from tests.app.conftest import Server

THREADS = 8


def test_threads_on_one_connection(connection: Connection) -> None:
    shared = Variable(2.0)

    def work(seed: int) -> list[float]:
        found = []
        w = Variable(float(seed))
        for _ in range(15):
            loss = F.square(w - shared) + float(seed)
            loss.backward()
            w.data = w.data - 0.1 * w.grad.data
            w.cleargrad()
            found.append(loss.item())
        return found

    def local(seed: int) -> list[float]:
        found = []
        w, shared = engine.Variable(float(seed)), engine.Variable(2.0)
        for _ in range(15):
            loss = engine.functions.square(w - shared) + float(seed)
            loss.backward()
            w.data = w.data - 0.1 * w.grad.data
            w.cleargrad()
            found.append(loss.item())
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, range(THREADS)))
    assert found == [local(seed) for seed in range(THREADS)]


def test_an_error_of_one_thread_is_not_raised_in_another(connection: Connection) -> None:
    def good() -> list[str]:
        raised = []
        for i in range(60):
            x = Variable(float(i))
            try:
                assert (x * 2.0).item() == 2.0 * i
            except errors.ShapeMismatchError as error:
                raised.append(str(error))
        return raised

    def bad() -> list[str]:
        x = Variable([1.0, 2.0])
        for _ in range(60):
            with pytest.raises(errors.ShapeMismatchError):
                (x + np.ones(3)).data  # noqa: B018
        return []

    with ThreadPoolExecutor(THREADS) as pool:
        raised = [pool.submit(good if n % 2 else bad) for n in range(THREADS)]
        assert [future.result() for future in raised] == [[]] * THREADS


def test_flags_belong_to_their_thread(connection: Connection) -> None:
    """`no_grad` of one thread is not that of another, although they share a session."""
    barrier = threading.Barrier(THREADS)

    def work(number: int) -> tuple[bool, bool]:
        has_tape = []
        for _ in range(10):
            x = Variable(2.0)
            barrier.wait(30)
            if number % 2:
                with no_grad():
                    y = x * x
                    barrier.wait(30)
            else:
                barrier.wait(30)
                y = x * x
            if number % 2 == 0:
                y.backward()
                has_tape.append(x.grad is not None and x.grad.item() == 4.0)
            else:
                has_tape.append(y.creator is not None)
        return all(has_tape), any(has_tape)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, range(THREADS)))
    assert found == [(number % 2 == 0,) * 2 for number in range(THREADS)]


def test_transforms_in_threads(connection: Connection) -> None:
    def work(number: int) -> float:
        found: float = transforms.grad(transforms.grad(lambda x: x**3 * float(number)))(2.0)
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS * 3))) == [12.0 * number for number in range(THREADS * 3)]


def test_a_client_in_threads(server: Server) -> None:
    with Client(server.base_url) as client, ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda i: client.evaluate(f"x + {i}", {"x": 1.0}).values["out"], range(100)))
    assert found == [i + 1.0 for i in range(100)]


def test_a_connection_for_each_thread(server: Server) -> None:
    def work(number: int) -> tuple[float, set[str]]:
        with connect(server.base_url) as made, made.active():
            x = Variable(float(number), name=f"x{number}")
            y = x * x
            y.backward()
            return x.grad.item(), {name for name in made.variables() if name.startswith("x")}

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS))) == [(2.0 * i, {f"x{i}"}) for i in range(THREADS)]
