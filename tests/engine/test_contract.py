"""tensordot and einsum: against NumPy on random shapes, their gradients, their spellings and what is refused."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Variable
from engine import functions as F
from engine.core.errors import ArityError, AutogradError, BadAttributeError, InvalidValueError, ShapeMismatchError
from engine.core.values import FLOAT64, Aval, stand_in
from engine.programs import build, parse
from engine.programs.evaluate import prepare
from tests.engine.graphs import quickly, shown

Array = npt.NDArray[Any]


class Case(NamedTuple):
    """Subscripts, and operands that fit them."""

    subscripts: str
    operands: list[Array]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to four operands of three indices and an ellipsis, with diagonals, unit axes and empty ones."""
    lengths = {letter: draw(st.integers(0, 3)) for letter in "abcD"}
    batch = draw(st.lists(st.integers(0, 3), max_size=2))
    with_dots = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    terms, operands = [], []
    for _ in range(draw(st.integers(1, 4))):
        letters = draw(st.text("abcD", max_size=3))
        single = [letter for letter in letters if letters.count(letter) == 1]
        thin = draw(st.sets(st.sampled_from(single))) if single else set()
        place = draw(st.integers(0, len(letters)))
        rest = batch[draw(st.integers(0, len(batch))) :] if with_dots else []
        rest = [draw(st.sampled_from([1, n])) for n in rest]
        shape = [1 if letter in thin else lengths[letter] for letter in letters]
        terms.append(letters[:place] + "..." * with_dots + letters[place:])
        operands.append(rng.normal(size=(*shape[:place], *rest, *shape[place:])))
    written = sorted(set("".join(terms)) - {"."})
    output = draw(st.none() | st.permutations(written).map("".join))
    subscripts = ",".join(terms)
    if output is not None:
        output = output[: draw(st.integers(0, len(output)))]
        place = draw(st.integers(0, len(output)))
        subscripts += "->" + output[:place] + "..." * with_dots + output[place:]
    return Case(subscripts, operands)


@given(cases())
def test_einsum_is_that_of_numpy(case: Case) -> None:
    expected = np.einsum(case.subscripts, *case.operands)
    y = F.einsum(case.subscripts, *case.operands)
    assert np.shape(y) == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


@given(cases())
def test_gradients_of_einsum_are_those_of_a_linear_function(case: Case) -> None:
    """In each operand: what a cotangent g and a direction d give, <g, f(d)>, is <gradient, d>."""
    xs = [Variable(x) for x in case.operands]
    y = F.einsum(case.subscripts, *xs)
    rng = np.random.default_rng(0)
    g = rng.normal(size=y.shape)
    y.backward(cotangent=g)
    for k, x in enumerate(xs):
        d = rng.normal(size=x.shape)
        moved = np.einsum(case.subscripts, *case.operands[:k], d, *case.operands[k + 1 :])
        assert x.grad is not None
        assert x.grad.shape == x.shape
        np.testing.assert_allclose(np.sum(x.grad.data * d), np.sum(g * moved), rtol=1e-9, atol=1e-9)


@given(cases(), st.sampled_from(["float32", "int64", "bool"]))
def test_dtypes_of_einsum_are_those_of_numpy(case: Case, dtype: str) -> None:
    xs = [np.rint(x).astype(dtype) for x in case.operands]
    expected = np.einsum(case.subscripts, *xs)
    y = np.asarray(F.einsum(case.subscripts, *xs))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtypes", [("bool", "float32"), ("int64", "float32"), ("bool", "int64")], ids="-".join)
def test_mixed_dtypes(dtypes: tuple[str, str]) -> None:
    a, b = np.ones((2, 3), dtypes[0]), np.ones(2, dtypes[1])
    expected = np.einsum("ij,i->i", a, b)
    y = F.einsum("ij,i->i", a, b)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


