"""Programs outlive the server that they were registered with, and are those of all its workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.app.calls import assert_close, evaluate, refused, sendable
from tests.app.conftest import ROOT, START_S, Server, start_server
from tests.app.test_registered_programs import assert_unknown, look, post, register, remove
from tests.engine.programs import PROGRAMS

pytestmark = pytest.mark.thorough

Document = dict[str, Any]

MATRIX = np.array([[1.0, -0.5, 2.0], [0.25, 3.0, -1.0]])
BITS = {
    "float64": np.array([0.1, -0.0, 5e-324, np.nan, -np.inf, np.pi]),
    "float32": np.array([0.1, -0.0, 1e-45, np.nan, np.inf, np.pi], np.float32),
    "int64": np.array([[2**53 + 1, -(2**63)], [2**63 - 1, 0]]),
    "bool": np.array([True, False, True]),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(0.1),
}


@dataclass(frozen=True, slots=True)
class Case:
    """A program of one element, and inputs of which `x`, one element too, is differentiated by again and again."""

    program: Document
    inputs: Document


CASES = {
    "a power": Case({"expr": "x ** 5"}, {"x": 2.0}),
    "the quickstart": Case({"expr": "square(exp(square(x)))"}, {"x": 0.5}),
    "a graph": Case(
        {"graph": {"nodes": [{"id": "y", "op": "mul", "args": ["x", {"op": "cosh", "args": ["x"]}]}]}}, {"x": 0.3}
    ),
    "two inputs": Case({"expr": "sin(x) * exp(y * x)"}, {"x": 0.7, "y": -1.5}),
    "a matrix": Case(
        {"expr": "h = tanh(A * x); sum(h @ v) ** 2"}, {"x": 0.4, "A": MATRIX, "v": np.array([1.0, 2.0, -1.0])}
    ),
    "a loss over a gradient": Case(
        {"expr": "u = sin(x * t); du = grad(sum(u), t); mean((du - u) ** 2)"}, {"x": 1.3, "t": np.linspace(-1, 2, 5)}
    ),
    "bound data": Case(
        {"expr": "sum(log1p(exp(A @ v * x)))", "bind": {"A": MATRIX, "v": np.array([0.5, -1.5, 1.0])}}, {"x": 1.1}
    ),
    "declared inputs": Case(
        {
            "expr": "mean((x * w - t) ** 4)",
            "inputs": {"w": {"shape": [-1], "dtype": "float64"}, "t": {"shape": []}},
            "bind": {"t": 0.5},
        },
        {"x": 0.9, "w": np.array([1.0, -2.0, 3.0])},
    ),
}


@dataclass(frozen=True, slots=True)
class Restarted:
    """A server that was killed and started again, and what it said before."""

    server: Server
    gradients: dict[str, str]
    facts: dict[str, Document]
    bound: dict[str, str]
    listed: list[Document]


def facts(server: Server, case: Case, gradient: str) -> Document:
    """All that can be asked of a gradient program, with its numbers bit for bit."""
    request = sendable({"program": gradient, "inputs": case.inputs, "encoding": "base64"})
    again = {"of": "grad_x", "wrt": ["x"]}
    found = {
        "values": server.ask("/v1/evaluate", **request),
        "backward": server.ask("/v1/evaluate", **request, backward=again),
        "order 2": server.ask("/v1/evaluate", **request, backward={**again, "order": 2}),
        "create_graph": server.ask("/v1/evaluate", **request, backward={**again, "create_graph": True}),
        "hvp": server.ask("/v1/hvp", **request, of="grad_x", vectors={"x": 1.0}),
        "shown": look(server, gradient),
    }
    once_more = found["create_graph"]["grad_program"]
    return found | {
        "a program of its gradient": server.ask("/v1/evaluate", **{**request, "program": once_more}),
        "a program of its gradient, shown": look(server, once_more),
    }


def gradient_of(server: Server, case: Case) -> str:
    """The id of the gradient program of a case, which is registered first."""
    program = register(server, **case.program)["id"]
    answer = evaluate(server, program=program, inputs=case.inputs, backward={"create_graph": True})
    found: str = answer["grad_program"]
    return found


def listed(server: Server) -> list[Document]:
    found: list[Document] = server.client.get("/v1/programs", params={"limit": 100}).json()["programs"]
    return found


def kill(server: Server) -> None:
    """Ends the process at once: it writes nothing more."""
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarted]:
    folder = tmp_path_factory.mktemp("restarted")
    with start_server(folder) as server:
        gradients = {name: gradient_of(server, case) for name, case in CASES.items()}
        known = {name: facts(server, case, gradients[name]) for name, case in CASES.items()}
        bound = {name: register(server, expr="x * w", bind={"w": value})["id"] for name, value in BITS.items()}
        register(server, expr="x * 301", name="kept")
        register(server, expr="x * 302", name="moved")
        register(server, expr="x * 303", name="moved", replace=True)
        remove(server, register(server, expr="x * 304", name="deleted")["id"])
        register(server, expr="x * 305", name="held")
        programs = listed(server)
        kill(server)
    with start_server(folder) as server:
        yield Restarted(server, gradients, known, bound, programs)


each_case = pytest.mark.parametrize("name", CASES)


# A server that was killed


@each_case
def test_a_gradient_program_gives_the_same_answers(restarted: Restarted, name: str) -> None:
    assert facts(restarted.server, CASES[name], restarted.gradients[name]) == restarted.facts[name]


def test_the_answers_are_right(restarted: Restarted) -> None:
    program: Document = {"program": restarted.gradients["a power"], "inputs": {"x": 2}}
    server = restarted.server
    assert server.evaluate(**program)["values"] == {"grad_x": 80}
    assert server.evaluate(**program, backward={"order": 3})["higher"] == {"x": [160, 240, 240]}
    assert server.ask("/v1/hvp", **program, vectors={"x": 10})["hvp"] == {"x": 2400}
    again = server.evaluate(**program, backward={"create_graph": True})["grad_program"]
    assert server.evaluate(program=again, inputs={"x": 3})["values"] == {"grad_x": 540}


@pytest.mark.parametrize("form", ["expr", "graph"])
@each_case
def test_what_is_shown_gives_the_same_id(restarted: Restarted, name: str, form: str) -> None:
    program = restarted.gradients[name]
    shown = look(restarted.server, program)
    document = {form: shown[form], "bind": CASES[name].program.get("bind", {})}
    if form == "expr":
        document["inputs"] = shown["inputs"]
    assert post(restarted.server, 200, **document)["id"] == program


@pytest.mark.parametrize("name", BITS)
def test_bound_values_keep_their_bits(restarted: Restarted, name: str) -> None:
    program, value = restarted.bound[name], BITS[name]
    found = evaluate(restarted.server, program=program, inputs={"x": 1.0}, outputs=["w"])["values"]["w"]
    assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())
    assert post(restarted.server, 200, expr="x * w", bind={"w": value})["id"] == program


def test_the_list_is_the_same(restarted: Restarted) -> None:
    assert len(restarted.listed) > len(CASES) + len(BITS)
    assert listed(restarted.server)[: len(restarted.listed)] == restarted.listed


@pytest.mark.parametrize(("name", "factor"), [("kept", 301), ("moved", 303), ("held", 305)])
def test_names_stand_for_the_same_programs(restarted: Restarted, name: str, factor: int) -> None:
    assert restarted.server.evaluate(program=name, inputs={"x": 1})["values"] == {"out": factor}
    assert post(restarted.server, 200, expr=f"x * {factor}")["name"] == name


def test_names_are_held(restarted: Restarted) -> None:
    refused(restarted.server, "name-conflict", "held", "/v1/programs", expr="x * 306", name="held")


def test_what_was_deleted_is_gone(restarted: Restarted) -> None:
    assert_unknown(restarted.server, "deleted")
    program = register(restarted.server, expr="x * 304", name="deleted")
    assert restarted.server.evaluate(program="deleted", inputs={"x": 1})["program"] == program["id"]


# Ids elsewhere

_IDS = """
import json
from engine.programs import Backward, parse, prepare, program_id
from tests.engine.programs import PROGRAMS
found = {}
for program in PROGRAMS:
    graph = parse(program.text)
    backward = Backward(of=program.outputs[0], create_graph=True)
    gradient = prepare(graph, dict(program.inputs), backward=backward).grad_graph
    found[program.name] = [program_id(graph), program_id(gradient)]
