"""State of the server and its limits: /v1, /healthz and /readyz."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import __version__
from app.api.openapi import problems_of
from app.api.problems import problem
from app.http.negotiation import reply_with
from app.readiness import Readiness
from app.settings import Settings
from app.wire import media
from app.wire.answers import HealthAnswer, RootAnswer
from app.wire.codecs import encode

CONTRACT = 1

router = APIRouter()


@router.get(
    "/v1",
    operation_id="get_root",
    summary="Name, version and limits",
    response_model=RootAnswer,
    responses=problems_of("not-acceptable", "internal-error"),
)
async def get_root(request: Request) -> Response:
    """Return the name, version and limits of the server."""
    settings: Settings = request.app.state.settings
    document = {
        "name": "pullback",
        "version": __version__,
        "contract": CONTRACT,
        "limits": settings.public_limits(),
    }
    return reply_with(request.state.call, document).response()


@router.get("/healthz", operation_id="get_health", summary="Alive?", response_model=HealthAnswer)
async def get_health(request: Request) -> Response:
    """Answers as long as the process does."""
    return _status(request, "alive")


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Ready for requests?",
    response_model=HealthAnswer,
    responses=problems_of("unavailable"),
)
async def get_readiness(request: Request) -> Response:
    """Answers 503 while there is no worker or the store does not work, and from when on the server is told to stop."""
    if request.app.state.draining:
        return problem(request.state.call, "unavailable", "the server is stopping").response()
    readiness: Readiness = request.app.state.readiness
    if fault := await readiness.fault():
        return problem(request.state.call, "unavailable", fault).response()
    return _status(request, "ready")


def _status(request: Request, status: str) -> Response:
    """Build the answer to a probe, which gets one whatever it accepts."""
    media_type = media.MSGPACK if media.takes_msgpack_alone(request.state.call.value(b"accept")) else media.JSON
    return Response(encode(media_type, {"status": status}), media_type=media_type)
