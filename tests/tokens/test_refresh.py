"""Refresh tokens: rotation, two tabs, reuse, and a login that is a session like any other (checklist 164-173)."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coatcheck import (
    AsyncSessionManager,
    ConfigurationError,
    InvalidToken,
    LoginRefused,
    Options,
    SessionManager,
    StoreUnavailable,
    UsageError,
)
from coatcheck.core.ids import Ticket
from coatcheck.core.ports import Outcome
from coatcheck.core.record import Record
from coatcheck.errors import ReplyLost
from coatcheck.stores.memory import MemoryStore
from coatcheck.tokens import AsyncTokens, Key, KeyRing, Pair, Tokens
from tests.web.rig import START, Ears, Time

DAY = 86_400


class Bench:
    """Tokens over a store, a clock to move, and ears."""

    def __init__(self, store: Any = "memory:", **terms: Any) -> None:
        self.time, self.ears = Time(), Ears()
        options = Options(
            on_event=self.ears, **{k: terms.pop(k) for k in ("max_sessions", "at_limit") if k in terms}
        )
        self.sessions = SessionManager(store, options=options, clock=self.time.clock)
        keys = terms.pop("keys", KeyRing([KEY]))
        self.tokens = Tokens(self.sessions, keys=keys, issuer="https://id.example", audience="api", **terms)

    def why(self, token: Any, **terms: Any) -> str:
        with pytest.raises(InvalidToken) as caught:
            self.tokens.refresh(token, **terms)
        return caught.value.reason


KEY = Key.generate("HS256", kid="k1")


@pytest.fixture(params=["memory", "sqlite"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench("memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/s.db")
    yield made
    made.sessions.close()


def test_a_login_by_tokens(bench: Bench) -> None:
    pair = bench.tokens.issue(
        42, scope="orders:read  orders:write", claims={"roles": ["editor"]}, method="otp"
    )
    claims = bench.tokens.verify(pair.access_token)
    (device,) = bench.sessions.of(42).list()
    assert (claims.sub, claims.scope, claims.sid, claims.amr) == (
        "42",
        "orders:read orders:write",
        device.handle,
        ["otp"],
    )
    assert (claims.auth_time, claims.exp - claims.iat, pair.expires_in) == (int(START), 600, 600)
    assert (device.method, pair.token_type, pair.scope) == ("otp", "Bearer", "orders:read orders:write")


def test_a_refresh_rotates_and_keeps_what_was_granted(bench: Bench) -> None:
    first = bench.tokens.issue("ada", scope="a b", claims={"roles": ["x"]}, client_id="app")
    bench.time.now += 3600
    second = bench.tokens.refresh(first.refresh_token, client_id="app")
    assert second.refresh_token != first.refresh_token
    claims = bench.tokens.verify(second.access_token)
    assert (claims.sub, claims.scope, claims.client_id) == ("ada", "a b", "app")
    assert (claims.auth_time, claims.iat) == (
        int(START),
        int(START) + 3600,
    )  # a refresh proves nothing about the user (179)
    assert len(bench.sessions.of("ada").list()) == 1
    assert bench.tokens.refresh(second.refresh_token).refresh_token not in (
        first.refresh_token,
        second.refresh_token,
    )


def test_two_tabs_get_the_same_successor(bench: Bench) -> None:
    first = bench.tokens.issue("ada")
    second = bench.tokens.refresh(first.refresh_token)
    bench.time.now += 9.9
    again = bench.tokens.refresh(first.refresh_token)
    assert again.refresh_token == second.refresh_token
    assert "tokens.reused" not in bench.ears.heard
    bench.time.now += 0.2  # the window is not moved by being used
    assert bench.why(first.refresh_token) == "reused"


def test_an_old_token_ends_the_family(bench: Bench) -> None:
    first = bench.tokens.issue("ada")
    second = bench.tokens.refresh(first.refresh_token)
    third = bench.tokens.refresh(second.refresh_token)
    assert bench.why(first.refresh_token) == "reused"  # within the window, but its successor was used
    assert bench.ears.heard.count("tokens.reused") == 1
    assert bench.why(third.refresh_token) == "revoked"
    assert bench.sessions.of("ada").list() == []


def test_strict_mode_knows_no_second_time() -> None:
    bench = Bench(grace=0)
    first = bench.tokens.issue("ada")
    second = bench.tokens.refresh(first.refresh_token)
    assert bench.why(first.refresh_token) == "reused"
    assert bench.why(second.refresh_token) == "revoked"


def test_another_client_ends_the_family(bench: Bench) -> None:
    pair = bench.tokens.issue("ada", client_id="app")
    assert bench.why(pair.refresh_token, client_id="other") == "reused"
    assert bench.why(pair.refresh_token, client_id="app") == "revoked"


def test_a_wider_scope_is_refused_and_uses_nothing_up(bench: Bench) -> None:
    pair = bench.tokens.issue("ada", scope="read write")
    assert bench.why(pair.refresh_token, scope="read admin") == "scope"
    narrowed = bench.tokens.refresh(pair.refresh_token, scope="read")
    assert bench.tokens.verify(narrowed.access_token).scope == narrowed.scope == "read"
    assert (
        bench.tokens.refresh(narrowed.refresh_token).scope == "read write"
    )  # RFC 6749 section 6: the grant is as it was


def test_idle_and_absolute_lifetime(bench: Bench) -> None:
    pair = bench.tokens.issue("ada")
    for _ in range(4):
        bench.time.now += 7 * DAY
        pair = bench.tokens.refresh(pair.refresh_token)
    bench.time.now += 2 * DAY + 1
    assert bench.why(pair.refresh_token) == "unknown"
    pair = bench.tokens.issue("ada")
    bench.time.now += 14 * DAY + 1
    assert bench.why(pair.refresh_token) == "unknown"


@pytest.mark.parametrize("end", ["revoke", "end", "end_all", "device"])
def test_whatever_ends_a_session_ends_its_tokens(bench: Bench, end: str) -> None:
    pair = bench.tokens.issue("ada")
    handle = bench.sessions.of("ada").list()[0].handle
    if end == "revoke":
        assert bench.tokens.revoke(pair.refresh_token)
    elif end == "end":
        assert bench.sessions.end(handle)
    elif end == "end_all":
        assert bench.sessions.of("ada").end_all() == 1
    else:
        assert bench.sessions.of("ada").end(handle)
    assert bench.why(pair.refresh_token) == "revoked"
    assert not bench.tokens.revoke(pair.refresh_token)


def test_logins_of_both_kinds_are_limited_together() -> None:
    bench = Bench(max_sessions=2, at_limit="deny")
    bench.tokens.issue("ada")
    session = bench.sessions.session()
    session.login("ada")
    session.save()
    with pytest.raises(LoginRefused, match="as many sessions as the limit"):
        bench.tokens.issue("ada")
    assert {device.method for device in bench.sessions.of("ada").list()} == {"pwd"}


def test_a_refresh_token_is_no_cookie_and_a_cookie_no_refresh_token(bench: Bench) -> None:
    pair = bench.tokens.issue("ada")
    session = bench.sessions.session()
    session.login("ada")
    session.save()
    ticket = Ticket(session.handle, str(session._verifier))
    assert bench.why(f"{ticket.locator}.{ticket.verifier}.{ticket.verifier}") == "unknown"
    assert bench.sessions.session(ticket).user_id == "ada"
    assert pair.refresh_token.count(".") == 2


def test_nobody_but_a_holder_can_end_a_family(bench: Bench) -> None:
    """The locator is public: device lists and access tokens show it."""
    pair = bench.tokens.issue("ada")
    locator, secret, part = pair.refresh_token.split(".")
    assert bench.why(f"{locator}.{'A' * 44}.{part}") == "unknown"
    assert not bench.tokens.revoke(f"{locator}.{'A' * 44}.{part}")
    assert bench.tokens.refresh(pair.refresh_token).expires_in == 600
    assert bench.why(f"{'A' * 24}.{secret}.{part}") == "unknown"


def test_an_old_token_does_not_tell_the_next_one(bench: Bench) -> None:
    """Whoever has the first token, and the whole database, cannot make the present one but by using the first."""
    first = bench.tokens.issue("ada")
    second = bench.tokens.refresh(first.refresh_token)
    third = bench.tokens.refresh(second.refresh_token)
    locator, _, _ = third.refresh_token.split(".")
    record: Any = asyncio.run(bench.sessions.flows.store.load(locator, now=bench.time.now))
    for token in (first, second, third):
        _, secret, part = token.refresh_token.split(".")
        for text in (secret, part):
            assert text.encode() not in record.data
            assert text not in repr(record)
            assert text.encode() != record.verifier


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        None,
        7,
        b"x",
        "A" * 24 + "." + "A" * 44,
        "." * 3,
        "é" * 24 + "." + "A" * 44 + "." + "A" * 44,
    ],
)
def test_what_is_no_refresh_token(bench: Bench, token: Any) -> None:
    assert bench.why(token) == "malformed"
    assert not bench.tokens.revoke(token)


def test_nothing_shows_a_token(bench: Bench) -> None:
    pair = bench.tokens.issue("ada")
    parts = {pair.refresh_token, pair.access_token, *pair.refresh_token.split(".")[1:]}
    shown = f"{pair!r} {pair} {bench.tokens!r} {bench.tokens.verifier!r}"
    assert not any(part in shown for part in parts)
    with pytest.raises(InvalidToken) as caught:
        bench.tokens.refresh(pair.refresh_token[:-1] + ("A" if pair.refresh_token[-1] != "A" else "B"))
    assert not any(part in str(caught.value) for part in parts)


def test_bad_settings_say_what_to_give() -> None:
    for terms, said in (
        ({"access_ttl": "2h"}, "at most an hour"), ({"access_ttl": "ten"}, "access_ttl='ten'"),
        ({"grace": 61}, "at most 60 seconds"),
        ({"refresh_ttl": 0}, "refresh_ttl=0"), ({"idle_ttl": 86_400_000}, "looks like milliseconds"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=said):
            Bench(**terms)
    with pytest.raises(UsageError, match="none of these keys can sign"):
        Bench(keys=KeyRing([Key.generate("ES256").public()]))
    bench = Bench()
    with pytest.raises(ConfigurationError, match="claims: exp, sub cannot be set"):
        bench.tokens.issue("ada", claims={"sub": "root", "exp": 1})
    with pytest.raises(ConfigurationError, match="client_id"):
        bench.tokens.issue("ada", client_id="")
    with pytest.raises(UsageError, match="user id"):
        bench.tokens.issue(None)  # type: ignore[arg-type]


# ---- at the same time, and when the store fails


class Failing(MemoryStore):
    """Loses replies, before or after the write was carried out, or cannot be reached."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: list[str] = []

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        what = self.plan.pop(0) if self.plan else ""
        if what == "down":
            raise StoreUnavailable("no route to the store")
        if what == "lost before":
            raise ReplyLost("gone")
        outcome = await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)
        if what == "lost after":
            raise ReplyLost("gone")
        return outcome


