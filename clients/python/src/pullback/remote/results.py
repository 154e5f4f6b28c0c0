"""What calls return: plain data, with numbers and NumPy arrays where the wire has values."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from pullback.core.values import DTYPES, Value, canonical

T = TypeVar("T")
Values = dict[str, Value]


class NotAsked(dict[str, Any]):
    """Empty mapping in the place of results that a call did not ask for; looking one up says how to ask.

    >>> NotAsked("gradient", "backward=True")["x"]
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
    """Values of a program and gradients, which are empty where they were not asked for.

    values: by output. grads: for each name of `wrt`, in its shape. higher: with an order above 1 all derivatives from
    the first on. node_grads: with `retain_grad`. program: the id that the program has; it is not stored. grad_program:
    with `create_graph` the id of a program of the gradients, which is.

    Raises:
        KeyError: from `grads[name]`, `higher[name]` and `node_grads[name]`, where the call did not ask for them.
    """

    values: Values
    program: str
    grads: Values = field(default_factory=lambda: NotAsked("gradient", "backward=True"))
    higher: dict[str, list[Value]] = field(
        default_factory=lambda: NotAsked("higher derivative", "backward={'order': 2}")
    )
    node_grads: Values = field(default_factory=lambda: NotAsked("node gradient", "backward={'retain_grad': True}"))
    grad_program: str | None = None


@dataclass(frozen=True)
class Vjps:
    """Cotangents carried back, for each name of `wrt`."""

    values: Values
    vjps: Values


@dataclass(frozen=True)
class Jvps:
    """Tangents carried forward, for each output."""

    values: Values
    jvps: Values


@dataclass(frozen=True)
class Jacobian:
    """All first derivatives by output and name of `wrt`; shapes output + input."""

    values: Values
    jacobian: dict[str, Values]


@dataclass(frozen=True)
class Hessian:
    """All second derivatives by two names of `wrt`, and the gradients."""

    values: Values
    hessian: dict[str, Values]
    grads: Values


@dataclass(frozen=True)
class Hvps:
    """Products with the Hessian for each name of `wrt`, and the gradients."""

    values: Values
    hvp: Values
    grads: Values


@dataclass(frozen=True)
class Check:
    """Gradients beside central differences; the error is relative to max(1, size).

    worst: where it is largest. uncertain: where the differences cancel and confirm nothing; `ok` is False then.
    """

    values: Values
    ok: bool
    max_error: float
    worst: dict[str, Any] | None
    uncertain: list[dict[str, Any]]


@dataclass(frozen=True)
class Inference:
    """Shapes and dtypes of everything in a program and what running it costs; nothing has run.

    exceeded: the limits that would refuse to run it, each with limit, setting and msg.
    """

    inputs: dict[str, dict[str, Any]]
    nodes: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    cost: dict[str, int]
    limits: dict[str, float]
    exceeded: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Program:
    """A registered program. inputs: what a call has to give, with what is declared of it."""

    id: str
    name: str | None
    inputs: dict[str, dict[str, Any]] | None
    outputs: list[str] | None
    nodes: int | None
    cost: dict[str, int] | None


@dataclass(frozen=True)
class ProgramDetails(Program):
    """All of a registered program but for the numbers of bound arrays."""

    graph: dict[str, Any]
    expr: str
    bound: dict[str, dict[str, Any]]
    created_at: str


@dataclass(frozen=True)
class ProgramPage:
    """Some registered programs; `next` is what `after` has to be for those that follow, None at the end."""

    programs: list[Program]
    next: str | None


@dataclass(frozen=True)
class ServerInfo:
    """What a server is, and what it allows."""

    name: str
    version: str
    contract: int
    limits: dict[str, float]


@dataclass(frozen=True)
class SessionInfo:
    """How a session is; `id` is a secret, `seq` the number of the last call that changed it."""

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
    """What a run made (ids that it was not told), and what is to be seen then, by id."""

    seq: int
    made: list[str]
    fetched: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Raw:
    """An answer as it came, and what it means.

    is_replay: the server had done the call before, and gave the answer that got lost once more. tries: how often it was
    sent.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    tries: int
    parsed: Any

    @property
    def request_id(self) -> str | None:
        """What finds the request in the server's log."""
        return self.headers.get("x-request-id")

    @property
    def is_replay(self) -> bool:
        """Whether the call had been done before."""
        return self.headers.get("idempotent-replay") == "true"


def as_type(kind: type[T]) -> Callable[[Any], T]:
    """What reads a document as a result of that kind; what this release does not know is left out."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]

    def read(document: Any) -> T:
        return kind(**{name: unpacked(document[name]) for name in names if name in document})

    return read


def as_page(document: Any) -> ProgramPage:
    """A page of programs."""
    return ProgramPage([as_type(Program)(each) for each in document["programs"]], document["next"])


def unpacked(document: Any) -> Any:
    """A document with values in place of its array objects.

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
    # What is read from a body may not be written to; results are the caller's own.
    return canonical(array.astype(dtype))
