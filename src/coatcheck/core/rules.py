"""What the options mean for one session at one moment. Pure: what `lifecycle` asks before it acts."""

from collections.abc import Mapping
from math import inf

from msgspec import Raw
from msgspec.structs import replace

from coatcheck.core import codec, drafts
from coatcheck.core.decide import Situation
from coatcheck.core.merge import Parts
from coatcheck.core.options import Options
from coatcheck.core.record import Lifetime, Login, Record
from coatcheck.core.session import BaseSession, Standing
from coatcheck.errors import SessionTooLarge

__all__ = ["Rules"]


class Rules:
    """The options of one application, applied."""

    def __init__(self, options: Options, *, carried: bool = False) -> None:
        """`carried`: sessions are in the cookie itself. Each write replaces it; there is no verifier to be renewed."""
        self.options, self._carried = options, carried
        self.every_request = options.rolling or options.resave or options.save_uninitialized
        """Whether the options ask for every request's session to be looked at, used or not."""
        self.sends, self._max_size = options.rolling or carried, options.max_size
        """Whether every write sends the cookie."""
        self._times = options.timeouts.in_seconds()
        if carried:
            self._times = self._times._replace(renewal=None)
        self.idle_for = self._times.idle
        """The idle timeout of a session without a lifetime of its own, in seconds."""
        self._untouched_for = -inf if self.every_request else self._times.touch
        """Seconds since it was last seen for which a session that was only read needs no command."""

    # ---- what is to be done

    def idle(self, session: BaseSession, now: float) -> bool:
        """Whether a commit would come to nothing: the usual end of a request that only reads, told without a
        coroutine.
        """
        if not session._accessed:
            return not self.every_request
        record = session._record
        if (
            record is None
            or session._pending
            or session._meant
            or now - record.seen_at >= self._untouched_for
        ):
            return False
        return (record.user_id is None and record.renewal is None) or not self.renewal_matters(record, now)

    def is_usual(self, record: Record, now: float) -> bool:
        """Whether the table is bound to say "replace, and no cookie" of a live session in which keys were assigned, and nothing
        else was meant: told with a few looks.
        """
        return (
            not self.sends
            and (record.lifetime is None or not record.lifetime.persistent)
            and ((record.user_id is None and record.renewal is None) or not self.renewal_matters(record, now))
        )

    def renewal_matters(self, record: Record, now: float) -> bool:
        """Whether the verifier is to be renewed, or was and is seen for the first time."""
        renewal = record.renewal
        return (renewal is not None and renewal.seen_at is None) or self.renewal_due(record, now)

    def situation(
        self, session: BaseSession, record: Record | None, parts: Parts, changed: bool, now: float
    ) -> Situation:
        """Everything `decide` needs to know: `record` is what is stored, `parts` what should be, `changed` if they differ."""
        options, login = self.options, session._login
        headers_sent = session._headers_left()
        if record is None or session._standing is not Standing.LIVE:
            return Situation(
                session._standing,
                login=login is not None or session._begun is not None,
                logout=session._logout,
                over=session._over is not None,
                changed=changed and len(parts) > 0,  # nothing came of a clear() or logout() of nothing
                save_uninitialized=options.save_uninitialized or session._kept,
                headers_sent=headers_sent,
            )
        current = not session._on_previous
        due = session._touch or now - record.seen_at >= self._times.touch
        session._label = self.label(session, record, now) if due else None
        lifetime = session._lifetime if session._lifetime_set else record.lifetime
        first_sight = current and record.renewal is not None and record.renewal.seen_at is None
        return Situation(
            Standing.LIVE,
            login is not None,
            login is not None and record.user_id is not None and login.user_id != record.user_id,
            session._logout,
            session._regenerate or session._begun is not None,
            changed or lifetime != record.lifetime,
            options.resave or session._forced or first_sight or session._label is not None,
            current and self.renewal_due(record, now),
            session._on_previous or session._reissue,
            due,
            lifetime is not None and lifetime.persistent,
            options.rolling,
            False,
            headers_sent,
            self._carried,
        )

    def label(self, session: BaseSession, record: Record, now: float) -> Login | None:
        """The login with the client that it has now, if that is another, or is to be forgotten; None: leave it as it is.

        Looked at where a touch is due, so once a minute at most, and written in its place: no command more.
        """
        login = record.login
        if login is None or not (login.address or login.user_agent):
            return None
        if self.forgets(record, now):
            return replace(login, address="", user_agent="")
        address, user_agent = session._client()
        if self.options.client_change != "tell" or not (address or user_agent):
            return None
        if (address, user_agent) == (login.address, login.user_agent):
            return None
        return replace(login, address=address or login.address, user_agent=user_agent or login.user_agent)

    def forgets(self, record: Record, now: float) -> bool:
        """Whether the client of this login is to be forgotten by now."""
        after, since = self.options.forget_client_after, record.authenticated_at
        return after is not None and now - (record.created_at if since is None else since) >= after

    def renewal_due(self, record: Record, now: float) -> bool:
        """Only logged-in sessions are renewed by age: there is nothing to steal in the others."""
        after = self._times.renewal
        if record.user_id is None or after is None:
            return False
        since = record.rotated_at or record.created_at
        return now - (since if record.renewal is None else max(since, record.renewal.at)) >= after

    # ---- what a record becomes

    def logged_in(self, session: BaseSession, record: Record, now: float) -> Record:
        """The record under this request's login, if it has one."""
        intent = session._login
        if intent is None:
            return record if session._begun is None else replace(record, pending=session._begun)
        lifetime = record.lifetime
        if not session._lifetime_set:
            if intent.login.remember:
                lifetime = Lifetime(idle=self._times.remember, persistent=True)
            elif record.login is not None and record.login.remember:
                lifetime = None
        ends_at, ends_by = self.ends_at(now), intent.login.ends_by
        return drafts.logged_in(
            record, intent.user_id, intent.login, now, idle=self.idle_of(lifetime, now),
            ends_at=ends_at if ends_by is None else min(ends_at, ends_by), lifetime=lifetime,
        )  # fmt: skip

    def ends_at(self, now: float) -> float:
        """When a session that begins now, or is logged in now, ends at the latest."""
        ends_by = self.options.ends_by
        latest = now + self._times.absolute
        return latest if ends_by is None else min(latest, ends_by.timestamp())

    def idle_of(self, lifetime: Lifetime | None, now: float) -> float:
        """After how many seconds without a request a session with this lifetime of its own ends."""
        if lifetime is None:
            return self.idle_for
        if lifetime.until is not None:
            return lifetime.until - now
        return self.idle_for if lifetime.idle is None else lifetime.idle

    def encoded(self, parts: Parts) -> bytes:
        """The data as they are stored. Raises SessionTooLarge."""
        return self.encoded_raw(codec.raw(parts))

    def encoded_raw(self, parts: Mapping[str, Raw]) -> bytes:
        """The same, of parts that are raw already. Raises SessionTooLarge."""
        try:
            data = codec.quick_join(parts)
        except UnicodeEncodeError:
            data = codec.join_raw(parts)
        if len(data) > self._max_size:
            raise SessionTooLarge(
                f"the session holds {len(data)} octets, max_size={self._max_size}: keep large things in your "
                "database and their keys in the session"
            )
        return data
