"""The framework-free half of the web: a request's headers in, what to add to the response out.

An adapter reads four things from its request into an `Arrival`, hands the session to its handler, and after the
commit asks `Exchange.reply` what the response must say. Every rule about which cookie is believed, where one may be
sent and what a cache may keep is here, once (checklist sections C, D, G and lines 105-108).
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn
from urllib.parse import unquote

from coatcheck.core import cookies
from coatcheck.core.adoption import Olds
from coatcheck.core.cookies import CookieSettings, Writer
from coatcheck.core.events import Event, EventName, Listener, log
from coatcheck.core.ids import VERIFIER_CHARS, Ticket, Verifier, digest
from coatcheck.core.origin import (
    Arrival,
    Proxy,
    is_forwarded,
    is_loopback,
    network_of,
    origin,
    trusted_proxies,
)
from coatcheck.core.rates import Rate
from coatcheck.core.record import Record
from coatcheck.core.session import BaseSession, CookieAction
from coatcheck.core.signing import MAC_CHARS, KeyRing, RotatingKeyRing, Secret, Verified, key_rings
from coatcheck.errors import BadSignature, ConfigurationError, Throttled
from coatcheck.security.buckets import place
from coatcheck.security.strangers import Strangers

if TYPE_CHECKING:
    from coatcheck.carrying import Carrier

__all__ = ["Arrival", "Channel", "Exchange", "Reading", "Reply", "holds_data", "kept_from_caches", "varied"]

_AFTER_LOCATOR: Final = VERIFIER_CHARS + MAC_CHARS
RECENT: Final = 4096
"""How many genuine cookies a process remembers, some 1 kB each at the most common lengths."""
_LONGEST: Final = 128 + 1 + _AFTER_LOCATOR
_PRIVATE: Final = re.compile(r"(?:^|[\s,])(?:no-store|private)(?:$|[\s,])", re.IGNORECASE)
_SHARED: Final = re.compile(
    r"(?:^|[\s,])(?:public|s-maxage|max-age\s{0,9}=\s{0,9}\"?0{0,9}[1-9])", re.IGNORECASE
)
"""What invites a shared cache to keep a response."""
PATHS: Final = 100
"""For how many paths it is told that their Cache-Control was replaced."""
_NO_STORE: Final = re.compile(r"(?:^|[\s,])no-store(?:$|[\s,])", re.IGNORECASE)
_QUOTED: Final = re.compile(r'"[^"]*"')


class Channel(Enum):
    """How the request came to us, as far as a cookie is concerned."""

    HTTPS = "https"
    LOOPBACK = "loopback"
    """Plain HTTP that never left the machine: development."""
    PLAIN = "plain"
    """Plain HTTP over a network: no session cookie is read or sent here (checklist 39)."""


class Reading(NamedTuple):
    """What a request's headers say: how it came, which genuine ticket it carries, and whether to sign that one
    anew.
    """

    channel: Channel
    ticket: Ticket | None
    reissue: bool


class _Recent(dict[tuple[bytes, bytes, str], tuple[Channel, Ticket | None, bool]]):
    """Genuine cookies and what they were found to be. Shows how many, never which."""

    def __repr__(self) -> str:
        return f"<{len(self)} recent cookies>"


class Reply(NamedTuple):
    """What to add to the response. None: leave that header as it is."""

    set_cookie: str | None = None
    vary: str | None = None
    cache_control: str | None = None
    clears: tuple[str, ...] = ()
    """Further Set-Cookie values: of a session that takes several cookies, and of the library that was here before, whose sessions
    are adopted; and what `more` says.
    """
    more: tuple[tuple[str, str], ...] = ()
    """Further header fields, each to take the place of what has its name: `Clear-Site-Data`, what limits say."""

    @property
    def set_cookies(self) -> tuple[str, ...]:
        """Every Set-Cookie value, each to be a header of its own."""
        return self.clears if self.set_cookie is None else (self.set_cookie, *self.clears)


_NOTHING: Final = Reply()
_VARY: Final = Reply(vary="Cookie")
_VARY_PRIVATE: Final = Reply(vary="Cookie", cache_control="private")
_NO_TICKET: Final = (None, False)


class Exchange:
    """The cookie rules of one session under one name, compiled from its settings."""

    def __init__(
        self,
        settings: CookieSettings,
        secret: Secret,
        *,
        proxy: Proxy = None,
        insecure_dev: bool = False,
        on_event: Listener = log,
        olds: Olds | None = None,
        max_strange: Rate | None = None,
        carried: int | None = None,
        no_store: bool = False,
        clear_site_data: bool = False,
    ) -> None:
        """`carried`: sessions are in the cookie itself, in so many octets at most. Raises ConfigurationError or WeakSecret."""
        if not isinstance(settings, CookieSettings):
            raise ConfigurationError(f"cookie={settings!r}: give coatcheck.CookieSettings(…)")
        self.settings = settings
        self.recent = _Recent()
        """(cookies, host, scheme) of requests with a genuine cookie and nothing forwarded -> what they were found to be."""
        self.on_event, self.olds = on_event, olds
        self.proxies = trusted_proxies(proxy)
        """Whose forwarded headers are believed; None: nobody's."""
        self.strangers = None if max_strange is None else Strangers(max_strange)
        """Counts forged and unknown ids by address; None: nobody asked for it."""
        self.no_store = no_store
        """Whether no cache at all, the browser's own included, may keep a page that a logged-in user's session was used for."""
        self._at_logout = (("Clear-Site-Data", '"cache", "cookies", "storage"'),) if clear_site_data else ()
        secure_name, plain_name = cookies.names(settings)
        names = {Channel.HTTPS: secure_name, Channel.LOOPBACK: plain_name, Channel.PLAIN: plain_name}
        self._names = {channel: name.encode("ascii") for channel, name in names.items()}
        self._writers = {channel: _writer(settings, name, channel) for channel, name in names.items()}
        self.keys = key_rings(secret, insecure_dev=insecure_dev, on_error=self._keep_secret)
        """Makes the key ring of a purpose: `keys("csrf")`. Cookies are signed for `cookie:` and their name."""
        rings = {name: self.keys(f"cookie:{name}") for name in set(names.values())}
        self._rings = {channel: rings[name] for channel, name in names.items()}
        rotates = any(isinstance(ring, RotatingKeyRing) for ring in rings.values())
        self._forgets = rotates or carried is not None or settings.path != "/"
        self._carriers = (
            None if carried is None else self._carrying(secret, carried, insecure_dev=insecure_dev)
        )
        self._secure = settings.secure
        self._overrides: set[str] = set()
        self.persistent = settings.max_age is not None or settings.expires is not None
        """Whether browsers keep the cookie when they close, unless a session says otherwise of its own."""
        self._clears = {channel: self._clearing(channel) for channel in names}
        self.scoped = settings.path != "/"
        self._prefix = unquote(settings.path)  # as applications see paths
        self.insecure_dev = insecure_dev
        """Whether a weak secret was let pass: for those who look at a configuration (`coatcheck doctor`)."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("an exchange is not to be pickled: it would write the keys down")

    @property
    def names(self) -> frozenset[str]:
        """What our cookie is called, over HTTPS and over plain HTTP on the loopback interface."""
        return frozenset(name.decode("ascii") for name in self._names.values())

    # ---- the request

    def covers(self, path: str) -> bool:
        """Whether the browser sends our cookie for this path (RFC 6265bis section 5.1.4)."""
        if not self.scoped:
            return True
        prefix = self._prefix
        return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")

    def channel(self, arrival: Arrival) -> Channel:
        """Whether a cookie is safe on the way this request came. Forwarded headers count from trusted peers only."""
        forwarded, scheme = is_forwarded(arrival), arrival.scheme
        if forwarded and self.proxies is not None:
            scheme = origin(arrival, self.proxies).scheme
        if scheme == "https" or scheme == "wss":
            return Channel.HTTPS
        secure = self._secure
        if secure == "auto":
            return Channel.LOOPBACK if not forwarded and is_loopback(arrival.host) else Channel.PLAIN
        return Channel.PLAIN if secure else Channel.LOOPBACK

    def read(self, arrival: Arrival, now: float) -> Reading:
        """Everything a request's headers say about its session. Raises Throttled with `max_strange`."""
        if not is_forwarded(arrival):
            known = self.recent.get((arrival.cookies, arrival.host, arrival.scheme))
            if known is not None:
                return Reading(*known)
        channel = self.channel(arrival)
        reading = Reading(channel, *self.ticket(arrival, channel, now))
        if reading.ticket is not None and not (is_forwarded(arrival) or self._forgets):
            self._remember((arrival.cookies, arrival.host, arrival.scheme), reading)
        return reading

    def _remember(self, key: tuple[bytes, bytes, str], reading: Reading) -> None:
        """Keep what genuine cookies were found to be: browsers send the same header again and again.

        A look-up costs 0.2 us where finding, verifying and hashing cost 4. It tells an attacker nothing: a dict
        compares keys only when their keyed 64-bit hashes (SipHash) agree, and what it holds is no more than what the
        requests themselves carry through this process. Not kept where the secret is read again, since a withdrawn key
        must stop working.
        """
        if len(self.recent) >= RECENT:
            self.recent.clear()
        # Taken apart by every request, which is quicker without names.
        self.recent[key] = (reading.channel, reading.ticket, reading.reissue)

    def ticket(self, arrival: Arrival, channel: Channel, now: float) -> tuple[Ticket | None, bool]:
        """The one genuine ticket among the request's cookies, and whether it should be signed anew under the newest
        key.

        None if there is no cookie of ours, none is genuine, or several different ones are (somebody planted one; we
        cannot know which: checklist 41). The store is asked for none of these.
        """
        header = arrival.cookies
        if not header or channel is Channel.PLAIN:
            return _NO_TICKET
        if self._carriers is not None:
            found, event = self._carriers[channel].read(header, now)
            if event is not None:
                self._tell(event, now)
            return found or _NO_TICKET
        values = cookies.find_in(header, self._names[channel])
        if not values:
            return _NO_TICKET
        ring = self._rings[channel].at(now)
        if len(values) == 1:
            found = _open(values[0], ring)
            if found is None:
                self._forged(values, arrival, now)
                return _NO_TICKET
            return found
        genuine = {opened for value in values if (opened := _open(value, ring)) is not None}
        if len(genuine) == 1:
            return genuine.pop()
        if genuine:
            self._tell("cookie.duplicate", now)
        else:
            self._forged(values, arrival, now)
        return _NO_TICKET

    def _carrying(self, secret: Secret, octets: int, *, insecure_dev: bool) -> "Mapping[Channel, Carrier]":
        """What reads and writes sessions that are in the cookie itself."""
        from coatcheck.carrying import carrier_of  # who has no need of it need not have `cryptography`

        return {
            channel: carrier_of(
                self.settings, name.decode("ascii"), secret, octets,
                secure=_is_secure(self.settings, channel), insecure_dev=insecure_dev, on_error=self._keep_secret,
            )
            for channel, name in self._names.items()
        }  # fmt: skip

    def _forged(self, values: list[bytes], arrival: Arrival, now: float) -> None:
        """None of these is a cookie of ours; one of the library that was here before may have the same name."""
        if self.olds is None or not any(self.olds.recognise(value, now) for value in values):
            self._tell("cookie.forged", now)
            if self.strangers is not None:
                self.strike(arrival, now)

    def strike(self, arrival: Arrival, now: float) -> None:
        """Count an id that is forged or unknown. Raises Throttled if there were too many from this address."""
        assert self.strangers is not None
        try:
            self.strangers.strike(self.place(arrival), now)
        except Throttled as error:
            self._tell("request.throttled", now, f"forged or unknown ids for {error.retry_after} s")
            raise

    def client(self, arrival: Arrival, *, whole: bool = False) -> tuple[str, str]:
        """(address, user agent) for the device list: the address cut to its network (/24, /48), so that it tells a
        place, not a person, unless `whole`.
        """
        address = self.address(arrival)
        return address if whole else network_of(address), arrival.user_agent[:256].decode("latin-1")

    def address(self, arrival: Arrival) -> str:
        """The whole address of the client, for limits that are kept for minutes; empty if nobody trusted knows it."""
        return origin(arrival, self.proxies).address

    def place(self, arrival: Arrival, ipv6_prefix: int = 64) -> str:
        """What counts as one address for limits: see `coatcheck.security.buckets.place`."""
        return place(self.address(arrival), ipv6_prefix)

    # ---- the response

    def reply(
        self,
        session: BaseSession,
        cookie: CookieAction,
        channel: Channel,
        *,
        vary: str | None,
        cache_control: str | None,
        now: float,
    ) -> Reply:
        """What the response must say, given its own Vary and Cache-Control. Raises CookieTooLarge before anything has
        left.
        """
        reply = self._of_session(session, cookie, channel, vary=vary, cache_control=cache_control, now=now)
        return _with_more(reply, session, cache_control) if session._more else reply

    def _of_session(
        self,
        session: BaseSession,
        cookie: CookieAction,
        channel: Channel,
        *,
        vary: str | None,
        cache_control: str | None,
        now: float,
    ) -> Reply:
        if cookie is CookieAction.NONE:
            if not session._accessed:
                return _NOTHING
            if vary is None and cache_control is None and not self.no_store:
                return _VARY_PRIVATE if holds_data(session) else _VARY
        if self._carriers is not None:
            set_cookie, *clears = self._carried(self._carriers[channel], session, cookie, now) or (None,)
        else:
            set_cookie, clears = self._cookie(session, cookie, channel, now), []
        sets, full = set_cookie is not None, holds_data(session)
        if sets and self.olds is not None:
            clears += self._cleared(session, channel)
        if self.no_store and session._record is not None and session._record.user_id is not None:
            cache = None if cache_control and _NO_STORE.search(cache_control) else "no-store"
        else:
            cache = kept_from_caches(cache_control, sets=sets, full=full)
        if sets and cache is not None and cache_control is not None and _SHARED.search(cache_control):
            self._overridden(session, cache_control, now)
        more = self._at_logout if cookie is CookieAction.CLEAR and channel is Channel.HTTPS else ()
        return Reply(set_cookie, varied(vary), cache, tuple(clears), more)

    def _overridden(self, session: BaseSession, said: str, now: float) -> None:
        """Say, once a path, that a page for shared caches was kept from them: its cookie is one visitor's (checklist 85)."""
        path = session._path()
        if path not in self._overrides and len(self._overrides) < PATHS:
            self._overrides.add(path)
            self._tell(
                "cache.overridden",
                now,
                f"{path[:200]}: Cache-Control: {said[:100]} became no-store, since the response sets the session's cookie:"
                " leave the session alone there, or say private (said once a path)",
            )

    def _clearing(self, channel: Channel) -> tuple[tuple[bytes, str], ...]:
        """(name, Set-Cookie) that clears each old cookie, but for one that ours takes the place of."""
        ours = (self._names[channel].decode("ascii"), self.settings.path, self.settings.domain)
        old = {
            (kind.cookie.name or "", kind.cookie.path, kind.cookie.domain): kind.cookie
            for kind in (self.olds.kinds if self.olds is not None else ())
        }
        return tuple(
            (place[0].encode("ascii"), _writer(cookie, place[0], channel).clear().decode("ascii"))
            for place, cookie in old.items()
            if place != ours
        )

    def _cleared(self, session: BaseSession, channel: Channel) -> tuple[str, ...]:
        """A browser that is told of a session of ours, or of its end, needs no cookie of the library before any more."""
        header = session._cookies()
        return tuple(clear for name, clear in self._clears[channel] if cookies.find_in(header, name))

    def _cookie(self, session: BaseSession, cookie: CookieAction, channel: Channel, now: float) -> str | None:
        if cookie is CookieAction.NONE:
            return None
        if cookie is CookieAction.CLEAR:
            return self._writers[channel].clear().decode("ascii")
        value, record = self.value(session, channel, now), session._record
        if value is None or record is None:
            return None
        writer = self._writers[channel]
        return writer.set(value.encode("ascii"), max_age=self._left(record, now), now=now).decode("ascii")

    def _carried(
        self, carrier: "Carrier", session: BaseSession, cookie: CookieAction, now: float
    ) -> tuple[str, ...]:
        """The Set-Cookie values of a session that is in the cookie itself."""
        record = session._record
        if cookie is CookieAction.CLEAR:
            return carrier.clear(session._cookies())
        if cookie is CookieAction.NONE or record is None or session._verifier is None:
            return ()
        return carrier.set(record, session._cookies(), max_age=self._left(record, now), now=now)

    def _left(self, record: Record, now: float) -> float | None:
        """For how many seconds the browser keeps the cookie; None: until it closes."""
        lifetime = record.lifetime
        persistent = lifetime.persistent if lifetime is not None else self.persistent
        return record.deadline - now if persistent else None

    def value(self, session: BaseSession, channel: Channel, now: float) -> str | None:
        """What the cookie of a stored session holds, which is its secret: the signed ticket. None if nobody may hold one."""
        record, verifier = session._record, session._verifier
        if record is None or verifier is None:
            return None
        if self._carriers is not None:
            return self._carriers[channel].whole(record, now)
        if type(record.key) is not str:  # it is a key that brings the record along
            raise ConfigurationError(
                "the store keeps sessions in the cookie itself, and is wrapped in something that hides it: give the CookieStore"
                " to the middleware as it is"
            )
        text = f"{record.key}.{verifier}"
        return text + self._rings[channel].at(now).sign(text)

    def opened(self, value: str, channel: Channel, now: float) -> Ticket | None:
        """The ticket in a cookie's value, if it is genuine."""
        if self._carriers is not None:
            found = self._carriers[channel].opened(value.encode("utf-8", "replace"), now)
            return found and found[0]
        found = _open(value.encode("utf-8", "replace"), self._rings[channel].at(now))
        return found and found[0]

    def refuse(self, arrival: Arrival, now: float) -> None:
        """Say, loudly, why a session that was used over plain HTTP was not kept."""
        forwarded = (
            ' The request looks forwarded by a proxy: trust it with proxy="its address".'
            if is_forwarded(arrival)
            else ""
        )
        self._tell(
            "cookie.insecure",
            now,
            f"no session over plain HTTP to {arrival.host[:100]!r}: serve it over HTTPS.{forwarded}"
            " For a network you trust with every password: CookieSettings(secure=False)",
        )

    def _keep_secret(self, error: Exception) -> None:
        self._tell("secret.kept", 0.0, f"reading the secret again failed, the last good one stays: {error}")

    def _tell(self, name: EventName, now: float, detail: str = "") -> None:
        self.on_event(Event(name, detail=detail, at=now))


