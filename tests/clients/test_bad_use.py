"""What happens to those who use the SDK in ways that it was not meant for, or on values that are seldom seen."""

from __future__ import annotations

import contextlib
import copy
import datetime
import inspect
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import engine
import engine.errors
import pullback
from pullback import (
    Client,
    Connection,
    Session,
    Variable,
    connect,
    dot,
    errors,
    layers,
    models,
    no_grad,
    ones,
    optimizers,
    state_dict,
    transforms,
)
from pullback import functions as F
from tests.app.conftest import ROOT, free_port, start_server
from tests.clients.proxy import Message, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.app.conftest import Server

THREADS = 8


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    with connect(server.base_url, seed=0) as made:
        yield made


def line() -> int:
    """Of the caller."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def assert_names(error: BaseException, lineno: int) -> None:
    """The error says where in this file the operation was recorded."""
    text = "\n".join([str(error), *getattr(error, "__notes__", [])])
    assert re.search(rf"test_bad_use\.py\D{{1,10}}{lineno}\b", text), text


# No server, or another one


def test_no_server() -> None:
    with pytest.raises(errors.UnreachableError, match=r"pullback serve|make serve") as caught:
        connect(f"http://127.0.0.1:{free_port()}", retries=0)
    assert isinstance(caught.value, ConnectionError)


def test_no_server_for_a_client() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, retries=0) as client, pytest.raises(errors.UnreachableError, match=re.escape(url)):
        client.evaluate("x", {"x": 1.0})


def test_no_such_host() -> None:
    with pytest.raises(errors.UnreachableError):
        connect("http://no-such-host.invalid", retries=0, timeout_s=5)


@pytest.mark.parametrize("url", ["127.0.0.1:1", "localhost", "ftp://127.0.0.1", "http://", "", "lokal", "http://[::1"])
def test_a_url_that_is_none(url: str) -> None:
    """Every one of these is refused with a word about the URL; none is an error of some library below."""
    with pytest.raises((errors.PullbackError, ValueError)) as caught:
        connect(url, retries=0)
    assert type(caught.value).__module__ in ("pullback.errors", "builtins")
    assert str(caught.value)


class Fake:
    """A server that answers everything in one way."""

    def __init__(self, status: int, media_type: str, body: bytes, **headers: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                seen.append(dict(self.headers))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        seen: list[dict[str, str]] = []
        self.seen = seen
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Fake:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.parametrize("status", [200, 201, 204, 301, 404, 405, 500])
@pytest.mark.parametrize("speaks_json", [True, False])
def test_a_web_site(status: int, speaks_json: bool) -> None:
    body = b"" if status == 204 else b"<html><body>It works!</body></html>"
    with Fake(status, "text/html", body) as fake:
        with pytest.raises(errors.WrongServerError, match=re.escape(fake.url)):
            connect(fake.url, retries=0, json=speaks_json)
        with Client(fake.url, retries=0, json=speaks_json) as client, pytest.raises(errors.WrongServerError):
            client.evaluate("x", {"x": 1.0})


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'{"ok": true}', b"", b"{", b"\x80"])
def test_another_api(body: bytes) -> None:
    with Fake(200, "application/json", body) as fake:
        with pytest.raises(errors.WrongServerError):
            connect(fake.url, retries=0)
        with Client(fake.url, retries=0, json=True) as client, pytest.raises(errors.WrongServerError):
            client.evaluate("x", {"x": 1.0})


def test_another_api_that_has_nothing_there() -> None:
    with Fake(404, "application/json", b'{"detail":"Not Found"}') as fake, pytest.raises(errors.WrongServerError):
        connect(fake.url, retries=0)


def test_a_path_too_much(server: Server) -> None:
    """A server that is there, under another address."""
    with pytest.raises((errors.WrongServerError, errors.UnknownPathError)) as caught:
        connect(server.base_url + "/api", retries=0)
    assert "/api" in str(caught.value)


@pytest.mark.parametrize("ending", ["/", "//"])
def test_a_slash_too_much(server: Server, ending: str) -> None:
    with connect(server.base_url + ending):
        assert (Variable(2.0) * 2.0).item() == 4.0


def test_another_version(port: int) -> None:
    def older(answer: Message) -> Message:
        head = re.sub(rb"(?im)^pullback-version:.*\r$", b"Pullback-Version: 0.0.1\r", answer.head)
        return Message(head, answer.body)

    with (
        Proxy(port, change=older) as proxy,
        pytest.raises(errors.WrongServerError, match=r"0\.0\.1"),
        connect(proxy.url, retries=0),
    ):
        Variable(1.0).item()


UNAUTHORIZED = {
    "type": "/problems/unauthorized",
    "title": "Unauthorized",
    "status": 401,
    "detail": "a key is needed",
    "errors": [],
    "request_id": "r1",
}


def test_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULLBACK_API_KEY", raising=False)
    body = json.dumps(UNAUTHORIZED).encode()
    with Fake(401, "application/problem+json", body, Pullback_Version="0.1.0", WWW_Authenticate="Bearer") as fake:
        with pytest.raises(errors.UnauthorizedError, match="a key is needed") as caught:
            connect(fake.url, retries=5)
        assert (caught.value.status, caught.value.slug, caught.value.request_id) == (401, "unauthorized", "r1")
        assert len(fake.seen) == 1, "it is not tried again"
        with pytest.raises(errors.UnauthorizedError) as caught:
            connect(fake.url, api_key="s3cret-key")
        assert fake.seen[-1]["Authorization"] == "Bearer s3cret-key"
        assert "s3cret" not in str(caught.value) + repr(caught.value)
        monkeypatch.setenv("PULLBACK_API_KEY", "from-env")
        with pytest.raises(errors.UnauthorizedError):
            connect(fake.url)
        assert fake.seen[-1]["Authorization"] == "Bearer from-env"


def test_a_key_is_not_shown(server: Server) -> None:
    with connect(server.base_url, api_key="s3cret-key") as made:
        assert "s3cret" not in repr(made) + str(made) + repr(made.client) + repr(made.session)
        with pytest.raises(errors.AutogradError) as caught:
            made.client.evaluate("x +", {"x": 1.0})
        assert "s3cret" not in str(caught.value) + repr(caught.value)


def test_the_url_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLBACK_URL", server.base_url)
    with connect():
        assert (Variable(2.0) * 2.0).item() == 4.0


def end(server: Server) -> None:
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()


def look_after_the_end(server: Server) -> None:
    with connect(server.base_url, retries=0):
        x = Variable(2.0)
        assert x.item() == 2.0
        end(server)
        (x * x).item()


def raise_after_the_end(server: Server) -> None:
    with connect(server.base_url, retries=0):
        Variable(2.0).item()
        end(server)
        raise KeyError("mine")


def test_a_server_that_goes_away(tmp_path: Path) -> None:
    """The error that comes out of the block is that of the look, not one of the connection's end."""
    with start_server(tmp_path, store="memory") as running:
        with pytest.raises(errors.UnreachableError) as caught:
            look_after_the_end(running)
        functions = [entry.name for entry in caught.traceback]
        assert "__exit__" not in functions, "the look's error, not that of closing"


