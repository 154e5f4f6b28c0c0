"""Lowering of operations to generated code."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.core.values import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowering:
    """Lowering of an operation to generated code; every field is optional.

    Fields:
        scalar: the operation on Python floats.
        inline: an expression for it, with `{0}` for the first operand; if empty, generated code calls `scalar`. The
            expression may call functions of Python's math; these are in `inline_names`.
        ufunc: the ufunc that equals `forward` on floating operands, or a function that takes `out` like a ufunc; the
            result may overwrite one of the operands.
        begin, finish: `forward` in two parts, which lets operations share the first: finish(begin(*operands, **attrs)).
        emit: (*avals, **attrs) -> a faster function, specialized to operands of these shapes and dtypes.
        takes_out: the emitted function takes the output array as `out`, which may be its first operand.
        is_fresh: its result never shares memory with an operand.
        is_commutative: the result has the same bits if the operands are swapped.
        is_exact: IEEE 754 prescribes the result, so that scalar and array code round alike.
        is_long: an element takes long enough for tiles of a few thousand elements to be worth a thread.
    """

    scalar: Callable[..., float] | None = None
    inline: str = ""
    inline_names: dict[str, Callable[..., float]] = field(default_factory=dict)
    ufunc: Callable[..., Value] | None = None
    begin: Callable[..., Value] | None = None
    finish: Callable[..., Value] | None = None
    emit: Callable[..., Callable[..., Value]] | None = None
    takes_out: bool = False
    is_fresh: bool = False
    is_commutative: bool = False
    is_exact: bool = False
    is_long: bool = False


def of_floats(scalar: Callable[..., float] | str | None, operands: Sequence[str], symbol: str) -> dict[str, Any]:
    """Return `scalar`, `inline` and `inline_names` of an operation.

    scalar: a function of floats, an expression in terms of the operands, or None.
    symbol: its Python operator, if any.
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
    """Replace the operand names in an expression by format placeholders.

    >>> _placed("x1 if x1 >= x2 else x2", ("x1", "x2"))
    '{0} if {0} >= {1} else {1}'
    """
    return re.sub(rf"\b({'|'.join(operands)})\b", lambda found: f"{{{operands.index(found[0])}}}", expression)
