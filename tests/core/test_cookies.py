"""The cookie reader, the cookie settings and the Set-Cookie writer. test_NN is line NN of the security checklist."""

import dataclasses
import email.message
import functools
import http.cookiejar
import itertools
import random
import timeit
import urllib.request
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import formatdate
from typing import Any, Literal, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.core.cookies import (
    MAX_AGE,
    MAX_ATTRIBUTE,
    MAX_COOKIE,
    MAX_HEADER,
    MOST,
    CookieSettings,
    Writer,
    build,
    find,
    find_in,
    lifetime,
    names,
    whole_seconds,
)
from coatcheck.errors import ConfigurationError, CookieTooLarge
from fuzz import cookies as fuzzing

NOW = 1_800_000_000.0
GOOD, BAD, OTHER = b"good.0123abc", b"bad.0123abc", b"other.0123abc"
HOST = b"__Host-session"

many = settings(max_examples=1_000, deadline=None)


def attributes(line: bytes) -> dict[str, str]:
    """Parse a Set-Cookie value as RFC 6265bis section 5.6 does: names without regard to case."""
    pairs = [part.strip().partition("=") for part in line.decode("ascii").split(";")[1:]]
    assert len({key.lower() for key, _, _ in pairs}) == len(pairs), "an attribute came twice"
    return {key.lower(): value for key, _, value in pairs}


def default_writer() -> Writer:
    chosen = CookieSettings()
    return Writer(chosen, names(chosen)[0], secure=True)


# --- 28, 38: the defaults ----------------------------------------------------------------------------------------------


def test_28_the_default_cookie_is_host_secure_http_only_lax_and_has_no_domain() -> None:
    line = default_writer().set(GOOD, max_age=None, now=NOW)

    assert line == b"__Host-session=" + GOOD + b"; Path=/; HttpOnly; Secure; SameSite=Lax"
    assert "domain" not in attributes(line)


def test_28_on_loopback_http_the_cookie_has_another_name_and_no_secure() -> None:
    chosen = CookieSettings()
    line = Writer(chosen, names(chosen)[1], secure=False).set(GOOD, max_age=None, now=NOW)

    assert line == b"session=" + GOOD + b"; Path=/; HttpOnly; SameSite=Lax"


def test_38_the_default_cookie_ends_with_the_browser() -> None:
    assert lifetime(CookieSettings(), now=NOW) is None
    assert {"max-age", "expires"}.isdisjoint(attributes(default_writer().set(GOOD, max_age=None, now=NOW)))


@pytest.mark.parametrize(
    ("given_settings", "expected"),
    [
        (CookieSettings(), ("__Host-session", "session")),
        (CookieSettings(path="/app"), ("__Secure-session", "session")),
        (CookieSettings(domain="example.com"), ("__Secure-session", "session")),
        (CookieSettings(secure=True), ("__Host-session", "session")),
        (CookieSettings(secure=False), ("session", "session")),
        (CookieSettings(name="sid"), ("sid", "sid")),
        (CookieSettings(name="sid", path="/app"), ("sid", "sid")),
    ],
)
def test_28_names_over_https_and_over_loopback_http(
    given_settings: CookieSettings, expected: tuple[str, str]
) -> None:
    assert names(given_settings) == expected
    Writer(
        given_settings, expected[0], secure=True
    )  # the name and its own settings never contradict each other
    Writer(given_settings, expected[1], secure=False)


# --- 29: contradictions ------------------------------------------------------------------------------------------------

