"""Storage of API keys: records without secrets, as JSON."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter
from pydantic_core import from_json

from app.stores.errors import StoreUnavailableError
from app.stores.owners import Allowance

#: Most keys of a store, the revoked ones included: each has a place in the file in which edges share rates.
MOST_KEYS = 65_536


#: Nothing but the known fields: a limit that is not understood must not be left out.
_ONLY_FIELDS = ConfigDict(extra="forbid")
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]

#: Takes the error of a record that is damaged.
OnDamage = Callable[[StoreUnavailableError], None]


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates that a key is held to; None: no limit.

    units_s: work units a second; a unit is a millisecond of measured processor time.
    burst: units that may be used at once after a pause.
    bytes_s: bytes a second, of requests and responses together.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _ONLY_FIELDS

    units_s: _Rate | None = None
    burst: _Rate | None = None
    bytes_s: _Rate | None = None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """Facts of a key. Its secret is not among them, and cannot be found from them.

    number: counts keys from 1; 0 before the key is stored.
    id: public part of the key, and the owner of what is made with it.
    digest: SHA-256 of the whole key, in hex.
    former, former_until: digest of the key before the last rotation, and the time until which it holds.
    created_at, revoked_at: in seconds since 1970.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _ONLY_FIELDS

    number: int
    id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    rates: Rates
    allowance: Allowance
    created_at: FiniteFloat
    revoked_at: FiniteFloat | None = None
    former: str = ""
    former_until: FiniteFloat = 0.0

    def written(self) -> str:
        """Return the record as JSON, without its number."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "number"}
        fields |= {"rates": dataclasses.asdict(self.rates), "allowance": self.allowance._asdict()}
        return json.dumps(fields, sort_keys=True)


_RECORD = TypeAdapter(KeyRecord)


def read_record(number: int, text: str) -> KeyRecord:
    """Return the record of a text.

    Raises:
        StoreUnavailableError: it is damaged.
    """
    try:
        return _RECORD.validate_python(from_json(text) | {"number": number})
    except (ValueError, TypeError) as error:
        raise StoreUnavailableError(f"the record of key number {number} is damaged in the store") from error


def read_records(rows: Iterable[tuple[int, str]], on_damage: OnDamage | None) -> list[KeyRecord]:
    """Return the records of texts in the order of their numbers.

    on_damage: called with the error of each that is damaged, which is left out.

    Raises:
        StoreUnavailableError: one is damaged, and nobody wants to be called.
    """
    found = []
    for number, text in sorted(rows):
        try:
            found.append(read_record(number, text))
        except StoreUnavailableError as error:
            if on_damage is None:
                raise
            on_damage(error)
    return found


class KeyStore(Protocol):
    """Storage of keys. Methods may be called by many threads, and are durable.

    Every method may raise StoreUnavailableError; those that write, StorageFullError too.
    """

    def add(self, record: KeyRecord) -> KeyRecord:
        """Store a new key, and return it with its number."""

    def swap(self, before: KeyRecord, after: KeyRecord) -> bool:
        """Replace a record; return False where it is not as it was any more."""

    def list(self, on_damage: OnDamage | None = None) -> list[KeyRecord]:
        """Return all keys in the order of their creation, the revoked ones too; `on_damage` as in `read_records`."""

    def revision(self) -> int:
        """Return a number that is another one after every change."""
