"""Arrays of integers as indices: taken as they are, and the same to everything that reads an index."""

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest

from engine import Variable
from engine import functions as F
from engine.core.attributes import Integers
from engine.core.errors import BadAttributeError
from engine.core.values import aval
from engine.plans.trace import Trace, as_graph
from engine.programs import build, parse
from engine.programs.identity import program_id
from engine.programs.text.write import as_document, as_text
from engine.transforms import grad
from engine.transforms.compilation import compile

Array = npt.NDArray[Any]
P = np.random.default_rng(5).normal(size=(6, 4, 3))


class Unwalkable(np.ndarray[Any, Any]):
    """An array that says so when Python looks at its elements one by one."""

    def tolist(self) -> NoReturn:
        raise AssertionError("an array was made a list")

    def __iter__(self) -> NoReturn:
        raise AssertionError("an array was walked")


INDICES: dict[str, Any] = {
    "rows": np.array([0, 0, 5, -1]),
    "rows in two axes": np.array([[0, 5], [-6, 2]]),
    "no rows": np.array([], np.int64),
    "no rows in two axes": np.empty((2, 0), np.int64),
    "two lists": (np.array([0, 0, 5]), np.array([1, 1, -4])),
    "lists apart": (np.array([0, 5]), slice(1, 3), np.array([2, 0])),
    "lists that broadcast": (np.array([[0], [5]]), np.array([1, 2])),
    "beside an ellipsis": (Ellipsis, np.array([2, 2])),
    "beside a new axis": (None, np.array([3, 1])),
    "beside an integer": (2, np.array([3, 1])),
    "narrow": np.array([1, 2], np.int8),
    "unsigned": np.array([1, 2], np.uint64),
    "integral floats": np.array([1.0, -2.0]),
    "strided": np.arange(6)[::-2],
}


def _unwalkable(index: Any) -> Any:
    items = index if isinstance(index, tuple) else (index,)
    return tuple(item.view(Unwalkable) if isinstance(item, np.ndarray) else item for item in items)


def _numpy(index: Any) -> Any:
    items = index if isinstance(index, tuple) else (index,)
    return tuple(item.astype(np.int64) if isinstance(item, np.ndarray) else item for item in items)


def _lists(index: Any) -> list[Any]:
    items = index if isinstance(index, tuple) else (index,)
    return [item.astype(np.int64).tolist() if isinstance(item, np.ndarray) else item for item in items]


def test_arrays_are_taken_as_they_are() -> None:
    for name, index in INDICES.items():
        expected = P[_numpy(index)]
        weights = np.random.default_rng(1).normal(size=expected.shape)
        slopes = np.zeros_like(P)
        np.add.at(slopes, _numpy(index), weights)
        v = Variable(P)
        y = v[_unwalkable(index)]
        y.backward(cotangent=weights)
        np.testing.assert_array_equal(y.data, expected, err_msg=name)
        np.testing.assert_allclose(v.grad.data, slopes, 1e-15, 1e-15, err_msg=name)

        def loss(x: Any, index: Any = index, weights: Array = weights) -> Any:
            return F.sum(x[_unwalkable(index)] * weights)

        np.testing.assert_array_equal(grad(loss)(P), v.grad.data, err_msg=name)
        np.testing.assert_array_equal(compile(grad(loss))(P), v.grad.data, err_msg=name)
    rows = INDICES["rows"].view(Unwalkable)
    np.testing.assert_array_equal(F.get_item(P, 1, rows % 4), P[:, INDICES["rows"] % 4])


def test_an_index_is_as_it_was_when_it_was_given() -> None:
    rows = np.array([0, 3])
    v = Variable(P)
    y = v[rows]
    rows[:] = 5
    y.backward()
    np.testing.assert_array_equal(np.flatnonzero(v.grad.data.any((1, 2))), [0, 3])


def test_arrays_and_lists_are_one_index_and_one_program() -> None:
    for name, index in INDICES.items():
        trace = Trace()
        x = trace.input("x", aval(P))
        by_array, by_list = x[_unwalkable(index)], F.slice(x, _lists(index))
        assert by_array.index == by_list.index, name
        graph = as_graph(trace, {"y": by_array})
        again = build(as_document(graph))
        assert again.nodes[0].attrs == graph.nodes[0].attrs, name
        assert program_id(again) == program_id(graph), name
        if None not in _lists(index):
            assert parse(as_text(graph)).nodes[0].attrs == graph.nodes[0].attrs, name


def test_the_id_of_a_program_with_a_list_of_places_stays() -> None:
    assert program_id(parse("x[[0, 2, 1], 1:3]")) == "p_decd10f226c5b9a826e675eb8784fee8"
    assert program_id(parse("get_item(x, 0, [[0, 2], [1, 1]])")) == "p_6f684e06de1b113cfb1525259d9f429e"


def test_places_out_of_range_are_named() -> None:
    v = Variable(P)
    for index, message in [
        (np.array([0, 6]), "index 6 is out of range for axis 0 of length 6"),
        ((slice(None), np.array([[1], [-5]])), "index -5 is out of range for axis 1 of length 4"),
        ((Ellipsis, np.array([3, 0])), "index 3 is out of range for axis 2 of length 3"),
    ]:
        with pytest.raises(BadAttributeError, match=message):
            v[index]
    for wrong in (np.array([0.5]), np.array([np.nan]), np.array([2**63], np.uint64), np.array(["a"])):
        with pytest.raises(BadAttributeError, match="expected a list of integers"):
            v[wrong]


def test_integers_are_keys() -> None:
    one, same, other = Integers(np.array([[1, 2]])), Integers([[1, 2]]), Integers(np.array([1, 2]))
    assert (one == same, hash(one) == hash(same), one == other, one == ((1, 2),)) == (True, True, False, False)
    assert repr(one) == "((1, 2),)"
    assert not one.array.flags.writeable
