"""Plans: record a trace, simplify it, estimate its cost and compile it."""

from engine.plans.cost import Cost, check_cost, cost_of
from engine.plans.plan import Plan, Plans
from engine.plans.trace import Trace

__all__ = [
    "Cost",
    "Plan",
    "Plans",
    "Trace",
    "check_cost",
    "cost_of",
]
