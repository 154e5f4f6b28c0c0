"""The table of kinks in docs/conventions.md, every row in each way that there is to take a derivative."""

import math
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import engine
from engine import Variable, transforms
from engine import functions as F
from engine.programs import derivatives as programs
from engine.programs.evaluate import Backward, prepare
from engine.programs.text.parser import parse

DOCUMENT = Path(__file__).parents[2] / "docs" / "conventions.md"
NAMES = {name: getattr(F, name) for name in dir(F)} | {"inf": math.inf, "nan": math.nan}

Values = dict[str, Any]


class Row(NamedTuple):
    """One row of the table: the second derivatives as a matrix over all elements of all inputs, None where empty."""

    text: str
    at: Values
    gradient: Values
    second: Any

    def __call__(self, *args: Any) -> Any:
        return eval(self.text, NAMES | dict(zip(self.at, args, strict=True)))

    @property
    def points(self) -> list[Any]:
        return list(self.at.values())


def number(text: str) -> Any:
    value = eval(text, {"inf": math.inf, "nan": math.nan, "__builtins__": {}})
    return np.array(value, float) if isinstance(value, list) else float(value)


def parsed(line: str) -> Row:
    function, at, gradient, second, _ = (cell.strip() for cell in line.strip("|").split("|"))
    points = {name: number(value) for name, value in re.findall(r"(\w+) = (\[.*?\]|[^,]+)", at)}
    slopes = map(number, re.findall(r"\[.*?\]|[^, ]+", gradient))
    n = sum(np.size(x) for x in points.values())
    matrix = None
    if second:
        matrix = 2.0 * np.eye(n) if second == "2 I" else np.full((n, n), number(second))
    return Row(function.strip("`"), points, dict(zip(points, slopes, strict=True)), matrix)


ROWS = [parsed(line) for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]


def with_constants(row: Row) -> Iterator[Row]:
    """The row itself, and with some of its inputs as numbers in the text."""
    yield row
    for n in range(1, len(row.at)):
        for names in combinations(row.at, n):
            text = row.text
            for name in names:
                text = re.sub(rf"\b{name}\b", f"({row.at[name]})", text)
            kept = {name: x for name, x in row.at.items() if name not in names}
            yield Row(text, kept, {name: row.gradient[name] for name in kept}, None)


ALL = [form for row in ROWS for form in with_constants(row)]


def flat(found: Any) -> Any:
    return np.concatenate([np.ravel(getattr(x, "data", x)) for x in found])


def eager(row: Row) -> Any:
    xs = [Variable(x) for x in row.points]
    row(*xs).backward()
    return [x.grad for x in xs]


def recorded(row: Row) -> Any:
    xs = [Variable(x) for x in row.points]
    row(*xs).backward(create_graph=True)
    return [x.grad for x in xs]


def single(row: Row) -> Any:
    xs = [Variable(np.asarray(x, np.float32)) for x in row.points]
    row(*xs).backward()
    assert {x.grad.dtype for x in xs if x.grad is not None} == {np.dtype(np.float32)}
    return [x.grad for x in xs]


def every(row: Row) -> tuple[int, ...]:
    return tuple(range(len(row.at)))


def reverse(row: Row) -> Any:
    return transforms.grad(row, every(row))(*row.points)


def compiled(row: Row) -> Any:
    return engine.compile(transforms.grad(lambda *xs: row(*xs), every(row)))(*row.points)


def jacobian(mode: str) -> Callable[[Row], Any]:
    return lambda row: transforms.jacobian(row, every(row), mode=mode)(*row.points)


def pushed(row: Row) -> Any:
    """Along each element of each input in turn, the others constant."""
    found = []
    for place, x in enumerate(row.points):

        def alone(x: Any, place: int = place) -> Any:
            return row(*(x if i == place else other for i, other in enumerate(row.points)))

        units = np.eye(np.size(x)) if np.ndim(x) else [1.0]
        found += [transforms.jvp(alone, (x,), (unit,))[1] for unit in units]
    return found


def program(row: Row) -> Any:
    found = prepare(parse(row.text), row.at, backward=Backward()).run()
    assert found.grads is not None
    return [found.grads[name] for name in row.at]


def program_in_rows(row: Row) -> Any:
    """The same point three times."""
    given = {name: np.stack([x] * 3) for name, x in row.at.items()}
    found = prepare(parse(row.text), given, batched=list(given), backward=Backward()).run()
    assert found.grads is not None
    return [np.asarray(found.grads[name])[1] for name in row.at]


def program_jacobian(mode: str) -> Callable[[Row], Any]:
    def found(row: Row) -> Any:
        [matrices] = programs.jacobian(parse(row.text), row.at, mode=mode).run()["jacobian"].values()
        return [matrices[name] for name in row.at]

    return found


