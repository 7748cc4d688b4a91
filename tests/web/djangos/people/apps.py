"""The application of the tests' own user model."""

from django.apps import AppConfig


class People(AppConfig):
    name = "tests.web.djangos.people"
    label = "people"
