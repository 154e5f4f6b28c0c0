"""Check of the gradients of a program against central differences of its values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Unpack

import numpy as np

from engine.core import (
    FLOAT32,
    FLOAT64,
    Aval,
    Faults,
    InvalidValueError,
    NotDifferentiableError,
    Symbol,
    Value,
    aval,
    canonical,
    dtype_of,
)
from engine.graph import Graph, check_limit
from engine.plans.cost import Cost, check_cost
from engine.plans.plan import Plan
from engine.programs.call import ProgramCall, RunOptions
from engine.programs.call_setup import CallSetup
from engine.programs.function import ProgramFunction
from engine.transforms.derivatives import jvp, vjp
from engine.transforms.numerical import Comparison, Difference, Uncertain, central, random_weights

#: The largest error of a correct gradient: that of central differences themselves.
TOLERANCE = 1e-5
#: A check may run this many times the limit on nodes; each node takes some microseconds.
_RUNS = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check.

    values: by output.
    ok: whether all gradients were confirmed.
    max_error: the largest error, relative to max(1, magnitude).
    worst: the element with this error.
    uncertain: elements whose differences cancel, so that they confirm no gradient; `ok` is False if there are any.
    """

    values: dict[str, Value]
    ok: bool
    max_error: float
    worst: Difference | None
    uncertain: tuple[Uncertain, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A prepared check of gradients, with its cost.

    _given: values of the plans' inputs other than those of the call. _moved: names of the inputs to move.
    _weights: of the outputs, and of the gradients, in the sums whose differences are taken.
    """

    call: ProgramCall
    cost: Cost
    _outputs: list[str]
    _names: list[str]
    _given: dict[str, Value]
    _moved: list[str]
    _weights: tuple[list[Value], list[Value]]
    _plans: list[Plan]
    _eps: float

    def run(self) -> Finding:
        """Compare the gradients with central differences."""
        given = self.call.values() | self._given
        seed = self.call.seed or 0
        comparison = Comparison(TOLERANCE, TOLERANCE)
        with self.call.mode():
            values = self._plans[0].run(given, seed)
            for order in range(1, len(self._plans) - 1):

                def outputs(moved: list[Value], plan: Plan = self._plans[order]) -> list[Value]:
                    return plan.run(given | dict(zip(self._moved, moved, strict=True)), seed)

                derivatives = partial(outputs, plan=self._plans[order + 1])
                at = [given[name] for name in self._moved]
                comparison.add(
                    order, self._names, derivatives, at, central(outputs, self._weights[order - 1], at, self._eps)
                )
        found = comparison.result()
        outputs_by_name = dict(zip(self._outputs, values, strict=True))
        return Finding(outputs_by_name, found.ok, found.max_error, found.worst, found.uncertain)


def check(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    wrt: Sequence[str] | None = None,
    eps: float = 1e-6,
    order: int = 1,
    **running: Unpack[RunOptions],
) -> Check:
    """Prepare a check of the gradients of the sum of a program's floating outputs, as `backward` computes them.

    wrt: names of inputs or nodes; a node is moved by adding to it. None for all floating inputs.
    eps: the step of differences; for elements above 1 it is relative to their magnitude.
    order: 2 also checks the derivative of the gradient along a direction.
    running: batched, train, seed, limits and plans, see `RunOptions`. All values are computed in float64.

    Raises:
        AutogradError: of the kind that the wire contract names for the fault.
    """
    setup = CallSetup(graph, inputs, running)
    setup.check_known("wrt", wrt or (), ("wrt",))
    _check_numbers(eps, order, setup.faults)
    setup.faults.check()
    chosen = setup.wrt(wrt)
    outputs = {output.name: output.id for output in graph.outputs}
    smooth = [i for i in outputs.values() if setup.aval(i).is_floating]
    if not smooth:
        setup.faults.add(NotDifferentiableError, "none of the outputs is floating; there is nothing to check")
    setup.faults.check()
    call = replace(setup.call, inputs={name: _wide(x) for name, x in setup.call.inputs.items()})
    rows = () if call.rows is None else (call.rows,)

    def wide(i: str) -> Aval:
        return Aval((*rows, *setup.aval(i).shape), FLOAT64)

    start = {f"shift {i}": canonical(np.zeros(wide(i).shape)) for i in chosen.values() if not setup.is_input(i)}
    moved = [i if setup.is_input(i) else f"shift {i}" for i in chosen.values()]
    rng = np.random.default_rng(0)
    weights = [canonical(np.ones(wide(i).shape)) for i in smooth]
    directions = [random_weights(rng, (start | call.inputs)[name]) for name in moved]
    plans = _plans(call, list(outputs.values()), smooth, list(chosen.values()), start, weights, directions, order)
    runs = 1 + 2 * sum(int(np.size((start | call.inputs)[name])) for name in moved)
    costs = [plan.cost for plan in plans]
    cost = Cost(*(sum(getattr(c, field) for c in costs) * runs for field in ("nodes", "bytes", "flops")))
    check_limit("nodes", cost.nodes, _RUNS * call.limits.max_nodes, f"a check of {runs} runs")
    check_cost(replace(cost, bytes=sum(c.bytes for c in costs)), call.limits, f"a check of {runs} runs")
    given = start | {f"weight {k}": w for k, w in enumerate(weights)}
    given |= {f"direction {k}": w for k, w in enumerate(directions)}
    return Check(call, cost, list(outputs), list(chosen), given, moved, (weights, directions), plans, eps)


def _plans(
    call: ProgramCall,
    outputs: Sequence[str],
    smooth: Sequence[str],
    wrt: Sequence[str],
    start: Mapping[str, Value],
    weights: Sequence[Value],
    directions: Sequence[Value],
    order: int,
) -> list[Plan]:
    """Return plans for all outputs, the floating ones, their weighted gradient, and its tangent if `order` is 2."""
    trace = call.trace()
    function = ProgramFunction(call, trace)

    def given(name: str, value: Value) -> Symbol:
        return trace.input(name, aval(value)._replace(weak=None))

    def results(moved: Mapping[str, Value], names: Sequence[str]) -> list[Value]:
        inputs = function.inputs | {i: x for i, x in moved.items() if i in function.inputs}
        shifts = {i: x for i, x in moved.items() if i not in inputs}

        def row(inputs: Mapping[str, Value], shifts: Mapping[str, Value]) -> list[Value]:
            found = function(inputs, shifts)
            return [found[i] for i in names]

        found: list[Value] = function.over_rows(row, (shifts, 0), inputs=inputs)
        return found

    def gradients(moved: Mapping[str, Value]) -> list[Value]:
        _, pullback = vjp(lambda moved: results(moved, smooth), moved)
        found: list[Value] = list(pullback(seeds)[0].values())
        return found

    seeds = [given(f"weight {k}", w) for k, w in enumerate(weights)]
    shifts = {i: given(f"shift {i}", start[f"shift {i}"]) for i in wrt if f"shift {i}" in start}
    at = {i: shifts[i] if i in shifts else function.inputs[i] for i in wrt}
    steps = [results(at, outputs), results(at, smooth), gradients(at)]
    if order == 2:
        along = {i: given(f"direction {k}", d) for k, (i, d) in enumerate(zip(at, directions, strict=True))}
        steps.append(jvp(gradients, (at,), (along,))[1])
    return [call.plan(trace, part) for part in steps]


def _check_numbers(eps: float, order: int, faults: Faults) -> None:
    if not (math.isfinite(eps) and eps > 0):
        faults.add(InvalidValueError, f"eps is {eps}; expected a number above 0", ("eps",))
    if order not in (1, 2):
        faults.add(InvalidValueError, f"order is {order}; expected 1 or 2", ("order",))


def _wide(value: Value) -> Value:
    return canonical(value.astype(FLOAT64)) if dtype_of(value) == FLOAT32 else value
