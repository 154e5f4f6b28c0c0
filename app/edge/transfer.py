"""Rates at which bodies arrive and answers are taken, measured by sweeps and not by timers."""

from app.edge_limits import EdgeLimits

#: Bytes of framing for a byte of a chunked body. Chunks of a byte each have 5, and each costs a call; extensions of
#: chunks have no end.
FRAMING_RATIO = 1
#: Framing that is allowed in any case, in headers of the largest size.
_FRAMING_HEADERS = 2


class Arrival:
    """A body that did not come with its header.

    payload: bytes of the body itself.
    waited_s: seconds for which the client was waited for.
    """

    def __init__(self) -> None:
        self.payload = 0
        self.waited_s = 0.0
        self._framing = 0
        self._quiet = 0

    def add(self, received: int, payload: int, limits: EdgeLimits) -> bool:
        """Count a piece, of which `payload` bytes are of the body; return whether too much of all is something else.

        Trailers stand after the last byte of a body, and are bounded like a header.
        """
        self.payload += payload
        self._framing += received - payload
        self._quiet = 0 if payload else self._quiet + received
        allowed = _FRAMING_HEADERS * limits.header_bytes + FRAMING_RATIO * self.payload
        return self._quiet > limits.header_bytes or self._framing > allowed

    def is_slow(self, elapsed_s: float, limits: EdgeLimits) -> bool:
        """Count seconds of waiting; return whether the body comes too slowly.

        The last of them are let go: the body may have begun in the midst of the first.
        """
        is_slow = self.waited_s >= limits.grace_s and self.payload < limits.rate * self.waited_s
        self.waited_s += elapsed_s
        return is_slow


class Departure:
    """Bytes that wait until the client takes them, while nothing is added to them."""

    def __init__(self) -> None:
        self._stalled_s = 0.0
        self._size = 0
        self._since = 0.0

    def begin_anew(self) -> None:
        """Forget what was measured: the client took enough, or something was added."""
        self._stalled_s = 0.0

    def is_slow(self, size: int, since: float, elapsed_s: float, limits: EdgeLimits) -> bool:
        """Count seconds at whose end `size` bytes were left; return whether they are taken too slowly.

        since: when the last of them were added.
        """
        if not self._stalled_s or since != self._since:
            self._size, self._since, self._stalled_s = size, since, 0.0
        is_slow = self._stalled_s >= limits.grace_s and self._size - size < limits.rate * self._stalled_s
        self._stalled_s += elapsed_s
        return is_slow
