"""What the SDK has from the engine and the server is what these have now."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pullback
from app.api.problem_table import BY_SLUG, KINDS
from app.programs.catalog import describe_all
from engine.core.errors import AutogradError
from engine.core.table import CALLS
from tests.app.conftest import ROOT
from tools import functions, operations

PACKAGE = ROOT / "clients" / "python" / "src" / "pullback"


def test_the_document_of_operations() -> None:
    assert operations.DOCUMENT.read_text() == operations.text(), "run make mirror"


def test_functions() -> None:
    assert functions.FUNCTIONS.read_text() == functions.text(), "run make mirror"
    assert functions.STUB.read_text() == functions.stub(), "run make mirror"


def test_functions_are_written_without_server_and_engine() -> None:
    script = "import sys, tools.functions as t; t.text(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert {"app", "engine", "numpy", "pullback"}.isdisjoint(done.stdout.split())


def test_nothing_of_the_server_is_imported() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(from|import) (app|engine)\b", path.read_text(), re.MULTILINE), path


def test_every_function_is_there() -> None:
    assert set(CALLS) - {"grad"} == set(pullback.core.table.CALLS)
    for op in describe_all()["operations"]:
        if op["name"] != "grad":
            function = getattr(pullback.functions, op["name"])
            assert op["doc"] in (inspect.getdoc(function) or "")
            required = [each["name"] for each in op["operands"] if each["required"]]
            assert list(inspect.signature(function).parameters)[: len(required)] == required or op["variadic"]


def test_every_problem_has_its_class() -> None:
    assert set(pullback.errors.BY_SLUG) == set(BY_SLUG)
    for kind in KINDS:
        engines = [error for error in kind.errors if issubclass(error, AutogradError)]
        for error in engines:
            assert getattr(pullback.errors, error.__name__) is pullback.errors.BY_SLUG[kind.slug]


def test_kinds() -> None:
    for group, known in (
        ("layers", pullback.layers.LAYERS),
        ("models", pullback.models.MODELS),
        ("optimizers", pullback.optimizers.OPTIMIZERS),
        ("hooks", pullback.hooks.HOOKS),
    ):
        for kind in describe_all()["kinds"][group]:
            taken = inspect.signature(known[kind["kind"]]).parameters
            for field in kind["config"]:
                assert field["name"] in taken
                if not field["required"]:
                    assert taken[field["name"]].default == field["default"]
