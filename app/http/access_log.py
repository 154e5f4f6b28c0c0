"""Log of requests, at less than a microsecond a line."""

import asyncio
import logging
import time

import orjson
from starlette.types import Scope

from app.http.doorway import key_of
from app.http.messages import Answer
from app.logs import Lines, access, masked, own_handler

#: Lines wait this long, in seconds, for others to be written with.
FLUSH_S = 0.1
#: Number of lines that are written at once without waiting.
_MOST_WAITING = 1000


class AccessLog:
    """Log of requests, a line each.

    A record and a write for each would cost more than a tiny request: where the server's own handler writes the lines,
    they are written several at a time. Handlers of others get a record each, at once.
    """

    def __init__(self, is_json: bool = False) -> None:
        self._is_json = is_json
        self._waiting: list[str] = []
        self._second = -1
        self._stamp = ""

    def note(self, scope: Scope, answer: Answer, elapsed_s: float, request_id: str) -> None:
        """Log a request that was answered; called on an event loop."""
        if not access.isEnabledFor(logging.INFO):
            return
        shown = masked((scope.get("raw_path") or b"").decode("ascii", "backslashreplace"))
        elapsed_ms = 1e3 * elapsed_s
        key = key_of(scope)
        by = "" if key is None else f" {key.id}"
        if own_handler() is None:
            access.info("%s %s %d %.1f ms %s%s", scope["method"], shown, answer.status, elapsed_ms, request_id, by)
            return
        waiting = self._waiting
        if not waiting:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        if self._is_json:
            waiting.append(_as_json(self._now(), scope, shown, answer, elapsed_ms, request_id))
        else:
            line = f"{scope['method']} {shown} {answer.status} {elapsed_ms:.1f} ms {request_id}{by}"
            waiting.append(f"{self._now()} INFO {line}")
        if len(waiting) >= _MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Write the lines that wait."""
        lines, self._waiting = self._waiting, []
        handler = own_handler()
        if lines and handler is not None:
            handler.handle(Lines(lines))

    def _now(self) -> str:
        """Return the time as the lines of `app.logs` have it."""
        now = time.time()
        second = int(now)
        if second != self._second:
            form, at = ("%Y-%m-%dT%H:%M:%S", time.gmtime) if self._is_json else ("%Y-%m-%d %H:%M:%S", time.localtime)
            self._second, self._stamp = second, time.strftime(form, at(second))
        milliseconds = int(1e3 * (now - second))
        return f"{self._stamp}.{milliseconds:03d}+00:00" if self._is_json else f"{self._stamp},{milliseconds:03d}"


def _as_json(now: str, scope: Scope, path: str, answer: Answer, elapsed_ms: float, request_id: str) -> str:
    """Return the line of a request as JSON; no values are in it, nor secrets."""
    line = {
        "time": now,
        "level": "INFO",
        "event": "request",
        "request_id": request_id,
        "client": scope["client"][0] if scope.get("client") else "",
        "method": scope["method"],
        "path": path,
        "status": answer.status,
        "bytes": len(answer.body),
        "ms": round(elapsed_ms, 3),
        "way": answer.way,
    }
    key = key_of(scope)
    if key is not None:
        line["key"] = key.id
    if answer.work is not None:
        work = answer.work
        line |= {"queue_ms": round(1e3 * work.queue_s, 3), "run_ms": round(1e3 * work.run_s, 3), "worker": work.process}
    return orjson.dumps(line).decode()
