"""The process of an attack: `python -m tests.chaos.attacker NAME PORT SOURCE SECONDS DEADLINE MARGIN PID`.

Prints what the attack got as JSON. It has one processor, and goes after others there: the honest clients measure.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys

from tests.chaos.attack import Aim
from tests.chaos.attacks import ATTACKS

_NICE = 5


def on_one_processor() -> None:
    """Keep this process to the last processor that it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main() -> None:
    """Run one attack."""
    name, port, source, seconds, deadline_s, margin_s, pid = sys.argv[1:]
    on_one_processor()
    os.nice(_NICE)
    gc.disable()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    aim = Aim(int(port), source, float(seconds), float(deadline_s), float(margin_s), int(pid))
    asyncio.run(aim.run(ATTACKS[name]))
    print(json.dumps({"outcomes": aim.outcomes, "longest_s": aim.longest_s}))


if __name__ == "__main__":
    main()
