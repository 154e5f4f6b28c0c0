"""POST /v1/evaluate: forward and backward in one call."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import programs
from app.api.openapi import CALL, body_of, problems_of
from app.http.endpoints import Endpoint, respond
from app.programs.registry import Registry
from app.settings import Settings
from app.stores.owners import Caller
from app.wire.answers import EvaluateAnswer
from app.wire.examples import EVALUATE
from app.wire.schemas import EvaluateRequest
from app.wire.values import encode_all
from engine.programs import CheckedEvaluation, Evaluation

router = APIRouter()


@router.post(
    "/v1/evaluate",
    operation_id="evaluate",
    summary="Values and gradients of a program",
    response_model=EvaluateAnswer,
    responses=problems_of(*CALL),
    openapi_extra=body_of(EvaluateRequest, EVALUATE),
)
async def evaluate(request: Request) -> Response:
    """Run a program forward and, with `backward`, backward, in one call and without state."""
    return respond(request, ENDPOINT)


def _prepare(request: EvaluateRequest, settings: Settings, registry: Registry) -> CheckedEvaluation:
    return programs.prepare(
        request.source,
        request.inputs,
        outputs=request.outputs,
        backward=None if request.backward is None else dict(request.backward),
        nograd=request.nograd,
        batched=request.batched,
        train=request.train,
        seed=request.seed,
        limits=settings.program_limits(),
        find=registry.graph,
        plans=registry.plans,
    )


def _document(result: Evaluation, program: str, encoding: str, media_type: str) -> dict[str, Any]:
    document: dict[str, Any] = {"values": encode_all(result.values, encoding, media_type)}
    if result.grads is not None:
        document["grads"] = encode_all(result.grads, encoding, media_type)
    if result.higher is not None:
        document["higher"] = encode_all(result.higher, encoding, media_type)
    if result.node_grads is not None:
        document["node_grads"] = encode_all(result.node_grads, encoding, media_type)
    document["program"] = program
    return document


def _storing(prepared: CheckedEvaluation, registry: Registry, caller: Caller) -> Callable[[], dict[str, Any]]:
    """Check that the store has room for the program of the gradients; return a function that stores it."""
    if prepared.grad_graph is None:
        return dict
    gradient = registry.pack(prepared.grad_graph)
    # Another request may take the room in the meantime; mostly this check saves a run in vain.
    registry.store.check_room(*gradient, caller)
    return lambda: {"grad_program": registry.store.add_program(*gradient, replace=False, caller=caller)[0].id}


ENDPOINT = Endpoint("/v1/evaluate", "backward", EvaluateRequest, _prepare, _document, _storing)
