"""Every endpoint against `engine.transforms`: programs as text over HTTP, and the same as Python functions here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine import functions as F
from engine.transforms import grad, hessian, hvp, jacobian, jvp, vjp, vmap
from tests.app.calls import ask
from tests.engine.programs import PROGRAMS, Program
from tests.engine.same import assert_same

if TYPE_CHECKING:
    from tests.app.conftest import Server

Values = dict[str, Any]

#: Of every family, for what takes a batch or many directions.
SELECTION = {
    "powers",
    "soft_activations",
    "where",
    "layer_norm",
    "extremes",
    "concat_and_stack",
    "take",
    "attention",
    "gaussian_density",
    "cholesky",
    "contractions",
    "mlp",
    "cross_entropy",
    "logistic_posterior",
    "quarters",
    "black_scholes",
    "integers",
    "mixed_precision",
}
SELECTED = [program for program in PROGRAMS if program.name in SELECTION]
PRECISE = [program for program in PROGRAMS if program.is_float64]
DIRECTIONS = [0, 1, 2, 64]
ROWS = [0, 1, 1000]
MODES = ["reverse", "forward", "auto"]


def each(programs: list[Program]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("program", programs, ids=lambda program: program.name)


# The two ways


def asked(program: Program, inputs: Values | None = None) -> Values:
    """What a request says of the program."""
    return {"expr": program.text, "inputs": dict(program.inputs if inputs is None else inputs)}


def assert_congruent(program: Program, found: Any, expected: Any) -> None:
    """The same names, shapes, dtypes and numbers.

    What separates two numbers is compared with the largest of their array, or 1: others may be what a cancellation has
    left. In single precision it may be more: the two ways round their steps differently.
    """
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_congruent(program, found[name], expected[name])
    else:
        rtol = 1e-12 if program.is_float64 else 1e-6
        assert_same(found, np.asarray(expected), rtol, rtol * np.max(np.abs(expected), initial=1.0))


def like(values: Mapping[str, Any], seed: int, *lead: int) -> Values:
    """Random values of the same shapes, after the axes of `lead`, and of the same dtypes."""
    rng = np.random.default_rng(seed)
    return {
        name: np.asarray(rng.standard_normal((*lead, *np.shape(x))), np.asarray(x).dtype) for name, x in values.items()
    }


def floating(program: Program, inputs: Values) -> tuple[Callable[[Values], Values], Values]:
    """The program as a function of those inputs that are differentiated, and their values."""
    fixed = {name: x for name, x in inputs.items() if name not in program.floating}
    return lambda xs: program(fixed | xs), {name: inputs[name] for name in program.floating}


def scalar(program: Program, inputs: Values) -> tuple[Callable[[Values], Any], Values]:
    """The same where the program is one element."""
    f, xs = floating(program, inputs)
    (name,) = program.outputs
    return lambda xs: f(xs)[name], xs


def pull(program: Program, inputs: Values, cotangents: Values) -> Values:
    f, xs = floating(program, inputs)
    found: Values = vjp(f, xs)[1](cotangents)[0]
    return found


def push(program: Program, inputs: Values, tangents: Values) -> Values:
    f, xs = floating(program, inputs)
    found: Values = jvp(f, (xs,), (tangents,))[1]
    return found


def curve(program: Program, inputs: Values, vectors: Values) -> Values:
    f, xs = scalar(program, inputs)
    found: Values = hvp(f, (xs,), (vectors,))[0]
    return found


def slopes(program: Program, inputs: Values) -> Values:
    f, xs = scalar(program, inputs)
    found: Values = grad(f)(xs)
    return found


def matrices(program: Program, inputs: Values, mode: str = "auto") -> Values:
    f, xs = floating(program, inputs)
    found: Values = jacobian(f, mode=mode)(xs)
    return found


def curvature(program: Program, inputs: Values) -> Values:
    f, xs = scalar(program, inputs)
    found: Values = hessian(f)(xs)
    return found


def as_loss(program: Program) -> Program:
    """A program of one element: the program itself, or a sum of all its elements in which no two weigh alike."""
    names = program.outputs
    if len(names) == 1 and np.size(program({})[names[0]]) == 1:
        return program
    before, last = re.fullmatch(r"(.*[;\n])?(.*)", program.text, re.DOTALL).groups("")  # type: ignore[union-attr]
    text = f"{before}{names[0]} = {last.strip()}" if len(names) == 1 else before
    terms = [f"f = reshape({y}, [-1]); s_{y} = sum(f * cos(0.1 * cumulative_sum(ones_like(f))))" for y in names]
    text = "\n".join([text, *terms, "loss = " + " + ".join(f"s_{y}" for y in names)])

    def function(**inputs: Any) -> Any:
        flat = [F.reshape(y, [-1]) for y in program(inputs).values()]
        return sum(F.sum(f * F.cos(0.1 * F.cumulative_sum(F.ones_like(f)))) for f in flat)

    return Program(program.name, text, function, program.inputs, ("loss",))


@dataclass(frozen=True, slots=True)
class Product:
    """An endpoint that takes directions.

    field: of its requests, that holds the directions.
    key: of its answers, that holds the products.
    of: what is asked of a program: the program, or a loss.
    along: from a program to its values that directions belong to.
    transform: the same by Python, of the program, its inputs and directions.
    """

    path: str
    field: str
    key: str
    of: Callable[[Program], Program]
    along: Callable[[Program], Values]
    transform: Callable[[Program, Values, Values], Values]


PRODUCTS = {
    "vjp": Product("/v1/vjp", "cotangents", "vjps", lambda p: p, lambda p: p({}), pull),
    "jvp": Product("/v1/jvp", "tangents", "jvps", lambda p: p, lambda p: p.floating, push),
    "hvp": Product("/v1/hvp", "vectors", "hvp", as_loss, lambda p: p.floating, curve),
}
#: Of every product of cases `make test` takes one in four, and each program at least once.
sampled = pytest.mark.sampled(one_in=12, each=["program"])
each_product = pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)


def test_there_are_enough_programs() -> None:
    assert len(PROGRAMS) >= 50
    assert {program.name for program in SELECTED} == SELECTION
    assert sum(as_loss(program) is not program for program in PROGRAMS) >= 25


# One point, one direction


@each(PROGRAMS)
def test_evaluate(server: Server, program: Program) -> None:
    ys = program({})
    cotangents = like(ys, 1)
    for of, y in ys.items():
        for given, g in ({}, np.ones_like(y)), ({"cotangent": cotangents[of]}, cotangents[of]):
            answer = ask(server, "/v1/evaluate", **asked(program), backward={"of": of, **given})
            cotangent = {name: g if name == of else np.zeros_like(other) for name, other in ys.items()}
            assert_congruent(program, answer["values"], ys)
            assert_congruent(program, answer["grads"], pull(program, dict(program.inputs), cotangent))


@each(PROGRAMS)
def test_gradient_program(server: Server, program: Program) -> None:
    loss = as_loss(program)
    answer = ask(server, "/v1/evaluate", **asked(loss), backward={"create_graph": True})
    again = ask(server, "/v1/evaluate", program=answer["grad_program"], inputs=dict(program.inputs))
    expected = slopes(loss, dict(program.inputs))
    assert_congruent(program, answer["grads"], expected)
    assert_congruent(program, again["values"], {f"grad_{name}": g for name, g in expected.items()})


@sampled
@each_product
@each(PROGRAMS)
def test_product(server: Server, program: Program, product: Product) -> None:
    subject, directions = product.of(program), like(product.along(program), 2)
    answer = ask(server, product.path, **asked(subject), **{product.field: directions})
    assert_congruent(program, answer["values"], subject({}))
    assert_congruent(program, answer[product.key], product.transform(subject, dict(program.inputs), directions))


@sampled
@pytest.mark.parametrize("mode", MODES)
@each(PROGRAMS)
def test_jacobian(server: Server, program: Program, mode: str) -> None:
    answer = ask(server, "/v1/jacobian", **asked(program), mode=mode)
    assert_congruent(program, answer["values"], program({}))
    assert_congruent(program, answer["jacobian"], matrices(program, dict(program.inputs), mode))


@each(PROGRAMS)
def test_hessian(server: Server, program: Program) -> None:
    loss = as_loss(program)
    answer = ask(server, "/v1/hessian", **asked(loss))
    assert_congruent(program, answer["values"], loss({}))
    assert_congruent(program, answer["grads"], slopes(loss, dict(program.inputs)))
    assert_congruent(program, answer["hessian"], curvature(loss, dict(program.inputs)))


@sampled
@pytest.mark.parametrize("order", [1, 2])
@each(PRECISE)
def test_check(server: Server, program: Program, order: int) -> None:
    answer = ask(server, "/v1/check", **asked(program), order=order)
    assert answer["ok"] is True, answer["worst"]


# Many directions


@sampled
@pytest.mark.parametrize("count", DIRECTIONS)
@each_product
@each(SELECTED)
def test_many(server: Server, program: Program, product: Product, count: int) -> None:
    subject, directions = product.of(program), like(product.along(program), 3, count)
    answer = ask(server, product.path, **asked(subject), **{product.field: directions}, many=True)
    expected = vmap(lambda d: product.transform(subject, dict(program.inputs), d))(directions)
    assert_congruent(program, answer["values"], subject({}))
    assert_congruent(program, answer[product.key], expected)


@each_product
@each(SELECTED)
def test_many_is_a_loop_of_requests(server: Server, program: Program, product: Product) -> None:
    request, directions = asked(product.of(program)), like(product.along(program), 4, 2)
    many = ask(server, product.path, **request, **{product.field: directions}, many=True)[product.key]
    alone = [
        ask(server, product.path, **request, **{product.field: {name: d[k] for name, d in directions.items()}})
        for k in range(2)
    ]
    assert_congruent(program, many, {name: np.stack([one[product.key][name] for one in alone]) for name in many})


# Many rows


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of a program: those that are named in rows near the program's own value, integers in another order."""

    program: Program
    names: tuple[str, ...]
    rows: int

    @property
    def inputs(self) -> Values:
        rng = np.random.default_rng(self.rows)
        found = dict(self.program.inputs)
        for name in self.names:
            x = np.asarray(found[name])
            many = np.broadcast_to(x, (self.rows, *x.shape))
            is_floating = name in self.program.floating
            found[name] = (
                (many * rng.uniform(0.9, 1.1, many.shape)).astype(x.dtype)
                if is_floating
                else rng.permuted(many, axis=1)
            )
        return found

    @property
    def axes(self) -> dict[str, int | None]:
        """Which axis of each input counts rows."""
        return {name: 0 if name in self.names else None for name in self.program.inputs}

    def axes_of(self, product: Product) -> dict[str, int | None]:
        """The same of each direction: all cotangents have rows, for all outputs do."""
        return {
            name: self.axes.get(name) if product.field != "cotangents" else 0 for name in product.along(self.program)
        }

    def directions(self, product: Product, *lead: int) -> Values:
        """Random directions, those of `lead` at once."""
        with_rows = like(product.along(self.program), 5, *lead, self.rows)
        without = like(product.along(self.program), 6, *lead)
        return {name: (without if axis is None else with_rows)[name] for name, axis in self.axes_of(product).items()}

    def asked(self, program: Program) -> Values:
        """A request for one of the programs that have these inputs."""
        return asked(program, self.inputs) | {"batched": list(self.names)}

    def over_rows(self, f: Callable[..., Values], *axes: dict[str, int | None]) -> Callable[..., Values]:
        """`f` of the inputs, and of what has these axes, for all rows at once."""
        return vmap(f, (self.axes, *axes))