def test_an_error_of_the_block_comes_out_of_it(tmp_path: Path) -> None:
    with start_server(tmp_path, store="memory") as running, pytest.raises(KeyError, match="mine"):
        raise_after_the_end(running)


# Sessions that are gone


def wait(seconds: float) -> None:
    """Until a moment is past, for which the server has no sign."""
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    while datetime.datetime.now(datetime.UTC) <= until:
        threading.Event().wait(0.01)


def test_an_expired_session(server: Server) -> None:
    made = connect(server.base_url, ttl_s=0.3)
    w = Variable([1.0, 2.0], name="weights")
    assert w.data.tolist() == [1.0, 2.0]
    wait(0.4)
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
def test_closing_when_the_session_is_gone(server: Server, ending: str, is_pending: bool) -> None:
    """There is nothing left to end, and nothing that the user could do about it."""
    with connect(server.base_url, ttl_s=0.3) as made:
        x = Variable(1.0)
        assert x.item() == 1.0
        if ending == "deleted":
            made.client.delete_session(made.id)
        else:
            wait(0.4)
        if is_pending:
            del x


def test_starting_over_after_an_expired_session(server: Server) -> None:
    first = connect(server.base_url, ttl_s=0.2)
    w = Variable(1.0)
    assert w.item() == 1.0
    wait(0.3)
    with connect(server.base_url):
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
            client.run(made.id, made.session.info().seq + 1, [{"do": "variable", "id": "other", "value": 1.0}])
        with pytest.raises(errors.SequenceConflictError) as caught:
            (x + 1.0).item()
        assert caught.value.expected is not None
        assert str(caught.value)


