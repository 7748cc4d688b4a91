"""The settings of the Django project that the tests drive: sessions by coatcheck, everything else as `startproject` has it.

From the environment: `STORE`, `DATABASE` (a file), `MIDDLEWARE_OF` ("coatcheck", or "django" for the engine alone).
"""

import os
import tempfile
from pathlib import Path

SECRET_KEY = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.web.djangos.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "coatcheck.django",
    "tests.web.djangos.people",
]
SESSION_ENGINE = "coatcheck.django.engine"
COATCHECK = {"STORE": os.environ.get("STORE", "memory:")}
SESSIONS = {
    "coatcheck": "coatcheck.django.SessionMiddleware",
    "django": "django.contrib.sessions.middleware.SessionMiddleware",
}
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    SESSIONS[os.environ.get("MIDDLEWARE_OF", "coatcheck")],
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick, for tests only
LOGIN_REDIRECT_URL = "/whoami"

_folder = Path(os.environ.get("DATABASE") or Path(tempfile.mkdtemp()) / "db.sqlite3")
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(_folder), "OPTIONS": {"timeout": 60}}
}
MIGRATION_MODULES = {
    name: None for name in ("admin", "auth", "contenttypes", "sessions", "people", "coatcheck")
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"django.request": {"level": "CRITICAL"}},
}
