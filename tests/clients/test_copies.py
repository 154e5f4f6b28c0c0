"""Copies and pickles of what is only a name for something on a server."""

from __future__ import annotations

import copy
import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pullback import (
    Connection,
    Variable,
    errors,
    layers,
    state_dict,
)

if TYPE_CHECKING:
    from collections.abc import Callable


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}


def attempt(how: Callable[[Any], Any], x: Any) -> tuple[str, Any]:
    """What a refusal says, or the copy."""
    try:
        return "", how(x)
    except (TypeError, errors.PullbackError) as error:
        return str(error), None


def good_copy(x: Any, y: Any) -> None:
    assert y.data == x.data == 2.0
    y.data = 5.0
    assert x.data == 2.0
    del y
    x.cleargrad()
    (x * x).backward()
    assert x.grad.data == 4.0


@pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_variable(connection: Connection, how: Callable[[Any], Any]) -> None:
    """Either it is refused with a word, or it is a variable of its own, as locally."""
    x = Variable(2.0, name="x")
    assert x.item() == 2.0
    refusal, y = attempt(how, x)
    if y is None:
        assert re.search("Variable|variable", refusal)
        assert len(refusal) > 40, "it says what to do in its place"
    else:
        good_copy(x, y)


@pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_model(connection: Connection, how: Callable[[Any], Any]) -> None:
    model = layers.Linear(1, 2, rng=0)
    before = state_dict(model)
    refusal, other = attempt(how, model)
    if other is None:
        assert re.search("[Vv]ariable|Linear", refusal)
    else:
        if how is not copy.copy:
            other.w.data = np.zeros((2, 1))
        np.testing.assert_array_equal(state_dict(model)["w"], before["w"])


def test_a_pickle_of_an_error(connection: Connection) -> None:
    """Errors cross the borders of processes."""
    with pytest.raises(errors.ShapeMismatchError) as caught:
        (Variable([1.0, 2.0]) + Variable([1.0, 2.0, 3.0])).data  # noqa: B018
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is errors.ShapeMismatchError
    assert str(again) == str(caught.value)
    assert again.detail == caught.value.detail


def test_a_pickle_of_a_connection_and_a_client(connection: Connection) -> None:
    for held in (connection, connection.client, connection.session):
        with pytest.raises((TypeError, errors.PullbackError)):
            pickle.dumps(held)
