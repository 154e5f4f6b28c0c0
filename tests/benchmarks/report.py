"""What is measured, and how it is written down as Markdown."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

#: The modules that hold a workload's other side, and what they are called.
RIVALS = {"hips": "HIPS autograd", "xla": "jax.jit", "pytorch": "PyTorch", "by_hand": "by hand"}
#: How many times as many requests as these servers ours is to answer.
RATE_TARGETS = {"FastAPI, pydantic in and out": 3.5, "bare ASGI, orjson": 0.6}
#: What a request among the most programs may cost more than one for the same program, and still count as flat.
FLAT = 1.25

NOTES = (
    "All is float64. jax.jit is compiled beforehand, is given arrays that are on its device, and its asynchronous",
    "dispatch is off, as it makes the steps here slower; each step waits for its results. PyTorch is run as its",
    "tutorials do, without torch.compile. The descent minimises Rosenbrock's function of two variables from (0, 2).",
    "The LSTM has one input, 100 hidden units, a batch of 30 curves of 30 steps, and a linear layer after the last.",
)
HTTP_NOTE = (
    "square(exp(square(x))) at one x with its gradient, 16 connections that are kept alive, one worker on uvloop and\n"
    "httptools each, no access logs. The server and the client share the cores; the rounds of the servers alternate.\n"
    "For large arrays, Pullback uses all cores, in the server and in process."
)
SESSIONS_NOTE = (
    "One call at a time over one connection, each durable before it is answered (Redis: appendfsync always); the\n"
    "median of 50 is one figure. The quickstart is five commands and two variables fetched, the MLP 64-128-10 with a\n"
    "batch of 32 and SGD. The two round trips are a GET and a SET of one page."
)
SDK_NOTE = (
    "Over one connection that is kept alive, as MessagePack; a training step looks at its loss, which is one request."
)
#: Microseconds that recording an operation may take at most.
RECORDED_TARGET_US = 10.0
ARRAYS_TITLE = "sum(sin(exp(tanh(x)))) at 1,000,000 float64"


@dataclass(frozen=True, slots=True)
class Workload:
    """A function of the same name in two modules, ours and the rival's, and the ratio that is wanted at most.

    threads: of both sides; None: as many as the run is given.
    """

    function: str
    title: str
    ours: str
    rival: str
    target: float | None = None
    threads: int | None = None
    collector: bool = True


@dataclass(frozen=True, slots=True)
class Comparison:
    """A line of a table: the seconds of one step on both sides, round by round."""

    title: str
    ours: list[float]
    rival_name: str
    rival: list[float]
    target: float | None = None

    @property
    def ratios(self) -> list[float]:
        """Ours over the rival's, round by round."""
        return [ours / rival for ours, rival in zip(self.ours, self.rival, strict=True)]


@dataclass(frozen=True, slots=True)
class Ladder:
    """Something of our own of growing length: a function of `module` that times its three phases.

    target: an operation of the longest, collector off, is dearer than one of the shortest by this factor at most.
    """

    module: str
    function: str
    title: str
    phases: tuple[str, str, str]
    lengths: tuple[int, ...]
    target: float


