"""An application of plain Flask, as its manual has it: what the doctor says of sessions that are not ours."""

from flask import Flask, request, session

from tests.tools.doctor.site import FORM, PASSWORD, SECRET

app = Flask(__name__)
app.secret_key = SECRET


@app.get("/")
def home() -> str:
    return FORM.format("/logout")


@app.get("/login")
def form() -> str:
    session["seen"] = True
    return FORM.format("/login")


@app.post("/login")
def login() -> tuple[str, int]:
    if request.form.get("password") != PASSWORD:
        return "wrong", 401
    session["user"] = request.form["user"]
    return "welcome", 200


@app.post("/logout")
def logout() -> str:
    session.clear()
    return "bye"


@app.get("/me")
def me() -> tuple[str, int]:
    return (session["user"], 200) if "user" in session else ("who?", 401)
