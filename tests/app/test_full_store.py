"""A store that is full refuses a gradient program before the work is done, unless it is there already."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from engine.programs.evaluate import CheckedEvaluation
from tests.app.test_around import talk

REQUEST = {"expr": "x ** 3", "inputs": {"x": 2.0}, "backward": {"create_graph": True}}


def test_nothing_runs_where_its_gradient_program_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[CheckedEvaluation] = []
    run = CheckedEvaluation.run

    def counted(prepared: CheckedEvaluation) -> Any:
        runs.append(prepared)
        return run(prepared)

    monkeypatch.setattr(CheckedEvaluation, "run", counted)
    app = create_app(Settings(store="memory", max_programs=1))

    def ask(path: str, document: Any) -> httpx.Response:
        return talk(app, lambda client: client.post(path, json=document))

    assert ask("/v1/evaluate", REQUEST).status_code == 200
    # It is there already, and takes no more room.
    assert ask("/v1/evaluate", REQUEST).status_code == 200
    assert len(runs) == 2
    refused = ask("/v1/evaluate", {**REQUEST, "expr": "x ** 4"})
    assert (refused.status_code, refused.json()["type"]) == (413, "/problems/limit-exceeded")
    assert "PULLBACK_MAX_PROGRAMS" in refused.json()["detail"]
    assert len(runs) == 2
