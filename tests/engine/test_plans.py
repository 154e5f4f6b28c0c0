"""Plans that share code: which programs do, and that whatever is compiled is compiled once and kept within bounds."""

import threading
from typing import Any

import numpy as np
import pytest

from engine.plans.codegen.kernel import Kernel
from engine.plans.codegen.structure import Structure
from engine.plans.codegen.tiles import run_tiles
from engine.plans.plan import Plans
from engine.programs import parse
from engine.programs.evaluate import Backward, prepare

ALIKE = {
    "names": ("h = sin(x) * w; y = h + x", "g = sin(a) * b; g + a"),
    "names of expressions": ("h = sin(x); h * w", "sin(x) * w"),
    "the order of nodes": ("a = sin(x); b = cos(z); a * b", "b = cos(z); a = sin(x); a * b"),
    "dead nodes": ("a = sin(x); b = cos(y); a * 2", "sin(x) * 2"),
    "the order in which inputs are read": ("b = cos(y); a = sin(x); a * b", "a = sin(x); b = cos(y); a * b"),
    "aliases": ("h = sin(x); g = h; g * g", "h = sin(x); h * h"),
    "names of outputs": ("y = sin(x)", "sin(x)"),
    "one node for two": ("h = sin(x); h * h", "sin(x) * sin(x)"),
    "spellings": ("subtract(x, 1)", "x - 1"),
    "random operations in their places": ("dropout(x) * 2", "h = dropout(z); y = h * 2"),
    "a dead node after a random one": ("h = dropout(x); g = sin(x); h * 2", "dropout(x) * 2"),
}
UNLIKE = {
    "an operation": ("sin(x)", "cos(x)"),
    "an attribute": ("sum(x, 0)", "sum(x, 1)"),
    "the sign of zero": ("x * 0.0", "x * -0.0"),
    "a strong literal": ("x * 2.0", "x * array(2.0)"),
    "one input for two": ("x * y", "x * x"),
    "the order of operands": ("x / (x + y)", "y / (x + y)"),
    "an output less": ("a = sin(x); b = cos(x); a, b", "a = sin(x); b = cos(x); a"),
    "the order of outputs": ("a = sin(x); b = cos(x); a, b", "a = sin(x); b = cos(x); b, a"),
    "another output of one node": ("p, q = split(x, 2); p", "p, q = split(x, 2); q"),
    "the place of a random operation": ("g = sin(x); h = dropout(x); g * h", "h = dropout(x); g = sin(x); g * h"),
    "a dead node before a random one": ("g = sin(x); h = dropout(x); h * 2", "dropout(x) * 2"),
}


def compiled(*texts: str, **options: Any) -> int:
    """How many pieces of code some programs need."""
    plans = Plans(100, 2**30)
    for text in texts:
        graph = parse(text)
        inputs = {i.name: np.linspace(0.1, 0.4, 4).reshape(2, 2) for i in graph.inputs}
        prepare(graph, inputs, train=True, seed=1, plans=plans, **options).run()
    return len(plans.kernels)


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_programs_of_one_structure_share_code(one: str, other: str) -> None:
    assert compiled(one, other) == 1


@pytest.mark.parametrize(("one", "other"), UNLIKE.values(), ids=UNLIKE)
def test_programs_of_other_structures_do_not(one: str, other: str) -> None:
    assert compiled(one, other) == 2


def test_shapes_dtypes_and_what_is_asked_count() -> None:
    plans = Plans(100, 2**30)
    forms = [0.5, np.ones(2), np.ones(3), np.ones((3, 1)), np.ones(3, np.float32)]
    for x in forms:
        for backward in (None, Backward(cotangent=x), Backward(cotangent=x, order=2)):
            for _ in range(2):
                prepare(parse("x * x * x"), {"x": x}, backward=backward, plans=plans).run()
    assert len(plans.kernels) == 3 * len(forms)


def test_constants_and_names_are_not_shared() -> None:
    plans = Plans(100, 2**30)
    for scale in (1.0, 2.0):
        numbers = [scale * n for n in range(40)]
        for name in ("x", "other"):
            prepared = prepare(parse(f"y{name} = {numbers} * {name}"), {name: np.ones(40)}, plans=plans)
            np.testing.assert_array_equal(prepared.run().values[f"y{name}"], numbers)
    assert len(plans.kernels) == 1


def test_many_who_ask_at_once_wait_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plans, made, start = Plans(100, 2**30), [], threading.Barrier(16)
    monkeypatch.setattr(
        "engine.plans.plan.Kernel", lambda structure, threads: (made.append(structure), Kernel(structure))[1]
    )
    found: list[float] = []

    def ask() -> None:
        prepared = prepare(parse("; ".join(f"x{i + 1} = sin(x{i})" for i in range(200))), {"x0": 0.5}, plans=plans)
        start.wait()
        found.extend(prepared.run().values.values())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 16
    assert len(set(found)) == 1


def test_what_fails_to_compile_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = Plans(100, 2**30)
    prepared = prepare(parse("sin(x)"), {"x": 0.5}, plans=plans)

    def out_of_memory(structure: Structure, threads: int | None) -> Kernel:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("engine.plans.plan.Kernel", out_of_memory)
        with pytest.raises(MemoryError):
            prepared.run()
    assert prepared.run().values["out"] == np.sin(0.5)
    assert len(plans.kernels) == 1


def test_one_at_a_time_also_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    plans, at_work, most = Plans(100, 1), [], []

    def slowly(structure: Structure, threads: int | None) -> Kernel:
        at_work.append(structure)
        most.append(len(at_work))
        made = Kernel(structure)
        at_work.pop()
        return made

    monkeypatch.setattr("engine.plans.plan.Kernel", slowly)
    text = "; ".join(f"x{i + 1} = sin(x{i})" for i in range(300))
    threads = [threading.Thread(target=prepare(parse(text), {"x0": 0.5}, plans=plans).run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_bounded_in_entries_and_bytes() -> None:
    for limits in ((5, 2**30), (1000, 20_000)):
        plans = Plans(*limits)
        for n in range(100):
            prepare(parse(f"x * {n}.5"), {"x": 0.5}, plans=plans).run()
            assert 0 < len(plans.kernels) <= limits[0]
            assert plans.kernels.nbytes <= limits[1]


def test_a_fault_of_the_code_itself_is_not_put_down_to_the_data() -> None:
    ready = prepare(parse("cumulative_sum(x)"), {"x": np.array([2.0, 1.0])}).executable
    program = ready.plan.code.kernel

    def faulty(*given: Any) -> Any:
        raise TypeError("a bug")

    program.function = faulty
    with pytest.raises(TypeError, match="a bug"):
        ready.run()


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_long_regions_use_as_many_threads_as_they_may(threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(tile: Any, size: int, scratch: int, threads: int | None) -> list[tuple[Any, ...]]:
        asked.append(threads)
        return run_tiles(tile, size, scratch, threads)

    monkeypatch.setattr("engine.plans.codegen.region.run_tiles", noted)
    x = np.linspace(-1.0, 1.0, 200_000)
    found = prepare(parse("sum(exp(tanh(x)))"), {"x": x}, plans=Plans(10, 2**20, threads)).run()
    assert asked == [threads]
    monkeypatch.undo()
    assert found.values == prepare(parse("sum(exp(tanh(x)))"), {"x": x}).run().values
