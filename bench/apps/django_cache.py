"""Django's own sessions in its cache on Redis, all else their default."""

import os

from bench.apps.django_routes import application

app = application(
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": os.environ["BENCH_STORE"],
        }
    },
)
