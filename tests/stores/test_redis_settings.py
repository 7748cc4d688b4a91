"""How a Redis store is configured: URLs, clients, TLS, sockets, credentials; and what is refused, with the fix."""

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.credentials import CredentialProvider

from coatcheck import AsyncSessionManager, SessionManager
from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED
from coatcheck.errors import ConfigurationError, StoreError, WrongFace
from coatcheck.stores import open_store
from coatcheck.stores._health import Health
from coatcheck.stores._redis_link import Link
from coatcheck.stores._redis_url import given, parsed
from coatcheck.stores.redis import RedisSessions, RedisStore
from coatcheck.testing.contract import StoreContract
from servers import Server
from servers import redis as running
from servers.running import free_port
from tests.stores.redis_help import FACES, NOW, fresh, on, record

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost", "redis://localhost:6379/3", "rediss://localhost/0", "valkey://u:p@localhost", "valkeys://localhost",
        "REDIS://localhost", "redis://[::1]:6379", "redis://:p%40ss@localhost", "unix:///run/redis.sock?db=2",
        "redis+sentinel://h1:26379,h2/mymaster/0", "redis+sentinel://:pw@h1/mymaster", "rediss+sentinel://h1/m",
        "redis+cluster://h1:7000,h2:7001", "rediss+cluster://u:p@h1", "redis://localhost?protocol=2&client_name=web",
        "rediss://localhost?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=true",
    ],
)  # fmt: skip
def test_a_url_of_every_form_makes_a_store_and_no_connection(url: str) -> None:
    backend = open_store(url)
    assert isinstance(backend, RedisStore)
    backend.blocking()
    backend.awaiting()
    backend.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://", "host"),
        (f"redis://:{SECRET}@/0", "host"),
        (f"redis://:{SECRET}@localhost/name", "number of a database"),
        (f"redis://:{SECRET}@localhost:port/0", "redis-py says"),
        (f"redis://:{SECRET}@localhost?protokol=2", "protokol"),
        (f"redis://:{SECRET}@localhost?protocol=9", "protocol"),
        (f"redis://:{SECRET}@localhost?socket_timeout=soon", "socket_timeout"),
        ("unix://", "unix:///path"),
        (f"redis+sentinel://:{SECRET}@h1:26379", "name of the master"),
        (f"redis+sentinel://:{SECRET}@h1/mymaster/db", "name of the master"),
        (f"redis+sentinel://:{SECRET}@,/mymaster", "hosts"),
        (f"redis+cluster://:{SECRET}@h1:7000,h2/3", "no numbered databases"),
        (f"redis+cluster://:{SECRET}@", "hosts"),
    ],
)
def test_a_url_that_means_nothing_is_refused_with_the_fix_and_without_its_password(
    url: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        RedisStore.from_url(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["redis+ssh://localhost", "unix+sentinel://h1/m", "http://localhost"])
def test_a_scheme_nobody_knows_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="docs/stores/redis"):
        RedisStore.from_url(url)


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "a{b}"}, {"prefix": "a*"}, {"prefix": "x" * 65}, {"prefix": "a b"}, {"prefix": b"a"}, {"prefix": None},
        {"durability": "fsync"}, {"durability": None}, {"replicas": 0}, {"replicas": True}, {"replicas": 1.5},
        {"wait_timeout": 0}, {"wait_timeout": "1"}, {"wait_timeout": 90_000_000},
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_its_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RedisStore.from_url("redis://localhost", **options)


def test_neither_repr_nor_name_show_a_password() -> None:
    for url in (
        f"redis://:{SECRET}@localhost/0",
        f"redis+sentinel://:{SECRET}@h1,h2/m?sentinel_password={SECRET}",
        f"redis+cluster://u:{SECRET}@h1,h2",
        f"redis://localhost?password={SECRET}",
    ):
        assert SECRET not in repr(RedisStore.from_url(url))
        assert SECRET not in repr(parsed(url, Outage()).name)


def test_a_sentinel_has_a_password_of_its_own() -> None:
    source = parsed(f"redis+sentinel://web:{SECRET}@h1,h2:26380/m/3?sentinel_password=other", Outage())
    assert source.blocking is not None
    pool = source.blocking(1.0)
    settings, sentinels = pool.connection_kwargs, pool.sentinel_manager.sentinels
    assert (settings["username"], settings["password"], settings["db"]) == ("web", SECRET, 3)
    asked = [sentinel.connection_pool.connection_kwargs for sentinel in sentinels]
    assert [(one["host"], one["port"], one["password"]) for one in asked] == [
        ("h1", 26379, "other"),
        ("h2", 26380, "other"),
    ]


