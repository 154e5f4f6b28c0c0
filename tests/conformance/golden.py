"""The golden cases: made by running the ancestor, read as its notes say."""

import json
from pathlib import Path
from typing import Any

import numpy as np

Case = dict[str, Any]

DATA = Path(__file__).parent / "data"
FILES: dict[str, list[Case]] = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}
FUNCTIONS, OPTIMIZERS, LAYERS = (
    [case for cases in FILES.values() for case in cases if key in case] for key in ("op", "optimizer", "model")
)

#: Where this project differs on purpose: case -> why. What it does instead is tested beside the cases.
EXCEPTIONS = {
    "reduce-040": "ties in max: the gradient is split evenly, not given whole to each",
    "reduce-041": "ties in min: the gradient is split evenly, not given whole to each",
}


def array(value: Case) -> Any:
    """The array that a case writes as flat data and shape."""
    return np.array(value["data"], dtype=float).reshape(value["shape"])


def assert_close(found: Any, expected: Any, what: str = "") -> None:
    """The same shape, and 1e-12 relative or absolute."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    gap = np.abs(found - expected)
    assert np.all(gap <= 1e-12 * np.maximum(1.0, np.abs(expected))), f"{what}: {found}, expected {expected}"
