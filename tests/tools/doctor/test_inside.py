"""A look at an application before it is deployed: every framework's is found, and every setting that is wrong, by its line."""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar
from quart import Quart
from starlette.applications import Starlette
from starlette.routing import Mount

from coatcheck import CookieSettings, Outage, SessionManager, Timeouts
from coatcheck.core.ports import TellsTime
from coatcheck.core.stepping import run_now
from coatcheck.stores.cookie import CookieStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.telemetry import Observed
from coatcheck.tools.cli import main
from coatcheck.tools.doctor import inspection, packages, storage
from coatcheck.tools.doctor.inspection import Inspected, inspect
from coatcheck.tools.doctor.packages import PACKAGES
from coatcheck.tools.doctor.report import Report, examine
from coatcheck.tools.doctor.settings import SETTINGS
from coatcheck.tools.doctor.storage import STORAGE
from servers import Server

SECRET = "u3Jq8Zt1pXv5LrWc7KdYb2HnMs9GfEa4QwTzRxCoViB"
OTHER = "aB7xWq3nLk9vRt5yHp2sDf8gJz4cXm6eUo1iTrEwQzVb"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process have middlewares too: here only what an application leads to counts."""
    monkeypatch.setattr(inspection, "_made", lambda: ())


class Guards:
    """A middleware of a user's own that does everything."""

    coatcheck_provides = frozenset({"csrf", "throttle", "https"})

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application without pages."""


def good(folder: Path, **options: Any) -> Any:
    from coatcheck.asgi import SessionMiddleware

    file = folder / "sessions.db"
    with SQLiteStore(file) as store:
        run_now(store.blocking().check())
    given = {"secret": [SECRET, OTHER], "store": f"sqlite:///{file}", "login_keeps": ("cart",)}
    return Guards(SessionMiddleware(nothing, **{**given, **options}))


HALF_A_DAY = Timeouts(idle=3_600, absolute=43_200, remember=3_600)


class Deaf:
    """An observer that listens to nothing."""

    def began(self, command: str) -> None: ...

    def ended(self, began: Any, command: str, outcome: str, seconds: float) -> None: ...


def examined(app: object, *, workers: int = 1) -> Report:
    (found,) = inspect(app, workers=workers)
    return examine("app", (*SETTINGS, *STORAGE, *PACKAGES), found)


def lines(report: Report) -> set[int]:
    return {finding.line for finding in report.findings}


def test_a_well_configured_application_is_clean(tmp_path: Path) -> None:
    report = examined(good(tmp_path), workers=4)
    assert (report.findings, report.unseen) == ([], [])
    assert len(report.passed) == len(SETTINGS) + len(STORAGE) + len(PACKAGES)


WRONG: dict[str, tuple[dict[str, Any], int]] = {
    "insecure_dev": ({"insecure_dev": True}, 18),
    "one secret": ({"secret": SECRET}, 15),
    "scripts": ({"cookie": CookieSettings(http_only=False)}, 28),
    "plain": ({"cookie": CookieSettings(secure=False)}, 39),
    "name": ({"name": "sid"}, 28),
    "domain": ({"cookie": CookieSettings(domain="example.com")}, 28),
    "site": ({"cookie": CookieSettings(same_site="none", secure=True)}, 92),
    "timeouts": ({"timeouts": Timeouts(absolute=86_400 * 60)}, 67),
    "renewal": ({"timeouts": Timeouts(renewal=None)}, 10),
    "proxy": ({"proxy": True}, 105),
    "login": ({"login_keeps": None}, 55),
    "outage": ({"on_store_error": "anonymous"}, 117),
    "robots": ({"save_uninitialized": True}, 123),
    "memory": ({"store": "memory:"}, 61),
    "memory of its own": ({"store": MemoryStore()}, 61),
    "cookies alone": ({"store": "cookie:?revocation=none", "timeouts": HALF_A_DAY}, 27),
    "cookies alone, observed": (
        {"store": Observed(CookieStore(revocation="none"), Deaf()), "timeouts": HALF_A_DAY},
        27,
    ),
    "away": ({"store": "redis://127.0.0.1:1", "outage": Outage(connect_timeout=0.2)}, 117),
}


def test_a_cookie_that_a_server_knows_can_be_ended(tmp_path: Path) -> None:
    store = CookieStore(revocation="epoch", store=_file(tmp_path))
    assert 27 not in lines(examined(good(tmp_path, store=store)))
    store.close()


@pytest.mark.parametrize(("options", "line"), WRONG.values(), ids=WRONG)
def test_a_setting_that_is_wrong_is_found(options: dict[str, Any], line: int, tmp_path: Path) -> None:
    report = examined(good(tmp_path, **options))
    assert lines(report) == {line}
    assert SECRET not in repr(report)


def test_memory_with_several_workers_is_worse(tmp_path: Path) -> None:
    app = good(tmp_path, store="memory:")
    severities = [examined(app, workers=workers).findings[0].severity for workers in (1, 2)]
    assert severities == ["medium", "high"]


def test_what_guards_nothing_is_found(tmp_path: Path) -> None:
    assert lines(examined(good(tmp_path).app)) == {91, 188, 39}


def test_a_guard_that_no_chain_leads_to_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A throttle is held by a login view."""
    monkeypatch.undo()

    class Throttle:
        coatcheck_provides = "throttle"

    throttle = Throttle()
    assert 188 not in lines(examined(good(tmp_path).app))
    del throttle


