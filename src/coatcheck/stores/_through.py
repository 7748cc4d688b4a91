"""What a store around another store has of it as it is: the abilities that carry no record, and so need no second thought."""

from typing import Any, Final

from coatcheck.core.ports import (
    Checks,
    Counts,
    NeverWaits,
    SetsUp,
    Sweeps,
    Tallies,
    TellsTime,
    Walks,
    Watches,
)

__all__ = ["pass_through"]

_ABILITIES: Final[dict[type, tuple[str, ...]]] = {
    Sweeps: ("sweep",),
    Counts: ("count",),
    Checks: ("check",),
    Watches: ("watch",),
    SetsUp: ("setup",),
    Tallies: ("tally", "tallied", "end_tally"),
    TellsTime: ("time",),
    Walks: ("walk",),
    NeverWaits: ("never_waits",),
}


def pass_through(store: Any, below: object, *, but: tuple[type, ...] = ()) -> None:
    """Give `store` those of these abilities that `below` has, `but` some: as attributes of the object and not of its class, so
    that whoever asks for an ability is told the truth.
    """
    for ability, names in _ABILITIES.items():
        if ability not in but and isinstance(below, ability):
            for name in names:
                setattr(store, name, getattr(below, name))
