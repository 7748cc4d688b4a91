"""From a URL to a store: which schemes there are, and how a URL is shown."""

import pytest

from coatcheck import ConfigurationError
from coatcheck.stores import has_server, hide_password, open_store


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory:", "memory:"),
        ("sqlite:////var/lib/sessions.db", "sqlite:////var/lib/sessions.db"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://app@cache", "redis://app@cache"),
        ("redis://:sesame@cache:6379/0", "redis://:***@cache:6379/0"),
        ("rediss://app:sesame@cache/0?ssl_cert_reqs=none", "rediss://app:***@cache/0?ssl_cert_reqs=none"),
        ("mongodb://app:sesame@a:1,b:2/?replicaSet=rs0", "mongodb://app:***@a:1,b:2/?replicaSet=rs0"),
        ("redis://:se@same@cache", "redis://:***@cache"),
        ("redis://app:ses/ame@cache:6379/0", "redis://app:***@cache:6379/0"),
        ("redis://app:ses?ame@cache", "redis://app:***@cache"),
        ("redis://app:ses#ame@cache", "redis://app:***@cache"),
        ("redis://app:ses[ame@cache", "redis://app:***@cache"),
        ("postgresql:///app?user=app&password=sesame", "postgresql:///app?user=app&password=***"),
        ("unix:///run/redis.sock?Password=sesame&db=1", "unix:///run/redis.sock?Password=***&db=1"),
        ("redis+sentinel://a:1/main?sentinel_password=sesame", "redis+sentinel://a:1/main?sentinel_password=***"),
    ],
)  # fmt: skip
def test_021_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert hide_password(url) == shown
    assert "same" not in shown


def test_a_scheme_nobody_knows_is_refused_without_the_password() -> None:
    with pytest.raises(ConfigurationError, match=r"rides://:\*\*\*@cache.*begins with memory:") as refused:
        open_store("rides://:sesame@cache")
    assert "sesame" not in str(refused.value)


def test_which_stores_have_a_server() -> None:
    assert not any(map(has_server, ("memory:", "sqlite:///sessions.db")))
    assert all(
        map(has_server, ("redis://h", "postgresql+asyncpg://h/d", "mongodb://h", "sqlalchemy+oracle://h"))
    )
