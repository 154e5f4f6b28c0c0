"""Pauses between two tries: as long as the server asks for, and not the same for all clients."""

from __future__ import annotations

import httpx
import pytest

from pullback.errors import ProblemError
from pullback.remote.core import Call, Pause, Settings, conversation

SETTINGS = Settings("http://here", None, "application/json", 3, 1.0)


def pauses(asked: str | None) -> list[float]:
    """Return the pauses before all tries of a call that is refused each time."""
    steps = conversation(Call("GET", "/v1/info", parse=dict), SETTINGS)
    headers = {"Content-Type": "application/problem+json", "Pullback-Version": "1"}
    headers |= {} if asked is None else {"Retry-After": asked}
    problem = {"type": "/problems/overloaded", "title": "Overloaded", "status": 503, "detail": "busy", "errors": []}
    found: list[float] = []

    def talk() -> None:
        step = next(steps)
        while True:
            if isinstance(step, Pause):
                found.append(step.seconds)
                step = next(steps)
            else:
                step = steps.send(httpx.Response(503, headers=headers, json=problem))

    with pytest.raises(ProblemError):
        talk()
    return found


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (None, [0.05, 0.1, 0.2], [0.1, 0.2, 0.4]),
        ("0", [0.05, 0.1, 0.2], [0.1, 0.2, 0.4]),
        ("2", [2.0] * 3, [3.0] * 3),
        ("59", [59.0] * 3, [60.0] * 3),
        ("61", [], []),
    ],
)
def test_a_client_waits_as_long_as_it_is_asked_to_and_a_little_longer(
    asked: str | None, least: list[float], most: list[float]
) -> None:
    runs = [pauses(asked) for _ in range(20)]
    for found in runs:
        assert len(found) == len(least)
        assert all(low <= pause <= high for low, pause, high in zip(least, found, most, strict=True))
    assert len({tuple(found) for found in runs}) == (20 if least else 1)
