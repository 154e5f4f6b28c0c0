"""The registry: from requests to kept programs, and from ids and names back to graphs that run as the originals."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.programs import ProgramLimits, infer, packing, prepare
from app.programs.registry import Registry, UnknownProgramError, name_fault
from app.stores import NameConflictError, Policy, Program, SqliteStore
from engine.core.errors import AutogradError, InvalidValueError, LimitExceededError, UnknownNameError
from engine.graph.ir import Graph
from engine.graph.limits import Limits

MATYAS = "0.26*(x**2 + y**2) - 0.48*x*y"
LEAST_SQUARES = "mean((X @ w - t) ** 2)"
ROWS = {"X": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "t": [1.0, 2.0, 3.0]}
CACHE_BYTES = 1_000_000


@pytest.fixture
def registry() -> Registry:
    return Registry(SqliteStore.private(Policy()), ProgramLimits(), CACHE_BYTES)


def register(registry: Registry, expr: str, name: str | None = None, **more: Any) -> Program:
    given = {"declared": {}, "bound": {}, **more}
    return registry.register(("expr", expr), name=name, **given)[0]


def array(value: Any, dtype: str) -> dict[str, Any]:
    """A value as an array object."""
    data = np.asarray(value, dtype)
    return {"shape": list(data.shape), "dtype": dtype, "base64": base64.b64encode(data.tobytes()).decode()}


# From a request to a program and back


def test_a_program_comes_back_as_it_was(registry: Registry) -> None:
    kept = register(registry, MATYAS, "matyas")
    for key in (kept.id, "matyas"):
        result = prepare(("program", key), {"x": 1, "y": 2}, backward={}, limits=ProgramLimits(), find=registry.graph)
        direct = prepare(("expr", MATYAS), {"x": 1, "y": 2}, backward={}, limits=ProgramLimits())
        assert result.run() == direct.run()


def test_text_and_graph_and_name_are_one_program(registry: Registry) -> None:
    text = register(registry, "y = sin(x)", declared={"x": {"shape": [3]}})
    nodes = [{"id": "y", "op": "sin", "args": ["x"]}]
    declared = {"x": {"shape": [3]}}
    forms = [
        ({"nodes": nodes, "inputs": declared}, {}),
        ({"nodes": nodes}, declared),
        ({"nodes": nodes, "inputs": {"x": {}}}, declared),
        ({"nodes": nodes, "inputs": declared}, {"x": {"shape": None, "dtype": None}}),
    ]
    for graph, beside in forms:
        found, is_new = registry.register(("graph", graph), declared=beside, bound={})
        assert (found.id, is_new) == (text.id, False)
    assert registry.register(("program", text.id), declared={}, bound={}) == (text, False)


def test_a_registered_program_can_be_declared_and_bound_further(registry: Registry) -> None:
    register(registry, LEAST_SQUARES, "loss")
    step, _ = registry.register(("program", "loss"), declared={"w": {"shape": [2]}}, bound={"X": ROWS["X"]})
    both, _ = registry.register(("program", step.id), name="bound", declared={}, bound={"t": ROWS["t"]})
    assert both.id == register(registry, LEAST_SQUARES, declared={"w": {"shape": [2]}}, bound=ROWS).id
    assert list(both.bound) == ["X", "t"]
    assert [i.name for i in registry.graph("bound").inputs] == ["w"]
    with pytest.raises(InvalidValueError, match=r'"w" is declared already, as \{"shape": \[2\]\}'):
        registry.register(("program", "bound"), declared={"w": {"shape": [3]}}, bound={})
    with pytest.raises(InvalidValueError, match="bound already"):
        registry.register(("program", "bound"), declared={}, bound={"t": [0.0, 0.0, 0.0]})


BOUND = {
    "a number": 0.1,
    "a boolean": True,
    "float32": array([0.1, -0.0, np.nan], "float32"),
    "int64": array([2**53 + 1, -(2**63)], "int64"),
    "bool": array([[True], [False]], "bool"),
    "a matrix of float64": array([[1.5, -0.0], [np.inf, 5e-324]], "float64"),
    "an empty array": array(np.zeros((0, 3)), "float32"),
    "a scalar of float32": array(0.1, "float32"),
}


@pytest.mark.parametrize("value", BOUND.values(), ids=BOUND)
def test_bound_values_come_back_bit_for_bit(registry: Registry, value: Any, tmp_path: Path) -> None:
    stores = [SqliteStore.private(Policy()), SqliteStore(tmp_path, Policy())]
    for store in stores:
        kept = register(Registry(store, ProgramLimits(), 0), "stack([a, x], axis=0)", bound={"a": value})
        again = Registry(store, ProgramLimits(), 0).graph(kept.id).bound["a"]
        expected = prepare(("expr", "a"), {"a": value}, limits=ProgramLimits()).run().values["a"]
        assert type(again) is type(expected)
        found, wanted = np.asarray(again), np.asarray(expected)
        assert (found.dtype, found.shape, found.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
        store.close()


def test_bound_arrays_are_read_only(registry: Registry) -> None:
    kept = register(registry, LEAST_SQUARES, bound=ROWS)
    assert not registry.graph(kept.id).bound["X"].flags.writeable


WRONG: list[tuple[str, type[AutogradError], str, dict[str, Any]]] = [
    ("x + y", UnknownNameError, '"z".*it has x, y', {"bound": {"z": 1}}),
    ("x + y", InvalidValueError, "rectangular", {"bound": {"x": [1, [2]]}}),
    ("x + y", InvalidValueError, "names do not begin with p_", {"name": "p_x"}),
    ("x + y", InvalidValueError, 'give "name" too', {"replace": True}),
    ("x + ", InvalidValueError, "names do not begin with p_", {"name": "p_x"}),
    ("x + y", InvalidValueError, "shape", {"declared": {"x": {"shape": [2]}}, "bound": {"x": [1, 2, 3]}}),
    ("x + y", InvalidValueError, "float16", {"declared": {"x": {"dtype": "float16"}}}),
]


@pytest.mark.parametrize(("expr", "kind", "words", "more"), WRONG)
def test_what_is_wrong_is_refused(
    registry: Registry, expr: str, kind: type[AutogradError], words: str, more: dict[str, Any]
) -> None:
    with pytest.raises(kind, match=words):
        register(registry, expr, **more)
    assert registry.page(10).programs == []


def test_the_value_of_a_declared_input_takes_its_dtype(registry: Registry) -> None:
    kept = register(registry, "a * x", declared={"a": {"dtype": "float32"}}, bound={"a": [1, 2]})
    assert kept.bound["a"].dtype == "float32"


def test_too_many_nodes_are_not_kept() -> None:
    small = Registry(SqliteStore.private(Policy()), ProgramLimits(cost=Limits(max_nodes=3)), CACHE_BYTES)
    with pytest.raises(LimitExceededError, match="limit is 3"):
        register(small, "sin(sin(sin(sin(x))))")


def test_limits_that_were_lowered_name_the_program() -> None:
    store = SqliteStore.private(Policy())
    register(Registry(store, ProgramLimits(), CACHE_BYTES), "sin(sin(sin(sin(x))))", "deep")
    small = Registry(store, ProgramLimits(cost=Limits(max_nodes=3)), CACHE_BYTES)
    with pytest.raises(LimitExceededError, match=r'program "deep": .*limit is 3') as caught:
        small.graph("deep")
    assert caught.value.limit == "nodes"


# Names

NAMES = ["a", "_", "A_b-c.9", "posterior.v2", "P_1", "pi", "lambda", "n" * 200]
NO_NAMES = ["", "9a", "-a", ".a", "a b", "a/b", "a\n", "naïve", "p_", "p_1", "n" * 201]


@pytest.mark.parametrize("name", NAMES)
def test_names(registry: Registry, name: str) -> None:
    assert register(registry, "x", name).name == name
    assert registry.program(name).name == name


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_names(name: str) -> None:
    assert name_fault(name)


def test_a_program_has_all_names_that_it_was_given(registry: Registry) -> None:
    kept = register(registry, "sin(x)", "first")
    assert register(registry, "sin(x)", "second").name == "second"
    assert [registry.program(key).name for key in ("first", "second", kept.id)] == ["first", "second", "first"]
    assert [program.name for program in registry.page(10).programs] == ["first"]


def test_a_name_is_moved_only_when_told_to(registry: Registry) -> None:
    sine = register(registry, "sin(x)", "best")
    with pytest.raises(NameConflictError, match=f'"best" belongs to the program {sine.id}; "replace": true moves it'):
        register(registry, "cos(x)", "best")
    cosine = register(registry, "cos(x)", "best", replace=True)
    assert registry.program("best").id == cosine.id
    assert registry.program(sine.id).name is None


def test_what_is_not_there_is_told_with_what_is_near(registry: Registry) -> None:
    register(registry, "x", "posterior")
    with pytest.raises(UnknownProgramError, match='no program "posteriour"; nearest: posterior'):
        registry.graph("posteriour")
    with pytest.raises(UnknownProgramError, match=r'no program "p_0": it was never registered'):
        registry.delete("p_0")


# What is told of a program

COSTS: list[tuple[str, dict[str, Any], dict[str, int] | None]] = [
    ("sin(x)", {}, {"nodes": 1, "bytes": 16}),
    ("sin(x)", {"x": {"shape": [10]}}, {"nodes": 1, "bytes": 160}),
    ("sin(x)", {"x": {"shape": [-1, 10], "dtype": "float32"}}, {"nodes": 1, "bytes": 80}),
    ("x @ y", {"x": {"shape": [3, 2]}, "y": {"shape": [2, 4]}}, {"nodes": 1, "bytes": 8 * (6 + 8 + 12)}),
    ("x @ y", {}, None),
    ("broadcast_to(x, [100000, 100000])", {}, None),
    # Neither bytes nor operations are held to a limit: to run it is what they would keep from.
    ("x @ x @ x", {"x": {"shape": [3000, 3000]}}, {"nodes": 2, "flops": 4 * 3000**3}),
]


@pytest.mark.parametrize(("expr", "declared", "expected"), COSTS)
def test_cost_as_far_as_it_is_known(
    registry: Registry, expr: str, declared: dict[str, Any], expected: dict[str, int] | None
) -> None:
    graph = registry.graph(register(registry, expr, declared=declared).id)
    cost = packing._summary(graph, ProgramLimits().cost)["cost"]
    assert cost == expected if expected is None else expected.items() <= cost.items()


@pytest.mark.parametrize("expr", ["dropout(x, 0.5)", "mean((x @ w - t) ** 2)", "p, q = split(x, [1, 3]); p"])
def test_cost_is_that_of_inferring(registry: Registry, expr: str) -> None:
    shapes = {"x": {"shape": [4, 4]}}
    if "w" in expr:
        shapes |= {"w": {"shape": [4]}, "t": {"shape": [4]}}
    graph = registry.graph(register(registry, expr, declared=shapes).id)
    cost = infer(("expr", expr), shapes, limits=ProgramLimits()).cost
    assert packing._summary(graph, ProgramLimits().cost)["cost"] == {
        "nodes": cost.nodes,
        "bytes": cost.bytes,
        "flops": cost.flops,
    }


def test_a_cost_that_takes_too_much_to_know_is_not_known() -> None:
    expr = "sin(x)"
    for _ in range(5):
        expr = f"grad({expr}, x)"
    limits = ProgramLimits(cost=Limits(max_nodes=30))
    assert registered_cost(expr, ProgramLimits()) is not None
    assert registered_cost(f"tanh(x) + {expr}", limits) is not None
    assert registered_cost(expr.replace("sin", "tanh"), limits) is None


def registered_cost(expr: str, limits: ProgramLimits) -> Any:
    """The cost that is kept of a program."""
    kept = register(Registry(SqliteStore.private(Policy()), limits, CACHE_BYTES), expr)
    return packing.summary(kept.summary)["cost"]


def test_pages(registry: Registry) -> None:
    kept = [register(registry, f"x + {i}").id for i in range(7)]
    seen, after, sizes = [], 0, []
    while True:
        page = registry.page(3, after)
        seen += [program.id for program in page.programs]
        sizes.append(len(page.programs))
        if page.next is None:
            break
        after = page.next
    assert (seen, sizes) == (kept, [3, 3, 1])
    assert registry.page(7).next is None


# Graphs that are ready to run


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every graph that is built from what is stored."""
    calls: list[int] = []
    build = packing.build

    def counted(*args: Any, **keywords: Any) -> Graph:
        calls.append(1)
        return build(*args, **keywords)

    monkeypatch.setattr(packing, "build", counted)
    return calls


