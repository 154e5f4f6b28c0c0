"""OpenAPI: request bodies and problems, which the routes read and write themselves, beside what FastAPI finds."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.problems import BY_SLUG, Kind
from app.sessions.commands import COMMANDS
from app.wire import media, schemas
from app.wire.answers import Problem

#: What a request with a program may be answered with where it is not answered.
CALL = tuple(
    "overloaded unavailable storage-full body-too-large unsupported-media-type not-acceptable malformed-body "
    "unknown-program invalid-request syntax-error unknown-op wrong-arity bad-attribute unknown-name cycle "
    "shape-mismatch not-scalar not-differentiable nograd not-supported limit-exceeded deadline-exceeded "
    "internal-error".split()
)
#: The same of a session, whose commands are parts of programs.
SESSION = (
    *(slug for slug in CALL if slug not in ("unknown-program", "cycle")),
    "unknown-session",
    "expired-session",
    "unknown-variable",
)
#: What FastAPI does not find by itself.
_MODELS: tuple[type[BaseModel], ...] = (
    schemas.EvaluateRequest,
    schemas.VjpRequest,
    schemas.JvpRequest,
    schemas.JacobianRequest,
    schemas.HessianRequest,
    schemas.HvpRequest,
    schemas.CheckRequest,
    schemas.InferRequest,
    schemas.RegisterRequest,
    schemas.SessionRequest,
    schemas.PatchSessionRequest,
    schemas.RunRequest,
    schemas.StateRequest,
    *COMMANDS.values(),
    Problem,
)
_FASTAPIS = ("HTTPValidationError", "ValidationError")


def body_of(model: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """The `requestBody` of a route."""
    schema = {"$ref": schemas.SCHEMAS + model.__name__}
    # Examples are JSON: a reader of the other form would send them as they stand here.
    contents = {media.JSON: {"schema": schema, "examples": dict(examples)}, media.MSGPACK: {"schema": schema}}
    return {"requestBody": {"required": True, "content": contents}}


def query_of(model: type[BaseModel]) -> dict[str, Any]:
    """The `parameters` of a route that stand in its query."""
    properties = model.model_json_schema()["properties"]
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": schema.pop("description"),
                "schema": schema,
            }
            for name, schema in properties.items()
        ]
    }


def problems_of(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for what may go wrong."""
    by_status: dict[int | str, list[Kind]] = {}
    for slug in slugs:
        by_status.setdefault(BY_SLUG[slug].status, []).append(BY_SLUG[slug])
    schema = {"$ref": f"{schemas.SCHEMAS}Problem"}
    content = {media_type: {"schema": schema} for media_type in (media.PROBLEM, media.MSGPACK)}
    return {
        status: {"description": ", ".join(kind.slug for kind in kinds), "content": content}
        for status, kinds in by_status.items()
    }


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    _, own = models_json_schema(
        [(model, "validation") for model in _MODELS],
        ref_template=f"{schemas.SCHEMAS}{{model}}",
    )
    for methods in found["paths"].values():
        for route in methods.values():
            # FastAPI's own form of a 422, for parameters of a path: these are strings and cannot be wrong.
            if "HTTPValidationError" in str(route["responses"].get("422")):
                del route["responses"]["422"]
            for response in route["responses"].values():
                content = response.get("content", {})
                if media.JSON in content:
                    content[media.MSGPACK] = content[media.JSON]
    components = found["components"]["schemas"] | own["$defs"]
    components = {name: schema for name, schema in components.items() if name not in _FASTAPIS}
    components |= {
        "Value": schemas.VALUE,
        "ArrayObject": schemas.ARRAY_OBJECT,
        "Aval": schemas.AVAL,
        "Declaration": schemas.DECLARATION,
    }
    found["components"]["schemas"] = components
    resolved: dict[str, Any] = _with_refs(found)
    return resolved


def _with_refs(part: Any) -> Any:
    """A copy in which the placeholders for references are references, and defaults of null are left out."""
    if isinstance(part, list):
        return [_with_refs(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        "$ref" if key == schemas.REF else key: _with_refs(value)
        for key, value in part.items()
        if not (key == "default" and value is None)
    }
