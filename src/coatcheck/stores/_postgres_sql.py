"""What is said to PostgreSQL: the table, two functions, and one statement for each verb of the store.

Every verb is one statement, which PostgreSQL carries out whole and commits by itself: there is no transaction that a client could
leave open, a pooler could tear apart or a cancelled request could abandon. All of it is right under READ COMMITTED:

- A write names the version it goes over. Of two writers of one row the second waits for the first and then looks at the row
  again, as it is now, before it writes.
- A login and the end of all sessions of a user take several steps, each of which must see what the steps of others have left
  (rule 24). In one statement of several parts all would see the moment at which the statement began, before it waited for its
  turn. So these two are functions: they lock the user first, and every statement inside has a view of its own.
- Locks are taken in one order, the user's and then rows, and the sweep waits for none: there is no deadlock.

Times are seconds since the epoch, as double precision: there is no time zone for a setting to move. The names put into the texts
are identifiers that `Names` has checked; values are always parameters.
"""

import re
from typing import Final, NamedTuple

from coatcheck.errors import ConfigurationError

__all__ = ["SCHEMA_VERSION", "Names", "Statements"]

SCHEMA_VERSION: Final = 1
FENCE_KEPT: Final = 86_400
"""Seconds after which a fence is forgotten: no request takes a day."""
SET_BACK: Final = 60
"""A fence so many seconds ahead of the server's clock is from before the clock was set back: it would keep its user out."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST: Final = {"schema": 63, "table": 48}
"""PostgreSQL cuts names at 63 characters; those of our indexes and functions begin with the table's."""


class Names(NamedTuple):
    """The table, as it is called in statements."""

    schema: str | None
    table: str

    @classmethod
    def checked(cls, schema: str | None, table: str) -> "Names":
        """The same, refused if they are no plain identifiers. Raises ConfigurationError."""
        for setting, name in (("schema", schema), ("table", table)):
            if name is None and setting == "schema":
                continue
            if type(name) is not str or not _IDENTIFIER.fullmatch(name) or len(name) > _LONGEST[setting]:
                raise ConfigurationError(
                    f"{setting}={name!r}: give a name of A-Z a-z 0-9 _ that begins with no digit, of at most"
                    f" {_LONGEST[setting]} characters"
                )
        return cls(schema, table)

    def quoted(self, tail: str = "") -> str:
        """The table, or what belongs to it, as an identifier. Without a schema the server's search_path decides."""
        prefix = "" if self.schema is None else f'"{self.schema}".'
        return f'{prefix}"{self.table}{tail}"'

    @property
    def channel(self) -> str:
        """Where endings are told of."""
        return f"coatcheck.{self.table}"


# Rows of three kinds, so that there is one table to grant, partition and drop:
#
# - a session: `packed` has what no statement looks at. `due` is a lower bound of `deadline`, and an index is on it. Touch and
#   replace move the deadline and leave `due` alone, so no indexed column changes, and PostgreSQL writes the new row into the
#   same page and no index at all (a "HOT" update; `fillfactor` leaves the room). The sweep moves `due` on when it finds that a
#   session has lived longer: a lazy timer.
# - a tombstone, with `ended_at`: `version` is the deleter's token, `due` is when it may go.
# - a user's fence, with `ended_at` in the *server's* clock, under the key chr(1) || user: every login that began before then is
#   over. No session's key begins so.
#
# Both partial indexes are on `due`. Columns of eight octets first, then those of any length, so that nothing is padded. Collation
# "C" compares octets: quickly, and the same on every platform, so that an upgrade of the system cannot spoil an index.
_TABLE: Final = """
    CREATE TABLE {table} (
        due double precision NOT NULL,
        deadline double precision NOT NULL,
        seen_at double precision NOT NULL,
        ends_at double precision NOT NULL,
        ended_at double precision,
        login_at double precision,
        key text COLLATE "C" NOT NULL PRIMARY KEY,
        version text COLLATE "C" NOT NULL,
        user_id text COLLATE "C",
        packed bytea
    ) WITH (fillfactor = {fillfactor}, autovacuum_vacuum_scale_factor = 0.05);
    COMMENT ON TABLE {table} IS '{comment}'
"""
_INDEXES: Final = """
    CREATE INDEX IF NOT EXISTS {live} ON {table} (due) WHERE ended_at IS NULL;
    CREATE INDEX IF NOT EXISTS {ended} ON {table} (due) WHERE ended_at IS NOT NULL;
    CREATE INDEX IF NOT EXISTS {user} ON {table} (user_id, login_at, key) WHERE user_id IS NOT NULL;
    CREATE TABLE IF NOT EXISTS {tally} (
        until double precision NOT NULL, count bigint NOT NULL, key text COLLATE "C" NOT NULL PRIMARY KEY
    );
    CREATE INDEX IF NOT EXISTS {tally_until} ON {tally} (until)
"""
FILLFACTOR: Final = 80
"""`python -m bench.postgres_columns` prints how many updates stay within their page at other values."""

