"""The Django application: its checks, and the store's tables made by `manage.py migrate`."""

from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import post_migrate

__all__ = ["CoatCheckConfig"]


class CoatCheckConfig(AppConfig):
    """INSTALLED_APPS += ["coatcheck.django"]"""

    name = "coatcheck.django"
    label = "coatcheck"
    verbose_name = "Sessions"

    def ready(self) -> None:
        from coatcheck.django.checks import check
        from coatcheck.django.options import remember_debug

        remember_debug()
        checks.register(check, checks.Tags.security)
        post_migrate.connect(_set_up, sender=self)


def _set_up(**_: Any) -> None:
    """Make the tables and indexes that the store needs, if it needs any."""
    from coatcheck.django.home import sessions

    try:
        manager = sessions()
    except ImproperlyConfigured:
        return  # `manage.py check` says why
    manager.setup()
