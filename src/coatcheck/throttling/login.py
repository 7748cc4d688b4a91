"""Throttled logins: `LoginThrottle`. The rules are in `coatcheck.security.throttle`."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from coatcheck.core.events import Listener
from coatcheck.core.outage import Outage
from coatcheck.core.policy import duration
from coatcheck.core.ports import Backend, Store
from coatcheck.core.rates import Rate, rate
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, UsageError
from coatcheck.flows import Clock
from coatcheck.security import throttle as rules
from coatcheck.security.buckets import bucket, normalised, place
from coatcheck.security.throttle import Rules
from coatcheck.throttling.attempt import Case, Entry
from coatcheck.throttling.backing import Backing, WhenDown
from coatcheck.throttling.device import DeviceCookie
from coatcheck.throttling.visitor import place_of, session_of

__all__ = ["LoginThrottle"]


class LoginThrottle:
    """Slows down whoever guesses passwords, by address and by account, and lets the owner in meanwhile.

        async with throttle.attempt(request, account=form.username) as attempt:      # `with` in sync code
            attempt.succeeded = check(form.username, form.password)

    Raises `Throttled` (HTTP 429 with Retry-After) on the way in, before any password is looked at.

    store          a URL or a store to count in; if it is left out, the one that the request's session is in
    by_address     attempts from one address, those that succeed taken out
    by_account     attempts on one account until there is a wait, and the first wait: "10/minute" is ten, then none for the rest
                   of the minute, ten more, then two minutes, then four…
    longest_wait   how long a wait may become. Times are seconds, timedeltas, or texts such as "4h"
    cap            failures in a row until an account takes no more attempts from places that are not known: at most 100
    remember       how long after the last of them failures in a row are forgotten
    device_for     how long a browser that has logged in is known, by a cookie, and counted apart; None: no cookie
    device_limit   failures in a row on a known device until it is known no more
    ipv6_prefix    how long a prefix of an IPv6 address counts as one address
    when_down      if the store cannot be reached: "refuse" every login (HTTP 503), "allow", or count "local"ly, in this process
    outage         for a store that is given as a URL
    clock, on_event  where there is no session to take them from

    Raises ConfigurationError for what cannot be, naming it.
    """

    coatcheck_provides = "throttle"  # known to `coatcheck doctor` by this

    def __init__(
        self,
        store: str | Backend | Store | None = None,
        *,
        by_address: str | Rate = "60 per 15 minutes",
        by_account: str | Rate = "10/minute",
        longest_wait: str | float | timedelta = "4h",
        cap: int = 100,
        remember: str | float | timedelta = "30d",
        device_for: str | float | timedelta | None = "90d",
        device_limit: int = 10,
        ipv6_prefix: int = 64,
        when_down: WhenDown = "refuse",
        outage: Outage | None = None,
        clock: Clock | None = None,
        on_event: Listener | Sequence[Listener] | None = None,
    ) -> None:
        self._backing = Backing(store, when_down, outage=outage, clock=clock, on_event=on_event)
        account = rate(by_account, setting="by_account")
        lasts = None if device_for is None else duration(device_for, setting="device_for")
        _whole("cap", cap, 1, 100, " (NIST SP 800-63B-4 section 3.2.2)")
        _whole("device_limit", device_limit, 1, 100)
        _whole("ipv6_prefix", ipv6_prefix, 32, 128)
        self._rules = Rules(
            by_address=rate(by_address, setting="by_address"),
            step=account.limit,
            first_wait=account.window,
            longest_wait=duration(longest_wait, setting="longest_wait"),
            cap=cap,
            remember=duration(remember, setting="remember"),
            device_limit=device_limit,
            device_for=lasts or 1.0,
        )
        if self._rules.longest_wait < self._rules.first_wait:
            raise ConfigurationError(
                f"longest_wait={longest_wait!r} is shorter than the first, by_account={by_account!r}"
            )
        if self._rules.step > cap:
            raise ConfigurationError(f"by_account={by_account!r}: more at once than cap={cap} allows in all")
        self._ipv6_prefix = ipv6_prefix
        self._cookie = None if lasts is None else DeviceCookie(lasts)

    def attempt(self, request: Any, *, account: str) -> Entry:
        """An attempt to log in: `with`, or `async with`, around the check of the password, the code, or both.

        request  the request, of any framework; its session; or, outside of one, the address as text
        account  the name that was typed, as it was typed: whether there is such an account makes no difference
        """
        if not isinstance(account, str):
            raise UsageError(f"account={type(account).__name__}: give the name that was typed, as text")
        session = None if isinstance(request, str) else session_of(request)
        prefix = self._ipv6_prefix
        address = place(request, prefix) if session is None else place_of(session, prefix)
        case = Case(self._backing, self._rules, self._cookie, session, normalised(account), address)
        return Entry(case)

    # ---- recovery

    def unlock(self, account: str, request: Any = None) -> None:
        """Forget the failures on an account: after its owner has shown by other means who they are, such as a password reset.

        `request` is for a throttle without a store of its own.
        """
        run_now(self._unlock(account, request, awaits=False))

    async def aunlock(self, account: str, request: Any = None) -> None:
        """`unlock`, awaited."""
        await self._unlock(account, request, awaits=True)

    def forget_devices(self, account: str, request: Any = None) -> None:
        """Let no device be known for this account any more: one was stolen, or the password was.

        `request` is for a throttle without a store of its own.
        """
        run_now(self._forget_devices(account, request, awaits=False))

    async def aforget_devices(self, account: str, request: Any = None) -> None:
        """`forget_devices`, awaited."""
        await self._forget_devices(account, request, awaits=True)

    async def _unlock(self, account: str, request: Any, *, awaits: bool) -> None:
        session = None if request is None else session_of(request)
        name, now = bucket(normalised(account)), self._backing.now(session)
        await rules.unlock(self._backing.tallies(session, awaits=awaits), self._rules, name, now)

    async def _forget_devices(self, account: str, request: Any, *, awaits: bool) -> None:
        session = None if request is None else session_of(request)
        name, now = bucket(normalised(account)), self._backing.now(session)
        await rules.revoke_devices(self._backing.tallies(session, awaits=awaits), self._rules, name, now)

    def close(self) -> None:
        """Close what the sync face opened of a store that was given as a URL."""
        self._backing.close()

    async def aclose(self) -> None:
        """Close what event loops opened of a store that was given as a URL."""
        await self._backing.aclose()


def _whole(name: str, value: object, least: int, most: int, why: str = "") -> None:
    if type(value) is not int or not least <= value <= most:
        raise ConfigurationError(f"{name}={value!r}: give a whole number from {least} to {most}{why}")
