"""docker-compose.yml: who reaches the server, what lasts, what it may do."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.deploy.dockerfile import parse

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


@pytest.fixture(scope="module")
def api(compose: dict[str, Any]) -> dict[str, Any]:
    service: dict[str, Any] = compose["services"]["api"]
    return service


def test_built_from_the_dockerfile(api: dict[str, Any]) -> None:
    assert api["build"] == "."
    assert "image" not in api


def test_only_the_proxy_is_published_and_on_loopback_alone(compose: dict[str, Any]) -> None:
    published = {name: service.get("ports") for name, service in compose["services"].items()}
    assert published == {"proxy": ["127.0.0.1:8000:8000"], "api": None, "valkey": None}
    assert not [name for name, service in compose["services"].items() if "network_mode" in service]


def test_the_proxy_knows_where_the_servers_listen(compose: dict[str, Any], api: dict[str, Any]) -> None:
    exposed = [step.value for step in parse((ROOT / "Dockerfile").read_text()) if step.name == "EXPOSE"]
    words = compose["configs"]["caddyfile"]["content"].split()
    assert words[words.index("name") + 1] == "api" and words[words.index("port") + 1] == exposed[-1]
    assert words.count("{") == words.count("}")
    assert api["deploy"]["replicas"] == 2


def test_what_is_answered_is_on_a_disk(compose: dict[str, Any], api: dict[str, Any]) -> None:
    valkey = compose["services"]["valkey"]
    command = " ".join(valkey["command"])
    assert "--appendonly yes --appendfsync always" in command and "--maxmemory-policy noeviction" in command
    assert valkey["volumes"] == ["data:/data"] and "data" in compose["volumes"]
    assert api["environment"]["PULLBACK_STORE"] == "redis://valkey:6379/0"
    settings = dict.fromkeys(api["environment"], "x")
    assert {name.removeprefix("PULLBACK_").lower() for name in settings} <= set(Settings.model_fields)


def test_everyone_is_asked_how_they_are(compose: dict[str, Any], api: dict[str, Any]) -> None:
    # The image of the server brings its own question.
    assert [name for name, service in compose["services"].items() if "healthcheck" in service] == ["proxy", "valkey"]
    assert api["depends_on"] == {"valkey": {"condition": "service_healthy"}}
    assert compose["services"]["proxy"]["depends_on"] == {"api": {"condition": "service_healthy"}}


def test_restarts_and_may_do_little(api: dict[str, Any]) -> None:
    assert api["restart"] == "unless-stopped"
    assert api["read_only"] is True
    assert api["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in api["security_opt"]


def test_command_and_healthcheck_are_the_images_own(api: dict[str, Any]) -> None:
    assert not {"command", "entrypoint", "healthcheck", "user"} & set(api)
