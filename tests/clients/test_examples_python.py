"""The Python examples: each runs as README says, prints what is true, and costs as many requests as it says."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.app.conftest import environment, start_server
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = Path(__file__).parents[2] / "clients" / "examples"
README = (FOLDER / "README.md").read_text()
# The longest takes five seconds on an idle machine.
RUN_S = 240
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]\d+)?")

# Requests that are not for steps: a session made and deleted, a program registered, a look at what came out.
MOST_BESIDES = 12
COUNTED = """
import runpy, sys
import httpx

send, sent = httpx.Client.send, []

def counted(*args, **keywords):
    sent.append(args)
    return send(*args, **keywords)

httpx.Client.send = counted
if "tqdm" in sys.argv[2:]:
    sys.modules["tqdm"] = None
runpy.run_path(sys.argv[1], run_name="__main__")
print(len(sent), file=sys.stderr)
"""


def numbers(line: str) -> list[float]:
    return [float(word) for word in NUMBER.findall(line)]


def last(text: str, start: str) -> list[float]:
    """The numbers in the only line that starts so, after that start."""
    (line,) = (line for line in text.splitlines() if line.startswith(start))
    return numbers(line.removeprefix(start))


def descends(text: str) -> None:
    """As with derivatives found on paper."""
    x, y, losses = 0.0, 2.0, []
    for _ in range(1000):
        losses.append(10 * (y - x * x) ** 2 + (1 - x) ** 2)
        slope_x, slope_y = -40 * x * (y - x * x) - 2 * (1 - x), 20 * (y - x * x)
        x, y = x - 0.01 * slope_x, y - 0.01 * slope_y
    shown = [numbers(line) for line in text.splitlines()[:-1]]
    assert shown == [[step, pytest.approx(losses[step], abs=1e-6)] for step in range(0, 1000, 200)]
    assert last(text, "after 1000 steps: ")[:2] == pytest.approx([x, y], abs=1e-12)
    assert math.hypot(x - 1, y - 1) < 0.02


def converges(text: str) -> None:
    """As with derivatives found on paper, and quadratically."""
    x, path = 2.0, []
    for _ in range(8):
        path.append(x)
        x = x - (4 * x**3 - 4 * x) / (12 * x**2 - 4)
    shown = [numbers(line) for line in text.splitlines()[:8]]
    assert shown == [[step, pytest.approx(x, abs=1e-14)] for step, x in enumerate(path)]
    errors = [abs(x - 1) for _, x in shown]
    assert all(after < 2 * before**2 for before, after in pairwise(errors[2:]))
    assert last(text, "variables: ") == [1.0]
    assert last(text, "transforms: ") == [1.0, 8.0]


def separates_the_moons(text: str) -> None:
    assert last(text, "loss ") < [0.02]
    assert last(text, "accuracy on new points ") > [0.97]
    assert text.splitlines()[-1] == "the loaded model gives the same scores: True"


def foresees_the_cosine(text: str) -> None:
    losses = [numbers(line)[-1] for line in text.splitlines() if line.startswith("epoch")]
    assert losses == sorted(losses, reverse=True)
    # One step of 40 a period: the root of the mean square of a difference is sqrt(2) sin(pi / 40).
    assert last(text, "error of saying that it stays as it is ") == pytest.approx(
        [math.sqrt(2) * math.sin(math.pi / 40)], rel=0.05
    )
    # What is learned is better than what it was learned from: noise between -0.05 and 0.05.
    assert last(text, "error on a cosine ") < [0.05 / math.sqrt(3)]


def finds_the_mode(text: str) -> None:
    """As Newton's method does, with derivatives found on paper."""
    rng, truth = np.random.default_rng(0), np.array([1.5, -1.0, 0.5])
    X = rng.normal(size=(500, 3))
    t = rng.uniform(size=500) < 1 / (1 + np.exp(-X @ truth))
    theta = np.zeros(3)
    for _ in range(20):
        p = 1 / (1 + np.exp(-X @ theta))
        curvature = X.T @ (X * (p * (1 - p))[:, None]) + np.eye(3)
        theta = theta - np.linalg.solve(curvature, X.T @ (p - t) + theta)
    z = X @ theta
    assert last(text, "loss ")[0] == pytest.approx(np.sum(np.logaddexp(0, z) - t * z) + theta @ theta / 2, abs=1e-6)
    shown = [numbers(line) for line in text.splitlines() if line.startswith("theta")]
    stds = np.sqrt(np.diag(np.linalg.inv(curvature)))
    assert shown == [pytest.approx(row, abs=1e-4) for row in zip(theta, stds, truth, strict=True)]
    assert last(text, "gradient by hand there: ") < [1e-6]


