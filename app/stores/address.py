"""Addresses of stores, which processes of one server can hand to each other as JSON or by pickle."""

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Literal, NamedTuple


class StoreAddress(NamedTuple):
    """The place of a store.

    kind: `sqlite` is a durable file, `private` a file that is removed with its server, `redis` a server.
    place: the directory of the file, or the URL; the URL may have a password in it.
    """

    kind: Literal["sqlite", "private", "redis"]
    place: str


class PrivateDirectory:
    """A new temporary directory that only this user can read; it is removed by `close`, and at the latest at exit.

    A process that was forked from its owner never removes it.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pullback-"))
        # tempfile.TemporaryDirectory would warn where nobody closed it, and be removed by forked processes too.
        self._remove = weakref.finalize(self, _remove, self.path, os.getpid())

    def close(self) -> None:
        """Remove the directory and all that is in it."""
        self._remove()


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)
