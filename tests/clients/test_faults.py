"""A training over a network that loses, repeats, delays and cuts off ends as one over a network that does not."""

from __future__ import annotations

import collections
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from pullback import Client, Session, Variable, connect, models, optimizers, state_dict
from pullback import functions as F
from pullback.errors import OverloadedError, PullbackError, RequestTimeoutError, UnreachableError, WrongServerError
from tests.app.conftest import start_server
from tests.clients.proxy import FAULTS, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("short_pauses")

STEPS = 300
SOAK_STEPS = 1_000
RATE = 0.25
#: Those that cost a client its whole patience are rarer.
WEIGHTS = [0.05 if fault == "late" else 1.0 for fault in FAULTS]
#: For a try; short, for `late` waits that long.
TIMEOUT_S = 1.0
RETRIES = 25

State = dict[str, Any]


def at_random(seed: int, faults: tuple[str, ...] = FAULTS, rate: float = RATE) -> Callable[[int], str | None]:
    chance = random.Random(seed)
    weights = [weight for fault, weight in zip(FAULTS, WEIGHTS, strict=True) if fault in faults]
    return lambda number: chance.choices(faults, weights)[0] if chance.random() < rate else None


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def train(url: str, steps: int, **options: Any) -> tuple[list[float], State, State]:
    """Losses, weights and the optimizer's state after so many steps, with dropout from the session's own generator."""
    data = np.random.default_rng(3)
    x = data.standard_normal((32, 4))
    t = np.tanh(x.sum(axis=1, keepdims=True))
    losses = []
    with connect(url, seed=11, **options):
        model = models.MLP([8, 1], activation="tanh", rng=0)
        optimizer = optimizers.AdamW(model, alpha=0.01)
        for step in range(steps):
            loss = F.mean_squared_error(model(F.dropout(Variable(x), ratio=0.2)), t)
            model.cleargrads()
            loss.backward()
            optimizer.step()
            if step % 3 != 1:  # not every step is looked at
                losses.append(loss.item())
        return losses, state_dict(model), optimizer.state_dict()


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    assert found
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def compare(url: str, steps: int, seed: int, faults: tuple[str, ...] = FAULTS) -> collections.Counter[str | None]:
    """Trains over a good network and a bad one; returns how often each fault happened."""
    losses, weights, state = train(url, steps)
    with Proxy(port_of(url), at_random(seed, faults), seed=seed) as proxy:
        found_losses, found_weights, found_state = train(proxy.url, steps, timeout_s=TIMEOUT_S, retries=RETRIES)
        happened = collections.Counter(exchange.fault for exchange in proxy.exchanges)
    assert found_losses == losses
    assert_same(found_weights, weights)
    assert_same(found_state, state)
    return happened


@pytest.mark.thorough
def test_training(server: Any) -> None:
    happened = compare(server.base_url, STEPS, seed=1)
    assert set(FAULTS) <= set(happened)


@pytest.mark.sampled(one_in=4)
@pytest.mark.parametrize("fault", FAULTS)
def test_training_with_one_kind_of_fault(server: Any, fault: str) -> None:
    happened = compare(server.base_url, 8 if fault == "late" else 40, seed=2, faults=(fault,))
    assert happened[fault] > 0


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "late"])
def test_the_very_first_request(port: int, fault: str) -> None:
    """A session that was made, and whose answer was lost, is not made twice."""
    with Proxy(port, lambda number: fault if number < 4 else None) as proxy, connect(proxy.url, retries=RETRIES):
        x = Variable(3.0)
        y = x * x
        y.backward()
        assert x.grad.data == 6.0
        assert y.data == 9.0


def count_up(session: Session, times: int) -> list[float]:
    """What a variable is after each of so many additions of one."""
    step = [{"do": "apply", "expr": "x + 1", "out": ["y"]}, {"do": "assign", "id": "x", "from": "y"}]
    return [session.run(step, fetch=["x"]).fetched["x"]["value"] for _ in range(times)]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_done_twice(port: int, seed: int) -> None:
    with (
        Proxy(port, at_random(seed, rate=0.5), seed=seed) as proxy,
        Client(proxy.url, timeout_s=TIMEOUT_S, retries=RETRIES) as client,
    ):
        session = client.session()
        session.run([{"do": "variable", "id": "x", "value": 0}])
        assert count_up(session, 60) == list(range(1, 61))
        session.change(nograd=True)
        assert count_up(session, 5) == list(range(61, 66))
        assert session.info().nograd


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "truncate", "busy"])
def test_calls_without_a_session(port: int, fault: str) -> None:
    with (
        Proxy(port, lambda number: fault if number % 3 else None) as proxy,
        Client(proxy.url, retries=RETRIES) as client,
    ):
        raw = client.with_raw_response.evaluate("x**2", {"x": 3.0}, backward=True)
        assert (raw.tries, raw.status, raw.parsed.grads) == (1, 200, {"x": 6.0})
        raw = client.with_raw_response.evaluate("x**2", {"x": 3.0}, backward=True)
        assert (raw.tries, raw.status, raw.parsed.grads) == (3, 200, {"x": 6.0})
        program = client.programs.register("x * y", bind={"y": 2.0}, name=f"faulty-{fault}")
        assert client.programs.get(f"faulty-{fault}").id == program.id
        client.programs.delete(f"faulty-{fault}")


