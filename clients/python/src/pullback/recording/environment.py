"""Environment of a Python function: the closure cells, globals, defaults and attributes that it can read.

Two equal environments give the same trace, as far as that can be seen from outside: numbers, texts and containers count
by value, arrays by identity and content, other objects by identity and by their attributes. Not seen are files, clocks,
and objects that are kept inside of extension modules, by installed packages or beyond the bounds below.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import random
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pullback.recording.constants import content_of

#: Objects that are visited for one function; a larger environment is not remembered.
_MOST = 20_000
#: Instances inside of instances.
_DEEPEST = 4
#: Folders of this package, the standard library and installed packages.
_OWN = str(Path(__file__).parents[1])
_INSTALLED = (*{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}, _OWN)
#: Installed classes whose instances count by their attributes; others count by identity alone.
_NAMESPACES = {"SimpleNamespace", "Namespace"}
_PLAIN = {int, bool, float, complex, str, bytes, type(None)}


class TooLargeError(Exception):
    """An environment has more objects than are visited."""


class Environment:
    """Key of everything that functions can read.

    held: the objects that count by identity; keep them alive as long as the key.

    >>> scale = 2.0
    >>> f = lambda x: x * scale
    >>> before = Environment(f).key
    >>> scale = 3.0
    >>> Environment(f).key == before
    False

    Raises:
        TooLargeError: the environment has too many objects.
    """

    def __init__(self, *roots: Any) -> None:
        self.held: list[Any] = []
        self._seen: dict[int, int] = {}
        self.key: Hashable = tuple(self._of(root, 0) for root in roots)

    def _of(self, x: Any, depth: int) -> Hashable:
        kind = type(x)
        if kind in _PLAIN:
            return kind, repr(x) if kind is float or kind is complex else x
        known = self._seen.get(id(x))
        if known is not None:
            return "again", known
        if len(self._seen) >= _MOST:
            raise TooLargeError
        self._seen[id(x)] = len(self._seen)
        self.held.append(x)
        if isinstance(x, np.ndarray):
            return self._of_array(x)
        if isinstance(x, np.generic):
            return str(x.dtype), x.tobytes()
        return self._of_object(x, depth)

    def _of_array(self, x: np.ndarray[Any, Any]) -> Hashable:
        if x.dtype == object:
            return id(x), tuple(self._of(item, 0) for item in x.flat)
        return id(x), *content_of(x)

    def _of_object(self, x: Any, depth: int) -> Hashable:
        if isinstance(x, (list, tuple, set, frozenset, deque)):
            return type(x), self._of_items(x, depth)
        if isinstance(x, dict):
            return type(x), self._of_items(x, depth), self._of_items(x.values(), depth)
        if isinstance(x, types.FunctionType):
            return self._of_function(x)
        if isinstance(x, types.MethodType):
            return "method", self._of(x.__func__, depth), self._of(x.__self__, depth)
        if isinstance(x, functools.partial):
            return "partial", self._of((x.func, x.args, x.keywords), depth)
        if isinstance(x, np.random.Generator):
            return id(x), pickle.dumps(x.bit_generator.state)
        if isinstance(x, np.random.RandomState):
            return id(x), pickle.dumps(x.get_state())
        if isinstance(x, random.Random):
            return id(x), x.getstate()
        if isinstance(x, (types.BuiltinMethodType, types.MethodWrapperType)):
            return "method", x.__name__, id(x.__self__) if _is_static(x.__self__) else self._of(x.__self__, depth)
        if _is_static(x) or depth >= _DEEPEST:
            return id(x)
        return id(x), self._of_instance(x, depth)

    def _of_items(self, items: Iterable[Any], depth: int) -> Hashable:
        listed = list(items)
        if listed and {*map(type, listed)} <= _PLAIN:
            return len(listed), hashlib.blake2b(repr([(type(x).__name__, x) for x in listed]).encode()).digest()
        return tuple(self._of(item, depth) for item in listed)

    def _of_instance(self, x: Any, depth: int) -> Hashable:
        kind = type(x)
        path = _path_of(kind)
        is_opaque = _is_installed(path) and not path.startswith(_OWN) and kind.__name__ not in _NAMESPACES
        if is_opaque or hasattr(kind, "_recorder"):
            return None
        # A call of the instance runs `__call__`, which may read globals and attributes.
        call = getattr(kind, "__call__", None)  # noqa: B004 - the function is wanted, not whether there is one
        found: list[Hashable] = [self._of(call, depth + 1)] if isinstance(call, types.FunctionType) else []
        attributes = getattr(x, "__dict__", None)
        if isinstance(attributes, dict):
            found.append((tuple(attributes), tuple(self._of(item, depth + 1) for item in attributes.values())))
        slots = [slot for slot in _slots(kind) if hasattr(x, slot)]
        return (*found, *((slot, self._of(getattr(x, slot), depth + 1)) for slot in slots))

    def _of_function(self, f: types.FunctionType) -> Hashable:
        cells = tuple(self._of_cell(cell) for cell in f.__closure__ or ())
        defaults = self._of(f.__defaults__, 0), self._of(f.__kwdefaults__, 0)
        if _is_installed(f.__code__.co_filename):
            return f.__code__, cells, defaults
        names = [*_names(f.__code__)]
        read = [(name, self._of_global(f.__globals__[name], names)) for name in names if name in f.__globals__]
        return f.__code__, cells, defaults, tuple(read)

    def _of_cell(self, cell: Any) -> Hashable:
        try:
            return self._of(cell.cell_contents, 0)
        except ValueError:
            # The cell is still empty.
            return None

    def _of_global(self, x: Any, names: list[str]) -> Hashable:
        """Return the key of a global; for modules and classes, of the attributes that the function may read."""
        if not _is_static(x):
            return self._of(x, 0)
        if x is None:
            return None
        self.held.append(x)
        if _is_installed(_path_of(x)):
            return id(x)
        read = vars(x)
        return id(x), tuple((name, self._of(read[name], 0)) for name in names if name in read)


def draws() -> Hashable:
    """Return the state of the global random generators of Python and NumPy."""
    return random.getstate(), pickle.dumps(np.random.get_state())


def _is_static(x: Any) -> bool:
    """Return whether an object is a class, a module or None."""
    return x is None or isinstance(x, (type, types.ModuleType))


def _path_of(x: Any) -> str:
    """Return the file of a module or a class; for a built-in one, a folder of Python itself."""
    name = x.__name__ if isinstance(x, types.ModuleType) else x.__module__
    if name in sys.builtin_module_names:
        return _INSTALLED[0]
    module = x if isinstance(x, types.ModuleType) else sys.modules.get(name)
    return getattr(module, "__file__", None) or ""


def _is_installed(path: str) -> bool:
    """Return whether a file belongs to Python or an installed package: its globals are not the user's."""
    return path.startswith((*_INSTALLED, "<frozen"))


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the names of globals and attributes in a function and in the functions that it defines."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in [slots] if isinstance(slots, str) else slots:
            if not slot.startswith("__"):
                yield slot
