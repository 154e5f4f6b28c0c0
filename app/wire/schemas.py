"""Request bodies: their fields, types and words, checked here and published as OpenAPI."""

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from engine.errors import MAX_FAULTS, Fault, Faults, InvalidValueError, Loc
from engine.table import nearest

SCHEMAS = "#/components/schemas/"
#: The keys of which a request has exactly one.
PROGRAM_KEYS = ("expr", "graph", "program")
HIGHEST_ORDER = 12
#: As much of a name is compared with those that are known.
LONGEST_NEAR = 64
LARGEST_SEED = 2**64 - 1

#: Stands for `$ref` to a schema that is none of a model's: pydantic would look for it among its own.
REF = "x-ref"

#: A value in any of its forms; `app.wire.values` decodes it, its schema is `VALUE`.
Value = Annotated[Any, WithJsonSchema({REF: f"{SCHEMAS}Value"})]
ValueOrAval = Annotated[Any, WithJsonSchema({"anyOf": [{REF: f"{SCHEMAS}Value"}, {REF: f"{SCHEMAS}Aval"}]})]
DTYPES = {"type": "string", "enum": ["float64", "float32", "int64", "bool"]}
SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}}
VALUE: dict[str, Any] = {
    "description": "A number, a boolean, a word for a number that is not finite, nested lists, or an array object.",
    "anyOf": [
        {"type": ["number", "boolean"]},
        {"enum": ["NaN", "Infinity", "-Infinity"]},
        {"type": "array", "items": {"$ref": f"{SCHEMAS}Value"}},
        {"$ref": f"{SCHEMAS}ArrayObject"},
    ],
}
ARRAY_OBJECT: dict[str, Any] = {
    "description": "An array with its dtype: `data` flat in C order, or `base64` of its little-endian bytes.",
    "type": "object",
    "required": ["shape", "dtype"],
    "properties": {
        "shape": SHAPE,
        "dtype": DTYPES,
        "data": {"type": "array", "items": {"$ref": f"{SCHEMAS}Value"}},
        "base64": {"type": "string", "contentEncoding": "base64"},
    },
    "oneOf": [{"required": ["data"]}, {"required": ["base64"]}],
    "additionalProperties": False,
}
AVAL: dict[str, Any] = {
    "description": "The shape and dtype of a value that need not be there.",
    "type": "object",
    "required": ["shape"],
    "properties": {"shape": SHAPE, "dtype": {**DTYPES, "default": "float64"}},
    "additionalProperties": False,
}


def _flag_or_options(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if value is not None and not isinstance(value, dict):
        raise PydanticCustomError("backward", "Input should be true, false or an object")
    return value


def _names_or_all(value: Any) -> Any:
    if value is None or value == "all":
        return value
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise PydanticCustomError("outputs", 'Input should be a list of names or "all"')
    return value


def _allow_flag(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"type": "boolean"}, *(item for item in schema["anyOf"] if item.get("type") != "null")]
    schema["default"] = False


class Body(BaseModel):
    """What all request bodies have in common: a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BackwardOptions(Body):
    """What to differentiate, with respect to what."""

    of: StrictStr | None = Field(None, description="The output or node to differentiate; default: the only output.")
    wrt: list[StrictStr] | None = Field(None, description="Inputs or nodes; default: all floating inputs.")
    cotangent: Value = Field(None, description="A value of the output's shape; default: ones.")
    order: StrictInt = Field(1, ge=1, le=HIGHEST_ORDER, description="How often to differentiate; 1 for now.")
    create_graph: StrictBool = Field(False, description="Also return a program of the gradient; false for now.")
    retain_grad: StrictBool = Field(False, description="Also return the gradient of every floating node.")


class ProgramRequest(Body):
    """A program and what it is run on."""

    expr: StrictStr = Field(default_factory=str, description="The program as infix text.")
    graph: dict[str, Any] = Field(default_factory=dict, description="The program as nodes.")
    program: StrictStr = Field(default_factory=str, description="The id or name of a registered program; not yet.")
    inputs: dict[str, Value] = Field(default_factory=dict, description="A value for each input of the program.")
    batched: list[StrictStr] = Field(
        default_factory=list, description="Inputs whose leading axis is a batch: the answer is that of one call a row."
    )
    train: StrictBool = Field(False, description="Random operations such as dropout are active.")
    seed: StrictInt | None = Field(
        None, ge=0, le=LARGEST_SEED, description="Where random operations draw from; needed where they are active."
    )
    encoding: Literal["nested", "flat", "base64"] = Field("nested", description="The form of arrays in the answer.")

    @property
    def source(self) -> tuple[str, Any]:
        """Which of the three keys was given, and what it holds."""
        key = next(key for key in PROGRAM_KEYS if key in self.model_fields_set)
        return key, getattr(self, key)


class EvaluateRequest(ProgramRequest):
    """Values of a program and, with `backward`, gradients."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [key]} for key in PROGRAM_KEYS]},
    )

    outputs: Annotated[
        Any,
        BeforeValidator(_names_or_all),
        WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"const": "all"}]}),
    ] = Field(None, description='Nodes to return; default: the program\'s outputs; "all": every node.')
    backward: Annotated[BackwardOptions | None, BeforeValidator(_flag_or_options)] = Field(
        None, description="Whether, and what, to differentiate.", json_schema_extra=_allow_flag
    )
    nograd: StrictBool = Field(False, description="Forward only: no tape is kept.")


class InferRequest(ProgramRequest):
    """A program whose shapes and cost are wanted; an input may be a shape and dtype in place of a value."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [key]} for key in PROGRAM_KEYS]},
    )

    inputs: dict[str, ValueOrAval] = Field(
        default_factory=dict, description="A value, or a shape and dtype, for each input of the program."
    )


Request = TypeVar("Request", bound=ProgramRequest)


def check(model: type[Request], document: Any) -> Request:
    """The document as a request.

    Raises:
        InvalidValueError: with every field that is wrong.
    """
    if not isinstance(document, dict):
        raise InvalidValueError(f"the body is {_shown(document)}; expected an object")
    faults = Faults()
    given = [key for key in PROGRAM_KEYS if key in document]
    if len(given) != 1:
        msg = f'exactly one of "expr", "graph" and "program" is expected; found {" and ".join(given) or "none"}'
        faults.add(InvalidValueError, msg)
    try:
        request = model.model_validate(document)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=False)[:MAX_FAULTS]:
            fault = _fault(model, details)
            faults.add(InvalidValueError, fault.msg, fault.loc)
    faults.check()
    return request


def _fault(model: type[ProgramRequest], details: ErrorDetails) -> Fault:
    loc: Loc = tuple(details["loc"])
    if details["type"] == "extra_forbidden":
        known = list((BackwardOptions if loc[0] == "backward" and len(loc) > 1 else model).model_fields)
        near = nearest(str(loc[-1])[:LONGEST_NEAR], known) or f"; known: {', '.join(known)}"
        return Fault(loc, f'unknown field "{loc[-1]}"{near}')
    path = ".".join(map(str, loc))
    expected = details["msg"].removeprefix("Input should be ")
    for theirs, ours in _WORDS.items():
        expected = expected.replace(theirs, ours)
    return Fault(loc, f"{path} is {_shown(details['input'])}; expected {expected}")


#: pydantic's words and plainer ones.
_WORDS = {
    "a valid dictionary": "an object",
    "a valid ": "a ",
    "a integer": "an integer",
    "a boolean": "true or false",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "'": '"',
}


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
