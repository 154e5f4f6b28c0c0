"""`/v1/programs`: programs kept by id and name, with declared inputs and bound values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.app.calls import ask, assert_close, evaluate, problem_text, refused, sendable
from tests.app.test_contract import Array, objects
from tests.app.test_malformed import flat, graph, node

if TYPE_CHECKING:
    from tests.app.conftest import Server

PROGRAM_ID = re.compile(r"p_[0-9a-f]{32}")


def post(server: Server, status: int, **request: Any) -> dict[str, Any]:
    """The answer to a POST of a program, which has to have this status."""
    response = server.client.post("/v1/programs", json=sendable(request))
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    assert PROGRAM_ID.fullmatch(answer["id"])
    return answer


def register(server: Server, **request: Any) -> dict[str, Any]:
    """The answer to a program that is new."""
    return post(server, 201, **request)


def look(server: Server, program: str) -> dict[str, Any]:
    """The answer to GET of a program by id or name."""
    response = server.client.get(f"/v1/programs/{program}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def remove(server: Server, program: str) -> None:
    response = server.client.delete(f"/v1/programs/{program}")
    assert response.is_success, response.text


def assert_unknown(server: Server, program: str) -> None:
    """Neither looking at a program nor running it finds it."""
    problem_text(server.client.get(f"/v1/programs/{program}"), "unknown-program", [program])
    refused(server, "unknown-program", program, "/v1/evaluate", program=program, inputs={})


# Registering


def test_registering_tells_what_the_program_is(server: Server) -> None:
    answer = register(server, expr="first = x * y; second = sin(first) * 201; first, second", name="described")
    assert answer["name"] == "described"
    assert set(answer["inputs"]) == {"x", "y"}
    assert list(answer["outputs"]) == ["first", "second"]
    assert answer["nodes"] >= 3
    assert answer["cost"]


def test_registering_twice_gives_the_same_id(server: Server) -> None:
    first = register(server, expr="x * 202")
    again = post(server, 200, expr="x * 202")
    assert again["id"] == first["id"]


def test_a_name_is_optional(server: Server) -> None:
    assert not register(server, expr="x * 203").get("name")


def test_the_id_is_that_of_evaluate(server: Server) -> None:
    evaluated = server.evaluate(expr="y = x * 204", inputs={"x": 1})["program"]
    assert register(server, expr="y = x * 204")["id"] == evaluated
    assert server.evaluate(program=evaluated, inputs={"x": 1})["program"] == evaluated


def test_evaluating_stores_nothing(server: Server) -> None:
    assert_unknown(server, server.evaluate(expr="x * 205", inputs={"x": 1})["program"])


def test_an_id_that_an_answer_told_is_told_how_to_be_registered(server: Server) -> None:
    """Wherever it is used."""
    program = server.evaluate(expr="x * 2051", inputs={"x": 1})["program"]
    calls = "evaluate vjp jvp jacobian hessian hvp check infer programs".split()
    directions = {"vjp": "cotangents", "jvp": "tangents", "hvp": "vectors"}
    found = [
        server.client.post(
            f"/v1/{call}",
            json={"program": program}
            | ({"bind": {"x": 1}} if call == "programs" else {"inputs": {"x": 1}})
            | ({directions[call]: {"x": 1}} if call in directions else {}),
        )
        for call in calls
    ]
    found += [server.client.get(f"/v1/programs/{program}{more}") for more in ("", "/dot", "/dot.svg")]
    for response in found:
        text = problem_text(response, "unknown-program", [program])
        assert "never registered" in text and "POST /v1/programs" in text, response.request
    register(server, expr="x * 2051")
    assert server.evaluate(program=program, inputs={"x": 1})["values"] == {"out": 2051}


def test_a_graph_is_registered(server: Server) -> None:
    document = graph(node("y", "mul", "x", 206), node("z", "sum", "y", attrs={"axes": [0]}))["graph"]
    answer = register(server, graph=document, name="a_graph")
    assert set(answer["inputs"]) == {"x"}
    assert list(answer["outputs"]) == ["z"]
    assert server.evaluate(program="a_graph", inputs={"x": [1, 2]})["values"] == {"z": 618}


# RunOptions by id and by name

CALLS: list[tuple[str, dict[str, Any], str, Any]] = [
    ("evaluate", {"backward": True}, "grads", {"x": 60}),
    ("evaluate", {"backward": {"order": 2}}, "higher", {"x": [60, 120]}),
    ("vjp", {"cotangents": {"y": 10}}, "vjps", {"x": 600}),
    ("jvp", {"tangents": {"x": 10}}, "jvps", {"y": 600}),
    ("jacobian", {}, "jacobian", {"y": {"x": 60}}),
    ("hessian", {}, "hessian", {"x": {"x": 120}}),
    ("hvp", {"vectors": {"x": 10}}, "hvp", {"x": 1200}),
    ("check", {}, "ok", True),
]


@pytest.mark.parametrize("by", ["id", "name"])
@pytest.mark.parametrize(
    ("call", "fields", "key", "expected"), CALLS, ids=["evaluate", "order", *(row[0] for row in CALLS[2:])]
)
def test_every_call_takes_a_program(
    server: Server, call: str, fields: dict[str, Any], key: str, expected: Any, by: str
) -> None:
    response = server.client.post("/v1/programs", json={"expr": "y = 20 * x ** 3", "name": "a_cube"})
    assert response.status_code in (200, 201), response.text
    answer = server.ask(f"/v1/{call}", program=response.json()[by], inputs={"x": 1}, **fields)
    assert answer[key] == expected


def test_infer_takes_a_program(server: Server) -> None:
    register(server, expr="y = sin(x) * 207", name="inferred")
    answer = server.ask("/v1/infer", program="inferred", inputs={"x": {"shape": [7, 3], "dtype": "float64"}})
    assert any(item.get("shape") == [7, 3] and "dtype" in item for item in objects(answer))


# Names


def test_a_name_held_by_another_program_is_a_conflict(server: Server) -> None:
    held = register(server, expr="x * 211", name="held")
    text = refused(server, "name-conflict", "held", "/v1/programs", expr="x * 212", name="held")
    assert "replace" in text
    assert server.evaluate(program="held", inputs={"x": 1})["program"] == held["id"]


def test_the_same_program_keeps_its_name(server: Server) -> None:
    first = register(server, expr="x * 213", name="kept")
    again = post(server, 200, expr="x * 213", name="kept")
    assert (again["id"], again["name"]) == (first["id"], "kept")


def test_replace_moves_a_name(server: Server) -> None:
    old = register(server, expr="x * 214", name="moved")
    new = register(server, expr="x * 215", name="moved", replace=True)
    assert server.evaluate(program="moved", inputs={"x": 1})["values"] == {"out": 215}
    assert look(server, "moved")["id"] == new["id"] != old["id"]
    assert server.evaluate(program=new["id"], inputs={"x": 1})["values"] == {"out": 215}


def test_replace_of_nothing_is_a_name(server: Server) -> None:
    register(server, expr="x * 216", name="not_there_before", replace=True)
    assert server.evaluate(program="not_there_before", inputs={"x": 1})["values"] == {"out": 216}


# Looking, listing, deleting

VALUES = flat([2], "float64", [1, 2])
DOCUMENTS: dict[str, dict[str, Any]] = {
    "infix": {"expr": "h = sin(x) * 221; h ** 2"},
    "unnamed steps": {"expr": "sum(sin(x * 222) ** 2) / (1 + exp(-x[0]))"},
    "several outputs": {"expr": "p, q = split(x * 223, [1, 1], axis=0); r = p - q; r, q, p"},
    "attributes": {"expr": "clip(softmax(x * 224, axis=0), 0.25, 0.75)[::-1]"},
    "literals": {"expr": 'x * array([1, 2], dtype="float64") + [0.1, -225] + nan * 0 - inf'},
    "a comparison": {"expr": "where(x >= 226, x, -x)"},
    "a gradient": {"expr": "u = sin(x) * 227; du = grad(sum(u), x); sum((du - u) ** 2)"},
    "a gradient by a step": {"expr": "u = x * 228; grad(sum(u ** 2), u)"},
    "names of operations": {"expr": "max = x * 229; sum = max + max; sum"},
    "a graph": {
        "graph": {
            "nodes": [
                {"id": "z", "op": "mul", "args": [{"op": "sum", "args": ["y"], "attrs": {"axes": [0]}}, 230]},
                {"id": "y", "op": "sin", "args": ["x"]},
            ],
            "outputs": ["z", "y"],
        }
    },
    "declared": {"expr": "x * 231", "inputs": {"x": {"shape": [-1], "dtype": "float64"}}},
    "bound": {"expr": "x * 232 + w", "bind": {"w": VALUES}},
    "declared and bound": {
        "expr": "x @ w * 233",
        "inputs": {"x": {"shape": [-1], "dtype": "float64"}, "w": {"shape": [2], "dtype": "float64"}},
        "bind": {"w": VALUES},
    },
}


@pytest.mark.parametrize("form", ["expr", "graph"])
@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_what_is_shown_gives_the_same_id(server: Server, document: dict[str, Any], form: str) -> None:
    response = server.client.post("/v1/programs", json=document)
    assert response.status_code in (200, 201), response.text
    program = response.json()["id"]
    shown = look(server, program)
    beside = {key: value for key, value in document.items() if key in ("inputs", "bind")}
    if form == "graph" and "inputs" in shown["graph"]:
        beside.pop("inputs", None)
    assert post(server, 200, **{form: shown[form]}, **beside)["id"] == program


@pytest.mark.parametrize("form", ["expr", "graph"])
def test_a_gradient_program_is_shown_and_read_back(server: Server, form: str) -> None:
    x = np.array([0.5, -1.0])
    answer = evaluate(server, expr="sum(tanh(x * 234))", inputs={"x": x}, backward={"create_graph": True})
    program = answer["grad_program"]
    shown = look(server, program)
    beside = {} if form == "graph" and "inputs" in shown["graph"] else {"inputs": shown["inputs"]}
    assert post(server, 200, **{form: shown[form]}, **beside)["id"] == program
    values = evaluate(server, **{form: shown[form]}, inputs={"x": x})["values"]
    assert_close(values, {"grad_x": answer["grads"]["x"]})


def test_a_program_is_shown_by_id_and_name(server: Server) -> None:
    declared = {"x": {"shape": [-1, 2], "dtype": "float64"}}
    answer = register(server, expr="x @ w * 241", name="shown", inputs=declared, bind={"w": [1.0, 2.0]})
    by_id, by_name = look(server, answer["id"]), look(server, "shown")
    assert by_id == by_name
    assert (by_id["id"], by_id["name"]) == (answer["id"], "shown")
    assert set(by_id["inputs"]) == {"x"}
    assert any(item.get("shape") in ([-1, 2], [None, 2]) for item in objects(by_id["inputs"]))
    assert any(isinstance(item.get("w"), dict) and item["w"].get("shape") == [2] for item in objects(by_id))


def test_the_list_shows_programs(server: Server) -> None:
    registered = {register(server, expr=f"x * {n}", name=f"listed_{n}")["id"] for n in (242, 243)}
    response = server.client.get("/v1/programs")
    assert response.status_code == 200, response.text
    listed = [item["id"] for item in objects(response.json()) if "id" in item]
    assert listed and all(PROGRAM_ID.fullmatch(program) for program in listed)
    assert len(listed) == len(set(listed))
    assert all(look(server, program)["id"] == program for program in registered)


@pytest.mark.parametrize(("by", "factor"), [("id", 244), ("name", 248)], ids=["id", "name"])
def test_a_deleted_program_is_gone(server: Server, by: str, factor: int) -> None:
    answer = register(server, expr=f"x * {factor}", name=f"deleted_by_{by}")
    remove(server, answer[by])
    assert_unknown(server, answer["id"])
    assert_unknown(server, answer["name"])


def test_a_deleted_program_s_name_is_free(server: Server) -> None:
    remove(server, register(server, expr="x * 245", name="freed")["id"])
    register(server, expr="x * 246", name="freed")
    assert server.evaluate(program="freed", inputs={"x": 1})["values"] == {"out": 246}


def test_a_deleted_program_may_come_back(server: Server) -> None:
    first = register(server, expr="x * 247")
    remove(server, first["id"])
    assert register(server, expr="x * 247")["id"] == first["id"]


@pytest.mark.parametrize("program", ["p_" + "0" * 32, "nobody_registered_this"])
def test_an_unknown_program(server: Server, program: str) -> None:
    assert_unknown(server, program)
    problem_text(server.client.get(f"/v1/programs/{program}/dot"), "unknown-program", [program])


# Declared inputs

TABLE = {"x": {"shape": [-1, 2], "dtype": "float64"}, "w": {"shape": [2], "dtype": "float32"}}


def test_free_dimensions_take_any_length(server: Server) -> None:
    register(server, expr="x * w * 251", name="free", inputs=TABLE)
    for rows in (0, 1, 5):
        x = np.ones((rows, 2))
        values = evaluate(server, program="free", inputs={"x": x, "w": [1, 2]})["values"]
        assert_close(values, {"out": x * [251.0, 502.0]})


def test_null_is_a_free_dimension_too(server: Server) -> None:
    register(server, expr="x * 252", name="null_is_free", inputs={"x": {"shape": [None], "dtype": "float64"}})
    assert server.evaluate(program="null_is_free", inputs={"x": [1, 2]})["values"] == {"out": [252, 504]}


def test_a_declared_dtype_is_the_input_s(server: Server) -> None:
    register(server, expr="w * 253", name="typed", inputs={"w": TABLE["w"]})
    answer = server.evaluate(program="typed", inputs={"w": [1, 2]}, encoding="flat")
    assert answer["values"] == {"out": flat([2], "float32", [253, 506])}


@pytest.mark.parametrize(
    ("inputs", "word"),
    [({"x": [[1, 2, 3]], "w": [1, 2]}, "x"), ({"x": [1, 2], "w": [1, 2]}, "x"), ({"x": [[1, 2]], "w": [1]}, "w")],
    ids=["a fixed dimension", "rank", "another input"],
)
def test_declared_shapes_are_checked(server: Server, inputs: dict[str, Any], word: str) -> None:
    program = server.client.post("/v1/programs", json={"expr": "x * w * 254", "inputs": TABLE}).json()["id"]
    refused(server, "invalid-request", word, "/v1/evaluate", program=program, inputs=inputs)


# Bound values

POSTERIOR = "z = X @ theta; logp = sum(t * z - log1p(exp(z))) - 0.5 * sum(theta ** 2)"


def observations(rows: int) -> dict[str, Array]:
    random = np.random.default_rng(3)
    return {"X": random.normal(size=(rows, 3)), "t": random.integers(0, 2, rows).astype(float)}


def posterior(X: Array, t: Array, theta: Array) -> tuple[Any, Array]:
    """Log density and gradient of a logistic regression under a standard normal prior."""
    z = X @ theta
    return np.sum(t * z - np.log1p(np.exp(z))) - theta @ theta / 2, X.T @ (t - 1 / (1 + np.exp(-z))) - theta


def test_a_posterior_with_bound_data(server: Server) -> None:
    data = observations(200)
    whole = register(server, expr=POSTERIOR)
    bound = register(server, program=whole["id"], bind=data, name="posterior")
    assert bound["id"] != whole["id"]
    assert set(bound["inputs"]) == {"theta"}
    for theta in np.random.default_rng(4).normal(size=(5, 3)):
        answer = evaluate(server, program="posterior", inputs={"theta": theta}, backward=True)
        value, gradient = posterior(**data, theta=theta)
        assert_close(answer["values"], {"logp": value})
        assert_close(answer["grads"], {"theta": gradient})
        assert answer["program"] == bound["id"]
    assert_close(evaluate(server, program=whole["id"], inputs={**data, "theta": theta})["values"], answer["values"])


def test_bound_names_are_in_no_result(server: Server) -> None:
    register(server, expr="y = x * w * 261", bind={"w": [2.0, 3.0]}, name="bound_everywhere")
    program: dict[str, Any] = {"program": "bound_everywhere", "inputs": {"x": [1, 1]}}
    assert server.evaluate(**program, backward=True)["grads"] == {"x": [522, 783]}
    assert server.ask("/v1/vjp", **program, cotangents={"y": [1, 0]})["vjps"] == {"x": [522, 0]}
    assert server.ask("/v1/jacobian", **program)["jacobian"] == {"y": {"x": [[522, 0], [0, 783]]}}
    assert server.ask("/v1/jvp", **program, tangents={"x": [0, 1]})["jvps"] == {"y": [0, 783]}


def test_only_one_floating_input_is_left_for_an_order(server: Server) -> None:
    program = register(server, expr="w * x ** 3 * 262", bind={"w": 2.0})["id"]
    answer = server.evaluate(program=program, inputs={"x": 1}, backward={"order": 3})
    assert answer["higher"] == {"x": [1572, 3144, 3144]}


def test_bound_values_count_in_the_id(server: Server) -> None:
    first = register(server, expr="x * w * 263", bind={"w": 1.0})["id"]
    assert post(server, 200, expr="x * w * 263", bind={"w": 1.0})["id"] == first
    others = [{"w": 2.0}, {"w": [1.0]}, {"w": flat([], "float32", [1])}, {"x": 1.0}]
    ids = {first, *(register(server, expr="x * w * 263", bind=bind)["id"] for bind in others)}
    assert len(ids) == 1 + len(others)


def test_binding_one_by_one_is_binding_at_once(server: Server) -> None:
    once = register(server, expr="x * v * w * 264", bind={"v": 2.0, "w": 3.0})["id"]
    first = register(server, expr="x * v * w * 264", bind={"v": 2.0})["id"]
    assert post(server, 200, program=first, bind={"w": 3.0})["id"] == once


def test_every_input_may_be_bound(server: Server) -> None:
    program = register(server, expr="x * w * 265", bind={"x": 2.0, "w": 3.0})
    assert not program["inputs"]
    assert server.evaluate(program=program["id"], inputs={})["values"] == {"out": 1590}


def test_the_gradient_program_keeps_what_is_bound(server: Server) -> None:
    program = register(server, expr="sum(w * x ** 2) * 266", bind={"w": [1.0, 2.0]})["id"]
    answer = server.evaluate(program=program, inputs={"x": [1, 1]}, backward={"create_graph": True})
    again = server.evaluate(program=answer["grad_program"], inputs={"x": [2, 3]})
    assert again["values"] == {"grad_x": [1064, 3192]}


def test_a_batch_shares_what_is_bound(server: Server) -> None:
    program = register(server, expr="x @ w * 267", bind={"w": [1.0, 2.0]})["id"]
    answer = server.evaluate(program=program, inputs={"x": [[1, 0], [0, 1]]}, batched=["x"], backward=True)
    assert (answer["values"], answer["grads"]) == ({"out": [267, 534]}, {"x": [[267, 534]] * 2})


def test_hvp_of_a_posterior(server: Server) -> None:
    data, theta, v = observations(50), np.array([0.1, -0.2, 0.3]), np.array([1.0, 0.0, -2.0])
    program = register(server, expr=POSTERIOR, bind=data)["id"]
    answer = ask(server, "/v1/hvp", program=program, inputs={"theta": theta}, vectors={"theta": v})
    p = 1 / (1 + np.exp(-data["X"] @ theta))
    assert_close(answer["grads"], {"theta": posterior(**data, theta=theta)[1]})
    assert_close(answer["hvp"], {"theta": -data["X"].T @ (p * (1 - p) * (data["X"] @ v)) - v})


# DOT


def dot(server: Server, program: str, query: str = "") -> str:
    """The program's DOT text, of which the outline is checked."""
    response = server.client.get(f"/v1/programs/{program}/dot{query}")
    assert response.status_code == 200, response.text
    text = response.text.strip()
    assert text.startswith("digraph") and text.endswith("}")
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    assert unquoted.count("{") == unquoted.count("}") >= 1
    assert "->" in unquoted
    return text


def test_dot_grows_with_the_order(server: Server) -> None:
    program = register(server, expr="y = tanh(x) * sin(x) * 271")["id"]
    zeroth, first, second = (dot(server, program, f"?order={n}").count("->") for n in range(3))
    assert second > first
    assert second > zeroth


def test_dot_shows_names(server: Server) -> None:
    text = dot(server, register(server, expr="velocity = sin(time) * 272")["id"])
    assert "velocity" in text and "time" in text


def test_dot_takes_inputs_that_are_not_declared_as_scalars(server: Server) -> None:
    dot(server, register(server, expr="x * y * 273")["id"])


def test_dot_of_declared_inputs(server: Server) -> None:
    declared = {"x": {"shape": [2, 3], "dtype": "float64"}, "w": {"shape": [3], "dtype": "float64"}}
    dot(server, register(server, expr="sum(tanh(x @ w)) * 274", inputs=declared)["id"])
