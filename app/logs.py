"""Default destination of the log: one line an event on standard error, as text or JSON."""

import logging
import re
from datetime import UTC, datetime
from urllib.parse import unquote

import orjson

from app.handles import digest_of, handle_of

#: The id of a session is a secret: its handle is shown in its place. Of a key the public part is shown.
_SECRET = re.compile(r"s_[0-9a-f]{8,}|(k_[0-9a-f]{12}_)[0-9a-f]+")

#: Logger of lines about requests.
access = logging.getLogger("pullback.access")


class Lines(logging.LogRecord):
    """Several finished lines as one record."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(access.name, logging.INFO, "", 0, "\n".join(lines), None, None)


class _Formatter(logging.Formatter):
    """Time, level and text; finished lines stay as they are."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return record.getMessage() if isinstance(record, Lines) else super().format(record)


class _JsonFormatter(_Formatter):
    """The same as a JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        if isinstance(record, Lines):
            return record.getMessage()
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname, "event": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


class Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Handler for a process that has no other; writes to standard error."""

    def __init__(self, is_json: bool) -> None:
        super().__init__()
        formatter = _JsonFormatter if is_json else _Formatter
        self.setFormatter(formatter("%(asctime)s %(levelname)s %(message)s"))


def masked(text: str) -> str:
    """Return a text with handles in the place of ids of sessions, and keys without their secrets.

    >>> masked("/v1/sessions/s_00112233445566778899aabbccddeeff/run")
    '/v1/sessions/h_59038182/run'
    """
    if "%" in text and _SECRET.search(plain := unquote(text)):
        # An id may be written with escapes; a line of the log stays one line.
        text = plain.encode("unicode_escape").decode()
    return _SECRET.sub(lambda found: f"{found[1]}..." if found[1] else handle_of(digest_of(found[0])), text)


def _mask(record: logging.LogRecord) -> bool:
    """Mask the secrets in a line that uvicorn writes."""
    if isinstance(record.args, tuple):
        record.args = tuple(masked(arg) if isinstance(arg, str) else arg for arg in record.args)
    return True


def configure(is_json: bool = False) -> None:
    """Give the server's loggers a handler, unless they or the root have one; take secrets out of uvicorn's lines."""
    logging.getLogger("uvicorn.access").addFilter(_mask)
    for name, level in (("pullback", logging.INFO), ("opentelemetry", logging.WARNING)):
        logger = logging.getLogger(name)
        if not logger.hasHandlers():
            logger.addHandler(Handler(is_json))
            logger.setLevel(level)


def own_handler() -> Handler | None:
    """Return the server's own handler if it is the only one that lines about requests go to."""
    if access.handlers or not access.propagate:
        return None
    handlers = logging.getLogger("pullback").handlers
    return handlers[0] if len(handlers) == 1 and isinstance(handlers[0], Handler) else None
