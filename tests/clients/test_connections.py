"""No connection, a closed one, several at once."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import engine
import engine.core.errors
from pullback import (
    Variable,
    connect,
    errors,
    optimizers,
)
from pullback import functions as F

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.app.conftest import Server


def test_no_connection_at_all(tmp_path: Path) -> None:
    script = """
        from pullback import Variable, errors, functions as F, models, randn
        for make in (lambda: Variable(1.0), lambda: randn(3, rng=0), lambda: F.sin(1.0) and Variable(2.0)):
            try:
                make()
            except errors.NotConnectedError as error:
                assert "connect(" in str(error), error
            else:
                raise SystemExit("no error")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_closed_connection(server: Server) -> None:
    made = connect(server.base_url)
    x = Variable(2.0)
    seen = x * x
    assert seen.item() == 4.0
    unseen = x * 3.0
    made.close()
    made.close()
    with pytest.raises(errors.NotConnectedError, match="connect"):
        Variable(1.0)
    with pytest.raises(errors.NotConnectedError):
        unseen.item()
    with pytest.raises(errors.NotConnectedError):
        (x + 1.0).item()
    assert isinstance(repr(made), str)
    assert isinstance(repr(seen), str)


def test_a_variable_that_outlives_its_connection_can_be_collected(server: Server) -> None:
    with connect(server.base_url):
        x = Variable(2.0)
        assert x.item() == 2.0
    del x
    with connect(server.base_url):
        assert Variable(2.0).item() == 2.0


def test_two_connections_at_once(server: Server) -> None:
    with connect(server.base_url) as first, connect(server.base_url) as second:
        with first.active():
            x = Variable(2.0, name="x")
        with second.active():
            y = Variable(3.0, name="x")
        z = Variable(5.0, name="z")
        for _ in range(3):
            x = x * x
            y = y * y
            assert (x.item(), y.item()) == (2.0 ** (2 ** (_ + 1)), 3.0 ** (2 ** (_ + 1)))
        x.backward()
        y.backward()
        assert z.item() == 5.0
        assert "z" in second.variables(), "the one that was made last is the one that is used"
        assert "z" not in first.variables()


MIXES: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda x, y: x + y,
    "matmul": F.matmul,
    "concat": lambda x, y: F.concat([x, y], axis=0),
    "where": lambda x, y: F.where(x > 0.0, x, y),
    "compare": lambda x, y: x < y,
    "optimizer": lambda x, y: (optimizers.SGD([x, y], 1.0).step(), x)[1],
    "linear": lambda x, y: F.linear(F.reshape(x, (1, 2)), F.reshape(y, (2, 1))),
}
#: Those that take a value and no more, as they do an array.
VALUES: dict[str, Callable[[Any, Any], Any]] = {
    "cotangent": lambda x, y: ((x * 1.0).backward(cotangent=y), x.grad)[1],
    "index": lambda x, y: x[y],
    "data": lambda x, y: (setattr(x, "data", y), x)[1],
    "grad": lambda x, y: (setattr(x, "grad", y), x.grad)[1],
}


@pytest.mark.parametrize("looked_at", [True, False])
@pytest.mark.parametrize("mix", [*MIXES, *VALUES])
def test_variables_of_two_connections(server: Server, mix: str, looked_at: bool) -> None:
    """They are refused, or where only the value counts, it is the right one."""
    local = engine.Variable([1.0, 2.0]), engine.Variable([1.0, 0.0])
    with connect(server.base_url) as first, connect(server.base_url) as second:
        with first.active():
            x = Variable([1.0, 2.0])
        y = Variable([1.0, 0.0])
        if looked_at:
            assert (x.data.tolist(), y.data.tolist()) == ([1.0, 2.0], [1.0, 0.0])
        if mix in MIXES:
            with pytest.raises(errors.WrongConnectionError):
                assert MIXES[mix](x, y).data is not None
        else:
            with contextlib.suppress(errors.WrongConnectionError):
                assert VALUES[mix](x, y).data.tolist() == VALUES[mix](*local).data.tolist()
        first.flush()
        second.flush()
        if mix != "data":
            assert (x * 2.0).data.tolist() == [2.0, 4.0]
        assert (y * 2.0).data.tolist() == [2.0, 0.0]


def test_an_error_in_a_block_leaves_the_outer_connection(server: Server) -> None:
    with connect(server.base_url) as outer:
        with contextlib.suppress(KeyError), connect(server.base_url):
            raise KeyError
        x = Variable(1.0, name="mine")
        assert x.item() == 1.0
        assert "mine" in outer.variables()
