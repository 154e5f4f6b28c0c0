"""docker-compose.yml: who reaches the server, what lasts, what it may do."""

from pathlib import Path
from typing import Any

import pytest
import yaml

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


def test_published_on_loopback_alone(api: dict[str, Any]) -> None:
    exposed = [step.value for step in parse((ROOT / "Dockerfile").read_text()) if step.name == "EXPOSE"]
    assert api["ports"] == [f"127.0.0.1:8000:{exposed[-1]}"]
    assert "network_mode" not in api


def test_data_lies_in_a_named_volume(compose: dict[str, Any], api: dict[str, Any]) -> None:
    declared = [step.value for step in parse((ROOT / "Dockerfile").read_text()) if step.name == "VOLUME"]
    assert [volume.split(":") for volume in api["volumes"]] == [["data", path] for path in declared]
    assert "data" in compose["volumes"]


def test_restarts_and_may_do_little(api: dict[str, Any]) -> None:
    assert api["restart"] == "unless-stopped"
    assert api["read_only"] is True
    assert api["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in api["security_opt"]


def test_command_and_healthcheck_are_the_images_own(api: dict[str, Any]) -> None:
    assert not {"command", "entrypoint", "healthcheck", "user"} & set(api)
