"""The distribution: its README is true, it installs by itself, imports soon and is typed."""

from __future__ import annotations

import doctest
import inspect
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from typing import TYPE_CHECKING

import pytest

import pullback
from tests.app.conftest import ROOT, Server

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = ROOT / "clients" / "python"
README = (PROJECT / "README.md").read_text()
DEFAULT = "http://127.0.0.1:8000"
#: What is imported when it is used, if at all.
SLOW_TO_IMPORT = {"app", "engine", "fastapi", "pydantic", "safetensors", "scipy", "tqdm", "uvicorn"}
MOST_IMPORTS = 100
QUICKSTART = """
from pullback import Variable, connect, functions as F, models, transforms
with connect():
    assert models.MLP([3, 1], rng=0)(Variable([[1.0, 2.0]])).shape == (1, 1)
    assert transforms.grad(F.sin)(0.0) == 1.0
    x = Variable(0.5)
    y = F.square(F.exp(F.square(x)))
    y.backward()
    print(y, x.grad)
"""
USER = """
import numpy as np

from pullback import AsyncClient, Client, Variable, connect, functions as F
from pullback.errors import ShapeMismatchError


def loss(client: Client, w: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, np.float64]:
    found = client.evaluate("sum(w**2)", {"w": w}, backward=True)
    reveal_type(found)
    reveal_type(client.with_raw_response.evaluate("x", {"x": 1}))
    return float(found.values["out"]), np.float64(found.grads["w"][0])


async def several(client: AsyncClient) -> str:
    return (await client.evaluate("x", {"x": 1})).program


def train() -> None:
    with connect("local", seed=1) as connection:
        x = Variable(0.5, name="x")
        y = F.square(x) * 2.0
        y.backward()
        print(y, x.grad, connection.id)


try:
    train()
except ShapeMismatchError as error:
    print(error.status, error.faults)
client = Client()
client.evaluate("x", wrong=1)
"""


def run(*words: str | Path, **env: str) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=os.environ | env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_readme_prompts(server: Server) -> None:
    text = "".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL)).replace(DEFAULT, server.base_url)
    test = doctest.DocTestParser().get_doctest(text, {}, "README", "README.md", 0)
    assert len(test.examples) > 20
    try:
        assert doctest.DocTestRunner().run(test, clear_globs=False).failed == 0
    finally:
        for name in ("connection", "client"):
            test.globs[name].close()


def test_readme_scripts(server: Server) -> None:
    [script] = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    printed = run(sys.executable, "-W", "error", "-c", script.replace(DEFAULT, server.base_url))
    assert printed.split() == re.findall(r"# (\S+)$", script, re.MULTILINE)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist, away from the repository."""
    folder = tmp_path_factory.mktemp("sdist")
    script = f"import hatchling.build as build; print(build.build_sdist({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT, check=True)
    with tarfile.open(folder / done.stdout.strip()) as archive:
        assert all(member.isfile() for member in archive)
        archive.extractall(folder, filter="data")
    return folder / done.stdout.strip().removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel that is built from the sdist."""
    words = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-w", sdist.parent]
    run(sys.executable, "-m", "pip", "wheel", "-q", *words, sdist)
    [found] = sdist.parent.glob("pullback-*.whl")
    return found


def test_the_wheel_has_the_files_of_the_package(wheel: Path) -> None:
    package = PROJECT / "src" / "pullback"
    files = {path.relative_to(package.parent).as_posix(): path for path in package.rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.endswith(".py")} == set(files)
        assert "pullback/py.typed" in archive.namelist()
        for name, path in files.items():
            assert archive.read(name) == path.read_bytes()


def test_files_of_the_engine_are_links() -> None:
    """Each is in git once: a link that leads to the same room of the engine."""
    package = PROJECT / "src" / "pullback"
    links = [path for path in package.rglob("*.py") if path.is_symlink()]
    assert len(links) > 10
    for path in links:
        assert not path.readlink().is_absolute()
        assert path.resolve() == ROOT / "engine" / path.relative_to(package)


@pytest.mark.parametrize(("is_text", "said"), [(True, "is a text file"), (False, "does not exist")])
def test_a_link_that_is_none_is_refused(tmp_path: Path, is_text: bool, said: str) -> None:
    project = tmp_path / "python"
    shutil.copytree(PROJECT, project, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    if is_text:
        for path in project.rglob("*.py"):
            if path.is_symlink():
                target = path.readlink()
                path.unlink()
                path.write_text(str(target))
    for kind in ("sdist", "wheel", "editable"):
        script = f"import hatchling.build as build; build.build_{kind}({str(tmp_path)!r})"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=project)
        assert done.returncode != 0 and f"attributes.py {'should' if is_text else 'is'}" in done.stderr
        assert said in done.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The Python of an environment that has the wheel and what it asks for, and nothing of the server."""
    folder = tmp_path_factory.mktemp("package")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    # The versions that the tests run with.
    pinned = folder / "constraints.txt"
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned.write_text("\n".join(line.rstrip("\\ ") for line in lines if not line.startswith(" ")))
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", pinned, wheel)
    return python


@pytest.mark.thorough
def test_the_wheel_is_enough(alone: Path, server: Server) -> None:
    listed = run(alone, "-m", "pip", "list", "--disable-pip-version-check")
    assert "pullback " in listed and "pullback-server" not in listed and "scipy" not in listed
    printed = run(alone, "-W", "error", "-c", QUICKSTART, PULLBACK_URL=server.base_url)
    assert printed == "variable(1.648721270700128) variable(3.297442541400256)\n"
    script = "import pullback\ntry: pullback.connect('local')\nexcept pullback.errors.NotConnectedError as e: print(e)"
    assert "pip install pullback-server" in run(alone, "-c", script)


def test_imports_soon() -> None:
    """What comes on top of NumPy and httpx is our own, and little of the standard library."""
    script = "import sys, numpy, httpx; b = set(sys.modules); import pullback; print(*sorted(set(sys.modules) - b))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    others = [name for name in done.stdout.split() if name.partition(".")[0] != "pullback"]
    assert {name.partition(".")[0] for name in others}.isdisjoint(SLOW_TO_IMPORT)
    assert len(others) <= MOST_IMPORTS


@pytest.mark.thorough
def test_types_of_a_user(tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(USER)
    words = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, str(file)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    found = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert found[:2] == [
        'note: Revealed type is "pullback.remote.results.Evaluation"',
        'note: Revealed type is "pullback.remote.results.Raw"',
    ]
    assert found[2].startswith('error: Unexpected keyword argument "wrong"'), done.stdout
    assert "Found 1 error in 1 file" in done.stdout


def test_signatures_that_help_shows(client: pullback.Client) -> None:
    assert str(inspect.signature(client.evaluate)).endswith("seed: 'int | None' = None) -> 'Evaluation'")
    assert client.evaluate.__doc__ == pullback.Client.evaluate.__doc__ != ""
    session = client.session()
    assert str(inspect.signature(session.run)).startswith("(commands: 'Sequence[Command]', fetch: ")
    assert str(inspect.signature(session.info)) == "() -> 'SessionInfo'"
    session.delete()
