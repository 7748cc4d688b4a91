"""The commands of one event loop over connections that redis-py keeps: for clients that are the application's own.

The commands of one turn of the loop leave together. A command is put into a queue; a worker takes all that is there, writes
it at once over one connection, waits, and hands out the replies in order. `_redis_direct` needs a third of the time for the same,
with a connection to itself.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, cast

from redis.exceptions import ReadOnlyError

from coatcheck.errors import ReplyLost, StoreError, StoreUnavailable
from coatcheck.stores._redis_client import Settings
from coatcheck.stores._redis_errors import FAILURES, insist_on_answer, is_login
from coatcheck.stores._redis_opening import Opening
from coatcheck.stores._redis_work import Work, give_up, is_again, is_unheard_again

__all__ = ["PooledLine"]

WORKERS: Final = 4
"""Batches of one event loop that may be under way at once. More, and batches are smaller and dearer; fewer, and one slow command
holds up too many."""
BATCH: Final = 200
"""Commands in one batch at most."""


class PooledLine:
    """The commands of one event loop, standing in line for its connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any, settings: Settings) -> None:
        self._loop = loop
        self.pool = pool
        self._settings = settings
        self._health = settings.health
        self._opening = Opening(pool, settings)
        self._queue: list[Work] = []
        self._workers = 0
        self._starting = False
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, work: Work) -> None:
        """Stand in line. What joins in the same turn of the loop leaves in the same batch."""
        self._queue.append(work)
        if not self._starting and self._workers < WORKERS:
            self._starting = True
            self._workers += 1
            # A context of its own: the first request's variables are not for the others' commands.
            task = self._loop.create_task(self._work(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def retire(self) -> None:
        """Nothing to do: its connections are in the pool."""

    async def close(self) -> None:
        """Let what is under way come to its end."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _work(self) -> None:
        connection, batch = None, []
        self._starting = False
        try:
            while self._queue:
                if connection is None and (connection := await self._connection()) is None:
                    continue
                batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                batch = [work for work in batch if not work.future.done()]
                if batch and not await self._carry(connection, batch):
                    lost, connection, batch = connection, None, []
                    await self.pool.release(lost)
        except BaseException as error:  # the loop is closing down
            for work in (*batch, *self._queue):
                work.fail(ReplyLost(f"{self._settings.name}: the event loop was stopped meanwhile"), error)
            self._queue.clear()
            if connection is not None:
                await connection.disconnect(nowait=True)
            raise
        finally:
            self._workers -= 1  # before anything is awaited: who joins now starts another
        if connection is not None:
            await self.pool.release(connection)

    async def _connection(self) -> Any:
        """A connection, or None after telling all that are waiting that there is none."""
        try:
            return await self._opening.connection()
        except StoreError as failure:
            self._give_up(failure)
            return None

    def _give_up(self, failure: StoreError) -> None:
        waiting, self._queue = self._queue, []
        give_up(waiting, failure)

    async def _carry(self, connection: Any, batch: list[Work]) -> bool:
        """Send a batch and hand out its replies. False: the connection is of no use any more."""
        settings, replies, waited = self._settings, [], None
        try:
            async with asyncio.timeout(settings.patience):
                packed = b"".join([work.packed for work in batch]) + settings.wait
                await connection.send_packed_command([packed], check_health=False)
                read = _reader(connection)
                for work in batch:
                    reply = await read(disable_decoding=True)
                    insist_on_answer(work.answers, reply)
                    replies.append(reply)
                if settings.wait:
                    waited = await read(disable_decoding=True)
        except FAILURES as error:
            await connection.disconnect(nowait=True)
            if settings.wait:
                replies = []  # none of them is known to be with the replicas
            for work, reply in zip(batch, replies, strict=False):
                self._hand_out(work, reply, None)
            self._lost(batch[len(replies) :], error)
            return False
        if not self._health.well:
            self._health.worked()
        for work, reply in zip(batch, replies, strict=True):
            self._hand_out(work, reply, waited)
        if any(type(reply) is ReadOnlyError for reply in replies):
            await connection.disconnect(nowait=True)
            return False
        return True

    def _hand_out(self, work: Work, reply: Any, waited: Any) -> None:
        if is_again(work, reply, waited, self._settings):
            self._queue.append(work)

    def _lost(self, works: list[Work], error: BaseException) -> None:
        """No answer came to these. What waits behind them is told so too, if the server did not answer in time."""
        if not is_login(error):
            self._health.failed(error)
        self._queue += [work for work in works if is_unheard_again(work, error, self._settings)]
        if isinstance(error, TimeoutError):
            self._give_up(
                StoreUnavailable(f"{self._settings.name} does not answer in time: this was not sent")
            )


def _reader(connection: Any) -> Callable[..., Any]:
    """What reads the replies of a batch: redis-py's parser, which hands out errors as replies. The connection's own method sets a
    time limit for each reply and costs three times as much; a batch has one for all.
    """
    return cast(Callable[..., Any], connection._parser.read_response)
