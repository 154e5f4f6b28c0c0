"""Names of the settings that raise the engine's limits; the engine itself knows no settings."""

from collections.abc import Mapping

from engine.core import AutogradError, Fault, LimitExceededError

#: Limit of the engine -> field of `app.settings.Settings`.
FIELDS: Mapping[str, str] = {
    "depth": "max_depth",
    "chain": "max_chain",
    "nodes": "max_nodes",
    "elements": "max_elements",
    "bytes": "max_bytes",
    "flops": "max_flops",
}


def variable(limit: str) -> str:
    """Environment variable of the setting that raises a limit.

    >>> variable("nodes")
    'PULLBACK_MAX_NODES'
    """
    return f"PULLBACK_{FIELDS[limit].upper()}"


def explained(error: AutogradError) -> tuple[str, list[Fault]]:
    """Text and places of an error; where a limit of the engine refuses, with the setting that raises it."""
    limit = error.limit if isinstance(error, LimitExceededError) else ""
    return _named(error.detail, limit), [fault._replace(msg=_named(fault.msg, fault.limit)) for fault in error.faults]


def _named(text: str, limit: str) -> str:
    return f"{text} (setting {variable(limit)})" if limit else text
