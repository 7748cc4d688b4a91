"""A user whose primary key is a UUID."""

import uuid
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models


class Person(AbstractUser):
    id: Any = models.UUIDField(primary_key=True, default=uuid.uuid4)
    groups: Any = models.ManyToManyField("auth.Group", related_name="+")
    user_permissions: Any = models.ManyToManyField("auth.Permission", related_name="+")
