"""Calls of the server: each function builds the request of one endpoint, with the parser of its response.

The methods of the clients are made from these functions, with their signatures and docstrings. A program is given in
one of three ways: `expr`, infix text, which may be the first argument; `graph`, a document; `program`, the id or name
of a registered program. `inputs` are numbers, nested lists or arrays by name; results have floats and NumPy arrays.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pullback.errors import InvalidValueError, UnknownProgramError
from pullback.remote.core import Call
from pullback.remote.results import (
    Check,
    Evaluation,
    Hessian,
    Hvps,
    Inference,
    Jacobian,
    Jvps,
    Program,
    ProgramDetails,
    ProgramPage,
    Run,
    ServerInfo,
    SessionInfo,
    Vjps,
    as_page,
    as_type,
    unpacked,
)

Names = Sequence[str]
Inputs = Mapping[str, Any]
Command = Mapping[str, Any]

_SVG, _DOT, SAFETENSORS = "image/svg+xml", "text/vnd.graphviz", "application/safetensors"


def evaluate(
    expr: str | None = None,
    inputs: Inputs | None = None,
    *,
    graph: Mapping[str, Any] | None = None,
    program: str | None = None,
    outputs: Names | str | None = None,
    backward: bool | Mapping[str, Any] = False,
    nograd: bool = False,
    batched: Names = (),
    train: bool = False,
    seed: int | None = None,
) -> Call[Evaluation]:
    """Evaluate a program and, with `backward`, its gradients.

    outputs: names to return, or "all". backward: True, or options: of, wrt, cotangent, order, create_graph,
    retain_grad. batched: inputs whose leading axis is a batch. train: whether random operations are active; seed: the
    seed from which they draw.

    Raises:
        AutogradError: the program or an input is wrong.
    """
    document = _program(expr, graph, program, inputs, batched, train, seed)
    document |= _given(outputs=outputs, backward=backward or None, nograd=nograd or None)
    return _post("/v1/evaluate", document, as_type(Evaluation))


def vjp(
    expr: str | None = None,
    inputs: Inputs | None = None,
    cotangents: Inputs | None = None,
    *,
    graph: Mapping[str, Any] | None = None,
    program: str | None = None,
    wrt: Names | None = None,
    many: bool = False,
    batched: Names = (),
    train: bool = False,
    seed: int | None = None,
) -> Call[Vjps]:
    """Map cotangents of outputs to cotangents of `wrt`; with `many`, for a leading axis of directions at once."""
    document = _program(expr, graph, program, inputs, batched, train, seed)
    document |= _given(cotangents=cotangents, wrt=wrt, many=many or None)
    return _post("/v1/vjp", document, as_type(Vjps))


def jvp(
    expr: str | None = None,
    inputs: Inputs | None = None,
    tangents: Inputs | None = None,
    *,
    graph: Mapping[str, Any] | None = None,
    program: str | None = None,
    outputs: Names | None = None,
    many: bool = False,
    batched: Names = (),
    train: bool = False,
    seed: int | None = None,
) -> Call[Jvps]:
    """Map tangents of inputs to tangents of outputs; with `many`, for a leading axis of directions at once."""
    document = _program(expr, graph, program, inputs, batched, train, seed)
    document |= _given(tangents=tangents, outputs=outputs, many=many or None)
    return _post("/v1/jvp", document, as_type(Jvps))


def jacobian(
    expr: str | None = None,
    inputs: Inputs | None = None,
    *,
    graph: Mapping[str, Any] | None = None,
    program: str | None = None,
    of: str | None = None,
    wrt: Names | None = None,
    mode: str = "auto",
    batched: Names = (),
    train: bool = False,
    seed: int | None = None,
) -> Call[Jacobian]:
    """Compute all first derivatives; mode: reverse, forward, or auto, which chooses the cheaper one."""
    document = _program(expr, graph, program, inputs, batched, train, seed)
    document |= _given(of=of, wrt=wrt, mode=None if mode == "auto" else mode)
    return _post("/v1/jacobian", document, as_type(Jacobian))


def hessian(
    expr: str | None = None,
    inputs: Inputs | None = None,
    *,
    graph: Mapping[str, Any] | None = None,
    program: str | None = None,
    of: str | None = None,
    wrt: Names | None = None,
    batched: Names = (),
    train: bool = False,
    seed: int | None = None,
) -> Call[Hessian]:
    """Compute all second derivatives of an output with one element, and its gradients."""
    document = _program(expr, graph, program, inputs, batched, train, seed) | _given(of=of, wrt=wrt)
    return _post("/v1/hessian", document, as_type(Hessian))


def hvp(
    expr: str | None = None,
    inputs: Inputs | None = None,
    vectors: Inputs | None = None,
    *,
    graph: Mapping[str, Any] | None = None,
    program: str | None = None,
    of: str | None = None,
    wrt: Names | None = None,
    many: bool = False,
    batched: Names = (),
    train: bool = False,
    seed: int | None = None,
) -> Call[Hvps]:
    """Compute products of the Hessian of an output with one element and vectors, without forming the Hessian."""
    document = _program(expr, graph, program, inputs, batched, train, seed)
    document |= _given(vectors=vectors, of=of, wrt=wrt, many=many or None)
    return _post("/v1/hvp", document, as_type(Hvps))


def check(
    expr: str | None = None,
    inputs: Inputs | None = None,
    *,
    graph: Mapping[str, Any] | None = None,
    program: str | None = None,
    wrt: Names | None = None,
    eps: float | None = None,
    order: int = 1,
    batched: Names = (),
    train: bool = False,
    seed: int | None = None,
) -> Call[Check]:
    """Compare gradients with central differences; with order 2, their derivatives too."""
    document = _program(expr, graph, program, inputs, batched, train, seed)
    document |= _given(wrt=wrt, eps=eps, order=None if order == 1 else order)
    return _post("/v1/check", document, as_type(Check))


def infer(
    expr: str | None = None,
    inputs: Inputs | None = None,
    *,
    graph: Mapping[str, Any] | None = None,
    program: str | None = None,
    batched: Names = (),
    train: bool = False,
    seed: int | None = None,
) -> Call[Inference]:
    """Infer shapes, dtypes and cost of a program without running it; an input is a value, or {"shape", "dtype"}."""
    document = _program(expr, graph, program, inputs, batched, train, seed)
    return _post("/v1/infer", document, as_type(Inference), is_encoded=False)


def register(
    expr: str | None = None,
    *,
    graph: Mapping[str, Any] | None = None,
    program: str | None = None,
    name: str | None = None,
    inputs: Mapping[str, Mapping[str, Any]] | None = None,
    bind: Inputs | None = None,
    replace: bool = False,
) -> Call[Program]:
    """Register a program on the server, to be called by its id or its name.

    inputs: {"shape", "dtype"} by name, for any of the inputs. bind: values of inputs that never change; they are sent
    once. replace: take the name from the program that has it.

    Raises:
        NameConflictError: another program has the name.
    """
    document = _source(expr, graph, program) | _given(name=name, inputs=inputs, bind=bind, replace=replace or None)
    return _post("/v1/programs", document, as_type(Program), is_encoded=False)


def list_programs(after: str | None = None, *, limit: int = 20) -> Call[ProgramPage]:
    """List a page of registered programs; `after`: the `next` of the previous page."""
    return Call("GET", "/v1/programs", as_page, query={"after": after, "limit": limit})


def get_program(program: str) -> Call[ProgramDetails]:
    """Get a registered program with all details."""
    return Call("GET", f"/v1/programs/{_part(program)}", as_type(ProgramDetails))


def delete_program(program: str) -> Call[None]:
    """Delete a registered program, if it exists."""
    return Call("DELETE", f"/v1/programs/{_part(program)}", _nothing, forgives=UnknownProgramError)


def program_dot(program: str, *, order: int = 0, wrt: str | None = None) -> Call[str]:
    """Draw a program, or its derivative, as DOT text."""
    return Call(
        "GET", f"/v1/programs/{_part(program)}/dot", bytes.decode, query={"order": order, "wrt": wrt}, accept=_DOT
    )


def program_svg(program: str, *, order: int = 0, wrt: str | None = None) -> Call[str]:
    """Draw a program, or its derivative, as SVG, if the server has Graphviz."""
    return Call(
        "GET", f"/v1/programs/{_part(program)}/dot.svg", bytes.decode, query={"order": order, "wrt": wrt}, accept=_SVG
    )


def info() -> Call[ServerInfo]:
    """Get name, version and limits of the server."""
    return Call("GET", "/v1", as_type(ServerInfo))


def ops() -> Call[dict[str, Any]]:
    """Get documents of all operations, and of the kinds of layers, models, optimizers and hooks."""
    return Call("GET", "/v1/ops", _same)


def op(name: str) -> Call[dict[str, Any]]:
    """Get the document of an operation, by its name or an alias."""
    return Call("GET", f"/v1/ops/{_part(name)}", _same)


def health() -> Call[dict[str, Any]]:
    """Check that the server is alive."""
    return Call("GET", "/healthz", _same)


def ready() -> Call[dict[str, Any]]:
    """Check that the server accepts requests.

    Raises:
        UnavailableError: it does not; the message has the reason.
    """
    return Call("GET", "/readyz", _same)


def create_session(
    *, ttl_s: float | None = None, seed: int | None = None, name: str | None = None, key: str | None = None
) -> Call[SessionInfo]:
    """Create a session.

    ttl_s: seconds without use after which the session expires. seed: seed of its random numbers. key: idempotency key
    of the call; by default a random one.
    """
    headers = {"Idempotency-Key": key or secrets.token_hex(16)}
    document = _given(ttl_s=None if ttl_s is None else float(ttl_s), seed=seed, name=name)
    return Call("POST", "/v1/sessions", as_type(SessionInfo), document, headers=headers)


def get_session(session: str) -> Call[SessionInfo]:
    """Get the flags, the number and the expiry of a session."""
    return Call("GET", _of(session), as_type(SessionInfo))


def delete_session(session: str) -> Call[None]:
    """Delete a session, if it exists."""
    return Call("DELETE", _of(session), _nothing)


def change_session(
    session: str,
    seq: int,
    *,
    nograd: bool | None = None,
    train: bool | None = None,
    ttl_s: float | None = None,
) -> Call[None]:
    """Change the flags and the expiry of a session."""
    document = _given(seq=seq, nograd=nograd, train=train, ttl_s=None if ttl_s is None else float(ttl_s))
    return Call("PATCH", _of(session), _nothing, document)


def run(session: str, seq: int, commands: Sequence[Command], fetch: Sequence[Any] = ()) -> Call[Run]:
    """Run commands, all of them or none; fetch: ids, or {"id", "what"}, to return after the run."""
    document = {"seq": seq, "commands": commands, "fetch": fetch}
    return _post(f"{_of(session)}/run", document, as_type(Run))


def variables(session: str) -> Call[dict[str, Any]]:
    """List the objects of a session: `variables` with id, shape, dtype, creator and generation, and `others`."""
    return Call("GET", f"{_of(session)}/variables", _same)


def session_dot(session: str, of: str, *, verbose: bool = False) -> Call[str]:
    """Draw the graph that computed a variable, as DOT text."""
    query = {"of": of, "verbose": str(verbose).lower()}
    return Call("GET", f"{_of(session)}/dot", bytes.decode, query=query, accept=_DOT)


def session_svg(session: str, of: str, *, verbose: bool = False) -> Call[str]:
    """Draw the graph that computed a variable, as SVG, if the server has Graphviz."""
    query = {"of": of, "verbose": str(verbose).lower()}
    return Call("GET", f"{_of(session)}/dot.svg", bytes.decode, query=query, accept=_SVG)


def get_state(session: str, id: str) -> Call[bytes]:
    """Get the state of a layer, a model or an optimizer as a safetensors file."""
    return Call("GET", f"{_of(session)}/state/{_part(id)}", bytes, accept=SAFETENSORS)


def put_state(session: str, seq: int, id: str, file: bytes) -> Call[None]:
    """Replace the state of a layer, a model or an optimizer by that of a safetensors file."""
    path = f"{_of(session)}/state/{_part(id)}"
    return Call("PUT", path, _nothing, query={"seq": seq}, content=file, media_type=SAFETENSORS)


def _post(path: str, document: Mapping[str, Any], parse: Any, *, is_encoded: bool = True) -> Call[Any]:
    return Call("POST", path, parse, document, is_encoded)


def _program(
    expr: str | None,
    graph: Mapping[str, Any] | None,
    program: str | None,
    inputs: Inputs | None,
    batched: Names,
    train: bool,
    seed: int | None,
) -> dict[str, Any]:
    return _source(expr, graph, program) | _given(
        inputs=inputs, batched=batched or None, train=train or None, seed=seed
    )


def _source(expr: str | None, graph: Mapping[str, Any] | None, program: str | None) -> dict[str, Any]:
    return _given(expr=expr, graph=graph, program=program)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _of(session: str) -> str:
    return f"/v1/sessions/{_part(session)}"


def _part(text: str) -> str:
    """Quote a name or an id as a segment of a path.

    Raises:
        InvalidValueError: the text would change the path.
    """
    if text in ("", ".", ".."):
        raise InvalidValueError(f"{text!r} is no name or id")
    return quote(text, safe="")


def _same(document: Any) -> Any:
    return unpacked(document)


def _nothing(document: Any) -> None:
    return None
