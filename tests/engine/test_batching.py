"""Batches: every row of the table for many rows at once is what a loop over them gives."""

from typing import Any

import numpy as np
import pytest

from engine import functions as F
from engine.core.errors import BadAttributeError, InvalidValueError
from engine.core.operation import Example, Operation
from engine.core.values import FLOAT32, FLOAT64, INT64, canonical, dtype_of, shape_of
from engine.graph import Limits
from engine.programs.derivatives import hvp, jvp
from engine.programs.evaluate import Backward, prepare
from engine.programs.text.parser import parse
from engine.transforms import vjp, vmap
from tests.engine.cases import CASES, attributes, is_shape, moved, operands, outputs, weights

# `grad` looks for a tape below its operands, random rows draw as they go: both have tests of their own.
ROWS = [case for case in CASES if case.values[0].name != "grad" and not case.values[0].random]
DTYPES = pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32], ids=str)
LENGTHS = [0, 1, 3]


def variant(op: Operation, example: Example, dtype: np.dtype[Any], k: int) -> list[Any]:
    """The operands of the k-th row of a batch; indices and labels are integers beside float32."""
    values = []
    for i, (x, given) in enumerate(zip(operands(op, example, seed=7 + k), example.operands, strict=True)):
        if not is_shape(given):
            # Another order of the same indices, labels or masks is as valid as they are; and so is 0.
            x = np.roll(x, k) if np.ndim(x) else x * (k % 2 == 0)
        if is_shape(given) or i in moved(op, example):
            x = np.asarray(x, dtype)
        elif dtype == FLOAT32 and np.asarray(x).dtype == FLOAT64:
            x = np.asarray(x, INT64)
        values.append(canonical(x))
    return values


def with_gradients(op: Operation, example: Example) -> Any:
    """A function of the operands: the outputs, and what comes back of weighted ones."""
    attrs, places = attributes(op, example), moved(op, example)

    def run(*xs: Any) -> tuple[list[Any], list[Any]]:
        def of_moved(*at: Any) -> list[Any]:
            given = dict(zip(places, at, strict=True))
            return list(outputs(op.run(tuple(given.get(i, x) for i, x in enumerate(xs)), attrs)))

        if not places:
            return of_moved(), []
        ys, pullback = vjp(of_moved, *(xs[i] for i in places))
        return ys, list(pullback([weights(y, k) for k, y in enumerate(ys)]))

    return run


def batches(n: int) -> list[tuple[int, ...]]:
    """Which of n operands are batched: all of them, and each one alone."""
    alone = [(i,) for i in range(n)]
    return alone if n == 1 else [tuple(range(n)), *alone]


@pytest.mark.sampled(one_in=4, each=["op"])
@DTYPES
@pytest.mark.parametrize(("op", "example"), ROWS)
def test_rows_together_are_rows_alone(op: Operation, example: Example, dtype: np.dtype[Any]) -> None:
    run = with_gradients(op, example)
    eps = 1e-12 if dtype == FLOAT64 else 1e-5
    for n in LENGTHS:
        variants = [variant(op, example, dtype, k) for k in range(max(n, 1))]
        for chosen in batches(len(example.operands)):
            rows = [[x if i in chosen else variants[0][i] for i, x in enumerate(values)] for values in variants]
            stacked = [stack([row[i] for row in rows])[:n] if i in chosen else x for i, x in enumerate(rows[0])]
            together = vmap(run, in_axes=tuple(0 if i in chosen else None for i in range(len(stacked))))(*stacked)
            alone = [run(*row) for row in rows]
            for kind in (0, 1):
                for k, found in enumerate(together[kind]):
                    expected = stack([row[kind][k] for row in alone])[:n]
                    assert (shape_of(found), dtype_of(found)) == (expected.shape, expected.dtype), (n, chosen)
                    np.testing.assert_allclose(found, expected, rtol=eps, atol=eps, err_msg=f"{n}, {chosen}")


def stack(values: list[Any]) -> Any:
    return np.stack([np.asarray(x) for x in values])


X = np.arange(1.0, 13.0).reshape(3, 4)


