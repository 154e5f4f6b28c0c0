"""Requests of sessions; their commands are in `app.sessions.commands`."""

from typing import Annotated, Any

from pydantic import Field, StrictBool, StrictInt, StrictStr

from app.wire.schemas.body import LARGEST_SEED, Body, Encoding
from app.wire.schemas.values import Value

#: A shorter session may expire before its client's next call.
SHORTEST_LIFE_S = 0.1
Seq = Annotated[
    StrictInt | None,
    Field(
        ge=1,
        description="Number of this call in its session, so that it can be repeated; default: the next one.",
    ),
]
Life = Annotated[
    float | None, Field(ge=SHORTEST_LIFE_S, strict=True, description="Seconds until an unused session expires.")
]


class SessionRequest(Body):
    """A session to create."""

    ttl_s: Life = None
    seed: StrictInt | None = Field(
        None, ge=0, le=LARGEST_SEED, description="Seed of its random numbers; default: a random seed."
    )
    name: StrictStr | None = Field(None, max_length=200, description="A label for people.")


class PatchSessionRequest(Body):
    """Changes to a session."""

    seq: Seq = None
    nograd: StrictBool | None = Field(None, description="Record nothing from here on.")
    train: StrictBool | None = Field(None, description="Activate random operations from here on.")
    ttl_s: Life = None


class RunRequest(Body):
    """Commands to run, and ids to fetch afterwards."""

    seq: Seq = None
    commands: list[dict[str, Any]] = Field(default_factory=list, description="In order; each has `do` and its fields.")
    fetch: list[Any] = Field(default_factory=list, description='Ids, or {"id", "what"}.')
    encoding: Encoding = "nested"


class SingleCall(Body):
    """Fields of a single-command call, in addition to the command's own."""

    seq: Seq = None
    encoding: Encoding = "nested"


class StateRequest(Body):
    """A state to load."""

    seq: Seq = None
    state: dict[str, Value] = Field(description="All values by name.")


class PutStateRequest(Body):
    """Query of a call whose body may be a file."""

    seq: int | None = Field(None, ge=1, description="As in a body; a file has no place for it.")


class DotRequest(Body):
    """Query of a picture of a session."""

    of: str = Field(description="Id of the variable at the end of the tape.")
    verbose: bool = Field(False, description="Label nodes by values, not by names.")
