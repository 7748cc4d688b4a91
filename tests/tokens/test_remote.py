"""Keys of other services, and keys in a file: read ahead of need, kept when reading fails, never asked for by a token (138)."""

import datetime
import ipaddress
import itertools
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from coatcheck import ConfigurationError, InvalidToken, SessionManager, StoreUnavailable
from coatcheck.tokens import Key, KeyFile, KeyRing, RemoteKeys, Tokens, TokenVerifier, base64url, jws
from coatcheck.tokens import remote as module
from coatcheck.tokens.remote import MAX_SIZE
from tests.tokens.test_keys import number, private_jwk

NOW = 1_800_000_000.0
OLD, NEW = Key.generate("ES256", kid="old"), Key.generate("ES256", kid="new")


def set_of(*keys: Key) -> bytes:
    return json.dumps(KeyRing(keys).jwks()).encode()


class Issuer:
    """A server of a JWK set on this machine, which counts how often it is asked."""

    def __init__(self) -> None:
        self.body, self.status, self.headers = set_of(OLD), 200, dict[str, str]()
        self.asked: list[str] = []
        self.before_answer: Callable[[BaseHTTPRequestHandler], bool] = lambda _: True
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                if not issuer.before_answer(self):
                    return
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(issuer.body)))
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/jwks?v=1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


