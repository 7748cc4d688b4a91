"""The session a handler sees: a dict that remembers what changed. Pure: no store, no clock of its own.

What was loaded stays encoded until it is read; what was read and could be changed in place, or was assigned, is
encoded again at commit and compared (rule 17). `regenerate()`, `login()`, `logout()` and `touch()` only write down an
intention; `lifecycle` carries it out. The verbs that act at once (`save`, `reload`, `take`, `destroy`) need a store
and live in `manager.py`.
"""

from collections.abc import Callable, Iterator, MutableMapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec.structs import replace

from coatcheck.core import codec
from coatcheck.core.merge import MISSING, NO_CHANGES, Changes, Op, Parts, own
from coatcheck.core.policy import seconds
from coatcheck.core.record import Lifetime, Login, Record
from coatcheck.core.typed import Schema
from coatcheck.errors import ConfigurationError, CorruptRecord, TooLate, UnstorableValue, UsageError

__all__ = [
    "BaseSession",
    "CookieAction",
    "Intent",
    "Phase",
    "SessionCookie",
    "Standing",
    "UserId",
    "user_text",
]

UserId = str | int | UUID
"""What names a user; kept as text."""

FLASHES: Final = "_flashes"
"""Where flash messages live: the key and the shape that Flask uses."""
_IMMUTABLE: Final = frozenset({str, int, float, bool, type(None)})


class CookieAction(Enum):
    """What to tell the browser."""

    NONE = "none"
    SEND = "send"
    CLEAR = "clear"


class Standing(Enum):
    """What this request's cookie amounted to."""

    UNLOADED = "unloaded"
    """Nobody has looked yet: a lazy session."""
    NEW = "new"
    """No cookie, or an id that is not ours: stored under a new id, if ever."""
    LIVE = "live"
    DETACHED = "detached"
    """Superseded or ended less than a minute ago: reads as empty, is never stored, sends no cookie (rule 4)."""


class Phase(Enum):
    """How far the response is: what can still be announced to the browser."""

    OPEN = "open"
    STREAMING = "streaming"
    """The headers have left: data may change, the cookie may not."""
    DONE = "done"


# An enum's member costs 50 ns to look up, a global 2: these are asked for on every access.
_LIVE, _NEW, _UNLOADED = Standing.LIVE, Standing.NEW, Standing.UNLOADED
_OPEN, _DONE = Phase.OPEN, Phase.DONE


class Intent(NamedTuple):
    """A login to be carried out at commit."""

    user_id: str
    login: Login


def _add(amount: float) -> Callable[[Any], Any]:
    return lambda value: value + amount


class SessionCookie:
    """This session's own cookie settings: kept with it, in place of the configured ones."""

    __slots__ = ("_session",)

    def __init__(self, session: "BaseSession") -> None:
        self._session = session

    @property
    def max_age(self) -> float | None:
        """Seconds of inactivity after which this session ends and its cookie expires; None: the configured timeout,
        and a cookie that goes when the browser closes. Set it to seconds, a timedelta or None.
        """
        lifetime = self._session._current_lifetime()
        return lifetime.idle if lifetime and lifetime.persistent else None

    @max_age.setter
    def max_age(self, value: float | timedelta | None) -> None:
        idle = None if value is None else seconds(value, setting="session.cookie.max_age")
        self._session._set_lifetime(Lifetime(idle=idle, persistent=value is not None))

    @property
    def expires(self) -> datetime | None:
        """When the session ends unless it is seen again; None for a session that is not stored yet."""
        return self._session.expires_at

    def __repr__(self) -> str:
        return f"<SessionCookie max_age={self.max_age}>"


