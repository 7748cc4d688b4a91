"""Source and target of a migration, and what can be done between the two; refused before anything is changed, if nothing can."""

import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final

from coatcheck.adopting import adopt_with
from coatcheck.core.events import Event
from coatcheck.core.ids import RandomIds
from coatcheck.core.options import Options
from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED, Carries, Checks, Remembers, Walks
from coatcheck.core.record import Record
from coatcheck.dialects.express.adopted import ExpressSession
from coatcheck.dialects.express.ports import Lists
from coatcheck.dialects.express.stores import open_store as open_express
from coatcheck.eras import ERA_KEY
from coatcheck.errors import ConfigurationError, CorruptRecord, StoreError
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.migration._jobs import HEARD, Adopt, Copy, CopyText, Job, Move
from coatcheck.stores import hide_password, open_store
from coatcheck.stores._carry import copied_from

__all__ = ["Places", "job_of"]

_EXPRESS: Final = "express+"
_ENDED: Final = (
    "in TO everybody's sessions were ended (end_everyone), and {} FROM would be over there, too: take a store, or a prefix or"
    " table of it, that is new"
)


class Places:
    """Source and target, opened for one face."""

    def __init__(self, source: Any, target: Any, face: str, outage: Outage | None) -> None:
        if source is target or (isinstance(source, str) and source == target):
            raise ConfigurationError("FROM and TO are the same store")
        self.owned: list[Any] = []
        self.face = face
        self.source, self.target = (self._opened(place, outage) for place in (source, target))
        self.is_express = [hasattr(store, "destroy") for store in (self.source, self.target)]
        self.copies = copied_from(source)
        self.shown = " ".join(hide_password(p) if isinstance(p, str) else repr(p) for p in (source, target))

    def _opened(self, place: Any, outage: Outage | None) -> Any:
        if isinstance(place, str):
            is_express = place.startswith(_EXPRESS)
            url = place.removeprefix(_EXPRESS)
            place = open_express(url, outage) if is_express else open_store(url, outage=outage)
            self.owned.append(place)
        store = getattr(place, self.face)() if hasattr(place, self.face) else place
        if isinstance(store, Carries):
            raise ConfigurationError(
                "sessions in cookies are in no store that could be walked through, or written to: they are with their browsers"
            )
        if getattr(store, "moves", False):
            raise ConfigurationError(
                "Moving(new, old) is for the applications: give the two stores themselves"
            )
        if isinstance(store, Remembers):
            raise ConfigurationError("LayeredStore(…) answers from memory: give the store below it")
        return store

    def closing(self, name: str) -> list[Callable[[], Any]]:
        return [
            close
            for place in self.owned
            if (close := getattr(place, name, None) or getattr(place, "close", None))
        ]


def job_of(
    places: Places, *, move: bool, dry: bool, user_id: str | None, to_user_id: Any, options: Options | None
) -> tuple[Job, Callable[[], Coroutine[Any, Any, None]]]:
    """The job, and what has to be checked before it begins."""
    match places.is_express:
        case [False, False]:
            if user_id is not None:
                raise ConfigurationError(
                    "user_id=…: sessions of coatcheck know whose they are; it is for those of Express"
                )
            return _native(places, move=move, dry=dry)
        case [True, True]:
            texts = CopyText(_listing(places.source), places.target, move=move)
            return texts, _express_checks(places, dry=dry)
        case [True, False]:
            if not move:
                raise ConfigurationError(
                    "from Express to coatcheck sessions are moved (move=True, --move): of two that both went on, each would be a"
                    " part. For a rehearsal: dry_run=True"
                )
            adopt = _adopt(places, user_id or "passport.user", to_user_id, options)
            return adopt, _adopt_checks(places)
    raise ConfigurationError(
        "from coatcheck to Express nothing can be moved: browsers hold our cookie, and Express finds a session by its own. To"
        " work side by side, let coatcheck speak express-session's dialect: coatcheck.dialects.express"
    )