def _writer(settings: CookieSettings, name: str, channel: Channel) -> Writer:
    # Over plain HTTP nothing is sent under a prefixed name; the writer is never asked, so any name it accepts will
    # do.
    return Writer(settings, name, secure=_is_secure(settings, channel))


def _is_secure(settings: CookieSettings, channel: Channel) -> bool:
    return channel is Channel.HTTPS or settings.secure is True


def _open(value: bytes, ring: KeyRing) -> tuple[Ticket, bool] | None:
    """A ticket from a cookie's value, and whether an older key had signed it; None for anything we did not sign.

    Length first, then the MAC, and only then is anything taken apart (checklist 6, 13).
    """
    if not _AFTER_LOCATOR + 1 < len(value) <= _LONGEST or not value.isascii():
        return None
    text = value.decode("ascii")
    signed, mac = text[:-MAC_CHARS], text[-MAC_CHARS:]
    try:
        older = ring.verify(signed, mac) is Verified.OLDER
    except BadSignature:
        return None
    verifier = signed[-VERIFIER_CHARS:]
    return Ticket(signed[: -VERIFIER_CHARS - 1], Verifier(verifier), digest(verifier)), older


def _with_more(reply: Reply, session: BaseSession, cache_control: str | None) -> Reply:
    """The reply, and what else the request has to say."""
    more = tuple(item for item in session._more if item[0] != "Set-Cookie")
    cookies = tuple(value for name, value in session._more if name == "Set-Cookie")
    more = reply.more + more
    if not cookies or reply.cache_control == "no-store":
        return reply._replace(clears=reply.clears + cookies, more=more)
    cache = kept_from_caches(cache_control, sets=True, full=True)
    return reply._replace(cache_control=cache, clears=reply.clears + cookies, more=more)


def varied(present: str | None) -> str | None:
    """What Vary must say of a page that a cookie decided; None: it says so already."""
    if not present:
        return "Cookie"
    fields = {field.strip().lower() for field in present.split(",")}
    return None if "*" in fields or "cookie" in fields else f"{present}, Cookie"


def kept_from_caches(present: str | None, *, sets: bool, full: bool) -> str | None:
    """What Cache-Control must say, if it does not say it already; None: leave it.

    A response that sets our cookie is for one browser only, whatever the application says of it (checklist 85).
    """
    if sets:
        # `private="x"` keeps back single fields only, and the response may be stored (RFC 9111 section 5.2.2.7).
        return None if present and _PRIVATE.search(_QUOTED.sub("=", present)) else "no-store"
    return "private" if full and not present else None


def holds_data(session: BaseSession) -> bool:
    """Whether a page made with this session is somebody's own: the default is then to keep it out of shared caches."""
    record = session._record
    if record is None:
        return session._outage is not None
    return record.user_id is not None or len(record.data) > 2
