"""Revocation without I/O: what the feed heard is refused at once, what it may have missed is not taken for granted (175-177)."""

import tracemalloc
from typing import Any

import pytest

from coatcheck import ConfigurationError, InvalidToken, Notice, SessionManager, StoreUnavailable
from coatcheck.core.ports import EVERYONE
from coatcheck.core.stepping import run_now
from coatcheck.stores.memory import MemoryStore
from coatcheck.tokens import Key, KeyRing, Tokens
from coatcheck.tokens.family import family_of
from coatcheck.tokens.feed import ROOM, RevocationFeed, Standing
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


# ---- one access token; too many endings; everyone's


def test_one_access_token_is_revoked_and_its_login_goes_on() -> None:
    place = Place()
    pair = place.tokens.issue("ada")
    other = place.tokens.refresh(pair.refresh_token)
    assert place.tokens.revoke_access(pair.access_token)
    assert not place.tokens.revoke_access(pair.access_token)
    assert place.why(pair.access_token, "authenticate") == "revoked"
    assert place.why(pair.access_token, "inspect") == "revoked"
    assert place.tokens.authenticate(other.access_token).sub == "ada"
    following = place.tokens.refresh(other.refresh_token)  # and a refresh forgets nothing
    assert place.why(pair.access_token, "authenticate") == "revoked"
    assert place.tokens.authenticate(following.access_token).sub == "ada"
    assert len(place.sessions.of("ada").list()) == 1


def test_a_revoked_token_is_remembered_as_long_as_it_could_be_used() -> None:
    place = Place()
    pair = place.tokens.issue("ada")
    place.tokens.revoke_access(pair.access_token)
    (device,) = place.sessions.of("ada").list()

    def remembered() -> list[str]:
        record: Any = run_now(place.store.load(device.handle, now=place.time.now))
        return list(family_of(record).revoked)  # type: ignore[union-attr]

    place.time.now += 600 + 9.9  # its life and the leeway
    assert place.why(pair.access_token, "authenticate") == "revoked"
    pair = place.tokens.refresh(pair.refresh_token)
    place.tokens.revoke_access(pair.access_token)
    assert len(remembered()) == 2
    place.time.now += 0.2
    pair = place.tokens.refresh(pair.refresh_token)
    place.tokens.revoke_access(pair.access_token)
    assert len(remembered()) == 2


def test_to_revoke_a_token_moves_no_deadline() -> None:
    place = Place()
    pair = place.tokens.issue("ada")
    before = place.sessions.of("ada").list()[0]
    place.time.now += 300
    place.tokens.revoke_access(pair.access_token)
    after = place.sessions.of("ada").list()[0]
    assert (after.expires_at, after.last_seen_at) == (before.expires_at, before.last_seen_at)


def test_too_many_revoked_tokens_of_one_login_end_it() -> None:
    place = Place()
    pair = place.tokens.issue("ada")
    for _ in range(64):
        assert place.tokens.revoke_access(pair.access_token)
        pair = place.tokens.refresh(pair.refresh_token)
    assert place.tokens.revoke_access(pair.access_token)
    assert place.sessions.of("ada").list() == []
    assert not place.tokens.revoke_access(pair.access_token)


def test_a_token_that_is_not_ours_revokes_nothing() -> None:
    place, other = Place(), Place()
    for token in ("x", other.tokens.issue("ada").access_token):
        with pytest.raises(InvalidToken):
            place.tokens.revoke_access(token)


def test_a_revoked_token_is_told_to_whoever_watches() -> None:
    """Memory's own watch: two services over one store, as two processes over one server."""
    time, store = Time(), MemoryStore()
    keys = KeyRing([Key.generate("HS256")])
    here, there = (
        Tokens(SessionManager(store, clock=time.clock), keys=keys, issuer="i", audience="a") for _ in range(2)
    )
    stops = [service.listen() for service in (here, there)]
    time.now += 60
    gone, stays = here.issue("ada").access_token, here.issue("ada").access_token
    here.revoke_access(gone)
    for service in (here, there):
        with pytest.raises(InvalidToken, match="revoked"):
            service.verify(gone)
        assert service.verify(stays).sub == "ada"
    for stop in stops:
        stop()


