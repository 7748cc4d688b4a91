"""Where a store's MongoDB is, and the client that each face of it asks: made when it is first needed, closed if it is ours.

For every store that is kept in MongoDB, whatever its documents hold. What is sent, and what goes wrong, is `_mongo_client`'s.
"""

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pymongo import AsyncMongoClient, MongoClient
from pymongo import errors as theirs
from pymongo.uri_parser import parse_uri

from coatcheck.core.outage import Outage
from coatcheck.errors import ConfigurationError, WrongFace
from coatcheck.stores import hide_password
from coatcheck.stores._health import ConnectionEvent, Health
from coatcheck.stores._mongo_client import DOCUMENTS, Awaiting, Blocking, Codec, Place
from coatcheck.stores._mongo_commands import Document

__all__ = ["MongoLink", "check_collection"]

OnConnection = Callable[[ConnectionEvent], None] | None

_NAMES: Final = re.compile(r"[^\s/\\.\"$*<>:|?\0]{1,63}")
_COLLECTIONS: Final = re.compile(r"(?!system\.)[^$\0]{1,180}")


class MongoLink:
    """One database of one deployment. `store` is what the store is called, for what is said about wrong clients.

    Raises ConfigurationError for a name that MongoDB does not take.
    """

    def __init__(
        self,
        store: str,
        name: str,
        database: str,
        outage: Outage,
        *,
        sync_client: Callable[[], MongoClient[Any]] | None,
        async_client: Callable[[], AsyncMongoClient[Any]] | None,
        owns: bool,
        command_timeout: float | None = None,
        on_connection: OnConnection = None,
        codec: Codec = DOCUMENTS,
    ) -> None:
        if not _NAMES.fullmatch(database):
            raise ConfigurationError(
                f'database={database!r}: a name of 1 to 63 characters, without blanks and / \\ . " $ * < > : | ?'
            )
        self.name = name
        """The URL as it may be shown."""
        self.concern: Document = {"w": "majority", "j": True}
        """With each write: what is acknowledged survives the death of any minority of the replica set."""
        if command_timeout is not None:
            # The server gives up waiting for a majority just before the driver gives up waiting for the server: the connection
            # stays.
            self.concern["wtimeout"] = max(1, int(command_timeout * 800))
        self._store, self._owns = store, owns
        self._sync_client, self._async_client = sync_client, async_client

        def place() -> Place:
            health = Health(name, outage, on_connection=on_connection)
            return Place(name, database, health, outage.retries, command_timeout, codec)

        self._place = place
        self._blocking: Blocking | None = None
        self._awaiting: Awaiting | None = None

    @classmethod
    def of_client(
        cls,
        store: str,
        client: "MongoClient[Any] | AsyncMongoClient[Any]",
        database: str | None,
        outage: Outage | None,
        *,
        default: str = "coatcheck",
        on_connection: OnConnection = None,
        codec: Codec = DOCUMENTS,
    ) -> "MongoLink":
        """Over the application's own client. Without `database`: the one in the client's URL, or else `default`."""
        if not isinstance(client, (MongoClient, AsyncMongoClient)):
            raise ConfigurationError(
                f"{store}({type(client).__name__}): give a pymongo MongoClient or AsyncMongoClient, or use from_url"
            )
        database = str(client.get_default_database(default).name) if database is None else database
        return cls(
            store,
            f"MongoDB database {database!r}",
            database,
            outage or Outage(),
            sync_client=(lambda: client) if isinstance(client, MongoClient) else None,
            async_client=(lambda: client) if isinstance(client, AsyncMongoClient) else None,
            owns=False,
            on_connection=on_connection,
            codec=codec,
        )

    @classmethod
    def of_url(
        cls,
        store: str,
        url: str,
        database: str | None,
        outage: Outage | None,
        *,
        default: str = "coatcheck",
        on_connection: OnConnection = None,
        codec: Codec = DOCUMENTS,
    ) -> "MongoLink":
        """By clients of its own. Raises ConfigurationError for a URL that is none, naming what is wrong with it."""
        outage = outage or Outage()
        named = _database_of(url)
        options = _options(outage)
        return cls(
            store,
            hide_password(url),
            database or named or default,
            outage,
            sync_client=lambda: MongoClient(url, **options),
            async_client=lambda: AsyncMongoClient(url, **options),
            owns=True,
            command_timeout=float(outage.command_timeout),  # type: ignore[arg-type]  # seconds by now
            on_connection=on_connection,
            codec=codec,
        )

    def blocking(self) -> Blocking:
        """The client whose methods never suspend. Raises WrongFace over an AsyncMongoClient."""
        if self._blocking is None:
            if self._sync_client is None:
                raise WrongFace(
                    f"the sync face needs a {self._store} over a MongoClient (or from_url), not an AsyncMongoClient"
                )
            self._blocking = Blocking(self._place(), self._sync_client, owns=self._owns)
        return self._blocking

    def awaiting(self) -> Awaiting:
        """The client for event loops. Raises WrongFace over a MongoClient, which would block them."""
        if self._awaiting is None:
            if self._async_client is None:
                raise WrongFace(
                    f"the async face needs a {self._store} over an AsyncMongoClient (or from_url), not a MongoClient"
                )
            self._awaiting = Awaiting(self._place(), self._async_client, owns=self._owns)
        return self._awaiting

    def close(self) -> None:
        """Close what the sync face opened. The application's own client stays open."""
        if self._blocking is not None:
            self._blocking.close()

    async def aclose(self) -> None:
        """Close what this event loop opened, and what the sync face did."""
        self.close()
        if self._awaiting is not None:
            await self._awaiting.aclose()


def check_collection(collection: str, *, setting: str = "collection") -> str:
    """The name of a collection. Raises ConfigurationError for one that MongoDB does not take."""
    if not _COLLECTIONS.fullmatch(collection):
        raise ConfigurationError(
            f'{setting}={collection!r}: a name of 1 to 180 characters without $, that does not begin with "system."'
        )
    return collection


def _database_of(url: str) -> str | None:
    """The database that a URL names. Looks at nothing but the text: `mongodb+srv:` is looked up when it is used."""
    try:
        parts = urlsplit(url)
        if parts.scheme.lower() == "mongodb":
            # (The driver's own errors may quote the password.)
            database = parse_uri(url, validate=True, warn=False)["database"]
        else:
            database = unquote(parts.path.strip("/"))
            if parts.scheme.lower() != "mongodb+srv" or not parts.hostname:
                raise ValueError("give mongodb://host/database or mongodb+srv://host/database")
    except (theirs.PyMongoError, ValueError) as error:
        said = hide_password(str(error)) if "@" not in str(error) else "it cannot be read"
        raise ConfigurationError(f"store={hide_password(url)!r}: {said}") from None
    return database or None


def _options(outage: Outage) -> dict[str, Any]:
    """Time-outs of the driver's client, in milliseconds."""
    connect = max(1, int(float(outage.connect_timeout) * 1000))  # type: ignore[arg-type]  # seconds by now
    command = max(1, int(float(outage.command_timeout) * 1000))  # type: ignore[arg-type]
    return {
        "appname": "coatcheck",
        "connectTimeoutMS": connect,
        "serverSelectionTimeoutMS": connect,
        "waitQueueTimeoutMS": connect,
        "socketTimeoutMS": command,
        "timeoutMS": None,
    }
