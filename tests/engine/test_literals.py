"""Values of documents: what is taken, in which form, and what is said of the element that is wrong."""

import base64
import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.core.errors import InvalidValueError
from engine.core.values import BOOL, DTYPES, FLOAT32, FLOAT64, INT64, MAX_AXES
from engine.programs.literals import decode_value, strong_value
from tests.engine.graphs import quickly, shown_literal

LOC = ("inputs", "x")


def flat(shape: Any, dtype: Any, data: Any) -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype, "data": data}


def packed(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return {"shape": list(array.shape), "dtype": str(array.dtype), "base64": base64.b64encode(data).decode()}


VALUES = [
    (2, "2"),
    (2.0, "2.0"),
    (True, "True"),
    ("NaN", "nan"),
    ("-Infinity", "-inf"),
    ([], "[]"),
    ([[], []], "[[], []]"),
    ([1, 2], "[1, 2]"),
    ([1, 2.0], "[1.0, 2.0]"),
    ([[1, 2], [3, 4]], "[[1, 2], [3, 4]]"),
    ([True, False], "[True, False]"),
    ([1, "NaN", "Infinity"], "[1.0, nan, inf]"),
    ([[[1.5]]], "[[[1.5]]]"),
    (flat([], "float64", [7]), "float64 7.0"),
    (flat([2], "int64", [2**53 + 1, 1.0]), f"int64[{2**53 + 1}, 1]"),
    (flat([1, 2], "float32", [0.5, "NaN"]), "float32[[0.5, nan]]"),
    (flat([2], "bool", [1, 0.0]), "bool[True, False]"),
    (flat([2], "float64", [True, False]), "float64[1.0, 0.0]"),
    (flat([0, 3], "float32", []), "float32[]"),
    (flat([2], "int64", b"\1" + b"\0" * 7 + b"\2" + b"\0" * 7), "int64[1, 2]"),
    (packed(np.array([1.0, -0.0])), "float64[1.0, -0.0]"),
    (packed(np.array([[True], [False]])), "bool[[True], [False]]"),
    (packed(np.array(2.5, np.float32)), "float32 2.5"),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=[f"{n}: {row[1]}" for n, row in enumerate(VALUES)])
def test_values(value: Any, expected: str) -> None:
    assert shown_literal(decode_value(value)) == expected


CONVERSIONS = [
    (3, FLOAT64, "float64 3.0"),
    (3, FLOAT32, "float32 3.0"),
    ([0.1], FLOAT32, f"float32[{float(np.float32(0.1))}]"),
    ([2**53 + 1, -(2**63)], INT64, f"int64[{2**53 + 1}, {-(2**63)}]"),
    ([2.0, 3], INT64, "int64[2, 3]"),
    ([1, 0], BOOL, "bool[True, False]"),
    ([True], FLOAT64, "float64[1.0]"),
    ("NaN", FLOAT32, "float32 nan"),
    (flat([1], "float64", [0.5]), FLOAT32, "float32[0.5]"),
    (flat([1], "float64", [2.0]), INT64, "int64[2]"),
    (flat([1], "int64", [2**53]), FLOAT64, f"float64[{2.0**53}]"),
    ([], INT64, "int64[]"),
]


@pytest.mark.parametrize(("value", "dtype", "expected"), CONVERSIONS, ids=[row[2] for row in CONVERSIONS])
def test_a_stated_dtype_is_converted_to(value: Any, dtype: Any, expected: str) -> None:
    literal = decode_value(value, LOC, dtype)
    assert np.asarray(literal.value).dtype == dtype
    assert shown_literal(literal) == expected


FAULTS = [
    # value, where below LOC, words of the message
    ([[1, 2]] * 7 + [[1, 2, 3]], (7,), "[7] 3 2 rectangular"),
    ([[[1, 2], [3, 4]], [[5, 6], [7]]], (1, 1), "[1, 1] rectangular"),
    ([1, [2]], (1,), "[1] rectangular"),
    ([[1], 2], (1,), "2 [1] rectangular"),
    (None, (), "null"),
    ([0] * 7 + [None], (7,), "null [7]"),
    ([[0] * 6, [0] * 5 + [None]], (1, 5), "null [1, 5]"),
    ([0] * 7 + [True], (7,), "true [7] mix"),
    ([[True, False], [True, 2.0]], (1, 1), "2.0 [1, 1] mix"),
    ([True, "NaN"], (1,), "NaN mix"),
    ("abc", (), '"abc"'),
    ("nan", (), '"nan"'),
    (b"\0" * 8, (), "bytes"),
    ([0, "3"], (1,), '"3" [1]'),
    ([{}], (0,), "an object [0]"),
    ("{}", (), '"{}"'),
    ({}, (), "shape missing"),
    ({"re": 1, "im": 2}, ("re",), "re"),
    ({"shape": [1], "dtyp": "float64", "data": [1]}, ("dtyp",), "dtyp nearest dtype"),
    ({"shape": [1], "data": [1]}, (), "dtype missing"),
    ({"shape": [1], "dtype": "float64"}, (), "data base64"),
    ({**flat([1], "float64", [1]), "base64": "AAAAAAAA8D8="}, (), "data base64"),
    (flat([2], "float16", [1, 2]), ("dtype",), "float16 float32"),
    (flat([2], ["int64"], [1, 2]), ("dtype",), "list int64"),
    (flat(2, "float64", [1, 2]), ("shape",), "shape 2"),
    (flat([1.5], "float64", [1]), ("shape", 0), "1.5"),
    (flat([2, -1], "float64", [1]), ("shape", 1), "-1"),
    (flat([True], "float64", [1]), ("shape", 0), "true"),
    (flat([1] * 70, "float64", [1]), ("shape",), f"70 {MAX_AXES}"),
    (flat([2**62, 4], "float64", []), ("shape",), "memory"),
    (flat([0, 2**62, 8], "float64", []), ("shape",), "memory"),
    (flat([2**80], "bool", []), ("shape",), "memory"),
    (flat([3], "float64", [1, 2]), ("data",), "2 [3]"),
    (flat([2], "float64", [[1], [2]]), ("data", 0), "a list [0]"),
    (flat([8], "float64", [0] * 7 + [None]), ("data", 7), "null [7]"),
    (flat([1], "float64", "AAAA"), ("data",), '"AAAA"'),
    (flat([2], "int64", [1, 2.5]), ("data", 1), "2.5 [1] int64"),
    (flat([1], "int64", ["NaN"]), ("data", 0), "nan int64"),
    (flat([1], "int64", [2**63]), ("data", 0), f"{2**63} int64"),
    (flat([1], "int64", [2.0**63]), ("data", 0), "int64"),
    (flat([1], "int64", [1e300]), ("data", 0), "int64"),
    (flat([1], "bool", [2]), ("data", 0), "bool"),
    (flat([2], "float32", [1, 1e300]), ("data", 1), "1e+300 [1] float32"),
    (flat([1], "float32", [1e-300]), ("data", 0), "1e-300 float32"),
    (flat([1], "bool", b"\2"), ("data",), "0 1"),
    (flat([2], "float64", b"\0" * 8), ("data",), "8 16"),
    ({"shape": [3], "dtype": "float64", "base64": "AAAAAAAAAAA="}, ("base64",), "base64 8 24"),
    ({"shape": [1], "dtype": "float64", "base64": "!!!"}, ("base64",), "base64"),
    ({"shape": [1], "dtype": "float64", "base64": "é"}, ("base64",), "base64 ASCII"),
    ({"shape": [1], "dtype": "float64", "base64": 5}, ("base64",), "base64 5"),
    (10**400, (), "float64"),
    ([1, 10**400], (1,), "[1] float64"),
    ([1, 2**1024 - 1], (1,), "[1] float64"),
]


@pytest.mark.parametrize(("value", "where", "words"), FAULTS, ids=[f"{n}: {row[2]}" for n, row in enumerate(FAULTS)])
def test_faults_name_the_place(value: Any, where: tuple[int | str, ...], words: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        decode_value(value, LOC)
    assert [fault.loc for fault in caught.value.faults] == [(*LOC, *where)]
    for word in words.split():
        assert word in caught.value.detail


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (2.5, INT64),
        (2, BOOL),
        (1e300, FLOAT32),
        (flat([1], "float64", [0.1]), FLOAT32),
        (flat([1], "int64", [2**53 + 1]), FLOAT64),
        (flat([1], "int64", [2**63 - 1]), FLOAT64),
        (flat([2], "float64", [1.0, "NaN"]), INT64),
        (flat([1], "float64", [2.0**63]), INT64),
    ],
)
def test_a_lossy_conversion_is_refused(value: Any, dtype: Any) -> None:
    with pytest.raises(InvalidValueError, match=f"convert to {dtype} without loss"):
        decode_value(value, LOC, dtype)