def batches(program: Program, rows: int) -> list[Batch]:
    """All inputs in rows, and the first alone."""
    names = tuple(program.inputs)
    return [Batch(program, chosen, rows) for chosen in sorted({names, names[:1]})]


many_rows = pytest.mark.parametrize("rows", ROWS)


@many_rows
@each(SELECTED)
def test_batched_evaluate(server: Server, program: Program, rows: int) -> None:
    loss = as_loss(program)
    for batch in batches(program, rows):
        answer = ask(server, "/v1/evaluate", **batch.asked(loss), backward=True)
        assert_congruent(program, answer["values"], batch.over_rows(loss)(batch.inputs))
        assert_congruent(program, answer["grads"], batch.over_rows(lambda xs: slopes(loss, xs))(batch.inputs))


@sampled
@many_rows
@each_product
@each(SELECTED)
def test_batched_product(server: Server, program: Program, product: Product, rows: int) -> None:
    subject = product.of(program)
    for batch in batches(program, rows):
        directions = batch.directions(product)
        answer = ask(server, product.path, **batch.asked(subject), **{product.field: directions})
        alone = batch.over_rows(lambda xs, d: product.transform(subject, xs, d), batch.axes_of(product))
        assert_congruent(program, answer["values"], batch.over_rows(subject)(batch.inputs))
        assert_congruent(program, answer[product.key], alone(batch.inputs, directions))


