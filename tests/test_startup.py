"""What is said and done when an application starts and ends, by every kind of adapter."""

import asyncio
import gc
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from coatcheck import ConfigurationError, Event, Outage, StoreUnavailable
from coatcheck import startup as startup_module
from coatcheck.asgi import SessionMiddleware as Asgi
from coatcheck.flask import CoatCheck
from coatcheck.starlette import SessionMiddleware
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.wsgi import SessionMiddleware as Wsgi
from tests.faulty import FaultyServer, FaultyStore, PlainStore, faulty

SECRET = "tests-only-Zt3xk0VbX1qv8m2LwP5rYd7NfQ9sHc4G"
AWAY = StoreUnavailable("no route to the store")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> tuple[str, FaultyServer]:
    return faulty(monkeypatch)


def flask_app(store: Any, **options: Any) -> None:
    CoatCheck(Flask(__name__), store=store, secret=SECRET, **options)


def wsgi_app(store: Any, **options: Any) -> None:
    Wsgi(lambda environ, start_response: [], store=store, secret=SECRET, **options)


def asgi_app(store: Any, **options: Any) -> None:
    asyncio.run(lifespan(Asgi(idle, store=store, secret=SECRET, **options)))


STARTS = pytest.mark.parametrize("start", [flask_app, wsgi_app, asgi_app])


