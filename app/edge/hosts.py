"""Host headers that a server on loopback answers: a page of another site may not reach it by a name of its own."""

import ipaddress
from collections.abc import Collection

#: In the list of allowed names: any.
ANY = "*"


def is_allowed_host(host: bytes, names: Collection[str]) -> bool:
    """Return whether a Host header names this machine, or is one of `names`.

    A browser that was led to 127.0.0.1 by a name of an attacker's (DNS rebinding) still sends that name.

    >>> is_allowed_host(b"localhost:8000", ()), is_allowed_host(b"attacker.example", ())
    (True, False)
    """
    if ANY in names:
        return True
    name = _name(host.decode("latin-1").strip().lower())
    if name in names or name == "localhost" or name.endswith(".localhost"):
        return name != ".localhost"
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _name(host: str) -> str:
    """The name of a host without its port; empty where the header is malformed."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return ""
        port = port[1:]
    else:
        name, _, port = host.partition(":")
    return name.removesuffix(".") if not port or (port.isascii() and port.isdecimal()) else ""
