"""The table "Commands for a request" of docs/stores.md: each figure counted, on a real server, through a manager."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import MongoClient, monitoring

from coatcheck.core.ids import Ticket
from coatcheck.core.ports import Backend
from coatcheck.core.stepping import run_now
from coatcheck.manager import SessionManager
from coatcheck.stores.mongo import MongoStore
from coatcheck.stores.postgres import PostgresStore
from coatcheck.stores.redis import RedisStore
from servers import Server
from tests.docs.test_tables import rows
from tests.stores.postgres_tables import table_of
from tests.stores.redis_help import fresh, raw
from tests.stores.sqlalchemy_places import Place

Counting = Callable[[], int]
"""How many commands there have been; what the asking costs is for whoever asks to take off."""


class Sent(monitoring.CommandListener):
    """How many commands pymongo has sent."""

    def __init__(self) -> None:
        self.count = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.count += 1

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...
    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@contextmanager
def on_redis(server: Server) -> Iterator[tuple[Backend, Counting]]:
    with RedisStore.from_url(server.url, prefix=fresh()) as backend, raw(server) as client:

        def count() -> int:
            stats: Any = client.info("commandstats")
            return sum(
                stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("get", "evalsha", "eval")
            )

        yield backend, count


@contextmanager
def on_postgres(server: Server) -> Iterator[tuple[Backend, Counting]]:
    with table_of(server) as table:
        backend, sent = PostgresStore.from_url(server.url, table=table), Sent()
        client: Any = backend.blocking()._client
        fetch = client.fetch

        async def counted(*args: Any) -> Any:
            sent.count += 1
            return await fetch(*args)

        client.fetch = counted
        yield backend, lambda: sent.count
        backend.close()


@contextmanager
def on_mongo(server: Server) -> Iterator[tuple[Backend, Counting]]:
    sent = Sent()
    with MongoClient[dict[str, Any]](server.url, event_listeners=[sent]) as client:
        backend = MongoStore(client, collection="counted")
        run_now(backend.blocking().setup())
        yield backend, lambda: sent.count


@contextmanager
def on_mariadb(place: Place) -> Iterator[tuple[Backend, Counting]]:
    def count() -> int:
        return int(place.sql("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])

    place.wipe()
    with place.store() as backend:
        yield backend, count


def ticket(session: Any) -> Ticket:
    return Ticket(session._record.key, session._verifier)


def counted(backend: Backend, count: Counting) -> list[int]:
    """Commands of each kind of request, each done before, so that scripts, plans and a user's row are there."""
    sessions = SessionManager(backend)

    def begin() -> Any:
        session = sessions.session()
        session["n"] = 1
        sessions.commit(session)
        return session

    def request(act: Callable[[Any], object]) -> Callable[[Any], None]:
        def work(first: Any) -> None:
            session = sessions.session(ticket(first))
            act(session)
            sessions.commit(session)

        return work

    def write(session: Any) -> None:
        session["n"] += 1

    kinds: list[Callable[[Any], object]] = [
        request(lambda session: None),
        request(lambda session: session["n"]),
        request(write),
        lambda first: begin(),
        request(lambda session: session.login("ada")),
        request(lambda session: session.logout()),
    ]
    found = []
    for kind in kinds:
        kind(begin())
        first = begin()
        own = -count() + count()  # what asking costs
        before = count()
        kind(first)
        found.append(count() - before - own)
    return found


def stated(store: str) -> list[int]:
    """The store's row of the table."""
    (row,) = (row for row in rows("stores.md", "### Commands for a request") if row[0] == store)
    return [int(cell) for cell in row[1:]]


@pytest.mark.parametrize(
    ("store", "opened", "fixture"),
    [
        ("Redis", on_redis, "redis_server"),
        ("PostgreSQL", on_postgres, "postgres_server"),
        ("MongoDB", on_mongo, "mongo_server"),
        ("SQLAlchemy", on_mariadb, "sqlalchemy_mariadb"),
    ],
)
def test_the_page_says_how_many_commands_a_request_costs(
    store: str, opened: Any, fixture: str, request: pytest.FixtureRequest
) -> None:
    with opened(request.getfixturevalue(fixture)) as (backend, count):
        assert counted(backend, count) == stated(store)
