"""Whether a table is connect-pg-simple's, and in which time zone Node's connections read and write it.

`expire` has no time zone, so a wrong guess logs people out, or lets in whose session is over (wire formats 1.4). It is looked at
from three sides, and where they do not agree nothing is read or written:

- `pg` asks for no TimeZone when it connects, so a Node connection has what the server, the database or its role says. Ours has
  the same, unless it asks itself (PGTZ, `options=-c TimeZone=…`, SET): then nobody knows what Node's has, and somebody must say.
- A role may have a TimeZone of its own. Where one that may write to the table gets another than ours, either may be Node's.
- Node writes the end of a session twice, as `expire` and in the body, where there is a zone. After a touch the two differ by the
  time since, so by any number of seconds; in the wrong zone they all differ by the same quarters of an hour.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from math import ceil
from typing import Any, Final, NamedTuple

from coatcheck.dialects.express._pg_simple_sql import SESS_TYPES, Statements, TableName
from coatcheck.dialects.express.plain import load
from coatcheck.errors import CorruptRecord, StoreError
from coatcheck.stores._postgres_client import Client
from coatcheck.stores._postgres_errors import sqlstate

__all__ = ["Missing", "Unfit", "examine", "offset"]

SAMPLE: Final = 20
"""Sessions looked at. Few, so that what was written in another zone long ago does not count for long."""
ENOUGH: Final = 3
"""Sessions that must say the same: one may have been touched at just such a moment."""
QUARTER: Final = 900
"""Seconds. All zones differ by whole quarters of an hour."""
FARTHEST: Final = 26 * 3_600
"""Seconds by which two zones may differ."""

_TYPE: Final = (
    "(SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = here.oid AND attname = '{}')"
)
_KIND: Final = """
SELECT here.oid IS NOT NULL, {sid}, {sess}, {expire}, EXISTS (
    SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = here.oid AND a.attname = 'sid' AND i.indisunique AND i.indimmediate AND i.indisvalid
        AND i.indnkeyatts = 1 AND i.indpred IS NULL
), s.setting, s.source
FROM (SELECT to_regclass($1::text)::oid AS oid) AS here, pg_settings AS s WHERE s.name = 'TimeZone'
""".format(**{column: _TYPE.format(column) for column in ("sid", "sess", "expire")})
# A zone by name and an abbreviation may be spelt alike, and mean two things: CET as a setting has a summer time, after AT TIME
# ZONE it has none.
_AS_SET: Final = """
SELECT bool_and(at::timestamp = at AT TIME ZONE $1::text)::boolean
FROM generate_series(now(), now() + interval '1 year', interval '1 week') AS at"""
_AS_SAID: Final = """
SELECT NOT EXISTS (SELECT FROM pg_timezone_abbrevs WHERE abbrev = upper($1::text) AND utc_offset <> interval '0')
    AND now() AT TIME ZONE $1::text IS NOT NULL"""
# The roles that may write, and what TimeZone each begins with; '' where that cannot be seen from here. Superusers may write
# anywhere, and are asked about only where the table is theirs.
_OTHERS: Final = """
WITH told AS (
    SELECT s.setrole, s.setdatabase, split_part(c, '=', 2) AS zone
    FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c
    WHERE lower(split_part(c, '=', 1)) = 'timezone'
        AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
), writers AS (
    SELECT r.rolname::text AS name, coalesce(
        (SELECT zone FROM told WHERE setrole = r.oid ORDER BY setdatabase DESC LIMIT 1),
        CASE WHEN $3::boolean THEN (SELECT zone FROM told WHERE setrole = 0 ORDER BY setdatabase DESC LIMIT 1)
            ELSE $1::text END,
        ''
    ) AS zone
    FROM pg_roles AS r, pg_class AS t
    WHERE t.oid = to_regclass($2::text) AND r.rolcanlogin AND r.rolname <> session_user
        AND (r.oid = t.relowner OR NOT r.rolsuper AND has_table_privilege(r.oid, t.oid, 'INSERT'))
)
SELECT name, zone FROM writers WHERE CASE zone WHEN '' THEN true ELSE EXISTS (
    SELECT FROM generate_series(now(), now() + interval '1 year', interval '1 week') AS at
    WHERE at AT TIME ZONE zone <> at AT TIME ZONE $1::text) END
ORDER BY name LIMIT 1"""
_OWN: Final = frozenset({"user", "database user"})
"""Where a TimeZone comes from that only our role has."""
_SERVERS: Final = frozenset({
    "default", "environment variable", "configuration file", "command line", "global", "database",
})  # fmt: skip
"""Where one comes from that every connection has."""
_SAY: Final = (
    'write time_zone="…" with what Node has: `await pool.query("SHOW TimeZone")` there tells. Or rid both sides of the question:'
    " ALTER TABLE … ALTER COLUMN expire TYPE timestamptz(6) USING expire AT TIME ZONE '…', which connect-pg-simple takes as well"
)


class Unfit(StoreError):
    """The table, or the time zone, is not what this store can be used with; nothing was read or written."""


class Missing(Unfit):
    """There is no such table."""


class _Kind(NamedTuple):
    """What there is."""

    exists: bool
    sid: str | None
    sess: str | None
    expire: str | None
    is_keyed: bool
    zone: str
    """The TimeZone of the connection that asked."""
    source: str
    """Where that came from, as pg_settings calls it."""


async def examine(client: Client, name: TableName, time_zone: str | None) -> Statements:
    """The statements that fit the table. `time_zone`: of Node's connections; None: find out. Raises Unfit, Missing."""
    ((*row,),) = await client.aside(_KIND, name.quoted())
    kind = _Kind(*row)
    if not kind.exists:
        raise Missing(
            f"connect-pg-simple: the table {name.quoted()} is not there: start the Node application, give"
            " create_table_if_missing=True, or run `coatcheck setup --store express+URL`"
        )
    sess = _fitting(name, kind)
    if kind.expire == "timestamp with time zone":
        return Statements(name, sess, None)
    if time_zone is None:
        await _insist_on_default(client, name, kind)
    else:
        await _insist_on_name(client, time_zone)
    statements = Statements(name, sess, kind.zone if time_zone is None else time_zone)
    if sess in ("json", "jsonb"):
        await _insist_on_rows(client, statements, kind.zone if time_zone is None else time_zone)
    return statements


