"""Comparison of nested containers of values, for tests."""

from typing import Any

import numpy as np


def assert_same(found: Any, expected: Any, rtol: float = 1e-12, atol: float = 1e-13) -> None:
    """Same structure, shapes and dtypes; plain values where plain ones are expected."""
    assert type(found) is type(expected), f"{type(found).__name__} in place of {type(expected).__name__}"
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key], rtol, atol)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, rtol, atol)
    elif expected is not None:
        assert np.shape(found) == np.shape(expected)
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)
