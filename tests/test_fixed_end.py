"""`CookieSettings(expires=…)` is an end that stays where it is: neither a later session nor a login outlives it."""

from datetime import UTC, datetime, timedelta

import pytest

from coatcheck.configure import configure
from coatcheck.core.cookies import CookieSettings
from coatcheck.core.options import Options
from coatcheck.errors import ConfigurationError
from coatcheck.manager import SessionManager
from coatcheck.testing.frozen import FrozenClock
from tests.web.paths import SECRET

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = BEGIN + timedelta(days=2)


def test_no_session_outlives_a_fixed_end() -> None:
    clock = FrozenClock(BEGIN.timestamp())
    options = configure(SECRET, {"cookie": CookieSettings(expires=END), "clock": clock}).options
    sessions = SessionManager("memory:", options=options, clock=clock)
    clock.tick("1d")
    session = sessions.session()
    session["cart"] = 1
    sessions.commit(session)
    assert session.expires_at == END
    session.login("ada", remember=True)
    session.save()
    assert session.expires_at == END


def test_a_fixed_end_has_a_time_zone() -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        Options(ends_by=datetime(2026, 1, 1))