def test_the_https_helper_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it is made of: the same rules are behind every framework's."""
    from coatcheck.asgi import HttpsMiddleware

    monkeypatch.undo()
    app = HttpsMiddleware(good(tmp_path).app)
    assert "https" in inspect(app)[0].provides


def test_debug_mode_is_found(tmp_path: Path) -> None:
    app = Starlette(debug=True)
    app.add_middleware(Guards)
    app.add_middleware(_sessions("starlette"), secret=[SECRET, OTHER], login_keeps=(), store=_file(tmp_path))
    assert lines(examined(app)) == {37}


def test_a_file_that_others_may_read_is_found(tmp_path: Path) -> None:
    app = good(tmp_path)
    (tmp_path / "sessions.db").chmod(0o644)
    assert lines(examined(app)) == {127}


REMOTE = {
    "redis://:pw-of-redis@192.0.2.1": 1, "rediss://192.0.2.1": 1, "redis://192.0.2.1": 2, "rediss://:pw-of-redis@192.0.2.1": 0,
    "postgresql://a:pw-of-pg@192.0.2.1/db": 1, "postgresql://a:pw-of-pg@192.0.2.1/db?sslmode=verify-full": 0,
    "mongodb://a:pw-of-mongo@192.0.2.1/db": 1, "mongodb://a:pw-of-mongo@192.0.2.1/db?tls=true": 0,
    "redis://localhost": 0, "redis://127.0.0.1": 0, "redis://[::1]": 0,
}  # fmt: skip


@pytest.mark.parametrize(("url", "count"), REMOTE.items(), ids=REMOTE)
def test_an_open_way_to_the_store_is_found(url: str, count: int, tmp_path: Path) -> None:
    (found,) = inspect(good(tmp_path, store=url))
    findings = list(storage.the_way_to_the_store_is_closed(found))
    assert [finding.line for finding in findings] == [127] * count
    assert "pw-of" not in repr(findings)


# ----------------------------------------------------------------------------------------------------- every framework


def _sessions(framework: str) -> Any:
    return __import__(f"coatcheck.{framework}", fromlist=["SessionMiddleware"]).SessionMiddleware


def _file(folder: Path) -> str:
    return f"sqlite:///{folder / 'sessions.db'}"


def _starlette(**options: Any) -> Any:
    app = Starlette()
    app.add_middleware(Guards)
    app.add_middleware(_sessions("starlette"), **options)
    return app


def _fastapi(**options: Any) -> Any:
    """Nested: the sessions are in an application that is mounted in another."""
    inner = FastAPI()
    inner.add_middleware(Guards)
    inner.add_middleware(_sessions("fastapi"), **options)
    return Starlette(routes=[Mount("/api", inner)])


def _flask(**options: Any) -> Any:
    from coatcheck.flask import CoatCheck

    app = Flask("shop")
    CoatCheck(app, **options)
    return app


