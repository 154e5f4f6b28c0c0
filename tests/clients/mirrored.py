"""The engine's own tests, run on the SDK: the same text with other imports."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from pullback.core.current import current
from tests.app.conftest import ROOT


class Looking:
    """pytest, but that what was recorded is looked at before the end of `raises`."""

    mark, param, fixture, approx, warns = pytest.mark, pytest.param, pytest.fixture, pytest.approx, pytest.warns

    @staticmethod
    @contextlib.contextmanager
    def raises(*args: Any, **keywords: Any) -> Iterator[Any]:
        with pytest.raises(*args, **keywords) as found:  # noqa: PT010, PT012
            yield found
            current().outbox.flush()


def mirrored(path: str, left_out: dict[str, str]) -> dict[str, Any]:
    """What a test module of the engine's has, as it is on the SDK.

    left_out: tests that say nothing of it, `name` or `Class.name`, each with the reason.
    """
    text = (ROOT / path).read_text()
    text = text.replace("from engine.core.errors import", "from pullback.errors import")
    text = text.replace("from engine", "from pullback")
    text = text.replace("import pytest\n", "from tests.clients.mirrored import Looking as pytest\n")
    module = ModuleType(f"mirrored.{path}")
    # Where dataclasses look for the names of their fields' types.
    sys.modules[module.__name__] = module
    exec(compile(text, str(ROOT / path), "exec"), module.__dict__)
    for name in left_out:
        owner, _, inner = name.rpartition(".")
        # One that is not there any more fails here.
        delattr(getattr(module, owner) if owner else module, inner)
    found = {name: item for name, item in vars(module).items() if not name.startswith("__")}
    return {name: _connected(item) if name.startswith(("test_", "Test")) else item for name, item in found.items()}


def _connected(item: Any) -> Any:
    return pytest.mark.usefixtures("connected")(item) if callable(item) else item
