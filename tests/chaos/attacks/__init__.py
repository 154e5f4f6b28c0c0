"""All attacks, by name; each module has those of one kind."""

from tests.chaos.attack import ATTACKS
from tests.chaos.attacks import bodies, calm, connections, processes, programs, state, work

__all__ = ["ATTACKS", "bodies", "calm", "connections", "processes", "programs", "state", "work"]
