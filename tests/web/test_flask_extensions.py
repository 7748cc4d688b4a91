"""What people use beside Flask's sessions, over ours: Flask-WTF, Authlib; and processes, threads and greenlets."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from authlib.integrations.flask_client import OAuth
from flask import Flask, Response, jsonify, redirect, request, session
from flask_login import LoginManager, UserMixin, login_user
from flask_wtf import CSRFProtect, FlaskForm
from flask_wtf.csrf import generate_csrf
from werkzeug.serving import make_server
from wtforms import StringField

from coatcheck.flask import CoatCheck
from servers import Server
from tests.web.apps import SECRET
from tests.web.rig import Counted

ROOT = Path(__file__).resolve().parents[2]


def make(**options: Any) -> Flask:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = SECRET
    CoatCheck(app, **options)
    return app


# ------------------------------------------------------------------------------------------------------- Flask-WTF


class NameForm(FlaskForm):  # type: ignore[misc]  # has no types
    name = StringField()


def form_app() -> Flask:
    app = make()
    CSRFProtect(app)
    manager = LoginManager(app)
    manager.user_loader(lambda user_id: UserMixin())

    @app.get("/token")
    def token() -> str:
        return generate_csrf()

    @app.post("/name")
    def name() -> str:
        form = NameForm()
        return str(form.validate_on_submit() and form.name.data)

    @app.post("/login")
    def login() -> str:
        user = UserMixin()
        user.id = 7
        return str(login_user(user))

    return app


def test_a_form_is_protected_as_flask_wtf_documents() -> None:
    client = form_app().test_client()
    token = client.get("/token").text
    assert client.post("/name", data={"name": "Ada"}).status_code == 400
    assert client.post("/name", data={"name": "Ada", "csrf_token": token}).text == "Ada"
    stranger = form_app().test_client()
    assert stranger.post("/name", data={"name": "Eve", "csrf_token": token}).status_code == 400


def test_a_form_that_was_shown_before_the_login_may_be_sent_after_it() -> None:
    client = form_app().test_client()
    token = client.get("/token").text
    assert client.post("/login", headers={"X-CSRFToken": token}).text == "True"
    assert client.post("/name", data={"name": "Ada", "csrf_token": token}).text == "Ada"


# --------------------------------------------------------------------------------------------------------- Authlib


@pytest.fixture
def provider() -> Iterator[str]:
    """A server that hands out a token for any code."""
    app = Flask("provider")

    @app.post("/token")
    def token() -> Response:
        return jsonify(access_token=f"token for {request.form['code']}", token_type="Bearer")

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def oauth_app(provider: str, store: Counted) -> Flask:
    app = make(store=store)
    client = OAuth(app).register(
        "id",
        client_id="shop",
        client_secret="-",
        authorize_url=f"{provider}/authorize",
        access_token_url=f"{provider}/token",
        client_kwargs={"code_challenge_method": "S256"},
    )

    @app.get("/login")
    def login() -> Any:
        return client.authorize_redirect("http://localhost/back")

    @app.get("/back")
    def back() -> str:
        token = client.authorize_access_token()
        session.login("7", method="fed")  # type: ignore[attr-defined]  # ours has more
        return str(token["access_token"])

    @app.get("/")
    def home() -> Any:
        user_id = session.user_id  # type: ignore[attr-defined]  # likewise
        return redirect("/login") if user_id is None else str(user_id)

    return app


def test_parallel_logins_by_oauth_keep_each_their_state(provider: str) -> None:
    """Two tabs, both sent to the provider at once: with one state for all, the first to come back would be refused."""
    store = Counted()
    app = oauth_app(provider, store)
    browser = app.test_client()
    with browser.session_transaction() as transaction:
        transaction["cart"] = 1
    cookie = browser.get_cookie("session")
    assert cookie is not None

    def tab(number: int) -> str:
        client = app.test_client()
        client.set_cookie("session", cookie.value)
        location = client.get("/login").location
        assert location is not None
        (state,) = parse_qs(urlsplit(location).query)["state"]
        return state

    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(tab, range(4)))
    with browser.session_transaction() as transaction:
        assert {f"_state_id_{state}" for state in states} < set(transaction)
    assert browser.get("/back", query_string={"state": states[2], "code": "c"}).text == "token for c"
    assert browser.get("/").text == "7"
    with browser.session_transaction() as transaction:
        assert transaction["cart"] == 1


# --------------------------------------------------------------------------------------------- processes, greenlets

FORKED = """
import os, sys
from flask import Flask, session
from coatcheck.flask import CoatCheck

app = Flask("forked")
app.config["SECRET_KEY"] = sys.argv[1]
CoatCheck(app, store=sys.argv[2])
app.add_url_rule("/", view_func=lambda: str(session.increment("n")))
app.extensions["coatcheck"].setup()
browser = app.test_client()
browser.get("/")  # the parent has connections of its own by now

def child():
    for _ in range(20):
        assert browser.get("/").status_code == 200

children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        try:
            child()
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    children.append(pid)
child()
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
print(browser.get("/").text)
"""

GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from flask import Flask, session
from coatcheck.flask import CoatCheck

app = Flask("greenlets")
app.config["SECRET_KEY"] = sys.argv[1]
CoatCheck(app, store=sys.argv[2])
app.add_url_rule("/", view_func=lambda: str(session.increment("n")))
first = app.test_client()
first.get("/")
cookie = first.get_cookie("session").value

def visit():
    browser = app.test_client()
    browser.set_cookie("session", cookie)
    for _ in range(5):
        assert browser.get("/").status_code == 200

gevent.joinall([gevent.spawn(visit) for _ in range(16)], raise_error=True)
print(first.get("/").text)
"""


def said(program: str, url: str) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-c", program, SECRET, url]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_an_application_that_was_built_and_used_before_a_fork(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """gunicorn --preload: no child speaks over its parent's connections, and no count is lost between them."""
    if kind == "redis":
        server: Server = request.getfixturevalue("redis_server")
        url = f"redis://127.0.0.1:{server.port}/9"
    else:
        url = f"sqlite:///{tmp_path}/sessions.db"
    assert said(FORKED, url) == str(1 + 4 * 20 + 1)


def test_greenlets_share_a_session_on_redis(redis_server: Server) -> None:
    """gunicorn's gevent worker: a greenlet that waits for Redis leaves the thread to others, on connections of their own."""
    assert said(GREENLETS, f"redis://127.0.0.1:{redis_server.port}/9") == str(1 + 16 * 5 + 1)
