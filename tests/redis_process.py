"""A Redis or Valkey server of the tests' own; what needs it is left to `make test-all`."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = shutil.which("valkey-server") or shutil.which("redis-server")
needs_redis = pytest.mark.thorough
START_S = 120


class RedisProcess:
    """A server that writes each command to the disk before it answers, as docker-compose.yml has it do."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._options = options
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self.start()

    def start(self) -> None:
        assert PROGRAM is not None, "neither Redis nor Valkey is installed"
        options = "--bind 127.0.0.1 --appendonly yes --appendfsync always --dir".split()
        command = [PROGRAM, *options, str(self._folder), "--port", str(self.port), "--save", "", *self._options]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client.ping()
                return
            except redis.RedisError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((self._folder / "redis.log").read_text())
                time.sleep(0.01)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It is there and does not answer."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.client.close()
        self.kill()


@contextlib.contextmanager
def start_redis(folder: Path, *options: str) -> Iterator[RedisProcess]:
    """A server that keeps its files in a folder; `options` are those of its command line."""
    process = RedisProcess(folder, *options)
    try:
        yield process
    finally:
        process.close()
