"""Section N of the security checklist: what operators see, what is kept of people, what hostile input costs."""

import importlib
import pkgutil
import random
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

import coatcheck
from coatcheck import BadSignature, CookieSettings, Event, InvalidToken, SessionError, errors
from coatcheck.bearer.gate import Gate, Needs
from coatcheck.bearer.http import Asked
from coatcheck.bearer.http import Refused as Turned
from coatcheck.core.adoption import Claim, Found, Refused
from coatcheck.core.cookies import find_in
from coatcheck.core.events import EVENTS
from coatcheck.core.origin import Arrival
from coatcheck.core.secret import check_secret
from coatcheck.core.signing import KeyRing, Verified, normalise
from coatcheck.core.stepping import run_now
from coatcheck.security.https import HttpsRules
from coatcheck.stores import open_store
from coatcheck.tokens import Key, Tokens
from coatcheck.tokens import KeyRing as TokenKeys
from tests.canaries import CANARIES
from tests.security import timing
from tests.security.conftest import Make
from tests.security.federated import federated, notify
from tests.security.forms import protected
from tests.security.pages import REPORTS
from tests.security.rig import NAME, SECRET, Browser, Sent, Site, stranger, verifier_of


def visitor(site: Site, user: str = "ada") -> Browser:
    """Somebody who is logged in, with something in the session."""
    browser = site.browser()
    browser.post(f"/login?user={user}")
    browser.post("/set")
    return browser


# ------------------------------------------------------------------------------------------------------------ line 201


def test_line_201_no_secret_in_the_log_of_a_busy_day(site: Site) -> None:
    """As in every test of this room; here with everything at once, and the proof that something was logged."""
    ada = visitor(site)
    for target in ("/elevate", "/login?user=bob", "/logout", "/login?user=ada&remember"):
        ada.post(target)
    site.get("/me", ada.cookie[:-1] + b"?")
    site.get("/me", stranger())
    site.store.fail()
    ada.get("/me")
    for fact in (
        "session.created",
        "session.rotated",
        "session.ended",
        "cookie.forged",
        "session.unknown",
        "store.down",
    ):
        assert fact in CANARIES.log
    assert ada.handle in CANARIES.log  # the handle is public
    assert not CANARIES.found_in(CANARIES.log)
    assert CANARIES.found_in(f"{ada.value} in a log line") == [verifier_of(ada.value)]


