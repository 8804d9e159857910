"""Postgres, Redis and the Stripe sandbox without an installation: real servers on loopback, for any user."""

from app.embedded.errors import EmbeddedError
from app.embedded.launcher import ServiceStatus, ServiceUrls, down, ensure_up, erase, status

__all__ = ["EmbeddedError", "ServiceStatus", "ServiceUrls", "down", "ensure_up", "erase", "status"]