# What the two functions share. `hashtextextended` of two users may be the same: then one waits for the other, no more.
_LOCK: Final = """
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE 'coatcheck needs the isolation level READ COMMITTED' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'ALTER ROLE ... SET default_transaction_isolation = ''read committed''';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(p_user COLLATE "C", '{table}'::regclass::oid::bigint))"""
_END: Final = """
    UPDATE {table} SET version = {token}, ended_at = {now}, due = {now} + 60, deadline = 0, seen_at = 0, ends_at = 0,
        user_id = NULL, login_at = NULL, packed = NULL
    WHERE ended_at IS NULL AND deadline > {now} AND """
_CLOCK: Final = "extract(epoch FROM clock_timestamp())::double precision"
_OVERWRITE: Final = (
    "version = {0}, due = {1}, deadline = {2}, seen_at = {3}, ends_at = {4}, user_id = {5}, login_at = {6},"
    " packed = {7}"
)
_EXPIRED: Final = (
    "(t.ended_at IS NULL AND NOT t.deadline > {now} OR t.ended_at IS NOT NULL AND t.due <= {now})"
)
_INSERT: Final = (
    "INSERT INTO {table} AS t (version, due, deadline, seen_at, ends_at, user_id, login_at, packed, key)"
    " VALUES ({values}) ON CONFLICT (key) DO UPDATE SET version = excluded.version, due = excluded.due,"
    " deadline = excluded.deadline, seen_at = excluded.seen_at, ends_at = excluded.ends_at, ended_at = NULL,"
    " user_id = excluded.user_id, login_at = excluded.login_at, packed = excluded.packed WHERE "
) + _EXPIRED

