"""The command line: what it prints, how it fails, and that a server that it starts answers its own curl line."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import __version__
from app.cli import main
from app.settings import Settings
from engine.core.table import rows

ROOT = Path(__file__).resolve().parents[2]
START_S = 120
MATYAS = "0.26*(x**2+y**2) - 0.48*x*y"

EVALUATED = [
    ([MATYAS, "x=1", "y=1"], ["out = 0.040000000000000036", "grad x = 0.040000000000000036"]),
    (["square(exp(square(x)))", "x=0.5"], ["out = 1.648721270700128", "grad x = 3.297442541400256"]),
    (["y = sum(x * x)", "x=[1, 2]"], ["y = 5.0", "grad x = [2.0,4.0]"]),
    (["x * y", "x=2", "y=3", "--wrt", "y"], ["out = 6.0", "grad y = 2.0"]),
    (["x * y", "--wrt", "y", "--wrt", "x", "x=2", "y=3"], ["out = 6.0", "grad y = 2.0", "grad x = 3.0"]),
    (["-x**2", "x=3"], ["out = -9.0", "grad x = -6.0"]),
    (["-x", "x=-1"], ["out = 1.0", "grad x = -1.0"]),
    (["2 * pi"], ["out = 6.283185307179586"]),
    (["x > 0", "x=[1, -1]"], ["out = [true,false]"]),
    (
        ["square(secret)", "--plan", "secret=2"],
        ["def plan(x0):", "    v1 = x0 * x0", "    v3 = 2.0 * x0", "    return (v1, v3, )"],
    ),
    (["a = x + 1; b = x - 1; a, b", "x=1"], ["a = 2.0", "b = 0.0"]),
    (["1 / x", "x=[0, 1]"], ['out = ["Infinity",1.0]', 'grad x = ["-Infinity",-1.0]']),
    (["x + 1", "x=-Infinity"], ['out = "-Infinity"', "grad x = 1.0"]),
    (
        ["sin(x)", "x=1", "--order", "3"],
        [
            "out = 0.8414709848078965",
            "grad x = 0.5403023058681398",
            "grad x, order 2 = -0.8414709848078965",
            "grad x, order 3 = -0.5403023058681398",
        ],
    ),
    (
        ["x**2 * y", "x=3", "y=2", "--wrt", "x", "--order", "2"],
        ["out = 18.0", "grad x = 12.0", "grad x, order 2 = 4.0"],
    ),
    (["y = x**3; grad(y, x)", "x=2"], ["out = 12.0", "grad x = 12.0"]),
    (["where(m, x, 0)", "m=true", 'x={"shape":[1],"dtype":"float32","data":[2]}'], ["out = [2.0]", "grad x = [1.0]"]),
]


@pytest.mark.parametrize(("argv", "lines"), EVALUATED, ids=[" ".join(argv) for argv, _ in EVALUATED])
def test_eval_prints_values_and_gradients(
    argv: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *argv]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[: len(lines)] == lines
    assert printed.err == ""


def test_eval_prints_every_gradient(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", MATYAS, "x=1", "y=1"]) == 0
    expected = [f"{name} = 0.040000000000000036" for name in ("out", "grad x", "grad y")]
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize("place", [1, 2, 4])
def test_eval_prints_json(place: int, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["eval", MATYAS, "x=1", "y=1"]
    assert main([*argv[:place], "--json", *argv[place:]]) == 0
    number = 0.040000000000000036
    assert json.loads(capsys.readouterr().out) == {"values": {"out": number}, "grads": {"x": number, "y": number}}


REFUSED: list[tuple[list[str], str]] = [
    ([], "COMMAND"),
    (["evaluate", "x"], "evaluate"),
    (["eval"], "expr"),
    (["eval", "x", "--order", "two", "x=1"], "--order two"),
    (["eval", "x ** 3", "x=1", "--order", "13"], "order 13 12"),
    (["eval", "x * y", "x=1", "y=1", "--order", "2"], "order wrt x, y"),
    (["dot", "x +"], "operand missing"),
    (["dot", "x * y", "--order", "2"], "order wrt x, y"),
    (["dot", "x", "--order", "-1"], "order -1 0 12"),
    (["dot", "x", "--wrt", "z", "--order", "1"], "wrt z"),
    (["eval", "x ** 3", "x=1", "--order", "0"], "order"),
    (["eval", "x", "x"], "x NAME=VALUE"),
    (["eval", "x", "x="], "x JSON"),
    (["eval", "x", "x=abc"], "x=abc JSON"),
    (["eval", "x", "x=[1,"], "JSON"),
    (["eval", "x", "x=1", "x=2"], "x twice"),
    (["eval", "x", "x=[[1,2],[3]]"], "x rectangular"),
    (["eval", "x * y", "x=1"], "y"),
    (["eval", "x", "x=1", "y=2"], "y"),
    (["eval", "x", "x=1", "--wrt", "z"], "z"),
    (["eval", "x", "x=1", "--wtr", "x"], "--wtr"),
    (["eval", "sine(x)", "x=1"], "sine sin"),
    (["eval", "a + b", "a=[1,2]", "b=[1,2,3]"], "add"),
    (["eval", "broadcast_to(x, [100000, 100000])", "x=1"], "PULLBACK_MAX_ELEMENTS"),
    (["ops", "sine"], "sine sin"),
    (["ops", "sin", "cos"], "cos"),
    (["serve", "--port", "abc"], "PULLBACK_PORT abc integer"),
    (["serve", "--port", "99999"], "PULLBACK_PORT 99999"),
    (["serve", "--workers", "0"], "PULLBACK_WORKERS 0"),
    (["serve", "--host", "0.0.0.0"], "0.0.0.0 loopback --insecure"),
    (["serve", "--host", "::"], "loopback --insecure"),
    (["serve", "--speed", "9"], "--speed"),
]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without settings, and of its own, for `serve` hands its flags on in it."""
    monkeypatch.setattr(os, "environ", clean())


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("argv", "words"), REFUSED, ids=[" ".join(argv) or "nothing" for argv, _ in REFUSED])
def test_errors_are_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    line, *caret = printed.err.splitlines()
    assert line.startswith("pullback: ")
    assert caret == [] or caret[1].strip() == "^"
    assert all(word in line for word in words.split()), line


