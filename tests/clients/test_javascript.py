"""The JavaScript client: its own tests against a real server, and its declarations."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.api.problem_table import BY_SLUG
from tests.app.conftest import ROOT, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT = ROOT / "clients" / "javascript"
NODE, NPM = shutil.which("node") or "node", shutil.which("npm") or "npm"
#: README's blocks are among them.
TESTS = sorted(path.name for path in (CLIENT / "test").glob("*.test.js"))

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_server(tmp_path_factory.mktemp("server")) as running:
        yield running.base_url


def run(*words: str | Path | None, cwd: Path = CLIENT, **env: str) -> str:
    """What a command prints, which has to succeed."""
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=os.environ | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TESTS)
def test_against_a_server(url: str, name: str) -> None:
    run(NODE, "--test", f"test/{name}", PULLBACK_URL=url)


def test_there_are_tests() -> None:
    assert {"calls", "errors", "readme", "retries", "sessions"} <= {name.split(".")[0] for name in TESTS}


def test_a_class_for_every_problem() -> None:
    script = 'import { BY_SLUG } from "./src/problems.js"; console.log(JSON.stringify(Object.keys(BY_SLUG)))'
    assert set(json.loads(run(NODE, "--input-type=module", "--eval", script))) == set(BY_SLUG)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the client that has a compiler: the one that is installed, else the lock's."""
    copy = tmp_path_factory.mktemp("javascript") / "client"
    shutil.copytree(CLIENT, copy, ignore=shutil.ignore_patterns("node_modules"))
    if (CLIENT / "node_modules" / "typescript").exists():
        (copy / "node_modules").symlink_to(CLIENT / "node_modules")
        return copy
    words = [str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
    installed = subprocess.run(words, cwd=copy, capture_output=True, text=True)
    if installed.returncode:
        pytest.fail(f"TypeScript is not installed, and cannot be: {installed.stderr.strip().splitlines()[:1]}")
    return copy


def test_types(checkout: Path) -> None:
    run(NPM, "run", "check", cwd=checkout)


def test_declarations_are_those_of_the_sources(checkout: Path) -> None:
    run(checkout / "node_modules" / ".bin" / "tsc", "-p", "tsconfig.types.json", cwd=checkout)
    made = {path.name: path.read_text() for path in (checkout / "build").iterdir()}
    kept = {path.name: path.read_text() for path in (CLIENT / "types").iterdir()}
    assert made == {name: text for name, text in kept.items() if name != "wire.d.ts"}, "npm run types makes them anew"


def test_a_project_that_uses_it(checkout: Path, tmp_path: Path) -> None:
    """It is checked with the declarations as they are, and with no library beyond what an ordinary project has."""
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "pullback").symlink_to(checkout)
    use = """
        import { Client, type NDArray } from "pullback";
        const { grads } = await new Client().evaluate({ expr: "x", inputs: { x: [1] }, backward: true });
        export const found: NDArray = grads.x as NDArray;
    """
    (tmp_path / "use.mts").write_text(use)
    options = ["--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext"]
    run(checkout / "node_modules" / ".bin" / "tsc", *options, "use.mts", cwd=tmp_path)


def test_what_is_published() -> None:
    (packed,) = json.loads(run(NPM, "pack", "--dry-run", "--json"))
    found = {entry["path"] for entry in packed["files"]}
    code = {path.relative_to(CLIENT).as_posix() for folder in ("src", "types") for path in (CLIENT / folder).iterdir()}
    assert found == code | {"package.json", "README.md"}


def test_lock_has_no_addresses() -> None:
    lock = (CLIENT / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert '"resolved"' not in lock
    assert "://" not in lock
