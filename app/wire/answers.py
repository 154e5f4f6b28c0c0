"""What is answered, for OpenAPI alone: the answers themselves are written straight from arrays."""

from typing import Any

from pydantic import BaseModel, Field

from app.wire.schemas import Value


class EvaluateAnswer(BaseModel):
    """Values by output and, where they were asked for, gradients."""

    values: dict[str, Value] = Field(description="Each output's value, in the order asked for.")
    grads: dict[str, Value] | None = Field(None, description="For each name of wrt, with its shape.")
    higher: dict[str, list[Value]] | None = Field(
        None, description="With an order above 1: all derivatives from the first on."
    )
    node_grads: dict[str, Value] | None = Field(None, description="With retain_grad: of every floating node.")
    program: str = Field(description="The id that the program has; it is not stored: POST /v1/programs does that.")
    grad_program: str | None = Field(
        None, description="With create_graph: the id of a program of the gradients, which is stored."
    )


class VjpAnswer(BaseModel):
    """Cotangents carried back."""

    values: dict[str, Value]
    vjps: dict[str, Value] = Field(description="For each name of wrt, with its shape.")


class JvpAnswer(BaseModel):
    """Tangents carried forward."""

    values: dict[str, Value]
    jvps: dict[str, Value] = Field(description="For each output, with its shape.")


class JacobianAnswer(BaseModel):
    """All first derivatives."""

    values: dict[str, Value]
    jacobian: dict[str, dict[str, Value]] = Field(description="By output and name of wrt, shape output + input.")


class HessianAnswer(BaseModel):
    """All second derivatives."""

    values: dict[str, Value]
    hessian: dict[str, dict[str, Value]] = Field(description="By names of wrt, shape first + second.")
    grads: dict[str, Value]


class HvpAnswer(BaseModel):
    """Products with the Hessian."""

    values: dict[str, Value]
    hvp: dict[str, Value] = Field(description="For each name of wrt, with its shape.")
    grads: dict[str, Value]


class CheckAnswer(BaseModel):
    """Gradients beside central differences."""

    values: dict[str, Value]
    ok: bool = Field(description="All gradients agree with their differences, and none of them is uncertain.")
    max_error: Value = Field(description="Relative to max(1, size).")
    worst: dict[str, Any] | None = Field(description="Where that is: order, input, index, analytic and numeric.")
    uncertain: list[dict[str, Any]] = Field(
        description="Where differences cancel, so that gradients within the tolerance may still be wrong: as in "
        "`worst`, and `rounding`, the error that the rounding of values may make in `numeric`."
    )


class Known(BaseModel):
    """Shape and dtype of a value."""

    shape: list[int]
    dtype: str


class Cost(BaseModel):
    """What a program costs: operations, bytes of all values, floating-point operations."""

    nodes: int
    bytes: int
    flops: int


class Exceeded(BaseModel):
    """A limit that refuses to run a program."""

    limit: str = Field(description="Its key in limits.")
    setting: str = Field(description="The setting of the server that raises it.")
    msg: str


class InferAnswer(BaseModel):
    """What is known of a program before it runs."""

    inputs: dict[str, Known]
    nodes: dict[str, Known] = Field(description="Every node by name, as written.")
    outputs: dict[str, Known]
    cost: Cost = Field(description="Where it is more than 2**63 - 1, that.")
    limits: dict[str, float] = Field(description="What this server allows.")
    exceeded: list[Exceeded] = Field(description="The limits that would refuse to run it.")


class Declared(BaseModel):
    """What is declared of an input."""

    shape: list[int] | None = Field(description="-1 for a length that is free; null: any shape.")
    dtype: str | None = Field(description="null: any.")


class ProgramAnswer(BaseModel):
    """A registered program."""

    id: str = Field(description="Says what the program is: the same program has the same id anywhere.")
    name: str | None = Field(description="The name that was asked for or given; else the oldest of its names, if any.")
    inputs: dict[str, Declared] = Field(description="What a call has to give; bound inputs are not among them.")
    outputs: list[str]
    nodes: int = Field(description="How many operations it has.")
    cost: Cost | None = Field(
        description="Of one forward run, as far as it can be known: inputs of no declared shape count as scalars, free "
        "lengths as 1; null where the program fits no such inputs. POST /v1/infer tells it for given shapes."
    )


