"""Programs as plain data: nodes, names and limits."""

from engine.graph.ir import Graph, Input, Literal, Node, Output
from engine.graph.limits import Limits, check_limit
from engine.graph.names import name_fault, normalized, quoted

__all__ = [
    "Graph",
    "Input",
    "Limits",
    "Literal",
    "Node",
    "Output",
    "check_limit",
    "name_fault",
    "normalized",
    "quoted",
]
