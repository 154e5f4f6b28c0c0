"""The Makefile: its targets, what it does when nothing has changed, and which Python it takes."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAMPS = (".venv/installed-lock", "tests/benchmarks/.venv/installed-lock", "tools/.venv/installed-lock", ".uv/bin/uv")
SPREAD = "--numprocesses logical --maxprocesses 8 --dist worksteal"
COMMANDS = {
    "serve": [".venv/bin/pullback serve"],
    "test": [f".venv/bin/pytest {SPREAD}"],
    "test-all": [f'.venv/bin/pytest {SPREAD} -m ""'],
    "lint": [
        ".venv/bin/ruff format --check .",
        ".venv/bin/ruff check .",
        ".venv/bin/mypy --strict engine app tools",
        ".venv/bin/mypy --strict --python-version 3.10 clients/python/src/pullback",
        ".venv/bin/lint-imports",
    ],
    "mirror": [".venv/bin/python -m tools.operations", ".venv/bin/python -m tools.functions"],
    "bench": [".venv/bin/python -m tests.benchmarks.run"],
    "pin": [".venv/bin/python -m tools.pins"],
    "audit": ["tools/.venv/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock"],
    "chaos": [".venv/bin/python -m tests.chaos"],
    "schema": [".venv/bin/python -m tests.schema"],
}
#: What the environment is made from.
CHANGING = ("requirements.lock", "pyproject.toml", "clients/python/pyproject.toml")
# Stands in for the real one, which installs for a minute: says which Python it was started by.
INSTALL = "import os, sys; print(os.environ['TAKEN'], *sys.argv[1:])"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a checkout whose environments are up to date."""
    for name in (*CHANGING, "Makefile", "tests/benchmarks/requirements.lock", "tools/requirements.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    for stamp in STAMPS:
        (tmp_path / stamp).parent.mkdir(parents=True)
        (tmp_path / stamp).touch()
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "install.py").write_text(INSTALL)
    return tmp_path


def make(project: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a terminal, not as from the make that may run this test."""
    inherited = {name: value for name, value in os.environ.items() if not re.match("MAKE|MFLAGS|ARGS|PYTHON", name)}
    return subprocess.run(
        ["make", *arguments], cwd=project, env={**inherited, **env}, capture_output=True, text=True, check=False
    )


def interpreter(folder: Path, name: str, code: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{code}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("target", COMMANDS)
def test_second_call_does_nothing_more(project: Path, target: str) -> None:
    done = make(project, "-n", target)
    assert done.returncode == 0, done.stderr
    assert [line.strip() for line in done.stdout.splitlines()] == COMMANDS[target]


@pytest.mark.parametrize("target", COMMANDS)
@pytest.mark.parametrize("changed", CHANGING)
def test_change_brings_the_environment_up_to_date(project: Path, target: str, changed: str) -> None:
    stamped = (project / STAMPS[0]).stat().st_mtime
    os.utime(project / changed, (stamped + 1, stamped + 1))
    assert ".ci/install.py .venv requirements.lock --editable . clients/python" in make(project, "-n", target).stdout


def test_arguments_are_passed_on(project: Path) -> None:
    assert make(project, "-n", "test", "ARGS=-k softmax").stdout.strip() == f".venv/bin/pytest {SPREAD} -k softmax"


def test_bill_of_materials_lists_what_the_server_needs_in_the_locked_versions(project: Path) -> None:
    compiled, written = [line for line in make(project, "-n", "sbom").stdout.splitlines() if "server.lock" in line]
    assert "--constraint requirements.lock" in compiled and "--group" not in compiled
    assert "cyclonedx-py requirements" in written and written.split()[-2:] == ["dist/sbom.cdx.json", "dist/server.lock"]


def test_newer_python_is_found_where_python3_is_too_old(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    interpreter(folder, "python3", "exit 1")
    interpreter(folder, "python3.14", "exit 1")
    interpreter(folder, "python3.13", f'TAKEN=3.13 exec "{shutil.which("python3")}" "$@"')
    (project / STAMPS[0]).unlink()
    done = make(project, STAMPS[0], PATH=f"{folder}:{os.environ['PATH']}")
    assert done.stdout.split() == ["3.13", ".venv", "requirements.lock", "--editable", ".", "clients/python"]


def test_too_old_a_python_is_said_clearly(project: Path, tmp_path: Path) -> None:
    interpreter(tmp_path / "bin", "python3.10", "exit 1")
    (project / STAMPS[0]).unlink()
    done = make(project, "test", f"PYTHON={tmp_path}/bin/python3.10")
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr
    assert f"Tried: {tmp_path}/bin/python3.10." in done.stderr
    assert done.stdout == ""


def test_ci_runs_lint_and_all_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\S+)$", script.read_text(), re.MULTILINE) == ["lint", "test-all"]