@given(data=st.data(), n1=st.integers(0, 4), n2=st.integers(0, 4))
def test_tensordot_is_that_of_numpy(data: st.DataObject, n1: int, n2: int) -> None:
    n = data.draw(st.integers(0, min(n1, n2)))
    over1 = data.draw(st.permutations(range(n1)))[:n]
    over2 = data.draw(st.permutations(range(n2)))[:n]
    shape1 = data.draw(st.lists(st.integers(0, 3), min_size=n1, max_size=n1))
    shape2 = data.draw(st.lists(st.integers(0, 3), min_size=n2, max_size=n2))
    for i, j in zip(over1, over2, strict=True):
        shape2[j] = shape1[i]
    rng = np.random.default_rng(0)
    x1, x2 = rng.normal(size=shape1), rng.normal(size=shape2)
    axes = ([i - n1 for i in over1], list(over2))
    expected = np.tensordot(x1, x2, axes)
    y = F.tensordot(x1, x2, axes)
    assert np.shape(y) == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_spellings_of_tensordot() -> None:
    x1, x2 = np.arange(24.0).reshape(2, 3, 4), np.arange(12.0).reshape(3, 4)
    expected = np.tensordot(x1, x2)
    np.testing.assert_array_equal(F.tensordot(x1, x2), expected)
    np.testing.assert_array_equal(F.tensordot(x1, x2, 2), expected)
    np.testing.assert_array_equal(F.tensordot(x1, x2, axes=([1, 2], [0, 1])), expected)
    np.testing.assert_array_equal(F.tensordot(x1, x2, (-1, 1)), np.tensordot(x1, x2, (-1, 1)))
    assert shown(parse("tensordot(x, y, [[0], [1]])")) == ["out = tensordot(x, y, axes=((0,), (1,)))"]


def test_spellings_of_einsum() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    calls: list[Callable[[], Any]] = [
        lambda: F.einsum("ij,jk->ik", a, b),
        lambda: F.einsum(" i j, jk -> ik ", a, b),
        lambda: F.einsum("ij,jk", [a, b]),
        lambda: F.einsum([a, b], "ij,jk->ik"),
        lambda: F.einsum([a, b], subscripts="ij,jk->ik"),
        lambda: F.einsum(a, b, subscripts="ij,jk->ik"),
        lambda: F.einsum("ij,jk->ik", a.tolist(), b.tolist()),
    ]
    for call in calls:
        np.testing.assert_array_equal(call(), a @ b)
    node = ["y = einsum(a, b, subscripts=ij,jk->ik)"]
    for text in (
        'y = einsum("ij,jk->ik", a, b)',
        'y = einsum("ij,jk", [a, b])',
        'y = einsum([a, b], "ij,jk->ik")',
        'y = einsum([a, b], subscripts="ij,jk->ik")',
        'y = einsum(a, b, subscripts="ij,jk->ik")',
    ):
        assert shown(parse(text)) == node
    attrs = {"subscripts": "ij,jk->ik"}
    assert shown(build({"nodes": [{"id": "y", "op": "einsum", "args": ["a", "b"], "attrs": attrs}]})) == node
    assert F.einsum.__doc__ is not None
    assert "einsum(subscripts, *x)" in F.einsum.__doc__


def cost(text: str, **shapes: tuple[int, ...]) -> int:
    return prepare(parse(text), {name: stand_in(Aval(shape, FLOAT64)) for name, shape in shapes.items()}).cost.flops


def test_the_cheapest_pair_goes_first() -> None:
    n = 100
    by_hand = cost("a @ c @ b", a=(n, n), b=(n, n), c=(n, n))
    assert cost('einsum("ij,kl,jk->il", a, b, c)', a=(n, n), b=(n, n), c=(n, n)) == by_hand
    # A vector goes through both matrices, which never meet.
    assert cost('einsum("ij,jk,k->i", a, b, c)', a=(n, n), b=(n, n), c=(n,)) <= 5 * n * n


def test_many_operands() -> None:
    n = 2000
    with quickly():
        y = F.einsum(",".join(["i"] * n), *[np.full(2, 1.001)] * n)
    assert y == pytest.approx(2 * 1.001**n, rel=1e-10)


def test_long_subscripts_are_refused_at_once() -> None:
    with quickly():
        for text in ("a" * 1_000_000, "a" * 1_000_000 + "1", "," * 1_000_000, "->" * 300_000):
            with pytest.raises((BadAttributeError, ArityError)) as caught:
                F.einsum(text, np.ones(2))
            assert len(caught.value.detail) < 300


