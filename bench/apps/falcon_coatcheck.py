"""coatcheck's WSGI middleware around Falcon, on whichever store the bench names, everything else its default."""

import os
import secrets
from operator import itemgetter

from bench.apps.falcon_routes import application
from coatcheck.wsgi import SessionMiddleware

app = SessionMiddleware(
    application(itemgetter("coatcheck.session")),
    store=os.environ["BENCH_STORE"],
    secret=secrets.token_urlsafe(32),
)