@pytest.mark.parametrize("how", ["login", "rotate", "write"])
def test_line_201_an_error_report_with_locals_holds_no_secret(site: Site, how: str) -> None:
    ada = visitor(site)
    site.store.fail("create", "replace", "admit")
    REPORTS.clear()
    assert ada.post(f"/report?how={how}").status == 503
    (report,) = REPORTS
    assert "StoreUnavailable" in report
    assert "lifecycle.py" in report
    # The new verifier of a login or rotation is known to nobody yet: whatever looks like one would be it.
    assert not re.search(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{44}(?![A-Za-z0-9_-])", report)
    assert verifier_of(ada.value) not in report


# ------------------------------------------------------------------------------------------------------------ line 202


def expired(site: Site, seconds: float = 2 * 86_400) -> Event:
    """Somebody comes back too late."""
    ada = visitor(site)
    site.time += seconds
    ada.get("/me")
    (event,) = site.heard("session.expired")
    assert (event.handle, event.user_id) == (ada.handle, "ada")
    return event


def conflict(site: Site) -> None:
    ada = visitor(site)
    one, gate = site.held("POST", "/set?v=one", ada.cookie)
    ada.post("/set?v=other")
    gate.open()
    one.result()


def dropped(site: Site) -> None:
    ada = visitor(site)
    one, gate = site.held("GET", "/look/apply", ada.cookie)
    ada.get("/look/delitem")
    gate.open()
    one.result()


def gone(site: Site) -> None:
    ada = visitor(site)
    one, gate = site.held("GET", "/slow", ada.cookie)
    site.post("/logout", ada.cookie)
    gate.open()
    one.result()


def revoked(site: Site) -> None:
    one, gate = site.held("POST", "/login?user=ada")
    site.time += 1
    site.admin.of("ada").end_all()
    gate.open()
    one.result()


def refused(site: Site) -> None:
    for _ in range(2):
        site.post("/login?user=ada")


def moved(site: Site) -> None:
    ada = visitor(site)
    site.time += 61
    ada.get("/me", peer="198.51.100.7")


def renewed(site: Site) -> None:
    ada = visitor(site)
    site.time += 3600
    ada.get("/me")


def superseded(site: Site) -> None:
    ada = visitor(site)
    old = ada.cookie
    ada.post("/elevate")
    site.time += 61
    site.get("/me", old)


def corrupt(site: Site) -> None:
    ada = visitor(site)
    site.plant(ada.handle, data=b"no session")
    ada.get("/me")


def down(site: Site) -> None:
    ada = visitor(site)
    site.store.fail()
    ada.get("/me")


def twice(site: Site) -> None:
    site.get("/me", visitor(site).cookie + b"; " + visitor(site, "bob").cookie)


def kept(site: Site) -> None:
    site.time += 31
    site.get("/me", stranger())


def untrusted(site: Site) -> None:
    """A redirect to HTTPS, for which a proxy is believed or not."""
    rules = HttpsRules(on_event=site._hear)
    for _ in range(2):
        rules.answer(Arrival("http", host=b"shop.example", forwarded_proto=b"https"), b"/", site.time.now)


def tokens(site: Site) -> Tokens[Any]:
    return Tokens(site.admin, keys=TokenKeys([Key.generate("HS256")]), issuer="i", audience="a")


def refreshed(site: Site) -> None:
    made = tokens(site)
    made.refresh(made.issue("ada").refresh_token)


def revoked_alone(site: Site) -> None:
    made = tokens(site)
    assert made.revoke_access(made.issue("ada").access_token)


def reused(site: Site) -> None:
    made = tokens(site)
    first = made.issue("ada").refresh_token
    site.time += 60
    made.refresh(first)
    site.time += 60
    with pytest.raises(InvalidToken):
        made.refresh(first)


def not_admitted(site: Site) -> None:
    with pytest.raises(Turned):
        run_now(
            Gate(tokens(site), awaits=False).admit(Asked("GET", (("authorization", "Bearer x"),)), Needs())
        )


class Old:
    """Sessions of another library: what the cookie says it holds."""

    kind, user_key, to_user_id, accept, until = "Old", "user", None, None, None
    cookie = CookieSettings(name="old")
    holds: Final[dict[str, Found | Refused]] = {
        "good": Found({"user": "ada"}),
        "odd": Found({"odd": object()}),
        "pickled": Refused("it is pickled"),
    }

    def claim(self, value: str, now: float) -> Claim:
        return Claim(value, self.holds[value])

    def blocking(self) -> None:
        return None

    awaiting = blocking


def limiter_down(site: Site) -> None:
    site.store.fail("tally", "tallied")
    site.get("/limited")


EVENT_TRIGGERS: dict[str, Callable[[Site], object]] = {
    "session.created": lambda site: site.post("/set"),
    "session.rotated": lambda site: visitor(site).post("/elevate"),
    "session.renewed": renewed,
    "session.ended": lambda site: visitor(site).post("/logout"),
    "session.unknown": lambda site: site.get("/me", stranger()),
    "session.expired": expired,
    "session.superseded": superseded,
    "session.corrupt": corrupt,
    "session.conflict": conflict,
    "session.gone": gone,
    "session.dropped": dropped,
    "login": lambda site: site.post("/login?user=ada"),
    "login.revoked": revoked,
    "login.refused": refused,
    "login.throttled": lambda site: [site.post("/signin?user=ada&password=guess") for _ in range(11)],
    "request.throttled": lambda site: [site.get("/limited") for _ in range(3)],
    "limiter.down": limiter_down,
    "logout.refused": lambda site: notify(site, "no.logout.token"),
    "device.new": lambda site: site.post("/login?user=ada"),
    "client.changed": moved,
    "tokens.issued": lambda site: tokens(site).issue("ada"),
    "tokens.refreshed": refreshed,
    "tokens.reused": reused,
    "tokens.refused": not_admitted,
    "tokens.revoked": revoked_alone,
    "session.adopted": lambda site: site.get("/me", b"old=good"),
    "adoption.refused": lambda site: site.get("/me", b"old=pickled"),
    "adoption.dropped": lambda site: site.get("/me", b"old=odd"),
    "cookie.forged": lambda site: site.get("/me", f"{NAME}={'A' * 101}".encode()),
    "cookie.duplicate": twice,
    "csrf.refused": lambda site: site.post("/transfer"),
    "cookie.insecure": lambda site: site.post("/set", scheme="http"),
    "cache.overridden": lambda site: site.get("/cached?write&cc=public"),
    "secret.kept": kept,
    "proxy.untrusted": untrusted,
    "store.down": down,
}


def test_line_202_every_event_is_tried_here() -> None:
    assert set(EVENT_TRIGGERS) == set(EVENTS)


@pytest.mark.parametrize(("name", "trigger"), EVENT_TRIGGERS.items(), ids=EVENT_TRIGGERS)
def test_line_202_an_event_is_told_once_in_a_fixed_shape(
    make: Make, name: str, trigger: Callable[[Site], object]
) -> None:
    options: dict[str, Any] = {}
    sealed: list[str] = []

    def vault() -> str:
        if sealed:
            raise OSError("the vault is sealed")
        return SECRET

    if name == "login.refused":
        options = {"max_sessions": 1, "at_limit": "deny"}
    if name.startswith(("session.adopted", "adoption.")):
        options = {"adopt": Old()}
    if name == "csrf.refused":
        options = {"within": protected()}
    if name == "logout.refused":
        options = {"within": federated()}
    if name == "device.new":
        options = {"on_new_device": print}
    if name == "secret.kept":
        options = {"secret": vault}
    site = make(**options)
    sealed.append(name)
    trigger(site)
    (event,) = site.heard(name)
    assert Event.__struct_fields__ == ("name", "handle", "user_id", "detail", "at")
    assert isinstance(event.handle, str | None)
    assert isinstance(event.user_id, str | None)
    assert (type(event.detail), type(event.at)) == (str, float)
    assert sum(name in line.split() for line in CANARIES.lines) == 1


# ------------------------------------------------------------------------------------------------------ lines 203 to 206


def test_line_203_nothing_from_outside_makes_a_log_line_of_its_own(site: Site) -> None:
    evil = "x\r\n2027-01-15 INFO root logged in\x1b[31m\u2028\x85"
    ada = site.browser()
    ada.post(f"/login?user={quote(evil)}", headers=[(b"user-agent", evil.encode())])
    one, gate = site.held("POST", f"/set?k={quote(evil)}&v=1", ada.cookie)
    ada.post(f"/set?k={quote(evil)}&v=2")
    gate.open()
    one.result()
    site.post("/set", scheme="http", host=evil.encode(), headers=[(b"x-forwarded-proto", evil.encode())])
    site.get("/me", f"{NAME}={evil}".encode())
    ada.post("/logout")
    assert {"session.conflict", "cookie.insecure", "session.ended"} <= {event.name for event in site.events}
    ours = [line for line in CANARIES.lines if " coatcheck " in line]
    assert len(ours) == len(site.events)
    assert [line for line in ours if not line.isprintable()] == []


def test_line_205_a_stored_session_tells_a_network_and_not_a_person(site: Site) -> None:
    for peer, network in (
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:aa:bb::77", "2001:db8:aa::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
    ):
        ada = site.browser()
        ada.post("/login?user=ada", peer=peer, headers=[(b"user-agent", b"Agent/1 " + b"u" * 300)])
        device = site.admin.find(ada.handle)
        assert device is not None
        assert (device.address, len(device.user_agent)) == (network, 256)
    site.post("/set", peer="198.51.100.7", headers=[(b"user-agent", b"Secretive/9")])
    dump = site.dump()
    for trace in (b"203.0.113.77", b"::77", b"198.51.100", b"Secretive"):
        assert trace not in dump


def test_line_206_a_change_of_address_or_browser_logs_nobody_out(site: Site) -> None:
    ada = visitor(site)
    for peer in ("203.0.113.10", "198.51.100.1", "2001:db8::1", "unix:", ""):
        response = ada.get("/me", peer=peer, headers=[(b"user-agent", peer.encode())])
        assert (response.text, response.cookies) == ("ada", [])


# ----------------------------------------------------------------------------------------------- lines 207 to 209, 211


def patterns() -> dict[str, tuple[re.Pattern[Any], set[str]]]:
    """Every regular expression of the package, with the methods it is used by."""
    found = {}
    for module in pkgutil.walk_packages(coatcheck.__path__, "coatcheck."):
        if module.name.startswith(("coatcheck.testing", "coatcheck.tools")):
            continue
        loaded = importlib.import_module(module.name)
        source = Path(str(loaded.__file__)).read_text()
        for name, value in vars(loaded).items():
            # Not isinstance(), which would ask a lazy object, such as the settings of Django.
            if type(value) is re.Pattern:
                used = set(re.findall(rf"\b{name}\.(match|fullmatch|search|sub)\(", source))
                found[f"{module.name}.{name}"] = value, used or {"fullmatch"}
    return found


PATTERNS = patterns()


@pytest.mark.parametrize(("pattern", "methods"), PATTERNS.values(), ids=PATTERNS)
def test_line_207_no_regular_expression_takes_more_than_linear_time(
    pattern: re.Pattern[Any], methods: set[str]
) -> None:
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    alphabet = sorted({char for char in text if char.isprintable()} | set("a0.-_ \\,[{\"'"))
    seeds = [*alphabet, *map("".join, random.Random(207).sample(list(product(alphabet, repeat=2)), 40)), text]

    def run(hostile: str) -> Callable[[int], Any]:
        encode = isinstance(pattern.pattern, bytes)

        def action(size: int) -> None:
            subject: Any = (hostile * (size // len(hostile) + 1))[:size] + "\x01"
            subject = subject.encode() if encode else subject
            for method in methods:
                pattern.sub(subject[:0], subject) if method == "sub" else getattr(pattern, method)(subject)

        return action

    for hostile in seeds:
        assert timing.is_linear(run(hostile), 1_000), hostile


def test_line_207_the_measure_sees_an_expression_that_is_not_linear() -> None:
    slow = re.compile(r"a*a*c")
    assert not timing.is_linear(lambda n: slow.fullmatch("a" * n), 300)


def test_line_208_many_cookies_and_many_headers_cost_in_proportion(site: Site) -> None:
    assert timing.is_linear(lambda n: site.get("/pub", b"a=1;" * n + b"b=2"), 1_900)
    assert timing.is_linear(lambda n: site.get("/pub", headers=[(b"x-%d" % i, b"1") for i in range(n)]), 500)
    same = [f"{NAME[:-1]}{n}={n}" for n in range(3_000)]
    assert site.get("/me", "; ".join(same).encode()).status == 401


def test_line_209_every_exception_is_one_of_the_documented(site: Site) -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), SessionError)
        assert getattr(errors, name) is SessionError or name in str(errors.__doc__)


def test_line_209_hostile_input_raises_nothing_else() -> None:
    rng = random.Random(209)
    ring = KeyRing(normalise(SECRET), purpose="x")
    for _ in range(3_000):
        junk = rng.randbytes(rng.randrange(64))
        text = junk.decode("utf-8", rng.choice(["replace", "surrogateescape"]))
        assert find_in(junk + b"x=" + junk, b"x") is not None
        for attempt in (
            partial(ring.verify, text, text),
            partial(open_store, text),
            partial(check_secret, text),
        ):
            with suppress(SessionError):
                attempt()


def test_line_211_a_check_raises_or_answers_and_never_says_a_falsy_yes() -> None:
    ring = KeyRing(normalise(SECRET), purpose="x")
    assert all(bool(member) for member in Verified)
    good = ring.sign("text")
    wrong: list[tuple[Any, Any]] = [
        (None, None),
        ("", ""),
        ("text", ""),
        ("text", None),
        (b"text", good.encode()),
        ("text", 0),
        (True, good),
    ]
    for text, mac in wrong:
        with pytest.raises(BadSignature):
            ring.verify(text, mac)
    for secret in (None, "", b""):
        with pytest.raises(SessionError):
            check_secret(secret)  # type: ignore[arg-type]  # the mistake under test


def test_line_211_no_session_is_no_user(site: Site) -> None:
    """Absence is None or an empty session, never something that reads as somebody."""
    answers = site.flood(
        Sent("GET", "/me", cookie) for cookie in (b"", stranger(), b"__Host-session=", b"__Host-session=None")
    )
    assert {answer.status for answer in answers} == {401}
