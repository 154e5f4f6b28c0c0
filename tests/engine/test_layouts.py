"""Layouts in memory: every row of the table gives for operands in any layout what it gives for those in C order."""

import ast
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import functions as F
from engine.core.backward import gradients
from engine.core.errors import AutogradError
from engine.core.operation import Example, Operation
from engine.core.values import canonical, dtype_of, shape_of
from engine.core.variable import Variable
from engine.plans.codegen import buffers, kernel
from engine.plans.codegen.fuse import fused
from engine.tracers.batching import Batch
from engine.tracers.forward import Forward
from engine.transforms import vjp
from engine.transforms.calls import next_level
from engine.transforms.compilation import compile
from tests.engine.cases import CASES, attributes, extra, moved, operands, outputs, weights
from tests.layouts import LAYOUTS, Layout, broadcast

#: From the operands of a case, in any layout, to arrays in a fixed order.
Quantity = Callable[[Operation, dict[str, Any], Sequence[int], Sequence[Any], Layout], list[Any]]


def _value(op: Operation, attrs: dict[str, Any], places: Sequence[int], xs: Sequence[Any], lay: Layout) -> list[Any]:
    return list(outputs(op.run(tuple(xs), attrs, **extra(op))))


def _on_tape(op: Operation, attrs: dict[str, Any], places: Sequence[int], xs: Sequence[Any]) -> tuple[Any, list[Any]]:
    leaves = [Variable._leaf(canonical(xs[i])) for i in places]
    given = list(xs)
    for i, leaf in zip(places, leaves, strict=True):
        given[i] = leaf
    ys = [y for y in outputs(op.run(tuple(given), attrs, **extra(op))) if isinstance(y, Variable)]
    return [y for y in ys if dtype_of(y).kind == "f"], leaves


def _gradient(op: Operation, attrs: dict[str, Any], places: Sequence[int], xs: Sequence[Any], lay: Layout) -> list[Any]:
    """With cotangents in that layout, too."""
    ys, leaves = _on_tape(op, attrs, places, xs)
    if not ys:
        return []
    return gradients([(y, laid(weights(y, k), lay)) for k, y in enumerate(ys)], leaves, create_graph=False)


def _second_gradient(
    op: Operation, attrs: dict[str, Any], places: Sequence[int], xs: Sequence[Any], lay: Layout
) -> list[Any]:
    ys, leaves = _on_tape(op, attrs, places, xs)
    if not ys:
        return []
    seeds = [(y, Variable._leaf(laid(weights(y, k), lay))) for k, y in enumerate(ys)]
    first = [g for g in gradients(seeds, leaves, create_graph=True) if g is not None]
    again = [(g, laid(weights(g, 5 + k), lay)) for k, g in enumerate(first) if g.creator is not None]
    found = gradients(again, [*leaves, *(seed for _, seed in seeds)], create_graph=False) if again else []
    return [*(g._data for g in first), *found]


def _forward(op: Operation, attrs: dict[str, Any], places: Sequence[int], xs: Sequence[Any], lay: Layout) -> list[Any]:
    forward = Forward(next_level())
    given = list(xs)
    for k, i in enumerate(places):
        given[i] = forward.pair(canonical(xs[i]), laid(weights(xs[i], k), lay))
    pairs = [forward.parts(y) for y in outputs(op.run(tuple(given), attrs, **extra(op)))]
    return [part for pair in pairs for part in pair if part is not None]


def _batched(op: Operation, attrs: dict[str, Any], places: Sequence[int], xs: Sequence[Any], lay: Layout) -> list[Any]:
    """Two rows, of which the second is the first once more."""
    batch = Batch(next_level(), 2)
    rows = [laid(np.stack([x, x]), lay) for x in xs]
    ys = op.run(tuple(batch.wrap(x) for x in rows), attrs, **extra(op))
    return [batch.unwrap(y) for y in outputs(ys)]


