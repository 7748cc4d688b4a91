"""One request before the rules of `security/csrf.py`: its session, its tokens, and what its response must say. No framework, no
I/O of its own.

Whose a token is. Of a stored session: its locator, its epoch and its user. So it changes with login, logout and `regenerate()`
(checklist 54, 95), and not when the cookie is renewed by age, which would void every form that is open. A visitor without a
stored session has none of these, and to store one for every page with a form would let strangers fill the store (123). So the
locator that their session *would* have is promised to them in a cookie of its own, `__Host-session-csrf`, signed like the other.
That is no double submit of what the browser says (96): we sign both halves, for different purposes, and the prefix keeps other
hosts from planting a pair of their own. When a session is stored it takes the promised locator, and the forms that are open stay
good.

A detached session (PROTOCOL rule 26) may store nothing and is sent no cookie: its pages get a token that proves nothing, since
the only right one would be that of a login it knows nothing about. Browsers of this decade need no token in any case.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from coatcheck.core import cookies
from coatcheck.core.cookies import CookieSettings, Writer
from coatcheck.core.events import Event
from coatcheck.core.session import Phase, Standing
from coatcheck.core.signing import MAC_CHARS, KeyRing, RotatingKeyRing
from coatcheck.errors import BadSignature, ConfigurationError, TooLate
from coatcheck.exchange import Arrival, Channel, Exchange, kept_from_caches
from coatcheck.faces import AsyncSession, Session
from coatcheck.security.csrf import (
    OVERRIDES,
    SAFE,
    Asked,
    Finding,
    Rules,
    Verdict,
    form_name,
    is_genuine,
    made_token,
)

__all__ = [
    "ASKED",
    "FIELD",
    "HEADER",
    "Guard",
    "Protection",
    "Refusal",
    "Said",
    "field_of",
    "no_session",
]

Served = Session[Any] | AsyncSession[Any]
FIELD: Final = "csrf_token"
"""The form field that carries a token."""
HEADER: Final = "X-CSRF-Token"
ASKED: Final = (
    "Sec-Fetch-Site",
    "Origin",
    "Referer",
    "Authorization",
    "Accept",
    "Content-Type",
    HEADER,
    *OVERRIDES,
)
"""Every header that is asked for, spelt as it is."""
_JUDGED: Final = ("Sec-Fetch-Site", "Origin")
"""What an answer depends on that was judged (checklist 104)."""
_PREFIXES: Final = ("__host-http-", "__host-", "__secure-", "__http-")
PAGE: Final = b"This request was refused: nothing shows that it comes from this site. Load the page again, and repeat.\n"

Fields = Callable[[str], Sequence[str]]
"""Every field of a request that has this name."""


class Refusal(NamedTuple):
    """The answer in the application's place. It touches no session and sets no cookie."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]


REFUSAL: Final = Refusal(
    403,
    PAGE,
    (
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(PAGE))),
        ("cache-control", "no-store"),
        ("vary", ", ".join(_JUDGED)),
    ),
)


class Said(NamedTuple):
    """What to add to the response. None: leave that header as it is."""

    vary: str | None = None
    cache_control: str | None = None
    set_cookie: str | None = None


_NOTHING: Final = Said()
_HARMLESS: Final = Finding(Verdict.SAFE)


class _Keys:
    """The keys and the cookie of one exchange, made at the first look."""

    def __init__(self, exchange: Exchange) -> None:
        base = cookies.names(exchange.settings)[0]
        for prefix in _PREFIXES:
            if base.lower().startswith(prefix):
                base = base[len(prefix) :]
                break
        settings = exchange.settings
        plain = f"{base}-csrf"
        names = {
            Channel.HTTPS: f"__Host-{plain}" if settings.secure is not False else plain,
            Channel.LOOPBACK: plain,
        }
        self.session_names = tuple(name.encode("ascii") for name in exchange.names)
        self.tokens: KeyRing | RotatingKeyRing = exchange.keys("csrf")
        self.django: KeyRing | RotatingKeyRing = exchange.keys("csrf:django")
        self.names = {channel: name.encode("ascii") for channel, name in names.items()}
        self.rings = {channel: exchange.keys(f"cookie:{name}") for channel, name in names.items()}
        sent = CookieSettings(
            secure=settings.secure, same_site=settings.same_site, partitioned=settings.partitioned
        )
        secure = settings.secure is True
        self.writers = {
            channel: Writer(sent, name, secure=secure or channel is Channel.HTTPS)
            for channel, name in names.items()
        }


