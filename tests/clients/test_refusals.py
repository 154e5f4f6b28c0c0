"""What cannot be sent, or is too much, is refused once; the session can be used as before."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import engine
import pullback
from pullback import Variable, connect, errors, hooks, models, optimizers
from pullback import functions as F
from pullback.recording import outbox
from tests.app.conftest import start_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pullback import Connection
    from tests.app.conftest import Server

UNSENDABLE: dict[str, Callable[[Any], Any]] = {
    "an object as an index": lambda x: x[object()],
    "an index that is too large": lambda x: x[10**30],
    "axes that are too large": lambda x: F.sum(x, axes=10**30),
    "a complex number": lambda x: F.clip(x, 1j, 2),
    "a function as a dtype": lambda x: F.astype(x, lambda: 0),
    "a lone surrogate in a name": lambda x: Variable(1.0, name="\ud800") * x,
    "an object for a flag": lambda x: F.sum(x).backward(create_graph=object()),
}


@pytest.mark.parametrize("what", UNSENDABLE)
def test_what_cannot_be_sent(connection: Connection, what: str) -> None:
    x = Variable([1.0, 2.0, 3.0])
    y = x * 2.0
    with pytest.raises((errors.AutogradError, TypeError)):  # noqa: PT012 - refused here or there
        UNSENDABLE[what](x)
        connection.flush()
    assert y.data.tolist() == [2.0, 4.0, 6.0]
    assert (x * 3.0).data.tolist() == [3.0, 6.0, 9.0]


def test_what_python_writes_otherwise(connection: Connection) -> None:
    x = Variable(np.arange(6.0))
    assert F.reshape(x, range(2, 4)).shape == (2, 3)
    assert x[range(2)].data.tolist() == [0.0, 1.0]
    assert F.reshape(x, (n for n in (3, 2))).shape == (3, 2)
    assert [y.item() for y in F.split(x, np.int64(6))] == list(range(6))
    assert Variable(1.0, name=np.str_("w")).item() == 1.0


def test_more_bytes_than_a_request_may_have(connection: Connection) -> None:
    total = sum((F.sum(Variable(np.ones(1_000_000))) for _ in range(6)), start=Variable(0.0))
    assert total.item() == 6e6
    x = Variable(2.0)
    large = Variable(np.ones(5_000_000))
    with pytest.raises(errors.BodyTooLargeError, match="recorded at"):
        (F.sum(large) * x).item()
    assert (x * 3.0).item() == 6.0


def test_a_session_that_is_full(tmp_path: Path) -> None:
    with start_server(tmp_path, store="memory", max_session_bytes="1000000") as server, connect(server.base_url):
        x = Variable(2.0)
        for n in range(10):
            batch = Variable(np.full(40_000, float(n)))
            assert F.mean(batch * x).item() == 2.0 * n
            del batch
        refusals = 0
        for n in range(20):
            found = None
            while found is None:
                try:
                    # Within an assert, what it is made of would be held for longer.
                    found = F.sum(x * np.full(20_000, float(n))).item()
                except errors.LimitExceededError:
                    # Constants that are not needed are let go.
                    x = Variable(2.0)
                    refusals += 1
            assert found == 40_000.0 * n
        assert 0 < refusals < 10


def test_fewer_commands_in_a_run_than_are_recorded(tmp_path: Path) -> None:
    with start_server(tmp_path, store="memory", max_commands="100") as server, connect(server.base_url):
        x = y = Variable(1.0)
        for _ in range(1500):
            y = F.sin(y) + x
        expected = 1.0
        for _ in range(1500):
            expected = float(np.sin(expected)) + 1.0
        assert abs(y.item() - expected) < 1e-12
        y.backward()
        assert x.grad is not None


def test_the_line_that_was_too_much(tmp_path: Path) -> None:
    with start_server(tmp_path, store="memory", max_session_variables="30") as server, connect(server.base_url):
        x = Variable(2.0)
        held = []
        with pytest.raises(errors.LimitExceededError, match=r"line \d+, in test_the_line.*held\.append"):  # noqa: PT012
            for _ in range(40):
                held.append(x * 2.0)  # noqa: PERF401
            held[-1].item()
        assert held[20].item() == 4.0
        with pytest.raises(errors.LimitExceededError):
            held[35].item()
        del held
        assert (x * 3.0).item() == 6.0


def test_more_constants_than_are_kept(connection: Connection) -> None:
    x = Variable([0.5])
    many = [np.full(1, float(n)) for n in range(1500)]
    assert F.concat(x, *many, axis=0).shape == (1501,)


def test_configurations_of_steps_that_were_refused(connection: Connection) -> None:
    def trained(library: Any, bad: Callable[[], None]) -> Any:
        x = library.Variable(1.0)
        optimizer = library.optimizers.SGD([x], 0.1)
        for rate in (0.1, 0.05, np.float64(0.01)):
            if rate == 0.05:
                bad()
            optimizer.learning_rate = rate
            x.cleargrad()
            (x * x).backward()
            optimizer.step()
        return x.item()

    def refused() -> None:
        a = Variable([[1.0, 2.0]])
        y = Variable(1.0)
        optimizer = optimizers.SGD([y], 0.1)
        F.matmul(a, a)
        optimizer.learning_rate = 7.0
        optimizer.hooks.append(hooks.ClipGrad(1.0))
        optimizer.step()
        with pytest.raises(errors.ShapeMismatchError):
            connection.flush()
        optimizer.hooks.clear()
        optimizer.learning_rate = 0.5
        y.backward()
        optimizer.step()
        assert y.item() == 0.5

    assert trained(pullback, refused) == trained(engine, lambda: None)


def test_a_hook_that_changes(connection: Connection) -> None:
    clip = hooks.ClipGrad(1.0)
    x = Variable(0.0)
    optimizer = optimizers.SGD([x], 1.0, hooks=[clip])
    for most in (1.0, 2.0):
        clip.max = most
        x.data = 0.0
        x.cleargrad()
        (x * 100.0).backward()
        optimizer.step()
        assert abs(x.item() + most) < 1e-4


def test_a_parameter_that_leaves(connection: Connection) -> None:
    params = {"a": Variable(1.0), "b": Variable(2.0)}
    optimizer = optimizers.Adam(params)
    for _ in range(3):
        (params["a"] * params["b"]).backward()
        optimizer.step()
    b = params["b"]
    del params["a"]
    optimizer.step()
    assert optimizer.state_dict()["t"] == 4
    assert b.item() != 2.0


def test_a_parameter_of_another_shape(connection: Connection) -> None:
    x = Variable(1.0)
    optimizer = optimizers.Momentum([x])
    x.backward()
    optimizer.step()
    x.data = [1.0, 2.0]
    F.sum(x).backward()
    optimizer.step()
    x.data = [1.0, 2.0, 3.0]
    F.sum(x).backward()
    optimizer.step()
    with pytest.raises(errors.ShapeMismatchError, match="make a new optimizer"):
        connection.flush()


def test_a_gradient_that_was_seen_stays(connection: Connection) -> None:
    x, a = Variable(3.0), Variable([[1.0, 2.0]])
    (x * x).backward()
    gradient = x.grad
    assert gradient is not None and gradient.item() == 6.0
    F.matmul(a, a)
    x.cleargrad()
    with pytest.raises(errors.ShapeMismatchError):
        connection.flush()
    assert gradient.item() == 6.0


def test_what_is_believed_where_a_full_batch_cannot_be_sent(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_MOST_COMMANDS", 5)
    w = Variable(0.0)
    connection.flush()

    def lost(*_: Any) -> Any:
        raise errors.UnreachableError("gone")

    with monkeypatch.context() as gone:
        gone.setattr(connection.session, "run", lost)
        with pytest.raises(errors.UnreachableError):  # noqa: PT012 - in one of them
            for n in range(1, 20):
                w.data = float(n)
    believed = w.item()
    assert (w * 1.0).item() == believed


def test_a_thread_is_told_once(connection: Connection) -> None:
    a, x = Variable([[1.0, 2.0]]), Variable(2.0)
    told: list[str] = []
    recorded, flushed = threading.Event(), threading.Event()

    def work() -> None:
        bad = F.matmul(a, a)
        recorded.set()
        flushed.wait(10)
        for look in (lambda: bad.data, lambda: (x * 2.0).item()):
            try:
                look()
            except errors.ShapeMismatchError as error:
                told.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    recorded.wait(10)
    assert (x * 1.0).item() == 2.0
    flushed.set()
    thread.join()
    assert len(told) == 1


def test_words_for_numbers_are_no_names(server: Server, connection: Connection) -> None:
    for name in ("Infinity", "NaN"):
        x = Variable(2.0, name=name)
        assert (x * 3.0).item() == 6.0 and connection.variable(name).item() == 2.0
        refused = connection.client.sessions.create()
        with pytest.raises(errors.InvalidValueError, match="is a number"):
            connection.client.sessions.run(refused.id, 1, [{"do": "variable", "id": name, "value": 1.0}])
    with connect(server.base_url, json=True):
        slopes = pullback.transforms.value_and_grad(lambda a: F.minimum(a, np.inf) * 2.0)(1.0)
        assert slopes == (2.0, 2.0)


def test_arrays_that_change_inside_of_a_trace(connection: Connection) -> None:
    def f(functions: Any, x: Any) -> Any:
        buffer, total = np.zeros(3), 0.0
        for n in range(3):
            buffer[:] = n
            total = total + functions.sum(x * buffer)
        return total

    value, slope = pullback.transforms.value_and_grad(lambda x: f(F, x))(np.ones(3))
    assert (value, slope.tolist()) == (9.0, [3.0] * 3)
    with pytest.raises(errors.BadAttributeError, match="twice"):
        pullback.transforms.grad(lambda x, y: x * y, argnums=(0, 0))(3.0, 2.0)


def test_looking_at_what_was_taken_up_leaves_it_there(server: Server) -> None:
    with connect(server.base_url, keep=True) as first:
        Variable(1.0, name="w0"), Variable(2.0, name="w1")
        first.flush()
        held = Variable(3.0, name="w2")
        first.flush()
    assert held.name == "w2"
    with connect(server.base_url, session=first.id) as again:
        for _ in range(3):
            assert again.variable("w2").item() == 3.0
        again.flush()
        assert "w2" in again.variables()
    first.client.close()


def test_connections_of_threads(server: Server) -> None:
    found: list[float] = []
    barrier = threading.Barrier(4)

    def work(n: int) -> None:
        with connect(server.base_url):
            barrier.wait(10)
            w = Variable(float(n))
            barrier.wait(10)
            found.append((w * Variable(2.0)).item())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0.0, 2.0, 4.0, 6.0]
    first, second = connect(server.base_url), connect(server.base_url)
    with first:
        assert Variable(1.0)._recorder is first._recorder
    second.close()


def test_the_end_of_a_process(server: Server) -> None:
    """Its sessions end with it, but for one that is to be kept; a fork of it ends nothing, and is told."""
    script = """
        import os, sys
        from pullback import Variable, connect, errors
        made, kept = connect(), connect(keep=True)
        x = Variable(1.0)
        print(made.id, kept.id, (x * 2.0).item(), flush=True)
        child = os.fork()
        if child == 0:
            try:
                (x * 3.0).item()
            except errors.NotConnectedError as error:
                sys.exit(7 if "forked" in str(error) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert (x * 3.0).item() == 3.0
    """
    words = [sys.executable, "-W", "error::ResourceWarning", "-c", textwrap.dedent(script)]
    env = os.environ | {"PULLBACK_URL": server.base_url}
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=240)
    assert done.returncode == 0 and not done.stderr, done.stderr
    ended, kept, value = done.stdout.split()
    assert value == "2.0"
    with pullback.Client(server.base_url) as client:
        with pytest.raises(errors.UnknownSessionError):
            client.sessions.get(ended)
        client.sessions.delete(kept)


@pytest.mark.parametrize("key", ["kéy", "a\nb"])
def test_keys_that_no_header_carries(server: Server, key: str) -> None:
    with pytest.raises(errors.UnauthorizedError) as caught:
        pullback.Client(server.base_url, api_key=key)
    assert key not in str(caught.value)
    with pullback.Client(server.base_url, api_key="from a file\n") as client:
        assert client.health()["status"] == "alive"


def test_names_that_are_other_paths(connection: Connection) -> None:
    for name in ("", ".", ".."):
        with pytest.raises(errors.InvalidValueError, match="no name"):
            connection.client.op(name)


def test_lines_of_packages_that_are_called_alike(connection: Connection, tmp_path: Path) -> None:
    file = tmp_path / "pullback_demo.py"
    file.write_text("from pullback import functions as F\ndef wrong(a):\n    return F.matmul(a, a)\n")
    namespace: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), namespace)
    with pytest.raises(errors.ShapeMismatchError, match=r"pullback_demo\.py, line 3"):
        namespace["wrong"](Variable([[1.0, 2.0]])).data  # noqa: B018


def test_a_model_in_a_session_that_somebody_else_uses(server: Server) -> None:
    with connect(server.base_url, keep=True) as made:
        model = models.MLP([2, 1], rng=0)
        model(np.ones((1, 2))).data  # noqa: B018
        with connect(server.base_url, session=made.id) as other:
            Variable(1.0)
            other.flush()
        with pytest.raises(errors.SequenceConflictError, match=r"take it up as it is with connect"):
            model(np.ones((1, 2))).data  # noqa: B018
        made.client.sessions.delete(made.id)
