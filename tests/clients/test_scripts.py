"""The scripts of sessions, through the SDK: the same bits as on the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.app.scripts import SCRIPTS
from tests.app.test_session_scripts import bits, locally
from tests.clients.conftest import on_session_of
from tests.clients.mirrored import mirrored

if TYPE_CHECKING:
    import pullback

SEED = 11


class Remote(mirrored("tests/app/local.py", {})["Local"]):  # type: ignore[misc]
    """A script's commands as calls of the SDK."""

    def drawing(self) -> dict[str, Any]:
        """Dropout draws from the session's own generator, which has the same seed."""
        return {}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_same_bits(client: pullback.Client, name: str) -> None:
    with on_session_of(client, SEED):
        remote = Remote(SEED)
        for run in SCRIPTS[name]:
            for command in run:
                remote.do(command)
        assert bits(remote.seen()) == bits(locally(SCRIPTS[name]))
