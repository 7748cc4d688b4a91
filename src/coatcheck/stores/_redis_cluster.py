"""Two ways to speak to a Redis Cluster. redis-py knows which node has which slot; each node is spoken to as a single server is.

A node that has not (or no longer) got the slot says so, and has done nothing: then the map is read anew, and the command goes to
where it belongs. While a slot is being moved redis-py's own client carries a command over. A node that cannot be reached may be
about to be replaced by its replica: the map is read anew then, too.
"""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError, TryAgainError

from coatcheck.core.ports import Notice
from coatcheck.errors import ReplyLost, StoreError, StoreUnavailable, UsageError
from coatcheck.stores._loops import take_ended
from coatcheck.stores._redis_client import (
    SCAN_COUNT,
    Blocking,
    Calls,
    Settings,
    answered,
    command,
    leave_behind,
    pack,
    quiet,
    tell_of_forks,
)
from coatcheck.stores._redis_errors import FAILURES, last_of, refused, translated
from coatcheck.stores._redis_scripts import ANYTHING, Script
from coatcheck.stores._redis_watch import watch_awaiting, watch_blocking
from coatcheck.stores._redis_work import Line, LineOf, Work

__all__ = ["AwaitingCluster", "BlockingCluster"]

REDIRECTIONS: Final = (MovedError, AskError, TryAgainError)
TRIES: Final = 3
"""How often a command is sent after its slot."""


