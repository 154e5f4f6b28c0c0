"""The server in the corners: modes of Jacobians, -0, lives of sessions, 404s that help, limits before work."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from tests.acceptance.comparing import agree, numbers, report
from tests.acceptance.server import Local, local_server

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # sessions warn as NumPy does


def problem(response: Any, status: int, slug: str) -> str:
    assert response.status_code == status, f"{response.status_code} {response.text}"
    document = response.json()
    assert document["type"] == f"/problems/{slug}", document
    return str(document["detail"])


def test_all_modes_of_jacobian_agree_in_what_is_finite(server: Local) -> None:
    """Also where infinities and NaN stand; auto is one of both, whichever it takes."""
    cases = [
        ("sqrt(x)", [0, 4, 0]),
        ("sqrt(x) * sum(x)", [0, 4]),
        ("log(x)[1:]", [0, 2, 0]),
        ("where(x > 0, log(x), x)", [-1, 0, 2]),
        ("array([[1, 2], [3, 4], [5, 6]]) @ sqrt(x)", [0, 4]),
        ("sum(sqrt(x)) + 0 * x", [0, 4]),
        ("concat([1 / x, x])", [0, 2]),
        ("cumulative_sum(sqrt(x)[1:], axis=0)", [0, 4, 9]),
        ("outer(sqrt(x), x)", [0, 4]),
        ("max(sqrt(x)) * x", [0, 4]),
        ("norm(reshape(x, [2, 2]), axes=0)", [0, 1, 0, 2]),
        ("sqrt(x[0]) * x[1]", [0, 3]),
        ("x ** 1.5", [0, 1]),
        ("clip(1 / x, -3, 3)", [0, 1, -1]),
        ("sqrt(x) - sqrt(x)", [0, 1]),
        ("square(x)", ["NaN", "Infinity", 1]),
        ("roll(log(x), 1)", [0, 1, 2]),
    ]
    failures = []
    for text, x in cases:
        asked = {"expr": text, "inputs": {"x": x}}
        answers = {
            m: server.ask("/v1/jacobian", **asked, mode=m)["jacobian"]["out"]["x"]
            for m in ("reverse", "forward", "auto")
        }
        finite = {mode: np.isfinite(numbers(answer)) for mode, answer in answers.items()}
        same = all(np.array_equal(f, finite["reverse"]) for f in finite.values())
        if not same:
            failures.append(f"{text} at {x}: {answers}")
        elif not all(
            agree(
                np.where(finite["reverse"], numbers(a), 0), np.where(finite["reverse"], numbers(answers["reverse"]), 0)
            )
            for a in answers.values()
        ):
            failures.append(f"{text} at {x} differs: {answers}")
    assert not failures, report(failures, len(cases))


def test_backward_without_a_floating_input_is_not_differentiable(server: Local) -> None:
    cases: list[dict[str, Any]] = [
        {"expr": "sum(x)", "inputs": {"x": [True, False]}},
        {"expr": "x + y", "inputs": {"x": {"shape": [], "dtype": "int64", "data": [1]}, "y": True}},
        {"expr": "x * 1.5", "inputs": {"x": {"shape": [2], "dtype": "int64", "data": [1, 2]}}},
        {"expr": "where(c, 1.0, 2.0)", "inputs": {"c": True}},
        {"expr": "sum(array([1.0, 2.0]))", "inputs": {}},
    ]
    for case in cases:
        for backward in (True, {}):
            problem(server.post("/v1/evaluate", case | {"backward": backward}), 422, "not-differentiable")
        assert server.ask("/v1/evaluate", **case)["values"]
        assert "grads" not in server.ask("/v1/evaluate", **case, backward=False)


def test_integers_beside_floats_are_left_out_of_grads(server: Local) -> None:
    labels = {"shape": [1], "dtype": "int64", "data": [1]}
    answer = server.ask("/v1/evaluate", expr="cross_entropy(x, t)", inputs={"x": [[0, 0]], "t": labels}, backward=True)
    assert list(answer["grads"]) == ["x"] and agree(answer["grads"]["x"], [[0.5, -0.5]])


def test_minus_zero_is_read_and_written(server: Local) -> None:
    """JSON's `-0` is a float's: every float reads back bit for bit."""
    failures = []
    for body in ("-0", "-0.0", "-0e0", "[-0, 0]", "[[-0.0]]", '{"shape": [1], "dtype": "float64", "data": [-0]}'):
        text = '{"expr": "1 / x", "inputs": {"x": ' + body + "}}"
        response = server.request("POST", "/v1/evaluate", content=text, headers={"Content-Type": "application/json"})
        out = np.ravel(numbers(response.json()["values"]["out"]))[0]
        if out != -math.inf:
            failures.append(f"1 / {body}: {response.text}")
        echo = text.replace("1 / x", "neg(neg(x))")
        response = server.request("POST", "/v1/evaluate", content=echo, headers={"Content-Type": "application/json"})
        if math.copysign(1, np.ravel(numbers(response.json()["values"]["out"]))[0]) != -1 or "-0" not in response.text:
            failures.append(f"{body} comes back as {response.text}")
    batch = '{"expr": "1 / x", "inputs": {"x": [-0, 1]}, "batched": ["x"]}'
    response = server.request("POST", "/v1/evaluate", content=batch, headers={"Content-Type": "application/json"})
    if response.json()["values"]["out"] != ["-Infinity", 1.0]:
        failures.append(f"batched: {response.text}")
    # As a literal of a program `-0` is minus applied to 0: a weak number all the same.
    if server.ask("/v1/evaluate", expr="1 / (x * -0.0)", inputs={"x": 1})["values"]["out"] != "-Infinity":
        failures.append("a literal")
    assert not failures, report(failures, 14)


def test_a_session_outlives_its_own_answer(server: Local) -> None:
    """A life too short to be of use is refused, and the refusal says which is the shortest."""
    for ttl in (1e-6, 1e-9, 1e-4, 0, -1):
        response = server.post("/v1/sessions", {"ttl_s": ttl})
        assert response.status_code == 422, (ttl, response.text)
        if ttl > 0:
            assert re.search(r"\d", response.json()["detail"]), response.text
    for ttl in (60, 3600.0, None):
        session = server.ask("/v1/sessions", **({} if ttl is None else {"ttl_s": ttl}))
        assert server.get(f"/v1/sessions/{session['id']}").status_code == 200
        response = server.request("PATCH", f"/v1/sessions/{session['id']}", json={"ttl_s": 1e-6})
        assert response.status_code == 422, response.text
        assert server.get(f"/v1/sessions/{session['id']}").status_code == 200


def test_an_id_that_evaluating_gave_was_never_registered(server: Local) -> None:
    answer = server.ask("/v1/evaluate", expr="x * 17.25 + sin(x)", inputs={"x": 1})
    path = f"/v1/programs/{answer['program']}"
    for response in (
        server.get(path),
        server.post("/v1/evaluate", {"program": answer["program"], "inputs": {"x": 1}}),
        server.post("/v1/jacobian", {"program": answer["program"], "inputs": {"x": 1}}),
        server.post("/v1/programs", {"program": answer["program"], "bind": {"x": 1}}),
        server.post("/v1/infer", {"program": answer["program"], "inputs": {"x": 1}}),
        server.get(f"{path}/dot"),
    ):
        detail = problem(response, 404, "unknown-program")
        assert "registered" in detail and "/v1/programs" in detail, detail
    registered = server.ask("/v1/programs", expr="x * 17.25 + sin(x)")
    assert registered["id"] == answer["program"]
    assert server.ask("/v1/evaluate", program=answer["program"], inputs={"x": 1})["values"] == answer["values"]


def test_infer_says_what_a_program_would_cost_where_an_input_alone_is_too_large(server: Local) -> None:
    """A question about cost is answered: with the cost, and the limit that refuses it."""
    for shape in ([4000, 4000], [10_000_001], [100_000_000], [1000, 1000, 1000]):
        x = {"shape": shape, "dtype": "float64"}
        response = server.post("/v1/infer", {"expr": "sum(tanh(x))", "inputs": {"x": x}})
        assert response.status_code == 200, (shape, response.text)
        answer = response.json()
        assert answer["nodes"]["out"]["shape"] == [], answer
        assert answer["cost"]["bytes"] >= 8 * math.prod(shape), answer
        assert "PULLBACK_MAX_ELEMENTS" in response.text or "max_elements" in str(answer.get("refused", answer)), answer
    small = server.ask("/v1/infer", expr="sum(tanh(x))", inputs={"x": {"shape": [10], "dtype": "float64"}})
    assert "PULLBACK_MAX_ELEMENTS" not in str(small)


def test_evaluating_what_infer_says_is_too_large_is_refused() -> None:
    with local_server(max_elements=100) as small:
        document = {"expr": "sum(x)", "inputs": {"x": [0.0] * 101}}
        detail = problem(small.post("/v1/evaluate", document), 413, "limit-exceeded")
        assert "PULLBACK_MAX_ELEMENTS" in detail and "100" in detail
        # A node, not an input.
        document = {"expr": "sum(outer(x, x))", "inputs": {"x": [0.0] * 11}}
        detail = problem(small.post("/v1/evaluate", document), 413, "limit-exceeded")
        assert "PULLBACK_MAX_ELEMENTS" in detail
        inferred = small.post("/v1/infer", document)
        assert inferred.status_code == 200 or "PULLBACK_MAX_ELEMENTS" in inferred.text, inferred.text


def test_long_programs_are_refused_by_a_cheap_bound() -> None:
    """Lines are counted before they are parsed: what follows them is never looked at."""
    with local_server(max_nodes=1000) as small:
        lines = [f"a{k} = x * {k} + 1" for k in range(5000)]
        for text in ("; ".join(lines), "\n".join([*lines, "a1 = = 1"])):
            detail = problem(small.post("/v1/evaluate", {"expr": text, "inputs": {"x": 1}}), 413, "limit-exceeded")
            assert "PULLBACK_MAX_NODES" in detail and "1,000" in detail.replace("1000", "1,000"), detail
        nodes = [{"id": f"n{k}", "op": "sin", "args": ["x"]} for k in range(5000)]
        graph = {"graph": {"nodes": nodes, "outputs": ["n1"]}, "inputs": {"x": 1}}
        assert "PULLBACK_MAX_NODES" in problem(small.post("/v1/evaluate", graph), 413, "limit-exceeded")
        # Many short lines within the limit still work, and comments and blank lines cost nothing.
        text = "\n".join(["# a comment", "", *(f"b{k} = x + {k}" for k in range(400)), "b399"])
        assert small.ask("/v1/evaluate", expr=text, inputs={"x": 1})["values"]["b399"] == 400


def test_a_long_program_is_right(server: Local) -> None:
    lines = ["y = x", *("y = y * 1.001 + 0.5" for _ in range(2000)), "y"]
    answer = server.ask("/v1/evaluate", expr="\n".join(lines), inputs={"x": 1}, backward=True)
    assert agree(answer["grads"]["x"], 1.001**2000, 1e-9)


def test_second_derivatives_of_a_singular_determinant(server: Local) -> None:
    x = np.diag([0.0, 0, 2, 3, 4])
    answer = server.ask("/v1/hvp", expr="det(x)", inputs={"x": x.tolist()}, vectors={"x": np.eye(5).tolist()})
    # d/dt of the cofactors along I: element 00 gets prod of the other diagonal ones: 24, as does 11; the rest 0.
    assert agree(answer["hvp"]["x"], np.diag([24.0, 24, 0, 0, 0]), 1e-9, 1e-9), answer


def test_gammaln_at_minus_infinity(server: Local) -> None:
    assert server.ask("/v1/evaluate", expr="gammaln(x)", inputs={"x": ["-Infinity", "Infinity", -1]})["values"][
        "out"
    ] == [
        "Infinity",
        "Infinity",
        "Infinity",
    ]


def test_what_the_documents_say_of_kinks(server: Local) -> None:
    """The table of operations says what is true."""
    docs = {row["name"]: row["doc"] for row in server.get("/v1/ops").json()["operations"]}
    assert "1 at 0" not in docs["abs"]
    assert "1/2 at a bound" not in docs["clip"]
    assert "NaN where the variance is 0" not in docs["std"]
    assert "all derivatives are 0" not in docs["hypot"] and "all derivatives are 0" not in docs["euclidean_norm"]
    assert "NaN where a matrix of 4 rows or more is singular" not in docs["cofactor"]


def test_every_refusal_for_size_names_the_setting() -> None:
    """Whatever part of a program is too large, in whichever way it is asked: the server says what raises it."""
    x = {"x": [0.5] * 11}
    documents: list[tuple[str, dict[str, Any]]] = [
        *(
            ("/v1/evaluate", {"expr": text, "inputs": x})
            for text in (
                "sum(outer(x, x))",
                "sum(tensordot(x, x, axes=0))",
                'sum(einsum("i,j->ij", x, x))',
                "sum(broadcast_to(x, [10, 11]))",
                "sum(tile(x, [10]))",
                "sum(repeat(x, 10))",
                "sum(concat([x, x, x, x, x, x, x, x, x, x]))",
                "sum(stack([x, x, x, x, x, x, x, x, x, x]))",
                "sum(reshape(x, [11, 1]) * x)",
                "sum(std(reshape(x, [11, 1]) - x, axes=0))",
                "sum(softmax(reshape(x, [11, 1]) + x))",
                "sum(norm(reshape(x, [11, 1]) - x, axes=1))",
                "sum(logsumexp(reshape(x, [11, 1]) + x, axes=1))",
                "sum(one_hot(round(x), 10))",
                "mean_squared_error(reshape(x, [11, 1]), x)",
            )
        ),
        ("/v1/evaluate", {"expr": "sum(x)", "inputs": {"x": [0.5] * 101}}),
        ("/v1/evaluate", {"expr": "sum(outer(x, x))", "inputs": x, "backward": True}),
        ("/v1/evaluate", {"expr": "sum(outer(x, x))", "inputs": {"x": [[0.5] * 6] * 5}, "batched": ["x"]}),
        ("/v1/evaluate", {"expr": "x * y", "inputs": {"x": [0.5] * 11, "y": [[0.5]] * 11}}),
        ("/v1/jacobian", {"expr": "cumulative_sum(x)", "inputs": x}),
        ("/v1/hessian", {"expr": "prod(x)", "inputs": x}),
        ("/v1/vjp", {"expr": "sum(outer(x, x))", "inputs": x, "cotangents": {"out": 1}}),
        ("/v1/jvp", {"expr": "sum(outer(x, x))", "inputs": x, "tangents": x}),
        ("/v1/hvp", {"expr": "sum(outer(x, x))", "inputs": x, "vectors": x}),
        ("/v1/check", {"expr": "sum(outer(x, x))", "inputs": x}),
    ]
    failures = []
    with local_server(max_elements=100) as small:
        for path, document in documents:
            response = small.post(path, document)
            if response.status_code == 413 and "PULLBACK_MAX_ELEMENTS" not in response.json()["detail"]:
                failures.append(f"{path} {document['expr']}: {response.text}")
            elif response.status_code not in (200, 413):
                failures.append(f"{path} {document['expr']}: {response.status_code} {response.text}")
    for setting, value in [("max_flops", 10), ("max_bytes", 100), ("max_nodes", 2), ("max_depth", 3), ("max_chain", 3)]:
        with local_server(**{setting: value}) as small:
            response = small.post("/v1/evaluate", {"expr": "sin(((((x + x + x + x + x + x)))) * x)", "inputs": x})
            if response.status_code != 413 or f"PULLBACK_{setting.upper()}" not in response.json()["detail"]:
                failures.append(f"{setting}: {response.status_code} {response.text}")
    assert not failures, report(failures, len(documents) + 5)
