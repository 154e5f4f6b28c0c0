"""Core of the engine: values, the table of operations, variables on a tape, and dispatch of operations on them."""

from engine.core import (
    config,
    copies,  # noqa: F401 - registers with copyreg
    errors,
    trees,
)
from engine.core.attributes import REQUIRED, SIZES, Attribute, Integers
from engine.core.caches import Lru
from engine.core.errors import (
    MAX_FAULTS,
    ORDER,
    ArityError,
    AutogradError,
    BadAttributeError,
    Fault,
    Faults,
    InvalidValueError,
    LimitExceededError,
    Loc,
    NoGradError,
    NoGradientError,
    NotDifferentiableError,
    NotSupportedError,
    ProgramSyntaxError,
    UnknownOperationError,
)
from engine.core.messages import nearest
from engine.core.operation import Operation
from engine.core.table import OPERATIONS, lookup, rows
from engine.core.values import (
    DTYPES,
    FLOAT32,
    FLOAT64,
    MAX_AXES,
    Aval,
    Value,
    as_raw,
    aval,
    canonical,
    dtype_of,
    shape_of,
    stand_in,
)
from engine.core.variable import Variable

__all__ = [
    "DTYPES",
    "FLOAT32",
    "FLOAT64",
    "MAX_AXES",
    "MAX_FAULTS",
    "OPERATIONS",
    "ORDER",
    "REQUIRED",
    "SIZES",
    "ArityError",
    "Attribute",
    "AutogradError",
    "Aval",
    "BadAttributeError",
    "Fault",
    "Faults",
    "Integers",
    "InvalidValueError",
    "LimitExceededError",
    "Loc",
    "Lru",
    "NoGradError",
    "NoGradientError",
    "NotDifferentiableError",
    "NotSupportedError",
    "Operation",
    "ProgramSyntaxError",
    "UnknownOperationError",
    "Value",
    "Variable",
    "as_raw",
    "aval",
    "canonical",
    "config",
    "dtype_of",
    "errors",
    "lookup",
    "nearest",
    "rows",
    "shape_of",
    "stand_in",
    "trees",
]
