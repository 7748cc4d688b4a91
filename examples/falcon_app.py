"""Falcon: log in, count, see where you are logged in, end one of these logins, log out.

SESSION_SECRET=$(coatcheck secret) uvicorn examples.falcon_app:app
"""

import os
from typing import Any

from falcon import MEDIA_HTML, HTTPSeeOther, HTTPUnauthorized
from falcon.asgi import App, Request, Response

from coatcheck.asgi import SessionMiddleware
from examples import pages


class SessionContext:
    async def process_request_async(self, req: Request, resp: Response) -> None:
        req.context.session = req.scope["session"]


async def pass_on(req: Request, resp: Response, error: Exception, params: Any, ws: Any = None) -> None:
    raise error  # to the middleware, which keeps nothing of a request that failed


class Shop:
    async def on_get(self, req: Request, resp: Response) -> None:
        session = req.context.session
        resp.text, resp.content_type = pages.home(session.user_id, session.get("count", 0)), MEDIA_HTML
        resp.set_headers(pages.PRIVATE)

    async def on_post_login(self, req: Request, resp: Response) -> None:
        form = await req.get_media()
        if not pages.is_right(form.get("user", ""), form.get("password", "")):
            raise HTTPUnauthorized(description=pages.WRONG)
        req.context.session.login(form["user"])
        raise HTTPSeeOther("/")

    async def on_post_count(self, req: Request, resp: Response) -> None:
        req.context.session.increment("count")
        raise HTTPSeeOther("/")

    async def on_get_devices(self, req: Request, resp: Response) -> None:
        session = req.context.session
        if session.user_id is None:
            raise HTTPUnauthorized
        resp.text, resp.content_type = pages.devices(await session.devices(), session.handle), MEDIA_HTML
        resp.set_headers(pages.PRIVATE)

    async def on_post_end(self, req: Request, resp: Response) -> None:
        if req.context.session.user_id is None:
            raise HTTPUnauthorized
        await req.context.session.end_device((await req.get_media()).get("handle", ""))
        raise HTTPSeeOther("/devices")

    async def on_post_logout(self, req: Request, resp: Response) -> None:
        req.context.session.logout()
        raise HTTPSeeOther("/")


site: Any = App(middleware=[SessionContext()])
site.add_error_handler(Exception, pass_on)
site.add_route("/", Shop())
for path in ("login", "count", "devices", "devices/end", "logout"):
    site.add_route(f"/{path}", Shop(), suffix=path.rpartition("/")[2])

store = os.environ.get("SESSION_STORE", "sqlite:///sessions.db")
app = SessionMiddleware(site, store=store, secret=os.environ["SESSION_SECRET"])
