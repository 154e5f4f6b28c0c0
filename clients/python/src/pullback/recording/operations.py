"""Operations as functions call them: recorded on a session, written down in a trace, or done at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.errors import BadAttributeError
from pullback.recording import trace
from pullback.recording.current import current
from pullback.variable import Variable


def apply(
    op: str,
    operands: Sequence[Any],
    attrs: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
    rng: int | None = None,
) -> Any:
    """One operation on whatever is given: recorded, traced, or, where nothing is a variable, done at once."""
    return _applied(1, op, operands, attrs, defaults, rng)[0]


def apply_several(
    outputs: Any,
    op: str,
    operands: Sequence[Any],
    attrs: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
) -> Any:
    """The same for an operation of several results; `outputs`: how many, or a list as long."""
    count = outputs if isinstance(outputs, int) else len(outputs)
    return tuple(_applied(max(count, 1), op, operands, attrs, defaults, None))


def _applied(
    outputs: int,
    op: str,
    operands: Sequence[Any],
    attrs: dict[str, Any] | None,
    defaults: dict[str, Any] | None,
    rng: int | None,
) -> list[Any]:
    if len(operands) == 1 and type(operands[0]) in (list, tuple) and op in _VARIADIC:
        operands = operands[0]
    written = _written(attrs, defaults or {}) if attrs else None
    recorder = None
    for x in operands:
        if type(x) is Variable:
            recorder = x._recorder
            break
        if type(x) is trace.Symbol:
            return trace.apply(op, operands, written, outputs, rng)
    seed = None if rng is None else _seed(op, rng)
    if recorder is not None:
        for x in operands:
            if type(x) is trace.Symbol:
                return trace.apply(op, operands, written, outputs, rng)
        return recorder.apply(op, operands, written, outputs, seed)
    return [v.data for v in current().apply(op, operands, written, outputs, seed)]


_VARIADIC = ("concat", "stack", "einsum")


def _seed(op: str, rng: Any) -> int:
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)) or rng < 0:
        raise BadAttributeError(
            f"{op}: rng is {rng!r}; expected a seed (a non-negative integer): the numbers are drawn on the server. "
            "Left out, the session's own generator goes on"
        )
    return int(rng)


def _written(attrs: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Attributes as a document has them, without those that say nothing."""
    found = {}
    for name, value in attrs.items():
        if value is None and name not in defaults:
            continue
        if name in defaults and type(value) is type(defaults[name]) and value == defaults[name]:
            continue
        found[name] = _attribute(value, is_index=name == "index")
    return found


def _attribute(value: Any, is_index: bool = False) -> Any:
    kind = type(value)
    if kind is int or kind is str or kind is float or kind is bool:
        return value
    if isinstance(value, (tuple, list)):
        return [item for each in value for item in _items(each, is_index)]
    if isinstance(value, slice):
        bounds = {"start": value.start, "stop": value.stop, "step": value.step}
        return {key: _attribute(bound) for key, bound in bounds.items() if bound is not None}
    if value is None:
        return "newaxis" if is_index else None
    if value is Ellipsis:
        return "..."
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (type, np.dtype)):
        return str(np.dtype(value))
    if type(value) is Variable:
        return _attribute(np.asarray(value.data))
    return value


def _items(item: Any, is_index: bool) -> list[Any]:
    """What an item of a list becomes: a mask of several axes is as many lists of places."""
    if is_index and isinstance(item, np.ndarray) and item.dtype.kind == "b" and item.ndim > 1:
        return [axis.tolist() for axis in np.nonzero(item)]
    return [_attribute(item, is_index)]
