"""The first program of every Node session guide: count a visitor's page views.

SESSION_SECRET=$(coatcheck secret) uvicorn examples.visit_counter:app
"""

import os

from fastapi import FastAPI

from coatcheck.fastapi import SessionDep, SessionMiddleware

app = FastAPI()
store = os.environ.get("SESSION_STORE", "sqlite:///sessions.db")
app.add_middleware(SessionMiddleware, store=store, secret=os.environ["SESSION_SECRET"])


@app.get("/")
async def home(session: SessionDep) -> str:
    views = session.increment("views")
    return "Welcome! Reload this page." if views == 1 else f"You have seen this page {views} times."
