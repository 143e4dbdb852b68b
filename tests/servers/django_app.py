"""An authorization server for the tests: django-oauth-toolkit on a free loopback port, tables in SQLite in the current directory.

It ends when its standard input ends, so a killed test run leaves nothing behind, and writes its port to the file named by PAUTH_READY_FILE
once it accepts connections. PAUTH_CLIENTS is the JSON of the clients, PAUTH_ACCESS_TTL is in seconds.
"""

import json
import os
import socketserver
import sys
import threading
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import django
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.http import HttpResponse
from django.urls import include, path


class ThreadedServer(socketserver.ThreadingMixIn, WSGIServer):
    """One thread per connection; the standard library's server alone answers one client at a time."""

    daemon_threads = True
    request_queue_size = 128


class KeepAliveHandler(WSGIRequestHandler):
    """Quiet, and without the look-up of the client's host name."""

    def address_string(self) -> str:
        return str(self.client_address[0])


threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()

key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
settings.configure(
    SECRET_KEY="of the tests only",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django.sqlite3", "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"}}
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider"],
    MIGRATION_MODULES=dict.fromkeys(["auth", "contenttypes", "sessions", "oauth2_provider"]),  # tables at once, not migration by migration
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # client secrets are hashed at every request: a slow hash is a slow suite
    USE_TZ=True,
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": int(os.environ.get("PAUTH_ACCESS_TTL", "3600")),
        "REFRESH_TOKEN_EXPIRE_SECONDS": 86400,
        "PKCE_REQUIRED": True,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        "OAUTH2_VALIDATOR_CLASS": f"{__name__}.Validator",
        "SCOPES": {"openid": "who you are", "email": "your address", "read": "what you have"},
    },
)
sys.modules.setdefault(__name__, sys.modules["__main__"])
django.setup()

from django.contrib.auth import get_user_model, login  # noqa: E402  # models exist only after django.setup()
from oauth2_provider.models import Application  # noqa: E402
from oauth2_provider.oauth2_validators import OAuth2Validator  # noqa: E402


class Validator(OAuth2Validator):
    """Adds the user's address to the claims."""

    oidc_claim_scope = None

    def get_additional_claims(self, request):
        return {"email": request.user.email, "email_verified": True}


def log_in(request):
    """What a login page does, for whoever asks: ``/login?user=alice``."""
    name = request.GET["user"]
    user, _ = get_user_model().objects.get_or_create(username=name, defaults={"email": f"{name}@example.com"})
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return HttpResponse("logged in")


urlpatterns = [path("login", log_in), path("o/", include("oauth2_provider.urls", namespace="oauth2_provider"))]


def main() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    for client in json.loads(os.environ["PAUTH_CLIENTS"]):
        Application.objects.create(**client, authorization_grant_type="authorization-code", skip_authorization=True, algorithm="RS256")
    ready = Path(os.environ["PAUTH_READY_FILE"])
    with ThreadedServer(("127.0.0.1", 0), KeepAliveHandler) as server:
        server.set_app(WSGIHandler())
        ready.with_suffix(".part").write_text(str(server.server_port))
        ready.with_suffix(".part").replace(ready)
        server.serve_forever()


if __name__ == "__main__":
    main()
