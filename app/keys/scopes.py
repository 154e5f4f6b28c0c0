"""Scopes of keys, and which of them a path needs."""

from enum import StrEnum


class Scope(StrEnum):
    """Right of a key; `ADMIN` includes all others."""

    EVALUATE = "evaluate"
    PROGRAMS = "programs"
    SESSIONS = "sessions"
    JOBS = "jobs"
    ADMIN = "admin"


class Access(StrEnum):
    """Access to a path for which there is no scope."""

    #: Without a key.
    OPEN = "open"
    #: With any key.
    KEY = "key"
    #: With a key that has the scope admin, or from the machine itself.
    LOCAL = "local"


#: Paths of requests that are answered on the event loop.
PATHS = tuple(f"/v1/{name}" for name in ("evaluate", "vjp", "jvp", "jacobian", "hessian", "hvp", "check", "infer"))
_OPEN = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
_PROBLEMS = "/problems/"
_METRICS = "/metrics"
_V1 = "/v1/"
#: By the part of a path after `/v1/`.
_BY_PART: dict[str, Scope | Access] = {
    **{path[len(_V1) :]: Scope.EVALUATE for path in PATHS},
    "programs": Scope.PROGRAMS,
    "sessions": Scope.SESSIONS,
    "ops": Access.KEY,
}


def needed(path: str) -> Scope | Access:
    """Return what a path needs; one that is not listed here needs the scope admin.

    >>> needed("/v1/sessions/s_1/run")
    <Scope.SESSIONS: 'sessions'>
    >>> needed("/healthz"), needed("/v1")
    (<Access.OPEN: 'open'>, <Access.KEY: 'key'>)
    """
    if path.startswith(_V1):
        return _BY_PART.get(path[len(_V1) :].partition("/")[0], Scope.ADMIN)
    if path in _OPEN or path.startswith(_PROBLEMS):
        return Access.OPEN
    if path == _METRICS:
        return Access.LOCAL
    return Access.KEY if path == "/v1" else Scope.ADMIN