class _Known:
    """How each node is doing, by its name: redis-py makes its own objects for nodes anew, now and then."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nodes: dict[str, Settings] = {}

    def of(self, node: str) -> Settings:
        if node not in self._nodes:
            self._nodes[node] = self._settings.of_node(node)
        return self._nodes[node]


class BlockingCluster:
    """Speaks from the calling thread, which waits. Never suspends."""

    def __init__(self, make: Callable[[], Any], settings: Settings) -> None:
        self._make = make
        self._settings = settings
        self._lock = threading.Lock()
        self._cluster: Any = None
        self._closed = False
        self._nodes: dict[str, tuple[Any, Blocking]] = {}
        self._known = _Known(settings)
        self._maps = 0
        """How often the map was read: whoever finds it out of date may find that another has read it meanwhile."""

    async def run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...] = ()) -> Any:
        return self._run(script, keys, args)

    async def all(self, script: Script, calls: Calls) -> list[Any]:
        answers = [self._caught(script, keys, args) for keys, args in calls]
        if (failure := last_of(answers)) is not None:
            raise failure
        return answers

    async def scan(self, pattern: str, cursor: Any, count: int = SCAN_COUNT) -> tuple[list[bytes], Any]:
        left, at = cursor or (sorted(self._open().get_primaries(), key=str), b"0")
        words = ("SCAN", at, "MATCH", pattern, "COUNT", count)
        reply = self._node(left[0]).exchange(pack(words), True)
        following, keys = answered(reply, self._settings.name)
        return keys, _next(left, following)

    async def ask_all(self, *words: str) -> list[Any]:
        primaries = self._open().get_primaries()
        return [quiet(self._node(node).exchange(pack(words), True)) for node in primaries]

    def watch(self, channel: str, tell: Callable[[Notice], None]) -> Callable[[], None]:
        return watch_blocking(self._lent, channel, tell)

    def _lent(self) -> Any:
        cluster = self._open()
        node = random.choice(cluster.get_primaries())
        return cluster.get_redis_connection(node).connection_pool.make_connection()

    def close(self, *, owned: bool) -> None:
        self._closed = True
        cluster, self._cluster = self._cluster, None
        if cluster is not None and owned:
            cluster.close()

    def _open(self) -> Any:
        if self._cluster is not None:
            return self._cluster
        if self._closed:
            raise UsageError(f"the store {self._settings.name} is closed")
        with self._lock:
            if self._cluster is None:
                try:
                    self._cluster = self._make()  # this asks the cluster for its map
                except FAILURES as error:
                    self._settings.health.failed(error)
                    raise translated(error, self._settings.name, sent=False) from error
        return self._cluster

    def _caught(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...]) -> Any:
        try:
            return self._run(script, keys, args)
        except StoreError as error:
            return error

    def _run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...]) -> Any:
        reply = self._exchange(script.words(keys, args), script, keys[0])
        if isinstance(reply, NoScriptError):
            reply = self._exchange(script.in_full(keys, args), script, keys[0])
        return answered(reply, self._settings.name)

    def _exchange(self, words: tuple[Any, ...], script: Script, key: str) -> Any:
        packed = command(words)
        cluster = self._open()
        for left in range(TRIES - 1, -1, -1):
            seen, node = self._maps, None
            try:
                node = cluster.get_node_from_key(key)
                reply = self._node(node).exchange(packed, script.reads, script.answers)
            except StoreUnavailable as error:
                self._read_map(cluster, seen)
                if isinstance(error, ReplyLost) or not left or cluster.get_node_from_key(key) is node:
                    raise
                continue
            except FAILURES as error:  # no node has this slot
                self._read_map(cluster, seen)
                if not left:
                    raise translated(error, self._settings.name, sent=False) from error
                continue
            if not isinstance(reply, REDIRECTIONS):
                return reply
            self._read_map(cluster, seen)
        if self._settings.wait:
            raise StoreUnavailable(
                f"{self._settings.name} is moving this slot: it cannot be waited for replicas now"
            )
        return self._carried_over(cluster, words)

    def _carried_over(self, cluster: Any, words: tuple[Any, ...]) -> Any:
        try:
            return cluster.execute_command(*words, NEVER_DECODE=True)
        except ResponseError as error:
            return error
        except FAILURES as error:
            raise translated(error, self._settings.name, sent=True) from error

    def _node(self, node: Any) -> Blocking:
        pool = self._open().get_redis_connection(node).connection_pool
        known = self._nodes.get(node.name)
        if known is None or known[0] is not pool:
            known = self._nodes[node.name] = (pool, Blocking(lambda: pool, self._known.of(node.name)))
        return known[1]

    def _read_map(self, cluster: Any, seen: int) -> None:
        with self._lock:
            if self._maps != seen:
                return
            try:
                cluster.nodes_manager.initialize()
            except FAILURES:
                pass  # nobody could tell; the next command asks again
            self._maps += 1


def _next(left: list[Any], following: bytes) -> Any:
    """Where a scan of all nodes goes on."""
    if following != b"0":
        return left, following
    return (left[1:], b"0") if len(left) > 1 else None


class AwaitingCluster:
    """Speaks from event loops, with a line for each node."""

    def __init__(self, line_of: LineOf, make: Callable[[], Any], settings: Settings) -> None:
        """`make` makes a client of redis-py's, and `line_of` a line over one of its nodes."""
        self._line_of, self._make = line_of, make
        self._settings = settings
        self._loops: dict[asyncio.AbstractEventLoop, _Nodes] = {}
        self._known = _Known(settings)
        self._closed = False
        tell_of_forks(self)

    async def run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...] = ()) -> Any:
        return await self._here().run(script, keys, args)

    async def all(self, script: Script, calls: Calls) -> list[Any]:
        here = self._here()
        answers = await asyncio.gather(
            *(here.run(script, keys, args) for keys, args in calls), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, StoreError):
                raise answer
        if (failure := last_of(answers)) is not None:
            raise failure
        return answers

    async def scan(self, pattern: str, cursor: Any, count: int = SCAN_COUNT) -> tuple[list[bytes], Any]:
        here = self._here()
        left, at = cursor or (sorted((await here.ready()).get_primaries(), key=str), b"0")
        words = ("SCAN", at, "MATCH", pattern, "COUNT", count)
        following, keys = await here.send(left[0], pack(words), True)
        return keys, _next(left, following)

    async def ask_all(self, *words: str) -> list[Any]:
        here = self._here()
        answers: list[Any] = []
        for node in (await here.ready()).get_primaries():
            try:
                answers.append(await here.send(node, pack(words), True))
            except StoreUnavailable:
                raise
            except StoreError:
                answers.append(None)
        return answers

    def watch(self, channel: str, tell: Callable[[Notice], None]) -> Callable[[], None]:
        return watch_awaiting(self._lent, channel, tell)

    async def _lent(self) -> Any:
        node = random.choice((await self._here().ready()).get_primaries())
        return node.connection_class(**node.connection_kwargs)

    def _here(self) -> "_Nodes":
        if self._closed:
            raise UsageError(f"the store {self._settings.name} is closed")
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            take_ended(self._loops)
            self._loops[loop] = _Nodes(loop, self._line_of, self._make(), self._settings, self._known)
        return self._loops[loop]

    def start_afresh(self) -> None:
        """After a fork: the connections are the parent's."""
        leave_behind(self._loops)
        self._loops = {}

    async def aclose(self, *, owned: bool) -> None:
        """Close the connections of this event loop; those of others go with their loops."""
        self._closed = True
        loops, self._loops = self._loops, {}
        here = loops.get(asyncio.get_running_loop())
        if here is not None:
            await here.close(owned=owned)


