"""Seals and roots, as mapped rows. Postgres computes them itself, see migration 0005; nothing here is ever written
but the books, the last entry and the day."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class Seal(Base):
    """A range of one book's entries that was sealed, chained to the range before it."""

    __tablename__ = "ledger_seals"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    first_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    form: Mapped[int] = mapped_column(SmallInteger)
    previous_head: Mapped[bytes]
    head: Mapped[bytes]
    sealed_at: Mapped[datetime]
    entries: Mapped[bytes]


class RootHead(Base):
    """The head of one book that changed between two roots."""

    __tablename__ = "ledger_root_heads"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    head: Mapped[bytes]


class Root(Base):
    """All books' heads under one hash, chained to the root of the day before."""

    __tablename__ = "ledger_roots"
    day: Mapped[date] = mapped_column(primary_key=True)
    form: Mapped[int] = mapped_column(SmallInteger)
    previous_root: Mapped[bytes]
    root: Mapped[bytes]
    books: Mapped[int] = mapped_column(BigInteger)
    entries: Mapped[int] = mapped_column(BigInteger)
    made_at: Mapped[datetime]
