"""Headers that take longer to read than a request takes: a worker reads them, not the event loop."""

from __future__ import annotations

import pytest

from tests.app.hot import Sent, ask, new_app, sent

QUICKSTART = {"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": True}


def asked_with(name: bytes, value: bytes) -> Sent:
    return sent("/v1/evaluate", QUICKSTART, "application/json", (name, value))


@pytest.mark.parametrize("name", [b"accept", b"accept-encoding"])
def test_what_a_request_wants_is_read_here_only_where_that_is_short(name: bytes) -> None:
    app = new_app()
    wishes = b"application/json, identity"
    found = []
    for value in (wishes, wishes + b", a/b" * 100):
        before = app.inline.answered
        answers = [ask(app, asked_with(name, value)) for _ in range(6)]
        assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
        found.append(app.inline.answered - before)
    assert found[0] > 0 and found[1] == 0
