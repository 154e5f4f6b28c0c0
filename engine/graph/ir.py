"""Graph: a program as plain, immutable data; `build` and `expression` make it, everything else reads it."""

from dataclasses import dataclass, field

from engine.core.attributes import Attributes
from engine.core.errors import Loc
from engine.core.operation import Operation
from engine.core.values import DType, Value


@dataclass(frozen=True, slots=True)
class Input:
    """A value that is given when the program runs.

    shape, dtype: as declared; None where nothing is, and None for a length that is free.
    """

    name: str
    shape: tuple[int | None, ...] | None = None
    dtype: DType | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A constant as it was written.

    value: weak numbers are Python's float, int and bool; all else is a raw value, arrays read-only.
    is_weak: it has no dtype of its own and takes that of what it meets.
    is_integral: all its numbers were written as integers.
    """

    value: Value
    is_weak: bool
    is_integral: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation.

    ids: a name for each of its outputs; numbers, `_1, _2, ...`, where there is none.
    op: its row; None for a constant, whose one argument is a Literal.
    args: operands in order: the id of an earlier node, the name of an input or of a bound value, or a literal.
    attrs: attributes in canonical form, defaults included.
    is_named: at least one of its ids is a name and not a number.
    loc: where it stands in the document or text.
    """

    ids: tuple[str, ...]
    op: Operation | None
    args: tuple[str | Literal, ...]
    attrs: Attributes
    is_named: bool
    loc: Loc


@dataclass(frozen=True, slots=True)
class Output:
    """A result: what it is called, and the node or input that it is."""

    name: str
    id: str


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Graph:
    """A program.

    inputs: declared ones first, then in order of appearance.
    nodes: in topological order.
    aliases: further names of nodes and inputs, by `b = a`: name -> id. The name of an output is an id or one of these.
    bound: inputs whose values are fixed for good, no longer among `inputs`; arrays are read-only.
    """

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]
    aliases: dict[str, str] = field(default_factory=dict)
    bound: dict[str, Value] = field(default_factory=dict)
