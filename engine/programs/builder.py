"""GraphBuilder: build graphs from documents and from infix text, with the checks that both share."""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import engine.primitives  # noqa: F401 - fills the table
from engine.core import (
    OPERATIONS,
    ArityError,
    Attributes,
    AutogradError,
    BadAttributeError,
    Faults,
    InvalidValueError,
    Loc,
    Operation,
    UnknownOperationError,
    nearest,
)
from engine.graph import (
    LONGEST_NAME,
    Graph,
    Input,
    Literal,
    Node,
    Output,
    check_limit,
    free_name,
    name_fault,
    normalized,
    quoted,
)
from engine.programs.literals import decode_value, described

#: Default limits on nesting, low enough that Python's parser never reaches its own.
MAX_DEPTH = 100
MAX_CHAIN = 1000
#: Texts of up to this many tokens are read, even if the limit on nodes is lower.
MAX_NODES = 100_000

#: The number of faults after which checking stops.
_MAX_FAULTS = 100

T = TypeVar("T")
V = TypeVar("V")


class Site(NamedTuple):
    """Location of a part of a program.

    loc: its path. where: its description for messages. has_parts: whether its parts have paths of their own, as in
    documents, but not in text.
    """

    loc: Loc
    where: str
    has_parts: bool = False

    def part(self, *path: str | int) -> "Site":
        """Return the location of a part; this location itself if parts have no paths of their own."""
        return Site(self.loc + path, self.where, True) if self.has_parts else self


@dataclass(slots=True, eq=False)
class Draft:
    """Node under construction; an id is empty until it has a name. If faults were found, op and args may be missing."""

    ids: list[str]
    loc: Loc
    op: Operation | None = None
    args: tuple["Ref | Literal", ...] = ()
    attrs: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """Reference to an output of a node, or to the input `label` if `draft` is None."""

    label: str
    draft: Draft | None = None
    output: int = 0

    def __repr__(self) -> str:
        return self.label


class Mixed(list[Any]):
    """List that holds more than literals: the operands of a variadic operation."""


