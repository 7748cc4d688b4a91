"""connect-pg-simple's `expire` has no time zone: which one Node writes it in is known, said, or refused, and never guessed."""

import random
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from coatcheck.core.stepping import run_now
from coatcheck.dialects.express._pg_simple_table import offset
from coatcheck.dialects.express.connect_pg_simple import ConnectPgSimple
from coatcheck.errors import ConfigurationError, StoreError
from servers import Server
from tests.dialects.connect_pg_simple_help import cookie, database, new_name, node, python
from tests.dialects.rig import data
from tests.stores.postgres_tables import sql

AT = 1_790_000_000_123
LIFE = 600_000
NEW_YORK = "America/New_York"
MAX_AGE = {"cookie": {"maxAge": LIFE}}


def log_in(app: Any, how_often: int = 1, at: int = AT) -> list[str]:
    return [app.run(["set", ["n"], n], now=at + 1000 * n).body["id"] for n in range(how_often)]


def refusal(url: str, **options: Any) -> str:
    """What a store says that will not work with this table, each time it is asked."""
    with python(url, **options) as us:
        said = set()
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                us.get("sid", AT)
            said.add(str(caught.value))
        with pytest.raises(StoreError):
            us.run(us.store.check())
        with pytest.raises(ConfigurationError):
            us.run(us.store.setup())
    assert len(said) == 1
    return said.pop()


# ------------------------------------------------------------------------------------------------- a zone of everybody's


@pytest.mark.parametrize("zone", [NEW_YORK, pytest.param("Asia/Kathmandu", marks=pytest.mark.slow)])
def test_the_zone_of_the_database_is_nodes_and_ours(zone: str, postgres_server: Server) -> None:
    with (
        database(postgres_server, f"TimeZone = '{zone}'") as url,
        node(url, session=MAX_AGE, createTableIfMissing=True) as app,
        python(url) as us,
    ):
        (sid,) = log_in(app)
        assert us.lives(sid, AT).expires == 1_790_000_601
        written = datetime.fromtimestamp(1_790_000_601, ZoneInfo(zone)).replace(tzinfo=None)
        assert sql(url, "SELECT expire FROM session") == [(written,)]
        us.change(sid, AT, LIFE, n=2)
        us.create("ours", AT, LIFE, n=2)
        assert sql(url, "SELECT DISTINCT expire FROM session") == [(written,)]
        assert app.run(cookie=cookie("ours"), now=AT).data == {"n": 2}
        assert us.run(us.store.prune(now=1_790_000_601)) == 0
        assert us.run(us.store.prune(now=1_790_000_601.1)) == 2


@pytest.mark.parametrize("ours", [pytest.param("UTC", marks=pytest.mark.slow), "Asia/Tokyo"])
def test_what_our_own_connection_is_set_to_plays_no_part(ours: str, postgres_server: Server) -> None:
    with (
        database(postgres_server) as url,
        node(url, zone=NEW_YORK, session=MAX_AGE, createTableIfMissing=True) as app,
        python(f"{url}?options=-c%20TimeZone%3D{ours}", time_zone=NEW_YORK) as us,
    ):
        sids = log_in(app, 4)
        for n, sid in enumerate(sids):
            assert us.lives(sid, AT).expires == 1_790_000_601 + n
            assert us.get(sid, AT + LIFE + 1000 * n + 1000) is None
        us.run(us.store.check())
        us.create("ours", AT, LIFE, n=1)
        assert app.run(["get", "n"], cookie=cookie("ours"), now=AT + LIFE).body["results"] == [1]