class ProgramDetailsAnswer(ProgramAnswer):
    """A registered program with all that it consists of, but for the numbers of bound arrays."""

    graph: dict[str, Any] = Field(description="Its canonical form.")
    expr: str = Field(description="Infix text; with the same declarations and bound values it gives the same id.")
    bound: dict[str, Known] = Field(description="Inputs that are fixed for good.")
    created_at: str = Field(description="When it was registered first (RFC 3339).")


class ListedAnswer(BaseModel):
    """A registered program as lists show it; what is damaged in the store is null."""

    id: str
    name: str | None = Field(description="The oldest of its names, if any.")
    inputs: dict[str, Declared] | None
    outputs: list[str] | None
    nodes: int | None
    cost: Cost | None


class ProgramsAnswer(BaseModel):
    """A page of registered programs, in the order in which they came."""

    programs: list[ListedAnswer]
    next: str | None = Field(description="What `after` has to be for the next page; null: this is the last.")


class OperationAnswer(BaseModel):
    """One operation."""

    name: str
    aliases: list[str]
    alias_of: str | None
    symbol: str | None = Field(description="The operator of infix text.")
    signature: str
    doc: str
    operands: list[dict[str, Any]] = Field(description="In order, with whether they are required.")
    variadic: bool = Field(description="Takes any number of operands from 1.")
    attributes: list[dict[str, Any]] = Field(description="In order, with types and defaults.")
    kind: str = Field(description="elementwise, linear, bilinear, other or composite.")
    several_outputs: bool
    outputs: int | str = Field(description="How many results; or the attribute that says it, by itself or its length.")
    differentiable: bool
    batched: bool = Field(description="Runs for all rows of a batch at once; else row by row.")
    random: bool


class OperationsAnswer(BaseModel):
    """All operations, and the kinds of layers, models, optimizers and hooks with their configuration."""

    operations: list[OperationAnswer]
    kinds: dict[str, list[dict[str, Any]]]


class RootAnswer(BaseModel):
    """What this server is."""

    name: str
    version: str
    contract: int
    limits: dict[str, float]


class HealthAnswer(BaseModel):
    """How the server is."""

    status: str


class ProblemFault(BaseModel):
    """One place that is wrong."""

    loc: list[str | int] = Field(description="A path into the request.")
    msg: str


class Problem(BaseModel):
    """RFC 9457: what was wrong, where, and what would be right."""

    type: str = Field(description="/problems/<slug>, a page that the server has.")
    title: str
    status: int
    detail: str
    errors: list[ProblemFault] = Field(description="Every place of this kind.")
    request_id: str


class SessionAnswer(BaseModel):
    """How a session is."""

    id: str = Field(description="A secret: who knows it may use the session.")
    name: str | None
    seq: int = Field(description="The number of the last call that changed it.")
    seed: int
    nograd: bool
    train: bool
    created_at: str
    expires_at: str = Field(description="Every call puts it off.")
    ttl_s: float
    bytes: int


class ChangedAnswer(BaseModel):
    """What was changed of a session."""

    seq: int
    nograd: bool
    train: bool


class RunAnswer(BaseModel):
    """What a run made, and what is to be seen then."""

    seq: int
    made: list[str] = Field(description="Ids of results that were not told any.")
    fetched: dict[str, Any] = Field(description="By id: value and grad, or what was asked for; `state` of the rest.")


class FetchedAnswer(BaseModel):
    """A variable."""

    id: str
    value: Value
    grad: Value = Field(description="null: there is none.")


class VariableAnswer(FetchedAnswer):
    """All there is to see of a variable."""

    shape: list[int]
    dtype: str
    creator: str | None = Field(description="The operation that computed it; null: a leaf, or a constant.")
    generation: int = Field(description="How many operations lie between it and the leaf that is farthest.")


class VariablesAnswer(BaseModel):
    """All variables of a session, and its layers, models and optimizers."""

    variables: list[dict[str, Any]]
    others: list[dict[str, Any]]


class StateAnswer(BaseModel):
    """The state of a layer, a model or an optimizer."""

    id: str
    state: dict[str, Value]


class SeqAnswer(BaseModel):
    """What was done."""

    seq: int
