"""Stacks of matrices some of which LAPACK rejects: each result is that of the matrix by itself, bit for bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine import functions as F
from engine.transforms import grad, hvp, jvp

Array = npt.NDArray[Any]
Function = Callable[..., Any]

PATTERNS: dict[str, list[int]] = {
    "none": [],
    "first": [0],
    "last": [6],
    "one": [3],
    "even": [0, 2, 4, 6],
    "odd": [1, 3, 5],
    "all but one": [0, 1, 2, 4, 5, 6],
    "all": list(range(7)),
}
ROWS: dict[str, Function] = {
    "inv": F.inv,
    "solve": lambda x: F.solve(x, x + 1.0),
    "solve of a stack": lambda x: F.solve(x, x[..., :1]),
    "cholesky": F.cholesky,
    "upper": lambda x: F.cholesky(x, upper=True),
    "det": F.det,
    "sign": lambda x: F.slogdet(x)[0],
    "slogdet": lambda x: F.slogdet(x)[1],
    "cofactor": F.cofactor,
}
DERIVATIVES: dict[str, Callable[[Function], Function]] = {
    "value": lambda f: f,
    "vjp": lambda f: grad(lambda x: F.sum(f(x))),
    "jvp": lambda f: lambda x: jvp(f, (x,), (np.cos(x),))[1],
    "second": lambda f: lambda x: hvp(lambda v: F.sum(f(v)), (x,), (np.cos(x),))[0],
}
SINGULAR: dict[str, Callable[[int], Array]] = {
    "zeros": lambda n: np.zeros((n, n)),
    "equal rows": lambda n: np.ones((n, n)) - np.eye(n, 1),
    "infinite": lambda n: np.full((n, n), np.inf),
    "not a number": lambda n: np.full((n, n), np.nan),
}


def stack(n: int, rejected: list[int], kind: str, dtype: str) -> Array:
    """Return 7 definite matrices, those of some places replaced by one that LAPACK rejects."""
    x = np.random.default_rng(n).normal(size=(7, n, n))
    x = x @ np.swapaxes(x, -1, -2) + np.eye(n)
    x[rejected] = SINGULAR[kind](n)
    return x.astype(dtype)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_a_stack_is_its_matrices_one_at_a_time(name: str, derivative: str) -> None:
    f = DERIVATIVES[derivative](ROWS[name])
    for pattern, rejected in PATTERNS.items():
        for n, kind, dtype in ((1, "zeros", "float64"), (2, "equal rows", "float64"), (3, "zeros", "float32")):
            x = stack(n, rejected, kind, dtype)
            found, expected = f(x), np.stack([np.asarray(f(x[i : i + 1]))[0] for i in range(len(x))])
            np.testing.assert_array_equal(found, expected, err_msg=f"{pattern}, {n} rows")
            assert found.dtype == expected.dtype == dtype


@pytest.mark.parametrize("kind", SINGULAR)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rejected", PATTERNS.values(), ids=PATTERNS)
def test_values_are_those_of_numpy(rejected: list[int], dtype: str, kind: str) -> None:
    x = stack(3, rejected, kind, dtype)
    b = np.arange(6.0).reshape(3, 2)
    pairs = (
        (F.inv(x), np.linalg.inv),
        (F.solve(x, b), lambda m: np.linalg.solve(m, b)),
        (F.cholesky(x), lambda m: np.linalg.cholesky(0.5 * m + 0.5 * m.T)),
    )
    for found, alone in pairs:
        for y, matrix in zip(found, x, strict=True):
            try:
                with np.errstate(all="ignore"):
                    expected = alone(matrix)
            except np.linalg.LinAlgError:
                expected = np.full_like(y, np.nan)
            np.testing.assert_array_equal(y, expected)


def test_right_sides_that_are_stacked_across() -> None:
    x = stack(2, [1, 4], "zeros", "float64")
    b = np.random.default_rng(1).normal(size=(3, 2, 4))
    found = F.solve(x[:, None], b)
    for i, matrix in enumerate(x):
        for j, side in enumerate(b):
            np.testing.assert_array_equal(found[i, j], F.solve(matrix, side))
    assert np.isnan(found[[1, 4]]).all() and np.isfinite(found[[0, 2, 3, 5, 6]]).all()


def test_a_stack_of_zeros_on_all_ways() -> None:
    """The same stack through the derivatives of a program that is compiled."""
    x = np.zeros((2000, 1, 1))
    for f in (F.inv, F.cholesky, lambda v: F.solve(v, np.ones((1, 1)))):
        assert np.isnan(f(x)).all()
        assert np.isnan(grad(lambda v, f=f: F.sum(f(v)))(x)).all()