FIRST: dict[str, Callable[[Row], Any]] = {
    "eager": eager,
    "with create_graph": recorded,
    "float32": single,
    "transforms.grad": reverse,
    "compiled": compiled,
    "reverse jacobian": jacobian("reverse"),
    "forward jacobian": jacobian("forward"),
    "jvp": pushed,
    "vmap": lambda row: [
        x[0] for x in transforms.vmap(transforms.grad(row, every(row)))(*(np.stack([x, x]) for x in row.points))
    ],
    "program": program,
    "program in rows": program_in_rows,
    "program, reverse jacobian": program_jacobian("reverse"),
    "program, forward jacobian": program_jacobian("forward"),
}


def recorded_twice(row: Row) -> Any:
    xs = [Variable(x) for x in row.points]
    row(*xs).backward(create_graph=True)
    found = []
    for slope in [x.grad for x in xs]:
        assert slope is not None
        for place in np.ndindex(slope.shape):
            for x in xs:
                x.cleargrad()
            (slope[place] if place else slope).backward()
            found.append(flat(np.zeros(x.shape) if x.grad is None else x.grad for x in xs))
    return np.array(found)


def joined(blocks: Any) -> Any:
    """One matrix of a square of blocks."""
    sizes = [math.isqrt(np.size(blocks[i][i])) for i in range(len(blocks))]
    return np.block(
        [[np.reshape(b, (n, m)) for b, m in zip(bs, sizes, strict=True)] for bs, n in zip(blocks, sizes, strict=True)]
    )


def program_hessian(row: Row) -> Any:
    found = programs.hessian(parse(row.text), row.at).run()["hessian"]
    return joined([[found[name][other] for other in row.at] for name in row.at])


def program_hvp(row: Row) -> Any:
    """Along each element of each input in turn, as many directions at once."""
    n = sum(map(np.size, row.points))
    starts = np.cumsum([0, *map(np.size, row.points)])
    eye = np.eye(n)
    vectors = {
        name: eye[:, start : start + np.size(x)].reshape(n, *np.shape(x))
        for (name, x), start in zip(row.at.items(), starts, strict=False)
    }
    found = programs.hvp(parse(row.text), row.at, vectors, many=True).run()["hvp"]
    return np.hstack([np.reshape(found[name], (n, -1)) for name in row.at])


SECOND: dict[str, Callable[[Row], Any]] = {
    "tape": recorded_twice,
    "hessian": lambda row: joined(transforms.hessian(row, every(row))(*row.points)),
    "compiled hessian": lambda row: joined(
        engine.compile(transforms.hessian(lambda *xs: row(*xs), every(row)))(*row.points)
    ),
    "reverse over reverse": lambda row: joined(
        transforms.jacobian(transforms.grad(row, every(row)), every(row), mode="reverse")(*row.points)
    ),
    "reverse over forward": lambda row: joined(
        transforms.jacobian(transforms.jacobian(row, every(row), mode="forward"), every(row), mode="reverse")(
            *row.points
        )
    ),
    "forward over forward": lambda row: joined(
        transforms.jacobian(transforms.jacobian(row, every(row), mode="forward"), every(row), mode="forward")(
            *row.points
        )
    ),
    "program": program_hessian,
    "program, hvp": program_hvp,
}


def disagreements(rows: list[Row], way: Callable[[Row], Any], expected: Callable[[Row], Any]) -> list[str]:
    """The rows in which a way to take derivatives gives something else."""
    found = []
    with np.errstate(all="ignore"):
        for row in rows:
            values = np.asarray(way(row))
            if not np.array_equal(values, expected(row), equal_nan=True):
                found.append(f"{row.text} at {row.at}: {values.tolist()} in place of {expected(row).tolist()}")
    return found


def test_the_table_is_read() -> None:
    assert len(ROWS) > 60
    assert sum(row.second is not None for row in ROWS) > 40
    assert len(ALL) > len(ROWS)


@pytest.mark.parametrize("way", FIRST)
def test_gradients(way: str) -> None:
    rows = ALL
    if way == "program, forward jacobian":
        # All directions go through a program together, and 0 * inf is NaN.
        rows = [row for row in ALL if len(row.at) == 1 or not np.isinf(flat(row.gradient.values())).any()]
    assert not disagreements(rows, lambda row: flat(FIRST[way](row)), lambda row: flat(row.gradient.values()))


@pytest.mark.parametrize("way", SECOND)
def test_second_derivatives(way: str) -> None:
    assert not disagreements([row for row in ROWS if row.second is not None], SECOND[way], lambda row: row.second)


def test_elementwise_rows_are_alike_among_other_elements() -> None:
    """What a number gives, an element of an array gives, next to elements away from the kink."""
    rows = [row for row in ALL if not any(map(np.ndim, row.points)) and "norm" not in row.text]

    def among(row: Row) -> Any:
        xs = [Variable(np.array([2.25, x, 2.5, x])) for x in row.points]
        F.sum(row(*xs)).backward()
        return flat(x.grad.data[[1, 3]] for x in xs if x.grad is not None)

    assert not disagreements(rows, among, lambda row: np.repeat(flat(row.gradient.values()), 2))


def test_what_is_documented_of_names_is_true() -> None:
    """Every function of the table is an operation."""
    for row in ROWS:
        for name in re.findall(r"([a-z]\w*)\(", row.text):
            assert name in NAMES