@pytest.mark.parametrize(
    "zone",
    [
        NEW_YORK,
        "Australia/Lord_Howe",
        *(pytest.param(z, marks=pytest.mark.slow) for z in ("Europe/Berlin", "UTC")),
    ],
)
def test_an_hour_that_the_clock_passes_twice_is_read_as_node_reads_it(
    zone: str, postgres_server: Server
) -> None:
    autumn = {
        NEW_YORK: datetime(2026, 11, 1, 5, tzinfo=UTC),
        "Europe/Berlin": datetime(2026, 10, 25, 0, tzinfo=UTC),
        "Australia/Lord_Howe": datetime(2026, 4, 4, 14, 30, tzinfo=UTC),
        "UTC": datetime(2026, 11, 1, 5, tzinfo=UTC),
    }[zone]
    begin, step, seed = int(autumn.timestamp()) * 1000, 900_000, random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    theirs = "SELECT count(*) FROM session WHERE expire >= to_timestamp(%s)"  # the package's own condition
    with (
        database(postgres_server, f"TimeZone = '{zone}'") as url,
        python(url, create_table_if_missing=True) as us,
        psycopg.connect(url, autocommit=True) as behind,
    ):
        for n in range(10):
            end = begin + n * step
            us.run(us.store.clear())
            us.create("sid", begin - 1000, end - begin + 1000, n=n)
            ends = us.lives("sid", begin - 1000).expires
            assert ends is not None
            assert 0 <= ends - end / 1000 <= 3600  # never earlier than was meant
            moments = [
                end,
                end + 1,
                int(ends) * 1000,
                int(ends) * 1000 + 1,
                begin + chance.randrange(12) * step,
            ]
            for at in moments:
                ((lives,),) = behind.execute(theirs, [-(-at // 1000)]).fetchall()
                assert (us.get("sid", at) is not None) is bool(lives)
                assert us.run(us.store.length(now=at / 1000)) == lives
            over = [ends < -(-at // 1000) for at in sorted(moments)]
            pruned = [us.run(us.store.prune(now=at / 1000)) for at in sorted(moments)]
            assert pruned == [int(is_over and not any(over[:n])) for n, is_over in enumerate(over)]


# ------------------------------------------------------------------------------------------------------ what cannot be


def test_a_zone_that_our_connection_asks_for_is_not_taken_for_nodes(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database(postgres_server) as url:
        with python(url) as us:
            us.run(us.store.setup())
        said = refusal(f"{url}?options=-c%20TimeZone%3DAsia/Tokyo")
        assert "asks for TimeZone 'Asia/Tokyo' itself" in said
        assert 'time_zone="…"' in said
        assert "SHOW TimeZone" in said
        monkeypatch.setenv("PGTZ", "Asia/Tokyo")
        assert "asks for TimeZone 'Asia/Tokyo' itself" in refusal(url)
        with python(url, time_zone="UTC") as us:
            us.create("sid", AT, LIFE)


def test_a_session_set_to_another_zone_is_not_taken_for_nodes(postgres_server: Server) -> None:
    def connect() -> Any:
        connection = psycopg.connect(url, autocommit=True)
        connection.execute("SET TIME ZONE 'Asia/Tokyo'")
        return connection

    with database(postgres_server) as url:
        backend = ConnectPgSimple(connect, create_table_if_missing=True)
        with pytest.raises(StoreError, match="asks for TimeZone 'Asia/Tokyo' itself"):
            run_now(backend.blocking().get("sid", now=1.0))
        backend.close()


@pytest.mark.parametrize(
    ("zone", "words"), [(NEW_YORK, "4 hours earlier"), ("Asia/Kathmandu", "5.75 hours later")]
)
def test_what_node_has_written_gives_another_zone_away(
    zone: str, words: str, postgres_server: Server
) -> None:
    with database(postgres_server) as url:
        with node(url, zone=zone, session=MAX_AGE, createTableIfMissing=True) as app:
            log_in(app, 3)
        said = refusal(url)
        assert words in said
        assert "TimeZone 'Etc/UTC'" in said or "TimeZone 'UTC'" in said or "TimeZone 'GMT'" in said
        assert words in refusal(url, time_zone="UTC")  # what was said is held against the rows, too
        with python(url, time_zone=zone) as us:
            us.run(us.store.check())
        off = int(float(words.split()[0]) * 3600) * (1 if "earlier" in words else -1)
        assert f"interval '{off} seconds'" in said
        sql(url, f"UPDATE session SET expire = expire + interval '{off} seconds'")  # the remedy that it names
        with python(url) as us:
            assert us.run(us.store.length(now=AT / 1000)) == 3


def test_a_zone_that_changes_while_we_run_is_seen_by_the_check(postgres_server: Server) -> None:
    with database(postgres_server) as url, python(url) as us:
        us.run(us.store.setup())
        us.get("sid", AT)
        with node(url, zone=NEW_YORK, session=MAX_AGE) as app:
            log_in(app, 3)
        with pytest.raises(StoreError, match="4 hours earlier"):
            us.run(us.store.check())
        with pytest.raises(StoreError, match="4 hours earlier"):
            us.create("sid", AT, LIFE)
        us.run(us.store._aside('DELETE FROM "session"'))
        us.create("sid", AT, LIFE)


def test_touched_sessions_give_nothing_away(postgres_server: Server) -> None:
    with (
        database(postgres_server) as url,
        node(url, session=MAX_AGE, createTableIfMissing=True) as app,
        python(url) as us,
    ):
        for n, sid in enumerate(log_in(app, 6)):
            app.run(cookie=cookie(sid), now=AT + 60_000 * n + 7_000 * n * n)
        us.run(us.store.check())


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        ([], 0),
        ([0, 0, 0], 0),
        ([-14_400] * 2, 0),  # too few to say
        ([-14_400] * 3, -14_400),
        ([20_700] * 4 + [0, 1, 2], 20_700),
        ([3600] * 3 + [0, 0, 0], 0),
        ([3600] * 3 + [17, 312, 5], 0),  # heartbeats: not most of them
        ([3601] * 9, 0),
        ([27 * 3600] * 9, 0),
    ],
)
def test_an_offset_is_a_zone_when_most_have_it(apart: list[int], expected: int) -> None:
    body = datetime.fromtimestamp(1_790_000_000, UTC).isoformat().replace("+00:00", "Z")
    junk = [(1.0, text) for text in (None, "", "soon", "2026-01-01T00:00:00", "9999-99-99T00:00:00Z")]
    assert offset([(1_790_000_000 + by, body) for by in apart] + junk) == expected


# --------------------------------------------------------------------------------------------------------------- roles


class Roles:
    """Two who may write to one table: Node's, whose it is, and ours."""

    def __init__(self, server: Server, url: str) -> None:
        self._server, self.names = server, (new_name(), new_name())
        for role in self.names:
            sql(server.url, f"CREATE ROLE {role} LOGIN")
        self.node, self.ours = (url.replace("coatcheck@", f"{role}@") for role in self.names)
        sql(url, f"GRANT ALL ON SCHEMA public TO {', '.join(self.names)}")
        self.database = url.rpartition("/")[2]

    def make(self) -> None:
        with python(self.node, create_table_if_missing=True, time_zone="UTC") as us:
            us.run(us.store.check())
        sql(self.node, f"GRANT SELECT, INSERT, UPDATE, DELETE ON session TO {self.names[1]}")

    def set(self, who: int, zone: str, *, here: bool = False) -> None:
        where = f" IN DATABASE {self.database}" if here else ""
        sql(self._server.url, f"ALTER ROLE {self.names[who]}{where} SET TimeZone = '{zone}'")


@pytest.fixture
def roles(postgres_server: Server) -> Any:
    with database(postgres_server) as url:
        roles = Roles(postgres_server, url)
        try:
            roles.make()
            yield roles
        finally:
            for role in roles.names:
                sql(url, f"DROP OWNED BY {role}")
                sql(url, f"DROP ROLE {role}")


@pytest.mark.parametrize("here", [False, True])
def test_a_zone_that_nodes_role_has_is_not_ours(roles: Roles, here: bool) -> None:
    roles.set(0, NEW_YORK, here=here)
    said = refusal(roles.ours)
    assert f"the role {roles.names[0]!r}" in said
    assert f"TimeZone '{NEW_YORK}'" in said
    with node(roles.node, session=MAX_AGE) as app, python(roles.ours, time_zone=NEW_YORK) as us:
        (sid,) = log_in(app)
        assert us.lives(sid, AT).expires == 1_790_000_601
    sql(roles.node, f"REVOKE ALL ON session FROM {roles.names[1]}")
    with python(
        roles.node
    ) as alone:  # in Node's own role, where nobody else may write, nobody need say anything
        assert alone.lives(sid, AT).expires == 1_790_000_601


def test_a_zone_that_our_role_has_is_not_nodes(roles: Roles) -> None:
    roles.set(1, "UTC")
    said = refusal(roles.ours)
    assert f"the role {roles.names[0]!r}" in said
    assert "the TimeZone of the server" in said
    sql(roles.node, f"ALTER ROLE {roles.names[0]} SET TimeZone = 'Etc/UTC'")  # the same by another name
    with python(roles.ours) as us:
        us.create("sid", AT, LIFE)


def test_a_role_with_the_same_rules_is_no_obstacle(roles: Roles) -> None:
    roles.set(0, "GMT")
    with python(roles.ours) as us:
        us.create("sid", AT, LIFE)


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "zone", ["Mars/Phobos", "CET", "EST", "America/New_Yorkk", "'; DROP TABLE session; --", "\\"]
)
def test_a_zone_that_is_none_is_refused(zone: str, postgres_server: Server) -> None:
    with database(postgres_server) as url:
        said = refusal(url, time_zone=zone, create_table_if_missing=True)
        assert "give a name that PostgreSQL knows" in said


def test_a_servers_zone_of_two_meanings_is_refused(postgres_server: Server) -> None:
    with database(postgres_server, "TimeZone = 'CET'") as url:
        said = refusal(url, create_table_if_missing=True)
        assert 'time_zone="Europe/Paris"' in said
        with node(url, session=MAX_AGE) as app, python(url, time_zone="Europe/Paris") as us:
            (sid,) = log_in(app)
            assert us.lives(sid, AT).expires == 1_790_000_601


@pytest.mark.parametrize("zone", ["UTC", "<-08>+08", "EST5EDT", "posix/Asia/Tokyo"])
def test_every_zone_that_the_server_takes_is_read_as_node_reads_it(
    zone: str, postgres_server: Server
) -> None:
    with (
        database(postgres_server, f"TimeZone = '{zone}'") as url,
        python(url, create_table_if_missing=True) as us,
    ):
        us.create("sid", AT, LIFE)
        ((lives,),) = sql(url, "SELECT expire = to_timestamp(1790000601) FROM session")
        assert lives


# --------------------------------------------------------------------------------------------------------- timestamptz


def test_a_column_with_a_zone_of_its_own_needs_none(postgres_server: Server) -> None:
    """The remedy that the refusal names: Node's statements take a timestamptz, and nobody's setting matters any more."""
    with (
        database(postgres_server) as url,
        node(url, zone=NEW_YORK, session=MAX_AGE, createTableIfMissing=True) as app,
    ):
        (sid,) = log_in(app)
        remedy = f"ALTER TABLE session ALTER COLUMN expire TYPE timestamptz(6) USING expire AT TIME ZONE '{NEW_YORK}'"
        sql(url, remedy)
        with python(f"{url}?options=-c%20TimeZone%3DAsia/Tokyo") as us:
            assert us.lives(sid, AT).expires == 1_790_000_601
            app.run(["set", ["n"], 9], cookie=cookie(sid), now=AT + 60_000)
            entry = us.lives(sid, AT)
            assert (data(entry.text), entry.expires) == ({"n": 9}, 1_790_000_661)
            us.create("ours", AT, LIFE, n=1)
            us.change("ours", AT, LIFE, n=2)
            assert app.run(cookie=cookie("ours"), now=AT + LIFE).data == {"n": 2}
            assert us.lives("ours", AT).expires == 1_790_001_201
            assert us.run(us.store.prune(now=1_790_000_700)) == 1