class Protection:
    """The rules of one application, and the keys of the sessions it is used with."""

    coatcheck_provides = "csrf"  # known to `coatcheck doctor` by this, in every framework

    def __init__(self, **options: Any) -> None:
        """`options` are those of `Rules`. Raises ConfigurationError."""
        known = ("trusted_origins", "exempt", "same_site", "per_form", "allow_http", "allow_non_browsers")
        for name in options:
            if name not in known:
                raise ConfigurationError(f"unknown option {name!r}: known: {', '.join(known)}")
        self.rules = Rules(**options)
        self._keys: WeakKeyDictionary[Exchange, _Keys] = WeakKeyDictionary()

    def keys(self, exchange: Exchange) -> _Keys:
        """The keys that go with this exchange's cookies."""
        keys = self._keys.get(exchange)
        if keys is None:
            keys = self._keys[exchange] = _Keys(exchange)
        return keys

    def guard(
        self, session: Served, method: str, query: str, fields: Fields, *, websocket: bool = False
    ) -> "Guard":
        """The guard of one request."""
        return Guard(self, session, method, query, fields, websocket=websocket)


class Guard:
    """One request: whether it may go on, and what its pages show."""

    __slots__ = (
        "_arrived",
        "_fields",
        "_issued",
        "_judged",
        "_method",
        "_promise",
        "_query",
        "_websocket",
        "of",
        "session",
    )

    def __init__(
        self, of: Protection, session: Served, method: str, query: str, fields: Fields, *, websocket: bool
    ) -> None:
        self.of, self.session, self._fields = of, session, fields
        self._method, self._query, self._websocket = method, query, websocket
        self._issued = self._judged = False
        self._arrived: Arrival | None = None
        self._promise: str | None = None
        """What the visitor is to be promised, in a cookie of its own."""

    def __repr__(self) -> str:
        return "<Guard>"

    # ---- may it go on

    def judge(self) -> Finding:
        """What the headers prove."""
        if self._is_harmless():
            return _HARMLESS
        finding = self.of.rules.judge(self._asked())
        self._judged = finding.verdict is not Verdict.SAFE
        return finding

    def _is_harmless(self) -> bool:
        """Whether the rules need not be asked at all: nearly every request reads a page. They would say the same."""
        query = self._query
        if self._websocket or self._method not in SAFE or (query and ("_method" in query or "%" in query)):
            return False
        fields = self._fields
        return not (fields(OVERRIDES[0]) or fields(OVERRIDES[1]) or fields(OVERRIDES[2]))

    def _asked(self) -> Asked:
        fields, session = self._fields, self.session
        assert session._exchange is not None
        arrival = self._arrival
        loopback = None
        if session._channel is Channel.LOOPBACK and session._exchange.settings.secure == "auto":
            loopback = f"http://{arrival.host.decode('latin-1').lower()}".removesuffix(":80")
        return Asked(
            self._method,
            arrival.path,
            self._query,
            fields("Sec-Fetch-Site"),
            fields("Origin"),
            fields("Referer"),
            fields("Authorization"),
            fields("Accept"),
            any(fields(name) for name in OVERRIDES),
            self._has_cookie(arrival.cookies, session._exchange),
            loopback,
            self._websocket,
        )

    def _has_cookie(self, header: bytes, exchange: Exchange) -> bool:
        """Whether a cookie came that may stand for a session: ours, or one of a library whose sessions are adopted."""
        if any(cookies.find_in(header, name) for name in self.of.keys(exchange).session_names):
            return True
        return exchange.olds is not None and exchange.olds.are_present(header)

    @property
    def sent(self) -> str | None:
        """The token in the header, if there is one. The URL and the cookies are not looked at (checklist 99)."""
        found = self._fields(HEADER)
        return found[0] if len(found) == 1 else None

    @property
    def needs_session(self) -> bool:
        """Whether the session has yet to be loaded before a token can be compared."""
        return self.session._standing is Standing.UNLOADED

    def accepts(self, token: object) -> bool:
        """Whether this token was made for this session, and for this form. Loads a sync session."""
        whose = self.whose_it_is()
        if not isinstance(token, str) or whose is None:
            return False
        form = f"{self._method} {self._arrival.path}"
        forms = (form,) if self.of.rules.per_form else ("", form)
        return is_genuine(self._ring, token, whose, forms)

    def refuse(self, finding: Finding) -> Refusal:
        """Tell the operator why; returns the answer."""
        session = self.session
        record = session._record
        handle, user = (None, None) if record is None else (record.key, record.user_id)
        detail = f"{self._method} {self._arrival.path}: {finding.reason}"
        if finding.verdict is Verdict.TOKEN:
            detail += ", and no token of this session"
        flows = session._flows
        flows.options.tell(Event("csrf.refused", handle, user, detail, flows.clock.time()))
        return REFUSAL

    @property
    def _arrival(self) -> Arrival:
        """The request, remembered: when its response begins, an adapter may have let go of it."""
        if self._arrived is None:
            describe = self.session._describe
            self._arrived = Arrival("") if describe is None else describe()
        return self._arrived

    # ---- what its pages show

    def token(self, form: str | None = None) -> str:
        """A token for a page of this request. Counts as a look at the session. Raises TooLate once the headers have left."""
        own = f"POST {self._arrival.path}" if self.of.rules.per_form else ""
        return made_token(self._ring, self.whose(), own if form is None else form_name(form))

    def whose(self) -> str:
        """Whose the tokens of this request's pages are; promises a visitor their locator."""
        self._issued = True
        session = self.session
        session._open()
        record = session._known()
        login = session._login
        if record is not None and login is not None and record.user_id not in (None, login.user_id):
            record = None  # another user's login is a session of its own
        if record is not None:
            user = record.user_id if login is None else login.user_id
            return _whose(record.key, record.epoch + (login is not None or session._regenerate), user)
        if session._standing is Standing.DETACHED and login is None:
            return _whose("", 0, None)
        if login is None:
            self._promise_locator()
        return _whose(session._locator or session.handle, 0, None if login is None else login.user_id)

    def _promise_locator(self) -> None:
        """Let a session that is stored later have the locator that the visitor's forms were made for."""
        session = self.session
        promised = self._promised()
        if promised is not None and not session._logout and session._locator in (None, promised):
            session._locator = promised
            return
        if session._phase is not Phase.OPEN:
            raise TooLate("csrf_token() after the response's headers have left: ask for it before you stream")
        self._promise = session.handle

    def _promised(self) -> str | None:
        """The locator in the visitor's own cookie, if we promised it."""
        session, channel = self.session, self.session._channel
        if channel not in (Channel.HTTPS, Channel.LOOPBACK) or session._exchange is None:
            return None
        keys = self.of.keys(session._exchange)
        found = cookies.find_in(self._arrival.cookies, keys.names[channel])
        if len(found) != 1 or not found[0].isascii() or len(found[0]) > 128 + MAC_CHARS:
            return None
        text = found[0].decode("ascii")
        locator, mac = text[:-MAC_CHARS], text[-MAC_CHARS:]
        try:
            keys.rings[channel].at(session._at).verify(locator, mac)
        except BadSignature:
            return None
        return locator

    def whose_it_is(self) -> str | None:
        """Whose this request is: what a token it brings must say. None: nobody's, so no token is good."""
        session = self.session
        session._open()
        record = session._record
        if session._standing is Standing.LIVE and record is not None:
            return _whose(record.key, record.epoch, record.user_id)
        if session._standing is not Standing.NEW:
            return None
        promised = self._promised()
        if promised is None:
            return None
        if session._locator is None:
            session._locator = promised
        return _whose(promised, 0, None)

    @property
    def django_ring(self) -> KeyRing:
        """The keys for what Django masks itself."""
        assert self.session._exchange is not None
        return self.of.keys(self.session._exchange).django.at(self.session._at)

    @property
    def _ring(self) -> KeyRing:
        assert self.session._exchange is not None
        return self.of.keys(self.session._exchange).tokens.at(self.session._at)

    # ---- the response

    @property
    def is_silent(self) -> bool:
        """Whether the response needs nothing from us: that of most requests."""
        return not (self._judged or self._issued)

    def reply(self, vary: str | None, cache: str | None) -> Said:
        """What the response must say, given its own Vary and Cache-Control. A page with a token is one browser's (89)."""
        if self.is_silent:
            return _NOTHING
        names = (*(_JUDGED if self._judged else ()), *(("Cookie",) if self._issued else ()))
        kept = kept_from_caches(cache, sets=True, full=True) if self._issued else None
        return Said(_varied(vary, names), kept, self._cookie())

    def _cookie(self) -> str | None:
        session, channel = self.session, self.session._channel
        if session._exchange is None or channel not in (Channel.HTTPS, Channel.LOOPBACK):
            return None
        keys = self.of.keys(session._exchange)
        held = cookies.find_in(self._arrival.cookies, keys.names[channel])
        stored = session._standing is Standing.LIVE and not session._logout
        if stored or session._login is not None or (session._logout and self._promise is None):
            # What was promised to a visitor is kept by now, or void: it must not outlive the visit (checklist 102).
            return keys.writers[channel].clear().decode("ascii") if held else None
        if self._promise is None:
            return None
        value = self._promise + keys.rings[channel].at(session._at).sign(self._promise)
        return keys.writers[channel].set(value.encode("ascii"), max_age=None, now=session._at).decode("ascii")


def _whose(locator: str, epoch: int, user_id: str | None) -> str:
    return f"session\0{locator}\0{epoch}\0{'-' if user_id is None else '+' + user_id}"


def _varied(present: str | None, names: Iterable[str]) -> str | None:
    there = {field.strip().lower() for field in (present or "").split(",")}
    missing = [name for name in names if name.lower() not in there]
    if "*" in there or not missing:
        return None
    return ", ".join([present, *missing] if present else missing)


def field_of(token: str) -> str:
    """The hidden field of a form, as HTML. A token needs no escaping."""
    return f'<input type="hidden" name="{FIELD}" value="{token}">'


def no_session(where: str, fix: str) -> ConfigurationError:
    """What is wrong with an application whose requests come to us without a session."""
    return ConfigurationError(f"{where} stands where there is no session: {fix}")
