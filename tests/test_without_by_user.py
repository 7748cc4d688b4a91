"""A store with the five verbs and nothing else: what works, and what says at once that it does not."""

from typing import Any

import pytest

from coatcheck import ConfigurationError, Options, SessionManager
from coatcheck.stores.memory import MemoryStore


class Plain:
    """The five verbs of a memory store, without its other abilities."""

    def __init__(self) -> None:
        inner = MemoryStore()
        self.load, self.create, self.replace = inner.load, inner.create, inner.replace
        self.touch, self.delete = inner.touch, inner.delete


def test_people_log_in_and_out() -> None:
    sessions = SessionManager(Plain())
    session = sessions.session()
    session.login("ada")
    sessions.commit(session)
    found = sessions.find(session.handle)
    assert found is not None
    assert found.user_id == "ada"
    session.logout()
    sessions.commit(session)
    assert sessions.find(found.handle) is None


@pytest.mark.parametrize("ask", [lambda it: it.of("ada").list(), lambda it: it.of("ada").end_all()])
def test_what_needs_the_index_says_so(ask: Any) -> None:
    with pytest.raises(ConfigurationError, match="by user"):
        ask(SessionManager(Plain()))


def test_a_limit_that_nobody_could_keep_is_refused_at_start_up() -> None:
    with pytest.raises(ConfigurationError, match=r"max_sessions=3: Plain .* leave max_sessions out"):
        SessionManager(Plain(), options=Options(max_sessions=3))
    assert SessionManager(MemoryStore(), options=Options(max_sessions=3)).count() == 0
