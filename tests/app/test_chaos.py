"""Attacks of `make chaos` for a moment: bounds that must hold however busy the machine is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.attacks import ATTACKS
from tests.chaos.report import printed
from tests.chaos.trial import Terms, try_attack

#: Nothing is said of time but that requests are answered, or cut, at all, and that the server is idle again.
LENIENT = Terms(seconds=0.7, deadline_s=3.0, margin_s=20.0, hot_s=5.0, recovery_s=60.0)


#: One of each kind; `make chaos` has all of them.
SHORT = (
    "gzip-bombs msgpack-bombs endless-chunks stalled-bodies grad-of-grad many-names half-open-headers killed-workers "
    "killed-zygote full-sessions inv-six long-answers"
).split()


@pytest.mark.thorough
@pytest.mark.parametrize("name", SHORT)
def test_the_server_outlives(name: str, tmp_path: Path) -> None:
    result = try_attack(ATTACKS[name], tmp_path, LENIENT)
    assert result.broken() == [], printed(result)
