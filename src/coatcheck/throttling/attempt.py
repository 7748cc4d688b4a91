"""One attempt to log in: counted on the way in, settled on the way out, in sync and in async code."""

from datetime import timedelta
from types import TracebackType

from coatcheck.core.policy import duration
from coatcheck.core.stepping import run_now
from coatcheck.errors import Throttled, UsageError
from coatcheck.flows import shielded
from coatcheck.security import throttle as rules
from coatcheck.security.buckets import bucket
from coatcheck.security.known_device import Device
from coatcheck.security.throttle import Passed, Rules, Who
from coatcheck.throttling.backing import Backing
from coatcheck.throttling.device import DeviceCookie
from coatcheck.throttling.visitor import Served

__all__ = ["AsyncAttempt", "Attempt", "Case", "Entry"]


class Case:
    """One attempt: what is known of it, and its two flows, for either face."""

    def __init__(
        self,
        backing: Backing,
        limits: Rules,
        cookie: DeviceCookie | None,
        session: Served | None,
        account: str,
        address: str,
    ) -> None:
        """`account` is normalised, `address` the place that counts as one."""
        self._backing, self._limits, self._cookie, self._session = backing, limits, cookie, session
        self.account, name = account, bucket(account)
        self._known: Device | None = None
        if session is not None and cookie is not None:
            self._known = cookie.find(session, name, backing.now(session))
        self._who = Who(bucket(address), name, *(self._known or ()))
        self._passed: Passed | None = None

    async def begin(self, *, awaits: bool) -> None:
        """Count it. Raises Throttled, and StoreError if it cannot be counted."""
        limits, who, now = self._limits, self._who, self._backing.now(self._session)
        try:
            self._passed = await self._backing.count(
                self._session, awaits=awaits, flow=lambda tallies: rules.begin(tallies, limits, who, now)
            )
        except Throttled as error:
            detail = f"account {who.account[:12]} from {who.address[:12]} for {error.retry_after} s"
            self._backing.tell(self._session, "login.throttled", detail)
            raise

    async def end(self, attempt: "_Verdict | None", *, awaits: bool) -> None:
        """Settle what was counted. `attempt` is None where it ended in an exception: a failure."""
        if attempt is None:
            return
        succeeded, continues = _said(attempt.succeeded, "succeeded"), _said(attempt.continues, "continues")
        now, passed, limits = self._backing.now(self._session), self._passed, self._limits
        if passed is not None and (succeeded or continues):
            settle = rules.succeed if succeeded else rules.retract
            await self._backing.count(
                self._session, awaits=awaits, flow=lambda tallies: settle(tallies, limits, passed, now)
            )
        if succeeded and self._session is not None and self._cookie is not None:
            known = self._known if passed is not None and passed.level < 0 else None
            self._cookie.send(self._session, self._who.account, known, now)

    async def once(self, code: str, lasts: float, *, awaits: bool) -> bool:
        """Whether a code is used for the first time."""
        now, account = self._backing.now(self._session), self._who.account
        first = await self._backing.count(
            self._session,
            awaits=awaits,
            flow=lambda tallies: rules.first_use(tallies, account, code, lasts, now),
        )
        return first is not False


def _said(value: object, name: str) -> bool:
    """A coroutine that nobody awaited is true: it must not be taken for a password that was right."""
    if not isinstance(value, bool):
        raise UsageError(
            f"attempt.{name} is a {type(value).__name__}: set it to True or False (is an `await` missing, or a `bool(…)`?); it"
            " was counted as a failure"
        )
    return value


class Entry:
    """What `attempt()` returns: a context manager of both kinds."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._attempt: Attempt | AsyncAttempt | None = None

    def __enter__(self) -> "Attempt":
        run_now(self._case.begin(awaits=False))
        self._attempt = attempt = Attempt(self._case)
        return attempt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run_now(self._case.end(self._ended(error), awaits=False))

    async def __aenter__(self) -> "AsyncAttempt":
        await shielded(self._case.begin(awaits=True))
        self._attempt = attempt = AsyncAttempt(self._case)
        return attempt

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await shielded(self._case.end(self._ended(error), awaits=True))

    def _ended(self, error: BaseException | None) -> "_Verdict | None":
        return self._attempt if error is None else None


class _Verdict:
    """An attempt that may be verified, and what came of it: `succeeded = True` if it was right. Whatever else, and an exception,
    counts as a failure.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self.succeeded: bool = False
        self.continues: bool = False
        """The password was right, and a second factor is due, in a request to come: counted as neither failure nor success."""

    @property
    def account(self) -> str:
        """The account's name as it is counted: look the account up by this one (checklist 196)."""
        return self._case.account


class Attempt(_Verdict):
    """What `with throttle.attempt(…)` gives: say `attempt.succeeded = True` if it was right."""

    def once(self, code: str, *, lasts: str | float | timedelta = "10m") -> bool:
        """Whether this code of a second factor is used for the first time: ask once it was found right, and refuse it if not.

        `lasts`: at least as long as the code is good.
        """
        return run_now(self._case.once(code, duration(lasts, setting="lasts"), awaits=False))


class AsyncAttempt(_Verdict):
    """What `async with throttle.attempt(…)` gives: say `attempt.succeeded = True` if it was right."""

    async def once(self, code: str, *, lasts: str | float | timedelta = "10m") -> bool:
        """`Attempt.once`, awaited."""
        return await shielded(self._case.once(code, duration(lasts, setting="lasts"), awaits=True))
