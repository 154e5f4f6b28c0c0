"""What a program may cost, and the one sentence that refuses one that costs more."""

from dataclasses import dataclass

from engine.errors import LimitExceededError


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may cost; a refusal names the setting of the server that raises the limit."""

    max_nodes: int = 100_000
    max_elements: int = 10_000_000
    max_bytes: int = 2_000_000_000
    max_flops: int = 100_000_000_000


def check_limit(what: str, needed: int, allowed: int, who: str) -> None:
    """Compares one quantity with its limit.

    Raises:
        LimitExceededError: naming the limit, what is needed and the setting.
    """
    if needed > allowed:
        raise LimitExceededError(
            f"{who} needs {needed:,} {what}, the limit is {allowed:,} (setting PULLBACK_MAX_{what.upper()})"
        )
