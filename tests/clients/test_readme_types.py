"""The Python lines of the READMEs pass `mypy --strict`, each as a script of a user's."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pullback import Client
from pullback.remote.results import Evaluation
from tests.app.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

READMES = ("README.md", "clients/python/README.md")
#: It has no types of its own.
CONFIG = "[mypy]\n[mypy-msgpack.*]\nignore_missing_imports = true\n"
#: Lines of a user whose mistakes are found.
WRONG = """
from pullback import Client
client = Client()
client.register("x")
client.programs.register(1)
client.sessions.create(seed="7")
reveal_type(client.session(seed=7))
reveal_type(client.evaluate("x", {"x": 1}).grads)
reveal_type(client.with_raw_response.programs.get("p"))
"""


def scripts(readme: str) -> dict[str, str]:
    """The prompts of a README, which follow one another, as one script; and its scripts."""
    text = (ROOT / readme).read_text()
    prompts = "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    examples = doctest.DocTestParser().get_examples(prompts)
    assert len(examples) > 20
    found = ["".join(example.source for example in examples), *re.findall(r"```py\n(.*?)```", text, re.DOTALL)]
    name = readme.removesuffix(".md").replace("/", "_").lower()
    return {f"{name}_{place}.py": script for place, script in enumerate(found)}


def checked(folder: Path, files: dict[str, str], config: str = CONFIG) -> str:
    """What mypy says of files."""
    (folder / "mypy.ini").write_text(config)
    for name, text in files.items():
        (folder / name).write_text(text)
    words = [sys.executable, "-m", "mypy", "--strict", "--config-file", "mypy.ini", *files]
    # Caches of the project were written by another configuration.
    env = os.environ | {"MYPY_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=env).stdout


@pytest.mark.thorough
def test_the_readmes(tmp_path: Path) -> None:
    files = {name: script for readme in READMES for name, script in scripts(readme).items()}
    assert len(files) == 6
    said = checked(tmp_path, files)
    assert said == f"Success: no issues found in {len(files)} source files\n", said


def test_mistakes_are_found(tmp_path: Path) -> None:
    said = [line.partition(": ")[2] for line in checked(tmp_path, {"wrong.py": WRONG}).splitlines()]
    assert [line for line in said if line.startswith("note: R")] == [
        'note: Revealed type is "pullback.remote.session.Session"',
        'note: Revealed type is "dict[str, Any]"',
        'note: Revealed type is "pullback.remote.results.Raw"',
    ]
    errors = [line for line in said if line.startswith("error")]
    assert [re.search(r"\[([a-z-]+)\]$", line)[1] for line in errors] == ["attr-defined", "arg-type", "arg-type"]  # type: ignore[index]


def test_gradients_that_were_not_asked_for_say_so(client: Client) -> None:
    found = client.evaluate("x**2", {"x": 3.0})
    assert isinstance(found, Evaluation)
    assert found.grads == found.higher == found.node_grads == {}
    assert not found.grads and "x" not in found.grads and found.grads.get("x") is None
    with pytest.raises(KeyError, match=r"no gradient of 'x': ask for it by evaluate\(\.\.\., backward=True\)"):
        found.grads["x"]
    with pytest.raises(KeyError, match=r"no higher derivative of 'x'.*order"):
        found.higher["x"]
    with pytest.raises(KeyError, match=r"no node gradient of 'x'.*retain_grad"):
        found.node_grads["x"]


def test_gradients_that_were_asked_for(client: Client) -> None:
    found = client.evaluate("x**3", {"x": 2.0}, backward={"order": 2})
    assert (found.grads, found.higher) == ({"x": 12.0}, {"x": [12.0, 12.0]})
    assert repr(found.grads) == "{'x': 12.0}"
