"""No server, or another one: what is said, and what can still be used."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from pullback import (
    Client,
    Variable,
    connect,
    errors,
)
from tests.app.conftest import start_server
from tests.clients.proxy import Message, Proxy
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.app.conftest import Server


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
