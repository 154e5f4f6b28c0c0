"""/v1/sessions: variables that live from request to request, commands on them, and their values."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.openapi import SESSION, body_of, file_of, header_of, problems_of, query_of
from app.api.pictures import DotResponse, SvgResponse
from app.audit import audit
from app.handles import handle_of
from app.http.messages import Call
from app.http.negotiation import answer_type, received, reply, reply_with
from app.programs.graphviz import svg
from app.sessions import runs
from app.sessions.commands import SINGLE, Load
from app.sessions.manager import Sessions
from app.sessions.session import Module, Session, Steps
from app.settings import Settings
from app.stores.sessions import Head
from app.wire import examples, media
from app.wire.answers import (
    ChangedAnswer,
    CommandAnswer,
    CommandsAnswer,
    RunAnswer,
    SeqAnswer,
    SessionAnswer,
    StateAnswer,
    VariableAnswer,
    VariablesAnswer,
)
from app.wire.codecs import Message, encode
from app.wire.schemas import (
    DotRequest,
    PatchSessionRequest,
    PutStateRequest,
    RunRequest,
    SessionRequest,
    StateRequest,
    check_body,
    check_query,
)
from app.wire.values import encode_all
from engine import dot
from engine.core import InvalidValueError
from engine.nn import dumps

T = TypeVar("T")

router = APIRouter()

PATH = "/v1/sessions/{session}"
#: Letters of the longest Idempotency-Key.
_LONGEST_KEY = 255


@router.post(
    "/v1/sessions",
    operation_id="create_session",
    summary="Create a session",
    status_code=201,
    response_model=SessionAnswer,
    responses={
        200: {"model": SessionAnswer, "description": "The session was created before with this Idempotency-Key."},
        **problems_of("rate-limited", *SESSION),
    },
    openapi_extra=body_of(SessionRequest, examples.SESSION)
    | header_of(
        "Idempotency-Key",
        "Repeated with the same key, the request returns the session that it created.",
        {"type": "string", "minLength": 1, "maxLength": _LONGEST_KEY},
    ),
)
async def create_session(request: Request) -> Response:
    """Create a session. Its id is a secret: whoever knows it can use the session."""
    call: Call = request.state.call
    settings: Settings = request.app.state.settings
    sessions: Sessions = request.app.state.sessions
    message = received(call, settings.max_body_bytes)
    asked = check_body(SessionRequest, message.document(**settings.document_limits()) if message.body else {})
    _check_life(asked.ttl_s, sessions)
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= _LONGEST_KEY:
        raise InvalidValueError(f"Idempotency-Key has {len(key)} letters; expected 1 to {_LONGEST_KEY}")
    made = sessions.create(
        call.client, ttl_s=asked.ttl_s, seed=asked.seed, name=asked.name, key=key, caller=call.caller
    )
    see = partial(_described, made.id)
    # However long it took to store a new one: it is shown as it was made.
    document = see(made.session, made.head) if made.is_new else _seen(sessions, call, made.id, see)
    content = encode(message.answer_type, document)
    headers = {"Location": f"/v1/sessions/{made.id}"}
    return reply(call, content, message.answer_type, 201 if made.is_new else 200, headers).response()


@router.get(
    PATH,
    operation_id="get_session",
    summary="One session",
    response_model=SessionAnswer,
    responses=problems_of(*SESSION),
)
async def get_session(request: Request, session: str) -> Response:
    """Return the state of a session; every call postpones its expiry, this one too."""
    return _looked(request, session, partial(_described, session))


@router.delete(PATH, operation_id="delete_session", summary="Delete a session", status_code=204)
async def delete_session(request: Request, session: str) -> Response:
    """Delete a session, if there is one."""
    call: Call = request.state.call
    sessions: Sessions = request.app.state.sessions
    owner = sessions.delete(session, call.caller)
    if owner is not None and not call.caller.owns(owner):
        audit(call.caller.owner, f"delete a session of the key {owner}")
    return Response(status_code=204)


@router.patch(
    PATH,
    operation_id="change_session",
    summary="Change the flags and the expiry of a session",
    response_model=ChangedAnswer,
    responses=problems_of("sequence-conflict", *SESSION),
    openapi_extra=body_of(PatchSessionRequest, examples.PATCH_SESSION),
)
async def change_session(request: Request, session: str) -> Response:
    """Set flags from here on, and the time until the unused session expires."""
    sessions: Sessions = request.app.state.sessions
    life: list[float] = []

    def work(message: Message, document: Any, found: Session, seq: int) -> tuple[int, Any]:
        asked = check_body(PatchSessionRequest, document)
        _check_life(asked.ttl_s, sessions)
        if asked.ttl_s is not None:
            life.append(asked.ttl_s)
        found.nograd = found.nograd if asked.nograd is None else asked.nograd
        found.train = found.train if asked.train is None else asked.train
        return 200, {"seq": seq, "nograd": found.nograd, "train": found.train}

    return _change(request, session, work, lambda: life[-1] if life else None)


@router.post(
    f"{PATH}/run",
    operation_id="run_commands",
    summary="Run commands, all of them or none",
    response_model=RunAnswer,
    responses=problems_of("sequence-conflict", "name-conflict", "no-gradient", *SESSION),
    openapi_extra=body_of(RunRequest, examples.RUN),
)
async def run_commands(request: Request, session: str) -> Response:
    """Run commands in order; if one fails, none has happened, and the problem names it."""

    def work(message: Message, document: Any, found: Session, seq: int) -> tuple[int, Any]:
        asked = check_body(RunRequest, document, message.answer_type)
        made = runs.execute(found, runs.read(asked.commands))
        fetched = runs.fetch(found, asked.fetch, asked.encoding, message.answer_type)
        return 200, {"seq": seq, "made": made, "fetched": fetched}

    return _change(request, session, work)


def _single(path: str, do: str, status: int, shown: Callable[[Any, Sequence[str]], Sequence[str]]) -> None:
    """Add a route for one command; `shown` returns the ids in its response."""
    model = SINGLE[do]

    async def call(request: Request, session: str) -> Response:
        def work(message: Message, document: Any, found: Session, seq: int) -> tuple[int, Any]:
            asked: Any = check_body(model, document, message.answer_type)
            made = runs.execute_one(found, asked)
            ids = shown(asked, made)
            fetched = runs.fetch(found, ids, asked.encoding, message.answer_type)
            variables = [{"id": name, **fetched[name]} for name in ids]
            return status, {"seq": seq, **(variables[0] if len(variables) == 1 else {"variables": variables})}

        return _change(request, session, work)

    call.__doc__ = f"The command {do} alone; fields as there, with seq and encoding. {model.__doc__}"
    router.add_api_route(
        f"{PATH}/{path}",
        call,
        methods=["POST"],
        status_code=status,
        operation_id=f"{do}_in_session",
        summary=f"The command {do} alone",
        response_model=CommandAnswer | CommandsAnswer,
        responses=problems_of("sequence-conflict", "name-conflict", *SESSION),
        openapi_extra=body_of(model, examples.SINGLE[do]),
    )


_single("variables", "variable", 201, lambda read, made: [read.id or made[0]])
_single("apply", "apply", 201, lambda read, made: read.out or made)
_single("backward", "backward", 200, lambda read, made: [read.of])
_single("cleargrad", "cleargrad", 200, lambda read, made: [])


@router.get(
    f"{PATH}/variables",
    operation_id="list_variables",
    summary="All variables of a session",
    response_model=VariablesAnswer,
    responses=problems_of(*SESSION),
)
async def list_variables(request: Request, session: str) -> Response:
    """List ids, shapes and dtypes of all variables, and the session's layers, models and optimizers."""
    aspects = ("shape", "dtype", "creator", "generation")

    def see(found: Session, head: Head) -> Any:
        shown = [
            {"id": name, "name": held.name, **runs.show(held, aspects, "nested", "")}
            for name, held in found.variables().items()
        ]
        others = [
            {"id": name, "kind": held.kind} for name, held in found.ids.items() if isinstance(held, Module | Steps)
        ]
        return {"variables": shown, "others": others}

    return _looked(request, session, see)


