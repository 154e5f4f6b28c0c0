"""Random programs of variables on the SDK and on the engine, step by step: the same bits, and the same refusals."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import engine
import engine.core.errors
import pullback
from pullback.errors import AutogradError
from tests.clients.conftest import on_session_of

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS, STEPS = 25, 60
UNARY = ("sin", "exp", "tanh", "square", "sigmoid", "relu", "neg")
BINARY = ("add", "sub", "mul", "maximum")
SHAPES: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3), (2, 1))


class Side:
    """One library's variables, by number; both sides are told the same."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.held: dict[int, Any] = {}
        self.optimizer: Any = None

    def leaf(self, n: int, value: Any) -> None:
        self.held[n] = self.library.Variable(value)

    def unary(self, n: int, op: str, a: int) -> None:
        self.held[n] = getattr(self.library.functions, op)(self.held[a])

    def binary(self, n: int, op: str, a: int, b: int) -> None:
        self.held[n] = getattr(self.library.functions, op)(self.held[a], self.held[b])

    def constant(self, n: int, op: str, a: int, value: Any) -> None:
        self.held[n] = getattr(self.library.functions, op)(value, self.held[a])

    def unrecorded(self, n: int, a: int) -> None:
        with self.library.no_grad():
            self.held[n] = self.held[a] * 2.0

    def backward(self, a: int, create_graph: bool, retain_grad: bool) -> None:
        self.held[a].backward(create_graph=create_graph, retain_grad=retain_grad)

    def gradient(self, n: int, a: int) -> None:
        found = self.held[a].grad
        if found is not None:
            self.held[n] = found

    def cleargrad(self, a: int) -> None:
        self.held[a].cleargrad()

    def assign(self, a: int, value: Any) -> None:
        self.held[a].unchain()
        self.held[a].data = value

    def unchain(self, a: int) -> None:
        self.held[a].unchain_backward()

    def forget(self, a: int) -> None:
        del self.held[a]

    def train(self, chosen: list[int], rate: float) -> None:
        leaves = [self.held[a] for a in chosen]
        for v in leaves:
            v.unchain()
        self.optimizer = self.library.optimizers.Momentum(leaves, learning_rate=rate)
        self.optimizer.step()

    def step(self, rate: float) -> None:
        if self.optimizer is not None:
            self.optimizer.learning_rate = rate
            self.optimizer.step()

    def seen(self, a: int) -> tuple[Any, ...]:
        v = self.held[a]
        grad = v.grad
        found = (v.data, None if grad is None else grad.data)
        return tuple(None if x is None else (np.shape(x), np.asarray(x).tobytes()) for x in found)


def steps(rng: random.Random) -> list[tuple[str, tuple[Any, ...]]]:
    """A program: what to do with which variables. Some of it is refused."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    known: list[int] = []
    program: list[tuple[str, tuple[Any, ...]]] = []

    def value() -> Any:
        return numbers.uniform(-1.0, 1.0, rng.choice(SHAPES)).tolist()

    def one() -> int:
        return rng.choice(known[-12:])

    for n in range(STEPS):
        if len(known) < 3:
            program.append(("leaf", (n, value())))
            known.append(n)
            continue
        choices: dict[str, Callable[[], tuple[Any, ...]]] = {
            "leaf": lambda n=n: (n, value()),  # type: ignore[misc]
            "unary": lambda n=n: (n, rng.choice(UNARY), one()),  # type: ignore[misc]
            "binary": lambda n=n: (n, rng.choice(BINARY), one(), one()),  # type: ignore[misc]
            "constant": lambda n=n: (n, rng.choice(BINARY), one(), np.array(value())),  # type: ignore[misc]
            "unrecorded": lambda n=n: (n, one()),  # type: ignore[misc]
            "gradient": lambda n=n: (n, one()),  # type: ignore[misc]
            "backward": lambda: (one(), rng.random() < 0.3, rng.random() < 0.3),
            "cleargrad": lambda: (one(),),
            "assign": lambda: (one(), value()),
            "unchain": lambda: (one(),),
            "train": lambda: ([*{one(), one()}], rng.random()),
            "step": lambda: (rng.random(),),
            "look": lambda: (one(),),
        }
        weights = (2, 8, 8, 3, 1, 3, 6, 2, 2, 1, 1, 2, 4)
        [what] = rng.choices(list(choices), weights)
        program.append((what, choices[what]()))
        if what in ("leaf", "unary", "binary", "constant", "unrecorded", "gradient"):
            known.append(n)
    return program


def outcome(local: Side, what: str, arguments: tuple[Any, ...]) -> tuple[str, str] | None:
    """How the engine refuses a step, if it does; ("KeyError", ...) where it needs what was never made."""
    try:
        getattr(local, what)(*arguments)
    except (engine.errors.AutogradError, KeyError) as error:
        return type(error).__name__.replace("StaleDataError", "NoGradientError"), getattr(error, "detail", "")
    return None


@pytest.mark.sampled(one_in=4)
@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_the_same_bits(client: pullback.Client, seed: int) -> None:
    local, remote = Side(engine), Side(pullback)
    with on_session_of(client) as connection, np.errstate(all="ignore"):
        for what, arguments in steps(random.Random(seed)):
            if what == "look":
                if arguments[0] in local.held:
                    assert remote.seen(*arguments) == local.seen(*arguments)
                continue
            refusal = outcome(local, what, arguments)
            if refusal is None:
                getattr(remote, what)(*arguments)
            elif refusal[0] != "KeyError":
                # Looked at now, so that nothing is recorded after it.
                with pytest.raises(AutogradError) as caught:  # noqa: PT012
                    getattr(remote, what)(*arguments)
                    connection.flush()
                assert (type(caught.value).__name__, caught.value.detail) == refusal
                # Here it has a name until then.
                remote.held = {n: v for n, v in remote.held.items() if n in local.held}
        assert remote.held.keys() == local.held.keys()
        for n in local.held:
            assert remote.seen(n) == local.seen(n), n
