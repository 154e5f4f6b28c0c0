"""Limits on programs, with the defaults of the server."""

from dataclasses import dataclass
from typing import TypedDict

from engine.graph import Limits


class FormLimits(TypedDict):
    """Arguments of `parse` and `build` that limit a program's form."""

    max_depth: int
    max_chain: int
    max_nodes: float


_COST = Limits(max_nodes=100_000, max_elements=10_000_000, max_bytes=2 * 10**9, max_flops=10**11)


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """Limits on the form and the cost of programs; the defaults are the server's."""

    max_depth: int = 100
    max_chain: int = 1000
    cost: Limits = _COST

    def form(self) -> FormLimits:
        """Return the limits that apply while a document or a text is read."""
        return {"max_depth": self.max_depth, "max_chain": self.max_chain, "max_nodes": self.cost.max_nodes}
