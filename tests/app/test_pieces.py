"""JSON of large arrays, which is written in pieces: the same as that of small ones."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from app.wire.pieces import LARGE, is_large
from app.wire.values import dumps, encode
from tests.app.conftest import strict_json

SHAPES = [
    (LARGE + 1,),
    (LARGE * 3,),
    (1, LARGE + 1),
    (LARGE + 1, 1),
    (3, 2, LARGE),
    (LARGE + 1, 0),
    (LARGE + 1, 2, 0),
    (70, 70),
    (2, 1, 50, 60),
]


def written(array: np.ndarray[Any, Any]) -> Any:
    """Return the standard library's reading of its own JSON of a Python list."""
    text = json.dumps(array.tolist())
    for constant in ("NaN", "-Infinity", "Infinity"):
        text = text.replace(f" {constant}", f' "{constant}"').replace(f"[{constant}", f'["{constant}"')
    return json.loads(text)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_large_arrays_are_written_as_small_ones_are(shape: tuple[int, ...], dtype: str) -> None:
    chance = np.random.default_rng(3)
    array = (chance.normal(size=shape) * 100).astype(dtype)
    if dtype == "float64" and array.size:
        array.flat[0], array.flat[array.size // 2], array.flat[-1] = np.nan, np.inf, -np.inf
    assert is_large(array)
    assert strict_json(dumps({"a": encode(array, "nested"), "b": 1})) == {"a": written(array), "b": 1}
    flat = strict_json(dumps([encode(array, "flat")] * 2))
    assert flat == [{"shape": list(shape), "dtype": dtype, "data": written(array.reshape(-1))}] * 2
    packed = strict_json(dumps(encode(array, "base64")))
    assert base64.b64decode(packed["base64"], validate=True) == array.tobytes()


def test_other_layouts_are_written_in_c_order() -> None:
    array = np.arange(10_000.0).reshape(4, 50, 50).transpose(2, 0, 1)[::-1]
    assert is_large(array)
    assert strict_json(dumps(encode(array, "nested"))) == array.tolist()


@pytest.mark.parametrize("shape", [(), (LARGE,), (0, LARGE + 1), (0,)], ids=str)
def test_small_arrays_are_not_taken_to_pieces(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape)
    assert not is_large(array)
    assert strict_json(dumps(encode(array, "nested"))) == array.tolist()


def test_what_is_no_value_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable: set"):
        dumps({"a": {1}})
