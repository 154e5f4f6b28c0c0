"""Processes that end with the one that made them."""

import ctypes
import os
import signal
import sys

#: Of `prctl`: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


def end_with(parent: int, number: signal.Signals) -> None:
    """Let this process get a signal when its parent ends, at once if it has; only Linux has this.

    parent: id of the process that made this one.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
