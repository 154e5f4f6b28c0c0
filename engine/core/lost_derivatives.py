"""Messages for conversions to plain numbers and arrays, which lose the derivative; they quote the user's line."""

import linecache
import math
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np

from .errors import InvalidValueError, LostDerivativeWarning
from .table import CALLS

#: Functions of NumPy and of `math` that have another name here, or are written in terms of other functions.
SUBSTITUTES = {
    "amax": "F.max",
    "amin": "F.min",
    "append": "F.concat",
    "argwhere": "a boolean mask, x[x > 0]",
    "around": "F.round",
    "array": "F.stack (for a list of values)",
    "asarray": "F.stack (for a list of values)",
    "average": "F.mean",
    "bitwise_and": "F.logical_and",
    "bitwise_not": "F.logical_not",
    "bitwise_or": "F.logical_or",
    "bitwise_xor": "F.logical_xor",
    "cbrt": "F.pow",
    "column_stack": "F.stack",
    "compress": "F.take",
    "copysign": "F.where",
    "deg2rad": "x * (pi / 180)",
    "degrees": "x * (180 / pi)",
    "diag": "F.diagonal",
    "diff": "x[1:] - x[:-1]",
    "dist": "F.norm",
    "divmod": "F.floor_divide and F.remainder",
    "dot": "F.matmul",
    "dstack": "F.stack",
    "extract": "a boolean mask, x[x > 0]",
    "fabs": "F.abs",
    "fix": "F.trunc",
    "float_power": "F.pow",
    "fmax": "F.maximum",
    "fmin": "F.minimum",
    "fmod": "x - y * t with t = F.trunc of x / y",
    "fsum": "F.sum of F.stack",
    "heaviside": "F.where",
    "hstack": "F.concat",
    "inner": "F.matmul",
    "invert": "F.logical_not",
    "lgamma": "F.gammaln",
    "linalg.matrix_norm": "F.norm",
    "linalg.multi_dot": "F.matmul",
    "linalg.vector_norm": "F.norm",
    "matvec": "F.matmul",
    "mod": "F.remainder",
    "moveaxis": "F.transpose",
    "nan_to_num": "F.where",
    "piecewise": "F.where",
    "positive": "+x",
    "psi": "F.digamma",
    "rad2deg": "x * (180 / pi)",
    "radians": "x * (pi / 180)",
    "ravel": "F.reshape",
    "reciprocal": "F.div",
    "rint": "F.round",
    "rollaxis": "F.transpose",
    "select": "F.where",
    "sumprod": "F.matmul",
    "swapaxes": "F.transpose",
    "true_divide": "F.div",
    "vdot": "F.matmul",
    "vecdot": "F.matmul",
    "vecmat": "F.matmul",
    "vstack": "F.stack or F.concat",
}
#: File name of generated code.
GENERATED = "<plan>"
#: Packages whose frames are internal.
_OWN = str(sys.modules[__name__.partition(".")[0]].__file__)
_PACKAGES = (Path(_OWN).parent, Path(np.__file__).parent)
#: A call; the group is the last part of the function's dotted name.
_CALL = re.compile(r"(?:\w+\.)*(\w+)\(")
#: Size of a bytecode instruction.
_INSTRUCTION_BYTES = 2


def substitute(name: str) -> str:
    """Return the replacement here for a function of NumPy or `math`; empty if there is none.

    >>> substitute("sin"), substitute("arctan2"), substitute("linalg.norm"), substitute("amax"), substitute("fft")
    ('F.sin', 'F.arctan2', 'F.norm', 'F.max', '')
    """
    last = name.rpartition(".")[2]
    return SUBSTITUTES.get(name) or SUBSTITUTES.get(last) or (f"F.{last}" if last in CALLS else "")


def numpy_refusal(name: str, alone: str) -> InvalidValueError:
    """Return the error for a call of NumPy's function `name` on variables or traced values.

    alone: expression for the value without its derivative; empty if there is none.
    """
    found = substitute(name)
    return InvalidValueError(
        f"np.{name}: a NumPy function takes no variables and no traced values; "
        f"{f'use {found}' if found else 'F has no such function'}{f'; {alone} is the value alone' if alone else ''}"
        f"{place()}"
    )


def function_name(function: Callable[..., object]) -> str:
    """Return the name of a NumPy function after `np.`."""
    module = (getattr(function, "__module__", None) or "numpy").partition(".")[2]
    prefix = f"{module}." if module in ("linalg", "fft", "random") else ""
    return f"{prefix}{function.__name__}"


def advice() -> str:
    """Return the end of a message: the function to use in place of the call in the user's line; empty if unknown."""
    frame, _ = _user_frame()
    called = _CALL.match(_text(frame))
    found = substitute(called[1]) if called and called[1] in {*dir(math), *SUBSTITUTES} else ""
    return f"; use {found}" if found else ""


def place() -> str:
    """Return the end of a message with the user's line: ` (model.py, line 3: x * math.sin(x))`."""
    frame, _ = _user_frame()
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals).strip()
    return f" ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno}{f': {line}' if line else ''})"


def warn_lost(alone: str) -> None:
    """Warn that the value of a recorded variable is taken: once per line, unless Python's filters differ.

    alone: expression for the value without its derivative.
    """
    _, depth = _user_frame()
    warnings.warn(
        "the value of a recorded variable is taken, and no derivative comes through it"
        f"{advice()}; for the value alone, {alone}",
        LostDerivativeWarning,
        stacklevel=depth,
    )


def _user_frame() -> tuple[FrameType, int]:
    """Return the innermost frame outside this package, and its `stacklevel` for `warnings.warn` in the caller."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and _is_internal(frame.f_code.co_filename):
        frame, depth = frame.f_back, depth + 1
    return frame, depth


def _is_internal(filename: str) -> bool:
    return filename == GENERATED or any(map(Path(filename).is_relative_to, _PACKAGES))


def _text(frame: FrameType) -> str:
    """Return the source of the expression that a frame executes; empty if unknown or longer than one line."""
    positions = getattr(frame.f_code, "co_positions", None)
    if positions is None:
        # Python 3.10 has line numbers only.
        return linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals).strip()
    first, last, begin, end = list(positions())[frame.f_lasti // _INSTRUCTION_BYTES]
    if first is None or first != last or begin is None or end is None:
        return ""
    line = linecache.getline(frame.f_code.co_filename, first, frame.f_globals).encode()
    return line[begin:end].decode()
