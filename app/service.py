"""All resources of the server over one store, answering calls at once: what a worker runs."""

import gc
import json
import logging
import os
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from app import __version__
from app.api import derivatives, evaluate, health, infer, metrics, openapi, ops, pages, programs, sessions
from app.api.problems import explain, on_http_exception
from app.assembly import new_sessions, new_store
from app.clock import SYSTEM, Clock
from app.http.endpoints import Calculator, Endpoint
from app.http.messages import Answer, Call, ask_at_once
from app.http.preparations import Preparations
from app.http.spool import no_room
from app.programs.registry import Registry
from app.settings import Settings
from app.stores import Store, StoreAddress, StoreError
from app.wire import examples, media, values
from app.workers.memory import too_large
from engine.plans import Plans

_log = logging.getLogger("pullback")

#: New containers between two looks; CPython's own 700 would read a body of many short lists five times as long.
GC_THRESHOLD = 100_000
#: Looks at the young between two at the middle-aged, and of those between two at all. Each looks at everything of its
#: age in one piece, in which nothing else runs; of a large program that is made, nothing is garbage yet.
GC_LOOKS = (1, 100)
#: Each cache of a worker process may take one part of so many of its memory.
WORKER_CACHES = 4
#: Checked requests, those of workers and those of the event loop, compiled plans and known letters share the bytes that
#: are allowed for them.
CACHES = 4
#: Routes are looked through in this order: the most frequent first. Those before `_LIGHT` are work.
_WORK = (evaluate, sessions, derivatives, infer, programs)
_LIGHT = (ops, health, pages, metrics)
ENDPOINTS: tuple[Endpoint, ...] = (evaluate.ENDPOINT, *derivatives.ENDPOINTS)


class Service(FastAPI):
    """FastAPI with its own OpenAPI document, and a way in that waits for nothing."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM, store: Store | None = None) -> None:
        super().__init__(
            title="Pullback",
            summary="Autograd as a service: values and gradients of programs over HTTP.",
            version=__version__,
            docs_url=None,
            redoc_url=None,
            swagger_ui_oauth2_redirect_url=None,
            redirect_slashes=False,
            exception_handlers={HTTPException: on_http_exception},
        )
        share = settings.prepared_bytes // CACHES
        threads = max(1, (os.cpu_count() or 1) // (settings.workers * settings.max_concurrency))
        plans = Plans(settings.prepared_requests, share, threads)
        self.store = store or new_store(settings, clock)
        self.registry = Registry(self.store, settings.program_limits(), settings.cache_bytes, plans)
        self.preparations = Preparations(self.registry, settings.prepared_requests, share)
        self.calculator = Calculator(self.registry, self.preparations, settings)
        self.state.settings = settings
        self.state.registry = self.registry
        self.state.calculator = self.calculator
        self.state.sessions = new_sessions(self.store, settings, clock)
        for module in (*_WORK, *_LIGHT):
            self.include_router(module.router)
        self.work = [route for module in _WORK for route in module.router.routes]
        #: For messages where no route fits.
        self.state.routes = [*self.work, *(route for module in _LIGHT for route in module.router.routes)]
        self._endpoints = {endpoint.path: endpoint for endpoint in ENDPOINTS}

    def open(self) -> None:
        """Open the store; one that does not answer now may answer later."""
        try:
            self.store.open()
        except StoreError as error:
            _log.error("%s", error)

    def answer(self, call: Call) -> Answer:
        """Answer a call, whatever it asks for; errors are explained, and bugs logged."""
        try:
            return self.attempt(call)
        except MemoryError as error:
            return explain(call, error)

    def attempt(self, call: Call) -> Answer:
        """Return the answer to a call, whatever it asks for; errors are explained, and bugs logged.

        Raises:
            MemoryError: there was not enough.
        """
        try:
            endpoint = self._endpoints.get(call.path) if call.method == "POST" else None
            if endpoint is not None:
                return self.calculator.answer(endpoint, call)
            return ask_at_once(self, call)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - it is explained
            return explain(call, error)

    def no_memory(self, call: Call) -> Answer:
        """Return the answer to a call that needs more memory than a worker may take."""
        return explain(call, too_large(self.state.settings.max_worker_bytes))

    def no_disk(self, call: Call) -> Answer:
        """Return the answer to a call whose answer could not be written to its file."""
        return explain(call, no_room())

    def openapi(self) -> dict[str, Any]:
        """Return the document, made once."""
        self.openapi_schema = self.openapi_schema or openapi.document(self)
        return self.openapi_schema


def worker_service(given: str) -> Service:
    """Make the service of worker processes from JSON: the settings, and the address of the server's store.

    The store is opened after the fork.
    """
    document = json.loads(given)
    found = Settings.model_validate(document["settings"])
    share = found.worker_bytes // WORKER_CACHES
    caches = {
        "prepared_bytes": min(found.prepared_bytes, share),
        "cache_bytes": min(found.cache_bytes, share),
        "session_cache_bytes": min(found.session_cache_bytes, share),
    }
    gc.set_threshold(GC_THRESHOLD, *GC_LOOKS)
    bound_blas()
    service = Service(found.model_copy(update=caches), store=new_store(found, address=StoreAddress(*document["store"])))
    _warm_up(service)
    return service


def _warm_up(service: Service) -> None:
    """Answer a call of each kind before workers are forked: much is made at its first use, and then shared by all."""
    headers = [(b"content-type", media.JSON.encode())]
    for endpoint, group in zip(
        ENDPOINTS, (examples.EVALUATE, *(kind.examples for kind in derivatives.KINDS)), strict=True
    ):
        for example in group.values():
            document = example["value"]
            if "program" not in document and "create_graph" not in str(document):
                body = values.dumps(document)
                service.answer(Call("POST", endpoint.path, b"", headers, "", "warm-up", body))


def bound_blas() -> None:
    """Let BLAS use one thread for a call, in all of the process: the same bits on every machine.

    More threads wait by spinning, which takes the time of others.
    """
    threadpool_limits(1, user_api="blas")
