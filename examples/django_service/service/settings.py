"""Settings: one database, which Django and rota share."""

from __future__ import annotations

import os
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

DATABASE_URL = os.environ.get(
    "DATABASE_URL", f"sqlite:///{Path(__file__).parents[1] / 'service.db'}"
)
if DATABASE_URL.startswith("postgresql:"):
    _parts = conninfo_to_dict(DATABASE_URL)
    _database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _parts.get("dbname"),
        "USER": _parts.get("user", ""),
        "PASSWORD": _parts.get("password", ""),
        "HOST": _parts.get("host", ""),
        "PORT": _parts.get("port", ""),
    }
else:
    _database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE_URL.removeprefix("sqlite:///"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
DATABASES = {"default": _database}

SECRET_KEY = os.environ.get("SECRET_KEY", "only for trying it out")
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["orders"]
ROOT_URLCONF = "service.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
