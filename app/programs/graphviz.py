"""SVG of DOT text, where Graphviz is installed."""

import logging
import shutil
import subprocess

from app.errors import DeadlineExceededError
from engine.core import LimitExceededError, NotSupportedError

_log = logging.getLogger("pullback")

#: Graphviz needs far more than linear time, and nobody could read larger pictures.
MAX_LINES = 2_000


class DrawingError(Exception):
    """Graphviz fails."""


def svg(dot: str, deadline_s: float) -> bytes:
    """Draw DOT text as SVG.

    Raises:
        NotSupportedError: Graphviz is not installed.
        LimitExceededError: the graph is too large to be drawn.
        DeadlineExceededError: drawing took too long.
        DrawingError: Graphviz fails.
    """
    program = shutil.which("dot")
    if program is None:
        raise NotSupportedError(
            "SVG needs Graphviz, which is not installed on this server; ask for the DOT text instead"
        )
    lines = dot.count("\n")
    if lines > MAX_LINES:
        raise LimitExceededError(
            f"the picture has {lines:,} lines of DOT text, and pictures of more than {MAX_LINES:,} are not drawn; "
            "ask for the DOT text instead"
        )
    try:
        found = subprocess.run(
            [program, "-Tsvg"], input=dot.encode(), capture_output=True, timeout=deadline_s, check=True
        )
    except subprocess.TimeoutExpired:
        limit = f"{deadline_s:g} s (setting PULLBACK_DEADLINE_S)"
        raise DeadlineExceededError(f"drawing took longer than {limit}") from None
    except (OSError, subprocess.CalledProcessError) as error:
        _log.error("Graphviz fails: %s %s", error, getattr(error, "stderr", None))
        raise DrawingError("Graphviz fails on this server; ask for the DOT text instead") from error
    return found.stdout
