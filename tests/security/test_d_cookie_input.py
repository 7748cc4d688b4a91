"""Section D of the security checklist: the cookies we are sent. Each test is named after its line."""

import random
from collections.abc import Callable
from itertools import count, permutations

import pytest

from coatcheck.core import signing
from coatcheck.core.cookies import MAX_HEADER, MOST
from coatcheck.core.ids import RandomIds
from tests.security import timing
from tests.security.conftest import Make
from tests.security.rig import NAME, OTHER_SECRET, Browser, Sent, Site, forge, stranger

PLAIN = f"{NAME}=".encode()


def visitor(site: Site, user: str) -> Browser:
    """Somebody who is logged in."""
    browser = site.browser()
    browser.post(f"/login?user={user}")
    return browser


# ------------------------------------------------------------------------------------------------------ lines 41 and 42


def test_line_41_the_genuine_cookie_wins_wherever_it_stands(site: Site) -> None:
    good = visitor(site, "ada").cookie
    bad = good[:-1] + (b"A" if good[-1:] != b"A" else b"B")
    unsigned = PLAIN + b"A" * 101
    foreign = forge("A" * 24, RandomIds().verifier(), secret=OTHER_SECRET)
    for order in permutations([good, bad, unsigned, foreign]):
        for joint in (b"; ", b";"):
            assert site.get("/me", joint.join(order)).text == "ada"
    assert site.get("/me", b"; ".join([good, good])).text == "ada"


def test_line_41_of_two_genuine_cookies_neither_counts_and_neither_is_harmed(site: Site) -> None:
    ada, eve = visitor(site, "ada"), visitor(site, "eve")
    for order in ([ada.cookie, eve.cookie], [eve.cookie, ada.cookie]):
        response = site.get("/me", b"; ".join(order))
        assert (response.status, response.cookies) == (401, [])
    assert len(site.heard("cookie.duplicate")) == 2
    assert [one.get("/me").text for one in (ada, eve)] == ["ada", "eve"]


