"""Shapes, dtypes, bytes and flops of a program, found by running it on symbols: nothing is computed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.dispatch import PROMOTING
from engine.errors import InvalidValueError
from engine.graph.interpret import interpret
from engine.graph.ir import Graph
from engine.graph.limits import Limits, check_limit
from engine.symbol import Symbol
from engine.values import FLOAT64, MAX_AXES, Aval, Value
from engine.values import aval as raw_aval


@dataclass(frozen=True, slots=True)
class Cost:
    """nodes: operations run; bytes: all values together; flops: floating-point operations, estimated."""

    nodes: int
    bytes: int
    flops: int


@dataclass(frozen=True, slots=True)
class Inference:
    """Shape and dtype of every node and input by name, and the cost."""

    avals: dict[str, Aval]
    cost: Cost


class _Estimator:
    """The recorder behind `infer`: a symbol's operation gives the symbol of its result and adds its cost."""

    def __init__(self, limits: Limits, backward: bool) -> None:
        self.limits = limits
        self.backward = backward
        self.nodes = self.bytes = self.flops = 0

    def symbol(self, aval: Aval, who: str = "a value") -> Symbol:
        if len(aval.shape) > MAX_AXES:
            raise InvalidValueError(f"{who} has {len(aval.shape)} axes; at most {MAX_AXES} are possible")
        # Nested lists of an empty array may be long as well.
        length = math.prod(n for n in aval.shape if n)
        check_limit("elements", length, self.limits.max_elements, f"{who} of shape {list(aval.shape)}")
        self.bytes += aval.nbytes
        return Symbol(aval, self)

    def record(self, op: Any, args: tuple[Any, ...], attrs: dict[str, Any]) -> Symbol:
        avals = [x.aval if type(x) is Symbol else raw_aval(x) for x in args]
        strong = avals if op.kind in PROMOTING else [a._replace(weak=None) for a in avals]
        out: Aval = op.infer(*strong, **attrs)
        if all(a.weak for a in avals) and out.dtype == FLOAT64 and not out.shape:
            out = Aval((), FLOAT64, float)
        flops = op.flops(*avals, out=out, **attrs)
        self.nodes += 1
        self.flops += flops
        if self.backward:
            # Each operand gets a cotangent; a row's vjp costs about twice its forward.
            self.flops += 2 * flops + sum(a.size for a in avals)
            self.bytes += sum(a.nbytes for a in avals)
        check_limit("nodes", self.nodes, self.limits.max_nodes, "the program")
        return self.symbol(out, f"the result of {op.name}")


def infer(graph: Graph, inputs: Mapping[str, Aval], limits: Limits | None = None, backward: bool = False) -> Inference:
    """Shapes, dtypes and cost of a program for inputs of which shape and dtype are known.

    Raises:
        AutogradError: what evaluating would raise for these shapes; LimitExceededError where it would cost too much.
    """
    limits = limits or Limits()
    check_limit("nodes", len(graph.nodes), limits.max_nodes, "the program")
    estimator = _Estimator(limits, backward)

    def lift(constant: Value, is_weak: bool) -> Symbol:
        known = raw_aval(constant)
        return estimator.symbol(known if is_weak else known._replace(weak=None), "a literal")

    symbols = {name: estimator.symbol(aval, f'input "{name}"') for name, aval in inputs.items()}
    values = interpret(graph, symbols, lift)
    check_limit("bytes", estimator.bytes, limits.max_bytes, "the program")
    check_limit("flops", estimator.flops, limits.max_flops, "the program")
    avals = {name: value.aval for name, value in values.items()}
    return Inference(avals, Cost(estimator.nodes, estimator.bytes, estimator.flops))
