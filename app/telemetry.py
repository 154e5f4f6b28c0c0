"""Figures of a running server: counters and histograms that cost a fraction of a microsecond each."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

#: Upper bounds of the buckets of histograms, in seconds.
BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Label of a path that no route has.
UNKNOWN_ROUTE = "other"
#: Weight of the last duration in a mean.
_WEIGHT = 0.1


class Mean:
    """Mean of the last durations, from which the next ones are guessed.

    Args:
        seconds: the first guess.
    """

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def note(self, seconds: float) -> None:
        """Add a duration."""
        self.seconds += _WEIGHT * (seconds - self.seconds)


class Histogram:
    """Counts of durations by bucket, and their sum.

    counts: one for each of `BOUNDS`, and one for all that is longer.
    """

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Requests:
    """Requests by route, way and status, and their durations by way.

    Args:
        routes: paths as routes write them, with names in braces.
    """

    def __init__(self, routes: Iterable[str]) -> None:
        routes = tuple(routes)
        self.counts: Counter[tuple[str, str, int]] = Counter()
        self.durations: dict[str, Histogram] = {}
        self._exact = {path for path in routes if "{" not in path}
        self._templates: dict[tuple[int, str], list[tuple[str, Sequence[str]]]] = {}
        for path in routes:
            parts = path.split("/")
            if "{" in path:
                self._templates.setdefault((len(parts), parts[2]), []).append((path, parts))

    def note(self, path: str, way: str, status: int, seconds: float) -> None:
        """Count a request that was answered.

        way: "inline", "worker" or "edge": who answered it.
        """
        self.counts[path if path in self._exact else self.route(path), way, status] += 1
        histogram = self.durations.get(way)
        if histogram is None:
            histogram = self.durations[way] = Histogram()
        histogram.observe(seconds)

    def route(self, path: str) -> str:
        """Return the route of a path.

        >>> Requests(["/v1/ops", "/v1/ops/{name}"]).route("/v1/ops/sin")
        '/v1/ops/{name}'
        """
        if path in self._exact:
            return path
        parts = path.split("/")
        for route, wanted in self._templates.get((len(parts), parts[2] if len(parts) > 2 else ""), ()):
            if all(part == given or part[:1] == "{" for part, given in zip(wanted, parts, strict=True)):
                return route
        return UNKNOWN_ROUTE


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """Figures of a pool of workers.

    workers: number of workers by state. queued: number of calls that wait, by pace. waits: durations of that.
    ended: number of processes that ended, by reason.
    """

    workers: Mapping[str, int]
    queued: Mapping[str, int]
    waits: Histogram
    ended: Mapping[str, int]


@dataclass(slots=True)
class Figures:
    """All figures of a process, but for those that other objects have at hand.

    readiness: how long the store took to say that it is ready.
    lag_s: how late the event loop was when it was looked at last.
    """

    requests: Requests
    readiness: Histogram = field(default_factory=Histogram)
    lag_s: float = 0.0
