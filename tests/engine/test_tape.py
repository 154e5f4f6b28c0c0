"""The tape: accumulation, order, unchaining, data that changes, and what it costs in memory and depth."""

import gc
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from engine import Variable, no_grad
from engine import functions as F
from engine.core.errors import (
    AutogradError,
    InvalidValueError,
    NoGradError,
    NotDifferentiableError,
    NotScalarError,
    ShapeMismatchError,
    StaleDataError,
)


def grad(v: Variable) -> Any:
    assert v.grad is not None
    return v.grad.data


def test_gradients_accumulate_until_they_are_cleared() -> None:
    x = Variable(3.0)
    for expected in (2.0, 4.0):
        (x + x).backward()
        assert grad(x) == expected
    x.cleargrad()
    assert x.grad is None
    (x + x + x).backward()
    assert grad(x) == 3.0


def test_a_variable_used_twice_gets_both_contributions_after_later_generations() -> None:
    x = Variable(2.0)
    a = F.square(x)
    y = F.square(a) + F.square(a)
    y.backward()
    assert (y.data, grad(x), y.generation) == (32.0, 64.0, 3)


def test_intermediate_gradients_are_dropped_unless_retained() -> None:
    for retain in (False, True):
        x = Variable(2.0)
        a = F.square(x)
        y = F.exp(a) + a
        y.backward(retain_grad=retain)
        assert (a.grad is None, y.grad is None) == (not retain, not retain)
        if retain:
            assert grad(y) == 1.0
            assert grad(a) == pytest.approx(np.exp(4.0) + 1.0)


