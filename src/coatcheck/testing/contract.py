"""The store contract as tests, for our stores and for other people's.

    def test_my_store():
        StoreContract(lambda: MyStore(...)).run()

or, one pytest test a sentence:

    @pytest.mark.parametrize("sentence", StoreContract.sentences())
    def test_my_store(sentence):
        StoreContract(lambda: MyStore(...)).run(sentence)

Each sentence is one small function in `coatcheck.testing.sentences`, named after what it insists on.

What is not tried, because coatcheck never does it: user ids with U+0000 or lone surrogates (PostgreSQL cannot hold them) or of
more than 255 characters; keys with anything but printable ASCII.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from coatcheck.core.ports import Backend, ByUser, Checks, Counts, Sweeps, Watches
from coatcheck.core.stepping import run_now
from coatcheck.testing.rig import SENTENCES, Ability, ContractBroken, Mode, Rig, Sentence
from coatcheck.testing.sentences import crowds, logins, upkeep, verbs, watches

__all__ = ["ContractBroken", "Sentence", "StoreContract"]

MODES: tuple[Mode, ...] = ("blocking", "awaiting")
ABILITIES: tuple[Ability, ...] = (ByUser, Sweeps, Counts, Checks, Watches)
ROOMS = [room.__name__ for room in (verbs, logins, upkeep, watches, crowds)]
"""In the order in which a failure says most: a store that mixes up versions should hear of that before it hears of crowds."""


class StoreContract:
    """Every sentence of the store contract (`coatcheck.core.ports`), with a fake clock.

    `make` is called once a sentence and returns a backend: an object with `blocking()` and `awaiting()`, as a user would
    configure. It may return the same store each time: every sentence uses keys and users of its own, but `count` and `sweep`
    need a store that nothing else is using. After a sentence the backend is closed if it can be: by `await aclose()` in
    awaiting mode, by `close()` in blocking mode, or where it has no `aclose`.

    `start` is where the fake clock starts, in seconds since the epoch. It lies in the past on purpose: `now` decides about
    expiry, and a store whose server compares deadlines with its own clock is found out.
    """

    def __init__(self, make: Callable[[], Backend], *, start: float = 1_700_000_000.0) -> None:
        self._make = make
        self._start = start

    @staticmethod
    def sentences(*, modes: Collection[Mode] = MODES, without: Collection[Ability] = ()) -> list[Sentence]:
        """The contract, to parametrise a test with.

        `modes`: leave one out for a store that has one face only. `without`: the abilities this store does not have
        (`ByUser`, `Sweeps`, `Counts`, `Checks`, `Watches` of `coatcheck.core.ports`).
        """
        return [
            replace(sentence, mode=mode)
            for sentence in sorted(SENTENCES, key=lambda sentence: ROOMS.index(sentence.body.__module__))
            if not set(sentence.needs) & set(without)
            for mode in modes
        ]

    def run(self, *sentences: Sentence) -> list[Sentence]:
        """Run these sentences, or else all that concern the abilities this store has, in both modes.

        Returns what was run. Raises ContractBroken, with the sentence and what came instead, for the first that is not kept.
        """
        chosen = list(sentences) or self.sentences(without=self._lacks())
        for sentence in chosen:
            self._check(sentence)
        return chosen

    def _lacks(self) -> list[Ability]:
        backend = self._make()
        try:
            store = backend.blocking()
            return [ability for ability in ABILITIES if not isinstance(store, ability)]
        finally:
            _close(backend)

    def _check(self, sentence: Sentence) -> None:
        try:
            if sentence.mode == "blocking":
                self._blocking(sentence)
            else:
                asyncio.run(self._awaiting(sentence))
        except Exception as error:
            raise ContractBroken(_message(sentence, error)) from error

    def _blocking(self, sentence: Sentence) -> None:
        backend = self._make()
        try:
            run_now(_say(sentence, Rig(backend.blocking(), "blocking", self._start)))
        finally:
            _close(backend)

    async def _awaiting(self, sentence: Sentence) -> None:
        backend = self._make()
        try:
            await _say(sentence, Rig(backend.awaiting(), "awaiting", self._start))
        finally:
            aclose = getattr(backend, "aclose", None)
            await aclose() if aclose else _close(backend)


async def _say(sentence: Sentence, rig: Rig) -> None:
    await sentence.body(rig)


def _close(backend: Backend) -> None:
    close: Callable[[], Any] | None = getattr(backend, "close", None)
    if close:
        close()


def _message(sentence: Sentence, error: Exception) -> str:
    came = str(error) if isinstance(error, ContractBroken) else f"raised {type(error).__name__}: {error}"
    return f"{sentence.name} ({sentence.mode})\n  the contract: {sentence.text}\n  the store:    {came}"
