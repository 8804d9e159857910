"""The gateway's tables, as mapped rows. The rules on them are in the migrations, in Postgres itself."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, SmallInteger, Text
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
    again), unknown (an answer was lost: Stripe is asked before anything is sent again), parked (needs a person), done,
    canceled (voided here before it stood at Stripe: nothing is ever sent again). A claim raises `fence` and sets
    `lease_until`; whoever writes later must still hold that fence. `unsure_at` is when something was last sent whose
    outcome nobody knows.
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


class StripeOperation(Base):
    """The outbox row of one write that is asked of Stripe about an invoice which stands there.

    `id` is what it is about: a movement, a refund or a credit note of ours. `kind`: void, uncollectible, pay_outside,
    refund, credit_note, balance, close_dispute. `step`: prepare (Stripe is read, the request frozen), send, done.
    `state` as a sync's, but it ends as done or as refused: Stripe's no is final, and the books know of it.
    `external_id` is what was made, or the object that changed. Leases, fences and `unsure_at` as a sync's.
    """

    __tablename__ = "stripe_operations"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    invoice_id: Mapped[UUID | None]
    movement_id: Mapped[UUID | None]
    currency: Mapped[str | None]
    amount_minor: Mapped[int | None] = mapped_column(BigInteger)
    intent: Mapped[str]
    step: Mapped[str] = mapped_column(server_default="prepare")
    state: Mapped[str] = mapped_column(server_default="due")
    generation: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    external_id: Mapped[str | None]
    external_status: Mapped[str | None]
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
    """What was sent, to the letter. `subject_id` is the invoice, the operation, or the customer (step `customer`)."""

    __tablename__ = "stripe_requests"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    subject_id: Mapped[UUID] = mapped_column(primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    idempotency_key: Mapped[str]
    body: Mapped[str]
    frozen_at: Mapped[datetime]


class StripeObject(Base):
    """Whose a Stripe object is. `part_of` is the invoice payment that it belongs to, where there is one."""

    __tablename__ = "stripe_objects"
    external_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    customer_id: Mapped[UUID]
    invoice_id: Mapped[UUID | None]
    part_of: Mapped[str | None]
    seen_at: Mapped[datetime]


class StripeEvent(Base):
    """An event as it came. `created_at` is Stripe's time, never used to put events in order.

    `source` is webhook or list; one that was only found in Stripe's list has no `deliveries`.
    """

    __tablename__ = "stripe_events"
    id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    object_id: Mapped[str | None]
    livemode: Mapped[bool]
    account: Mapped[str | None]
    api_version: Mapped[str | None]
    source: Mapped[str] = mapped_column(server_default="webhook")
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


class StripeCursor(Base):
    """How far Stripe's list of events was read, for one group of event types.

    Everything that Stripe had listed of `types` when it was read at `checked_at` is stored; `read_to` is the newest of
    it. A window under way goes from the newest event down to `window_from` (None: to the oldest that Stripe lists);
    what is newer than `page_after` in it is stored. `read_to`, `window_from` and `window_newest` are Stripe's times.
    """

    __tablename__ = "stripe_cursors"
    name: Mapped[str] = mapped_column(primary_key=True)
    types: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    read_to: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    window_types: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    window_from: Mapped[datetime | None]
    window_newest: Mapped[datetime | None]
    window_began_at: Mapped[datetime | None]
    page_after: Mapped[str | None]
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")


class StripeEffect(Base):
    """What an event did, under its business key. `cause` is the event's id, or what else found it out."""

    __tablename__ = "stripe_effects"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    cause: Mapped[str]
    at: Mapped[datetime]
