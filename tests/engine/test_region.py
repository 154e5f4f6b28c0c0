"""Regions: fused steps, run tile by tile on any number of threads, give what NumPy gives for the steps one by one."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import functions as F
from engine.core.values import aval
from engine.plans.codegen import tiles
from engine.plans.codegen.fuse import Group, fused
from engine.plans.codegen.region import Region
from engine.plans.codegen.structure import Structure
from engine.plans.trace import Trace
from tests.sampling import examples

Array = npt.NDArray[Any]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -1e308, 3e5]
LENGTH = tiles.LENGTH
SIZES = [0, 1, LENGTH - 1, LENGTH, LENGTH + 1, 5 * LENGTH + 3]


def draw(seed: int, *shape: int) -> Array:
    x = np.random.default_rng(seed).standard_normal(shape)
    x.reshape(-1)[: len(SPECIAL)] = SPECIAL[: x.size]
    return x


def traced(function: Callable[..., Any], *given: Any) -> tuple[Trace, Structure]:
    trace = Trace()
    symbols = [trace.input(f"x{k}", aval(x)) for k, x in enumerate(given)]
    return trace, Structure(trace, function(*symbols), symbols)


def fusion(function: Callable[..., Any], *given: Any) -> tuple[Structure, list[int | Group]]:
    _, structure = traced(function, *given)
    return structure, fused(structure.steps, structure.outputs, smallest=0)


def evaluate(function: Callable[..., Any], *given: Any, threads: int | None = 1) -> list[Any]:
    """The values of a function of arrays: its groups as regions, all other steps one by one."""
    trace, structure = traced(function, *given)
    items = fused(structure.steps, structure.outputs, smallest=0)
    values: dict[int, Any] = dict(zip(structure.inputs, given, strict=True))
    values |= dict(zip(structure.constants, structure.constant_values(trace), strict=True))
    for item in items:
        if isinstance(item, Group):
            found = Region(structure.steps, item, threads).run([values[n] for n in item.operands])
            values |= dict(zip(item.results, found, strict=True))
        elif (step := structure.steps[item]).op is not None:
            with np.errstate(all="ignore"):
                values[item] = step.op.forward(*(values[a] for a in step.args), **step.attrs)
        elif step.args:
            values[item] = values[step.args[0]]
        elif item not in values:
            values[item] = step.value
    return [values[n] for n in structure.outputs]


def plain(function: Callable[..., Any], *given: Any) -> list[Any]:
    with np.errstate(all="ignore"):
        return [np.asarray(y) for y in function(*given)]


def assert_same_bits(found: Any, expected: Any) -> None:
    """A NaN is a NaN, whatever its sign."""
    np.testing.assert_array_equal(found, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])


def groups(items: list[int | Group]) -> list[Group]:
    return [item for item in items if isinstance(item, Group)]


def chain(x: Any) -> list[Any]:
    y = F.exp(F.tanh(x))
    return [F.sum(F.sin(y)), F.cos(y) * y]


#: Steps whose results are NumPy's to the bit.
STEPS = [
    "{0} * {1}",
    "{0} - 2.5",
    "3.0 / {0}",
    "-{0}",
    "F.tanh({0}) + {1}",
    "F.relu({0})",
    "F.clip({0}, min=-1.0)",
    "F.clip({0})",
    "{0} ** 2",
    "F.where({0} > {1}, {0}, 0.5)",
    "F.softplus({0}) * F.sigmoid({1})",
    "F.maximum({0}, {1})",
    "F.broadcast_to(F.sum({0}), {0}.shape) + {1}",
    "{0} * F.broadcast_to(0.5, {0}.shape)",
    "F.transpose(F.transpose({0}))",
    "F.stop_gradient({0}) * {1}",
]


@settings(deadline=None, max_examples=examples(60))
@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=12),
    st.sets(st.integers(1, 12), max_size=4),
)
def test_random_programs(steps: list[tuple[str, int, int]], kept: set[int]) -> None:
    """Whichever values are asked for, and whatever cannot be fused stands between them."""

    def program(x: Any, y: Any) -> list[Any]:
        values = [x, y]
        for form, i, j in steps:
            a, b = values[-min(i, len(values))], values[-min(j, len(values))]
            values.append(eval(form.format("a", "b"), {"F": F, "a": a, "b": b}))
        return [values[min(k, len(values) - 1)] for k in sorted(kept | {len(values)})]

    x, y = draw(1, 7, 3), draw(2, 7, 3)
    for found, expected in zip(evaluate(program, x, y), plain(program, x, y), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("size", SIZES)
def test_lengths_around_those_of_tiles(size: int) -> None:
    x, y = draw(3, size), draw(4, size)

    def function(x: Any, y: Any) -> list[Any]:
        z = F.tanh(x) * y
        return [z, z > 0.0, F.sum(F.exp(-F.square(y)))]

    found, expected = evaluate(function, x, y, threads=2), plain(function, x, y)
    assert_same_bits(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[1].dtype == np.bool_
    finite = [np.exp(-np.square(np.clip(y, -30.0, 30.0)))]
    np.testing.assert_allclose(F.sum(finite[0]), np.add.reduce(finite[0]), rtol=1e-12)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-12)
    assert type(found[2]) is float


@pytest.mark.parametrize("threads", [1, 2, 3, 8, None])
def test_threads_change_no_bit(threads: int | None) -> None:
    x = np.random.default_rng(5).uniform(-5.0, 5.0, 20 * LENGTH + 17)

    def slow(x: Any) -> list[Any]:
        y = F.exp(F.tanh(x))
        return [F.sum(y), F.tanh(y)]

    for function in (chain, slow):
        total, slope = evaluate(function, x, threads=threads)
        single = evaluate(function, x, threads=1)
        assert total == single[0]
        np.testing.assert_array_equal(slope, single[1])
        np.testing.assert_allclose(total, plain(function, x)[0], rtol=1e-12)


def test_a_region_under_many_threads() -> None:
    structure, items = fusion(lambda x: [F.exp(F.tanh(x)), F.sum(F.tanh(F.exp(x)))], draw(0, 8 * LENGTH + 1))
    (group,) = groups(items)
    region = Region(structure.steps, group, 2)
    inputs = [np.random.default_rng(seed).uniform(-5.0, 5.0, 8 * LENGTH + 1) for seed in range(8)]
    expected = [Region(structure.steps, group, 1).run([x]) for x in inputs]
    begin = threading.Barrier(8)

    def work(k: int) -> None:
        begin.wait()
        for _ in range(5):
            for found, one in zip(region.run([inputs[k]]), expected[k], strict=True):
                np.testing.assert_array_equal(found, one)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_results_are_written_where_they_are_wanted() -> None:
    x = draw(6, 3, LENGTH)
    structure, items = fusion(lambda x: [F.exp(x) * x, x - 1.0], x)
    (group,) = groups(items)
    out = np.empty_like(x)
    first, second = Region(structure.steps, group).run([{0: x}.get(n, 1.0) for n in group.operands], out=[out, None])
    assert first is out
    with np.errstate(all="ignore"):
        assert_same_bits(out, np.exp(x) * x)
    assert_same_bits(second, x - 1.0)


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "by column": np.asfortranarray,
    "from the end": lambda x: x[::-1],
    "one number": lambda x: np.broadcast_to(x[:1, :1], x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(layout: Callable[[Array], Array]) -> None:
    x = layout(draw(7, 40, 50))
    (found,) = evaluate(lambda x: [F.exp(x) * x], x)
    assert_same_bits(found, plain(lambda x: [F.exp(x) * x], x)[0])


def test_a_sum_of_negative_zeros_and_of_nothing() -> None:
    for x in (np.full(5, -0.0), np.full(2 * LENGTH, -0.0), np.empty(0)):
        (found,) = evaluate(lambda x: [F.sum(-(x * x * -1.0) * 1.0)], x)
        expected = np.add.reduce(-(x * x * -1.0) * 1.0)
        assert found == expected
        assert np.signbit(found) == np.signbit(expected)


def test_what_is_fused() -> None:
    """A group never waits for what waits for it: the sum is in the first, what is made of it in the second."""
    x = draw(8, 100)
    _, items = fusion(lambda x: [F.exp(x) / F.sum(F.exp(x))], x)
    structure, items = fusion(lambda x: [F.sin(F.exp(x)) / F.sum(F.exp(x)) * x], x)
    names = [[structure.steps[n].op.name for n in group.members] for group in groups(items)]
    assert [sorted(one) for one in names] == [["exp", "sin", "sum"], ["div", "mul"]]


def test_small_arrays_and_single_steps_are_left_alone() -> None:
    _, structure = traced(chain, draw(9, 100))
    assert groups(fused(structure.steps, structure.outputs)) == []
    assert groups(fusion(lambda x: [F.exp(x)], draw(9, 100))[1]) == []
    assert len(groups(fusion(lambda x: [F.sin(x)], draw(9, 100))[1])) == 1


@pytest.mark.parametrize("x", [np.ones(50, np.float32), np.ones(50, np.int64)], ids=lambda x: str(x.dtype))
def test_other_dtypes_are_left_alone(x: Array) -> None:
    assert groups(fusion(lambda x: [F.square(x) + x * x], x)[1]) == []


def test_sine_and_cosine_of_one_value_are_computed_at_once() -> None:
    structure, items = fusion(chain, draw(10, 100))
    (group,) = groups(items)
    source = Region(structure.steps, group).source
    assert source.count("sin_and_cos(") == 1
    assert source.count("exp(") == 1


def test_long_chains_take_linear_time_and_few_arrays() -> None:
    def function(x: Any) -> list[Any]:
        for _ in range(3000):
            x = F.tanh(x) + 0.5
        return [x]

    structure, items = fusion(function, draw(11, 10))
    (group,) = groups(items)
    source = Region(structure.steps, group).source
    assert "s0, s1" not in source
    assert len(group.members) == 6000
