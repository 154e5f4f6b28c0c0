"""/v1/programs: programs that are registered once and then named."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Path, Request
from fastapi.responses import PlainTextResponse, Response

from app.api.calls import checked, receive
from app.api.replies import answer_type, reply
from app.limits import Workers
from app.openapi import CALL, body_of, problems_of, query_of
from app.programs import packing
from app.programs.graphviz import svg
from app.programs.registry import Registry
from app.settings import Settings
from app.stores import Listed, Program
from app.wire.answers import ProgramAnswer, ProgramDetailsAnswer, ProgramsAnswer
from app.wire.codecs import Message, encode
from app.wire.examples import MATYAS, REGISTER, RETIRED
from app.wire.media import JSON
from app.wire.schemas import ListRequest, PictureRequest, RegisterRequest, check_query
from engine.programs import as_document, as_text, picture

router = APIRouter()
T = TypeVar("T")

#: What may keep a request from the store.
_STORED = ("overloaded", "unavailable", "storage-full", "deadline-exceeded", "internal-error")
_PICTURED = ("unknown-program", "invalid-request", "unknown-name", "not-differentiable", "limit-exceeded", *_STORED)


@router.post(
    "/v1/programs",
    operation_id="register_program",
    summary="Register a program",
    status_code=201,
    response_model=ProgramAnswer,
    responses={
        200: {"model": ProgramAnswer, "description": "The program was there already."},
        **problems_of("name-conflict", *CALL),
    },
    openapi_extra=body_of(RegisterRequest, REGISTER),
)
async def register_program(request: Request) -> Response:
    """Keeps a program, so that calls need only name it: 201 where it is new, 200 where it was there already."""
    message = await receive(request)
    settings: Settings = request.app.state.settings
    program, is_new = await _with_registry(request, lambda registry: _register(message, settings, registry))
    headers = {"Location": f"/v1/programs/{program.id}"}
    content = encode(message.answer_type, _document(program))
    return await reply(request, content, message.answer_type, 201 if is_new else 200, headers)


@router.get(
    "/v1/programs",
    operation_id="list_programs",
    summary="All registered programs",
    response_model=ProgramsAnswer,
    responses=problems_of("not-acceptable", "invalid-request", *_STORED),
    openapi_extra=query_of(ListRequest),
)
async def list_programs(request: Request) -> Response:
    """A page of the registered programs, in the order in which they came."""
    spoken = answer_type(request)
    query = check_query(ListRequest, request.query_params)
    page = await _with_registry(request, lambda registry: registry.page(query.limit, int(query.after or 0)))
    document = {
        "programs": [_document(program) for program in page.programs],
        "next": None if page.next is None else str(page.next),
    }
    return await reply(request, encode(spoken, document), spoken)


@router.get(
    "/v1/programs/{program}",
    operation_id="get_program",
    summary="One registered program",
    response_model=ProgramDetailsAnswer,
    responses=problems_of("not-acceptable", "unknown-program", *_STORED),
)
async def get_program(request: Request, program: Annotated[str, Path(examples=[MATYAS])]) -> Response:
    """A program by its id or a name: its canonical graph, its infix text, what it expects and what is bound."""
    spoken = answer_type(request)
    content = await _with_registry(request, lambda registry: encode(spoken, _details(registry, program, spoken)))
    return await reply(request, content, spoken)


@router.get(
    "/v1/programs/{program}/dot",
    operation_id="get_program_dot",
    summary="A picture of a program or of its derivative, as DOT text",
    response_class=PlainTextResponse,
    responses=problems_of(*_PICTURED),
    openapi_extra=query_of(PictureRequest),
)
async def get_program_dot(request: Request, program: Annotated[str, Path(examples=[MATYAS])]) -> Response:
    """DOT text of the n-th derivative; inputs that are not declared count as scalars."""
    text = await _picture(request, program, lambda dot, settings: dot.encode())
    return Response(text, media_type="text/vnd.graphviz; charset=utf-8")


@router.get(
    "/v1/programs/{program}/dot.svg",
    operation_id="get_program_svg",
    summary="The same as SVG, where Graphviz is installed",
    response_class=Response,
    responses=problems_of(*_PICTURED, "not-supported"),
    openapi_extra=query_of(PictureRequest),
)
async def get_program_svg(request: Request, program: Annotated[str, Path(examples=[MATYAS])]) -> Response:
    """A picture of the n-th derivative."""
    picture = await _picture(request, program, lambda dot, settings: svg(dot, settings.deadline_s))
    return Response(picture, media_type="image/svg+xml")


async def _picture(request: Request, program: str, drawn: Callable[[str, Settings], bytes]) -> bytes:
    query = check_query(PictureRequest, request.query_params)
    settings: Settings = request.app.state.settings

    def draw(registry: Registry) -> bytes:
        graph = registry.graph(program)
        return drawn(
            picture.dot(picture.derivative(graph, query.order, query.wrt, settings.program_limits().cost)), settings
        )

    return await _with_registry(request, draw)


@router.delete(
    "/v1/programs/{program}",
    operation_id="delete_program",
    summary="Delete a registered program",
    status_code=204,
    responses=problems_of("unknown-program", *_STORED),
)
async def delete_program(request: Request, program: Annotated[str, Path(examples=[RETIRED])]) -> Response:
    """Deletes a program, by its id or a name, with all its names; calls that run it run on."""
    await _with_registry(request, lambda registry: registry.delete(program))
    return Response(status_code=204)


async def _with_registry(request: Request, work: Callable[[Registry], T]) -> T:
    """What `work` gives, done on a thread: the store may have to wait for its disk."""
    workers: Workers = request.app.state.workers
    registry: Registry = request.app.state.registry
    return await workers.run(lambda: work(registry))


def _register(message: Message, settings: Settings, registry: Registry) -> tuple[Program, bool]:
    request = checked(RegisterRequest, message, settings, registry)
    return registry.register(
        request.source, name=request.name, declared=request.inputs, bound=request.bind, replace=request.replace
    )


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
