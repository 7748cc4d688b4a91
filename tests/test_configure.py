"""The keywords of every adapter: express-session's words, and a clear refusal of everything else at start-up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coatcheck.configure import Configured, configure
from coatcheck.core.cookies import CookieSettings
from coatcheck.core.policy import DAY, Timeouts
from coatcheck.errors import ConfigurationError, WeakSecret
from coatcheck.exchange import Arrival, Channel
from coatcheck.flows import Clock

SECRET = "tests-only-Zt3xk0VbX1qv8m2LwP5rYd7NfQ9sHc4G"
OLDER = "tests-only-Kp8sWq2ZxT5vB9nM4cR7yU1jH6gF3dLa"


def configured(**keywords: Any) -> Configured:
    return configure(SECRET, keywords)


def test_nothing_but_a_secret_is_needed() -> None:
    found = configured()
    assert found.options.timeouts == Timeouts()
    assert found.exchange.settings == CookieSettings()
    assert found.clock == Clock()
    assert found.ids is None


def test_without_a_secret_nothing_starts() -> None:
    with pytest.raises(WeakSecret, match=r"secret is missing.*coatcheck secret"):
        configure(None, {})
    with pytest.raises(WeakSecret, match="secret"):
        configure("keyboard cat", {})
    assert configure("keyboard cat", {"insecure_dev": True}).exchange is not None


def test_the_words_of_express_session() -> None:
    found = configure(
        [SECRET, OLDER],
        {
            "name": "sid",
            "resave": False,
            "save_uninitialized": True,
            "rolling": True,
            "unset": "destroy",
            "genid": lambda: "x" * 24,
            "proxy": "10.0.0.0/8",
            "cookie": CookieSettings(
                path="/shop", domain="shop.example", secure=True, http_only=True, same_site="strict", max_age=86_400,
                partitioned=True, priority="high",
            ),
        },
    )  # fmt: skip
    options = found.options
    assert (options.resave, options.save_uninitialized, options.rolling, options.unset) == (
        False,
        True,
        True,
        "destroy",
    )
    assert options.genid is not None
    assert found.exchange.settings.name == "sid"
    assert found.exchange.settings.path == "/shop"
    behind = Arrival("http", peer="10.1.2.3", forwarded_proto=b"https")
    assert found.exchange.channel(behind) is Channel.HTTPS
    assert found.exchange.channel(behind._replace(peer="192.0.2.1")) is Channel.PLAIN


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("save_unintialized", "did you mean 'save_uninitialized'"),
        ("saveUninitialized", "did you mean 'save_uninitialized'"),
        ("resaves", "did you mean 'resave'"),
        ("timeout", "did you mean 'timeouts'"),
        ("session_name", "known: .*cookie.*timeouts"),
        ("maxAge", r"cookie=CookieSettings\(max_age="),
        ("same_site", r"cookie=CookieSettings\(same_site="),
        ("httpOnly", r"cookie=CookieSettings\(http_only="),
        ("idle", r"timeouts=Timeouts\(idle="),
        ("zzz", "known: .*rolling"),
    ],
)
def test_an_unknown_option_is_told_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown option '{name}': .*{meant}"):
        configured(**{name: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cookie", {"secure": True}),
        ("clock", 5),
        ("insecure_dev", "false"),
        ("insecure_dev", 1),
        ("proxy", "not an address"),
        ("proxy", ["10.0.0.0/99"]),
        ("timeouts", 3600),
        ("rolling", "yes"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_setting(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}="):
        configured(**{name: value})


def test_two_names_for_one_cookie_contradict_each_other() -> None:
    assert configured(name="sid", cookie=CookieSettings(name="sid")).exchange.settings.name == "sid"
    with pytest.raises(ConfigurationError, match=r"name='sid' and CookieSettings\(name='other'\)"):
        configured(name="sid", cookie=CookieSettings(name="other"))


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"same_site": "none", "secure": False}, "secure"),
        ({"name": "__Host-a", "path": "/x"}, "__Host-"),
        ({"name": "__Host-a", "domain": "a.example"}, "__Host-"),
        ({"name": "__Secure-a", "secure": False}, "__Secure-"),
        ({"max_age": 60, "expires": datetime(2030, 1, 1, tzinfo=UTC)}, "expires"),
        ({"max_age": 86_400_000}, "milliseconds"),
    ],
)
def test_contradictory_cookie_settings_are_refused(settings: dict[str, Any], fix: str) -> None:
    with pytest.raises(ConfigurationError, match=fix):
        configured(cookie=CookieSettings(**settings))


@pytest.mark.parametrize("max_age", [3600, timedelta(hours=1)])
def test_a_cookie_that_promises_a_lifetime_keeps_its_promise(max_age: Any) -> None:
    """Without timeouts of its own the session lives as long as the browser was told."""
    times = configured(cookie=CookieSettings(max_age=max_age)).options.timeouts.in_seconds()
    assert (times.idle, times.absolute, times.remember) == (3600, 30 * DAY, 30 * DAY)
    long = configured(cookie=CookieSettings(max_age=90 * 86_400)).options.timeouts.in_seconds()
    assert (long.idle, long.absolute, long.remember) == (90 * DAY, 90 * DAY, 90 * DAY)


def test_timeouts_that_were_given_are_kept_as_they_are() -> None:
    mine = Timeouts(idle=60)
    assert configured(cookie=CookieSettings(max_age=3600), timeouts=mine).options.timeouts is mine
    assert configured(timeouts=None).options.timeouts == Timeouts()


def test_a_fixed_end_counts_from_now() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    clock = Clock(time=now.timestamp)
    ends = CookieSettings(expires=now + timedelta(days=2))
    assert configured(cookie=ends, clock=clock).options.timeouts.in_seconds().idle == 2 * DAY
    assert configured(cookie=ends, clock=clock).options.ends_by == now + timedelta(days=2)
    for passed in (now, now - timedelta(days=1)):
        with pytest.raises(ConfigurationError, match=r"expires has passed"):
            configured(cookie=CookieSettings(expires=passed), clock=clock)