def _with_pullback(op: Operation, attrs: dict[str, Any], places: Sequence[int]) -> Callable[..., list[Any]]:
    """The outputs, and the gradients of the operands that are differentiated, as one function."""

    def run(*xs: Any) -> list[Any]:
        def of_moved(*at: Any) -> list[Any]:
            given = list(xs)
            for i, x in zip(places, at, strict=True):
                given[i] = x
            return list(outputs(op.run(tuple(given), attrs)))

        if not places:
            return of_moved()
        ys, pullback = vjp(of_moved, *(xs[i] for i in places))
        return [*ys, *pullback([weights(y, k) for k, y in enumerate(ys)])]

    return run


def laid(x: Any, lay: Layout) -> Any:
    """A value in a layout; numbers have none."""
    return canonical(lay(x)) if np.ndim(x) else x


#: NumPy adds up in the order of memory, and takes other instructions for elements that are apart.
ROUNDING = 1e-13


def _cases() -> Iterator[tuple[str, Operation, Example, dict[str, Any], list[int], list[Any]]]:
    """Those that have an operand with more than one element."""
    for case in CASES:
        op, example = case.values
        xs = operands(op, example)
        if op.name != "grad" and any(np.size(x) > 1 for x in xs):
            yield str(case.id), op, example, attributes(op, example), moved(op, example), xs


def _found(f: Callable[..., Any], *args: Any) -> Any:
    """The result, or the name of the error."""
    try:
        with np.errstate(all="ignore"):
            return f(*args)
    except AutogradError as error:
        return type(error).__name__


def _difference(found: Any, expected: Any) -> str:
    """How far results are from those for C order, empty where they are the same."""
    if isinstance(found, str) or isinstance(expected, str):
        return "" if isinstance(found, str) and found == expected else f"{found} in place of {expected}"
    for k, (x, y) in enumerate(zip(found, expected, strict=True)):
        if x is None or y is None:
            if x is not y:
                return f"[{k}] {x} in place of {y}"
        elif (shape_of(x), dtype_of(x)) != (shape_of(y), dtype_of(y)):
            return f"[{k}] {dtype_of(x)}{shape_of(x)} in place of {dtype_of(y)}{shape_of(y)}"
        elif not np.array_equal(x, y):
            atol = ROUNDING * np.max(np.abs(y), where=np.isfinite(y), initial=0.0) if dtype_of(y).kind == "f" else 0.0
            if not np.allclose(x, y, 0.0, atol, equal_nan=True):
                return f"[{k}] differs by {np.max(np.abs(np.subtract(x, y, dtype=float))):.2g}"
    return ""


def _in_order(x: Any) -> Any:
    return np.ascontiguousarray(x) if np.ndim(x) else x


def _compared(case: str, f: Callable[..., Any], given: list[Any], expected: Any) -> list[str]:
    """What is wrong with the results of a function, or with its arguments afterwards."""
    before = [np.array(x) for x in given]
    difference = _difference(_found(f, *given), expected)
    if not all(map(np.array_equal, given, before)):
        difference += " an operand has changed"
    return [f"{case}: {difference}"] if difference else []


def _of_quantity(quantity: Quantity, op: Operation, attrs: Any, places: Any, lay: Layout, *given: Any) -> Any:
    return _found(quantity, op, attrs, places, given, lay)


def _sweep(quantity: Quantity) -> list[str]:
    failures = []
    for case, op, _, attrs, places, xs in _cases():
        found = partial(_of_quantity, quantity, op, attrs, places)
        usual = found(_in_order, *map(_in_order, xs))
        for name, lay in LAYOUTS.items():
            given = [lay(x) if np.ndim(x) else x for x in xs]
            expected = usual
            if name == "broadcast":
                expected = found(lambda x: _in_order(broadcast(x)), *map(_in_order, given))
            failures += _compared(f"{case} {name}", partial(found, lay), given, expected)
    return failures


@pytest.mark.parametrize("quantity", [_value, _gradient, _second_gradient, _forward, _batched])
def test_rows_give_the_same_in_every_layout(quantity: Quantity) -> None:
    assert _sweep(quantity) == []


