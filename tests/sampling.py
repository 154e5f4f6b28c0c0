"""How many examples a property is tried on: all of them in `make test-all`, a share of them in `make test`."""

from hypothesis import settings


def examples(count: int) -> int:
    """Return the number of examples for a property that deserves `count` of them where 100 is usual."""
    return max(1, count * settings().max_examples // 100)
