"""What `make test` leaves to `make test-all`: marked tests, and all of a product of cases but a sample of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

@pytest.mark.sampled(one_in=10, each=["row"])
@pytest.mark.parametrize("column", range(10))
@pytest.mark.parametrize("row", range(20))
def test_of_a_product(row, column):
    print(f"row {row} ")

@pytest.mark.thorough
def test_that_takes_long():
    pass

def test_of_another_system():
    pytest.skip("not here")
"""


def run(folder: Path, selection: str) -> tuple[str, dict[str, int]]:
    """What a run of `TESTS` prints, and how many tests had each outcome."""
    file = folder / "test_it.py"
    file.write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    thorough\n    sampled\n")
    options = [
        "-p",
        "tests.conftest",
        "-c",
        str(folder / "pytest.ini"),
        "-m",
        selection,
        "-rP",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)], cwd=ROOT, capture_output=True, text=True
    )
    summary = done.stdout.splitlines()[-1]
    return done.stdout, {word: int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", summary)}


def test_make_test_takes_a_sample_with_each_row(tmp_path: Path) -> None:
    printed, counts = run(tmp_path, "not thorough")
    assert set(re.findall(r"row (\d+) ", printed)) == {str(row) for row in range(20)}
    assert 20 <= counts["passed"] < 60
    assert counts["skipped"] == 1 and counts["passed"] + counts["deselected"] == 201


def test_in_a_run_of_all_tests_a_skip_fails(tmp_path: Path) -> None:
    printed, counts = run(tmp_path, "")
    assert counts == {"failed": 1, "passed": 201}
    assert "skipped in a run of all tests" in printed
