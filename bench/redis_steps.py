"""What a load and a replace in Redis cost the client, and what a session takes there: ``python -m bench.redis_steps``.

A server of its own on loopback. CPU microseconds of this process for one call, the kernel's part included: on the sync face one
call after the other, on an event loop alone and 32 at once, where the commands of one turn leave together, by either transport.
The least of many rounds. Of the server, what it counts for the command alone, and its whole CPU with reading and writing its
sockets. Then the memory by the server's own account (MEMORY USAGE), next to what a hash of the same fields would take, and what
goes over the network.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import redis

from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import SAVED, Store, Terms
from coatcheck.core.record import VERSIONS_KEPT, Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores._redis_record import encoded
from coatcheck.stores._redis_scripts import LOAD, PUT
from coatcheck.stores._rows import written
from coatcheck.stores.redis import RedisStore
from servers import redis as running

IDS = RandomIds()
NOW = 1_800_000_000.0
DATA = b'{"user":"7d1f2c4e","n":0,"cart":[{"sku":"a-1","n":1},{"sku":"b-2","n":2}],"theme":"dark"}'
ROUNDS, CALLS, AT_ONCE = 30, 192, 32
TRANSPORTS: tuple[Literal["hiredis", "redis-py"], ...] = ("hiredis", "redis-py")
MORE = 18


def login(user_id: str = "7d1f2c4e", **changes: Any) -> Record:
    """A logged-in session that has been written to often."""
    values: dict[str, Any] = {
        "key": IDS.locator(),
        "versions": tuple(IDS.version() for _ in range(VERSIONS_KEPT)),
        "verifier": bytes(range(32)),
        "data": DATA,
        "created_at": NOW,
        "seen_at": NOW,
        "deadline": NOW + 86_400,
        "ends_at": NOW + 30 * 86_400,
        "user_id": user_id,
        "authenticated_at": NOW,
        "epoch": 1,
        "login": Login("pwd", False, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101", "192.0.2.1"),
    }
    return Record(**(values | changes))


def after(old: Record) -> Record:
    """What the next writer would put in its place."""
    return msgspec.structs.replace(old, versions=(IDS.version(), *old.versions[: VERSIONS_KEPT - 1]))


class Sessions:
    """As many as there are callers at once; each caller has its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records = [login() for _ in range(AT_ONCE)]

    async def begin(self) -> None:
        for record in self.records:
            assert await self.store.create(record, now=NOW) is SAVED

    async def load(self, n: int) -> None:
        assert await self.store.load(self.records[n].key, now=NOW) is not None

    async def replace(self, n: int) -> None:
        old, self.records[n] = self.records[n], after(self.records[n])
        assert await self.store.replace(self.records[n], expected=old.version, now=NOW) is SAVED


