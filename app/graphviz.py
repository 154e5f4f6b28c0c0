"""SVG of DOT text, where Graphviz is installed."""

import shutil
import subprocess

from app.limits import DeadlineExceededError
from engine.errors import NotSupportedError
from engine.graph.limits import check_limit

#: Graphviz needs far more than linear time; of larger graphs nobody could see anything.
MAX_LINES = 2_000


def svg(dot: str, deadline_s: float) -> bytes:
    """The picture.

    Raises:
        NotSupportedError: Graphviz is not installed.
        LimitExceededError: the graph is too large to be drawn.
        DeadlineExceededError: drawing took too long.
    """
    program = shutil.which("dot")
    if program is None:
        raise NotSupportedError("SVG needs Graphviz, which this server has not; ask for the DOT text in its place")
    lines = dot.count("\n")
    if lines > MAX_LINES:
        check_limit("lines of DOT", lines, MAX_LINES, "the picture")
    try:
        found = subprocess.run(
            [program, "-Tsvg"], input=dot.encode(), capture_output=True, timeout=deadline_s, check=True
        )
    except subprocess.TimeoutExpired:
        limit = f"{deadline_s:g} s (setting PULLBACK_DEADLINE_S)"
        raise DeadlineExceededError(f"drawing took longer than {limit}") from None
    return found.stdout