def test_a_revocation_whose_bell_was_lost_rings_again() -> None:
    class Mute(Told):
        mute = False

        async def create(self, record: Any, *, now: float) -> Any:
            if self.mute:
                raise StoreUnavailable("no route to the store")
            return await super().create(record, now=now)

    store = Mute()
    sessions = SessionManager(store)
    tokens = Tokens(sessions, keys=KeyRing([Key.generate("HS256")]), issuer="i", audience="a")
    token = tokens.issue("ada").access_token
    heard = list[Notice]()
    MemoryStore.watch(store, heard.append)
    store.mute = True
    with pytest.raises(StoreUnavailable):
        tokens.revoke_access(token)
    store.mute = False
    assert not tokens.revoke_access(token)
    assert tokens.verifier.verify(token).jti in [notice.key for notice in heard if notice.kind == "ended"]


def test_a_hundred_thousand_revocations_fit_into_the_stated_memory() -> None:
    time = Time()
    tracemalloc.start()
    heard = feed(time)
    heard.hear(Notice("watching", for_good=True))
    for n in range(ROOM):
        heard.hear(Notice("ended", f"{n:024d}"))
        time.now += 0.001
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(heard) == ROOM
    assert used < 25_000_000, used
    assert heard.standing(f"{0:024d}", "j", time.now) is Standing.REVOKED


def test_with_more_endings_than_there_is_room_for_nothing_is_let_in() -> None:
    """A million of them: each that was told of is refused by somebody, and the memory has its bound."""
    time = Time()
    heard = RevocationFeed(
        keep_for=610, max_lag=15, leeway=10, time=time.clock.time, monotonic=time.clock.monotonic, room=1000
    )
    heard.hear(Notice("watching", for_good=True))
    issued = time.now = time.now + 60
    assert heard.standing("s0", "j", issued) is Standing.LIVE
    time.now += 1
    for n in range(10_000):
        heard.hear(Notice("ended", f"s{n}"))
        assert len(heard) <= 1000
        assert heard.standing(f"s{n}", "j", issued) is not Standing.LIVE
    assert heard.standing("s0", "j", issued) is Standing.UNSURE
    time.now += 11
    assert heard.standing("s", "j", time.now) is Standing.LIVE  # issued since
    for n in range(1001):
        heard.found_live(f"j{n}", time.now)
    assert heard.standing("s", "j0", issued) is Standing.UNSURE  # looked up again, rather than remembered


def test_when_everyones_sessions_end_the_store_is_asked_of_every_earlier_token() -> None:
    """Those of the same second too: not the clock tells which came first, but the store, which counts (177)."""
    place = Place()
    place.tokens.listen()
    place.hear(LISTENING)
    place.a_minute()
    before = place.tokens.issue("ada").access_token
    assert place.tokens.verify(before).sub == "ada"
    place.sessions.of("ada").end_all()
    place.hear(Notice("ended", f"{EVERYONE}1"))
    same_second = place.tokens.issue("eve").access_token
    assert place.why(before) == place.why(same_second) == "unsure"
    assert place.why(before, "authenticate") == "revoked"
    assert place.tokens.authenticate(same_second).sub == "eve"
    assert place.tokens.verify(same_second).sub == "eve"
    place.a_minute()
    assert place.tokens.verify(place.tokens.issue("eve").access_token).sub == "eve"


def test_the_end_of_everyones_sessions_is_known_at_once_to_whom_it_was_said() -> None:
    """The process that ends them knows it of its tokens too, and not five seconds later."""
    place = Place()
    before = place.tokens.issue("ada").access_token
    assert place.tokens.authenticate(before).sub == "ada"
    place.sessions.end_everyone()
    assert place.why(before, "authenticate") == "revoked"


@pytest.mark.parametrize(
    ("terms", "said"), [({"max_lag": 5}, "more than 5 seconds"), ({"when_unsure": "hope"}, "check_store")]
)
def test_bad_settings(terms: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Place(**terms)
