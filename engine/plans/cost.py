"""Cost of running a trace, estimated from shapes and dtypes before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.graph import Limits, check_limit
from engine.plans.trace import Trace


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one run.

    nodes: number of operations. bytes: size of all values together. flops: floating-point operations, estimated.
    """

    nodes: int
    bytes: int
    flops: int


def cost_of(trace: Trace, indices: Sequence[int]) -> Cost:
    """Return the cost of the steps of a trace at some indices."""
    steps = [trace.steps[p] for p in indices]
    flops = [
        step.op.flops(*(trace.steps[a].aval for a in step.args), out=step.aval, **step.attrs)
        for step in steps
        if step.op is not None
    ]
    return Cost(len(flops), sum(step.aval.nbytes for step in steps), sum(flops))


def check_cost(cost: Cost, limits: Limits, who: str = "the program") -> None:
    """Check a cost against limits.

    Raises:
        LimitExceededError: there are too many bytes or flops; the message begins with `who`.
    """
    check_limit("bytes", cost.bytes, limits.max_bytes, who)
    check_limit("flops", cost.flops, limits.max_flops, who)