class Reader:
    """A service that reads the keys of the issuer: its clock, and its fetches run to their end when it says so."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch, **terms: Any) -> None:
        self.now, self.errors = 1000.0, list[Exception]()
        self.waiting = 0
        terms = {"allow_http": True, **terms}
        self.keys = RemoteKeys(url, monotonic=lambda: self.now, on_error=self.errors.append, **terms)
        self.verifier = TokenVerifier(self.keys, issuer="i", audience="a", clock=lambda: NOW)
        monkeypatch.setattr(self.keys, "_start", self._hold)

    def _hold(self) -> None:
        self.waiting += 1

    def settle(self) -> int:
        """Let every fetch that was begun come to its end; returns how many there were."""
        begun, self.waiting = self.waiting, 0
        for _ in range(begun):
            self.keys._try()
        return begun

    def why(self, token: str) -> str:
        with pytest.raises(InvalidToken) as caught:
            self.verifier.verify(token)
        return caught.value.reason


@pytest.fixture
def reader(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Reader:
    return Reader(issuer.url, monkeypatch)


def token(key: Key) -> str:
    claims = {"iss": "i", "sub": "42", "aud": "a", "exp": NOW + 600, "iat": NOW, "jti": "j", "client_id": "c"}
    return jws.sign(key, json.dumps(claims).encode(), typ="at+jwt")


def test_the_first_token_has_the_set_fetched(issuer: Issuer, reader: Reader) -> None:
    with pytest.raises(StoreUnavailable, match="could not be fetched yet"):
        reader.verifier.verify(token(OLD))
    assert reader.settle() == 1
    assert reader.verifier.verify(token(OLD)).sub == "42"
    assert issuer.asked == ["/jwks?v=1"]


def test_at_start_up_it_is_fetched_at_once(issuer: Issuer, reader: Reader) -> None:
    reader.keys.refresh()
    assert reader.verifier.verify(token(OLD)).sub == "42"
    assert reader.settle() == 0
    issuer.status = 404
    with pytest.raises(StoreUnavailable, match="status 404"):
        reader.keys.refresh()
    assert reader.verifier.verify(token(OLD)).sub == "42"


def test_verifying_asks_nobody(issuer: Issuer, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    reader.keys.refresh()
    monkeypatch.setattr(module, "_got", lambda *_: pytest.fail("it asked"))
    for _ in range(100):
        reader.verifier.verify(token(OLD))
        reader.why(token(NEW))
    assert len(issuer.asked) == 1


def test_ten_thousand_tokens_of_unknown_keys_have_it_fetched_once_a_cool_down(
    issuer: Issuer, reader: Reader
) -> None:
    reader.keys.refresh()
    reader.now += 31
    stranger = Key.generate("HS256")
    text = b"{}"
    for n in range(10_000):
        head = base64url.encode(b'{"alg":"ES256","kid":"k%d"}' % n)
        assert reader.why(jws.sign_under(head + ".", stranger, text)) == "unknown_key"
        reader.settle()
    assert len(issuer.asked) == 2
    reader.now += 29.9
    reader.why(token(NEW))
    assert reader.settle() == 0
    reader.now += 0.2
    reader.why(token(NEW))
    assert reader.settle() == 1


def test_a_new_key_is_found_and_an_old_one_forgotten(issuer: Issuer, reader: Reader) -> None:
    reader.keys.refresh()
    issuer.body = set_of(NEW)
    reader.now += 31
    assert reader.why(token(NEW)) == "unknown_key"
    reader.settle()
    assert reader.verifier.verify(token(NEW)).sub == "42"
    assert reader.why(token(OLD)) == "unknown_key"


def test_it_is_fetched_ahead_of_need(issuer: Issuer, reader: Reader) -> None:
    reader.keys.refresh()
    issuer.body = set_of(OLD, NEW)
    reader.now += 301
    assert reader.verifier.verify(token(OLD)).sub == "42"  # by the set at hand
    assert reader.settle() == 1
    assert reader.verifier.verify(token(NEW)).sub == "42"


def test_a_set_is_kept_when_no_other_can_be_fetched_and_not_for_ever(issuer: Issuer, reader: Reader) -> None:
    reader.keys.refresh()
    issuer.close()
    for _ in range(10):
        reader.now += 8000
        assert reader.verifier.verify(token(OLD)).sub == "42"
        assert reader.settle() == 1
    assert len(reader.errors) == 10
    reader.now += 8000
    with pytest.raises(StoreUnavailable):
        reader.verifier.verify(token(OLD))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [7]}', b"\xff\xfe",
        b'{"keys": [], "keys": []}', b"{" + b" " * MAX_SIZE + b"}", json.dumps({"keys": [{}] * 101}).encode(),
        set_of(OLD)[:-2], json.dumps({"keys": [OLD.jwk(), OLD.jwk()]}).encode(),
        json.dumps({"keys": [OLD.jwk(), {"kty": "oct", "alg": "HS256", "k": "A" * 43}]}).encode(),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_what_is_no_set_changes_nothing(issuer: Issuer, reader: Reader, body: bytes) -> None:
    reader.keys.refresh()
    issuer.body = body
    with pytest.raises(StoreUnavailable):
        reader.keys.refresh()
    assert reader.verifier.verify(token(OLD)).sub == "42"


def test_keys_that_are_of_no_use_are_left_out(issuer: Issuer, reader: Reader) -> None:
    """As large providers publish them: for encryption, of other kinds, without alg; and one that is too weak."""
    weak = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    unnamed = {name: value for name, value in NEW.jwk().items() if name != "alg"}
    more: list[dict[str, Any]] = [
        {**OLD.jwk(), "kid": "enc", "use": "enc"},
        {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA", "kid": "p521", "alg": "ES512"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "pq"},
        {"kty": "RSA", "alg": "RS256", "n": number(weak.n), "e": "AQAB", "kid": "weak"},
        {**unnamed, "x5c": ["MII"], "x5t": "AA", "issuer": "https://elsewhere"},
    ]
    issuer.body = json.dumps({"keys": [*more, OLD.jwk()]}).encode()
    reader.keys.refresh()
    assert len(reader.keys.at(NOW)) == 2
    assert reader.verifier.verify(token(NEW)).sub == reader.verifier.verify(token(OLD)).sub == "42"


def test_a_private_key_that_is_published_by_mistake_signs_nothing_here(
    issuer: Issuer, reader: Reader
) -> None:
    issuer.body = json.dumps({"keys": [private_jwk(OLD)]}).encode()
    reader.keys.refresh()
    assert reader.keys.at(NOW).find("old").can_sign is False  # type: ignore[union-attr]


def test_alg_says_what_keys_are_for(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key.generate("RS256", kid="r")
    jwk = {name: value for name, value in key.jwk().items() if name != "alg"}
    issuer.body = json.dumps({"keys": [jwk, OLD.jwk()]}).encode()
    reader = Reader(issuer.url, monkeypatch, alg="RS256")
    reader.keys.refresh()
    assert reader.verifier.verify(token(key)).sub == "42"
    assert len(reader.keys.at(NOW)) == 1  # that one, and not the one that is for ES256


def test_redirects_stay_on_the_host(issuer: Issuer, reader: Reader) -> None:
    good = issuer.body

    def once(handler: BaseHTTPRequestHandler) -> bool:
        issuer.status = 302 if handler.path.startswith("/jwks") else 200
        return True

    issuer.before_answer = once
    issuer.headers = {"Location": "/elsewhere"}
    reader.keys.refresh()
    assert issuer.asked == ["/jwks?v=1", "/elsewhere"]
    for away in (
        f"http://127.0.0.2:{issuer.port}/jwks", "http://169.254.169.254/latest", "file:///etc/passwd",
        f"http://127.0.0.1:{issuer.port + 1}/", "//evil.example/", "https://127.0.0.1/",
    ):  # fmt: skip
        issuer.headers = {"Location": away}
        with pytest.raises(StoreUnavailable, match="another host"):
            reader.keys.refresh()
    issuer.headers = {"Location": "/jwks"}
    with pytest.raises(StoreUnavailable, match="too many redirects"):
        reader.keys.refresh()
    assert good == issuer.body


def test_one_that_drips_is_cut_off(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each octet is in time; the whole is not."""
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> bool:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 100000\r\n\r\n")
        try:
            while not over.wait(0.02):
                handler.wfile.write(b" ")
                handler.wfile.flush()
        except OSError:
            pass
        return False

    issuer.before_answer = drip
    reader = Reader(issuer.url, monkeypatch, timeout=0.3)
    with pytest.raises(StoreUnavailable):
        reader.keys.refresh()
    over.set()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://id.example/jwks", "http://id.example/jwks", "https:///jwks", "", None, b"https://id.example",
        "https://169.254.169.254/jwks", "http://169.254.169.254/jwks", "https://[fe80::1]/jwks", "https://[fe80::1%25eth0]/jwks",
        "https://[::ffff:169.254.169.254]/jwks", "https://2852039166/jwks", "https://0xa9fea9fe/", "https://169.254.43518/",
        "https://0.0.0.0/", "https://[::]/", "https://224.0.0.1/", "https://ada:secret@id.example/", "https://id.example/#f",
        "https://id.example:99999/", "https://id.example/\r\nX: y", "http://127.0.0.1.evil.example/", "http://10.0.0.1/",
    ],
)  # fmt: skip
def test_what_is_refused_when_it_is_configured(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="url") as caught:
        RemoteKeys(url, allow_http=True)
    assert "secret" not in str(caught.value)


