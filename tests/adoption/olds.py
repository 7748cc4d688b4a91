"""Old sessions, made by the real packages: each function returns the value of the cookie that the browser would hold."""

import asyncio
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
import starsessions
from flask import Flask, session
from flask_session import Session as FlaskSession
from starlette.middleware.sessions import SessionMiddleware as StarletteSessions
from starsessions.stores.redis import RedisStore as StarsessionsRedis

from tests.web.rig import Talk, http_scope

SECRET = "old-Zt3xk0VbX1qv8m2LwP5rYd7NfQ9sHc4G"
OLDER = "older-k0VbX1qv8m2LwP5rYd7NfQ9sHc4GZt3x"
SITE = Path(__file__).with_name("django_site.py")


def value_of(cookie: str, name: str = "session") -> str:
    """The value in a Cookie header of one cookie."""
    found, _, value = cookie.partition("=")
    assert found == name
    return value


def starlette(data: dict[str, Any], secret: str = SECRET, **options: Any) -> str:
    """What Starlette's own middleware sets."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].update(data)
        await _answer(send)

    talk = asyncio.run(Talk(StarletteSessions(app, secret_key=secret, **options), http_scope()).run())
    return value_of(talk.cookie)


def flask(data: dict[str, Any], secret: str = SECRET, **config: Any) -> str:
    """What Flask's own interface sets. `permanent=True` among the data means `session.permanent`."""
    return _of_flask(_flask(secret, **config), data)


def _flask(secret: str, **config: Any) -> Flask:
    app = Flask("old")
    app.config.update(SECRET_KEY=secret, **config)
    return app


def _of_flask(app: Flask, data: dict[str, Any]) -> str:
    given = dict(data)
    permanent = given.pop("permanent", None)

    @app.get("/")
    def put() -> str:
        session.update(given)
        if permanent is not None:
            session.permanent = permanent
        return ""

    client = app.test_client()
    client.get("/")
    cookie = client.get_cookie("session")
    assert cookie is not None
    return str(cookie.value)


def flask_session(
    url: str, data: dict[str, Any], *, form: str = "msgpack", signed: bool = False, **config: Any
) -> str:
    """What Flask-Session sets, with the session in Redis."""
    app = _flask(
        SECRET,
        SESSION_TYPE="redis",
        SESSION_REDIS=redis.Redis.from_url(url),
        SESSION_SERIALIZATION_FORMAT=form,
        SESSION_USE_SIGNER=signed,
        **config,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the signer
        FlaskSession(app)
    cookie = _of_flask(app, data)
    app.config["SESSION_REDIS"].close()
    return cookie


def starsessions_in_redis(url: str, data: dict[str, Any], lifetime: int = 0) -> str:
    """What starsessions sets, with the session in Redis."""

    async def main() -> str:
        client = redis.asyncio.Redis.from_url(url)
        try:
            return await _starsessions(StarsessionsRedis(connection=client), data, lifetime)
        finally:
            await client.aclose()

    return asyncio.run(main())


def starsessions_cookie(data: dict[str, Any], lifetime: int = 0) -> str:
    """What starsessions sets with its CookieStore."""
    return asyncio.run(_starsessions(starsessions.CookieStore(SECRET), data, lifetime))


async def _starsessions(store: Any, data: dict[str, Any], lifetime: int) -> str:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await scope["session_handler"].load()
        scope["session"].update(data)
        await _answer(send)

    made = starsessions.SessionMiddleware(app, store, lifetime=lifetime, cookie_https_only=False)
    (line,) = (await Talk(made, http_scope()).run()).all(b"set-cookie")
    return value_of(line.partition(";")[0])


async def _answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def django(engine: str, folder: Path, redis_url: str, *steps: str) -> Any:
    """What a Django of its own answers to these steps: see `django_site`. In a process of its own, since its settings are."""
    command = [sys.executable, str(SITE), engine, str(folder), redis_url, *steps]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
