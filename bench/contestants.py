"""Who is measured: one line a contestant, and the ratios the design promises."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Workload = Literal["write", "read"]
WORKLOADS: tuple[Workload, ...] = ("write", "read")


@dataclass(frozen=True)
class Contestant:
    """One row: ``framework library [store]``, and how to run it.

    Args:
        peer: its name in the results, ``starlette coatcheck memory``; the library ``bare`` is the baseline.
        app: the module in ``bench/apps`` whose ``app`` is served.
        keeps: where a change ends up, hence how it is verified: ``server``, ``client`` (its cookie) or ``nothing``.
        store: handed to the application as ``BENCH_STORE``; ``{dir}`` is a fresh, empty directory.
        server: a key of ``bench.server.SERVERS``.
    """

    peer: str
    app: str
    keeps: Literal["server", "client", "nothing"] = "server"
    store: str = ""
    server: Literal["uvicorn", "gunicorn"] = "uvicorn"

    @property
    def framework(self) -> str:
        """The first word of the name."""
        return self.peer.split()[0]

    @property
    def library(self) -> str:
        """The second word of the name."""
        return self.peer.split()[1]

    @property
    def kind(self) -> str:
        """The kind of store: the third word of the name, empty when there is none."""
        return " ".join(self.peer.split()[2:])


CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("starlette bare", "starlette_bare", keeps="nothing"),
    Contestant("starlette cookie", "starlette_cookie", keeps="client"),
    Contestant("starlette starsessions memory", "starlette_starsessions"),
    Contestant("starlette coatcheck memory", "starlette_coatcheck", store="memory:"),
    Contestant("starlette coatcheck sqlite", "starlette_coatcheck", store="sqlite:///{dir}/sessions.db"),
)

# The library each framework's rows are compared with.
REFERENCES = {"starlette": "starsessions"}

# The most a row may add, as a multiple of what its reference adds in the same run. For SQLite, which the reference
# lacks, it is the promised microseconds over those of the reference's memory store: 40 of 65 and 20 of 67.
BARS: dict[tuple[str, str], float] = {
    ("starlette coatcheck memory", "write"): 0.28,
    ("starlette coatcheck memory", "read"): 0.18,
    ("starlette coatcheck sqlite", "write"): 0.62,
    ("starlette coatcheck sqlite", "read"): 0.30,
}


def baseline_of(contestant: Contestant, among: Iterable[Contestant]) -> Contestant | None:
    """Return the same framework without sessions, or None when it is not among them."""
    return next((c for c in among if c.framework == contestant.framework and c.library == "bare"), None)


def reference_of(contestant: Contestant, among: Iterable[Contestant]) -> Contestant | None:
    """Return whom it is compared with: the reference library on the same kind of store, else on its first."""
    library = REFERENCES.get(contestant.framework)
    rows = [c for c in among if c.framework == contestant.framework and c.library == library]
    return next((c for c in rows if c.kind == contestant.kind), rows[0] if rows else None)


def select(pattern: str, among: Iterable[Contestant] = CONTESTANTS) -> list[Contestant]:
    """Return the contestants whose name contains ``pattern`` (wildcards allowed), in order.

    Their baselines and references come along, since a row means nothing without them.
    """
    everybody = list(among)
    chosen = [c for c in everybody if fnmatchcase(c.peer, f"*{pattern}*")]
    wanted = {c.peer for c in chosen}
    for contestant in chosen:
        for companion in (baseline_of(contestant, everybody), reference_of(contestant, everybody)):
            if companion is not None:
                wanted.add(companion.peer)
    return [c for c in everybody if c.peer in wanted]
