"""Django's own sessions in its database on PostgreSQL, over connections that are kept, all else their default."""

import os
from urllib.parse import urlsplit

from django.core.management import call_command

from bench.apps.django_routes import application

place = urlsplit(os.environ["BENCH_STORE"])
app = application(
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.db",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": place.hostname,
            "PORT": place.port,
            "NAME": place.path.strip("/"),
            "USER": place.username or "",
            "CONN_MAX_AGE": None,  # by default every request opens one
        }
    },
)
call_command("migrate", verbosity=0)
