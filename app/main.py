"""The application: `uvicorn app.main:app`, or `create_app(settings)` for settings of one's own."""

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from app import __version__, logs, openapi
from app.api import derivatives, evaluate, health, infer, ops, programs, sessions
from app.api.problems import BY_ERROR, on_body_too_large, on_error, on_http_exception
from app.clock import SYSTEM, Clock
from app.hot.preparations import Preparations
from app.hot.templates import Templates
from app.hotpath import HotPath
from app.limits import Turns, Workers, bound_blas, threads_each
from app.middleware import Around, Envelope
from app.programs.registry import Registry
from app.readiness import Readiness
from app.settings import Settings, SettingsError, load_settings, unknown_variables
from app.stores import Store, StoreError
from app.wire.media import BodyTooLargeError
from engine.plans import Plans

_log = logging.getLogger("pullback")

#: What was checked, what is compiled and what is known by its letters share the bytes that are allowed for it.
KEPT_IN = 3
#: New containers between two looks; CPython's own 700 would read a body of many short lists five times as long.
GC_THRESHOLD = 100_000
#: Looks at the young between two at the middle-aged, and of those between two at all. Each looks at everything of its
#: age in one piece, in which nothing else runs; of a large program that is made, nothing is garbage yet.
GC_LOOKS = (1, 100)


class Pullback(FastAPI):
    """FastAPI but for the OpenAPI document, which has what the routes read and write themselves, and for the start.

    hot_path: what requests come to first.
    """

    hot_path: HotPath

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or starts and stops; a store that cannot be opened is one line and no traceback."""
        if scope["type"] == "http":
            await self.hot_path(scope, receive, send)
            return

        async def in_one_line(message: Message) -> None:
            error = self.state.store_error
            if message["type"] == "lifespan.startup.failed" and error is not None:
                message = {**message, "message": f"pullback: {error}"}
            await send(message)

        await self.slowly(scope, receive, in_one_line if scope["type"] == "lifespan" else send)

    async def slowly(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The way of a request through the framework, which knows all of them."""
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        self.openapi_schema = self.openapi_schema or openapi.document(self)
        return self.openapi_schema

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """While it is, requests find the store; raises StoreError where that cannot be opened."""
        store: Store = self.state.registry.store
        try:
            await asyncio.to_thread(store.open)
        except StoreError as error:
            self.state.store_error = error
            raise
        yield
        self.state.draining = True
        self.state.workers.close()
        self.state.readiness.close()
        store.close()
        self.state.around.close()


def create_app(settings: Settings | None = None, clock: Clock = SYSTEM) -> Pullback:
    """The application.

    Args:
        settings: those of the environment where none are given.
        clock: by which sessions and programs expire, and calls of sessions are too late.

    Raises:
        SettingsError: the environment has settings that cannot be used; not raised where settings are given.
    """
    settings = settings or load_settings()
    handlers: dict[int | type[Exception], Any] = dict.fromkeys(BY_ERROR, on_error)
    app = Pullback(
        title="Pullback",
        summary="Autograd as a service: values and gradients of programs over HTTP.",
        version=__version__,
        lifespan=_lifespan,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        exception_handlers=handlers | {BodyTooLargeError: on_body_too_large, HTTPException: on_http_exception},
    )
    app.state.settings = settings
    app.state.workers = Workers(settings.max_concurrency, settings.max_queue, settings.deadline_s)
    threads = threads_each(settings.workers, settings.max_concurrency)
    plans = Plans(settings.prepared_requests, settings.prepared_bytes // KEPT_IN, threads)
    app.state.registry = Registry(settings.new_store(clock), settings.program_limits(), settings.cache_bytes, plans)
    app.state.preparations = Preparations(
        app.state.registry, settings.prepared_requests, settings.prepared_bytes // KEPT_IN
    )
    app.state.sessions = settings.new_sessions(app.state.registry.store.sessions, clock)
    app.state.turns = Turns(settings.max_queue, settings.deadline_s)
    app.state.readiness = Readiness(app.state.registry.store)
    app.state.store_error = None
    app.state.draining = False
    app.state.around = Around(settings)
    app.hot_path = HotPath(
        app.slowly,
        [evaluate.ENDPOINT, *derivatives.ENDPOINTS],
        app.state.preparations,
        Templates(settings.prepared_requests, settings.prepared_bytes // KEPT_IN),
        app.state.workers,
        app.state.around,
        settings,
    )
    app.add_middleware(Envelope, around=app.state.around)
    # Routes are looked through in this order: what is asked most often goes first.
    modules = (evaluate, sessions, derivatives, infer, programs, ops, health)
    for module in modules:
        app.include_router(module.router)
    #: For what is said where none of them fits.
    app.state.routes = [route for module in modules for route in module.router.routes]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    assert isinstance(app, Pullback)
    logs.configure()
    _log.info("pullback %s: %s", __version__, app.state.settings)
    for sentence in unknown_variables():
        _log.warning(sentence)
    async with app.opened():
        if threading.current_thread() is threading.main_thread():
            _drain_on(signal.SIGTERM, app)
        settings: Settings = app.state.settings
        threads = threads_each(settings.workers, settings.max_concurrency)
        bound_blas(threads)
        _log.info("running on %s, threads for a request: %d", type(asyncio.get_running_loop()).__module__, threads)
        # A document is a tree of many lists, none of them garbage: cycles are looked for more rarely.
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, *GC_LOOKS)
        yield


def _drain_on(number: signal.Signals, app: FastAPI) -> None:
    """Lets /readyz say 503 for a while before the server acts on a signal; a second one acts at once."""
    stop = signal.getsignal(number)
    if not callable(stop):
        return
    loop = asyncio.get_running_loop()

    def drain(received: int, frame: FrameType | None) -> None:
        delay_s = 0 if app.state.draining else app.state.settings.drain_s
        app.state.draining = True
        if delay_s:
            loop.call_soon_threadsafe(loop.call_later, delay_s, stop, received, None)
        else:
            stop(received, frame)

    signal.signal(number, drain)


def _app_from_environment() -> Pullback:
    try:
        return create_app()
    except SettingsError as error:
        raise SystemExit(f"pullback: {error}") from None


app = _app_from_environment()