def test_a_refresh_that_fails_uses_nothing_up() -> None:
    store = Failing()
    bench = Bench(store)
    pair = bench.tokens.issue("ada")
    store.plan = ["down"] * 5
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            bench.tokens.refresh(pair.refresh_token)
    assert bench.tokens.refresh(pair.refresh_token).refresh_token != pair.refresh_token


@pytest.mark.parametrize("lost", ["lost before", "lost after"])
def test_a_lost_reply_is_made_up_for(lost: str) -> None:
    store = Failing()
    bench = Bench(store)
    first = bench.tokens.issue("ada")
    store.plan = [lost]
    second = bench.tokens.refresh(first.refresh_token)
    assert bench.tokens.refresh(first.refresh_token).refresh_token == second.refresh_token
    assert bench.tokens.refresh(second.refresh_token).expires_in == 600


class Suspending(MemoryStore):
    """Gives way before every command, in an order of chance: what two requests over a network do."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    async def _give_way(self) -> None:
        for _ in range(self._chance.randrange(4)):
            await asyncio.sleep(0)

    async def load(self, key: str, *, now: float) -> Any:
        await self._give_way()
        return await super().load(key, now=now)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        await self._give_way()
        return await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)


def tabs(seed: int, rounds: int, crowd: int) -> list[int]:
    """How many different successors each round of parallel refreshes gave."""

    async def main() -> list[int]:
        time = Time()
        sessions = AsyncSessionManager(Suspending(random.Random(seed)), clock=time.clock)
        tokens = AsyncTokens(sessions, keys=KeyRing([KEY]), issuer="https://id.example", audience="api")
        pair, counts = await tokens.issue("ada"), list[int]()
        for _ in range(rounds):
            pairs: list[Pair] = await asyncio.gather(
                *(tokens.refresh(pair.refresh_token) for _ in range(crowd))
            )
            counts.append(len({found.refresh_token for found in pairs}))
            pair = pairs[0]
            time.now += 60
        return counts

    return asyncio.run(main())


def test_a_hundred_parallel_refreshes_make_one_generation() -> None:
    assert tabs(1, rounds=5, crowd=100) == [1] * 5


def test_two_tabs_a_thousand_times() -> None:
    assert tabs(2, rounds=1000, crowd=2) == [1] * 1000


def test_a_session_that_ends_during_a_refresh_stays_ended() -> None:
    class Ending(MemoryStore):
        async def replace(
            self, record: Record, *, expected: str, now: float, may_shorten: bool = False
        ) -> Outcome:
            await self.delete(record.key, now=now, token="t")
            return await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)

    bench = Bench(Ending())
    pair = bench.tokens.issue("ada")
    assert bench.why(pair.refresh_token) == "revoked"
    assert bench.sessions.of("ada").list() == []


def test_a_login_that_began_before_end_all_is_refused() -> None:
    class Overtaken(MemoryStore):
        async def admit(self, record: Record, **terms: Any) -> Outcome:
            await self.end_user("ada", keep=None, now=terms["now"], token="t")
            overtaken.time.now += 1
            return await super().admit(record, **terms)

    overtaken = Bench(Overtaken())
    with pytest.raises(LoginRefused, match="ended meanwhile"):
        overtaken.tokens.issue("ada")
    assert overtaken.sessions.of("ada").list() == []


def test_a_client_revokes_its_own_tokens_only(bench: Bench) -> None:
    pair = bench.tokens.issue("ada", client_id="app")
    with pytest.raises(InvalidToken) as caught:
        bench.tokens.revoke(pair.refresh_token, client_id="another")
    assert caught.value.reason == "client"
    assert len(bench.sessions.of("ada").list()) == 1
    assert bench.tokens.revoke(pair.refresh_token, client_id="app")
    assert not bench.tokens.revoke(pair.refresh_token, client_id="app")


def test_a_pair_is_the_body_of_a_token_response(bench: Bench) -> None:
    """RFC 6749 section 5.1: the type is required, a scope that was not asked for is left out."""
    body = msgspec.json.decode(msgspec.json.encode(bench.tokens.issue("ada")))
    assert body.keys() == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert body["token_type"] == "Bearer"