class GraphBuilder:
    """Builder of a graph: collects inputs, nodes in the order of evaluation, and faults."""

    def __init__(self, faults: Faults, max_nodes: float) -> None:
        self.faults = faults
        self.inputs: dict[str, Input] = {}
        self.drafts: list[Draft] = []
        self._max_nodes = max_nodes
        self._count = 0

    def fault(self, kind: type[AutogradError], msg: str, site: Site) -> None:
        """Record a fault.

        Raises:
            AutogradError: there are too many faults to go on.
        """
        self.faults.add(kind, f"{msg} ({site.where})" if site.where else msg, site.loc)
        self._count += 1
        if self._count == _MAX_FAULTS:
            self.faults.check()

    def add(self, draft: Draft) -> Draft:
        """Append a node.

        Raises:
            LimitExceededError: there are too many nodes.
        """
        self.drafts.append(draft)
        check_limit("nodes", len(self.drafts), self._max_nodes, "the program")
        return draft

    def name(self, given: object, site: Site) -> str | None:
        """Return the normalised name; record a fault and return None if it is not a valid name."""
        if not isinstance(given, str):
            self.fault(InvalidValueError, f"a name is a string, not {described(given)}", site)
            return None
        name = normalized(given)
        fault = name_fault(name)
        if fault:
            self.fault(InvalidValueError, fault, site)
            return None
        return name

    def read(self, name: str) -> Ref:
        """Return a reference to an input; add the input if it is not declared."""
        if name not in self.inputs:
            self.inputs[name] = Input(name)
        return Ref(name)

    def check_fields(self, given: object, known: Sequence[str], site: Site, hint: str = "") -> bool:
        """Return whether `given` is an object; record a fault if not, and for each unknown field."""
        if not isinstance(given, dict):
            self.fault(InvalidValueError, f"expected an object with {', '.join(known)}, not {described(given)}", site)
            return False
        for key in given:
            if key not in known:
                near = nearest(str(key), list(known)) or hint or f"; expected {', '.join(known)}"
                self.fault(InvalidValueError, f"unknown field {quoted(key)}{near}", site.part(str(key)))
        return True

    def operation(self, name: str, site: Site) -> Operation | None:
        """Return the operation called `name`; record a fault and return None if there is none."""
        op = OPERATIONS.get(name)
        if op is None:
            self.fault(UnknownOperationError, f"unknown operation {quoted(name)}{nearest(name, OPERATIONS)}", site)
        return op

    def apply(self, draft: Draft, op: Operation, args: Sequence[Any], keywords: dict[str, Any], site: Site) -> None:
        """Fill a draft with an operation and its arguments, which are Refs, Literals and plain Python values."""
        try:
            operands, attrs = op.bind(args, keywords, is_literal=lambda value: not isinstance(value, Ref))
        except (ArityError, BadAttributeError) as error:
            return self.fault(type(error), error.detail, site)
        # Operands beyond the positional arguments were given by keyword.
        ordered = len(operands if op.variadic else args)
        found = [
            x
            if isinstance(x, Ref)
            else self.operand(x, site.part("args", i) if i < ordered else site.part("attrs", op.operands[i]))
            for i, x in enumerate(operands)
        ]
        count = 1 if op.outputs is None else op.outputs(**attrs)
        if count != len(draft.ids):
            msg = f"{op.name} has {count} output{'s' * (count != 1)} here, not {len(draft.ids)}; it takes as many names"
            self.fault(InvalidValueError, msg, site)
        draft.op, draft.attrs = op, attrs
        draft.args = tuple(x for x in found if x is not None)
        return None

    def operand(self, value: Any, site: Site) -> Ref | Literal | None:
        """Return a value as an operand of a node; record a fault and return None if it is not a valid one."""
        if isinstance(value, Ref | Literal):
            return value
        if isinstance(value, Mixed):
            self.fault(InvalidValueError, "a list holds literals only; stack([...]) joins values", site)
            return None
        try:
            return decode_value(value)
        except InvalidValueError as error:
            self.fault(InvalidValueError, error.detail, site.part(*error.faults[0].loc))
            return None

    def constant(self, value: Any, site: Site) -> Ref:
        """Return a reference to a value: a Ref as it is, any other value as a new constant node."""
        if isinstance(value, Ref):
            return value
        found = self.operand(value, site)
        draft = self.add(Draft([""], site.loc))
        draft.args = () if found is None else (found,)
        return Ref("a constant", draft)

    def output_name(self, names: Iterable[str]) -> str:
        """Return a name for an output without one; `names` are those taken, besides the names of the inputs."""
        return free_name("out", {*names, *self.inputs})

    def numbered_name(self, name: str, names: Container[str], counts: dict[str, int]) -> str:
        """Return a free name derived from another one: `y_1`, `y_2`, and so on; counts: the last number by name."""
        while True:
            counts[name] = counts.get(name, 0) + 1
            # Leave room for the number within the longest name allowed.
            found = f"{name[: LONGEST_NAME - 20]}_{counts[name]}"
            if found not in names and found not in self.inputs:
                return found

    def finish(self, names: dict[str, Ref], outputs: Sequence[tuple[str, Ref]]) -> Graph:
        """Return the finished graph.

        names: name -> value. The first name of a node becomes its id, further ones become aliases; outputs of nodes
            without a name are numbered in order.

        Raises:
            AutogradError: faults were found; all of the first kind are reported.
        """
        self.faults.check()
        aliases: dict[str, Ref] = {}
        for name, ref in names.items():
            if ref.draft is None or ref.draft.ids[ref.output]:
                aliases[name] = ref
            else:
                ref.draft.ids[ref.output] = name
        named = [any(draft.ids) for draft in self.drafts]
        number = 0
        for draft in self.drafts:
            for output, name in enumerate(draft.ids):
                if not name:
                    number += 1
                    draft.ids[output] = f"_{number}"
        nodes = tuple(
            Node(tuple(d.ids), d.op, tuple(map(_argument, d.args)), d.attrs, is_named, d.loc)
            for d, is_named in zip(self.drafts, named, strict=True)
        )
        return Graph(
            tuple(self.inputs.values()),
            nodes,
            tuple(Output(name, _id(ref)) for name, ref in outputs),
            {name: _id(ref) for name, ref in aliases.items() if name != _id(ref)},
        )


def fold(root: T, children: Callable[[T], Sequence[T]], combine: Callable[[T, list[V]], V]) -> V:
    """Combine a tree from its leaves to its root, left to right, without recursion."""
    pending, found = [root], []
    while pending:
        item = pending.pop()
        below = children(item)
        found.append((item, len(below)))
        pending += below
    values: list[V] = []
    for item, n in reversed(found):
        first = len(values) - n
        values[first:] = [combine(item, values[first:])]
    return values[0]


def _argument(arg: Ref | Literal) -> str | Literal:
    return _id(arg) if isinstance(arg, Ref) else arg


def _id(ref: Ref) -> str:
    return ref.label if ref.draft is None else ref.draft.ids[ref.output]
