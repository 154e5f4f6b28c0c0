"""Names for the nodes of a program that code has generated: as few as its text or document needs."""

from collections import Counter
from dataclasses import replace
from itertools import count

from engine.graph.ir import Graph, Literal, Node, Output
from engine.graph.names import is_generated

#: Maximum nesting depth of an expression; a deeper one is split by a named node.
_TALLEST = 12


def named(graph: Graph) -> Graph:
    """Return the same program, its nodes in the same order, with names where documents and text need them.

    A node stays unnamed if it can be written inside its only reader without changing the order of evaluation. Any other
    node gets the name of its output or alias, otherwise `t1, t2, ...`. Unnamed nodes are renumbered.

    >>> from engine.programs.text.parser import parse
    >>> from engine.programs.text.write import as_text
    >>> graph = parse("h = sin(x); h * h + 1")
    >>> h, product, out = graph.nodes
    >>> nodes = (replace(h, ids=("_1",), is_named=False), replace(product, ids=("_2",), args=("_1", "_1")))
    >>> print(as_text(named(replace(graph, nodes=(*nodes, replace(out, args=("_2", out.args[1])))))))
    t1 = sin(x)
    t1 * t1 + 1
    """
    inside = _inside(graph)
    wanted = {of: name for name, of in graph.aliases.items()} | {o.id: o.name for o in reversed(graph.outputs)}
    used = {i.name for i in graph.inputs} | {*graph.bound, *graph.aliases} | {o.name for o in graph.outputs}
    used |= {i for node in graph.nodes for i in node.ids}
    fresh = (name for n in count(1) if (name := f"t{n}") not in used)
    numbers = count(1)
    names: dict[str, str] = {}
    for node in graph.nodes:
        for i in filter(is_generated, node.ids):
            names[i] = f"_{next(numbers)}" if node in inside else wanted.get(i) or next(fresh)
    return _renamed(graph, names, inside)


def _inside(graph: Graph) -> set[Node]:
    """Return the nodes that can be written inside their only reader."""
    reads = Counter(x for node in graph.nodes for x in node.args if isinstance(x, str))
    public = {output.id for output in graph.outputs} | set(graph.aliases.values())
    inside: set[Node] = set()
    pending: list[tuple[Node, int]] = []
    for node in graph.nodes:
        waiting = {earlier.ids[0] for earlier, _ in pending[-len(node.args) :]}
        inner = [x for x in node.args if isinstance(x, str) and x in waiting]
        operands = pending[len(pending) - len(inner) :]
        if [earlier.ids[0] for earlier, _ in operands] != inner:
            # Written as operands, they would be evaluated in another order.
            operands, pending = [], []
        del pending[len(pending) - len(operands) :]
        inside |= {earlier for earlier, _ in operands}
        height = 1 + max((n for _, n in operands), default=0)
        (only, *more) = node.ids
        is_inner = is_generated(only) and not more and node.op is not None and reads[only] == 1 and only not in public
        if is_inner and height < _TALLEST:
            pending.append((node, height))
        else:
            pending = []
    return inside


def _renamed(graph: Graph, names: dict[str, str], inside: set[Node]) -> Graph:
    def called(name: str) -> str:
        return names.get(name, name)

    nodes = tuple(
        replace(
            node,
            ids=tuple(map(called, node.ids)),
            args=tuple(x if isinstance(x, Literal) else called(x) for x in node.args),
            is_named=node not in inside,
        )
        for node in graph.nodes
    )
    aliases = {name: called(of) for name, of in graph.aliases.items() if called(of) != name}
    outputs = tuple(Output(output.name, called(output.id)) for output in graph.outputs)
    aliases |= {output.name: output.id for output in outputs if output.name != output.id}
    return replace(graph, nodes=nodes, outputs=outputs, aliases=aliases)
