"""Expressions as infix text: write a node, given the text of its operands."""

import base64
from typing import Any, NamedTuple

import numpy as np

from engine.core import FLOAT32, FLOAT64, INDEX, Array, Attribute, Attributes, Integers, Operation, Value
from engine.graph import CONSTANTS, Literal, Node
from engine.programs.builder import MAX_CHAIN
from engine.programs.identity import changed_attributes

#: The most elements of an array that is written as a list; a larger one is written as bytes.
LARGEST_LIST = 100

#: Precedence levels of expressions, from comparisons to names and calls.
_COMPARISON, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(6)
#: symbol -> its level, and the lowest levels of its left and right operands without parentheses
_LEVELS = {
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), (_COMPARISON, _SUM, _SUM)),
    **dict.fromkeys("+-", (_SUM, _SUM, _PRODUCT)),
    **dict.fromkeys("*/@", (_PRODUCT, _PRODUCT, _SIGN)),
    "**": (_POWER, _ATOM, _SIGN),
}


class Piece(NamedTuple):
    """Text of an expression.

    level: its precedence. depth: its depth of nesting. chain: its number of operators outside of brackets.
    """

    text: str
    level: int = _ATOM
    depth: int = 0
    chain: int = 0

    def held(self, level: int) -> "Piece":
        """Return the expression, in parentheses if its precedence is lower than `level`."""
        return self if self.level >= level else self.bracketed()

    def bracketed(self) -> "Piece":
        """Return the expression in parentheses."""
        return Piece(f"({self.text})", depth=self.depth + 1)


def expression(node: Node, operands: list[Piece], is_deep: bool = False) -> Piece:
    """Write a node as text.

    operands: its arguments as text.
    is_deep: write it with the least nesting and with short chains of operators, instead of the most readable way.
    """
    if node.op is None:
        return operands[0]
    attrs = changed_attributes(node)
    of_literal = isinstance(node.args[0], Literal)
    if node.op.symbol and not attrs and len(operands) == 2:
        return _binary(node.op.symbol, operands[0], operands[1], is_deep)
    if node.op.symbol and not attrs and not of_literal and not (is_deep and operands[0].level < _SIGN):
        x = operands[0].held(_SIGN)
        return Piece(node.op.symbol + x.text, _SIGN, x.depth + 1, x.chain)
    if node.op.name == "slice" and not of_literal:
        return _sliced(operands[0], attrs["index"])
    return _call(node.op, node, operands, attrs)


def literal(value: Literal) -> Piece:
    """Write a constant as text."""
    raw = value.value
    if not value.is_weak:
        return _strong(np.asarray(raw))
    if isinstance(raw, np.ndarray):
        return Piece(_list((raw.astype(np.int64) if value.is_integral else raw).tolist()), depth=raw.ndim)
    return _named(raw)


def _named(number: float) -> Piece:
    """Write a number, by its name if it has one, such as pi."""
    if type(number) is float:
        for name, constant in CONSTANTS.items():
            if number == constant:
                return Piece(name)
    text = _number(number)
    return Piece(text, _SIGN, 1) if text[0] == "-" else Piece(text)


def _number(number: Any) -> str:
    return "nan" if number != number else repr(number)


def _list(items: Any) -> str:
    return f"[{', '.join(map(_list, items))}]" if isinstance(items, list) else _number(items)


def _strong(array: Array) -> Piece:
    is_list = array.size <= LARGEST_LIST and 0 not in array.shape[:-1]
    if is_list and array.dtype == FLOAT32:
        value = _list(np.frompyfunc(_shortest, 1, 1)(array.astype(object)).tolist() if array.ndim else _shortest(array))
    elif is_list or not array.size:
        value = _list(array.tolist() if is_list else [])
    else:
        value = f'"{encoded(array)}"'
    is_plain = array.dtype == FLOAT64 or (array.dtype == bool and array.size > 0)
    dtype = "" if is_plain and is_list else f', dtype="{array.dtype}"'
    shape = "" if is_list else f", shape={list(array.shape)}"
    return Piece(f"array({value}{dtype}{shape})", depth=1 + array.ndim)


