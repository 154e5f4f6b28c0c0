"""The command that applies an operation or an expression."""

from typing import Any

import numpy as np
from pydantic import Field, StrictInt, StrictStr

from app.sessions.commands.base import Command, IdOrValue, Ids, Made, bind_all
from app.sessions.commands.running import run_program
from app.sessions.session import Session
from app.wire.schemas import LARGEST_SEED
from engine.core import ArityError, InvalidValueError, Operation, lookup
from engine.graph import Graph, Input, Literal, Node, Output, check_limit
from engine.programs import WORDS, decode_value, parse


class Apply(Command, do="apply"):
    """An operation, or an expression whose names are ids."""

    op: StrictStr | None = None
    args: list[IdOrValue] = Field(default_factory=list, description="Ids or values.")
    attrs: dict[str, Any] = Field(default_factory=dict)
    expr: StrictStr | None = Field(None, description="Expression in place of op and args.")
    seed: StrictInt | None = Field(
        None, ge=0, le=LARGEST_SEED, description="Seed of its random numbers; default: the session's generator."
    )
    out: Ids | None = Field(None, description="Ids of the results; default: v1, v2, ...")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        if (self.op is None) == (self.expr is None):
            raise InvalidValueError('exactly one of "op" and "expr" is expected')
        if self.expr is None:
            graph = self._one_node(lookup(self.op or ""), session.quotas.programs.cost.max_nodes)
        elif self.args or self.attrs:
            raise InvalidValueError('"expr" has its operands within; leave out "args" and "attrs"', ("expr",))
        else:
            graph = parse(self.expr, **session.quotas.programs.form())
        where = {name: ("args", n) for n, name in enumerate(self.args) if isinstance(name, str)}
        operands = {i.name: session.operand(i.name, where.get(i.name, ("expr",))) for i in graph.inputs}
        rng = session.rng if self.seed is None else np.random.default_rng(self.seed)
        with session.mode():
            results = run_program(session, graph, operands, rng)
        return bind_all(session, results, self.out)

    def _one_node(self, op: Operation, max_nodes: float) -> Graph:
        """Build the program of one operation; its inputs have the names of the ids."""
        if len(self.args) > len(op.operands) and not op.variadic:
            expected = f"expected {op.signature()} with its attributes in attrs"
            raise ArityError(f"{op.name}: got {len(self.args)} args; {expected}", ("args",))
        args = [
            x if isinstance(x, str) and x not in WORDS else decode_value(x, ("args", n))
            for n, x in enumerate(self.args)
        ]
        operands, attrs = op.bind([args] if op.variadic and args else args, self.attrs, _is_literal)
        # Operands that are missing in args may stand in attrs.
        found = [x if isinstance(x, str | Literal) else decode_value(x, ("attrs",)) for x in operands]
        count = 1 if op.outputs is None else op.outputs(**attrs)
        check_limit("nodes", count, max_nodes, op.name)
        ids = tuple(f"_{n}" for n in range(count))
        inputs = tuple(Input(name) for name in dict.fromkeys(x for x in found if isinstance(x, str)))
        node = Node(ids, op, tuple(found), attrs, is_named=False, loc=())
        return Graph(inputs, (node,), tuple(Output(i, i) for i in ids))


def _is_literal(x: Any) -> bool:
    return isinstance(x, Literal)
