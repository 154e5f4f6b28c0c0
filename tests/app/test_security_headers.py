"""Headers that tell browsers what an answer may do."""

from __future__ import annotations

import base64
import re
from hashlib import sha256

import pytest

from tests.app.hot import Received, Sent, ask, new_app, sent

APP = new_app()
QUICK = sent("/v1/evaluate", {"expr": "x * 2.5", "inputs": {"x": 2.0}})


def get(path: str) -> Received:
    return ask(APP, Sent(path, b"", method="GET"))


@pytest.mark.parametrize(
    "path", ["/docs", "/problems/forbidden", "/openapi.json", "/v1", "/metrics", "/nowhere", "work"]
)
def test_no_answer_is_taken_for_something_else(path: str) -> None:
    answer = ask(APP, QUICK) if path == "work" else get(path)
    assert dict(answer.headers)[b"x-content-type-options"] == b"nosniff"


def test_an_answer_of_the_event_loop_has_three_headers_beside_its_own() -> None:
    answers = [ask(APP, QUICK) for _ in range(4)]
    assert APP.inline.answered > 0
    own = {b"content-type", b"content-length"}
    for answer in answers:
        assert {name for name, _ in answer.headers} - own == {
            b"pullback-version",
            b"x-content-type-options",
            b"x-request-id",
        }


@pytest.mark.parametrize("path", ["/docs", "/problems/forbidden"])
def test_a_page_loads_what_it_needs_and_nothing_else(path: str) -> None:
    answer = get(path)
    assert answer.status == 200
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    directives = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert directives["default-src"] == directives["frame-ancestors"] == "'none'"
    text = answer.body.decode()
    for source in re.findall(r'<script src="(https://[^/]*)', text):
        assert source in directives["script-src"]
    for source in re.findall(r'rel="stylesheet" href="(https://[^/]*)', text):
        assert source in directives["style-src"]
    assert "unsafe-inline" not in directives.get("script-src", "")
    inline = re.findall(r"<script>(.*?)</script>|<style>(.*?)</style>", text, re.DOTALL)
    assert len(inline) == 1
    # The browser's own check: the hash of what stands in the page.
    digest = base64.b64encode(sha256("".join(inline[0]).encode()).digest()).decode()
    assert f"'sha256-{digest}'" in directives["script-src" if path == "/docs" else "style-src"]


def test_docs_ask_for_the_document_where_it_is() -> None:
    answer = ask(APP, Sent("/docs", b"", method="GET", root_path="/calculus"))
    assert "url: '/calculus/openapi.json'" in answer.body.decode()
