"""Django's settings. The secrets that it shares with wsserver are in the environment."""

import os
from pathlib import Path

WSSERVER_URL = os.environ.get("PUSH_URL", "http://127.0.0.1:8080")
WSSERVER_API_KEY = os.environ["WSSERVER_API_KEY"]
WSSERVER_TOKEN_SECRET = os.environ["WSSERVER_TOKEN_SECRET"]
HOOK_KEY = os.environ["HOOK_KEY"]

# All below is what any Django project has.
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", WSSERVER_TOKEN_SECRET)
DEBUG = True
ROOT_URLCONF = "chat.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "chat"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
LOGIN_REDIRECT_URL = "/room/lobby/"
