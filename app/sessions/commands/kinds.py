"""Kinds of layers, models, optimizers and hooks, and their configurations, checked before anything is made."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from app.programs.catalog import configuration
from engine.core import BadAttributeError, InvalidValueError, Loc, nearest
from engine.graph import quoted

Config = Annotated[
    dict[str, Any], Field(default_factory=dict, description="Configuration of the kind, see GET /v1/ops.")
]


def check_kind(group: str, kind: str, known: Mapping[str, Any], loc: Loc = ("kind",)) -> None:
    """Raise InvalidValueError, with the nearest kinds, if a kind is unknown."""
    if kind not in known:
        near = nearest(kind[:200], list(known)) or f"; known: {', '.join(known)}"
        raise InvalidValueError(f"there is no {group} of kind {quoted(kind)}{near}", loc)


def check_config(kind: str, config: Mapping[str, Any], maker: Any, loc: Loc = ("config",)) -> None:
    """Raise BadAttributeError if a configuration has keys that its kind does not take, or lacks required ones."""
    known = configuration(maker)
    for key in config:
        if key not in known:
            near = nearest(key[:200], list(known)) or f"; it has {', '.join(known) or 'none'}"
            raise BadAttributeError(f"{kind}: unknown attribute {quoted(key)}{near}", (*loc, key))
    missing = [key for key, is_required in known.items() if is_required and key not in config]
    if missing:
        raise BadAttributeError(f"{kind}: attribute {', '.join(missing)} is missing", loc)