def test_a_graph_is_built_once(registry: Registry, built: list[int]) -> None:
    kept = register(registry, MATYAS, "matyas")
    assert registry.graph("matyas") is registry.graph(kept.id)
    assert len(built) == 1


def test_graphs_give_way_when_there_is_no_room(built: list[int]) -> None:
    registry = Registry(SqliteStore.private(Policy()), ProgramLimits(), 50_000)
    for i in range(3):
        register(registry, "sum(a * x)", f"n{i}", bound={"a": [float(i)] * 2000})
    for key in ("n0", "n1", "n0", "n1", "n2", "n1", "n0"):
        registry.graph(key)
    # Two of three have room: n2 drives out n0, which then has to be built again.
    assert len(built) == 4
    assert len(registry._ready._kept) == 2
    register(registry, "sum(a * x)", "large", bound={"a": [1.0] * 20_000})
    for _ in range(2):
        registry.graph("large")
    assert len(built) == 6


def test_what_another_process_does_is_seen(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path, Policy()) for _ in range(2)]
    one, other = (Registry(store, ProgramLimits(), CACHE_BYTES) for store in stores)
    sine = register(one, "sin(x)", "best")
    assert other.graph("best").nodes[0].attrs == one.graph("best").nodes[0].attrs
    cosine = register(other, "cos(x)", "best", replace=True)
    assert one.program("best").id == cosine.id
    other.delete(sine.id)
    with pytest.raises(UnknownProgramError):
        one.graph(sine.id)
    for store in stores:
        store.close()


def test_a_program_that_is_deleted_while_it_is_used(registry: Registry) -> None:
    register(registry, MATYAS, "matyas")
    prepared = prepare(("program", "matyas"), {"x": 1, "y": 1}, limits=ProgramLimits(), find=registry.graph)
    registry.delete("matyas")
    assert prepared.run().values["out"] == pytest.approx(0.04)
    with pytest.raises(UnknownProgramError):
        registry.graph("matyas")


def test_threads_that_register_the_same_program(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, Policy())
    registry = Registry(store, ProgramLimits(), CACHE_BYTES)
    barrier = threading.Barrier(32)

    def work(_: int) -> tuple[Program, bool]:
        barrier.wait()
        return registry.register(("expr", LEAST_SQUARES), name="loss", declared={}, bound=ROWS)

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(work, range(32)))
    assert len({program.id for program, _ in found}) == 1
    assert sum(is_new for _, is_new in found) == 1
    assert len(registry.page(100).programs) == 1
    store.close()
