"""Programs as plain data: nodes, names and limits."""

from engine.graph.generated_names import named
from engine.graph.ir import Graph, Input, Literal, Node, Output
from engine.graph.limits import Limits, check_limit
from engine.graph.names import CONSTANTS, LONGEST_NAME, free_name, is_generated, name_fault, normalized, quoted
from engine.graph.order import cycle_text, cycles, postorder, topological_order

__all__ = [
    "CONSTANTS",
    "LONGEST_NAME",
    "Graph",
    "Input",
    "Limits",
    "Literal",
    "Node",
    "Output",
    "check_limit",
    "cycle_text",
    "cycles",
    "free_name",
    "is_generated",
    "name_fault",
    "named",
    "normalized",
    "postorder",
    "quoted",
    "topological_order",
]
