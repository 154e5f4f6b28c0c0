"""Linear algebra: systems, inverses, determinants, Cholesky factors, against closed forms and NumPy."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Variable
from engine import functions as F
from engine.core.errors import AutogradError, BadAttributeError, ShapeMismatchError
from engine.graph import Graph
from engine.programs import build, parse
from engine.programs.evaluate import prepare
from engine.transforms import grad, jacobian, vmap
from engine.transforms.numerical import check_gradients

Array = npt.NDArray[Any]

SHAPES = [(1, 1), (2, 2), (3, 3), (4, 2, 2), (2, 3, 4, 4), (0, 0), (2, 0, 0), (0, 2, 2), (5, 5)]


def matrices(*shape: int, seed: int = 0) -> Array:
    """Far from singular: normal numbers, and the diagonal apart from 0."""
    x = np.random.default_rng(seed).normal(size=shape)
    return x + 3.0 * np.eye(shape[-1])


def definite(*shape: int, seed: int = 0) -> Array:
    x = matrices(*shape, seed=seed)
    return x @ np.swapaxes(x, -1, -2)


def gradient(f: Callable[[Variable], Variable], x: Array, cotangent: Any = None) -> Array:
    v = Variable(x)
    f(v).backward(cotangent=cotangent)
    assert v.grad is not None
    return np.asarray(v.grad.data)


def hilbert(n: int) -> Array:
    return np.array([[1 / (i + j + 1) for j in range(n)] for i in range(n)])


def minors(x: Array) -> Array:
    """Cofactors by their definition, in exact arithmetic."""

    def det(rows: list[list[Fraction]]) -> Fraction:
        if not rows:
            return Fraction(1)
        first, rest = rows[0], rows[1:]
        return sum(
            ((-1) ** j * first[j] * det([row[:j] + row[j + 1 :] for row in rest]) for j in range(len(first))),
            Fraction(0),
        )

    rows = [[Fraction(float(e)) for e in row] for row in x]
    n = len(rows)
    return np.array(
        [
            [float((-1) ** (i + j) * det([r[:j] + r[j + 1 :] for k, r in enumerate(rows) if k != i])) for j in range(n)]
            for i in range(n)
        ]
    ).reshape(n, n)


# Values


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_stacks_are_those_of_numpy(shape: tuple[int, ...]) -> None:
    x = matrices(*shape)
    np.testing.assert_array_equal(F.inv(x), np.linalg.inv(x))
    np.testing.assert_array_equal(F.det(x), np.linalg.det(x))
    sign, logabsdet = F.slogdet(x)
    np.testing.assert_array_equal(sign, np.linalg.slogdet(x).sign)
    np.testing.assert_array_equal(logabsdet, np.linalg.slogdet(x).logabsdet)
    p = definite(*shape)
    np.testing.assert_allclose(F.cholesky(p), np.linalg.cholesky(p), rtol=1e-12)
    np.testing.assert_array_equal(F.cholesky(p, upper=True), np.swapaxes(F.cholesky(p), -1, -2))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 3), (3,)),
        ((3, 3), (3, 2)),
        ((4, 3, 3), (3,)),
        ((4, 3, 3), (3, 2)),
        ((3, 3), (4, 3, 2)),
        ((4, 1, 3, 3), (2, 3, 1)),
        ((0, 0), (0,)),
        ((0, 0), (0, 2)),
        ((3, 3), (3, 0)),
        ((0, 3, 3), (3, 1)),
        ((2, 2, 2), (2, 2)),
    ],
    ids=str,
)
def test_solve_is_that_of_numpy(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = matrices(*a), np.random.default_rng(1).normal(size=b)
    np.testing.assert_allclose(F.solve(x, y), np.linalg.solve(x, y), rtol=1e-12)


def test_closed_forms() -> None:
    # The inverse of a Hilbert matrix is integral: Choi, Tricks or treats with the Hilbert matrix (1983).
    n = 5
    inverse = [
        [
            (-1) ** (i + j) * (i + j + 1) * comb(n + i, n - j - 1) * comb(n + j, n - i - 1) * comb(i + j, i) ** 2
            for j in range(n)
        ]
        for i in range(n)
    ]
    np.testing.assert_allclose(F.inv(hilbert(n)), inverse, rtol=1e-10)
    np.testing.assert_allclose(F.solve(hilbert(n), np.eye(n)), inverse, rtol=1e-10)
    assert F.det(hilbert(n)) == pytest.approx(1 / 266716800000, rel=1e-10)
    # A symmetric Pascal matrix is the square of the triangle of binomials, and its determinant is 1.
    pascal = np.array([[comb(i + j, i) for j in range(8)] for i in range(8)], float)
    triangle = [[comb(i, j) for j in range(8)] for i in range(8)]
    np.testing.assert_allclose(F.cholesky(pascal), triangle, atol=1e-12)
    assert F.slogdet(pascal)[1] == pytest.approx(0.0, abs=1e-10)
    assert F.det(pascal) == pytest.approx(1.0, rel=1e-10)


def test_matrices_without_rows() -> None:
    empty = np.zeros((0, 0))
    assert F.det(empty) == 1.0
    assert F.slogdet(empty) == (1.0, 0.0)
    np.testing.assert_array_equal(F.det(np.zeros((2, 0, 0))), [1.0, 1.0])
    assert gradient(F.det, empty).shape == (0, 0)


@pytest.mark.parametrize("dtype", ["int64", "bool", "float32"])
def test_dtypes(dtype: str) -> None:
    x = np.eye(3).astype(dtype)
    expected = "float32" if dtype == "float32" else "float64"
    results = [
        F.inv(x),
        F.cholesky(x),
        F.cofactor(x),
        F.solve(x, x[0]),
        F.solve(x.astype("float32"), x),
        F.det(x[None]),
    ]
    wide = "float64" if dtype == "int64" else "float32"
    for y, want in zip(results, [expected] * 4 + [wide, expected], strict=True):
        assert str(y.dtype) == want


# What is not finite


def test_a_singular_matrix_is_nan_by_itself() -> None:
    x = matrices(6, 3, 3)
    b = np.random.default_rng(2).normal(size=(3, 2))
    good = [0, 2, 3, 5]
    inverse, solution = F.inv(x), F.solve(x, b)
    x[1] = 0.0
    x[4] = np.ones((3, 3))
    for y, before in ((F.inv(x), inverse), (F.solve(x, b), solution)):
        np.testing.assert_array_equal(y[good], before[good])
        assert np.isnan(y[[1, 4]]).all()
    vector = F.solve(x, b[:, 0])
    np.testing.assert_allclose(vector[good], solution[good, :, 0], rtol=1e-12)
    assert np.isnan(vector[[1, 4]]).all()
    crossed = F.solve(x[:, None], np.stack([b, -b]))
    assert crossed.shape == (6, 2, 3, 2)
    np.testing.assert_array_equal(np.isnan(crossed).all((1, 2, 3)), np.isnan(crossed).any((1, 2, 3)))
    assert np.isnan(F.inv(np.zeros((2, 2)))).all()
    assert F.solve(np.zeros((2, 2)), np.ones((2, 0))).shape == (2, 0)


def test_gradients_of_the_others_stay_right() -> None:
    x = matrices(3, 2, 2)
    expected = gradient(lambda v: F.sum(F.inv(v)), x)
    x[1] = 1.0
    found = gradient(lambda v: F.sum(F.inv(v)), x)
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])
    assert np.isnan(found[1]).all()


def test_a_matrix_that_is_not_positive_definite_is_nan_by_itself() -> None:
    x = definite(5, 3, 3)
    expected = F.cholesky(x)
    gradients = gradient(lambda v: F.sum(F.cholesky(v)), x)
    x[0] = -np.eye(3)
    x[3] = 0.0
    found = F.cholesky(x)
    np.testing.assert_array_equal(found[[1, 2, 4]], expected[[1, 2, 4]])
    assert np.isnan(found[[0, 3]]).all()
    np.testing.assert_allclose(gradient(lambda v: F.sum(F.cholesky(v)), x)[[1, 2, 4]], gradients[[1, 2, 4]], rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_matrix(bad: float) -> None:
    x = definite(3, 3, 3)
    rows = [F.inv, F.det, F.cholesky, F.cofactor, lambda v: F.slogdet(v)[1], lambda v: F.solve(v, np.ones(3))]
    expected = [f(x) for f in rows]
    x[1, 2, 0] = bad
    for f, before in zip(rows, expected, strict=True):
        np.testing.assert_allclose(f(x)[[0, 2]], before[[0, 2]], rtol=1e-12)
    # The search for singular values need not end where there is an infinity.
    assert np.isnan(F.cofactor(x)[1]).all()


def test_a_large_stack_with_one_singular_matrix() -> None:
    x = np.broadcast_to(2.0 * np.eye(2), (100_000, 2, 2)).copy()
    x[77_777] = 0.0
    y = F.inv(x)
    assert np.isnan(y[77_777]).all()
    assert np.isnan(y).sum() == 4
    np.testing.assert_array_equal(y[0], 0.5 * np.eye(2))


# Derivatives

SINGULAR = {
    "no rank 1x1": np.zeros((1, 1)),
    "rank 1 of 2": np.array([[1.0, 2.0], [2.0, 4.0]]),
    "rank 0 of 2": np.zeros((2, 2)),
    "rank 2 of 3": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]),
    "rank 1 of 3": np.outer([1.0, -2.0, 0.5], [3.0, 1.0, 2.0]),
    "rank 0 of 3": np.zeros((3, 3)),
    "rank 3 of 4": np.array([[1.0, 2, 0, 1], [0, 1, 1, 3], [1, 3, 1, 4], [2, 0, 1, 1]]),
    "rank 2 of 4": np.diag([0.0, 2.0, 0.0, -3.0]),
    "rank 4 of 5": np.diag([5.0, 4.0, 3.0, 2.0], k=1),
}


@pytest.mark.parametrize("x", SINGULAR.values(), ids=SINGULAR)
def test_gradient_of_det_at_a_singular_matrix_is_the_cofactors(x: Array) -> None:
    assert F.det(x) == pytest.approx(0.0, abs=1e-14)
    np.testing.assert_allclose(gradient(F.det, x), minors(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_cofactors_are_det_times_the_inverse(n: int) -> None:
    x = matrices(5, n, n)
    expected = np.linalg.det(x)[:, None, None] * np.swapaxes(np.linalg.inv(x), -1, -2)
    np.testing.assert_allclose(F.cofactor(x), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(F.cofactor(x)[2], minors(x[2]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("x", SINGULAR.values(), ids=SINGULAR)
def test_hessian_of_det_at_a_singular_matrix(x: Array) -> None:
    found = check_gradients(F.cofactor, x, order=1 if len(x) > 3 else 2)
    assert found.ok, str(found)


def expansion(x: Any) -> Fraction:
    """The determinant as a sum over permutations, without rounding."""
    n = len(x)
    total = Fraction(n == 0)
    for order in permutations(range(n)) if n else ():
        swaps = sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n))
        total += (-1) ** swaps * math.prod((Fraction(float(x[i, order[i]])) for i in range(n)), start=Fraction(1))
    return total


def second_derivatives(x: Array) -> Array:
    """Of det: with respect to elements in two rows and two columns the signed minor without these."""
    n = len(x)
    found = np.zeros((n,) * 4)
    for i, k in permutations(range(n), 2):
        for j, m in permutations(range(n), 2):
            rest = np.delete(np.delete(x, [i, k], 0), [j, m], 1)
            sign = (-1) ** (i + j + k + m + (i > k) + (j > m))
            found[i, j, k, m] = sign * float(expansion(rest))
    return found


def of_rank(n: int, rank: int, seed: int) -> Array:
    """A matrix of small integers."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-2, 3, (n, rank)) @ rng.integers(-2, 3, (rank, n))).astype(float)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_second_derivatives_of_det_at_every_rank(n: int) -> None:
    """Regular and singular matrices in one stack, by each way to a Hessian; they vanish below rank n - 2."""
    x = np.stack([of_rank(n, rank, seed) for rank in range(n + 1) for seed in (1, 2)])
    expected = np.stack([second_derivatives(each) for each in x])
    scale = np.abs(x).max() ** (n - 2)
    for order in ("reverse", "forward"):
        found = vmap(jacobian(grad(F.det), mode=order))(x)
        np.testing.assert_allclose(found, expected, 1e-12, 1e-14 * n**2 * scale, err_msg=order)
    v = Variable(x)
    F.sum(F.det(v)).backward(create_graph=True)
    weights = np.random.default_rng(3).uniform(-1.0, 1.0, x.shape)
    first, v.grad = v.grad, None
    F.sum(first * weights).backward()
    expected = np.einsum("bijkl,bij->bkl", expected, weights)
    np.testing.assert_allclose(v.grad.data, expected, 1e-12, 1e-14 * n**2 * scale)


