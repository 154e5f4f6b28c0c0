"""Requests that are one command: its fields, `seq` and `encoding`; the path says which, and `do` may be left out."""

from typing import Literal

from app.sessions.commands.gradients import Backward, ClearGrad
from app.sessions.commands.operations import Apply
from app.sessions.commands.variables import MakeVariable
from app.wire.schemas import SingleCall


class VariableRequest(MakeVariable, SingleCall, do="variable"):
    """A leaf."""

    do: Literal["variable"] = "variable"


class ApplyRequest(Apply, SingleCall, do="apply"):
    """An operation, or an expression whose names are ids."""

    do: Literal["apply"] = "apply"


class BackwardRequest(Backward, SingleCall, do="backward"):
    """Add the gradient of a variable to every leaf that it was computed from."""

    do: Literal["backward"] = "backward"


class ClearGradRequest(ClearGrad, SingleCall, do="cleargrad"):
    """Drop gradients; of a layer or model those of its parameters."""

    do: Literal["cleargrad"] = "cleargrad"
