"""Operations as the functions `F.*` call them: recorded on a session, added to a trace, or run at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pullback.core.config import is_training
from pullback.core.current import current, tracing
from pullback.core.variable import Variable
from pullback.errors import BadAttributeError, NotSupportedError
from pullback.recording import trace

_LARGEST_INT = 2**63


def apply(
    op: str,
    operands: Sequence[Any],
    attrs: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
) -> Any:
    """Apply an operation: record it for variables, trace it for symbols, otherwise run it at once."""
    return _applied(1, op, operands, attrs, defaults)[0]


def apply_several(
    outputs: Any,
    op: str,
    operands: Sequence[Any],
    attrs: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
) -> Any:
    """Apply an operation with several results; outputs: their number, or a list of that length."""
    count = int(outputs) if isinstance(outputs, (int, np.integer)) else len(outputs)
    return tuple(_applied(max(count, 1), op, operands, attrs, defaults))


def _applied(
    outputs: int,
    op: str,
    operands: Sequence[Any],
    attrs: dict[str, Any] | None,
    defaults: dict[str, Any] | None,
    *,
    is_random: bool = False,
    rng: int | None = None,
) -> list[Any]:
    written = _written(attrs, defaults or {}) if attrs else None
    recorder = None
    for x in operands:
        if type(x) is Variable:
            recorder = x._recorder
            break
        if type(x) is trace.Symbol:
            return trace.apply(op, operands, written, outputs)
    seed = None if rng is None else _seed(op, rng)
    if recorder is not None:
        if tracing.get() is not None and not is_random:
            # A Variable that a traced function captures is an input of its program.
            return trace.apply(op, operands, written, outputs)
        for x in operands:
            if type(x) is trace.Symbol:
                return trace.apply(op, operands, written, outputs)
        found: list[Any] = recorder.apply(op, operands, written, outputs, is_random=is_random, seed=seed)
        return found
    made = current().apply(op, operands, written, outputs, is_random=is_random, seed=seed)
    return [v._looked() for v in made]


def _seed(op: str, rng: Any) -> int:
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)) or rng < 0:
        raise BadAttributeError(
            f"{op}: rng is {rng!r}; expected a seed (a non-negative integer): the numbers are drawn on the server. "
            "Left out, the session's own generator goes on"
        )
    return int(rng)


def spread(operands: Sequence[Any]) -> Sequence[Any]:
    """Return the operands of a variadic operation, given one by one or as one list."""
    return operands[0] if len(operands) == 1 and type(operands[0]) in (list, tuple) else operands


def apply_random(
    op: str, operands: Sequence[Any], attrs: dict[str, Any], defaults: dict[str, Any], rng: int | None
) -> Any:
    """Apply an operation that draws random numbers.

    Raises:
        NotSupportedError: a function is being traced, in training.
    """
    if is_training() and (tracing.get() is not None or any(type(x) is trace.Symbol for x in operands)):
        raise NotSupportedError(
            f"{op}: a traced function draws no random numbers; use test_mode(), or give what was drawn as an argument"
        )
    return _applied(1, op, operands, attrs, defaults, is_random=True, rng=rng)[0]


def _written(attrs: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return attributes as parts of a document, without None and those that equal their default."""
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
    if kind is str or kind is float or kind is bool or (kind is int and abs(value) < _LARGEST_INT):
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
    if type(value) is trace.Symbol:
        return value.item()
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return _attribute(list(value), is_index)
    raise BadAttributeError(f"an attribute is {value!r}; expected a number, a text, or a list of them")


def _items(item: Any, is_index: bool) -> list[Any]:
    """Return the items that stand for one item of a list; a mask of several axes becomes a list of indices for each."""
    if is_index and isinstance(item, np.ndarray) and item.dtype.kind == "b" and item.ndim > 1:
        return [axis.tolist() for axis in np.nonzero(item)]
    return [_attribute(item, is_index)]
