"""Every program of `programs.py` under every transform: independent ways to the same derivatives."""

from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.programs.evaluate import prepare
from engine.programs.text.parser import parse
from engine.transforms import check_grads, grad, hessian, hvp, jacobian, jvp, vjp, vmap
from tests.engine.programs import PROGRAMS, Program

PRECISE = [program for program in PROGRAMS if program.is_float64]

Values = dict[str, Any]

every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
every_precise_program = pytest.mark.parametrize("program", PRECISE, ids=lambda program: program.name)


def like(values: Values, seed: int) -> Values:
    """Random values of the same shapes and dtypes."""
    rng = np.random.default_rng(seed)
    drawn = {name: np.asarray(rng.standard_normal(np.shape(x)), np.asarray(x).dtype) for name, x in values.items()}
    return {name: x if np.ndim(x) else x.item() for name, x in drawn.items()}


def inner(xs: Values, ys: Values) -> float:
    return sum(float(np.sum(np.multiply(xs[name], ys[name]))) for name in xs)


def total(program: Program, inputs: Values) -> Any:
    """A weighted sum of all outputs, in which no two elements weigh the same."""
    ys = program(inputs)
    return sum(F.sum(y * F.cos(0.1 * np.arange(1.0, 1 + np.size(y)).reshape(np.shape(y)))) for y in ys.values())


def assert_close(found: Values, expected: Values, rtol: float = 1e-10) -> None:
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert np.shape(found[name]) == np.shape(x), name
        assert np.asarray(found[name]).dtype == np.asarray(x).dtype, name
        scale = np.max(np.abs(x), initial=1.0)
        np.testing.assert_allclose(found[name], x, rtol=rtol, atol=rtol * scale, err_msg=name)


def tolerance(program: Program) -> float:
    return 1e-10 if program.is_float64 else 1e-5


def test_names_are_unique_and_there_are_enough() -> None:
    assert len({program.name for program in PROGRAMS}) == len(PROGRAMS) >= 50
    assert sum(len(program.outputs) > 1 for program in PROGRAMS) >= 3


@every_program
def test_text_and_function_compute_the_same(program: Program) -> None:
    found = prepare(parse(program.text), dict(program.inputs)).run().values
    assert list(found) == list(program.outputs)
    assert_close(program({}), found, 1e-13)


@every_program
def test_vjp_is_what_the_tape_gives(program: Program) -> None:
    ys, pullback = vjp(program, program.floating)
    cotangents = like(ys, 1)
    variables = {name: Variable(x) for name, x in program.floating.items()}
    for name, y in program(variables).items():
        if isinstance(y, Variable):
            y.backward(cotangent=cotangents[name])
    expected = {
        name: np.zeros_like(program.inputs[name]) if v.grad is None else v.grad.data for name, v in variables.items()
    }
    assert_close(ys, program({}), 1e-13)
    assert_close(pullback(cotangents)[0], expected, tolerance(program))


@every_program
def test_jvp_is_vjp_transposed(program: Program) -> None:
    tangents = like(program.floating, 2)
    ys, dys = jvp(program, (program.floating,), (tangents,))
    cotangents = like(ys, 3)
    (slopes,) = vjp(program, program.floating)[1](cotangents)
    forward, reverse = inner(cotangents, dys), inner(slopes, tangents)
    assert forward == pytest.approx(reverse, rel=tolerance(program), abs=tolerance(program))
    assert_close(dys, {name: np.asarray(dy, np.asarray(ys[name]).dtype) for name, dy in dys.items()})


@every_program
def test_jacobians_of_both_modes_agree_with_products(program: Program) -> None:
    forward, reverse = (jacobian(program, mode=mode)(program.floating) for mode in ("forward", "reverse"))
    tangents = like(program.floating, 4)
    _, dys = jvp(program, (program.floating,), (tangents,))
    assert forward.keys() == reverse.keys() == dys.keys()
    for name, dy in dys.items():
        assert_close(forward[name], reverse[name], tolerance(program))
        product = sum(np.tensordot(block, tangents[x], np.ndim(tangents[x])) for x, block in forward[name].items())
        np.testing.assert_allclose(product, dy, rtol=tolerance(program), atol=100 * tolerance(program))


@every_precise_program
def test_derivatives_agree_with_central_differences(program: Program) -> None:
    found = check_grads(program, program.floating, order=2, rtol=1e-5, atol=1e-5)
    assert found.ok, found


@every_precise_program
def test_hessian_is_symmetric_and_its_products_are_right(program: Program) -> None:
    def loss(inputs: Values) -> Any:
        return total(program, inputs)

    H = hessian(loss)(program.floating)
    vectors = like(program.floating, 5)
    (found,) = hvp(loss, (program.floating,), (vectors,))
    slopes = grad(lambda inputs: sum(F.sum(g * vectors[x]) for x, g in grad(loss)(inputs).items()))(program.floating)
    for x, row in H.items():
        product = sum(np.tensordot(block, vectors[y], np.ndim(vectors[y])) for y, block in row.items())
        assert_close({x: found[x]}, {x: product}, 1e-9)
        assert_close({x: slopes[x]}, {x: product}, 1e-9)
        for y, block in row.items():
            n = np.ndim(vectors[y])
            axes = [*range(n, np.ndim(block)), *range(n)]
            assert_close({y: np.transpose(H[y][x], axes)}, {y: np.asarray(block)}, 1e-9)


@every_program
def test_rows_together_are_rows_alone(program: Program) -> None:
    rows = [{name: x * (1 + 0.01 * k) for name, x in program.floating.items()} for k in range(3)]
    stacked = {
        name: np.stack([np.asarray(row[name], np.asarray(x).dtype) for row in rows]) for name, x in rows[0].items()
    }

    def both(inputs: Values) -> Any:
        return program(inputs), grad(lambda xs: total(program, xs))(inputs)

    values, slopes = vmap(both)(stacked)
    for k in range(3):
        alone, slope = both({name: x[k] for name, x in stacked.items()})
        assert_close({name: y[k] for name, y in values.items()}, alone, tolerance(program))
        assert_close({name: g[k] for name, g in slopes.items()}, slope, tolerance(program))