@dataclass(frozen=True, slots=True)
class Growth:
    """Median seconds an operation, phase by phase, where there are so many operations."""

    operations: int
    collector: bool
    seconds: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that a second call holds at once, in vectors of the length that it works on."""

    title: str
    vectors: float
    target: float


class Round(Protocol):
    """A round of requests."""

    @property
    def rate(self) -> float:
        """Complete answers a second."""

    @property
    def p99_s(self) -> float:
        """How long the slowest but one in a hundred took."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All that a run found.

    rates: the rounds of each server, ours first. cached: seconds a request by the number of programs asked for.
    runs: of sessions. growth: for each store what there is, how much, seconds of an empty run, bytes of a session.
    sdk: the Python client beside others; recorded: seconds of an operation that it records.
    """

    ground: list[tuple[str, str]]
    tables: dict[str, list[Comparison]]
    rates: dict[str, list[Round]]
    arrays: list[Comparison]
    cached: dict[int, list[float]]
    ladders: list[tuple[Ladder, list[Growth]]]
    peaks: list[Peak]
    runs: list[Comparison]
    growth: dict[str, list[tuple[str, int, float, int]]]
    sdk: list[Comparison]
    recorded: list[float]


def report(figures: Figures, limits: str) -> str:
    """Write the figures as Markdown, and after them what was found out about targets that are not met."""
    lines = ["# Pullback beside others", ""]
    lines += [f"- {name}: {value}" for name, value in figures.ground]
    lines += [
        "",
        "Median time of one step; the ratio is Pullback's over the rival's, its median and range over the rounds.",
        *NOTES,
    ]
    for title, comparisons in figures.tables.items():
        lines += ["", f"## {title}", "", *comparison_table("workload", comparisons)]
    lines += ["", "## Over HTTP", "", HTTP_NOTE, "", *rate_table(figures.rates)]
    lines += [
        "",
        f"Gradient of {ARRAYS_TITLE}, over one connection.",
        "",
        *comparison_table("encoding", figures.arrays),
    ]
    lines += ["", *cached_table(figures.cached)]
    lines += ["", "## Sessions", "", SESSIONS_NOTE, "", *comparison_table("run", figures.runs)]
    lines += ["", *session_growth_table(figures.growth)]
    lines += ["", "## The Python SDK", "", SDK_NOTE, "", *comparison_table("call", figures.sdk)]
    lines += ["", recorded_line(figures.recorded), "", "## Growth"]
    for ladder, growth in figures.ladders:
        lines += ["", f"{ladder.title[0].upper()}{ladder.title[1:]}, microseconds an operation.", ""]
        lines += [f"| operations | collector | {' | '.join(ladder.phases)} | all |", "|--:|---|--:|--:|--:|--:|"]
        lines += [growth_row(row) for row in growth]
        lines += ["", *(linearity(ladder, growth, collector) for collector in (False, True))]
    lines += ["", "## Memory", "", "The most that a second call holds at once, traced in a call that is not timed.", ""]
    lines += [peak_line(peak) for peak in figures.peaks]
    return "\n".join([*lines, "", limits])


def comparison_table(kind: str, comparisons: Iterable[Comparison]) -> list[str]:
    """Write a table of ratios."""
    head = [f"| {kind} | Pullback | beside | | ratio | range | target | |", "|---|--:|---|--:|--:|--:|--:|---|"]
    return [*head, *map(comparison_row, comparisons)]


def comparison_row(each: Comparison) -> str:
    """Write one line of a table of ratios."""
    ratio = statistics.median(each.ratios)
    cells = [
        each.title,
        duration(statistics.median(each.ours)),
        each.rival_name,
        duration(statistics.median(each.rival)),
        f"{ratio:.3f}",
        f"{min(each.ratios):.3f} to {max(each.ratios):.3f}",
        "" if each.target is None else f"{each.target}",
        "" if each.target is None else verdict(ratio <= each.target),
    ]
    return f"| {' | '.join(cells)} |"


def rate_table(rates: Mapping[str, Sequence[Round]]) -> list[str]:
    """Write the requests a second of each server; the first is ours."""
    (_, ours), *_ = rates.items()
    lines = ["| server | requests/s | range | p99 | Pullback's over it | range | target | |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|---|"]
    for name, rounds in rates.items():
        found = [each.rate for each in rounds]
        cells = [
            name,
            f"{statistics.median(found):,.0f}",
            f"{min(found):,.0f} to {max(found):,.0f}",
            duration(statistics.median(each.p99_s for each in rounds)),
            *rate_cells(ours, rounds, RATE_TARGETS.get(name)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def rate_cells(ours: Sequence[Round], rival: Sequence[Round], target: float | None) -> list[str]:
    """Write how many times as many requests are answered as by a rival that there is a target for."""
    if target is None:
        return [""] * 4
    ratios = [first.rate / second.rate for first, second in zip(ours, rival, strict=True)]
    ratio = statistics.median(ratios)
    return [f"{ratio:.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}", f"{target}", verdict(ratio >= target)]


def cached_table(cached: Mapping[int, Sequence[float]]) -> list[str]:
    """Write what a request costs beside how many programs."""
    medians = {count: statistics.median(seconds) for count, seconds in cached.items()}
    (fewest, first), *_, (most, last) = medians.items()
    lines = ["Programs that were asked for twice before and are asked for in turn, microseconds a request.", ""]
    lines += ["| programs | median | range |", "|--:|--:|--:|"]
    lines += [
        f"| {count:,} | {1e6 * medians[count]:.1f} | {1e6 * min(seconds):.1f} to {1e6 * max(seconds):.1f} |"
        for count, seconds in cached.items()
    ]
    factor = last / first
    flat = f"(target: at most {FLAT}; {verdict(factor <= FLAT)})"
    return [*lines, "", f"- A request among {most:,} programs costs {factor:.2f} times one for {fewest:,} {flat}."]


def session_growth_table(growth: Mapping[str, Sequence[tuple[str, int, float, int]]]) -> list[str]:
    """Write what an empty run costs where much is held, or on a long tape."""
    lines = ["What an empty run costs, and what is stored of the session.", ""]
    lines += ["| store | | number | run | bytes |", "|---|---|--:|--:|--:|"]
    return lines + [
        f"| {store} | {what} | {number:,} | {duration(seconds)} | {nbytes:,} |"
        for store, rows in growth.items()
        for what, number, seconds, nbytes in rows
    ]


def recorded_line(seconds: Sequence[float]) -> str:
    """Write what recording an operation costs."""
    found_us = 1e6 * statistics.median(seconds)
    target = f"target: at most {RECORDED_TARGET_US:g}; {verdict(found_us <= RECORDED_TARGET_US)}"
    return f"- An operation that is recorded, and sent with others later: {found_us:.1f} us ({target})."


def growth_row(row: Growth) -> str:
    """Write one line of a table of growth."""
    parts = " | ".join(f"{part * 1e6:.2f}" for part in (*row.seconds, sum(row.seconds)))
    return f"| {row.operations:,} | {switch(row.collector)} | {parts} |"


def linearity(ladder: Ladder, growth: list[Growth], collector: bool) -> str:
    """Say how much dearer an operation is in the longest than in the shortest."""
    rows = [row for row in growth if row.collector is collector]
    factor = sum(rows[-1].seconds) / sum(rows[0].seconds)
    sentence = (
        f"- Collector {switch(collector)}: an operation among {rows[-1].operations:,} costs {factor:.2f} times one"
    )
    target = "" if collector else f" (target: at most {ladder.target}; {verdict(factor <= ladder.target)})"
    return f"{sentence} among {rows[0].operations:,}{target}."


def peak_line(peak: Peak) -> str:
    """Write one peak of memory."""
    target = f"target: at most {peak.target}; {verdict(peak.vectors <= peak.target)}"
    return f"- {peak.title}: {peak.vectors:.1f} vectors ({target})."


def verdict(is_met: bool) -> str:
    """Say whether a target is met."""
    return "met" if is_met else "not met"


def switch(on: bool) -> str:
    """Write a state in a word."""
    return "on" if on else "off"


def duration(seconds: float) -> str:
    """Write a time with three digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
