"""The workloads in Pullback as programs: `prepare` checks, differentiates and schedules them, `run` computes.

Each function prepares one workload and returns a step; the step returns what the rivals' steps return. Where there are
two, that without `_prepared` has `prepare` in every step, the other in none.
"""

import time
from collections.abc import Callable
from typing import Any

from engine.core.errors import Faults
from engine.graph import Graph
from engine.plans.plan import Plan
from engine.programs import build, parse
from engine.programs.call import check_call
from engine.programs.derivatives import hessian, hvp
from engine.programs.evaluate import Backward, CheckedEvaluation, Evaluation, prepare
from engine.programs.function import ProgramFunction
from engine.transforms.calls import ReverseCall
from tests.benchmarks import inputs

PACKAGE = "pullback-server"

MATYAS = parse("0.26 * (x**2 + y**2) - 0.48 * x * y")
ROSENBROCK = parse("sum(100 * (x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)")
SINE = parse("sin(x)")


def prepare_matyas(x: inputs.Floats, y: inputs.Floats) -> CheckedEvaluation:
    return prepare(MATYAS, {"x": x, "y": y}, batched=["x", "y"], backward=Backward())


def value_and_gradients(found: Evaluation) -> object:
    return found.values["out"], list((found.grads or {}).values())


def matyas_rows() -> Callable[[], object]:
    x, y = inputs.matyas_rows()
    return lambda: value_and_gradients(prepare_matyas(x, y).run())


def matyas_rows_prepared() -> Callable[[], object]:
    prepared = prepare_matyas(*inputs.matyas_rows())
    return lambda: value_and_gradients(prepared.run())


def rosenbrock() -> Callable[[], object]:
    x = inputs.rosenbrock_x()
    return lambda: hessian(ROSENBROCK, {"x": x}).run()["hessian"]["x"]["x"]


def rosenbrock_prepared() -> Callable[[], object]:
    prepared = hessian(ROSENBROCK, {"x": inputs.rosenbrock_x()})
    return lambda: prepared.run()["hessian"]["x"]["x"]


def rosenbrock_whole_prepared() -> Callable[[], object]:
    prepared = hessian(ROSENBROCK, {"x": inputs.rosenbrock_x()})

    def step():
        found = prepared.run()
        return found["values"]["out"], found["grads"]["x"], found["hessian"]["x"]["x"]

    return step


def prepare_sine() -> CheckedEvaluation:
    return prepare(SINE, {"x": inputs.SINE_X}, backward=Backward(order=inputs.SINE_ORDER))


def value_and_derivatives(found: Evaluation) -> object:
    return found.values["out"], (found.higher or {})["x"]


def sine() -> Callable[[], object]:
    return lambda: value_and_derivatives(prepare_sine().run())


def sine_prepared() -> Callable[[], object]:
    prepared = prepare_sine()
    return lambda: value_and_derivatives(prepared.run())


def product() -> Callable[[], object]:
    x, v = inputs.product_operands()
    return lambda: hvp(ROSENBROCK, {"x": x}, {"x": v}).run()["hvp"]["x"]


def product_prepared() -> Callable[[], object]:
    x, v = inputs.product_operands()
    prepared = hvp(ROSENBROCK, {"x": x}, {"x": v})
    return lambda: prepared.run()["hvp"]["x"]


def chain_growth(nodes: int) -> tuple[float, float, float]:
    """Return the seconds to trace, to differentiate and to schedule a chain of so many nodes."""
    document: list[dict[str, Any]] = [{"id": "v0", "op": "mul", "args": ["x", inputs.CHAIN_FACTOR]}]
    for i in range(1, nodes):
        op, other = ("sin", []) if i % 2 else ("mul", ["x"])
        document.append({"id": f"v{i}", "op": op, "args": [f"v{i - 1}", *other]})
    return growth(build({"nodes": document}), f"v{nodes - 1}")


def sum_growth(nodes: int) -> tuple[float, float, float]:
    """The same for a wide sum: terms made of one input side by side, and their total."""
    document: list[dict[str, Any]] = [{"id": "v0", "op": "sin", "args": ["x"]}]
    total = "v0"
    for i in range(1, nodes - 2, 3):
        document.append({"id": f"v{i}", "op": "mul", "args": ["x", float(i)]})
        document.append({"id": f"v{i + 1}", "op": "sin", "args": [f"v{i}"]})
        document.append({"id": f"v{i + 2}", "op": "add", "args": [total, f"v{i + 1}"]})
        total = f"v{i + 2}"
    return growth(build({"nodes": document}), total)


def growth(graph: Graph, of: str) -> tuple[float, float, float]:
    """Return the seconds to trace a program with one input x, to differentiate and to schedule it."""
    call = check_call(graph, {"x": inputs.CHAIN_X}, Faults())
    trace = call.trace()
    function = ProgramFunction(call, trace)
    start = time.perf_counter()
    run = ReverseCall(lambda x: function({"x": x})[of], (function.inputs["x"],), {}, 0, False, "grad")
    traced = time.perf_counter()
    [gradient] = run.cotangents([(run.y, trace.full(1.0, function.avals[of]))])
    differentiated = time.perf_counter()
    Plan(trace, [run.result(run.y), gradient])
    scheduled = time.perf_counter()
    return traced - start, differentiated - traced, scheduled - differentiated
