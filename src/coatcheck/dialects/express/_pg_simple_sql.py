"""What is said to PostgreSQL about connect-pg-simple's table: its name, how it is made, and one statement for each verb.

The package keeps the end of a session in `expire`, a timestamp *without* time zone, and writes and compares it with
`to_timestamp(n)`, which has one. So PostgreSQL converts, by the TimeZone of the connection that asks, and two connections with
different settings disagree by hours about who is logged in (wire formats 1.4). Here the zone of Node's connections stands in
every statement, as `AT TIME ZONE`: what our own connection is set to plays no part. It is the same conversion of PostgreSQL's, so
an hour that a clock passes twice in autumn is read as Node reads it: as the later one.

Where somebody has made the column a `timestamptz`, which Node's statements take as well, there is nothing to convert.
"""

import re
from typing import Final, NamedTuple

from coatcheck.errors import ConfigurationError

__all__ = ["SESS_TYPES", "Statements", "TableName", "setup"]

LONGEST: Final = 63
"""Octets; PostgreSQL cuts longer names, and two that begin alike would be one."""
SESS_TYPES: Final = frozenset({"json", "jsonb", "text", "character varying"})
"""What `sess` may be: theirs is json, and Node reads and writes the others just the same."""
_OLD_SPELLING: Final = re.compile(r'[^"]+"\."[^"]+')

# connect-pg-simple's table.sql, to the letter. The package puts the table's name in the place of "session", and nothing else.
_THEIRS: Final = """
CREATE TABLE "session" (
  "sid" varchar NOT NULL COLLATE "default",
  "sess" json NOT NULL,
  "expire" timestamp(6) NOT NULL
)
WITH (OIDS=FALSE);

ALTER TABLE "session" ADD CONSTRAINT "session_pkey" PRIMARY KEY ("sid") NOT DEFERRABLE INITIALLY IMMEDIATE;

CREATE INDEX "IDX_session_expire" ON "session" ("expire");
"""
_CONSTRAINT: Final = ' CONSTRAINT "session_pkey"'
_INDEX: Final = ' "IDX_session_expire"'

# One process at a time; the look at pg_class has this one see what the others have made. A Node process that makes the table at
# the same moment has not waited: then it is there, which is all that was wanted.
_SETUP: Final = """
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('coatcheck setup', 0));
    PERFORM 1 FROM pg_class LIMIT 1;
    IF to_regclass({table}) IS NOT NULL THEN
        RETURN;
    ELSIF to_regclass({key}) IS NULL AND to_regclass({index}) IS NULL THEN
        {theirs}
    ELSE
        {nameless}
    END IF;
EXCEPTION WHEN duplicate_table OR unique_violation THEN
    NULL;
END
"""

_GET: Final = (
    "SELECT t.sess::text, {epoch} FROM {table} AS t"
    " WHERE t.sid = $1::text AND {ends} >= to_timestamp($2::double precision)"
)
_CREATE: Final = (
    "INSERT INTO {table} AS t (sid, sess, expire)"
    " VALUES ($1::text, $2::text::{json}, to_timestamp($3::double precision){zone})"
    " ON CONFLICT (sid) DO UPDATE SET sess = excluded.sess, expire = excluded.expire"
    " WHERE NOT {ends} >= to_timestamp($4::double precision) RETURNING 1"
)
# Over the whole text that was read: json keeps it to the octet, jsonb writes it alike each time.
_REPLACE: Final = (
    "UPDATE {table} AS t SET sess = $2::text::{json}, expire = to_timestamp($3::double precision){zone}"
    " WHERE t.sid = $1::text AND {ends} >= to_timestamp($4::double precision)"
    ' AND t.sess::text COLLATE "C" = $5::text RETURNING 1'
)
_TOUCH: Final = (
    "UPDATE {table} AS t SET expire = to_timestamp($2::double precision){zone}"
    " WHERE t.sid = $1::text AND {ends} >= to_timestamp($3::double precision)"
)
_DESTROY: Final = "DELETE FROM {table} WHERE sid = $1::text RETURNING 1"
_NAMES: Final = (
    "SELECT t.sid FROM {table} AS t WHERE t.sid > $1::text AND {ends} >= to_timestamp($2::double precision)"
    " ORDER BY t.sid LIMIT $3::bigint"
)
_LENGTH: Final = "SELECT count(*) FROM {table} AS t WHERE {ends} >= to_timestamp($1::double precision)"
_CLEAR: Final = (
    "WITH gone AS (DELETE FROM {table} WHERE sid = ANY (ARRAY(SELECT sid FROM {table} ORDER BY sid LIMIT $1::bigint))"
    " RETURNING 1) SELECT count(*) FROM gone"
)
# The first condition is for the index; only the second is exact in the hours around a change of the clock. Nobody waits for it,
# and it waits for nobody.
_PRUNE: Final = (
    "WITH gone AS (DELETE FROM {table} WHERE sid = ANY (ARRAY(SELECT t.sid FROM {table} AS t"
    " WHERE t.expire < to_timestamp($1::double precision){zone} AND {ends} < to_timestamp($1::double precision)"
    " ORDER BY t.expire LIMIT $2::bigint FOR UPDATE SKIP LOCKED)) RETURNING 1) SELECT count(*) FROM gone"
)
_PROBE: Final = "UPDATE {table} SET expire = expire WHERE false"
# What ends last was mostly written last. The whole text: PostgreSQL's own operators fail at a \u0000 in it, which any visitor may
# have typed.
_SAMPLE: Final = (
    "SELECT {epoch}, t.sess::text FROM {table} AS t WHERE isfinite(t.expire)"
    " ORDER BY t.expire DESC LIMIT $1::bigint"
)