SYNTAX: list[tuple[str, str, str]] = [
    ("x ^ 2", "x ^ 2", "^"),
    ("y = x\nz = y % 2", "z = y % 2", "%"),
    ("x + y and z", "x + y and z", "and"),
    ("x.T", "x.T", ".T"),
    ("x * sine(x)", "x * sine(x)", "sine"),
]


@pytest.mark.parametrize(("text", "line", "found"), SYNTAX)
def test_a_caret_stands_under_the_column(text: str, line: str, found: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", text, "x=1"]) == 2
    message, shown, caret = capsys.readouterr().err.splitlines()
    assert message.startswith("pullback: ")
    assert shown == f"  {line}"
    assert caret.strip() == "^"
    assert shown[caret.index("^") :].startswith(found)
    assert f"column {caret.index('^') - 1}" in message


def test_a_caret_stands_right_in_a_long_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", f"{'x + ' * 200}x ^ 2{' + x' * 200}", "x=1"]) == 2
    _, shown, caret = capsys.readouterr().err.splitlines()
    assert len(shown) < 120
    assert shown[caret.index("^")] in "x^"


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PULLBACK_MAX_ELEMENTS", "10")
    assert main(["eval", "sum(broadcast_to(x, [11]))", "x=1"]) == 2
    assert "the limit is 10" in capsys.readouterr().err


def test_ops_lists_every_operation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("(")[0] for line in lines] == [op.name for op in rows()]
    assert all(op.doc in line for op, line in zip(rows(), lines, strict=True))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("softmax", "softmax(x, axis=-1) axis integer"),
        ("subtract", "sub(x1, x2) subtract"),
        ("split", "sizes required"),
        ("argmax", "not differentiable"),
    ],
)
def test_ops_shows_one(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", name]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in words.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pullback {__version__}\n"


# As a process


def run(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", *argv]
    return subprocess.run(
        command, cwd=ROOT, env=clean(), capture_output=True, text=True, timeout=START_S, check=False, **options
    )


def clean(**settings: str) -> dict[str, str]:
    """The environment without settings, but for these."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PULLBACK_")}
    return env | {f"PULLBACK_{name}": value for name, value in settings.items()}


def test_exit_codes_and_streams() -> None:
    good = run("eval", "x ** 2", "x=3")
    assert (good.returncode, good.stdout, good.stderr) == (0, "out = 9.0\ngrad x = 6.0\n", "")
    bad = run("eval", "x ^ 2", "x=3")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "Traceback" not in bad.stderr


def test_eval_loads_no_web_server() -> None:
    code = (
        "import sys; from app.cli import main; main(['eval', 'x', 'x=1']); "
        "print(*(name for name in ('fastapi', 'pydantic', 'starlette', 'uvicorn') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "app.cli", "ops"]
    with subprocess.Popen(command, cwd=ROOT, env=clean(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@contextmanager
def serving(*argv: str, **settings: str) -> Iterator[str]:
    """The first line that `pullback serve` prints, while it runs."""
    command = [sys.executable, "-m", "app.cli", "serve", *argv]
    process = subprocess.Popen(command, cwd=ROOT, env=clean(**settings), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=START_S) in (0, -signal.SIGTERM)
        process.stdout.close()


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param([], id="one process"),
        pytest.param(["--workers", "2"], id="two workers", marks=pytest.mark.thorough),
    ],
)
def test_the_printed_curl_line_works(argv: list[str]) -> None:
    with serving("--port", "0", *argv) as line:
        words = shlex.split(line)
        assert words[0] == "curl"
        url = next(word for word in words if word.startswith("http://"))
        headers = dict(words[i + 1].split(": ") for i, word in enumerate(words) if word == "-H")
        transport = httpx.HTTPTransport(retries=10)
        with httpx.Client(transport=transport, trust_env=False, timeout=START_S) as client:
            answer = client.post(url, content=words[words.index("-d") + 1], headers=headers)
    assert answer.json()["grads"] == {"x": 3.297442541400256}


@pytest.mark.thorough
def test_settings_come_from_the_environment_and_flags_go_before() -> None:
    with serving("--port", "0", PORT="1", HOST="localhost") as line:
        assert "http://localhost:" in line
        assert "http://localhost:1/" not in line


@pytest.mark.thorough
def test_insecure_listens_on_all_addresses() -> None:
    with serving("--port", "0", "--host", "0.0.0.0", "--insecure") as line:
        assert "http://127.0.0.1:" in line


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr == f"pullback: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


def test_a_wrong_setting_is_one_line_for_uvicorn_too() -> None:
    command = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0"]
    env = clean(MAX_BODY_BYTES="many")
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith('pullback: PULLBACK_MAX_BODY_BYTES is "many"')
    assert "Traceback" not in done.stderr


# settings


def test_settings_are_listed_with_their_values_and_meanings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PULLBACK_MAX_NODES", "7")
    assert main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(Settings.model_fields)
    assert re.fullmatch(
        r"PULLBACK_MAX_NODES=7 +Operations of a program and its gradient\.", next(s for s in lines if "MAX_NODES" in s)
    )
    assert all(re.fullmatch(r"PULLBACK_[A-Z_]+=\S+ +\S.*\.", line) for line in lines)


def test_a_setting_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PULLBACK_MAX_NODES", "many")
    assert main(["settings"]) == 2
    assert 'PULLBACK_MAX_NODES is "many"' in capsys.readouterr().err