def _native(places: Places, *, move: bool, dry: bool) -> tuple[Job, Callable[[], Coroutine[Any, Any, None]]]:
    source, target, tokens = places.source, places.target, RandomIds().version
    store: Any = source
    if not isinstance(source, Walks):
        raise ConfigurationError(
            f"{type(source).__name__} cannot name its sessions (Walks): nobody can walk through it"
        )
    job: Job = (
        Move(store, target, tokens, places.copies, time.monotonic)
        if move
        else Copy(store, target, tokens, places.copies)
    )

    async def check() -> None:
        for store in (source, target):
            await _checks(store)()
        if not dry:
            await _are_two(source, target, tokens())
        await _same_era(source, target)

    return job, check


def _adopt(places: Places, user_id: str, to_user_id: Any, options: Options | None) -> Job:
    options = options or Options()

    def hear(event: Event) -> None:
        HEARD.get({})[event.name] = event.detail

    # No cookie is looked at here, so no secret of theirs is needed.
    kind = ExpressSession(
        store=_Faces(_listing(places.source)), secret="none", user_id=user_id, to_user_id=to_user_id
    )
    options = replace(options, adopt=kind, on_event=[options.tell, hear])
    make: Any = SessionManager if places.face == "blocking" else AsyncSessionManager
    manager = make(_Faces(places.target), options=options)
    flows = manager.flows
    assert flows.options.olds is not None
    adopting = adopt_with(flows.lifecycle, flows.options.olds, flows._archives)

    return Adopt(places.source, adopting, manager.session)


class _Faces:
    """A store of one face, where a backend is asked for."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def blocking(self) -> Any:
        """The store."""
        return self._store

    awaiting = blocking


def _listing(store: Any) -> Any:
    if not isinstance(store, Lists):
        raise ConfigurationError(
            f"{type(store).__name__} cannot name its sessions (Lists): nobody can walk through it"
        )
    return store


def _checks(store: Any) -> Callable[[], Coroutine[Any, Any, None]]:
    async def check() -> None:
        if isinstance(store, Checks):
            await store.check()

    return check


def _express_checks(places: Places, *, dry: bool) -> Callable[[], Coroutine[Any, Any, None]]:
    async def check() -> None:
        for store in (places.source, places.target):
            await _checks(store)()
        if not dry:
            await _are_two_of_express(places.source, places.target, RandomIds().version())

    return check


def _adopt_checks(places: Places) -> Callable[[], Coroutine[Any, Any, None]]:
    async def check() -> None:
        # (FROM too: a walk waits for minutes, also for a server that is not there.)
        for store in (places.source, places.target):
            await _checks(store)()
        # Nobody knows when a session of Express began, so each would be over, and be destroyed at its source.
        if await _era_of(places.target, time.time()):
            raise ConfigurationError(_ENDED.format("all of"))

    return check


async def _are_two(source: Any, target: Any, token: str) -> None:
    """Raise ConfigurationError for one store under two names: what is written to one must not be in the other."""
    now, key = time.time(), f"coatcheck-migrate-{token}"
    bell = Record(key, (token,), b"", b"{}", now, now, now + 60, now + 60)
    if await target.create(bell, now=now) is SAVED:
        is_there = await _is_there(source.load, key, now)
        await target.delete(key, now=now, token=token)
        if is_there:
            raise ConfigurationError("FROM and TO are the same store, under two names")


async def _are_two_of_express(source: Any, target: Any, token: str) -> None:
    """The same for two stores of the Node world: a move would destroy in FROM what it has just seen in TO."""
    now, sid = time.time(), f"coatcheck-{token}"  # Sequelize's column holds 36 characters
    if await target.create(sid, b'{"cookie":{}}', expires=now + 60, now=now) is SAVED:
        is_there = await _is_there(source.get, sid, now)
        await target.destroy(sid)
        if is_there:
            raise ConfigurationError("FROM and TO are the same store, under two names")


async def _is_there(look: Callable[..., Any], key: str, now: float) -> bool:
    try:
        return await look(key, now=now) is not None
    except CorruptRecord:
        return True  # it cannot be read, with another secret perhaps; but it is there
    except StoreError:
        return False


async def _same_era(source: Any, target: Any) -> None:
    now = time.time()
    if await _era_of(target, now) > await _era_of(source, now):
        raise ConfigurationError(_ENDED.format("those of"))


async def _era_of(store: Any, now: float) -> int:
    found = await store.load(ERA_KEY, now=now)
    return found.era if type(found) is Record else 0