class TableName(NamedTuple):
    """The table, as the package's options name it."""

    schema: str | None
    table: str

    @classmethod
    def checked(cls, schema: object, table: object) -> "TableName":
        """The same; any name will do that PostgreSQL can keep whole. Raises ConfigurationError."""
        where = None if schema is None else _name("schema_name", schema)
        what = _name("table_name", table)
        if where is None and _OLD_SPELLING.fullmatch(what):
            raise ConfigurationError(
                f"table_name={what!r}: connect-pg-simple takes this for a schema and a table; write schema_name= and table_name="
            )
        return cls(where, what)

    def quoted(self, name: str | None = None) -> str:
        """The table, or what else is of its schema, as an identifier. Without a schema the server's search_path decides."""
        prefix = "" if self.schema is None else f"{_identifier(self.schema)}."
        return prefix + _identifier(self.table if name is None else name)


def _name(setting: str, name: object) -> str:
    if type(name) is not str or not name or "\0" in name or len(name.encode("utf-8", "replace")) > LONGEST:
        raise ConfigurationError(
            f"{setting}={name!r}: give a name of 1 to {LONGEST} octets: PostgreSQL cuts what is longer"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{setting}={name!r}: that is no text that can be sent") from None
    return name


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as it may stand in a statement, whatever `standard_conforming_strings` says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


class Statements:
    """The statements about one table, whose `sess` is of that type. `zone`: of Node's connections; None: `expire` has its own.

    Times are parameters in whole seconds since the epoch, as the package gives them.
    """

    def __init__(self, name: TableName, sess_type: str, zone: str | None) -> None:
        converted = "" if zone is None else f" AT TIME ZONE {literal(zone)}"
        parts = {
            "table": name.quoted(),
            "json": sess_type,
            "zone": converted,
            "ends": f"(t.expire{converted})",
            "epoch": f"extract(epoch FROM t.expire{converted})::double precision",
        }
        self.get = _GET.format(**parts)
        self.create = _CREATE.format(**parts)
        self.replace = _REPLACE.format(**parts)
        self.touch = _TOUCH.format(**parts)
        self.destroy = _DESTROY.format(**parts)
        self.names = _NAMES.format(**parts)
        self.length = _LENGTH.format(**parts)
        self.clear = _CLEAR.format(**parts)
        self.prune = _PRUNE.format(**parts)
        self.probe = _PROBE.format(**parts)
        self.sample = _SAMPLE.format(**parts)


def setup(name: TableName) -> str:
    """Make the table as the package does, if nothing of that name is there.

    The package names the constraint and the index alike for every table, and so fails to make a second one in a schema.
    Where those names are taken, PostgreSQL finds others here.
    """
    table = name.quoted()
    nameless = _THEIRS.replace(_CONSTRAINT, "").replace(_INDEX, "")
    block = _SETUP.format(
        table=literal(table),
        key=literal(name.quoted("session_pkey")),
        index=literal(name.quoted("IDX_session_expire")),
        theirs=_THEIRS.replace('"session"', table),
        nameless=nameless.replace('"session"', table),
    )
    return f"DO {literal(block)}"
