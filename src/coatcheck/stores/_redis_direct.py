"""The commands of one event loop over one connection: what a turn of the loop has to say leaves in one write, and replies are
handed out as they come, in order.

Theory of operation. redis-py opens the connection (TLS, login, database, name; by way of Sentinel or a cluster's map), and then
its transport is given to a protocol of ours, with hiredis's reader behind it. From then on nothing is awaited on the way: `join`
puts a command into a list; the first one has the loop call `_leave`, which writes them all and lets them wait in order;
`data_received` reads what came and sets their futures. One connection is enough, since the server carries out one command at a
time, and the next need not wait for the reply of the one before.

A connection is either beyond doubt or given up. It is given up when a reply is late, is none of RESP, or is one that nobody asked
for; when the server closes it; or when the server says that it is no primary any more. What was sent over it and not answered is
in doubt (`ReplyLost`), but for questions, which are asked once more; what was not sent goes over the next one.

A reply that nobody asked for is noticed at once where nothing is under way. Where something is, it would be taken for the next
one's, and every reply from there on would be its neighbour's: no server does that, a broken proxy may. So twice within the time
that a command may take, a PING with a number of its own goes along, and a connection that answers it with anything else is given
up. Until then nobody is let in by a wrong record, since a record opens to its own verifier only.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Final, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError

from coatcheck.errors import StoreError, StoreUnavailable
from coatcheck.stores._redis_client import Settings, pack
from coatcheck.stores._redis_errors import FAILURES, insist_on_answer, is_login
from coatcheck.stores._redis_opening import Opening
from coatcheck.stores._redis_scripts import NUMBER, TEXT
from coatcheck.stores._redis_work import Work, give_up, is_again, is_unheard_again

__all__ = ["DirectLine"]

WINDOW: Final = 4096
"""Commands without a reply, above which nothing more is sent until some have come."""
MOST: Final = 16_384
"""Commands that wait to be sent, at most: a server that is slow must not fill our memory."""
_MORE: Final = object()
"""What the reader says when a reply is not complete."""


class _Wire(asyncio.Protocol):
    """One connection, from when it is ready until it is given up."""

    def __init__(self, line: "DirectLine", connection: Any, settings: Settings) -> None:
        self.connection = connection
        self._line, self._wait = line, settings.wait
        self.waiting: deque[Work] = deque()
        """What was sent and not answered, in order."""
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_MORE,
        )
        self._held: list[tuple[Work, Any]] = []
        """Replies that are not believed until the replicas have them."""
        self.paused = self.leaving = self._over = False
        self._loop = asyncio.get_running_loop()
        self._patience = cast(float, settings.patience)  # None is for an application's own client
        # Stands for the question how many replicas have what was sent before it.
        self._fence = Work(settings.wait, True, 0, self._loop.create_future(), NUMBER)
        self._late = _Late(self, self._loop, self._patience)
        self._next_check, self._checks = self._loop.time() + self._patience / 2, 0
        self._transport: asyncio.Transport = connection._writer.transport
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more, though that was not told yet."""
        return self._transport.is_closing()

    def has_room(self) -> bool:
        """Whether more may be sent now; if not, the line is told when it may."""
        return not self.paused and len(self.waiting) < WINDOW

    def send(self, works: list[Work]) -> None:
        """Send commands in one write."""
        now = self._loop.time()
        if now >= self._next_check:
            works.append(self._check(now))
        if self._wait:
            works.append(self._fence)
        self.waiting.extend(works)
        self._transport.write(b"".join([work.packed for work in works]))
        self._late.expect(len(self.waiting), now + self._patience)

    def _check(self, now: float) -> Work:
        """Asks whether replies are still those to what was asked."""
        self._next_check, self._checks = now + self._patience / 2, self._checks + 1
        number, future = b"%d" % self._checks, self._loop.create_future()
        future.add_done_callback(partial(self._checked, number))
        return Work(pack(("PING", number)), True, 0, future, TEXT)

    def _checked(self, number: bytes, answer: "asyncio.Future[Any]") -> None:
        if answer.exception() is None and answer.result() != number:
            self.give_up(RedisConnectionError("its replies are those to something else"))

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are complete now."""
        waiting, gets, before = self.waiting, self._reader.gets, len(self.waiting)
        at_once = not self._wait
        try:
            self._reader.feed(data)
            while (reply := gets()) is not _MORE:
                if at_once and waiting and type(reply) in waiting[0].answers:
                    future = waiting.popleft().future
                    if not future.done():
                        future.set_result(reply)
                elif type(reply) is not hiredis.PushNotification:  # RESP3: news that we have no use for
                    self._take(reply)
        except FAILURES as error:
            self.give_up(error)
            return
        self._late.answered(before - len(waiting))
        self._line.heard(self)
        if self.leaving and not waiting:
            self.end()

    def _take(self, reply: Any) -> None:
        """A reply that is not a plain one, or not yet to be believed. Raises what is wrong with the connection itself."""
        if not self.waiting:
            raise RedisConnectionError("a reply came that nobody had asked for")
        if isinstance(reply, RedisConnectionError):  # so redis-py calls LOADING, NOAUTH and others
            raise reply
        insist_on_answer(self.waiting[0].answers, reply)
        work = self.waiting.popleft()
        if not self._wait:
            self._line.hand_out(self, work, reply, None)
        elif work is not self._fence:
            self._held.append((work, reply))
        else:
            held, self._held = self._held, []
            for before, answer in held:
                self._line.hand_out(self, before, answer, reply)

    def unanswered(self) -> list[Work]:
        """The commands that were sent and are in doubt, in order."""
        return [work for work, _ in self._held] + [work for work in self.waiting if work is not self._fence]

    # ---- the end of it

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._line.heard(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._before.connection_lost(exc)  # redis-py may wait to be told
        self._finish(exc or RedisConnectionError("Connection closed by server"))

    def give_up(self, error: BaseException) -> None:
        """Never to be used again: what it may still have to say is for nobody."""
        self._transport.abort()
        self._finish(error)

    def end(self) -> None:
        """Close it: nothing is under way."""
        self._transport.close()
        self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        if self._over:
            return
        self._over = True
        self._late.stop()
        unheard = self.unanswered()
        self.waiting.clear()
        self._held.clear()
        self._line.lost(self, unheard, error)


class _Late:
    """Notices that a reply is late. One timer for all: the oldest is due first."""

    def __init__(self, wire: _Wire, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self._wire, self._loop, self._patience = wire, loop, patience
        self._answered = 0
        self._due: deque[tuple[float, int]] = deque()
        """(when, how many replies must have come by then), a pair for each write."""
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, waiting: int, due: float) -> None:
        """Something was sent; `waiting` are without a reply now, and must not be by then."""
        self._due.append((due, self._answered + waiting))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)

    def answered(self, number: int) -> None:
        """So many replies came."""
        self._answered += number

    def stop(self) -> None:
        """Nothing is expected any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        due, self._timer = self._due, None
        while due and due[0][1] <= self._answered:
            due.popleft()
        if not due:
            return
        if due[0][0] <= self._loop.time():  # loops look at their sockets first, so it has not come
            self._wire.give_up(TimeoutError(f"no reply within {self._patience} s"))
        else:
            self._timer = self._loop.call_at(due[0][0], self._look)


