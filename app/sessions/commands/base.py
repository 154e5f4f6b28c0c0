"""The base of all commands, and their use of the session: values, operands and results."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, GetJsonSchemaHandler, StrictStr, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.sessions.session import Constant, Session, check_quota
from app.wire.schemas import Body
from app.wire.values import decode
from engine.core import InvalidValueError, Loc, Variable, as_raw, aval, shape_of
from engine.programs import WORDS

Made = Sequence[str]
Id = Annotated[StrictStr, Field(description="A name: letters, digits and _.")]
Ids = Annotated[list[StrictStr], Field(description="Ids.")]
IdOrValue = Annotated[Any, WithJsonSchema({"description": "An id, or a value."})]


class Command(Body):
    """Base of all commands."""

    do: StrictStr
    #: The `do` of the class.
    name_of: ClassVar[str] = ""

    def __init_subclass__(cls, do: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.name_of = do

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Publish the one `do` of the class."""
        reference = handler(core)
        handler.resolve_ref_schema(reference)["properties"]["do"] = {"const": cls.name_of}
        return reference

    def run(self, session: Session) -> Made:
        """Run the command; return the ids that it made for results without `out`.

        Raises:
            AutogradError, SessionError: with paths into this command. The session may then be half changed.
        """
        raise NotImplementedError(f"{type(self).__name__} does nothing")


def value_of(session: Session, document: Any, loc: Loc, dtype: Any = None) -> Any:
    """Decode a value of a document to a raw value that nothing else holds; count it against the quotas."""
    raw = as_raw(decode(document, loc, dtype))
    check_elements(session, math.prod(shape_of(raw)))
    session.spend(aval(raw).nbytes)
    return raw


def operand_of(session: Session, given: Any, loc: Loc) -> Any:
    """Return the operand of an id, or decode a value."""
    if isinstance(given, str) and given not in WORDS:
        return session.operand(given, loc)
    return value_of(session, given, loc)


def raw_of(x: Any) -> Any:
    """Return the data of a variable, and anything else unchanged."""
    return x.data if isinstance(x, Variable) else x


def bind_all(session: Session, results: Sequence[Any], out: Sequence[str] | None) -> Made:
    """Bind results to the ids in `out`; without `out` to free ids, which are returned."""
    # A number by itself is float64, as in programs.
    held = [x if isinstance(x, Variable | Constant) else Constant(as_raw(x)) for x in results]
    if out is None:
        return [session.bind(None, x, ("out",)) for x in held]
    if len(out) != len(results):
        raise InvalidValueError(f"out names {len(out)} ids for {len(results)} results", ("out",))
    for n, (name, x) in enumerate(zip(out, held, strict=True)):
        session.bind(name, x, ("out", n))
    return ()


def check_elements(session: Session, needed: int) -> None:
    """Raise LimitExceededError if a value would have more elements than allowed."""
    check_quota("elements in one value", needed, session.quotas.programs.cost.max_elements, "MAX_ELEMENTS")