print(json.dumps(found))
"""


def test_ids_are_the_same_in_every_process(server: Server) -> None:
    answers = {
        program.name: evaluate(
            server,
            expr=program.text,
            inputs=dict(program.inputs),
            backward={"of": program.outputs[0], "create_graph": True},
        )
        for program in PROGRAMS
    }
    expected = {name: [answer["program"], answer["grad_program"]] for name, answer in answers.items()}
    for seed in ("1", "2"):
        command = [sys.executable, "-c", _IDS]
        env = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == expected


# Workers

LINUX = Path("/proc/self/stat").exists()


def workers_of(supervisor: int) -> list[int]:
    """The processes that a server of several workers has started to answer requests."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == supervisor and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return found


@contextlib.contextmanager
def answered_by(worker: int, server: Server) -> Iterator[Server]:
    """The server while this is the only one of its workers that takes connections."""
    # The supervisor first, and back last: it replaces workers that do not answer it.
    others = [server.pid, *(pid for pid in workers_of(server.pid) if pid != worker)]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        # The worker may still be starting.
        with httpx.Client(base_url=server.base_url, timeout=START_S, trust_env=False) as client:
            yield Server(server.base_url, server.process, client)
    finally:
        for pid in reversed(others):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.skipif(not LINUX, reason="a server's workers are found in /proc")
def test_no_server_outlives_the_one_that_watches_over_them(tmp_path: Path) -> None:
    with start_server(tmp_path, ("app.cli", "serve", "--workers", "2")) as server:
        servers = workers_of(server.pid)
        assert len(servers) == 2
        server.process.kill()
        server.process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in servers):
            time.sleep(0.02)


@pytest.mark.skipif(not LINUX, reason="a server's workers are found in /proc")
def test_workers_share_programs(tmp_path: Path) -> None:
    with start_server(tmp_path, ("app.cli", "serve", "--workers", "2")) as server:
        first, second = workers_of(server.pid)
        with answered_by(first, server) as one:
            answer = evaluate(one, expr="x ** 3", inputs={"x": 2.0}, backward={"create_graph": True})
            register(one, expr="x * w", bind={"w": MATRIX}, name="shared")
            old = register(one, expr="x * 311", name="moving")["id"]
        with answered_by(second, server) as other:
            assert other.evaluate(program=answer["grad_program"], inputs={"x": 2})["values"] == {"grad_x": 12}
            assert_close(evaluate(other, program="shared", inputs={"x": 2.0})["values"], {"out": 2 * MATRIX})
            assert look(other, "moving")["id"] == old
            register(other, expr="x * 312", name="moving", replace=True)
            remove(other, answer["grad_program"])
        with answered_by(first, server) as one:
            assert one.evaluate(program="moving", inputs={"x": 1})["values"] == {"out": 312}
            assert_unknown(one, answer["grad_program"])
