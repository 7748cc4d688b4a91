"""What the tests of connect-pg-simple share: tables, the real package over them, and our store beside it."""

import secrets
from base64 import b64encode
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from hashlib import sha256
from hmac import digest
from typing import Any, Final, TypeVar
from urllib.parse import quote

from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.connect_pg_simple import ConnectPgSimple, PgSimpleSessions
from coatcheck.dialects.express.ports import SAVED, Entry
from servers import Server
from tests.dialects.node import NodeApp, node_app
from tests.dialects.rig import body
from tests.patience import PATIENT
from tests.stores.postgres_tables import sql

SECRET: Final = "keyboard cat"
SESSION: Final = {"secret": SECRET, "resave": False, "saveUninitialized": False}
WEEK: Final = 604_800_000
"""Milliseconds."""
T = TypeVar("T")


def cookie(sid: str) -> str:
    """What a browser sends for an id, as express-session signs it."""
    mac = b64encode(digest(SECRET.encode(), sid.encode(), sha256)).decode().rstrip("=")
    return "connect.sid=" + quote(f"s:{sid}.{mac}", safe="-_.!~*'()")


def new_name() -> str:
    return f"t_{secrets.token_hex(6)}"


@contextmanager
def database(server: Server, *settings: str) -> Iterator[str]:
    """A database of its own, with `ALTER DATABASE … SET` settings; its URL."""
    name = new_name()
    sql(server.url, f"CREATE DATABASE {name}")
    for setting in settings:
        sql(server.url, f"ALTER DATABASE {name} SET {setting}")
    try:
        yield server.url.rpartition("/")[0] + f"/{name}"
    finally:
        sql(server.url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def node(
    url: str, *, by: str = "pool", zone: str = "", session: Any = None, **options: Any
) -> Iterator[NodeApp]:
    """An application over the real package, with its options in its own words."""
    store = {"kind": "connect-pg-simple", "url": url, "by": by, "zone": zone, "options": options}
    with node_app(store, session={**SESSION, **(session or {})}) as app:
        yield app


@contextmanager
def python(url: str, **options: Any) -> Iterator["Python"]:
    """Our store."""
    backend = ConnectPgSimple.from_url(url, outage=PATIENT, **options)
    try:
        yield Python(backend.blocking())
    finally:
        backend.close()


class Python:
    """Our store, in the words of the tests: `at` is the time in milliseconds, as Node has it."""

    def __init__(self, store: PgSimpleSessions) -> None:
        self.store = store

    def get(self, sid: str, at: float) -> Entry | None:
        return run_now(self.store.get(sid, now=at / 1000))

    def lives(self, sid: str, at: float) -> Entry:
        entry = self.get(sid, at)
        assert entry is not None
        return entry

    def create(self, sid: str, at: float, life: float | None, **fields: Any) -> None:
        end = None if life is None else (at + life) / 1000
        text = body(end, now=at / 1000, **fields)
        assert run_now(self.store.create(sid, text, expires=end, now=at / 1000)) is SAVED

    def change(self, sid: str, at: float, life: float | None, **fields: Any) -> None:
        end = None if life is None else (at + life) / 1000
        text, over = body(end, now=at / 1000, **fields), self.lives(sid, at)
        assert run_now(self.store.replace(sid, text, over=over, expires=end, now=at / 1000)) is SAVED

    def touch(self, sid: str, at: float, life: float) -> None:
        run_now(self.store.touch(sid, b"{}", expires=(at + life) / 1000, now=at / 1000))

    def destroy(self, sid: str) -> bool:
        return run_now(self.store.destroy(sid))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return run_now(work)