@pytest.mark.parametrize("n", LENGTHS)
def test_a_seed_or_generator_draws_as_in_a_loop(n: int) -> None:
    def drawn(rng: Any) -> Any:
        return lambda x: F.dropout(x, 0.4, rng=rng)

    seeded = vmap(drawn(7))(X[:n])
    np.testing.assert_array_equal(seeded, X[:n] * F.dropout(np.ones(4), 0.4, rng=7))
    rng = np.random.default_rng(7)
    loop = [drawn(rng)(x) for x in X[:n]]
    np.testing.assert_array_equal(vmap(drawn(np.random.default_rng(7)))(X[:n]), np.reshape(loop, (n, 4)))


def test_no_seed_is_refused_for_each_row_as_for_one() -> None:
    with pytest.raises(BadAttributeError, match="rng is None"):
        vmap(F.dropout)(X)


def evaluated(text: str, inputs: dict[str, Any], **options: Any) -> Any:
    return prepare(parse(text), inputs, train=True, seed=5, **options).run()


def kept(place: int, *row: int) -> Any:
    """The mask of a random node for four elements, by the rule in `Stream`."""
    sequence = np.random.SeedSequence(5, spawn_key=(place, *row))
    return (np.random.Generator(np.random.PCG64(sequence)).random(4) >= 0.4) / 0.6


TEXT = "a = dropout(x**2, 0.4); b = dropout(w, 0.4); sum(a*b)"


def test_rows_draw_from_streams_of_their_own() -> None:
    w = np.array([0.5, -1.0, 2.0, 1.5])
    places = [i for i, node in enumerate(parse(TEXT).nodes) if node.op is not None and node.op.random]
    found = evaluated(TEXT, {"x": X, "w": w}, batched=["x"], outputs=["a", "b"], backward=Backward())
    for i, x in enumerate(X):
        a, b = kept(places[0], i), kept(places[1], i)
        np.testing.assert_allclose(found.values["a"][i], a * x**2, rtol=1e-15)
        np.testing.assert_allclose(found.values["b"][i], b * w, rtol=1e-15)
        np.testing.assert_allclose(found.grads["x"][i], 2 * a * b * w * x, rtol=1e-15)
        np.testing.assert_allclose(found.grads["w"][i], a * b * x**2, rtol=1e-15)
    alone = evaluated(TEXT, {"x": X[0], "w": w}, outputs=["a"])
    np.testing.assert_allclose(alone.values["a"], kept(places[0]) * X[0] ** 2, rtol=1e-15)


def test_a_row_does_not_depend_on_the_others_nor_on_their_number() -> None:
    w = np.ones(4)
    whole = evaluated(TEXT, {"x": X, "w": w}, batched=["x"], backward=Backward())
    for inputs in (X[:1], X[:2], np.concatenate([X[:2], 9 * X, X])):
        part = evaluated(TEXT, {"x": inputs, "w": w}, batched=["x"], backward=Backward())
        n = min(len(inputs), 2)
        np.testing.assert_array_equal(part.values["out"][:n], whole.values["out"][:n])
        np.testing.assert_array_equal(part.grads["x"][:n], whole.grads["x"][:n])
    empty = evaluated(TEXT, {"x": X[:0], "w": w}, batched=["x"], backward=Backward())
    assert empty.values["out"].shape == (0,)
    assert empty.grads["x"].shape == empty.grads["w"].shape == (0, 4)


@pytest.mark.parametrize("batched", [False, True])
def test_tangents_and_curvatures_meet_the_masks_of_the_values(batched: bool) -> None:
    """The products are those of the gradient: x -> sum(a*b) is a quadratic form, once its masks are drawn."""
    x, t, w = (X, X[::-1], np.ones(4)) if batched else (X[0], X[1], np.ones(4))
    options: dict[str, Any] = {"train": True, "seed": 5, "batched": ["x"] if batched else []}
    first = evaluated(TEXT, {"x": x, "w": w}, batched=options["batched"], backward=Backward())
    forward = jvp(parse(TEXT), {"x": x, "w": w}, {"x": t}, **options).run()
    np.testing.assert_array_equal(forward["values"]["out"], first.values["out"])
    np.testing.assert_allclose(forward["jvps"]["out"], np.sum(first.grads["x"] * t, axis=-1), rtol=1e-14)
    second = hvp(parse(TEXT), {"x": x, "w": w}, {"x": t}, wrt=["x"], **options).run()
    np.testing.assert_array_equal(second["grads"]["x"], first.grads["x"])
    np.testing.assert_allclose(second["hvp"]["x"], first.grads["x"] * t / x, rtol=1e-14)
    several = jvp(parse(TEXT), {"x": x, "w": w}, {"x": np.stack([t, 2 * t])}, many=True, **options).run()
    once = forward["jvps"]["out"]
    np.testing.assert_allclose(several["jvps"]["out"], np.stack([once, 2 * once]), rtol=1e-14)


