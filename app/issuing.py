"""Keys as the operator of a server makes them, in the store and not over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from app.assembly import new_store
from app.keys.admin import KeyAdmin, KeyAdminError
from app.settings import Settings, shown
from app.stores import StoreError, StoreUnavailableError
from app.stores.keys import KeyRecord
from app.stores.sqlite import FILE


@contextmanager
def administered(settings: Settings, *, may_make: bool) -> Iterator[KeyAdmin]:
    """Open the keys of the store that settings name.

    Args:
        settings: they name it.
        may_make: whether a store is made where there is none.

    Raises:
        KeyAdminError: it cannot be used.
    """
    if settings.store == "memory":
        raise KeyAdminError("PULLBACK_STORE is memory: that store ends with its server, and nobody else can open it")
    file = settings.data_dir / FILE
    if settings.store == "sqlite" and not may_make and not file.exists():
        raise KeyAdminError(
            f'there is no "{file.absolute()}"; PULLBACK_DATA_DIR names the directory of the server\'s store'
        )
    store = new_store(settings)
    try:
        store.open()
        yield KeyAdmin(store.keys)
    except (StoreError, StoreUnavailableError) as error:
        raise KeyAdminError(str(error)) from None
    finally:
        store.close()


def place(settings: Settings) -> str:
    """Return where the store is that settings name; of a URL without who may use it."""
    return str((settings.data_dir / FILE).absolute()) if settings.store == "sqlite" else shown(settings.store)


def line(record: KeyRecord) -> str:
    """Return a line about a key: id, scopes, limits, times and name."""
    parts = [record.id, ",".join(record.scopes)]
    limits = {
        "rate": record.rates.units_s,
        "burst": record.rates.burst,
        "bytes/s": record.rates.bytes_s,
        **{name.replace("_", "-"): value for name, value in record.allowance._asdict().items()},
    }
    parts += [f"{name} {value:,g}" for name, value in limits.items() if value is not None]
    parts.append(f"created {_time(record.created_at)}")
    if record.revoked_at is not None:
        parts.append(f"revoked {_time(record.revoked_at)}")
    elif record.former:
        parts.append(f"old secret until {_time(record.former_until)}")
    return "  ".join([*parts, record.name])


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
