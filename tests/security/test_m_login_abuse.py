"""Section M of the security checklist: login abuse. Each test is named after its line.

The login page is `/signin` of the rig, with a real hasher made cheap, and every default of `LoginThrottle`: 60 attempts in 15
minutes from an address; on an account 10, then a wait of a minute, 10 more, two minutes…; 100 in a row.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from coatcheck import (
    AsyncSessionManager,
    Clock,
    CookieSettings,
    InvalidToken,
    OutsideRequest,
    PasswordTooLong,
    SessionManager,
    StoreUnavailable,
    Throttled,
    UsageError,
)
from coatcheck.core.counters import Counters
from coatcheck.core.signing import KeyRing, normalise
from coatcheck.exchange import Arrival, Exchange
from coatcheck.security import known_device
from coatcheck.security.buckets import bucket, normalised, place
from coatcheck.throttling import LoginThrottle, PasswordCheck, RateLimit
from coatcheck.tokens import Key, Tokens
from coatcheck.tokens import KeyRing as TokenKeys
from tests.patience import PATIENT
from tests.security.conftest import Make
from tests.security.pages import CHECK, HASHER, RIGHT
from tests.security.rig import NAME, OTHER_SECRET, SECRET, Browser, Response, Sent, Site, stranger
from tests.security.timing import is_level
from tests.stores.tally_places import KINDS, url_of

DEVICE = "__Host-device"
DAY = 86_400


def address(number: int) -> str:
    """One of many addresses."""
    return f"198.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def sign_in(
    site: Site, user: str = "ada", password: str = "guess", peer: str = "203.0.113.9", **more: Any
) -> Response:
    return site.post(f"/signin?user={quote(user)}&password={quote(password)}", peer=peer, **more)


def guess(site: Site, times: int, *, user: str = "ada", first: int = 0) -> list[Response]:
    """Wrong passwords, each from an address of its own."""
    return [sign_in(site, user, peer=address(first + number)) for number in range(times)]


def statuses(answers: list[Response]) -> list[int]:
    return [answer.status for answer in answers]


def at_home(site: Site) -> Browser:
    """A browser in which ada has logged in before."""
    browser = site.browser()
    assert browser.post(f"/signin?user=ada&password={quote(RIGHT)}").status == 200
    browser.post("/logout")
    assert set(browser.jar) == {DEVICE}
    return browser


def exhaust(site: Site) -> int:
    """Guess until the hard cap is reached, waiting as told; returns how many passwords were looked at."""
    looked = 0
    for number in range(1000):
        answer = sign_in(site, peer=address(number))
        if answer.status == 401:
            looked += 1
        elif answer.retry_after > 4 * 3600:
            return looked
        else:
            site.time += answer.retry_after
    raise AssertionError("no end of guessing")


# --------------------------------------------------------------------------------------------------------- 188 to 190


def test_line_188_a_hundred_failures_in_a_row_and_no_stranger_is_verified_any_more(site: Site) -> None:
    home = at_home(site)
    assert exhaust(site) == 100
    before = HASHER.runs
    site.time += DAY
    assert sign_in(site, password=RIGHT, peer="192.0.2.1").status == 429
    assert HASHER.runs == before
    # From where she is known, ada comes in; that is no recovery for strangers.
    assert home.post(f"/signin?user=ada&password={quote(RIGHT)}").status == 200
    assert sign_in(site, password=RIGHT, peer="192.0.2.1").status == 429
    # The recovery: she has shown by other means who she is.
    LoginThrottle(site.store.inner, clock=site.time.clock).unlock("Ada ")
    assert sign_in(site, password=RIGHT, peer="192.0.2.1").status == 200


def test_line_188_waits_grow_and_are_told(site: Site) -> None:
    waits = []
    for number in range(60):
        answer = sign_in(site, peer=address(number))
        if answer.status == 429:
            waits.append(answer.retry_after)
            site.time += waits[-1]
    assert waits == [60, 120, 240, 480, 960]


def test_line_188_a_success_begins_the_row_anew(site: Site) -> None:
    for number in range(12):
        assert statuses(guess(site, 9, first=number * 9)) == [401] * 9
        assert sign_in(site, password=RIGHT, peer=address(number)).status == 200


def test_line_189_one_address_with_many_names_is_stopped(site: Site) -> None:
    found = statuses([sign_in(site, f"user{number}") for number in range(100)])
    assert found == [401] * 60 + [429] * 40
    assert sign_in(site, peer="192.0.2.1").status == 401
    site.time += 15 * 60
    assert sign_in(site, "user1000").status == 401


def test_line_189_many_addresses_with_one_name_are_stopped(site: Site) -> None:
    assert statuses(guess(site, 200)) == [401] * 10 + [429] * 190


def test_line_189_three_typing_errors_are_nothing(site: Site) -> None:
    assert statuses([sign_in(site) for _ in range(3)]) == [401] * 3
    assert sign_in(site, password=RIGHT).status == 200


def test_line_190_a_known_device_comes_in_at_the_first_try(site: Site) -> None:
    home = at_home(site)
    assert guess(site, 11)[-1].status == 429
    answer = home.post(f"/signin?user=ada&password={quote(RIGHT)}", peer="192.0.2.9")
    assert (answer.status, answer.text) == (200, "welcome ada")
    assert guess(site, 1, first=50)[-1].status == 429  # and the strangers' count is as it was


def test_line_190_the_device_cookie_is_as_strict_as_the_sessions(site: Site) -> None:
    (line,) = [line for line in sign_in(site, password=RIGHT).cookies if line.startswith(DEVICE)]
    attributes = set(line.split("; ")[1:])
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/", f"Max-Age={90 * DAY}"} <= attributes
    assert "ada" not in line
    assert sign_in(site, password="guess").cookies == []
    # Over plain HTTP none is sent, and on loopback HTTP one without the prefix.
    site.expected = (Exception,)
    plain = sign_in(site, password=RIGHT, scheme="http")
    assert [line for line in plain.cookies if "device" in line] == []


def test_line_190_a_device_cookie_is_useless_alone(site: Site) -> None:
    home = at_home(site)
    assert home.get("/me").status == 401
    for _ in range(10):
        assert home.post("/signin?user=ada&password=guess").status == 401
    # Used up: now it counts with the strangers, and those are not.
    assert statuses([home.post("/signin?user=ada&password=guess") for _ in range(11)]) == [401] * 10 + [429]


def test_line_190_a_device_cookie_is_of_one_account(site: Site) -> None:
    home = at_home(site)
    guess(site, 10, user="eve")
    assert home.post(f"/signin?user=eve&password={quote(RIGHT)}").status == 429
    site.time += 60
    # A browser is known for several accounts.
    assert home.post(f"/signin?user=eve&password={quote(RIGHT)}").status == 200
    guess(site, 10, user="eve", first=100)
    guess(site, 10, user="ada", first=200)
    for user in ("ada", "eve"):
        assert home.post(f"/signin?user={user}&password={quote(RIGHT)}").status == 200


@pytest.mark.parametrize("change", ["flip", "cut", "other", "double", "junk"])
def test_line_190_a_forged_device_is_a_stranger(site: Site, change: str) -> None:
    home = at_home(site)
    value = home.jar[DEVICE]
    flipped = value[:-1] + ("A" if value[-1] != "A" else "B")
    ring = KeyRing(normalise(OTHER_SECRET), purpose="device cookie")
    forged = known_device.renew(b"", bucket("ada"), ring, known=None, now=site.time.now)
    cookie = {
        "flip": f"{DEVICE}={flipped}",
        "cut": f"{DEVICE}={value[:-10]}",
        "other": f"{DEVICE}={forged}",
        "double": f"{DEVICE}={value}; {DEVICE}={forged}",
        "junk": f"{DEVICE}={'.' * 5000}",
    }[change]
    guess(site, 10)
    assert sign_in(site, password=RIGHT, cookie=cookie.encode()).status == 429


def test_line_190_devices_can_be_revoked_and_grow_old(site: Site) -> None:
    home = at_home(site)
    site.time += 1
    LoginThrottle(site.store.inner, clock=site.time.clock).forget_devices("ada")
    guess(site, 10)
    assert home.post(f"/signin?user=ada&password={quote(RIGHT)}").status == 429
    site.time += 60
    assert home.post(f"/signin?user=ada&password={quote(RIGHT)}").status == 200  # and is known again
    guess(site, 10, first=100)
    assert home.post(f"/signin?user=ada&password={quote(RIGHT)}").status == 200
    site.time += 90 * DAY
    guess(site, 10, first=200)
    assert home.post(f"/signin?user=ada&password={quote(RIGHT)}").status == 429


# --------------------------------------------------------------------------------------------------------- 191 and 192


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = url_of(request.param, tmp_path, request)
    with SessionManager(url, outage=PATIENT) as sessions:
        sessions.setup()
    return url


def crowd(url: str) -> int:
    """How many at once: 500, or fewer where one row under 500 writers takes half a minute. `slow`: 500 everywhere."""
    return 500 if url.partition(":")[0] in ("memory", "sqlite", "redis", "postgresql") else 100


async def attack(url: str, attempts: int) -> int:
    """So many wrong logins at once; returns how many passwords were looked at."""
    account, throttle, verified = str(uuid4()), LoginThrottle(url, **patience(url)), list[int]()

    async def attempt(number: int) -> None:
        try:
            async with throttle.attempt(address(number), account=account):
                verified.append(number)
        except Throttled:
            pass

    await asyncio.gather(*(attempt(number) for number in range(attempts)))
    await throttle.aclose()
    return len(verified)


def attack_blocking(url: str, attempts: int) -> int:
    """The same in threads."""
    account, throttle, verified = str(uuid4()), LoginThrottle(url, **patience(url)), list[int]()

    def attempt(number: int) -> None:
        try:
            with throttle.attempt(address(number), account=account):
                verified.append(number)
        except Throttled:
            pass

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(attempt, range(attempts)))
    throttle.close()
    return len(verified)


def test_line_191_of_500_at_once_at_most_the_limit_is_verified(url: str) -> None:
    assert asyncio.run(attack(url, crowd(url))) == 10
    assert attack_blocking(url, 100) == 10


@pytest.mark.slow
def test_line_191_of_500_at_once_also_where_one_row_is_slow(url: str) -> None:
    assert asyncio.run(attack(url, 500)) == 10
    assert attack_blocking(url, 500) == 10


def patience(url: str) -> dict[str, Any]:
    return {"outage": PATIENT} if "://" in url and not url.startswith("sqlite") else {}


def test_line_191_counted_before_it_is_verified(site: Site) -> None:
    """While ten passwords are looked at, an eleventh is refused: not once they were found wrong."""
    throttle = LoginThrottle(site.store.inner, clock=site.time.clock)
    entries = [throttle.attempt(address(number), account="ada") for number in range(11)]
    for entry in entries[:10]:
        entry.__enter__()
    with pytest.raises(Throttled):
        entries[10].__enter__()


def test_line_192_a_good_login_of_ones_own_resets_no_other_account(site: Site) -> None:
    for number in range(10):
        assert sign_in(site, "ada", peer=address(number)).status == 401
        assert sign_in(site, "eve", RIGHT, peer=address(number)).status == 200
    assert sign_in(site, "ada", peer="192.0.2.1").status == 429


def test_line_192_a_good_login_of_ones_own_resets_no_address(site: Site) -> None:
    for number in range(59):
        assert sign_in(site, f"user{number}").status == 401
        assert sign_in(site, "eve", RIGHT).status == 200
    assert [sign_in(site, "user60").status, sign_in(site, "user61").status] == [401, 429]
    assert sign_in(site, "eve", RIGHT).status == 429


def test_line_192_an_exception_is_no_success(site: Site) -> None:
    throttle = LoginThrottle(site.store.inner, clock=site.time.clock, by_account="1/minute")

    def break_down() -> None:
        with throttle.attempt("192.0.2.1", account="ada") as attempt:
            attempt.succeeded = True
            raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        break_down()
    with pytest.raises(Throttled), throttle.attempt("192.0.2.1", account="ada"):
        pass


# --------------------------------------------------------------------------------------------------------------- 193


def test_line_192_what_is_neither_yes_nor_no_is_a_failure_and_an_error(site: Site) -> None:
    async def verify() -> bool:
        return False

    throttle, verdict = LoginThrottle(site.store.inner, clock=site.time.clock), verify()
    said: Any = verdict  # somebody forgot to await it

    def log_in() -> None:
        with throttle.attempt("192.0.2.1", account="ada") as attempt:
            attempt.succeeded = said

    with pytest.raises(UsageError, match=r"attempt.succeeded is a coroutine: set it to True or False"):
        log_in()
    verdict.close()


def test_line_193_one_network_of_ipv6_is_one_address(site: Site) -> None:
    answers = [
        sign_in(site, f"user{number}", peer=f"2001:db8:1:2:{number:x}::{number:x}") for number in range(70)
    ]
    assert statuses(answers) == [401] * 60 + [429] * 10
    assert sign_in(site, "user1", peer="2001:db8:1:3::1").status == 401


def test_line_193_every_spelling_of_an_address_is_one() -> None:
    spellings = [
        "203.0.113.9", "::ffff:203.0.113.9", "::FFFF:cb00:7109", "[::ffff:203.0.113.9]:4711", "203.0.113.9:80",
        " 203.0.113.9 ", "0:0:0:0:0:ffff:203.0.113.9",
    ]  # fmt: skip
    assert {place(spelling, 64) for spelling in spellings} == {"203.0.113.9"}
    assert place("2001:DB8::1", 64) == place("2001:db8:0:0:ffff::%eth0", 64) == "2001:db8::/64"
    assert place("2001:db8:0:1::1", 48) == place("2001:db8:0:2::1", 48) != place("2001:db8:1::1", 48)
    assert place("::1", 64) == "::/64"
    assert place("unix:", 64) == place("", 64) == "unknown"


def test_line_105_only_a_trusted_proxy_says_whose_attempt_it_is(make: Make) -> None:
    site = make(proxy="10.0.0.0/8")

    def forwarded(peer: str, said: str, number: int) -> int:
        headers = [(b"x-forwarded-for", said.encode())]
        return sign_in(site, f"user{number}", peer=peer, headers=headers).status

    # Whatever an untrusted peer says, it is one bucket…
    assert [forwarded("203.0.113.9", address(n), n) for n in range(61)] == [401] * 60 + [429]
    # …and behind a trusted proxy the last hop counts that is none.
    assert [forwarded("10.1.1.1", f"{address(n)}, 198.51.100.7", n) for n in range(61)] == [401] * 60 + [429]
    assert forwarded("10.1.1.1", "198.51.100.7, 198.51.100.8, 10.2.2.2", 1) == 401


# --------------------------------------------------------------------------------------------------------- 194 to 196


def test_line_194_a_blocked_attempt_is_429_and_hashes_nothing(site: Site) -> None:
    guess(site, 10)
    before = HASHER.runs
    answer = sign_in(site, password=RIGHT, peer="192.0.2.1")
    assert (answer.status, answer.retry_after, answer.cookies) == (429, 60, [])
    assert (HASHER.runs, site.rows(), "no-store" in answer.cache) == (before, 0, True)


def test_line_194_a_blocked_attempt_costs_less_than_a_millisecond(make: Make) -> None:
    site = make()
    guess(site, 10)
    blocked = [Sent("POST", "/signin?user=ada&password=guess", peer="192.0.2.1") for _ in range(50)]

    def cost() -> float:
        began = time.process_time()
        assert {answer.status for answer in site.flood(blocked)} == {429}
        return (time.process_time() - began) / len(blocked)

    assert min(cost() for _ in range(5)) < 0.001


NAMES = ["nobody", "ada", "disabled", "passkeys-only"]


def test_line_195_nobody_can_tell_accounts_apart_by_what_is_answered(site: Site) -> None:
    answers = {
        (answer.status, tuple(answer.headers), answer.body)
        for name in NAMES
        for answer in [sign_in(site, name, peer=address(NAMES.index(name)))]
    }
    assert len(answers) == 1
    # And they are throttled alike.
    blocked = set()
    for name in NAMES:
        guess(site, 9, user=name)
        answer = sign_in(site, name)
        blocked.add((answer.status, tuple(answer.headers), answer.body))
    assert len(blocked) == 1
    assert next(iter(blocked))[0] == 429


def test_line_195_one_hash_is_computed_whoever_it_is_for(site: Site) -> None:
    for name in NAMES:
        before = HASHER.runs
        sign_in(site, name, peer=address(NAMES.index(name)))
        assert HASHER.runs == before + 1


def test_line_195_nobody_can_tell_accounts_apart_by_the_time_it_takes() -> None:
    stored = HASHER.hash(RIGHT)
    assert is_level(lambda given: CHECK(given, "guess"), [stored], [None], rounds=300)


def test_line_195_an_account_without_a_password_lets_nobody_in() -> None:
    everything = PasswordCheck(lambda password: "hash", lambda stored, password: True)
    assert everything("hash", "x") is True
    assert everything(None, "x") is everything("", "x") is False


@pytest.mark.parametrize("name", ["Admin", "admin ", "\uff21dmin", "ad\u200bmin", "\tADMIN", "a\u00addmin"])
def test_line_196_one_account_has_one_count_however_it_is_written(site: Site, name: str) -> None:
    guess(site, 10, user="admin")
    assert sign_in(site, name, peer="192.0.2.1").status == 429


def test_line_196_names_are_normalised_once() -> None:
    assert normalised("\u212aelvin\uff20example.com") == "kelvin@example.com"
    assert normalised("STRASSE") == normalised("stra\u00dfe") == "strasse"
    for name in ("\u212a", "\u0130I\u0131", "\u1e9e", "\ufb03", "\ud800", "\u0345\u0399"):
        assert normalised(normalised(name)) == normalised(name)
    assert len(normalised("x" * 1_000_000)) == 1024


# --------------------------------------------------------------------------------------------------------- 197 to 200


def test_line_197_a_long_password_is_refused_before_it_is_hashed(site: Site) -> None:
    before = HASHER.runs
    answer = sign_in(site, password="x" * 1_000_000)
    assert (answer.status, answer.body) == (400, b"The password is too long.\n")
    assert HASHER.runs == before


def test_line_197_octets_count_and_refusing_is_quick() -> None:
    huge = "x" * 1_000_000
    began = time.process_time()
    with pytest.raises(PasswordTooLong):
        CHECK(None, huge)
    assert time.process_time() - began < 0.005
    with pytest.raises(PasswordTooLong):
        CHECK(None, "\U0001f40e" * 257)
    assert CHECK(None, "\U0001f40e" * 256) is False


def test_line_198_a_flood_of_names_pushes_out_no_one_who_is_blocked() -> None:
    counters = Counters(2_000)
    for _ in range(10):
        counters.add("blocked", window=3600, now=0.0)
    for number in range(60_000):
        counters.add(f"name{number}", window=3600, now=0.0)
    assert len(counters) <= 2_000
    assert counters.look("blocked", now=0.0).total == 10


def test_line_198_what_is_counted_is_forgotten(site: Site) -> None:
    guess(site, 10)
    site.time += 31 * DAY
    site.admin.sweep()
    assert statuses(guess(site, 10)) == [401] * 10


def test_line_199_codes_count_with_the_passwords_and_work_once(site: Site) -> None:
    throttle = LoginThrottle(site.store.inner, clock=site.time.clock)
    used = 0
    with throttle.attempt("192.0.2.1", account="ada") as attempt:
        used += attempt.once("123456")
        used += attempt.once("123456")
        assert attempt.once("654321")
    with throttle.attempt("192.0.2.2", account="bob") as attempt:
        assert attempt.once("123456")  # of another account
    assert used == 1
    site.time += 601
    with throttle.attempt("192.0.2.1", account="ada") as attempt:
        assert attempt.once("123456", lasts="2m")


def test_line_199_the_right_password_does_not_begin_the_row_of_codes_anew(site: Site) -> None:
    throttle = LoginThrottle(site.store.inner, clock=site.time.clock)
    codes = 0
    for number in range(30):
        try:
            with throttle.attempt(address(number), account="ada") as password:
                password.continues = True
            with throttle.attempt(address(number), account="ada"):
                codes += 1
        except Throttled:
            pass
    assert codes == 10
    for _ in range(30):  # and the right password alone counts for nothing
        with throttle.attempt("192.0.2.1", account="bob") as password:
            password.continues = True


def test_line_199_of_100_codes_at_once_at_most_the_cap_is_verified_and_one_is_taken(site: Site) -> None:
    throttle = LoginThrottle(site.store.inner, clock=site.time.clock)
    verified = []

    def attempt(number: int) -> None:
        try:
            with throttle.attempt(address(number), account="ada") as attempt:
                verified.append(attempt.once("123456"))
        except Throttled:
            pass

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(attempt, range(100)))
    assert sorted(verified) == [False] * 9 + [True]


def test_line_200_refreshing_is_limited_before_the_store_is_asked(tmp_path: Path) -> None:
    clock = Clock(lambda: 1_800_000_000.0, lambda: 0.0)
    site = Site("wsgi", "memory", tmp_path / "unused")
    tokens: Tokens[Any] = Tokens(
        site.admin, keys=TokenKeys([Key.generate("HS256")]), issuer="i", audience="a"
    )
    limit = RateLimit("60/minute", name="refresh", clock=clock)
    session = site.app.sessions.session()
    session._exchange, session._describe = site.exchange, arrival
    looked = 0
    for _ in range(10_000):
        session._more = ()
        try:
            limit.check(session)
        except Throttled:
            continue
        looked += 1
        with pytest.raises(InvalidToken):
            tokens.refresh(str(uuid4()))
    site.close()
    assert looked == 60


def test_line_200_token_endpoints_ask_for_the_seconds_to_wait(site: Site) -> None:
    limit = RateLimit("2/minute", name="refresh", store=site.store.inner, clock=site.time.clock)
    waits = [limit.wait("203.0.113.9") for _ in range(3)]
    assert waits == [None, None, 60]
    assert limit.wait("192.0.2.1") is None
    assert asyncio.run(limit.await_turn("::ffff:203.0.113.9")) == 60
    in_the_sessions = RateLimit("2/minute", name="refresh")
    assert in_the_sessions.wait("203.0.113.9", flows=site.admin.flows) == 60
    with pytest.raises(UsageError, match="no request, and no store"):
        RateLimit("2/minute").wait("203.0.113.9")


def arrival() -> Arrival:
    return Arrival("https", peer="203.0.113.9")


# ----------------------------------------------------------------------------------------------------- 118, 123 and 42


def test_line_118_without_its_counters_a_login_is_503_and_a_limited_page_goes_on(site: Site) -> None:
    site.store.fail("tally", "tallied", "end_tally")
    before = HASHER.runs
    answer = sign_in(site, password=RIGHT)
    assert (answer.status, answer.cookies, HASHER.runs) == (503, [], before)
    assert site.get("/limited").status == 200
    assert {event.name for event in site.heard("limiter.down")} == {"limiter.down"}
    site.store.recover()
    assert sign_in(site, password=RIGHT).status == 200


class Gone:
    """A store that cannot be reached."""

    async def tally(self, key: str, **more: Any) -> Any:
        raise StoreUnavailable("no route to the store")

    async def tallied(self, key: str, **more: Any) -> Any:
        raise StoreUnavailable("no route to the store")

    async def end_tally(self, key: str) -> None:
        raise StoreUnavailable("no route to the store")


def test_line_118_each_policy_is_what_was_asked_for() -> None:
    told: list[Any] = []

    def guesses(policy: Any) -> int:
        store: Any = Gone()
        throttle = LoginThrottle(store, when_down=policy, on_event=told.append)
        looked = 0
        for _ in range(20):
            try:
                with throttle.attempt("192.0.2.1", account="ada"):
                    looked += 1
            except (Throttled, StoreUnavailable):
                pass
        return looked

    assert (guesses("refuse"), guesses("allow"), guesses("local")) == (0, 20, 10)
    assert {event.name for event in told} == {"limiter.down", "login.throttled"}


def test_line_123_an_address_may_begin_so_many_sessions_and_no_more(make: Make) -> None:
    site = make(max_created="5/hour")
    answers = [site.post("/set") for _ in range(8)]
    assert statuses(answers) == [200] * 5 + [429] * 3
    assert [bool(answer.cookies) for answer in answers] == [True] * 5 + [False] * 3
    assert (site.rows(), answers[-1].retry_after) == (5, 3600)
    # Whoever has a session goes on, whoever logs in gets one, and other addresses are not concerned.
    assert site.post("/set", answers[0].cookie).status == 200
    assert site.post("/login?user=ada").status == 200
    assert site.post("/set", peer="192.0.2.1").status == 200
    site.time += 3600
    assert site.post("/set").status == 200


def test_line_123_a_request_with_a_session_pays_nothing_for_the_cap(make: Make) -> None:
    site = make(max_created="5/hour")
    cookie = site.post("/set").cookie
    site.store.told()
    site.get("/read", cookie)
    site.post("/set?v=2", cookie)
    site.get("/pub")
    assert site.store.told() == ["load", "load", "replace"]


@pytest.mark.parametrize("what", ["forged", "unknown"])
def test_line_123_ids_of_nobody_are_counted_by_address(make: Make, what: str) -> None:
    site = make(max_strange="5/minute")

    def bring(peer: str = "203.0.113.9", page: str = "/read") -> int:
        cookie = f"{NAME}={'A' * 101}".encode() if what == "forged" else stranger()
        return site.get(page, cookie, peer=peer).status

    assert [bring() for _ in range(7)] == [200] * 5 + [429] * 2
    assert bring(page="/pub") == 200  # a page that does not look at its session
    assert (site.get("/read").status, bring(peer="192.0.2.1")) == (200, 200)
    site.time += 60
    assert bring() == 200


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by_address": "often"}, "by_address='often': give a number and a time, such as '100/minute'"),
        ({"by_account": 5}, "by_account=5: give a number and a time"),
        ({"by_account": "0/minute"}, "by_account='0/minute': give at least 1"),
        ({"by_account": "200/minute"}, "by_account='200/minute': more at once than cap=100"),
        ({"cap": 101}, "cap=101: give a whole number from 1 to 100 .NIST"),
        ({"ipv6_prefix": 16}, "ipv6_prefix=16: give a whole number from 32 to 128"),
        ({"longest_wait": "5s"}, "longest_wait='5s' is shorter than the first"),
        ({"remember": "long"}, "remember='long': give a number and s, m, h or d"),
        ({"device_limit": True}, "device_limit=True: give a whole number"),
        ({"when_down": "open"}, "when_down='open': give one of 'refuse', 'allow', 'local'"),
        ({"store": object()}, "object has no counters .Tallies.: give the limit a store= of its own"),
        ({"outage": PATIENT}, "outage=Outage.* is for a store that is given as a URL"),
    ],
)
def test_line_189_a_wrong_setting_is_refused_at_start_up(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LoginThrottle(**options)


def test_line_189_without_a_session_the_way_out_is_said() -> None:
    with pytest.raises(OutsideRequest, match="install that, around whatever is limited"):
        LoginThrottle("memory:").attempt({"type": "http"}, account="ada")
    with (
        pytest.raises(UsageError, match="no request, and no store"),
        LoginThrottle().attempt("::1", account="a"),
    ):
        pass
    waiting = AsyncSessionManager("memory:").session()
    waiting._exchange, waiting._describe = Exchange(CookieSettings(), SECRET), arrival
    with pytest.raises(UsageError, match="say `async with`"), LoginThrottle().attempt(waiting, account="ada"):
        pass
    with pytest.raises(UsageError, match="or `await`, in an `async def`"):
        RateLimit("1/minute").check(waiting)
    nameless: Any = None
    with pytest.raises(UsageError, match="account=NoneType: give the name that was typed"):
        LoginThrottle("memory:").attempt("::1", account=nameless)
    for wrong in ({"by": "ip"}, {"name": "a b"}, {"ipv6_prefix": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            RateLimit("1/minute", **wrong)
    with pytest.raises(ValueError, match="longest=8: give 64 octets or more"):
        PasswordCheck(str.encode, lambda stored, password: True, longest=8)


def test_line_201_no_name_and_no_address_is_in_a_key_or_an_event(site: Site) -> None:
    guess(site, 11, user="ada@example.com")
    told = [event.detail for event in site.heard("login.throttled")]
    assert len(told) == 1
    assert "ada" not in told[0]
    assert "198." not in told[0]
    if site.kind == "sqlite":
        assert b"ada@example" not in site.dump()
        assert b"198.0." not in site.dump()