def test_cotangent_starts_the_pass_and_must_have_the_shape() -> None:
    x = Variable([1.0, 2.0])
    y = x * 3.0
    y.backward(cotangent=[1.0, 10.0])
    np.testing.assert_array_equal(grad(x), [3.0, 30.0])
    with pytest.raises(ShapeMismatchError, match=r"\(3,\).*\(2,\)"):
        y.backward(cotangent=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(grad(x), [3.0, 30.0])


def test_backward_of_a_leaf_is_its_seed() -> None:
    x = Variable([1.0, 2.0])
    x.backward()
    np.testing.assert_array_equal(grad(x), [1.0, 1.0])


def test_only_floating_variables_are_differentiated() -> None:
    mask = Variable(1.0) > Variable(0.0)
    with pytest.raises(NotDifferentiableError, match="bool"):
        mask.backward()
    n = Variable(np.array([1, 2]))
    x = Variable([1.0, 2.0])
    (n * x).backward()
    assert n.grad is None
    np.testing.assert_array_equal(grad(x), [1.0, 2.0])


def test_unchain_makes_a_leaf_and_unchain_backward_cuts_all_before() -> None:
    x = Variable(2.0)
    a = F.square(x)
    y = F.square(a)
    a.unchain()
    y.backward()
    assert (grad(a), x.grad, a.creator, a.data) == (8.0, None, None, 4.0)
    x = Variable(2.0)
    a = F.square(x)
    b = F.square(a)
    y = F.square(b)
    y.unchain_backward()
    y.backward()
    assert (a.creator, b.creator, x.grad, grad(b)) == (None, None, None, 32.0)


def test_replaced_data_leaves_the_forward_s_gradient() -> None:
    x = Variable(3.0)
    y = x * x
    x.data = 100.0
    y.backward()
    assert grad(x) == 6.0


def test_replaced_data_is_refused_where_the_backward_pass_is_recorded() -> None:
    x = Variable([3.0, 1.0])
    y = F.sum(x * x)
    x.data = [100.0, 1.0]
    with pytest.raises(StaleDataError, match="mul"):
        y.backward(create_graph=True)
    assert x.grad is None
    assert y.grad is None


def test_data_of_a_computed_variable_is_not_replaced() -> None:
    y = F.exp(Variable(1.0))
    with pytest.raises(AutogradError, match=r"exp.*unchain"):
        y.data = 3.0
    y.unchain()
    y.data = 3.0
    assert y.data == 3.0


def test_a_new_shape_drops_the_gradient() -> None:
    x = Variable([1.0, 2.0])
    F.sum(x).backward()
    x.data = [3.0, 4.0]
    assert x.grad is not None
    x.data = [1.0, 2.0, 3.0]
    assert x.grad is None


def test_data_is_read_only() -> None:
    x = Variable([1.0, 2.0])
    y = F.sum(x * x)
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 100.0
    y.backward()
    np.testing.assert_array_equal(grad(x), [2.0, 4.0])


def test_the_tape_keeps_arrays_of_its_own() -> None:
    given = np.array([1.0, 2.0])
    x, z = Variable(given), Variable([5.0, 5.0])
    y = F.sum(x * x) + F.sum(z * given)
    given[0] = 100.0
    y.backward()
    np.testing.assert_array_equal(grad(x), [2.0, 4.0])
    np.testing.assert_array_equal(grad(z), [1.0, 2.0])


def test_views_and_gradients_are_read_only_too() -> None:
    x = Variable([[1.0, 2.0], [3.0, 4.0]])
    y = x.T
    F.sum(y * y).backward()
    for array in (x.data, y.data, grad(x)):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 9.0


def test_gradients_are_variables_of_their_own() -> None:
    c, x, z = Variable([1.0, 1.0]), Variable([1.0, 2.0]), Variable([0.0, 0.0])
    (x + z).backward(create_graph=True, cotangent=c)
    assert x.grad is not None
    assert x.grad is not z.grad
    c.data = [9.0, 9.0]
    np.testing.assert_array_equal(grad(x), [1.0, 1.0])


def test_grad_is_none_or_a_variable_of_the_shape() -> None:
    x = Variable([1.0, 2.0])
    x.grad = Variable([3.0, 4.0])
    for wrong in (3.0, Variable(3.0), np.array([3.0, 4.0])):
        with pytest.raises(ShapeMismatchError, match=r"\(2,\)"):
            x.grad = wrong  # type: ignore[assignment]
    (x * 1.0).backward()
    np.testing.assert_array_equal(grad(x), [4.0, 5.0])


def test_numpy_does_not_take_a_variable_off_the_tape() -> None:
    x = Variable([1.0, 2.0])
    with pytest.raises(InvalidValueError, match=r"x\.data"):
        np.linalg.norm(x)  # type: ignore[call-overload]
    with pytest.raises(InvalidValueError, match=r"F\.sin"):
        np.sin(x)  # type: ignore[call-overload]


def test_variable_has_no_subclasses() -> None:
    with pytest.raises(TypeError, match="exact type"):
        type("V", (Variable,), {})


def test_a_backward_pass_never_warns() -> None:
    (Variable(0.0) ** Variable(-1.0)).backward()
    y = F.sum(Variable([1e-320, 0.5]) ** Variable([0.0, 2.0]))
    y.backward(create_graph=True)
    with np.errstate(all="ignore"):
        ys = (
            F.norm(Variable([np.inf, 1.0])),
            F.max(Variable([np.nan, 1.0])),
            F.cross_entropy(Variable([np.inf, 0.0]), 1.0),
        )
    for y in ys:
        y.backward()


def test_a_view_s_base_is_read_only() -> None:
    x = Variable([[1.0, 2.0], [3.0, 4.0]])
    y = x.T
    z = F.sum(y * y)
    with pytest.raises(ValueError, match="read-only"):
        y.data.base[0, 0] = 100.0
    z.backward()
    np.testing.assert_array_equal(grad(x), [[2.0, 4.0], [6.0, 8.0]])


def test_a_buffer_behind_a_constant_is_copied() -> None:
    buffer = bytearray(np.ones(3).tobytes())
    x = Variable([1.0, 1.0, 1.0])
    y = F.sum(x * np.frombuffer(buffer))
    buffer[:] = np.zeros(3).tobytes()
    y.backward()
    np.testing.assert_array_equal(grad(x), [1.0, 1.0, 1.0])


@pytest.mark.parametrize("replaced", [5.0, [9.0, 9.0]])
def test_a_new_shape_between_forward_and_backward_is_refused(replaced: Any) -> None:
    x = Variable([1.0, 2.0, 3.0])
    y = x * x
    x.data = replaced
    with pytest.raises(StaleDataError, match="replaced"):
        y.backward(cotangent=np.ones(3))
    assert x.grad is None
    w = Variable(2.0)
    y = F.sin(w)
    w.data = [1.0, 2.0]
    with pytest.raises(StaleDataError, match="replaced"):
        y.backward()


def test_threads_that_share_a_leaf_lose_no_gradient() -> None:
    w = Variable(1.0)

    def work(_: int) -> None:
        for _ in range(300):
            F.sum(w * np.ones(3)).backward()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert grad(w) == 8 * 300 * 3


def test_masks_combine_and_index() -> None:
    x = Variable([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(((x > 1) & (x < 4)).data, [False, True, True, False])
    np.testing.assert_array_equal(((x < 2) | ~(x < 4)).data, [True, False, False, True])
    np.testing.assert_array_equal(((x < 3) ^ np.array([True, False, True, False])).data, [False, True, True, False])
    np.testing.assert_array_equal(x[x > 2].data, [3.0, 4.0])
    np.testing.assert_array_equal(x[Variable([0.0, 3.0])].data, [1.0, 4.0])
    np.testing.assert_array_equal(x[[True, False, False, True]].data, [1.0, 4.0])
    assert (divmod(Variable(7.0), 2)[0].data, divmod(7, Variable(2.0))[1].data, round(Variable(2.5)).data) == (3, 1, 2)
    assert (x == None, x != None) == (False, True)  # noqa: E711
    with pytest.raises(InvalidValueError, match="masks"):
        x & 1


@pytest.mark.thorough
def test_joining_many_is_linear() -> None:
    """Of 20,000 operands each has its cotangent without a look at all the others."""
    xs = [Variable([float(i)]) for i in range(20_000)]
    F.sum(F.square(F.concat(xs))).backward()
    assert [grad(x)[0] for x in xs[:3]] == [0.0, 2.0, 4.0]


def test_composites_take_lists_and_numbers() -> None:
    assert F.prod([2.0, 3.0]) == 6.0
    assert F.mean_squared_error([1.0, 2.0], [0.0, 0.0]) == 2.5
    assert F.norm([3.0, 4.0]) == 5.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: x + None, "add: .*NoneType"),
        (lambda x: x.astype("foo"), "foo.*float64"),
        (lambda x: Variable([2.5], dtype="int64"), "loss"),
        (lambda x: Variable([1.0], dtype="foo"), "foo"),
        (lambda x: x[[[0, 1], [2]]], "rectangular"),
        (lambda x: x[[[True], False]], "a mask must be rectangular"),
        (lambda x: F.get_item(x, 0, [[0, 1], [2]]), "get_item.*rectangular"),
        (lambda x: F.reshape(x, [1] * 100), "at most 32"),
        (lambda x: F.dropout(x), "rng.*seed"),
    ],
    ids=lambda value: "" if callable(value) else value,
)
def test_errors_name_what_was_wrong(call: Any, words: str) -> None:
    with pytest.raises(AutogradError, match=words):
        call(Variable([1.0, 2.0, 3.0]))


