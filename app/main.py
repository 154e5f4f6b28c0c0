"""The application: `uvicorn app.main:app`, or `create_app(settings)` for settings of one's own."""

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import FrameType
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from app import __version__, logs
from app.api.metrics import Sources
from app.api.problems import explain
from app.assembly import new_nursery, spool_folder
from app.clock import SYSTEM, Clock
from app.errors import WorkerDiedError
from app.http.bodies import Reservations
from app.http.doorway import Doorway
from app.http.endpoints import Calculator
from app.http.envelope import Envelope
from app.http.exchange import Exchange, Pool
from app.http.inline import Inline
from app.http.preparations import Preparations
from app.http.spool import Spool
from app.http.templates import Templates
from app.keys.ring import KeyRing
from app.readiness import Readiness
from app.service import CACHES, ENDPOINTS, GC_LOOKS, GC_THRESHOLD, Service, bound_blas
from app.settings import Settings, SettingsError, load_settings, unknown_variables
from app.stores import Store, StoreError, StoreUnavailableError
from app.telemetry import Figures, Requests
from app.workers.jobs import Sizes
from app.workers.nursery import Nursery
from app.workers.parent import end_with
from app.workers.pool import Processes
from app.workers.threads import Threads

if TYPE_CHECKING:
    # OpenTelemetry may not be there.
    from app.http.traces import Traces

_log = logging.getLogger("pullback")


#: Workers beyond those of the settings, for clients that use little beside others that use much.
KEPT_FREE = 1
#: Time between two looks at the event loop.
LOOK_S = 0.1
#: Variables that ask for traces, as OpenTelemetry has them.
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"

#: Makes a pool of workers for a service, from the settings and the room for long answers.
NewPool = Callable[[Service, Settings, Spool], Pool]