def test_second_derivatives_of_det_near_singular_matrices() -> None:
    """No digit is lost to a division by what is nearly 0, nor to a graded scale."""
    for small in (1e-3, 1e-8, 1e-15, 1e-30, 1e-200):
        for numbers in ([small, 1.0, 2.0, 3.0], [small, small, 2.0, 3.0], [small, 2 * small, 3 * small, 3.0, 1.0]):
            x = np.diag(numbers)
            expected = second_derivatives(x)
            found = jacobian(grad(F.det))(x)
            np.testing.assert_allclose(found, expected, 1e-13, 0.0, err_msg=str(numbers))


def test_third_derivatives_of_det() -> None:
    x = matrices(2, 4, 4)
    found = check_gradients(lambda g, x: F.cofactor_slope(g, x), matrices(2, 4, 4)[::-1], x)
    assert found.ok, str(found)
    assert np.isfinite(F.cofactor_slope(np.ones((4, 4)), np.full((4, 4), np.nan))).sum() == 0


def test_log_det_of_a_large_matrix() -> None:
    n = 300
    x = 1e3 * (matrices(n, n) + n * np.eye(n))
    assert F.det(x) == np.inf
    v = Variable(x)
    sign, logabsdet = F.slogdet(v)
    assert sign.item() == 1.0
    assert sign.creator is None
    assert logabsdet.item() == pytest.approx(np.sum(np.log(np.abs(np.linalg.eigvals(x)))), rel=1e-12)
    logabsdet.backward()
    assert v.grad is not None
    np.testing.assert_allclose(v.grad.data, np.linalg.inv(x).T, rtol=1e-10)


