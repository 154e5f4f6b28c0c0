"""deploy/monitoring: alert rules and a dashboard over the metrics that the server has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.app.conftest import Server

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "pullback.json").read_text())
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
CONFIG = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
#: The server's metrics and their labels; those with buckets are histograms.
METRICS: dict[str, set[str]] = {
    "pullback_requests_total": {"route", "status", "way"},
    "pullback_request_seconds_bucket": {"way", "le"},
    "pullback_queue_length": {"pace"},
    "pullback_queue_wait_seconds_bucket": {"le"},
    "pullback_workers": {"state"},
    "pullback_workers_ended_total": {"reason"},
    "pullback_bytes_held": set(),
    "pullback_answer_file_bytes": set(),
    "pullback_connections": set(),
    "pullback_refused_total": {"reason"},
    "pullback_inline_banned_total": set(),
    "pullback_loop_lag_seconds": set(),
    "pullback_store_seconds_bucket": {"le"},
}
PANELS: dict[str, list[str]] = {
    panel["title"]: [target["expr"] for target in panel["targets"]] for panel in DASHBOARD["panels"]
}
ALERTS: dict[str, str] = {rule["alert"]: rule["expr"] for rule in RULES}
EXPRESSIONS = [*ALERTS.items(), *((title, expr) for title, exprs in PANELS.items() for expr in exprs)]


@pytest.mark.parametrize(("name", "expr"), EXPRESSIONS)
def test_an_expression_asks_for_what_there_is(name: str, expr: str) -> None:
    used = re.findall(r"\b(pullback_\w+)(?:\{(.*?)\})?", expr)
    assert {metric for metric, _ in used} <= set(METRICS)
    known = {"instance", "job"}.union(*(METRICS[metric] for metric, _ in used))
    labels = {label for _, selector in used for label in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector)}
    grouped = {label.strip() for by in re.findall(r"\bby \((.*?)\)", expr) for label in by.split(",")}
    assert labels | grouped <= known


def test_the_metrics_are_those_of_the_server(server: Server) -> None:
    server.assert_well()
    text = server.client.get("/metrics").text
    samples = re.findall(r"^(pullback_\w+)(?:\{(.*)\})? ", text, re.MULTILINE)
    given = {metric for metric, _ in samples if not re.search("_(sum|count|created)$", metric)}
    # Nothing has ended yet, and this server has no edge of ours.
    missing = {"pullback_workers_ended_total", "pullback_connections", "pullback_refused_total"}
    assert given | missing == set(METRICS)
    for metric, labels in samples:
        if metric in given:
            assert set(re.findall(r'(\w+)="', labels)) <= METRICS[metric]


def test_the_dashboard_shows_every_metric() -> None:
    shown = " ".join(expr for exprs in PANELS.values() for expr in exprs)
    assert [metric for metric in METRICS if metric not in shown] == []


def test_the_dashboard_has_one_place_for_each_panel() -> None:
    cells = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells and at["x"] + at["w"] <= 24
        cells |= own
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    source = yaml.safe_load((FOLDER / "grafana" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"


def test_every_alert_says_what_to_do() -> None:
    assert len(ALERTS) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "warn")
        assert set(rule["annotations"]) == {"summary", "description"}
    about = (ROOT / "docs" / "deploy.md").read_text()
    assert [name for name in ALERTS if f"`{name}`" not in about] == []


def test_what_is_scraped_is_there() -> None:
    jobs = {job["job_name"]: job for job in CONFIG["scrape_configs"]}
    servers = [name for name in SERVICES if name.startswith("server-")]
    assert jobs["pullback"]["static_configs"] == [{"targets": [f"{name}:8000" for name in servers]}]
    assert jobs["readiness"]["static_configs"] == [{"targets": [f"http://{name}:8000/readyz" for name in servers]}]
    modules = yaml.safe_load((FOLDER / "blackbox.yml").read_text())["modules"]
    for name in ("readiness", "certificate"):
        assert jobs[name]["params"]["module"][0] in modules
        assert jobs[name]["relabel_configs"][-1]["replacement"].partition(":")[0] in SERVICES
    for name in ("certificate", "node"):
        for file in jobs[name]["file_sd_configs"][0]["files"]:
            assert json.loads((FOLDER / file).read_text()) == []
    assert {f'job="{name}"' for name in re.findall(r'job="(\w+)"', " ".join(ALERTS.values()))} <= {
        f'job="{name}"' for name in jobs
    }


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments", [["check", "config", str(FOLDER / "prometheus.yml")], ["test", "rules", "tests/deploy/alerts.yml"]]
)
def test_prometheus_takes_it_and_alerts_fire(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_reads_what_the_dashboard_asks(tmp_path: Path) -> None:
    """As rules: these are parsed by the same parser, which knows none of Grafana's variables."""
    exprs = [expr for exprs in PANELS.values() for expr in exprs]
    filled = [expr.replace("$__rate_interval", "5m").replace("$instance", ".*") for expr in exprs]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(filled)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
