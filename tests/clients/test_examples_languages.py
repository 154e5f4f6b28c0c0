"""The quickstart in other languages: each file of clients/examples runs, and prints what its README says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.app.conftest import start_server
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "clients" / "examples"
README = (FOLDER / "README.md").read_text()
# A first `go run` links net/http; the others take a second or less.
RUN_S = 120

# File -> programs that it needs, the one that runs it first, and what runs it.
NEEDS = {
    "quickstart.sh": ("sh", "curl", "jq"),
    "quickstart.mjs": ("node",),
    "quickstart.go": ("go",),
    "quickstart.R": ("Rscript",),
    "quickstart.php": ("php",),
    "quickstart.jl": ("julia",),
}
NOT_RUN = {"quickstart.pq"}
# Debian 12 has no Julia: its file is run where somebody has it.
RARE = {"quickstart.jl"}
PRINTS_17_DIGITS = {"quickstart.R"}
RUN = dict(re.findall(r"^\| \[.*?\]\((quickstart\..*?)\) \|.*\| `(.*?)` \|$", README, re.MULTILINE))
LINES = "".join(re.findall(r"```text\n(.*?)```", README, re.DOTALL)).splitlines()

# The digits of the original's quickstart.
NUMBERS = [
    [1.648721270700128, 3.297442541400256],
    [0.040000000000000036] * 3,
    [1.648721270700128],
    [0.8414709848078965, *[0.5403023058681398, -0.8414709848078965, -0.5403023058681398, 0.8414709848078965] * 2][:7],
]

FOUND = [file for file, programs in NEEDS.items() if file not in RARE or shutil.which(programs[0])]
each_language = pytest.mark.parametrize("file", [pytest.param(file, marks=pytest.mark.thorough) for file in FOUND])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is written while the examples run: the server's data, and Go's cache."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with start_server(folder) as server:
        yield server.base_url


@pytest.fixture(scope="module")
def url_of_one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that refuses the quickstart's first expression."""
    with start_server(tmp_path_factory.mktemp("small"), max_nodes="1") as server:
        yield server.base_url


def run(file: str, url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The example as README runs it, speaking to `url`."""
    missing = [program for program in NEEDS[file] if shutil.which(program) is None]
    assert not missing, f"not installed: {missing}"
    own = {"PULLBACK_URL": url, "GOCACHE": str(folder / "go"), "GOPROXY": "off", "GOFLAGS": "", "no_proxy": "127.0.0.1"}
    return subprocess.run(
        RUN[file].split(), cwd=FOLDER, env=os.environ | own, capture_output=True, text=True, timeout=RUN_S, check=False
    )


def shortest(line: str) -> str:
    """`line` with each number as short as it can be and still be the same double."""
    return " ".join(repr(float(word)) for word in line.split())


@contextmanager
def gateway_without_a_server() -> Iterator[str]:
    """Answers as a proxy does whose server is down: 502, in HTML."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            page = b"<html><h1>Bad Gateway</h1></html>"
            self.send_response(502)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as gateway:
        thread = threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{gateway.server_port}"
        finally:
            gateway.shutdown()
            thread.join()


def test_every_file_is_in_the_table() -> None:
    table = re.findall(r"^\| \[(.*?)\]\((quickstart\..*?)\) \|", README, re.MULTILINE)
    assert all(name == file for name, file in table)
    assert {file for _, file in table} == {*NEEDS, *NOT_RUN} == {file.name for file in FOLDER.glob("quickstart.*")}
    assert set(RUN) == set(NEEDS)


def test_the_lines_are_those_of_the_quickstart() -> None:
    assert [[float(word) for word in line.split()] for line in LINES[:-1]] == NUMBERS
    assert LINES[-1].startswith("422 /problems/unknown-op: ")


@each_language
def test_prints_the_quickstart(file: str, url: str, folder: Path) -> None:
    found = run(file, url, folder)
    assert (found.stderr, found.returncode) == ("", 0)
    *numbers, mistake = found.stdout.splitlines()
    if file in PRINTS_17_DIGITS:
        numbers = [shortest(line) for line in numbers]
    assert [*numbers, mistake] == LINES


@each_language
def test_a_refusal_stops_it_with_the_words_of_the_server(file: str, url_of_one_node: str, folder: Path) -> None:
    found = run(file, url_of_one_node, folder)
    assert found.returncode != 0
    assert LINES[0] not in found.stdout
    assert "413 /problems/limit-exceeded: " in found.stdout + found.stderr
    assert "PULLBACK_MAX_NODES" in found.stdout + found.stderr


@each_language
def test_an_answer_that_is_not_the_servers_is_no_answer(file: str, folder: Path) -> None:
    with gateway_without_a_server() as url:
        found = run(file, url, folder)
    assert found.returncode != 0
    assert re.search("502|Bad Gateway", found.stdout + found.stderr)


@each_language
def test_no_server_is_said_so(file: str, folder: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    found = run(file, url, folder)
    assert found.returncode != 0
    assert re.search("connect", found.stdout + found.stderr, re.IGNORECASE)
