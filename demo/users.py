"""The demo's accounts: names and Argon2id hashes in a SQLite file. Nothing here knows of sessions or of the web."""

import re
import secrets
import sqlite3
import threading
import unicodedata
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

__all__ = ["LONGEST", "SHORTEST", "NameTaken", "Users", "normalise", "objection"]

SHORTEST, LONGEST = 8, 256
"""Characters in a password. The longest is checked before hashing, so that nobody makes us hash a megabyte."""
_NAME = re.compile(r"[\w.-]{2,32}")


class NameTaken(Exception):
    """Somebody else has this name."""


def normalise(name: str) -> str:
    """The one spelling of a name that is kept: full-width letters and capitals make nobody else."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def objection(name: str, password: str) -> str | None:
    """What is wrong with a new account's name or password, to be shown to its owner; None if nothing is."""
    if not _NAME.fullmatch(normalise(name)):
        return "A username has 2 to 32 letters, digits, dots, hyphens or underscores."
    if not SHORTEST <= len(password) <= LONGEST:
        return f"A password has {SHORTEST} to {LONGEST} characters. Length is what makes it strong."
    if normalise(password) == normalise(name):
        return "The password must not be the username."
    return None


class Users:
    """The accounts in the file at `path`. `add` and `check` hash, which takes a while: call them in a thread."""

    def __init__(self, path: Path) -> None:
        self._hasher = PasswordHasher()  # Argon2id with the parameters of RFC 9106, section 4
        self._nobody = self._hasher.hash(secrets.token_urlsafe())
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, hash TEXT NOT NULL)"
        )

    def add(self, name: str, password: str) -> int:
        """Open an account and return its id. Raises NameTaken."""
        hashed = self._hasher.hash(password)
        with self._lock:
            try:
                cursor = self._db.execute(
                    "INSERT INTO users (name, hash) VALUES (?, ?)", (normalise(name), hashed)
                )
            except sqlite3.IntegrityError as error:
                raise NameTaken(name) from error
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def check(self, name: str, password: str) -> int | None:
        """The id of the account these belong to, or None. Takes as long for a name that nobody has (ASVS 6.3.8)."""
        found = self._row("SELECT id, hash FROM users WHERE name = ?", normalise(name))
        user_id, hashed = found or (None, self._nobody)
        try:
            self._hasher.verify(hashed, password[:LONGEST])
        except VerifyMismatchError:
            return None
        return user_id if len(password) <= LONGEST else None

    def name(self, user_id: str | None) -> str | None:
        """The name of an account, or None if there is none. A lookup by key in a small file: quick enough for an event loop."""
        found = self._row("SELECT name FROM users WHERE id = ?", user_id)
        return found[0] if found else None

    def seed(self, name: str, password: str) -> None:
        """Have this account, unless the name is already somebody's."""
        if not self._row("SELECT 1 FROM users WHERE name = ?", name):
            self.add(name, password)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _row(self, query: str, value: object) -> tuple | None:
        with self._lock:
            row: tuple | None = self._db.execute(query, (value,)).fetchone()
        return row