class Pullback:
    """ASGI application: an exchange for requests, over a service and a pool of workers.

    Args:
        settings: of all parts.
        clock: by which sessions and programs expire.
        new_pool: makes the pool of workers for a service.
        store: the storage of programs and sessions; that of the settings if none is given.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        new_pool: NewPool,
        store: Store | None = None,
    ) -> None:
        self.settings = settings
        self.service = Service(settings, clock, store)
        self.state = self.service.state
        self.state.draining = False
        self.figures = Figures(Requests(route.path for route in self.state.routes))
        self.state.readiness = Readiness(self.service.store, lambda: self.pool.fault(), self.figures.readiness)
        self.envelope = Envelope(settings, self.figures.requests)
        share = settings.prepared_bytes // CACHES
        preparations = Preparations(self.service.registry, settings.prepared_requests, share)
        templates = Templates(settings.prepared_requests, share)
        calculator = Calculator(self.service.registry, preparations, settings)
        self.inline = Inline(calculator, preparations, templates, settings)
        answers = Reservations(settings.max_bytes_in_flight // 2)
        spool = Spool(spool_folder(self.service.store.address), settings.max_answer_file_bytes)
        self.pool = new_pool(self.service, settings, spool)
        self.keys = KeyRing(self.service.store.keys, clock.wall)
        self.pool.charge = self.keys.charge
        self.exchange = Exchange(
            self.inline,
            ENDPOINTS,
            self.pool,
            self.service.work,
            self.service,
            explain,
            self.envelope,
            answers,
            Doorway(self.keys, self.service.routes),
            settings,
        )

        self.state.sources = Sources(
            self.figures,
            self.pool.figures,
            lambda: self.exchange.reservations.held + answers.held,
            lambda: spool.held,
            lambda: self.inline.banned,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or start and stop."""
        if scope["type"] == "http":
            await self.exchange(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self.service(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start, tell the server so, wait until it stops, and end; what keeps it from starting is one line."""
        await receive()
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._served())
            except (SettingsError, StoreError, WorkerDiedError) as error:
                await send({"type": "lifespan.startup.failed", "message": f"pullback: {error}"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[None]:
        """Own the process: its log, its signals and its collector."""
        logs.configure(self.settings.log_format == "json")
        _log.info("pullback %s: %s", __version__, self.settings)
        for sentence in unknown_variables():
            _log.warning(sentence)
        self.envelope.traces = new_traces()
        async with self.opened():
            if threading.current_thread() is threading.main_thread():
                _drain_on(signal.SIGTERM, self)
                supervisor = multiprocessing.parent_process()
                if supervisor is not None and supervisor.pid is not None:
                    end_with(supervisor.pid, signal.SIGTERM)
            bound_blas()
            _log.info("running on %s", type(asyncio.get_running_loop()).__module__)
            # A document is a tree of many lists, none of them garbage: cycles are looked for more rarely.
            gc.freeze()
            gc.set_threshold(GC_THRESHOLD, *GC_LOOKS)
            ticker = asyncio.create_task(self._look_at_the_loop())
            _log.info("ready")
            try:
                yield
            finally:
                ticker.cancel()
                _log.info("stopping")

    async def _look_at_the_loop(self) -> None:
        """Note how late the event loop is, ten times a second."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(LOOK_S)
            self.figures.lag_s = max(0.0, loop.time() - before - LOOK_S)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the store open and workers ready; raises StoreError if the store cannot be opened."""
        await asyncio.to_thread(self.service.store.open)
        try:
            await asyncio.to_thread(self._read_keys)
            await self.pool.start()
            yield
        finally:
            self.state.draining = True
            self.pool.close()
            self.state.readiness.close()
            self.keys.close()
            self.service.store.close()
            self.envelope.close()

    def _read_keys(self) -> None:
        """Read the keys; without them nobody is let in.

        Raises:
            StoreError: they cannot be read.
        """
        try:
            self.keys.watch()
        except StoreUnavailableError as error:
            raise StoreError(f"the keys cannot be read: {error}") from None


def new_pool(service: Service, settings: Settings, spool: Spool, nursery: Nursery | None = None) -> Pool:
    """Make the pool of workers that the settings ask for; long answers wait for room in `spool`."""
    if settings.has_processes():
        sizes = Sizes(
            settings.max_concurrency + KEPT_FREE,
            settings.max_long_workers,
            settings.worker_bytes,
            settings.max_worker_bytes,
            KEPT_FREE,
        )
        nursery = nursery or new_nursery(settings, service.store.address)
        return Processes(nursery, sizes, spool, settings.max_queue, settings.deadline_s)
    return Threads(service.answer, settings.max_concurrency, settings.max_queue, settings.deadline_s)


def new_traces() -> "Traces | None":
    """Return what takes traces; None where the variables of OpenTelemetry do not say where they go.

    Raises:
        SettingsError: they do, and OpenTelemetry is not installed or cannot use them.
    """
    asked = next((name for name in TRACES if os.environ.get(name)), "")
    if not asked or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from app.http.traces import Traces

        return Traces()
    except ValueError as error:
        raise SettingsError(f"the variables of OpenTelemetry cannot be used: {error}") from None
    except ImportError as error:
        install = "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        raise SettingsError(f"{asked} asks for traces, which need OpenTelemetry ({error}): {install}") from None


def create_app(
    settings: Settings | None = None,
    clock: Clock = SYSTEM,
    new_pool: NewPool = new_pool,
    store: Store | None = None,
) -> Pullback:
    """Build the application.

    Args:
        settings: those of the environment where none are given.
        clock: by which sessions and programs expire, and calls of sessions are too late.
        new_pool: makes the pool of workers.
        store: the storage of programs and sessions; that of the settings if none is given.

    Raises:
        SettingsError: the environment has settings that cannot be used; not raised where settings are given.
    """
    return Pullback(settings or load_settings(), clock, new_pool, store)


def _drain_on(number: signal.Signals, app: Pullback) -> None:
    """Let /readyz say 503 for a while before the server acts on a signal; a second one acts at once."""
    stop = signal.getsignal(number)
    if not callable(stop):
        return
    loop = asyncio.get_running_loop()

    def drain(received: int, frame: FrameType | None) -> None:
        delay_s = 0 if app.state.draining else app.settings.drain_s
        _log.info("told to stop; closing the port in %g s", delay_s)
        app.state.draining = True
        if delay_s:
            loop.call_soon_threadsafe(loop.call_later, delay_s, stop, received, None)
        else:
            stop(received, frame)

    signal.signal(number, drain)


def __getattr__(name: str) -> Pullback:
    """Make `app` from the settings of the environment when a server asks for it."""
    if name != "app":
        raise AttributeError(name)
    try:
        return create_app()
    except SettingsError as error:
        raise SystemExit(f"pullback: {error}") from None
