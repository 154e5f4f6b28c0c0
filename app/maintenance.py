"""Backup and restore of a store, for the operator of a server."""

import os
import sys
from pathlib import Path

from app.settings import Settings
from app.stores import StoreError
from app.stores.sqlite import FILE, copies

_REDIS = (
    "PULLBACK_STORE names a Redis server, whose own tools back it up: BGSAVE and a copy of its dump.rdb, or its "
    "append-only file; to restore, start a server on that copy"
)
_MEMORY = "PULLBACK_STORE is memory: programs and sessions belong to the server, and end with it"


class MaintenanceError(Exception):
    """A store cannot be copied, replaced or examined; the text is one readable line."""


def backup(settings: Settings, target: Path) -> str:
    """Copy the store, also while a server uses it, to a new file; return a sentence about it.

    Raises:
        MaintenanceError: there is no such file, or the copy cannot be made.
    """
    source = file_of(settings)
    if not source.exists():
        raise MaintenanceError(f'there is no "{source}" to back up (setting PULLBACK_DATA_DIR)')
    try:
        copies.copy(source, target)
    except StoreError as error:
        raise MaintenanceError(str(error)) from None
    if found := copies.faults(target):
        raise MaintenanceError(f'"{target}" was made, but {found[0]}; `pullback doctor {target}` shows all')
    return f"backed up {target.stat().st_size:,} bytes to {target}"


def restore(settings: Settings, source: Path, *, force: bool) -> str:
    """Put the copy that `backup` made in the place of the store; return a sentence about it.

    Args:
        settings: they name the store.
        source: the copy; it stays.
        force: whether to replace a store that exists, or that a server has open. That server keeps nothing from then
            on, and says so, until it is restarted.

    Raises:
        MaintenanceError: the copy is not usable, or there is a store already.
    """
    target = file_of(settings)
    if not source.is_file():
        raise MaintenanceError(f'there is no file "{source}"')
    if found := copies.faults(source):
        raise MaintenanceError(f'"{source}" is not restored: {found[0]}; `pullback doctor {source}` shows all')
    copied = target.with_name(f"{target.name}.restored")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with copies.locked(target) as is_free:
            if not is_free and not force:
                raise MaintenanceError(f'a server has "{target}" open: stop it first, or say --force')
            if target.exists() and not force:
                raise MaintenanceError(f'"{target}" exists: --force replaces it')
            copied.unlink(missing_ok=True)
            copies.copy(source, copied)
            _give_to_owner(copied)
            copies.replace(target, copied)
    except StoreError as error:
        raise MaintenanceError(str(error)) from None
    except OSError as error:
        raise MaintenanceError(f'"{target}" cannot be written: {error.strerror}') from None
    return f"restored {target} from {source}; `pullback doctor` looks at each program and session of it"


def _give_to_owner(file: Path) -> None:
    """Let a file that root has made belong to the owner of its directory, as whom the server runs."""
    if sys.platform != "win32" and os.geteuid() == 0:
        found = file.parent.stat()
        os.chown(file, found.st_uid, found.st_gid)


def file_of(settings: Settings) -> Path:
    """Return the file of the store that settings name.

    Raises:
        MaintenanceError: the store has no file, or one that ends with its server.
    """
    if settings.store == "memory":
        raise MaintenanceError(_MEMORY)
    if settings.store != "sqlite":
        raise MaintenanceError(_REDIS)
    return settings.data_dir / FILE
