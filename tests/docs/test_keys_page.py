"""docs/keys.md: its commands run, and its table says of every path what the server says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from app.cli import main
from app.keys.scopes import Access, Scope, needed

PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text()
_SAMPLE = re.compile(r"k_3f9c12ab34cd")
_VARYING = re.compile(r"_[0-9a-f]{40}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00")


def commands() -> list[tuple[str, str]]:
    """Each command of the page, and what it says that it prints."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [
        (command, printed.strip()) for block in blocks for command, printed in re.findall(r"\$ (.*)\n([^$]*)", block)
    ]


def test_commands_print_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PULLBACK_DATA_DIR", str(tmp_path))
    key_id = "k_3f9c12ab34cd"
    assert len(commands()) == 4
    for command, printed in commands():
        program, *words = shlex.split(_SAMPLE.sub(key_id, command))
        assert program == "pullback"
        assert main(words) == 0, command
        found = capsys.readouterr().out.strip()
        if words[1] == "create":
            key_id = found[3:17]
        assert _VARYING.sub("...", found) == _VARYING.sub("...", _SAMPLE.sub(key_id, printed))


@pytest.mark.parametrize("scope", Scope)
def test_the_table_of_scopes(scope: Scope) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{scope}` |"))
    paths = re.findall(r"`(/[^`]*)`", row)
    assert all(needed(path) in (scope, Access.LOCAL) for path in paths)
    assert paths or scope is Scope.JOBS


def test_what_needs_no_key() -> None:
    sentence = PAGE[PAGE.index("Any key may use") :].partition("\n\n")[0]
    any_key, _, open_paths = sentence.partition("Without a key")
    assert {needed(path) for path in re.findall(r"`(/[^`]*)`", any_key)} == {Access.KEY}
    without = re.findall(r"`(/[^`]*)`", open_paths.partition("other pages")[0])
    assert {needed(path) for path in without} == {Access.OPEN}
    assert len(without) == 5
