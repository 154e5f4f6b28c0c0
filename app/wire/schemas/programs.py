"""Requests with a program, and requests about registered programs."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.wire.schemas.body import LARGEST_SEED, Body, Encoding
from app.wire.schemas.values import REF, SCHEMAS, Value, ValueOrAval
from engine.programs import HIGHEST_ORDER

#: Exactly one of these keys stands in a request.
PROGRAM_KEYS = ("expr", "graph", "program")
LONGEST_CURSOR = 18
#: A smaller step may leave a number unchanged; a larger one says nothing about a derivative.
SMALLEST_EPS, LARGEST_EPS = 1e-15, 1.0


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
    schema["anyOf"] = [{"type": "boolean"}, *schema["anyOf"]]
    schema["default"] = False


class BackwardOptions(Body):
    """Options of a backward pass."""

    of: StrictStr | None = Field(None, description="The output or node to differentiate; default: the only output.")
    wrt: list[StrictStr] | None = Field(None, description="Inputs or nodes; default: all floating inputs.")
    cotangent: Value = Field(None, description="A value of the output's shape; default: ones.")
    order: StrictInt = Field(
        1, ge=1, le=HIGHEST_ORDER, description="How many times to differentiate, with respect to one name."
    )
    create_graph: StrictBool = Field(False, description="Also store a program of the gradients.")
    retain_grad: StrictBool = Field(False, description="Also return the gradient of every floating node.")


class ProgramSource(Body):
    """A program in one of its three forms."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [key]} for key in PROGRAM_KEYS]})

    expr: StrictStr = Field(default_factory=str, description="The program as infix text.")
    graph: dict[str, Any] = Field(
        default_factory=dict,
        description="The program as nodes.",
        json_schema_extra={"required": ["nodes"], "properties": {"nodes": {"type": "array", "minItems": 1}}},
    )
    program: StrictStr = Field(default_factory=str, description="The id or name of a registered program.")

    @property
    def source(self) -> tuple[str, Any]:
        """The key that was given, and its content."""
        key = next(key for key in PROGRAM_KEYS if key in self.model_fields_set)
        return key, getattr(self, key)


class ProgramRequest(ProgramSource):
    """A program and its inputs."""

    inputs: dict[str, Value] = Field(default_factory=dict, description="A value for each input of the program.")
    batched: list[StrictStr] = Field(
        default_factory=list,
        description="Inputs whose leading axis is a batch; the response is that of one call a row, stacked.",
    )
    train: StrictBool = Field(False, description="Activate random operations such as dropout.")
    seed: StrictInt | None = Field(
        None, ge=0, le=LARGEST_SEED, description="Seed of random operations; required if they are active."
    )
    encoding: Encoding = "nested"


class EvaluateRequest(ProgramRequest):
    """Values of a program and, with `backward`, gradients."""

    outputs: Annotated[
        Any,
        BeforeValidator(_names_or_all),
        WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"const": "all"}, {"type": "null"}]}),
    ] = Field(None, description='Nodes to return; default: the program\'s outputs; "all": every node.')
    backward: Annotated[BackwardOptions | None, BeforeValidator(_flag_or_options)] = Field(
        None, description="Also compute gradients: true, or options.", json_schema_extra=_allow_flag
    )
    nograd: StrictBool = Field(False, description="Forward only: keep no tape.")


Wrt = Annotated[list[StrictStr] | None, Field(description="Inputs or nodes; default: all floating inputs.")]
Many = Annotated[StrictBool, Field(description="Directions and results have a leading axis of directions.")]
Of = Annotated[StrictStr | None, Field(description="The output or node to differentiate; default: the program's.")]


class VjpRequest(ProgramRequest):
    """A vector-Jacobian product: cotangents of outputs, carried back to inputs."""

    cotangents: dict[str, Value] = Field(default_factory=dict, description="A value for outputs or nodes, by name.")
    wrt: Wrt = None
    many: Many = False


class JvpRequest(ProgramRequest):
    """A Jacobian-vector product: tangents of inputs, carried forward to outputs."""

    tangents: dict[str, Value] = Field(default_factory=dict, description="A value for inputs or nodes, by name.")
    outputs: list[StrictStr] | None = Field(None, description="Nodes; default: the program's outputs.")
    many: Many = False


class JacobianRequest(ProgramRequest):
    """The Jacobian of outputs."""

    of: Of = None
    wrt: Wrt = None
    mode: Literal["auto", "reverse", "forward"] = Field(
        "auto",
        description="A pass for each element of the outputs (reverse) or of the inputs (forward); auto: fewer passes.",
    )


class HessianRequest(ProgramRequest):
    """The Hessian of one element."""

    of: Of = None
    wrt: Wrt = None


class HvpRequest(ProgramRequest):
    """Products of the Hessian of one element with vectors."""

    of: Of = None
    vectors: dict[str, Value] = Field(default_factory=dict, description="A value for names of wrt.")
    wrt: Wrt = None
    many: Many = False


class CheckRequest(ProgramRequest):
    """A comparison of gradients with central differences."""

    wrt: Wrt = None
    eps: Annotated[
        float,
        BeforeValidator(_step),
        WithJsonSchema({"type": "number", "minimum": SMALLEST_EPS, "maximum": LARGEST_EPS, "default": 1e-6}),
    ] = Field(1e-6, description="Step, multiplied by the size of an element if that is above 1.")
    order: StrictInt = Field(1, ge=1, le=2, description="2: also check the derivative of the gradient.")


class InferRequest(ProgramRequest):
    """A program to infer shapes and cost of; an input may be a shape and dtype in place of a value."""

    inputs: dict[str, ValueOrAval] = Field(
        default_factory=dict, description="A value, or a shape and dtype, for each input of the program."
    )


class RegisterRequest(ProgramSource):
    """A program to register."""

    name: StrictStr | None = Field(
        None, description="A name in addition to the id: letters, digits, _, . and -; not p_..."
    )
    inputs: dict[str, Annotated[Any, WithJsonSchema({REF: f"{SCHEMAS}Declaration"})]] = Field(
        default_factory=dict, description="Known shapes and dtypes of inputs."
    )
    bind: dict[str, Value] = Field(
        default_factory=dict, description="Values of inputs that are fixed for good; they are sent only once."
    )
    replace: StrictBool = Field(False, description="Take the name from another program.")


def _cursor(value: Any) -> Any:
    if value and not (value.isascii() and value.isdecimal() and len(value) <= LONGEST_CURSOR):
        raise PydanticCustomError("cursor", 'Input should be the "next" of a page')
    return value


class ListRequest(Body):
    """Query of a list: the page."""

    limit: int = Field(20, ge=1, le=100, description="Largest number of programs.")
    after: Annotated[str, BeforeValidator(_cursor)] = Field(
        "",
        description="The `next` of the page before; default: the first page.",
        json_schema_extra={"pattern": f"^[0-9]{{0,{LONGEST_CURSOR}}}$"},
    )


class PictureRequest(Body):
    """Query of a picture of a program."""

    order: int = Field(0, ge=0, le=HIGHEST_ORDER, description="Order of the derivative; 0: the program itself.")
    wrt: str | None = Field(
        None, description="Input to differentiate by; required from order 2 on if there are several. Default: all."
    )
