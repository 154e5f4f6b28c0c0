"""Models of responses, for OpenAPI only: responses themselves are written straight from arrays."""

from typing import Any

from pydantic import BaseModel, Field

from app.wire.schemas import Value


class EvaluateAnswer(BaseModel):
    """Values by output and, if requested, gradients."""

    values: dict[str, Value] = Field(description="Value of each output, in the requested order.")
    grads: dict[str, Value] | None = Field(None, description="For each name of wrt, with its shape.")
    higher: dict[str, list[Value]] | None = Field(
        None, description="With an order above 1: all derivatives, from the first on."
    )
    node_grads: dict[str, Value] | None = Field(None, description="With retain_grad: of every floating node.")
    program: str = Field(description="Id of the program; evaluating does not store it, POST /v1/programs does.")
    grad_program: str | None = Field(None, description="With create_graph: id of the stored program of the gradients.")


class VjpAnswer(BaseModel):
    """Vector-Jacobian products."""

    values: dict[str, Value]
    vjps: dict[str, Value] = Field(description="For each name of wrt, with its shape.")


class JvpAnswer(BaseModel):
    """Jacobian-vector products."""

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
    ok: bool = Field(description="All gradients agree with their differences, and none is uncertain.")
    max_error: Value = Field(description="Largest error, relative to max(1, size).")
    worst: dict[str, Any] | None = Field(
        description="Position of the largest error: order, input, index, analytic and numeric."
    )
    uncertain: list[dict[str, Any]] = Field(
        description="Positions where differences cancel, so that gradients within the tolerance may still be wrong: "
        "as in `worst`, and `rounding`, the possible error of `numeric` by rounding."
    )


class ShapeAndDtype(BaseModel):
    """Shape and dtype of a value."""

    shape: list[int]
    dtype: str


class Cost(BaseModel):
    """Cost of a program: operations, bytes of all values, floating-point operations."""

    nodes: int
    bytes: int
    flops: int


class ExceededLimit(BaseModel):
    """A limit that refuses to run a program."""

    limit: str = Field(description="Key in limits.")
    setting: str = Field(description="Setting of the server that raises it.")
    msg: str


class InferAnswer(BaseModel):
    """Forecast of a program before it runs."""

    inputs: dict[str, ShapeAndDtype]
    nodes: dict[str, ShapeAndDtype] = Field(description="Every node by name, as written.")
    outputs: dict[str, ShapeAndDtype]
    cost: Cost = Field(description="At most 2**63 - 1 is shown.")
    limits: dict[str, float] = Field(description="Limits of this server.")
    exceeded: list[ExceededLimit] = Field(description="Limits that would refuse the run.")


class InputDeclaration(BaseModel):
    """Declaration of an input."""

    shape: list[int] | None = Field(description="-1: a free length; null: any shape.")
    dtype: str | None = Field(description="null: any dtype.")


class ProgramAnswer(BaseModel):
    """A registered program."""

    id: str = Field(description="Identity of the content: the same program has the same id anywhere.")
    name: str | None = Field(description="The name in the request; otherwise the oldest of its names, if any.")
    inputs: dict[str, InputDeclaration] = Field(description="Inputs of a call, without bound ones.")
    outputs: list[str]
    nodes: int = Field(description="Number of operations.")
    cost: Cost | None = Field(
        description="Cost of one forward run: inputs without a declared shape count as scalars, free lengths as 1; "
        "null if the program does not fit such inputs. POST /v1/infer computes it for given shapes."
    )


class ProgramDetailsAnswer(ProgramAnswer):
    """A registered program in full, without the numbers of bound arrays."""

    graph: dict[str, Any] = Field(description="Canonical form.")
    expr: str = Field(description="Infix text; with the same declarations and bound values it gives the same id.")
    bound: dict[str, ShapeAndDtype] = Field(description="Inputs that are fixed for good.")
    created_at: str = Field(description="Time of the first registration (RFC 3339).")