# ----------------------------------------------------------------------------------------- the application's own client


def test_the_wrong_face_is_refused_when_it_is_built() -> None:
    blocking = RedisStore(redis.Redis(port=1))
    awaiting = RedisStore(redis.asyncio.Redis(port=1))
    assert isinstance(SessionManager(blocking), SessionManager)
    assert isinstance(AsyncSessionManager(awaiting), AsyncSessionManager)
    with pytest.raises(WrongFace, match=r"redis\.asyncio"):
        AsyncSessionManager(blocking)
    with pytest.raises(WrongFace, match=r"redis\.Redis"):
        SessionManager(awaiting)


def test_messages_name_the_class_that_was_given_the_client() -> None:
    with pytest.raises(ConfigurationError, match=r"^OtherStore\(int\): .* OtherStore\.from_url"):
        given(1, store="OtherStore")
    link = Link(given(redis.Redis(port=1), store="OtherStore"), Health("", Outage()), Outage())
    with pytest.raises(WrongFace, match=r"^OtherStore around .* OtherStore\.from_url"):
        link.awaiting()


@pytest.mark.parametrize("client", ["redis://localhost", None, object(), redis.Redis])
def test_what_is_no_client_is_refused(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="from_url"):
        RedisStore(client)


def test_a_clients_name_does_not_show_its_password() -> None:
    for client in (
        redis.Redis(host="there", port=7, db=3, password=SECRET),
        redis.asyncio.Redis(host="there", port=7, db=3, password=SECRET),
    ):
        assert repr(RedisStore(client)) == "<RedisStore redis://there:7/3>"


# --------------------------------------------------------------------------------------------------- ways to be connected


async def works(store: RedisSessions) -> None:
    there = record()
    assert await store.create(there, now=NOW) is SAVED
    assert await store.load(there.key, now=NOW) == there
    assert await store.delete(there.key, now=NOW, token="t")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_unix_socket(tmp_path: Path, face: str, protocol: int) -> None:
    path = f"/tmp/coatcheck-{free_port()}.sock"  # a path of pytest's may be too long for a socket
    with running(tmp_path, "--unixsocket", path):
        on(face, RedisStore.from_url(f"unix://{path}?db=1&protocol={protocol}"), works)
        Path(path).unlink()


class Provider(CredentialProvider):
    """Passwords from somewhere else, asked for at each connection."""

    def __init__(self) -> None:
        self.asked = 0

    def get_credentials(self) -> tuple[str, str]:
        self.asked += 1
        return "default", SECRET


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_credential_provider(tmp_path: Path, face: str, protocol: int) -> None:
    provider = Provider()
    with running(tmp_path, "--requirepass", SECRET) as server:
        url = f"{server.url}?protocol={protocol}"
        on(face, RedisStore.from_url(url, credential_provider=provider), works)
    assert provider.asked == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    crt, pem = folder / "redis.crt", folder / "redis.key"
    crt.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return crt, pem


@pytest.fixture(scope="module")
def secure(
    certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, int]]:
    crt, key = certificate
    port = free_port()
    tls = [
        "--tls-port",
        str(port),
        "--tls-cert-file",
        str(crt),
        "--tls-key-file",
        str(key),
        "--tls-auth-clients",
        "no",
    ]
    with running(tmp_path_factory.mktemp("redis-tls"), *tls) as server:
        yield server, port


def test_contract_over_tls(secure: tuple[Server, int], certificate: tuple[Path, Path]) -> None:
    url = f"rediss://127.0.0.1:{secure[1]}/0?ssl_ca_certs={certificate[0]}"
    StoreContract(lambda: RedisStore.from_url(url, prefix=fresh())).run()


@pytest.mark.parametrize("face", FACES)
def test_a_certificate_that_nobody_vouches_for_is_refused(secure: tuple[Server, int], face: str) -> None:
    async def work(store: RedisSessions) -> None:
        with pytest.raises(StoreError, match=r"certificate|SSL") as caught:
            await store.load("key", now=NOW)
        assert isinstance(caught.value.__cause__, (redis.RedisError, ssl.SSLError))

    on(face, RedisStore.from_url(f"rediss://127.0.0.1:{secure[1]}"), work)
