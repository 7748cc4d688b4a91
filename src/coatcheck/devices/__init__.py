"""A ready-made page on which users see where they are signed in, and sign out there: HTML for people, JSON for programs.

    app.mount("/account/devices", DevicesApp())              # ASGI: FastAPI, Starlette, Litestar …
    DispatcherMiddleware(app, {"/account/devices": DevicesWsgiApp()})

`DevicesPage` is the page without a server, for a view of any framework's own.
"""

from coatcheck.devices.page import Answer, Ask, DevicesPage
from coatcheck.devices.servers import DevicesApp, DevicesWsgiApp
from coatcheck.devices.texts import TEXTS

__all__ = ["TEXTS", "Answer", "Ask", "DevicesApp", "DevicesPage", "DevicesWsgiApp"]
