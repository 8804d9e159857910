"""The gateway's tables, as mapped rows. The rules on them are in the migrations, in Postgres itself."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class StripeCustomer(Base):
    """A customer's one counterpart at Stripe. `intent` is the body it is made from, frozen.

    `default_payment_method` is what Stripe told us last; `facts_version` rises with each such fact.
    """

    __tablename__ = "stripe_customers"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="due")
    generation: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    intent: Mapped[str]
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime]
    unsure_at: Mapped[datetime | None]
    last_code: Mapped[str | None]
    last_error: Mapped[str | None]
    default_payment_method: Mapped[str | None]
    facts_version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]


class StripeSync(Base):
    """The outbox row of one invoice.

    `step` is what comes next: customer, create, lines, finalize, done. `state`: due, waiting (tried, will be tried
    again), unknown (an answer was lost: Stripe is asked before anything is sent again), parked (needs a person), done.
    A claim raises `fence` and sets `lease_until`; whoever writes later must still hold that fence. `unsure_at` is when
    something was last sent whose outcome nobody knows.
    """

    __tablename__ = "stripe_syncs"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[str]
    currency: Mapped[str]
    amount_due_minor: Mapped[int] = mapped_column(BigInteger)
    intent: Mapped[str]
    lines_sha: Mapped[str]
    step: Mapped[str] = mapped_column(server_default="customer")
    state: Mapped[str] = mapped_column(server_default="due")
    generation: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    external_id: Mapped[str | None]
    external_status: Mapped[str | None]
    hosted_url: Mapped[str | None]
    hosted_url_at: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime]
    unsure_at: Mapped[datetime | None]
    last_code: Mapped[str | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]


class StripeRequest(Base):
    """What was sent, to the letter. `subject_id` is the invoice, or the customer for the step `customer`."""

    __tablename__ = "stripe_requests"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    subject_id: Mapped[UUID] = mapped_column(primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    idempotency_key: Mapped[str]
    body: Mapped[str]
    frozen_at: Mapped[datetime]


class StripeObject(Base):
    """Whose a Stripe object is."""

    __tablename__ = "stripe_objects"
    external_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    customer_id: Mapped[UUID]
    invoice_id: Mapped[UUID | None]
    seen_at: Mapped[datetime]


class StripeEvent(Base):
    """A webhook event as it came. `created_at` is Stripe's time, never used to put events in order."""

    __tablename__ = "stripe_events"
    id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    object_id: Mapped[str | None]
    livemode: Mapped[bool]
    account: Mapped[str | None]
    payload: Mapped[str]
    created_at: Mapped[datetime]
    received_at: Mapped[datetime]
    deliveries: Mapped[int] = mapped_column(server_default="1")
    state: Mapped[str] = mapped_column(server_default="pending")
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime]
    handled_at: Mapped[datetime | None]
    code: Mapped[str | None]
    error: Mapped[str | None]
    customer_id: Mapped[UUID | None]


class StripeEffect(Base):
    """What an event did, under its business key. `cause` is the event's id, or what else found it out."""

    __tablename__ = "stripe_effects"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    cause: Mapped[str]
    at: Mapped[datetime]
