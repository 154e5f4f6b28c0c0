"""Results of calls: plain data, with floats and NumPy arrays as values."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from pullback.core.values import DTYPES, Value, canonical

T = TypeVar("T")
Values = dict[str, Value]


class MissingResults(dict[str, Any]):
    """Empty mapping in place of results that a call did not request; a lookup raises an error with the option to use.

    >>> MissingResults("gradient", "backward=True")["x"]
    Traceback (most recent call last):
    ...
    KeyError: "there is no gradient of 'x': ask for it by evaluate(..., backward=True)"
    """

    def __init__(self, what: str, option: str) -> None:
        super().__init__()
        self._what, self._option = what, option

    def __missing__(self, name: str) -> Any:
        raise KeyError(f"there is no {self._what} of {name!r}: ask for it by evaluate(..., {self._option})")


@dataclass(frozen=True)
class Evaluation:
    """Values of a program, and gradients if the call requested them.

    values: by output. grads: by name of `wrt`. higher: with an order above 1, all derivatives from the first on, by
    name of `wrt`. node_grads: with `retain_grad`, by node. program: the id of the program, which is not stored by this
    call. grad_program: with `create_graph`, the id of the program of the gradients, which is stored.

    Raises:
        KeyError: from `grads[name]`, `higher[name]` and `node_grads[name]`, if the call did not request them.
    """

    values: Values
    program: str
    grads: Values = field(default_factory=lambda: MissingResults("gradient", "backward=True"))
    higher: dict[str, list[Value]] = field(
        default_factory=lambda: MissingResults("higher derivative", "backward={'order': 2}")
    )
    node_grads: Values = field(
        default_factory=lambda: MissingResults("node gradient", "backward={'retain_grad': True}")
    )
    grad_program: str | None = None


@dataclass(frozen=True)
class Vjps:
    """Values, and cotangents by name of `wrt`."""

    values: Values
    vjps: Values


@dataclass(frozen=True)
class Jvps:
    """Values, and tangents by output."""

    values: Values
    jvps: Values


@dataclass(frozen=True)
class Jacobian:
    """Values, and first derivatives by output and name of `wrt`, of shape output + input."""

    values: Values
    jacobian: dict[str, Values]


@dataclass(frozen=True)
class Hessian:
    """Values, second derivatives by two names of `wrt`, and gradients."""

    values: Values
    hessian: dict[str, Values]
    grads: Values


@dataclass(frozen=True)
class Hvps:
    """Values, products with the Hessian by name of `wrt`, and gradients."""

    values: Values
    hvp: Values
    grads: Values


@dataclass(frozen=True)
class Check:
    """Comparison of gradients with central differences; errors are relative to max(1, absolute value).

    worst: place of the largest error. uncertain: places where the differences cancel and confirm nothing; then `ok` is
    False.
    """

    values: Values
    ok: bool
    max_error: float
    worst: dict[str, Any] | None
    uncertain: list[dict[str, Any]]


@dataclass(frozen=True)
class Inference:
    """Shapes and dtypes of inputs, nodes and outputs, and cost of a program that was not run.

    exceeded: limits of the server that the program exceeds, each with limit, setting and msg.
    """

    inputs: dict[str, dict[str, Any]]
    nodes: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    cost: dict[str, int]
    limits: dict[str, float]
    exceeded: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Program:
    """Registered program. inputs: names that a call has to give, with their declarations."""

    id: str
    name: str | None
    inputs: dict[str, dict[str, Any]] | None
    outputs: list[str] | None
    nodes: int | None
    cost: dict[str, int] | None


@dataclass(frozen=True)
class ProgramDetails(Program):
    """Registered program with all details except the elements of bound arrays."""

    graph: dict[str, Any]
    expr: str
    bound: dict[str, dict[str, Any]]
    created_at: str


@dataclass(frozen=True)
class ProgramPage:
    """Page of registered programs; next: the `after` of the next page, None on the last one."""

    programs: list[Program]
    next: str | None


@dataclass(frozen=True)
class ServerInfo:
    """Name, version and limits of a server."""

    name: str
    version: str
    contract: int
    limits: dict[str, float]


@dataclass(frozen=True)
class SessionInfo:
    """Session; id: a secret, as it gives access. seq: number of the last call that changed the session."""

    id: str
    name: str | None
    seq: int
    seed: int
    nograd: bool
    train: bool
    created_at: str
    expires_at: str
    ttl_s: float
    bytes: int


@dataclass(frozen=True)
class Run:
    """Outcome of a run; made: ids that the server chose. fetched: documents by id."""

    seq: int
    made: list[str]
    fetched: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Raw:
    """Response with status, headers and content; parsed: its result. tries: number of times the request was sent."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    tries: int
    parsed: Any

    @property
    def request_id(self) -> str | None:
        """Id of the request in the server's log."""
        return self.headers.get("x-request-id")

    @property
    def is_replay(self) -> bool:
        """True if an earlier try took effect, and the server repeated its response."""
        return self.headers.get("idempotent-replay") == "true"


def as_type(kind: type[T]) -> Callable[[Any], T]:
    """Return a parser of documents to results of a dataclass; it ignores fields that this release does not know."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]

    def read(document: Any) -> T:
        return kind(**{name: unpacked(document[name]) for name in names if name in document})

    return read


def as_page(document: Any) -> ProgramPage:
    """Parse a page of programs."""
    return ProgramPage([as_type(Program)(each) for each in document["programs"]], document["next"])


def unpacked(document: Any) -> Any:
    """Return a document with values in place of its array objects.

    >>> unpacked({"x": {"shape": [2], "dtype": "int64", "base64": "AQAAAAAAAAACAAAAAAAAAA=="}})
    {'x': array([1, 2])}
    """
    if isinstance(document, dict):
        if isinstance(document.get("dtype"), str) and ("data" in document or "base64" in document):
            return _unpacked_array(document)
        return {key: unpacked(item) for key, item in document.items()}
    if isinstance(document, list):
        return [unpacked(item) for item in document]
    return document


def _unpacked_array(document: dict[str, Any]) -> Value:
    data = base64.b64decode(document["base64"]) if "base64" in document else document["data"]
    dtype = DTYPES[document["dtype"]]
    array = np.frombuffer(data, dtype.newbyteorder("<")).reshape(document["shape"])
    # An array over a body is read-only; `astype` copies.
    return canonical(array.astype(dtype))
