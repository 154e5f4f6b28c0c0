"""What would not fit is refused before memory moves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.app.conftest import Server

GROWTH_LIMIT_KB = 50 * 1024
LINUX = Path("/proc/self/clear_refs").exists()
pytestmark = pytest.mark.skipif(not LINUX, reason="a process's memory is read from /proc")

RESET_PEAK = "5"  # what proc(5) says to write into clear_refs
COLUMN = "c = broadcast_to(x, [100000, 1]); r = broadcast_to(x, [1, 100000]); "
VECTOR = "v = broadcast_to(x, [100000]); "


def infix(expr: str, x: Any = 1.0, **fields: Any) -> dict[str, Any]:
    return {"expr": expr, "inputs": {"x": x}, **fields}


def array(**fields: Any) -> dict[str, Any]:
    return infix("x", fields)


TOO_LARGE = {
    "broadcast_to": infix("broadcast_to(x, [100000, 100000])"),
    "broadcast_to, reduced to one number": infix("sum(broadcast_to(x, [100000, 100000]))"),
    "broadcast_to, with gradients": infix("sum(broadcast_to(x, [100000, 100000]))", backward=True),
    "beyond 64 bits": infix("broadcast_to(x, [4294967296, 4294967296, 16])"),
    "addition": infix(COLUMN + "c + r"),
    "comparison": infix(COLUMN + "c > r"),
    "where": infix(COLUMN + "where(c, r, 0)"),
    "matmul": infix(COLUMN + "c @ r"),
    "matmul, all products of it": infix(COLUMN + "sum(c @ r)", nograd=True),
    "outer": infix(VECTOR + "outer(v, v)"),
    "tile": infix("tile(reshape(x, [1]), [100000, 100000])"),
    "repeat": infix(VECTOR + "repeat(v, 100000)"),
    "concat, doubled 34 times": infix("y = reshape(x, [1]);" + "y = concat([y, y], axis=0);" * 34 + "y"),
    "stack, doubled 34 times": infix(
        "y = x;" + "y = sum(stack([y, y], axis=0), axis=0) + y;" + VECTOR + "outer(v, v) + y"
    ),
    "rows of a batch": infix("broadcast_to(x, [1000, 1000])", [0.0] * 10_000, batched=["x"]),
    "a node of a graph": {
        "graph": {"nodes": [{"id": "y", "op": "broadcast_to", "args": ["x"], "attrs": {"shape": [100_000, 100_000]}}]},
        "inputs": {"x": 1.0},
    },
}

UNTRUE = {
    "a shape without data": array(shape=[1_000_000, 1_000_000], dtype="float64", data=[]),
    "a shape without bytes": array(shape=[1_000_000, 1_000_000], dtype="float64", base64=""),
    "a long shape of bool": array(shape=[4_000_000_000], dtype="bool", base64="AA=="),
    "a shape beyond 64 bits": array(shape=[2**40, 2**40], dtype="float32", data=[1]),
    "a literal in a graph": {
        "graph": {
            "nodes": [
                {"id": "y", "op": "sin", "args": [{"shape": [1_000_000, 1_000_000], "dtype": "float64", "data": []}]}
            ]
        },
        "inputs": {},
    },
    "a cotangent": infix(
        "x", backward={"cotangent": {"shape": [1_000_000, 1_000_000], "dtype": "float64", "data": []}}
    ),
}

HUGE_INPUT = {"shape": [1_000_000, 1_000_000], "dtype": "float64"}
TOO_LARGE |= {
    "numbers alone": {"expr": "sum(sin(broadcast_to(2, [9000, 9000])))"},
    "a list alone": {"expr": "tile([1, 2], [9999, 9999])"},
    "many names of one value": infix(
        "a0 = broadcast_to(x, [5000000]); " + "; ".join(f"a{i} = a{i - 1}" for i in range(1, 31)), outputs="all"
    ),
}
INFERRED = {
    "a huge input": infix("sin(x)", HUGE_INPUT),
    "a huge node": infix("broadcast_to(x, [100000, 100000])"),
    "a huge product": infix("x @ x", HUGE_INPUT),
}


def memory_kb(pid: int, name: str) -> int:
    """A line of the process's status, such as VmRSS or VmHWM, its peak."""
    (found,) = re.findall(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found)


def status_within_memory(server: Server, path: str, body: bytes) -> int:
    """The status that `body` is answered with, while the server's memory peaks hardly above where it stood."""
    server.assert_well()
    Path(f"/proc/{server.pid}/clear_refs").write_text(RESET_PEAK)
    before = memory_kb(server.pid, "VmRSS")
    response = server.client.post(path, content=body, headers={"Content-Type": "application/json"})
    growth = memory_kb(server.pid, "VmHWM") - before
    assert growth < GROWTH_LIMIT_KB, f"grew by {growth} kB for {body[:200]!r}"
    server.assert_well()
    return response.status_code


@pytest.mark.parametrize("request_", TOO_LARGE.values(), ids=TOO_LARGE)
def test_too_large_is_refused(server: Server, request_: dict[str, Any]) -> None:
    assert status_within_memory(server, "/v1/evaluate", json.dumps(request_).encode()) == 413


@pytest.mark.parametrize("request_", UNTRUE.values(), ids=UNTRUE)
def test_shape_that_its_data_does_not_fill_is_refused(server: Server, request_: dict[str, Any]) -> None:
    assert status_within_memory(server, "/v1/evaluate", json.dumps(request_).encode()) in (413, 422)


@pytest.mark.parametrize("request_", INFERRED.values(), ids=INFERRED)
def test_infer_allocates_nothing(server: Server, request_: dict[str, Any]) -> None:
    assert status_within_memory(server, "/v1/infer", json.dumps(request_).encode()) in (200, 413)


@pytest.mark.parametrize("opening", [b"[", b'{"x":'])
def test_nesting_without_end_is_refused(server: Server, opening: bytes) -> None:
    assert status_within_memory(server, "/v1/evaluate", opening * 1_000_000) in (400, 413)
