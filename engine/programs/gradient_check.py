"""Gradients of a program beside central differences of its values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack

import numpy as np

from engine.core.errors import Faults, InvalidValueError, Loc, NotDifferentiableError
from engine.core.operations import CALLS
from engine.core.tracer import Symbol
from engine.core.values import FLOAT32, FLOAT64, Aval, Value, aval, canonical, dtype_of
from engine.graph.ir import Graph
from engine.graph.limits import check_limit
from engine.plans.cost import Cost, check_cost
from engine.plans.plan import Plan
from engine.programs.application import Application, Running, View, along_tangents, apply_to
from engine.programs.choices import check_known, chosen_wrt
from engine.transforms.numerical import Comparison, Difference, Uncertain, central, random_weights

#: Ok where the error is no more than that of central differences themselves.
TOLERANCE = 1e-5
#: A check may run as many times the nodes that a program may have: some microseconds each.
_RUNS = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: `max_error` is relative to max(1, size), `worst` where it is.

    uncertain: where differences cancel and confirm no gradient; ok is False then.
    """

    values: dict[str, Value]
    ok: bool
    max_error: float
    worst: Difference | None
    uncertain: tuple[Uncertain, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A check that was prepared; `run` computes."""

    application: Application
    cost: Cost
    _outputs: list[str]
    _names: list[str]
    _start: dict[str, Value]
    _moved: list[str]
    _weights: list[Value]
    _directions: list[Value]
    _plans: list[Plan]
    _eps: float

    def run(self) -> Finding:
        """Compares."""
        given = self.application.values() | self._start
        given |= {f"weight {k}": w for k, w in enumerate(self._weights)}
        given |= {f"direction {k}": w for k, w in enumerate(self._directions)}
        seed = self.application.seed or 0
        comparison = Comparison(TOLERANCE, TOLERANCE)
        with self.application.mode():
            values = self._plans[0].run(given, seed)
            weights = [self._weights, self._directions]
            for order in range(1, len(self._plans) - 1):

                def outputs(moved: list[Value], plan: Plan = self._plans[order]) -> list[Value]:
                    return plan.run(given | dict(zip(self._moved, moved, strict=True)), seed)

                derivatives = partial(outputs, plan=self._plans[order + 1])
                at = [given[name] for name in self._moved]
                comparison.add(order, self._names, derivatives, at, central(outputs, weights[order - 1], at, self._eps))
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
    **running: Unpack[Running],
) -> Check:
    """A check of the gradients of a program's floating outputs, added up, as `backward` gives them.

    wrt: inputs or nodes; a node is moved by what is added to it.
    eps: the step, times the size of an element above 1.
    order: 2 also compares the derivative of the gradient along a direction.
    running: batched, train, seed, limits and plans, see `Running`. All is computed in float64.

    Raises:
        AutogradError: of the kind that the wire contract names for the fault.
    """
    faults = Faults()
    application = apply_to(graph, inputs, faults, **running)
    check_known("wrt", wrt or (), application, ("wrt",), faults)
    _check_numbers(eps, order, faults)
    faults.check()
    wide = {name: _wide(x) for name, x in application.inputs.items()}
    plain = View(application, application.trace())
    chosen = chosen_wrt(application, plain, wrt, ("wrt",), faults)
    outputs = {output.name: output.id for output in graph.outputs}
    smooth = [i for i in outputs.values() if plain.aval(i).is_floating]
    if not smooth:
        loc: Loc = ()
        faults.add(NotDifferentiableError, "none of the outputs is floating; there is nothing to check", loc)
    faults.check()
    application = replace(application, inputs=wide)
    given = {i.name for i in graph.inputs}
    rows = () if application.rows is None else (application.rows,)
    avals = {i: plain.aval(i)._replace(dtype=FLOAT64) for i in [*smooth, *chosen.values()]}
    shifted = {i: avals[i]._replace(shape=rows + avals[i].shape) for i in chosen.values() if i not in given}
    rng = np.random.default_rng(0)
    weights = [canonical(np.ones(rows + avals[i].shape)) for i in smooth]
    moved = [i if i in given else f"shift {i}" for i in chosen.values()]
    start = {f"shift {i}": canonical(np.zeros(known.shape)) for i, known in shifted.items()}
    directions = [random_weights(rng, (start | wide)[name]) for name in moved]
    wanted = list(chosen.values())
    plans = _plans(application, list(outputs.values()), smooth, wanted, shifted, weights, directions, order)
    runs = 1 + 2 * sum(int(np.size((start | wide)[name])) for name in moved)
    costs = [plan.cost for plan in plans]
    cost = Cost(*(sum(getattr(c, field) for c in costs) * runs for field in ("nodes", "bytes", "flops")))
    check_limit("nodes", cost.nodes, _RUNS * application.limits.max_nodes, f"a check of {runs} runs")
    check_cost(replace(cost, bytes=sum(c.bytes for c in costs)), application.limits, f"a check of {runs} runs")
    return Check(application, cost, list(outputs), list(chosen), start, moved, weights, directions, plans, eps)


def _plans(
    application: Application,
    outputs: Sequence[str],
    smooth: Sequence[str],
    wrt: Sequence[str],
    shifted: Mapping[str, Aval],
    weights: Sequence[Value],
    directions: Sequence[Value],
    order: int,
) -> list[Plan]:
    """Of all values, of the floating ones, of their weighted gradient, and of its derivative along a direction."""
    trace = application.trace()

    def given(name: str, value: Value) -> Symbol:
        return trace.input(name, aval(value)._replace(weak=None))

    shifts = {i: trace.input(f"shift {i}", known) for i, known in shifted.items()}
    seeds = [given(f"weight {k}", w) for k, w in enumerate(weights)]
    along = {i: given(f"direction {k}", d) for k, (i, d) in enumerate(zip(wrt, directions, strict=True))}
    own = {i: application.rows is None or i in application.batched or i in shifted for i in wrt}

    def gradients(view: View) -> list[Any]:
        return view.gradients([(i, view.directed(g)) for i, g in zip(smooth, seeds, strict=True)], wrt)

    view = View(application, trace, shifts=shifts)
    steps = [[view.value(i) for i in outputs], [view.value(i) for i in smooth]]
    steps.append([_total(view.primal(g), own[i]) for i, g in zip(wrt, gradients(view), strict=True)])
    if order == 2:

        def slopes(view: View) -> list[Symbol]:
            return [_total(view.tangent(g), own[i]) for i, g in zip(wrt, gradients(view), strict=True)]

        _, found = along_tangents(partial(View, application, trace, shifts=shifts, tangents=along), slopes)
        steps.append(found)
    return [application.plan(trace, part) for part in steps]


def _total(step: Symbol, is_own: bool) -> Symbol:
    """The gradient of a value that all rows share is the sum of what each gives it."""
    found: Symbol = step if is_own else CALLS["sum"](step, axes=0)
    return found


def _check_numbers(eps: float, order: int, faults: Faults) -> None:
    if not (math.isfinite(eps) and eps > 0):
        faults.add(InvalidValueError, f"eps is {eps}; expected a number above 0", ("eps",))
    if order not in (1, 2):
        faults.add(InvalidValueError, f"order is {order}; expected 1 or 2", ("order",))


def _wide(value: Value) -> Value:
    return canonical(value.astype(FLOAT64)) if dtype_of(value) == FLOAT32 else value
