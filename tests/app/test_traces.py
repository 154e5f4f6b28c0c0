"""Traces of OpenTelemetry, as a collector gets them from a real server."""

from __future__ import annotations

import contextlib
import gzip
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app import main
from app.http.messages import Answer
from app.settings import SettingsError
from tests.app.conftest import start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

PARENT, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextlib.contextmanager
def collector() -> Iterator[tuple[str, list[Span], dict[str, str]]]:
    """A collector: where it listens, the spans that it got, and the attributes of the service that sent them."""
    spans: list[Span] = []
    about: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            for group in ExportTraceServiceRequest.FromString(content).resource_spans:
                about.update(attributes(group.resource))
                spans.extend(span for scope in group.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", spans, about
        listening.shutdown()
        thread.join()


def attributes(of: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


def test_a_collector_gets_the_spans_of_what_workers_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (url, spans, about):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with start_server(tmp_path, ("app.cli", "serve")) as server:
            headers = {"traceparent": f"00-{PARENT}-{SPAN}-01", "X-Request-ID": "mine"}
            secret = {"expr": "x + 41.5", "inputs": {"x": 1}}
            assert server.client.post("/v1/evaluate", json=secret, headers=headers).status_code == 200
            assert server.client.post("/v1/evaluate", json={"expr": "x +"}).status_code == 422
            for _ in range(20):
                server.assert_well()
    # What waits is sent before the server ends.
    assert about["service.name"] == "pullback"
    (whole,) = [span for span in spans if span.trace_id.hex() == PARENT and span.parent_span_id.hex() == SPAN]
    assert whole.name == "POST /v1/evaluate"
    found = attributes(whole)
    assert (found["http.route"], found["http.response.status_code"]) == ("/v1/evaluate", 200)
    assert found["pullback.request_id"] == "mine"
    parts = {span.name: span for span in spans if span.parent_span_id == whole.span_id}
    assert set(parts) == {"queue", "run"}
    times = [
        whole.start_time_unix_nano,
        parts["queue"].start_time_unix_nano,
        parts["queue"].end_time_unix_nano,
        parts["run"].start_time_unix_nano,
        parts["run"].end_time_unix_nano,
        whole.end_time_unix_nano,
    ]
    assert times == sorted(times)
    assert attributes(parts["run"])["process.pid"] != server.pid
    requests = [span for span in spans if span.name == "POST /v1/evaluate"]
    assert [attributes(span)["http.response.status_code"] for span in requests].count(422) == 1
    # The event loop knew the last ones, and does not make spans.
    assert len(requests) < 2 + 20
    assert all(b"41.5" not in span.SerializeToString() for span in spans)


@pytest.mark.parametrize("variables", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://here", "OTEL_SDK_DISABLED": "true"}])
def test_no_traces_without_a_collector(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*main.TRACES, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main.new_traces() is None


@pytest.mark.parametrize("name", main.TRACES)
def test_traces_without_opentelemetry_are_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://here")
    monkeypatch.setitem(sys.modules, "app.http.traces", None)
    with pytest.raises(SettingsError, match=f"{name} asks .*pip install opentelemetry-sdk"):
        main.new_traces()


def test_a_variable_that_cannot_be_used_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://here")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-3")
    with pytest.raises(SettingsError, match="variables of OpenTelemetry cannot be used"):
        main.new_traces()


def test_a_collector_that_is_silent_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setattr("app.http.traces._LAST_S", 0.05)
        traces = main.new_traces()
        assert traces is not None
        scope = {"method": "POST", "raw_path": b"/v1/check", "headers": [(b"baggage", b"=;," * 100)]}
        traces.note(scope, "/v1/check", Answer(200, [], b""), 0.1, "id")
        traces.close()
        # It is still being sent, by a thread that ends with the process.
        connection, _ = silent.accept()
        connection.close()


def test_a_server_without_a_collector_that_listens_works_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with start_server(tmp_path, ("app.cli", "serve")) as server:
        server.assert_well()
    assert server.process.returncode == -signal.SIGTERM
