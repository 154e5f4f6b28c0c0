"""Where the log goes when nobody else has said so: one line an event on standard error."""

import asyncio
import logging
import re
import time
from urllib.parse import unquote

from app.sessions.ids import digest_of
from app.stores.sessions import handle_of

#: Lines about requests wait so long for others to be written with.
FLUSH_S = 0.1
#: So many are written at once without waiting.
_MOST_WAITING = 1000

#: The id of a session is a secret: its handle is shown in its place.
_SECRET = re.compile(r"s_[0-9a-f]{8,}")

_access = logging.getLogger("pullback.access")


class _Formatter(logging.Formatter):
    """Time, level and text; lines that are finished stay as they are."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        return record.getMessage() if isinstance(record, _Lines) else super().format(record)


class _Lines(logging.LogRecord):
    """Several finished lines as one record."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(_access.name, logging.INFO, "", 0, "\n".join(lines), None, None)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """The handler that is used where there is no other."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))


def masked(text: str) -> str:
    """Return a text with handles in the place of ids of sessions.

    >>> masked("/v1/sessions/s_00112233445566778899aabbccddeeff/run")
    '/v1/sessions/h_8c62d09d/run'
    """
    if "%" in text and _SECRET.search(plain := unquote(text)):
        # An id may be written with escapes; a line of the log stays one line.
        text = plain.encode("unicode_escape").decode()
    return _SECRET.sub(lambda found: handle_of(digest_of(found[0])), text)


def _mask(record: logging.LogRecord) -> bool:
    """Mask the secrets in a line that uvicorn writes."""
    if isinstance(record.args, tuple):
        record.args = tuple(masked(arg) if isinstance(arg, str) else arg for arg in record.args)
    return True


def configure() -> None:
    """Gives the server's loggers a handler, unless they or the root have one; takes secrets out of uvicorn's lines."""
    logging.getLogger("uvicorn.access").addFilter(_mask)
    logger = logging.getLogger("pullback")
    if not logger.hasHandlers():
        logger.addHandler(_Handler())
        logger.setLevel(logging.INFO)


class AccessLog:
    """A line a request.

    A record and a write for each would cost more than a tiny request: where the server's own handler writes the lines,
    they are written several at a time. Handlers of others get a record each, at once.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._second = -1
        self._stamp = ""

    def note(self, method: str, path: bytes, status: int, elapsed_s: float, request_id: str) -> None:
        """Logs a request that was answered; it is called on an event loop."""
        if not _access.isEnabledFor(logging.INFO):
            return
        shown = masked(path.decode("ascii", "backslashreplace"))
        elapsed_ms = 1e3 * elapsed_s
        if _own_handler() is None:
            _access.info("%s %s %d %.1f ms %s", method, shown, status, elapsed_ms, request_id)
            return
        waiting = self._waiting
        if not waiting:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        waiting.append(f"{self._now()} INFO {method} {shown} {status} {elapsed_ms:.1f} ms {request_id}")
        if len(waiting) >= _MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Writes the lines that wait."""
        lines, self._waiting = self._waiting, []
        handler = _own_handler()
        if lines and handler is not None:
            handler.handle(_Lines(lines))

    def _now(self) -> str:
        """The time as `logging` writes it."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._stamp},{int(1e3 * (now - second)):03d}"


def _own_handler() -> _Handler | None:
    """The server's own handler where it is the only one that lines about requests go to."""
    if _access.handlers or not _access.propagate:
        return None
    handlers = logging.getLogger("pullback").handlers
    return handlers[0] if len(handlers) == 1 and isinstance(handlers[0], _Handler) else None
