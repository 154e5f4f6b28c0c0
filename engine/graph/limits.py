"""Limits on the cost of a program, and the one sentence that refuses a program above one."""

import math
from dataclasses import dataclass

from engine.core.errors import LimitExceededError


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the cost of a program; there are none by default."""

    max_nodes: float = math.inf
    max_elements: float = math.inf
    max_bytes: float = math.inf
    max_flops: float = math.inf


def check_limit(limit: str, needed: int, allowed: float, who: str) -> None:
    """Compares one quantity with its limit.

    Args:
        limit: name of the limit: the unit of what is counted.
        needed: quantity that is needed.
        allowed: quantity that is allowed.
        who: subject of the message.

    Raises:
        LimitExceededError: naming the limit and what is needed.
    """
    if needed > allowed:
        raise LimitExceededError(f"{who} needs {needed:,} {limit}, the limit is {allowed:,}", limit=limit)
