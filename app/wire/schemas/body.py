"""The base of all request bodies, and the fields that requests with programs and of sessions share."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LARGEST_SEED = 2**64 - 1


class Body(BaseModel):
    """Base of all request bodies: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Encoding = Annotated[
    Literal["nested", "flat", "base64", "binary"],
    Field(description="Form of arrays in the response; binary only in MessagePack."),
]