A, B = np.ones((2, 3)), np.ones((4, 5))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        pytest.param(
            lambda: F.einsum("ij,jk", A, B), ShapeMismatchError, 'index "j" has lengths 3 and 4', id="lengths"
        ),
        pytest.param(lambda: F.einsum("ii", A), ShapeMismatchError, 'index "i" has lengths 2 and 3', id="diagonal"),
        pytest.param(lambda: F.einsum("ii", A[:1]), ShapeMismatchError, "lengths 1 and 3", id="diagonal of 1"),
        pytest.param(lambda: F.einsum("...,...", A, B), ShapeMismatchError, "under the ellipsis", id="ellipsis"),
        pytest.param(lambda: F.einsum("ijk", A), ShapeMismatchError, r'"ijk" has 3 .* \(2, 3\)', id="too many indices"),
        pytest.param(lambda: F.einsum("i", A), ShapeMismatchError, "operand 0 .* 2 axes", id="too few indices"),
        pytest.param(lambda: F.einsum("...ijk->ijk", A), ShapeMismatchError, '"...ijk" has 3', id="none for ellipsis"),
        pytest.param(
            lambda: F.einsum("...i->i", A), BadAttributeError, 'output "i" has no', id="ellipsis not in output"
        ),
        pytest.param(lambda: F.einsum("ij->ik", A), BadAttributeError, '"k" is in no operand', id="unknown output"),
        pytest.param(lambda: F.einsum("ij->ii", A), BadAttributeError, '"i" is written twice', id="output twice"),
        pytest.param(lambda: F.einsum("i1", A), BadAttributeError, '"1" is no index', id="digit"),
        pytest.param(lambda: F.einsum("iß", A), BadAttributeError, '"ß" is no index', id="not ASCII"),
        pytest.param(lambda: F.einsum("i->->", A), BadAttributeError, "is no index", id="two arrows"),
        pytest.param(lambda: F.einsum("i..", A), BadAttributeError, r'"\." is no index', id="two dots"),
        pytest.param(lambda: F.einsum("...i...", A), BadAttributeError, "is no index", id="two ellipses"),
        pytest.param(lambda: F.einsum("i->...1", A), BadAttributeError, '"1" is no index', id="bad output"),
        pytest.param(lambda: F.einsum("ij"), ArityError, r"einsum\(subscripts, \*x\)", id="no operand"),
        pytest.param(lambda: F.einsum("ij", A, A), ArityError, "for 1 operands, got 2", id="one too many"),
        pytest.param(lambda: F.einsum("ij,jk", A), ArityError, "for 2 operands, got 1", id="one too few"),
        pytest.param(lambda: F.einsum(A, A), BadAttributeError, "subscripts.* is missing", id="no subscripts"),
        pytest.param(lambda: F.einsum(A, subscripts=3), BadAttributeError, "subscripts is 3", id="a number"),
        pytest.param(lambda: F.einsum("ij", A, subscripts="ij"), BadAttributeError, "given twice", id="twice"),
        pytest.param(lambda: F.concat("ij", A), InvalidValueError, "concat", id="a string that does not lead"),
        pytest.param(
            lambda: F.tensordot(A, B, 1),
            ShapeMismatchError,
            r"axis 1 of shape \(2, 3\) and axis 0 of shape \(4, 5\) differ: 3 != 4",
            id="tensordot lengths",
        ),
        pytest.param(lambda: F.tensordot(A, B, 3), BadAttributeError, "axes is 3 for operands of 2 and 2", id="3 of 2"),
        pytest.param(lambda: F.tensordot(A, B, -1), BadAttributeError, "non-negative", id="negative"),
        pytest.param(lambda: F.tensordot(A, A, ([2], [0])), BadAttributeError, "axis 2 is out of range", id="no axis"),
        pytest.param(lambda: F.tensordot(A, A, ([0, -2], [0, 1])), BadAttributeError, "an axis twice", id="axis twice"),
        pytest.param(lambda: F.tensordot(A, A, ([0, 1], [0])), BadAttributeError, "2 and 1 axes", id="unpaired"),
        pytest.param(lambda: F.tensordot(A, A, [1, 2, 3]), BadAttributeError, "two lists", id="three lists"),
        pytest.param(lambda: F.tensordot(A, A, "01"), BadAttributeError, "two lists", id="string of axes"),
    ],
)
def test_errors(call: Callable[[], Any], kind: type[AutogradError], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
