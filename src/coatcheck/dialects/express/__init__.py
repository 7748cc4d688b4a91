"""Sessions shared with a live Express application: express-session's cookie, body and rules, in its stores' own formats.

    sessions = express_sessions(store=os.environ["REDIS_URL"], secret=os.environ["SESSION_SECRET"])
    app.add_middleware(sessions.asgi)                  # FastAPI, Starlette, Litestar
    app.wsgi_app = sessions.wsgi(app.wsgi_app)         # Flask, and any other WSGI application

docs/node.md says what is shared, and where this differs from express-session.
"""

from coatcheck.dialects.express.cookie import Cookie, CookieOptions
from coatcheck.dialects.express.door import ExpressSessions, express_sessions, get_session
from coatcheck.dialects.express.faces import AsyncExpressSession, ExpressSession
from coatcheck.dialects.express.manager import AsyncExpressManager, ExpressManager
from coatcheck.dialects.express.memory import MemoryStore

__all__ = [
    "AsyncExpressManager",
    "AsyncExpressSession",
    "Cookie",
    "CookieOptions",
    "ExpressManager",
    "ExpressSession",
    "ExpressSessions",
    "MemoryStore",
    "express_sessions",
    "get_session",
]
