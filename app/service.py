"""All resources of the server over one store, answering calls at once: what a worker runs."""

import logging
import os
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from app import __version__, openapi
from app.api import derivatives, evaluate, health, infer, ops, programs, sessions
from app.api.problems import explain, on_http_exception
from app.assembly import new_sessions, new_store
from app.clock import SYSTEM, Clock
from app.http.endpoints import Calculator, Endpoint
from app.http.messages import Answer, Call, ask_at_once
from app.http.preparations import Preparations
from app.programs.registry import Registry
from app.settings import Settings
from engine.plans import Plans

_log = logging.getLogger("pullback")

#: Checked requests, those of workers and those of the event loop, compiled plans and known letters share the bytes that
#: are allowed for them.
CACHES = 4
#: Routes are looked through in this order: the most frequent first. Those before `_LIGHT` are work.
_WORK = (evaluate, sessions, derivatives, infer, programs)
_LIGHT = (ops, health)
ENDPOINTS: tuple[Endpoint, ...] = (evaluate.ENDPOINT, *derivatives.ENDPOINTS)


class Service(FastAPI):
    """FastAPI with its own OpenAPI document, and a way in that waits for nothing."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM) -> None:
        super().__init__(
            title="Pullback",
            summary="Autograd as a service: values and gradients of programs over HTTP.",
            version=__version__,
            redoc_url=None,
            swagger_ui_oauth2_redirect_url=None,
            redirect_slashes=False,
            exception_handlers={HTTPException: on_http_exception},
        )
        share = settings.prepared_bytes // CACHES
        threads = max(1, (os.cpu_count() or 1) // (settings.workers * settings.max_concurrency))
        plans = Plans(settings.prepared_requests, share, threads)
        self.store = new_store(settings, clock)
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

    def answer(self, call: Call) -> Answer:
        """Answer a call, whatever it asks for; errors are explained, and bugs logged."""
        try:
            endpoint = self._endpoints.get(call.path) if call.method == "POST" else None
            if endpoint is not None:
                return self.calculator.answer(endpoint, call)
            return ask_at_once(self, call)
        except Exception as error:  # noqa: BLE001 - it is explained
            return explain(call, error)

    def openapi(self) -> dict[str, Any]:
        """Return the document, made once."""
        self.openapi_schema = self.openapi_schema or openapi.document(self)
        return self.openapi_schema


def bound_blas() -> None:
    """Let BLAS use one thread for a call, in all of the process: the same bits on every machine.

    More threads wait by spinning, which takes the time of others.
    """
    threadpool_limits(1, user_api="blas")