class _NodePool:
    """One node's connections, as a line asks for them."""

    def __init__(self, node: Any) -> None:
        self._node = node

    async def get_connection(self) -> Any:
        connection = self._node.acquire_connection()
        try:
            await connection.connect()
        except BaseException:
            self._node.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        self._node.release(connection)


class _Nodes:
    """The cluster as one event loop knows it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        line_of: LineOf,
        cluster: Any,
        settings: Settings,
        known: _Known,
    ) -> None:
        self._loop, self._line_of = loop, line_of
        self._cluster = cluster
        self._settings = settings
        self._lines: dict[str, tuple[Any, Line, Settings]] = {}
        self._known = known
        self._maps = 0
        self._reading: asyncio.Task[Any] | None = None
        self._is_ready = False

    async def ready(self) -> Any:
        """redis-py's client, after it has the map."""
        if not self._is_ready:
            await self._read_map(self._maps, self._cluster.initialize)
            self._is_ready = True
        return self._cluster

    async def run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...]) -> Any:
        try:
            return await self._follow(script.words(keys, args), script, keys[0])
        except StoreError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        return await self._follow(script.in_full(keys, args), script, keys[0])

    async def _follow(self, words: tuple[Any, ...], script: Script, key: str) -> Any:
        """Send a command to where its slot is."""
        packed = command(words)
        cluster = await self.ready()
        for left in range(TRIES - 1, -1, -1):
            seen, node = self._maps, None
            try:
                node = cluster.get_node_from_key(key)
                return await self.send(node, packed, script.reads, script.answers)
            except StoreError as error:
                redirected = isinstance(error.__cause__, REDIRECTIONS)
                if not (redirected or isinstance(error, StoreUnavailable)):
                    raise
                await self._quietly_read_map(seen)
                if not redirected and (
                    isinstance(error, ReplyLost) or not left or cluster.get_node_from_key(key) is node
                ):
                    raise
            except FAILURES as error:  # no node has this slot
                await self._quietly_read_map(seen)
                if not left:
                    raise translated(error, self._settings.name, sent=False) from error
        if self._settings.wait:
            raise StoreUnavailable(
                f"{self._settings.name} is moving this slot: it cannot be waited for replicas now"
            )
        return await self._carried_over(words)

    async def _carried_over(self, words: tuple[Any, ...]) -> Any:
        # In a task of its own: whoever waits may be cancelled, a command under way not.
        task = self._loop.create_task(self._cluster.execute_command(*words, NEVER_DECODE=True))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(task)
        except ResponseError as error:
            raise refused(error, self._settings.name) from error
        except FAILURES as error:
            raise translated(error, self._settings.name, sent=True) from error

    async def send(self, node: Any, packed: bytes, reads: bool, answers: frozenset[type] = ANYTHING) -> Any:
        """Send a command to one node."""
        known = self._lines.get(node.name)
        if known is None or known[0] is not node:
            if known is not None:
                known[1].retire()
            settings = self._known.of(node.name)
            line = self._line_of(self._loop, _NodePool(node), settings)
            known = self._lines[node.name] = (node, line, settings)
        _, line, settings = known
        if not settings.health.well:
            settings.health.admit()
        work = Work(packed, reads, settings.retries, self._loop.create_future(), answers)
        line.join(work)
        return await work.future

    async def _quietly_read_map(self, seen: int) -> None:
        try:
            await self._read_map(seen, self._cluster.nodes_manager.initialize)
        except StoreError:
            pass  # nobody could tell; the next command asks again

    async def _read_map(self, seen: int, read: Callable[[], Any]) -> None:
        """Read it once, however many find that it is out of date."""
        if self._maps != seen:
            return
        if self._reading is None:
            self._reading = self._loop.create_task(self._read(read))
        await asyncio.shield(self._reading)

    async def _read(self, read: Callable[[], Any]) -> None:
        try:
            await read()
        except FAILURES as error:
            self._settings.health.failed(error)
            raise translated(error, self._settings.name, sent=False) from error
        finally:
            self._maps += 1
            self._reading = None

    async def close(self, *, owned: bool) -> None:
        for _, line, _ in list(self._lines.values()):
            await line.close()
        if owned:
            await self._cluster.aclose()
