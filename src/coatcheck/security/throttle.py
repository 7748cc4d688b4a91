"""When a login may be tried, and when it must wait: the rules, over counters that every process shares. No framework.

An attempt is counted before the password is looked at, atomically, so that of any number at once only as many are verified as the
limit lets through (checklist 191, 192). It passes up to three buckets, each of which only counts what the one before let through:

1. **address**: all attempts from one place, whatever the account. A success is taken out again, and nothing else is.
2. **known device** of the account, if the request brings the proof of one: attempts there are counted by themselves, so that
   nobody who does not have that device can use them up (checklist 190). Where these are used up the device is known no more.
3. **account**: attempts from everywhere else. They come in steps: so many at once, then a wait, then so many again, then a
   wait twice as long, up to `longest_wait` (a progressive delay; the client is told, nothing sleeps here). After `cap` failures
   in a row no stranger's attempt is verified any more (NIST SP 800-63B-4 section 3.2.2), until somebody unlocks the account.

What has failed in a row is counted per account, and forgotten by a success in the same bucket only, `unlock`, or after a time.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from coatcheck.core.ports import Tallies, Tally
from coatcheck.core.rates import Rate
from coatcheck.errors import Throttled
from coatcheck.security.buckets import bucket

__all__ = [
    "Passed",
    "Rules",
    "Who",
    "begin",
    "first_use",
    "retract",
    "revoke_devices",
    "succeed",
    "unlock",
]

DAY: Final = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How many, and how long. Times in seconds."""

    by_address: Rate
    step: int
    """Attempts on an account until there is a wait."""
    first_wait: float
    longest_wait: float
    cap: int
    """Failures in a row on an account, from places that are not known."""
    remember: float
    """For how long failures in a row are remembered after the last of them, once there were `step`; a day before that."""
    device_limit: int
    """Failures in a row until a device is known no more."""
    device_for: float
    """For how long a device is known after its last login."""

    def wait(self, level: int) -> float:
        """How long the attempts of one step last, from the first of them."""
        return min(self.first_wait * 2.0 ** min(level, 64), self.longest_wait)


class Who(NamedTuple):
    """Who tries: names of buckets, see `bucket`."""

    address: str
    account: str
    device: str | None = None
    """The device that the request has proved to be, for this account."""
    device_since: float = 0.0
    """When that proof was given out."""


class Passed(NamedTuple):
    """An attempt that may be verified, and where it was counted."""

    who: Who
    level: int
    """Which step of the account; -1: it was counted on its device."""


async def begin(tallies: Tallies, rules: Rules, who: Who, now: float) -> Passed:
    """Count an attempt. Raises Throttled if it must not be verified."""
    there = await tallies.tally(_address(who), window=rules.by_address.window, now=now)
    if there.total > rules.by_address.limit:
        raise _until(there, now)
    if await _is_known(tallies, rules, who, now):
        return Passed(who, -1)
    return Passed(who, await _by_account(tallies, rules, who.account, now))


async def _is_known(tallies: Tallies, rules: Rules, who: Who, now: float) -> bool:
    if who.device is None:
        return False
    revoked = await tallies.tallied(f"login:revoked:{who.account}", now=now)
    if revoked.total and who.device_since <= revoked.until - rules.device_for:
        return False
    there = await tallies.tally(_device(who), window=rules.device_for, now=now, prolong=True)
    return there.total <= rules.device_limit


async def _by_account(tallies: Tallies, rules: Rules, account: str, now: float) -> int:
    failed = await tallies.tallied(_failed(account), now=now)
    if failed.total >= rules.cap:
        raise _until(failed, now)
    level = failed.total // rules.step
    if level:
        before = await tallies.tallied(_step(account, level - 1), now=now)
        if before.until > now:
            raise _until(before, now)
    step = await tallies.tally(_step(account, level), window=rules.wait(level), now=now)
    if step.total > rules.step:
        raise _until(step, now)
    # What comes to nothing in its first step is forgotten sooner: whoever tries names at random fills no store with them.
    window = rules.remember if level else min(DAY, rules.remember)
    failed = await tallies.tally(_failed(account), window=window, now=now, prolong=True)
    if failed.total > rules.cap:
        raise _until(failed, now)
    return level


async def succeed(tallies: Tallies, rules: Rules, passed: Passed, now: float) -> None:
    """The password was right: take this attempt out of the address, and forget what failed in its own bucket (192)."""
    who, level = passed
    await tallies.tally(_address(who), window=rules.by_address.window, now=now, amount=-1)
    if level < 0:
        await tallies.end_tally(_device(who))
    else:
        await tallies.end_tally(_failed(who.account))
        await tallies.end_tally(_step(who.account, level))  # those before it are over: it began after them


async def retract(tallies: Tallies, rules: Rules, passed: Passed, now: float) -> None:
    """The password was right, and more is to come: take this attempt out of what it was counted in, and forget nothing.

    A success would be too much: whoever has the password could begin the row of failed codes anew with it (checklist 199).
    """
    who, level = passed
    counted = [(_address(who), rules.by_address.window)]
    if level < 0:
        counted.append((_device(who), rules.device_for))
    else:
        counted += [(_step(who.account, level), rules.wait(level)), (_failed(who.account), rules.remember)]
    for key, window in counted:
        await tallies.tally(key, window=window, now=now, amount=-1)


async def unlock(tallies: Tallies, rules: Rules, account: str, now: float) -> None:
    """Forget what failed on an account: its owner has shown by other means who they are."""
    failed = await tallies.tallied(_failed(account), now=now)
    await tallies.end_tally(_failed(account))
    for level in range(failed.total // rules.step + 1):
        await tallies.end_tally(_step(account, level))


async def revoke_devices(tallies: Tallies, rules: Rules, account: str, now: float) -> None:
    """Let no device be known for this account that was made known until now."""
    # What counts is until when: as long as a proof that was given out just now would last.
    await tallies.tally(f"login:revoked:{account}", window=rules.device_for, now=now, prolong=True)


async def first_use(tallies: Tallies, account: str, code: str, lasts: float, now: float) -> bool:
    """Whether a code is used for the first time, by at most one of all who try at once (checklist 199)."""
    there = await tallies.tally(f"login:once:{account}:{bucket(code)}", window=lasts, now=now)
    return there.total == 1


def _until(tally: Tally, now: float) -> Throttled:
    return Throttled(tally.until - now)


def _address(who: Who) -> str:
    return f"login:from:{who.address}"


def _device(who: Who) -> str:
    return f"login:device:{who.account}:{who.device}"


def _failed(account: str) -> str:
    return f"login:failed:{account}"


def _step(account: str, level: int) -> str:
    return f"login:step:{account}:{level}"
