"""The SQLite file itself: made once, private, recognised as ours; opened; and SQLite's errors in coatcheck's words."""

import os
import sqlite3
import time
from contextlib import closing
from typing import Final, Literal
from urllib.parse import quote

from coatcheck.errors import ConfigurationError, CorruptRecord, SessionError, StoreError, StoreUnavailable

__all__ = [
    "FAILURES",
    "PROBE",
    "Cursor",
    "Synchronous",
    "busy",
    "connect",
    "is_broken",
    "is_busy",
    "location",
    "prepare",
    "translated",
]

Cursor = sqlite3.Cursor
Synchronous = Literal["normal", "full"]

APPLICATION_ID: Final = 0x636F_6174  # "coat": `file sessions.db` shows it
SCHEMA_VERSION: Final = 1
SETTING_UP_SECONDS: Final = 30.0
PAGE_BYTES: Final = 2048
"""Each write puts the whole page into the log, with a checksum. Measured, us an update with rows of 400 / 900 / 2000 bytes:
pages of 1024: 10.3 / 14.4 / 18.3, of 2048: 11.3 / 15.0 / 17.7, of 4096 (SQLite's default): 17.8 / 17.3 / 17.3."""

# A rowid table. WITHOUT ROWID reads and writes short rows a tenth faster, but spills rows of more than a quarter page to
# overflow pages: with 1,500 bytes and 100,000 sessions 24 us a read against 6.5, and 54 an update against 18.
#
# `due` is a lower bound of `deadline`, and the index is on it. Touch and replace move the deadline and leave `due` alone, so they
# write one page and no index; the sweep moves `due` on when it finds that a session has lived longer (a lazy timer).
#
# A tombstone is a row with `ended_at`: then `version` is the deleter's token, and there is no `due`, no user and no content.
TABLES: Final = (
    """CREATE TABLE session (
        key TEXT PRIMARY KEY NOT NULL, version TEXT NOT NULL, due REAL, deadline REAL NOT NULL, seen_at REAL NOT NULL,
        ends_at REAL NOT NULL, ended_at REAL, user_id TEXT, login_at REAL, packed BLOB)""",
    "CREATE INDEX session_due ON session (due)",
    "CREATE INDEX session_ended ON session (ended_at) WHERE ended_at IS NOT NULL",
    "CREATE INDEX session_user ON session (user_id, login_at) WHERE user_id IS NOT NULL",
    "CREATE TABLE fence (user_id TEXT PRIMARY KEY NOT NULL, fence REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX fence_raised ON fence (fence)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
TALLIES: Final = (
    "CREATE TABLE IF NOT EXISTS tally"
    " (key TEXT PRIMARY KEY NOT NULL, count INTEGER NOT NULL, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS tally_until ON tally (until)",
)
"""Counters; a file from before there were any is given them when it is opened."""
PROBE: Final = f"PRAGMA user_version = {SCHEMA_VERSION}"
"""A write that changes nothing, and yet goes through the log like any other."""

# ---------------------------------------------------------------------------------------------------- making the file


def location(path: str | os.PathLike[str]) -> str:
    """The absolute path, so that a later `chdir` of a daemon moves nothing. Raises ConfigurationError for no file at all."""
    text = os.fspath(path)
    if not text or text == ":memory:" or "mode=memory" in text:
        raise ConfigurationError(
            f"store: {text!r} is no file; for sessions in memory give the store as 'memory:'"
        )
    if "\0" in text:
        raise ConfigurationError(f"store: {text!r} cannot be a path; give the path of a file")
    return os.path.abspath(text)


def prepare(path: str) -> None:
    """Make the file and its tables if they are not there. Safe when several processes do it at once.

    Raises ConfigurationError for what can never work: a directory that is missing or not writable, a file that is not SQLite's,
    not ours, or of a newer coatcheck. StoreUnavailable: somebody kept the file locked for half a minute.
    """
    _make_private(path)
    try:
        with closing(_open(path, SETTING_UP_SECONDS)) as db:
            recognised = _recognised(db, path)
            _insist_on_wal(db, path)
            if not recognised or not _has_tallies(db):
                _set_up(db, path)
    except sqlite3.Error as error:
        raise _unusable(path, error) from error


def _make_private(path: str) -> None:
    """Create the file 0600 (checklist 127); SQLite gives its companions -wal and -shm the same mode.

    Never opens a file that is there: closing it again would drop every lock that this process's connections have on it (POSIX).
    """
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise ConfigurationError(
            f"store: the directory {parent} of {path} does not exist, or may not be entered; create it, or give another path"
        )
    if os.path.isdir(path):
        raise ConfigurationError(f"store: {path} is a directory; give the path of a file in it")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(f"store: {path} cannot be created ({error.strerror}); {_RIGHTS}") from error
    _insist_on_rights(path, parent)


_RIGHTS: Final = "give the server's user the right to write the file and its directory, or give another path"


def _insist_on_rights(path: str, parent: str) -> None:
    effective = os.access in os.supports_effective_ids
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=effective):
        raise ConfigurationError(f"store: {path} may not be read and written; {_RIGHTS}")
    if not os.access(parent, os.W_OK | os.X_OK, effective_ids=effective):
        raise ConfigurationError(
            f"store: SQLite keeps its log beside {path}, and {parent} may not be written; {_RIGHTS}"
        )