# No connection, a closed one, several


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
        [sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60
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


# Values that are looked at while a function is traced

LOOKS: dict[str, Callable[[Any], Any]] = {
    "if": lambda x: x if x > 0.0 else -x,
    "bool": bool,
    "float": float,
    "int": int,
    "data": lambda x: x.data,
    "item": lambda x: x.item(),
    "f-string with a format": lambda x: f"{x:.3f}",
    "and": lambda x: x and x,
    "while": lambda x: [x for _ in iter(lambda: bool(x > 0.0), True)],
    "max": lambda x: max(x, 0.0),
    "math": lambda x: __import__("math").sin(x),
    "numpy": lambda x: np.sin(x),
    "asarray": lambda x: np.asarray(x),
    "list": lambda x: float(next(iter(F.stack([x, x])))),
    "in": lambda x: 0.0 in [x * 2.0],
    "index": lambda x: [1, 2, 3][x],
    "range": lambda x: range(x),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_look_inside_of_a_trace(connection: Connection, look: str, nested: bool) -> None:
    def f(x: Any) -> Any:
        LOOKS[look](x * 1.0)
        return x * x

    differentiate = transforms.grad(transforms.grad(f)) if nested else transforms.grad(f)
    with pytest.raises((errors.TraceError, errors.InvalidValueError, TypeError)) as caught:
        differentiate(2.0)
    if look in ("if", "bool", "float", "int", "data", "item", "f-string with a format", "and", "while", "max"):
        assert type(caught.value) is errors.TraceError
    assert len(str(caught.value)) > 20
    assert transforms.grad(lambda x: x * x)(2.0) == 4.0, "the next trace works"
    assert (Variable(2.0) * 2.0).item() == 4.0


def test_a_trace_error_says_what_to_do(connection: Connection) -> None:
    def f(x: Any) -> Any:
        return x if x > 0.0 else -x

    with pytest.raises(errors.TraceError, match="where") as caught:
        transforms.grad(f)(2.0)
    assert any(entry.path.name == "test_bad_use.py" and entry.name == "f" for entry in caught.traceback)


def test_a_print_inside_of_a_trace(connection: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    """It is there for those who look for their mistake: it shows that there is no value yet, or says so."""

    def f(x: Any) -> Any:
        print(x, repr(x), f"{x}")
        return x * x

    with contextlib.suppress(errors.TraceError):
        assert transforms.grad(f)(2.0) == 4.0
        assert capsys.readouterr().out.strip()


def test_what_is_no_value_is_let_through_a_trace(connection: Connection) -> None:
    def f(x: Any, flag: bool, n: int) -> Any:
        if flag:
            for _ in range(n):
                x = x * x
        assert x.shape == ()
        assert x.dtype == np.float64
        return x

    assert transforms.grad(lambda x: f(x, True, 2))(2.0) == 32.0
    assert transforms.grad(lambda x: f(x, False, 2))(2.0) == 1.0


def test_a_traced_value_that_escapes(connection: Connection) -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x * 2.0)
        return x * x

    assert transforms.grad(f)(3.0) == 6.0
    with pytest.raises(errors.TraceError):
        kept[0].item()
    with pytest.raises((errors.TraceError, errors.PullbackError)):
        F.add(kept[0], Variable(1.0)).item()
    with pytest.raises(errors.PullbackError):
        transforms.grad(lambda x: x * kept[0])(1.0)
    assert transforms.grad(f)(3.0) == 6.0


def test_a_function_that_raises_inside_of_a_trace(connection: Connection) -> None:
    def f(x: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        transforms.grad(f)(1.0)
    assert (Variable(2.0) * 2.0).item() == 4.0


ODD_FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "vector": (lambda x: x * 2.0, (np.ones(2),)),
    "one element": (lambda x: x * 2.0, (np.ones(1),)),
    "matrix": (lambda x: x @ x, (np.ones((2, 2)),)),
    "no element": (lambda x: x * 2.0, (np.ones(0),)),
    "integers": (F.sum, (np.array([1, 2]),)),
    "text": (lambda x: "text", (1.0,)),
    "constant": (lambda x: 3.0, (1.0,)),
    "another argument": (lambda x, y: y * y, (1.0, 2.0)),
    "identity": (lambda x: x, (1.0,)),
    "linear": (lambda x: 2.0 * x, (1.0,)),
    "tuple": (lambda x: (x, x), (1.0,)),
    "part of a dict": (lambda w: w["a"] ** 2, ({"a": 1.0, "b": 2.0},)),
}
TRANSFORMS: dict[str, Callable[..., Any]] = {
    "grad": lambda t, f, *x: t.grad(f)(*x),
    "grad of all": lambda t, f, *x: t.grad(f, argnums=tuple(range(len(x))))(*x),
    "value_and_grad": lambda t, f, *x: t.value_and_grad(f)(*x),
    "nested": lambda t, f, *x: t.grad(t.grad(f))(*x),
    "jacobian": lambda t, f, *x: t.jacobian(f)(*x),
    "hessian": lambda t, f, *x: t.hessian(f)(*x),
    "hvp": lambda t, f, *x: t.hvp(f, x, x),
    "jvp": lambda t, f, *x: t.jvp(f, x, x),
    "vjp": lambda t, f, *x: t.vjp(f, *x)[1](np.ones(np.shape(t.vjp(f, *x)[0]))),
}


def derived(package: Any, functions: Any, transform: str, name: str) -> Any:
    function, arguments = ODD_FUNCTIONS[name]
    if name == "integers":
        function = functions.sum
    try:
        return TRANSFORMS[transform](package, function, *arguments)
    except (engine.errors.AutogradError, errors.PullbackError) as error:
        return type(error).__name__


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", ODD_FUNCTIONS)
def test_derivatives_of_odd_functions_are_the_local_ones(connection: Connection, name: str, transform: str) -> None:
    expected = derived(engine.transforms, engine.functions, transform, name)
    np.testing.assert_equal(derived(transforms, F, transform, name), expected)


# Copies

COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}


def attempt(how: Callable[[Any], Any], x: Any) -> tuple[str, Any]:
    """What a refusal says, or the copy."""
    try:
        return "", how(x)
    except (TypeError, errors.PullbackError) as error:
        return str(error), None


def good_copy(x: Any, y: Any) -> None:
    assert y.data == x.data == 2.0
    y.data = 5.0
    assert x.data == 2.0
    del y
    x.cleargrad()
    (x * x).backward()
    assert x.grad.data == 4.0


@pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_variable(connection: Connection, how: Callable[[Any], Any]) -> None:
    """Either it is refused with a word, or it is a variable of its own, as locally."""
    x = Variable(2.0, name="x")
    assert x.item() == 2.0
    refusal, y = attempt(how, x)
    if y is None:
        assert re.search("Variable|variable", refusal)
        assert len(refusal) > 40, "it says what to do in its place"
    else:
        good_copy(x, y)


@pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_model(connection: Connection, how: Callable[[Any], Any]) -> None:
    model = layers.Linear(1, 2, rng=0)
    before = state_dict(model)
    refusal, other = attempt(how, model)
    if other is None:
        assert re.search("[Vv]ariable|Linear", refusal)
    else:
        if how is not copy.copy:
            other.w.data = np.zeros((2, 1))
        np.testing.assert_array_equal(state_dict(model)["w"], before["w"])


def test_a_pickle_of_an_error(connection: Connection) -> None:
    """Errors cross the borders of processes."""
    with pytest.raises(errors.ShapeMismatchError) as caught:
        (Variable([1.0, 2.0]) + Variable([1.0, 2.0, 3.0])).data  # noqa: B018
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is errors.ShapeMismatchError
    assert str(again) == str(caught.value)
    assert again.detail == caught.value.detail


def test_a_pickle_of_a_connection_and_a_client(connection: Connection) -> None:
    for held in (connection, connection.client, connection.session):
        with pytest.raises((TypeError, errors.PullbackError)):
            pickle.dumps(held)


# Errors in the middle


def test_an_error_in_the_middle(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    before = x * 2.0
    failing, at = x + np.ones(3), line()
    later = before * 3.0
    dependent = failing * 2.0
    leaf = Variable([5.0, 6.0])
    with pytest.raises(errors.ShapeMismatchError, match=r"\(2,\).*\(3,\)") as caught:
        failing.data  # noqa: B018
    assert_names(caught.value, at)
    for lost in (failing, dependent, later):
        with pytest.raises(errors.ShapeMismatchError) as caught:
            lost.data  # noqa: B018
        assert_names(caught.value, at)
    assert before.data.tolist() == [2.0, 4.0]
    assert x.data.tolist() == [1.0, 2.0]
    assert leaf.data.tolist() == [5.0, 6.0]
    assert (leaf + before).data.tolist() == [7.0, 10.0]


@pytest.mark.parametrize("look", ["before", "leaf"])
def test_an_error_in_the_middle_is_seen_by_whoever_looks_next(connection: Connection, look: str) -> None:
    """What was computed before it, and leaves, are valid all the same."""
    x = Variable([1.0, 2.0])
    before = x * 2.0
    failing, at = x + np.ones(3), line()
    leaf = Variable([5.0, 6.0])
    try:
        found = (before if look == "before" else leaf).data
    except errors.ShapeMismatchError as error:
        assert_names(error, at)
        found = (before if look == "before" else leaf).data
    assert found.tolist() == ([2.0, 4.0] if look == "before" else [5.0, 6.0])
    with pytest.raises(errors.ShapeMismatchError) as caught:
        failing.data  # noqa: B018
    assert_names(caught.value, at)


def test_two_errors(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    first, at = x + np.ones(3), line()
    second, also_at = F.matmul(x, np.ones((3, 3))), line()
    with pytest.raises(errors.ShapeMismatchError) as caught:
        first.data  # noqa: B018
    assert_names(caught.value, at)
    with pytest.raises(errors.ShapeMismatchError) as caught:
        second.data  # noqa: B018
    assert re.search(rf"\b({at}|{also_at})\b", str(caught.value))
    third, third_at = x[5], line()
    with pytest.raises(errors.PullbackError) as caught:
        third.data  # noqa: B018
    assert_names(caught.value, third_at)


def test_an_error_of_a_backward(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    y = x * x
    at = line() + 1
    y.backward(cotangent=np.ones(3))
    with pytest.raises(errors.ShapeMismatchError) as caught:
        x.grad.data  # noqa: B018
    assert_names(caught.value, at)
    y.backward()
    assert x.grad.data.tolist() == [2.0, 4.0]


def test_an_error_does_not_stop_an_update_that_came_before(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    F.sum(x * x).backward()
    optimizers.SGD([x], learning_rate=0.25).step()
    failing = x + np.ones(3)
    with pytest.raises(errors.ShapeMismatchError):
        failing.data  # noqa: B018
    assert x.data.tolist() == [0.5, 1.0]
    with pytest.raises(errors.ShapeMismatchError):
        failing.data  # noqa: B018
    assert x.data.tolist() == [0.5, 1.0], "once"


def test_an_error_at_the_end_of_a_block(server: Server) -> None:
    """What nobody looks at is not raised into an error that is under way; a flush says it."""

    def block(ending: Callable[[Connection], Any]) -> None:
        with connect(server.base_url) as made:
            y = Variable([1.0, 2.0]) + np.ones(3)
            ending(made)
            del y

    with pytest.raises(errors.ShapeMismatchError):
        block(lambda made: made.flush())
    with pytest.raises(ZeroDivisionError):
        block(lambda made: 1 / 0)


SLOW_STEPS = 60


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that gives a request half a second."""
    with start_server(tmp_path_factory.mktemp("hasty"), deadline_s="0.5") as running:
        yield running.base_url


def test_what_takes_too_long(hasty: str) -> None:
    """It is an error as any other: what was computed before it stays, and what is asked later is answered."""
    made = connect(hasty)
    x = Variable(2.0)
    before = x * 3.0
    matrix = ones((1500, 1500))
    slow: Any = matrix
    for _ in range(SLOW_STEPS):
        slow = F.tanh(F.matmul(slow, matrix))
    with pytest.raises(errors.DeadlineExceededError):
        slow.data  # noqa: B018
    later = x + 1.0
    assert later.item() == 3.0
    with contextlib.suppress(errors.DeadlineExceededError):
        assert before.item() == 6.0
    made.close()


def test_a_run_of_a_session_that_takes_too_long(hasty: str) -> None:
    with Client(hasty) as client:
        session = Session(client, client.create_session())
        session.run([{"do": "variable", "id": "m", "value": np.ones((1500, 1500))}])
        slow = [{"do": "apply", "op": "matmul", "args": ["m", "m"], "out": ["m"]}] * SLOW_STEPS
        with pytest.raises(errors.DeadlineExceededError):
            session.run(slow)
        one = session.run([{"do": "variable", "id": "x", "value": 1.0}], fetch=["x"])
        assert one.fetched["x"]["value"] == 1.0


def test_errors_name_the_line_of_the_user(connection: Connection) -> None:
    """Not a line of a layer or model of the SDK, and not one of the operators."""
    model = models.MLP([3, 1], rng=0)
    model(np.ones((2, 4))).data  # noqa: B018
    at = line() + 2
    with pytest.raises(errors.ShapeMismatchError) as caught:
        model(np.ones((2, 5))).data  # noqa: B018
    assert_names(caught.value, at)
    x = Variable(np.ones((2, 2)))
    y = Variable(np.ones((3, 3)))
    for operation in (lambda: x @ y, lambda: x + y, lambda: x[7], lambda: x.reshape(5)):
        with pytest.raises(errors.PullbackError) as caught:
            operation().data  # noqa: B018
        assert_names(caught.value, at + 4)


BAD_ARGUMENTS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "softmax": lambda e, f, x: f.softmax(x, axis=7),
    "sum": lambda e, f, x: f.sum(x, axes=5),
    "both": lambda e, f, x: f.sum(x, axis=0, axes=0),
    "None among others": lambda e, f, x: f.concat([x, None], axis=0),
    "None in where": lambda e, f, x: f.where(x > 1.0, None, x),
    "clip": lambda e, f, x: f.clip(x),
    "nothing": lambda e, f, x: f.sin(),
    "too many": lambda e, f, x: f.sin(x, x),
    "reshape": lambda e, f, x: f.reshape(x, (7, 7)),
    "dropout": lambda e, f, x: f.dropout(x, ratio=2.0, rng=1),
    "einsum": lambda e, f, x: f.einsum("ij,jkl", x, x),
    "labels": lambda e, f, x: f.cross_entropy(x, np.array([0.5, 1.0])),
    "labels out of range": lambda e, f, x: f.cross_entropy(x, np.array([0, 9])),
    "text": lambda e, f, x: f.sin("text"),
    "None": lambda e, f, x: f.sin(None),
    "+ text": lambda e, f, x: x + "text",
    "+ None": lambda e, f, x: x + None,
    "None +": lambda e, f, x: None + x,
    "key": lambda e, f, x: x["key"],
    "index": lambda e, f, x: x[0, 0, 0],
    "index out of range": lambda e, f, x: x[5],
    "** method": lambda e, f, x: x**x.item,
    "%": lambda e, f, x: x % 2,
    "//": lambda e, f, x: x // 2,
    "activation": lambda e, f, x: e.models.MLP([2], activation="rellu", rng=0),
    "size": lambda e, f, x: e.layers.Linear(-1, 2, rng=0),
    "no rng": lambda e, f, x: e.layers.Linear(1, 2, rng=None),
    "learning rate": lambda e, f, x: e.optimizers.SGD([x], learning_rate="fast"),
    "beta": lambda e, f, x: e.optimizers.Adam([x], beta1=2.0),
    "params": lambda e, f, x: e.optimizers.SGD(3.0),
    "ClipGrad": lambda e, f, x: e.hooks.ClipGrad("much"),
    "no values": lambda e, f, x: e.Variable(),
    "dtype": lambda e, f, x: e.Variable(1.0, dtype="complex128"),
    "lossy": lambda e, f, x: e.Variable(1.5, dtype="int64"),
    "many": lambda e, f, x: e.Variable([1.0], [1.0, 2.0]),
    "negative shape": lambda e, f, x: e.zeros((-1, 2)),
    "float shape": lambda e, f, x: e.ones(2.5),
    "item": lambda e, f, x: x.item(),
    "float": lambda e, f, x: float(x),
    "bool": lambda e, f, x: bool(x),
    "len": lambda e, f, x: len(e.Variable(1.0)),
    "iter": lambda e, f, x: list(e.Variable(1.0)),
    "numpy": lambda e, f, x: np.sin(x),
    "asarray": lambda e, f, x: np.asarray(x),
    "in-place": lambda e, f, x: x.__setitem__(0, 1.0),
    "subclass": lambda e, f, x: type("Mine", (type(x),), {}),
    "backward of integers": lambda e, f, x: f.sum(e.Variable(np.arange(3))).backward(),
    "backward of a cotangent": lambda e, f, x: (x * 2.0).backward(cotangent=np.ones(7)),
    "set": lambda e, f, x: setattr(x, "shape", (4,)),
    "data": lambda e, f, x: setattr(x, "data", "text"),
    "grad": lambda e, f, x: setattr(x, "grad", "text"),
    "grad of another shape": lambda e, f, x: setattr(x, "grad", e.Variable(np.ones(7))),
    "grad that is none": lambda e, f, x: x.grad.data,
    "unknown function": lambda e, f, x: f.sine(x),
    "unknown state": lambda e, f, x: e.load_state_dict(e.layers.Linear(1, 2, rng=0), {"w": [[1.0], [2.0]]}),
    "state of another shape": lambda e, f, x: e.load_state_dict(
        e.layers.Linear(1, 2, rng=0), {"w": [[1.0]], "b": [[0.0]]}
    ),
}


def refusal(package: Any, call: Callable[[Any, Any, Any], Any]) -> str:
    """The class of the error of a call, or of a look at what came of it; at its words if it has none."""
    x = package.Variable([[1.0, 2.0], [3.0, 4.0]])
    try:
        found = call(package, package.functions, x)
        getattr(found, "data", None)
        getattr(x.grad, "data", None)
    except (engine.errors.AutogradError, errors.PullbackError, TypeError, AttributeError, ValueError) as error:
        return type(error).__name__ if str(error) else "no words"
    return "none"


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_as_locally(connection: Connection, name: str) -> None:
    """With the same class; and the next operation works."""
    assert refusal(pullback, BAD_ARGUMENTS[name]) == refusal(engine, BAD_ARGUMENTS[name])
    x = Variable([1.0, 2.0])
    assert (x * 2.0).data.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("rng", [np.random.default_rng(0), "seed", -1, 0.5, True], ids=str)
def test_dropout_takes_a_seed(connection: Connection, rng: Any) -> None:
    x = Variable([1.0, 2.0])
    with pytest.raises(errors.AutogradError):
        F.dropout(x, rng=rng).data  # noqa: B018
    assert (x * 2.0).data.tolist() == [2.0, 4.0]


def test_hooks_of_the_users_own(connection: Connection) -> None:
    """They would have to run on the server."""
    with pytest.raises(errors.NotSupportedError):
        optimizers.SGD([Variable(1.0)], hooks=[lambda params, grads: grads])  # type: ignore[list-item]


def test_an_unknown_function_names_the_nearest() -> None:
    with pytest.raises(AttributeError):
        F.sine  # noqa: B018


# Values

RAGGED = "a ragged list"
STRANGE: dict[str, Any] = {
    "huge int": 10**400,
    "negative huge int": -(10**400),
    "big int": 2**70,
    "int past 2**53": 2**53 + 1,
    "list of huge ints": [1, 10**400],
    "huge int array": np.array([2**63 - 1, -(2**63)]),
    "uint64": np.array([2**63], dtype="uint64"),
    "uint8": np.arange(3, dtype="uint8"),
    RAGGED: [[1, 2], [3]],
    "deep ragged": [[[1], [2]], [[3], 4]],
    "none": None,
    "none in a list": [1.0, None],
    "text": "1.0",
    "bytes": b"1",
    "complex": 1j,
    "complex array": np.array([1 + 0j]),
    "dict": {"a": 1},
    "set": {1},
    "object array": np.array([object()]),
    "object array of numbers": np.array([1, 2.5], dtype=object),
    "text array": np.array(["a"]),
    "date": np.datetime64("2020-01-01"),
    "nan": float("nan"),
    "infinity": float("inf"),
    "nan in a list": [float("nan"), float("inf"), -float("inf"), -0.0],
    "negative nan": np.array([np.uint64(0xFFF8000000000001)]).view("float64"),
    "negative zero": -0.0,
    "denormal": 5e-324,
    "largest": 1.7976931348623157e308,
    "empty list": [],
    "empty rows": [[], []],
    "empty array": np.zeros((0, 3)),
    "empty in the middle": np.zeros((2, 0, 3), dtype="float32"),
    "0-d": np.array(2.5),
    "0-d float32": np.array(2.5, dtype="float32"),
    "0-d int64": np.array(3),
    "0-d bool": np.array(True),
    "float32 scalar": np.float32(0.1),
    "float64 scalar": np.float64(0.1),
    "float16": np.array([0.1], dtype="float16"),
    "longdouble": np.array([0.1], dtype="longdouble"),
    "int8": np.int8(-3),
    "bool": True,
    "list of bools": [True, False],
    "bools and numbers": [True, 2.0],
    "float32": np.array([0.1, 1e-45, 3e38], dtype="float32"),
    "int64": np.arange(5),
    "bool array": np.array([[True], [False]]),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "every other": np.arange(10.0)[::2],
    "backwards": np.arange(5.0)[::-1],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "broadcast": np.broadcast_to(np.arange(3.0), (4, 3)),
    "big-endian": np.arange(5.0).astype(">f8"),
    "big-endian float32": np.arange(5.0).astype(">f4"),
    "big-endian int64": np.arange(5).astype(">i8"),
    "big-endian, every other": np.arange(10.0).astype(">f8")[::2],
    "read-only": np.frombuffer(np.arange(4.0).tobytes()),
    "unaligned": np.frombuffer(b"x" + np.arange(4.0).tobytes(), dtype="uint8")[1:].view("float64"),
    "tuple": (1.0, 2.0),
    "tuples and lists": [(1, 2), [3, 4]],
    "list of arrays": [np.ones(2), np.zeros(2)],
    "list of numpy scalars": [np.float64(1.0), np.float32(2.0)],
    "range": range(3),
    "matrix": np.ma.masked_array([1.0, 2.0], mask=[False, True]),
    "8 dimensions": np.arange(2.0**8).reshape((2,) * 8),
    "large": np.random.default_rng(0).standard_normal(50_000),
}


def outcome(make: Any, value: Any) -> Any:
    """What becomes of a value: the name of its error, or dtype, shape and bytes."""
    try:
        made = make(value)
        if made is None:
            return None
        found = np.asarray(made.data)
    except (engine.errors.AutogradError, errors.PullbackError) as error:
        return type(error).__name__
    return str(found.dtype), found.shape, found.tobytes(), type(made.data).__name__, str(made.dtype), made.shape


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_value_is_what_it_is_locally(connection: Connection, name: str) -> None:
    value = STRANGE[name]
    assert outcome(Variable, value) == outcome(engine.Variable, value)
    assert (Variable(2.0) * 2.0).item() == 4.0


@pytest.mark.parametrize("speaks_json", [True, False], ids=["json", "msgpack"])
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning", "ignore::DeprecationWarning")
def test_values_of_operations_are_the_local_ones(server: Server, speaks_json: bool) -> None:
    """Each value as the operand of a few operations: as a variable and as it is; values and gradients, bit for bit."""

    def operations(make: Any, functions: Any, value: Any) -> Iterator[Any]:
        x = make(value)
        for operation in (
            lambda: x + x,
            lambda: x * 2.0,
            lambda: functions.sum(x),
            lambda: functions.abs(x),
            lambda: functions.where(x > 1.0, x, 0.0),
            lambda: functions.add(make(1.5), value),
            lambda: make(1.5) * value,
            lambda: functions.astype(x, "float32"),
        ):
            yield outcome(lambda _, operation=operation: operation(), None)
        y = functions.sum(x * make(3.0))
        try:
            y.backward()
            yield outcome(lambda _: x.grad, None)
        except (engine.errors.AutogradError, errors.PullbackError) as error:
            yield type(error).__name__

    def all_of(make: Any, functions: Any, value: Any) -> list[Any] | str:
        try:
            return list(operations(make, functions, value))
        except (engine.errors.AutogradError, errors.PullbackError) as error:
            return type(error).__name__
        except TypeError:
            return "TypeError"

    different = {}
    with connect(server.base_url, json=speaks_json):
        for name, value in STRANGE.items():
            expected = all_of(engine.Variable, engine.functions, value)
            found = all_of(Variable, F, value)
            if found != expected and "negative nan" not in name:
                different[name] = [
                    (i, a, b) for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b
                ] or (found, expected)
    assert different == {}


def test_a_ragged_list_names_the_place(connection: Connection) -> None:
    with pytest.raises(errors.InvalidValueError, match=r"rectangular|ragged"):
        Variable([[1, 2], [3]])


@pytest.mark.parametrize("held_as", ["leaf", "constant", "data", "cotangent", "model input"])
def test_an_array_that_is_changed_after_use(connection: Connection, held_as: str) -> None:
    """It counts as it was when it was used, whenever the operation is sent."""
    array = np.array([[1.0, 2.0]])
    one = Variable([[1.0, 1.0]])
    for factor in (1.0, 10.0, 100.0):
        array[:] = np.array([[1.0, 2.0]]) * factor
        expected = array.copy()
        match held_as:
            case "leaf":
                y = Variable(array) * 1.0
            case "constant":
                y = one * array
            case "data":
                x = Variable([[0.0, 0.0]])
                x.data = array
                y = x * 1.0
            case "cotangent":
                x = Variable([[0.0, 0.0]])
                (x * 1.0).backward(cotangent=array)
                y = x.grad
            case _:
                y = layers.Linear(2, 2, bias=False, rng=0)(array)
                expected = expected @ engine.layers.Linear(2, 2, rng=0).w.data
        array[:] = -1.0
        np.testing.assert_array_equal(y.data, expected)


def test_an_array_that_is_changed_between_two_uses_in_one_run(connection: Connection) -> None:
    array = np.ones(1000)
    x = Variable(2.0)
    first = x * array
    array[7] = 5.0
    second = x * array
    array[7] = 1.0
    third = x * array
    assert (first.data[7], second.data[7], third.data[7]) == (2.0, 10.0, 2.0)


def test_what_is_read_cannot_be_written(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 5.0
    with pytest.raises(ValueError, match="read-only"):
        x.data += 1.0
    y = x * 2.0
    y.backward()
    with pytest.raises(ValueError, match="read-only"):
        x.grad.data[0] = 5.0
    assert x.data.tolist() == [1.0, 2.0]


NAMES = [
    "lambda",
    "class",
    "None",
    "True",
    "pi",
    "e",
    "nan",
    "sin",
    "v1",
    "_1",
    "x y",
    "",
    " ",
    "a.b",
    "linear[0].w",
    "λ",
    "длина",
    "重み",
    "ﬁ",
    "é",
    "e\u0301",
    "🙂",
    "a\nb",
    'quo"te',
    "back\\slash",
    "a/b",
    "../x",
    "%2e",
    "?q=1",
    "#x",
    "x" * 300,
    "\x00",
    "-1",
    "1",
    "do",
    "__class__",
]


@pytest.mark.parametrize("speaks_json", [True, False], ids=["json", "msgpack"])
def test_names(server: Server, speaks_json: bool) -> None:
    """A name is for people: any text will do, it is shown as it was given, and it changes nothing."""
    with connect(server.base_url, json=speaks_json):
        variables = [Variable(float(i), name=name) for i, name in enumerate(NAMES)]
        total: Any = 0.0
        for x in variables:
            total = total + x * 1.0
        total.backward()
        assert total.item() == sum(range(len(NAMES)))
        for i, (x, name) in enumerate(zip(variables, NAMES, strict=True)):
            assert x.name == name
            assert str(x) == str(engine.Variable(float(i), name=name))
            assert x.grad.data == 1.0
        assert dot(total)


@pytest.mark.parametrize("name", ["w", "v1", "_1", "lambda", "pi", "λ", "x y", "linear[0].w", "a/b"], ids=ascii)
def test_a_variable_is_found_by_its_name(server: Server, name: str) -> None:
    """As the docstring of `Variable` says: or else a name that cannot be found has to be refused where it is given."""
    with connect(server.base_url, keep=True) as made:
        others = [Variable(float(i)) for i in range(3)]
        x = Variable(7.0, name=name)
        assert (x + sum(others, Variable(0.0))).item() == 10.0
    with connect(server.base_url, session=made.id) as again:
        found = again.variable(name)
        assert (found.item(), found.name) == (7.0, name)


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "_1", "k1", "lambda_"])
def test_a_name_never_finds_another_variable(server: Server, name: str) -> None:
    with connect(server.base_url, keep=True) as made:
        held = [Variable(float(i)) for i in range(3)]
        held.append(Variable(7.0, name="lambda"))
        held.append(Variable(8.0, name=name))
        made.flush()
    with connect(server.base_url, session=made.id) as again:
        try:
            found = again.variable(name).item()
        except errors.UnknownVariableError:
            found = 8.0
        assert found == 8.0
    del held


def test_one_name_for_two_variables(connection: Connection) -> None:
    x, y = Variable(1.0, name="x"), Variable(2.0, name="x")
    assert ((x + 10.0 * y).item(), str(x), str(y)) == (21.0, "x(1.0)", "x(2.0)")
    x = x * 3.0
    x.name = "x"
    y.backward()
    assert (str(x), y.grad.item()) == ("x(3.0)", 1.0)


def test_a_name_given_later(server: Server) -> None:
    with connect(server.base_url):
        x = Variable(1.0)
        y = x * 4.0
        assert y.item() == 4.0
        y.name = "later"
        assert str(y) == "later(4.0)"


# Threads


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


# Taking a session up again

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
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
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
