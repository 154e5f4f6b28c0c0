"""One server for all acceptance tests; NumPy's warnings about infinities are what these tests provoke."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.acceptance.server import Local, local_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def server() -> Iterator[Local]:
    with local_server() as running:
        yield running


@pytest.fixture(autouse=True)
def quiet_numpy() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield
