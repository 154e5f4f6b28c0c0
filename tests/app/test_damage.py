"""Programs that are damaged in the store are never run as other programs, and hide no others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.main import Pullback, create_app
from app.programs import ProgramLimits
from app.programs.registry import Registry
from app.settings import Settings
from app.stores import Policy, SqliteStore, StoreUnavailableError
from app.stores.sqlite import FILE
from engine.programs.identity import program_id
from tests.app.test_around import talk

EXPR = "y = sum(a * clip(x, -3, 5), axes=0); y"
BOUND = {"a": [1.5, 2.5]}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Pullback]:
    """A server that keeps no graphs ready."""
    app = create_app(Settings(data_dir=tmp_path, cache_bytes=0, prepared_requests=0))
    yield app
    app.state.registry.store.close()


def ask(app: Pullback, method: str, path: str, document: Any = None) -> httpx.Response:
    answer: httpx.Response = talk(app, lambda client: client.request(method, path, json=document))
    return answer


def register(app: Pullback, expr: str, name: str, **more: Any) -> str:
    answer = ask(app, "POST", "/v1/programs", {"expr": expr, "name": name, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def change(directory: Path, statement: str, *values: Any) -> None:
    """What a disk might do to a file, done by a statement."""
    with sqlite3.connect(directory / FILE) as connection:
        assert connection.execute(statement, values).rowcount == 1
    connection.close()


DAMAGE: dict[str, tuple[str, tuple[Any, ...]]] = {
    "another attribute": ("UPDATE programs SET document = replace(document, '5', '4') WHERE id = ?", ()),
    "another operation": ("UPDATE programs SET document = replace(document, 'mul', 'sub') WHERE id = ?", ()),
    "no operation": ("UPDATE programs SET document = replace(document, 'mul', 'mxl') WHERE id = ?", ()),
    "no JSON": ("UPDATE programs SET document = substr(document, 2) WHERE id = ?", ()),
    "another document": ("UPDATE programs SET document = '[1]' WHERE id = ?", ()),
    "no text": ("UPDATE programs SET document = CAST(x'7bff7d' AS TEXT) WHERE id = ?", ()),
    "another number": ("UPDATE blobs SET data = ? WHERE ? IN (SELECT program FROM bindings)", (np.ones(2).tobytes(),)),
    "a number fewer": ("UPDATE blobs SET data = ? WHERE ? IN (SELECT program FROM bindings)", (np.ones(1).tobytes(),)),
    "another dtype": ("UPDATE bindings SET dtype = 'int64' WHERE program = ?", ()),
    "no dtype": ("UPDATE bindings SET dtype = 'float16' WHERE program = ?", ()),
    "another shape": ("UPDATE bindings SET shape = '[2, 1]' WHERE program = ?", ()),
    "a shape that does not fit": ("UPDATE bindings SET shape = '[3]' WHERE program = ?", ()),
    "no shape": ("UPDATE bindings SET shape = '[2' WHERE program = ?", ()),
    "another name": ("UPDATE bindings SET name = 'x' WHERE program = ?", ()),
}


@pytest.mark.parametrize(("statement", "values"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_unavailable(
    app: Pullback, tmp_path: Path, caplog: pytest.LogCaptureFixture, statement: str, values: tuple[Any, ...]
) -> None:
    program = register(app, EXPR, "best", bind=BOUND)
    register(app, "x + 1", "other")
    request = {"program": "best", "inputs": {"x": 2.0}}
    assert ask(app, "POST", "/v1/evaluate", request).json()["values"] == {"y": 8.0}
    change(tmp_path, statement, *values, program)
    for answer in (ask(app, "POST", "/v1/evaluate", request), ask(app, "GET", "/v1/programs/best")):
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert f"the program {program} is damaged in the store" in answer.json()["detail"]
    assert f"the program {program} is damaged in the store: " in caplog.text
    assert [found["name"] for found in ask(app, "GET", "/v1/programs").json()["programs"]] == ["best", "other"]
    assert ask(app, "POST", "/v1/evaluate", {"program": "other", "inputs": {"x": 1}}).json()["values"] == {"out": 2}
    # What the message says to do.
    assert ask(app, "DELETE", f"/v1/programs/{program}").status_code == 204
    assert register(app, EXPR, "best", bind=BOUND) == program
    assert ask(app, "POST", "/v1/evaluate", request).json()["values"] == {"y": 8.0}


@pytest.mark.parametrize("summary", ["'{'", "'[]'", "'{}'", "CAST(x'ff' AS TEXT)", "x'00'"])
def test_a_damaged_summary_hides_no_others(app: Pullback, tmp_path: Path, summary: str) -> None:
    program = register(app, EXPR, "best", bind=BOUND)
    other = register(app, "x + 1", "other")
    change(tmp_path, f"UPDATE programs SET summary = {summary} WHERE id = ?", program)
    first, second = ask(app, "GET", "/v1/programs").json()["programs"]
    unknown = dict.fromkeys(("inputs", "outputs", "nodes", "cost"))
    assert first == {"id": program, "name": "best", **unknown}
    assert (second["id"], second["nodes"]) == (other, 1)
    answer = ask(app, "GET", "/v1/programs/best")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    # What it computes is not damaged.
    request = {"program": "best", "inputs": {"x": 2.0}}
    assert ask(app, "POST", "/v1/evaluate", request).json()["values"] == {"y": 8.0}


def test_an_array_that_is_missing(app: Pullback, tmp_path: Path) -> None:
    program = register(app, EXPR, "best", bind=BOUND)
    change(tmp_path, "DELETE FROM blobs WHERE ? IN (SELECT program FROM bindings)", program)
    answer = ask(app, "POST", "/v1/evaluate", {"program": "best", "inputs": {"x": 2.0}})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")


@pytest.mark.parametrize("change_of", [lambda c: c ^ 1, lambda c: c ^ 4, lambda c: 0x20], ids=["1", "4", "a blank"])
def test_no_byte_of_a_document_makes_another_program_of_it(tmp_path: Path, change_of: Callable[[int], int]) -> None:
    store = SqliteStore(tmp_path, Policy())
    registry = Registry(store, ProgramLimits(), 0)
    kept, _ = registry.register(("expr", EXPR), declared={"x": {"shape": []}}, bound=BOUND)
    refused = 0
    for place in range(len(kept.document)):
        damaged = bytearray(kept.document.encode())
        damaged[place] = change_of(damaged[place])
        change(tmp_path, "UPDATE programs SET document = CAST(? AS TEXT) WHERE id = ?", bytes(damaged), kept.id)
        try:
            assert program_id(registry.graph(kept.id)) == kept.id
        except StoreUnavailableError:
            refused += 1
    assert refused > len(kept.document) // 2
    store.close()