def test_an_answer_that_comes_again_says_so(port: int) -> None:
    with Proxy(port, lambda number: "drop_after" if number == 1 else None) as proxy, Client(proxy.url) as client:
        session = client.sessions.create()
        raw = client.with_raw_response.sessions.run(session.id, 1, [{"do": "variable", "id": "x", "value": 0.5}], ["x"])
        assert raw.is_replay
        assert raw.tries == 2
        assert raw.parsed.fetched["x"]["value"] == 0.5


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "truncate"])
def test_a_network_that_never_works(port: int, fault: str) -> None:
    with Proxy(port, lambda number: fault) as proxy, Client(proxy.url, retries=2) as client:
        with pytest.raises(UnreachableError, match=proxy.url):
            client.evaluate("x", {"x": 1.0})
        assert proxy.count == 3, "a try and two more"


def test_a_server_that_is_always_busy(port: int) -> None:
    with Proxy(port, lambda number: "busy") as proxy, Client(proxy.url, retries=2) as client:
        with pytest.raises(PullbackError, match="503"):
            client.evaluate("x", {"x": 1.0})
        assert proxy.count == 3


def test_an_overloaded_server_and_another_run(port: int) -> None:
    """`OverloadedError` says that nothing was run: then nothing of it may be run later either, without being asked."""
    faults: list[str] = []
    with Proxy(port, lambda number: faults[0] if faults else None) as proxy, Client(proxy.url, retries=1) as client:
        session = client.session()
        session.run([{"do": "variable", "id": "x", "value": 0}])
        faults.append("overloaded")
        with pytest.raises(OverloadedError):
            count_up(session, 1)
        faults.clear()
        assert session.run([], fetch=["x"]).fetched["x"]["value"] == 0


def test_a_run_that_is_known_to_be_done(port: int) -> None:
    """Who saw that a run whose answer was lost was done, and goes on, must not have the next taken for the first."""
    faults: list[str] = []
    with Proxy(port, lambda number: faults[0] if faults else None) as proxy, Client(proxy.url, retries=1) as client:
        session = client.session()
        session.run([{"do": "variable", "id": "x", "value": 0}])
        faults.append("drop_after")
        with pytest.raises(UnreachableError):
            count_up(session, 1)
        faults.clear()
        assert session.info().seq == 2, "it was done"
        assert count_up(session, 2) == [2, 3]


def test_no_answer_in_time(port: int) -> None:
    with Proxy(port, lambda number: "lose") as proxy, Client(proxy.url, retries=0, timeout_s=0.2) as client:
        with pytest.raises(RequestTimeoutError, match="timeout_s") as caught:
            client.evaluate("x", {"x": 1.0})
        assert isinstance(caught.value, TimeoutError)


def test_a_connection_that_gave_up_goes_on_later(port: int) -> None:
    """What was recorded is not lost when the server cannot be reached for a while, and is not done twice."""
    fails: list[str] = []
    with Proxy(port, lambda number: fails[0] if fails else None) as proxy, connect(proxy.url, retries=1):
        x = Variable(1.0)
        assert x.item() == 1.0
        for fault, expected in (("drop_before", 2.0), ("drop_after", 3.0), ("truncate", 4.0), ("busy", 5.0)):
            fails.append(fault)
            y = x + 1.0
            x.data = x.data + 1.0
            for _ in range(2):
                with pytest.raises((UnreachableError, WrongServerError)):
                    y.item()
            fails.clear()
            assert y.item() == expected
            assert x.item() == expected


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C raises here also where the tests were started in the background, by a shell that has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("fault", ["hold", "lose", "late"])
def test_ctrl_c(port: int, fault: str) -> None:
    """Who interrupts a look in a notebook looks again, and finds what one look would have found."""
    faults: list[str] = []
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    with Proxy(port, lambda number: faults[0] if faults else None) as proxy, connect(proxy.url):

        def interrupt() -> None:
            assert proxy.waiting.wait(60)
            faults.clear()
            signal.pthread_kill(main_thread, signal.SIGINT)

        w = Variable(1.0)
        optimizer = optimizers.SGD([w], 0.25)
        for step in range(3):
            loss = w * w
            w.cleargrad()
            loss.backward()
            optimizer.step()
            faults.append(fault)
            interrupter = threading.Thread(target=interrupt)
            interrupter.start()
            with pytest.raises(KeyboardInterrupt):
                loss.item()
            interrupter.join()
            assert (loss.item(), w.item()) == (0.25**step, 0.5 ** (step + 1))


def main() -> None:
    """Trains for longer, over several bad networks; for `make soak`."""
    with tempfile.TemporaryDirectory() as folder, start_server(Path(folder)) as server:
        for seed in range(3):
            happened = compare(server.base_url, SOAK_STEPS, seed)
            counts = ", ".join(f"{count} {fault}" for fault, count in happened.items() if fault)
            sys.stdout.write(f"{SOAK_STEPS} steps, faults: {counts}: the same weights\n")


if __name__ == "__main__":
    main()
