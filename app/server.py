"""`pullback serve`: a socket that is bound where it may be, and uvicorn on it."""

import contextlib
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from app.assembly import new_nursery, new_store
from app.edge_limits import ACCEPTED_AT_ONCE, affordable_backlog, affordable_connections, open_files
from app.keys import rates
from app.settings import PREFIX, Settings, SettingsError, is_loopback, load_settings
from app.stores import StoreError, StoreUnavailableError
from app.workers.threads import THREAD_NAME

APP = "app.main:app"
#: uvicorn imports it by its name, also in worker processes; it takes its limits from the environment as the application
#: does. It needs httptools, which is not there on Windows.
PROTOCOL = "app.edge.guard:GuardedProtocol" if find_spec("httptools") else "auto"
#: What in-flight requests get beyond their deadline before a stopping server leaves them.
GRACE_S = 5


class ServeError(Exception):
    """The server cannot start; its text is one readable line."""


def serve(flags: Mapping[str, str], example: str) -> None:
    """Listens until it is told to stop.

    Args:
        flags: settings that go before those of the environment, by field.
        example: the body of the request that the printed curl line sends.

    Raises:
        ServeError: settings that cannot be used, an address that is not to be listened on, a port that is taken.
    """
    # The environment is what worker processes see of the flags.
    os.environ.update({PREFIX + name.upper(): value for name, value in flags.items()})
    try:
        settings = load_settings()
    except SettingsError as error:
        raise ServeError(str(error)) from None
    has_keys = _check_store(settings)
    files = open_files()
    backlog = affordable_backlog(affordable_connections(settings.max_connections, files), files)
    listener = _listen(settings, backlog, has_keys)
    port = listener.getsockname()[1]
    print(curl_line(settings.host, port, example, has_keys), flush=True)
    options: dict[str, Any] = {
        # Whether the server is on loopback decides which Host headers it answers.
        "host": settings.host,
        "http": PROTOCOL,
        "backlog": backlog,
        "timeout_keep_alive": settings.keep_alive_s,
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": ",".join(settings.trusted_proxies),
        "timeout_graceful_shutdown": int(settings.deadline_s) + GRACE_S,
        # What goes wrong at the start ends the server: keys that cannot be read let nobody in.
        "lifespan": "on",
    }
    if settings.workers == 1:
        # Connections that arrive from here on wait in the socket until the application is there.
        app = _new_app(settings)
        # libuv takes one connection of each in a round of the event loop: of a busy one there are few.
        listeners = [listener, *(listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1))]
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn.Config(app, **options)).run(sockets=listeners)
        _leave_work_behind()
    else:
        listener.close()
        with _shared_rates():
            uvicorn.run(APP, port=port, workers=settings.workers, **options)


@contextmanager
def _shared_rates() -> Iterator[None]:
    """Make the file in which the processes of this server share the rates of keys; they find it in the environment."""
    with tempfile.TemporaryDirectory(prefix="pullback-") as directory:
        file = Path(directory) / "rates"
        file.write_bytes(b"")
        os.truncate(file, rates.SHARED_BYTES)
        os.environ[rates.SHARED] = str(file)
        yield


def _new_app(settings: Settings) -> ASGIApp:
    """Make the application; the process that forks workers imports it at the same time."""
    store = new_store(settings)
    nursery = new_nursery(settings, store.address) if settings.has_processes() else None
    if nursery is not None:
        nursery.launch()
    from app.main import create_app, new_pool

    return create_app(settings, new_pool=partial(new_pool, nursery=nursery), store=store)


def _leave_work_behind() -> None:
    """Ends the process where a thread still works on a request that nobody waits for: Python would wait for it."""
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD_NAME):
            thread.join(0.1)
            if thread.is_alive():
                sys.stdout.flush()
                os._exit(0)


def _check_store(settings: Settings) -> bool:
    """Make sure once that the store can be used, before several workers try; return whether it has, or had, keys.

    Raises:
        ServeError: it cannot be used, or its keys cannot be read.
    """
    store = new_store(settings)
    try:
        store.open()
        return bool(store.keys.list())
    except (StoreError, StoreUnavailableError) as error:
        raise ServeError(str(error)) from None
    finally:
        store.close()


def _listen(settings: Settings, backlog: int, has_keys: bool) -> socket.socket:
    if not has_keys and not settings.insecure and not is_loopback(settings.host):
        raise ServeError(
            f"{settings.host} is not loopback, and without keys whoever reaches the server may use it; "
            "make a key (pullback keys create NAME), or say --insecure (PULLBACK_INSECURE=1) if that is wanted"
        )
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=backlog)
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ServeError(f"cannot listen on {settings.host} port {settings.port}: {reason}") from None


def curl_line(host: str, port: int, body: str, has_keys: bool = False) -> str:
    """A command that asks the server something.

    >>> curl_line("0.0.0.0", 8000, "{}")
    "curl -s http://127.0.0.1:8000/v1/evaluate -H 'Content-Type: application/json' -d '{}'"
    """
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"[{shown}]" if ":" in shown else shown
    key = ' -H "Authorization: Bearer $PULLBACK_API_KEY"' if has_keys else ""
    return f"curl -s http://{address}:{port}/v1/evaluate{key} -H 'Content-Type: application/json' -d '{body}'"
