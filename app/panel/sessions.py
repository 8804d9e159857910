"""Who is looking: the cookie that a claimed link leaves in the browser, and the customer that it is limited to.

The key in the cookie is shown to Postgres too: what the panel reads, it reads as a role that sees one customer's rows.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Request, Response
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import Session

from app.panel.links import SESSION_TTL, open_session
from invoicing.customers import CustomerNotFound, CustomerView, get_customer

COOKIE = "billing_panel"
PATH = "/billing"
"""The cookie is the panel's own: the staff's session lives in another one and is never sent along by mistake."""

_SALT = "billing panel session"


@dataclass(frozen=True, slots=True)
class Visitor:
    """One customer's visitor. Everything a page reads is read by `customer.customer_id`, never by an id in the URL.

    `reader` is the session for it: it sees this customer's rows and no others, and writes nothing. Close it.
    """

    customer: CustomerView
    reader: Session
    return_url: str | None
    key: str
    until: datetime


def remember(response: Response, key: str, *, secret_key: str, is_secure: bool) -> None:
    """Leave the signed cookie of the session that has this key."""
    response.set_cookie(
        COOKIE,
        URLSafeSerializer(secret_key, salt=_SALT).dumps(key),
        max_age=SESSION_TTL,
        path=PATH,
        secure=is_secure,
        httponly=True,
        samesite="Lax",
    )


def forget(response: Response) -> None:
    """Remove the cookie."""
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="Lax")


def visitor_of(
    request: Request, session: Session, *, panel_engine: Engine, secret_key: str, now: datetime
) -> Visitor | None:
    """The visitor behind a request; None without a cookie of ours, or when the session is over."""
    key = session_key(request, secret_key=secret_key)
    if key is None:
        return None
    link = open_session(session, key=key, now=now)
    if link is None or link.used_at is None:
        return None
    reader = open_reader(panel_engine, key=key)
    try:
        customer = get_customer(reader, customer_id=link.customer_id)
    except CustomerNotFound:
        # By Postgres's own clock the session is over: the key shows nothing any more.
        reader.close()
        return None
    except BaseException:
        reader.close()
        raise
    return Visitor(
        customer=customer, reader=reader, return_url=link.return_url, key=key, until=link.used_at + SESSION_TTL
    )


def open_reader(panel_engine: Engine, *, key: str) -> Session:
    """A session that sees the rows of the customer whose session has this key, and nothing without it. Close it."""
    reader = Session(panel_engine, expire_on_commit=False)

    @event.listens_for(reader, "after_begin")
    def show_key(_session: Session, _transaction: Any, connection: Connection) -> None:
        # For this transaction only: a connection that goes back to the pool remembers nobody. As a parameter: the
        # server's list of running statements shows a $1 and not the key.
        connection.execute(text("SELECT set_config('billing.panel_session', :key, true)"), {"key": key})

    return reader


def session_key(request: Request, *, secret_key: str) -> str | None:
    """The key in the cookie, if we signed it."""
    try:
        signed = URLSafeSerializer(secret_key, salt=_SALT).loads(request.cookies.get(COOKIE, ""))
    except BadSignature:
        return None
    return signed if isinstance(signed, str) else None
