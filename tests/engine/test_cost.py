"""Estimates of work: what a row counts for beside the elements of its result."""

from typing import Any

import numpy as np
import pytest

from engine import functions as F
from engine.core import OPERATIONS, Aval
from engine.core.table import rows
from engine.programs import parse
from engine.programs.evaluate import prepare


def flops(text: str, dtype: str = "float64", **shapes: list[int]) -> int:
    values: dict[str, Any] = {name: np.ones(shape, dtype) for name, shape in shapes.items()}
    return prepare(parse(text), values).cost.flops


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_products_of_integers_count_as_their_time_without_blas(dtype: str) -> None:
    for shapes in ({"x": [20, 20]}, {"x": [3, 4, 4]}, {"x": [20]}):
        assert flops("x @ x", dtype, **shapes) == 16 * flops("x @ x", **shapes)
    assert flops("x @ x", dtype, x=[100, 100]) == 32 * flops("x @ x", x=[100, 100])
    assert flops("x @ x", x=[20, 20]) == 2 * 20**3


@pytest.mark.parametrize(
    "row", ["inv(x)", "det(x)", "cholesky(x)", "solve(x, x)", "x @ x", "sum(grad(sum(det(x)), x))"]
)
def test_small_matrices_count_one_by_one(row: str) -> None:
    """10,000 matrices of one element take far longer than 10,000 additions; those without elements take time too."""
    assert flops(row, x=[10_000, 1, 1]) >= 100_000
    assert flops(row, x=[10_000, 0, 0]) >= 100_000
    assert flops(row, x=[100, 10, 10]) > 10 * flops(row, x=[10, 10, 10]) - 5_000


def test_solve_counts_matrices_and_right_sides() -> None:
    assert flops("solve(a, b)", a=[50, 1, 1], b=[1, 0]) >= 50 * 100
    assert flops("solve(a, b)", a=[50, 3, 3], b=[3]) < flops("solve(a, b)", a=[50, 3, 3], b=[3, 4])
    assert flops("solve(a, b)", a=[3, 3], b=[50, 3, 1]) == flops("solve(a, b)", a=[50, 3, 3], b=[3, 1])


def test_what_is_done_at_places_is_counted_though_the_result_is_small() -> None:
    x, places = np.ones(2), np.zeros(10_000, int)
    assert prepare(parse("scatter_add(x, i, u)"), {"x": x, "i": places, "u": 1.0}).cost.flops >= 600_000
    assert prepare(parse("take(x, i, axis=0)"), {"x": np.ones((2, 0)), "i": places}).cost.flops >= 100_000
    listed = str(places.tolist())
    assert prepare(parse(f"slice_add(x, 1.0, index=[{listed}])"), {"x": x}).cost.flops >= 600_000
    assert prepare(parse("slice_add(x, 1.0, index=[0])"), {"x": x}).cost.flops == 2


def test_reductions_of_short_rows_count_their_loops() -> None:
    assert flops("sum(x, axes=1)", x=[1000, 2]) == flops("sum(x, axes=0)", x=[2, 1000]) == 2_000 + 20 * 1000
    assert flops("sum(x, axes=1)", x=[40, 50]) == 2_000 + 20 * 50
    assert flops("max(x, axes=1)", x=[1000, 2]) == 2_000 + 100 * 1000
    assert flops("argmax(x)", x=[1000]) == 1_020


def test_operands_of_concat_count() -> None:
    assert flops("concat(x, x, x, axis=0)", x=[0]) == 600


ELEMENTWISE = sorted(
    {op.name for op in rows() if op.kind in ("elementwise", "bilinear") and op.body is None} - {"matmul"}
)
NEEDED: dict[str, dict[str, float]] = {"polygamma": {"n": 1}, "mask_fill": {"value": 0.0}}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_estimates_are_whole_numbers_for_shapes_beyond_memory(name: str) -> None:
    """Shapes of inputs that are only described go up to 2**62."""
    op, x = OPERATIONS[name], Aval((2**62, 2), np.dtype("float64"))
    found = op.flops(*[x] * len(op.operands), out=x, **op.bind([0.0] * op.required, NEEDED.get(name, {}))[1])
    assert type(found) is int
    assert found >= 2 * 2**62


@pytest.mark.parametrize("shape", [(40_000, 2, 2), (3, 1, 14_000, 2, 2), (2, 300, 300)], ids=str)
def test_large_stacks_of_cofactors_are_those_of_their_matrices(shape: tuple[int, ...]) -> None:
    """They are decomposed some at a time."""
    g, x = np.random.default_rng(0).normal(size=(2, *shape))
    cofactors, slopes = F.cofactor(x), F.cofactor_slope(g, x)
    for part in (0.0, 0.5, 0.999):
        i = tuple(int(n * part) for n in shape[:-2])
        np.testing.assert_array_equal(cofactors[i], F.cofactor(x[i]))
        np.testing.assert_array_equal(slopes[i], F.cofactor_slope(g[i], x[i]))