def test_line_42_tossed_cookies_cost_little(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = visitor(site, "ada")
    calls = count()
    mac = signing._mac
    monkeypatch.setattr(signing, "_mac", lambda key, text: (next(calls), mac(key, text))[1])
    site.store.told()
    for cookies in ([stranger() for _ in range(500)], [ada.cookie] * 500, [PLAIN + b"A" * 101] * 500):
        before = next(calls)
        assert site.get("/me", b"; ".join(cookies)).status == 401
        assert next(calls) - before - 1 <= MOST
    assert len(site.store.told()) <= 1
    few = b"; ".join([PLAIN + b"A" * 101] * (MOST - 1) + [ada.cookie])
    assert site.get("/me", few).text == "ada"
    assert len(site.store.told()) == 1


# ------------------------------------------------------------------------------------------------------ lines 43 to 48

NOT_OURS = [
    b"__%48ost-session=", b"__host-session=", b"__HOST-SESSION=", b'"__Host-session"=', b"__Host-session\x00=",
    b"X__Host-session=", b"__Host-session.x=", b"__Host-session[]=", b"__Host-session\xa0=", b"\xa0__Host-session=",
    b"session=", b"+__Host-session=", b"__Secure-session=", b"$__Host-session=", b"__Host-session =",
    b"a=__Host-session=", b"a b__Host-session=",
]  # fmt: skip


@pytest.mark.parametrize("name", NOT_OURS)
def test_line_43_only_our_name_byte_for_byte_is_our_name(site: Site, name: bytes) -> None:
    ada = visitor(site, "ada")
    site.store.told()
    assert site.get("/me", name + ada.value.encode()).status == 401
    assert site.store.told() == []


@pytest.mark.parametrize("start", [b"=", b" =", b"=;=", b"a=1; =", b"==", b"\t="])
def test_line_44_a_cookie_without_a_name_is_not_ours(site: Site, start: bytes) -> None:
    ada = visitor(site, "ada")
    assert site.get("/me", start + ada.cookie).status == 401
    assert site.get("/me", start + ada.cookie + b"; " + ada.cookie).text == "ada"


MALFORMED = [
    b'x[]=1; ga="a=b; %s', b";;; %s", b"%s; \x80=\xff", b'%s; open="never closed', b'open="never closed; %s', b"$Version=1; %s",
    b"a=1,b=2; %s", b"%s;", b";%s", b" %s ", b"\t%s\t;\t", b"novalue; %s", b"a=b=c; %s", b"\xff\xfe=\x80; %s; \xc3\x28=1",
    b"a=\x00\x01\x02; %s", b"%s; a=%%zz", b"{}; %s", b"a='; %s; b='", b"\\; %s; \\\\", b"=; =; %s", b"a=\xe2\x82\xac; %s",
]  # fmt: skip


@pytest.mark.parametrize("template", MALFORMED)
def test_line_45_malformed_cookies_beside_ours_hide_nothing(site: Site, template: bytes) -> None:
    assert site.get("/me", template % visitor(site, "ada").cookie).text == "ada"


@pytest.mark.parametrize("template", [b"%s,a=1", b"a=1,%s", b"%s,%s", b"a=1 %s", b"%s a=1"])
def test_line_45_what_is_no_separator_separates_nothing(site: Site, template: bytes) -> None:
    ada = visitor(site, "ada")
    assert site.get("/me", template.replace(b"%s", ada.cookie)).status == 401


SLOW: dict[str, Callable[[int], bytes]] = {
    "backslashes": lambda n: PLAIN + b'"' + b"\\" * n,
    "quotes": lambda n: PLAIN + b'"' * n,
    "semicolons": lambda n: b";" * n,
    "equal signs": lambda n: b"=" * n,
    "our name": lambda n: (PLAIN * n)[:n],
    "our name in pairs": lambda n: (PLAIN + b";") * (n // 16),
    "almost our name": lambda n: (PLAIN[:-1] * n)[:n],
    "spaces": lambda n: b" " * n + PLAIN,
}


@pytest.mark.parametrize("make_header", SLOW.values(), ids=SLOW)
def test_line_46_reading_takes_linear_time(site: Site, make_header: Callable[[int], bytes]) -> None:
    assert timing.is_linear(lambda n: site.get("/pub", make_header(n)), 7_800)


def test_line_46_a_header_over_the_cap_is_not_read(site: Site) -> None:
    ada = visitor(site, "ada")
    room = MAX_HEADER - len(ada.cookie) - len("a=; ")
    assert site.get("/me", b"a=" + b"x" * room + b"; " + ada.cookie).text == "ada"
    assert site.get("/me", b"a=" + b"x" * (room + 1) + b"; " + ada.cookie).status == 401
    assert site.get("/me", ada.cookie + b"; a=" + b"x" * 1_000_000).status == 401


def test_line_47_several_cookie_fields_count_as_one(site: Site) -> None:
    ada, eve = visitor(site, "ada"), visitor(site, "eve")
    for fields in (
        (b"a=1", ada.cookie),
        (ada.cookie, b"a=1"),
        (b"a=1", ada.cookie, b"b=2"),
        (ada.cookie, ada.cookie),
    ):
        assert site.get("/me", fields).text == "ada"
    for fields in ((ada.cookie, eve.cookie), (eve.cookie, b"a=1", ada.cookie)):
        assert site.get("/me", fields).status == 401
    assert len(site.heard("cookie.duplicate")) == 2
    assert [one.get("/me").text for one in (ada, eve)] == ["ada", "eve"]


def test_line_48_a_cookie_has_one_spelling(site: Site) -> None:
    """Quotes are part of a value (RFC 6265bis section 5.6), and ours has none."""
    value = visitor(site, "ada").value.encode()
    spellings = [
        b'"' + value + b'"', b"'" + value + b"'", value + b"=", value + b"==",
        value.replace(b"-", b"+").replace(b"_", b"/") + b"=",         value[:40] + b" " + value[40:],
        value.swapcase(), value.replace(b".", b"%2E"), b"%20" + value, value + b"%00", value + b"\xa0",
        value + b"\x0b", value + b"\x00", b"\xef\xbb\xbf" + value,
    ]  # fmt: skip
    for spelling in spellings:
        assert site.get("/me", PLAIN + spelling).status == 401
    assert (
        site.get("/me", PLAIN + b"\t " + value + b" \t").text == "ada"
    )  # white space around it is no part of it


def test_line_48_every_single_character_counts(site: Site) -> None:
    """No spare bits: whatever character is put in place of another, the cookie is none."""
    value = visitor(site, "ada").value
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [
        value[:place] + other + value[place + 1 :]
        for place in range(len(value))
        for other in alphabet
        if other != value[place]
    ]
    answers = site.flood(Sent("GET", "/me", PLAIN + other.encode()) for other in others)
    assert {answer.status for answer in answers} == {401}


# ------------------------------------------------------------------------------------------------------ lines 49 to 52


def test_line_49_a_bad_cookie_is_never_cleared(site: Site) -> None:
    """At most once is zero times: a deletion that arrives late would take a newer login's cookie with it."""
    ended = visitor(site, "ada")
    kept = ended.cookie
    ended.post("/logout")
    for cookie in (PLAIN + b"garbage", PLAIN + b"A" * 101, stranger(), kept, kept + b"; " + stranger()):
        for target in ("/me", "/read", "/pub"):
            assert site.get(target, cookie).cookies == []
        assert site.post("/logout", cookie).cookies == []


def test_line_50_forged_unknown_expired_and_ended_look_the_same(make: Make) -> None:
    site = make()
    expired, ended, superseded = (visitor(site, "ada") for _ in range(3))
    old, gone = superseded.cookie, ended.cookie
    site.time += 86_401
    superseded.post("/login?user=ada")
    fresh = visitor(site, "ada")
    late = fresh.cookie
    fresh.post("/logout")
    cookies = [PLAIN + b"A" * 101, stranger(), expired.cookie, gone, old, late, b""]
    for method, target in (
        ("GET", "/me"),
        ("GET", "/read"),
        ("GET", "/has"),
        ("POST", "/wrong"),
        ("POST", "/logout"),
    ):
        answers = [site.send(method, target, cookie) for cookie in cookies]
        assert len({repr(answer) for answer in answers}) == 1, target


def test_line_51_no_other_cookie_of_ours_opens_or_ends_anything(site: Site) -> None:
    ada, eve = visitor(site, "ada"), visitor(site, "eve")
    extra = [
        b"__Host-session_multi-" + eve.value.encode() + b"=" + eve.value.encode(),
        b"remember_token=" + eve.value.encode(),
        b"__Host-csrf=" + eve.value.encode(),
        b"__Host-session.sig=" + eve.value.encode(),
    ]
    assert site.get("/me", b"; ".join([*extra, ada.cookie])).text == "ada"
    assert site.get("/me", b"; ".join(extra)).status == 401
    assert site.post("/logout", b"; ".join(extra)).cookies == []
    assert site.post("/logout", b"; ".join([*extra, ada.cookie])).status == 204
    assert (eve.get("/me").text, ada.get("/me").status) == ("eve", 401)


def test_line_52_no_header_whatever_it_holds_is_an_error(site: Site) -> None:
    """The canaries count every exception. Fuzzing for longer: `make fuzz`."""
    rng = random.Random(52)
    good = visitor(site, "ada").cookie
    pieces = [
        good,
        PLAIN,
        b";",
        b"; ",
        b"=",
        b'"',
        b"\\",
        b",",
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b"a",
        b"A" * 101,
        b".",
        b"%s",
        b"\r\n",
    ]

    def header() -> bytes:
        if rng.random() < 0.3:
            return rng.randbytes(rng.randrange(200))
        return b"".join(rng.choices(pieces, k=rng.randrange(1, 12)))

    answers = site.flood(Sent("GET", "/me", header()) for _ in range(3_000))
    assert {answer.status for answer in answers} == {200, 401}
    # Nor the other fields that we read.
    fields = (b"user-agent", b"x-forwarded-proto", b"x-forwarded-for", b"forwarded")
    odd = [Sent("GET", "/me", good, host=rng.randbytes(9), scheme="http") for _ in range(200)]
    odd += [Sent("POST", "/login", headers=[(name, rng.randbytes(30))]) for name in fields for _ in range(50)]
    assert {answer.status for answer in site.flood(odd)} <= {200, 401}
