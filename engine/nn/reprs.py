"""The repr of layers, models, optimizers and hooks: one line with their configuration, and no arrays."""

import json
from collections.abc import Iterable
from reprlib import recursive_repr

import numpy as np

#: Arguments and items of a list that are shown.
_MOST = 8


class Described:
    """Base of objects whose repr is `Name(value, name=value, ...)`; it raises nothing and computes nothing."""

    def _arguments(self) -> Iterable[tuple[str, object]]:
        """Yield what the repr shows: names and values; the name of a positional argument is empty."""
        return ()

    @recursive_repr()
    def __repr__(self) -> str:
        try:
            parts = [f"{name}={text_of(value)}" if name else text_of(value) for name, value in self._arguments()]
        except Exception:  # noqa: BLE001 - debuggers show objects whose __init__ has failed, too
            parts = ["..."]
        return f"{type(self).__name__}({', '.join(_cut(parts))})"


def text_of(value: object) -> str:
    """Return the text of a value in a repr: a callable is its name, any other object its type.

    >>> print(text_of("relu"), text_of([3, (None, 1)]), text_of(np.tanh), text_of(np.float32(0.5)), text_of(np.ones(9)))
    "relu" [3, (None, 1)] tanh 0.5 ndarray
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | Described):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        items = ", ".join(_cut([text_of(item) for item in value]))
        if isinstance(value, list):
            return f"[{items}]"
        return f"({items},)" if len(value) == 1 else f"({items})"
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else type(value).__name__


def _cut(parts: list[str]) -> list[str]:
    """Return the first parts, and dots in the place of others."""
    return parts if len(parts) <= _MOST else [*parts[:_MOST], "..."]