def blocking(call: Callable[[int], Any]) -> float:
    """CPU microseconds of a call, one after the other."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for n in range(CALLS):
            run_now(call(n % AT_ONCE))
        best = min(best, time.process_time() - began)
    return best / CALLS * 1e6


async def awaiting(call: Callable[[int], Awaitable[None]], at_once: int) -> float:
    """CPU microseconds of a call, so many at once."""

    async def caller(n: int) -> None:
        for _ in range(CALLS // at_once):
            await call(n)

    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        await asyncio.gather(*(caller(n) for n in range(at_once)))
        best = min(best, time.process_time() - began)
    return best / (CALLS // at_once * at_once) * 1e6


async def on_a_loop(store: RedisStore, transport: str) -> list[tuple[str, float]]:
    sessions = Sessions(store.awaiting())
    await sessions.begin()
    rows = []
    for at_once in (1, 4, AT_ONCE):
        rows.append((f"load, {transport}, {at_once} at once", await awaiting(sessions.load, at_once)))
        rows.append((f"replace, {transport}, {at_once} at once", await awaiting(sessions.replace, at_once)))
    await store.aclose()
    return rows


def index_of_all(client: Any) -> int:
    """Octets of the indexes of all users."""
    return sum(client.memory_usage(key, samples=0) for key in client.keys("coatcheck:u:*"))


def memory(store: RedisStore, client: Any) -> list[tuple[str, int]]:
    """Octets by the server's own account."""
    sessions = store.blocking()
    user = IDS.version()
    first, second = login(user), login(user)
    for record in (first, second):
        run_now(sessions.admit(record, expected=None, terms=Terms(), now=NOW))
    rows = []
    string = client.memory_usage(f"coatcheck:s:{first.key}", samples=0)
    rows.append((f"a login with {len(DATA)} octets of data", string))
    version, _, deadline, seen_at, ends_at, user_id, _, packed, _ = written(first)
    fields = {
        "v": version,
        "d": repr(deadline),
        "s": repr(seen_at),
        "e": repr(ends_at),
        "u": user_id or "",
        "p": packed,
    }
    client.hset("hash", mapping=fields)
    client.pexpire("hash", 10**9)
    rows.append(("the same as a hash", client.memory_usage("hash", samples=0)))
    index = index_of_all(client)
    rows.append(("the user's index of two sessions", index))
    for _ in range(MORE):
        run_now(sessions.admit(login(user), expected=None, terms=Terms(), now=NOW))
    rows.append(("each further session in it", (index_of_all(client) - index) // MORE))
    run_now(sessions.delete(first.key, now=NOW, token=IDS.version()))
    rows.append(("a tombstone", client.memory_usage(f"coatcheck:s:{first.key}", samples=0)))
    return rows


def at_the_server(client: Any) -> list[tuple[str, float]]:
    """CPU microseconds of the server by its own count, for a GET and for the script that replaces; the least of many rounds."""
    record = login()
    value = encoded(record)
    client.set("one", value)
    get = LOAD.words(("one",), ())
    put = PUT.words(("one",), (repr(NOW), "replace", record.version, value, ""))
    rows = []
    for name, command in (("get", get), ("evalsha", put)):
        best = float("inf")
        for _ in range(ROUNDS):
            client.config_resetstat()
            with client.pipeline(transaction=False) as pipe:
                for _ in range(CALLS):
                    pipe.execute_command(*command)
                pipe.execute()
            best = min(best, client.info("commandstats")[f"cmdstat_{name}"]["usec_per_call"])
        rows.append((f"the server's own, {name}", best))
    return rows


def with_the_network(client: Any, name: str, call: Callable[[int], Any]) -> list[tuple[str, float]]:
    """A call's cost here, and at the server with its sockets, for one command at a time."""
    before = server_cpu(client)
    cost = blocking(call)
    return [
        (f"{name}, blocking", cost),
        (f"the server's own, with its sockets, {name}", (server_cpu(client) - before) / (ROUNDS * CALLS)),
    ]


def server_cpu(client: Any) -> float:
    """CPU microseconds that the server has used."""
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"]) * 1e6


def on_the_wire() -> list[tuple[str, int]]:
    """Octets of what is sent and answered."""
    record = login()
    value, key = encoded(record), f"coatcheck:s:{record.key}"
    words = {
        "a load sends": LOAD.words((key,), ()),
        "a replace sends": PUT.words((key,), (repr(NOW), "replace", record.version, value, "")),
    }
    pack: Any = redis.Connection().pack_command  # type: ignore[no-untyped-call]  # redis-py's annotations are incomplete
    packed = [(name, sum(len(part) for part in pack(*command))) for name, command in words.items()]
    return [*packed, ("a load is answered", len(f"${len(value)}\r\n\r\n") + len(value))]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as server:
        client: Any = redis.Redis(port=server.port)
        store = RedisStore.from_url(server.url)
        sessions = Sessions(store.blocking())
        run_now(sessions.begin())
        costs = with_the_network(client, "load", sessions.load)
        costs += with_the_network(client, "replace", sessions.replace)
        for transport in TRANSPORTS:
            costs += asyncio.run(on_a_loop(RedisStore.from_url(server.url, transport=transport), transport))
        for name, cost in costs + at_the_server(client):
            print(f"{name:46} {cost:7.1f} us")
        for what, octets in memory(store, client) + on_the_wire():
            print(f"{what:46} {octets:7d} octets")
        store.close()
        client.close()


if __name__ == "__main__":
    main()
