"""The locks: every requirement with its hashes, nothing that names a place, everything that pyproject.toml asks for."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.test_makefile import make

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = ROOT / "requirements.lock"
BENCHMARK_LOCK = ROOT / "tests" / "benchmarks" / "requirements.lock"
TOOLS_LOCK = ROOT / "tools" / "requirements.lock"

PIN = re.compile(r"[a-z0-9._-]+==\S+( ; [^\\]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def pins(lock: Path) -> dict[str, str]:
    """Return the version of each package in `lock`."""
    found = [line.split(" ")[0].split("==") for line in lock.read_text().splitlines() if not line.startswith(" ")]
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("lock", [LOCK, BENCHMARK_LOCK, TOOLS_LOCK], ids=["project", "benchmark", "tools"])
def test_nothing_but_pins_with_hashes(lock: Path) -> None:
    """A line that names an index, a host, a folder or a repository has neither form."""
    lines = lock.read_text().splitlines()
    assert [line for line in lines if not PIN.fullmatch(line) and not HASH.fullmatch(line)] == []
    starts = [number for number, line in enumerate(lines) if PIN.fullmatch(line)]
    assert all(HASH.fullmatch(lines[number + 1]) for number in starts)


@pytest.mark.parametrize(
    "text",
    [
        *PROJECT["project"]["dependencies"],
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["build-system"]["requires"],
    ],
)
def test_every_dependency_is_locked(text: str) -> None:
    requirement = Requirement(text)
    assert requirement.url is None
    assert pins(LOCK)[canonicalize_name(requirement.name)] in requirement.specifier


def test_benchmark_compares_on_the_same_numpy() -> None:
    ours, theirs = pins(LOCK), pins(BENCHMARK_LOCK)
    assert {name: theirs[name] for name in ("numpy", "scipy")} == {name: ours[name] for name in ("numpy", "scipy")}


@pytest.mark.thorough
def test_bill_of_materials_has_what_the_server_needs() -> None:
    done = make(ROOT, "sbom")
    assert done.returncode == 0, done.stderr
    document = json.loads((ROOT / "dist" / "sbom.cdx.json").read_text())
    assert (document["bomFormat"], document["metadata"]["component"]["name"]) == ("CycloneDX", "pullback-server")
    listed = {canonicalize_name(component["name"]): component["version"] for component in document["components"]}
    assert listed.items() <= pins(LOCK).items()
    needed = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
    assert needed <= set(listed) and not {"pytest", "ruff", "mypy", "hatchling"} & set(listed)
    hashes = [
        reference.get("hashes") for component in document["components"] for reference in component["externalReferences"]
    ]
    assert hashes and all(hashes)