PREFIXED_HOST = ["__Host-sid", "__HOST-sid", "__host-sid", "__hOsT-sid", "__Host-Http-sid", "__host-http-sid"]
PREFIXED = [*PREFIXED_HOST, "__Secure-sid", "__SECURE-sid", "__secure-sid", "__Http-sid", "__HTTP-sid"]
PREFIXED_HTTP = ["__Http-sid", "__http-sid", "__Host-Http-sid", "__HOST-HTTP-sid"]


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        *(({"name": name, "domain": "example.com"}, "domain") for name in PREFIXED_HOST),
        *(({"name": name, "path": "/app"}, "path") for name in PREFIXED_HOST),
        *(({"name": name, "secure": False}, "secure") for name in PREFIXED),
        *(({"name": name, "http_only": False}, "http_only") for name in PREFIXED_HTTP),
        ({"same_site": "none", "secure": False}, "same_site"),
        ({"same_site": "NONE", "secure": False}, "same_site"),
        ({"partitioned": True, "secure": False}, "partitioned"),
        ({"max_age": 60, "expires": datetime(2030, 1, 1, tzinfo=UTC)}, "expires"),
    ],
)
def test_29_contradictions_are_refused_and_the_setting_is_named(wrong: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^CookieSettings\.{setting}: .+: .+"):
        CookieSettings(**wrong)


def test_29_a_writer_refuses_a_name_that_contradicts_its_settings() -> None:
    with pytest.raises(ConfigurationError, match=r"CookieSettings\.domain"):
        Writer(CookieSettings(domain="example.com"), "__Host-session", secure=True)


@pytest.mark.parametrize("name", PREFIXED)
def test_29_a_prefixed_name_is_refused_over_plain_http_where_browsers_would_drop_it(name: str) -> None:
    writer = Writer(CookieSettings(name=name), name, secure=False)

    with pytest.raises(ConfigurationError, match="HTTPS"):
        writer.set(GOOD, max_age=None, now=NOW)
    assert writer.clear().startswith(
        name.encode() + b"=;"
    )  # deleting never fails: a stranger's cookie could trigger it


@pytest.mark.parametrize("name", PREFIXED)
def test_29_a_prefix_that_keeps_its_promise_is_accepted(name: str) -> None:
    line = Writer(CookieSettings(name=name), name, secure=True).set(GOOD, max_age=None, now=NOW)

    assert {"secure", "httponly"} <= attributes(line).keys()


# --- 31: sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_age", [None, 3600])
def test_31_name_and_value_of_4096_octets_pass_and_4097_are_refused(max_age: int | None) -> None:
    room = MAX_COOKIE - len(HOST)

    assert b"=" + b"v" * room + b"; " in default_writer().set(b"v" * room, max_age=max_age, now=NOW)
    with pytest.raises(CookieTooLarge, match="4097 octets"):
        default_writer().set(b"v" * (room + 1), max_age=max_age, now=NOW)
    with pytest.raises(CookieTooLarge):
        build(CookieSettings(), "__Host-session", b"v" * (room + 1), secure=True, max_age=max_age)


@pytest.mark.parametrize("setting", ["path", "domain"])
def test_31_attribute_values_of_1024_octets_pass_and_1025_are_refused(setting: str) -> None:
    def value(length: int) -> str:
        return "/" + "a" * (length - 1) if setting == "path" else "a" * length

    assert getattr(CookieSettings(**cast(Any, {setting: value(MAX_ATTRIBUTE)})), setting) == value(
        MAX_ATTRIBUTE
    )
    with pytest.raises(ConfigurationError, match=rf"CookieSettings\.{setting}: 1025 octets"):
        CookieSettings(**cast(Any, {setting: value(MAX_ATTRIBUTE + 1)}))


# --- 33: lifetimes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_age", "message"),
    [
        (86_400_000, r"looks like milliseconds: use seconds \(86_400\) or timedelta"),
        (30 * 86_400_000, "looks like milliseconds"),
        (MAX_AGE + 1, "400 days"),
        (timedelta(days=401), "400 days"),
        (timedelta(days=3650), "400 days"),
        (0, "at once"),
        (-1, "at once"),
        (timedelta(milliseconds=999), "at once"),
        (True, "no lifetime"),
        (False, "no lifetime"),
        (3600.0, "no lifetime"),
        ("3600", "no lifetime"),
    ],
)
def test_33_lifetimes_browsers_would_not_keep_are_refused(max_age: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^CookieSettings\.max_age: .*{message}"):
        CookieSettings(max_age=max_age)


@pytest.mark.parametrize(
    ("max_age", "seconds"),
    [
        (1, 1),
        (86_400, 86_400),
        (MAX_AGE, MAX_AGE),
        (timedelta(days=400), MAX_AGE),
        (timedelta(seconds=1.9), 1),
    ],
)
def test_33_lifetimes_are_whole_seconds(max_age: int | timedelta, seconds: int) -> None:
    assert lifetime(CookieSettings(max_age=max_age), now=NOW) == seconds
    assert whole_seconds(max_age) == seconds


@many
@given(
    now=st.floats(min_value=0, max_value=4e9),
    left=st.floats(min_value=0, max_value=MAX_AGE) | st.integers(0, MAX_AGE),
)
def test_33_max_age_and_expires_both_say_what_is_left(now: float, left: float) -> None:
    sent = attributes(default_writer().set(GOOD, max_age=left, now=now))

    assert left - 1 < int(sent["max-age"]) <= left
    assert sent["expires"] == formatdate(int(now + left), usegmt=True)


def test_33_the_writer_never_asks_for_more_than_400_days_or_less_than_nothing() -> None:
    for asked, sent in ((MAX_AGE + 1, MAX_AGE), (10**9, MAX_AGE), (-5, 0), (0.9, 0)):
        parsed = attributes(default_writer().set(GOOD, max_age=asked, now=NOW))
        assert parsed["max-age"] == str(sent)
        assert parsed["expires"] == formatdate(NOW + sent, usegmt=True)
        built = build(CookieSettings(), "sid", GOOD, secure=True, max_age=int(asked))
        assert attributes(built)["max-age"] == str(sent)


def test_33_a_fixed_end_counts_down_and_needs_a_time_zone() -> None:
    end = datetime.fromtimestamp(NOW + 90.5, tz=timezone(timedelta(hours=5)))
    fixed = CookieSettings(expires=end)

    assert lifetime(fixed, now=NOW) == 90
    assert lifetime(fixed, now=NOW + 90) == 0
    assert lifetime(fixed, now=NOW + 1_000) == 0
    assert lifetime(fixed, now=NOW - 10 * MAX_AGE) == MAX_AGE
    for wrong in (end.replace(tzinfo=None), NOW, "tomorrow"):
        with pytest.raises(ConfigurationError, match=r"CookieSettings\.expires: .*time zone"):
            CookieSettings(expires=cast(Any, wrong))


# --- 34: deletion ------------------------------------------------------------------------------------------------------

SECURE: tuple[bool | Literal["auto"], ...] = ("auto", True, False)
SAME_SITE: tuple[Literal["lax", "none", "auto"] | bool, ...] = ("lax", "none", "auto", False)
EVERY_SCOPE = [
    CookieSettings(path=path, domain=domain, secure=secure, partitioned=partitioned, same_site=same_site)
    for path in ("/", "/app")
    for domain in (None, "example.com")
    for secure in SECURE
    for partitioned in (False, True)
    for same_site in SAME_SITE
    if secure is not False or (not partitioned and same_site != "none")
]


@pytest.mark.parametrize("https", [True, False])
@pytest.mark.parametrize("chosen", EVERY_SCOPE)
def test_34_deletion_repeats_every_attribute_that_tells_cookies_apart(
    chosen: CookieSettings, https: bool
) -> None:
    writer = Writer(chosen, names(chosen)[0 if https else 1], secure=https)
    kept = attributes(writer.set(GOOD, max_age=3600, now=NOW))
    gone = attributes(writer.clear())

    assert gone.pop("max-age") == "0"
    assert gone.pop("expires") == "Thu, 01 Jan 1970 00:00:00 GMT"
    del kept["max-age"], kept["expires"]
    assert gone == kept


@pytest.mark.parametrize("chosen", [each for each in EVERY_SCOPE if each.secure is not False])
def test_34_after_deletion_the_jar_is_empty(chosen: CookieSettings) -> None:
    jar = http.cookiejar.CookieJar()
    writer = Writer(chosen, names(chosen)[0], secure=True)

    receive(jar, writer.set(GOOD, max_age=3600, now=datetime.now(UTC).timestamp()))
    assert [(cookie.name, cookie.value) for cookie in jar] == [(writer.name, GOOD.decode())]
    receive(jar, writer.clear())
    assert list(jar) == []


def receive(jar: http.cookiejar.CookieJar, line: bytes) -> None:
    response = email.message.Message()
    response["Set-Cookie"] = line.decode("ascii")
    response.info = lambda: response  # type: ignore[attr-defined]  # all the jar asks of a response
    jar.extract_cookies(cast(Any, response), urllib.request.Request("https://www.example.com/app/page"))


# --- 35: injection -----------------------------------------------------------------------------------------------------

NEVER = ["\r", "\n", "\r\nX: y", ";", ",", "\x00", "\x1f", "\x7f", "é", "\u2028", "\udc80", " ", "\t"]


@pytest.mark.parametrize("mark", NEVER)
@pytest.mark.parametrize("setting", ["name", "path", "domain"])
def test_35_nothing_configured_can_carry_a_header(setting: str, mark: str) -> None:
    stem = "/a" if setting == "path" else "a"
    for value in (stem + mark, stem + mark + "b"):
        with pytest.raises(ConfigurationError, match=rf"^CookieSettings\.{setting}: ") as refused:
            CookieSettings(**cast(Any, {setting: value}))
        assert str(refused.value).isprintable()
        assert str(refused.value).isascii()


def test_35_every_octet_of_a_value_is_a_cookie_octet_or_refused() -> None:
    forbidden = {*range(0x21), 0x22, 0x2C, 0x3B, 0x5C, *range(0x7F, 0x100)}  # RFC 6265bis section 4.1.1
    for octet in range(0x100):
        value = b"hidden" + bytes([octet]) + b"secret"
        if octet not in forbidden:
            assert value in default_writer().set(value, max_age=None, now=NOW)
            continue
        with pytest.raises(ValueError, match="cookie-octets") as refused:
            default_writer().set(value, max_age=None, now=NOW)
        assert not isinstance(refused.value, (ConfigurationError, CookieTooLarge))
        assert "hidden" not in str(refused.value)
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a\n", '"a"', "a/b", "a(b)", "[]", "ä", None, b"sid"])
def test_35_a_name_is_a_token(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^CookieSettings\.name: "):
        Writer(CookieSettings(), name, secure=True)


@pytest.mark.parametrize("path", ["", "app", "http://x/", "\\", None, 5])
def test_35_a_path_begins_with_a_slash(path: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'^CookieSettings\.path: .*start it with "/"'):
        CookieSettings(path=path)


@pytest.mark.parametrize("domain", ["", ".", "a..b", "https://a.b", "a.b:80", "a.b/", "bücher.example", 5])
def test_35_a_domain_is_a_bare_host_name(domain: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^CookieSettings\.domain: .*bare host name"):
        CookieSettings(domain=domain)


# --- 41-48: reading ----------------------------------------------------------------------------------------------------


def test_41_duplicate_cookies_are_all_returned_in_order() -> None:
    for order in itertools.permutations((GOOD, BAD, OTHER)):
        header = b"; ".join(HOST + b"=" + value for value in order)
        assert find([header], HOST) == list(order)
        assert find([b"a=b; " + header + b"; c=d"], HOST) == list(order)


def test_42_more_candidates_than_the_bound_count_as_none() -> None:
    def tossed(n: int) -> bytes:
        return b"; ".join([b"a=b", *(b"sid=%d" % i for i in range(n))])

    assert find([tossed(MOST)], b"sid") == [b"%d" % i for i in range(MOST)]
    assert find([tossed(MOST + 1)], b"sid") == []
    assert find([tossed(500)], b"sid") == []
    assert find([tossed(3)], b"sid", most=2) == []


def test_42_five_hundred_candidates_cost_less_than_five_milliseconds() -> None:
    header = b"; ".join(b"sid=%d" % i for i in range(500))

    assert min(timeit.repeat(lambda: find([header], b"sid"), number=1, repeat=20)) < 0.005


@pytest.mark.parametrize(
    "other",
    [
        b"__%48ost-session=x",
        b"__host-session=x",
        b"__HOST-SESSION=x",
        b'"__Host-session"=x',
        b"x__Host-session=x",
        b"__Host-session2=x",
        b"__Host-session =x",
        b"__Host-session\t=x",
        b"__Host-session\x00=x",
        b"\x0b__Host-session=x",
        b"\xa0__Host-session=x",
        b"a=__Host-session=x",
        b'a="__Host-session=x"',
        b"a=b __Host-session=x",
        b"a=b,__Host-session=x",
        b"a __Host-session=x",
        b"__Host%2Dsession=x",
        b"__Host-session%3Dx",
    ],
)
def test_43_names_are_matched_byte_for_byte(other: bytes) -> None:
    ours = HOST + b"=" + GOOD

    assert find([other], HOST) == []
    assert find([other + b"; " + ours], HOST) == [GOOD]
    assert find([ours + b"; " + other], HOST) == [GOOD]


@pytest.mark.parametrize(
    "header", [b"=__Host-session=x", b"; =__Host-session=x", b"a=b;=__Host-session=x", b"= x"]
)
def test_44_nameless_cookies_are_ignored(header: bytes) -> None:
    assert find([header], HOST) == []
    assert find([header + b"; __Host-session=" + GOOD], HOST) == [GOOD]


@pytest.mark.parametrize(
    "header",
    [
        b'x[]=1; ga="a=b; sid=%b',
        b";;; sid=%b",
        b"sid=%b; \x80=\xff",
        b'ga="unclosed; sid=%b',
        b'ga="; sid=%b; gb="',
        b"$Version=1; sid=%b",
        b"a,b=c,d; sid=%b",
        b"=; sid=%b",
        b"nothing; sid=%b",
        b"sid; sid=%b",
        b"a=\\; sid=%b;",
        b"a=b;sid=%b",
        b"a=b;  \t sid=%b",
        b" sid=%b",
        b"\tsid=%b \t",
        b"sid= \t%b; a=b",
        b"xsid=1; sid=%b; sidx=2",
        b"\x00\x01; sid=%b; \xf0\x9f",
    ],
)
def test_45_malformed_pairs_are_skipped_and_the_rest_is_kept(header: bytes) -> None:
    assert find([header % GOOD], b"sid") == [GOOD]


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "quoted backslashes": lambda n: b'sid="' + b"\\" * n,
    "name within names": lambda n: b"x" + b"sid=" * (n // 4),
    "name within values": lambda n: b"a=sid=;" * (n // 7),
    "name after spaces": lambda n: b"x" + (b" " * 96 + b"sid=") * (n // 100),
    "separators": lambda n: b";" * n + b"sid=1",
    "spaces": lambda n: b"a=b;" + b" " * n + b"sid=1",
    "spaces in the value": lambda n: b"a=b;sid=" + b" " * n + b"1",
    "near misses": lambda n: b"si" * (n // 2),
    "candidates": lambda n: b"sid=1;" * (n // 6),
    "other cookies": lambda n: b"a=b; " * (n // 5) + b"sid=1; sid=2",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_46_reading_takes_linear_time(hostile: Callable[[int], bytes]) -> None:
    headers = {n: hostile(n) for n in (4_000, 8_000, 16_000, 32_000, 64_000)}
    assert max(map(len, headers.values())) <= MAX_HEADER
    best, worst = dict.fromkeys(headers, float("inf")), float("inf")
    # The least of many interleaved timings. On a busy machine some need more rounds than others to meet a quiet moment;
    # what is quadratic quadruples in every round, and at every doubling. One jump is none: from some length on, in some heaps,
    # the allocator gives pages back and asks for them again at every call.
    for done in range(100):
        for n, header in headers.items():
            best[n] = min(best[n], timeit.timeit(functools.partial(find_in, header, b"sid"), number=5))
        growth = [best[twice] / best[n] for n, twice in itertools.pairwise(headers)]
        worst = max(min(pair) for pair in itertools.pairwise(growth))
        if done >= 5 and worst <= 2.5:
            return
    pytest.fail(f"twice the length took {worst:.2f} times as long, twice in a row: {best}")


def test_46_over_the_byte_cap_the_header_counts_as_absent() -> None:
    ours = b"sid=" + GOOD + b"; a="
    fits = ours + b"x" * (MAX_HEADER - len(ours))

    assert find([fits], b"sid") == [GOOD]
    assert find([fits + b"x"], b"sid") == []
    assert find([b"sid=" + GOOD, b"a=" + b"x" * MAX_HEADER], b"sid") == []  # the fields count together
    assert find([b"sid=" + GOOD, *([b"a=b"] * MAX_HEADER)], b"sid") == []


def test_47_a_cookie_header_split_into_fields_reads_as_one() -> None:
    assert find([b"a=b", b"sid=" + GOOD], b"sid") == [GOOD]
    assert find([b"sid=" + GOOD, b"a=b"], b"sid") == [GOOD]
    assert find([b"a=b", b"sid=" + GOOD, b"sid=" + BAD + b"; c=d"], b"sid") == [GOOD, BAD]
    assert find([b"a=b; sid=" + GOOD + b";", b"", b" sid=" + BAD], b"sid") == [GOOD, BAD]
    assert find([], b"sid") == []
    assert find([b""], b"sid") == []
    assert find(iter([b"a=b", b"sid=" + GOOD]), b"sid") == [GOOD]
    assert find([b"s", b"id=1"], b"sid") == []  # a field's end is a pair's end


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b'"%b"', b'"%b"'),  # not unquoted: our own values never have quotes, so this one will not verify
        (b"\\%b", b"\\%b"),
        (b"%b==", b"%b=="),
        (b"%%41%b", b"%%41%b"),
        (b"%b+/", b"%b+/"),
        (b"a%b c", b"a%b c"),
        (b" \t%b\t ", b"%b"),
        (b"\x0b%b\x0c", b"\x0b%b\x0c"),  # whitespace to Python, not to HTTP
    ],
)
def test_48_values_are_trimmed_and_otherwise_untouched(sent: bytes, read: bytes) -> None:
    assert find([b"a=b; sid=" + sent % GOOD + b"; c=d"], b"sid") == [read % GOOD]
    assert find([b"sid=" + sent % GOOD], b"sid") == [read % GOOD]


def test_48_an_empty_value_is_a_candidate_too() -> None:
    assert find([b"sid=; sid= ; a=b; sid="], b"sid") == [b"", b"", b""]


# --- 52: whatever comes in ---------------------------------------------------------------------------------------------

atoms = st.sampled_from([*fuzzing.ATOMS, b"sid=", b"sid", b"sid=", b"a=b; "]) | st.binary(max_size=3)
fields = st.lists(st.lists(atoms, max_size=15).map(b"".join) | st.binary(max_size=60), max_size=4)


@many
@given(headers=fields, most=st.integers(1, 4))
def test_52_the_reader_agrees_with_the_obvious_one(headers: list[bytes], most: int) -> None:
    expected = fuzzing.reference(headers, b"sid", most=most)

    assert find(headers, b"sid", most=most) == expected
    if len(headers) == 1:
        assert find_in(headers[0], b"sid", most=most) == expected


@many
@given(
    value=st.binary(max_size=200),
    before=st.lists(st.sampled_from([b"a=b", b"xsid=1", b'q="', b"="]), max_size=3),
)
def test_52_what_is_written_reads_back(value: bytes, before: list[bytes]) -> None:
    try:
        line = default_writer().set(value, max_age=60, now=NOW)
    except ValueError:
        assert not fuzzing.cookie_octets(value)
        return
    assert find([b"; ".join([*before, line.partition(b";")[0]])], HOST) == [value]


def test_52_random_and_mutated_input_breaks_no_promise() -> None:
    rng = random.Random(52)
    for _ in range(5_000):
        fuzzing.check(fuzzing.generate(rng))


def broken_substring(headers: Iterable[bytes], name: bytes) -> list[bytes]:
    return [part.split(b";")[0].strip(b" \t") for part in b"; ".join(headers).split(name + b"=")[1:]]


def broken_last_wins(headers: Iterable[bytes], name: bytes) -> list[bytes]:
    return find(headers, name)[-1:]


def broken_unquotes(headers: Iterable[bytes], name: bytes) -> list[bytes]:
    return [value.strip(b'"') for value in find(headers, name)]


@pytest.mark.parametrize("broken", [broken_substring, broken_last_wins, broken_unquotes])
def test_52_the_fuzzer_finds_planted_faults(broken: fuzzing.Find) -> None:
    rng = random.Random(52)

    def search() -> None:
        for _ in range(5_000):
            fuzzing.check(fuzzing.generate(rng), broken)

    with pytest.raises(AssertionError, match="expected"):
        search()


# --- settings and attributes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_settings", "expected"),
    [
        ({"same_site": "Lax"}, "Lax"),
        ({"same_site": "STRICT"}, "Strict"),
        ({"same_site": True}, "Strict"),
        ({"same_site": False}, None),
        ({"same_site": "None"}, "None"),
        ({"same_site": "Auto"}, "None"),
        ({"same_site": "auto", "secure": False, "name": "sid"}, "Lax"),
    ],
)
def test_same_site_over_https(given_settings: dict[str, Any], expected: str | None) -> None:
    chosen = CookieSettings(**given_settings)
    line = Writer(chosen, names(chosen)[0], secure=True).set(GOOD, max_age=None, now=NOW)

    assert attributes(line).get("samesite") == expected


@pytest.mark.parametrize("same_site", ["none", "auto", "lax"])
def test_over_loopback_http_nothing_is_sent_that_needs_a_secure_origin(same_site: Any) -> None:
    chosen = CookieSettings(same_site=same_site, partitioned=True)
    line = Writer(chosen, "session", secure=False).set(GOOD, max_age=None, now=NOW)

    assert attributes(line) == {"path": "/", "httponly": "", "samesite": "Lax"}


def test_39_secure_is_not_dropped_over_http_where_the_settings_insist_on_it() -> None:
    chosen = CookieSettings(secure=True, same_site="none", partitioned=True)
    line = Writer(chosen, "session", secure=False).set(GOOD, max_age=None, now=NOW)

    assert attributes(line) == {"path": "/", "httponly": "", "secure": "", "samesite": "Lax"}


def test_partitioned_implies_secure() -> None:
    line = build(CookieSettings(partitioned=True), "__Host-session", GOOD, secure=True, max_age=None)

    assert {"partitioned", "secure"} <= attributes(line).keys()


@pytest.mark.parametrize(
    "wrong",
    [
        {"same_site": None},
        {"same_site": "laxx"},
        {"same_site": 1},
        {"secure": None},
        {"secure": 1},
        {"secure": "yes"},
        {"http_only": None},
        {"http_only": 1},
        {"partitioned": "yes"},
        {"priority": "urgent"},
        {"priority": True},
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused_with_the_choices(wrong: dict[str, Any]) -> None:
    (setting,) = wrong
    with pytest.raises(ConfigurationError, match=rf"^CookieSettings\.{setting}: .*: use .*(True|None|False)"):
        CookieSettings(**wrong)


def test_settings_are_frozen_keyword_only_and_survive_replacement() -> None:
    chosen = CookieSettings(same_site=True, priority="HIGH", secure="Auto")  # type: ignore[arg-type]  # any case of letters

    assert (chosen.same_site, chosen.priority, chosen.secure) == ("strict", "high", "auto")
    assert dataclasses.replace(chosen, path="/") == chosen
    with pytest.raises(dataclasses.FrozenInstanceError):
        chosen.path = "/x"  # type: ignore[misc]  # what the test is about
    with pytest.raises(TypeError):
        CookieSettings("sid")  # type: ignore[call-arg]  # likewise


# Set-Cookie lines of Node's `cookie` 0.7.2, as sent by express-session 1.19.0.
FROM_NODE = [
    (CookieSettings(same_site=False), None, b"; Path=/; HttpOnly"),
    (
        CookieSettings(same_site=False),
        "2026-11-23T13:15:40.678Z",
        b"; Path=/; Expires=Mon, 23 Nov 2026 13:15:40 GMT; HttpOnly",
    ),
    (
        CookieSettings(path="/app", secure=True, same_site="lax", domain="example.com"),
        "2026-11-23T13:15:40.678Z",
        b"; Domain=example.com; Path=/app; Expires=Mon, 23 Nov 2026 13:15:40 GMT; HttpOnly; Secure; SameSite=Lax",
    ),
    (
        CookieSettings(secure=True, same_site="none", partitioned=True, priority="high"),
        None,
        b"; Path=/; HttpOnly; Secure; Partitioned; Priority=High; SameSite=None",
    ),
    (CookieSettings(same_site=True, http_only=False), None, b"; Path=/; SameSite=Strict"),
]


@pytest.mark.parametrize(("chosen", "end", "expected"), FROM_NODE)
def test_attributes_leave_in_the_order_of_node(
    chosen: CookieSettings, end: str | None, expected: bytes
) -> None:
    expires = None if end is None else datetime.fromisoformat(end).timestamp()
    https = chosen.secure is True
    line = build(chosen, "connect.sid", b"s%3Ax.y", secure=https, max_age=None, expires=expires)

    assert line == b"connect.sid=s%3Ax.y" + expected


def test_max_age_comes_first_and_expires_before_the_flags() -> None:
    line = default_writer().set(GOOD, max_age=3600, now=0)

    expected = (
        b"; Max-Age=3600; Path=/; Expires=Thu, 01 Jan 1970 01:00:00 GMT; HttpOnly; Secure; SameSite=Lax"
    )
    assert line == HOST + b"=" + GOOD + expected
    built = build(CookieSettings(), "__Host-session", GOOD, secure=True, max_age=3600, expires=3600)
    assert built == line


@many
@given(second=st.integers(0, 253_402_300_799))
def test_dates_are_imf_fixdates(second: int) -> None:
    line = build(CookieSettings(), "sid", b"", secure=True, max_age=None, expires=second)

    assert attributes(line)["expires"] == formatdate(second, usegmt=True)


def test_a_writer_shows_its_attributes_and_no_value() -> None:
    assert repr(default_writer()) == "<Writer __Host-session; Path=/; HttpOnly; Secure; SameSite=Lax>"
