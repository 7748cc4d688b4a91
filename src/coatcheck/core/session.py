"""The session a handler sees: tracked data, what it is, and what is meant to become of it. Pure: no store, no clock.

`regenerate()`, `login()`, `logout()` and `touch()` only write down an intention; `lifecycle` carries it out. The verbs
that act at once (`save`, `reload`, `take`, `destroy`) need a store and live in `faces.py`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Raw
from msgspec.structs import replace

from coatcheck.core import codec
from coatcheck.core.merge import Parts, own
from coatcheck.core.policy import seconds
from coatcheck.core.record import PENDING_FOR, Lifetime, Login, PendingLogin, Record
from coatcheck.core.tracked import IMMUTABLE, Tracked
from coatcheck.errors import CorruptRecord, LoginRefused, StoreError, TooLate, UsageError

__all__ = [
    "OF_LOGIN",
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
HERE: Final = Login()
"""A login that came from no provider."""
LATEST: Final = 253_402_300_800.0
"""The year 10000, in seconds since the epoch: from there on there are no datetimes."""
OF_LOGIN: Final = "_login:"
"""How keys begin that say something of one login: the next login leaves them behind, whichever framework it is made in."""


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
    LEAVING = "leaving"
    """The response is complete and waits for the commit: nothing may change any more, but the headers have not left."""
    STREAMING = "streaming"
    """The headers have left: data may change, the cookie may not."""
    DONE = "done"


# An enum's member costs 50 ns to look up, a global 2: these are asked for on every access.
_LIVE, _NEW, _UNLOADED = Standing.LIVE, Standing.NEW, Standing.UNLOADED
_split: Final = codec.quick_split
_OPEN, _NO_COOKIE = Phase.OPEN, CookieAction.NONE
_ENDED: Final = (Phase.LEAVING, Phase.DONE)


class Intent(NamedTuple):
    """A login to be carried out at commit."""

    user_id: str
    login: Login
    goes_on: bool = False
    """It goes on with what is stored (a second factor, a step-up): if that has ended meanwhile, nobody is logged in."""
    since: float | None = None
    """When the first factor was proved, in seconds since the epoch: what ended the user's sessions since ends this too."""

    @property
    def is_step_up(self) -> bool:
        """Whether the user was logged in already."""
        return self.goes_on and self.since is None


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


