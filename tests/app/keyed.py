"""An application with keys, and requests by their holders."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from app.keys.admin import KeyAdmin
from app.stores.keys import Rates
from app.stores.owners import UNLIMITED, Allowance
from app.wire.values import dumps
from tests.app.hot import Received, Sent, asked, new_app

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.main import Pullback

NO_RATES = Rates()
ALL_BUT_ADMIN = ("evaluate", "programs", "sessions", "jobs")


class Keyed:
    """An application whose event loop does the work, one unit each, over a store with keys.

    keys: by the names under which they were made.
    """

    def __init__(self, **settings: Any) -> None:
        self.app: Pullback = new_app(**settings)
        self.admin = KeyAdmin(self.app.service.store.keys)
        self.keys: dict[str, str] = {}

    def create(
        self,
        name: str,
        scopes: Sequence[str] = ALL_BUT_ADMIN,
        rates: Rates = NO_RATES,
        allowance: Allowance = UNLIMITED,
    ) -> str:
        """Make a key, and return its id."""
        self.keys[name] = self.admin.create(name, scopes, rates, allowance)
        self.app.keys.load()
        return self.id(name)

    def id(self, name: str) -> str:
        """Id of a key: its public part."""
        return self.keys[name][3 : 3 + len("k_") + 12]

    def ask(
        self,
        method: str,
        path: str,
        key: str = "",
        document: Any = None,
        *,
        client: str = "192.0.2.7",
        headers: Mapping[str, str] | None = None,
    ) -> Received:
        """Return the answer to a request.

        key: name of the key that is sent, or a key itself; none if it is empty.
        """
        body = b"" if document is None else dumps(document)
        sent = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        if key:
            sent["authorization"] = f"Bearer {self.keys.get(key, key)}"
        raw = tuple((name.encode(), value.encode()) for name, value in sent.items())
        request = Sent(path, body, raw, method)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope, "client": (client, 1)}, receive, send)

        return asyncio.run(asked(app, request))

    def status(self, method: str, path: str, key: str = "", document: Any = None) -> int:
        """Return the status of the same."""
        return self.ask(method, path, key, document).status


def header(answer: Received, name: str) -> str | None:
    """Return a header of an answer."""
    found = dict(answer.headers).get(name.encode())
    return None if found is None else found.decode()
