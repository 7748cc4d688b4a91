"""Django, set up once for these tests: its tables in a file, and the environment its test client asks for."""

from collections.abc import Iterator
from typing import Any

import pytest

import tests.web.djangos.site  # noqa: F401  # sets Django up


@pytest.fixture(scope="session", autouse=True)
def tables() -> Iterator[None]:
    from django.core.management import call_command
    from django.db import connections
    from django.test.utils import setup_test_environment, teardown_test_environment

    setup_test_environment()
    call_command("migrate", run_syncdb=True, verbosity=0)
    yield
    connections.close_all()
    teardown_test_environment()


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Sessions of their own for every test."""
    from coatcheck.django import home

    home.forget()
    home._earlier = None
    yield
    home.forget()
    home._earlier = None


@pytest.fixture
def ada() -> Any:
    return somebody("ada")


@pytest.fixture
def bob() -> Any:
    return somebody("bob")


def somebody(name: str) -> Any:
    """A user of this name, as at the beginning."""
    from django.contrib.auth.models import User

    User.objects.filter(username=name).delete()
    return User.objects.create_user(name, password="correct horse")
