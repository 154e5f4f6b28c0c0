"""Runs Caddy with a file of deploy/caddy, in front of servers of a test."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.app.conftest import STOP_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "caddy"
#: `make test-all` installs the second.
CADDY = shutil.which("caddy") or str(ROOT / "tools" / ".venv" / "bin" / "caddy")


@contextlib.contextmanager
def start_caddy(file: str, servers: Sequence[str], folder: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start Caddy, which may not listen yet.

    servers: addresses. folder: for its log and its certificates. settings: variables of the file.
    """
    variables = {f"PULLBACK_{name.upper()}": value for name, value in settings.items()}
    env = {**os.environ, **variables, "PULLBACK_SERVERS": " ".join(servers), "XDG_DATA_HOME": str(folder)}
    command = [CADDY, "run", "--adapter", "caddyfile", "--config", str(FOLDER / file)]
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_S)