def _fitting(name: TableName, kind: _Kind) -> str:
    """The type of `sess`, where all is as it should be."""
    wrong = []
    if kind.sid not in ("character varying", "text"):
        wrong.append(f"sid is {kind.sid or 'missing'}, not varchar")
    if kind.sess not in SESS_TYPES:
        wrong.append(f"sess is {kind.sess or 'missing'}, not json")
    if kind.expire not in ("timestamp without time zone", "timestamp with time zone"):
        wrong.append(f"expire is {kind.expire or 'missing'}, not timestamp")
    if not wrong and not kind.is_keyed:
        wrong.append("sid has no primary key")
    if wrong or kind.sess is None:
        raise Unfit(
            f"the table {name.quoted()} is not connect-pg-simple's: {'; '.join(wrong)}. It was left as it is; give table_name="
            " and schema_name= as the Node application does"
        )
    return kind.sess


async def _insist_on_default(client: Client, name: TableName, kind: _Kind) -> None:
    """That Node's connections have the TimeZone that ours has."""
    if kind.source not in _SERVERS | _OWN:
        raise Unfit(
            f"connect-pg-simple: our connection asks for TimeZone {kind.zone!r} itself (PGTZ, options=, SET, a pooler), so what"
            f" Node's connections have is not to be seen, and `expire` has no time zone: {_SAY}"
        )
    ((is_right,),) = await client.aside(_AS_SET, kind.zone)
    if not is_right:
        raise Unfit(
            f"connect-pg-simple: the server's TimeZone {kind.zone!r} is an abbreviation too, of another meaning: write a name of"
            ' the same rules, such as time_zone="Europe/Paris"'
        )
    others = await client.aside(_OTHERS, kind.zone, name.quoted(), kind.source in _OWN)
    for role, zone in others:
        raise Unfit(
            f"connect-pg-simple: the role {role!r} may write to this table too, and has"
            f" {f'TimeZone {zone!r}' if zone else 'the TimeZone of the server'}, where our role has {kind.zone!r}. If it is"
            f" Node's, every session would be off by hours: {_SAY}"
        )


async def _insist_on_name(client: Client, time_zone: str) -> None:
    """That what was said is a zone, and one thing only."""
    try:
        ((is_name,),) = await client.aside(_AS_SAID, time_zone)
    except StoreError as error:
        if sqlstate(error.__cause__ or error) != "22023":
            raise
        is_name = False
    if not is_name:
        raise Unfit(
            f"time_zone={time_zone!r}: give a name that PostgreSQL knows, such as 'UTC' or 'America/New_York' (an abbreviation"
            " knows no summer time)"
        )


async def _insist_on_rows(client: Client, statements: Statements, zone: str) -> None:
    """That what Node has written looks as if it were written in this zone."""
    rows = await client.aside(statements.sample, SAMPLE)
    off = offset((column, _said(text)) for column, text in rows)
    if off:
        raise Unfit(
            f"connect-pg-simple: read in TimeZone {zone!r}, the sessions in the table end {abs(off) / 3600:g} hours"
            f" {'later' if off > 0 else 'earlier'} than their own bodies say, so they were written in another: {_SAY}. (Where"
            f" Node's zone has just been changed, add interval '{-off} seconds' to every expire that is from before.)"
        )


def offset(rows: Iterable[tuple[Any, ...]]) -> int:
    """By how many seconds most sessions end later than their bodies say; 0: they do not. Of rows of both, as they are stored."""
    ends = [(ceil(column), body) for column, text in rows if (body := _seconds(text)) is not None]
    apart = Counter(column - body for column, body in ends)
    by, how_often = apart.most_common(1)[0] if apart else (0, 0)
    is_zone = by % QUARTER == 0 and abs(by) <= FARTHEST
    return by if is_zone and how_often >= ENOUGH and 2 * how_often > len(ends) else 0


def _said(text: str) -> str | None:
    """The `cookie.expires` of a body, as it stands there."""
    try:
        expires: object = load(text.encode())["cookie"]["expires"]
    except (CorruptRecord, LookupError, TypeError):
        return None
    return expires if isinstance(expires, str) else None


def _seconds(text: str | None) -> int | None:
    """The whole second of a body's `cookie.expires`, as the package rounds it; None for what is no time."""
    try:
        moment = datetime.fromisoformat(text or "")
        return None if moment.tzinfo is None else ceil(moment.timestamp())
    except (ValueError, OverflowError):
        return None