#: What the operands of a compiled function go through first: with these, the row meets values in that layout.
INSIDE: dict[str, tuple[Layout, Layout]] = {
    "fortran": (F.transpose, np.transpose),
    "reversed": (F.flip, np.flip),
}


def _through(run: Callable[..., Any], inside: Layout, *xs: Any) -> Any:
    return run(*(inside(x) if len(x.shape) > 1 else x for x in xs))


@pytest.mark.parametrize("smallest", [None, 2])
def test_compiled_rows_give_the_same_in_every_layout(smallest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once more with all arrays in buffers and regions, as large ones are."""
    if smallest:
        monkeypatch.setattr(buffers, "SMALLEST", smallest)
        monkeypatch.setattr(kernel, "fused", partial(fused, smallest=smallest))
    failures = []
    for case, op, _, attrs, places, xs in _cases():
        if op.random:
            continue
        run = _with_pullback(op, attrs, places)
        compiled = compile(run)
        usual = _found(compiled, *map(_in_order, xs))
        for name, lay in LAYOUTS.items():
            given = [lay(x) if np.ndim(x) else x for x in xs]
            expected = _found(compiled, *map(_in_order, given)) if name == "broadcast" else usual
            failures += _compared(f"{case} {name}", compiled, given, expected)
        for name, (inside, outside) in INSIDE.items():
            if any(np.ndim(x) > 1 for x in xs):
                through = compile(partial(_through, run, inside))
                given = [outside(x).copy(order="C") if np.ndim(x) > 1 else x for x in xs]
                failures += _compared(f"{case} {name} inside", through, given, usual)
    assert failures == []


#: Methods and functions whose result is a view of some arrays and a copy of others.
MAYBE_COPIES = {"reshape", "ravel"}


def _may_be_copy(node: ast.AST | None, names: set[str]) -> bool:
    if isinstance(node, ast.Subscript | ast.Starred):
        return _may_be_copy(node.value, names)
    if isinstance(node, ast.Name):
        return node.id in names
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in MAYBE_COPIES
        and not any(keyword.arg == "copy" for keyword in node.keywords)
    )


def _writes(function: ast.AST) -> Iterator[ast.AST]:
    """What a function writes to: by assignment to elements or in place, and as NumPy's functions are told to."""
    for node in ast.walk(function):
        if isinstance(node, ast.AugAssign):
            yield node.target
        elif isinstance(node, ast.Assign):
            yield from (target for target in node.targets if isinstance(target, ast.Subscript))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("at", "copyto", "put", "place", "putmask", "fill_diagonal") and node.args:
                yield node.args[0]
            if node.func.attr in ("fill", "sort", "partition", "setflags"):
                yield node.func.value
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "out")


def _doubtful(source: str) -> list[str]:
    """Writes through what may be a copy, by function and line; names are those that a function assigns."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef | ast.Lambda):
            assigned = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
            names = {
                target.id
                for node in assigned
                for target in node.targets
                if isinstance(target, ast.Name) and _may_be_copy(node.value, set())
            }
            found += [
                f"line {node.lineno}: {ast.unparse(node)}" for node in _writes(function) if _may_be_copy(node, names)
            ]
    return found


def test_nothing_is_written_through_what_may_be_a_copy() -> None:
    assert _doubtful("def f(x):\n    flat = x.reshape(-1)\n    flat[0] -= 1.0\n")
    assert _doubtful("def f(x):\n    np.add.at(np.ravel(x), 0, 1.0)\n")
    assert not _doubtful("def f(x):\n    flat = x.reshape(-1, copy=False)\n    flat[0] -= 1.0\n")
    root = Path(__file__).parents[2]
    failures = []
    for folder in ("engine", "app", "clients/python/src"):
        for path in sorted((root / folder).rglob("*.py")):
            source = path.read_text()
            if any(name in source for name in MAYBE_COPIES):
                failures += [f"{path.relative_to(root)}, {text}" for text in _doubtful(source)]
    assert failures == []
