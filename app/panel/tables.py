"""One-time links into a customer's billing panel."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class PanelLink(Base):
    """A link that opens the panel once, and the session that it opened. Of the link and of the session's key only the
    SHA-256 is kept. Claimed by an UPDATE that finds `used_at` null."""

    __tablename__ = "panel_links"
    token_hash: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID]
    return_url: Mapped[str | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    session_hash: Mapped[str | None] = mapped_column(unique=True)
    session_until: Mapped[datetime | None]