class BaseSession(Tracked):
    """A request's session. Keys are text; values are JSON plus datetime, date, UUID, Decimal, bytes, tuple, set and
    Markup: a value comes back equal and of the same type, or is refused when it is assigned (`UnstorableValue`).
    """

    _standing: Standing
    _phase: Phase
    _accessed: bool
    _owed: CookieAction
    """What an earlier `save()` of this request has to tell the browser."""
    _failure: Exception | None
    """Why there is no session here, or none to commit: told to whoever uses it, and to nobody else (checklist 117)."""
    _given_up: bool
    """The request failed, and its application answers with an error page: of it all, only a logout is committed any more."""
    _more: tuple[tuple[str, str], ...]
    """Further fields of the response's header: of what stands beside the session, such as a limit."""
    # Class-level defaults for the rest.
    _record: Record | None = None
    _verifier: str | None = None
    """What the browser should hold: set by `lifecycle` at open, renewal and rotation."""
    _login: Intent | None = None
    _begun: PendingLogin | None = None
    """A login to be written down that waits for its next factor."""
    _logout = False
    _regenerate = False
    _touch = False
    _doubted = False
    """The client is not the one that logged in, and `client_change="reauthenticate"`: nothing is proved until it is anew."""
    _kept = False
    """To be stored though nothing was put into it."""
    _lifetime: Lifetime | None = None
    _lifetime_set = False
    _locator: str | None = None
    _over: str | None = None
    """The key of a session that had been ended when it was loaded."""
    _own_fence: float | None = None
    _on_previous = False
    _reissue = False
    """The cookie was signed by an older key: send it again under the newest."""
    _label: Login | None = None
    """The login with the client it has now: to be written with whatever is written."""
    _began = 0.0
    """When the request began, on a monotonic clock."""
    _outage: StoreError | None = None
    """Why a session that could not be loaded is detached, and the request goes on: on_store_error="anonymous"."""

    def __init__(self) -> None:
        """What every request reads is an attribute of its own: a class's default costs ten times as much to read, and one that is
        an enum's member makes the instance's own as dear (the interpreter does not specialise the look-up).
        """
        self._view = self._base = self._failure = None
        self._meant = self._held = self._accessed = self._given_up = False
        self._more = ()
        self._standing, self._phase, self._owed = _UNLOADED, _OPEN, _NO_COOKIE

    # ---- hooks that `lifecycle` and the faces fill in

    def _load(self) -> None:
        """Load the session now. Faces that can wait override this; where nobody can, the session was loaded
        eagerly.
        """
        raise UsageError("this session is not loaded yet: `await get_session(request)` first")

    def _new_locator(self) -> str:
        raise NotImplementedError

    def _is_carried(self) -> bool:
        """Whether the session is in the cookie itself: with the headers it leaves for good."""
        return False

    def _may_store(self) -> None:
        """Raise if nothing of this request can be kept."""

    def _say(self, name: str, value: str) -> None:
        """Have the response say this too. A second value of one name goes into the same field, but for Set-Cookie."""
        if self._phase is not _OPEN:
            raise TooLate(f"the response's headers have left: {name} could not be sent any more")
        said = dict(self._more)
        if name in said and name != "Set-Cookie":
            self._more = tuple({**said, name: f"{said[name]}, {value}"}.items())
        else:
            self._more = (*self._more, (name, value))

    def _client(self) -> tuple[str, str]:
        """(address, user agent) of this request, for device lists."""
        return "", ""

    def _place(self) -> str:
        """Where this request comes from, as limits count it; "" if that is not known."""
        return ""

    def _strange(self, now: float) -> None:
        """Its cookie names a session that nobody knows."""

    def _moment(self) -> float:
        """Seconds since the epoch."""
        raise NotImplementedError

    def _cookies(self) -> bytes:
        """The Cookie header of this request: another library's cookie may be in it."""
        return b""

    def _path(self) -> str:
        """The path of this request, as the browser sees it."""
        return ""

    def _corrupted(self, error: CorruptRecord) -> None:
        """Tell the operator that what is stored is no session."""

    # ---- access

    def _open(self) -> dict[str, Raw]:
        """The data as loaded; loads a lazy session. Every access comes through here, so it is where `Vary: Cookie`
        begins.
        """
        self._accessed = True
        if self._base is not None:
            return self._look_again()
        if self._standing is _UNLOADED:
            self._load_now()
        record = self._record
        try:
            base = {} if record is None else _split(record.data)
        except codec.MALFORMED:
            base = self._mended(record)
        self._base = self._view = base
        self._live, self._pending = {}, {}
        return base

    def _mended(self, record: Record | None) -> dict[str, Raw]:
        """Data that cannot be read as they are."""
        assert record is not None
        try:
            return codec.split(record.data)
        except CorruptRecord as error:
            return self._invalid(error)

    def _look_again(self) -> dict[str, Raw]:
        """After a commit, or with typed data, which may have been changed in place."""
        if self._committed is not None:
            self._catch_up()
        base = self._base
        assert base is not None
        if self._typed is not None:
            self._write_typed_back()
        else:
            self._view = base
        return base

    def _load_now(self) -> None:
        if self._phase is not _OPEN:
            raise TooLate(
                "first access to the session after the response's headers have left: read it before you stream"
            )
        self._load()

    def _is_stored(self) -> bool:
        return self._standing is _LIVE

    def _headers_left(self) -> bool:
        """Whether the browser can be told nothing any more."""
        return self._phase is not _OPEN and self._phase is not Phase.LEAVING

    def _invalid(self, error: CorruptRecord) -> dict[str, Raw]:
        """What is stored is not a session: this request has none (checklist 112). The operator hears of it, the
        visitor sees no error.
        """
        self._corrupted(error)
        self._reset(_NEW)
        return {}

    def __repr__(self) -> str:
        """Names the session without its id, its data or loading it (checklist 21, 201)."""
        return f"<{type(self).__name__} {self._standing.value}{' modified' if self._has_changes() else ''}>"

    def _change(self) -> None:
        if self._view is None:
            self._open()
        if self._phase is not _OPEN:
            if self._phase in _ENDED:
                raise TooLate(
                    "the response has ended: this change would be lost; change the session before you return"
                )
            if self._is_carried():
                raise TooLate(
                    "the response's headers have left, and with them the cookie that this session is kept in: change it before"
                    " you stream"
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

    # ---- intentions

    def regenerate(self) -> None:
        """Give the session a new id at commit and end the old one at once, keeping the data: after a change of
        privilege.
        """
        self._announce("regenerate()")
        self._regenerate = self._meant = True

    def login(
        self,
        user_id: UserId,
        *,
        method: str | Sequence[str] = "pwd",
        remember: bool = False,
        auth_time: float | datetime | None = None,
        provider_session: str = "",
        ends_by: float | datetime | None = None,
    ) -> None:
        """Make this the session of `user_id`: a new id at commit, the old one opens nothing any more (ASVS 7.2.4).

        `user_id` is kept as text. `method` is recorded, one or several (RFC 8176 has names: "pwd", "otp", "hwk"…), and read as
        `amr`; "remembered" is a login that proves nothing, such as by a cookie of your own: it leaves `authenticated_at` at None.
        With `remember` the cookie outlives the browser. If another user was logged in here, this begins a session of its own from
        this request's changes (rule 5).

        Of a login by a provider (OpenID Connect), which `coatcheck.federation` fills in: `auth_time` is when they proved there
        who they are, and becomes `authenticated_at`; `provider_session` is its `sid`; `ends_by` is when it ends, so no later does
        this session. Both times are datetimes with a zone, or seconds since the epoch. Raises LoginRefused if `ends_by` is past.
        """
        user, methods = user_text(user_id), _methods(method)
        abroad = _abroad(auth_time, provider_session, ends_by)
        if abroad.ends_by is not None and abroad.ends_by <= self._moment():
            raise LoginRefused("the provider's session that this login comes from has ended", "ended")
        self._log_in(user, methods, remember, abroad=abroad)

    def _log_in(
        self,
        user_id: str,
        methods: tuple[str, ...],
        remember: bool,
        *,
        goes_on: bool = False,
        since: float | None = None,
        abroad: Login = HERE,
    ) -> None:
        self._announce("login()")
        for key in [key for key in Tracked._keys(self) if key.startswith(OF_LOGIN)]:
            del self[key]
        self._login = Intent(user_id, self._login_by(methods, remember, abroad), goes_on, since)
        self._begun, self._meant = None, True

    def _login_by(self, methods: tuple[str, ...], remember: bool, abroad: Login) -> Login:
        """`abroad`: what is known of the provider's session that it came from."""
        self._doubted = False
        address, user_agent = self._client()
        amr = methods if len(methods) > 1 else ()
        return replace(
            abroad, method=methods[0], remember=remember, user_agent=user_agent, address=address, amr=amr
        )

    def begin_login(
        self, user_id: UserId, *, method: str | Sequence[str] = "pwd", remember: bool = False
    ) -> None:
        """The first factor of several was proved: write that down, and log nobody in (checklist 56).

        `pending_login` says who it is until `complete_login()`, for ten minutes and in this session only, which gets a new id.
        `user_id` stays None. Raises UsageError if somebody is logged in here: `logout()` first, or `reauthenticate()`.
        """
        self._announce("begin_login()")
        user, methods = user_text(user_id), _methods(method)
        if self.user_id is not None:
            raise UsageError(
                "begin_login() where somebody is logged in: logout() first; for a new proof of the same user, reauthenticate()"
            )
        self._begun, self._meant = PendingLogin(user, methods, remember, self._moment()), True

    @property
    def pending_login(self) -> PendingLogin | None:
        """The login that waits for its next factor; None if there is none, or it began more than ten minutes ago."""
        self._open()
        record = self._known()
        pending = self._begun or (record.pending if record else None)
        if pending is None or self._login is not None:
            return None
        return pending if 0 <= self._moment() - pending.at < PENDING_FOR else None

    def complete_login(self, *, method: str | Sequence[str] = "otp") -> None:
        """The last factor was proved: log the user of `pending_login` in, by all methods together.

        Raises LoginRefused if no login is pending: ask for the first factor again. Where the user's sessions were ended since
        that was proved, the login is refused at commit, as one that was under way.
        """
        pending, methods = self.pending_login, _methods(method)
        if pending is None:
            raise LoginRefused(
                "no login is pending here, or it began more than ten minutes ago: ask for the first factor again"
            )
        amr = _together(pending.methods, methods)
        self._log_in(pending.user_id, amr, pending.remember, goes_on=self._begun is None, since=pending.at)

    def reauthenticate(self, *, method: str | Sequence[str] = "pwd") -> None:
        """The user who is logged in has proved again who they are, before a sensitive act or by a stronger method (ASVS 7.5.3).

        `authenticated_at` is now, `amr` has the new method too, and the session gets a new id. Nothing else makes it stronger.
        Raises UsageError without a login. A session that has ended meanwhile stays ended.
        """
        self._announce("reauthenticate()")
        user_id, methods, record = self.user_id, _methods(method), self._known()
        if user_id is None:
            raise UsageError("reauthenticate() where nobody is logged in: login(user_id) first")
        before = (
            self._login.login if self._login is not None else record.login if record is not None else None
        )
        amr = methods if before is None else _together(before.methods, methods)
        abroad = (
            HERE if before is None else replace(before, auth_time=None)
        )  # the proof is new, what it ends with is not
        login = self._login_by(amr, before is not None and before.remember, abroad)
        goes_on = self._login is None or self._login.goes_on
        self._login, self._meant = Intent(user_id, login, goes_on), True

    def logout(self) -> None:
        """End the session at commit, on the server and in the browser. What is set afterwards begins a new, anonymous
        one.
        """
        self._announce("logout()")
        Tracked.clear(self)
        self._logout = self._meant = True
        self._login, self._begun, self._regenerate, self._lifetime_set = None, None, False, False

    def _sign_out(self) -> None:
        """logout(), and what was in the session goes on in an anonymous one: where the login is one key among others."""
        record, lifetime = self._known(), self._current_lifetime()
        rest = {key: Tracked.get(self, key) for key in Tracked._keys(self) if not key.startswith(OF_LOGIN)}
        self.logout()
        if lifetime is not None and not (record and record.login and record.login.remember):
            self._set_lifetime(lifetime)
        for key, value in rest.items():
            Tracked.__setitem__(self, key, value)

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
            return str(self._record.key)  # a key may be more than a text: `stores/cookie.py`
        if self._locator is None:
            self._locator = self._new_locator()
        return str(self._locator)

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
        self._forced = bool(value)
        self._meant |= self._forced

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
        """When the user last proved who they are; None without a login, and where nobody knows: it was only remembered, or
        adopted.
        """
        self._open()
        record = self._known()
        return _datetime(record.proved_at) if record and not self._doubted else None

    @property
    def amr(self) -> tuple[str, ...]:
        """By which methods the user of this login has proved who they are (RFC 8176), the first one first; empty without a login,
        and for one that was only remembered.
        """
        self._open()
        if self._login is not None:
            return self._login.login.methods
        record = self._known()
        return (
            record.login.methods
            if record is not None and record.login is not None and not self._doubted
            else ()
        )

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

    def _set_lifetime(self, lifetime: Lifetime | None) -> None:
        self._announce("session.cookie.max_age = …")
        self._lifetime, self._lifetime_set, self._meant = lifetime, True, True

    # ---- for lifecycle

    def _settle(self, record: Record, parts: Parts) -> None:
        """The record was committed with these parts: what this request meant to do is done.

        Most requests end here, so the new base is worked out only if somebody asks again: `_catch_up`.
        """
        self._record, self._standing, self._view = record, _LIVE, None
        if self._base is not None:
            self._committed = parts
        if self._meant:
            self._forget_intentions()

    def _forget_intentions(self) -> None:
        self._login, self._logout, self._regenerate, self._touch = None, False, False, False
        self._begun = None
        self._kept = False
        self._lifetime, self._lifetime_set, self._forced = None, False, False
        self._meant = (
            self._cleared
            or bool(self._deletes)
            or self._ops is not None
            or self._typed is not None
            or self._on_previous
            or self._reissue
        )

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
        self._view = None
        self._deletes -= {key}

    def _reload(self, record: Record) -> None:
        """Begin again from this record, under the same cookie."""
        verifier, previous, fence = self._verifier, self._on_previous, self._own_fence
        self._reset(_LIVE)
        self._record, self._verifier, self._on_previous, self._own_fence = record, verifier, previous, fence
        self._base = codec.split(record.data)
        self._view = None

    def _still(self) -> bool:
        """True if nobody has looked at the session since its commit, and nobody holds a value of it that can change in place."""
        return self._view is None and not self._held

    def _disown(self) -> None:
        """Keep only what this request itself changed, as the content of a session yet to be made.

        What it assigned is its own, even if the same was there before.
        """
        parts = own(self._base or {}, self._changes())
        for key, assigned in self._pending.items():
            if assigned is not None and key not in (self._ops or ()):
                parts[key] = assigned or codec.encode(self._live[key], key)
        intent, begun, began, locator = self._login, self._begun, self._own_fence, self._locator
        self._reset(_NEW)
        self._login, self._own_fence, self._held = intent, began, True
        self._begun, self._meant = begun, intent is not None or begun is not None
        self._locator = locator  # if `handle` was asked for, it has been promised
        for key, encoded in parts.items():
            value = self._live[key] = codec.decode(encoded)
            self._pending[key] = bytes(encoded) if type(value) in IMMUTABLE else b""

    def _reset(self, standing: Standing) -> None:
        """Forget everything this request did and saw: the session has ended, or was never this request's to
        change.
        """
        self._record, self._standing, self._verifier = None, standing, None
        self._base, self._view, self._live, self._pending, self._committed = {}, None, {}, {}, None
        self._deletes, self._cleared, self._ops = frozenset(), False, None
        self._locator, self._on_previous, self._reissue = None, False, False
        self._typed, self._typed_before = None, None
        self._forget_intentions()


def _methods(method: str | Sequence[str]) -> tuple[str, ...]:
    """The methods that were given. Raises UsageError for what names none."""
    given = (method,) if isinstance(method, str) else tuple(method)
    if not given or not all(type(one) is str and 0 < len(one) <= 64 for one in given):
        raise UsageError(f'method={method!r}: give a name such as "pwd", or several: ("pwd", "otp")')
    return given


def _abroad(
    auth_time: float | datetime | None, provider_session: str, ends_by: float | datetime | None
) -> Login:
    """What a login says of the provider's session that it came from. Raises UsageError."""
    given: object = provider_session
    if not isinstance(given, str) or len(given) > 255:
        raise UsageError("provider_session=…: give the provider's sid, a text of at most 255 characters")
    times = [_epoch(auth_time, "auth_time"), _epoch(ends_by, "ends_by")]
    return replace(HERE, auth_time=times[0], provider_session=provider_session, ends_by=times[1])


def _epoch(value: float | datetime | None, name: str) -> float | None:
    """Seconds since the epoch."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.timestamp()
    if value is None or (type(value) in (int, float) and 0 <= value < LATEST):  # type: ignore[operator]  # a number by then
        return None if value is None else float(value)  # type: ignore[arg-type]
    raise UsageError(f"{name}={value!r}: give a datetime with a time zone, or seconds since the epoch")


def _together(before: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    """What was proved before and now, each once."""
    return tuple(dict.fromkeys((*before, *now)))


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
