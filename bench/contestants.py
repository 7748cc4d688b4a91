"""Who is measured: one line a contestant, and the ratios the design promises."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Workload = Literal["write", "read"]
WORKLOADS: tuple[Workload, ...] = ("write", "read")
Database = Literal["redis", "postgres", "mongo"]


@dataclass(frozen=True)
class Contestant:
    """One row: ``framework library [store]``, and how to run it.

    Args:
        peer: its name in the results, ``starlette coatcheck memory``; the library ``bare`` is the baseline.
        app: the module in ``bench/apps`` whose ``app`` is served; for Node, the module in ``bench/node`` that is run.
        keeps: where a change ends up, hence how it is verified: ``server``, ``client`` (its cookie) or ``nothing``.
        store: handed to the application as ``BENCH_STORE``; ``{dir}`` is a fresh, empty directory, ``{url}`` a fresh, empty
            database on the server of ``database``.
        database: the database server it needs; without ``store`` it gets the URL.
        server: a key of ``bench.server.SERVERS``.
    """

    peer: str
    app: str
    keeps: Literal["server", "client", "nothing"] = "server"
    store: str = ""
    database: Database | None = None
    server: Literal["uvicorn", "gunicorn", "aiohttp", "node"] = "uvicorn"

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


# What `make bench` measures: whatever is promised something, and whom it is promised beside.
CORE: tuple[Contestant, ...] = (
    Contestant("starlette bare", "starlette_bare", keeps="nothing"),
    Contestant("starlette cookie", "starlette_cookie", keeps="client"),
    Contestant("starlette starsessions memory", "starlette_starsessions", store="memory"),
    Contestant("starlette starsessions redis", "starlette_starsessions", database="redis"),
    Contestant("starlette coatcheck memory", "starlette_coatcheck", store="memory:"),
    Contestant("starlette coatcheck sqlite", "starlette_coatcheck", store="sqlite:///{dir}/sessions.db"),
    Contestant("starlette coatcheck redis", "starlette_coatcheck", database="redis"),
    Contestant("starlette coatcheck postgres", "starlette_coatcheck", database="postgres"),
    Contestant("litestar bare", "litestar_bare", keeps="nothing"),
    Contestant("litestar builtin redis", "litestar_builtin", database="redis"),
    Contestant("litestar coatcheck redis", "litestar_coatcheck", database="redis"),
    Contestant("flask bare", "flask_bare", keeps="nothing", server="gunicorn"),
    Contestant("flask flask-session redis", "flask_flask_session", database="redis", server="gunicorn"),
    Contestant("flask coatcheck redis", "flask_coatcheck", database="redis", server="gunicorn"),
    Contestant("django bare", "django_bare", keeps="nothing", server="gunicorn"),
    Contestant("django cache redis", "django_cache", database="redis", server="gunicorn"),
    Contestant("django coatcheck redis", "django_coatcheck", database="redis", server="gunicorn"),
    Contestant("express bare", "bare", keeps="nothing", server="node"),
    # connect-redis and connect-pg-simple
    Contestant("express express-session redis", "connect_redis", database="redis", server="node"),
    Contestant("express express-session postgres", "connect_pg_simple", database="postgres", server="node"),
)

# What `--all` measures besides.
REST: tuple[Contestant, ...] = (
    Contestant("starlette coatcheck mongo", "starlette_coatcheck", database="mongo"),
    Contestant(
        "starlette coatcheck sqlalchemy", "starlette_coatcheck", store="sqlalchemy+{url}", database="postgres"
    ),
    Contestant(
        "starlette coatcheck cookie", "starlette_coatcheck", keeps="client", store="cookie:?revocation=none"
    ),
    Contestant("fastapi bare", "fastapi_bare", keeps="nothing"),
    Contestant("fastapi starsessions redis", "fastapi_starsessions", database="redis"),
    Contestant("fastapi coatcheck redis", "fastapi_coatcheck", database="redis"),
    Contestant("quart bare", "quart_bare", keeps="nothing"),
    Contestant("quart quart-session redis", "quart_quart_session", database="redis"),
    Contestant("quart coatcheck redis", "quart_coatcheck", database="redis"),
    Contestant("aiohttp bare", "aiohttp_bare", keeps="nothing", server="aiohttp"),
    Contestant(
        "aiohttp aiohttp-session redis", "aiohttp_aiohttp_session", database="redis", server="aiohttp"
    ),
    Contestant("aiohttp coatcheck redis", "aiohttp_coatcheck", database="redis", server="aiohttp"),
    # What any library pays, and no more: the other rows are held against it.
    Contestant("starlette floor memory", "starlette_floor", store="memory:"),
    Contestant("starlette floor sqlite", "starlette_floor", store="sqlite:///{dir}/sessions.db"),
    Contestant("starlette floor redis", "starlette_floor", database="redis"),
    Contestant("flask floor redis", "flask_floor", database="redis", server="gunicorn"),
    Contestant("django floor redis", "django_floor", database="redis", server="gunicorn"),
    Contestant("django db postgres", "django_db", database="postgres", server="gunicorn"),
    Contestant("django coatcheck postgres", "django_coatcheck", database="postgres", server="gunicorn"),
    Contestant("django-asgi bare", "django_bare", keeps="nothing"),
    Contestant("django-asgi cache redis", "django_cache", database="redis"),
    Contestant("django-asgi coatcheck redis", "django_coatcheck", database="redis"),
    Contestant("falcon bare", "falcon_bare", keeps="nothing", server="gunicorn"),
    Contestant("falcon coatcheck redis", "falcon_coatcheck", database="redis", server="gunicorn"),
    Contestant("express express-session mongo", "connect_mongo", database="mongo", server="node"),
)

CONTESTANTS = CORE + REST

# The library each framework's rows are compared with.
REFERENCES = {
    "starlette": "starsessions",
    "fastapi": "starsessions",
    "litestar": "builtin",
    "quart": "quart-session",
    "aiohttp": "aiohttp-session",
    "flask": "flask-session",
    "django": "cache",
    "django-asgi": "cache",
}

# Rows of ours that something is nearer to than their framework's reference.
NEARER = {
    "starlette coatcheck cookie": "starlette cookie",
    "starlette coatcheck sqlalchemy": "express express-session postgres",
    "django coatcheck postgres": "django db postgres",
}

# Whom our rows are compared with besides, on the same kind of store: the libraries of other frameworks, and ours on Starlette.
ELSEWHERE = (("litestar", "builtin"), ("express", "express-session"), ("starlette", "coatcheck"))
OURS = "coatcheck"

Bars = dict[tuple[str, str, str], float]

# The most a row may add, as a multiple of what another adds in the same run: by row, the other, workload. For SQLite, which
# the reference lacks, it is the promised microseconds over those of the reference's memory store: 40 of 65 and 20 of 67.
BARS: Bars = {
    ("starlette coatcheck memory", "starlette starsessions memory", "write"): 0.28,
    ("starlette coatcheck memory", "starlette starsessions memory", "read"): 0.18,
    ("starlette coatcheck sqlite", "starlette starsessions memory", "write"): 0.62,
    ("starlette coatcheck sqlite", "starlette starsessions memory", "read"): 0.30,
    ("starlette coatcheck redis", "starlette starsessions redis", "write"): 0.22,
    ("starlette coatcheck redis", "starlette starsessions redis", "read"): 0.14,
    ("starlette coatcheck redis", "express express-session redis", "write"): 0.25,
    ("starlette coatcheck redis", "express express-session redis", "read"): 0.26,
    ("starlette coatcheck postgres", "express express-session postgres", "write"): 0.50,
    ("starlette coatcheck postgres", "express express-session postgres", "read"): 0.50,
    ("litestar coatcheck redis", "starlette coatcheck redis", "write"): 1.15,
    ("litestar coatcheck redis", "starlette coatcheck redis", "read"): 1.15,
    ("flask coatcheck redis", "flask flask-session redis", "write"): 0.50,
    ("flask coatcheck redis", "flask flask-session redis", "read"): 0.30,
    ("django coatcheck redis", "django cache redis", "write"): 0.25,
    ("django coatcheck redis", "django cache redis", "read"): 0.33,
}

# The fewest requests that a core must do, as a multiple of what it does for another: whole requests, framework and all.
REQUESTS_A_CORE: Bars = {
    ("starlette coatcheck redis", "express express-session redis", "write"): 3.0,
    ("starlette coatcheck redis", "express express-session redis", "read"): 3.0,
}


def baseline_of(contestant: Contestant, among: Iterable[Contestant]) -> Contestant | None:
    """Return the same framework without sessions, or None when it is not among them."""
    return next((c for c in among if c.framework == contestant.framework and c.library == "bare"), None)


def references_of(contestant: Contestant, among: Sequence[Contestant]) -> list[Contestant]:
    """Return whom it is compared with: first the reference of its framework, then, if it is ours, libraries elsewhere."""
    nearest = nearest_of(contestant, among)
    elsewhere = [
        c
        for c in among
        if contestant.library == OURS
        and c.framework != contestant.framework
        and c != nearest
        and (c.framework, c.library) in ELSEWHERE
        and c.kind == contestant.kind
    ]
    return [*([nearest] if nearest else []), *elsewhere]


def nearest_of(contestant: Contestant, among: Sequence[Contestant]) -> Contestant | None:
    """Return the framework's reference library on the same kind of store, else on one that has a database server too, or none.

    A row of ``NEARER`` has what is named there, when it is among them.
    """
    named = next((c for c in among if c.peer == NEARER.get(contestant.peer)), None)
    if named is not None:
        return named
    library = REFERENCES.get(contestant.framework)
    rows = [c for c in among if c.framework == contestant.framework and c.library == library]
    like = [c for c in rows if (c.database is None) == (contestant.database is None)]
    return next((c for c in [*(c for c in rows if c.kind == contestant.kind), *like, *rows]), None)


def select(pattern: str, among: Iterable[Contestant] = CONTESTANTS) -> list[Contestant]:
    """Return the contestants whose name contains ``pattern`` (wildcards allowed), in order.

    Their references come along, and everybody's baselines, since a row means nothing without them.
    """
    everybody = list(among)
    wanted: set[str] = set()
    for contestant in everybody:
        if fnmatchcase(contestant.peer, f"*{pattern}*"):
            wanted |= {contestant.peer, *(c.peer for c in references_of(contestant, everybody))}
    rows = [c for c in everybody if c.peer in wanted]
    wanted |= {found.peer for c in rows if (found := baseline_of(c, everybody))}
    return [c for c in everybody if c.peer in wanted]
