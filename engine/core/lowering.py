"""Lowering: how generated code computes an operation, beside what the operation means."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowering:
    """How generated code computes an operation; all of it may be left out.

    Fields:
        scalar: the operation on floats alone.
        inline: an expression for it, `{0}` standing for the first operand; empty where `scalar` is called. It may call
            functions of Python's math, which are in `inline_names`.
        ufunc: the function of NumPy's that `forward` is on floats, or one that takes `out` as these do; a result may
            be written over one of its operands.
        begin, finish: `forward` in two parts, for operations that begin alike: finish(begin(*operands, **attrs)).
        emit: (*avals, **attrs) -> a function that computes it from operands of these shapes and dtypes alone, faster.
        takes_out: the function that is emitted takes the array to write to as one more argument, which may be its
            first operand.
        is_fresh: its result never shares memory with an operand.
        is_commutative: it gives the same bits for its operands in another order.
        is_exact: IEEE 754 prescribes its result, so that one element and many round alike.
        is_long: one element takes long enough for tiles of a few thousand to be worth a thread.
    """

    scalar: Callable[..., Any] | None = None
    inline: str = ""
    inline_names: dict[str, Callable[..., float]] = field(default_factory=dict)
    ufunc: Callable[..., Any] | None = None
    begin: Callable[..., Any] | None = None
    finish: Callable[..., Any] | None = None
    emit: Callable[..., Callable[..., Any]] | None = None
    takes_out: bool = False
    is_fresh: bool = False
    is_commutative: bool = False
    is_exact: bool = False
    is_long: bool = False


def of_floats(scalar: Any, operands: Sequence[str], symbol: str) -> dict[str, Any]:
    """Return `scalar`, `inline` and `inline_names` of an operation.

    scalar: a function of floats, the expression in terms of the operands that it computes, or None.
    symbol: the operator of Python's that it is, if any.
    """
    if isinstance(scalar, str):
        names = {f: getattr(math, f) for f in re.findall(r"(\w+)\(", scalar) if hasattr(math, f)}
        function = eval(f"lambda {', '.join(operands)}: {scalar}", {"__builtins__": {"bool": bool}, **names})
        return {"scalar": function, "inline": _placed(scalar, operands), "inline_names": names}
    inline = ""
    if getattr(scalar, "__module__", "") == operator.add.__module__:
        inline = f"{{0}} {symbol} {{1}}" if len(operands) == 2 else f"{symbol}{{0}}"
    return {"scalar": scalar, "inline": inline}


def _placed(expression: str, operands: Sequence[str]) -> str:
    """Return an expression with a place for each operand in the stead of its name.

    >>> _placed("x1 if x1 >= x2 else x2", ("x1", "x2"))
    '{0} if {0} >= {1} else {1}'
    """
    return re.sub(rf"\b({'|'.join(operands)})\b", lambda found: f"{{{operands.index(found[0])}}}", expression)
