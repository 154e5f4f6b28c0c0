"""Sessions that expired, were deleted, or are used by somebody else."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pullback import (
    Client,
    Variable,
    connect,
    errors,
)
from pullback import functions as F
from tests.app.clocked import CLOCKED, SharedClock
from tests.app.conftest import start_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.app.conftest import Server

LIFE_S = 10.0


@dataclass(frozen=True, slots=True)
class Clocked:
    """A server, and the clock that it has."""

    base_url: str
    clock: SharedClock


@pytest.fixture(scope="module")
def clocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocked]:
    folder = tmp_path_factory.mktemp("clocked")
    clock = SharedClock.made(folder / "clock")
    with start_server(folder, CLOCKED, test_clock=str(clock.folder)) as running:
        yield Clocked(running.base_url, clock)


def test_an_expired_session(clocked: Clocked) -> None:
    made = connect(clocked.base_url, ttl_s=LIFE_S)
    w = Variable([1.0, 2.0], name="weights")
    assert w.data.tolist() == [1.0, 2.0]
    clocked.clock.advance(LIFE_S)
    y = w * 2.0
    with pytest.raises(errors.ExpiredSessionError) as caught:
        y.data  # noqa: B018
    message = str(caught.value)
    assert "weights" in message, "what was lost"
    assert "connect(" in message, "how to start over"
    with pytest.raises(errors.ExpiredSessionError):
        y.data  # noqa: B018
    with pytest.raises(errors.ExpiredSessionError):
        Variable(1.0).item()
    assert w.data.tolist() == [1.0, 2.0], "what was seen can be saved"
    with contextlib.suppress(errors.ProblemError):
        made.close()


@pytest.mark.parametrize("is_pending", [True, False])
@pytest.mark.parametrize("ending", ["expired", "deleted"])
def test_closing_when_the_session_is_gone(clocked: Clocked, ending: str, is_pending: bool) -> None:
    """There is nothing left to end, and nothing that the user could do about it."""
    with connect(clocked.base_url, ttl_s=LIFE_S) as made:
        x = Variable(1.0)
        assert x.item() == 1.0
        if ending == "deleted":
            made.client.sessions.delete(made.id)
        else:
            clocked.clock.advance(LIFE_S)
        if is_pending:
            del x


def test_starting_over_after_an_expired_session(clocked: Clocked) -> None:
    first = connect(clocked.base_url, ttl_s=LIFE_S)
    w = Variable(1.0)
    assert w.item() == 1.0
    clocked.clock.advance(LIFE_S)
    with connect(clocked.base_url):
        assert (Variable(2.0) * 3.0).item() == 6.0
        with pytest.raises(errors.WrongConnectionError):
            F.add(w, Variable(1.0)).item()
    with contextlib.suppress(errors.ProblemError):
        first.close()


def test_a_session_that_never_was(server: Server) -> None:
    with pytest.raises((errors.UnknownSessionError, errors.ExpiredSessionError)):
        connect(server.base_url, session="s_" + "0" * 32)


@pytest.mark.parametrize("session", ["", "x", "../programs", "s_0/../..", "s 1", "é", "?a=b", "#"])
def test_a_session_id_that_is_none(server: Server, session: str) -> None:
    with pytest.raises((errors.PullbackError, ValueError)) as caught:
        connect(server.base_url, session=session)
    assert type(caught.value).__module__ in ("pullback.errors", "builtins")


def test_somebody_deleted_the_session(server: Server) -> None:
    made = connect(server.base_url)
    x = Variable(1.0)
    assert x.item() == 1.0
    made.session.delete()
    with pytest.raises(errors.UnknownSessionError, match=r"connect\("):
        (x + 1.0).item()
    with contextlib.suppress(errors.ProblemError):
        made.close()


def test_somebody_else_uses_the_session(server: Server) -> None:
    with connect(server.base_url) as made:
        x = Variable(1.0)
        assert x.item() == 1.0
        with Client(server.base_url) as client:
            client.sessions.run(made.id, made.session.info().seq + 1, [{"do": "variable", "id": "other", "value": 1.0}])
        with pytest.raises(errors.SequenceConflictError) as caught:
            (x + 1.0).item()
        assert caught.value.expected is not None
        assert str(caught.value)
