"""The table of metrics has those that the server gives, with their labels."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.app.conftest import start_server

TEXT = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
ROW = re.compile(r"^\| `(pullback_\w+)` \|([^|]*)\|", re.MULTILINE)
SUFFIX = re.compile(r"_(bucket|count|sum)$")


def test_all_metrics_are_described(tmp_path_factory: pytest.TempPathFactory) -> None:
    described = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in ROW.findall(TEXT)}
    with start_server(tmp_path_factory.mktemp("metrics"), ("app.cli", "serve")) as server:
        server.assert_well()
        found: dict[str, set[str]] = {}
        text = httpx.get(f"{server.base_url}/metrics", trust_env=False).text
        for line in text.splitlines():
            if not line.startswith("#"):
                name = re.split(r"[ {]", line)[0]
                labels = re.findall(r"(\w+)=", line)
                base = SUFFIX.sub("", name) if SUFFIX.sub("", name) in described else name
                found.setdefault(base, set()).update(set(labels) - {"le"})
    # Nothing has ended yet.
    described.pop("pullback_workers_ended_total")
    assert found == described
