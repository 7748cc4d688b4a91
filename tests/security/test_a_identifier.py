"""Section A of the security checklist: the session identifier. Each test is named after its line."""

import hashlib
import os
import random
import struct
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from coatcheck.core.ids import RandomIds
from tests.security import timing
from tests.security.conftest import Make
from tests.security.rig import NAME, Ids, Sent, Site, decoded, forge, locator_of, stranger, verifier_of

ROOT = Path(__file__).resolve().parents[2]
BIASED = 7.0
"""Standard deviations. By chance once in 10^11 looks; a source with 7 bits to the byte is thousands away."""


# ------------------------------------------------------------------------------------------------------------- line 1


def test_line_1_ids_are_long_unique_and_without_bias(tmp_path: Path) -> None:
    """A hundred thousand visitors. The default store holds as many; nothing of an id depends on adapter or store."""
    site = Site("wsgi", "memory", tmp_path / "unused", on_event=lambda event: None)
    values = [response.value for response in site.flood(Sent("POST", "/set") for _ in range(100_000))]
    site.close()
    for parts in (map(verifier_of, values), map(locator_of, values)):
        ids = [decoded(part) for part in parts]
        assert len(set(ids)) == len(ids)
        assert not any(before[:4] == after[:4] for before, after in pairwise(ids[:5_000]))
        assert bias(ids) < BIASED
    assert len(decoded(verifier_of(values[0]))) >= 32
    assert len(decoded(locator_of(values[0]))) >= 16


def bias(ids: list[bytes]) -> float:
    """How many standard deviations the worst place is off: the bytes at each place (chi squared), and all bits together."""
    worst = 0.0
    for place in zip(*ids, strict=True):
        counts, expected = Counter(place), len(ids) / 256
        chi = sum((counts[byte] - expected) ** 2 / expected for byte in range(256))
        worst = max(worst, abs(chi - 255) / (2 * 255) ** 0.5)
    bits = len(ids) * len(ids[0]) * 8
    ones = sum(int.from_bytes(one, "big").bit_count() for one in ids)
    return max(worst, abs(2 * ones - bits) / bits**0.5)


def test_line_1_the_statistics_see_a_biased_source() -> None:
    rng = random.Random(1)
    good = [rng.randbytes(18) for _ in range(20_000)]
    assert bias(good) < BIASED
    assert bias([bytes(byte & 0x7F for byte in one) for one in good]) > BIASED


def test_line_1_seeding_the_random_module_changes_nothing(site: Site) -> None:
    """Ids do not come from `random`: whoever seeds it, for reproducible tests say, does not make ids guessable."""
    runs = []
    for _ in range(2):
        random.seed(0)
        runs.append({site.post("/set").value for _ in range(100)})
    assert not runs[0] & runs[1]


# ----------------------------------------------------------------------------------------------------------- lines 2, 3