class DirectLine:
    """The commands of one event loop to one server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any, settings: Settings) -> None:
        self._loop = loop
        self.pool = pool
        self._settings, self._health = settings, settings.health
        self._opening = Opening(pool, settings)
        self._queue: list[Work] = []
        self._wire: _Wire | None = None
        self._asleep = True
        """Whether the next command has to see to it that it leaves."""
        self._stuck = self._connecting = self._retired = False
        # A context of its own: the first request's variables are not for the others' commands.
        self._context = Context()
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, work: Work) -> None:
        """Send it with what else joins in this turn of the loop."""
        queue = self._queue
        queue.append(work)
        if self._asleep:
            self._asleep = False
            self._loop.call_soon(self._leave, context=self._context)
        elif len(queue) > MOST:
            queue.pop()
            work.fail(StoreUnavailable(f"{self._settings.name}: {MOST} commands wait to be sent already"))

    def _leave(self) -> None:
        """Send what is in the queue, over a connection that takes it; if there is none, that is seen to."""
        wire = self._wire
        if wire is not None and wire.is_closing():
            self._leave_behind(wire)
            wire = None
        if wire is None:
            if not self._connecting:
                self._connecting = True
                self._do(self._connect())
        elif wire.has_room():
            queue, self._queue, self._asleep = self._queue, [], True
            works = [work for work in queue if not work.future.done()]
            if works:
                wire.send(works)
        else:
            self._stuck = True

    async def _connect(self) -> None:
        try:
            connection = await self._opening.connection()
        except StoreError as failure:
            self._give_up(failure)
        except BaseException:  # the loop is closing down
            self._give_up(StoreUnavailable(f"{self._settings.name}: the event loop was stopped meanwhile"))
            raise
        else:
            self._wire = _Wire(
                self, connection, self._settings
            )  # nothing was awaited since it was seen to be well
            self._leave()
            if self._retired:
                self.retire()
        finally:
            self._connecting = False

    def _do(self, job: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(job, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _give_up(self, failure: StoreError) -> None:
        queue, self._queue, self._asleep = self._queue, [], True
        give_up(queue, failure)

    # ---- what a connection tells

    def heard(self, wire: _Wire) -> None:
        """Replies came, or there is room again."""
        if not self._health.well:
            self._health.worked()
        if self._stuck and wire is self._wire and wire.has_room():
            self._stuck = False
            self._leave()

    def hand_out(self, wire: _Wire, work: Work, reply: Any, waited: Any) -> None:
        """A reply that needs a closer look."""
        if type(reply) is ReadOnlyError:  # the next connection finds who is primary now
            self._leave_behind(wire)
        if is_again(work, reply, waited, self._settings):
            self.join(work)

    def lost(self, wire: _Wire, works: Sequence[Work], error: BaseException | None) -> None:
        """A connection is over; of these commands nobody knows. What waits behind them is told so too, if they were late."""
        self._leave_behind(wire)
        self._do(self._give_back(wire.connection, nowait=error is not None))
        if error is not None and works:
            if not is_login(error):
                self._health.failed(error)
            self._queue[:0] = [work for work in works if is_unheard_again(work, error, self._settings)]
            if isinstance(error, TimeoutError):
                name = self._settings.name
                self._give_up(StoreUnavailable(f"{name} does not answer in time: this was not sent"))
        if self._queue:
            self._asleep = False
            self._leave()

    async def _give_back(self, connection: Any, *, nowait: bool) -> None:
        with suppress(*FAILURES):
            await connection.disconnect(
                nowait=nowait
            )  # TLS says goodbye, and would be cut off by the end of the loop
        await self.pool.release(connection)

    # ---- the end

    def _leave_behind(self, wire: _Wire) -> None:
        """Nothing more goes over this connection."""
        wire.leaving = True
        if self._wire is wire:
            self._wire, self._stuck = None, False

    def retire(self) -> None:
        """Nothing more will come: let what is under way end, and the connection go."""
        self._retired, wire = True, self._wire
        if wire is not None and not self._queue:
            self._leave_behind(wire)
            if not wire.waiting:
                wire.end()

    async def close(self) -> None:
        """The same, waiting for it."""
        while under_way := self._under_way():
            await asyncio.wait(under_way)
        self.retire()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def _under_way(self) -> list["asyncio.Future[Any]"]:
        works = self._queue + (self._wire.unanswered() if self._wire is not None else [])
        return [work.future for work in works if not work.future.done()]
