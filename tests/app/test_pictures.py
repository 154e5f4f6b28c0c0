"""Pictures of programs and derivatives: DOT text that Graphviz reads, SVG where it is installed, and from the CLI."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.cli import main
from app.main import create_app
from app.programs.graphviz import MAX_LINES, svg
from app.settings import Settings
from engine.core.errors import LimitExceededError, NotSupportedError
from tests.app.test_around import talk

if TYPE_CHECKING:
    from tests.app.conftest import Server

needs_graphviz = pytest.mark.thorough


def register(server: Server, expr: str) -> str:
    answer = server.client.post("/v1/programs", json={"expr": expr})
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


@needs_graphviz
@pytest.mark.parametrize("order", [0, 1, 3])
def test_graphviz_reads_what_is_drawn(server: Server, order: int) -> None:
    program = register(server, "velocity = tanh(time) * [1, 2, 3, 4, 5]; sum(velocity ** 2)")
    text = server.client.get(f"/v1/programs/{program}/dot", params={"order": order})
    assert text.headers["content-type"].startswith("text/vnd.graphviz")
    canonical = subprocess.run(["dot", "-Tcanon"], input=text.text, capture_output=True, text=True, check=True)
    assert canonical.stdout.count("->") == text.text.count("->") > 0
    picture = server.client.get(f"/v1/programs/{program}/dot.svg", params={"order": order})
    assert picture.headers["content-type"] == "image/svg+xml"
    assert "<svg" in picture.text
    assert ">time<" in picture.text


def test_a_server_without_graphviz_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(NotSupportedError, match="Graphviz"):
        svg("digraph g {\n}", 1.0)


@needs_graphviz
def test_what_nobody_could_see_is_not_drawn() -> None:
    with pytest.raises(LimitExceededError, match=f"{MAX_LINES:,}.*ask for the DOT text") as caught:
        svg("digraph g {\n" + '"a" -> "b"\n' * MAX_LINES + "}", 1.0)
    # There is no setting that raises it.
    assert "PULLBACK" not in str(caught.value)


@pytest.mark.parametrize(
    "script", ["#!/bin/sh\necho no layout >&2; exit 3\n", "no program"], ids=["fails", "no program"]
)
def test_graphviz_that_fails_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, script: str
) -> None:
    broken = tmp_path / "dot"
    broken.write_text(script)
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken))
    app = create_app(Settings(store="memory"))
    program = talk(app, lambda client: client.post("/v1/programs", json={"expr": "x ** 3"})).json()["id"]
    answer = talk(app, lambda client: client.get(f"/v1/programs/{program}/dot.svg"))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert "Graphviz fails" in answer.json()["detail"]
    assert "Graphviz fails: " in caplog.text
    assert talk(app, lambda client: client.get(f"/v1/programs/{program}/dot")).status_code == 200


def test_from_order_two_on_a_picture_needs_one_name(server: Server) -> None:
    program = register(server, "price * rate ** 2")
    path = f"/v1/programs/{program}/dot"
    refused = server.client.get(path, params={"order": 2})
    assert refused.status_code == 422
    assert "price, rate" in refused.json()["detail"]
    assert server.client.get(path, params={"order": 2, "wrt": "rate"}).text.startswith("digraph g {")
    assert "rates" in server.client.get(path, params={"order": 1, "wrt": "rates"}).json()["detail"]


def test_the_command_line_draws(capsys: pytest.CaptureFixture[str]) -> None:
    arrows = []
    for order in range(3):
        assert main(["dot", "tanh(x) * exp(x)", "--order", str(order)]) == 0
        text = capsys.readouterr().out
        assert text.startswith("digraph g {")
        arrows.append(text.count("->"))
    assert arrows == sorted(arrows)
    assert arrows[0] < arrows[2]
