"""Derivatives of programs against function transforms: one by one, in many directions, over rows, both together."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import functions as F
from engine import transforms
from engine.core.errors import AutogradError, LimitExceededError, NotDifferentiableError
from engine.core.values import canonical
from engine.graph.limits import Limits
from engine.programs.binding import bind
from engine.programs.derivatives import hessian, hvp, jacobian, jvp, vjp
from engine.programs.evaluate import Backward, prepare
from engine.programs.gradient_check import check
from engine.programs.text import write
from engine.programs.text.parser import parse
from tests.engine.graphs import with_loss
from tests.engine.programs import PROGRAMS, Program

Values = dict[str, Any]

every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
ROWS = [0, 1, 3]
DIRECTIONS = [0, 1, 2, 5]


def like(values: Values, seed: int, *lead: int) -> Values:
    """Random values of the same shapes, after some axes, and dtypes."""
    rng = np.random.default_rng(seed)
    return {
        name: canonical(rng.standard_normal((*lead, *np.shape(x))).astype(np.asarray(x).dtype))
        for name, x in values.items()
    }


def stacked(program: Program, rows: int) -> Values:
    """The floating inputs of so many rows, each a little larger than the one before."""
    return {
        name: np.multiply.outer(1 + 0.01 * np.arange(rows), x).astype(np.asarray(x).dtype)
        for name, x in program.floating.items()
    }


def at(values: Values, *place: int) -> Values:
    return {name: canonical(np.asarray(x)[place]) for name, x in values.items()}


def nested(found: Any, join: Callable[[list[Any]], Any]) -> Any:
    """One document of many: each place of it joined."""
    if isinstance(found[0], dict):
        return {name: nested([document[name] for document in found], join) for name in found[0]}
    return join(found)


def stack(documents: list[Any], length: int) -> Any:
    """Documents along a new axis; the first `length` of them."""
    return nested(documents, lambda parts: np.stack([np.asarray(part) for part in parts])[:length])


def assert_close(found: Any, expected: Any, eps: float, where: str = "") -> None:
    """The same names, shapes and dtypes, at every depth."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name, x in expected.items():
            assert_close(found[name], x, eps, f"{where}/{name}")
        return
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype), where
    scale = np.max(np.abs(expected), initial=1.0)
    np.testing.assert_allclose(found, expected, rtol=eps, atol=eps * scale, err_msg=where)


def tolerance(program: Program) -> float:
    return 1e-10 if program.is_float64 else 1e-4


def loss(program: Program) -> Callable[[Values], Any]:
    """The sum of the squares of all floating outputs: what has a Hessian."""

    def total(inputs: Values) -> Any:
        return sum(F.sum(F.square(y)) for y in program(inputs).values())

    return total


@every_program
def test_vjp_and_jvp(program: Program) -> None:
    graph, eps = parse(program.text), tolerance(program)
    values, pullback = transforms.vjp(program, program.floating)
    cotangents, tangents = like(values, 1), like(program.floating, 2)
    back = vjp(graph, program.inputs, cotangents).run()
    assert_close(back, {"values": values, "vjps": pullback(cotangents)[0]}, eps)
    _, slopes = transforms.jvp(program, (program.floating,), (tangents,))
    ahead = jvp(graph, program.inputs, tangents).run()
    assert_close(ahead, {"values": values, "jvps": slopes}, eps)


@every_program
def test_jacobian_in_every_mode(program: Program) -> None:
    graph, eps = parse(program.text), tolerance(program)
    expected = {"values": program({}), "jacobian": transforms.jacobian(program)(program.floating)}
    for mode in ("reverse", "forward", "auto"):
        assert_close(jacobian(graph, program.inputs, mode=mode).run(), expected, eps, mode)


