"""Parse infix text to graphs: a subset of Python's syntax, parsed by Python's `ast` and never evaluated."""

import ast
import math
from collections.abc import Sequence
from typing import Any, Never

from engine.core import OPERATIONS, BadAttributeError, Faults, LimitExceededError, rows
from engine.graph import CONSTANTS, Graph, Literal, name_fault
from engine.programs.builder import MAX_CHAIN, MAX_DEPTH, Draft, GraphBuilder, Mixed, Ref, Site, fold
from engine.programs.declarations import declare
from engine.programs.text.arrays import typed_array
from engine.programs.text.scan import Scanner
from engine.programs.text.tokens import Statement

_SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.MatMult: "@",
    ast.Pow: "**",
    ast.USub: "-",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
#: symbol and number of operands -> name of the operation
_OPERATORS = {(op.symbol, len(op.operands)): op.name for op in rows() if op.symbol}


def parse(
    text: str,
    inputs: dict[str, Any] | None = None,
    *,
    max_depth: int = MAX_DEPTH,
    max_chain: int = MAX_CHAIN,
    max_nodes: float = math.inf,
) -> Graph:
    """Parse infix text; return its graph, fully checked.

    text: statements as in the wire contract. All lines may be indented alike; `a = b = x` is not supported.
    inputs: declarations, name -> {"shape", "dtype"}.
    max_depth: limit on nested brackets and signs.
    max_chain: limit on operators in a row without parentheses, and on calls and indices in a row.
    max_nodes: limit on the number of nodes.

    Raises:
        ProgramSyntaxError: the text is not valid; with line, column and a suggestion.
        LimitExceededError: it exceeds a limit.
        AutogradError: there are faults; all of the first kind are reported, with their locations.

    >>> graph = parse("h = tanh(2 * x); h + 1")
    >>> [(node.ids[0], node.op.name) for node in graph.nodes]
    [('_1', 'mul'), ('h', 'tanh'), ('out', 'add')]
    """
    builder = GraphBuilder(Faults(), max_nodes)
    if inputs is not None:
        declare(builder, inputs, Site(("inputs",), "", has_parts=True))
        builder.faults.check()
    scanner = Scanner(text, max_depth, max_chain, max_nodes)
    reader = _Reader(builder, scanner)
    statements = scanner.scan()
    if not statements:
        scanner.fail("there is no statement; write an expression such as x ** 2", 1, 1)
    for statement in statements:
        reader.read(statement, is_last=statement is statements[-1])
    reader.keep_former_names()
    return builder.finish(reader.names, reader.outputs)


