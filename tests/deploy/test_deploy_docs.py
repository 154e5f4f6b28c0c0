"""docs/deploy.md and SECURITY.md are true: commands are those of the files, and figures those of the settings."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from app.cli import _parser
from app.server import GRACE_S
from app.settings import PREFIX, Settings
from tests.app.conftest import environment
from tests.app.test_readme import commands
from tests.deploy.test_compose import MIB, SERVICES, most_memory, nbytes, seconds
from tests.deploy.test_makefile import make

if TYPE_CHECKING:
    from tests.app.conftest import Server

ROOT = Path(__file__).parents[2]
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
COMMANDS = [shlex.split(command) for command, _ in commands(DEPLOY)]
INSTALLED = "/opt/pullback/bin/pullback"
UNIT = ROOT / "deploy" / "systemd" / "pullback@.service"
#: Variables of the compose file and of the proxy, which the server does not read.
_ELSEWHERE = {"PULLBACK_DOMAIN", "PULLBACK_CLIENTS", "PULLBACK_SERVERS", "PULLBACK_PROXY_PORT", "PULLBACK_NAME"}


def starting(*words: str) -> list[list[str]]:
    """The commands that start with these words, without them, without variables before them and without sudo."""
    found = []
    for command in COMMANDS:
        rest = [word for at, word in enumerate(command) if at or not word.startswith(PREFIX)]
        if rest[:2] == ["sudo", "-u"]:
            assert rest[2] == unit()[0]["User"] and rest[3] == "env"
            rest = rest[4:]
        while rest and (rest[0] == "sudo" or re.match(r"[A-Z_]+=", rest[0])):
            rest = rest[1:]
        if rest[: len(words)] == list(words):
            found.append(rest[len(words) :])
    return found


def unit() -> tuple[dict[str, str], Settings]:
    """The settings of the unit's section, and those of its server."""
    given: dict[str, str] = {}
    lines = []
    for line in UNIT.read_text().splitlines():
        if line.startswith("Environment="):
            given |= dict(pair.split("=") for pair in line.removeprefix("Environment=").split())
        else:
            lines.append(line)
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string("\n".join(lines))
    return dict(parser["Service"]), Settings.model_validate(
        {name.removeprefix(PREFIX).lower(): value for name, value in given.items()}
    )


def test_no_command_is_of_a_kind_that_is_not_tested() -> None:
    known = ("docker compose", "make", "curl", "pullback", "caddy run", "systemctl", "python3 -m", "useradd", "cp")
    tested = sum(len(starting(*words.split())) for words in (*known, "/opt/pullback/bin/pip install", INSTALLED))
    assert tested == len(COMMANDS) >= 20


@pytest.mark.parametrize("words", starting("docker", "compose"), ids=" ".join)
def test_compose_commands_name_what_there_is(words: list[str]) -> None:
    if words[0] == "--profile":
        assert [name for name, service in SERVICES.items() if words[1] in service.get("profiles", ())]
        words = words[2:]
    if words[0] == "exec":
        assert words[1] in SERVICES and words[2] == "pullback"
        _parser().parse_args(words[3:])
        return
    assert words[0] in ("up", "build")
    options = [word for word in words[1:] if word.startswith("-")]
    assert set(options) <= {"--build", "--detach", "--wait", "--no-deps"}
    assert set(words[1:]) - set(options) <= set(SERVICES)


def test_an_upgrade_replaces_one_server_after_the_other() -> None:
    replaced = [words[-1] for words in starting("docker", "compose", "up") if "--no-deps" in words]
    assert replaced == [name for name, service in SERVICES.items() if "build" in service]
    assert all("--wait" in words for words in starting("docker", "compose", "up"))


@pytest.mark.parametrize("words", starting("make"), ids=" ".join)
def test_make_has_the_target(words: list[str]) -> None:
    assert make(ROOT, "-n", *words).returncode == 0


@pytest.mark.parametrize("words", starting("curl"), ids=lambda words: words[-1])
def test_curl(server: Server, words: list[str]) -> None:
    """Sent as curl would, so that curl need not be there."""
    url = re.sub(r"http://127.0.0.1:800\d", server.base_url, next(word for word in words if word.startswith("http")))
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    content = words[words.index("-d") + 1] if "-d" in words else None
    answer = httpx.request("POST" if content else "GET", url, headers=headers, content=content)
    assert answer.status_code == 200, answer.text


def test_pullback(tmp_path: Path) -> None:
    """In the order of the page, with a store."""
    env = environment(data_dir=str(tmp_path / "data"))
    for words in (["keys", "create", "ada"], *starting("pullback"), *starting(INSTALLED)):
        here = [word.replace("/backups", str(tmp_path)) for word in words]
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *here], capture_output=True, check=True, cwd=ROOT, env=env
        )
        assert done.stdout


def test_systemd_commands_name_the_unit() -> None:
    instances = {word for words in starting("systemctl") for word in words if "@" in word}
    assert instances == {"pullback@8001", "pullback@8002"}
    (copied,) = starting("cp")
    assert (ROOT / copied[0]) == UNIT and UNIT.exists()
    (environment,) = starting("python3", "-m", "venv")
    assert unit()[0]["ExecStart"] == f"{environment[0]}/bin/pullback serve --port %i"
    servers = " ".join(f"127.0.0.1:{name.partition('@')[2]}" for name in sorted(instances))
    assert f'PULLBACK_SERVERS="{servers}"' in DEPLOY
    assert all((ROOT / words[words.index("--config") + 1]).exists() for words in starting("caddy", "run"))


def test_the_unit_has_room_and_time() -> None:
    section, settings = unit()
    assert settings.drain_s > 0
    assert int(section["TimeoutStopSec"]) > settings.drain_s + settings.deadline_s + GRACE_S
    assert nbytes(section["MemoryMax"].lower()) >= 1.25 * most_memory(settings)
    assert section["CPUQuota"] == f"{settings.max_concurrency}00%"
    assert (section["OOMPolicy"], section["KillMode"]) == ("continue", "mixed")
    assert settings.data_dir == Path("/var/lib") / section["StateDirectory"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.thorough
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/pullback/bin/pullback", "/bin/true").replace("User=pullback", "User=daemon")
    (tmp_path / UNIT.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / UNIT.name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_sums_are_right() -> None:
    rows = re.findall(r"^\| (?!part|\*)([^|]+) \|.*\| (\d+) \|$", DEPLOY, re.MULTILINE)
    assert sum(int(mib) for _, mib in rows) == 1810
    defaults = Settings(max_concurrency=2, max_long_workers=3)
    assert f"on 2 processors the sum is {most_memory(defaults) // MIB:,} MiB" in DEPLOY
    assert f"({seconds(SERVICES['server-1']['stop_grace_period']):.0f} s) are longer than both together" in DEPLOY


@pytest.mark.parametrize("text", [DEPLOY, SECURITY], ids=["deploy", "security"])
def test_settings_are_those_of_the_server(text: str) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | _ELSEWHERE
    assert set(re.findall(r"PULLBACK_[A-Z_]+", text)) <= known


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "docs/deploy.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / page).read_text()):
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
        }
