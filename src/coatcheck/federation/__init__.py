"""Sessions of users whom an OpenID Connect provider has logged in: they end when the provider's do.

    provider = Provider(RemoteKeys("https://id.example/jwks.json"), issuer="https://id.example", client_id="shop")
    provider.log_in(session, claims)                              # of the ID token that your client library verified
    app.mount("/oidc/logout", LogoutApp(provider))                # ASGI: back-channel logout; LogoutWsgiApp for WSGI

coatcheck is no OpenID Connect client: the flow, `state`, `nonce` and the ID token are your library's (Authlib, say).

Needs the extra: `pip install coatcheck[tokens]`.
"""

from coatcheck.federation.logout_token import LogoutClaims, LogoutTokenVerifier
from coatcheck.federation.provider import Provider
from coatcheck.federation.servers import LogoutApp, LogoutWsgiApp

__all__ = ["LogoutApp", "LogoutClaims", "LogoutTokenVerifier", "LogoutWsgiApp", "Provider"]
