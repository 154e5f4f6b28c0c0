"""Bodies that are like one before but for the numbers of their inputs are answered as if they were read."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.http.templates import Templates
from app.main import Pullback
from app.wire.media import JSON
from tests.app.hot import Sent, ask, new_app
from tests.sampling import examples

HEADERS = ((b"content-type", JSON.encode()), (b"x-request-id", b"same"))
#: Bodies with places for numbers.
LIKE = [
    '{"expr":"square(exp(square(x)))","inputs":{"x":%s},"backward":true}',
    '{ "inputs" : {"y2": %s ,\n"x1":%s}, "expr": "x1 / y2 - 3*x1", "backward": {"order": 1} }',
    '{"backward":{"wrt":["x"],"order":3},"expr":"x**3 / 2 # inputs } {","inputs":{"x":%s}}',
    '{"expr":"a = b * 2; c = a > b; a, b","inputs":{"b":%s},"outputs":"all"}',
    '{"inputs":{"x":%s},"expr":"log(x)","backward":{"retain_grad":true}}',
    '{"expr":"where(x > 0, x, inputs)","inputs":{"x":%s,"inputs":%s},"backward":true}',
    '{"graph":{"nodes":[{"id":"y","op":"mul","args":["x",2]}],"inputs":{"x":{"shape":[]}}},"inputs":{"x":%s}}',
    '{"graph":{"inputs":{"n":{"dtype":"int64"}},"nodes":[{"id":"y","op":"mul","args":["n",2]}]},"inputs":{"n":%s}}',
    '{"expr":"x * 2","inputs":{"x":[%s]}}',
    '{"expr":"x * 2","inputs":{"x":%s},"encoding":"flat"}',
    '{"expr":"1e3 * pi","inputs":{}}',
    '{"expr":"\\u0078 * x","inputs":{"x":%s}}',
]
NUMBERS = (
    "0.5 0 -0 -0.0 0.0 -0e5 1 -1 12 1E5 1e-5 -1.50e+00 1e400 -1e400 5e-324 1e-400 1.7976931348623157e308 "
    "9007199254740993 123456789012345678901234567890 18446744073709551616 0.1 1e0 100 "
    '01 +1 .5 1. 1e -  NaN "NaN" "Infinity" null true [] {} 0x1 1_000 ١ 1e5.0 "0.5" [0.5] 1,2 1}'
).split()


def both(hot: Pullback, cold: Pullback, path: str, body: bytes) -> None:
    request = Sent(path, body, HEADERS)
    assert ask(hot, request) == ask(cold, request)


@pytest.fixture(scope="module")
def cold() -> Pullback:
    return new_app(prepared_requests=0)


@pytest.fixture(scope="module")
def hot() -> Pullback:
    return new_app()


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("path", ["/v1/evaluate", "/v1/hessian", "/v1/jacobian"])
@pytest.mark.parametrize("like", LIKE)
def test_numbers_in_every_spelling(hot: Pullback, cold: Pullback, like: str, path: str) -> None:
    count = like.count("%s")
    for _ in range(4):
        both(hot, cold, path, (like % (("0.75",) * count)).encode())
    for number in NUMBERS:
        for place in range(count):
            both(hot, cold, path, (like % (("2.5",) * place + (number,) + ("2.5",) * (count - place - 1))).encode())


@given(st.data())
@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_bodies_that_are_almost_alike(hot: Pullback, cold: Pullback, data: st.DataObject) -> None:
    like = data.draw(st.sampled_from(LIKE[:6]))
    body = like % tuple(data.draw(st.floats(-9, 9)) for _ in range(like.count("%s")))
    for _ in range(4):
        both(hot, cold, "/v1/evaluate", body.encode())
    place = data.draw(st.integers(0, len(body)))
    change = data.draw(st.sampled_from([" ", "0", "1", '"', "}", "{", ",", ":", "x", "-", "\\", ".", "e", "\n", ""]))
    kept = data.draw(st.integers(0, 2))
    both(hot, cold, "/v1/evaluate", (body[:place] + change + body[place + kept :]).encode())


def test_they_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app()
    found: list[Any] = []
    answer = Templates.answer

    def noted(self: Templates, path: str, body: bytes) -> bytes | None:
        found.append(answer(self, path, body))
        return found[-1]

    monkeypatch.setattr(Templates, "answer", noted)
    for x in (0.5, 0.25, 1.5, -2.5, -3, 7.5):
        body = json.dumps({"expr": "x * x * y", "inputs": {"x": x, "y": 2.0}, "backward": True}).encode()
        assert ask(app, Sent("/v1/evaluate", body, HEADERS)).document["grads"] == {"x": 4.0 * x, "y": x * x}
    assert [content is not None for content in found] == [False] * 4 + [True] * 2


def test_they_are_bounded() -> None:
    app = new_app(prepared_requests=10)
    for n in range(40):
        for _ in range(5):
            body = json.dumps({"expr": f"x * {n}.5", "inputs": {"x": 2.0}}).encode()
            assert ask(app, Sent("/v1/evaluate", body, HEADERS)).document["values"] == {"out": 2.0 * n + 1.0}
    assert len(app.inline.templates.kept) == 10
