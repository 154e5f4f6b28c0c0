"""Results of attacks, printed, and written as a section of a Markdown file."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from math import inf
from pathlib import Path

from tests.chaos.trial import Result

HEADING = "## Under attack"
#: In milliseconds; above this the honest clients' own process was part of what they measured.
_LAG_MS = 20.0
_MOST_OUTCOMES = 5


def outcomes(found: Counter[str]) -> str:
    """Return what an attack got, the most frequent first."""
    shown = [f"{outcome} × {count}" for outcome, count in found.most_common(_MOST_OUTCOMES)]
    rest = len(found) - _MOST_OUTCOMES
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def errors(result: Result) -> str:
    """Return which honest requests went wrong, by kind."""
    found = ((name, result.of(name).errors()) for name in result.calls)
    return "; ".join(f"{name} {wrong}" for name, wrong in found if wrong)


def printed(result: Result) -> str:
    """Return a result as a few lines for a terminal."""
    failures = result.failures()
    kinds = "  ".join(f"{name} {result.of(name)}" for name in result.calls)
    lines = [
        f"{'FAIL' if failures else 'PASS'} {result.attack.name}: {result.attack.summary}",
        f"     ms p50 / p99 / max: {kinds}",
        f"     {result.idle_mb:.0f} to {result.peak_mb:.0f} MB, disk {result.disk_mb:.0f} MB; "
        f"got {outcomes(result.outcomes)}; longest {result.longest_s:.1f} s; normal after {_seconds(result.normal_s)}"
        + (f"; own lag {result.lag_ms:.0f} ms" if result.lag_ms > _LAG_MS else ""),
    ]
    if wrong := errors(result):
        lines.append(f"     honest errors: {wrong}")
    return "\n".join([*lines, *(f"   ! {failure}" for failure in failures)])


def section(results: Sequence[Result]) -> str:
    """Return the results as a section in Markdown."""
    kinds, terms = list(results[0].calls), results[0].terms
    whence = "the attacker's own address" if terms.is_same_address else "another address"
    lines = [
        HEADING,
        "",
        f"`make chaos`: each attack lasts {terms.seconds:g} s, on a server of its own with a deadline of "
        f"{terms.deadline_s:g} s and otherwise default settings; honest clients ask from {whence}. "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, of which attacker and clients share one. "
        "Milliseconds as p50 / p99 / max; memory is the PSS of all processes, before and at most.",
        "",
        f"| attack | | {' | '.join(kinds)} | honest errors | MB | attacker got | longest | normal after |",
        f"|---|---|{'--:|' * len(kinds)}---|--:|---|--:|--:|",
    ]
    lines += [_row(result, kinds) for result in results]
    failed = [(result.attack.name, failure) for result in results for failure in result.failures()]
    if failed:
        lines += ["", *(f"- {name}: {failure}" for name, failure in failed)]
    return "\n".join(lines) + "\n"


def _row(result: Result, kinds: Sequence[str]) -> str:
    return (
        f"| {result.attack.name} | {'**fail**' if result.failures() else 'pass'} "
        f"| {' | '.join(str(result.of(kind)) for kind in kinds)} | {errors(result)} "
        f"| {result.idle_mb:.0f}, {result.peak_mb:.0f} | {outcomes(result.outcomes)} "
        f"| {result.longest_s:.1f} s | {_seconds(result.normal_s)} |"
    )


def kept(text: str) -> str:
    """Return the section of an older record, to stand in a new one; empty where there is none."""
    _, heading, after = text.partition(f"\n{HEADING}\n")
    return heading + after


def record(path: Path, found: str) -> None:
    """Write a section to the end of a file, in place of the one that stands there."""
    before, _, _ = path.read_text().partition(f"\n{HEADING}\n")
    path.write_text(f"{before.rstrip()}\n\n{found}")


def _seconds(seconds: float) -> str:
    return "never" if seconds == inf else f"{seconds:.1f} s"
