"""What is measured, and how it is written down as Markdown."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: The modules that hold a workload's other side, and what they are called.
RIVALS = {"hips": "HIPS autograd", "xla": "jax.jit", "by_hand": "NumPy by hand"}


@dataclass(frozen=True, slots=True)
class Workload:
    """A line of the table: a function of the same name in two modules, ours and the rival's, and what is wanted."""

    function: str
    title: str
    target: float | None = None
    collector: bool = True
    ours: str = "ours"
    rival: str = "hips"


@dataclass(frozen=True, slots=True)
class Result:
    """The seconds of one step, round by round."""

    workload: Workload
    ours: list[float]
    rival: list[float]

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


def report(
    ground: Iterable[tuple[str, str]],
    results: Sequence[Result],
    ladders: Iterable[tuple[Ladder, list[Growth]]],
    peaks: Iterable[Peak],
) -> str:
    """Write the figures as Markdown."""
    lines = ["# Pullback beside others", ""]
    lines += [f"- {name}: {value}" for name, value in ground]
    lines += [
        "",
        "Median time of one step; the ratio is Pullback's over the rival's, its median and range over the rounds.",
    ]
    lines += ["", "| workload | Pullback | rival | | ratio | range | target | |", "|---|--:|---|--:|--:|--:|--:|---|"]
    lines += [result_row(result) for result in results]
    for ladder, growth in ladders:
        lines += ["", f"Growth: {ladder.title}, microseconds an operation.", ""]
        lines += [f"| operations | collector | {' | '.join(ladder.phases)} | all |", "|--:|---|--:|--:|--:|--:|"]
        lines += [growth_row(row) for row in growth]
        lines += ["", *(linearity(ladder, growth, collector) for collector in (False, True))]
    lines += ["", "Memory: the most that a second call holds at once, traced in a call that is not timed.", ""]
    lines += [peak_line(peak) for peak in peaks]
    return "\n".join([*lines, ""])


def result_row(result: Result) -> str:
    """Write one line of the table of ratios."""
    ratio, target = statistics.median(result.ratios), result.workload.target
    cells = [
        result.workload.title,
        duration(statistics.median(result.ours)),
        RIVALS[result.workload.rival],
        duration(statistics.median(result.rival)),
        f"{ratio:.3f}",
        f"{min(result.ratios):.3f} to {max(result.ratios):.3f}",
        "" if target is None else f"{target}",
        "" if target is None else verdict(ratio, target),
    ]
    return f"| {' | '.join(cells)} |"


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
    target = "" if collector else f" (target: at most {ladder.target}; {verdict(factor, ladder.target)})"
    return f"{sentence} among {rows[0].operations:,}{target}."


def peak_line(peak: Peak) -> str:
    """Write one peak of memory."""
    target = f"target: at most {peak.target}; {verdict(peak.vectors, peak.target)}"
    return f"- {peak.title}: {peak.vectors:.1f} vectors ({target})."


def verdict(found: float, target: float) -> str:
    """Say whether a target is met."""
    return "met" if found <= target else "not met"


def switch(on: bool) -> str:
    """Write a state in a word."""
    return "on" if on else "off"


def duration(seconds: float) -> str:
    """Write a time with three digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
