"""`make serve` prints a curl line, and that line works."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="make and signals are those of a Unix")
def test_make_serve_answers_its_curl_line() -> None:
    environment = {**os.environ, "PULLBACK_DRAIN_S": "0"}
    server = subprocess.Popen(
        ["make", "-s", "serve", "ARGS=--port 0"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        line = next(line for line in server.stdout if line.startswith("curl"))
        words = shlex.split(line)
        url = next(word for word in words if word.startswith("http"))
        headers = dict([words[words.index("-H") + 1].split(": ", 1)])
        answer = httpx.post(url, headers=headers, content=words[words.index("-d") + 1], timeout=30)
        assert answer.json()["grads"] == {"x": 3.297442541400256}
        assert json.loads(words[words.index("-d") + 1])["expr"] == "square(exp(square(x)))"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=20)
