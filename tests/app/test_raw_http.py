"""Corners of HTTP, as bytes to a real server: the status, the problem, and whether the connection stays open.

A row is a request and what comes of it: the statuses of its answers, with the slugs of problems, and "close" where the
connection ends with them. What has no end is in `test_guard.py`.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import zlib
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.app.conftest import Server, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A bound for what hangs; a busy machine comes nowhere near it.
PATIENCE_S = 60
PROBE = "probe"
HOST = "Host: localhost"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
ORIGIN = "Origin: https://a.example"
BODY = '{"expr": "x", "inputs": {"x": 1}}'
BAD = "400 malformed-request close"
REFUSED = "400 malformed-body"
NO_TYPE = "415 unsupported-media-type"
NO_ANSWER = "406 not-acceptable"
NO_PATH = "404 unknown-path"
NO_METHOD = "405 method-not-allowed"
NO_QUERY = "422 invalid-request"
TOO_LARGE = "431 headers-too-large close"
TOO_LONG = "413 body-too-large close"
WRONG_HOST = "421 wrong-host close"


def get(path: str = "/healthz", *fields: str, method: str = "GET", version: str = "1.1", host: str = HOST) -> str:
    """Return a request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", *([host] if host else []), *fields, "", ""])


def post(body: str = BODY, *fields: str, path: str = "/v1/evaluate", kind: str = JSON, version: str = "1.1") -> str:
    """Return a request with a body of a stated length."""
    about = [*([kind] if kind else []), f"Content-Length: {len(body)}", *fields]
    return get(path, *about, method="POST", version=version) + body


def framed(body: str, *fields: str, version: str = "1.1") -> str:
    """Return a request with these fields about a body, and the body as it is."""
    return get("/v1/evaluate", JSON, *fields, method="POST", version=version) + body


def chunks(*parts: str, end: str = "0\r\n\r\n") -> str:
    return "".join(f"{len(part):x}\r\n{part}\r\n" for part in parts) + end


GET, POST = get(), post()
ZIPPED = gzip.compress(BODY.encode(), mtime=0).decode("latin-1")
DEFLATED = zlib.compress(BODY.encode()).decode("latin-1")
LENGTH = f"{len(BODY):x}"

#: name -> (request, what comes of it)
Rows = dict[str, tuple[str, str]]

METHODS: Rows = {
    "GET": (GET, "200"),
    "HEAD": (get(method="HEAD"), "200"),
    **{
        f"{method} of a page": (get(method=method), NO_METHOD)
        for method in "OPTIONS POST PUT PATCH DELETE TRACE PROPFIND QUERY".split()
    },
    **{f"{method} of a call": (get("/v1/evaluate", method=method), NO_METHOD) for method in ("GET", "PUT", "DELETE")},
    "HEAD of a call": (get("/v1/evaluate", method="HEAD"), "405"),
    "HEAD of operations": (get("/v1/ops", method="HEAD"), "200"),
    "HEAD of nothing": (get("/nothing", method="HEAD"), "404"),
    "HEAD of a program that nobody made": (get("/v1/programs/nobody", method="HEAD"), "404"),
    "DELETE of a session that is not there": (get("/v1/sessions/s_0", method="DELETE"), "204"),
    "OPTIONS of all": (get("*", method="OPTIONS"), NO_PATH),
    "CONNECT": (get("localhost:1", method="CONNECT"), BAD),
    **{f"method {method!r}": (get(method=method), BAD) for method in ("get", "BREW", "G3T", "")},
}

