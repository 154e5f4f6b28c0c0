"""The Dockerfile's own install and start commands, in an empty folder and a clean environment."""

import http.client
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from app import __version__
from tests.deploy.dockerfile import BASE, Builder, Image, Instruction, exec_form, parse
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
    site = next(tmp_path.glob("root/opt/venv/lib/*/site-packages"))
    packages = {path.name.partition("-")[0] for path in site.glob("*.dist-info")}
    assert {"pullback_server", "fastapi", "numpy"} <= packages
    assert not {"pytest", "ruff", "mypy", "hatchling", "pip"} & packages
    assert all(list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc")) for path in site.glob("app/**/*.py"))
    assert not list(tmp_path.glob("root/**/*.whl"))
    before = files(tmp_path / "root")

    port = free_port()
    server = subprocess.Popen(
        on_port(image.started_by(), port),
        executable=which(image, image.started_by()[0]),
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
    # With a root that is read-only nothing would have been different.
    data = image.env["PULLBACK_DATA_DIR"]
    assert {path for path, changed in files(tmp_path / "root").items() if before.get(path) != changed} == {
        path for path in files(Path(data)) if path not in before
    } | {data}


def files(folder: Path) -> dict[str, int]:
    """Return when each file and folder was changed last, in nanoseconds."""
    return {str(path): path.lstat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_base_image_is_one_version_in_all_places(instructions: list[Instruction]) -> None:
    bases = {step.value.partition(" AS ")[0].partition("@")[0] for step in instructions if step.name == "FROM"}
    (base,) = bases
    assert BASE.fullmatch(base)
    assert f'base.name="docker.io/library/{base}"' in next(s.value for s in instructions if s.name == "LABEL")


def test_labels_say_what_the_image_is(instructions: list[Instruction]) -> None:
    steps = [step for step in instructions if step.name in ("ARG", "LABEL")]
    builder = Builder(ROOT, Path("/nowhere"), image=Image(Path("/"), {}, "root", [], [], [], []))
    for step in steps:
        getattr(builder, f"on_{step.name.lower()}")(step.value)
    labels = builder.current().labels
    assert all(name.startswith("org.opencontainers.image.") for name in labels)
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"] == "unknown"


def test_process_1_reaps_and_passes_signals_on(instructions: list[Instruction]) -> None:
    by_name = {step.name: step.value for step in instructions}
    assert exec_form(by_name["ENTRYPOINT"]) == ["/usr/bin/tini", "--"]
    assert exec_form(by_name["CMD"])[:2] == ["pullback", "serve"]
    assert by_name["STOPSIGNAL"] == "SIGTERM"


def test_health_is_readiness_asked_by_python(instructions: list[Instruction]) -> None:
    check = next(step.value for step in instructions if step.name == "HEALTHCHECK")
    words = exec_form(check.partition("CMD ")[2])
    assert words[:2] == ["python", "-c"] and "/readyz" in words[2]


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
