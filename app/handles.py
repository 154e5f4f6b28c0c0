"""Digests of the ids of sessions, which stores keep, and handles, which people see in their place."""

import hashlib

HANDLE_PREFIX = "h_"
#: Letters of a digest that a handle shows.
_HANDLE_LETTERS = 8


def digest_of(session_id: str) -> str:
    """SHA-256 of an id, in hex. An id has 128 random bits, so that no salt is needed."""
    return hashlib.sha256(session_id.encode()).hexdigest()


def handle_of(digest: str) -> str:
    """Public name of a session, for logs and the command line; it does not give access.

    >>> handle_of(digest_of("s_00112233445566778899aabbccddeeff"))
    'h_59038182'
    """
    return HANDLE_PREFIX + digest[:_HANDLE_LETTERS]
