"""coatcheck under Django, on whichever store the bench names, everything else its default."""

import os

from bench.apps.django_routes import application
from bench.apps.tables import prepare

prepare(os.environ["BENCH_STORE"])
app = application(
    INSTALLED_APPS=["coatcheck.django"],
    MIDDLEWARE=["coatcheck.django.SessionMiddleware"],
    SESSION_ENGINE="coatcheck.django.engine",
    COATCHECK={"STORE": os.environ["BENCH_STORE"]},
)
