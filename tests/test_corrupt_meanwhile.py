"""A record that becomes unreadable between a request's load and its commit: no error page, the operator hears of it."""

from dataclasses import replace as with_option

from msgspec.structs import replace

from coatcheck.core.events import Event
from coatcheck.core.ids import Ticket
from coatcheck.core.options import Options
from coatcheck.core.session import CookieAction
from coatcheck.manager import SessionManager
from coatcheck.stores.memory import MemoryStore


def test_a_commit_that_meets_an_unreadable_record_drops_its_changes_and_says_so() -> None:
    told: list[Event] = []
    store = MemoryStore()
    sessions = SessionManager(store, options=with_option(Options(), on_event=told.append))
    first = sessions.session()
    first["n"] = 1
    sessions.commit(first)
    record = first._record
    assert record is not None
    assert first._verifier is not None
    late = sessions.session(Ticket(record.key, first._verifier))
    late["n"] = 2
    store._rows[record.key] = replace(record, versions=("elsewhere",), data=b"{torn")
    assert sessions.commit(late) is CookieAction.NONE
    assert "session.corrupt" in [event.name for event in told]
