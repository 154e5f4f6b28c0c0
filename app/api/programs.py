"""/v1/programs: programs that are registered once and then used by id or name."""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from app.api.openapi import CALL, STORE, body_of, problems_of, query_of
from app.api.pictures import DotResponse, SvgResponse
from app.audit import audit
from app.http.endpoints import validated
from app.http.messages import Call
from app.http.negotiation import answer_type, received, reply
from app.programs import packing
from app.programs.graphviz import svg
from app.programs.registry import Registry
from app.settings import Settings
from app.stores import Listed, Program
from app.stores.base import Deletion
from app.wire.answers import ProgramAnswer, ProgramDetailsAnswer, ProgramsAnswer
from app.wire.codecs import encode
from app.wire.examples import MATYAS, REGISTER, RETIRED
from app.wire.media import JSON
from app.wire.schemas import ListRequest, PictureRequest, RegisterRequest, check_query
from engine.programs import as_document, as_text, picture

router = APIRouter()

_PICTURED = ("unknown-program", "invalid-request", "unknown-name", "not-differentiable", "limit-exceeded", *STORE)


@router.post(
    "/v1/programs",
    operation_id="register_program",
    summary="Register a program",
    status_code=201,
    response_model=ProgramAnswer,
    responses={
        200: {"model": ProgramAnswer, "description": "The program was registered before."},
        **problems_of("name-conflict", *CALL),
    },
    openapi_extra=body_of(RegisterRequest, REGISTER),
)
async def register_program(request: Request) -> Response:
    """Store a program, so that calls need only name it: 201 if it is new, 200 if it was registered before."""
    call: Call = request.state.call
    settings: Settings = request.app.state.settings
    registry: Registry = request.app.state.registry
    message = received(call, settings.max_body_bytes)
    document = message.document(**settings.document_limits())
    asked = validated(RegisterRequest, document, message.answer_type, registry)
    program, is_new = registry.register(
        asked.source,
        name=asked.name,
        declared=asked.inputs,
        bound=asked.bind,
        replace=asked.replace,
        caller=call.caller,
    )
    headers = {"Location": f"/v1/programs/{program.id}"}
    content = encode(message.answer_type, _document(program))
    return reply(call, content, message.answer_type, 201 if is_new else 200, headers).response()


@router.get(
    "/v1/programs",
    operation_id="list_programs",
    summary="All registered programs",
    response_model=ProgramsAnswer,
    responses=problems_of("not-acceptable", "invalid-request", *STORE),
    openapi_extra=query_of(ListRequest),
)
async def list_programs(request: Request) -> Response:
    """List a page of the programs that the key registered, in order of registration; an admin sees all."""
    call: Call = request.state.call
    registry: Registry = request.app.state.registry
    spoken = answer_type(call)
    query = check_query(ListRequest, request.query_params)
    page = registry.page(query.limit, int(query.after or 0), call.caller)
    document = {
        "programs": [_document(program) for program in page.programs],
        "next": None if page.next is None else str(page.next),
    }
    return reply(call, encode(spoken, document), spoken).response()


@router.get(
    "/v1/programs/{program}",
    operation_id="get_program",
    summary="One registered program",
    response_model=ProgramDetailsAnswer,
    responses=problems_of("not-acceptable", "unknown-program", *STORE),
)
async def get_program(request: Request, program: Annotated[str, Path(examples=[MATYAS])]) -> Response:
    """Return a program by its id or a name: canonical graph, infix text, declared and bound inputs."""
    call: Call = request.state.call
    registry: Registry = request.app.state.registry
    spoken = answer_type(call)
    return reply(call, encode(spoken, _details(registry, program, spoken)), spoken).response()


@router.get(
    "/v1/programs/{program}/dot",
    operation_id="get_program_dot",
    summary="A picture of a program or of its derivative, as DOT text",
    response_class=DotResponse,
    responses=problems_of(*_PICTURED),
    openapi_extra=query_of(PictureRequest),
)
async def get_program_dot(request: Request, program: Annotated[str, Path(examples=[MATYAS])]) -> Response:
    """Return DOT text of the n-th derivative; undeclared inputs count as scalars."""
    return DotResponse(_drawn(request, program))


@router.get(
    "/v1/programs/{program}/dot.svg",
    operation_id="get_program_svg",
    summary="A picture of a program or of its derivative as SVG, if Graphviz is installed",
    response_class=SvgResponse,
    responses=problems_of(*_PICTURED, "not-supported"),
    openapi_extra=query_of(PictureRequest),
)
async def get_program_svg(request: Request, program: Annotated[str, Path(examples=[MATYAS])]) -> Response:
    """Draw the n-th derivative as SVG."""
    settings: Settings = request.app.state.settings
    return SvgResponse(svg(_drawn(request, program), settings.deadline_s))


def _drawn(request: Request, program: str) -> str:
    """Return DOT text of a program, or of its derivative, as the query asks."""
    query = check_query(PictureRequest, request.query_params)
    settings: Settings = request.app.state.settings
    registry: Registry = request.app.state.registry
    graph = registry.graph(program)
    return picture.dot(picture.derivative(graph, query.order, query.wrt, settings.program_limits().cost))


@router.delete(
    "/v1/programs/{program}",
    operation_id="delete_program",
    summary="Delete a registered program",
    status_code=204,
    responses=problems_of("unknown-program", *STORE),
)
async def delete_program(request: Request, program: Annotated[str, Path(examples=[RETIRED])]) -> Response:
    """Delete a program, by its id or a name, with all its names; running calls go on.

    One that others registered too stays theirs.
    """
    call: Call = request.state.call
    registry: Registry = request.app.state.registry
    if registry.delete(program, call.caller) is Deletion.FOR_ALL:
        audit(call.caller.owner, f"delete the program {program} of other keys")
    return Response(status_code=204)


def _document(program: Program | Listed) -> dict[str, Any]:
    return {"id": program.id, "name": program.name, **packing.summary(program.summary)}


def _details(registry: Registry, key: str, media_type: str) -> dict[str, Any]:
    program = registry.program(key)
    graph = registry.graph(program.id)
    return {
        **_document(program),
        "graph": orjson.Fragment(packing.written(graph)) if media_type == JSON else as_document(graph),
        "expr": as_text(graph),
        "bound": {name: {"shape": known.shape, "dtype": known.dtype} for name, known in program.bound.items()},
        "created_at": datetime.fromtimestamp(program.created_at or 0.0, UTC).isoformat(),
    }