FORKING = """
import os, sys, threading
from coatcheck.core.ids import RandomIds
ids = RandomIds()
ids.locator(), ids.verifier()  # used before the fork, as by a server that loads the application first
def write(number):
    text = "".join(f"{ids.locator()} {ids.verifier()} {ids.version()}\\n" for _ in range(2_500))
    with open(f"{sys.argv[1]}/{os.getpid()}-{number}", "w") as file:
        file.write(text)
children = []
for _ in range(8):
    if (child := os.fork()) == 0:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""


def test_line_2_ids_stay_unique_across_forks_and_threads(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", FORKING, str(tmp_path)], check=True, env=environment, timeout=120)
    lines = [line.split() for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert len(lines) == 8 * 4 * 2_500
    for column in zip(*lines, strict=True):
        assert len(set(column)) == len(lines)


def test_line_3_an_id_that_is_taken_is_never_given_again(make: Make) -> None:
    ids = Ids()
    site = make(ids=ids)
    ada = site.browser()
    ada.post("/login?user=ada")
    ada.post("/set?v=hers")
    ids.next = [ada.handle, ada.handle]
    eve = site.browser()
    eve.post("/set?v=mine")
    assert eve.handle != ada.handle
    ids.next = [ada.handle]
    bob = site.browser()
    bob.post("/login?user=bob")
    assert bob.handle != ada.handle
    assert [one.get("/read").text for one in (ada, eve)] == ["hers", "mine"]
    assert [one.get("/me").text for one in (ada, bob)] == ["ada", "bob"]


def test_line_3_the_id_of_a_session_that_has_just_ended_is_not_given_either(make: Make) -> None:
    ids = Ids()
    site = make(ids=ids)
    ada = site.browser()
    ada.post("/login?user=ada")
    handle = ada.handle
    ada.post("/logout")
    ids.next = [handle]
    assert locator_of(site.post("/set").value) != handle


# ----------------------------------------------------------------------------------------------------------- lines 4-6


def test_line_4_an_id_that_we_did_not_issue_is_never_adopted(site: Site) -> None:
    cookie = stranger()
    response = site.post("/set", cookie)
    sent = locator_of(cookie.decode().partition("=")[2])
    assert response.cookie
    assert locator_of(response.value) != sent
    assert verifier_of(response.value) != verifier_of(cookie.decode())
    assert not site.is_stored(sent)
    assert site.rows() == 1


def test_line_5_only_the_cookie_carries_the_id(site: Site) -> None:
    ada = site.browser()
    ada.post("/login?user=ada")
    live = ada.value
    site.store.told()
    tries = [
        site.get(f"/me?{NAME}={live}&session={live}&sid={live}&session_id={live}"),
        site.get(f"/me;{NAME}={live};jsessionid={live}"),
        site.get(
            "/me", headers=[(b"x-session-id", live.encode()), (b"authorization", f"Bearer {live}".encode())]
        ),
        site.get("/me", headers=[(b"set-cookie", ada.cookie), (b"cookie2", ada.cookie)]),
        site.post(
            "/wrong",
            body=f"{NAME}={live}".encode(),
            headers=[(b"content-type", b"application/x-www-form-urlencoded")],
        ),
    ]
    assert [response.status for response in tries] == [401, 404, 401, 401, 401]
    assert site.store.told() == []


HOSTILE = [
    b"", b"../../etc/passwd", b"a' OR 1=1--", b'{"$ne":""}', b"\\r\\nSET x 1", b"x" * 1_000_000, b"\x00" * 101, b"%2e%2e%2f",
    b"\xed\xa0\x80" * 34, b"." * 101, b"A" * 24 + b"." + b"A" * 76, b"\xff" * 101, "é".encode() * 50, b"A" * 101, b"-" * 205,
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_line_6_what_is_no_id_of_ours_does_not_reach_the_store(site: Site, value: bytes) -> None:
    for target in ("/read", "/me", "/has"):
        assert site.get(target, b"%s=%s" % (NAME.encode(), value)).status in (200, 401)
    assert site.get("/read", b"%s=%s" % (NAME.encode(), value)).text == "None"
    assert site.store.told() == []


# ------------------------------------------------------------------------------------------------------------ lines 7-9


def test_line_7_an_id_says_nothing_about_user_time_or_process(site: Site) -> None:
    values = [
        response.value
        for response in site.flood(Sent("POST", "/login?user=ada-lovelace") for _ in range(1_000))
    ]
    now = site.time.now
    known = [
        b"ada-lovelace",
        str(os.getpid()).zfill(6).encode(),
        str(int(now)).encode(),
        struct.pack(">d", now),
    ]
    known += [
        struct.pack("<d", now),
        hashlib.sha256(b"ada-lovelace").digest()[:8],
    ]
    for value in values:
        both = decoded(locator_of(value)) + decoded(verifier_of(value))
        assert not any(fact in both or fact in value.encode() for fact in known)
    assert len({locator_of(value)[:3] for value in values}) > 900
    assert NAME == "__Host-session"


def test_line_8_a_stolen_store_opens_nothing(site: Site) -> None:
    browsers = [site.browser() for _ in range(3)]
    for browser in browsers:
        browser.post("/set?v=kept")
        browser.post("/login?user=ada")
    dump = site.dump()
    for browser in browsers:
        handle, verifier = browser.handle, verifier_of(browser.value)
        assert handle.encode() in dump
        for secret in (browser.value.encode(), verifier.encode(), decoded(verifier), decoded(verifier)[:16]):
            assert secret not in dump
        stored = hashlib.sha256(verifier.encode()).digest()
        assert stored in dump or repr(stored)[2:-1].encode() in dump
        # Even somebody who could sign cookies gets nowhere with what is stored.
        assert site.get("/me", forge(handle, urlsafe_b64encode(stored).decode())).status == 401
        assert site.get("/me", forge(handle, urlsafe_b64encode(stored + b"\0").decode())).status == 401


def test_line_9_a_public_handle_opens_nothing(site: Site) -> None:
    ada, bob = site.browser(), site.browser()
    ada.post("/login?user=ada")
    bob.post("/login?user=bob")
    words = ada.get("/sessions").text.split()
    assert ada.handle in words
    for word in [*words, bob.handle]:
        for cookie in (f"{NAME}={word}", f"{NAME}={word}.{word}", f"{NAME}={word}.{'A' * 76}"):
            assert site.get("/me", cookie.encode()).status == 401
    assert site.get("/me", forge(ada.handle, RandomIds().verifier())).status == 401
    assert ada.send("DELETE", f"/sessions/{bob.handle}").status == 404
    assert bob.get("/me").text == "bob"
    assert bob.send("DELETE", f"/sessions/{bob.handle}").status == 204
    assert bob.get("/me").status == 401


# --------------------------------------------------------------------------------------------------------- lines 10, 11


def test_line_10_renewal_issues_one_new_id_and_the_old_one_ends_soon(site: Site) -> None:
    ada = site.browser()
    ada.post("/login?user=ada")
    old = ada.cookie
    site.time += 3600
    answers = site.together([("GET", "/me", old)] * 20)
    assert {(answer.status, answer.text) for answer in answers} == {(200, "ada")}
    assert len({answer.cookie for answer in answers} - {b""}) == 1
    new = next(answer.cookie for answer in answers if answer.cookie)
    assert (new != old, len(site.heard("session.renewed"))) == (True, 1)
    assert site.get("/me", new).text == "ada"  # the browser has it: from now on the old one has ten seconds
    site.time += 9.9
    late = site.get("/me", old)
    assert (late.text, late.cookie) == ("ada", new)
    site.time += 0.2
    assert site.get("/me", old).status == 401
    site.time += 3600
    over = site.get("/me", old)
    assert (over.status, over.cookies, len(site.heard("session.renewed"))) == (401, [], 1)
    assert site.get("/me", new).text == "ada"


def test_line_10_a_renewal_whose_answer_was_lost_logs_nobody_out(site: Site) -> None:
    ada = site.browser()
    ada.post("/login?user=ada")
    site.time += 3600
    site.expected = (OSError,)
    ada.get("/me", lost=True)
    site.time += 600
    again = ada.get("/me")
    assert (again.text, len(again.cookies)) == ("ada", 1)
    assert ada.get("/me").text == "ada"


def test_line_11_a_look_up_compares_no_secret_byte_by_byte(site: Site) -> None:
    """The store is asked for the locator, which is public; the verifier never reaches it."""
    ada = site.browser()
    ada.post("/login?user=ada")
    asked: list[str] = []
    face = site.app.sessions.flows.store.face
    original = face.load

    async def load(key: str, *, now: float) -> object:
        asked.append(key)
        return await original(key, now=now)

    face.load = load
    assert ada.get("/me").text == "ada"
    assert asked == [ada.handle]


@pytest.mark.slow
def test_line_11_the_time_of_a_look_up_tells_nothing(tmp_path: Path) -> None:
    """A verifier that shares all but its last character with the right one takes as long to refuse as a random one."""
    site = Site("wsgi", "memory", tmp_path / "unused")
    ada = site.browser()
    ada.post("/login?user=ada")
    right = verifier_of(ada.value)
    near = [forge(ada.handle, right[:-1] + other) for other in "ABCDEFGHIJKLMNOP" if other != right[-1]]
    far = [forge(ada.handle, RandomIds().verifier()) for _ in near]
    site.exchange._remember = lambda key, reading: None
    site.close()
    assert timing.is_level(lambda cookie: site.get("/me", cookie), near, far, rounds=10_000)


def test_line_11_the_timing_test_sees_a_leak() -> None:
    secret = "s" * 200_000
    near, far = "s" * 199_999 + "x", "x" + "s" * 199_999
    assert not timing.is_level(lambda given: secret == given, [near], [far], rounds=2_000)
