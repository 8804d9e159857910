"""Imported by the server that forks, before it does: what each process would otherwise do anew at its first step.

The SDK imports its resources, and the limiter its client, where they are used first; SQLAlchemy looks through all
mapped classes at the first query, and Babel reads a language at the first date.
"""

import importlib
import pkgutil

import stripe
import valkey.asyncio  # noqa: F401 - for its import
from babel import Locale
from sqlalchemy.orm import configure_mappers

import app.composition  # noqa: F401 - which knows every table
from app.panel.format import LOCALE

for found in pkgutil.iter_modules(stripe.__path__):
    importlib.import_module(f"stripe.{found.name}")
configure_mappers()
Locale.parse(LOCALE).months  # noqa: B018 - read now, and kept