def test_plain_http_is_for_this_machine_and_only_when_it_is_said() -> None:
    for url in ("http://127.0.0.1:1/", "http://localhost:1/", "http://[::1]:1/", "http://127.1:1/"):
        with pytest.raises(ConfigurationError, match="allow_http"):
            RemoteKeys(url)
        RemoteKeys(url, allow_http=True)


@pytest.mark.parametrize("terms", [{"timeout": 40}, {"every": 20}, {"keep_for": 60}, {"cool_down": 4}])
def test_times_that_contradict_each_other(terms: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(terms))):
        RemoteKeys("https://id.example/", **terms)


def test_a_name_that_leads_to_the_machines_own_network(issuer: Issuer, reader: Reader) -> None:
    class Peer:
        def getpeername(self) -> tuple[str, int]:
            return "::ffff:169.254.169.254", 80

    class Link:
        sock = Peer()

    with pytest.raises(ValueError, match="own network"):
        module._check_peer(Link())  # type: ignore[arg-type]


# ---- TLS


@contextmanager
def behind_tls(folder: Path, issuer: Issuer) -> Iterator[Path]:
    """The same issuer over https, with a certificate of an authority of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(today - datetime.timedelta(days=1))
    builder = builder.not_valid_after(today + datetime.timedelta(days=1)).add_extension(names, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    pem, key_file = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_file)
    plain = issuer.server.socket
    issuer.server.socket = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    yield pem


def test_over_https(tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    with behind_tls(tmp_path, issuer) as authority:
        url = issuer.url.replace("http:", "https:")
        trusting = Reader(
            url, monkeypatch, allow_http=False, context=ssl.create_default_context(cafile=authority)
        )
        trusting.keys.refresh()
        assert trusting.verifier.verify(token(OLD)).sub == "42"
        with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            Reader(url, monkeypatch).keys.refresh()


def test_the_thread_of_its_own(issuer: Issuer) -> None:
    """Nothing held: the real thread fetches, and nobody waited for it."""
    done = threading.Event()

    def answered(_: BaseHTTPRequestHandler) -> bool:
        done.set()
        return True

    issuer.before_answer = answered
    keys = RemoteKeys(issuer.url, allow_http=True)
    with pytest.raises(StoreUnavailable):
        keys.at(NOW)
    assert done.wait(30)
    for thread in threading.enumerate():
        if thread.name == "coatcheck-keys":
            thread.join(30)
    assert len(keys.at(NOW)) == 1


def test_a_failure_is_logged_and_what_the_server_says_is_escaped(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    keys = RemoteKeys(issuer.url, allow_http=True)
    keys._log(ValueError("a\r\nb"))
    assert "\n" not in caplog.messages[0]
    keys._try()
    assert len(keys.at(NOW)) == 1
    assert "RemoteKeys" in repr(keys)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(StoreUnavailable, match="could not be fetched"):
        RemoteKeys(f"http://127.0.0.1:{port}/", allow_http=True).refresh()


# ---- a file that is read again


def write(path: Path, *keys: Key) -> None:
    other = path.with_suffix(".new")
    other.write_text(json.dumps({"keys": [private_jwk(key) for key in keys]}))
    other.replace(path)


def test_a_file_of_keys_is_read_again(tmp_path: Path) -> None:
    path, errors = tmp_path / "keys.json", list[Exception]()
    write(path, OLD)
    keys = KeyFile(path, on_error=errors.append)
    tokens = Tokens(SessionManager("memory:"), keys=keys, issuer="i", audience="a")
    verifier = TokenVerifier(keys, issuer="i", audience="a", clock=lambda: NOW)
    assert verifier.verify(token(OLD)).sub == "42"
    write(path, NEW, OLD)
    assert keys.at(NOW + 29).signer.kid == "old"
    assert keys.at(NOW + 30).signer.kid == "new"
    ring = keys.at(NOW + 60)
    assert keys.at(NOW + 90) is ring  # unchanged: not read again
    path.write_text("{")
    assert keys.at(NOW + 120) is ring
    path.unlink()
    assert keys.at(NOW + 150) is ring
    assert len(errors) == 2
    write(path, NEW)
    assert len(keys.at(NOW + 180)) == 1
    assert len(keys.at(NOW - 1000)) == 1  # a clock that was set back looks again
    assert tokens.verify(tokens.issue("ada").access_token).sub == "ada"
    keys.missed(NOW)


def test_a_file_that_is_not_there_is_noticed_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigurationError, match=r"keys\.json"):
        KeyFile(tmp_path / "keys.json")
    write(tmp_path / "keys.json", OLD)
    keys = KeyFile(tmp_path / "keys.json")
    (tmp_path / "keys.json").unlink()
    assert len(keys.at(NOW)) == 1
    assert "kept as they were" in caplog.text
    assert "keys.json" in repr(keys)
