"""coatcheck on whichever store the bench names, everything else its default."""

import os
import secrets

from bench.apps.starlette_routes import application
from bench.apps.tables import prepare
from coatcheck import Timeouts
from coatcheck.starlette import SessionMiddleware

URL = os.environ["BENCH_STORE"]
# Sessions that nobody can take back may live for a day at most.
TIMEOUTS = Timeouts(idle=3600, absolute=12 * 3600) if URL.startswith("cookie:") else Timeouts()

prepare(URL)
app = application()
app.add_middleware(SessionMiddleware, store=URL, secret=secrets.token_urlsafe(32), timeouts=TIMEOUTS)