def _quart(**options: Any) -> Any:
    from coatcheck.quart import CoatCheck

    app = Quart("shop")
    CoatCheck(app, **options)
    return Guards(app)


def _litestar(**options: Any) -> Any:
    from coatcheck.litestar import CoatCheck

    return Guards(Litestar([], plugins=[CoatCheck(**options)]))


def _aiohttp(**options: Any) -> Any:
    from coatcheck.aiohttp import setup

    app = web.Application()
    setup(app, **options)
    return app


def _wsgi(**options: Any) -> Any:
    def pages(environ: Any, start_response: Any) -> Any:
        return []

    return Guards(_sessions("wsgi")(pages, **options))


FRAMEWORKS: dict[str, Callable[..., Any]] = {
    "starlette": _starlette, "fastapi": _fastapi, "flask": _flask, "quart": _quart, "litestar": _litestar, "aiohttp": _aiohttp,
    "wsgi": _wsgi,
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_framework_shows_its_sessions(name: str, tmp_path: Path) -> None:
    good(tmp_path)
    app = FRAMEWORKS[name](secret=[SECRET, OTHER], login_keeps=(), store=_file(tmp_path), proxy=True)
    expected = {105} if name not in ("flask", "aiohttp") else {105, 91, 188, 39}
    assert lines(examined(app)) == expected


def test_two_sessions_of_one_application_are_both_looked_at(tmp_path: Path) -> None:
    inner = good(tmp_path, proxy=True)
    app = _sessions("asgi")(
        inner, secret=[SECRET, OTHER], name="staff", scope_key="staff", store=_file(tmp_path)
    )
    assert len(inspect(app)) == 2


def test_an_application_without_sessions_of_ours_has_none() -> None:
    assert inspect(Starlette()) == []


# ------------------------------------------------------------------------------------------------- the store's own time


@pytest.mark.parametrize("kind", ["redis_server", "postgres_server", "mongo_server"])
def test_a_store_tells_its_time_and_a_wrong_one_is_found(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Server = request.getfixturevalue(kind)
    with SessionManager(server.url) as sessions:
        sessions.setup()
        store = sessions.flows.store
        assert isinstance(store, TellsTime)
        found = Inspected(sessions, _exchange())
        assert list(storage.the_store_keeps_time(found)) == []
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() - 60)
        (finding,) = storage.the_store_keeps_time(found)
    assert finding.line == 68


def _exchange() -> Any:
    from coatcheck.exchange import Exchange

    return Exchange(CookieSettings(), SECRET)


# ---------------------------------------------------------------------------------------------------------- packages


def test_a_package_that_is_too_old_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    old = {"redis": "4.5.1", "flask": "3.1.0", "msgspec": "0.19.0"}
    monkeypatch.setattr(packages, "version", lambda name: old.get(name) or real(name))
    found = list(packages.too_old())
    assert {finding.title for finding in found} == {f"{name} is too old" for name in old}
    assert {finding.line for finding in found} == {212}


def test_what_is_installed_here_is_recent_enough() -> None:
    assert list(packages.too_old()) == []


# ------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Write a module beside which the command is run; returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    made: list[str] = []

    def write(text: str) -> str:
        name = f"shop{len(made)}_{os.getpid()}"
        (tmp_path / f"{name}.py").write_text(text)
        made.append(name)
        return name

    yield write
    for name in made:
        sys.modules.pop(name, None)


def doctor(*words: str, code: int, **environment: str) -> Result:
    result = CliRunner().invoke(main, ["doctor", *words], env=environment)
    assert result.exit_code == code, result.output
    return result


APP = """
from coatcheck.asgi import SessionMiddleware

async def pages(scope, receive, send): ...

def make():
    return app

app = SessionMiddleware(pages, secret={secret!r}, store={store!r})
"""


@pytest.mark.parametrize("target", ["{}", "{}:app", "{}:make"])
def test_an_application_is_named_as_servers_name_it(target: str, module: Callable[[str], str]) -> None:
    name = module(APP.format(secret=SECRET, store="memory:"))
    factory = ["--factory"] if target.endswith("make") else []
    result = doctor(target.format(name), *factory, "--json", code=1)
    assert {finding["line"] for finding in json.loads(result.output)["findings"]} == {15, 39, 55, 61, 91, 188}
    assert SECRET not in result.output


def test_lines_can_be_left_out(module: Callable[[str], str]) -> None:
    name = module(APP.format(secret=SECRET, store="memory:"))
    result = doctor(name, "--ignore", "61", "--ignore", "91", "--ignore", "188", code=0)
    assert "nothing to mend, 3 notes" in result.output


def test_an_application_that_would_not_start_is_a_finding(module: Callable[[str], str]) -> None:
    weak = doctor(module(APP.format(secret="changeme", store="memory:")), "--json", code=1)
    assert [finding["line"] for finding in json.loads(weak.output)["findings"]] == [18]
    assert "changeme" not in weak.output
    wrong = doctor(module(APP.format(secret=SECRET, store="radish://x")), "--json", code=1)
    assert [finding["line"] for finding in json.loads(wrong.output)["findings"]] == [29]


def test_what_cannot_be_imported_is_neither_clean_nor_a_finding(module: Callable[[str], str]) -> None:
    assert "ModuleNotFoundError" in doctor("no_such_module:app", code=2).output
    leaky = module("import os\nraise RuntimeError(f'cannot connect with {os.environ[\"APP_SECRET\"]}')")
    output = doctor(leaky, code=2, APP_SECRET=OTHER).output
    assert "RuntimeError" in output
    assert OTHER not in output
    assert "no session of coatcheck's" in doctor(module("app = object()"), code=2).output


def test_a_store_and_a_secret_alone(tmp_path: Path) -> None:
    good(tmp_path)
    words = ["--store", _file(tmp_path)]
    assert "nothing to mend" in doctor(*words, "--secret-env", "S", code=0, S=SECRET).output
    assert "line 18" in doctor(*words, "--secret-env", "S", code=1, S="short").output
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o600)
    doctor(*words, "--secret-file", str(file), code=0)
    file.chmod(0o640)
    assert "0640" in doctor(*words, "--secret-file", str(file), code=1).output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--store", "memory:"], "where is the secret"),
        (["--store", "sqlite:///nowhere.db", "--secret-env", "S"], "no file"),
        (["--store", "radish://x", "--secret-env", "S"], "no store for this"),
        (["--store", "memory:", "--secret-file", "nowhere"], "nowhere"),
        (["app:app", "--store", "memory:"], "what should be looked at"),
    ],
)
def test_a_store_that_cannot_be_looked_at(
    words: list[str], says: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in doctor(*words, code=2, S=SECRET).output


def test_a_password_in_the_stores_url_is_never_shown() -> None:
    url = "redis://u:hunter2@127.0.0.1:1/0"
    for words in (["--json"], []):
        output = doctor("--store", url, "--secret-env", "S", *words, code=1, S=SECRET).output
        assert "hunter2" not in output
        assert "117" in output


def _alone(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The command as users run it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "coatcheck.tools.cli", "doctor", *words, "--json"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "DJANGO_SETTINGS_MODULE": ""},
    )  # fmt: skip


def test_a_django_project_is_found(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(DJANGO.format(secret=SECRET, other=OTHER, store=_file(tmp_path)))
    good(tmp_path)
    done = _alone("project:application", folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    found = {finding["line"] for finding in json.loads(done.stdout)["findings"]}
    assert found == {55, 188}


DJANGO = """
from django.conf import settings
settings.configure(
    SECRET_KEY={secret!r}, SECRET_KEY_FALLBACKS=[{other!r}], ALLOWED_HOSTS=["app.example"], USE_TZ=True,
    INSTALLED_APPS=["coatcheck.django"], SESSION_ENGINE="coatcheck.django.engine", COATCHECK={{"STORE": {store!r}}},
    SECURE_HSTS_SECONDS=31_536_000, ROOT_URLCONF="project",
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "coatcheck.django.SessionMiddleware",
                "django.middleware.csrf.CsrfViewMiddleware"],
)
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
urlpatterns = []
"""


def test_the_demo(tmp_path: Path) -> None:
    """Nothing is missing. (Behind a proxy HTTPS is the proxy's business.)"""
    done = _alone("--factory", "demo.app:demo", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {finding["severity"] for finding in json.loads(done.stdout)["findings"]} <= {"note"}