@sampled
@pytest.mark.parametrize(("rows", "count"), [(0, 2), (1, 64), (3, 0), (3, 1), (1000, 2)])
@each_product
@each(SELECTED)
def test_batched_many(server: Server, program: Program, product: Product, rows: int, count: int) -> None:
    subject = product.of(program)
    for batch in batches(program, rows):
        directions = batch.directions(product, count)
        answer = ask(server, product.path, **batch.asked(subject), **{product.field: directions}, many=True)
        alone = batch.over_rows(lambda xs, d: product.transform(subject, xs, d), batch.axes_of(product))
        assert_congruent(program, answer["values"], batch.over_rows(subject)(batch.inputs))
        assert_congruent(program, answer[product.key], vmap(alone, (None, 0))(batch.inputs, directions))


@sampled
@pytest.mark.parametrize("mode", MODES)
@many_rows
@each(SELECTED)
def test_batched_jacobian(server: Server, program: Program, rows: int, mode: str) -> None:
    for batch in batches(program, rows):
        answer = ask(server, "/v1/jacobian", **batch.asked(program), mode=mode)
        expected = batch.over_rows(lambda xs: matrices(program, xs, mode))(batch.inputs)
        assert_congruent(program, answer["jacobian"], expected)


@sampled
@many_rows
@each(SELECTED)
def test_batched_hessian(server: Server, program: Program, rows: int) -> None:
    loss = as_loss(program)
    for batch in batches(program, rows):
        answer = ask(server, "/v1/hessian", **batch.asked(loss))
        assert_congruent(program, answer["grads"], batch.over_rows(lambda xs: slopes(loss, xs))(batch.inputs))
        assert_congruent(program, answer["hessian"], batch.over_rows(lambda xs: curvature(loss, xs))(batch.inputs))