@pytest.mark.parametrize("depth", [MAX_AXES + 1, 100_000])
def test_lists_beyond_numpy_s_axes(depth: int) -> None:
    value: Any = 1.0
    for _ in range(depth):
        value = [value]
    with quickly(), pytest.raises(InvalidValueError, match=f"{MAX_AXES} axes"):
        decode_value(value)


def test_large_lists_take_about_as_long_as_numpy() -> None:
    rows = np.random.default_rng(0).random((1000, 1000)).tolist()
    with quickly():
        assert decode_value(rows).value.shape == (1000, 1000)
    rows[-1][-1] = None
    with quickly(), pytest.raises(InvalidValueError, match=r"null at index \[999, 999\]"):
        decode_value(rows)


def test_arrays_cannot_be_written_to() -> None:
    for value in ([1, 2], [[1.5]], flat([1], "float32", [1]), packed(np.array([1.0, 2.0]))):
        array = decode_value(value).value
        while isinstance(array, np.ndarray):
            assert not array.flags.writeable
            array = array.base


@pytest.mark.parametrize(
    ("value", "dtype"), [(3, FLOAT64), (True, BOOL), ([1], FLOAT64), (flat([], "int64", [3]), INT64)]
)
def test_strong_value(value: Any, dtype: Any) -> None:
    raw = strong_value(decode_value(value))
    assert np.asarray(raw).dtype == dtype
    assert type(raw) in (float, np.ndarray)