@every_program
def test_hessian_and_its_products(program: Program) -> None:
    graph, f, eps = with_loss(parse(program.text)), loss(program), tolerance(program)
    value, grads = transforms.value_and_grad(f)(program.floating)
    matrices = transforms.hessian(f)(program.floating)
    found = hessian(graph, program.inputs).run()
    assert_close(found, {"values": {"loss": value}, "hessian": matrices, "grads": grads}, eps)
    vectors = like(program.floating, 3)
    (products,) = transforms.hvp(f, (program.floating,), (vectors,))
    found = hvp(graph, program.inputs, vectors).run()
    assert_close(found, {"values": {"loss": value}, "hvp": products, "grads": grads}, eps)


@pytest.mark.sampled(one_in=16)
@every_program
def test_many_directions_are_one_after_the_other(program: Program) -> None:
    graph, squares, eps = parse(program.text), with_loss(parse(program.text)), tolerance(program)
    outputs = program({})
    for m in DIRECTIONS:
        tangents, cotangents = like(program.floating, 4, m), like(outputs, 5, m)
        several = {
            "vjps": vjp(graph, program.inputs, cotangents, many=True).run(),
            "jvps": jvp(graph, program.inputs, tangents, many=True).run(),
            "hvp": hvp(squares, program.inputs, tangents, many=True).run(),
        }
        single: dict[str, list[Any]] = {"vjps": [], "jvps": [], "hvp": []}
        for k in range(max(m, 1)):
            t, c = (at(tangents, k), at(cotangents, k)) if m else (like(program.floating, 6), like(outputs, 6))
            single["vjps"].append(vjp(graph, program.inputs, c).run())
            single["jvps"].append(jvp(graph, program.inputs, t).run())
            single["hvp"].append(hvp(squares, program.inputs, t).run())
        for kind, documents in single.items():
            # What does not depend on a direction has no axis of them.
            expected = {**documents[0], kind: stack([d[kind] for d in documents], m)}
            assert_close(several[kind], expected, eps, f"{kind} of {m}")


@pytest.mark.sampled(one_in=16)
@every_program
def test_rows_together_are_rows_alone(program: Program) -> None:
    graph, squares, eps = parse(program.text), with_loss(parse(program.text)), tolerance(program)
    names = list(program.floating)
    for n in ROWS:
        rows = stacked(program, max(n, 1))
        points = [{**program.inputs, **at(rows, k)} for k in range(max(n, 1))]
        tangents, cotangents = like(program.floating, 7, max(n, 1)), like(program({}), 8, max(n, 1))
        inputs = {**program.inputs, **first(rows, n)}
        together = [
            vjp(graph, inputs, first(cotangents, n), batched=names).run(),
            jvp(graph, inputs, first(tangents, n), batched=names).run(),
            jacobian(graph, inputs, batched=names).run(),
            hvp(squares, inputs, first(tangents, n), batched=names).run(),
            hessian(squares, inputs, batched=names).run(),
        ]
        alone = [
            [
                vjp(graph, point, at(cotangents, k)).run(),
                jvp(graph, point, at(tangents, k)).run(),
                jacobian(graph, point).run(),
                hvp(squares, point, at(tangents, k)).run(),
                hessian(squares, point).run(),
            ]
            for k, point in enumerate(points)
        ]
        for i, found in enumerate(together):
            assert_close(found, stack([row[i] for row in alone], n), eps, f"{n} rows")


def first(values: Values, n: int) -> Values:
    return {name: x[:n] for name, x in values.items()}


