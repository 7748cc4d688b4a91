"""Section B of the security checklist: signing, keys, secrets. Each test is named after its line."""

import ast
import gzip
import pickle
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import coatcheck
from coatcheck import (
    AsyncSessionManager,
    BadSignature,
    ConfigurationError,
    CookieSettings,
    SessionError,
    SessionManager,
    WeakSecret,
)
from coatcheck import exchange as exchange_module
from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.core import signing
from coatcheck.core.ids import RandomIds, Ticket, digest
from coatcheck.core.signing import KeyRing, derive_key, normalise
from coatcheck.exchange import Arrival, Exchange
from coatcheck.wsgi import SessionMiddleware as WsgiSessions
from tests.security import timing
from tests.security.conftest import Make
from tests.security.rig import NAME, OTHER_SECRET, SECRET, Site, forge, locator_of, verifier_of

SOURCE = Path(coatcheck.__file__).parent
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


async def nothing(*_: Any) -> None:
    """An ASGI application."""


def build(**options: Any) -> tuple[object, object]:
    """Both middlewares, as at start-up."""
    return AsgiSessions(nothing, **options), WsgiSessions(lambda environ, start_response: [], **options)


def spoilt(cookie: bytes) -> bytes:
    """The cookie with another character at the end of its signature."""
    return cookie[:-1] + (b"A" if cookie[-1:] != b"A" else b"B")


# ------------------------------------------------------------------------------------------------------- lines 12, 13

COMPARED = {
    "core/signing.py": {"verify"},
    "core/drafts.py": {"holding"},
    "lifecycle.py": {"look_up", "find"},
}
"""Where something that came from outside is compared with something secret."""


@pytest.mark.parametrize(("file", "functions"), COMPARED.items(), ids=COMPARED)
def test_line_12_secrets_are_compared_in_constant_time(file: str, functions: set[str]) -> None:
    """Replacing `compare_digest` by `==` fails here: no test from outside would see it."""
    tree = ast.parse((SOURCE / file).read_text())
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in functions
    ]
    assert {node.name for node in found} == functions
    for function in found:
        words = {"mac", "verifier", "proof", "previous", "text", "message"}
        for node in ast.walk(function):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                sides = [node.left, *node.comparators]
                names = {getattr(side, "attr", getattr(side, "id", "")) for side in sides}
                assert not names & words, f"{file}:{node.lineno}"
    assert any(
        "compare_digest" in ast.unparse(node.func)
        for function in found
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
    )


@pytest.mark.slow
def test_line_12_the_time_of_a_verification_tells_nothing() -> None:
    ring = KeyRing(normalise(SECRET), purpose="cookie:x")
    mac = ring.sign("text")

    def refuse(wrong: str) -> None:
        try:
            ring.verify("text", wrong)
        except BadSignature:
            return
        raise AssertionError("verified")

    first = [other + mac[1:] for other in ALPHABET if other != mac[0]]
    last = [mac[:-1] + other for other in ALPHABET if other != mac[-1]]
    assert timing.is_level(refuse, first, last, rounds=50_000)


