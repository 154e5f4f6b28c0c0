"""Long answers in files: the worker that wrote one is free again, and its client reads it at its own pace."""

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from app.http.bodies import Reservations
from app.stores import StorageFullError

_log = logging.getLogger("pullback")


class FileBody:
    """Body of an answer, in a file that has no name and goes with it.

    path: for another process of this user, which writes it.

    Args:
        descriptor: of the file.
        nbytes: length of the body.
        on_close: called once it is closed.
    """

    def __init__(self, descriptor: int, nbytes: int, on_close: Callable[[], None]) -> None:
        self.path = f"/proc/{os.getpid()}/fd/{descriptor}"
        self._descriptor = descriptor
        self._nbytes = nbytes
        self._on_close = on_close
        self._is_closed = False

    def __len__(self) -> int:
        return self._nbytes

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._nbytes)
        return os.pread(self._descriptor, stop - start, start)

    def close(self) -> None:
        """Let go of the file."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self._descriptor)
            self._on_close()

    # An answer may be dropped in many places, and a file that is not closed holds room for others.
    __del__ = close


def no_room() -> StorageFullError:
    """Return the refusal of a request whose answer is long and could not be written."""
    return StorageFullError("the answer is long, and the server's disk has no room for it; its log has the details")


class Spool:
    """Room for answers that are sent.

    Args:
        folder: where the files lie.
        limit: bytes of all of them.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._room = Reservations(limit)

    @property
    def held(self) -> int:
        """Bytes of all files."""
        return self._room.held

    def has_room(self, nbytes: int, client: str) -> bool:
        """Return whether there is room for one more answer to a client."""
        return self._room.has_room(nbytes, client)

    def new(self, nbytes: int, client: str) -> FileBody:
        """Make a file for an answer.

        Raises:
            StorageFullError: it cannot be made.
        """
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                descriptor = os.dup(file.fileno())
        except OSError as error:
            _log.error("no file for a long answer can be made: %s", error)
            raise no_room() from None
        self._room.add(nbytes, client)
        return FileBody(descriptor, nbytes, lambda: self._room.add(-nbytes, client))
