"""Tiles: every element is worked on once, by whichever thread; what goes wrong reaches the caller."""

import os
import threading
import warnings
from typing import Any

import numpy as np
import pytest

from engine.plans.codegen.tiles import LENGTH, processors, run_tiles


@pytest.mark.parametrize("size", [0, 1, LENGTH - 1, LENGTH, LENGTH + 1, 30 * LENGTH + 5])
@pytest.mark.parametrize("threads", [1, 4])
def test_every_element_once_and_results_in_order(size: int, threads: int) -> None:
    counts = np.zeros(size)

    def tile(start: int, stop: int, scratch: list[Any]) -> tuple[int, int]:
        counts[start:stop] += 1
        return start, stop

    found = run_tiles(tile, size, 0, threads)
    assert (counts == 1).all()
    assert [start for start, _ in found] == list(range(0, size, LENGTH))
    assert [stop for _, stop in found] == [min(size, start + LENGTH) for start, _ in found]


def test_scratch_has_the_length_of_the_tile_and_is_no_others() -> None:
    def tile(start: int, stop: int, scratch: list[Any]) -> tuple[int, ...]:
        for k, row in enumerate(scratch):
            row[:] = start + k
        ok = all(row.size == stop - start and (row == start + k).all() for k, row in enumerate(scratch))
        return (ok, *(row.ctypes.data % 64 for row in scratch))

    assert set(run_tiles(tile, 20 * LENGTH + 3, 5, 4)) == {(True, 0, 0, 0, 0, 0)}


@pytest.mark.parametrize("error", [IndexError("of a tile"), ValueError("of a tile"), KeyboardInterrupt("of a tile")])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_reaches_the_caller(error: BaseException, threads: int) -> None:
    def tile(start: int, stop: int, scratch: list[Any]) -> tuple[int]:
        if start == 7 * LENGTH:
            raise error
        return (start,)

    with pytest.raises(type(error), match="of a tile"):
        run_tiles(tile, 40 * LENGTH, 1, threads)
    assert len(run_tiles(lambda start, stop, scratch: (start,), 40 * LENGTH, 1, threads)) == 40


def test_an_exception_of_another_thread_reaches_the_caller() -> None:
    caller = threading.get_ident()
    met = threading.Barrier(2, timeout=60)

    def tile(start: int, stop: int, scratch: list[Any]) -> tuple[int]:
        if start < 2 * LENGTH:
            met.wait()
            if threading.get_ident() != caller:
                raise ValueError("of a helper")
        return (start,)

    with pytest.raises(ValueError, match="of a helper"):
        run_tiles(tile, 40 * LENGTH, 1, 2)


def test_warnings_are_off_in_all_threads() -> None:
    def tile(start: int, stop: int, scratch: list[Any]) -> tuple[Any]:
        scratch[0][:] = -1.0
        return (np.isnan(np.log(scratch[0])).all(),)

    assert set(run_tiles(tile, 30 * LENGTH, 1, 3)) == {(True,)}


def test_processors() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)


def test_threads_after_a_fork() -> None:
    def tile(start: int, stop: int, scratch: list[Any]) -> tuple[int]:
        return (start,)

    expected = run_tiles(tile, 40 * LENGTH, 1, 2)
    read, write = os.pipe()
    with warnings.catch_warnings():
        # To fork a process that has threads is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.write(write, b"y" if run_tiles(tile, 40 * LENGTH, 1, 2) == expected else b"n")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 1) == b"y"
    os.close(read)
    os.close(write)
