"""Order of jobs: short ones first, but none is starved; clients in turn; a full queue gives way at its longest part."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from app.workers.schedule import HALF_LIFE_S, LONG_S, SHORT_S, Pace, Paces, Queues, Shares

MANY = 1000


@dataclass(eq=False)
class Job:
    pace: Pace
    client: str = "a"


def queues(*jobs: Job, limit: int = MANY, shares: Shares | None = None) -> Queues[Job]:
    found: Queues[Job] = Queues(limit, shares or Shares())
    for job in jobs:
        assert push(found, job) is None
    return found


def push(found: Queues[Job], job: Job) -> Job | None:
    found.push(job)
    return found.overflow(job)


def order(found: Queues[Job], *, may_be_long: bool = True, may_be_large: bool = True) -> list[Job]:
    jobs = []
    while (job := found.next(may_be_long=may_be_long, may_be_large=may_be_large)) is not None:
        jobs.append(job)
    return jobs


@pytest.mark.parametrize("pace", list(Pace))
@pytest.mark.parametrize("flood", list(Pace))
def test_no_pace_is_starved_by_another(pace: Pace, flood: Pace) -> None:
    found = queues(*(Job(flood) for _ in range(100)))
    waiting = Job(pace, "b")
    found.push(waiting)
    assert order(found).index(waiting) < 8


def test_short_work_has_most_turns() -> None:
    jobs = order(queues(*(Job(pace) for pace in Pace for _ in range(40))))
    assert [job.pace for job in jobs[:40]].count(Pace.SHORT) == 20


def test_long_and_large_work_waits_for_its_places() -> None:
    found = queues(*map(Job, Pace))
    assert {job.pace for job in order(found, may_be_long=False, may_be_large=False)} == {Pace.SHORT, Pace.UNKNOWN}
    assert [job.pace for job in order(found, may_be_large=False)] == [Pace.LONG]
    assert [job.pace for job in order(found)] == [Pace.LARGE]


def test_clients_take_turns() -> None:
    found = queues(*(Job(Pace.SHORT, client) for client in "aaaaabbc"))
    assert "".join(job.client for job in order(found)) == "abcabaaa"


def test_who_used_little_goes_first_and_equals_in_turn() -> None:
    shares = Shares()
    for client, seconds in {"a": 1.2, "b": 0.5, "c": 0.1, "d": 0.2}.items():
        shares.note(client, seconds, 1.0)
    found = queues(*(Job(Pace.SHORT, client) for client in "aabbddcce"), shares=shares)
    assert "".join(job.client for job in order(found)) == "dcedcbbaa"


@pytest.mark.parametrize(("used", "dropped"), [({"a": 0.2}, "a"), ({"b": 0.2}, "b"), ({"b": SHORT_S}, "b"), ({}, "a")])
def test_a_full_queue_drops_a_job_of_the_client_that_will_have_used_most(used: dict[str, float], dropped: str) -> None:
    shares = Shares()
    for client, seconds in used.items():
        shares.note(client, seconds, 1.0)
    found = queues(Job(Pace.SHORT), Job(Pace.SHORT), limit=2, shares=shares)
    left = push(found, Job(Pace.SHORT, "b"))
    assert left is not None
    assert left.client == dropped


def test_a_greedy_client_gets_no_more_than_its_share() -> None:
    """A hundred clients ask once per job that is done, one of them twenty times: all get the same, in a full queue."""
    shares = Shares()
    found = queues(limit=20, shares=shares)
    done: Counter[str] = Counter()
    chance = random.Random(1)
    for second in range(20):
        for _ in range(200):
            asking = chance.choices(range(100), [20] + 99 * [1], k=3)
            for client in asking:
                push(found, Job(Pace.SHORT, str(client)))
            job = found.next(may_be_long=True, may_be_large=True)
            assert job is not None
            shares.note(job.client, SHORT_S, second)
            done[job.client] += 1
    greedy = done.pop("0")
    assert greedy <= 1.5 * sum(done.values()) / 99
    assert len(done) == 99


def test_a_full_queue_drops_the_newest_job_of_the_client_with_most() -> None:
    jobs = [Job(Pace.SHORT) for _ in range(4)]
    found = queues(*jobs, limit=4)
    mine, more = Job(Pace.SHORT, "b"), Job(Pace.SHORT)
    assert found.has_room(Pace.SHORT, "b") and not found.has_room(Pace.SHORT, "a")
    assert push(found, mine) is jobs[3]
    assert push(found, more) is more
    assert (found.count(Pace.SHORT), set(order(found))) == (4, {*jobs[:3], mine})


def test_a_job_that_is_removed_does_not_come() -> None:
    jobs = [Job(Pace.SHORT), Job(Pace.SHORT, "b")]
    found = queues(*jobs)
    found.remove(jobs[0])
    assert (found.count(Pace.SHORT), order(found)) == (1, jobs[1:])


def test_all_jobs_can_be_taken_out() -> None:
    jobs = [Job(pace) for pace in Pace]
    found = queues(*jobs)
    assert (set(found.clear()), order(found)) == (set(jobs), [])


@pytest.mark.parametrize(
    ("seconds", "was_large", "expected"),
    [
        (0.0, False, Pace.SHORT),
        (SHORT_S, False, Pace.UNKNOWN),
        (LONG_S, False, Pace.LONG),
        (0.0, True, Pace.LARGE),
    ],
)
def test_the_pace_of_a_kind_is_that_of_its_last_work(seconds: float, was_large: bool, expected: Pace) -> None:
    paces = Paces()
    assert paces.of("kind") is Pace.UNKNOWN
    paces.note("kind", LONG_S, False)
    paces.note("kind", seconds, was_large)
    assert paces.of("kind") is expected


def test_who_may_not_go_is_passed_over_and_keeps_the_turn() -> None:
    found = queues(*(Job(Pace.SHORT, client) for client in "aab"))
    first = found.next(may_be_long=True, may_be_large=True, may_go=lambda client: client != "a")
    assert first is not None and first.client == "b"
    assert found.next(may_be_long=True, may_be_large=True, may_go=lambda client: client != "a") is None
    assert "".join(job.client for job in order(found)) == "aa"


@pytest.mark.parametrize(
    ("used", "heavy"),
    [
        ({"a": 0.05}, ""),
        ({"a": 5.0}, "a"),
        ({"a": 5.0, "b": 0.01}, "a"),
        ({"a": 5.0, "b": 4.0}, ""),
        ({"a": 5.0, "b": 5.0, "c": 0.5}, "ab"),
        ({"a": 0.05, "b": 0.01}, ""),
    ],
)
def test_heavy_is_who_used_much_more_than_the_mean(used: dict[str, float], heavy: str) -> None:
    shares = Shares()
    for client, seconds in used.items():
        shares.note(client, seconds, 1.0)
    assert {client for client in used if shares.is_heavy(client)} == set(heavy)
    assert not shares.is_heavy("new")


def test_a_queue_takes_as_long_as_the_last_jobs_took() -> None:
    found: Queues[Job] = Queues(MANY, Shares())
    assert found.wait_s(Pace.LONG, 3) == 0.0
    for _ in range(200):
        found.means[Pace.LONG].note(6.0)
    for pace, count in ((Pace.LONG, 10), (Pace.SHORT, 30), (Pace.UNKNOWN, 10)):
        for _ in range(count):
            found.push(Job(pace))
    assert found.wait_s(Pace.LONG, 3) == pytest.approx(20.0)
    assert found.wait_s(Pace.LARGE, 1) == 0.0
    assert found.wait_s(Pace.SHORT, 2) == found.wait_s(Pace.UNKNOWN, 2) == pytest.approx(20 * SHORT_S)


def test_nobody_has_used_less_than_nothing() -> None:
    shares = Shares()
    shares.note("long", 20.0, 0.0)
    shares.note("b", 1.0, 6 * HALF_LIFE_S)
    # It was done earlier than was thought, and most of it has been forgotten meanwhile.
    shares.note("long", -19.9, 6 * HALF_LIFE_S)
    assert shares.used["long"] == 0.0
    assert (shares.level("long"), shares.level("b")) == (0, 2)
    shares.note("long", 0.2, 6 * HALF_LIFE_S)
    assert (shares.is_heavy("long"), shares.is_heavy("b")) == (False, True)


def test_who_used_most_hears_when_that_will_be_forgotten() -> None:
    shares = Shares()
    found = queues(Job(Pace.SHORT, "b"), limit=1, shares=shares)
    shares.note("a", 8 * 1.0 - SHORT_S, 1.0)
    shares.note("b", 1.0 - SHORT_S, 1.0)
    assert not found.has_room(Pace.SHORT, "a")
    assert found.until_room_s(Pace.SHORT, "a") == pytest.approx(3 * HALF_LIFE_S)
    assert found.until_room_s(Pace.SHORT, "c") == found.until_room_s(Pace.LONG, "a") == 0.0


def test_use_is_forgotten() -> None:
    shares = Shares()
    shares.note("a", 4.0, 100.0)
    shares.note("b", 1.0, 100.0 + 3 * HALF_LIFE_S)
    assert not shares.is_heavy("a") and shares.is_heavy("b") == (1.0 * 2 > 4 / 3 * 1.5)
    shares.note("b", 1.0, 100.0 + 1000 * HALF_LIFE_S)
    assert set(shares.used) == {"b"}
