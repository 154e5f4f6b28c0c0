"""Examination of a store: a sentence for each fault, for the operator of a server."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from app.handles import handle_of
from app.maintenance import MaintenanceError, file_of
from app.programs import ProgramLimits, packing
from app.sessions import snapshot
from app.sessions.session import Quotas
from app.settings import REDIS, Settings
from app.stores import Policy, SessionPolicy, SessionStore, SqliteStore, Store, StoreError, StoreUnavailableError
from app.stores.address import PrivateDirectory
from app.stores.errors import DamagedError
from app.stores.sessions import Head
from app.stores.sqlite import FILE, copies
from engine.core import AutogradError

#: Programs that are read at a time.
_PAGE = 100
#: Sessions are read whatever the limits are now.
_NO_LIMIT = 2**62


def examine(settings: Settings, file: Path | None) -> Iterator[str]:
    """Yield a sentence for each fault of the store that settings name, or of a file that was backed up.

    A file is copied to the temporary directory first, so that nothing of it changes, and one of an earlier release is
    read as it would be after its migration. Secrets are not shown.

    Raises:
        MaintenanceError: the store cannot be opened.
    """
    with _without_log():
        try:
            if file is None and settings.store.startswith(REDIS):
                yield from _faults_in_redis(settings)
            else:
                yield from _faults_in_file(file or file_of(settings), settings.program_limits())
        except (StoreError, StoreUnavailableError) as error:
            raise MaintenanceError(str(error)) from None


def _faults_in_redis(settings: Settings) -> Iterator[str]:
    from app.stores.redis import RedisStore

    with closing(RedisStore(settings.store, Policy(), _ageless())) as store:
        store.open()
        yield from _faults_of_content(store, settings.program_limits())


def _faults_in_file(file: Path, limits: ProgramLimits) -> Iterator[str]:
    if not file.is_file():
        raise MaintenanceError(f'there is no file "{file}"')
    with closing(PrivateDirectory()) as directory:
        copied = directory.path / FILE
        try:
            copies.copy(file, copied)
        except StoreError as error:
            yield str(error).replace(f', or "{copied}" not written', "")
            return
        found = copies.faults(copied)
        yield from found
        try:
            with closing(SqliteStore(directory.path, Policy(), _ageless(), is_private=True)) as store:
                store.open()
                yield from _faults_of_content(store, limits)
        except (StoreError, StoreUnavailableError) as error:
            # A damaged file has said why already.
            if not found:
                yield f"the file cannot be used: {error}"


def _faults_of_content(store: Store, limits: ProgramLimits) -> Iterator[str]:
    after = 0
    while page := store.list_programs(_PAGE, after):
        for listed in page:
            if fault := _fault_of_program(store, listed.id, limits):
                yield f"the program {listed.id} {fault}"
        after = page[-1].number
    damaged: list[DamagedError] = []
    for head in store.sessions.list(damaged.append):
        if fault := "" if head.has_ended else _fault_of_session(store.sessions, head, limits):
            yield f"the session {handle_of(head.digest)} {fault}"
    for error in damaged:
        yield f"{error.what} is damaged: {error.reason}"


def _fault_of_program(store: Store, program_id: str, limits: ProgramLimits) -> str:
    try:
        program = store.load_program(program_id)
        if program is None:
            return "was deleted meanwhile, or has no content"
        digests = [binding.digest for binding in program.bound.values()]
        blobs = store.load_blobs(digests)
        if missing := [digest for digest in digests if digest not in blobs]:
            return f"has lost a bound array: {missing[0]}"
        packing.unpack(program, blobs, limits)
        packing.check_summary(program)
    except DamagedError as error:
        return f"is damaged: {error.reason}"
    except AutogradError as error:
        return f"cannot be used with the settings of now: {error}"
    return ""


def _fault_of_session(store: SessionStore, head: Head, limits: ProgramLimits) -> str:
    try:
        content = store.load(head.digest)
        if content is None:
            return "was deleted meanwhile, or has no content"
        quotas = Quotas(_NO_LIMIT, _NO_LIMIT, _NO_LIMIT, _NO_LIMIT, limits)
        _, kept = snapshot.read(content.document, content.arrays, quotas)
    except DamagedError as error:
        return f"is damaged: {error.reason}"
    except snapshot.DamagedSnapshotError as error:
        return f"is damaged: {error}"
    if unused := content.arrays.keys() - kept.arrays.keys():
        return f"has arrays that nothing refers to: {sorted(unused)}"
    answer = b"" if content.answered is None else content.answered.content
    size = len(content.document) + len(answer) + sum(array.nbytes for array, _ in kept.arrays.values())
    return "" if size == content.head.bytes else f"counts {content.head.bytes:,} bytes, and has {size:,}"


def _ageless() -> SessionPolicy:
    """Limits under which no session has expired: those of an old copy are examined too."""
    return SessionPolicy(clock=lambda: 0.0)


@contextmanager
def _without_log() -> Iterator[None]:
    """Silence the log, which would repeat every sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
