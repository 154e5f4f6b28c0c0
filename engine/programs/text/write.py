"""Write graphs as documents and as infix text; both are read back as the same program, with the same id.

Bound inputs are written as inputs of their shape and dtype; the reader has to bind them again.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.core import INDEX, Array, InvalidValueError, aval
from engine.graph import Graph, Input, Literal, Node, free_name, is_generated, quoted
from engine.programs.builder import MAX_CHAIN, MAX_DEPTH
from engine.programs.declarations import declaration
from engine.programs.identity import changed_attributes
from engine.programs.text.printer import LARGEST_LIST, Piece, as_lists, encoded, expression, literal

#: The deepest nesting of inline nodes in a document; deeper nodes are referred to by index.
_TALLEST = 8


def declarations(graph: Graph) -> dict[str, Any]:
    """Return the declarations of inputs, name -> {"shape", "dtype"}, for documents and to go with text; bound last."""
    bound = (Input(name, aval(value).shape, aval(value).dtype) for name, value in graph.bound.items())
    return {i.name: declaration(i) for i in (*graph.inputs, *bound)}


def as_document(graph: Graph) -> dict[str, Any]:
    """Return a program as a document: dicts, lists, strings and numbers that `build` reads as the same program.

    Nodes without a name are written inline in those that read them; if that would nest too deep, they are listed
    separately and referred to by index, as {"node": 0}. A constant is a node {"id", "value"}, an alias a node
    {"id", "alias"}.

    >>> from engine.programs.text.parser import parse
    >>> as_document(parse("y = 2 * sin(x)"))["nodes"]
    [{'id': 'y', 'op': 'mul', 'args': [2, {'op': 'sin', 'args': ['x']}]}]
    """
    nodes: list[dict[str, Any]] = []
    for statement in _statements(graph):
        stack: list[tuple[dict[str, Any], int]] = []
        for node in statement:
            args, height = _arguments(node, stack)
            found = _document_node(node, args)
            if node.is_named:
                nodes.append(found)
            elif height < _TALLEST:
                stack.append((found, height + 1))
            else:
                stack.append(({"node": len(nodes)}, 0))
                nodes.append(found)
    nodes += ({"id": name, "alias": of} for name, of in graph.aliases.items())
    return {"nodes": nodes, "outputs": [output.name for output in graph.outputs], "inputs": declarations(graph)}


def as_text(graph: Graph) -> str:
    """Return a program as infix text, one statement per line; `parse` reads it back, given its `declarations`.

    >>> from engine.programs.text.parser import parse
    >>> print(as_text(parse("h = tanh(add(x @ w, b)); p, q = split(h[0], [1, 2]); mul(p, add(q, 1))")))
    h = tanh(x @ w + b)
    p, q = split(h[0], sizes=[1, 2])
    p * (q + 1)
    """
    names: dict[str, list[str]] = {}
    for name, of in graph.aliases.items():
        names.setdefault(of, []).append(name)
    lines: list[tuple[tuple[str, ...], str]]
    lines = [((name,), of) for of in declarations(graph) for name in names.get(of, ())]
    for statement in _statements(graph):
        ids = statement[-1].ids
        lines.append((ids, _expression(statement)))
        lines += [((name,), of) for of in ids for name in names.get(of, ())]
    outputs = tuple(output.name for output in graph.outputs)
    written = [f"{', '.join(ids)} = {piece}" for ids, piece in lines]
    if not lines or lines[-1][0] != outputs:
        written.append(", ".join(outputs))
    elif outputs == (_unnamed_output(graph),) and graph.nodes and graph.nodes[-1].ids == outputs:
        written[-1] = lines[-1][1]
    return "\n".join(written)


def _statements(graph: Graph) -> Iterator[list[Node]]:
    """Yield the nodes of each statement: a named node, after the unnamed ones inside of it.

    Raises:
        InvalidValueError: an unnamed node is not read, or is read elsewhere, so that it needs a name.
    """
    found: list[Node] = []
    pending: list[str] = []
    for node in graph.nodes:
        inner = [x for x in node.args if isinstance(x, str) and is_generated(x)]
        outer = len(pending) - len(inner)
        found.append(node)
        if pending[max(outer, 0) :] != inner or (node.is_named and (outer or any(map(is_generated, node.ids)))):
            raise InvalidValueError(f"the nodes before {quoted(node.ids[0])} need names to be written")
        del pending[outer:]
        if node.is_named:
            yield found
            found = []
        else:
            pending += node.ids
    if found:
        raise InvalidValueError(f"{quoted(found[-1].ids[0])} needs a name to be written, for nothing reads it")


def _arguments(node: Node, stack: list[tuple[dict[str, Any], int]]) -> tuple[list[Any], int]:
    """Return the arguments of a node, with inline ones taken from the stack, and the depth of these."""
    inner = sum(isinstance(x, str) and is_generated(x) for x in node.args)
    inline = stack[len(stack) - inner :]
    del stack[len(stack) - inner :]
    height = max((n for _, n in inline), default=0)
    nodes = (node for node, _ in inline)
    args = [
        _document_literal(x) if isinstance(x, Literal) else next(nodes) if is_generated(x) else x for x in node.args
    ]
    return args, height


def _document_node(node: Node, args: list[Any]) -> dict[str, Any]:
    ids: Any = list(node.ids) if len(node.ids) > 1 else node.ids[0]
    found = {"id": ids} if node.is_named else {}
    if node.op is None:
        return {**found, "value": args[0]}
    types = {a.name: a.type for a in node.op.attributes}
    attrs = {
        name: [_document_index(item) for item in value] if types[name] is INDEX else _words(as_lists(value))
        for name, value in changed_attributes(node).items()
    }
    # A literal for an optional operand is read only if it is given by name.
    literals = [i for i, x in enumerate(node.args) if isinstance(x, Literal)]
    by_name = [] if node.op.variadic else [i for i in literals if i >= node.op.required]
    attrs = {**{node.op.operands[i]: args[i] for i in by_name}, **attrs}
    # As an argument, a word such as "NaN" would be read as a name.
    args = [{"value": arg} if i in literals and isinstance(arg, str) else arg for i, arg in enumerate(args)]
    found |= {"op": node.op.name, "args": [arg for i, arg in enumerate(args) if i not in by_name]}
    return {**found, "attrs": attrs} if attrs else found


def _document_index(item: Any) -> Any:
    if item is None or item is ...:
        return "newaxis" if item is None else "..."
    if not isinstance(item, tuple):
        return item
    if item[0] == "ints":
        return as_lists(item[1])
    return {key: bound for key, bound in zip(("start", "stop", "step"), item[1:], strict=True) if bound is not None}


def _document_literal(given: Literal) -> Any:
    value = given.value
    if not given.is_weak:
        array = np.asarray(value)
        head = {"shape": list(array.shape), "dtype": str(array.dtype)}
        if array.size > LARGEST_LIST:
            return {**head, "base64": encoded(array)}
        return {**head, "data": _numbers(array.reshape(-1))}
    if isinstance(value, np.ndarray):
        return _numbers(value.astype(np.int64) if given.is_integral else value)
    return _number(value)


def _numbers(array: Array) -> Any:
    return _words(array.tolist()) if array.dtype.kind == "f" and not np.isfinite(array).all() else array.tolist()


def _words(items: Any) -> Any:
    """Replace the numbers in nested lists that JSON has no literal for by words."""
    if isinstance(items, list):
        return [_words(item) for item in items]
    return _number(items) if isinstance(items, float) else items


def _number(value: float) -> float | str:
    """Return a number, or its word if JSON has no literal for it."""
    if type(value) is int or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _expression(statement: list[Node]) -> str:
    """Return the text of a statement's value in its most readable form; with the least nesting if over a limit."""
    piece = _piece(statement, is_deep=False)
    if piece.depth > MAX_DEPTH or piece.chain > MAX_CHAIN:
        piece = _piece(statement, is_deep=True)
    return piece.text


def _piece(statement: list[Node], is_deep: bool) -> Piece:
    stack: list[Piece] = []
    for node in statement:
        operands = [
            literal(x) if isinstance(x, Literal) else Piece(x) if not is_generated(x) else None for x in node.args
        ]
        for index in reversed(range(len(operands))):
            operands[index] = operands[index] or stack.pop()
        stack.append(expression(node, [x for x in operands if x], is_deep))
    return stack[0]


def _unnamed_output(graph: Graph) -> str:
    """Return the name that `parse` gives to an output that is not assigned."""
    names = {i.name for i in graph.inputs} | {*graph.bound, *graph.aliases}
    names |= {i for node in graph.nodes[:-1] for i in node.ids}
    return free_name("out", names)
