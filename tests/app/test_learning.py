"""The event loop learns from measurements of workers which requests it may answer, and forgets those that are slow."""

from __future__ import annotations

import json
import tracemalloc
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from app.http import inline, questions
from app.http.inline import BAN_S, COLD_S, LONGEST_BODY, PREPARING_SHARE, WARM_S
from tests.app.hot import Sent, ask, ask_all, new_app, sent

if TYPE_CHECKING:
    from app.main import Pullback

ABOVE = 1.01
QUICKSTART = {"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": True}
VECTOR = {"expr": "sum(x * x)", "inputs": {"x": [1.0, 2.0]}}


def evaluate(document: Any, *headers: tuple[bytes, bytes]) -> Sent:
    return sent("/v1/evaluate", document, "application/json", *headers)


def ways(app: Pullback, *requests: Sent) -> list[int]:
    """For each request, one after the other, 1 if the event loop answers it, and 0 if a worker does."""
    found = []
    for request in requests:
        before = app.inline.answered, len(app.pool.calls)
        assert ask(app, request).status == 200
        loop, workers = app.inline.answered - before[0], len(app.pool.calls) - before[1]
        assert loop + workers == 1
        found.append(loop)
    return found


# Before anything is measured


def test_nothing_is_prepared_here_before_workers_answered_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app()
    prepared: list[bytes] = []
    calculator = app.inline._calculator

    def answer(endpoint: Any, call: Any) -> Any:
        prepared.append(call.body)
        return calculator.answer(endpoint, call)

    monkeypatch.setattr(app.inline, "_calculator", SimpleNamespace(answer=answer))
    request = evaluate(QUICKSTART)
    assert ways(app, request, request) == [0, 0]
    assert not prepared and not len(app.inline.preparations.kept) and not len(app.inline.templates.kept)
    assert ways(app, *[request] * 4) == [1] * 4
    # Once is enough for all that follow.
    assert prepared == [request.body]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(QUICKSTART).encode().ljust(LONGEST_BODY + 1),
        json.dumps(VECTOR | {"inputs": {"x": [[1.0]] * 64}}).encode(),
        json.dumps(VECTOR | {"inputs": {"x": [1.0] * 1000}}).encode(),
    ],
    ids=["long", "brackets", "array"],
)
def test_what_is_long_or_nested_is_not_even_parsed_here(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    def refused(text: bytes) -> Any:
        raise AssertionError("parsed on the event loop")

    app = new_app()
    monkeypatch.setattr(inline, "loads", refused)
    for pieces in (1, 3):
        request = Sent("/v1/evaluate", body, ((b"content-type", b"application/json"),), pieces=pieces)
        assert ways(app, *[request] * 3) == [0, 0, 0]


# What is cheap


@pytest.mark.parametrize(
    ("cold_s", "warm_s", "is_cheap"),
    [
        (0.0, 0.0, True),
        (COLD_S, 0.0, True),
        (COLD_S * ABOVE, 0.0, False),
        (0.0, WARM_S / ABOVE, True),
        (0.0, WARM_S, False),
        (COLD_S * ABOVE, WARM_S, False),
    ],
)
def test_what_takes_long_stays_with_the_workers(cold_s: float, warm_s: float, is_cheap: bool) -> None:
    app = new_app()
    app.pool.cold_s, app.pool.warm_s = cold_s, warm_s
    assert ways(app, *[evaluate(QUICKSTART)] * 5) == [0, 0, *[int(is_cheap)] * 3]


def test_one_cold_answer_that_took_long_counts_for_ever() -> None:
    app = new_app(prepared_requests=1)
    first, other = evaluate(QUICKSTART), evaluate(VECTOR)
    app.pool.cold_s = COLD_S * ABOVE
    assert ways(app, first, first) == [0, 0]
    app.pool.cold_s = 0.0
    # The other drives it out of the workers' cache, and it is prepared once more.
    assert ways(app, other, first, first, first) == [0, 0, 0, 0]


def test_the_last_warm_answer_counts() -> None:
    app = new_app()
    request = evaluate(QUICKSTART)
    app.pool.warm_s = WARM_S
    assert ways(app, *[request] * 4) == [0, 0, 0, 0]
    app.pool.warm_s = 0.0
    assert ways(app, request, request) == [0, 1]


def test_what_another_spelling_had_prepared_is_as_expensive_as_it_was() -> None:
    """A question that came first in a long body is warm at once in a short one."""
    for cold_s, expected in ((COLD_S * ABOVE, [0, 0, 0, 0]), (0.0, [0, 0, 1, 1])):
        app = new_app()
        app.pool.cold_s = cold_s
        short = evaluate(QUICKSTART)
        long = Sent("/v1/evaluate", short.body.ljust(LONGEST_BODY + 1), ((b"content-type", b"application/json"),))
        assert ways(app, long, *[short] * 4) == [0, *expected]
        others = [evaluate(QUICKSTART, (b"accept-encoding", b"gzip"))] * 4
        # What was prepared here already is there for other headers too.
        assert ways(app, *others) == ([0] * 4 if cold_s else [1] * 4)


def test_what_weighs_much_stays_with_the_workers() -> None:
    for tiny_flops, expected in ((10, [0] * 4), (50_000, [0, 0, 1, 1])):
        assert ways(new_app(tiny_flops=tiny_flops), *[evaluate(QUICKSTART)] * 4) == expected


def test_values_of_other_lengths_are_learned_anew() -> None:
    app = new_app()
    two, three = (evaluate(VECTOR | {"inputs": {"x": [0.5] * n}}) for n in (2, 3))
    assert ways(app, two, two, two) == [0, 0, 1]
    assert ways(app, three, three, three) == [0, 0, 1]
    assert ways(app, evaluate(VECTOR | {"inputs": {"x": [3.25, -1e300]}})) == [1]
    tall, wide = (evaluate(VECTOR | {"inputs": {"x": x}}) for x in ([[1.0], [2.0]], [[1.0, 2.0]]))
    assert ways(app, tall, wide, tall, wide, tall, wide) == [0, 0, 0, 0, 1, 1]


def test_refusals_teach_nothing() -> None:
    app = new_app()
    call = {"expr": "cross_entropy(x, t)", "inputs": {"x": [[1, 2], [3, 4]], "t": [0, 1]}}
    wrong = [
        evaluate({"expr": "sine(x)", "inputs": {"x": 1.0}}),
        evaluate(call | {"inputs": {"x": [[1, 2], [3, 4]], "t": [0, 9]}}),
    ]
    for request in wrong:
        assert {answer.status for answer in ask_all(app, [request] * 4)} == {422}
    assert len(app.pool.calls) == 8 and app.inline.answered == 0 and not len(app.inline._records)
    assert ways(app, *[evaluate(call)] * 3) == [0, 0, 1]


def test_what_is_remembered_is_bounded() -> None:
    app = new_app(max_body_bytes=LONGEST_BODY)
    kept = app.inline._records
    values = [0.5] * 200
    for n in range(10):
        ask(app, evaluate({"expr": f"sum(x) * {n}", "inputs": {"x": values}}))
    assert len(kept) == 10
    tracemalloc.start()
    for n in range(10, 20):
        ask(app, evaluate({"expr": f"sum(x) * {n}", "inputs": {"x": values}}))
    filters = [tracemalloc.Filter(True, inline.__file__), tracemalloc.Filter(True, questions.__file__)]
    taken = sum(each.size for each in tracemalloc.take_snapshot().filter_traces(filters).statistics("filename"))
    tracemalloc.stop()
    assert 0 < taken < kept.nbytes / 2
    assert kept._limit_bytes < 2**25


# What was slow


def test_what_was_slow_once_is_banned() -> None:
    app = new_app()
    clock = app.inline.timer
    request = evaluate(VECTOR)
    clock.run_s = BAN_S / ABOVE
    assert ways(app, *[request] * 5) == [0, 0, 1, 1, 1]
    clock.run_s = BAN_S * ABOVE
    assert ways(app, *[request] * 2) == [1, 0]
    clock.run_s = 0.0
    clock.now += 1e6
    assert ways(app, *[request] * 4) == [0] * 4
    # It is the question that is banned: neither other headers nor values of another form change that.
    assert ways(app, *[evaluate(VECTOR, (b"accept-encoding", b"gzip"))] * 4) == [0] * 4
    assert ways(app, *[evaluate(VECTOR | {"inputs": {"x": [1.0] * 3}})] * 4) == [0] * 4
    assert ways(app, *[evaluate(QUICKSTART)] * 3) == [0, 0, 1]


def test_a_ban_does_not_change_answers() -> None:
    app, request = new_app(), evaluate(VECTOR)
    clock = app.inline.timer
    clock.run_s = BAN_S * ABOVE
    answers = ask_all(app, [request] * 6)
    assert app.inline.answered == 2 and len(app.pool.calls) == 4
    assert answers == [ask(new_app(prepared_requests=0), request)] * 6


def test_preparing_takes_a_share_of_the_time() -> None:
    app = new_app()
    clock = app.inline.timer
    requests = [evaluate(VECTOR | {"expr": f"sum(x * {n})"}) for n in range(7)]
    assert ways(app, *requests, *requests) == [0] * 14
    clock.prepare_s = PREPARING_SHARE * 0.4

    def prepared(now: float) -> int:
        for request in requests:
            # Time stands still but for what is timed.
            clock.now = now
            assert ask(app, request).status == 200
        return len(app.inline.preparations.kept)

    # The third goes beyond the share. What is prepared is run; the others are left to the workers, and wait for time to
    # go on; more than one second's share is never saved.
    assert prepared(0.0) == prepared(0.0) == 3
    assert prepared(0.1) == 3
    assert prepared(0.5) == 4
    assert prepared(1000.0) == 7
    assert ways(app, *requests) == [1] * 7


def test_no_more_than_one_share_is_saved() -> None:
    app = new_app()
    clock = app.inline.timer
    requests = [evaluate(VECTOR | {"expr": f"sum(x * {n})"}) for n in range(7)]
    ask_all(app, [*requests, *requests])
    clock.prepare_s = PREPARING_SHARE * 0.4
    for request in requests:
        clock.now = 1000.0
        ask(app, request)
    assert len(app.inline.preparations.kept) == 3