#: Shapes of a row and of its indices, and the axis.
LOOKUPS = [
    ((5,), (7,), 0),
    ((5,), (), None),
    ((4, 5), (6,), None),
    ((4, 5), (2, 3), 0),
    ((4, 5), (2, 3), 1),
    ((3, 4, 5), (2, 1), -2),
    ((3, 4, 1), (6,), 1),
    ((3, 0), (2,), 0),
    ((3, 4), (0,), 1),
    ((0, 4), (3,), 1),
]


@pytest.mark.parametrize("dtype", ["int64", "float64"])
@pytest.mark.parametrize(("shape", "inner", "axis"), LOOKUPS, ids=str)
def test_each_row_has_places_of_its_own(
    shape: tuple[int, ...], inner: tuple[int, ...], axis: int | None, dtype: str
) -> None:
    rng = np.random.default_rng(3)
    n = 4
    x = rng.normal(size=(n, *shape))
    length = x[0].size if axis is None else shape[axis]
    indices = rng.integers(-length, length, size=(n, *inner)).astype(dtype)

    def run(x: Any, i: Any) -> Any:
        y, pullback = vjp(lambda x: F.take(x, i, axis=axis), x)
        u = F.sin(y)
        z, back = vjp(lambda x, u: F.scatter_add(x, i, u, axis=axis), x, u)
        return y, pullback(u), z, back(F.cos(z)), F.scatter_add(x, i, 0.1, axis=axis)

    together, alone = vmap(run)(x, indices), [run(a, b) for a, b in zip(x, indices, strict=True)]
    for k, found in enumerate(together):
        for m, part in enumerate(found if isinstance(found, tuple) else (found,)):
            rows = [row[k][m] if isinstance(found, tuple) else row[k] for row in alone]
            np.testing.assert_array_equal(part, stack(rows))
    one = vmap(lambda i: F.scatter_add(x[0], i, 0.1, axis=axis))(indices)
    np.testing.assert_array_equal(one, stack([F.scatter_add(x[0], i, 0.1, axis=axis) for i in indices]))


def test_a_place_in_another_row_is_out_of_range() -> None:
    x = np.arange(6.0).reshape(2, 3)
    for f in (F.take, lambda x, i: F.scatter_add(x, i, 1.0)):
        for wrong in ([[0], [3]], [[-4], [0]], [[1.5], [0.0]]):
            with pytest.raises(InvalidValueError, match=r"out of range for an axis of length 3|must be integers"):
                vmap(f)(x, np.array(wrong))


def test_lookups_of_many_rows_are_a_few_nodes() -> None:
    inputs = {"x": np.ones((50_000, 3)), "i": np.zeros((50_000, 2), int)}
    for text in ("sum(take(x, i))", "sum(scatter_add(x, i, 1.0))"):
        found = prepare(parse(text), inputs, batched=["x", "i"], backward=Backward(), limits=Limits(max_nodes=20))
        assert found.run().values["out"].shape == (50_000,)


@pytest.mark.parametrize("index", [[0], [[0, 1]], [{}, [1]], [[0], {}, [1]]], ids=str)
def test_a_number_added_at_places_of_each_row_takes_their_dtype(index: list[Any]) -> None:
    x, i = np.ones((2, 3, 2, 2), "float32"), np.zeros((2, 2), int)
    rows = [
        lambda x, i: F.slice_add(x, 0.25, index=index),
        lambda x, i: F.scatter_add(x, [0, 1], 0.25, axis=1),
        lambda x, i: F.scatter_add(x, i, 0.25),
    ]
    for f in rows:
        found, expected = vmap(f)(x, i), stack([f(a, b) for a, b in zip(x, i, strict=True)])
        assert found.dtype == expected.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
