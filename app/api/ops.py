"""GET /v1/ops: operations, and kinds of layers, models, optimizers and hooks."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from app.api.problems import problem
from app.api.replies import answer_type, reply_with
from app.openapi import problems_of
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
    return await reply_with(request, describe_all())


@router.get(
    "/v1/ops/{name}",
    operation_id="get_op",
    summary="One operation",
    response_model=OperationAnswer,
    responses=problems_of("unknown-path", "not-acceptable", "internal-error"),
)
async def get_op(request: Request, name: Annotated[str, Path(examples=[OPERATION])]) -> Response:
    """Return an operation by its name or an alias."""
    answer_type(request)
    try:
        op = lookup(name)
    except UnknownOperationError as error:
        return problem(request, "unknown-path", error.detail)
    return await reply_with(request, describe(op))
