"""Who is looking: the cookie that a claimed link leaves in the browser, and the customer that it is limited to."""

from dataclasses import dataclass
from datetime import datetime

from flask import Request, Response
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy.orm import Session

from app.panel.links import SESSION_TTL, open_session
from app.panel.tables import PanelLink
from invoicing.customers import CustomerView, get_customer

COOKIE = "billing_panel"
PATH = "/billing"
"""The cookie is the panel's own: the staff's session lives in another one and is never sent along by mistake."""

_SALT = "billing panel session"


@dataclass(frozen=True, slots=True)
class Visitor:
    """One customer's visitor. Everything a page reads is read by `customer.customer_id`, never by an id in the URL."""

    customer: CustomerView
    return_url: str | None
    token_hash: str
    until: datetime


def remember(response: Response, link: PanelLink, *, secret_key: str, is_secure: bool) -> None:
    """Leave the signed cookie of the session that this link opened."""
    response.set_cookie(
        COOKIE,
        URLSafeSerializer(secret_key, salt=_SALT).dumps(link.token_hash),
        max_age=SESSION_TTL,
        path=PATH,
        secure=is_secure,
        httponly=True,
        samesite="Lax",
    )


def forget(response: Response) -> None:
    """Remove the cookie."""
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="Lax")


def visitor_of(request: Request, session: Session, *, secret_key: str, now: datetime) -> Visitor | None:
    """The visitor behind a request; None without a cookie of ours, or when the session is over."""
    token_hash = session_key(request, secret_key=secret_key)
    if token_hash is None:
        return None
    link = open_session(session, token_hash=token_hash, now=now)
    if link is None or link.used_at is None:
        return None
    return Visitor(
        customer=get_customer(session, customer_id=link.customer_id),
        return_url=link.return_url,
        token_hash=token_hash,
        until=link.used_at + SESSION_TTL,
    )


def session_key(request: Request, *, secret_key: str) -> str | None:
    """The hash in the cookie, if we signed it."""
    try:
        signed = URLSafeSerializer(secret_key, salt=_SALT).loads(request.cookies.get(COOKIE, ""))
    except BadSignature:
        return None
    return signed if isinstance(signed, str) else None