def test_second_derivatives_of_log_det() -> None:
    """d2 log det(x) [a, b] = -tr(inv(x) a inv(x) b): Petersen and Pedersen, The Matrix Cookbook (2012), eq. 63."""
    x, rng = matrices(4, 4), np.random.default_rng(3)
    a, b = rng.normal(size=(2, 4, 4))
    v = Variable(x)
    F.slogdet(v)[1].backward(create_graph=True)
    assert v.grad is not None
    slope = F.sum(v.grad * a)
    v.cleargrad()
    slope.backward()
    assert v.grad is not None
    inverse = np.linalg.inv(x)
    assert np.sum(v.grad.data * b) == pytest.approx(-np.trace(inverse @ a @ inverse @ b), rel=1e-12)
    assert F.slogdet(-np.eye(3)) == (-1.0, 0.0)


def test_gradients_of_solve_and_inverse() -> None:
    """Of y = inv(a) b: b gets inv(a).T g, and a gets -inv(a).T g y.T (Giles 2008, 2.3.1)."""
    rng = np.random.default_rng(4)
    a, b, g = matrices(5, 5), rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    va, vb = Variable(a), Variable(b)
    F.solve(va, vb).backward(cotangent=g)
    assert va.grad is not None
    assert vb.grad is not None
    t = np.linalg.inv(a).T
    np.testing.assert_allclose(vb.grad.data, t @ g, rtol=1e-11)
    np.testing.assert_allclose(va.grad.data, -t @ g @ (np.linalg.inv(a) @ b).T, rtol=1e-11)
    square = rng.normal(size=(5, 5))
    np.testing.assert_allclose(gradient(F.inv, a, square), -t @ square @ t, rtol=1e-11)