@every_program
def test_many_directions_over_rows(program: Program) -> None:
    """Directions come before rows; an input that is not batched has directions without rows."""
    graph, squares, eps = parse(program.text), with_loss(parse(program.text)), tolerance(program)
    names = list(program.floating)[:1]
    n, m = 3, 2
    inputs = {**program.inputs, names[0]: stacked(program, n)[names[0]]}
    tangents = {name: like({name: inputs[name]}, 9, m)[name] for name in program.floating}
    cotangents = like(program({}), 10, m, n)
    together = [
        vjp(graph, inputs, cotangents, batched=names, many=True).run()["vjps"],
        jvp(graph, inputs, tangents, batched=names, many=True).run()["jvps"],
        hvp(squares, inputs, tangents, batched=names, many=True).run()["hvp"],
    ]
    by_direction = []
    for k in range(m):
        by_row = []
        for row in range(n):
            point = {**inputs, names[0]: canonical(np.asarray(inputs[names[0]][row]))}
            t = {x: canonical(np.asarray(v[(k, row) if x in names else (k,)])) for x, v in tangents.items()}
            by_row.append(
                [
                    vjp(graph, point, at(cotangents, k, row)).run()["vjps"],
                    jvp(graph, point, t).run()["jvps"],
                    hvp(squares, point, t).run()["hvp"],
                ]
            )
        by_direction.append(by_row)
    for i, found in enumerate(together):
        assert_close(found, stack([stack([row[i] for row in rows], n) for rows in by_direction], m), eps)
    nothing = jvp(
        graph, {**inputs, names[0]: inputs[names[0]][:0]}, first_rows(tangents, names), batched=names, many=True
    )
    for name, y in nothing.run()["jvps"].items():
        assert y.shape == (m, 0, *np.shape(program({})[name]))


def first_rows(tangents: Values, batched: list[str]) -> Values:
    """The same directions for no rows."""
    return {name: t[:, :0] if name in batched else t for name, t in tangents.items()}


NODES = "a = sin(x*y); b = a*x; out = sum(b*b + a)"
POINT: Values = {"x": 0.7, "y": np.array([0.3, -1.2, 2.5])}


def shifted(x: Any, y: Any, a: Any = 0.0, b: Any = 0.0) -> Any:
    """The program of NODES with something added to its nodes: what a derivative with respect to a node is."""
    a = F.sin(x * y) + a
    b = a * x + b
    return F.sum(b * b + a)


def test_derivatives_with_respect_to_nodes() -> None:
    graph = parse(NODES)
    point = {**POINT, "a": np.zeros(3), "b": np.zeros(3)}

    def f(values: Values) -> Any:
        return shifted(**values)

    value, grads = transforms.value_and_grad(f)(point)
    wrt = list(point)
    assert_close(vjp(graph, POINT, {"out": 1.0}, wrt=wrt).run(), {"values": {"out": value}, "vjps": grads}, 1e-12)
    matrices = transforms.jacobian(f)(point)
    for mode in ("reverse", "forward"):
        assert_close(jacobian(graph, POINT, wrt=wrt, mode=mode).run()["jacobian"]["out"], matrices, 1e-12)
    curvatures = transforms.hessian(f)(point)
    assert_close(hessian(graph, POINT, wrt=wrt).run()["hessian"], curvatures, 1e-12)
    for moving in (["a"], ["a", "b"], ["x", "a"], wrt):
        t = {name: v if name in moving else np.zeros_like(v) for name, v in like(point, 11).items()}
        given = {name: t[name] for name in moving}
        slope = transforms.jvp(f, (point,), (t,))[1]
        assert_close(jvp(graph, POINT, given).run()["jvps"], {"out": slope}, 1e-12, str(moving))
        (products,) = transforms.hvp(f, (point,), (t,))
        assert_close(hvp(graph, POINT, given, wrt=wrt).run()["hvp"], products, 1e-12, str(moving))


def test_cotangents_of_nodes() -> None:
    graph = parse(NODES)
    cotangents = like({"a": POINT["y"], "b": POINT["y"], "out": 0.0}, 12)

    def weighted(x: Any, y: Any) -> Any:
        a = F.sin(x * y)
        b = a * x
        return F.sum(a * cotangents["a"]) + F.sum(b * cotangents["b"]) + F.sum(b * b + a) * cotangents["out"]

    expected = transforms.grad(weighted, argnums=(0, 1))(*POINT.values())
    found = vjp(graph, POINT, cotangents).run()["vjps"]
    assert_close(found, dict(zip(POINT, expected, strict=True)), 1e-12)


