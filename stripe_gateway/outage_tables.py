"""The breaker's tables, as mapped rows. The rules on them are in migration 0009."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Identity
from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class Outage(Base):
    """When Stripe did not answer, by Postgres's clock. While `until` is None nothing is sent but probes.

    `pause_s`: seconds between the last probe and the next.
    """

    __tablename__ = "stripe_outages"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    last_code: Mapped[str]
    last_error: Mapped[str]
    failures: Mapped[int]
    probes: Mapped[int] = mapped_column(server_default="0")
    pause_s: Mapped[Decimal]
    next_probe_at: Mapped[datetime]


class Failure(Base):
    """What failed lately, over distinct subjects, and may be the beginning of an outage."""

    __tablename__ = "stripe_failures"
    subject: Mapped[str] = mapped_column(primary_key=True)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    code: Mapped[str]
    error: Mapped[str]
