"""Forward mode from graph to graph: the tangents of steps that are there already, as further steps of the same trace.

Reverse mode needs nothing of its own: a program interpreted on a tape of symbols leaves its gradient on the trace.
"""

from collections.abc import Mapping
from typing import Any

from engine.core.dispatch import operand
from engine.core.masking import everywhere, selects, unmasked
from engine.core.powers import POWERS, smooth_power
from engine.core.tracer import Symbol
from engine.plans.trace import Trace
from engine.tracers.forward import push, push_power


def pushforward(
    trace: Trace, y: Symbol, seeds: Mapping[int, Symbol], *, is_masked: bool = False
) -> tuple[Symbol, bool]:
    """The derivative of a value along a direction.

    Args:
        trace: where it stands, and where the derivative is written.
        y: the value.
        seeds: the direction: places of steps, and the tangents to start with. All other inputs stay where they are.
        is_masked: tangents have supports, see `masking`.

    Returns:
        A tangent of the shape and dtype of the value, zeros where it does not move; and whether one with supports may
        be another.
    """
    tangents: dict[int, Any] = {place: everywhere(t) if is_masked else t for place, t in seeds.items()}
    has_choices = False
    for place in trace.live([y], is_masked=is_masked):
        step = trace.steps[place]
        args = trace.operands(place, is_masked=is_masked)
        found = [tangents.get(a) for a in args]
        has_choices = has_choices or place in trace.alternatives or (step.op is not None and selects(step.op))
        if place in tangents or all(t is None for t in found):
            continue
        if step.op is None:
            tangent = found[0]
        elif lengths := smooth_power(_Node(place, trace, tangents, seeds)) if step.operation.name in POWERS else None:
            tangent = push_power(lengths, trace.symbol(place))
        else:
            xs = [operand(step.operation, trace.symbol(a)) for a in step.args]
            tangent = push(step.op, xs, found, trace.symbol(place), step.attrs)
        if tangent is not None:
            tangents[place] = tangent
    tangent = unmasked(tangents[y.place]) if y.place in tangents else trace.filled(0.0, y.aval)
    return tangent, has_choices


class _Node:
    """A step as a node with its tangent, to find powers of lengths; a seed is one of its own."""

    _content = ("place",)

    def __init__(self, place: int, trace: Trace, tangents: Mapping[int, Symbol], seeds: Mapping[int, Symbol]) -> None:
        self._trace, self._tangents, self._seeds = trace, tangents, seeds
        step = trace.steps[place]
        self.place = place
        self.tangent = tangents.get(place)
        self._op = None if place in seeds else step.op
        self._attrs = step.attrs

    @property
    def _parents(self) -> tuple["_Node", ...]:
        args = self._trace.steps[self.place].args
        return tuple(_Node(a, self._trace, self._tangents, self._seeds) for a in args)

    @property
    def _saved(self) -> tuple[Any, ...]:
        step = self._trace.steps[self.place]
        return tuple(operand(step.operation, self._trace.symbol(a)) for a in step.args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Node) and other.place == self.place

    def __hash__(self) -> int:
        return self.place


def derivatives(trace: Trace, first: Symbol, x: Symbol, order: int) -> list[Symbol]:
    """The first derivative and all further ones up to an order, each the derivative of the one before along ones.

    first: the gradient with respect to x of some scalar. As its derivatives commute, going along ones is what summing
    over a gradient's elements and taking the gradient again gives.
    """
    found = [first]
    ones = trace.filled(1.0, x.aval._replace(weak=None))
    for _ in range(order - 1):
        tangent, has_choices = pushforward(trace, found[-1], {x.place: ones})
        if has_choices:
            with trace.uncounted():
                masked, _ = pushforward(trace, found[-1], {x.place: ones}, is_masked=True)
            tangent = trace.alternative(tangent, masked)
        found.append(tangent)
    return found