def test_cholesky_sees_the_symmetric_part() -> None:
    p, rng = definite(4, 4), np.random.default_rng(5)
    skew = rng.normal(size=(4, 4))
    np.testing.assert_allclose(F.cholesky(p + skew - skew.T), F.cholesky(p), rtol=1e-12)
    g = rng.normal(size=(4, 4))
    found = gradient(F.cholesky, p, g)
    np.testing.assert_array_equal(found, found.T)
    # The part of the cotangent where the factor is always 0 counts for nothing.
    np.testing.assert_allclose(gradient(F.cholesky, p, np.tril(g)), found, rtol=1e-12)
    np.testing.assert_allclose(gradient(lambda v: F.cholesky(v, upper=True), p, g.T), found, rtol=1e-12)


def test_cholesky_gives_log_det_as_well() -> None:
    p = definite(5, 5)
    by_factor = gradient(lambda v: 2.0 * F.sum(F.log(F.diagonal(F.cholesky(v)))), p)
    np.testing.assert_allclose(by_factor, np.linalg.inv(p), rtol=1e-10, atol=1e-12)


def value(graph: Graph, **inputs: Any) -> Any:
    """What a program gives for lists of numbers."""
    return prepare(graph, {name: np.array(x) for name, x in inputs.items()}).run().values["y"]