@router.get(
    f"{PATH}/variables/{{variable}}",
    operation_id="get_variable",
    summary="One variable of a session",
    response_model=VariableAnswer,
    responses=problems_of("unknown-variable", *SESSION),
)
async def get_variable(request: Request, session: str, variable: str) -> Response:
    """Return a variable's value and gradient, or the state of a layer, a model or an optimizer."""
    spoken = answer_type(request.state.call)

    def see(found: Session, head: Head) -> Any:
        return {"id": variable} | runs.show(found.find(variable, ("variable",)), runs.ASPECTS, "nested", spoken)

    return _looked(request, session, see)


@router.get(
    f"{PATH}/dot",
    operation_id="get_session_dot",
    summary="A picture of a variable's tape, as DOT text",
    response_class=DotResponse,
    responses=problems_of("unknown-variable", *SESSION),
    openapi_extra=query_of(DotRequest),
)
async def get_session_dot(request: Request, session: str) -> Response:
    """Return DOT text of a variable's tape."""
    return DotResponse(_tape(request, session))


@router.get(
    f"{PATH}/dot.svg",
    operation_id="get_session_svg",
    summary="A picture of a variable's tape as SVG, if Graphviz is installed",
    response_class=SvgResponse,
    responses=problems_of("unknown-variable", *SESSION),
    openapi_extra=query_of(DotRequest),
)
async def get_session_svg(request: Request, session: str) -> Response:
    """Draw a variable's tape as SVG."""
    settings: Settings = request.app.state.settings
    return SvgResponse(svg(_tape(request, session), settings.deadline_s))


def _tape(request: Request, session: str) -> str:
    def see(found: Session, head: Head) -> str:
        query = check_query(DotRequest, request.query_params)
        names = {id(held): name for name, held in found.variables().items()}
        return dot(found.variable(query.of, ("of",)), query.verbose, names)

    return _seen(request.app.state.sessions, request.state.call, session, see)


