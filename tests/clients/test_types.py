"""What type checkers say of functions, operators, layers and models is what these return, in both packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
import typing
from typing import TYPE_CHECKING, Any

import pytest

import engine
import pullback
from engine.core import Operation, example_operands, rows
from tests.app.conftest import ROOT
from tests.clients.test_readme_types import CONFIG, READMES, checked, scripts

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = ("engine", "pullback")
#: Each line holds for mypy, for pyright, and when it runs.
LINES = """
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

from PACKAGE import Variable, functions as F, layers, models, no_grad

Array = npt.NDArray[Any]
x, m = Variable([0.5, 0.25]), Variable([[1.0, 2.0], [3.0, 4.0]])
a: npt.NDArray[np.float64] = np.array([0.5, 0.25])
# Of this one type checkers know no dtype.
u = np.array([0.5, 0.25])

assert_type(F.sin(x), Variable)
assert_type(F.sin(0.5), float)
assert_type(F.sin(1), float)
assert_type(F.sin(a), Array)
assert_type(F.sin(u), Array)
assert_type(F.sin([0.5, 0.25]), Array)
assert_type(F.arctan(x), Variable)
assert_type(F.clip(x, 0.3, max=0.4), Variable)
assert_type(F.clip(0.5, 0.3), float)
assert_type(F.add(x, a), Variable)
assert_type(F.add(a, x), Variable)
assert_type(F.add(u, x), Variable)
assert_type(F.mul(u, a), Array)
assert_type(F.add(0.5, x), Variable)
assert_type(F.add(0.5, 1), float)
assert_type(F.add(a, 1), Array)
assert_type(F.add(1, [0.5]), Array)
assert_type(F.less(x, 0.4), Variable)
assert_type(F.less(0.3, 0.4), Array)
assert_type(F.where(a > 0.3, x, 0.0), Variable)
assert_type(F.where(a > 0.3, a, 0.0), Array)
assert_type(F.where(True, 1.0, 0.0), float)
assert_type(F.sum(x, axis=0), Variable)
assert_type(F.sum(a), Any)
assert_type(F.matmul(m, x), Variable)
assert_type(F.linear(a, m), Variable)
assert_type(F.linear(a, [[1.0], [2.0]], b=x[:1]), Variable)
assert_type(F.argmax(a), Array)
assert_type(F.softmax(m, axis=-1), Variable)
assert_type(F.concat(x, a), Variable)
assert_type(F.concat([x, x], axis=0), Variable)
assert_type(F.concat(u, x, u), Variable)
assert_type(F.stack(0.5, x[0]), Variable)
assert_type(F.stack(u, a, axis=1), Array)
assert_type(F.stack([0.5, 1.0]), Any)
assert_type(F.einsum("i,i", x, u), Variable)
assert_type(F.einsum("i,i", u, x), Variable)
assert_type(F.split(x, 2), tuple[Variable, ...])
assert_type(F.dropout(x, 0.5, rng=1), Variable)

assert_type(x + 1, Variable)
assert_type(1 + x, Variable)
assert_type(a + x, Variable)
assert_type(a @ x, Variable)
assert_type(2.0**x, Variable)
assert_type(x**2 / a - x % 1, Variable)
assert_type(-abs(x), Variable)
assert_type((x < 1) & (x > 0), Variable)
assert_type(~(x < 1), Variable)
assert_type(x[0], Variable)
assert_type(m.T.reshape(4).sum(), Variable)
assert_type(divmod(x, 2), tuple[Variable, Variable])
assert_type([each for each in x], list[Variable])

assert_type(models.MLP([3, 1], rng=0)(m), Variable)
assert_type(models.LSTM(3, 1, rng=0)(m), Variable)
assert_type(layers.Linear(3, rng=0)([[0.5]]), Variable)
assert_type(layers.RNN(3, rng=0)(m), Variable)


class Scale(layers.Layer):
    def __init__(self) -> None:
        self.s = Variable(2.0)

    def forward(self, x: Variable, times: int = 1) -> Variable:
        return F.sin(x) * self.s**times


class Both(models.Model):
    def forward(self, x: Variable) -> tuple[Variable, float]:
        return x, 0.5