def test_in_programs() -> None:
    graph = parse("s, l = slogdet(x); y = l + s * trace(inv(x) @ x)")
    assert value(graph, x=[[2.0, 1.0], [0.5, -1.0]]) == pytest.approx(np.log(2.5) - 2.0)
    factor = {"id": "l", "op": "cholesky", "args": ["p"], "attrs": {"upper": False}}
    graph = build({"nodes": [factor, {"id": "y", "op": "solve", "args": ["l", "b"]}]})
    np.testing.assert_allclose(value(graph, p=[[4.0, 2.0], [2.0, 5.0]], b=[2.0, 5.0]), [1.0, 2.0])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        pytest.param(lambda: F.inv(np.ones((2, 3))), ShapeMismatchError, r"inv: .* square .* \(2, 3\)", id="inv 2x3"),
        pytest.param(lambda: F.det(np.ones(3)), ShapeMismatchError, r"det: .* \(3,\)", id="det of a vector"),
        pytest.param(lambda: F.det(2.0), ShapeMismatchError, r"det: .* \(\)", id="det of a scalar"),
        pytest.param(lambda: F.slogdet(np.ones((3, 2))), ShapeMismatchError, "slogdet: .*square", id="slogdet 3x2"),
        pytest.param(lambda: F.cholesky(np.ones((3, 2))), ShapeMismatchError, "cholesky: .*square", id="cholesky 3x2"),
        pytest.param(
            lambda: F.solve(np.eye(3), np.ones((2, 3))),
            ShapeMismatchError,
            r"solve: .*\(3, 3\) .* 3 rows, got shape \(2, 3\)",
            id="rows",
        ),
        pytest.param(lambda: F.solve(np.eye(3), 1.0), ShapeMismatchError, r"got shape \(\)", id="scalar on the right"),
        pytest.param(
            lambda: F.solve(np.ones((2, 3, 3)), np.ones((4, 3, 1))),
            ShapeMismatchError,
            "broadcast: 2 != 4",
            id="stacks",
        ),
        pytest.param(lambda: F.cholesky(np.eye(2), upper=1), BadAttributeError, "upper is 1", id="upper"),
    ],
)
def test_errors(call: Callable[[], Any], kind: type[AutogradError], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


@given(seed=st.integers(0, 10**6), n=st.integers(1, 4), batch=st.sampled_from([(), (2,), (2, 1)]))
def test_solutions_solve(seed: int, n: int, batch: tuple[int, ...]) -> None:
    a = matrices(*batch, n, n, seed=seed) + 3.0 * n * np.eye(n)
    b = np.random.default_rng(seed + 1).normal(size=(n, 2))
    np.testing.assert_allclose(a @ F.solve(a, b), np.broadcast_to(b, (*batch, n, 2)), atol=1e-12)
    np.testing.assert_allclose(F.inv(a) @ a, np.broadcast_to(np.eye(n), a.shape), atol=1e-12)
    sign, logabsdet = F.slogdet(a)
    np.testing.assert_allclose(sign * np.exp(logabsdet), F.det(a), rtol=1e-12)
