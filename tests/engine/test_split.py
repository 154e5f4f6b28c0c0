"""Long code in pieces computes what it does as one function, and Python never compiles much of it at once."""

import builtins
from typing import Any

import numpy as np
import pytest

from engine import functions as F
from engine.core.errors import InvalidValueError
from engine.plans.codegen import kernel, split
from engine.programs import parse
from engine.programs.evaluate import Backward, prepare
from engine.transforms import value_and_grad, vjp
from engine.transforms.compilation import compile, descent
from tests.engine.cases import CASES, attributes, moved, operands, outputs, weights


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of two lines, of all code of more than two."""
    monkeypatch.setattr(kernel, "MOST_LINES", 2)
    monkeypatch.setattr(split, "LENGTH", 2)


@pytest.mark.usefixtures("cut")
def test_every_row_and_its_gradient_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    failures, in_pieces = [], 0
    for case in CASES[::2]:
        op, example = case.values
        if op.name == "grad" or op.random:
            continue
        attrs, places, xs = attributes(op, example), moved(op, example), operands(op, example)

        def run(*xs: Any, op: Any = op, attrs: Any = attrs, places: Any = places) -> list[Any]:
            def of_moved(*at: Any) -> list[Any]:
                given = dict(zip(places, at, strict=True))
                full = [given.get(i, F.tanh(x) if i in places else x) for i, x in enumerate(xs)]
                return list(outputs(op.run(tuple(full), attrs)))

            if not places:
                return of_moved()
            ys, pullback = vjp(of_moved, *(xs[i] for i in places))
            return [*ys, *pullback([weights(y, k) for k, y in enumerate(ys)])]

        with np.errstate(all="ignore"):
            compiled = compile(run)
            found = compiled(*xs)
            in_pieces += "def piece(" in compiled.source(*xs)
            with monkeypatch.context() as whole:
                whole.setattr(kernel, "MOST_LINES", 10**9)
                expected = compile(run)(*xs)
        if not all(np.array_equal(x, y, equal_nan=True) for x, y in zip(found, expected, strict=True)):
            failures.append(case.id)
    assert failures == []
    assert in_pieces > len(CASES) // 8


@pytest.mark.usefixtures("cut")
def test_numbers_in_pieces() -> None:
    """Also where Python raises and the code is run once more, in what NumPy gives."""
    text = "\n".join(["y0 = exp(x)", *(f"y{i} = y{i - 1} / (x * {i}.0) + sin(y{i // 2})" for i in range(1, 30))])
    for x in (0.5, 0.0, 1e308, float("nan")):
        found = prepare(parse(text), {"x": x}, outputs="all", backward=Backward()).run()
        whole = prepare(parse(text), {"x": np.array([x])}, outputs="all").run()
        for name, y in whole.values.items():
            np.testing.assert_allclose(found.values[name], y[0], 1e-12, err_msg=f"{name} at {x}")


@pytest.mark.usefixtures("cut")
def test_loops_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    X, t, w = rng.normal(size=(7, 3)), rng.normal(size=(7, 2)), rng.normal(size=(3, 2))

    def loss(w: Any, scale: Any) -> Any:
        return F.mean(F.square(F.tanh(X @ w) * F.exp(scale) - t)) + F.sum(F.square(w)) / 10.0

    def of_numbers(a: Any, b: Any) -> Any:
        return (1.0 - a) ** 2 + 100.0 * (b - a * a) ** 2 / (1.0 + b * b)

    for f, args in ((loss, (w, 0.25)), (of_numbers, (-0.5, 1.5))):
        found = descent(f, (0, 1))(*args, learning_rate=0.001, steps=20)
        with monkeypatch.context() as whole:
            whole.setattr(kernel, "MOST_LINES", 10**9)
            expected = descent(f, (0, 1))(*args, learning_rate=0.001, steps=20)
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.usefixtures("cut")
def test_errors_name_the_operation_in_a_piece() -> None:
    def f(x: Any, labels: Any) -> Any:
        return F.exp(F.sin(F.cross_entropy(F.tanh(F.sin(x)) * 2.0, labels) + F.sum(F.exp(x))))

    compiled = compile(f)
    compiled(np.ones((2, 3)), np.array([0.0, 1.0]))
    with pytest.raises(InvalidValueError, match="cross_entropy: label 5"):
        compiled(np.ones((2, 3)), np.array([0.0, 5.0]))


@pytest.mark.parametrize("x", [0.5, np.array([0.5, 0.25])], ids=["numbers", "arrays"])
def test_python_compiles_little_at_once(x: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,500 lines, their gradients and a compiled function as long."""
    lines: list[int] = []
    original = builtins.compile

    def counted(source: Any, *args: Any, **keywords: Any) -> Any:
        lines.append(source.count("\n") if isinstance(source, str) else 0)
        return original(source, *args, **keywords)

    monkeypatch.setattr(builtins, "compile", counted)
    text = "\n".join(["y0 = sin(x)", *(f"y{i} = sin(y{i - 1}) + x" for i in range(1, 1500)), "sum(y1499)"])
    found = prepare(parse(text), {"x": x}, backward=Backward()).run()

    def chain(x: Any) -> Any:
        y = F.sin(x)
        for _ in range(1, 1500):
            y = F.sin(y) + x
        return F.sum(y)

    value, slope = compile(value_and_grad(chain))(x)
    np.testing.assert_allclose(found.values["out"], value, 1e-12)
    np.testing.assert_allclose(found.grads["x"], slope, 1e-12)
    assert max(lines) <= split.MOST_LINES + 100