def draws_from_the_normal(text: str) -> None:
    assert 0.8 < last(text, "accepted ")[0] < 1.0
    *mean, mean_off = last(text, "mean ")
    *covariance, covariance_off = last(text, "covariance ")
    assert mean == pytest.approx([1.0, -2.0], abs=0.05)
    assert covariance == pytest.approx([1.0, 0.6, 0.6, 0.5], abs=0.05)
    assert max(mean_off, covariance_off) < 4


def solves_the_equation(text: str) -> None:
    assert last(text, "loss ")[0] < 1e-5
    assert last(text, "error against exp(-t): ") < [2e-3]


# File -> what has to be true of what it prints, and how many requests its steps cost: a number, or where it is printed.
CLAIMS: dict[str, tuple[Callable[[str], None], int | str]] = {
    "gradient_descent.py": (descends, 1000),
    "newton.py": (converges, 8 * 2 + 8),
    "mlp.py": (separates_the_moons, 300 // 50),
    "lstm_sine.py": (foresees_the_cosine, 13 * 80 // 10),
    "lbfgs_scipy.py": (finds_the_mode, "loss "),
    "hmc.py": (draws_from_the_normal, 100 * 8),
    "pinn.py": (solves_the_equation, "loss "),
}
ROW = re.compile(r"^\| \[(.*?\.py)\]\((.*?)\) \| (.*?) \| (.*?) \| (.*?) ?\| `(.*?)` \|$", re.MULTILINE)

#: The others take seconds each.
QUICK = {"newton.py"}
each_example = pytest.mark.parametrize(
    "file", [file if file in QUICK else pytest.param(file, marks=pytest.mark.thorough) for file in CLAIMS]
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_server(tmp_path_factory.mktemp("examples")) as server:
        yield server.base_url


def run(command: list[str], url: str) -> subprocess.CompletedProcess[str]:
    own = {"PULLBACK_URL": url, "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1", "no_proxy": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=FOLDER,
        env=environment() | own,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )


@pytest.fixture(scope="module")
def printed(url: str) -> Callable[[str], str]:
    """What an example prints, as README runs it; each runs once."""
    known: dict[str, str] = {}

    def of(file: str) -> str:
        if file not in known:
            (command,) = (row[-1] for row in ROW.findall(README) if row[0] == file)
            python, *arguments = command.split()
            assert python == "python"
            found = run(arguments, url)
            assert found.returncode == 0, found.stderr
            assert "loss=" in found.stderr if file == "mlp.py" else found.stderr == ""
            known[file] = found.stdout
        return known[file]

    return of


def test_every_file_is_in_the_table() -> None:
    rows = ROW.findall(README)
    assert all(name == file and command == f"python {file}" for name, file, *_, command in rows)
    assert sorted(file for file, *_ in rows) == sorted(CLAIMS) == sorted(file.name for file in FOLDER.glob("*.py"))


def test_the_table_says_what_each_needs() -> None:
    for file, _, _, _, needs, _ in ROW.findall(README):
        nodes = list(ast.walk(ast.parse((FOLDER / file).read_text())))
        modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        others = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"numpy", "pullback"}
        assert others == set(re.findall(r"`(.*?)`", needs)) - {"tqdm"}, file


@each_example
def test_prints_what_is_true(file: str, printed: Callable[[str], str]) -> None:
    claim, _ = CLAIMS[file]
    claim(printed(file))


@each_example
def test_needs_no_server_and_costs_as_many_requests_as_it_says(file: str, printed: Callable[[str], str]) -> None:
    found = run(["-c", COUNTED, file], "local")
    assert (found.returncode, found.stdout) == (0, printed(file)), found.stderr
    _, steps = CLAIMS[file]
    expected = int(last(found.stdout, steps)[-1]) if isinstance(steps, str) else steps
    assert expected <= int(found.stderr.split()[-1]) <= expected + MOST_BESIDES


@pytest.mark.thorough
def test_the_bar_may_be_missing(printed: Callable[[str], str]) -> None:
    found = run(["-c", COUNTED, "mlp.py", "without", "tqdm"], "local")
    assert (found.returncode, found.stdout) == (0, printed("mlp.py")), found.stderr
    assert found.stderr.strip().isdecimal()


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("file", ["gradient_descent.py", pytest.param("pinn.py", marks=pytest.mark.thorough)])
def test_no_server_is_said_so(file: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    found = run([file], url)
    assert (found.returncode, found.stdout) == (1, "")
    assert f"nothing answers at {url}" in found.stderr.splitlines()[-1]
    assert "pullback serve" in found.stderr.splitlines()[-1]
