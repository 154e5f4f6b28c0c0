"""Sessions that are taken up again, also after the client was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pullback import (
    Variable,
    connect,
    errors,
    no_grad,
    optimizers,
)
from pullback import functions as F
from tests.app.conftest import ROOT

if TYPE_CHECKING:
    from tests.app.conftest import Server


CHILD = """
    import os, signal, sys
    import numpy as np
    from pullback import Variable, connect, functions as F
    made = connect(sys.argv[1], seed=5)
    w = Variable([1.0, 2.0], name="w")
    b = Variable(np.float32(0.5), name="b")
    for _ in range(3):
        loss = F.sum(F.square(w)) * b
        w.cleargrad()
        loss.backward()
        w.data = w.data - 0.1 * w.grad.data
    made.flush()
    print(made.id, w.data.tolist(), w.grad.data.tolist(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_client_that_was_killed(server: Server) -> None:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), server.base_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == -signal.SIGKILL, done.stderr
    session, rest = done.stdout.split(" ", 1)
    with connect(server.base_url, session=session) as made:
        assert made.id == session
        w = made.variable("w")
        assert f"{w.data.tolist()} {w.grad.data.tolist()}" == rest.strip()
        assert str(w).startswith("w(")
        b = made.variable("b")
        assert (b.dtype, b.item()) == (np.float32, 0.5)
        assert {"w", "b"} <= set(made.variables())
        v = Variable([3.0, 4.0])
        w.cleargrad()
        F.sum(w * v).backward()
        assert w.grad.data.tolist() == [3.0, 4.0]
        optimizers.SGD([w], learning_rate=1.0).step()
        assert w.data.tolist() != rest
        with pytest.raises(errors.UnknownVariableError, match="nothing"):
            made.variable("nothing")
    with connect(server.base_url, session=session) as again:
        assert again.variable("w").shape == (2,), "one that was taken up is kept"


def test_a_connection_that_is_kept(server: Server) -> None:
    with connect(server.base_url, keep=True) as made:
        x = Variable(3.0, name="x")
        y = x * x
        y.backward()
        del y
    with connect(server.base_url, session=made.id) as again:
        x = again.variable("x")
        assert (x.item(), x.grad.item()) == (3.0, 6.0), "what was recorded is sent at the end"


def test_a_connection_that_is_not_kept(server: Server) -> None:
    with connect(server.base_url) as made:
        Variable(3.0, name="x").item()
    with pytest.raises(errors.PullbackError):
        connect(server.base_url, session=made.id)


def test_flags_of_a_session_that_is_taken_up(server: Server) -> None:
    with connect(server.base_url, keep=True) as made:
        x = Variable(3.0, name="x")
        with no_grad():
            assert (x * x).item() == 9.0
            made.flush()
    with connect(server.base_url, session=made.id) as again:
        x = again.variable("x")
        (x * x).backward()
        assert x.grad.item() == 6.0, "a connection begins with gradients on"


def test_ids_of_a_session_that_is_taken_up_are_not_used_again(server: Server) -> None:
    with connect(server.base_url, keep=True) as made:
        kept = [Variable(float(i), name=f"k{i}") for i in range(5)]
        made.flush()
    with connect(server.base_url, session=made.id) as again:
        others = [Variable(float(i + 100)) for i in range(20)]
        assert sum(x.item() for x in others) == sum(range(100, 120))
        assert [again.variable(f"k{i}").item() for i in range(5)] == [float(i) for i in range(5)]
    del kept
