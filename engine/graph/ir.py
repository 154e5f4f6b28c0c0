"""Graph: a program as plain, immutable data; `build` and `expression` create it, all other modules only read it."""

from dataclasses import dataclass, field

from engine.core import Attributes, DType, Loc, Operation, Value


@dataclass(frozen=True, slots=True)
class Input:
    """Input of a program.

    shape, dtype: as declared, None if undeclared; a length of None in `shape` is free.
    """

    name: str
    shape: tuple[int | None, ...] | None = None
    dtype: DType | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A constant in a document or text.

    value: a Python float, int or bool if weak, otherwise a raw value; arrays are read-only.
    is_weak: it has no dtype of its own and adopts that of the other operands.
    is_integral: all its numbers were written as integers.
    """

    value: Value
    is_weak: bool
    is_integral: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of a program.

    ids: a name for each of its outputs; a number, `_1, _2, ...`, for an unnamed one.
    op: its row; None for a constant, whose only argument is a Literal.
    args: operands in order: the id of an earlier node, the name of an input or of a bound value, or a literal.
    attrs: attributes in canonical form, including defaults.
    is_named: at least one of its ids is a name, not a number.
    loc: its location in the document or text.
    """

    ids: tuple[str, ...]
    op: Operation | None
    args: tuple[str | Literal, ...]
    attrs: Attributes
    is_named: bool
    loc: Loc


@dataclass(frozen=True, slots=True)
class Output:
    """Output of a program: its name, and the id of its node or input."""

    name: str
    id: str


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Graph:
    """A program.

    inputs: declared inputs first, then the others in order of appearance.
    nodes: in topological order.
    aliases: further names of nodes and inputs, from `b = a`: name -> id. An output's name is an id or an alias.
    bound: values of former inputs that are fixed; arrays are read-only.
    """

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]
    aliases: dict[str, str] = field(default_factory=dict)
    bound: dict[str, Value] = field(default_factory=dict)
