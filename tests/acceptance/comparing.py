"""Comparison of derivatives with expectations that may hold infinities and NaN."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine import Variable


def numbers(x: Any) -> np.ndarray:
    """Return a value of any kind, or a JSON answer, as float64."""
    if isinstance(x, Variable):
        x = x.data
    if isinstance(x, str):
        return np.array(float(x.replace("Infinity", "inf")))
    if isinstance(x, list):
        return np.array([numbers(v) for v in x], dtype=float)
    return np.asarray(x, dtype=float)


def agree(got: Any, want: Any, rtol: float = 1e-9, atol: float = 1e-12, leave_out: Any = False) -> bool:
    """Compare values, and where they are NaN or infinite that too."""
    a, b = numbers(got), numbers(want)
    if a.shape != b.shape:
        return False
    return bool(np.all(np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True) | leave_out))


def agree_in_pattern(got: Any, want: Any, leave_out: Any = False, rtol: float = 1e-6, atol: float = 1e-6) -> bool:
    """Compare which elements are finite, and the finite values."""
    a, b = numbers(got), numbers(want)
    if a.shape != b.shape:
        return False
    both = np.isfinite(a) & np.isfinite(b)
    neither = ~np.isfinite(a) & ~np.isfinite(b)
    return bool(np.all(np.isclose(a, b, rtol=rtol, atol=atol) & both | neither | leave_out))


def report(failures: list[str], cases: int) -> str:
    shown = "\n".join(failures[:400])
    return f"{len(failures)} of {cases} cases fail\n{shown}"


def shown(x: Any) -> str:
    return np.array2string(numbers(x), precision=6, separator=",").replace("\n", "")
