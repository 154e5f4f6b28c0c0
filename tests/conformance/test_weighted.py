"""What the golden cases leave open: second gradients of variance, concat and split, under cotangents that are not ones.

The ancestor differentiates a sum, in which the second gradients of these cancel or vanish. Here each output has a
weight of its own (`check_gradients` draws them), and a square or a product after the operation gives it curvature.
"""

from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.transforms.numerical import check_gradients

RNG = np.random.default_rng(20240607)
X = RNG.normal(size=(2, 3, 4))
A, B, C = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 1)), RNG.normal(size=(2, 2))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axes", [None, 0, 1, -1, [0, 2], [-1, -3], [0, 1, 2]])
def test_variance(axes: Any, keepdims: bool) -> None:
    report = check_gradients(lambda x: F.variance(x, axes=axes, keepdims=keepdims), X)
    assert report.ok, report


def test_second_gradient_of_a_weighted_variance_in_closed_form() -> None:
    """For w * var(x) it is w * 2/n * (I - 1/n)."""
    n, weight = 5, 1.7
    values = RNG.normal(size=n)
    for k in range(n):
        x = Variable(values)
        F.variance(x).backward(create_graph=True, cotangent=weight)
        gradient, direction = x.grad, np.eye(n)[k]
        x.cleargrad()
        assert gradient is not None
        gradient.backward(cotangent=direction)
        assert x.grad is not None
        np.testing.assert_allclose(x.grad.data, weight * 2 / n * (direction - 1 / n), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("function", "xs"),
    [
        (lambda a, b, c: F.concat(a, b, c, axis=1), (A, B, C)),
        (lambda a, b, c: F.square(F.concat(a, b, c, axis=-1)), (A, B, C)),
        (lambda a: F.square(F.concat(a, a * a, axis=0)), (A,)),
        (lambda a, b: F.concat(F.sin(a), b, axis=1) * F.concat(b, a, axis=1), (A, B)),
    ],
    ids=["plain", "squared", "with itself", "two of them"],
)
def test_concat(function: Any, xs: tuple[Any, ...]) -> None:
    report = check_gradients(function, *xs)
    assert report.ok, report


@pytest.mark.parametrize(("sizes", "axis"), [([1, 1], 0), ([2, 1], 1), ([1, 0, 3], 2), ([3, 1], -1)])
@pytest.mark.parametrize("take", ["each", "all"])
def test_split(sizes: list[int], axis: int, take: str) -> None:
    functions = [lambda x, k=k: F.square(F.split(x, sizes, axis=axis)[k]) for k in range(len(sizes))]
    if take == "all":
        functions = [lambda x: [F.exp(part) for part in F.split(x, sizes, axis=axis)]]
    for function in functions:
        report = check_gradients(function, X)
        assert report.ok, report


def test_split_undoes_concat() -> None:
    report = check_gradients(lambda a, b: [p * p for p in F.split(F.concat(a, b, axis=1), [3, 1], axis=1)], A, B)
    assert report.ok, report


class TestWhereTheAncestorPanics:
    """The deviations of its notes that are errors there."""

    @pytest.mark.parametrize("function", [F.mean, F.variance])
    def test_negative_axes(self, function: Any) -> None:
        report = check_gradients(lambda x: function(x, axes=-2), X)
        assert report.ok, report

    def test_transpose_without_axes(self) -> None:
        report = check_gradients(lambda x: F.square(F.transpose(x)), X)
        assert report.ok, report

    def test_a_mask_that_is_neither_zero_nor_one(self) -> None:
        x = Variable(A)
        F.mask_fill(x, np.array([[0.0, 2.0, -1.0], [0.5, 0.0, 3.0]]), value=-7.0).backward()
        assert x.grad is not None
        np.testing.assert_array_equal(x.grad.data, [[0, 1, 1], [1, 0, 1]])
