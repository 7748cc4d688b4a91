"""Sessions of an Express application, to be gone on with as native ones: `adopt=ExpressSession(…)`, once Node is no longer there.

While Node still writes them, share them (`express_sessions`); this is for afterwards. The cookie is express-session's (wire
formats 1.1), what lies under its id is the body, in whichever store the Node application kept it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

from coatcheck.adoption._kind import Kind, document
from coatcheck.core.adoption import Archive, Claim, Found, Refused
from coatcheck.core.outage import Outage
from coatcheck.dialects.express import plain
from coatcheck.dialects.express.signed import Secrets
from coatcheck.dialects.express.stores import open_store
from coatcheck.errors import ConfigurationError, CorruptRecord

__all__ = ["ExpressSession", "at_path"]


@dataclass(frozen=True, kw_only=True)
class ExpressSession(Kind):
    """The sessions of express-session.

    store    where the Node application keeps them: a store such as `ConnectRedis(…)`, or its URL
    secret   its `secret`, one or several: all verify
    user_id  where in a session it says who is logged in, keys with dots between them: `passport.user` is Passport's, and the
             default; `user.id` reads `{"user": {"id": 7}}`. None: nowhere
    outage   when to stop asking, of a store given as a URL

    And the fields of every kind but `user_key`: `name` (its `name`), `path`, `domain`, `to_user_id`, `accept`, `until`.
    """

    store: Any = field(repr=False)
    secret: str | bytes | Sequence[str | bytes] = field(repr=False)
    name: str = "connect.sid"
    user_id: str | None = "passport.user"
    outage: Outage = field(default_factory=Outage)
    _secrets: Secrets = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.user_key is not None:
            raise self._wrong("user_key", self.user_key, 'give user_id="passport.user", or another path')
        path: object = self.user_id
        if path is not None and (not isinstance(path, str) or not all(path.split("."))):
            raise self._wrong("user_id", path, 'give keys with dots between them, such as "passport.user"')
        super().__post_init__()
        object.__setattr__(self, "_secrets", Secrets(self.secret))
        if isinstance(path, str):
            first, _, rest = path.partition(".")
            object.__setattr__(self, "user_key", first)
            object.__setattr__(self, "to_user_id", _made_by(rest, self.to_user_id))

    def claim(self, value: str, now: float) -> Claim | None:
        """The id that the cookie signs; None if none of the secrets signed it."""
        sid = self._secrets.verify(value.encode("ascii", "replace"))
        return None if sid is None else Claim(sid)

    def blocking(self) -> Archive:
        """The store, for sync code."""
        return self._archive("blocking")

    def awaiting(self) -> Archive:
        """The store, for event loops."""
        return self._archive("awaiting")

    def _archive(self, face: str) -> Archive:
        backend = open_store(self.store, self.outage) if isinstance(self.store, str) else self.store
        if not hasattr(backend, face):
            raise ConfigurationError(
                f"ExpressSession(store=…): a {type(backend).__name__} is no store of the Node world"
            )
        close = "aclose" if face == "awaiting" else "close"
        return _Archive(
            getattr(backend, face)(), getattr(backend, close, None) if isinstance(self.store, str) else None
        )


class _Archive:
    """Where the bodies are, as one face reaches it."""

    def __init__(self, store: Any, close: Callable[[], Any] | None) -> None:
        self._store, self._close = store, close

    async def fetch(self, key: str, now: float) -> Found | Refused | None:
        """The session without its cookie; None if there is none. Raises StoreUnavailable."""
        try:
            entry = await self._store.get(key, now=now)
            if entry is None:
                return None
            data = document(plain.load(entry.text))
        except CorruptRecord as error:
            return Refused(str(error))
        if isinstance(data, Refused):
            return data
        # Not when it ends there: a request that Node has under way may write it anew, with another end. The old cookie itself has
        # none, so it is remembered as used for as long as a browser may keep it.
        return Found({name: value for name, value in data.items() if name != "cookie"})

    async def end(self, key: str) -> None:
        """Destroy it."""
        await self._store.destroy(key)

    async def close(self) -> None:
        """Close what was opened for this."""
        closing = self._close() if self._close is not None else None
        if isawaitable(closing):
            await closing


def at_path(value: Any, path: str) -> Any:
    """What lies at a path of keys; None where there is nothing."""
    for key in path.split(".") if path else ():
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _made_by(rest: str, make: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Who is logged in, of what the first key holds. None: nobody; Passport leaves `{}` behind when somebody logs out."""

    def made(value: Any) -> Any:
        found = at_path(value, rest)
        return found if make is None or found is None else make(found)

    return made
