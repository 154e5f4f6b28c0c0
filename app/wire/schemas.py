"""Request bodies: their fields, types and words, checked here and published as OpenAPI."""

import json
from collections.abc import Mapping
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

from app.wire.media import JSON, MSGPACK
from engine.core import MAX_FAULTS, Fault, Faults, InvalidValueError, Loc, nearest
from engine.programs import HIGHEST_ORDER

SCHEMAS = "#/components/schemas/"
#: The keys of which a request has exactly one.
PROGRAM_KEYS = ("expr", "graph", "program")
#: As much of a name is compared with those that are known.
LONGEST_NEAR = 64
LARGEST_SEED = 2**64 - 1
LONGEST_CURSOR = 18
#: Below it, what is added to a number may leave it as it is; above, a difference says nothing of a derivative.
SMALLEST_EPS, LARGEST_EPS = 1e-15, 1.0
#: A session that lives for less may be over before its maker's next call.
SHORTEST_LIFE_S = 0.1

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
    "description": "An array with its dtype: `data` flat in C order, or `base64` of its little-endian bytes. "
    "In MessagePack `data` may be these bytes themselves, as binary data.",
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
DECLARATION: dict[str, Any] = {
    "description": "What is known of an input: its shape, with -1 or null for a length that is free, and its dtype.",
    "type": "object",
    "properties": {
        "shape": {
            "anyOf": [
                {"type": "array", "items": {"anyOf": [{"type": "integer", "minimum": -1}, {"type": "null"}]}},
                {"type": "null"},
            ]
        },
        "dtype": {"anyOf": [DTYPES, {"type": "null"}]},
    },
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


def _step(value: Any) -> Any:
    # A comparison with NaN is false.
    if type(value) not in (int, float) or not SMALLEST_EPS <= value <= LARGEST_EPS:
        raise PydanticCustomError("eps", f"Input should be a number from {SMALLEST_EPS:g} to {LARGEST_EPS:g}")
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
    order: StrictInt = Field(1, ge=1, le=HIGHEST_ORDER, description="How often to differentiate, by one name.")
    create_graph: StrictBool = Field(False, description="Also store a program of the gradients.")
    retain_grad: StrictBool = Field(False, description="Also return the gradient of every floating node.")


class ProgramSource(Body):
    """A program in one of its three forms."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [key]} for key in PROGRAM_KEYS]})

    expr: StrictStr = Field(default_factory=str, description="The program as infix text.")
    graph: dict[str, Any] = Field(default_factory=dict, description="The program as nodes.")
    program: StrictStr = Field(default_factory=str, description="The id or name of a registered program.")

    @property
    def source(self) -> tuple[str, Any]:
        """Which of the three keys was given, and what it holds."""
        key = next(key for key in PROGRAM_KEYS if key in self.model_fields_set)
        return key, getattr(self, key)


Encoding = Annotated[
    Literal["nested", "flat", "base64", "binary"],
    Field(description="The form of arrays in the answer; binary: in MessagePack alone."),
]


class ProgramRequest(ProgramSource):
    """A program and what it is run on."""

    inputs: dict[str, Value] = Field(default_factory=dict, description="A value for each input of the program.")
    batched: list[StrictStr] = Field(
        default_factory=list, description="Inputs whose leading axis is a batch: the answer is that of one call a row."
    )
    train: StrictBool = Field(False, description="Random operations such as dropout are active.")
    seed: StrictInt | None = Field(
        None, ge=0, le=LARGEST_SEED, description="Where random operations draw from; needed where they are active."
    )
    encoding: Encoding = "nested"


class EvaluateRequest(ProgramRequest):
    """Values of a program and, with `backward`, gradients."""

    outputs: Annotated[
        Any,
        BeforeValidator(_names_or_all),
        WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"const": "all"}]}),
    ] = Field(None, description='Nodes to return; default: the program\'s outputs; "all": every node.')
    backward: Annotated[BackwardOptions | None, BeforeValidator(_flag_or_options)] = Field(
        None, description="Whether, and what, to differentiate.", json_schema_extra=_allow_flag
    )
    nograd: StrictBool = Field(False, description="Forward only: no tape is kept.")


Wrt = Annotated[list[StrictStr] | None, Field(description="Inputs or nodes; default: all floating inputs.")]
Many = Annotated[StrictBool, Field(description="The directions, and the results, have a leading axis of directions.")]
Of = Annotated[StrictStr | None, Field(description="The output or node to differentiate; default: the program's.")]


class VjpRequest(ProgramRequest):
    """Cotangents of outputs, to be carried back to inputs."""

    cotangents: dict[str, Value] = Field(default_factory=dict, description="A value for outputs or nodes, by name.")
    wrt: Wrt = None
    many: Many = False


class JvpRequest(ProgramRequest):
    """Tangents of inputs, to be carried to outputs."""

    tangents: dict[str, Value] = Field(default_factory=dict, description="A value for inputs or nodes, by name.")
    outputs: list[StrictStr] | None = Field(None, description="Nodes; default: the program's outputs.")
    many: Many = False


class JacobianRequest(ProgramRequest):
    """All derivatives of outputs."""

    of: Of = None
    wrt: Wrt = None
    mode: Literal["auto", "reverse", "forward"] = Field(
        "auto", description="A pass for each element of the outputs, or of the inputs; auto takes the fewer."
    )


class HessianRequest(ProgramRequest):
    """All second derivatives of one element."""

    of: Of = None
    wrt: Wrt = None


class HvpRequest(ProgramRequest):
    """Vectors to be multiplied with the Hessian of one element."""

    of: Of = None
    vectors: dict[str, Value] = Field(default_factory=dict, description="A value for names of wrt.")
    wrt: Wrt = None
    many: Many = False


class CheckRequest(ProgramRequest):
    """Gradients to be compared with central differences."""

    wrt: Wrt = None
    eps: Annotated[
        float,
        BeforeValidator(_step),
        WithJsonSchema({"type": "number", "minimum": SMALLEST_EPS, "maximum": LARGEST_EPS, "default": 1e-6}),
    ] = Field(1e-6, description="The step, times the size of an element above 1.")
    order: StrictInt = Field(1, ge=1, le=2, description="2: also the derivative of the gradient.")


class InferRequest(ProgramRequest):
    """A program whose shapes and cost are wanted; an input may be a shape and dtype in place of a value."""

    inputs: dict[str, ValueOrAval] = Field(
        default_factory=dict, description="A value, or a shape and dtype, for each input of the program."
    )


class RegisterRequest(ProgramSource):
    """A program that is to be kept."""

    name: StrictStr | None = Field(None, description="A name beside the id: letters, digits, _, . and -; not p_...")
    inputs: dict[str, Annotated[Any, WithJsonSchema({REF: f"{SCHEMAS}Declaration"})]] = Field(
        default_factory=dict, description="Shapes and dtypes of inputs, as far as they are known."
    )
    bind: dict[str, Value] = Field(
        default_factory=dict, description="Values of inputs that are fixed for good: they are sent only this once."
    )
    replace: StrictBool = Field(False, description="Take the name from the program that has it.")


Seq = Annotated[
    StrictInt | None,
    Field(ge=1, description="The number of this call in its session, so that it may be repeated; default: the next."),
]
Life = Annotated[
    float | None, Field(ge=SHORTEST_LIFE_S, strict=True, description="Seconds for which it is kept without use.")
]


class SessionRequest(Body):
    """A session to be made."""

    ttl_s: Life = None
    seed: StrictInt | None = Field(
        None, ge=0, le=LARGEST_SEED, description="Where its random numbers come from; default: one is made."
    )
    name: StrictStr | None = Field(None, max_length=200, description="For people.")


class PatchSessionRequest(Body):
    """What is to change of a session."""

    seq: Seq = None
    nograd: StrictBool | None = Field(None, description="Nothing is recorded from here on.")
    train: StrictBool | None = Field(None, description="Random operations are active from here on.")
    ttl_s: Life = None


class RunRequest(Body):
    """Commands, and what is to be seen then."""

    seq: Seq = None
    commands: list[dict[str, Any]] = Field(default_factory=list, description="In order; each has `do` and its fields.")
    fetch: list[Any] = Field(default_factory=list, description='Ids, or {"id", "what"}.')
    encoding: Encoding = "nested"


class SingleCall(Body):
    """What a call of one command has beside its fields."""

    seq: Seq = None
    encoding: Encoding = "nested"


class StateRequest(Body):
    """A state to be taken over."""

    seq: Seq = None
    state: dict[str, Value] = Field(description="Values by name, all that there are.")


class PutStateRequest(Body):
    """The number of a call whose body is a file; it stands in the query."""

    seq: int | None = Field(None, ge=1, description="As in the other calls.")


class DotRequest(Body):
    """Which picture of a session is wanted; it stands in the query."""

    of: str = Field(description="The id of the variable where the tape ends.")
    verbose: bool = Field(False, description="Labels are values in place of names.")


def _cursor(value: Any) -> Any:
    if value and not (value.isascii() and value.isdecimal() and len(value) <= LONGEST_CURSOR):
        raise PydanticCustomError("cursor", 'Input should be the "next" of a page')
    return value


class ListRequest(Body):
    """Which page of a list is wanted; it stands in the query."""

    limit: int = Field(20, ge=1, le=100, description="So many at most.")
    after: Annotated[str, BeforeValidator(_cursor)] = Field(
        "", description="The `next` of the page before; default: the first page."
    )


class PictureRequest(Body):
    """Which picture of a program is wanted; it stands in the query."""

    order: int = Field(0, ge=0, le=HIGHEST_ORDER, description="Of which derivative; 0: of the program itself.")
    wrt: str | None = Field(None, description="By which input; from order 2 on by one alone. Default: all of them.")


Source = TypeVar("Source", bound=ProgramSource)
Model = TypeVar("Model", bound=Body)


def check(model: type[Source], document: Any, answer_type: str = JSON) -> Source:
    """The document as a request whose answer is of this media type.

    Raises:
        InvalidValueError: with every field that is wrong.
    """
    faults = Faults()
    given = [key for key in PROGRAM_KEYS if key in document] if isinstance(document, dict) else PROGRAM_KEYS[:1]
    if len(given) != 1:
        msg = f'exactly one of "expr", "graph" and "program" is expected; found {" and ".join(given) or "none"}'
        faults.add(InvalidValueError, msg)
    return check_body(model, document, answer_type, faults)


def check_body(model: type[Model], document: Any, answer_type: str = JSON, faults: Faults | None = None) -> Model:
    """The document as a request, or a part of one, whose answer is of this media type.

    faults: what is known to be wrong with it.

    Raises:
        InvalidValueError: with every field that is wrong.
    """
    if not isinstance(document, dict):
        raise InvalidValueError(f"the body is {_shown(document)}; expected an object")
    faults = Faults() if faults is None else faults
    if answer_type == JSON and document.get("encoding") == "binary" and "encoding" in model.model_fields:
        msg = f'encoding is "binary", which JSON cannot carry; expected "base64", or Accept: {MSGPACK}'
        faults.add(InvalidValueError, msg, ("encoding",))
    return _validated(model, document, faults)


def check_query(model: type[Model], query: Mapping[str, str]) -> Model:
    """The query of a path as a request.

    Raises:
        InvalidValueError: with every parameter that is wrong.
    """
    return _validated(model, dict(query), Faults())


def _validated(model: type[Model], document: dict[str, Any], faults: Faults) -> Model:
    try:
        request = model.model_validate(document)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=False)[:MAX_FAULTS]:
            fault = _fault(model, details)
            faults.add(InvalidValueError, fault.msg, fault.loc)
    faults.check()
    return request


def _fault(model: type[Body], details: ErrorDetails) -> Fault:
    loc: Loc = tuple(details["loc"])
    if details["type"] == "extra_forbidden":
        known = list((BackwardOptions if loc[0] == "backward" and len(loc) > 1 else model).model_fields)
        near = nearest(str(loc[-1])[:LONGEST_NEAR], known) or f"; known: {', '.join(known)}"
        return Fault(loc, f'unknown field "{loc[-1]}"{near}')
    path = ".".join(map(str, loc))
    if details["type"] == "missing":
        return Fault(loc, f'"{path}" is missing')
    expected = details["msg"].removeprefix("Input should be ")
    for theirs, ours in _WORDS.items():
        expected = expected.replace(theirs, ours)
    return Fault(loc, f"{path} is {_shown(details['input'])}; expected {expected}")


#: pydantic's words and plainer ones.
_WORDS = {
    ", unable to parse string as an integer": "",
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
    if isinstance(value, bytes | memoryview):
        return "binary data"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