class BaseSession(MutableMapping[str, Any]):
    """A request's session. Keys are text; values are JSON plus datetime, date, UUID, Decimal, bytes, tuple, set and
    Markup: a value comes back equal and of the same type, or is refused when it is assigned (`UnstorableValue`).
    """

    # Class-level defaults instead of __init__: an untouched session costs one object and no attribute.
    _standing = _UNLOADED
    _phase = _OPEN
    _record: Record | None = None
    _verifier: str | None = None
    """What the browser should hold: set by `lifecycle` at open, renewal and rotation."""
    _base: Parts | None = None
    _committed: Parts | None = None
    """What was committed, while it has not been made the base yet."""
    _written: dict[str, bytes]
    """What containers were encoded to at the last look, so that the ones in the handler's hands can be told from
    stale ones.
    """
    _live: dict[str, Any]
    _pending: dict[str, bytes | None]
    """Keys to look at when committing. Encoded: assigned, and cannot change in place. b"": assigned, to be encoded
    then. None: only read, but it may have been changed in place."""
    _deletes: frozenset[str] = frozenset()
    _cleared = False
    _ops: dict[str, tuple[Op, ...]] | None = None
    _meant = False
    """Whether any intention below was written down."""
    _forced = False
    _accessed = False
    _login: Intent | None = None
    _logout = False
    _regenerate = False
    _touch = False
    _lifetime: Lifetime | None = None
    _lifetime_set = False
    _locator: str | None = None
    _own_fence: float | None = None
    _on_previous = False
    _reissue = False
    """The cookie was signed by an older key: send it again under the newest."""
    _owed = CookieAction.NONE
    """What an earlier `save()` of this request has to tell the browser."""
    _began = 0.0
    """When the request began, on a monotonic clock."""
    _typed: Any = None
    _typed_before: dict[str, bytes] | None = None

    # ---- hooks that `lifecycle` and the faces fill in

    def _load(self) -> None:
        """Load the session now. Faces that can wait override this; where nobody can, the session was loaded
        eagerly.
        """
        raise UsageError("this session is not loaded yet: `await get_session(request)` first")

    def _new_locator(self) -> str:
        raise NotImplementedError

    def _may_store(self) -> None:
        """Raise if nothing of this request can be kept."""

    def _client(self) -> tuple[str, str]:
        """(address, user agent) of this request, for device lists."""
        return "", ""

    def _corrupted(self, error: CorruptRecord) -> None:
        """Tell the operator that what is stored is no session."""

    @property
    def _schema(self) -> Schema | None:
        return None

    # ---- reading

    def _open(self) -> Parts:
        """The data as loaded; loads a lazy session. Every access comes through here, so it is where `Vary: Cookie`
        begins.
        """
        self._accessed = True
        if self._committed is not None:
            self._catch_up()
        base = self._base
        if base is None:
            if self._phase is not _OPEN and self._standing is _UNLOADED:
                raise TooLate(
                    "first access to the session after the response's headers have left: read it before you stream"
                )
            if self._standing is _UNLOADED:
                self._load()
            record = self._record
            try:
                base = codec.split(record.data) if record is not None and self._standing is _LIVE else {}
            except CorruptRecord as error:
                base = self._invalid(error)
            self._base, self._live, self._pending, self._written = base, {}, {}, {}
        return base

    def _invalid(self, error: CorruptRecord) -> Parts:
        """What is stored is not a session: this request has none (checklist 112). The operator hears of it, the
        visitor sees no error.
        """
        self._corrupted(error)
        self._reset(_NEW)
        return {}

    def __getitem__(self, key: str) -> Any:
        base = self._base if self._committed is None and self._base is not None else self._open()
        live = self._live
        if key in live:
            return live[key]
        if self._cleared or key not in base or key in self._deletes:
            raise KeyError(key)
        try:
            value = live[key] = codec.decode(base[key])
        except CorruptRecord as error:
            self._invalid(error)
            raise KeyError(key) from error
        if type(value) not in _IMMUTABLE:
            self._pending[key] = None
        return value

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        base = self._open()
        return key in self._live or (key in base and not self._cleared and key not in self._deletes)

    def __iter__(self) -> Iterator[str]:
        """The keys. Who asks for them goes on to the values: so one that cannot be read ends the session here (checklist
        112), and not with a KeyError half way through `items()`.
        """
        for key in self._keys():
            self.get(key)
        return iter(self._keys())

    def _keys(self) -> list[str]:
        base = self._open()
        kept = () if self._cleared else tuple(key for key in base if key not in self._deletes)
        return [*kept, *(key for key in self._live if key not in kept)]

    def __len__(self) -> int:
        return len(self._keys())

    def __bool__(self) -> bool:
        return bool(self._keys())

    def __eq__(self, other: object) -> bool:
        return dict(self) == (dict(other) if isinstance(other, BaseSession) else other)

    __hash__ = None  # type: ignore[assignment]  # mutable, as a dict

    def __repr__(self) -> str:
        """Names the session without its id, its data or loading it (checklist 21, 201)."""
        return f"<{type(self).__name__} {self._standing.value}{' modified' if self._has_changes() else ''}>"

    # ---- changing

    def _change(self) -> None:
        self._open()
        if self._phase is not _OPEN:
            if self._phase is _DONE:
                raise TooLate(
                    "the response has ended: this change would be lost; change the session before you return"
                )
            if self._standing is not _LIVE:
                raise TooLate(
                    "a new session after the response's headers have left: store something in it before you stream"
                )

    def _announce(self, what: str) -> None:
        """Something the browser must be told of: only while the headers have not left."""
        self._open()
        if self._phase is not _OPEN:
            raise TooLate(
                f"{what} after the response's headers have left: call it before you return or stream the response"
            )

    def __setitem__(self, key: str, value: Any) -> None:
        self._change()
        if type(key) is not str:
            raise UnstorableValue(f"session[{key!r}]: a key must be a str, not {type(key).__name__}")
        encoded: bytes | None = codec.encode(value, key)
        live, pending = self._live, self._pending
        if type(value) not in _IMMUTABLE:
            # What was read, changed in place and put back is still a change of what was read.
            encoded = None if live.get(key) is value and pending.get(key) is None else b""
        live[key], pending[key] = value, encoded
        if self._ops:
            self._ops.pop(key, None)

    def __delitem__(self, key: str) -> None:
        self._change()
        if key not in self:
            raise KeyError(key)
        self._forget(key)
        if key in self._open():
            self._deletes |= {key}

    def popitem(self) -> tuple[str, Any]:
        """Remove the key that was added last and return it with its value, as a dict does."""
        keys = list(self)
        if not keys:
            raise KeyError("popitem(): the session is empty")
        return keys[-1], self.pop(keys[-1])

    def _forget(self, key: str) -> None:
        self._live.pop(key, None)
        self._pending.pop(key, None)
        if self._ops:
            self._ops.pop(key, None)

    def clear(self) -> None:
        """Remove everything that is there when this request commits, also what other requests add meanwhile."""
        self._change()
        self._live.clear()
        self._pending.clear()
        self._ops, self._typed = None, None
        self._cleared, self._deletes = True, frozenset()

    def increment(self, key: str, by: float = 1, *, default: float = MISSING) -> Any:
        """Add `by` to a number, exactly once, whatever other requests do at the same time.

        Returns the local estimate; the committed value is there after `save()`. A missing key counts from 0 (or
        `default`); one that another request deleted meanwhile stays deleted, with an event, unless `default` is
        given.
        """
        if default is MISSING and key not in self:
            default = 0
        return self.apply(key, _add(by), default=default)

    def apply(self, key: str, function: Callable[[Any], Any], *, default: Any = MISSING) -> Any:
        """Change a value by a function of it, exactly once: `function` is called again on the fresh value if another
        request was first.

        `function` gets a copy and returns the new value; it must not depend on anything else that changes. Returns
        the local estimate. Raises KeyError if the key is missing and there is no `default`.
        """
        self._change()
        op = Op(function, default)
        earlier = (self._ops or {}).get(key, ())
        if self._assigned(key):
            value = self[key] = function(codec.decode(codec.encode(self[key], key)))
            return value
        value = function(self._operand(key, default))
        estimate = codec.encode(value, key)
        self._ops = {**(self._ops or {}), key: (*earlier, op)}
        self._live[key], self._pending[key] = value, estimate
        return value

    def _operand(self, key: str, default: Any) -> Any:
        """A fresh copy of what `function` works on, so that it may change it in place."""
        estimate = self._pending.get(key) or self._open().get(key)
        if key not in self:
            if default is MISSING:
                raise KeyError(key)
            estimate = codec.encode(default, key)
        assert estimate is not None
        try:
            return codec.decode(estimate)
        except CorruptRecord as error:
            self._invalid(error)
        return self._operand(key, default)

    def _assigned(self, key: str) -> bool:
        """Whether this request gave the key a value of its own, so that an operation on it is part of that
        assignment.
        """
        if self._ops and key in self._ops:  # its outcome, changed in place since, is an assignment
            return codec.encode(self._live[key], key) != self._pending[key]
        if self._cleared or key in self._deletes:
            return key in self._live
        return key in self._pending and key in self._changes().sets

    def _overrides(self, key: str) -> bool:
        """Whether what is stored under the key is nothing to this request any more: it was deleted here, or replaced."""
        return self._cleared or key in self._deletes or self._assigned(key)

    def flash(self, message: str, category: str = "message") -> None:
        """Leave a message for the next page that shows `flashes()`."""
        self.apply(FLASHES, lambda queue: [*queue, (category, message)], default=[])

    def flashes(self) -> list[tuple[str, str]]:
        """The messages left so far, as (category, message), and forget them. At least once: `take("_flashes")` shows
        them at most once.
        """
        queue = self.get(FLASHES)
        if not queue:
            return []
        del self[FLASHES]
        return [(category, message) for category, message in queue]

    # ---- intentions

    def regenerate(self) -> None:
        """Give the session a new id at commit and end the old one at once, keeping the data: after a change of
        privilege.
        """
        self._announce("regenerate()")
        self._regenerate = self._meant = True

    def login(self, user_id: UserId, *, method: str = "pwd", remember: bool = False) -> None:
        """Make this the session of `user_id`: a new id at commit, the old one opens nothing any more (ASVS 7.2.4).

        `user_id` is kept as text. `method` is recorded (RFC 8176 has names: "pwd", "otp", "hwk"…). With `remember`
        the cookie outlives the browser. If another user was logged in here, this begins a session of its own from
        this request's changes (rule 5).
        """
        self._announce("login()")
        address, user_agent = self._client()
        login = Login(method=method, remember=remember, user_agent=user_agent, address=address)
        self._login, self._meant = Intent(user_text(user_id), login), True

    def logout(self) -> None:
        """End the session at commit, on the server and in the browser. What is set afterwards begins a new, anonymous
        one.
        """
        self._announce("logout()")
        self.clear()
        self._logout = self._meant = True
        self._login, self._regenerate, self._lifetime_set = None, False, False

    def touch(self) -> None:
        """Count this request as a sign of life now, and not only every `Timeouts.touch` seconds."""
        self._open()
        self._touch = self._meant = True

    # ---- what it is

    @property
    def handle(self) -> str:
        """The public name of this session: for device lists, logs and revocation. It opens nothing. Constant through
        login and renewal.
        """
        self._open()
        if self._record is not None and self._standing is _LIVE and not self._logout:
            return self._record.key
        if self._locator is None:
            self._locator = self._new_locator()
        return self._locator

    @property
    def id(self) -> str:
        """The same as `handle`: the secret part of the cookie is shown to nobody, not even to you."""
        return self.handle

    @property
    def is_new(self) -> bool:
        """True if nothing is stored for this session yet."""
        self._open()
        return self._standing is not _LIVE

    @property
    def modified(self) -> bool:
        """True if this request changed data; changed and changed back is not modified. Set it to True to write
        regardless.
        """
        self._open()
        return self._has_changes()

    @modified.setter
    def modified(self, value: bool) -> None:
        self._change()
        self._forced = self._meant = bool(value)

    @property
    def accessed(self) -> bool:
        """True once anything was read or written: the response then says `Vary: Cookie`."""
        return self._accessed

    @property
    def user_id(self) -> str | None:
        """Whose session this is; None without a login."""
        self._open()
        if self._login is not None:
            return self._login.user_id
        record = self._known()
        return record.user_id if record else None

    @property
    def authenticated_at(self) -> datetime | None:
        """When the user last proved who they are; None without a login."""
        self._open()
        record = self._known()
        return _datetime(record.authenticated_at) if record else None

    @property
    def created_at(self) -> datetime | None:
        """When the session began; None if nothing is stored."""
        self._open()
        record = self._known()
        return _datetime(record.created_at) if record else None

    @property
    def last_seen_at(self) -> datetime | None:
        """When it was last seen, as stored: in steps of `Timeouts.touch`."""
        self._open()
        record = self._known()
        return _datetime(record.seen_at) if record else None

    @property
    def expires_at(self) -> datetime | None:
        """When it ends unless it is seen again; None if nothing is stored."""
        self._open()
        record = self._known()
        return _datetime(record.deadline) if record else None

    @property
    def cookie(self) -> SessionCookie:
        """This session's own cookie settings."""
        return SessionCookie(self)

    def _known(self) -> Record | None:
        return self._record if self._standing is _LIVE and not self._logout else None

    def _current_lifetime(self) -> Lifetime | None:
        self._open()
        if self._lifetime_set:
            return self._lifetime
        record = self._known()
        return record.lifetime if record else None

    def _set_lifetime(self, lifetime: Lifetime) -> None:
        self._announce("session.cookie.max_age = …")
        self._lifetime, self._lifetime_set, self._meant = lifetime, True, True

    # ---- typed sessions

    @property
    def data(self) -> Any:
        """The session as an object of the configured `schema`; changing its fields changes the session. Keys the
        schema does not know are kept (rolling deploys). Raises SchemaMismatch if what is stored does not fit.
        """
        if self._schema is None:
            raise ConfigurationError(
                "session.data needs schema=…: a msgspec.Struct, a dataclass or a pydantic model"
            )
        if self._typed is None:
            self._typed = self._schema.load(dict(self))
            self._typed_before = self._typed_fields()
        return self._typed

    def _typed_fields(self) -> dict[str, bytes]:
        assert self._schema is not None
        return {key: codec.encode(value, key) for key, value in self._schema.dump(self._typed).items()}

    def _write_typed_back(self) -> None:
        before, self._typed_before = self._typed_before or {}, self._typed_fields()
        for key, encoded in self._typed_before.items():
            if before.get(key) != encoded:
                value = self._live[key] = codec.decode(encoded)
                self._pending[key] = encoded if type(value) in _IMMUTABLE else b""
                if self._ops:
                    self._ops.pop(key, None)

    # ---- for lifecycle

    def _has_changes(self) -> bool:
        return self._base is not None and (self._forced or bool(self._changes()))

    def _changes(self) -> Changes:
        """What this request did to the data, compared with what was loaded."""
        if self._committed is not None:
            self._catch_up()
        if self._typed is not None:
            self._write_typed_back()
        pending = self._pending
        if not self._cleared and not self._deletes and not self._ops:
            return self._assignments(pending) if pending else NO_CHANGES
        base: Parts = {} if self._cleared else (self._base or {})
        sets: dict[str, bytes] = {}
        ops = dict(self._ops or {})
        estimates: dict[str, bytes] = {}
        self._written = {}
        for key, encoded in self._pending.items():
            now = encoded
            if not now or key in ops:
                now = self._written[key] = codec.encode(self._live[key], key)
            if key in ops and now == encoded:
                estimates[key] = now
                continue
            ops.pop(key, None)  # the estimate was changed in place: the operation has become an assignment
            was = base.get(key)
            if was is None or not _alike(now, was):
                sets[key] = now
        # A session that is not stored has nothing that others could have added: to clear it is no change.
        cleared = self._cleared and self._standing is _LIVE
        changes = Changes(sets, self._deletes - self._pending.keys(), cleared, ops, estimates)
        return changes if changes else NO_CHANGES

    def _assigned_parts(self) -> Parts | None:
        """The session's data with what this request assigned; None if nothing changed, or if it did more than that."""
        base = self._base
        if (
            base is None
            or self._committed is not None
            or self._deletes
            or self._ops
            or self._cleared
            or self._typed is not None
        ):
            return None
        parts: dict[str, bytes | msgspec.Raw] | None = None
        self._written = written = {}
        for key, now in self._pending.items():
            if not now:
                now = written[key] = codec.encode(self._live[key], key)
            was = base.get(key)
            if was is None or (bytes(was) != now and not _alike(now, was)):
                if parts is None:
                    parts = dict(base)
                parts[key] = now
        return parts

    def _assignments(self, pending: dict[str, bytes | None]) -> Changes:
        """The changes of the usual request: keys assigned, or containers changed in place, and nothing else."""
        base, sets, written = self._base or {}, {}, {}
        for key, now in pending.items():
            if not now:
                now = written[key] = codec.encode(self._live[key], key)
            was = base.get(key)
            if was is None or (bytes(was) != now and not _alike(now, was)):
                sets[key] = now
        self._written = written
        return Changes(sets) if sets else NO_CHANGES

    def _settle(self, record: Record, parts: Parts) -> None:
        """The record was committed with these parts: what this request meant to do is done.

        Most requests end here, so the new base is worked out only if somebody asks again: `_catch_up`.
        """
        self._record, self._standing, self._committed = record, _LIVE, parts
        self._forget_intentions()

    def _catch_up(self) -> None:
        """Take what was committed for the new base. Values the handler holds stay the same objects."""
        parts, self._committed = self._committed, None
        if parts is None or self._base is None:
            return
        for key, value in list(self._live.items()):
            if type(value) in _IMMUTABLE or key not in parts or bytes(parts[key]) != self._written.get(key):
                del self._live[key]
        self._base, self._pending = parts, dict.fromkeys(self._live)
        self._deletes, self._cleared, self._ops = frozenset(), False, None

    def _forget_intentions(self) -> None:
        if self._meant:
            self._login, self._logout, self._regenerate, self._touch = None, False, False, False
            self._lifetime, self._lifetime_set, self._forced, self._meant = None, False, False, False

    def _touched(self, record: Record, now: float, deadline: float) -> None:
        """The deadline was moved."""
        self._record = replace(
            record, seen_at=max(record.seen_at, now), deadline=max(record.deadline, deadline)
        )
        self._forget_intentions()

    def _taken(self, key: str) -> None:
        """The key is gone from the store, so it is gone from what we compare with too."""
        self._forget(key)
        self._base = {name: part for name, part in self._open().items() if name != key}
        self._deletes -= {key}

    def _reload(self, record: Record) -> None:
        """Begin again from this record, under the same cookie."""
        verifier, previous, fence = self._verifier, self._on_previous, self._own_fence
        self._reset(_LIVE)
        self._record, self._verifier, self._on_previous, self._own_fence = record, verifier, previous, fence
        self._base = codec.split(record.data)

    def _still(self) -> bool:
        """True if nothing can have changed since the last commit, told without encoding anything."""
        if self._committed is None:
            return self._base is None or self._quiet()
        held = self._ops is not None and not all(type(self._live.get(key)) in _IMMUTABLE for key in self._ops)
        return not held and all(self._pending.values()) and self._typed is None

    def _quiet(self) -> bool:
        """True if this request changed nothing, held nothing that can change in place, and meant nothing."""
        return not (
            self._pending
            or self._meant
            or self._deletes
            or self._cleared
            or self._on_previous
            or self._reissue
            or self._typed is not None
            or self._standing is not _LIVE
        )

    def _disown(self) -> None:
        """Keep only what this request itself changed, as the content of a session yet to be made.

        What it assigned is its own, even if the same was there before.
        """
        parts = own(self._base or {}, self._changes())
        for key, assigned in self._pending.items():
            if assigned is not None and key not in (self._ops or ()):
                parts[key] = assigned or codec.encode(self._live[key], key)
        intent, began = self._login, self._own_fence
        self._reset(_NEW)
        self._login, self._own_fence, self._meant = intent, began, intent is not None
        for key, encoded in parts.items():
            value = self._live[key] = codec.decode(encoded)
            self._pending[key] = bytes(encoded) if type(value) in _IMMUTABLE else b""

    def _reset(self, standing: Standing) -> None:
        """Forget everything this request did and saw: the session has ended, or was never this request's to
        change.
        """
        self._record, self._standing, self._verifier = None, standing, None
        self._base, self._live, self._pending, self._committed = {}, {}, {}, None
        self._deletes, self._cleared, self._ops = frozenset(), False, None
        self._locator, self._on_previous, self._reissue = None, False, False
        self._typed, self._typed_before = None, None
        self._forget_intentions()


def _alike(ours: bytes, stored: bytes | msgspec.Raw) -> bool:
    """Is the stored value the one we would write? Other writers (jsonb, Node) spell the same containers differently
    (rule 17).
    """
    if ours == bytes(stored):
        return True
    try:
        return ours[:1] in b"{[" and codec.same(ours, stored)
    except CorruptRecord:
        return False


def user_text(user_id: object) -> str:
    """The text a user id is kept as. Raises UsageError for what names nobody, such as None."""
    if isinstance(user_id, bool) or not isinstance(user_id, (str, int, UUID)) or str(user_id) == "":
        raise UsageError(f"user_id={user_id!r}: a user id is a non-empty str, an int or a UUID")
    text = str(user_id)
    if "\x00" in text or len(text) > 255:
        raise UsageError("user_id=…: a user id has at most 255 characters and no NUL")
    return text


def _datetime(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
