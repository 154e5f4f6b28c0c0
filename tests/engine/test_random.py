"""Zeros, ones and random numbers: shapes, dtypes, seeds."""

from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine.core.errors import BadAttributeError, InvalidValueError
from engine.random import normal, ones, ones_like, rand, randn, zeros, zeros_like

DRAWS = {"rand": rand, "randn": randn, "normal": normal}


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), 3, (2, 0), [2, 3]])
def test_zeros_and_ones(shape: Any, dtype: str) -> None:
    for make, like, value in ((zeros, zeros_like, 0), (ones, ones_like, 1)):
        v = make(shape, dtype=dtype)
        expected = tuple(np.atleast_1d(shape).astype(int)) if shape != () else ()
        for w in (v, like(v), like(np.full(expected, 5, dtype))):
            assert isinstance(w, Variable)
            assert (w.shape, w.dtype) == (expected, np.dtype(dtype))
            assert np.all(np.asarray(w.data) == value)
    assert zeros_like(0.5).shape == ()
    assert ones_like([1, 2]).dtype == np.float64


@pytest.mark.parametrize("name", DRAWS)
class TestDraws:
    def test_a_seed_gives_the_same_numbers_each_time(self, name: str) -> None:
        a, b, c = (DRAWS[name]((2, 3), rng=seed) for seed in (1, np.int64(1), 2))
        assert np.array_equal(a.data, b.data)
        assert not np.array_equal(a.data, c.data)

    def test_a_generator_goes_on(self, name: str) -> None:
        rng = np.random.default_rng(1)
        a, b = DRAWS[name](3, rng=rng), DRAWS[name](3, rng=rng)
        assert np.array_equal(a.data, DRAWS[name](3, rng=1).data)
        assert not np.array_equal(a.data, b.data)

    @pytest.mark.parametrize("shape", [(), (0,), 4, (2, 1)])
    def test_shape_and_dtype(self, name: str, shape: Any) -> None:
        for dtype in ("float64", "float32"):
            v = DRAWS[name](shape, rng=0, dtype=dtype)
            assert v.dtype == dtype
            assert v.shape == (np.zeros(shape).shape)

    @pytest.mark.parametrize("rng", [None, True, -1, 1.5, "7", np.random.RandomState(0)])
    def test_there_is_no_hidden_state(self, name: str, rng: Any) -> None:
        with pytest.raises(BadAttributeError, match=f"{name}: rng is .*; expected a seed"):
            DRAWS[name](3, rng=rng)
        with pytest.raises(TypeError):
            DRAWS[name](3)

    @pytest.mark.parametrize("shape", [-1, (2, -1), 1.5, ("3",)])
    def test_shapes_are_checked(self, name: str, shape: Any) -> None:
        with pytest.raises(BadAttributeError, match=f"{name}: attribute shape"):
            DRAWS[name](shape, rng=0)

    def test_dtypes_are_checked(self, name: str) -> None:
        with pytest.raises(BadAttributeError, match=f"{name}: dtype is int64; expected float64 or float32"):
            DRAWS[name](3, rng=0, dtype="int64")
        with pytest.raises(InvalidValueError, match="dtype complex128"):
            DRAWS[name](3, rng=0, dtype=complex)


def test_distributions() -> None:
    n = 100_000
    uniform, standard, shifted = rand(n, rng=0).data, randn(n, rng=0).data, normal(n, 3.0, 0.5, rng=0).data
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01
    assert abs(standard.mean()) < 0.02
    assert abs(standard.std() - 1) < 0.02
    assert abs(shifted.mean() - 3) < 0.01
    assert abs(shifted.std() - 0.5) < 0.01


def test_the_global_state_of_numpy_is_not_touched() -> None:
    before = np.random.get_state(legacy=False)["state"]["key"].copy()
    rand(5, rng=0)
    assert np.array_equal(before, np.random.get_state(legacy=False)["state"]["key"])
