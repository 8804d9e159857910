"""Sending letters: each that is due, under a lease, tried again with back-off, parked where a person is needed.

A process that dies between sending a letter and noting it sends it again: at least once is what e-mail can promise.
Every copy carries the same message id, by which mail programs show it once.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from invoicing.manual.tables import Letter

_LOG = structlog.get_logger(__name__)

LEASE_S = 120  # longer than one letter takes with all its time-outs
FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Message:
    """One letter on its way: `message_id` is the same for every copy of it, without angle brackets."""

    message_id: str
    recipient: str
    subject: str
    body: str


class MailFailed(Exception):
    """The mail server did not take a letter. `is_final`: it never will, so a person must look."""

    def __init__(self, message: str, *, is_final: bool) -> None:
        self.is_final = is_final
        super().__init__(message)


class Mailer(Protocol):
    """Whoever carries letters away."""

    def send(self, message: Message) -> None:
        """Hand the letter over; it is on its way when this returns.

        Raises:
            MailFailed: it is not.
        """
        ...


@dataclass(slots=True)
class SendSummary:
    """What one run did, in letters."""

    sent: int = 0
    waiting: int = 0
    parked: int = 0
    problems: list[str] = field(default_factory=list)


_CLAIM = text("""
    WITH due AS MATERIALIZED (
        SELECT customer_id, invoice_id FROM manual_letters
         WHERE state IN ('due', 'waiting') AND next_attempt_at <= :now
           AND (lease_until IS NULL OR lease_until < clock_timestamp())
      ORDER BY next_attempt_at, customer_id, invoice_id
         LIMIT 1 FOR UPDATE SKIP LOCKED)
    UPDATE manual_letters l
       SET fence = l.fence + 1, attempts = l.attempts + 1,
           lease_until = clock_timestamp() + make_interval(secs => :lease_s)
      FROM due
     WHERE l.customer_id = due.customer_id AND l.invoice_id = due.invoice_id
 RETURNING l.*
""")


def send_due(
    engine: Engine, mailer: Mailer, *, now: datetime, progress: Callable[[SendSummary], None] | None = None
) -> SendSummary:
    """Send every letter that is due. Safe to run twice, at once, and to be killed. Commits each by itself."""
    summary = SendSummary()
    while True:
        letter = _claim(engine, now=now)
        if letter is None:
            return summary
        _send(engine, mailer, letter, now=now, summary=summary)
        if progress is not None:
            progress(summary)


def _claim(engine: Engine, *, now: datetime) -> Letter | None:
    with Session(engine, expire_on_commit=False) as session, session.begin():
        query = select(Letter).from_statement(_CLAIM.bindparams(now=now, lease_s=LEASE_S))
        return session.scalars(query).one_or_none()


def _send(engine: Engine, mailer: Mailer, letter: Letter, *, now: datetime, summary: SendSummary) -> None:
    values: dict[str, Any] = {"state": "done", "sent_at": now, "last_error": None}
    if letter.recipient is None:
        values = {
            "state": "parked",
            "last_error": "The customer has no e-mail address. Give it one, then try again.",
        }
    else:
        message_id = f"{letter.invoice_id}@billing.invalid"
        try:
            mailer.send(Message(message_id, letter.recipient, letter.subject, letter.body))
        except MailFailed as failure:
            dice = random.random()  # noqa: S311 - spreads retries, guards nothing
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(letter.attempts - 1, 20)) * (0.5 + dice / 2)
            values = {
                "state": "parked" if failure.is_final else "waiting",
                "next_attempt_at": now + timedelta(seconds=wait_s),
                "last_error": str(failure),
            }
    with Session(engine) as session, session.begin():
        written = session.execute(
            update(Letter)
            .where(
                Letter.customer_id == letter.customer_id,
                Letter.invoice_id == letter.invoice_id,
                Letter.fence == letter.fence,
            )
            .values(lease_until=None, **values)
            .returning(Letter.invoice_id)
        ).first()
    if written is None:
        return  # somebody else took it over while we were slow, and says what became of it
    if values["state"] == "done":
        summary.sent += 1
    elif values["state"] == "parked":
        summary.parked += 1
        summary.problems.append(f"invoice {letter.number}: {values['last_error']}")
        _LOG.error("letter parked", number=letter.number, reason=values["last_error"])
    else:
        summary.waiting += 1
