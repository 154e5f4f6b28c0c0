"""Order of jobs: short ones first, but none is starved; clients in turn; a full queue gives way at its longest part."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from app.workers.schedule import HALF_LIFE_S, LONG_S, SHORT_S, Drain, Pace, Paces, Queues, Shares

MANY = 1000


@dataclass(eq=False)
class Job:
    pace: Pace
    client: str = "a"


def queues(*jobs: Job, limit: int = MANY) -> Queues[Job]:
    found: Queues[Job] = Queues(limit)
    for job in jobs:
        assert found.push(job) is None
    return found


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


def test_a_full_queue_drops_the_newest_job_of_the_client_with_most() -> None:
    jobs = [Job(Pace.SHORT) for _ in range(4)]
    found = queues(*jobs, limit=4)
    mine, more = Job(Pace.SHORT, "b"), Job(Pace.SHORT)
    assert found.push(mine) is jobs[3]
    assert found.push(more) is more
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
    drain = Drain()
    assert drain.wait_s(Pace.LONG, 0, 3) == 0.0
    for _ in range(200):
        drain.note(Pace.LONG, 6.0)
    assert drain.wait_s(Pace.LONG, 10, 3) == pytest.approx(20.0)
    assert drain.wait_s(Pace.SHORT, 40, 2) == pytest.approx(20 * SHORT_S)


def test_use_is_forgotten() -> None:
    shares = Shares()
    shares.note("a", 4.0, 100.0)
    shares.note("b", 1.0, 100.0 + 3 * HALF_LIFE_S)
    assert not shares.is_heavy("a") and shares.is_heavy("b") == (1.0 * 2 > 4 / 3 * 1.5)
    shares.note("b", 1.0, 100.0 + 1000 * HALF_LIFE_S)
    assert set(shares._used) == {"b"}
