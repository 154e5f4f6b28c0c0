"""The server inside of somebody else's process, who finds it by the entry point `pullback.embedded`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.main import Pullback, create_app
from app.settings import PREFIX, load_settings


@asynccontextmanager
async def serve() -> AsyncIterator[Pullback]:
    """The application, open for requests; what it keeps ends with it, unless PULLBACK_STORE says otherwise.

    Signals, logs and the collector belong to the process, and are left as they are.
    """
    given = {} if f"{PREFIX}STORE" in os.environ else {"store": "memory"}
    app = create_app(load_settings(access_log=False, isolation="threads", **given))
    async with app.opened():
        yield app
