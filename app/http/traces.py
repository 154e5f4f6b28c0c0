"""Traces of requests, by OpenTelemetry: only where its environment variables say who takes them.

A request is one span, and its times in the queue and in a worker are two more in it. They are made once the request is
over. What the event loop answers itself is not traced: making its span would take longer than the answer.
"""

import os
import threading
import time

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from app import __version__
from app.http.doorway import key_of
from app.http.messages import Answer
from app.logs import masked

#: Headers that name the span of the client: others, such as baggage, are not read.
_PARENT = (b"traceparent", b"tracestate")
#: Time for spans that are not sent yet when the server stops.
_LAST_S = 2.0


class Traces:
    """Traces that a thread sends to the collector that the environment names.

    Raises:
        ValueError: a variable cannot be used.
    """

    def __init__(self) -> None:
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "pullback"}
        about = Resource.create({**named, "service.version": __version__})
        self._provider = TracerProvider(resource=about, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("pullback", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def note(self, scope: Scope, route: str, answer: Answer, elapsed_s: float, request_id: str) -> None:
        """Make the spans of a request that is over.

        Args:
            scope: of the request.
            route: its path as routes write it.
            answer: what was answered.
            elapsed_s: since the request began.
            request_id: in its answer.
        """
        end, now = time.time_ns(), time.monotonic()
        parent = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _PARENT}
        span = self._tracer.start_span(
            f"{scope['method']} {route}",
            self._propagator.extract(parent),
            trace.SpanKind.SERVER,
            _attributes(scope, route, answer, request_id),
            start_time=end - _ns(elapsed_s),
        )
        if answer.status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        if answer.work is not None:
            work, inside = answer.work, trace.set_span_in_context(span)
            ended = end - _ns(now - work.ended)
            started = ended - _ns(work.run_s)
            queue = self._tracer.start_span("queue", inside, start_time=started - _ns(work.queue_s))
            queue.end(started)
            run = self._tracer.start_span("run", inside, start_time=started, attributes={"process.pid": work.process})
            run.end(ended)
        span.end(end)

    def close(self) -> None:
        """Send what waits, as far as the collector takes it soon."""
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(_LAST_S)


def _ns(seconds: float) -> int:
    return int(1e9 * seconds)


def _attributes(scope: Scope, route: str, answer: Answer, request_id: str) -> dict[str, str | int]:
    """Return the attributes of a request, by the names of OpenTelemetry's conventions where it has one."""
    found: dict[str, str | int] = {
        "http.request.method": scope["method"],
        "http.route": route,
        "url.path": masked((scope.get("raw_path") or b"").decode("ascii", "backslashreplace")),
        "http.response.status_code": answer.status,
        "http.response.body.size": len(answer.body),
        "pullback.request_id": request_id,
    }
    key = key_of(scope)
    if key is not None:
        found["pullback.key"] = key.id
    if answer.status >= 500:
        found["error.type"] = str(answer.status)
    return found
