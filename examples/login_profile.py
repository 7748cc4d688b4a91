"""The second program of every Node session guide: log in, see your profile, destroy the session.

SESSION_SECRET=$(coatcheck secret) uvicorn examples.login_profile:app
"""

import os
from hmac import compare_digest
from typing import Annotated

from fastapi import FastAPI, Form, HTTPException

from coatcheck.fastapi import CurrentUser, SessionDep, SessionMiddleware

app = FastAPI()
store = os.environ.get("SESSION_STORE", "sqlite:///sessions.db")
app.add_middleware(SessionMiddleware, store=store, secret=os.environ["SESSION_SECRET"])

PASSWORDS = {"ada": b"analytical-engine"}  # yours: a table of Argon2 hashes


@app.post("/login")
async def login(session: SessionDep, name: Annotated[str, Form()], password: Annotated[str, Form()]) -> str:
    if name not in PASSWORDS or not compare_digest(PASSWORDS[name], password.encode()):
        raise HTTPException(401, "The name or the password is wrong.")
    session.login(name)
    return f"Welcome, {name}."


@app.get("/profile")
async def profile(user: CurrentUser) -> str:  # 401 for everybody else
    return f"This is the profile of {user}."


@app.post("/logout")
async def logout(session: SessionDep) -> str:
    await session.destroy()
    return "Good-bye."
