"""The device cookie: read from a request, and sent at a login, by the rules that the session's own cookie is under."""

from typing import Final
from weakref import WeakKeyDictionary

from coatcheck.core import cookies
from coatcheck.core.cookies import CookieSettings, Writer
from coatcheck.core.session import Phase
from coatcheck.core.signing import KeyRing
from coatcheck.exchange import Channel, Exchange
from coatcheck.security import known_device
from coatcheck.security.known_device import Device
from coatcheck.throttling.visitor import Served

__all__ = ["DeviceCookie"]

PURPOSE: Final = "device cookie"


class DeviceCookie:
    """`__Host-device`, HttpOnly, Secure and SameSite=Lax, signed under the session's secret; on plain HTTP, which is for
    development only, `device`; where the session has no cookie, neither has this.
    """

    def __init__(self, lasts: float) -> None:
        self.lasts = lasts
        settings = CookieSettings(max_age=int(lasts))
        self._writers = {
            Channel.HTTPS: ("__Host-device", Writer(settings, "__Host-device", secure=True)),
            Channel.LOOPBACK: ("device", Writer(settings, "device", secure=False)),
        }
        self._rings: WeakKeyDictionary[Exchange, object] = WeakKeyDictionary()

    def find(self, session: Served, account: str, now: float) -> Device | None:
        """The device that this request proves to be, for an account."""
        value = self._value(session)
        if not value:
            return None
        return known_device.find(value, account, self._ring(session, now), now=now, lasts=self.lasts)

    def send(self, session: Served, account: str, known: Device | None, now: float) -> None:
        """Have the response make this device known for an account."""
        writer = self._writers.get(session._channel)  # type: ignore[arg-type]  # None is none of them
        if writer is None or session._phase is not Phase.OPEN:  # a login over a WebSocket, say
            return
        session._more = tuple(item for item in session._more if not item[1].startswith(f"{writer[0]}="))
        ring = self._ring(session, now)
        value = known_device.renew(self._value(session), account, ring, known=known, now=now)
        line = writer[1].set(value.encode("ascii"), max_age=self.lasts, now=now)
        session._say("Set-Cookie", line.decode("ascii"))

    def _value(self, session: Served) -> bytes:
        """Of two, neither: somebody has planted one."""
        writer = self._writers.get(session._channel)  # type: ignore[arg-type]  # as above
        header = session._cookies()
        if writer is None or not header:
            return b""
        found = cookies.find_in(header, writer[0].encode("ascii"))
        return found[0] if len(found) == 1 else b""

    def _ring(self, session: Served, now: float) -> KeyRing:
        exchange = session._exchange
        assert exchange is not None
        ring = self._rings.get(exchange)
        if ring is None:
            ring = self._rings[exchange] = exchange.keys(PURPOSE)
        return ring.at(now)  # type: ignore[attr-defined, no-any-return]  # of either kind of ring