def test_an_alias_is_what_it_stands_for() -> None:
    graph = parse("a = sin(x); b = a; sum(b*b)")
    x = np.array([0.3, -1.0])
    found = vjp(graph, {"x": x}, {"out": 1.0}, wrt=["a", "b"]).run()["vjps"]
    assert_close(found, {"a": 2 * np.sin(x), "b": 2 * np.sin(x)}, 1e-12)
    t = np.array([1.0, 2.0])
    once, twice = (jvp(graph, {"x": x}, tangents).run()["jvps"]["out"] for tangents in ({"a": t}, {"a": t, "b": t}))
    assert twice == pytest.approx(2 * once, rel=1e-15)
    assert once == pytest.approx(float(np.sum(2 * np.sin(x) * t)), rel=1e-14)


def test_modes_take_the_cheaper_way() -> None:
    wide, tall = parse("sum(sin(x)*w)"), parse("sin(x*w)")
    inputs = {"x": np.linspace(0.1, 1.0, 50), "w": np.linspace(1.0, 2.0, 50)}
    for graph, x, cheap, dear in ((wide, inputs["x"], "reverse", "forward"), (tall, 0.5, "forward", "reverse")):
        costs = {mode: jacobian(graph, {**inputs, "x": x}, wrt=["x"], mode=mode).cost for mode in ("auto", cheap, dear)}
        assert costs["auto"] == costs[cheap]
        assert costs[cheap].flops < costs[dear].flops