def _shortest(number: Any) -> float:
    """Return the float with the fewest digits that rounds to the float32 `number`."""
    fewer = (float(f"{number:.{digits}g}") for digits in range(1, 10))
    with np.errstate(over="ignore"):
        return next((short for short in fewer if np.float32(short) == number), float(number))


def encoded(array: Value) -> str:
    """Encode the little-endian bytes of an array in base64."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode()


def _binary(symbol: str, left: Piece, right: Piece, is_deep: bool) -> Piece:
    level, lowest_left, lowest_right = _LEVELS[symbol]
    left, right = left.held(lowest_left), right.held(lowest_right)
    while is_deep and left.chain + right.chain >= MAX_CHAIN:
        left, right = (left.bracketed(), right) if left.chain > right.chain else (left, right.bracketed())
    text = f"{left.text} {symbol} {right.text}"
    return Piece(text, level, max(left.depth, right.depth), left.chain + right.chain + 1)


def _sliced(x: Piece, index: tuple[Any, ...]) -> Piece:
    x = x.held(_ATOM)
    items = [_index_item(item) for item in index]
    depth = 1 + max((np.ndim(item[1]) for item in index if isinstance(item, tuple) and item[0] == "ints"), default=0)
    return Piece(f"{x.text}[{', '.join(items) or '()'}]", depth=max(x.depth, depth))


def _index_item(item: Any) -> str:
    if item is None or item is ...:
        return "newaxis" if item is None else "..."
    if not isinstance(item, tuple):
        return str(item)
    if item[0] == "ints":
        return _list(as_lists(item[1]))
    parts = ["" if bound is None else str(bound) for bound in item[1:]]
    return ":".join(parts if parts[2] else parts[:2])


def as_lists(items: Any) -> Any:
    """Return nested tuples and arrays of integers as nested lists, any other attribute as it is."""
    if isinstance(items, Integers):
        return items.array.tolist()
    return [as_lists(item) for item in items] if isinstance(items, tuple) else items


def _call(op: Operation, node: Node, operands: list[Piece], attrs: Attributes) -> Piece:
    depth = 1 + max(piece.depth for piece in operands)
    args = [piece.text for piece in operands]
    first = node.args[0]
    if op.variadic and isinstance(first, Literal) and first.is_weak and isinstance(first.value, np.ndarray):
        # A list as the first argument would be read as the list of all operands.
        args, depth = [f"[{', '.join(args)}]"], depth + 1
    elif not op.variadic:
        # A literal for an optional operand is read only if it is given by name.
        named = [i >= op.required and isinstance(x, Literal) for i, x in enumerate(node.args)]
        args = [f"{op.operands[i]}={text}" if named[i] else text for i, text in enumerate(args)]
    for attribute in op.attributes:
        if attribute.name in attrs:
            value = attrs[attribute.name]
            args.append(f"{attribute.name}={_attribute(attribute, value)}")
            depth = max(depth, 2 + _nesting(value))
    return Piece(f"{op.name}({', '.join(args)})", depth=depth)


def _attribute(attribute: Attribute, value: Any) -> str:
    if attribute.type is INDEX:
        parts = [_index_item(item) for item in value]
        # Outside of an index, items other than integers and lists of them are written as strings.
        parts = [part if part[0] in "[-0123456789" and ":" not in part else f'"{part}"' for part in parts]
        return f"[{', '.join(parts)}]"
    if isinstance(value, str):
        return f"'{value}'" if '"' in value else f'"{value}"'
    return _list(as_lists(value))


def _nesting(value: Any) -> int:
    """Return the depth of nested tuples."""
    if isinstance(value, Integers):
        return value.array.ndim
    level, depth = [value], 0
    while level := [x for item in level if isinstance(item, tuple) for x in (*item, None)]:
        depth += 1
    return depth
