"""Sends a server's application requests with programs that are nearly all new, and prints its memory as it goes.

`python -m tests.benchmarks.soak [--requests N]`: memory has to stay where it is once the caches are full; what is kept
has to stay within its bounds, which is asserted.
"""

import argparse
import random
from pathlib import Path

from tests.app.hot import new_app
from tests.app.test_preparations import ask_random

KEPT, KEPT_BYTES = 500, 16 * 2**20
ROUNDS = 20


def resident_mib() -> float:
    """The memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="how many in all (default 100,000)")
    options = parser.parse_args()
    app = new_app(prepared_requests=KEPT, prepared_bytes=KEPT_BYTES)
    random_ = random.Random(0)
    print("| requests | memory MiB | kept | kept MiB |\n|--:|--:|--:|--:|")
    for round_ in range(1, ROUNDS + 1):
        ask_random(app, random_, options.requests // ROUNDS)
        kept = app.service.preparations.kept
        assert len(kept) <= KEPT and kept.nbytes <= KEPT_BYTES
        asked = round_ * (options.requests // ROUNDS)
        print(f"| {asked:,} | {resident_mib():.1f} | {len(kept)} | {kept.nbytes / 2**20:.1f} |", flush=True)


if __name__ == "__main__":
    main()
