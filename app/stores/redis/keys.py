"""Keys in a Redis or Valkey server."""

from app.stores.keys import KeyRecord, OnDamage, read_record, read_records
from app.stores.redis.server import PREFIX, Server


class RedisKeys:
    """Keys in a server; `keys.lua` says under which names."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._call = server.script("keys.lua")

    def add(self, record: KeyRecord) -> KeyRecord:
        """See `KeyStore`."""
        return read_record(int(self._call("add", record.written())), record.written())

    def swap(self, before: KeyRecord, after: KeyRecord) -> bool:
        """See `KeyStore`."""
        return bool(self._call("swap", before.number, before.written(), after.written()))

    def list(self, on_damage: OnDamage | None = None) -> list[KeyRecord]:
        """See `KeyStore`."""
        found = self._server.ask("HGETALL", f"{PREFIX}keys")
        pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        return read_records(((int(number), text.decode(errors="replace")) for number, text in pairs), on_damage)

    def revision(self) -> int:
        """See `KeyStore`."""
        return int(self._server.ask("GET", f"{PREFIX}keys-revision") or 0)
