"""POST /v1/infer: shapes, dtypes and cost of a program; nothing runs."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import programs
from app.api.openapi import CALL, body_of, problems_of
from app.http.endpoints import validated
from app.http.messages import Call
from app.http.negotiation import received, reply
from app.limit_settings import FIELDS, variable
from app.programs.registry import Registry
from app.settings import Settings
from app.wire.answers import InferAnswer
from app.wire.codecs import encode
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
    call: Call = request.state.call
    settings: Settings = request.app.state.settings
    registry: Registry = request.app.state.registry
    message = received(call, settings.max_body_bytes)
    asked = validated(InferRequest, message.document(**settings.document_limits()), message.answer_type, registry)
    found = programs.infer(
        asked.source,
        asked.inputs,
        batched=asked.batched,
        train=asked.train,
        seed=asked.seed,
        limits=settings.program_limits(),
        find=registry.graph,
    )
    return reply(call, encode(message.answer_type, _document(found, settings)), message.answer_type).response()


def _document(found: programs.Forecast, settings: Settings) -> dict[str, Any]:
    return {
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


def _known(avals: dict[str, Aval]) -> dict[str, Any]:
    return {name: {"shape": aval.shape, "dtype": str(aval.dtype)} for name, aval in avals.items()}
