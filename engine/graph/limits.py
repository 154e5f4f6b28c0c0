"""Limits on the cost of a program, and the error for a program above a limit."""

import math
from dataclasses import dataclass

from engine.core import LimitExceededError


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the cost of a program; by default there are none."""

    max_nodes: float = math.inf
    max_elements: float = math.inf
    max_bytes: float = math.inf
    max_flops: float = math.inf


def check_limit(limit: str, needed: int, allowed: float, who: str) -> None:
    """Compare a quantity with its limit.

    Args:
        limit: name of the limit, which is also the unit: nodes, elements, bytes or flops.
        needed: the needed quantity.
        allowed: the allowed quantity.
        who: subject of the message.

    Raises:
        LimitExceededError: the needed quantity exceeds the limit.
    """
    if needed > allowed:
        raise LimitExceededError(f"{who} needs {needed:,} {limit}, the limit is {allowed:,}", limit=limit)
