"""POST /v1/infer: shapes, dtypes and cost of a program; nothing runs."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import programs
from app.api.calls import Call, answer, checked
from app.limit_settings import FIELDS, variable
from app.openapi import CALL, body_of, problems_of
from app.programs.registry import Registry
from app.settings import Settings
from app.wire.answers import InferAnswer
from app.wire.codecs import Message, encode
from app.wire.examples import INFER
from app.wire.schemas import InferRequest
from engine.core import Aval

router = APIRouter()


@router.post(
    "/v1/infer",
    operation_id="infer",
    summary="Shapes, dtypes and cost of a program",
    response_model=InferAnswer,
    responses=problems_of(*CALL),
    openapi_extra=body_of(InferRequest, INFER),
)
async def infer(request: Request) -> Response:
    """Infer the shape and dtype of every node and the cost of a run, even if a limit would refuse the run."""
    return await answer(request, read)


def read(message: Message, settings: Settings, registry: Registry) -> Call:
    """Read the body of a request."""
    request = checked(InferRequest, message, settings, registry)
    found = programs.infer(
        request.source,
        request.inputs,
        batched=request.batched,
        train=request.train,
        seed=request.seed,
        limits=settings.program_limits(),
        find=registry.graph,
    )
    document = {
        "inputs": _known(found.inputs),
        "nodes": _known(found.nodes),
        "outputs": _known(found.outputs),
        "cost": {"nodes": found.cost.nodes, "bytes": found.cost.bytes, "flops": found.cost.flops},
        "limits": settings.public_limits(),
        "exceeded": [
            {"limit": FIELDS[fault.limit], "setting": variable(fault.limit), "msg": fault.msg}
            for fault in found.exceeded
        ],
    }
    return Call(0, lambda: encode(message.answer_type, document))


def _known(avals: dict[str, Aval]) -> dict[str, Any]:
    return {name: {"shape": aval.shape, "dtype": str(aval.dtype)} for name, aval in avals.items()}
