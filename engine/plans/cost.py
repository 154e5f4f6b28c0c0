"""What running a trace costs, known from shapes and dtypes before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.graph.limits import Limits, check_limit
from engine.plans.trace import Trace


@dataclass(frozen=True, slots=True)
class Cost:
    """nodes: operations run; bytes: all values together; flops: floating-point operations, estimated."""

    nodes: int
    bytes: int
    flops: int


def cost_of(trace: Trace, places: Sequence[int]) -> Cost:
    """The cost of some steps of a trace."""
    steps = [trace.steps[p] for p in places]
    flops = [
        step.op.flops(*(trace.steps[a].aval for a in step.args), out=step.aval, **step.attrs)
        for step in steps
        if step.op is not None
    ]
    return Cost(len(flops), sum(step.aval.nbytes for step in steps), sum(flops))


def check_cost(cost: Cost, limits: Limits, who: str = "the program") -> None:
    """Holds a cost to its limits.

    Raises:
        LimitExceededError: it is above one.
    """
    check_limit("bytes", cost.bytes, limits.max_bytes, who)
    check_limit("flops", cost.flops, limits.max_flops, who)
