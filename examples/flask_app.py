"""Flask: log in, count, see where you are logged in, end one of these logins, log out.

FLASK_SECRET_KEY=$(coatcheck secret) FLASK_SESSION_STORE=sqlite:///sessions.db flask --app examples.flask_app run
"""

from flask import Flask, abort, redirect, request, session
from flask.typing import ResponseReturnValue

from coatcheck.flask import CoatCheck
from examples import pages

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_SESSION_STORE
CoatCheck(app)


@app.get("/")
def home() -> ResponseReturnValue:
    return pages.home(session.user_id, session.get("count", 0)), pages.PRIVATE


@app.post("/login")
def login() -> ResponseReturnValue:
    if not pages.is_right(request.form["user"], request.form["password"]):
        abort(401, pages.WRONG)
    session.login(request.form["user"])
    return redirect("/", 303)


@app.post("/count")
def count() -> ResponseReturnValue:
    session.increment("count")
    return redirect("/", 303)


@app.get("/devices")
def devices() -> ResponseReturnValue:
    if session.user_id is None:
        abort(401)
    return pages.devices(session.devices(), session.handle), pages.PRIVATE


@app.post("/devices/end")
def end_device() -> ResponseReturnValue:
    if session.user_id is None:
        abort(401)
    session.end_device(request.form["handle"])
    return redirect("/devices", 303)


@app.post("/logout")
def logout() -> ResponseReturnValue:
    session.logout()
    return redirect("/", 303)
