"""Programs as graphs: read from documents and infix text, looked through, and run."""

from engine.graph.build import build
from engine.graph.expression import parse
from engine.graph.ir import Graph, Input, Literal, Node, Output

__all__ = ["Graph", "Input", "Literal", "Node", "Output", "build", "parse"]