async def idle(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application with nothing to start or end."""
    assert scope["type"] == "lifespan"
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def lifespan(app: Any, *, until: str = "lifespan.shutdown") -> list[str]:
    """Start an application, and end it; returns what it sent."""
    messages, sent = ["lifespan.startup", "lifespan.shutdown"], list[str]()

    async def receive() -> dict[str, str]:
        return {"type": messages.pop(0)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    return sent


# -------------------------------------------------------------------------------------------------- the store is not there


@STARTS
def test_an_unreachable_store_is_said_at_once_in_one_line_and_the_application_starts(
    start: Any, place: tuple[str, FaultyServer], caplog: pytest.LogCaptureFixture
) -> None:
    url, server = place
    server.down(AWAY)
    start(url)
    (line,) = caplog.records
    assert (line.levelname, line.name) == ("ERROR", "coatcheck")
    assert line.getMessage() == (
        "store.down handle=None user=None faulty://app:***@host/shop: StoreUnavailable: no route to the store"
    )


@STARTS
def test_a_store_whose_tables_are_missing_is_told_then_too(
    start: Any, place: tuple[str, FaultyServer]
) -> None:
    url, server = place
    server.is_set_up = False
    events: list[Event] = []
    start(url, on_event=events.append)
    (event,) = events
    assert event.name == "store.down"
    assert event.detail.endswith("StoreError: the table is missing: run `coatcheck setup`")


@STARTS
def test_a_store_that_works_is_asked_once_and_nothing_is_said(
    start: Any, place: tuple[str, FaultyServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "coatcheck")
    url, server = place
    start(url)
    assert (server.told(), caplog.records) == (["check"], [])


@STARTS
def test_it_can_be_switched_off(start: Any, place: tuple[str, FaultyServer]) -> None:
    url, server = place
    start(url, startup_check=False)
    assert server.told() == []
    with pytest.raises(ConfigurationError, match="startup_check='no': give True or False"):
        start(url, startup_check="no")


@STARTS
def test_a_check_that_raises_what_it_may_not_keeps_nobody_from_starting(
    start: Any, place: tuple[str, FaultyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: FaultyStore) -> None:
        raise ZeroDivisionError("a bug of the store's")

    monkeypatch.setattr(FaultyStore, "check", broken)
    events: list[Event] = []
    start(place[0], on_event=events.append)
    assert [event.detail.partition(": ")[2] for event in events] == [
        "ZeroDivisionError: a bug of the store's"
    ]


@STARTS
def test_a_store_that_cannot_be_checked_is_not(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, _ = faulty(monkeypatch, kind=PlainStore)
    events: list[Event] = []
    start(url, on_event=events.append)
    assert events == []


@pytest.mark.parametrize("start", [flask_app, wsgi_app])
def test_without_an_event_loop_the_store_is_asked_over_a_connection_of_its_own(
    start: Any, place: tuple[str, FaultyServer]
) -> None:
    """Nothing that was connected goes through a later fork, whatever the driver makes of forks."""
    url, server = place
    start(url, outage=Outage(connect_timeout=3))
    assert (len(server.opened), server.closed) == (2, ["close"])
    assert server.opened[0] == server.opened[1] == Outage(connect_timeout=3)


@pytest.mark.parametrize("start", [flask_app, wsgi_app])
def test_without_an_event_loop_a_store_that_was_handed_in_is_left_alone(start: Any) -> None:
    server = FaultyServer()
    start(FaultyStore(server))
    assert server.told() == []


def test_with_one_it_is_asked_when_the_application_itself_has_started(
    place: tuple[str, FaultyServer],
) -> None:
    """Its start-up may open the pool, or make the tables."""
    server = FaultyServer()
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        order.extend([*server.told(), "started"])
        await send({"type": "lifespan.startup.complete"})
        order.extend(server.told())

    asyncio.run(lifespan(Asgi(app, store=FaultyStore(server), secret=SECRET)))
    assert order == ["started", "check"]


def test_a_client_without_time_outs_holds_the_start_up_only_so_long(
    monkeypatch: pytest.MonkeyPatch, place: tuple[str, FaultyServer]
) -> None:
    async def never(self: FaultyStore) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(FaultyStore, "check", never)
    monkeypatch.setattr(startup_module, "PATIENCE", 0.01)
    events: list[Event] = []
    asgi_app(FaultyStore(FaultyServer()), on_event=events.append)
    assert [event.detail for event in events] == ["FaultyStore: TimeoutError: no answer within 0.01 s"]


def test_a_fork_after_the_check_finds_no_connection(place: tuple[str, FaultyServer]) -> None:
    """As `gunicorn --preload` does it: the check before the fork, the requests after it."""
    url, server = place
    wsgi_app(url)
    assert server.closed == ["close"]
    child = os.fork()
    if child == 0:
        os._exit(0 if server.told() == ["check"] else 1)
    assert os.waitpid(child, 0)[1] == 0


# ------------------------------------------------------------------------------------------------------ the end of it all


def test_the_lifespan_is_the_applications_own(place: tuple[str, FaultyServer]) -> None:
    sent = asyncio.run(lifespan(Asgi(idle, store=place[0], secret=SECRET)))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_store_from_a_url_is_closed_after_the_applications_own_shutdown(
    place: tuple[str, FaultyServer],
) -> None:
    url, server = place
    order: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            message = await receive()
            order.append(list(server.closed))
            await send({"type": f"{message['type']}.complete"})
        order.append(list(server.closed))

    asyncio.run(lifespan(Asgi(app, store=url, secret=SECRET)))
    assert order == [[], [], ["aclose"]]


def test_a_store_that_was_handed_in_is_its_owners_to_close() -> None:
    server = FaultyServer()
    asgi_app(FaultyStore(server))
    assert server.closed == []


def test_an_application_that_fails_to_start_or_to_end_closes_it_too(place: tuple[str, FaultyServer]) -> None:
    url, server = place
    for outcome in ("lifespan.startup.failed", "lifespan.shutdown.failed"):

        async def app(scope: Any, receive: Any, send: Any, outcome: str = outcome) -> None:
            await send({"type": outcome, "message": "no"})

        asyncio.run(lifespan(Asgi(app, store=url, secret=SECRET)))
    assert server.closed == ["aclose"] * 2


def test_an_application_without_a_lifespan_is_left_alone(place: tuple[str, FaultyServer]) -> None:
    """It raises, or returns, and the server goes on without: the store must not be closed under the requests to come."""
    url, server = place

    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError(scope["type"])

    async def ignores(scope: Any, receive: Any, send: Any) -> None:
        return

    with pytest.raises(NotImplementedError):
        asyncio.run(lifespan(Asgi(refuses, store=url, secret=SECRET)))
    asyncio.run(lifespan(Asgi(ignores, store=url, secret=SECRET)))
    assert (server.told(), server.closed) == ([], [])


def test_a_store_that_cannot_be_closed_keeps_nobody_from_ending(
    place: tuple[str, FaultyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(self: FaultyStore) -> None:
        raise OSError("broken pipe")

    monkeypatch.setattr(FaultyStore, "aclose", stuck)
    events: list[Event] = []
    asgi_app(place[0], on_event=events.append)
    assert [event.detail for event in events] == ["faulty://app:***@host/shop: OSError: broken pipe"]


@pytest.mark.parametrize("url", ["faulty", "sqlite:///sessions.db", "memory:"])
def test_the_same_application_can_be_started_again(
    url: str, place: tuple[str, FaultyServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As test suites do, `with TestClient(app)` after `with TestClient(app)`: and the sessions are those of before."""
    monkeypatch.chdir(tmp_path)
    url = place[0] if url == "faulty" else url

    async def count(request: Any) -> PlainTextResponse:
        return PlainTextResponse(str(request.session.increment("n")))

    app = Starlette(routes=[Route("/", count)])
    app.add_middleware(SessionMiddleware, store=url, secret=SECRET)
    cookies, seen = None, []
    for _ in range(3):
        with TestClient(app, base_url="https://testserver", cookies=cookies) as client:
            seen.append(client.get("/").text)
            cookies = client.cookies
    assert seen == ["1", "2", "3"]
    gc.collect()


def test_closing_a_manager_closes_what_its_face_opened(
    place: tuple[str, FaultyServer], tmp_path: Path
) -> None:
    from coatcheck import AsyncSessionManager, SessionManager

    url, server = place

    async def both() -> None:
        async with AsyncSessionManager(url):
            pass
        async with AsyncSessionManager(FaultyStore(server)), AsyncSessionManager(MemoryStore()):
            pass
        async with AsyncSessionManager("memory:"):
            pass
        async with AsyncSessionManager(f"sqlite:///{tmp_path}/sessions.db"):  # it has no aclose()
            pass

    with (
        SessionManager(url),
        SessionManager(FaultyStore(server)),
        SessionManager(SQLiteStore(tmp_path / "s.db")),
    ):
        pass
    asyncio.run(both())
    assert server.closed == ["close", "aclose"]


def test_a_store_that_names_itself_is_not_named_twice(place: tuple[str, FaultyServer]) -> None:
    url, server = place
    server.down(StoreUnavailable("faulty://app:***@host/shop cannot be reached: connection refused"))
    events: list[Event] = []
    wsgi_app(url, on_event=events.append)
    (event,) = events
    assert (
        event.detail == "StoreUnavailable: faulty://app:***@host/shop cannot be reached: connection refused"
    )