class _Reader:
    """Reader of statements; the value of an expression is a Ref, a Literal or a plain Python value."""

    def __init__(self, builder: GraphBuilder, scanner: Scanner) -> None:
        self.names: dict[str, Ref] = {}
        self.outputs: list[tuple[str, Ref]] = []
        self._builder = builder
        self._scanner = scanner
        self._statement = Statement("", 1, 1)
        self._read_at: dict[str, str] = {}
        # The first name of every assigned value, even if the name was assigned again.
        self._assigned: dict[tuple[int, int], tuple[str, Ref]] = {}
        # The expression of the current assignment, and the number of names that it is assigned to.
        self._root: ast.expr | None = None
        self._wanted = 1

    def read(self, statement: Statement, is_last: bool) -> None:
        """Read a statement; the last one defines the outputs."""
        self._statement = statement
        match self._parse():
            case ast.Assign(targets=[target], value=value):
                names = self._targets(target)
                self._assign(names, value)
                if is_last:
                    self.outputs = [(name.id, self.names[name.id]) for name in names]
            case ast.Assign(value=value):
                self._fail("one assignment a statement: write b = ...; a = b", value)
            case ast.Expr(value=ast.Tuple(elts=[_, *_] as names)) if is_last:
                self._output_names(names)
            case ast.Expr(value=ast.Name(id=name) as value) if is_last and name not in CONSTANTS:
                self._output_names([value])
            case ast.Expr(value=value) if is_last:
                ref = self._value(value)
                name = self._builder.output_name(self.names)
                self.names[name] = ref
                self.outputs = [(name, ref)]
            case ast.Expr(value=value):
                self._fail("only the last statement may be without a name; write y = ... or leave it out", value)
            case other:
                self._fail("a statement is an assignment or, at the end, an expression", other)

    def _parse(self) -> ast.stmt:
        statement = self._statement
        try:
            return ast.parse(statement.source).body[0]
        except SyntaxError as error:
            line = min(error.lineno or 1, statement.source.count("\n") + 1)
            column = max(error.offset or 1, 1) + (statement.column - 1 if line == 1 else 0)
            detail = error.msg.replace("invalid syntax", "this cannot stand here").replace(" or ':='", "")
            self._scanner.fail(detail, statement.line + line - 1, column)
        except (RecursionError, MemoryError):
            where = f"the statement at line {statement.line}, column {statement.column}"
            raise LimitExceededError(
                f"{where} has chains of operators inside each other, nested deeper than can be read; "
                "write its steps as assignments"
            ) from None

    def _fail(self, detail: str, node: ast.AST) -> Never:
        self._scanner.fail(detail, *self._position(node))

    def _position(self, node: Any) -> tuple[int, int]:
        return self._statement.position(node.lineno, node.col_offset)

    def _site(self, node: ast.AST) -> Site:
        line, column = self._position(node)
        return Site(("expr", line, column), f"line {line}, column {column}")

    def _targets(self, target: ast.expr) -> list[ast.Name]:
        """Return the names on the left-hand side of an assignment."""
        found: dict[str, ast.Name] = {}
        for name in target.elts if isinstance(target, ast.Tuple) else [target]:
            if not isinstance(name, ast.Name):
                self._fail("only names are assigned to; write y = ...", name)
            if name.id in CONSTANTS:
                self._fail(name_fault(name.id), name)
            if name.id in found:
                self._fail(f'"{name.id}" is assigned to twice', name)
            found[name.id] = name
        if not found:
            self._fail("nothing is assigned to; write y = ...", target)
        return list(found.values())

    def _assign(self, names: list[ast.Name], value: ast.expr) -> None:
        self._root, self._wanted = value, len(names)
        ref = self._value(value)
        self._root, self._wanted = None, 1
        is_call = isinstance(value, ast.Call) and ref.draft is not None and len(ref.draft.ids) == len(names)
        if len(names) > 1 and not is_call:
            self._fail("several names take the outputs of one operation, as in a, b = split(x, [1, 2])", value)
        for output, name in enumerate(names):
            if name.id in self._builder.inputs:
                since = self._read_at.get(name.id, "as declared")
                self._fail(f'"{name.id}" is an input ({since}), and inputs are not assigned to; take a new name', name)
            # Move the name to the end: the first name of a node in order of assignment becomes its id.
            self.names.pop(name.id, None)
            found = Ref(name.id, ref.draft, ref.output + output) if ref.draft else ref
            self.names[name.id] = found
            if found.draft:
                self._assigned.setdefault((id(found.draft), found.output), (name.id, found))

    def keep_former_names(self) -> None:
        """Name the nodes whose only names were assigned again: `y_1`, `y_2`, and so on."""
        named = {(id(ref.draft), ref.output) for ref in self.names.values()}
        counts: dict[str, int] = {}
        for key, (name, ref) in self._assigned.items():
            if key not in named:
                self.names[self._builder.numbered_name(name, self.names, counts)] = ref

    def _output_names(self, names: list[ast.expr]) -> None:
        found: dict[str, Ref] = {}
        for name in names:
            if not isinstance(name, ast.Name) or name.id in CONSTANTS:
                self._fail("several outputs are names, separated by commas; assign this one first", name)
            if name.id in found:
                self._fail(f'"{name.id}" is an output twice', name)
            found[name.id] = self._value(name)
        self.outputs = list(found.items())

    def _value(self, node: ast.expr) -> Ref:
        """Return the value of a whole expression; a literal becomes a constant node."""
        return self._builder.constant(fold(node, self._children, self._combine), self._site(node))

    def _children(self, node: ast.expr) -> Sequence[ast.expr]:
        """Return the subexpressions of a syntax node, in the order of evaluation."""
        match node:
            case ast.UnaryOp(operand=operand):
                return [operand]
            case ast.BinOp(left=left, right=right):
                return [left, right]
            case ast.Compare(left=left, comparators=[right]):
                return [left, right]
            case ast.Call(func=ast.Name(), args=args):
                return [*args, *(keyword.value for keyword in _keywords(node))]
            case ast.List(elts=elts) | ast.Tuple(elts=elts):
                return elts
            case ast.Subscript(value=value, slice=index):
                parts = index.elts if isinstance(index, ast.Tuple) else [index]
                return [value, *map(_index_part, parts)]
            case ast.Slice(lower=lower, upper=upper, step=step):
                return [part for part in (lower, upper, step) if part is not None]
        return []

    def _combine(self, node: ast.expr, values: list[Any]) -> Any:
        """Return the value of a syntax node from those of its children; any node not listed here is a syntax error."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name():
                return self._name(node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                return self._signed(node, values[0])
            case ast.BinOp(op=op) | ast.Compare(ops=[op]) if type(op) in _SYMBOLS:
                return self._apply(node, _OPERATORS[_SYMBOLS[type(op)], 2], values, {})
            case ast.Compare():
                self._fail("comparisons are not chained; write logical_and(a < b, b < c)", node)
            case ast.Call(func=ast.Name(id=name), args=args):
                named = [
                    (str(keyword.arg), value)
                    for keyword, value in zip(_keywords(node), values[len(args) :], strict=True)
                ]
                return self._call(node, name, values[: len(args)], named)
            case ast.Call():
                self._fail("only operations are called, by their names, as in sin(x)", node)
            case ast.List() | ast.Tuple():
                return Mixed(values) if any(isinstance(x, Ref | Literal | Mixed) for x in values) else values
            case ast.Subscript():
                return self._index(node, values[0], values[1:])
            case ast.Slice(lower=lower, upper=upper, step=step):
                rest = iter(values)
                return slice(*(None if part is None else next(rest) for part in (lower, upper, step)))
        self._fail("this is not part of the language", node)

    def _name(self, node: ast.Name) -> Any:
        name = node.id
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in self.names:
            return self.names[name]
        if name not in self._builder.inputs:
            self._read_at[name] = "read at line {}, column {}".format(*self._position(node))
        return self._builder.read(name)

    def _signed(self, node: ast.UnaryOp, value: Any) -> Any:
        if value is None or isinstance(value, bool | str) or value is ...:
            self._fail(f"{value!r} has no sign", node)
        if isinstance(node.op, ast.UAdd):
            return value
        return -value if isinstance(value, int | float) else self._apply(node, _OPERATORS["-", 1], [value], {})

    def _apply(self, node: ast.expr, name: str, args: list[Any], keywords: dict[str, Any]) -> Ref:
        """Add a node to the graph; return a reference to it."""
        site = self._site(node)
        draft = self._builder.add(Draft([""] * (self._wanted if node is self._root else 1), site.loc))
        op = self._builder.operation(name, site)
        if op is not None:
            self._builder.apply(draft, op, args, keywords, site)
        return Ref(f"{name}(...)", draft)

    def _call(self, node: ast.Call, name: str, args: list[Any], named: list[tuple[str, Any]]) -> Any:
        keywords: dict[str, Any] = {}
        for key, value in named:
            if key in keywords:
                self._builder.fault(BadAttributeError, f'{name}: "{key}" is given twice', self._site(node))
            keywords[key] = value
        if name == "array":
            return typed_array(self._builder, args, keywords, self._site(node))
        return self._apply(node, name, args, keywords)

    def _index(self, node: ast.Subscript, value: Any, index: list[Any]) -> Any:
        computed = [part for part in index if isinstance(part, Ref | Mixed | Literal)]
        if computed:
            msg = (
                f"slice: an index is made of literals, not {computed[0]!r}; take(x, places, axis) takes computed ones, "
                "and where(condition, x, y) is for masks"
            )
            self._builder.fault(BadAttributeError, msg, self._site(node))
            return value
        return self._apply(node, "slice", [value], {"index": index})


def _keywords(call: ast.Call) -> list[ast.keyword]:
    """Return the keywords of a call: first operands, in the order of the signature, then attributes."""
    op = OPERATIONS.get(call.func.id) if isinstance(call.func, ast.Name) else None
    if op is None or len(call.keywords) < 2:
        return call.keywords
    order = {name: index for index, name in enumerate(op.operands)}
    return sorted(call.keywords, key=lambda keyword: order.get(str(keyword.arg), len(order)))


def _index_part(part: ast.expr) -> ast.expr:
    """Replace `newaxis` in an index by None; anywhere else it is an ordinary name."""
    if isinstance(part, ast.Name) and part.id == "newaxis":
        return ast.copy_location(ast.Constant(None), part)
    return part
