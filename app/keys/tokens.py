"""API keys as text: `pb_<id>_<secret>`, of which the id is public."""

import hashlib
import re
import secrets

_PREFIX = "pb_"
ID_PREFIX = "k_"
#: Bytes of the random parts.
_ID_BYTES, _SECRET_BYTES = 6, 20
_KEY = re.compile(rb"pb_k_[0-9a-f]{12}_[0-9a-f]{40}")
#: Value of the header Authorization; the name of the scheme may be written in any case.
_BEARER = re.compile(rb"bearer +(\S+) *", re.IGNORECASE)


def new_id() -> str:
    """Return a new id of a key."""
    return ID_PREFIX + secrets.token_hex(_ID_BYTES)


def new_key(key_id: str) -> str:
    """Return a new key of an id: 160 random bits behind it."""
    return f"{_PREFIX}{key_id}_{secrets.token_hex(_SECRET_BYTES)}"


def digest_of(key: bytes) -> str:
    """Return the digest by which a store knows a key.

    A plain hash is enough where secrets are random: there is no list of likely ones to try.
    """
    return hashlib.sha256(key).hexdigest()


def sent_key(authorization: bytes) -> bytes | None:
    """Return the key in the value of a header Authorization, None if there is none.

    >>> sent_key(b"Bearer pb_k_0123456789ab_" + b"0" * 40)[:17]
    b'pb_k_0123456789ab'
    >>> sent_key(b"Basic dXNlcjpwYXNz")
    """
    found = _BEARER.fullmatch(authorization)
    return found[1] if found is not None and _KEY.fullmatch(found[1]) else None
