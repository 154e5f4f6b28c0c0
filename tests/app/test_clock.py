"""The clock of expiry does not follow a step of the system's clock until that has stood for a while."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.clock import PLAUSIBLE_S, SETTLED_S, STEP_S, Clock, SteadyClock
from app.main import create_app
from app.settings import Settings
from tests.app.test_around import talk

START = 1_000_000.0
YEARS_S = 5 * 365 * 24 * 3600.0


class Hands:
    """A wall clock that can be set, and time that passes."""

    def __init__(self) -> None:
        self.wall, self.ticks = START, 50.0
        self.clock = Clock(lambda: self.wall, lambda: self.ticks)

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds


@pytest.mark.parametrize("step_s", [YEARS_S, -YEARS_S, STEP_S + 1, -STEP_S - 1])
def test_a_step_for_a_moment_is_not_followed(step_s: float) -> None:
    hands = Hands()
    steady = SteadyClock(hands.clock)
    hands.wait(10)
    hands.wall += step_s
    assert steady() == START + 10
    hands.wait(SETTLED_S / 2)
    assert steady() == START + 10 + SETTLED_S / 2
    hands.wall -= step_s
    hands.wait(5)
    assert steady() == hands.wall
    # Another one begins to count anew.
    hands.wall += step_s
    steady()
    hands.wait(SETTLED_S - 1)
    assert steady() == hands.wall - step_s


@pytest.mark.parametrize("step_s", [YEARS_S, -YEARS_S])
def test_a_step_that_stands_is_followed(step_s: float) -> None:
    hands = Hands()
    steady = SteadyClock(hands.clock)
    hands.wall += step_s
    assert steady() == START
    hands.wait(SETTLED_S)
    assert steady() == hands.wall


@pytest.mark.parametrize("step_s", [STEP_S, -STEP_S, 0.5])
def test_a_small_correction_is_followed_at_once(step_s: float) -> None:
    hands = Hands()
    steady = SteadyClock(hands.clock)
    hands.wall += step_s
    assert steady() == START + step_s


@pytest.mark.parametrize(
    ("latest", "expected"),
    [
        (START - 3600, START),
        (START - PLAUSIBLE_S, START),
        (START + 30, START),
        (START - PLAUSIBLE_S - 1, START - PLAUSIBLE_S - 1),
        (START + YEARS_S, START + YEARS_S),
    ],
    ids=["an hour later", "after a pause", "a little behind", "years later", "years earlier"],
)
def test_a_start_of_the_machine_is_compared_with_the_latest_time(latest: float, expected: float) -> None:
    hands = Hands()
    steady = SteadyClock(hands.clock)
    steady.resume(json.dumps([latest, 7e9, "another run"]))
    assert steady() == expected
    hands.wait(1)
    assert steady() == expected + 1
    hands.wait(SETTLED_S)
    assert steady() == hands.wall


def test_a_process_goes_on_from_the_moment_of_another() -> None:
    """Also where it was made long before it is opened, as a process from which others are forked."""
    hands = Hands()
    first, second = SteadyClock(hands.clock), SteadyClock(hands.clock)
    first.resume(None)
    hands.wait(5000)
    hands.wall += 10 * 24 * 3600.0
    noted = first.moment()
    hands.wait(500)
    second.resume(noted)
    assert first() == second() == START + 5500
    # Once the step has stood, others follow it at once.
    hands.wait(SETTLED_S)
    assert first() == hands.wall
    second.resume(first.moment())
    assert second() == hands.wall


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '["a", "b", "c"]', "[1, 2, 3, 4]", "7"])
def test_a_damaged_moment_is_none(text: str | None) -> None:
    hands = Hands()
    steady = SteadyClock(hands.clock)
    hands.wait(10)
    steady.resume(text)
    assert steady() == START + 10


def test_sessions_and_programs_outlive_a_clock_that_is_years_ahead_for_a_moment(tmp_path: Path) -> None:
    hands = Hands()

    def ask(app: object, method: str, path: str, **more: object) -> int:
        return int(talk(app, lambda client: client.request(method, path, **more)).status_code)  # type: ignore[arg-type]

    app = create_app(Settings(data_dir=tmp_path), hands.clock)
    made = talk(app, lambda client: client.post("/v1/sessions", json={}))
    session = f"/v1/sessions/{made.json()['id']}"
    program = talk(app, lambda client: client.post("/v1/programs", json={"expr": "x + 1"})).json()["id"]
    assert ask(app, "GET", "/readyz") == 200

    def all_there(app: object) -> None:
        assert ask(app, "POST", "/v1/sessions", json={}) == 201
        assert ask(app, "GET", session) == 200
        assert ask(app, "GET", f"/v1/programs/{program}") == 200

    hands.wall += YEARS_S
    hands.ticks += 120
    all_there(app)
    # A process that starts meanwhile takes its time from the store.
    other = create_app(Settings(data_dir=tmp_path), hands.clock)
    all_there(other)
    other.state.registry.store.close()
    hands.wall -= YEARS_S
    all_there(app)
    app.state.registry.store.close()
