"""How often somebody may try to sign in."""

from flask import Response, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

TRIES = "10 per 5 minutes"
"""Failures per address and e-mail: enough for a forgotten password, too few to guess one."""

TRIES_PER_ADDRESS = "60 per 5 minutes"
"""Failures per address: one machine that tries a leaked password on everybody."""

limiter = Limiter(
    key_func=get_remote_address,
    strategy="moving-window",
    # Without Redis each process counts for itself: looser, but nobody is locked out and nobody tries without end.
    in_memory_fallback=[],
    in_memory_fallback_enabled=True,
    headers_enabled=True,
)
"""Initialised by the app with RATELIMIT_STORAGE_URI."""


def by_address_and_email() -> str:
    """Whom a try counts against."""
    return f"{get_remote_address()}\x1f{request.form.get('email', '').strip().lower()[:320]}"


def is_failure(response: Response) -> bool:
    """Only refused tries count: a team behind one address may sign in as often as it likes."""
    return response.status_code != 303
