"""How a connection to a Redis server is opened for an event loop: by redis-py, which knows TLS, logins, Sentinels and their
credentials; tried again with a little patience, and never with a server that is too old.
"""

import asyncio
import random
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from coatcheck.errors import StoreError
from coatcheck.stores._redis_client import Settings
from coatcheck.stores._redis_errors import FAILURES, is_login, may_repeat, translated
from coatcheck.stores._redis_version import HELLO, insist

__all__ = ["Opening"]

JITTER: Final = 0.1
"""Seconds before it is tried again, at most: many processes lose a server at one moment, and should not all return at one."""


class Opening:
    """Opens connections from a pool of redis-py's, which says where the server is now."""

    def __init__(self, pool: Any, settings: Settings) -> None:
        self._pool, self._settings = pool, settings
        self._greeted = False

    async def connection(self) -> Any:
        """A connection that is ready. Raises StoreError."""
        settings, tries = self._settings, self._settings.retries + 1
        while True:
            tries -= 1
            try:
                async with asyncio.timeout(settings.connect_timeout):
                    return await self._opened()
            except StoreError:
                raise
            except FAILURES as error:
                if not tries or not may_repeat(error, sent=False, reads=False):
                    if not is_login(error):
                        settings.health.failed(error)
                    raise translated(error, settings.name, sent=False) from error
            await asyncio.sleep(random.uniform(0, JITTER))

    async def _opened(self) -> Any:
        connection = await self._pool.get_connection()
        try:
            await _refresh(connection)
            if not self._greeted:
                await self._greet(connection)
            if connection._writer.transport.is_closing():
                raise RedisConnectionError("Connection closed by server")
        except BaseException:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
            raise
        return connection

    async def _greet(self, connection: Any) -> None:
        await connection.send_packed_command([HELLO], check_health=False)
        insist(await _reply(connection), self._settings.name)
        self._greeted = True


async def _refresh(connection: Any) -> None:
    """Connect again if there is something to be read before anything was asked: mostly it is that the server is gone.

    redis-py's pool looks itself, but not where it expects messages about maintenance, as it does by default in RESP3.
    """
    has_data = getattr(connection, "can_read", None) or connection.can_read_destructive
    if await has_data():
        await connection.disconnect(nowait=True)
        await connection.connect()


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
