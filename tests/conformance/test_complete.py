"""No golden case is left out: every file is here, and every case is in the parameters of a test."""

from tests.conformance.golden import EXCEPTIONS, FILES, FUNCTIONS, LAYERS, OPTIMIZERS

COUNTS = {"arithmetic": 36, "layer": 6, "linalg": 8, "math": 39, "nn": 12, "optimizer": 13, "reduce": 39, "shape": 13}


def test_every_case_is_seen() -> None:
    assert {name: len(cases) for name, cases in FILES.items()} == COUNTS
    seen = [case["id"] for case in FUNCTIONS + OPTIMIZERS + LAYERS]
    assert sorted(seen) == sorted(case["id"] for cases in FILES.values() for case in cases)
    assert len(set(seen)) == len(seen) == 166


def test_exceptions_are_the_ties_alone() -> None:
    assert set(EXCEPTIONS) == {case["id"] for case in FUNCTIONS if case.get("ties")}
