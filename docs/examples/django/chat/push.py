"""What Django says to wsserver: publish a message, and issue a token."""

import time

import jwt
import requests
from django.conf import settings

_session = requests.Session()
_session.headers["X-API-Key"] = settings.WSSERVER_API_KEY


def publish(channel, data):
    """Publish data, which JSON can encode, to everyone who subscribes to the channel."""
    answer = _session.post(f"{settings.WSSERVER_URL}/api/publish", json={"channel": channel, "data": data}, timeout=2)
    answer.raise_for_status()


def make_token(user):
    """Return a token that identifies the user to wsserver for the next ten minutes."""
    claims = {"sub": str(user.pk), "exp": int(time.time()) + 600}
    return jwt.encode(claims, settings.WSSERVER_TOKEN_SECRET, "HS256")
