"""check_grads: compares derivatives of a function, in both modes, with central differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from pullback.core import trees
from pullback.core.values import FLOAT64, as_raw, canonical, dtype_of, shape_of
from pullback.transforms.calls import Function
from pullback.transforms.compilation import compile
from pullback.transforms.derivatives import jvp
from pullback.transforms.numerical import Comparison, Differences, GradientCheck, check_gradients


def check_grads(
    f: Function, *args: Any, order: int = 2, eps: float = 1e-6, rtol: float = 1e-6, atol: float = 1e-6
) -> GradientCheck:
    """Compare the derivatives of a function, on the tape and in forward mode, with central differences.

    args: arguments of the function; floating leaves are differentiated. order: 1 or 2. The other arguments are those
    of `check_gradients`. Returns `ok`, `max_error`, the place of the largest error, and in `uncertain` the places where
    the differences cancel. It takes several requests for each element of the arguments.

    >>> check_grads(lambda x: x["a"] ** 3, {"a": 2.0}).ok
    True

    Raises:
        TraceError: the function reads a value, so that it cannot be traced for forward mode.
    """
    leaves = trees.leaves(args)
    moved = [i for i, x in enumerate(leaves) if not isinstance(x, (bool, int)) and dtype_of(as_raw(x)).kind == "f"]

    def flat(*values: Any) -> list[Any]:
        return trees.leaves(f(*trees.unflatten(args, iter(values))))

    found = check_gradients(flat, *leaves, order=order, eps=eps, rtol=rtol, atol=atol)
    if not found.ok or not moved:
        return found

    def smooth(*xs: Any) -> list[Any]:
        full = list(leaves)
        for i, x in zip(moved, xs, strict=True):
            full[i] = x
        return [y for y in flat(*full) if _is_floating(y)]

    forward = _check_forward(smooth, [as_raw(leaves[i], FLOAT64) for i in moved], order, eps, Comparison(rtol, atol))
    return max(found, forward, key=lambda check: (not check.ok, check.max_error))


def _is_floating(y: Any) -> bool:
    dtype = y.dtype if hasattr(y, "dtype") else dtype_of(as_raw(y))
    return bool(dtype.kind == "f")


def _check_forward(f: Function, xs: list[Any], order: int, eps: float, comparison: Comparison) -> GradientCheck:
    """Compare derivatives along one direction, up to `order`, with central differences."""
    rng = np.random.default_rng(0)
    ts = [canonical(rng.uniform(0.5, 1.5, shape_of(x)).astype(dtype_of(x))) for x in xs]
    step = eps * max([1.0, *(float(np.max(np.abs(x), initial=0.0)) for x in xs)])
    for n in range(1, order + 1):

        def along(*at: Any, f: Function = f) -> list[Any]:
            found: list[Any] = jvp(f, at, ts)[1]
            return found

        high, low = (
            [as_raw(y) for y in compile(f)(*(x + h * t for x, t in zip(xs, ts, strict=True)))] for h in (step, -step)
        )
        with np.errstate(all="ignore"):
            pairs = list(zip(high, low, strict=True))
            numeric = Differences(
                [(a - b) / (2 * step) for a, b in pairs],
                [np.finfo(FLOAT64).eps * np.maximum(np.abs(a), np.abs(b)) / (2 * step) for a, b in pairs],
            )
        names = [f"output {k} along a tangent" for k in range(len(pairs))]
        comparison.add(n, names, lambda at, along=along: [as_raw(y) for y in along(*at)], xs, numeric)  # type: ignore[misc]
        f = along
    return comparison.result()