X = np.ones(200)
#: name -> (what is asked, the words of the refusal, what it suggests)
REFUSALS: dict[str, tuple[Callable[[Limits], Any], str, str]] = {
    "jacobian": (lambda limits: jacobian(parse("sin(x)"), {"x": X}, limits=limits), "40,000 elements", "vjp.*jvp"),
    "jacobian of rows": (
        lambda limits: jacobian(parse("sin(x)"), {"x": np.ones((50, 20))}, batched=["x"], limits=limits),
        "20,000 elements",
        "vjp.*jvp",
    ),
    "hessian": (lambda limits: hessian(parse("sum(sin(x))"), {"x": X}, limits=limits), "40,000 elements", "hvp"),
    "hessian of several": (
        lambda limits: hessian(parse("sum(x*y)"), {"x": X[:60], "y": X[:60]}, limits=limits),
        "14,400 elements",
        "hvp",
    ),
    "the way to a jacobian": (
        lambda limits: jacobian(
            parse("broadcast_to(sum(x), [50])@broadcast_to(x, [50])"), {"x": 1.0}, limits=Limits(max_flops=10)
        ),
        "flops",
        "vjp.*jvp",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_too_large_is_refused_before_it_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, words, suggestion = REFUSALS[name]

    def ran(*args: Any) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr("engine.plans.plan.Plan.run", ran)
    with pytest.raises(LimitExceededError, match=f"{words}.*{suggestion}") as caught:
        ask(Limits(max_elements=10_000))
    assert all(fault.msg == caught.value.detail for fault in caught.value.faults)
    assert caught.value.limit == words.split()[-1]


def test_products_stay_within_the_limits_that_matrices_exceed() -> None:
    limits = Limits(max_elements=10_000)
    found = hvp(parse("sum(sin(x))"), {"x": X}, {"x": X}, limits=limits).run()
    np.testing.assert_allclose(found["hvp"]["x"], -np.sin(X), rtol=1e-14)
    many = vjp(parse("sin(x)"), {"x": X}, {"out": np.ones((10, 200))}, many=True, limits=limits).run()
    np.testing.assert_allclose(many["vjps"]["x"], np.tile(np.cos(X), (10, 1)), rtol=1e-14)
    with pytest.raises(LimitExceededError, match="elements"):
        vjp(parse("sin(x)"), {"x": X}, {"out": np.ones((51, 200))}, many=True, limits=limits)


#: name -> (what is asked, the words of the refusal)
FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "no cotangent": (lambda: vjp(parse("sin(x)"), {"x": X}, {}), "cotangents: expected at least one"),
    "no tangent": (lambda: jvp(parse("sin(x)"), {"x": X}, {}), "tangents: expected at least one"),
    "unknown output": (lambda: vjp(parse("sin(x)"), {"x": X}, {"oud": X}), 'no input or node "oud"; nearest: out'),
    "unknown tangent": (lambda: jvp(parse("sin(x)"), {"x": X}, {"z": X}), 'no input or node "z"'),
    "a shape": (
        lambda: vjp(parse("sin(x)"), {"x": X}, {"out": X[:3]}),
        r"shape \[3\]; expected that of \"out\", \[200\]",
    ),
    "unequal directions": (
        lambda: jvp(parse("x*y"), {"x": 1.0, "y": 2.0}, {"x": np.ones(2), "y": np.ones(3)}, many=True),
        r"leading axes of directions differ \(x: 2, y: 3\)",
    ),
    "a scalar for many": (lambda: jvp(parse("x"), {"x": 1.0}, {"x": 1.0}, many=True), "leading axis of directions"),
    "another mode": (lambda: jacobian(parse("sin(x)"), {"x": X}, mode="sideways"), "reverse, forward"),
    "hessian of many": (lambda: hessian(parse("sin(x)"), {"x": X}), "expected one element"),
    "hvp of many": (lambda: hvp(parse("sin(x)"), {"x": X}, {"x": X}), "expected one element"),
    "an integer": (lambda: jvp(parse("x*n"), {"x": 1.0, "n": np.array(2)}, {"n": 1.0}), "int64"),
    "of an integer": (lambda: vjp(parse("n*n"), {"n": np.array(2)}, {"out": 1.0}), "int64"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    ask, words = FAULTS[name]
    with pytest.raises(AutogradError, match=words):
        ask()


def test_nodes_made_of_a_batch_of_integers_have_derivatives() -> None:
    graph = parse('h = astype(i, "float64"); y = sum(h * h); y')
    rows = np.arange(6).reshape(2, 3)
    found = prepare(graph, {"i": rows}, batched=["i"], backward=Backward(wrt=("h",), order=2)).run()
    np.testing.assert_array_equal((found.grads or {})["h"], 2.0 * rows)
    np.testing.assert_array_equal((found.higher or {})["h"][1], np.full((2, 3), 2.0))
    blocks = hessian(graph, {"i": rows}, wrt=["h"], batched=["i"]).run()["hessian"]
    np.testing.assert_array_equal(blocks["h"]["h"], np.broadcast_to(2.0 * np.eye(3), (2, 3, 3)))
    assert check(graph, {"i": rows}, wrt=["h"], batched=["i"], order=2).run().max_error > 0.0


def test_many_inputs_are_one_pass() -> None:
    names = [f"x{n}" for n in range(60)]
    graph = parse(" + ".join(f"{name} ** 2" for name in names))
    found = hessian(graph, dict.fromkeys(names, 1.5))
    # Each of the 3,600 numbers is cut out on its own, and that is what most operations are for.
    assert found.cost.nodes < 3 * len(names) ** 2
    blocks = found.run()["hessian"]
    assert blocks["x3"]["x3"] == 2.0
    assert blocks["x3"]["x4"] == 0.0


def test_outputs_without_derivatives_are_left_out() -> None:
    graph = parse("y = x * x; sign_of = x > 0; y, sign_of")
    assert jvp(graph, {"x": 3.0}, {"x": 1.0}).run()["jvps"] == {"y": 6.0}
    assert jacobian(graph, {"x": 3.0}).run()["jacobian"] == {"y": {"x": 6.0}}
    with pytest.raises(NotDifferentiableError, match="sign_of"):
        jvp(graph, {"x": 3.0}, {"x": 1.0}, outputs=["sign_of"])


def test_vectors_move_inputs_that_are_not_differentiated_by() -> None:
    found = hvp(parse("x**2 * y"), {"x": 3.0, "y": 2.0}, {"y": 1.0}, wrt=["x"]).run()
    assert found["hvp"] == {"x": 6.0}


@pytest.mark.parametrize("text", ["slice_add(x, 0.5, [0])", "scatter_add(x, [0, 0], 0.5)", "slice_add(x, 2, [0])"])
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_literals_beside_arrays_have_the_dtype_that_is_foretold(text: str, dtype: str) -> None:
    prepared = prepare(parse(text), {"x": np.arange(3).astype(dtype)})
    assert prepared.run().values["out"].dtype == prepared.avals["out"].dtype


def test_results_cannot_be_written_to() -> None:
    x = np.array([1.0, 2.0])
    for value in prepare(parse("a = x; b = reshape(a, [2, 1]); c = x * 2; a, b, c"), {"x": x}).run().values.values():
        assert not value.flags.writeable


#: Programs in which nothing that is given is floating, and their inputs.
WITHOUT_FLOATS: list[tuple[str, dict[str, Any]]] = [
    ("sum(i * 0.5)", {"i": np.array([1, 2])}),
    ("where(b, 2.0, 3.0)", {"b": np.array(True)}),
    ("sum(i * 0.5 + b * 2.0)", {"i": np.array([1, 2]), "b": np.array([True, False])}),
    ("sin(2.0)", {}),
    ("h = sum(i) * 0.5; sin(h)", {"i": np.array([[1], [2]])}),
]
FLOAT_CALLS: dict[str, Callable[..., Any]] = {
    "backward": lambda graph, inputs, **more: prepare(graph, inputs, backward=Backward(), **more),
    "order": lambda graph, inputs, **more: prepare(graph, inputs, backward=Backward(order=3), **more),
    "create_graph": lambda graph, inputs, **more: prepare(graph, inputs, backward=Backward(create_graph=True), **more),
    "retain_grad": lambda graph, inputs, **more: prepare(graph, inputs, backward=Backward(retain_grad=True), **more),
    "vjp": lambda graph, inputs, **more: vjp(graph, inputs, {graph.outputs[0].name: np.float64(1.0)}, **more),
    "jvp": lambda graph, inputs, **more: jvp(
        graph, inputs, {name: np.ones(np.shape(x)) for name, x in inputs.items()}, **more
    ),
    "jacobian": jacobian,
    "forward": lambda graph, inputs, **more: jacobian(graph, inputs, mode="forward", **more),
    "hessian": hessian,
    "hvp": lambda graph, inputs, **more: hvp(graph, inputs, {graph.outputs[0].name: np.float64(1.0)}, **more),
    "check": check,
    "check of order 2": lambda graph, inputs, **more: check(graph, inputs, order=2, **more),
}


def test_nothing_to_differentiate_with_respect_to_is_refused_by_every_call() -> None:
    wrong = []
    graphs = [(parse(text), inputs) for text, inputs in WITHOUT_FLOATS]
    # What is bound is never differentiated.
    graphs += [(bind(parse(f"c * ({text})"), {"c": 2.0}), inputs) for text, inputs in WITHOUT_FLOATS[:4]]
    for graph, inputs in graphs:
        for name, call in FLOAT_CALLS.items():
            if name == "jvp" and not inputs:
                continue
            try:
                wrong.append((name, write.as_text(graph), call(graph, inputs)))
            except NotDifferentiableError as error:
                told = [fault.msg for fault in error.faults]
                if not all("floating" in msg or "no inputs" in msg for msg in told):
                    wrong.append((name, write.as_text(graph), told))
    assert wrong == []
    # A node may still be named.
    found = prepare(parse("h = sum(i) * 0.5; sin(h)"), {"i": np.array([1, 2])}, backward=Backward(wrt=("h",))).run()
    assert found.grads == {"h": np.cos(1.5)}
