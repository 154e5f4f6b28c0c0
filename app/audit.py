"""Record of administrative acts in the log: who did what, and what came of it."""

import logging

_log = logging.getLogger("pullback.audit")

#: Who acts at the command line of the machine.
COMMAND_LINE = "command line"


def audit(who: str, what: str, result: str = "done") -> None:
    """Log an act.

    Args:
        who: id of the key that asked for it, or `COMMAND_LINE`.
        what: the act, without secrets.
        result: what came of it.
    """
    _log.warning("audit: %s: %s: %s", who or "no key", what, result)
