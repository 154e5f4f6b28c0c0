"""Identity of programs: the public id, a hash of the content as written."""

import hashlib
import struct
from collections.abc import Iterable

import numpy as np

from engine.core import DTYPES, Attributes, Integers, Value
from engine.graph import Graph, Input, Literal, Node

#: Prefix of the hashed bytes; it changes with the encoding.
_TAG = b"pullback program 1\n"
#: Number of hex digits after `p_`.
_DIGITS = 32


def program_id(graph: Graph) -> str:
    """Return the public id of a program: `p_` and the first 32 hex digits of SHA-256 over its content as written.

    It depends on the names and declarations of inputs; bound values with their names; nodes in order, each with its
    ids, the name of its operation (not the alias that was written), its arguments and its attributes other than
    defaults; constants with dtype, bits and whether they are weak; aliases of nodes, as in `b = a`; outputs in order.
    It does not depend on locations in a document or text, nor on the order of inputs, bound values and aliases, which
    are written as objects.

    Every item is encoded with a prefix of its type and length, numbers little-endian, floats as IEEE 754 with one NaN:
    the id is the same in every process, on every machine and with every version of Python and NumPy.

    >>> from engine.programs.text.parser import parse
    >>> program_id(parse("square(exp(square(x)))"))
    'p_2fd0ea63ef3e6c9d30a3cddcd5a28ab2'
    """
    digest = hashlib.sha256(_TAG)
    digest.update(_sequence(_input(i) for i in sorted(graph.inputs, key=lambda i: i.name)))
    digest.update(_sequence(_plain(name) + _constant(value) for name, value in sorted_items(graph.bound)))
    digest.update(_sequence(map(_node, graph.nodes)))
    digest.update(_plain(sorted_items(graph.aliases)))
    digest.update(_plain(tuple((output.name, output.id) for output in graph.outputs)))
    return "p_" + digest.hexdigest()[:_DIGITS]


def sorted_items(named: Attributes) -> tuple[tuple[str, Value], ...]:
    """Return the items of a dict, sorted by name."""
    return tuple(sorted(named.items(), key=lambda item: item[0]))


def changed_attributes(node: Node) -> Attributes:
    """Return the attributes of a node that differ from their defaults; 0, 0.0, -0.0 and False are all different."""
    if node.op is None or not node.attrs:
        return {}
    defaults = {a.name: a.default for a in node.op.attributes}
    return {name: value for name, value in node.attrs.items() if not _is_same(value, defaults[name])}


def _is_same(value: object, default: object) -> bool:
    return value is default or (type(value) is type(default) and _plain(value) == _plain(default))


def _input(declared: Input) -> bytes:
    dtype = None if declared.dtype is None else str(declared.dtype)
    return _plain((declared.name, declared.shape, dtype))


def _node(node: Node) -> bytes:
    args = (_literal(x) if isinstance(x, Literal) else _plain(x) for x in node.args)
    return _plain(node.ids) + _operation(node) + _sequence(args)


def _operation(node: Node) -> bytes:
    if node.op is None:
        return _plain(None)
    return _plain(node.op.name) + _plain(sorted_items(changed_attributes(node)))


def _literal(literal: Literal) -> bytes:
    value = literal.value
    if not literal.is_weak:
        return b"=" + _constant(value)
    if isinstance(value, np.ndarray):
        return b"~" + _plain((literal.is_integral,)) + _constant(value)
    return b"~" + _plain(value)


def _constant(value: Value) -> bytes:
    """Encode a raw value by dtype, shape and little-endian bytes."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    little = np.ascontiguousarray(array, DTYPES[str(array.dtype)].newbyteorder("<"))
    return _plain((str(array.dtype), array.shape)) + _sized(b"a", little.tobytes())


def _plain(value: Value) -> bytes:
    """Encode None, bools, numbers, strings, the ellipsis and tuples of these, each distinct from every other.

    Arrays of integers are encoded as nested tuples.
    """
    if type(value) is Integers:
        value = value.nested()
    if type(value) is str:
        return _sized(b"s", value.encode())
    if type(value) is tuple:
        return _sequence(map(_plain, value))
    if type(value) is int:
        return _sized(b"i", str(value).encode())
    if type(value) is float:
        return b"f" + struct.pack("<d", value if value == value else np.nan)
    return {None: b"n", True: b"t", False: b"u", ...: b"e"}[value]


def _sequence(items: Iterable[bytes]) -> bytes:
    found = list(items)
    return _sized(b"(", b"".join(found)) if found else b"()"


def _sized(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<Q", len(content)) + content
