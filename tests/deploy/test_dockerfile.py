"""The Dockerfile's own install and start commands, in an empty folder and a clean environment."""

import http.client
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Builder, Image, Instruction, parse
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
PORT = "8000"
START_S = 120.0


@pytest.fixture(scope="module")
def instructions() -> list[Instruction]:
    return parse((ROOT / "Dockerfile").read_text())


@pytest.mark.thorough
@pytest.mark.timeout(900)  # downloads every locked package where pip's cache is cold
def test_image_installs_starts_and_is_healthy(instructions: list[Instruction], tmp_path: Path) -> None:
    image = Builder(ROOT, tmp_path).build(instructions)
    packages = {path.name.partition("-")[0] for path in tmp_path.glob("root/opt/venv/lib/*/site-packages/*.dist-info")}
    assert {"pullback_server", "fastapi", "numpy"} <= packages
    assert not {"pytest", "ruff", "mypy", "hatchling"} & packages

    port = free_port()
    server = subprocess.Popen(
        on_port(image.command, port),
        executable=which(image, image.command[0]),
        cwd=image.workdir,
        env=image.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until_alive(server, port)
        status, answer = ask(
            port, "POST", "/v1/evaluate", {"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": True}
        )
        assert status == 200
        assert answer["values"] == {"out": 1.648721270700128}
        assert answer["grads"] == {"x": 3.297442541400256}
        assert healthcheck(image, port) == 0
    finally:
        server.send_signal(signal.SIGTERM)
        output, _ = server.communicate(timeout=START_S)
    assert server.returncode in (0, -signal.SIGTERM), output
    assert healthcheck(image, port) != 0


def test_image_does_not_run_as_root(instructions: list[Instruction]) -> None:
    users = [instruction.value for instruction in instructions if instruction.name == "USER"]
    assert users
    assert users[-1].partition(":")[0] not in ("0", "root")


def test_data_directory_is_the_volume(instructions: list[Instruction]) -> None:
    by_name = {instruction.name: instruction.value for instruction in instructions}
    assert f"PULLBACK_DATA_DIR={by_name['VOLUME']}" in by_name["ENV"].split()


def test_build_context_holds_what_is_copied_and_little_else(instructions: list[Instruction]) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    admitted = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copies = [instruction.value.split()[:-1] for instruction in instructions if instruction.name == "COPY"]
    assert admitted == {source for sources in copies if not sources[0].startswith("--from=") for source in sources}
    assert all((ROOT / source).exists() for source in admitted)


def healthcheck(image: Image, port: int) -> int:
    words = on_port(image.healthcheck, port)
    return subprocess.run(
        words,
        executable=which(image, words[0]),
        cwd=image.workdir,
        env=image.env,
        stderr=subprocess.DEVNULL,
        timeout=START_S,
        check=False,
    ).returncode


def on_port(words: list[str], port: int) -> list[str]:
    """Replace the image's port: its own may be taken on this machine."""
    assert any(PORT in word for word in words)
    return [word.replace(PORT, str(port)) for word in words]


def which(image: Image, name: str) -> str:
    """Find a command on the image's own PATH."""
    candidates = [Path(folder) / name for folder in image.env["PATH"].split(":")]
    return str(next(path for path in candidates if path.exists()))


def wait_until_alive(server: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert server.poll() is None, server.communicate()[0]
        try:
            status, _ = ask(port, "GET", "/healthz")
        except ConnectionRefusedError:
            time.sleep(0.05)
            continue
        assert status == 200
        return
    raise TimeoutError(f"no answer on port {port} within {START_S} s")


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
