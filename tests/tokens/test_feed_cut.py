"""The feed of revocations, cut off by a proxy before a real server: past the stated lag nothing unsure is let in (175, 118)."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coatcheck import Clock, InvalidToken, SessionManager, StoreUnavailable
from coatcheck.tokens import Tokens
from tests.patience import PATIENT
from tests.tokens.proxy import Proxy, before
from tests.tokens.workers import KEYS, here

SECONDS = 60
"""Until the store's own thread must have done what it does."""


class Place:
    """Tokens over a server behind a proxy; a clock to move on; and the way round it, for whoever revokes elsewhere."""

    def __init__(self, kind: str, server: Any, proxy: Proxy, policy: Any) -> None:
        self.proxy, self.ahead = proxy, 0.0
        clock = Clock(monotonic=lambda: time.monotonic() + self.ahead)
        url = server.url.replace(str(server.port), str(proxy.port))
        self.sessions = SessionManager(url, clock=clock, outage=PATIENT)
        self.tokens: Tokens = Tokens(
            self.sessions, keys=KEYS, issuer="i", audience="a", leeway=0, max_lag=6, when_unsure=policy
        )
        self.elsewhere = here(server.url)
        self.elsewhere.sessions.setup()
        self.stop = self.tokens.listen()

    def why(self, token: str, how: str = "verify") -> str:
        try:
            getattr(self.tokens, how)(token)
        except InvalidToken as error:
            return error.reason
        except StoreUnavailable:
            return "unavailable"
        return "let in"

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the store's own thread does."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < SECONDS
            time.sleep(
                0.01
            )  # that thread is the driver's: it offers nothing to wait on, and no clock to move

    def a_sure_token(self) -> Any:
        """One from after the feed began, whose session the feed knows to live."""
        pairs = list[Any]()

        def issue() -> bool:
            pairs.append(self.elsewhere.issue("ada"))
            return self.why(pairs[-1].access_token) == "let in"

        self.until(issue)  # one of the second in which the feed began is unsure
        return pairs[-1]

    def close(self) -> None:
        self.stop()
        self.proxy.heal()
        self.elsewhere.sessions.close()
        self.sessions.close()


@pytest.fixture(params=["redis", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["check_store", "fail_closed"])
def place(request: pytest.FixtureRequest, kind: str) -> Iterator[Place]:
    server = request.getfixturevalue(f"{kind}_server")
    with before(server.port) as proxy:
        made = Place(kind, server, proxy, request.param)
        yield made
        made.close()


def test_past_the_stated_lag_the_policy_applies(place: Place) -> None:
    """Silence: the connection is there and says nothing. The session ends elsewhere, and nobody here hears of it."""
    policy = place.tokens._when_unsure
    pair = place.a_sure_token()
    place.proxy.silence(feed_only=True)
    assert place.elsewhere.revoke(pair.refresh_token)
    place.ahead += 6.1
    assert place.why(pair.access_token) == "unsure"
    assert place.why(pair.access_token, "authenticate") == {
        "check_store": "revoked", "fail_closed": "unsure",
    }[policy]  # fmt: skip
    # With the store out of reach too, it is an outage, and nobody is let in.
    other = place.elsewhere.issue("eve")
    place.proxy.refuse()
    assert place.why(other.access_token) == "unsure"
    assert place.why(other.access_token, "authenticate") == {
        "check_store": "unavailable", "fail_closed": "unsure",
    }[policy]  # fmt: skip


def test_a_feed_that_is_cut_and_mended_knows_what_it_missed(place: Place) -> None:
    if place.tokens._when_unsure == "fail_closed":
        place.tokens._when_unsure = "check_store"
    pair, stays = place.a_sure_token(), place.elsewhere.issue("eve")
    place.proxy.silence(feed_only=True)
    place.elsewhere.revoke(pair.refresh_token)
    place.proxy.cut()
    place.until(lambda: place.why(stays.access_token) == "unsure")  # the store has said that it is lost
    place.proxy.heal()
    place.until(lambda: place.why(stays.access_token, "authenticate") == "let in")
    assert place.why(pair.access_token, "authenticate") == "revoked"
    place.a_sure_token()
