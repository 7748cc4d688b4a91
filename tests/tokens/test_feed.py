"""Revocation without I/O: what the feed heard is refused at once, what it may have missed is not taken for granted (175-177)."""

from typing import Any

import pytest

from coatcheck import ConfigurationError, InvalidToken, Notice, SessionManager, StoreUnavailable
from coatcheck.core.stepping import run_now
from coatcheck.stores.memory import MemoryStore
from coatcheck.tokens import Key, KeyRing, Tokens
from coatcheck.tokens.feed import RevocationFeed, Standing
from tests.web.rig import START, Time

LISTENING, LOST = Notice("watching"), Notice("lost")


class Told(MemoryStore):
    """A store in memory whose notices the test sends itself, and which counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.tell: Any = None
        self.loads, self.down = 0, False

    def watch(self, tell: Any) -> Any:
        self.tell = tell
        return lambda: None

    async def load(self, key: str, *, now: float) -> Any:
        self.loads += 1
        if self.down:
            raise StoreUnavailable("no route to the store")
        return await super().load(key, now=now)


class Place:
    def __init__(self, **terms: Any) -> None:
        self.time, self.store = Time(), Told()
        self.sessions = SessionManager(self.store, clock=self.time.clock)
        self.tokens = Tokens(
            self.sessions, keys=KeyRing([Key.generate("HS256")]), issuer="i", audience="a", grace=0, **terms
        )

    def hear(self, notice: Notice) -> None:
        self.store.tell(notice)

    def a_minute(self) -> None:
        """A minute in which the store says that it is listening."""
        for _ in range(12):
            self.time.now += 5
            self.hear(LISTENING)

    def why(self, token: str, how: str = "verify") -> str:
        with pytest.raises(InvalidToken) as caught:
            getattr(self.tokens, how)(token)
        return caught.value.reason


def feed(time: Time) -> RevocationFeed:
    return RevocationFeed(
        keep_for=610, max_lag=15, leeway=10, time=time.clock.time, monotonic=time.clock.monotonic
    )


def test_an_ended_session_is_refused_at_once_and_nobody_is_asked() -> None:
    place = Place()
    place.tokens.listen()
    place.hear(LISTENING)
    place.a_minute()
    token = place.tokens.issue("ada").access_token
    place.store.loads = 0
    assert place.tokens.verify(token).sub == place.tokens.authenticate(token).sub == "ada"
    sid = place.tokens.verify(token).sid
    place.hear(Notice("ended", str(sid)))
    assert place.why(token) == place.why(token, "authenticate") == "revoked"
    assert place.store.loads == 0


def test_a_token_from_before_the_feed_began_is_looked_up_once() -> None:
    place = Place()
    token = place.tokens.issue("ada").access_token
    place.tokens.listen()
    place.hear(LISTENING)
    assert place.why(token) == "unsure"
    place.store.loads = 0
    assert place.tokens.authenticate(token).sub == place.tokens.authenticate(token).sub == "ada"
    assert place.store.loads == 1
    assert place.tokens.verify(token).sub == "ada"  # by now the feed knows


@pytest.mark.parametrize("policy", ["check_store", "fail_closed"])
@pytest.mark.parametrize("how", ["lost", "silent"])
def test_past_the_stated_lag_the_policy_applies(policy: Any, how: str) -> None:
    place = Place(when_unsure=policy, max_lag=15)
    place.tokens.listen()
    place.hear(LISTENING)
    place.time.now += 14
    place.hear(LISTENING)
    token = place.tokens.issue("ada").access_token
    assert place.tokens.verify(token).sub == "ada"
    if how == "lost":
        place.hear(LOST)
    place.time.now += 15 if how == "silent" else 0
    if how == "silent":
        assert place.tokens.verify(token).sub == "ada"
        place.time.now += 0.1
    place.sessions.of("ada").end_all()  # and nobody hears of it
    assert place.why(token) == "unsure"
    assert place.why(token, "authenticate") == ("revoked" if policy == "check_store" else "unsure")


def test_what_was_missed_in_a_gap_is_found() -> None:
    place = Place()
    place.tokens.listen()
    place.hear(LISTENING)
    place.a_minute()
    gone, stays = (place.tokens.issue(user).access_token for user in ("ada", "eve"))
    place.hear(LOST)
    place.sessions.of("ada").end_all()
    place.time.now += 2
    place.hear(LISTENING)
    assert place.why(gone, "authenticate") == "revoked"
    assert place.tokens.authenticate(stays).sub == "eve"
    place.hear(LOST)
    place.hear(LISTENING)
    assert place.why(stays) == "unsure"  # what was looked up before the second gap is not sure after it


def test_an_answer_from_before_a_gap_is_worth_nothing_after_it() -> None:
    time = Time()
    heard = feed(time)
    heard.hear(LISTENING)
    asked_at = time.now
    heard.hear(LOST)
    time.now += 1
    heard.hear(LISTENING)
    heard.found_live("j", asked_at)
    assert heard.standing("s", "j", START - 100) is Standing.UNSURE
    heard.found_live("j", time.now)
    assert heard.standing("s", "j", START - 100) is Standing.LIVE


def test_endings_are_kept_as_long_as_tokens_live_and_no_longer() -> None:
    time = Time()
    heard = feed(time)
    heard.hear(Notice("watching", for_good=True))
    for number in range(10_000):
        heard.hear(Notice("ended", f"s{number}"))
        time.now += 1
    assert len(heard) <= 612
    assert heard.standing("s9999", "j", time.now) is Standing.REVOKED
    assert heard.standing("s9390", "j", time.now) is Standing.REVOKED
    assert heard.standing("s9000", "j", time.now) is Standing.LIVE


def test_a_store_in_this_process_is_silent_for_good() -> None:
    place = Place()
    place.tokens.listen()
    place.hear(Notice("watching", for_good=True))
    place.time.now += 3600
    assert place.tokens.verify(place.tokens.issue("ada").access_token).sub == "ada"


def test_without_listening_the_store_is_asked() -> None:
    place = Place()
    token = place.tokens.issue("ada").access_token
    assert place.tokens.verify(token).sub == "ada"
    place.sessions.of("ada").end_all()
    assert place.tokens.verify(token).sub == "ada"  # documented: good until it expires
    assert place.why(token, "authenticate") == "revoked"
    place.store.down = True
    with pytest.raises(StoreUnavailable):
        place.tokens.authenticate(token)


def test_a_session_that_passed_to_another_user_is_not_this_tokens() -> None:
    place = Place()
    token = place.tokens.issue("ada").access_token
    claims = place.tokens.verify(token)
    assert run_now(place.tokens._grants.lives(str(claims.sid), "ada", claims.jti))
    assert not run_now(place.tokens._grants.lives(str(claims.sid), "eve", claims.jti))
    place.sessions.end(str(claims.sid))
    assert place.why(token, "authenticate") == "revoked"


def test_a_real_store_tells_it_all() -> None:
    """Memory's own watch, end to end."""
    time = Time()
    sessions = SessionManager("memory:", clock=time.clock)
    tokens = Tokens(sessions, keys=KeyRing([Key.generate("HS256")]), issuer="i", audience="a")
    stop = tokens.listen()
    time.now += 60
    pair = tokens.issue("ada")
    assert tokens.verify(pair.access_token).sub == "ada"
    assert tokens.revoke(pair.refresh_token)
    with pytest.raises(InvalidToken) as caught:
        tokens.verify(pair.access_token)
    assert caught.value.reason == "revoked"
    stop()


@pytest.mark.parametrize(
    ("terms", "said"), [({"max_lag": 5}, "more than 5 seconds"), ({"when_unsure": "hope"}, "check_store")]
)
def test_bad_settings(terms: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Place(**terms)
