"""Addresses of stores, which processes of one server can hand to each other as JSON or by pickle."""

import os
import shutil
import stat
import sys
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

_PREFIX = "pullback-"
#: File in a private directory that is locked for as long as a process of its server lives.
_LOCK = "lock"


class StoreAddress(NamedTuple):
    """The place of a store.

    kind: `sqlite` is a durable file, `private` a file that is removed with its server, `redis` a server.
    place: the directory of the file, or the URL; the URL may have a password in it.
    """

    kind: Literal["sqlite", "private", "redis"]
    place: str


class PrivateDirectory:
    """A new temporary directory that only this user can read; it is removed by `close`, and at the latest at exit.

    A process that was forked from its owner never removes it. The next one that is made removes those of servers that
    were killed.
    """

    def __init__(self) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Until the lock is held, nobody may find the file that it belongs to.
        made = self.path / f"{_LOCK}.new"
        lock = _locked(made, create=True)
        if lock is not None:
            made.rename(self.path / _LOCK)
        # tempfile.TemporaryDirectory would warn where nobody closed it, and be removed by forked processes too.
        self._remove = weakref.finalize(self, _remove, self.path, lock, os.getpid())

    def close(self) -> None:
        """Remove the directory and all that is in it."""
        self._remove()


def _remove(path: Path, lock: int | None, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    """Remove the private directories of servers that no longer run."""
    for path in folder.glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError):
            found = path.parent.lstat()
            # In a folder that all may write to, a name proves nothing.
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
                lock = _locked(path, create=False)
                if lock is not None:
                    _remove(path.parent, lock, os.getpid())


def _locked(path: Path, *, create: bool) -> int | None:
    """Open and lock a file; None where it is locked, or where this system has no such locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
