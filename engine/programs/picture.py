"""Pictures of programs and of their derivatives in Graphviz's DOT language."""

import numpy as np

from engine.core import FLOAT64, Aval, BadAttributeError, stand_in
from engine.graph import Graph, Limits, Literal, is_generated
from engine.programs.dot import escaped
from engine.programs.evaluate import HIGHEST_ORDER, Backward, prepare
from engine.programs.text.printer import literal

#: A constant with more elements is shown by its shape.
_LARGEST_SHOWN = 4


def derivative(graph: Graph, order: int, wrt: str | None = None, limits: Limits | None = None) -> Graph:
    """Return the program of the n-th derivative of a program's only output; from order 2 on with respect to one name.

    Inputs whose shapes are not declared count as scalars, free lengths as 1.

    Raises:
        BadAttributeError: the order is not from 0 to 12.
        AutogradError: as `evaluate.prepare`.
    """
    if not 0 <= order <= HIGHEST_ORDER:
        raise BadAttributeError(f"order is {order}; expected an integer from 0 to {HIGHEST_ORDER}", ("order",))
    if not order:
        return graph
    inputs = {
        i.name: stand_in(Aval(tuple(1 if n is None else n for n in i.shape or ()), i.dtype or FLOAT64))
        for i in graph.inputs
    }
    names = None if wrt is None else (wrt,)
    found = prepare(
        graph, inputs, backward=Backward(wrt=names, order=order, create_graph=True, supports=False), limits=limits
    )
    assert found.grad_graph is not None
    return found.grad_graph


def dot(graph: Graph) -> str:
    """Return a program as DOT text: values in orange, operations as lightblue boxes, in the order of the nodes.

    Values are labelled with the names that the user gave, large constants with their dtype and shape.

    >>> from engine.programs.text.parser import parse
    >>> print(dot(parse("y = 2 * x")))
    digraph g {
    "x" [label="x", color=orange, style=filled]
    "y" [label="y", color=orange, style=filled]
    "f0" [label="mul", color=lightblue, style=filled, shape=box]
    "c0" [label="2", color=orange, style=filled]
    "c0" -> "f0"
    "x" -> "f0"
    "f0" -> "y"
    }
    """
    lines = ["digraph g {", *(_value(name, name) for name in [*graph.bound, *(i.name for i in graph.inputs)])]
    constants = 0
    for n, node in enumerate(graph.nodes):
        lines += [_value(i, "" if is_generated(i) else i) for i in node.ids]
        name = node.op.name if node.op else "constant"
        lines.append(f'"f{n}" [label="{escaped(name)}", color=lightblue, style=filled, shape=box]')
        for x in node.args:
            source = x
            if isinstance(x, Literal):
                source = f"c{constants}"
                constants += 1
                lines.append(_value(source, _shown(x)))
            lines.append(f'"{source}" -> "f{n}"')
        lines += [f'"f{n}" -> "{i}"' for i in node.ids]
    return "\n".join([*lines, "}"])


def _value(key: str, label: str) -> str:
    return f'"{key}" [label="{escaped(label)}", color=orange, style=filled]'


def _shown(constant: Literal) -> str:
    value = constant.value
    if isinstance(value, np.ndarray) and value.size > _LARGEST_SHOWN:
        return f"{value.dtype}{list(value.shape)}"
    return literal(constant).text
