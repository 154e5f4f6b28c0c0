"""GET /metrics: figures of the process for Prometheus."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.edge_limits import EdgeCounts
from app.telemetry import BOUNDS, Figures, Histogram, PoolFigures

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Sources:
    """Places of the figures of a process.

    figures: those that are counted as things happen.
    pool: returns those of the workers.
    bytes_held: returns the bytes of bodies and answers in flight.
    answer_file_bytes: returns the bytes of long answers in files.
    banned: returns how many kinds of requests were banned from the event loop.
    """

    figures: Figures
    pool: Callable[[], PoolFigures]
    bytes_held: Callable[[], int]
    answer_file_bytes: Callable[[], int]
    banned: Callable[[], int]


class Edge(Protocol):
    """Connections of a server that guards them."""

    counts: EdgeCounts

    def __len__(self) -> int:
        """Return how many connections there are."""


class _Figures(Collector):
    """Figures of a process as Prometheus has them."""

    def __init__(self, sources: Sources, edge: Edge | None) -> None:
        self._sources = sources
        self._edge = edge

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        sources = self._sources
        requests, pool = sources.figures.requests, sources.pool()
        counter = CounterMetricFamily("pullback_requests", "Requests that were answered", labels=_REQUEST)
        for (route, way, status), count in sorted(requests.counts.items()):
            counter.add_metric([route, str(status), way], count)
        yield counter
        durations = HistogramMetricFamily(
            "pullback_request_seconds", "Time from a request to its answer", labels=["way"]
        )
        for way, histogram in sorted(requests.durations.items()):
            _add(durations, [way], histogram)
        yield durations
        waits = HistogramMetricFamily(
            "pullback_queue_wait_seconds", "Time that requests waited for a worker", labels=[]
        )
        _add(waits, [], pool.waits)
        yield waits
        store = HistogramMetricFamily("pullback_store_seconds", "Time that the store took to be ready", labels=[])
        _add(store, [], sources.figures.readiness)
        yield store
        yield _counter("pullback_workers_ended", "Worker processes that ended", "reason", pool.ended)
        if self._edge is not None:
            refused = asdict(self._edge.counts)
            yield _counter("pullback_refused", "Requests and connections refused at the edge", "reason", refused)
            yield GaugeMetricFamily("pullback_connections", "Connections", len(self._edge))
        yield _gauge("pullback_queue_length", "Requests that wait for a worker", "pace", pool.queued)
        yield _gauge("pullback_workers", "Workers", "state", pool.workers)
        yield GaugeMetricFamily("pullback_bytes_held", "Bytes of bodies and answers in flight", sources.bytes_held())
        files = "Bytes of long answers in files"
        yield GaugeMetricFamily("pullback_answer_file_bytes", files, sources.answer_file_bytes())
        yield CounterMetricFamily("pullback_inline_banned", "Requests banned from the event loop", sources.banned())
        yield GaugeMetricFamily("pullback_loop_lag_seconds", "Lateness of the event loop", sources.figures.lag_s)


_REQUEST = ["route", "status", "way"]


def _counter(name: str, about: str, label: str, counts: Mapping[str, int]) -> Metric:
    metric = CounterMetricFamily(name, about, labels=[label])
    for value, count in sorted(counts.items()):
        metric.add_metric([value], count)
    return metric


def _gauge(name: str, about: str, label: str, counts: Mapping[str, int]) -> Metric:
    metric = GaugeMetricFamily(name, about, labels=[label])
    for value, count in sorted(counts.items()):
        metric.add_metric([value], count)
    return metric


def _add(metric: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    total, buckets = 0, []
    for bound, count in zip([*map(str, BOUNDS), "+Inf"], histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    metric.add_metric(labels, buckets, histogram.seconds)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Figures for Prometheus",
    response_class=PlainTextResponse,
)
async def get_metrics(request: Request) -> Response:
    """Counters, gauges and histograms of the process that answers, in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(request.app.state.sources, getattr(request.state, "edge", None)))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
