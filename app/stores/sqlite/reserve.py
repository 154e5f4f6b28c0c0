"""Behaviour on a full disk: how it is told from other failures, and a reserve that lets deletes through."""

import errno
import os
import sqlite3
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

#: The journal of a delete needs space before the delete frees any: a page for about 1,000 that are freed, and the
#: pages of the indices.
RESERVE_BYTES = 4 * 2**20
#: Bytes that are written to find out whether the disk is full.
_PROBE_BYTES = 64 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Reserve:
    """A file beside the database that is removed when the disk is full, and made again when there is room."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Make the file, unless it is there or there is no room for it."""
        if self._path.exists():
            return
        try:
            with self._path.open("wb") as file:
                if sys.platform in ("win32", "darwin"):
                    file.write(bytes(RESERVE_BYTES))
                else:
                    os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError:
            self.give_up()

    def give_up(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self._path.unlink()


def is_full(error: sqlite3.Error, path: Path) -> bool:
    """Return whether SQLite fails on a file because the disk, a quota or the size of files is at its limit."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR:
        # Of these, SQLite calls only a full disk by its name; a quota and a limit on files are errors of input/output.
        return not _has_space(path)
    return code == sqlite3.SQLITE_FULL


def _has_space(path: Path) -> bool:
    beside = (path, path.with_name(f"{path.name}-wal"))
    try:
        largest = max(each.stat().st_size for each in beside if each.exists())
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            # A hole takes no space, and shows how long a file may be.
            probe.seek(largest)
            probe.write(b"\1" * _PROBE_BYTES)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno not in _FULL
    return True