numbers = st.floats() | st.integers(-(2**53), 2**53)
WORDS = {math.inf: "Infinity", -math.inf: "-Infinity"}


def spelled(value: Any) -> Any:
    if isinstance(value, list):
        return [spelled(item) for item in value]
    return "NaN" if value != value else WORDS.get(value, value)


@given(arrays.arrays(np.float64, arrays.array_shapes(), elements=numbers))
def test_nested_lists_read_back_bit_for_bit(array: Any) -> None:
    array[np.isnan(array)] = np.nan
    decoded = decode_value(spelled(array.tolist())).value
    assert decoded.shape == array.shape
    assert decoded.tobytes() == array.tobytes()


@given(arrays.arrays(st.sampled_from(list(DTYPES)), arrays.array_shapes(min_dims=0, min_side=0)))
def test_base64_reads_back_bit_for_bit(array: Any) -> None:
    decoded = np.asarray(decode_value(packed(array)).value)
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
    assert decoded.tobytes() == array.tobytes()


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(["NaN", "AAAA"])
)
keys = st.sampled_from(["shape", "dtype", "data", "base64", "x"])
documents = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)


@given(documents, st.sampled_from([None, *DTYPES.values()]))
def test_random_documents(value: Any, dtype: Any) -> None:
    with suppress(InvalidValueError):
        raw = decode_value(value, LOC, dtype).value
        assert dtype is None or np.asarray(raw).dtype == dtype
