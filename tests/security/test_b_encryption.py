"""Encrypted cookies and records: lines 13, 14, 16, 17, 22 to 27, 31, 32 and 126. Each test is named after its line."""

import hmac
import json
import os
import sqlite3
import time
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from coatcheck import ConfigurationError, CookieSettings, CookieTooLarge, Options, SessionManager, Timeouts
from coatcheck import carrying as carrying_module
from coatcheck.carrying import Carrier, carrier_of
from coatcheck.core.cookies import MAX_COOKIE
from coatcheck.core.events import Event
from coatcheck.core.ids import Ticket
from coatcheck.core.record import Record
from coatcheck.core.signing import hkdf
from coatcheck.errors import BadSignature, CorruptRecord
from coatcheck.security import encryption
from coatcheck.security.encryption import OVERHEAD, Envelopes, bind
from coatcheck.stores.cookie import LONGEST, Carried, CookieStore
from coatcheck.stores.encrypted import Encrypted
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from tests.security.rig import OTHER_SECRET, SECRET
from tests.stores.cookie_site import KINDS, NAME, NOON, Browser, Site, logs_in, logs_out, puts, who

GOLDEN = Path(__file__).parents[1] / "data" / "envelopes.json"
KEY, OLD = SECRET.encode(), OTHER_SECRET.encode()
PURPOSE = "records at rest"
BOUND = bind("record 1", "a-key", "v1")


def ring(*secrets: bytes, purpose: str = PURPOSE) -> Envelopes:
    return Envelopes(secrets or (KEY,), purpose=purpose)


def refused(envelopes: Envelopes, envelope: bytes, bound: bytes = BOUND) -> bool:
    try:
        envelopes.open(envelope, bound=bound)
    except BadSignature:
        return True
    return False


def carrier(name: str = NAME, secret: Any = SECRET, octets: int = 7_168) -> Carrier:
    return carrier_of(CookieSettings(), name, secret, octets, secure=True)


def a_record(data: bytes = b'{"a":1}', **fields: Any) -> Record:
    values: dict[str, Any] = {
        "key": "k" * 24, "versions": ("v",), "verifier": bytes(32), "data": data, "created_at": NOON, "seen_at": NOON,
        "deadline": NOON + 60.0, "ends_at": NOON + 600.0,
    }  # fmt: skip
    return Record(**(values | fields))


def header(of: Carrier, record: Record) -> bytes:
    """The Cookie field that a browser sends."""
    sets = of.set(record, b"", max_age=None, now=NOON)
    return "; ".join(field.split(";")[0] for field in sets).encode()


def is_in(of: Carrier, cookies: bytes) -> Record | None:
    """The session that these cookies hold."""
    found, _ = of.read(cookies, NOON)
    if found is None:
        return None
    key = found[0].locator
    assert isinstance(key, Carried)
    return key.record


# ------------------------------------------------------------------------------------------------- before the seal


def test_line_13_nothing_is_unpacked_before_the_seal_has_held(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bytes] = []
    monkeypatch.setattr(carrying_module, "unpacked", looked.append)
    good = header(carrier(secret=OTHER_SECRET), a_record())
    bomb = b"\xdd\xff\xff\xff\xff" + b"\x91" * 3_000  # arrays of four thousand million arrays
    forged = f"{NAME}=1.".encode() + urlsafe_b64encode(b"\x01" + os.urandom(32) + bomb).rstrip(b"=")
    for cookies in (good, forged, f"{NAME}=1.".encode() + b64encode(bomb)):
        assert carrier().read(cookies, NOON) == (None, "cookie.forged")
    assert looked == []


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"1.",
        b"0.AAAA",
        b"9.AAAA",
        b"x",
        b"1",
        b64encode(b'{"user_id":"ada"}'),
        b"1." + b64encode(b'{"user_id":"ada"}'),
        b'{"user_id":"ada"}',
        b"1." + urlsafe_b64encode(b"\x80\x04\x95pickle"),
        b"a" * 24 + b"." + b"b" * 44 + b"c" * 32,
        b"1." + b"\xff" * 100,
        b"1." + b"A" * 60_000,
    ],
)
def test_line_14_what_does_not_open_is_no_session_and_nothing_else_is_tried(value: bytes) -> None:
    assert carrier().read(NAME.encode() + b"=" + value, NOON) == (None, "cookie.forged")


