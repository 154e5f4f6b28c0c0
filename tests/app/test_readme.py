"""README is true: its commands run, and print what it says."""

import doctest
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engine.core import table
from tests.app.conftest import Server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block with the output under it."""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in block.split("$ ")[1:]:
            command, _, output = part.partition("\n")
            yield command, output


CURL = [c for c in commands(README) if c[0].startswith("curl")]
PULLBACK = [c for c in commands(README) if c[0].startswith("pullback")]


@pytest.mark.parametrize(("command", "expected"), CURL)
def test_curl(server: Server, command: str, expected: str) -> None:
    """Sent as curl would, so that curl need not be there."""
    words = shlex.split(command)
    url = next(word for word in words if word.startswith("http")).replace("http://127.0.0.1:8000", server.base_url)
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    answer = httpx.post(url, headers=headers, content=words[words.index("-d") + 1])
    assert answer.text == expected.strip()


@pytest.mark.parametrize(("command", "expected"), PULLBACK)
def test_pullback(command: str, expected: str) -> None:
    words = [sys.executable, "-m", "app.cli", *shlex.split(command)[1:]]
    found = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == expected or (not expected and found.stdout)


def test_python() -> None:
    text = "".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    try:
        test = doctest.DocTestParser().get_doctest(text, {}, "README", "README.md", 0)
        runner = doctest.DocTestRunner()
        assert runner.run(test).failed == 0
    finally:
        if "cube" in table.OPERATIONS:
            table.unregister(table.OPERATIONS["cube"])


@pytest.mark.parametrize("script", re.findall(r"```py\n(.*?)```", README, re.DOTALL))
def test_scripts(server: Server, capsys: pytest.CaptureFixture[str], script: str) -> None:
    exec(script.replace("http://127.0.0.1:8000", server.base_url), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", script)


def test_every_place_on_the_map_is_there() -> None:
    for row in re.findall(r"^\| (`.*?) \|", README, re.MULTILINE):
        folder = ""
        for name in re.findall(r"`(.*?)`", row):
            folder = folder if "/" not in name else str(Path(name).parent if not name.endswith("/") else name)
            place = ROOT / name if "/" in name else ROOT / folder / name
            assert place.exists(), f"{name} of {row}"


def test_there_are_commands_to_test() -> None:
    assert len(CURL) >= 4
    assert len(PULLBACK) >= 2
    assert all(json.loads(expected) for _, expected in CURL)
