"""Where the pages are."""

from django.contrib import admin
from django.urls import include, path

from tests.web.djangos import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("django.contrib.auth.urls")),
    path("scenario/<page>", views.scenario),
    path("ascenario/<page>", views.ascenario),
    path("crowd/", views.crowd),
    path("acrowd/", views.acrowd),
    path("whoami", views.whoami),
    path("awhoami", views.awhoami),
    path("in/<name>", views.sign_in),
    path("out", views.sign_out),
    path("ain/<name>", views.asign_in),
    path("aout", views.asign_out),
    path("change/<password>", views.change_password),
    path("members", views.members),
    path("leave", views.leave_message),
    path("messages", views.read_messages),
    path("missing", views.not_found),
    path("error", views.server_error),
    path("cart", views.key_for_a_cart),
    path("acart", views.akey_for_a_cart),
    path("awaits", views.awaits),
    path("saves", views.saves_without_waiting),
]
