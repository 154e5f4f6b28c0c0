"""POST /v1/vjp, jvp, jacobian, hessian, hvp and check: derivatives of programs in every form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from app import programs
from app.api.openapi import CALL, body_of, problems_of
from app.http.endpoints import Endpoint, respond
from app.programs.registry import Registry
from app.settings import Settings
from app.wire import answers, examples, schemas
from app.wire.values import encode, encode_all
from engine.programs import check, derivatives
from engine.transforms import Difference, Uncertain

router = APIRouter()


def _document(result: dict[str, Any], _: str, encoding: str, media_type: str) -> dict[str, Any]:
    return encode_all(result, encoding, media_type)


def _finding(found: Any, _: str, encoding: str, media_type: str) -> dict[str, Any]:
    return {
        "values": encode_all(found.values, encoding, media_type),
        "ok": found.ok,
        "max_error": encode(found.max_error, "nested", media_type),
        "worst": None if found.worst is None else _difference(found.worst, media_type),
        "uncertain": [
            _difference(place, media_type) | {"rounding": encode(place.rounding, "nested", media_type)}
            for place in found.uncertain
        ],
    }


def _difference(place: Difference | Uncertain, media_type: str) -> dict[str, Any]:
    return {
        "order": place.order,
        "input": place.input,
        "index": place.index,
        "analytic": encode(place.analytic, "nested", media_type),
        "numeric": encode(place.numeric, "nested", media_type),
    }


@dataclass(frozen=True, slots=True)
class _Kind:
    """One endpoint.

    compute: checks and prepares a request.
    directions: the field of its request with values by name, if it has one.
    options: further fields that `compute` takes.
    document: builds the answer from a result, the program's id, an encoding and a media type.
    is_repeated: see `Endpoint`.
    """

    name: str
    summary: str
    doc: str
    compute: Callable[..., Any]
    request: type[schemas.ProgramRequest]
    answer: type[BaseModel]
    examples: Mapping[str, Any]
    directions: str = ""
    options: tuple[str, ...] = ()
    document: Callable[[Any, str, str, str], dict[str, Any]] = _document
    is_repeated: bool = True


KINDS = (
    _Kind(
        "vjp",
        "Cotangents times the Jacobian",
        "Carry cotangents of outputs back to inputs, many at once with `many`.",
        derivatives.vjp,
        schemas.VjpRequest,
        answers.VjpAnswer,
        examples.VJP,
        "cotangents",
        ("wrt", "many"),
    ),
    _Kind(
        "jvp",
        "The Jacobian times tangents",
        "Carry tangents of inputs forward to outputs, many at once with `many`.",
        derivatives.jvp,
        schemas.JvpRequest,
        answers.JvpAnswer,
        examples.JVP,
        "tangents",
        ("outputs", "many"),
    ),
    _Kind(
        "jacobian",
        "All first derivatives",
        "Compute the Jacobian of outputs with respect to inputs, in the cheaper mode.",
        derivatives.jacobian,
        schemas.JacobianRequest,
        answers.JacobianAnswer,
        examples.JACOBIAN,
        options=("of", "wrt", "mode"),
    ),
    _Kind(
        "hessian",
        "All second derivatives",
        "Compute the Hessian of one element, and its gradient.",
        derivatives.hessian,
        schemas.HessianRequest,
        answers.HessianAnswer,
        examples.HESSIAN,
        options=("of", "wrt"),
    ),
    _Kind(
        "hvp",
        "The Hessian times vectors",
        "Multiply vectors with the Hessian of one element, which is never formed; return its gradient too.",
        derivatives.hvp,
        schemas.HvpRequest,
        answers.HvpAnswer,
        examples.HVP,
        "vectors",
        ("of", "wrt", "many"),
    ),
    _Kind(
        "check",
        "Gradients beside central differences",
        "Compare gradients with central differences, in float64. Differences that cancel confirm nothing: "
        "`ok` is false then, and `uncertain` lists their positions.",
        check,
        schemas.CheckRequest,
        answers.CheckAnswer,
        examples.CHECK,
        options=("wrt", "eps", "order"),
        document=_finding,
        # It compares runs of its own: nothing of it is run again on other values.
        is_repeated=False,
    ),
)


def _prepare(kind: _Kind, request: Any, settings: Settings, registry: Registry) -> Any:
    return programs.differentiate(
        kind.compute,
        request.source,
        request.inputs,
        directions={kind.directions: getattr(request, kind.directions)} if kind.directions else {},
        options={name: getattr(request, name) for name in kind.options},
        batched=request.batched,
        train=request.train,
        seed=request.seed,
        limits=settings.program_limits(),
        find=registry.graph,
        plans=registry.plans,
    )


def _endpoint(kind: _Kind) -> Endpoint:
    prepare = partial(_prepare, kind)
    path = f"/v1/{kind.name}"
    return Endpoint(path, kind.directions, kind.request, prepare, kind.document, is_repeated=kind.is_repeated)


def _add(kind: _Kind, endpoint: Endpoint) -> None:
    async def derivative(request: Request) -> Response:
        return respond(request, endpoint)

    derivative.__doc__ = kind.doc
    router.add_api_route(
        endpoint.path,
        derivative,
        methods=["POST"],
        operation_id=kind.name,
        name=kind.name,
        summary=kind.summary,
        response_model=kind.answer,
        responses=problems_of(*CALL),
        openapi_extra=body_of(kind.request, kind.examples),
    )


ENDPOINTS = tuple(map(_endpoint, KINDS))
for _kind, _its_endpoint in zip(KINDS, ENDPOINTS, strict=True):
    _add(_kind, _its_endpoint)
