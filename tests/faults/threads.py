"""`gunicorn tests.faults.threads:app`: the application over the sync face, and the store that the environment names."""

import os

from tests.faults.site import wsgi_app

app = wsgi_app(os.environ["STORE"])
