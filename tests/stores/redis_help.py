"""What the tests of the Redis store share: records, a raw client, and both faces of a store driven alike."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any, Literal, TypeVar

import msgspec
import redis

from coatcheck.core.ids import RandomIds
from coatcheck.core.record import VERSIONS_KEPT, Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores.redis import RedisSessions, RedisStore
from servers import Server

T = TypeVar("T")
IDS = RandomIds()
NOW = 1_700_000_000.0
FACES = ("blocking", "awaiting", "redis-py")
"""Threads that wait; event loops; and event loops over connections that redis-py keeps."""
Transport = Literal["hiredis", "redis-py"]
TRANSPORTS: tuple[Transport, ...] = ("hiredis", "redis-py")
_numbers = count()

ACL = (
    "+hello +get +evalsha +eval +getrange +setrange +set +del +pexpire +pttl +publish +subscribe +ping +time"
)
ACL += " +zadd +zrem +zcard +zrangebyscore +hget +hset +hdel +hgetall +scan +select"
"""What docs/stores/redis.md says that a user must be allowed."""


def fresh() -> str:
    """A prefix that no other test has: `count` and `sweep` see nothing of theirs."""
    return f"t{next(_numbers)}:"


def record(**fields: Any) -> Record:
    values: dict[str, Any] = {
        "key": IDS.locator(),
        "versions": (IDS.version(),),
        "verifier": bytes(32),
        "data": b"0",
        "created_at": NOW,
        "seen_at": NOW,
        "deadline": NOW + 3_600,
        "ends_at": NOW + 86_400,
    }
    return Record(**(values | fields))


def login(user_id: str = "ada", **fields: Any) -> Record:
    values = {"user_id": user_id, "authenticated_at": NOW, "login": Login(), "epoch": 1}
    return record(**(values | fields))


def after(old: Record, data: bytes = b"1", **fields: Any) -> Record:
    versions = (IDS.version(), *old.versions[: VERSIONS_KEPT - 1])
    return msgspec.structs.replace(old, versions=versions, data=data, **fields)


def raw(server: Server, **options: Any) -> Any:
    """A client to do something behind the store's back, as a context manager."""
    return redis.Redis(port=server.port, **options)


def on(face: str, backend: RedisStore, work: Callable[[RedisSessions], Coroutine[Any, Any, T]]) -> T:
    """Do something with one face of a store, and close it."""
    if face == "blocking":
        try:
            return run_now(work(backend.blocking()))
        finally:
            backend.close()
    if face == "redis-py":
        link = backend._link
        link._source = replace(link._source, is_direct=False)

    async def within() -> T:
        try:
            return await work(backend.awaiting())
        finally:
            await backend.aclose()

    return asyncio.run(within())


@contextmanager
def calls(server: Server, counted: dict[str, int]) -> Iterator[None]:
    """Count the commands that reach a server meanwhile, by the server's own statistics; those within scripts are not counted."""
    with raw(server) as client:
        client.config_resetstat()
        yield
        for name, numbers in client.info("commandstats").items():
            if name in ("cmdstat_get", "cmdstat_evalsha", "cmdstat_eval", "cmdstat_scan"):
                counted[name.removeprefix("cmdstat_")] = numbers["calls"]


READY = b"%2\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n"
"""What a server says to HELLO."""


@contextmanager
def talking(answer: Callable[[bytes], bytes | None], afterwards: bytes = b"") -> Iterator[int]:
    """A port at which something answers each piece that comes, once it has said that it is Redis, and says something more a
    moment later. None: it hangs up.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(there: socket.socket) -> None:
        with there:
            while asked := there.recv(1_000_000):
                hello = b"HELLO" in asked or b"CLIENT" in asked
                said = greeting(asked) if hello else answer(asked)
                if said is None:
                    return
                there.sendall(said)
                if afterwards and not hello:
                    threading.Event().wait(0.02)
                    there.sendall(afterwards)

    def accept() -> None:
        while True:
            try:
                there, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=quietly, args=(serve, there), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def quietly(serve: Callable[[socket.socket], None], there: socket.socket) -> None:
    try:
        serve(there)
    except OSError:
        pass  # the client was faster


def greeting(asked: bytes) -> bytes:
    """An answer to each command of a login."""
    return READY * asked.count(b"HELLO") + b"+OK\r\n" * asked.count(b"CLIENT")