_ADMIT: Final = """
    CREATE OR REPLACE FUNCTION {admit}(
        p_version text, p_deadline double precision, p_seen_at double precision, p_ends_at double precision, p_user text,
        p_login_at double precision, p_packed bytea, p_key text, p_expected text, p_now double precision,
        p_began double precision, p_own_fence double precision, p_limit bigint, p_evict boolean,
        OUT verdict text, OUT clock double precision
    ) LANGUAGE plpgsql AS $function$
    #variable_conflict use_column
    DECLARE
        there record;
        lives boolean := false;
        stands boolean := false;
        fence double precision;
        victims text[];
    BEGIN
        {lock};
        clock := {clock};
        verdict := 'other';
        SELECT deadline, ended_at, due, version INTO there FROM {table} WHERE key = p_key FOR UPDATE;
        IF FOUND THEN
            lives := there.ended_at IS NULL AND there.deadline > p_now;
            stands := lives OR there.ended_at IS NOT NULL AND there.due > p_now;
        END IF;
        IF (CASE WHEN p_expected IS NULL THEN stands ELSE NOT lives OR there.version <> p_expected END) THEN
            RETURN;
        END IF;
        -- (rule 20) The client tells when the request began in our clock once it knows our clock; if nobody has raised a fence,
        -- it need not.
        SELECT ended_at INTO fence FROM {table} WHERE key = chr(1) || p_user;
        IF fence <= clock + {set_back} AND fence IS DISTINCT FROM p_own_fence THEN
            IF p_began IS NULL THEN
                verdict := 'when';
                RETURN;
            ELSIF p_began <= fence THEN
                verdict := 'fenced';
                RETURN;
            END IF;
        END IF;
        IF p_limit IS NOT NULL THEN
            victims := ARRAY(
                SELECT key FROM {table} WHERE user_id = p_user AND ended_at IS NULL AND deadline > p_now AND key <> p_key
                ORDER BY login_at DESC, key DESC OFFSET greatest(p_limit - 1, 0)
            );
            IF victims <> '{{}}' AND NOT p_evict THEN
                verdict := 'full';
                RETURN;
            END IF;
        END IF;
        IF p_expected IS NULL THEN
            {insert};
        ELSE
            UPDATE {table} SET {overwrite} WHERE key = p_key;
        END IF;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        IF victims <> '{{}}' THEN
            FOR there IN {end}key = ANY (victims) AND user_id = p_user RETURNING key LOOP
                PERFORM pg_notify('{channel}', there.key);
            END LOOP;
        END IF;
        verdict := 'saved';
    END $function$
"""
# Each fence is later than the one before, by at least the clock's own step: a request that knows its own must not pass a later
# one of the same tick. What has expired is deleted, so that a clock that steps back brings none of it back to a user who has
# ended everything.
_END_USER: Final = """
    CREATE OR REPLACE FUNCTION {end_user}(
        p_user text, p_keep text, p_now double precision, p_token text, OUT ended bigint, OUT fence double precision
    ) LANGUAGE plpgsql AS $function$
    #variable_conflict use_column
    DECLARE
        there record;
        before double precision;
    BEGIN
        {lock};
        fence := {clock};
        SELECT ended_at INTO before FROM {table} WHERE key = chr(1) || p_user;
        IF before <= fence + {set_back} THEN
            fence := greatest(fence, before + 0.000001);
        END IF;
        INSERT INTO {table} (key, version, due, deadline, seen_at, ends_at, ended_at)
            VALUES (chr(1) || p_user, '', fence + {fence_kept}, 0, 0, 0, fence)
            ON CONFLICT (key) DO UPDATE SET due = excluded.due, ended_at = excluded.ended_at;
        DELETE FROM {table} WHERE user_id = p_user AND ended_at IS NULL AND NOT deadline > p_now;
        ended := 0;
        FOR there IN {end}user_id = p_user AND key IS DISTINCT FROM p_keep RETURNING key LOOP
            ended := ended + 1;
            PERFORM pg_notify('{channel}', there.key);
        END LOOP;
    END $function$
"""
# One at a time; whoever comes second finds the work done. (It must look: what it knew of the catalogue, such as that there is no
# such table, is forgotten when a table is locked that was not.) Looks before anything is changed: a foreign table stays as it is.
_SETUP: Final = """
DO $setup$ BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('coatcheck setup', 0));
    PERFORM 1 FROM pg_class LIMIT 1;
    IF to_regclass('{table}') IS NULL THEN {create}; END IF;
    IF obj_description(to_regclass('{table}')::oid, 'pg_class') IS NOT DISTINCT FROM '{comment}' THEN
        {indexes};
        {admit};
        {end_user};
    END IF;
END $setup$
"""
_SWEEP: Final = """
WITH due AS MATERIALIZED (
    SELECT key, deadline FROM {table} WHERE ended_at IS NULL AND due <= $1::double precision
    ORDER BY due LIMIT $2::bigint FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM {table} AS t USING due WHERE t.key = due.key AND NOT due.deadline > $1 RETURNING 1
), kept_alive AS (
    UPDATE {table} AS t SET due = t.deadline FROM due WHERE t.key = due.key AND due.deadline > $1 RETURNING 1
), old AS (
    DELETE FROM {table} WHERE key IN (
        SELECT key FROM {table} WHERE ended_at IS NOT NULL AND due <= $1
        ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED)
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM kept_alive)
"""
_SWEEP_TALLIES: Final = """
DELETE FROM {tally} WHERE key IN (
    SELECT key FROM {tally} WHERE until <= $1::double precision ORDER BY until LIMIT $2::bigint FOR UPDATE SKIP LOCKED
) RETURNING 1
"""
# Of two that count at once the second waits for the first, and adds to what that one has left.
_TALLY: Final = """
INSERT INTO {tally} AS t (key, count, until) VALUES ($1::text, greatest(0, $2::bigint), $4::double precision)
ON CONFLICT (key) DO UPDATE SET
    count = greatest(0, $2 + CASE WHEN t.until > $3::double precision THEN t.count ELSE 0 END),
    until = CASE WHEN t.until <= $3 THEN $4 WHEN $5::boolean THEN greatest(t.until, $4) ELSE t.until END
RETURNING count, until
"""

