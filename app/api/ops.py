"""GET /v1/ops: operations, and kinds of layers, models, optimizers and hooks."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from app.api.openapi import problems_of
from app.api.problems import problem
from app.http.messages import Call
from app.http.negotiation import answer_type, reply_with
from app.programs.catalog import describe, describe_all
from app.wire.answers import OperationAnswer, OperationsAnswer
from app.wire.examples import OPERATION
from engine.core import UnknownOperationError, lookup

router = APIRouter()


@router.get(
    "/v1/ops",
    operation_id="list_ops",
    summary="All operations",
    response_model=OperationsAnswer,
    responses=problems_of("not-acceptable", "internal-error"),
)
async def list_ops(request: Request) -> Response:
    """List every operation, and the kinds of layers, models, optimizers and hooks with their configuration."""
    return reply_with(request.state.call, describe_all()).response()


@router.get(
    "/v1/ops/{name}",
    operation_id="get_op",
    summary="One operation",
    response_model=OperationAnswer,
    responses=problems_of("unknown-path", "not-acceptable", "internal-error"),
)
async def get_op(request: Request, name: Annotated[str, Path(examples=[OPERATION])]) -> Response:
    """Return an operation by its name or an alias."""
    call: Call = request.state.call
    answer_type(call)
    try:
        op = lookup(name)
    except UnknownOperationError as error:
        return problem(call, "unknown-path", error.detail).response()
    return reply_with(call, describe(op)).response()
