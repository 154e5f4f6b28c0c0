"""Errors that the engine's own files raise; `pullback.errors` has all."""

from pullback.errors import (
    BadAttributeError,
    InvalidValueError,
    LostDerivativeWarning,
    ShapeMismatchError,
    UnknownNameError,
)

__all__ = [
    "BadAttributeError",
    "InvalidValueError",
    "LostDerivativeWarning",
    "ShapeMismatchError",
    "UnknownNameError",
]
