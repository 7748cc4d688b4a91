"""The tables of the SQLAlchemy store, of SQLAlchemy's own types, so that Alembic can write them into a migration as they are.

`due` is a lower bound of `deadline`, and the index is on it. Touch and replace move the deadline and leave `due` where it is, so
they change no index; the sweep moves `due` on when it finds that a session has lived longer (a lazy timer). A tombstone is a row
with `ended_at`: then `version` is the deleter's token, `due` the end of its minute, and there is no user and no content.

Times are double precision, in seconds: no server's or connection's time zone has a say in them.
"""

import re
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Column, Double, Index, LargeBinary, MetaData, String, Table
from sqlalchemy.dialects.mysql import LONGBLOB, VARBINARY
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from coatcheck.errors import ConfigurationError

__all__ = ["MYSQL", "Exact", "Tables", "tables"]

MYSQL: Final = ("mysql", "mariadb")
"""What SQLAlchemy calls the dialect, depending on the URL: either name may have either server behind it."""
LONGEST: Final = 255
"""Characters of a user id, a key, a version."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
_OPTIONS: Final = {
    f"{name}_{option}": value
    for name in MYSQL
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"))
}


class Tables(NamedTuple):
    """The tables of one store."""

    session: Table
    user: Table
    """A row for each user who logged in lately: what a login locks (PROTOCOL rule 24), and their fence."""
    tally: Table
    """A row for each counter (`Tallies`)."""


def tables(metadata: MetaData, *, prefix: str = "coatcheck_", schema: str | None = None) -> Tables:
    """The tables, as part of `metadata`: for Alembic's `target_metadata`. Twice with the same arguments: the same tables.

    `prefix` begins the name of each table and index, `schema` is the schema they are in (None: the connection's own). Give the
    store the same ones. Raises ConfigurationError for a name that is none.
    """
    for setting, name in (("prefix", prefix), ("schema", schema)):
        if name is not None and not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{setting}={name!r}: give up to 41 of A-Z a-z 0-9 _, a letter or _ first"
            )
    return Tables(*(_table(metadata, prefix, name, schema) for name in _PARTS))


def _table(metadata: MetaData, prefix: str, name: str, schema: str | None) -> Table:
    there = metadata.tables.get(f"{schema}.{prefix}{name}" if schema else prefix + name)
    if there is not None:
        return there
    options: Any = _OPTIONS
    return Table(prefix + name, metadata, *_PARTS[name](prefix), schema=schema, **options)


def _exact(bytes_: int) -> TypeEngine[Any]:
    """Text that is compared byte by byte. MySQL's collations ignore case, or trailing spaces, or have another name elsewhere."""
    return String(LONGEST).with_variant(VARBINARY(bytes_), *MYSQL)


def _session(prefix: str) -> list[Any]:
    packed = LargeBinary().with_variant(LONGBLOB(), *MYSQL)
    theirs = Column("user_id", _exact(4 * LONGEST))
    return [
        Column("key", _exact(LONGEST), primary_key=True),
        Column("version", _exact(LONGEST), nullable=False),
        Column("due", Double, nullable=False),
        Column("deadline", Double, nullable=False),
        Column("seen_at", Double, nullable=False),
        Column("ends_at", Double, nullable=False),
        Column("ended_at", Double),
        theirs,
        Column("login_at", Double),
        Column("packed", packed),
        # With `ended_at`, so that counting reads the index alone.
        Index(f"{prefix}session_due", "due", "ended_at"),
        Index(
            f"{prefix}session_user",
            "user_id",
            "login_at",
            postgresql_where=theirs.is_not(None),
            sqlite_where=theirs.is_not(None),
        ),
    ]


def _user(prefix: str) -> list[Any]:
    return [
        Column("user_id", _exact(4 * LONGEST), primary_key=True),
        Column("fence", Double),
        Column("since", Double, nullable=False),
        Index(f"{prefix}user_since", "since"),
    ]


def _tally(prefix: str) -> list[Any]:
    return [
        Column("key", _exact(LONGEST), primary_key=True),
        Column("count", BigInteger, nullable=False),
        Column("until", Double, nullable=False),
        Index(f"{prefix}tally_until", "until"),
    ]


_PARTS: Final = {"session": _session, "user": _user, "tally": _tally}


class Exact(TypeDecorator[str]):
    """How statements pass such text: as UTF-8 to MySQL, whatever the connection's character set, and as text elsewhere."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """VARBINARY on MySQL."""
        return dialect.type_descriptor(VARBINARY(4 * LONGEST) if dialect.name in MYSQL else String(LONGEST))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Encode for MySQL. Raises UnicodeError for a lone surrogate."""
        return value.encode() if value is not None and dialect.name in MYSQL else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Decode what MySQL answers. Raises UnicodeError for what is not UTF-8."""
        return value.decode() if isinstance(value, (bytes, bytearray)) and dialect.name in MYSQL else value