assert_type(Scale()(x), Variable)
assert_type(Scale()(x, times=2), Variable)
assert_type(Both()(x), tuple[Variable, float])
assert_type(Scale().params(), dict[str, Variable])


@no_grad()
def doubled(x: Variable) -> Variable:
    return x * 2


assert_type(doubled(x), Variable)
"""
#: Mistakes, and the rules of mypy and of pyright that find them.
MISTAKES = """
from PACKAGE import Variable, functions as F, models

x = Variable(0.5)
F.sin("x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
F.sine(x)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
F.add(x)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
F.clip(x, "0")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
F.softmax(x, axes=0)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
models.MLP([1], rng=0)(x, x)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
x.gradient  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
"""
#: The client's answers, as a user of the strictest checks writes it.
ANSWERS = """
from typing import Any, assert_type

from pullback import Client, Connection, Session, Variable, connect

client = Client()
answer = client.evaluate("sum(w**2)", {"w": [1.0, 2.0]}, backward=True)
assert_type(answer.grads, dict[str, Any])
slope: float = answer.grads["w"][0]
assert_type(client.session(seed=1), Session)
with connect(client.settings.url) as connection:
    assert_type(connection, Connection)
    assert_type(connection.variable("x"), Variable)
"""
#: A lambda cannot say what its parameter is, and a prompt shows its value.
OF_PROMPTS = (
    "UnknownLambdaType",
    "UnknownArgumentType",
    "UnknownVariableType",
    "UnknownMemberType",
    "MissingTypeStubs",
    "UnusedExpression",
    "UnusedImport",
)


def files() -> dict[str, str]:
    """The scripts above, for each package."""
    named = {"lines": LINES, "mistakes": MISTAKES}
    return {f"{name}_{p}.py": text.replace("PACKAGE", p) for p in PACKAGES for name, text in named.items()} | {
        "answers.py": ANSWERS
    }


@pytest.mark.thorough
def test_mypy(tmp_path: Path) -> None:
    # What is wrong with a comment for pyright is pyright's to say.
    said = checked(tmp_path, files(), CONFIG.replace("[mypy]\n", f"[mypy]\nmypy_path = {ROOT}\n"))
    assert said == "Success: no issues found in 5 source files\n", said


@pytest.mark.thorough
@pytest.mark.parametrize("are_prompts", [False, True])
def test_pyright(tmp_path: Path, are_prompts: bool) -> None:
    config: dict[str, Any] = {
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": not are_prompts,
        "extraPaths": [str(ROOT)],
    }
    if are_prompts:
        config |= {f"report{rule}": False for rule in OF_PROMPTS}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    written = {name: text for readme in READMES for name, text in scripts(readme).items()} if are_prompts else files()
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    words = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0 and "0 errors, 0 warnings" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_when_it_runs(package: str, monkeypatch: pytest.MonkeyPatch, connected: pullback.Connection) -> None:
    found: list[str] = []

    def assert_type(value: Any, kind: Any) -> None:
        if not is_of(value, kind):
            found.append(f"{type(value)} is no {kind}")

    monkeypatch.setattr(typing, "assert_type", assert_type)
    module = types.ModuleType("lines")
    exec(compile(LINES.replace("PACKAGE", package), "lines", "exec"), module.__dict__)
    assert not found


def is_of(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type."""
    if kind is Any:
        return True
    outer = typing.get_origin(kind) or kind
    if outer is tuple or outer is list:
        return type(value) is outer and all(is_of(item, typing.get_args(kind)[0]) for item in value[:1])
    if outer is dict:
        return type(value) is dict
    return type(value) is outer


@pytest.mark.parametrize("op", [op for op in rows() if not op.random and op.name != "grad"], ids=str)
def test_a_variable_gives_a_variable(op: Operation) -> None:
    """For each operand that is one, whatever the others are."""
    for example in op.examples:
        xs, attrs = example_operands(op, example)
        for place in range(len(xs)):
            mixed = [engine.Variable._leaf(x) if i == place else x for i, x in enumerate(xs)]
            ys = op.run(mixed, attrs)
            assert all(type(y) is engine.Variable for y in (ys if isinstance(ys, tuple) else (ys,)))
