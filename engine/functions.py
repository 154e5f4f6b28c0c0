"""Public functions `F.*`: every operation of the table, by name and alias.

>>> from engine import functions as F
>>> F.sin(0.5)
0.479425538604203
"""

import engine.primitives  # noqa: F401 - fills the table
from engine.core import CALLS, nearest
from engine.core.trees import Function

# Plain module attributes: a lookup through `__getattr__` below would cost more than a scalar operation.
globals().update(CALLS)


def __getattr__(name: str) -> Function:
    try:
        return CALLS[name]
    except KeyError:
        raise AttributeError(f'there is no function "{name}"{nearest(name, CALLS)}') from None


def __dir__() -> list[str]:
    return sorted(CALLS)
