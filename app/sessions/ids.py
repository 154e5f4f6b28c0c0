"""Ids of sessions: secrets, of which stores keep digests only."""

import hashlib
import secrets

from app.stores.sessions import CreationKey

#: An id is this and 32 hex digits, from 128 random bits.
PREFIX = "s_"
_ID_BYTES = 16


def new_id() -> str:
    """Return a new random id."""
    return PREFIX + secrets.token_hex(_ID_BYTES)


def creation_key(client: str, key: str, session_id: str) -> CreationKey:
    """Return the idempotency key of a client as it is stored, with the id of the session that is made under it."""
    given = f"{client}\0{key}".encode()
    return CreationKey(hashlib.sha256(given).digest(), _sealed(given, bytes.fromhex(session_id.removeprefix(PREFIX))))


def unsealed(client: str, key: str, sealed: bytes) -> str:
    """Return the id that was sealed by `creation_key` for the same client and key."""
    return PREFIX + _sealed(f"{client}\0{key}".encode(), sealed).hex()


def _sealed(given: bytes, data: bytes) -> bytes:
    """Exclusive or of an id with a pad that follows from the idempotency key, which no store has; its own inverse."""
    pad = hashlib.sha256(b"pullback session id\0" + given).digest()
    return bytes(a ^ b for a, b in zip(data, pad[:_ID_BYTES], strict=True))
