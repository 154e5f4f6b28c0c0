"""Schema of the SQLite file, and its migrations."""

import hashlib
import sqlite3
from collections.abc import Iterator

from app.stores.errors import StoreError
from app.stores.sqlite import keys

#: Marks the file as one of ours: "PLBK" in ASCII.
APPLICATION_ID = 0x504C424B

#: Applied one after the other they make the schema; a file records how many of them it has had.
SCHEMAS = (
    """
CREATE TABLE programs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    used_at REAL NOT NULL,
    bytes INTEGER NOT NULL,
    summary TEXT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX programs_used_at ON programs (used_at);
CREATE INDEX programs_bytes ON programs (bytes);
CREATE TABLE program_names (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    program TEXT NOT NULL REFERENCES programs (id) ON DELETE CASCADE
);
CREATE INDEX program_names_program ON program_names (program);
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX blobs_bytes ON blobs (bytes);
CREATE TABLE bindings (
    program TEXT NOT NULL REFERENCES programs (id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES blobs (digest),
    dtype TEXT NOT NULL,
    shape TEXT NOT NULL,
    PRIMARY KEY (program, place)
) WITHOUT ROWID;
CREATE INDEX bindings_digest ON bindings (digest);
CREATE TRIGGER bindings_deleted AFTER DELETE ON bindings BEGIN
    DELETE FROM blobs WHERE digest = old.digest AND NOT EXISTS (SELECT 1 FROM bindings WHERE digest = old.digest);
END;
""",
    """
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    ttl_s REAL NOT NULL,
    bytes INTEGER NOT NULL,
    name TEXT,
    client TEXT NOT NULL,
    key BLOB UNIQUE,
    request BLOB,
    status INTEGER,
    media_type TEXT,
    answer BLOB,
    document BLOB NOT NULL
);
CREATE INDEX sessions_expires_at ON sessions (expires_at);
CREATE INDEX sessions_client ON sessions (client, expires_at);
CREATE TABLE session_arrays (
    session INTEGER NOT NULL REFERENCES sessions (number) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (session, number)
);
""",
    "ALTER TABLE sessions ADD COLUMN revision TEXT NOT NULL DEFAULT '';",
    # Ids are secrets: from here on only their digests are stored. Keys of sessions made before are dropped, because
    # nothing tells the id for one any more.
    """
UPDATE sessions SET id = sha256(id), key = NULL;
UPDATE sessions SET bytes = 0 WHERE document = x'';
ALTER TABLE sessions RENAME COLUMN id TO digest;
ALTER TABLE sessions ADD COLUMN sealed BLOB;
DROP INDEX programs_bytes;
DROP INDEX blobs_bytes;
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE usage (
    kind TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE client_usage (
    client TEXT PRIMARY KEY,
    sessions INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO usage SELECT 'programs', COUNT(*), COALESCE(SUM(bytes), 0) FROM programs;
UPDATE usage SET bytes = bytes + (SELECT COALESCE(SUM(bytes), 0) FROM blobs) WHERE kind = 'programs';
INSERT INTO usage SELECT 'sessions', COUNT(*), COALESCE(SUM(bytes), 0) FROM sessions;
INSERT INTO client_usage SELECT client, COUNT(*), SUM(bytes) FROM sessions GROUP BY client;
CREATE TRIGGER programs_counted AFTER INSERT ON programs BEGIN
    UPDATE usage SET number = number + 1, bytes = bytes + new.bytes WHERE kind = 'programs';
END;
CREATE TRIGGER programs_discounted AFTER DELETE ON programs BEGIN
    UPDATE usage SET number = number - 1, bytes = bytes - old.bytes WHERE kind = 'programs';
END;
CREATE TRIGGER blobs_counted AFTER INSERT ON blobs BEGIN
    UPDATE usage SET bytes = bytes + new.bytes WHERE kind = 'programs';
END;
CREATE TRIGGER blobs_discounted AFTER DELETE ON blobs BEGIN
    UPDATE usage SET bytes = bytes - old.bytes WHERE kind = 'programs';
END;
CREATE TRIGGER sessions_counted AFTER INSERT ON sessions BEGIN
    UPDATE usage SET number = number + 1, bytes = bytes + new.bytes WHERE kind = 'sessions';
    INSERT OR IGNORE INTO client_usage VALUES (new.client, 0, 0);
    UPDATE client_usage SET sessions = sessions + 1, bytes = bytes + new.bytes WHERE client = new.client;
END;
CREATE TRIGGER sessions_recounted AFTER UPDATE OF bytes ON sessions WHEN new.bytes <> old.bytes BEGIN
    UPDATE usage SET bytes = bytes + new.bytes - old.bytes WHERE kind = 'sessions';
    UPDATE client_usage SET bytes = bytes + new.bytes - old.bytes WHERE client = new.client;
END;
CREATE TRIGGER sessions_discounted AFTER DELETE ON sessions BEGIN
    UPDATE usage SET number = number - 1, bytes = bytes - old.bytes WHERE kind = 'sessions';
    UPDATE client_usage SET sessions = sessions - 1, bytes = bytes - old.bytes WHERE client = old.client;
    DELETE FROM client_usage WHERE client = old.client AND sessions = 0;
END;
""",
    # What was there before belongs to nobody, which is whoever runs the server.
    keys.SCHEMA
    + """
CREATE TABLE program_claims (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    program TEXT NOT NULL REFERENCES programs (id) ON DELETE CASCADE,
    UNIQUE (owner, program)
);
CREATE INDEX program_claims_program ON program_claims (program);
INSERT INTO program_claims (owner, program) SELECT '', id FROM programs ORDER BY number;
ALTER TABLE program_names ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN owner TEXT NOT NULL DEFAULT '';
""",
)
SCHEMA_VERSION = len(SCHEMAS)


def initialise(connection: sqlite3.Connection) -> None:
    """Create the tables that a file lacks; leave a file of a later release alone."""
    is_new = _is_empty(connection)
    if is_new or pragma(connection, "application_id") == APPLICATION_ID:
        # A copy of a database has another mode.
        connection.execute("PRAGMA journal_mode = WAL")
    if not is_new and not is_older(connection):
        return
    connection.create_function("sha256", 1, lambda text: hashlib.sha256(text.encode()).hexdigest(), deterministic=True)
    # Ids of sessions that were stored as they are leave no trace in the file.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been faster.
    if _is_empty(connection) or is_older(connection):
        for schema in SCHEMAS[pragma(connection, "user_version") :]:
            for statement in _statements(schema):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def check_schema(connection: sqlite3.Connection) -> None:
    """Raise StoreError, with the end of a sentence about the file, where it is not one of this release."""
    if pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreError("is a database of something else")
    version = pragma(connection, "user_version")
    if version != SCHEMA_VERSION:
        raise StoreError(f"has schema version {version}; this release reads version {SCHEMA_VERSION}")


def is_older(connection: sqlite3.Connection) -> bool:
    """Return whether the file is one of an earlier release."""
    is_ours = pragma(connection, "application_id") == APPLICATION_ID
    return is_ours and 0 < pragma(connection, "user_version") < SCHEMA_VERSION


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return the value of a pragma that is a number."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _is_empty(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
    return not tables and not pragma(connection, "application_id") and not pragma(connection, "user_version")


def _statements(script: str) -> Iterator[str]:
    """Split a script into statements; `executescript` would run them outside of the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