class ProgramSummary(BaseModel):
    """A registered program in a list; fields that are damaged in the store are null."""

    id: str
    name: str | None = Field(description="The oldest of its names, if any.")
    inputs: dict[str, InputDeclaration] | None
    outputs: list[str] | None
    nodes: int | None
    cost: Cost | None


class ProgramsAnswer(BaseModel):
    """A page of registered programs, in order of registration."""

    programs: list[ProgramSummary]
    next: str | None = Field(description="`after` of the next page; null: this is the last one.")


class OperationAnswer(BaseModel):
    """One operation."""

    name: str
    aliases: list[str]
    alias_of: str | None
    symbol: str | None = Field(description="The operator of infix text.")
    signature: str
    doc: str
    operands: list[dict[str, Any]] = Field(description="In order, each with whether it is required.")
    variadic: bool = Field(description="Takes one or more operands.")
    attributes: list[dict[str, Any]] = Field(description="In order, with types and defaults.")
    kind: str = Field(description="elementwise, linear, bilinear, other or composite.")
    several_outputs: bool
    outputs: int | str = Field(
        description="Number of results; or the attribute that decides it, by its value or length."
    )
    differentiable: bool
    batched: bool = Field(description="Runs for all rows of a batch at once, not row by row.")
    random: bool


class OperationsAnswer(BaseModel):
    """All operations, and the kinds of layers, models, optimizers and hooks with their configuration."""

    operations: list[OperationAnswer]
    kinds: dict[str, list[dict[str, Any]]]


class RootAnswer(BaseModel):
    """Name, version and limits of the server."""

    name: str
    version: str
    contract: int
    limits: dict[str, float]


class HealthAnswer(BaseModel):
    """State of the server."""

    status: str


class ProblemFault(BaseModel):
    """One fault of a request."""

    loc: list[str | int] = Field(description="A path into the request.")
    msg: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="/problems/<slug>, a page that the server has.")
    title: str
    status: int
    detail: str
    errors: list[ProblemFault] = Field(description="All faults of this kind.")
    request_id: str


class SessionAnswer(BaseModel):
    """State of a session."""

    id: str = Field(description="A secret: whoever knows it can use the session.")
    name: str | None
    seq: int = Field(description="Number of the last call that changed the session.")
    seed: int
    nograd: bool
    train: bool
    created_at: str
    expires_at: str = Field(description="Every call postpones it.")
    ttl_s: float
    bytes: int


class ChangedAnswer(BaseModel):
    """Flags of a session after a change."""

    seq: int
    nograd: bool
    train: bool


class RunAnswer(BaseModel):
    """Results of a run: ids that it made, and fetched values."""

    seq: int
    made: list[str] = Field(description="Ids of results for which the commands named none.")
    fetched: dict[str, Any] = Field(
        description="By id: value and grad, or the requested aspects; of layers, models and optimizers `state`."
    )


class FetchedAnswer(BaseModel):
    """A variable."""

    id: str
    value: Value
    grad: Value | None = Field(description="null: no gradient.")


class CommandAnswer(FetchedAnswer):
    """The variable of a single command."""

    seq: int


class CommandsAnswer(BaseModel):
    """The variables of a single command that has none, or several."""

    seq: int
    variables: list[FetchedAnswer]


class VariableAnswer(FetchedAnswer):
    """All aspects of a variable."""

    shape: list[int]
    dtype: str
    creator: str | None = Field(description="Operation that computed it; null: a leaf, or a constant.")
    generation: int = Field(description="Length of the longest path from a leaf.")


class VariablesAnswer(BaseModel):
    """All variables of a session, and its layers, models and optimizers."""

    variables: list[dict[str, Any]]
    others: list[dict[str, Any]]


class StateAnswer(BaseModel):
    """The state of a layer, a model or an optimizer."""

    id: str
    state: dict[str, Value]


class SeqAnswer(BaseModel):
    """Number of the call."""

    seq: int