def test_create_graph_inside_no_grad_is_refused() -> None:
    y = F.exp(Variable(1.0))
    with no_grad(), pytest.raises(NoGradError):
        y.backward(create_graph=True)


def test_operators_in_both_orders() -> None:
    x = Variable([4.0, 9.0])
    table = [
        (x + 1, [5.0, 10.0]),
        (1 + x, [5.0, 10.0]),
        (x - 1, [3.0, 8.0]),
        (1 - x, [-3.0, -8.0]),
        (x * 2, [8.0, 18.0]),
        (2 * x, [8.0, 18.0]),
        (x / 2, [2.0, 4.5]),
        (36 / x, [9.0, 4.0]),
        (x**2, [16.0, 81.0]),
        (2**x, [16.0, 512.0]),
        (x // 2, [2.0, 4.0]),
        (7 // x, [1.0, 0.0]),
        (x % 5, [4.0, 4.0]),
        (7 % x, [3.0, 7.0]),
        (-x, [-4.0, -9.0]),
        (+x, [4.0, 9.0]),
        (abs(-x), [4.0, 9.0]),
        (x @ np.array([1.0, 1.0]), 13.0),
        (np.array([1.0, 1.0]) @ x, 13.0),
        (np.array([1.0, 2.0]) * x, [4.0, 18.0]),
        (x > 5, [False, True]),
        (5 > x, [True, False]),
        (x <= 4, [True, False]),
        (x == 4, [True, False]),
        (x != 4, [False, True]),
    ]
    for y, expected in table:
        assert isinstance(y, Variable)
        np.testing.assert_array_equal(y.data, expected)


def test_attributes_and_conversions() -> None:
    x = Variable([[1, 2, 3], [4, 5, 6]], name="x")
    assert (x.shape, x.ndim, x.size, x.dtype, len(x), x.name) == ((2, 3), 2, 6, np.float64, 2, "x")
    np.testing.assert_array_equal(x.T.data, [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(x[1, ::2].data, [4.0, 6.0])
    np.testing.assert_array_equal(x[[0, 0]].data, [[1, 2, 3], [1, 2, 3]])
    np.testing.assert_array_equal(x[np.array([[True, False, False], [False, False, True]])].data, [1.0, 6.0])
    assert [F.sum(row).item() for row in x] == [6.0, 15.0]
    with pytest.warns(UserWarning, match=r"x\.item\(\)"):
        assert (float(Variable(2.5)), int(Variable(2.5))) == (2.5, 2)
    assert (bool(Variable(0.0)), f"{x[0, 1]:.2f}") == (False, "2.00")
    with pytest.raises(NotScalarError, match=r"\(2, 3\)"):
        float(x)
    with pytest.raises(InvalidValueError):
        len(Variable(1.0))


def test_str_and_repr() -> None:
    assert str(Variable(0.5)) == repr(Variable(0.5)) == "variable(0.5)"
    assert str(Variable([1.0, 0.1], name="w")) == "w([1.  0.1])"
    long = str(Variable(np.arange(5000.0)))
    assert "..." in long
    assert len(long) < 200
    assert str(Variable(np.float32(0.1))) == "variable(0.1)"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (10**400, "float64"),
        ([[1.0], [1.0, 2.0]], "rectangular"),
        ("text", "dtype"),
        (None, "NoneType"),
        (1 + 2j, "complex"),
        (np.array(["a"]), "dtype"),
        (np.array([2**63], dtype=np.uint64), "uint64"),
    ],
)
def test_what_no_variable_can_be_made_of(given: Any, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        Variable(given)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (1, "float64"),
        ([1, 2], "float64"),
        (True, "bool"),
        (np.float32(1), "float32"),
        (np.array([1, 2], dtype=np.int32), "int64"),
        (np.array([1, 2], dtype=np.float16), "float32"),
        (np.array([True]), "bool"),
    ],
)
def test_dtypes_on_the_way_in(given: Any, dtype: str) -> None:
    assert Variable(given).dtype == dtype


N = 100_000


def chain(create_graph: bool) -> float:
    x = Variable(0.5)
    y: Any = x
    for _ in range(N // 2):
        y = F.sin(y)
        y = y + x
    y.backward(create_graph=create_graph)
    return float(grad(x))


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_chain_of_100_000_operations_is_no_recursion(create_graph: bool) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    try:
        value = chain(create_graph)
    finally:
        sys.setrecursionlimit(limit)
    assert np.isfinite(value)


@pytest.mark.thorough
def test_a_training_loop_leaves_no_cycles_behind() -> None:
    """With the collector off, memory stays flat: reference counting frees every tape."""
    w = Variable(np.ones((20, 20)))
    x = np.ones((20, 20))

    def step() -> None:
        F.mean(F.square(F.tanh(x @ w) - 1.0)).backward()
        assert w.grad is not None
        w.data = w.data - 0.01 * w.grad.data
        w.cleargrad()

    step()
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        for _ in range(2000):  # until the interpreter's own free lists are full
            step()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            step()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert after - before < 20_000
