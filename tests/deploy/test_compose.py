"""docker-compose.yml: who reaches the server, what lasts, what it may do, and how much of the machine it takes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.main import KEPT_FREE
from app.server import GRACE_S
from app.settings import Settings
from tests.deploy.dockerfile import parse
from tools.pins import images

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVERS = ("server-1", "server-2")
MIB = 2**20
#: Measured of a server, of the process that forks, and of a worker at its start, and rounded up.
SERVER_BYTES, ZYGOTE_BYTES, WORKER_BYTES = 100 * MIB, 50 * MIB, 50 * MIB


def seconds(text: str) -> float:
    assert text.endswith("s"), text
    return float(text[:-1])


def nbytes(text: str) -> int:
    return int(text[:-1]) * {"m": MIB, "g": 1024 * MIB}[text[-1]]


def server_settings() -> Settings:
    """The settings of a server: those of the file, and on its machine the defaults for the rest."""
    given = {name.removeprefix("PULLBACK_").lower(): v for name, v in SERVICES["server-1"]["environment"].items()}
    return Settings.model_validate(given)


def most_memory(settings: Settings) -> int:
    """The sum of docs/deploy.md: memory of a server with all of its processes."""
    processes = settings.max_concurrency + KEPT_FREE + settings.max_long_workers
    return (
        SERVER_BYTES
        + settings.max_bytes_in_flight
        + (settings.max_answer_file_bytes if settings.store.startswith("redis") else 0)
        + settings.prepared_bytes
        + settings.cache_bytes
        + ZYGOTE_BYTES
        + processes * (WORKER_BYTES + settings.worker_bytes)
        + (settings.max_worker_bytes - settings.worker_bytes)
    )


def test_servers_are_built_from_the_dockerfile_and_alike() -> None:
    first, second = (SERVICES[name] for name in SERVERS)
    assert first == second
    assert first["build"] == "."


def test_images_are_pinned_by_version() -> None:
    found = {name: service["image"] for name, service in SERVICES.items() if "build" not in service}
    assert all(
        re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", image) for image in found.values()
    )
    assert set(images(TEXT)) == {image.partition("@")[0] for image in found.values()}


def test_a_post_that_is_tried_again_is_no_502() -> None:
    version = re.match(r"caddy:(\d+)\.(\d+)\.(\d+)-alpine", SERVICES["proxy"]["image"])
    assert version and tuple(map(int, version.groups())) >= (2, 11, 2)
    assert SERVICES["proxy-tls"]["image"] == SERVICES["proxy"]["image"]


def test_who_is_published_and_where() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    open_to_others = {name for name, ports in published.items() if not all(p.startswith("127.0.0.1:") for p in ports)}
    assert set(published) == {"proxy", "proxy-tls", "prometheus", "grafana"}
    assert open_to_others == {"proxy-tls"}
    # Unless somebody says which networks, no stranger is admitted: without keys everyone could use the servers.
    assert SERVICES["proxy-tls"]["environment"]["PULLBACK_CLIENTS"] == "${PULLBACK_CLIENTS:-127.0.0.1/32}"
    assert all(port.startswith("0.0.0.0:") for port in published["proxy-tls"])


def test_servers_and_store_have_no_way_out() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if service["networks"] == ["inside"]} == {*SERVERS, "valkey"}
    assert not [name for name, service in SERVICES.items() if "network_mode" in service]


def test_profiles() -> None:
    found: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for profile in service.get("profiles", ["always"]):
            found.setdefault(profile, set()).add(name)
    assert found == {
        "always": {"proxy", *SERVERS, "valkey"},
        "tls": {"proxy-tls"},
        "monitoring": {"prometheus", "grafana", "blackbox"},
    }


def test_what_is_answered_is_on_a_disk() -> None:
    valkey = SERVICES["valkey"]
    command = " ".join(valkey["command"])
    assert "--appendonly yes --appendfsync always" in command and "--maxmemory-policy noeviction" in command
    assert valkey["volumes"] == ["data:/data"] and "data" in COMPOSE["volumes"]
    assert SERVICES["server-1"]["environment"]["PULLBACK_STORE"] == "redis://valkey:6379/0"


def test_everyone_is_asked_how_they_are() -> None:
    # The image of the server brings its own question.
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == set(SERVERS)
    assert all(SERVICES[name]["depends_on"] == {"valkey": {"condition": "service_healthy"}} for name in SERVERS)
    assert SERVICES["proxy"]["depends_on"] == {name: {"condition": "service_healthy"} for name in SERVERS}


@pytest.mark.parametrize("name", SERVICES)
def test_restarts_and_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", ())) <= {"NET_BIND_SERVICE"}
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service


def test_command_and_healthcheck_are_the_images_own() -> None:
    for name in SERVERS:
        # `init` would put a second process that reaps before that of the image.
        assert not {"command", "entrypoint", "healthcheck", "user", "init", "stop_signal"} & set(SERVICES[name])
        exposed = [step.value for step in parse((ROOT / "Dockerfile").read_text()) if step.name == "EXPOSE"]
        assert f"{name}:{exposed[-1]}" in (ROOT / "deploy" / "caddy" / "servers.caddy").read_text()


def test_nobody_is_killed_who_stops_by_himself() -> None:
    settings = server_settings()
    assert settings.drain_s > 0
    needed = settings.drain_s + settings.deadline_s + GRACE_S
    assert seconds(SERVICES["server-1"]["stop_grace_period"]) > needed
    # The proxy stops when the requests that it has passed on are answered.
    assert seconds(SERVICES["proxy"]["stop_grace_period"]) > settings.deadline_s + GRACE_S


def test_the_proxy_has_let_go_before_a_port_closes() -> None:
    text = (ROOT / "deploy" / "caddy" / "servers.caddy").read_text()
    waits = {name: seconds(value) for name, value in re.findall(r"^\s+(\w+) (\d+s)$", text, re.MULTILINE)}
    assert "health_uri /readyz" in text
    assert waits["health_interval"] + waits["keepalive"] < server_settings().drain_s
    assert waits["keepalive"] < 5  # uvicorn's own


def test_limits_fit_the_processes() -> None:
    settings, server = server_settings(), SERVICES["server-1"]
    needed = most_memory(settings)
    assert needed * 1.25 <= nbytes(server["mem_limit"]) <= needed * 1.6
    assert server["memswap_limit"] == server["mem_limit"]
    assert settings.max_concurrency == server["cpus"]
    assert server["pids_limit"] >= 10 * (settings.max_concurrency + settings.max_long_workers + 2)
    assert f"{needed // MIB:,} MiB" in TEXT
    assert f"{needed // MIB:,} MiB" in (ROOT / "docs" / "deploy.md").read_text()


def test_no_setting_of_a_server_is_left_to_the_hosts_processors() -> None:
    given = SERVICES["server-1"]["environment"]
    assert {"PULLBACK_MAX_CONCURRENCY", "PULLBACK_MAX_LONG_WORKERS"} <= set(given)


def test_what_is_mounted_from_here_is_here() -> None:
    mounts = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
    named = {volume.partition(":")[0] for volume in mounts if not volume.startswith("./")}
    assert named == set(COMPOSE["volumes"])
    for volume in mounts:
        if volume.startswith("./"):
            source, _, mode = volume.split(":")
            assert (ROOT / source).exists() and mode == "ro"
