"""coatcheck under Quart, on whichever store the bench names, everything else its default."""

import os
import secrets

from bench.apps.quart_routes import application
from coatcheck.quart import CoatCheck

app = application()
app.config["SECRET_KEY"] = secrets.token_urlsafe(32)
CoatCheck(app, store=os.environ["BENCH_STORE"])
