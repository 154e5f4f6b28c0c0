"""What notebooks and terminals show: variables with their graphs, pictures, progress."""

from __future__ import annotations

import asyncio
import shutil
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import engine
import pullback
from pullback import Variable
from pullback import functions as F

if TYPE_CHECKING:
    from tests.app.conftest import Server


def test_a_variable_in_a_notebook(connected: pullback.Connection) -> None:
    x = Variable([1.0, 2.0], name="x<1>")
    shown = F.sin(x)._repr_html_()
    assert "variable([0.8414" in shown and "shape (2,), float64" in shown
    assert "x&lt;1&gt;" in x._repr_html_()
    assert ("</svg>" in shown) is (shutil.which("dot") is not None)


Case = Callable[[], Any]
#: What may be looked at first, each with nothing sent before.
FIRST_LOOKS: dict[str, Callable[[Variable, Variable], Any]] = {
    "a leaf": lambda x, y: x,
    "a result": lambda x, y: y,
    "a gradient": lambda x, y: x.grad,
    "a gradient of a gradient": lambda x, y: (x.grad.backward(), x.grad)[1],
    "a gradient that is held over another pass": lambda x, y: (x.grad, y.backward())[0],
    "a gradient in an operation": lambda x, y: x.grad * 2.0,
    "a view": lambda x, y: x[0],
}
LOOKS: dict[str, Callable[[Variable], Any]] = {
    "html": lambda v: v._repr_html_(),
    "repr": repr,
    "str": str,
    "dot": pullback.dot,
    "creator": lambda v: v.creator,
    "generation": lambda v: v.generation,
    "shape": lambda v: v.shape,
    "data": lambda v: v.data,
    "grad": lambda v: v.grad,
    "backward": lambda v: (v.backward(), v.data),
    "unchain": lambda v: (v.unchain(), v.data),
    "cleargrad": lambda v: (v.cleargrad(), v.data),
}


def test_every_first_look_at_everything(connected: pullback.Connection) -> None:
    """Ids are made before what they name is asked for."""
    wrong = []
    for what, take in FIRST_LOOKS.items():
        for how, look in LOOKS.items():
            x = Variable([2.0, 3.0])
            y = F.sum(x * x * x)
            y.backward(create_graph=True)
            try:
                shown = str(look(take(x, y)))
            except Exception as error:  # noqa: BLE001 - all are listed
                shown = repr(error)
            if "there is no" in shown or "Error" in shown:
                wrong.append((what, how, shown))
    assert wrong == []


def refused() -> Variable:
    return F.add(Variable([1.0, 2.0]), Variable([1.0, 2.0, 3.0]))


def looked_at() -> Variable:
    found = refused()
    with pytest.raises(pullback.errors.ShapeMismatchError):
        found.item()
    return found


def test_what_cannot_be_shown_is_told_in_words(connected: pullback.Connection) -> None:
    for make in (refused, looked_at, lambda: refused() * 2.0):
        for shown in (repr(make()), make()._repr_html_()):
            assert "ShapeMismatchError: add" in shown and "\n" not in shown.strip()
    with pytest.raises(pullback.errors.ShapeMismatchError):
        str(refused())


def test_nothing_raises_in_a_notebook_when_the_session_or_the_connection_is_gone(server: Server) -> None:
    for end in (lambda made: made.client.sessions.delete(made.id), lambda made: made.close()):
        made = pullback.connect(server.base_url)
        x = Variable([1.0, 2.0])
        y = F.sin(x)
        assert y.shape == (2,)
        z = y * 2.0
        end(made)
        for v in (x, y, z):
            assert "variable" in repr(v) and "variable" in v._repr_html_()
        assert "Error: " in repr(z) and "Error: " in z._repr_html_()
        if end.__code__.co_names[-1] != "close":
            made.close()


def test_one_error_is_one_traceback(server: Server, connected: pullback.Connection) -> None:
    """However often it is met, and also where it is met while it is handled."""

    def while_handled(look: Case) -> None:
        try:
            look()
        except pullback.errors.PullbackError:
            look()

    async def alone(**request: Any) -> None:
        async with pullback.AsyncClient(server.base_url) as client:
            await client.evaluate(**request)

    def ended() -> None:
        with pullback.connect(server.base_url) as made:
            v = Variable(1.0)
            v.item()
            made.client.sessions.delete(made.id)
            while_handled(lambda: (v * 2.0).item())

    bad, unwritten = {"expr": "sine(x)", "inputs": {"x": 1}}, {"expr": "x", "inputs": {"x": object()}}
    result = looked_at()
    cases: dict[str, Case] = {
        "a result": lambda: refused().item(),
        "a result again": lambda: result.item(),
        "a result while it is handled": lambda: while_handled(result.item),
        "what came of a result": lambda: while_handled((result * 2.0).item),
        "a gradient": lambda: while_handled(lambda: result.grad),
        "a constant": lambda: F.add(Variable(1.0), [[1.0], [1.0, 2.0]]),
        "a session that is gone": ended,
        "a run": lambda: connected.session.run([{"do": "sine"}]),
        "a call": lambda: connected.client.evaluate(**bad),
        "a call that cannot be written": lambda: connected.client.evaluate(**unwritten),
        "an asynchronous call": lambda: asyncio.run(alone(**bad)),
        "an asynchronous call that cannot be written": lambda: asyncio.run(alone(**unwritten)),
        "a server that is not there": lambda: pullback.Client("http://127.0.0.1:9", retries=0).evaluate("x", {"x": 1}),
    }
    wrong = []
    for name, case in cases.items():
        with pytest.raises(pullback.errors.PullbackError) as caught:
            case()
        lines = traceback.format_exception(caught.value)
        told = str(caught.value).splitlines()[0]
        if sum(line.startswith("Traceback") for line in lines) != 1 or sum(told in line for line in lines) != 1:
            wrong.append((name, "".join(lines)))
    assert wrong == []


def test_a_picture(connected: pullback.Connection) -> None:
    x = Variable(3.0, name="x")
    y = x * x
    assert pullback.dot(y).startswith("digraph g {") and '"x"' in pullback.dot(y)
    assert "9.0" in pullback.dot(y, verbose=True)


def test_the_same_picture_as_locally(connected: pullback.Connection) -> None:
    def drawn(library: Any) -> str:
        x = library.Variable(3.0, name="x")
        return str(library.dot(library.functions.exp(library.functions.sin(x)), verbose=True))

    assert drawn(pullback) == drawn(engine)


def test_progress(connected: pullback.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    w = Variable(4.0)
    steps = pullback.progress(21, every=10, mininterval=0, miniters=1, file=sys.stderr)
    for _ in steps:
        loss = w * w
        loss.backward()
        w.data = w.data - 0.25 * w.grad.data
        w.cleargrad()
        steps.show(loss, twice=2.0)
    shown = capsys.readouterr().err
    assert "21/21" in shown
    assert "loss=16" in shown and "twice=2" in shown
    assert "loss=4," not in shown


def test_progress_goes_through_anything(connected: pullback.Connection) -> None:
    assert list(pullback.progress("abc", disable=True)) == ["a", "b", "c"]


def test_progress_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"pip install .*progress"):
        pullback.progress(3)
