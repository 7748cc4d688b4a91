"""What lies under a key of a Redis: read, and deleted. Over the store's own clients."""

from typing import Any, Final, NamedTuple

from coatcheck.core.adoption import Archive, Found, Refused
from coatcheck.core.outage import Outage
from coatcheck.errors import ConfigurationError
from coatcheck.stores import hide_password

__all__ = ["Place", "archive"]


class Place(NamedTuple):
    """Where old sessions are: a URL, or the application's own client of redis-py."""

    server: Any
    prefix: str
    outage: Outage

    def __repr__(self) -> str:
        server = self.server
        return hide_password(server) if isinstance(server, str) else type(server).__name__


class Format:
    """What makes a session of the bytes under a key."""

    def read(self, value: bytes) -> Found | Refused:
        """The session, or why it is none."""
        raise NotImplementedError


class _Archive:
    def __init__(self, client: Any, prefix: str, form: Format, store: Any, *, awaiting: bool) -> None:
        self._client, self._prefix, self._form = client, prefix, form
        self._store, self._is_awaiting = store, awaiting

    async def fetch(self, key: str, now: float) -> Found | Refused | None:
        """The session; None if there is none. Raises StoreUnavailable."""
        value = await self._client.run(_scripts().value, (self._prefix + key,))
        if value is None:
            return None
        # Not when it ends there: a request that the old library has under way may write it anew, with another end. The old cookie
        # itself has none, so it is remembered as used for as long as a browser may keep it.
        return self._form.read(bytes(value))

    async def end(self, key: str) -> None:
        """Delete it."""
        await self._client.run(_scripts().delete, (self._prefix + key,))

    async def close(self) -> None:
        """Close what was opened for this; the application's own client stays open."""
        if self._is_awaiting:
            await self._store.aclose()
        else:
            self._store.close()


class _Scripts(NamedTuple):
    value: Any
    delete: Any


_made: Final[list[_Scripts]] = []


def _scripts() -> _Scripts:
    if not _made:
        from coatcheck.stores._redis_scripts import Script

        _made.append(_Scripts(Script("GET", reads=True), Script("DEL")))
    return _made[0]


def archive(place: Place, form: Format, *, awaiting: bool) -> Archive:
    """The archive of one face. Raises WrongFace for a client that suits the other, and ConfigurationError."""
    try:
        from coatcheck.stores.redis import RedisStore
    except ImportError as error:
        raise ConfigurationError(
            'old sessions in Redis need its driver: pip install "coatcheck[redis]"'
        ) from error
    server = place.server
    store = (
        RedisStore.from_url(server, outage=place.outage)
        if isinstance(server, str)
        else RedisStore(server, outage=place.outage)
    )
    sessions = store.awaiting() if awaiting else store.blocking()
    return _Archive(sessions._client, place.prefix, form, store, awaiting=awaiting)