_FLOAT: Final = "::double precision"
_WRITTEN: Final = ("::text", *[_FLOAT] * 3, "::text", _FLOAT, "::bytea", "::text")
_ROW: Final = tuple(f"${n}{kind}" for n, kind in enumerate(_WRITTEN, 1))
"""(version, deadline, seen_at, ends_at, user_id, login_at, packed, key), as every statement that writes a record takes it."""


class Statements:
    """Every statement, for one table. Parameters are `$1`, `$2`, … and have a type each, for both drivers."""

    def __init__(self, names: Names) -> None:
        table = names.quoted()
        v, d, s, e, u, login, p, key = _ROW
        lives = "ended_at IS NULL AND deadline > "
        # due = deadline where a row is written anew; where it is written over, due stays unless it would be too late.
        values = ", ".join((v, d, d, s, e, u, login, p, key))
        forward = f"LEAST(GREATEST(deadline, {d}), {e})"
        over = f"WHERE key = {key} AND version = $9::text AND {lives} $10{_FLOAT} RETURNING 1"
        self.find = (
            "SELECT version, deadline, seen_at, ends_at, ended_at, user_id, packed"
            f" FROM {table} WHERE key = $1::text"
        )
        self.purge = f"DELETE FROM {table} AS t WHERE key = $1::text AND {_EXPIRED.format(now='$2' + _FLOAT)} RETURNING 1"
        self.create = _INSERT.format(table=table, values=values, now="$9" + _FLOAT) + " RETURNING 1"
        self.replace = (
            f"UPDATE {table} SET "
            + _OVERWRITE.format(v, f"LEAST(due, {e})", forward, f"GREATEST(seen_at, {s})", e, u, login, p)
            + f" {over}"
        )
        self.put_over = (
            f"UPDATE {table} SET "
            + _OVERWRITE.format(v, f"LEAST(due, {d})", d, s, e, u, login, p)
            + f" {over}"
        )
        self.touch = (
            f"UPDATE {table} SET deadline = LEAST(GREATEST(deadline, $1{_FLOAT}), ends_at),"
            f" seen_at = GREATEST(seen_at, $2{_FLOAT})"
            f" WHERE key = $3::text AND version = $4::text AND {lives} $5{_FLOAT} RETURNING 1"
        )
        end = _END.format(table=table, token="$1::text", now="$2" + _FLOAT)
        told = f" RETURNING pg_notify('{names.channel}', key)::text"
        self.delete = f"{end} key = $3::text AND ($4::text IS NULL OR version = $4){told}"
        self.end_one = f"{end} key = $3::text AND user_id = $4::text{told}"
        # What no caller has passed: a user who is nobody has neither fence nor limit, and `replace` or `create` does.
        self.admit = (
            f"SELECT verdict, clock FROM {names.quoted('_admit_1')}({', '.join(_ROW)}, $9::text, $10{_FLOAT},"
            f" $11{_FLOAT}, $12{_FLOAT}, $13::bigint, $14::boolean)"
        )
        self.end_user = f"SELECT ended, fence FROM {names.quoted('_end_user_1')}($1::text, $2::text, $3{_FLOAT}, $4::text)"
        self.list_of = (
            "SELECT key, login_at, version, deadline, seen_at, ends_at, ended_at, user_id, packed"
            f" FROM {table} WHERE user_id = $1::text AND {lives} $2{_FLOAT} AND (login_at, key) < ($3{_FLOAT}, $4::text)"
            " ORDER BY login_at DESC, key DESC LIMIT $5::bigint"
        )
        tally = names.quoted("_tally")
        self.sweep = _SWEEP.format(table=table)
        self.sweep_tallies = _SWEEP_TALLIES.format(tally=tally)
        self.tally = _TALLY.format(tally=tally)
        self.tallied = f"SELECT count, until FROM {tally} WHERE key = $1::text AND until > $2{_FLOAT}"
        self.end_tally = f"DELETE FROM {tally} WHERE key = $1::text RETURNING 1"
        self.walk = (
            f"SELECT key FROM {table} WHERE key > $1::text AND ended_at IS NULL ORDER BY key LIMIT $2::bigint"
        )
        # Two ranges of an index: only sessions that have outlived `due` need looking at.
        self.count = (
            f"SELECT (SELECT count(*) FROM {table} WHERE ended_at IS NULL AND due > $1{_FLOAT})"
            f" + (SELECT count(*) FROM {table} WHERE ended_at IS NULL AND due <= $1 AND deadline > $1)"
        )
        # Needs the right to write and a server that takes writes, and finds no row.
        self.probe = f"UPDATE {table} SET seen_at = seen_at WHERE key = '' RETURNING 1"
        # Changes nothing, and is a transaction that writes: it is acknowledged when all before it is as durable as it has to be.
        self.confirm = f"UPDATE {table} SET seen_at = seen_at WHERE key = $1::text RETURNING 1"
        self.listen = f'LISTEN "{names.channel}"'
        self.comment = f"coatcheck sessions, schema {SCHEMA_VERSION}"
        self.describe = f"SELECT to_regclass('{table}') IS NOT NULL, obj_description(to_regclass('{table}')::oid, 'pg_class')"
        self.setup = self._setup(names)

    def _setup(self, names: Names) -> str:
        table = names.quoted()
        common = {
            "table": table,
            "admit": names.quoted("_admit_1"),
            "end_user": names.quoted("_end_user_1"),
            "lock": _LOCK.format(table=table),
            "clock": _CLOCK,
            "set_back": SET_BACK,
            "fence_kept": FENCE_KEPT,
            "channel": names.channel,
        }
        new = ("p_version", "p_deadline", "p_seen_at", "p_ends_at", "p_user", "p_login_at", "p_packed")
        version, deadline, *rest = new
        overwrite = _OVERWRITE.format(version, "LEAST(due, p_deadline)", deadline, *rest)
        values = ", ".join((version, deadline, deadline, *rest, "p_key"))
        insert = _INSERT.format(table=table, values=values, now="p_now")
        victims = _END.format(table=table, token="p_version", now="p_now")
        theirs = _END.format(table=table, token="p_token", now="p_now")
        return _SETUP.format(
            table=table,
            comment=self.comment,
            create=_TABLE.format(table=table, fillfactor=FILLFACTOR, comment=self.comment),
            # An index lives where its table lives, so its name takes no schema.
            indexes=_INDEXES.format(
                table=table,
                live=f'"{names.table}_live"',
                ended=f'"{names.table}_ended"',
                user=f'"{names.table}_user"',
                tally=names.quoted("_tally"),
                tally_until=f'"{names.table}_tally_until"',
            ),
            admit=_ADMIT.format(**common, insert=insert, overwrite=overwrite, end=victims),
            end_user=_END_USER.format(**common, end=theirs),
        )
