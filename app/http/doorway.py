"""Entry of requests where keys are needed: whose they are, whether they may go on, and what they are charged."""

import ipaddress
from collections.abc import Sequence

from starlette._utils import get_route_path
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from app.edge_limits import address_key
from app.errors import ForbiddenError, UnauthorizedError
from app.keys.ring import Key, KeyRing
from app.stores.owners import ANYONE, GUEST, Caller

#: Members of an ASGI scope: the key of the request, and its caller.
_KEY, _CALLER = "pullback.key", "pullback.caller"
#: Headers that proxies add: the peer of the connection is then not the client.
_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via")


class Doorway:
    """Lets requests in by their keys.

    Args:
        ring: the keys.
        routes: all routes: what none of them takes is answered with a 404 or a 405, with a key or without.
    """

    def __init__(self, ring: KeyRing, routes: Sequence[BaseRoute]) -> None:
        self._ring = ring
        self._routes = routes

    def enter(self, scope: Scope, headers: dict[bytes, bytes]) -> Key | None:
        """Note in the scope of a request whose it is; return its key, None where it needs none.

        headers: of the request, the first of each name.

        Raises:
            UnauthorizedError, ForbiddenError, RateLimitedError: it may not go on.
        """
        ring = self._ring
        if not ring.is_needed:
            return None
        key = ring.by_header.get(headers.get(b"authorization"))
        is_plain = not scope.get("root_path") and len(headers) == len(scope["headers"])
        if key is None or scope["path"] not in key.paths or not is_plain:
            return self._enter_elsewhere(scope, headers)
        # A key that was seen before, on its way to what is asked most.
        if key.is_limited:
            key.check_rates()
        scope[_KEY] = key
        return key

    def _enter_elsewhere(self, scope: Scope, headers: dict[bytes, bytes]) -> Key | None:
        """Do the same as `enter`, for any key and path."""
        ring = self._ring
        scope[_CALLER] = GUEST
        path = get_route_path(scope)
        try:
            if len(headers) < len(scope["headers"]):
                _check_single(scope)
            key = ring.enter(path, headers.get(b"authorization"), lambda: _is_local(scope, headers))
        except (UnauthorizedError, ForbiddenError):
            if self._is_unknown(scope, path):
                return None
            raise
        if key is not None:
            scope[_KEY] = key
        else:
            scope[_CALLER] = ring.guest
        return key

    def _is_unknown(self, scope: Scope, path: str) -> bool:
        """Return whether no route takes a request."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        routed: Scope = {"type": "http", "path": path, "method": method, "root_path": "", "headers": []}
        return not any(route.matches(routed)[0] is Match.FULL for route in self._routes)


def key_of(scope: Scope) -> Key | None:
    """Return the key of a request that was let in."""
    key: Key | None = scope.get(_KEY)
    return key


def caller_of(scope: Scope) -> Caller:
    """Return the caller of a request."""
    key = key_of(scope)
    caller: Caller = scope.get(_CALLER, ANYONE) if key is None else key.caller
    return caller


def client_of(scope: Scope) -> str:
    """Return the client by which turns are taken and room is shared: a key, or else an address, or its network."""
    key = scope.get(_KEY)
    if key is not None:
        found: str = key.id
        return found
    return address_key(scope["client"][0])[0] if scope.get("client") else ""


def _check_single(scope: Scope) -> None:
    if sum(name == b"authorization" for name, _ in scope["headers"]) > 1:
        raise UnauthorizedError("the header Authorization stands there several times", was_given=True)


def _is_local(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Return whether a request comes from this machine, and from no proxy on it."""
    try:
        address = ipaddress.ip_address(scope["client"][0])
    except (KeyError, TypeError, ValueError):
        return False
    return address.is_loopback and not any(name in headers for name in _FORWARDED)