def _recognised(db: sqlite3.Connection, path: str) -> bool:
    """Whether the tables are there. Looks before anything is changed: a foreign file stays as it is."""
    application, version, tables = db.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),"
        " (SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"store: {path} was written by a newer coatcheck (schema {version}, this one knows {SCHEMA_VERSION}); "
            "upgrade coatcheck, or give another path"
        )
    if application not in (0, APPLICATION_ID) or (tables and application == 0):
        raise ConfigurationError(
            f"store: {path} is the SQLite file of another application; give a path of its own"
        )
    return bool(application)


def _has_tallies(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'tally_until'").fetchone() is not None


def _insist_on_wal(db: sqlite3.Connection, path: str) -> None:
    """Also of a file that has its tables: a copy made by VACUUM INTO is not in WAL mode."""
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # heeded only as long as nothing is in the file
    if _into_wal(db) != "wal":
        raise ConfigurationError(
            f"store: {path} is on a file system without shared memory (NFS?); give a path on a local disk"
        )


def _set_up(db: sqlite3.Connection, path: str) -> None:
    db.execute("BEGIN IMMEDIATE")
    if not _recognised(db, path):  # another process may have been first
        for statement in TABLES:
            db.execute(statement)
    for statement in TALLIES:
        db.execute(statement)
    db.execute("COMMIT")


def _into_wal(db: sqlite3.Connection) -> object:
    """Switch to the write-ahead log. SQLite does not wait here when another process is switching too: so ask again."""
    deadline = time.monotonic() + SETTING_UP_SECONDS
    while True:
        try:
            return db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def _unusable(path: str, error: sqlite3.Error) -> SessionError:
    match _code(error):
        case sqlite3.SQLITE_NOTADB:
            return ConfigurationError(
                f"store: {path} is not an SQLite database; give the path of a new or of our own file"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return ConfigurationError(f"store: {path} cannot be written ({error}); {_RIGHTS}")
    return translated(error)


# --------------------------------------------------------------------------------------------------------- opening it


def connect(
    path: str, *, busy_timeout: float, synchronous: Synchronous, checkpoints: bool
) -> sqlite3.Connection:
    """Open the file, which must be there. `checkpoints`: a write may find itself moving the log into the file.

    Without `checkpoints` nor `synchronous="full"` no statement waits for the disk.
    """
    db = _open(path, busy_timeout)
    try:
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute(f"PRAGMA wal_autocheckpoint = {1000 if checkpoints else 0}")
    except BaseException:
        db.close()
        raise
    return db


def _open(path: str, busy_timeout: float) -> sqlite3.Connection:
    # Autocommit: transactions begin where we say so. Any thread: the pool hands a connection to one at a time.
    return sqlite3.connect(
        f"file:{quote(path)}?mode=rw",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
    )


# ------------------------------------------------------------------------------------------------------------- errors

FAILURES: Final = (sqlite3.Error, sqlite3.Warning, UnicodeError, OverflowError)
"""Everything that sqlite3 raises: also for a lone surrogate, or an integer of more than 64 bits, among the values."""

_UNAVAILABLE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_IOERR_SHMSIZE: "the disk is full; make room",  # for the shared memory beside the file
    sqlite3.SQLITE_IOERR: "the disk does not answer",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; was it moved, or is the process out of file descriptors?",
    sqlite3.SQLITE_READONLY: "the file may not be written, or was moved",
    sqlite3.SQLITE_PERM: "the file may not be opened",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_PROTOCOL: "the file is too busy",
}
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: BaseException) -> int:
    """SQLite's primary result code; the high bits only say more about the circumstances."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Another connection holds the lock; nothing was done."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def busy(why: str) -> sqlite3.OperationalError:
    """An error as SQLite raises it for a busy file."""
    error = sqlite3.OperationalError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


def is_broken(error: BaseException) -> bool:
    """This connection may never work again, though a new one might: the file was moved, restored, or the disk was away."""
    return _code(error) in (*_DAMAGED, *_UNAVAILABLE) and _code(error) != sqlite3.SQLITE_FULL


def translated(error: BaseException) -> SessionError:
    """What coatcheck calls this error; the caller keeps the original as the cause."""
    if is_busy(error):
        return StoreUnavailable(
            "SQLite: the file stayed locked for longer than busy_timeout; is another program writing to it?"
        )
    code = _code(error)
    if (why := _UNAVAILABLE.get(getattr(error, "sqlite_errorcode", 0)) or _UNAVAILABLE.get(code)) is not None:
        return StoreUnavailable(f"SQLite: {why} ({error})")
    if code in _DAMAGED:
        return StoreError(
            f"SQLite: the file is damaged ({error}); stop the servers, check the disk, restore or delete the file"
        )
    if "decode to UTF-8" in str(error):
        return CorruptRecord("SQLite: a text in the row is not UTF-8")
    # Not the message: Python's own would repeat the value.
    return StoreError(
        f"SQLite: {type(error).__name__}" + (f": {error}" if isinstance(error, sqlite3.Error) else "")
    )
