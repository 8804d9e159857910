"""One-time links into the customer's panel, and the session that a claimed link opens."""

import hashlib
import secrets
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.panel.tables import PanelLink

LINK_TTL = timedelta(minutes=10)
SESSION_TTL = timedelta(minutes=60)
KEPT = timedelta(days=1)
"""How long a link's row is kept after it expired: long enough to tell a late visitor what happened."""

PRUNED_AT_ONCE = 100
MAX_URL_LENGTH = 2000  # characters


class LinkError(Exception):
    """This link does not open the billing panel."""

    code = "link_error"


class LinkUnknown(LinkError):
    """We do not know this link. Go back to the platform and open billing again."""

    code = "link_unknown"


class LinkUsed(LinkError):
    """This link was used already; each one opens billing once. Go back to the platform and open billing again."""

    code = "link_used"


class LinkExpired(LinkError):
    """This link has expired. Go back to the platform and open billing again."""

    code = "link_expired"


class BadReturnUrl(LinkError):
    """`return_url` must be an absolute http or https address of at most 2,000 characters, such as https://example.com/."""

    code = "bad_return_url"


def create_link(
    session: Session, *, customer_id: UUID, return_url: str | None, now: datetime, ttl: timedelta = LINK_TTL
) -> str:
    """The token of a new link, good once until `now + ttl` (exclusive); only its SHA-256 is kept. The caller commits.

    `return_url` is where the panel's "back" leads. Links that expired long ago are removed on the way.

    Raises:
        BadReturnUrl: it is no http or https address.
    """
    if return_url is not None:
        _check_return_url(return_url)
    _prune(session, before=now - KEPT)
    token = secrets.token_urlsafe(32)
    session.add(
        PanelLink(
            token_hash=hash_token(token),
            customer_id=customer_id,
            return_url=return_url,
            created_at=now,
            expires_at=now + ttl,
        )
    )
    session.flush()
    return token


def claim_link(session: Session, *, token: str, now: datetime) -> PanelLink:
    """Use the link up and return it. Of two claims at once exactly one succeeds. The caller commits.

    Raises:
        LinkUsed, LinkExpired, LinkUnknown: it opens nothing; nothing was written.
    """
    token_hash = hash_token(token)
    # One statement decides: a second claim waits for the first one's commit and then finds `used_at` set.
    claimed = session.scalar(
        update(PanelLink)
        .where(PanelLink.token_hash == token_hash, PanelLink.used_at.is_(None), PanelLink.expires_at > now)
        .values(used_at=now)
        .returning(PanelLink)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if claimed is not None:
        return claimed
    known = session.get(PanelLink, token_hash, populate_existing=True)
    if known is None:
        raise LinkUnknown(LinkUnknown.__doc__)
    if known.used_at is not None:
        raise LinkUsed(LinkUsed.__doc__)
    raise LinkExpired(LinkExpired.__doc__)


def begin_session(session: Session, link: PanelLink) -> str:
    """The key of the session that a just claimed link opens; only its SHA-256 is kept. The caller commits.

    It is not the link's token: that one travels in an address, and addresses end up in histories and logs. Postgres
    shows the panel's role this customer's rows for it, until SESSION_TTL has passed on its own clock.
    """
    key = secrets.token_urlsafe(32)
    session.execute(
        update(PanelLink)
        .where(PanelLink.token_hash == link.token_hash)
        .values(session_hash=hash_token(key), session_until=func.clock_timestamp() + SESSION_TTL)
        .execution_options(synchronize_session=False)
    )
    return key


def open_session(session: Session, *, key: str, now: datetime) -> PanelLink | None:
    """The claimed link behind a visitor's cookie while its session lasts: SESSION_TTL from the claim, then None.

    The row decides, not the cookie: removing it (`close_session`) ends the session wherever a copy of the cookie is.
    """
    return session.scalar(
        select(PanelLink).where(PanelLink.session_hash == hash_token(key), PanelLink.used_at > now - SESSION_TTL)
    )


def close_session(session: Session, *, key: str) -> None:
    """End the session of this key. The caller commits."""
    session.execute(delete(PanelLink).where(PanelLink.session_hash == hash_token(key)))


def hash_token(token: str) -> str:
    """What is kept of a token. It is long and random, so one round of SHA-256 cannot be guessed back."""
    return hashlib.sha256(token.encode()).hexdigest()


def _check_return_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        acceptable = parts.scheme in ("http", "https") and bool(parts.hostname) and len(url) <= MAX_URL_LENGTH
    except ValueError:
        acceptable = False
    if not acceptable or not url.isprintable():
        raise BadReturnUrl(BadReturnUrl.__doc__)


def _prune(session: Session, *, before: datetime) -> None:
    # Two callers at once skip each other's rows instead of waiting for them.
    old = (
        select(PanelLink.token_hash)
        .where(PanelLink.expires_at < before)
        .limit(PRUNED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    session.execute(delete(PanelLink).where(PanelLink.token_hash.in_(old)).execution_options(synchronize_session=False))