@pytest.mark.parametrize("id_", [b"\0\0\0\0", b"../x", b"\xff\xff\xff\xff"])
def test_line_16_a_key_id_names_a_key_of_the_ring_or_nothing(
    id_: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it says, one key is tried, once."""
    envelope = ring().seal(b"x", bound=BOUND)
    tried: list[bytes] = []

    def counted(key: bytes) -> AESGCM:
        tried.append(key)
        return AESGCM(key)

    monkeypatch.setattr(encryption, "AESGCM", counted)
    assert refused(ring(KEY, OLD), envelope[:1] + id_ + envelope[5:])
    assert len(tried) == 1


def test_line_17_what_is_sealed_for_one_place_opens_in_no_other() -> None:
    envelope = ring().seal(b"x", bound=BOUND)
    assert not refused(ring(), envelope)
    assert refused(ring(purpose="session in cookie:a"), envelope)
    assert refused(ring(), envelope, bind("record 1", "a-key", "v2"))
    cookies = header(carrier("a"), a_record())
    assert is_in(carrier("a"), cookies) == a_record()
    assert is_in(carrier("b"), b"b" + cookies[1:]) is None
    assert bind("ab", "c") != bind("a", "bc")


# ---------------------------------------------------------------------------------------------------- lines 22 to 25


def test_line_22_no_envelope_is_like_another() -> None:
    envelopes = ring()
    sealed = [envelopes.seal(b"the same", bound=BOUND) for _ in range(20_000)]
    assert len({envelope[5:33] for envelope in sealed}) == len({e[33:] for e in sealed}) == 20_000
    blocks = envelopes.seal(b"sixteen octets !" * 1_000, bound=BOUND)[33:-16]
    assert len({blocks[at : at + 16] for at in range(0, len(blocks), 16)}) == 1_000


def test_line_22_every_bit_that_is_flipped_is_refused() -> None:
    reader, cookies = carrier(), header(carrier(), a_record())
    assert is_in(reader, cookies) == a_record()
    start = cookies.index(b"=") + 1
    for at in range(start, len(cookies)):
        for bit in range(8):
            flipped = bytearray(cookies)
            flipped[at] ^= 1 << bit
            assert is_in(reader, bytes(flipped)) is None, (at, bit)


def test_line_22_every_bit_of_an_envelope_counts() -> None:
    envelope = ring().seal(b"x" * 20, bound=BOUND)
    for bit in range(len(envelope) * 8):
        flipped = bytearray(envelope)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refused(ring(), bytes(flipped)), bit


def test_line_22_the_form_is_what_it_was() -> None:
    """Golden envelopes, and the same made of nothing but HMAC and AES-GCM: what is stored today opens tomorrow."""
    for case in json.loads(GOLDEN.read_text())["envelopes"]:
        envelope, bound, plaintext = (
            bytes.fromhex(case[name]) for name in ("envelope", "bound", "plaintext")
        )
        secret = case["secret"].encode()
        assert ring(secret, purpose=case["purpose"]).open(envelope, bound=bound) == (plaintext, False)
        purpose = case["purpose"]
        id_ = hkdf(secret, salt=b"coatcheck v1", info=f"{purpose}: key id".encode(), length=4)
        key = hkdf(secret, salt=b"coatcheck v1", info=f"{purpose}: sealing".encode(), length=32)
        head, salt, nonce = envelope[:33], envelope[5:21], envelope[21:33]
        once = hmac.new(key, b"envelope " + salt + b"\x01", sha256).digest()
        assert head == b"\x01" + id_ + salt + nonce
        assert AESGCM(once).encrypt(nonce, plaintext, head + bound) == envelope[33:]


@pytest.mark.parametrize("octets", [*range(1, 17), -1, -8, -16])
def test_line_23_a_tag_has_its_sixteen_octets_and_a_nonce_its_twelve(octets: int) -> None:
    envelope = ring().seal(b"", bound=BOUND)
    assert len(envelope) == OVERHEAD
    assert refused(ring(), envelope[:-octets] if octets > 0 else envelope + bytes(-octets))
    assert refused(ring(), envelope[octets:] if octets > 0 else bytes(-octets) + envelope)


def test_line_24_no_key_seals_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """So there is no count of messages to keep, and none to exceed."""
    keys: list[bytes] = []

    class Noted:
        def __init__(self, key: bytes) -> None:
            keys.append(key)
            self.encrypt = AESGCM(key).encrypt

    monkeypatch.setattr(encryption, "AESGCM", Noted)
    envelopes = ring()
    for _ in range(10_000):
        envelopes.seal(b"x", bound=BOUND)
    assert len(set(keys)) == 10_000


def test_line_25_a_guess_beside_a_secret_does_not_change_the_length() -> None:
    secret = "csrf-token-Zt3xk0VbX1qv8m2LwP5rYd7N"
    sizes = {
        len(header(carrier(), a_record(json.dumps({"token": secret, "q": guess}).encode())))
        for guess in (secret, secret[:-1] + "!", "!" * len(secret))
    }
    assert len(sizes) == 1


def test_line_25_what_is_sealed_never_grows_when_it_is_opened() -> None:
    """There is nothing to inflate: the size that came in bounds the size that comes out."""
    for size in (0, 1, 1_000, 30_000):
        envelope = ring().seal(bytes(size), bound=BOUND)
        assert len(ring().open(envelope, bound=BOUND).plaintext) == size == len(envelope) - OVERHEAD


# ------------------------------------------------------------------------------------------------------- lines 26, 27


@pytest.fixture(params=["asgi", "wsgi"])
def face(request: pytest.FixtureRequest) -> str:
    face: str = request.param
    return face


@pytest.mark.parametrize("kind", KINDS)
def test_line_26_a_cookie_expires_on_the_server(face: str, kind: str) -> None:
    browser = Browser(Site(face, store=KINDS[kind]()))
    browser.do(lambda session: session.login("ada", remember=True))
    persistent = browser.copy()
    browser.do(logs_out)
    browser.do(logs_in())
    copied = browser.copy()
    browser.site.now += 3_599
    assert browser.copy().do(who) == "ada"
    browser.site.now += 3_601  # idle, since the request of a moment ago
    assert copied.do(who) is None
    if kind == "none":
        assert persistent.do(who) == "ada"
    browser.site.now = NOON + LONGEST
    assert persistent.do(who) is None


@pytest.mark.parametrize("kind", KINDS)
def test_line_26_nothing_extends_the_absolute_end(face: str, kind: str) -> None:
    browser = Browser(Site(face, store=KINDS[kind]()))
    browser.do(logs_in())
    while browser.site.now < NOON + LONGEST:
        assert browser.do(who) == "ada"
        browser.site.now += 3_000
    assert browser.do(who) is None


def test_line_27_a_copied_cookie_is_worth_nothing_after_the_logout(face: str) -> None:
    browser = Browser(Site(face, store=KINDS["epoch"]()))
    browser.do(logs_in())
    browser.do(puts(role="admin"))
    thief = browser.copy()
    assert thief.copy().do(who) == "ada"
    browser.do(logs_out)
    for _ in range(2):
        assert (thief.copy().do(who), thief.copy().do()) == (None, {})
        browser.site.now += 61


def test_line_27_nor_after_a_rotation_or_an_end_of_all(face: str) -> None:
    site = Site(face, store=KINDS["epoch"]())
    browser = Browser(site)
    browser.do(logs_in())
    thief = browser.copy()
    browser.do(lambda session: session.regenerate())
    assert (thief.do(who), browser.do(who)) == (None, "ada")
    thief = browser.copy()
    SessionManager(site.app.sessions._backend, clock=site.app.sessions.flows.clock).of("ada").end_all()
    assert (thief.do(who), browser.do(who)) == (None, None)


def test_line_27_without_revocation_it_has_to_be_said_and_lasts_a_day_at_most(face: str) -> None:
    with pytest.raises(ConfigurationError, match="works on after the logout"):
        Site(face, store="cookie:")
    with pytest.raises(ConfigurationError, match="works on after the logout"):
        CookieStore()
    with pytest.raises(ConfigurationError, match="at most 86400 seconds"):
        Site(face, store="cookie:?revocation=none", timeouts=Timeouts(absolute=LONGEST + 1))
    browser = Browser(Site(face, store="cookie:?revocation=none", timeouts=Timeouts(absolute=LONGEST)))
    browser.do(logs_in())
    assert browser.copy().do(who) == "ada"


# ------------------------------------------------------------------------------------------------------- lines 31, 32


def largest(site: Site) -> int:
    """How many octets of text still fit, found by trying."""
    low, high = 0, 40_000
    while low < high:
        middle = (low + high + 1) // 2
        try:
            Browser(site).do(puts(note="x" * middle))
        except CookieTooLarge:
            high = middle - 1
        else:
            low = middle
    return low


def test_line_31_one_octet_too_many_is_an_error_and_the_old_cookie_stays(face: str) -> None:
    site = Site(face, store=CookieStore(revocation="none", octets=3_900))
    most = largest(site)
    browser = Browser(site)
    browser.do(puts(note="x" * most))
    assert list(browser.jar) == [NAME]
    before = dict(browser.jar)
    with pytest.raises(CookieTooLarge):
        browser.do(puts(note="x" * (most + 1)))
    assert (browser.jar, browser.do()) == (before, {"note": "x" * most})


def test_line_31_no_cookie_of_ours_is_longer_than_browsers_keep() -> None:
    site = Site("wsgi", store=CookieStore(revocation="none", octets=32_768))
    for size in range(2_900, 3_100, 7):
        browser = Browser(site)
        browser.do(puts(note="x" * size))
        assert all(len(name) + len(value) <= MAX_COOKIE for name, value in browser.jar.items())
        assert browser.do() == {"note": "x" * size}


def test_line_32_fewer_pieces_delete_the_others(face: str) -> None:
    site = Site(face, store=CookieStore(revocation="epoch", store=MemoryStore(), octets=16_000))
    browser = Browser(site)
    browser.do(puts(note="x" * 9_000))
    assert list(browser.jar) == [NAME, f"{NAME}.1", f"{NAME}.2", f"{NAME}.3"]
    browser.do(puts(note=""))
    assert list(browser.jar) == [NAME]
    assert sorted(field.split("=")[0] for field in browser.fields if "Max-Age=0" in field) == [
        f"{NAME}.{number}" for number in (1, 2, 3)
    ]
    browser.do(puts(note="x" * 9_000))
    browser.do(logs_out)
    assert browser.jar == {}


@pytest.mark.parametrize("lost", range(4))
def test_line_32_a_missing_or_older_piece_spoils_the_whole(lost: int) -> None:
    site = Site("wsgi", store=CookieStore(revocation="none", octets=16_000))
    browser = Browser(site)
    browser.do(puts(note="x" * 9_000))
    older = dict(browser.jar)
    browser.do(puts(note="y" * 9_000))
    name = [NAME, f"{NAME}.1", f"{NAME}.2", f"{NAME}.3"][lost]
    without = {key: value for key, value in browser.jar.items() if key != name}
    for jar in (without, browser.jar | {name: older[name]}):
        browser.jar = dict(jar)
        assert browser.do() == {}


def test_line_32_the_whole_stays_below_what_servers_take(face: str) -> None:
    browser = Browser(Site(face, store=KINDS["epoch"]()))
    browser.do(puts(note="x" * (largest(browser.site))))
    assert len(f"Cookie: {browser.header}") < 8_190 - 800


# ---------------------------------------------------------------------------------------------------------- line 126


def test_line_126_a_dump_shows_nothing_and_a_swapped_row_opens_for_nobody(tmp_path: Path) -> None:
    below = SQLiteStore(tmp_path / "s.db")
    events: list[Event] = []
    manager = SessionManager(Encrypted(below, secret=OTHER_SECRET), options=Options(on_event=events.append))
    tickets = []
    for user in ("ada", "eve"):
        session = manager.session()
        session["note"] = f"plaintext-marker-of-{user}"
        session.login(user)
        session.save()
        assert session._verifier is not None
        tickets.append(Ticket(session.handle, session._verifier))
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"plaintext-marker" not in on_disk
    with sqlite3.connect(tmp_path / "s.db") as db:
        (one, *of_one), (other, *of_other) = db.execute("SELECT key, version, packed FROM session").fetchall()
        db.execute("UPDATE session SET version = ?, packed = ? WHERE key = ?", (*of_one, other))
        db.execute("UPDATE session SET version = ?, packed = ? WHERE key = ?", (*of_other, one))
    db.close()
    events.clear()
    assert [dict(manager.session(ticket)) for ticket in tickets] == [{}, {}]
    assert [event.name for event in events] == ["session.corrupt"] * 2


def test_line_126_a_record_opens_in_its_own_row_only() -> None:
    below = MemoryStore()
    sessions = Encrypted(below, secret=SECRET).blocking()
    for key in ("a", "b"):
        below._rows[key] = sessions.sealed(a_record(key=key), NOON)
    a, b = below._rows["a"], below._rows["b"]
    assert isinstance(a, Record)
    assert isinstance(b, Record)
    assert sessions.opened(a, NOON) == a_record(key="a")
    with pytest.raises(CorruptRecord):
        sessions.opened(replace(a, data=b.data), NOON)


# -------------------------------------------------------------------------------------------------- whatever may come


@given(st.binary(max_size=200) | st.binary(min_size=OVERHEAD, max_size=OVERHEAD + 40))
def test_whatever_comes_is_refused_in_one_way(envelope: bytes) -> None:
    assert refused(ring(), envelope)
    assert refused(ring(), b"\x01" + envelope)


@given(
    st.lists(
        st.tuples(st.sampled_from([NAME, f"{NAME}.1", f"{NAME}.8", "a"]), st.binary(max_size=60)), max_size=8
    )
)
def test_no_header_is_too_strange(pairs: list[tuple[str, bytes]]) -> None:
    cookies = b"; ".join(name.encode() + b"=" + value for name, value in pairs)
    found, event = carrier().read(cookies, NOON)
    assert found is None
    assert event in (None, "cookie.forged")


@settings(max_examples=60)
@given(st.binary(max_size=20_000), st.integers(0, 2**31), st.text(max_size=40))
def test_what_is_sealed_comes_back(data: bytes, epoch: int, user: str) -> None:
    record = a_record(data, epoch=epoch, user_id=user or None)
    roomy = carrier(octets=32_768)
    assert is_in(roomy, header(roomy, record)) == record


def test_reading_takes_time_in_proportion() -> None:
    """Of a header as long as is read at all: eight candidates, each with eight pieces."""
    reader = carrier(octets=32_768)

    def cost(size: int) -> float:
        pieces = [b"%s.%d=%s" % (NAME.encode(), n, b"A" * (size // 16)) for n in range(1, 9)]
        firsts = [b"%s=9.%s" % (NAME.encode(), bytes([65 + n]) * (size // 16)) for n in range(8)]
        cookies = b"; ".join([*firsts, *pieces])
        times = []
        for _ in range(5):
            began = time.process_time()
            assert reader.read(cookies, NOON) == (None, "cookie.forged")
            times.append(time.process_time() - began)
        return min(times)

    assert cost(60_000) < 0.05
    assert cost(60_000) < 30 * cost(6_000) + 0.002