LINES: Rows = {
    "two spaces": ("GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
    "a tab": ("GET\t/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", BAD),
    "a space at the end": ("GET /healthz HTTP/1.1 \r\nHost: localhost\r\n\r\n", BAD),
    "no version": ("GET /healthz\r\n\r\n", "200 close"),
    "no target": ("GET HTTP/1.1\r\nHost: localhost\r\n\r\n", BAD),
    **{f"HTTP/{version}": (get(version=version), "200 close") for version in ("1.0", "0.9", "2.0")},
    **{f"HTTP/{version}": (get(version=version), BAD) for version in ("1.2", "3", "1")},
    "http": ("GET /healthz http/1.1\r\nHost: localhost\r\n\r\n", BAD),
    "empty lines before": ("\r\n\r\n" + GET, "200"),
    "a bare newline before": ("\n" + GET, "200"),
    "bare newlines": (GET.replace("\r\n", "\n"), BAD),
    "bare carriage returns": (GET.replace("\r\n", "\r") + "\r\n\r\n", BAD),
    "TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BAD),
    "the preface of HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD),
    "a word": ("hello\r\n\r\n", BAD),
    "a null byte before": ("\0" + GET, BAD),
}

TARGETS: Rows = {
    **{
        f"target {target}": (get(target), "200") for target in ("http://localhost/healthz", "https://localhost/healthz")
    },
    # What counts is the Host header: browsers send absolute targets to proxies only.
    "target of another host": (get("http://attacker.example/healthz"), "200"),
    **{f"target {target}": (get(target), BAD) for target in ("http://localhost", "healthz", "?a=b")},
    **{
        f"path {path}": (get(path), NO_PATH)
        for path in "/ /nothing /healthz/ //healthz /HEALTHZ /./healthz /v1/ /v1/ops/ /v1//ops /v1/../healthz "
        "/v1/evaluate/ /v1/evaluate/nothing /v2/evaluate /healthz%00 /v1/%2e%2e/healthz /v1/ops/a%20b "
        "/v1/ops/a%0d%0ab /v1/ops/% /v1/ops/%zz /v1/ops/%C3%A4 /v1/ops/%ff /v1/ops/%25 /v1/ops/a%3Fb "
        '/v1/ops/"<> /v1/ops\\sin'.split()
    },
    **{
        f"path {path}": (get(path), "200")
        for path in "/%68ealthz /v1%2Fops /v1/ops/%73in /healthz#a /healthz? /healthz?a=b&a=c&&=".split()
    },
    **{f"raw {what!r} in a path": (get(f"/v1/ops/{what}"), BAD) for what in ("\xc3\xa4", "\xff", "a\0b", "a b")},
    **{
        f"query {query}": (get(f"/v1/programs?{query}"), NO_QUERY)
        for query in ("limit=%00", "limit=%zz", "nobody=1", "limit=1;after=2", "limit=0")
    },
    **{
        f"query {query}": (get(f"/v1/programs?{query}"), "200") for query in ("limit=1&limit=2", "limit=+1", "limit=1&")
    },
    "query of a call": (post(path="/v1/evaluate?x=1"), "200"),
    "a long path": (get("/" + "a" * 20_000), NO_PATH),
    "a path beyond the limit": (get("/" + "a" * 70_000), TOO_LARGE),
    "a long query": (get("/healthz?" + "a" * 20_000), "200"),
}

HEADERS: Rows = {
    "no Host": (get(host=""), "200"),
    "no Host in HTTP/1.0": (get(host="", version="1.0"), "200 close"),
    **{
        f"Host {host!r}": (get(host=f"Host:{host}"), "200")
        for host in (" localhost:1", " LOCALHOST", " [::1]:8000", " \t localhost \t", "localhost")
    },
    **{
        f"Host {host!r}": (get(host=f"Host: {host}"), WRONG_HOST)
        for host in ("", "attacker.example", "localhost/a", "localhost@attacker.example", "localhost, localhost")
    },
    "Host twice": (get("/healthz", HOST), "200"),
    "Host twice, different": (get("/healthz", "Host: attacker.example"), WRONG_HOST),
    **{
        f"field {field!r}": (get("/healthz", field), BAD)
        for field in (
            *("A : b", "A", ": b", "A b: c", " A: b", "A: b\r\n c", "A: b\0c", "A\0: b", "A: b\rc", "A: b\x01c"),
            *("\xe4: b", "A: \x7f", "A(b): c"),
        )
    },
    **{
        f"field {field!r}": (get("/healthz", field), "200")
        for field in (
            *("A:", "A: \xe4", "a_b: c", "X-Request-Id: a.b", "X-Request-Id: a b", "Range: bytes=0-1", "Cookie: a=b"),
            *("Authorization: Bearer x", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: attacker.example"),
            *("Connection: keep-alive", "Connection: nothing", "Keep-Alive: timeout=1", "If-None-Match: *"),
            *('If-Match: "a"', "If-Modified-Since: never", "If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT"),
            *("Accept: text/plain;q=0", "Accept-Language: de", "TE: trailers"),
        )
    },
    "Upgrade to HTTP/2": (get("/healthz", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"), "200"),
    "Upgrade to WebSocket": (
        get("/healthz", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        "200",
    ),
    "another method in a field": (post(BODY, "X-HTTP-Method-Override: DELETE"), "200"),
    "50 fields": (get("/healthz", *[f"A{k}: b" for k in range(50)]), "200"),
    "101 fields": (get("/healthz", *[f"A{k}: b" for k in range(100)]), TOO_LARGE),
    "a long value": (get("/healthz", "A: " + "b" * 30_000), "200"),
    "a value beyond the limit": (get("/healthz", "A: " + "b" * 40_000), TOO_LARGE),
    "a name beyond the limit": (get("/healthz", "a" * 40_000 + ": b"), TOO_LARGE),
}

#: What Java's client sends by default, and `curl --http2`.
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAA")

UPGRADES: Rows = {
    "h2c without a body": (get("/healthz", *H2C), "200"),
    "h2c with a body": (post(BODY, *H2C), "200"),
    "h2c with a body in chunks": (framed(chunks(BODY[:9], BODY[9:]), *H2C, CHUNKED), "200"),
    "h2c, and another request": (post(BODY, *H2C) + GET, "200 | 200"),
    "h2c, and to be closed": (post(BODY, "Connection: Upgrade, close", "Upgrade: h2c"), "200 close"),
    "a websocket": (get("/healthz", "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA=="), "200"),
    "CONNECT with a body": ("CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx", BAD),
}

CONNECTIONS: Rows = {
    **{
        f"Connection: {value}": (get("/healthz", f"Connection: {value}"), "200 close")
        for value in ("close", "Close", "close, keep-alive", "keep-alive\r\nConnection: close")
    },
    "close after a call": (post(BODY, "Connection: close"), "200 close"),
    "close after a problem": (get("/nothing", "Connection: close"), f"{NO_PATH} close"),
    "keep-alive in HTTP/1.0": (get("/healthz", "Connection: keep-alive", version="1.0"), "200 close"),
    "a call in HTTP/1.0": (post(version="1.0"), "200 close"),
    "two": (GET * 2, "200 | 200"),
    "ten": (GET * 10, " | ".join(["200"] * 10)),
    "a call and a page": (POST + GET, "200 | 200"),
    "a page and a call": (GET + POST, "200 | 200"),
    "two calls": (POST * 2, "200 | 200"),
    "a problem and a page": (get("/nothing") + GET, f"{NO_PATH} | 200"),
    "empty lines between": (GET + "\r\n\r\n" + GET, "200 | 200"),
    "chunks and a page": (framed(chunks(BODY), CHUNKED) + GET, "200 | 200"),
    "a body that is refused unread and a page": (post(kind="Content-Type: text/plain") + GET, f"{NO_TYPE} | 200"),
    "a page and another host": (GET + get(host="Host: attacker.example"), f"200 | {WRONG_HOST}"),
    "close and one more": (get("/healthz", "Connection: close") + GET, "200 close"),
    # The parser's fault ends the connection before answers under way are sent.
    "a page and nonsense": (GET + "nonsense\r\n\r\n", f"200 | {BAD}"),
    "a body and more": (POST + "}}", f"200 | {BAD}"),
}

FRAMES: Rows = {
    "a body": (POST, "200"),
    "an empty body": (post(""), REFUSED),
    "neither body nor length": (framed(""), REFUSED),
    "an empty body of no type": (post("", kind=""), NO_TYPE),
    **{
        f"Content-Length {length!r}": (framed(BODY, f"Content-Length: {length}"), BAD)
        for length in ("+33", "-1", "0x21", "3 3", "", "a", "33, 33", "33, 34", "33.0", "9" * 30)
    },
    "Content-Length with zeros before": (framed(BODY, "Content-Length: 00033"), "200"),
    "Content-Length above the limit": (framed(BODY, "Content-Length: 33554433"), TOO_LONG),
    "Content-Length far above it": (framed(BODY, f"Content-Length: {2**62}"), TOO_LONG),
    "Content-Length twice": (post(BODY, f"Content-Length: {len(BODY)}"), BAD),
    "Content-Length twice, different": (post(BODY, "Content-Length: 1"), BAD),
    "Content-Length too short": (framed(BODY, "Content-Length: 10"), f"{REFUSED} | {BAD}"),
    "a body of a page": (get("/healthz", "Content-Length: 2") + "{}", "200"),
    "a body of a HEAD": (get("/healthz", "Content-Length: 2", method="HEAD") + "{}", "200"),
    "a body of a DELETE": (
        get("/v1/programs/nobody", "Content-Length: 2", method="DELETE") + "{}",
        "404 unknown-program",
    ),
    "a body of nothing": (post(path="/nothing"), NO_PATH),
    "chunks": (framed(chunks(BODY), CHUNKED), "200"),
    "chunks of a byte": (framed(chunks(*BODY), CHUNKED), "200"),
    "no chunks": (framed(chunks(), CHUNKED), REFUSED),
    "no chunks of a page": (get("/healthz", CHUNKED) + chunks(), "200"),
    "chunks in HTTP/1.0": (framed(chunks(BODY), CHUNKED, version="1.0"), "200 close"),
    "an extension": (framed(f'{LENGTH};a=b;c="d"\r\n{BODY}\r\n0;e\r\n\r\n', CHUNKED), "200"),
    "a trailer": (framed(chunks(BODY, end="0\r\nA: b\r\n\r\n"), CHUNKED), "200"),
    "a length in a trailer": (framed(chunks(BODY, end="0\r\nContent-Length: 1\r\n\r\n"), CHUNKED), BAD),
    "size in capitals": (framed(f"{LENGTH.upper()}\r\n{BODY}\r\n0\r\n\r\n", CHUNKED), "200"),
    "size with zeros before": (framed(f"000{LENGTH}\r\n{BODY}\r\n000\r\n\r\n", CHUNKED), "200"),
    **{
        f"size {size!r}": (framed(f"{size}\r\n{BODY}\r\n0\r\n\r\n", CHUNKED), BAD)
        for size in ("x", "-1", "0x21", "", "f" * 17, f" {LENGTH}", f"{LENGTH} ", "4")
    },
    "sizes and bare newlines": (framed(f"{LENGTH}\n{BODY}\n0\n\n", CHUNKED), BAD),
    **{
        f"Transfer-Encoding {coding!r}": (framed(chunks(BODY), f"Transfer-Encoding: {coding}"), BAD)
        for coding in ("chunked, chunked", "chunked, gzip", "gzip", "identity", "xchunked", '"chunked"', "")
    },
    **{
        f"Transfer-Encoding {coding!r}": (framed(chunks(BODY), f"Transfer-Encoding: {coding}"), "200")
        for coding in ("Chunked", "\tchunked")
    },
    "Transfer-Encoding twice": (framed(chunks(BODY), CHUNKED, CHUNKED), BAD),
    "Transfer-Encoding and Content-Length": (framed(chunks(BODY), CHUNKED, "Content-Length: 5"), BAD),
    "Content-Length and Transfer-Encoding": (framed(chunks(BODY), "Content-Length: 5", CHUNKED), BAD),
    "Transfer-Encoding and a space": (framed(chunks(BODY), "Transfer-Encoding : chunked"), BAD),
    "Expect": (post(BODY, "Expect: 100-continue"), "100 | 200"),
    "EXPECT": (post(BODY, "EXPECT: 100-CONTINUE"), "100 | 200"),
    "Expect in HTTP/1.0": (post(BODY, "Expect: 100-continue", version="1.0"), "100 | 200 close"),
    "Expect something else": (post(BODY, "Expect: a-miracle"), "200"),
    "Expect of nothing": (post(BODY, "Expect: 100-continue", path="/nothing"), NO_PATH),
    "Expect with a length above the limit": (
        framed("", "Content-Length: 33554433", "Expect: 100-continue"),
        TOO_LONG,
    ),
}

TYPES: Rows = {
    **{
        f"Content-Type {value!r}": (post(kind=f"Content-Type: {value}"), "200")
        for value in (
            *("APPLICATION/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'),
            *("application/json; a=b", "application/json;"),
        )
    },
    **{
        f"Content-Type {value!r}": (post(kind=f"Content-Type: {value}"), NO_TYPE)
        for value in (
            *("", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "*/*"),
            *("application/json; charset=utf-16", "application/problem+json", "text/json", "application/x-msgpack"),
            "application",
        )
    },
    "no Content-Type": (post(kind=""), NO_TYPE),
    "Content-Type with a null byte": (post(kind="Content-Type: application/json\0"), BAD),
    "Content-Type twice": (post(BODY, JSON), "200"),
    "Content-Type twice, different": (post(BODY, "Content-Type: text/plain"), NO_TYPE),
    "MessagePack": (post("\x82\xa4expr\xa1x\xa6inputs\x81\xa1x\x01", kind="Content-Type: application/msgpack"), "200"),
    "JSON as MessagePack": (post(kind="Content-Type: application/msgpack"), REFUSED),
    **{
        f"body {body!r}": (post(body), REFUSED)
        for body in ("\xef\xbb\xbf" + BODY, '{"expr": "\xff"}', BODY + "\0", " ")
    },
    **{
        f"Content-Encoding {coding!r}": (post(body, f"Content-Encoding: {coding}"), "200")
        for coding, body in (("gzip", ZIPPED), ("GZIP", ZIPPED), ("x-gzip", ZIPPED), ("identity", BODY), ("", BODY))
    },
    **{
        f"Content-Encoding {coding!r}": (post(body, f"Content-Encoding: {coding}"), NO_TYPE)
        for coding, body in (("deflate", DEFLATED), ("br", BODY), ("gzip, gzip", ZIPPED), ("a", BODY))
    },
    **{
        f"gzip of {name}": (post(body, "Content-Encoding: gzip"), REFUSED)
        for name, body in (("no gzip", BODY), ("nothing", ""), ("a part", ZIPPED[:-9]), ("all and more", ZIPPED + "a"))
    },
    **{
        f"Accept-Encoding {value!r}": (post(BODY, f"Accept-Encoding: {value}"), "200")
        for value in ("", "gzip", "br", "*", "identity;q=0, gzip", "gzip;q=0", "gzip;q=2", "a;b=c;q=1")
    },
    **{
        f"Accept-Encoding {value!r}": (post(BODY, f"Accept-Encoding: {value}"), NO_ANSWER)
        for value in ("identity;q=0", "*;q=0")
    },
    **{
        f"Accept {value!r}": (post(BODY, f"Accept: {value}"), "200")
        for value in (
            *("", "*/*", "application/*", "application/json; charset=utf-8", "APPLICATION/JSON", "application/json,"),
            *("application/msgpack", "text/html, */*;q=0.1"),
        )
    },
    **{
        f"Accept {value!r}": (post(BODY, f"Accept: {value}"), NO_ANSWER)
        for value in (
            *("text/html", "application/json;q=0", "application/json;q=a", "application/problem+json", "a", "/", "*"),
            ";q=1",
        )
    },
    "Accept of 5,000 types": (post(BODY, "Accept: " + ",".join(["a/b"] * 5000)), NO_ANSWER),
    "Accept of a page": (get("/v1/ops", "Accept: text/html"), NO_ANSWER),
    "Accept of figures": (get("/metrics", "Accept: text/html"), "200"),
    "Accept of a fault": (post("{", "Accept: text/html"), NO_ANSWER),
    "Accept-Charset": (post(BODY, "Accept-Charset: latin-1"), "200"),
}


def preflight(*fields: str, path: str = "/v1/evaluate") -> str:
    return get(path, *fields, method="OPTIONS")


WANTS_POST = "Access-Control-Request-Method: POST"
ORIGINS: Rows = {
    **{
        f"Origin {origin}": (get("/v1", f"Origin: {origin}"), "200")
        for origin in ("https://a.example", "https://b.example", "null")
    },
    "Origin of a problem": (get("/nothing", ORIGIN), NO_PATH),
    "preflight": (preflight(ORIGIN, WANTS_POST, "Access-Control-Request-Headers: content-type"), "204"),
    "preflight of another method": (preflight(ORIGIN, "Access-Control-Request-Method: TRACE"), "204"),
    "preflight of nothing": (preflight(ORIGIN, WANTS_POST, path="/nothing"), "204"),
    "preflight of a private network": (
        preflight(ORIGIN, WANTS_POST, "Access-Control-Request-Private-Network: true"),
        "204",
    ),
    "preflight of another site": (preflight("Origin: https://b.example", WANTS_POST), NO_METHOD),
    "preflight of nobody": (preflight(WANTS_POST), NO_METHOD),
}

GROUPS = {
    "methods": METHODS,
    "lines": LINES,
    "targets": TARGETS,
    "headers": HEADERS,
    "upgrades": UPGRADES,
    "connections": CONNECTIONS,
    "frames": FRAMES,
    "types": TYPES,
    "origins": ORIGINS,
}
ROWS = [
    pytest.param(*row, id=f"{group}: {name[:60]}".encode("ascii", "backslashreplace").decode().replace("\0", "0"))
    for group, rows in GROUPS.items()
    for name, row in rows.items()
]


class Answers:
    """Answers to requests on one connection.

    said: each as a status, and the slug of a problem.
    is_open: the answer to a later request came.
    """

    def __init__(self, connection: socket.socket, is_head: bool) -> None:
        self.said: list[str] = []
        self.is_open = False
        self._connection = connection
        self._is_head = is_head
        self._received = b""

    def read(self) -> bool:
        """Read one answer; return whether there was one before the connection was closed."""
        while (head := self._head()) is None:
            if not self._receive():
                assert not self._received, self._received
                return False
        status, fields, length = head
        while len(self._received) < length:
            assert self._receive(), self._received
        body, self._received = self._received[:length], self._received[length:]
        if fields.get("x-request-id") == PROBE:
            self.is_open = True
            return True
        is_problem = body and fields["content-type"] == "application/problem+json"
        slug = orjson.loads(body)["type"].removeprefix("/problems/") if is_problem else ""
        self.said.append(f"{status} {slug}".strip())
        if fields.get("connection") == "close":
            # Some are listened to for a second, so that they can read why they are refused.
            self._connection.shutdown(socket.SHUT_WR)
        return True

    def _head(self) -> tuple[int, dict[str, str], int] | None:
        """Take the head of an answer from what was received: status, fields, and length of the body that follows."""
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        line, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        status = int(line.split()[1])
        self._received = rest
        has_body = not self._is_head or fields.get("x-request-id") == PROBE
        # The parser's own answer has no length; the connection ends with it.
        if status == 400 and "content-length" not in fields:
            while self._receive():
                pass
            return status, {**fields, "connection": ""}, len(self._received)
        return status, fields, int(fields.get("content-length", 0)) if has_body else 0

    def _receive(self) -> bool:
        try:
            piece = self._connection.recv(2**16)
        except ConnectionResetError:
            piece = b""
        self._received += piece
        return bool(piece)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("raw")
    with start_server(folder, ("app.cli", "serve"), cors_origins="https://a.example", access_log="0") as running:
        yield running


@pytest.mark.parametrize(("request_text", "expected"), ROWS)
def test_a_corner_is_answered_as_ever(raw: Server, request_text: str, expected: str) -> None:
    port = raw.client.base_url.port
    assert port is not None
    count = expected.count("|") + 1
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(request_text.encode("latin-1"))
        answers = Answers(connection, is_head=request_text.startswith("HEAD "))
        while len(answers.said) < count and answers.read():
            pass
        with contextlib.suppress(OSError):  # closed by either side
            connection.sendall(get("/healthz", f"X-Request-Id: {PROBE}").encode())
        while not answers.is_open and answers.read():
            pass
    said = " | ".join(answers.said) + ("" if answers.is_open else " close")
    assert said == expected