def test_line_13_nothing_is_taken_apart_before_the_signature_holds(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = site.browser()
    ada.post("/login?user=ada")
    taken_apart: list[object] = []

    def noted(verifier: str) -> bytes:
        taken_apart.append(verifier)
        return digest(verifier)

    monkeypatch.setattr(exchange_module, "digest", noted)
    bomb = b64encode(b"[" * 40)[:69]
    zipped = urlsafe_b64encode(gzip.compress(b"\0" * 10_000_000))[:69]
    site.store.told()
    for value in (
        spoilt(ada.value.encode()),
        bomb + b"A" * 32,
        zipped + b"A" * 32,
        b"A" * 24 + b"." + b"A" * 76,
    ):
        assert site.get("/me", b"%s=%s" % (NAME.encode(), value)).status == 401
    assert (taken_apart, site.store.told()) == ([], [])
    assert site.get("/me", ada.cookie + b" ").text == "ada"
    assert len(taken_apart) == 1


# ------------------------------------------------------------------------------------------------------- lines 14 to 17


class Calc:
    """What somebody who can write a pickle into a cookie would put there."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("1 / 0",)


FOREIGN = {
    "plain JSON": b'{"user_id":"ada"}',
    "base64 JSON": b64encode(b'{"user_id":"ada"}'),
    "a pickle": b64encode(pickle.dumps(Calc())),
    "itsdangerous": b"eyJ1c2VyX2lkIjoiYWRhIn0.aNcd3w.3yJIbT0bqqPPMVRxGmdLWGyr3Q4",
    "express": b"s%3AhT6dqUVoPHnFQ5TQdXhlPYjzfL0yJt8d.r9Zk0nQJc6mCgQyGmV3nPpPZf8nqgmv6pW6sYB9sS0w",
    "a JWT without signature": b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.",
    "an empty signature": b"A" * 24 + b"." + b"A" * 44,
}


@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN)
def test_line_14_what_does_not_verify_is_no_session_whatever_else_it_is(make: Make, value: bytes) -> None:
    for options in ({}, {"secret": [SECRET, OTHER_SECRET]}, {"secret": lambda: [OTHER_SECRET, SECRET]}):
        site = make(**options)
        response = site.get("/me", NAME.encode() + b"=" + value)
        assert (response.status, response.cookies, site.store.told()) == (401, [], [])


def test_line_14_a_signature_cut_short_or_left_out_is_none(site: Site) -> None:
    ada = site.browser()
    ada.post("/login?user=ada")
    for kept in range(70, len(ada.value)):
        assert site.get("/me", f"{NAME}={ada.value[:kept]}".encode()).status == 401
    assert site.get("/me", ada.cookie + b"A").status == 401
    assert site.get("/me", ada.cookie).status == 200


def test_line_15_the_newest_key_signs_and_all_verify(make: Make) -> None:
    before = make(secret=OTHER_SECRET)
    ada = before.browser()
    ada.post("/login?user=ada")
    old = ada.cookie
    both = make(share=before, secret=[SECRET, OTHER_SECRET])
    again = both.get("/me", old)
    assert (again.text, len(again.cookies)) == ("ada", 1)
    assert again.cookie != old
    assert both.get("/me", again.cookie).cookies == []  # signed by the newest by now: once is enough
    fresh = both.post("/login?user=bob").cookie
    after = make(share=before, secret=SECRET)
    assert [after.get("/me", cookie).text for cookie in (again.cookie, fresh)] == ["ada", "bob"]
    assert after.get("/me", old).status == 401
    assert [before.get("/me", cookie).status for cookie in (again.cookie, fresh)] == [401, 401]


def test_line_16_nothing_a_client_sends_chooses_the_key(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make(secret=[SECRET, OTHER_SECRET])
    ada = site.browser()
    ada.post("/login?user=ada")
    tried = count()
    mac = signing._mac
    monkeypatch.setattr(signing, "_mac", lambda key, text: (next(tried), mac(key, text))[1])
    for kid in (b"0", b"1", b"../x", b"k" * 10_000, b"' OR 1--"):
        for value in (
            kid + b"." + ada.value.encode(),
            kid + b":" + ada.value.encode(),
            ada.value.encode() + b";kid=" + kid,
        ):
            response = site.get("/me", NAME.encode() + b"=" + value)
            assert response.status == (200 if value.startswith(ada.value.encode()) else 401)
    # One path, one cost: every key is tried, whatever the value says.
    spent = next(tried)
    for value in (spoilt(ada.value.encode()), b"0" * 101, b"1." + b"0" * 99):
        assert site.get("/me", NAME.encode() + b"=" + value).status == 401
        assert next(tried) - spent == 3
        spent += 3


def test_line_17_a_value_signed_for_one_cookie_is_none_under_another_name(make: Make) -> None:
    site = make()
    admin = make(share=site, cookie=CookieSettings(name="__Host-admin"))
    ada = site.browser()
    ada.post("/login?user=ada")
    assert admin.get("/me", b"__Host-admin=" + ada.value.encode()).status == 401
    # Nor does what plain HTTP on this machine issued open anything over HTTPS, or the reverse.
    local = site.send("POST", "/login?user=ada", scheme="http", host=b"localhost")
    assert local.cookies[0].startswith("session=")
    assert site.get("/me", b"session=" + ada.value.encode(), scheme="http", host=b"localhost").status == 401
    assert site.get("/me", f"{NAME}={local.value}".encode()).status == 401
    assert site.get("/me", local.cookie).status == 401
    assert site.get("/me", local.cookie, scheme="http", host=b"localhost").text == "ada"


def test_line_17_every_purpose_has_a_key_of_its_own() -> None:
    secret = SECRET.encode()
    keys = {derive_key(secret, purpose) for purpose in ("cookie:a", "cookie:b", "csrf", "refresh", "access")}
    assert len(keys) == 5
    assert secret not in keys


# ------------------------------------------------------------------------------------------------------- lines 18 to 20

WEAK = {
    "nothing": None, "empty": "", "empty bytes": b"", "blank": "   ", "secret": "secret", "changeme": "changeme",
    "temporary_key": "temporary_key", "Superset": "\\2\\1thisismyscretkey\\1\\2\\e\\y\\y\\h", "one letter": "a" * 64,
    "31 bytes": secrets.token_bytes(31), "a UUID": "2f1b7a5e-4c3d-4e2f-9a1b-0c8d7e6f5a4b", "a placeholder": "${SECRET}",
    "a public key": "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END",
    "an ssh key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE ada@shop",
    "an empty list": [], "a list with an empty one": [SECRET, ""], "a list with a weak one": [SECRET, "changeme"],
}  # fmt: skip


@pytest.mark.parametrize("secret", WEAK.values(), ids=WEAK)
def test_line_18_a_weak_secret_is_refused_at_start_up(secret: Any) -> None:
    with pytest.raises(WeakSecret) as refusal:
        build(secret=secret)
    with pytest.raises(WeakSecret):
        build(secret=lambda: secret)
    text = secret[-1] if isinstance(secret, list) and secret else secret
    if text and len(text) > 8:
        shown = text if isinstance(text, str) else repr(text)[2:-1]
        assert shown not in str(refusal.value)
        assert shown not in repr(refusal.value.__cause__) + repr(refusal.value.__context__)


def test_line_18_a_developer_says_so_explicitly_and_still_gives_something() -> None:
    build(secret="dev", insecure_dev=True)
    nothing_at_all: Any
    for nothing_at_all in ("", None, []):
        with pytest.raises(WeakSecret):
            build(secret=nothing_at_all, insecure_dev=True)


@pytest.mark.parametrize("later", ["", None, b"", [], [None], [""], 7, "changeme"])
def test_line_19_a_key_that_goes_missing_is_never_replaced_by_an_empty_one(make: Make, later: Any) -> None:
    given: list[Any] = [SECRET]
    site = make(secret=lambda: given[-1])
    ada = site.browser()
    ada.post("/login?user=ada")
    given.append(later)
    site.time += 31
    empty = signing.Hmac(signing.hkdf(b"", salt=b"coatcheck v1", info=f"cookie:{NAME}".encode(), length=32))
    text = f"{ada.handle}.{verifier_of(ada.value)}"
    forged = f"{NAME}={text}{signing._mac(empty, text.encode())}".encode()
    assert site.get("/me", forged).status == 401
    assert ada.get("/me").text == "ada"  # under the last good key
    assert len(site.heard("secret.kept")) >= 1


def test_line_20_a_secret_in_a_file_is_read_again(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(OTHER_SECRET)
    workers = [site := make(secret=file), make(share=site, secret=file)]
    old = workers[0].post("/login?user=ada").cookie
    assert [worker.get("/me", old).text for worker in workers] == ["ada", "ada"]
    file.write_text(f"{SECRET}\n{OTHER_SECRET}\n")
    site.time += 30
    new = workers[0].get("/me", old).cookie
    assert (new != old, workers[1].get("/me", new).text) == (True, "ada")
    file.write_text(SECRET)
    site.time += 30
    for worker in workers:
        assert worker.get("/me", old).status == 401
        assert worker.get("/me", new).text == "ada"


# ------------------------------------------------------------------------------------------------------------- line 21


def everything_about(thing: object, depth: int = 4) -> str:
    """What a careless dump shows: its repr, what it is in an f-string, and its parts."""
    text = f"{thing!r}" if isinstance(thing, str) else f"{thing!r} {thing}"
    if depth and hasattr(thing, "__dict__"):
        text += repr(vars(thing)) + "".join(
            everything_about(part, depth - 1) for part in vars(thing).values()
        )
    return text


def test_line_21_no_secret_in_anything_that_can_be_printed(site: Site) -> None:
    ada = site.browser()
    ada.post("/login?user=ada")
    ada.get("/me")
    ticket = Ticket(ada.handle, verifier_of(ada.value))
    arrival = Arrival("https", ada.cookie, b"shop.example")
    reading = site.exchange.read(arrival, site.time.now)
    session = site.admin.session(reading.ticket)
    session.get("k")
    managers = [SessionManager("memory:"), AsyncSessionManager("memory:")]
    for thing in (site.app, site.exchange, site.app.sessions, ticket, arrival, reading, session, *managers):
        text = everything_about(thing)
        for secret in (SECRET, SECRET.encode().hex(), verifier_of(ada.value), ada.value[-32:]):
            assert secret not in text, type(thing)


def test_line_21_no_secret_in_an_exception(site: Site) -> None:
    cookie = site.post("/login?user=ada").cookie.decode()
    attempts: list[Callable[[], Any]] = [
        lambda: KeyRing([SECRET.encode(), b""], purpose="x"),
        lambda: KeyRing([SECRET], purpose="x"),  # type: ignore[list-item]  # the mistake under test
        lambda: normalise([SECRET, 7]),
        lambda: build(secret=[SECRET, "changeme"]),
        lambda: build(secret=SECRET, cokie=1),
        lambda: build(secret=SECRET, store="nosql://ada:hunter2hunter2@db/0"),
        lambda: KeyRing(normalise(SECRET), purpose="x").verify(cookie, cookie[-32:]),
        lambda: CookieSettings(name=cookie),
    ]
    for attempt in attempts:
        with pytest.raises(SessionError) as refusal:
            attempt()
        text = f"{refusal.value} {refusal.value!r} {refusal.value.__cause__!r} {refusal.value.__context__!r}"
        for secret in (SECRET, verifier_of(cookie), "hunter2"):
            assert secret not in text


def test_line_21_a_configuration_that_holds_keys_is_not_pickled() -> None:
    exchange = Exchange(CookieSettings(), SECRET)
    for thing in (*exchange._rings.values(), exchange):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_line_21_a_genid_of_your_own_is_still_signed_and_verified(make: Make) -> None:
    """A weak locator costs collisions, never a login."""
    numbers = count()
    site = make(genid=lambda: f"guessable-{next(numbers):010}")
    ada = site.browser()
    ada.post("/login?user=ada")
    assert locator_of(ada.value) == "guessable-0000000000"
    assert site.get("/me", forge("guessable-0000000000", RandomIds().verifier())).status == 401
    with pytest.raises(ConfigurationError):
        build(secret=SECRET, genid="uuid4")
