"""How a browser keeps tokens: in cookies that no script reads, never in Web Storage (checklist 187, ASVS 10.1.1).

The refresh token goes to the endpoints and nowhere else (`Path`). The access token either comes with every request, as a cookie
too, or stays in a variable of the page, which sends it as `Authorization: Bearer` and gets another one when it is loaded again.
"""

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Final, Literal

from coatcheck.bearer.http import Asked
from coatcheck.core import cookies
from coatcheck.core.cookies import CookieSettings, Writer
from coatcheck.core.policy import duration
from coatcheck.errors import ConfigurationError
from coatcheck.security import csrf
from coatcheck.security.csrf import Rules, Verdict

__all__ = ["TokenCookies"]

_ACCESS: Final = ("__Host-access", "access")
_REFRESH: Final = ("__Secure-refresh", "refresh")


class TokenCookies:
    """The cookies of one application's tokens.

    path             where its token endpoints are mounted, as the browser sees it: "/auth"
    access           keep the access token in a cookie too; False: its page keeps it in a variable
    trusted_origins  pages of other origins that may use the cookies, such as "https://app.example"; for browsers without Fetch
                     Metadata, and for WebSockets, the application's own as well
    same_site        "strict"; "lax" brings the access token also with a link from another site; "none" is for their pages
    secure           False only where a browser does not take Secure cookies from localhost: the names then lose their prefixes
    max_age          how long the refresh cookie is kept without a refresh: as long as `idle_ttl`; None: until the browser closes
    clock            tells seconds since the epoch

    Raises ConfigurationError.
    """

    def __init__(
        self,
        *,
        path: str,
        access: bool = True,
        trusted_origins: Iterable[str] = (),
        same_site: Literal["strict", "lax", "none"] = "strict",
        secure: bool = True,
        max_age: str | float | timedelta | None = "14d",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(secure, bool):
            raise ConfigurationError(f"secure={secure!r}: give True, or False for plain HTTP in development")
        self._rules = Rules(trusted_origins=trusted_origins)
        self.keeps_access, self._clock = access, clock
        self._max_age = None if max_age is None else int(duration(max_age, setting="max_age"))
        strictest: Literal["strict", "none"] = "none" if same_site == "none" else "strict"
        self._access = _writer(_ACCESS, "/", same_site, secure)
        self._refresh = _writer(_REFRESH, path, strictest, secure)

    def set(self, pair: Any) -> tuple[str, ...]:
        """The Set-Cookie values that give a pair of tokens to the browser; each is to be a header of its own.

        Raises CookieTooLarge for an access token that browsers would drop.
        """
        now = self._clock()
        refresh = self._refresh.set(_octets(pair.refresh_token), max_age=self._max_age, now=now)
        if not self.keeps_access:
            return (refresh.decode("ascii"),)
        access = self._access.set(_octets(pair.access_token), max_age=pair.expires_in, now=now)
        return access.decode("ascii"), refresh.decode("ascii")

    def clear(self) -> tuple[str, ...]:
        """The Set-Cookie values that take them away again: as many as `set` gave."""
        writers = (self._access, self._refresh) if self.keeps_access else (self._refresh,)
        return tuple(writer.clear().decode("ascii") for writer in writers)

    def shown(self, pair: Any) -> dict[str, Any]:
        """What the page may see of a pair (RFC 6749 section 5.1): nothing that a cookie keeps from it."""
        shown = {"token_type": pair.token_type, "expires_in": pair.expires_in}
        if not self.keeps_access:
            shown["access_token"] = pair.access_token
        return {**shown, "scope": pair.scope} if pair.scope else shown

    def access_of(self, asked: Asked) -> str | None:
        """The access token that came; None: none did; "" if two did, of which somebody planted one (checklist 41)."""
        return _found(asked, self._access.name) if self.keeps_access else None

    def refresh_of(self, asked: Asked) -> str | None:
        """The refresh token that came, in the same way."""
        return _found(asked, self._refresh.name)

    def allow(self, asked: Asked) -> bool:
        """Whether a page of ours sent this request with its cookies. What says nothing about where it comes from does not pass:
        there is no session here that a token against forgery could belong to.
        """
        finding = self._rules.judge(
            csrf.Asked(
                asked.method,
                asked.path,
                site=asked.all("sec-fetch-site"),
                origin=asked.all("origin"),
                referer=asked.all("referer"),
                overrides=any(asked.all(name.lower()) for name in csrf.OVERRIDES),
                has_cookie=True,
                websocket=asked.is_socket,
            )
        )
        return finding.verdict in (Verdict.SAFE, Verdict.PROVED)


def _writer(names: tuple[str, str], path: str, same_site: Any, secure: bool) -> Writer:
    name = names[0] if secure else names[1]
    return Writer(
        CookieSettings(name=name, path=path, same_site=same_site, secure=secure), name, secure=secure
    )


def _octets(token: str) -> bytes:
    return token.encode("ascii")


def _found(asked: Asked, name: str) -> str | None:
    header = [value.encode("latin-1", "replace") for value in asked.all("cookie")]
    values = set(cookies.find(header, name.encode("ascii")))
    if not values:
        return None
    return values.pop().decode("latin-1") if len(values) == 1 else ""
