"""starsessions with its in-memory store, loaded by its autoload middleware, all else its default."""

from starsessions import InMemoryStore, SessionAutoloadMiddleware, SessionMiddleware

from bench.apps.starlette_routes import application

app = application()
# The middleware added last runs first: sessions are set up before they are loaded.
app.add_middleware(SessionAutoloadMiddleware)
app.add_middleware(SessionMiddleware, store=InMemoryStore())
