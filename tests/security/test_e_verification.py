"""Section E of the security checklist: who says that a token is genuine (ASVS 7.2.1), and what an id is made of (7.2.2)."""

import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import coatcheck
from coatcheck import AsyncSessionManager, BadSignature, SessionManager
from coatcheck.core.ids import LOCATOR_CHARS, VERIFIER_CHARS, RandomIds, Ticket
from coatcheck.core.signing import KeyRing as Signatures
from coatcheck.core.signing import normalise
from coatcheck.errors import InvalidToken
from coatcheck.federation import LogoutTokenVerifier
from coatcheck.tokens import Key, KeyRing, TokenVerifier, jws
from tests.security.rig import NAME, SECRET, Site, forge

KEY = Key.generate("ES256", kid="k1")
OTHER = Key.generate("ES256", kid="k1")
API_KEY = "sk_live_0123456789abcdefghijklmn"


def public() -> Iterator[tuple[str, Any]]:
    """Every public name of every module, and every public method of every public class."""
    for info in pkgutil.walk_packages(coatcheck.__path__, "coatcheck."):
        if info.name.endswith("__main__") or ".testing" in info.name:
            continue
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", ()):
            found = getattr(module, name)
            yield f"{info.name}.{name}", found
            if inspect.isclass(found):
                for method, function in inspect.getmembers(found, callable):
                    if not method.startswith("_"):
                        yield f"{info.name}.{name}.{method}", function


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # written in C, or no function
        return {}


def switches(function: Any) -> list[str]:
    """The parameters by which a check could be left out."""
    loose = re.compile(r"(verify|skip)(_|$)|algorithms", re.IGNORECASE)
    found = parameters(function)
    return [name for name, given in found.items() if loose.match(name) and isinstance(given.default, bool)]


def test_line_78_there_is_no_reading_without_verifying() -> None:
    """No function is called so, and none has a switch for it."""
    names = dict(public())
    assert len(names) > 1000
    loose = re.compile(r"unverified|without_verif|no_verif|insecure_(decode|read)|peek|unsafe", re.IGNORECASE)
    assert [name for name in names if loose.search(name.rpartition(".")[2])] == []
    assert [name for name, found in names.items() if callable(found) and switches(found)] == []


def test_line_78_what_verifies_raises_and_never_answers_with_what_it_read() -> None:
    """There is no status to forget to look at: whoever has claims has verified ones."""
    ring, now = KeyRing([KEY.public()]), 1_800_000_000.0
    forged = jws.sign(OTHER, b'{"sub":"ada","iss":"i","aud":"a"}', typ="at+jwt")
    verifier = TokenVerifier(ring, issuer="i", audience="a", clock=lambda: now)
    for verify in (
        lambda: jws.verify(forged, ring, now=now),
        lambda: verifier.verify(forged),
        lambda: verifier.verify_any(forged),
        lambda: verifier.verify_bound(forged, "x"),
        lambda: LogoutTokenVerifier(ring, issuer="i", client_id="a").verify(forged, now),
    ):
        with pytest.raises(InvalidToken, match="signature"):
            verify()
    with pytest.raises(BadSignature):
        Signatures(normalise(SECRET), purpose="x").verify("text", "A" * 32)


def test_line_79_a_session_is_asked_for_by_a_ticket_and_by_no_text() -> None:
    """A ticket is what a verified cookie carries: a type checker refuses a key, and so does the first look."""
    for manager in (SessionManager, AsyncSessionManager):
        assert typing.get_type_hints(manager.session)["ticket"] == Ticket | None
        assert set(parameters(manager.session)) == {"self", "ticket"}
    takers = [
        name
        for name, found in public()
        if callable(found) and {"api_key", "static_key"} & parameters(found).keys()
    ]
    assert takers == []
    for odd in (API_KEY, API_KEY.encode(), 7):
        with pytest.raises((TypeError, ValueError)):
            SessionManager("memory:").session(odd).get("k")  # type: ignore[arg-type]  # that is the point


def test_line_79_an_id_comes_of_the_system_random_source_whatever_was_brought(site: Site) -> None:
    """A key that is signed as if it were an id of ours opens nothing, and becomes the id of nothing."""
    for brought in (f"{NAME}={API_KEY}".encode(), forge(API_KEY[:LOCATOR_CHARS], "v" * VERIFIER_CHARS)):
        assert site.get("/me", brought).status == 401
        answer = site.post("/login?user=ada", brought)
        assert answer.value
        assert API_KEY[:LOCATOR_CHARS] not in answer.value
    handles = {device.handle for device in site.admin.of("ada").list()}
    assert len(handles) == 2
    assert {len(handle) for handle in handles} == {LOCATOR_CHARS}
    made = {RandomIds().verifier() for _ in range(1000)}
    assert (len(made), {len(one) for one in made}) == (1000, {VERIFIER_CHARS})


def test_line_79_each_login_is_another_id(site: Site) -> None:
    browser = site.browser()
    seen = set()
    for _ in range(5):
        browser.post("/login?user=ada")
        seen.add(browser.value)
    assert len(seen) == 5