@router.get(
    f"{PATH}/state/{{variable}}",
    operation_id="get_state",
    summary="The state of a layer, a model or an optimizer, as values or as a safetensors file",
    response_model=StateAnswer,
    responses={200: {"content": file_of(media.SAFETENSORS)}, **problems_of("unknown-variable", *SESSION)},
)
async def get_state(request: Request, session: str, variable: str) -> Response:
    """Return weights by name; with Accept: application/safetensors as a file of that format."""
    call: Call = request.state.call
    sessions: Sessions = request.app.state.sessions
    spoken = answer_type(call, spoken=(*media.SPOKEN, media.SAFETENSORS))

    def see(found: Session, head: Head) -> bytes:
        state = runs.state_of(found, variable)
        if spoken == media.SAFETENSORS:
            return dumps(state)
        return encode(spoken, {"id": variable, "state": encode_all(state, "nested", spoken)})

    return reply(call, _seen(sessions, call, session, see), spoken).response()


@router.put(
    f"{PATH}/state/{{variable}}",
    operation_id="put_state",
    summary="Load the state of a layer, a model or an optimizer, from values or a safetensors file",
    response_model=SeqAnswer,
    responses=problems_of("sequence-conflict", *SESSION),
    openapi_extra=body_of(StateRequest, examples.STATE, file_of(media.SAFETENSORS)) | query_of(PutStateRequest),
)
async def put_state(request: Request, session: str, variable: str) -> Response:
    """Load a whole state or nothing; `seq` may stand in the query, since a safetensors file has no place for it."""

    def work(message: Message, document: Any, found: Session, seq: int) -> tuple[int, Any]:
        if message.media_type == media.SAFETENSORS:
            runs.load_file(found, variable, message.body)
        else:
            runs.execute_one(found, Load(do="load", id=variable, state=check_body(StateRequest, document).state))
        return 200, {"seq": seq}

    return _change(request, session, work, spoken=(*media.SPOKEN, media.SAFETENSORS))


def _change(
    request: Request,
    session: str,
    work: Callable[[Message, Any, Session, int], tuple[int, Any]],
    ttl_s: Callable[[], float | None] = lambda: None,
    spoken: Sequence[str] = media.SPOKEN,
) -> Response:
    """Respond to a call that changes a session."""
    call: Call = request.state.call
    settings: Settings = request.app.state.settings
    sessions: Sessions = request.app.state.sessions
    sessions.check_owner(session, call.caller)
    message = received(call, settings.max_body_bytes, spoken)
    identity = f"{call.method} {call.path}\0{message.media_type}\0".encode() + message.body
    in_query = check_query(PutStateRequest, request.query_params).seq if media.SAFETENSORS in spoken else None
    is_file = message.media_type == media.SAFETENSORS
    document: Any = {} if is_file else message.document(**settings.document_limits())

    def worked(found: Session, seq: int) -> tuple[int, str, bytes]:
        status, answer = work(message, document, found, seq)
        return status, message.answer_type, encode(message.answer_type, answer)

    seq = document.get("seq") if isinstance(document, dict) else None
    if seq is None:
        seq = in_query
    elif in_query not in (None, seq):
        raise InvalidValueError(f"seq is {in_query} in the query and another in the body; expected one", ("seq",))
    done = sessions.change(session, identity, seq, worked, ttl_s, call.caller)
    headers = {"Idempotent-Replay": "true"} if done.is_replay else {}
    answered = done.answered
    return reply(call, answered.content, answered.media_type, answered.status, headers).response()


def _looked(request: Request, session: str, see: Callable[[Session, Head], Any]) -> Response:
    """Run `work` after earlier calls on the same session and return its result."""
    call: Call = request.state.call
    sessions: Sessions = request.app.state.sessions
    answer_type(call)
    return reply_with(call, _seen(sessions, call, session, see)).response()


def _seen(sessions: Sessions, call: Call, session: str, see: Callable[[Session, Head], T]) -> T:
    """Return the result of `see` on a session; it is recorded of an admin who looks at what another key owns."""

    def seen(found: Session, head: Head) -> T:
        if not call.caller.owns(head.owner):
            audit(call.caller.owner, f"look at the session {handle_of(head.digest)} of the key {head.owner}")
        return see(found, head)

    return sessions.look(session, seen, call.caller)


def _described(session_id: str, session: Session, head: Head) -> dict[str, Any]:
    return {
        "id": session_id,
        "name": head.name,
        "seq": head.seq,
        "seed": session.seed,
        "nograd": session.nograd,
        "train": session.train,
        "created_at": _time(head.created_at),
        "expires_at": _time(head.expires_at),
        "ttl_s": head.ttl_s,
        "bytes": head.bytes,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _check_life(ttl_s: float | None, sessions: Sessions) -> None:
    if ttl_s is not None and ttl_s > sessions.max_ttl_s:
        msg = f"ttl_s is {ttl_s:g}; at most {sessions.max_ttl_s:g} (setting PULLBACK_MAX_SESSION_TTL_S)"
        raise InvalidValueError(msg, ("ttl_s",))
