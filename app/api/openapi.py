"""OpenAPI: FastAPI's document, with the request bodies and problems that the routes read and write themselves."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.problem_table import KINDS, Where, slugs
from app.keys.scopes import Access, Scope, needed
from app.sessions.commands import COMMANDS, SINGLE
from app.wire import media, schemas
from app.wire.answers import Problem

#: Problems of a request with a program, of a session, and of one that only asks the store; as `problems_of` takes them.
CALL, SESSION, STORE = slugs(Where.CALL), slugs(Where.SESSION), slugs(Where.STORE)
#: Models that FastAPI does not find by itself.
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
    *SINGLE.values(),
    Problem,
)
#: Name of the way to show who one is.
_BEARER = "key"
_FASTAPIS = ("HTTPValidationError", "ValidationError")


def body_of(
    model: type[BaseModel], examples: Mapping[str, Any], other: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the `requestBody` of a route; `other` is content that is no document."""
    schema = {"$ref": schemas.SCHEMAS + model.__name__}
    # Examples are JSON; under MessagePack a client would send their text.
    contents = {media.JSON: {"schema": schema, "examples": dict(examples)}, media.MSGPACK: {"schema": schema}}
    return {"requestBody": {"required": True, "content": contents | dict(other or {})}}


def file_of(media_type: str) -> dict[str, Any]:
    """Return the `content` of a file."""
    return {media_type: {"schema": {"type": "string", "format": "binary"}}}


def header_of(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `parameters` of a route that reads one header."""
    about = {"required": False, "description": description, "schema": dict(schema)}
    return {"parameters": [{"name": name, "in": "header", **about}]}


def query_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the query `parameters` of a route."""
    query = model.model_json_schema()
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name in query.get("required", ()),
                "description": schema.pop("description"),
                "schema": schema,
            }
            for name, schema in query["properties"].items()
        ]
    }


def problems_of(*given: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route for its problems, in the order of the table."""
    by_status: dict[int | str, list[str]] = {}
    for kind in KINDS:
        if kind.slug in given:
            by_status.setdefault(kind.status, []).append(kind.slug)
    schema = {"$ref": f"{schemas.SCHEMAS}Problem"}
    content = {media_type: {"schema": schema} for media_type in (media.PROBLEM, media.MSGPACK)}
    return {status: {"description": ", ".join(found), "content": content} for status, found in by_status.items()}


def document(app: FastAPI) -> dict[str, Any]:
    """Build the whole document."""
    found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    _, own = models_json_schema(
        [(model, "validation") for model in _MODELS],
        ref_template=f"{schemas.SCHEMAS}{{model}}",
    )
    for path, methods in found["paths"].items():
        for route in methods.values():
            _secure(route, needed(path))
            # FastAPI's own 422, for parameters of a path, which are strings and cannot be wrong.
            if "HTTPValidationError" in str(route["responses"].get("422")):
                del route["responses"]["422"]
            for response in route["responses"].values():
                content = response.get("content", {})
                if media.JSON in content:
                    content[media.MSGPACK] = content[media.JSON]
    components = found["components"]["schemas"] | own["$defs"]
    components = {name: schema for name, schema in components.items() if name not in _FASTAPIS}
    # The models of requests know no commands.
    components["RunRequest"]["properties"]["commands"]["items"] = _any_command()
    components |= {
        "Value": schemas.VALUE,
        "ArrayObject": schemas.ARRAY_OBJECT,
        "Aval": schemas.AVAL,
        "Declaration": schemas.DECLARATION,
    }
    found["components"]["schemas"] = components
    about = "A key of the server, where it has any: `pullback keys create NAME` makes one."
    found["components"]["securitySchemes"] = {_BEARER: {"type": "http", "scheme": "bearer", "description": about}}
    resolved: dict[str, Any] = _with_refs(found)
    return resolved


def _any_command() -> dict[str, Any]:
    """Return the schema of a command: one of all, as its `do` says."""
    found = {do: schemas.SCHEMAS + command.__name__ for do, command in COMMANDS.items()}
    return {
        "oneOf": [{"$ref": reference} for reference in found.values()],
        "discriminator": {"propertyName": "do", "mapping": found},
    }


def _secure(route: dict[str, Any], scope: Scope | Access) -> None:
    """Say of a route that it needs a key, with which scope, and what it answers without."""
    if scope is Access.OPEN:
        return
    wanted = Scope.ADMIN if scope is Access.LOCAL else scope
    # OpenAPI 3.1 takes names of roles for schemes other than OAuth. A server that has no keys asks for none.
    route["security"] = [{_BEARER: [] if scope is Access.KEY else [str(wanted)]}, {}]
    for status, response in problems_of("unauthorized", "forbidden", "rate-limited").items():
        route["responses"].setdefault(str(status), response)


def _with_refs(part: Any) -> Any:
    """Copy a part of the document; placeholders become references, defaults of null are left out."""
    if isinstance(part, list):
        return [_with_refs(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        "$ref" if key == schemas.REF else key: _with_refs(value)
        for key, value in part.items()
        if not (key == "default" and value is None)
    }
